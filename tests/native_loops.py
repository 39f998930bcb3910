"""Array loops over names of `onnx_numba.native`, run compiled and as plain Python."""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnx_numba.compile.compiler import compile_module, symbol_of
from onnx_numba.compile.objects import Library
from onnx_numba.ir.plan import CTX_WORDS
from onnx_numba.native import twins
from onnx_numba.native.memory import ELEMENTS
from onnx_numba.target import Target, host_target

_KERNEL = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)

NUMPY = {name: kind for name, kind in ELEMENTS.items() if name[0] != "c"}


@dataclass(frozen=True)
class Loop:
    """``body`` for every i: statements over buffers ``a``, ``b``, ``c``, ``out`` … of the given storage types, and over n."""

    body: str
    buffers: tuple[tuple[str, str], ...]

    def source(self, name: str) -> str:
        lines = [f"def loop_{name}(ctx, bufs, dims, lo, hi):", "    n = dims[0]"]
        lines += [f"    {buffer} = {kind}_p(bufs, {k})" for k, (buffer, kind) in enumerate(self.buffers)]
        lines += ["    for i in range(lo, hi):", *(f"        {line}" for line in self.body.splitlines()), "    return 0", ""]
        return "\n".join(lines)


def loop(body: str, **buffers: str) -> Loop:
    """A loop whose buffers are given as name=type, in order."""
    return Loop(body, tuple(buffers.items()))


def compile_loops(loops: Mapping[str, Loop], target: Target) -> dict[str, bytes]:
    """The object of each loop."""
    source = "\n".join(loop.source(name) for name, loop in loops.items())
    digests = {name: _digest(name, loop) for name, loop in loops.items()}
    objects = compile_module(source, {f"loop_{name}": digest for name, digest in digests.items()}, target)
    return {name: objects[digest] for name, digest in digests.items()}


def _digest(name: str, loop: Loop) -> str:
    return hashlib.sha256(loop.source(name).encode()).hexdigest()


class Loops:
    """Loops compiled for this machine, all at once."""

    def __init__(self, loops: Mapping[str, Loop], target: Target | None = None) -> None:
        self.loops = loops
        self._target = target or host_target()

    @functools.cached_property
    def _library(self) -> Library:
        objects = compile_loops(self.loops, self._target)
        return Library({symbol_of(_digest(name, self.loops[name])): data for name, data in objects.items()})

    def run(self, name: str, arrays: list[np.ndarray], count: int | None = None) -> np.ndarray:
        """Run the compiled loop over the buffers, in place; the context."""
        count = arrays[0].size if count is None else count
        context, dims = np.zeros(CTX_WORDS, np.int64), np.array([count], np.int64)
        table = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        kernel = _KERNEL(self._library.address(symbol_of(_digest(name, self.loops[name]))))
        assert kernel(context.ctypes.data, table, dims.ctypes.data, 0, count) == 0
        return context

    def run_python(self, name: str, arrays: list[np.ndarray], count: int | None = None) -> np.ndarray:
        """Run it as plain Python over the twins."""
        count = arrays[0].size if count is None else count
        context = np.zeros(CTX_WORDS, np.int64)
        scope = dict(twins())
        exec(self.loops[name].source(name), scope)
        with np.errstate(all="ignore"):
            assert scope[f"loop_{name}"](context, arrays, [count], 0, count) == 0
        return context

    def check(self, name: str, *inputs: np.ndarray) -> list[np.ndarray]:
        """Run both ways over the inputs and fresh outputs, and compare every buffer bit for bit; the outputs."""
        fresh = [np.zeros(inputs[0].size, NUMPY[kind]) for _, kind in self.loops[name].buffers[len(inputs) :]]
        compiled = [a.copy() for a in (*inputs, *fresh)]
        python = [a.copy() for a in (*inputs, *fresh)]
        np.testing.assert_array_equal(self.run(name, compiled), self.run_python(name, python))
        for (buffer, _), left, right in zip(self.loops[name].buffers, compiled, python, strict=True):
            different = np.flatnonzero(~same_bits(left, right))
            shown = [(*(a[i] for a in inputs), left[i], right[i]) for i in different[:5]]
            assert not different.size, f"{name}: {buffer} differs at (inputs, compiled, Python) {shown}"
        return compiled[len(inputs) :]


def same_bits(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where two arrays are equal bit for bit, all NaN being one."""
    width = f"u{left.dtype.itemsize}"
    same = left.view(width) == right.view(width)
    return same | (np.isnan(left) & np.isnan(right)) if left.dtype.kind == "f" else same


def samples(kind: str, count: int = 300, seed: int = 0) -> np.ndarray:
    """Special and random values of a type."""
    scalar, rng = NUMPY[kind], np.random.default_rng(seed)
    if kind == "bool":
        return rng.integers(0, 2, count).astype(bool)
    if kind[0] in "iu":
        limits = np.iinfo(scalar)
        special = np.array([limits.min, limits.min + 1, limits.max, limits.max - 1, 0, 1, 2, 3, 7, 8], scalar)
        small = rng.integers(max(limits.min, -20), 20, count // 2).astype(scalar)
        return np.concatenate([special, small, rng.integers(limits.min, limits.max, count // 2, scalar, endpoint=True)])
    limits = np.finfo(scalar)
    special = [0, 1, 0.5, 1.5, 2.5, 3, np.inf, limits.max, limits.tiny, limits.smallest_subnormal, 2.0**31, 2.0**32, 2.0**63,
               2.0**64, 127, 128, 255.5, 256, 32767.5, 65504, 65520, 65535.5, 2147483520,
               3e38, 1e-5, 6e-8, 5.96e-8, 3e-8]  # fmt: skip
    scaled = rng.standard_normal(count) * np.exp(rng.uniform(-30, 30, count))
    with np.errstate(all="ignore"):
        return np.concatenate([special, np.negative(special), [np.nan], scaled]).astype(scalar)


def pairs(values: np.ndarray, most: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of the special values at the front, and random ones."""
    rng = np.random.default_rng(seed)
    left, right = (a.ravel() for a in np.meshgrid(values[:40], values[:40]))
    more = rng.choice(values, (2, max(0, most - left.size)))
    return np.concatenate([left, more[0]]), np.concatenate([right, more[1]])
