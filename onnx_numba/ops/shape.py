"""Operators that give a tensor another shape, and those that ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import BOOL, I64, STRING, TensorType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS, tensor_type
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import (
    axes_in_range,
    demand,
    elements,
    is_strings,
    object_shape,
    settle,
    strings_too,
    wrap_axes,
)  # fmt: skip

Extent = Dim | int


@op("Identity", since=1, reviewed=25)
@op("SampleOp", since=1, domain=MS)
def identity(b: Builder, x: Any) -> Any:
    """The input itself."""
    return x


@op("Reshape", since=1)
def reshape_1(b: Builder, data: Tensor, *, shape: Sequence[int] = (), consumed_inputs: Any = None) -> Tensor:
    """Reshape by an attribute."""
    return _reshape(b, data, [e.lit(v, I64) for v in shape or ()], False)


@op("Reshape", since=5, reviewed=13)
def reshape_5(b: Builder, data: Tensor | Object, shape: Tensor) -> Tensor | Object:
    """Reshape by an input."""
    return reshape(b, data, shape, allowzero=0)


@op("Reshape", since=14, reviewed=25)
def reshape(b: Builder, data: Tensor | Object, shape: Tensor, *, allowzero: int) -> Tensor | Object:
    """Reshape; without ``allowzero`` an extent of 0 is the input's."""
    if not isinstance(shape.size, int):
        dtype = STRING if is_strings(data) else data.dtype  # type: ignore[union-attr]
        return b.host("reshape", [data, shape], [TensorType(dtype, None)], allowzero=allowzero)[0]
    return _reshape(b, data, elements(b, shape, "shape"), bool(allowzero))


@strings_too
def _reshape(b: Builder, data: Tensor, target: list[Expr], allow_zero: bool) -> Tensor:
    """``data`` in the shape ``target``, in which -1 stands for what is left, and 0 for the dim of ``data`` unless ``allow_zero``.

    A dim that is copied goes into both shapes alike, so that -1 is what is left of the others even where it is 0: a batch of none
    is reshaped as any other.
    """
    if all(isinstance(v, (e.Lit, e.DimVal)) for v in target):
        return b.reshape(data, _static_target(b, data, [e.as_dim(v) for v in target], allow_zero))
    one: Expr = e.lit(1, I64)
    negative: Expr = e.lit(0, I64)
    for v in target:
        negative = negative + e.cast(v < 0, I64)
    demand(b, e.all_of(negative <= 1, *(v >= -1 for v in target)), "the shape has negative extents that are not one -1")
    zero = [e.eq(v, 0) for v in target]
    if allow_zero:
        demand(b, ~(e.any_of(*zero) & e.eq(negative, 1)), "the shape has both 0 and -1, and allowzero is set")
        zero = [e.lit(False, BOOL)] * len(target)
    elif zero[data.rank :]:
        demand(b, ~e.any_of(*zero[data.rank :]), f"the shape has a 0 beyond the rank of the input ({data.rank})")
    rest = whole = one
    for v, copied in zip(target, zero, strict=True):
        rest = rest * e.where((v < 0) | copied, one, v)
    for k, extent in enumerate(data.shape):
        whole = whole * (e.where(zero[k], one, e.dimval(extent)) if k < len(zero) else e.dimval(extent))
    # Only the run knows which extent is -1; where there is none, a product of 0 leaves nothing to divide.
    inferred = whole / e.where(e.eq(rest, 0), one, rest)
    kept = [e.where(copied, e.dimval(extent), v) for v, copied, extent in zip(target, zero, data.shape, strict=False)]
    kept += target[data.rank :]
    return b.reshape(data, settle(b, [e.where(v < 0, inferred, k) for v, k in zip(target, kept, strict=True)]))


