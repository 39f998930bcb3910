"""Compiling kernels: the same bytes everywhere, clean symbols on every platform, vector code, results."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import json
import queue
import subprocess
import sys
import textwrap
from collections import deque
from typing import Any

import numpy as np
import pytest

from onnx_numba.compile import worker
from onnx_numba.compile.compiler import compile_module, symbol_of
from onnx_numba.compile.keys import base_entries, kernel_entries, model_entries, source_digest
from onnx_numba.compile.llvm import KERNEL_SIGNATURE, parse_signature
from onnx_numba.compile.objects import ALLOWED, Library, ObjectError, undefined_symbols
from onnx_numba.compile.store import Store, key
from onnx_numba.native.registry import Function
from onnx_numba.target import LEVELS, TARGETS, Target, host_target

KERNELS = """
LIMIT = 4096

def twice(v):
    return v + v

def tile(ctx, bufs, dims, lo, hi):
    x = f32_p(bufs, 0)
    out = f32_p(bufs, 1)
    n = dims[0]
    for t in range(lo, hi):
        for i in range(t * LIMIT, min(n, t * LIMIT + LIMIT)):
            out[i] = max_(twice(x[i]), f32(0.0))
    return 0

def flags(ctx, bufs, dims, lo, hi):
    x = f32_p(bufs, 0)
    out = bool_p(bufs, 1)
    half = f16_p(bufs, 2)
    for i in range(lo, hi):
        half[i] = to_f16(rint(x[i]) + floor(x[i]))
        out[i] = (x[i] > f32(1.0)) | out[i]
    return 0

def waves(ctx, bufs, dims, lo, hi):
    x = f32_p(bufs, 0)
    out = f32_p(bufs, 1)
    for t in range(lo, hi):
        for i in range(t * 1000, t * 1000 + 1000):
            out[i] = exp(x[i]) * f32(0.25)
            interleave(1000)
        out[t * 1000] = f32(3.0)
    return 0

def gates(ctx, bufs, dims, lo, hi):
    x = f32_p(bufs, 0)
    y = f32_p(bufs, 1)
    out = f32_p(bufs, 2)
    n = dims[0]
    for t in range(lo, hi):
        for i in range(n):
            apart()
            out[t * n + i] = act_tanh(x[i], f32(0.0), f32(0.0)) + x[n + i] * y[t * n + i]
    return 0

def walk(ctx, bufs, dims, lo, hi):
    steps = i32_p(bufs, 0)
    out = i32_p(bufs, 1)
    at = i32_local(64)
    for j in range(64):
        at[j] = out[j]
    moved = i32(1)
    while moved != 0:
        moved = i32(0)
        for j in range(64):
            step = steps[i64(at[j])]
            at[j] = iadd(at[j], step)
            moved = ior(moved, step)
            through_indices()
    for j in range(64):
        out[j] = at[j]
    return 0

def turns(ctx, bufs, dims, lo, hi):
    x = f32_p(bufs, 0)
    cos = f32_p(bufs, 1)
    sin = f32_p(bufs, 2)
    out = f32_p(bufs, 3)
    for t in range(lo, hi):
        for j in range(2):
            first = j == 0
            for i in range(16):
                in_vectors()
                other = x[t * 32 + 16 - j * 16 + i] * sin[t * 16 + i]
                out[t * 32 + j * 16 + i] = x[t * 32 + j * 16 + i] * cos[t * 16 + i] + select(first, -other, other)
    return 0

def found(ctx, bufs, dims, lo, hi):
    at = i32_p(bufs, 0)
    x = f32_p(bufs, 1)
    out = f32_p(bufs, 2)
    for i in range(lo, hi):
        apart()
        value = f32(0.0)
        if i32(0) <= at[i]:
            value = x[i64(at[i])]
        out[i] = value * f32(2.0)
    return 0

def status(ctx, bufs, dims, lo, hi):
    for i in range(lo, hi):
        if dims[i] < 0:
            return i
    return 0

def total(values, count):
    s = i64(0)
    for i in range(count):
        s = i64(s + values[i])
    return s
