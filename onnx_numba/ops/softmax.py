"""The softmax family."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_numba.ir import expr as e
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F64, I32
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import flatten_2d, normal_axis, wide
from onnx_numba.ops.registry import op


def top_of(b: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    """The greatest elements over axes, where all are used besides, so that a NaN is not missed: of NaN alone it need not be one.

    Those of float64 are found as such: with AVX-512, rows of seven whose order was that of 64-bit integers gave NaN once in 400 times.
    """
    kind = wide(x.dtype)
    if kind is F64:
        return b.reduce("max", x, axes, True, kind)
    return b.map(e.of_order, b.reduce("max", x, axes, True, I32, function=e.order), dtype=kind)


def softmax_over(b: Builder, x: Tensor, axes: range) -> Tensor:
    """Exponentials divided by their sum over the axes."""
    kind = wide(x.dtype)
    top = top_of(b, x, axes)
    terms = b.map(lambda v, m: e.unary("exp_decay", v - m), x, top, dtype=kind)
    total = b.reduce("sum", terms, axes, True)
    # The sum is at least 1, unless there is a NaN, so that its reciprocal loses nothing; a division per element costs several times more.
    return b.map(lambda t, s: t * (1 / s), terms, total, dtype=x.dtype)


def log_softmax_over(b: Builder, x: Tensor, axes: range) -> Tensor:
    """The logarithm of `softmax_over`, without computing it."""
    kind = wide(x.dtype)
    top = top_of(b, x, axes)
    total = b.reduce("sum", b.map(lambda v, m: e.unary("exp_decay", v - m), x, top, dtype=kind), axes, True)
    return b.map(lambda v, m, s: v - m - e.unary("log", s), x, top, total)


def _one_axis(b: Builder, x: Tensor, axis: int) -> range:
    axis = normal_axis(b, axis, x.rank)
    return range(axis, min(axis + 1, x.rank))


def _trailing_axes(b: Builder, x: Tensor, axis: int) -> range:
    """Before version 13 the axes from ``axis`` on count as one."""
    return range(x.rank if axis == x.rank else normal_axis(b, axis, x.rank), x.rank)


@op("Softmax", since=13)
def softmax(b: Builder, x: Tensor, *, axis: int) -> Tensor:
    """Over one axis."""
    return softmax_over(b, x, _one_axis(b, x, axis))


@op("Softmax", since=1, reviewed=11)
def softmax_1(b: Builder, x: Tensor, *, axis: int) -> Tensor:
    """Over all axes from one on."""
    return softmax_over(b, x, _trailing_axes(b, x, axis))


@op("LogSoftmax", since=13)
def log_softmax(b: Builder, x: Tensor, *, axis: int) -> Tensor:
    """Over one axis."""
    return log_softmax_over(b, x, _one_axis(b, x, axis))


@op("LogSoftmax", since=1, reviewed=11)
def log_softmax_1(b: Builder, x: Tensor, *, axis: int) -> Tensor:
    """Over all axes from one on."""
    return log_softmax_over(b, x, _trailing_axes(b, x, axis))


@op("Hardmax", since=13)
def hardmax(b: Builder, x: Tensor, *, axis: int) -> Tensor:
    """1 at the first greatest element of an axis, else 0."""
    if x.rank == 0:
        return b.full((), 1, x.dtype)
    axis = normal_axis(b, axis, x.rank)
    top = b.reduce("argmax", x, [axis])
    return b.compute(
        x.shape, lambda *i: e.where(e.eq(top[(*i[:axis], *i[axis + 1 :])], e.dimval(i[axis])), e.lit(1, x.dtype), 0), x.dtype
    )


@op("Hardmax", since=1, reviewed=11)
def hardmax_1(b: Builder, x: Tensor, *, axis: int) -> Tensor:
    """The same, with all axes from one on counted as one."""
    split = x.rank if axis == x.rank else normal_axis(b, axis, x.rank)
    return b.reshape(hardmax(b, flatten_2d(b, x, split), axis=1), x.shape)
