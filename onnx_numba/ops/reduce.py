"""Reductions over axes that are attributes, or an input whose numbers may be known only at run time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Shape, Tensor
from onnx_numba.ir.types import BOOL, F64, I64, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import normal_axes, normal_axis, wide
from onnx_numba.ops.registry import op
from onnx_numba.record import record

Inner = Callable[[Expr], Expr]


@record
class Axes:
    """What is reduced: ``known`` axes, or else a 0-or-1 ``flags`` entry per axis and the number of axes that are set."""

    known: tuple[int, ...] | None
    flags: tuple[Dim | int, ...] = ()
    count: int = 0


def axes_known(b: Builder, axes: Sequence[int] | None, rank: int, noop: int = 0) -> Axes:
    """Axes given as numbers; none at all means every axis, or nothing if ``noop`` is set. A scalar may be reduced along axis 0."""
    if not axes:
        return Axes(() if noop else tuple(range(rank)))
    return Axes(normal_axes(b, axes, rank)[:rank])


def axes_input(b: Builder, axes: Tensor | None, rank: int, noop: int) -> Axes:
    """Axes given as a tensor."""
    if axes is None or axes.size == 0:
        return axes_known(b, None, rank, noop)
    known = b.constant(axes)
    if known is not None:
        return axes_known(b, [int(a) for a in known.reshape(-1)], rank, noop)
    given = b.dims(axes, signed=range(axes.size if isinstance(axes.size, int) else 0))
    for a in given:
        b.require(d.compare("le", -rank, a) * d.compare("lt", a, max(rank, 1)), f"an axis is out of range for rank {rank}")
    wanted = [a + d.compare("lt", a, 0) * rank for a in given]
    hits = [d.total(d.compare("eq", a, axis) for a in wanted) for axis in range(rank)]
    if len(wanted) > 1:
        b.require(d.product(d.compare("le", times, 1) for times in hits), "an axis is named twice")
    return Axes(None, tuple(d.dmin(times, 1) for times in hits), min(len(wanted), rank))


def fold(b: Builder, kind: str, x: Tensor, axes: Axes, keepdims: bool, dtype: DType, function: Inner | None = None) -> Tensor:
    """``function(element)`` folded over the axes by ``kind``."""
    if axes.known is not None:
        return b.reduce(kind, x, axes.known, keepdims, dtype, function)
    # An axis that is reduced has extent 1 in the result and is walked inside; one that is not, the other way round.
    outer = tuple(extent + (1 - extent) * f for extent, f in zip(x.shape, axes.flags, strict=True))
    inner = tuple(1 + (extent - 1) * f for extent, f in zip(x.shape, axes.flags, strict=True))

    def element(p: tuple[Dim, ...], r: tuple[Dim, ...]) -> Expr:
        value = x[tuple(i + k for i, k in zip(p, r, strict=True))]
        return function(value) if function else value

    result = b.reduction(kind, outer, inner, element, dtype)
    return result if keepdims else b.reshape(result, _squeezed(x.shape, axes))


def _squeezed(shape: Shape, axes: Axes) -> list[Dim | int]:
    """Extents of the axes that stay; which those are is known at run time only."""
    kept = [1 - f for f in axes.flags]
    before: Dim | int = 0
    result: list[Dim | int] = [0] * (len(shape) - axes.count)
    for extent, stays in zip(shape, kept, strict=True):
        result = [r + extent * stays * d.compare("eq", before, j) for j, r in enumerate(result)]
        before = before + stays
    return result


def keep_shape(b: Builder, reduced: Tensor, x: Tensor, axes: Axes, keepdims: bool) -> Tensor:
    """A result made with the reduced axes kept, without them unless they are asked for."""
    if keepdims:
        return reduced
    if axes.known is None:
        return b.reshape(reduced, _squeezed(x.shape, axes))
    return b.reshape(reduced, [s for k, s in enumerate(x.shape) if k not in axes.known])


def extent_of(x: Tensor, axes: Axes) -> Dim | int:
    """The number of elements that one result comes from."""
    if axes.known is not None:
        return d.product(x.shape[a] for a in axes.known)
    return d.product(1 + (extent - 1) * f for extent, f in zip(x.shape, axes.flags, strict=True))


# ---- what is computed


def _square(v: Expr) -> Expr:
    return v * v


def _plain(kind: str, inner: Inner | None = None) -> Callable[[Builder, Tensor, Axes, bool], Tensor]:
    def compute(b: Builder, x: Tensor, axes: Axes, keepdims: bool) -> Tensor:
        return fold(b, kind, x, axes, keepdims, x.dtype, inner)

    return compute


def _extreme(kind: str) -> Callable[[Builder, Tensor, Axes, bool], Tensor]:
    def compute(b: Builder, x: Tensor, axes: Axes, keepdims: bool) -> Tensor:
        if x.dtype is BOOL:
            return fold(b, "or" if kind == "max" else "and", x, axes, keepdims, BOOL)
        return fold(b, kind, x, axes, keepdims, x.dtype)

    return compute


def _float(dtype: DType) -> DType:
    """The type in which roots and logarithms are computed."""
    return wide(dtype) if dtype.is_float else F64


def _then(kind: str, inner: Inner | None, outer: Inner) -> Callable[[Builder, Tensor, Axes, bool], Tensor]:
    """A fold followed by a scalar function, computed in floating point."""

    def compute(b: Builder, x: Tensor, axes: Axes, keepdims: bool) -> Tensor:
        kind_ = _float(x.dtype)

        def element(v: Expr) -> Expr:
            w = e.cast(v, kind_)
            return inner(w) if inner else w

        folded = fold(b, kind, x, axes, keepdims, kind_, element)
        return b.map(lambda v: e.cast(outer(v), x.dtype), folded, dtype=x.dtype)

    return compute


def mean(b: Builder, x: Tensor, axes: Axes, keepdims: bool) -> Tensor:
    """The sum divided by the count; integers truncate, and are summed in 64 bits."""
    kind = wide(x.dtype) if x.dtype.is_float else I64
    total = fold(b, "sum", x, axes, keepdims, kind, lambda v: e.cast(v, kind))
    count = e.cast(e.dimval(extent_of(x, axes)), kind)
    return b.map(lambda v: e.cast(v / count, x.dtype), total, dtype=x.dtype)


def log_sum_exp(b: Builder, x: Tensor, axes: Axes, keepdims: bool) -> Tensor:
    """The logarithm of the sum of exponentials, which cannot overflow: the greatest element is taken out first."""
    kind = _float(x.dtype)
    top = fold(b, "max", x, axes, True, kind, lambda v: e.cast(v, kind))
    # All elements minus infinity, or one of them infinity: nothing to take out.
    shift = b.map(lambda v: e.where(e.unary("isinf", v), 0.0, v), top)
    terms = b.map(lambda v, m: e.unary("exp", e.cast(v, kind) - m), x, shift, dtype=kind)
    total = fold(b, "sum", terms, axes, True, kind)
    result = b.map(lambda s, m: e.cast(e.unary("log", s) + m, x.dtype), total, shift, dtype=x.dtype)
    return keep_shape(b, result, x, axes, keepdims)


def _abs(v: Expr) -> Expr:
    return e.unary("abs", v)


def _log(v: Expr) -> Expr:
    return e.unary("log", v)


COMPUTE: dict[str, Callable[[Builder, Tensor, Axes, bool], Tensor]] = {
    "ReduceSum": _plain("sum"),
    "ReduceProd": _plain("prod"),
    "ReduceMax": _extreme("max"),
    "ReduceMin": _extreme("min"),
    "ReduceMean": mean,
    "ReduceL1": _plain("sum", _abs),
    "ReduceL2": _then("sum", _square, lambda v: e.unary("sqrt", v)),
    "ReduceSumSquare": _plain("sum", _square),
    "ReduceLogSum": _then("sum", None, _log),
    "ReduceLogSumExp": log_sum_exp,
}


def _by_attribute(name: str) -> Callable[..., Tensor]:
    """Axes as an attribute: all versions but the last ones."""

    def lower(b: Builder, x: Tensor, *, axes: tuple[int, ...] | None = None, keepdims: int) -> Tensor:
        return COMPUTE[name](b, x, axes_known(b, axes, x.rank), bool(keepdims))

    return lower


def _by_input(name: str) -> Callable[..., Tensor]:
    """Axes as an input."""

    def lower(b: Builder, x: Tensor, axes: Tensor | None = None, *, keepdims: int, noop_with_empty_axes: int) -> Tensor:
        return COMPUTE[name](b, x, axes_input(b, axes, x.rank, noop_with_empty_axes), bool(keepdims))

    return lower


reduce_sum_1 = op("ReduceSum", since=1, reviewed=11)(_by_attribute("ReduceSum"))
reduce_mean_1 = op("ReduceMean", since=1, reviewed=13)(_by_attribute("ReduceMean"))
reduce_max_1 = op("ReduceMax", since=1, reviewed=13)(_by_attribute("ReduceMax"))
reduce_min_1 = op("ReduceMin", since=1, reviewed=13)(_by_attribute("ReduceMin"))
reduce_prod_1 = op("ReduceProd", since=1, reviewed=13)(_by_attribute("ReduceProd"))
reduce_l1_1 = op("ReduceL1", since=1, reviewed=13)(_by_attribute("ReduceL1"))
reduce_l2_1 = op("ReduceL2", since=1, reviewed=13)(_by_attribute("ReduceL2"))
reduce_log_sum_1 = op("ReduceLogSum", since=1, reviewed=13)(_by_attribute("ReduceLogSum"))
reduce_log_sum_exp_1 = op("ReduceLogSumExp", since=1, reviewed=13)(_by_attribute("ReduceLogSumExp"))
reduce_sum_square_1 = op("ReduceSumSquare", since=1, reviewed=13)(_by_attribute("ReduceSumSquare"))

reduce_sum = op("ReduceSum", since=13)(_by_input("ReduceSum"))
reduce_mean = op("ReduceMean", since=18)(_by_input("ReduceMean"))
reduce_max = op("ReduceMax", since=18, reviewed=20)(_by_input("ReduceMax"))
reduce_min = op("ReduceMin", since=18, reviewed=20)(_by_input("ReduceMin"))
reduce_prod = op("ReduceProd", since=18)(_by_input("ReduceProd"))
reduce_l1 = op("ReduceL1", since=18)(_by_input("ReduceL1"))
reduce_l2 = op("ReduceL2", since=18)(_by_input("ReduceL2"))
reduce_log_sum = op("ReduceLogSum", since=18, reviewed=28)(_by_input("ReduceLogSum"))
reduce_log_sum_exp = op("ReduceLogSumExp", since=18, reviewed=28)(_by_input("ReduceLogSumExp"))
reduce_sum_square = op("ReduceSumSquare", since=18)(_by_input("ReduceSumSquare"))


# ---- positions


def _position(b: Builder, kind: str, x: Tensor, axis: int, keepdims: int, last: int) -> Tensor:
    if x.rank == 0:
        return b.full((), 0, I64)
    axis = normal_axis(b, axis, x.rank)
    b.require_elements(x.shape[axis], d.product(s for k, s in enumerate(x.shape) if k != axis), f"axis {axis}")
    return b.reduce(f"{kind}_last" if last else kind, x, [axis], bool(keepdims))


@op("ArgMax", since=1, reviewed=13)
def arg_max(b: Builder, x: Tensor, *, axis: int, keepdims: int, select_last_index: int = 0) -> Tensor:
    """Where the greatest element is: the first such position, or the last."""
    return _position(b, "argmax", x, axis, keepdims, select_last_index)


@op("ArgMin", since=1, reviewed=13)
def arg_min(b: Builder, x: Tensor, *, axis: int, keepdims: int, select_last_index: int = 0) -> Tensor:
    """Where the smallest element is: the first such position, or the last."""
    return _position(b, "argmin", x, axis, keepdims, select_last_index)