def _static_target(b: Builder, data: Tensor, target: Sequence[Any], allow_zero: bool) -> list[Extent]:
    copied = [] if allow_zero else [k for k, v in enumerate(target) if v == 0]
    if any(k >= data.rank for k in copied):
        b.fail(f"shape {list(target)} copies dim {copied[-1]} of an input of rank {data.rank}")
    if any(isinstance(v, int) and v < -1 for v in target):
        b.fail(f"shape {list(target)} has a negative extent")
    if -1 in target and (target.count(-1) > 1 or (allow_zero and 0 in target)):
        b.fail(f"shape {list(target)} has {'both -1 and 0' if 0 in target else 'two extents to infer'}")
    new: list[Extent] = [data.shape[k] if k in copied else v for k, v in enumerate(target)]
    left: dict[int, Extent] = {k: extent for k, extent in enumerate(data.shape) if k not in copied}
    rest: dict[int, Extent] = {k: v for k, v in enumerate(target) if k not in copied and v != -1}
    for k in [] if allow_zero else _perhaps_copied(data, new):
        extent, zero = data.shape[k], d.compare("eq", new[k], 0)
        new[k], rest[k], left[k] = new[k] + zero * extent, new[k] + zero, extent + zero * (1 - extent)
    if -1 in target:
        new[target.index(-1)] = _quotient(list(left.values()), list(rest.values()))
    return new


def _perhaps_copied(data: Tensor, target: Sequence[Extent]) -> list[int]:
    """Positions of extents that the run may find to be 0 while the input has elements, so that it has to copy dims there."""
    if d.product(target) in (data.size, 0):
        return []
    return [
        k
        for k, (v, extent) in enumerate(zip(target, data.shape, strict=False))
        if not isinstance(v, int) and v != extent and d.mod(data.size, v) != 0 and not d.at_least_zero(v - 1)
    ]


def _quotient(shape: Sequence[Extent], divisors: Sequence[Extent]) -> Extent:
    """The size of ``shape`` over the product of ``divisors``; dims that stand in both go away first, whatever their value."""
    left = list(shape)
    rest: list[Extent] = []
    for v in divisors:
        if not isinstance(v, int) and v in left:
            left.remove(v)
        else:
            rest.append(v)
    return d.floordiv(d.product(left), d.product(rest))


@op("Flatten", since=1, reviewed=25)
@strings_too
def flatten(b: Builder, x: Tensor, *, axis: int) -> Tensor:
    """A matrix: dims before ``axis`` by dims from it on."""
    if not -x.rank <= axis <= x.rank:
        b.fail(f"axis {axis} is out of range for rank {x.rank}")
    axis = axis + x.rank if axis < 0 else axis
    return b.reshape(x, (d.product(x.shape[:axis]), d.product(x.shape[axis:])))


