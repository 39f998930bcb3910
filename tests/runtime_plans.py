"""Hand-written plans and kernels for the tests of the runtime."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import numpy as np
import pytest

from onnx_numba.ir.plan import BAD_VALUE, CTX_AROUND, INDEX_RANGE, SHAPE_MISMATCH, HostStep, Kernel, Plan, Port, Reason
from onnx_numba.ir.types import DTYPES, TensorType
from onnx_numba.native.memory import RECORDS, check_index, fail
from onnx_numba.options import Options
from onnx_numba.runtime.session import Session

_NAMES = {record.name: record for record in RECORDS}
f32_p, i64_p, u8_p, i64_scratch = (_NAMES[name] for name in ("f32_p", "i64_p", "u8_p", "i64_scratch"))
TILE = 64


def double(ctx, bufs, dims, lo, hi):
    x = f32_p(bufs, 0)
    out = f32_p(bufs, 1)
    n = dims[0]
    for t in range(lo, hi):
        for i in range(t * 64, min(n, t * 64 + 64)):
            out[i] = x[i] + x[i]
    return 0


def increment(ctx, bufs, dims, lo, hi):
    x = f32_p(bufs, 0)
    out = f32_p(bufs, 1)
    n = dims[0]
    for t in range(lo, hi):
        for i in range(t * 64, min(n, t * 64 + 64)):
            out[i] = x[i] + x[0] * 0 + 1
    return 0


def refuse_negative(ctx, bufs, dims, lo, hi):
    x = f32_p(bufs, 0)
    n = dims[0]
    for t in range(lo, hi):
        for i in range(t * 64, min(n, t * 64 + 64)):
            if x[i] < 0:
                fail(ctx, i, 5)
    return 0


def take(ctx, bufs, dims, lo, hi):
    x = f32_p(bufs, 0)
    index = i64_p(bufs, 1)
    out = f32_p(bufs, 2)
    for i in range(lo, hi):
        out[i] = x[check_index(ctx, index[i], dims[0], i, 1)]
    return 0


def count_positive(ctx, bufs, dims, lo, hi):
    x = f32_p(bufs, 0)
    count = i64_p(bufs, 1)
    total = 0
    for i in range(dims[0]):
        if x[i] > 0:
            total += 1
    count[0] = total
    return 0


def keep_positive(ctx, bufs, dims, lo, hi):
    x = f32_p(bufs, 0)
    out = f32_p(bufs, 1)
    at = 0
    for i in range(dims[0]):
        if x[i] > 0:
            out[at] = x[i]
            at += 1
    return 0


def reverse_by_scratch(ctx, bufs, dims, lo, hi):
    x = i64_p(bufs, 0)
    out = i64_p(bufs, 1)
    room = i64_scratch(ctx, 0)
    n = dims[0]
    for i in range(n):
        room[i] = x[i]
    for i in range(n):
        out[i] = room[n - 1 - i]
    return 0


def told_to_go_around(ctx, bufs, dims, lo, hi):
    out = i64_p(bufs, 0)
    for i in range(lo, hi):
        out[i] = ctx[6]
    return 0


KERNELS = (double, increment, refuse_negative, take, count_positive, keep_positive, reverse_by_scratch, told_to_go_around)
assert (INDEX_RANGE, BAD_VALUE, CTX_AROUND) == (1, 5, 6)  # written out in the kernels


class Builder:
    """Collects the tables of a plan."""

    def __init__(self) -> None:
        self.slots: dict[int, int] = {}
        self.slot_count = 0
        self.types: list[str] = []
        self.kernels: list[Kernel] = []
        self.hosts: list[HostStep] = []
        self.steps: list[str] = []
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.constants: dict[int, int] = {}
        self.object_count = 0
        self.reasons: list[Reason] = []
        self.code: list[tuple[Any, ...]] = []

    def slot(self, value: int | None = None) -> int:
        if value is not None:
            self.slots[self.slot_count] = value
        self.slot_count += 1
        return self.slot_count - 1

    def buffer(self, kind: str = "f32") -> int:
        self.types.append(kind)
        return len(self.types) - 1

    def port(self, name: str, kind: str = "f32", rank: int = 1, **more: Any) -> Port:
        dims = more.pop("dims", None) or tuple(self.slot() for _ in range(rank))
        buffer = more.pop("buffer", None)
        buffer = self.buffer(kind) if buffer is None else buffer
        return Port(name, TensorType(DTYPES[kind], (1,) * rank), buffer, dims, **more)

    def input(self, name: str, kind: str = "f32", rank: int = 1, **more: Any) -> Port:
        self.inputs.append(self.port(name, kind, rank, **more))
        return self.inputs[-1]

    def output(self, name: str, kind: str = "f32", rank: int = 1, **more: Any) -> Port:
        self.outputs.append(self.port(name, kind, rank, **more))
        return self.outputs[-1]

    def emit(self, *instruction: Any) -> None:
        self.code.append(instruction)

    def check(self, a: int, b: int, code: int = SHAPE_MISMATCH, step: str = "") -> None:
        self.reasons.append(Reason(step, "{a} is not {b}"))
        self.emit("check", a, b, code, len(self.reasons) - 1)

    def op(self, name: str, *operands: int) -> int:
        dst = self.slot()
        self.emit(name, dst, *operands)
        return dst

    def call(
        self, function: Any, total: int, buffers: tuple[int, ...], dims: tuple[int, ...], grain: int = 4, step: str = "", written: int = 0
    ) -> None:
        kernel = Kernel(function.__name__, function.__name__)
        if kernel not in self.kernels:
            self.kernels.append(kernel)
        self.steps.append(step or f"{function.__name__} node")
        self.emit("call", self.kernels.index(kernel), len(self.steps) - 1, total, self.slot(grain), self.slot(written), buffers, dims)

    def tiles(self, n: int) -> int:
        return self.op("div", self.op("add", n, self.slot(TILE - 1)), self.slot(TILE))

    def host(self, function: str, inputs: tuple[Port | None, ...], outputs: tuple[Port, ...], **params: Any) -> None:
        self.steps.append(f"{function} node")
        self.hosts.append(HostStep(function, len(self.steps) - 1, inputs, outputs, params))
        self.emit("host", len(self.hosts) - 1)

    def plan(self) -> Plan:
        return Plan(
            inputs=tuple(self.inputs), outputs=tuple(self.outputs), slots=self.slot_count, slot_values=dict(self.slots),
            buffers=len(self.types), buffer_types=dict(enumerate(self.types)), constants=self.constants,
            objects=self.object_count, object_constants={}, kernels=tuple(self.kernels), hosts=tuple(self.hosts),
            steps=tuple(self.steps), code=(*self.code, ("end",)), reasons=tuple(self.reasons),
        )  # fmt: skip


def chain(length: int = 1, grain: int = 4, declared: tuple[int | str | None, ...] | None = None) -> Plan:
    """y = 2 x + (length - 1), over a temporary that is allocated for every step but the last."""
    b = Builder()
    x = b.input("x", declared=declared)
    n = x.dims[0]
    tiles, size = b.tiles(n), b.op("mul", n, b.slot(4))
    source, function = x.buffer, double
    for _ in range(length - 1):
        target = b.buffer()
        b.emit("alloc", target, size)
        b.call(function, tiles, (source, target), (n,), grain)
        source, function = target, increment
    y = b.output("y", dims=(n,))
    b.emit("out", 0)
    b.call(function, tiles, (source, y.buffer), (n,), grain)
    return b.plan()


def positives() -> Plan:
    """The positive elements of x: an output whose extent depends on data."""
    b = Builder()
    x = b.input("x")
    n, one, eight = x.dims[0], b.slot(1), b.slot(8)
    count = b.buffer("i64")
    b.emit("alloc", count, eight)
    b.call(count_positive, one, (x.buffer, count), (n,), 1)
    found = b.slot()
    b.emit("load", found, count, b.slot(0), "i64")
    y = b.output("y", dims=(found,))
    b.emit("out", 0)
    b.call(keep_positive, one, (x.buffer, y.buffer), (n,), 1)
    return b.plan()


def values(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def compile_kernels() -> tuple[dict[str, int], Any]:
    """Addresses of the test kernels, and the library that keeps them loaded."""
    from onnx_numba.compile.compiler import compile_module, symbol_of
    from onnx_numba.compile.objects import Library
    from onnx_numba.target import Target

    source = "\n\n".join(inspect.getsource(kernel) for kernel in KERNELS)
    digests = {k.__name__: hashlib.sha256(inspect.getsource(k).encode()).hexdigest() for k in KERNELS}
    objects = compile_module(source, digests, Target.named("host"))
    library = Library({symbol_of(digest): data for digest, data in objects.items()})
    return {name: library.address(symbol_of(digest)) for name, digest in digests.items()}, library


@pytest.fixture(scope="session")
def compiled():
    """Addresses of the test kernels."""
    addresses, library = compile_kernels()
    yield addresses
    del library


@pytest.fixture(scope="session", params=["python", "native"])
def make(request):
    """Makes sessions over the test kernels, run by Python or compiled."""
    if request.param == "python":
        kernels, options = {k.__name__: k for k in KERNELS}, Options(jit=False)
    else:
        kernels, options = request.getfixturevalue("compiled"), Options(num_threads=2)
    return lambda plan, weights=(), hosts=None: Session(plan, weights, kernels, options, hosts or {})