"""
SIGNATURES = {"total": "int64(int64*, int64)"}
NAMES = ("tile", "flags", "waves", "gates", "walk", "turns", "found", "status", "total")
DIGESTS = {name: hashlib.sha256((KERNELS + name).encode()).hexdigest() for name in NAMES}
KERNEL_TYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@pytest.mark.parametrize(
    ("lanes", "length", "vectors"),
    [(8, 0, 4), (8, 768, 4), (8, 31, 2), (8, 12, 1), (8, 5, 0), (16, 0, 4), (16, 31, 1), (16, 196, 2), (16, 4096, 8), (4, 9, 2), (4, 0, 2)],
)
def test_long_loops_take_as_many_vectors_as_they_have(lanes: int, length: int, vectors: int) -> None:
    from onnx_numba.compile.hints import side_by_side

    features = {4: "", 8: "+avx2,+fma", 16: "+avx512f,+avx512vl"}
    assert side_by_side(Target("x86_64-unknown-linux-gnu", "x86-64", features[lanes]), length) == vectors


@pytest.mark.parametrize(
    ("cpu", "features", "width"),
    [
        ("x86-64", "", None), ("x86-64-v3", "+avx2,+fma", 2), ("znver3", "+avx2,+fma", 2), ("haswell", "+avx2,+fma", 2),
        ("alderlake", "+avx2,+fma", None), ("x86-64-v4", "+avx512f,+avx512vl", None), ("znver4", "+avx512f,+avx512vl", 4),
    ],
)  # fmt: skip
def test_loops_through_indices_load_few_elements_where_nothing_gathers(cpu: str, features: str, width: int | None) -> None:
    from onnx_numba.compile.hints import gathered

    target = Target("x86_64-unknown-linux-gnu", cpu, features)
    assert dict(gathered(target)).get("vectorize.width") == width
    assert target.gathers == (target.lanes >= 8 and width is None)


def build(target: Target, store: Store | None = None, **more: object) -> dict[str, bytes]:
    return compile_module(KERNELS, DIGESTS, target, store, signatures=SIGNATURES, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def objects() -> dict[str, bytes]:
    return build(host_target())


@pytest.fixture(scope="module")
def library(objects: dict[str, bytes]) -> Library:
    return Library({symbol_of(digest): data for digest, data in objects.items()})


def call(address: int, arrays: list[np.ndarray], dims: list[int], lo: int, hi: int) -> int:
    table = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
    return KERNEL_TYPE(address)(None, table, (ctypes.c_int64 * len(dims))(*dims), lo, hi)


def run_python(code: str, *args: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_kernel_computes_and_stays_within_its_range(library):
    x = np.linspace(-1, 1, 10_000).astype("f4")
    out = np.full_like(x, 7)
    assert call(library.address(symbol_of(DIGESTS["tile"])), [x, out], [10_000], 1, 3) == 0
    assert (out[:4096] == 7).all()
    np.testing.assert_array_equal(out[4096:], np.maximum(2 * x, 0)[4096:])


def test_bool_buffers_hold_bytes(library):
    x = np.array([0.5, 1.5, 0.5, 2.5], "f4")
    out = np.array([True, False, False, True])
    half = np.zeros(4, "f2")
    assert call(library.address(symbol_of(DIGESTS["flags"])), [x, out, half], [], 0, 4) == 0
    assert out.tolist() == [True, True, False, True]
    np.testing.assert_array_equal(half, (np.rint(x) + np.floor(x)).astype("f2"))


def test_the_status_of_a_kernel_is_its_result(library):
    address = library.address(symbol_of(DIGESTS["status"]))
    assert call(address, [], [1, 2, -3], 0, 3) == 2
    assert call(address, [], [1, 2, -3], 0, 2) == 0


def test_functions_with_another_signature(library):
    total = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(library.address(symbol_of(DIGESTS["total"])))
    values = np.arange(100)
    assert total(values.ctypes.data, 100) == values.sum()


def test_the_host_needs_nothing_and_uses_its_vectors(objects):
    for data in objects.values():
        assert undefined_symbols(data) == set()
    if host_target().arch == "x86_64" and host_target().lanes > 4:
        register = b"zmm" if host_target().lanes == 16 else b"ymm"
        assert register in assembly("tile", host_target()).encode()


def unoptimised(name: str, target: Target) -> tuple[str, str]:
    from onnx_numba.compile.bridge import define
    from onnx_numba.compile.llvm import KERNEL_SIGNATURE
    from onnx_numba.compile.numba_internals import compile_ir

    module, inner = compile_ir(define(KERNELS)[name], KERNEL_SIGNATURE, target)
    return str(module), inner


def optimised(name: str, target: Target) -> Any:
    import llvmlite.binding as llvm

    from onnx_numba.compile.llvm import KERNEL_SIGNATURE, isolate, optimise, wrapper_text

    text, inner = unoptimised(name, target)
    module = llvm.parse_assembly(text + wrapper_text("k", inner, KERNEL_SIGNATURE))
    isolate(module, "k")
    optimise(module, target)
    return module


def assembly(name: str, target: Target) -> str:
    from onnx_numba.compile.llvm import target_machine

    return target_machine(target).emit_assembly(optimised(name, target))


def test_a_long_loop_takes_several_vectors_at_a_time(library):
    text, _ = unoptimised("waves", host_target())
    (back,) = [line for line in text.splitlines() if "!llvm.loop" in line]
    header = back.split("%")[1].split(",")[0].strip('"')
    assert f"{header}:" in text.split(back)[0]  # it is a jump back
    assert "llvm.loop.interleave.count" in text
    assert "!llvm.loop" not in unoptimised("tile", host_target())[0]
    x = np.linspace(-5, 5, 3000, dtype="f4")
    out = np.zeros_like(x)
    assert call(library.address(symbol_of(DIGESTS["waves"])), [x, out], [], 0, 3) == 0
    expected = np.exp(x.astype("f8")) / 4
    expected[::1000] = 3
    np.testing.assert_allclose(out, expected, 2e-7)


def test_a_loop_whose_arrays_lie_apart_does_not_compare_where_they_are(library, monkeypatch):
    from onnx_numba.compile import numba_internals

    assert "vector.memcheck" not in str(optimised("gates", host_target()))  # LLVM's block of comparisons
    with monkeypatch.context() as patch:
        patch.setattr(numba_internals._Lower, "_describe_loop", lambda self: None)
        assert "vector.memcheck" in str(optimised("gates", host_target()))
    x, y, out = (np.linspace(-3, 3, count, dtype="f4") for count in (180, 450, 450))
    assert call(library.address(symbol_of(DIGESTS["gates"])), [x, y, out], [90], 1, 4) == 0
    np.testing.assert_array_equal(out[[0, 89, 360, 449]], np.linspace(-3, 3, 450, dtype="f4")[[0, 89, 360, 449]])
    expected = np.tanh(x[:90].astype("f8")) + x[90:].astype("f8") * y.astype("f8").reshape(5, 90)
    np.testing.assert_allclose(out.reshape(5, 90)[1:4], expected[1:4], 1e-5, 1e-6)


def test_what_a_loop_reads_under_a_condition_lies_apart_too(library):
    made = str(optimised("found", Target(TARGETS["x86-64"].triple, "x86-64-v4", LEVELS["x86-64-v4"])))
    assert "masked.gather" in made and "vector.memcheck" not in made
    at, x, out = np.array([3, -1, 0] * 11, "i4"), np.linspace(-3, 3, 4, dtype="f4"), np.zeros(33, "f4")
    assert call(library.address(symbol_of(DIGESTS["found"])), [at, x, out], [], 1, 33) == 0
    np.testing.assert_array_equal(out, [0, *np.tile([6, 0, -6], 11)[1:]])


def test_a_loop_of_one_vector_is_not_written_out(library):
    assert "fmul <16 x float>" in str(optimised("turns", Target(TARGETS["x86-64"].triple, "x86-64-v4", LEVELS["x86-64-v4"])))
    x, cos, sin, out = (np.linspace(-3, 3, count, dtype="f4") for count in (96, 48, 48, 96))
    assert call(library.address(symbol_of(DIGESTS["turns"])), [x, cos, sin, out], [], 1, 3) == 0
    one, two = x.reshape(3, 2, 16).transpose(1, 0, 2)
    cos, sin = cos.reshape(3, 16), sin.reshape(3, 16)
    expected = np.stack([one * cos - two * sin, two * cos + one * sin], 1)
    np.testing.assert_allclose(out.reshape(3, 2, 16)[1:], expected[1:], 1e-6, 1e-6)


def test_gathers_are_loads_where_those_take_less_time():
    wide = LEVELS["x86-64-v4"]
    intel, amd = (assembly("walk", Target(TARGETS["x86-64"].triple, cpu, wide)) for cpu in ("sapphirerapids", "znver4"))
    assert "gather" in intel and "zmm" in intel
    assert "gather" not in amd and "xmm" in amd


def test_a_loop_that_reads_through_indices(library):
    steps = np.array([1] * 20 + [0] + [2] * 40 + [0, 0, 0], "i4")
    out = np.arange(64, dtype="i4")
    assert call(library.address(symbol_of(DIGESTS["walk"])), [steps, out], [], 0, 1) == 0
    assert out.tolist() == [20] * 21 + [61, 62] * 21 + [63]


def test_constants_lie_close_to_their_code_where_objects_load_as_one_block():
    near, far = (assembly("waves", TARGETS[name]) for name in ("x86-64", "x86_64-windows"))
    assert "(%rip)" in near and "movabs" not in near
    assert "movabs" in far


def test_functions_from_elsewhere_are_called():
    source = """
