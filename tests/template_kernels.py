"""Kernels from source text, compiled or as plain Python, for the tests of templates."""

from __future__ import annotations

import ctypes
import functools
import itertools

import numpy as np

from onnx_numba.compile.numba_internals import compile_each
from onnx_numba.compile.objects import Library
from onnx_numba.ir.plan import CTX_AROUND, CTX_SCRATCH, CTX_SCRATCH_BYTES, CTX_WORDS
from onnx_numba.native import twins
from onnx_numba.target import Target, host_target

PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
GUARD = 123.0
BEHIND = 1024
"""Words behind the scratch that have to stay as they are: what goes wrong there goes far, as rows of patches do."""


@functools.cache
def _machine_code(source: str, target: Target):
    objects = dict(compile_each(source, ["kernel"], {"kernel": "kernel_under_test"}, target))
    library = Library({"kernel_under_test": objects["kernel"]})
    return library, PROTOTYPE(library.address("kernel_under_test"))


def run(
    source: str, buffers, dims, ranges, scratch_bytes: int = 0, python: bool = False, target: Target | None = None, around: int = 0
) -> None:
    """Run the function ``kernel`` of a source over ranges of work units, each with fresh scratch full of NaN.

    Results go around the caches if ``around`` is 1.
    """
    for lo, hi in ranges:
        scratch = np.full(-(-scratch_bytes // 8) + BEHIND, np.nan)
        ctx = np.zeros(CTX_WORDS, np.int64)
        ctx[CTX_SCRATCH], ctx[CTX_SCRATCH_BYTES], ctx[CTX_AROUND] = scratch.ctypes.data, scratch_bytes, around
        if python:
            scope = twins()
            exec(source, scope)
            status = scope["kernel"](ctx, [b.reshape(-1) for b in buffers], [int(d) for d in dims], lo, hi)
        else:
            pointers = np.array([b.ctypes.data for b in buffers], np.int64)
            sizes = np.array([*dims, 0], np.int64)
            status = _machine_code(source, target or host_target())[1](ctx.ctypes.data, pointers.ctypes.data, sizes.ctypes.data, lo, hi)
        assert status == 0
        assert np.isnan(scratch[-(-scratch_bytes // 8) :]).all(), "wrote beyond its scratch"


def guarded(shape, dtype) -> tuple[np.ndarray, np.ndarray]:
    """A flat buffer with guards on both ends, and the array inside."""
    count = int(np.prod(shape))
    memory = np.full(count + 128, GUARD, dtype)
    return memory, memory[64 : 64 + count].reshape(shape)


def check_guards(memory: np.ndarray) -> None:
    """Nothing was written beyond the array."""
    assert (memory[:64] == GUARD).all() and (memory[-64:] == GUARD).all()


def splits(total: int, seed: int = 0) -> list[tuple[int, int]]:
    """An arbitrary partition of a range, in arbitrary order."""
    random = np.random.default_rng(seed)
    cuts = sorted({0, total, *random.integers(0, total + 1, 3).tolist()})
    parts = [*itertools.pairwise(cuts)]
    random.shuffle(parts)
    return [tuple(map(int, p)) for p in parts]
