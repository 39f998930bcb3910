"""Pointers, stack and scratch, atomics, copies, and errors."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from native_loops import NUMPY, Loops, loop, samples

from onnx_numba.compile.compiler import compile_module, symbol_of
from onnx_numba.compile.objects import Library
from onnx_numba.ir.plan import CTX_INDEX, CTX_SCRATCH, CTX_SCRATCH_BYTES, CTX_STATUS, CTX_WORDS, INDEX_RANGE
from onnx_numba.ir.types import DTYPES
from onnx_numba.native import twins
from onnx_numba.target import host_target

LOOPS = Loops(
    {
        **{f"at_{t}": loop(f"x[i] = {t}_at(a, i)[0]", a=t, x=t) for t in NUMPY},
        **{f"local_{t}": loop(f"p = {t}_local(4)\np[i % 4] = a[i]\nx[i] = p[i % 4]", a=t, x=t) for t in NUMPY},
        "reinterpret": loop("x[i] = u8_at(a, i)[0]", a="f32", x="u8"),
        "copies": loop("memcpy(i32_at(x, i), i32_at(a, i), 4)\nmemset(u8_at(y, i), 300, 1)", a="i32", x="i32", y="u8"),
        "atomics": loop(
            "x[i] = atomic_add(total, 0, a[i])\nok[i] = cas(flags, i, 0, 5)\nagain[i] = cas(flags, i, 0, 6)\n"
            "atomic_store(y, i, atomic_load(flags, i) + 1)\npause()",
            a="i64", x="i64", total="i64", ok="bool", flags="i64", again="bool", y="i64",
        ),
        "errors": loop("x[i] = check_index(ctx, a[i], 5, i, 7)", a="i64", x="i64"),
    }
)  # fmt: skip

SCRATCH = """
def scratch(ctx, bufs, dims, lo, hi):
    numbers = i64_scratch(ctx, 0)
    more = f32_scratch(ctx, 64)
    for i in range(lo, hi):
        numbers[i] = i * 2
        more[i] = f32(i)
    return 0

def caller(ctx, bufs, dims, lo, hi):
    return call_kernel(dims[0], ctx, bufs, dims, lo, hi) + 3
"""


@pytest.mark.parametrize("kind", NUMPY)
def test_offsets_and_stack_arrays(kind):
    x = samples(DTYPES[kind].stored)
    for name in ("at", "local"):
        (out,) = LOOPS.check(f"{name}_{kind}", x)
        np.testing.assert_array_equal(out, x)


def test_pointers_of_another_type_see_the_bytes():
    x = samples("f32")
    (out,) = LOOPS.check("reinterpret", x)
    np.testing.assert_array_equal(out, x.view(np.uint8)[: x.size])


def test_copies():
    x = samples("i32")
    out, bytes_ = LOOPS.check("copies", x)
    np.testing.assert_array_equal(out, x)
    assert (bytes_ == 300 % 256).all()


def test_atomics():
    x = np.arange(100)
    before, total, first, flags, second, after = LOOPS.check("atomics", x)
    np.testing.assert_array_equal(before, np.cumsum(x) - x)
    assert total[0] == x.sum()
    assert first.all()
    assert not second.any()
    assert (flags == 5).all()
    assert (after == 6).all()


def test_the_first_index_out_of_range_is_reported():
    x = np.array([0, 4, -1, -5, 5, -6, 100])
    context = LOOPS.run("errors", [x, np.zeros_like(x)])
    assert (context[CTX_STATUS], context[CTX_INDEX]) == (7, 4)
    (out,) = LOOPS.check("errors", x)
    assert out.tolist() == [0, 4, 4, 0, 0, 0, 0]


def test_the_smallest_failing_index_stays():
    fail, context = twins()["fail"], np.zeros(CTX_WORDS, np.int64)
    for index in (9, 3, 5):
        fail(context, index, INDEX_RANGE)
    assert context[CTX_INDEX] == 3


def _scratch_context() -> tuple[np.ndarray, np.ndarray]:
    memory, context = np.zeros(256, np.uint8), np.zeros(CTX_WORDS, np.int64)
    context[CTX_SCRATCH], context[CTX_SCRATCH_BYTES] = memory.ctypes.data, memory.size
    return memory, context


def test_scratch_and_calls_through_addresses():
    digests = {"scratch": "5c" * 32, "caller": "ca" * 32}
    objects = compile_module(SCRATCH, digests, host_target())
    library = Library({symbol_of(digest): data for digest, data in objects.items()})
    memory, context = _scratch_context()
    dims = np.array([library.address(symbol_of(digests["scratch"]))], np.int64)
    kernel = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)
    caller = kernel(library.address(symbol_of(digests["caller"])))
    assert caller(context.ctypes.data, None, dims.ctypes.data, 0, 8) == 3
    python_memory, context = _scratch_context()
    scope = dict(twins())
    exec(SCRATCH, scope)
    assert scope["caller"](context, [], [scope["scratch"]], 0, 8) == 3
    np.testing.assert_array_equal(memory, python_memory)
    np.testing.assert_array_equal(memory[:64].view(np.int64), np.arange(8) * 2)
    np.testing.assert_array_equal(memory[64:96].view(np.float32), np.arange(8))