def mixed(ctx, bufs, dims, lo, hi):
    x = f64_p(bufs, 0)
    out = f64_p(bufs, 1)
    memcpy(out, x, 8 * dims[0])
    for i in range(lo, hi):
        out[i] = fmod_(x[i], f64(0.75))
    return 0
"""
    digest = hashlib.sha256(source.encode()).hexdigest()
    (data,) = compile_module(source, {"mixed": digest}, host_target()).values()
    assert undefined_symbols(data) == {"memcpy", "fmod"}
    x = np.linspace(-3, 3, 50)
    out = np.zeros_like(x)
    assert call(Library({symbol_of(digest): data}).address(symbol_of(digest)), [x, out], [50], 10, 40) == 0
    np.testing.assert_array_equal(out, np.concatenate([x[:10], np.fmod(x[10:40], 0.75), x[40:]]))


@pytest.mark.parametrize("target", [*TARGETS.values(), Target.generic()], ids=[*TARGETS, "generic"])
def test_every_platform_needs_only_what_is_allowed(target):
    for data in build(target).values():
        assert undefined_symbols(data) <= ALLOWED[target.system]


def test_generic_code_runs_here():
    library = Library({symbol_of(digest): data for digest, data in build(Target.generic()).items()})
    x = np.array([0.5, 1.5, -2.5, 2.5], "f4")
    out, half = np.zeros(4, bool), np.zeros(4, "f2")
    assert call(library.address(symbol_of(DIGESTS["flags"])), [x, out, half], [], 0, 4) == 0
    np.testing.assert_array_equal(half, (np.rint(x) + np.floor(x)).astype("f2"))


def test_objects_are_the_same_in_every_process_and_order(objects):
    code = """
        import json, sys
        sys.path.insert(0, sys.argv[1])
        import test_compile as t
        from onnx_numba.target import host_target
        first = t.compile_module(t.KERNELS, {n: t.DIGESTS[n] for n in reversed(t.NAMES)}, host_target(), signatures=t.SIGNATURES)
        again = t.build(host_target())
        print(json.dumps([{d: t.hashlib.sha256(o).hexdigest() for d, o in x.items()} for x in (first, again)]))
        """
    expected = {digest: hashlib.sha256(data).hexdigest() for digest, data in objects.items()}
    from pathlib import Path

    first, again = json.loads(run_python(code, str(Path(__file__).parent)))
    assert first == expected
    assert again == expected


def test_objects_name_nothing_of_this_process(objects):
    for data in objects.values():
        assert b"numba" not in data
        assert b"onnx" not in data
        assert b"/" not in data[data.find(b".symtab") - 200 :]


def helped(names: list[str]) -> tuple[dict[str, bytes], list[str], list[str]]:
    """What a helper alone makes of names: objects by digest, names that it has taken and lost, names that it has left."""
    symbols = {name: symbol_of(digest) for name, digest in DIGESTS.items()}
    signatures = {name: SIGNATURES.get(name, KERNEL_SIGNATURE) for name in NAMES}
    left, made = deque(names), queue.SimpleQueue()
    helper = worker._Helper(worker.Job(KERNELS, symbols, signatures, host_target()), left, made)
    try:
        helper._thread.join()  # until no names are left, or it has died
        lost = helper.lost()
    finally:
        helper.stop()
    return {DIGESTS[name]: data for name, data in worker._arrived(made)}, lost, list(left)


def test_helper_processes_make_the_same_objects(objects):
    assert helped(list(NAMES)) == (objects, [], [])


def test_much_work_is_shared(objects, monkeypatch):
    monkeypatch.setattr(worker, "WORTH", 1e-6)
    monkeypatch.setattr(worker, "_cores", lambda: 3)
    assert build(host_target()) == objects


def test_long_functions_come_first_and_few_lines_need_no_help(objects, monkeypatch):
    monkeypatch.setattr(worker, "_Helper", lambda *_: pytest.fail("a helper for a few lines"))
    symbols = {name: symbol_of(digest) for name, digest in DIGESTS.items()}
    job = worker.Job(KERNELS, symbols, {name: SIGNATURES.get(name, KERNEL_SIGNATURE) for name in NAMES}, host_target())
    order = [name for name, _ in worker.run(job)]
    lengths = [KERNELS.split(f"def {name}(")[1].split("\ndef ")[0].count("\n") for name in order]
    assert lengths == sorted(lengths, reverse=True)


def test_a_dying_helper_costs_time_only(objects, monkeypatch):
    made, lost, left = helped(["tile", "nothing of the source", "flags"])
    assert (made, lost, left) == ({DIGESTS["tile"]: objects[DIGESTS["tile"]]}, ["nothing of the source"], ["flags"])
    monkeypatch.setattr(worker, "WORTH", 1e-6)
    monkeypatch.setattr(worker, "_cores", lambda: 2)
    monkeypatch.setattr(worker, "_encode_job", lambda job: b"not a job")
    assert helped(list(NAMES)) == ({}, [], list(NAMES))
    assert build(host_target()) == objects


def test_what_the_store_has_is_not_compiled(objects, tmp_path):
    store = Store(tmp_path)
    seen = []
    assert build(host_target(), store, progress=lambda done, of: seen.append((done, of))) == objects
    assert seen == [(done, len(NAMES)) for done in range(1, len(NAMES) + 1)]
    seen.clear()
    assert build(host_target(), store, progress=lambda done, of: seen.append((done, of))) == objects
    assert seen == []


def test_a_warm_process_runs_without_numba(objects, tmp_path):
    build(host_target(), Store(tmp_path))
    code = """
        import sys
        sys.modules["numba"] = sys.modules["onnx"] = None
        sys.path.insert(0, sys.argv[1])
        import test_compile as t, numpy as np
        from onnx_numba.target import host_target
        objects = t.build(host_target(), t.Store(sys.argv[2]))
        library = t.Library({t.symbol_of(d): o for d, o in objects.items()})
        x = np.ones(10, "f4"); out = np.zeros(10, "f4")
        assert t.call(library.address(t.symbol_of(t.DIGESTS["tile"])), [x, out], [10], 0, 1) == 0
        print(out.sum())
        """
    from pathlib import Path

    assert run_python(code, str(Path(__file__).parent), str(tmp_path)) == "20.0\n"


def test_a_damaged_object_is_compiled_again(objects, tmp_path):
    store = Store(tmp_path)
    build(host_target(), store)
    for file in tmp_path.rglob("object"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="made anew"):
        assert build(host_target(), store) == objects
    assert build(host_target(), Store(tmp_path)) == objects


def test_an_object_of_something_else_is_compiled_again(objects, tmp_path):
    store = Store(tmp_path)
    entries = kernel_entries(host_target(), DIGESTS["tile"], "int32(int64*, void**, int64*, int64, int64)")
    store.put("kernel", key(entries), {"object": objects[DIGESTS["flags"]]})
    assert build(host_target(), store) == objects


def test_equal_digests_are_compiled_once():
    source = KERNELS + "\ndef copy(ctx, bufs, dims, lo, hi):\n    return missing\n"
    made = compile_module(source, {"status": DIGESTS["status"], "copy": DIGESTS["status"]}, host_target())
    assert list(made) == [DIGESTS["status"]]


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("body", ["return 0", "return f32_p(lo)"], ids=["compiles", "fails"])
def test_the_garbage_collector_is_left_as_it_was(enabled, body):
    source = f"def f(ctx, bufs, dims, lo, hi):\n    {body}\n"
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with contextlib.suppress(Exception):
            compile_module(source, {"f": "2" * 64}, host_target())
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()


def test_an_error_names_the_function():
    source = "def broken(ctx, bufs, dims, lo, hi):\n    return f32_p(lo)\n"
    with pytest.raises(Exception, match="does not take") as caught:
        compile_module(source, {"broken": "0" * 64}, host_target())
    assert "while compiling broken" in "".join(caught.value.__notes__)


def test_a_source_that_imports_the_twins_is_compiled_with_the_emitters():
    source = "from onnx_numba.native import twins\nglobals().update(twins())\n" + KERNELS
    made = compile_module(source, {"tile": DIGESTS["tile"]}, host_target())
    assert made[DIGESTS["tile"]] == build(host_target())[DIGESTS["tile"]]


def test_other_names_can_be_given():
    from onnx_numba.compile.bridge import jit_namespace

    def third(x):  # type: ignore[no-untyped-def]
        return x // 3

    source = "def f(values, n):\n    values[0] = third(n)\n    return 0\n"
    namespace = {**jit_namespace(), "third": Function("third", third)}
    made = compile_module(source, {"f": "1" * 64}, host_target(), signatures={"f": "int32(int64*, int64)"}, namespace=namespace)
    library = Library({symbol_of("1" * 64): made["1" * 64]})
    out = np.zeros(1, "i8")
    ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)(library.address(symbol_of("1" * 64)))(out.ctypes.data, 10)
    assert out[0] == 3


def test_numba_functions_of_the_user_can_be_called():
    import numba
    from numba.core.registry import cpu_target

    @numba.njit
    def square(x):  # type: ignore[no-untyped-def]
        return x * x

    before = len(cpu_target.typing_context._functions)
    source = "def f(values, n):\n    values[0] = square(n)\n    return 0\n"
    made = compile_module(
        source, {"f": "2" * 64}, host_target(), signatures={"f": "int32(int64*, int64)"}, namespace={"square": square}
    )
    assert undefined_symbols(made["2" * 64]) == set()
    assert not square.signatures  # numba itself was not asked
    assert len(cpu_target.typing_context._functions) == before


def test_code_that_calls_into_python_is_refused():
    source = "def f(values, n):\n    print(n)\n    return 0\n"
    with pytest.raises(Exception, match=r"print|PyObject|Py"):
        compile_module(source, {"f": "3" * 64}, host_target(), signatures={"f": "int32(int64*, int64)"})


@pytest.mark.parametrize("text", ["int64", "int64[]", ""])
def test_bad_signatures(text):
    with pytest.raises(ValueError, match="not a signature"):
        parse_signature(text)


def test_key_entries_follow_the_target():
    one, other = (kernel_entries(t, "d", "s") for t in (host_target(), Target.generic()))
    assert key(one) != key(other)
    assert {name for name in one if one[name] != other[name]} <= {"cpu", "features"}
    assert set(base_entries(host_target())) < set(model_entries(host_target(), "m", "o"))
    assert len(source_digest()) == 64


def test_keys_import_neither_numba_nor_onnx():
    code = """
        import sys
        from onnx_numba.compile import compiler, keys, store, objects
        from onnx_numba.target import Target
        keys.model_entries(Target.generic(), "m", "o")
        print(sorted({"numba", "onnx", "llvmlite"} & set(sys.modules)))
        """
    assert run_python(code) == "[]\n"


def test_objects_for_another_machine_are_refused_by_their_kind():
    data = build(TARGETS["arm64-macos" if host_target().system != "macos" else "aarch64-linux"])[DIGESTS["status"]]
    with pytest.raises(ObjectError, match="is for"):
        Library({symbol_of(DIGESTS["status"]): data})


PYTHON_FEATURES = {
    "int(math.exp(2.0))": 7,
    "int(np.exp(2.0) + np.float32(1.5))": 8,
    "int(float(n) / 3.0)": 2,
    "n // 3 + n % 3": 3,
    "abs(-n)": 7,
    "max(n, 3) + min(n, 3)": 10,
    "1 if n > 3 and not n == 7 else 2": 2,
    "TABLE[1]": 2,
    "plus(n)": 10,
    "plus(n, 4)": 11,
    "plus(k=5, n=n)": 12,
    "i64(n > 3)": 1,
    "~n ^ 5 | 1 << 3": -3,
}


@pytest.mark.parametrize(("expression", "expected"), PYTHON_FEATURES.items())
def test_python_in_kernels_and_users_functions(expression, expected):
    import math

    from onnx_numba.compile.bridge import jit_namespace

    source = f"TABLE = (1, 2, 3)\ndef plus(n, k=3):\n    return n + k\ndef f(v, n):\n    v[0] = {expression}\n    return 0\n"
    digest = hashlib.sha256(source.encode()).hexdigest()
    namespace = {**jit_namespace(), "math": math, "np": np}
    made = compile_module(source, {"f": digest}, host_target(), signatures={"f": "int32(int64*, int64)"}, namespace=namespace)
    assert undefined_symbols(made[digest]) == set()
    out = np.zeros(1, "i8")
    library = Library({symbol_of(digest): made[digest]})
    ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)(library.address(symbol_of(digest)))(out.ctypes.data, 7)
    assert out[0] == expected