@op("Squeeze", since=1, reviewed=11)
@strings_too
def squeeze_1(b: Builder, x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """Without the axes of extent 1 that an attribute names."""
    return _squeeze(b, x, axes)


@op("Squeeze", since=13, reviewed=25)
@strings_too
def squeeze(b: Builder, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Without the axes of extent 1 that an input names."""
    if axes is None:
        return _squeeze(b, x, None)
    known = b.constant(axes)
    if known is not None:
        return _squeeze(b, x, [int(a) for a in known.reshape(-1)])
    gone = axes_in_range(b, elements(b, axes, "axes"), x.rank)
    place: Expr = e.lit(0, I64)  # where the axis goes, if it stays
    shape: list[Expr] = [e.lit(1, I64)] * (x.rank - len(gone))
    for axis, extent in enumerate(x.shape):
        stays = ~e.any_of(*(e.eq(a, axis) for a in gone))
        shape = [e.where(stays & e.eq(place, k), e.dimval(extent), v) for k, v in enumerate(shape)]
        place = place + e.cast(stays, I64)
    return b.reshape(x, settle(b, shape))


def _squeeze(b: Builder, x: Tensor, axes: Sequence[int] | None) -> Tensor:
    if axes is None:
        if not all(isinstance(extent, int) for extent in x.shape):
            b.deferred("which axes have extent 1 must be known before the run")
        axes = [k for k, extent in enumerate(x.shape) if extent == 1]
    gone = wrap_axes(b, axes, x.rank)
    for axis in gone:
        b.require_equal(x.shape[axis], 1, f"dim {axis} of {x.name}")
    return b.reshape(x, [extent for k, extent in enumerate(x.shape) if k not in gone])


@op("Unsqueeze", since=1, reviewed=11)
@strings_too
def unsqueeze_1(b: Builder, x: Tensor, *, axes: Sequence[int]) -> Tensor:
    """New axes of extent 1 where an attribute says."""
    return _unsqueeze(b, x, axes)


@op("Unsqueeze", since=13, reviewed=25)
@strings_too
def unsqueeze(b: Builder, x: Tensor, axes: Tensor) -> Tensor:
    """New axes of extent 1 where an input says."""
    known = b.constant(axes)
    if known is not None:
        return _unsqueeze(b, x, [int(a) for a in known.reshape(-1)])
    given = elements(b, axes, "axes")
    rank = x.rank + len(given)
    made = axes_in_range(b, given, rank)
    source: Expr = e.lit(0, I64)
    shape = []
    extents = [e.dimval(extent) for extent in x.shape] or [e.lit(1, I64)]
    for axis in range(rank):
        new = e.any_of(*(e.eq(a, axis) for a in made))
        old = e.lit(1, I64) if not x.rank else _at(source, extents)
        shape.append(e.where(new, e.lit(1, I64), old))
        source = source + e.cast(~new, I64)
    return b.reshape(x, settle(b, shape))


def _at(index: Expr, values: Sequence[Expr]) -> Expr:
    result = values[-1]
    for k in range(len(values) - 2, -1, -1):
        result = e.where(e.eq(index, k), values[k], result)
    return result


def _unsqueeze(b: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    rank = x.rank + len(axes)
    new = wrap_axes(b, axes, rank)
    extents = iter(x.shape)
    return b.reshape(x, [1 if k in new else next(extents) for k in range(rank)])


@op("Transpose", since=1, reviewed=25)
@strings_too
def transpose(b: Builder, x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    """Axes in another order, reversed by default."""
    order = list(range(x.rank))[::-1] if perm is None else list(perm)
    if sorted(order) != list(range(x.rank)):
        b.fail(f"perm {perm} is no order of {x.rank} axes")
    return b.transpose(x, order)


@op("Expand", since=8, reviewed=13)
@strings_too
def expand(b: Builder, x: Tensor, shape: Tensor) -> Tensor:
    """Broadcast to the common shape of ``x`` and ``shape``."""
    return b.expand(x, b.broadcast_shapes(x.shape, tuple(settle(b, elements(b, shape, "shape")))))


@op("Shape", since=1, reviewed=13)
def shape_1(b: Builder, x: Tensor | Object) -> Tensor:
    """The dims as a tensor."""
    return shape(b, x, start=0, end=None)


@op("Shape", since=15, reviewed=25)
def shape(b: Builder, x: Tensor | Object, *, start: int, end: int | None = None) -> Tensor:
    """The dims from ``start`` to ``end`` as a tensor."""
    if isinstance(x, Object) and not _rank_known(x):
        return b.host("object_shape", [x], [tensor_type(I64, (None,))], start=start, end=end)[0]
    return b.from_dims(_shape_of(b, x)[start:end])


@op("Size", since=1, reviewed=25)
def size(b: Builder, x: Tensor | Object) -> Tensor:
    """The number of elements."""
    if isinstance(x, Object) and not _rank_known(x):
        return b.host("object_size", [x], [TensorType(I64, ())])[0]
    count = d.product(_shape_of(b, x))
    return b.compute((), lambda: e.dimval(count), I64)


def _rank_known(x: Object) -> bool:
    return isinstance(x.type, TensorType) and x.type.shape is not None


def _shape_of(b: Builder, x: Tensor | Object) -> tuple[Extent, ...]:
    return object_shape(b, x) if isinstance(x, Object) else x.shape
