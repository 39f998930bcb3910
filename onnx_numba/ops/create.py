"""Operators that make tensors from little or nothing: constants, ranges, one-hot rows, triangles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import BY_ONNX, F32, F64, I64, STRING, U64, DType, TensorType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import elements, scalar, settle, strings_too, wrapped

Array = np.ndarray[Any, Any]
_FAR = 1 << 61
"""Longer than any axis; sums of a few such fit 64 bits."""


def dtype_by_number(b: Builder, number: int) -> DType:
    """The element type that an attribute names."""
    if number not in BY_ONNX:
        b.unsupported(f"element type {number}")
    return BY_ONNX[number]


def array_value(b: Builder, array: Array) -> Tensor | Object:
    """A tensor of the model, strings as an object."""
    if array.dtype.kind in "OUS":
        return b.object_constant(array.astype(object), TensorType(STRING, array.shape))
    return b.weight(array)


@op("Constant", since=1, reviewed=25)
def constant(
    b: Builder, *, value: Array | None = None, sparse_value: Array | None = None, value_float: float | None = None,
    value_floats: Sequence[float] | None = None, value_int: int | None = None, value_ints: Sequence[int] | None = None,
    value_string: str | bytes | None = None, value_strings: Sequence[str | bytes] | None = None,
) -> Tensor | Object:  # fmt: skip
    """The tensor that one of the attributes states."""
    forms: list[tuple[Any, Any]] = [
        (value, None), (sparse_value, None), (value_float, np.float32), (value_floats, np.float32),
        (value_int, np.int64), (value_ints, np.int64), (value_string, object), (value_strings, object),
    ]  # fmt: skip
    given = [(v, kind) for v, kind in forms if v is not None]
    if len(given) != 1:
        b.fail(f"{len(given)} values are stated, a constant has one")
    content, kind = given[0]
    return array_value(b, content if kind is None else np.array(content, kind))


@op("ConstantOfShape", since=9, reviewed=25)
def constant_of_shape(b: Builder, shape: Tensor, *, value: Array | None = None) -> Tensor | Object:
    """A tensor of one value."""
    extents = tuple(settle(b, elements(b, shape, "shape")))
    if value is None:
        return b.full(extents, 0.0, F32)
    if value.size != 1:
        b.fail(f"value must have one element, it has {value.size}")
    one = b.weight(value.reshape(()))
    return b.compute(extents, lambda *_: one[()], one.dtype)


@op("Range", since=11, reviewed=27)
def range_(b: Builder, start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1) -> Tensor:
    """Numbers from ``start`` up to ``limit`` in steps of ``delta``."""
    dtype = start.dtype
    first, last, step = scalar(b, start), scalar(b, limit), scalar(b, delta)
    size = _float_count(b, start, limit, delta) if dtype.is_float else _int_count(first, last, step)
    # Neither a step that leads nowhere nor one that is no number.
    count, moves = settle(b, [size, e.cast((step > 0) | (step < 0), I64)])
    b.require(moves, "delta must not be 0 or NaN")
    # Whole numbers up to 2**53 are exact in float64, and a float32 product would be rounded twice.
    return b.compute((count,), lambda i: first + e.cast(e.dimval(i), dtype) * step, dtype)


def _int_count(first: Expr, last: Expr, step: Expr) -> Expr:
    if not all(v.dtype.size < 8 or _is_small(v) for v in (first, last, step)):
        return _far_count(first, last, step)
    first, last, step = (e.cast(v, I64) for v in (first, last, step))
    span = last - first
    if isinstance(step, e.Lit) and step.value > 0:
        steps = span if step.value == 1 else (span + (int(step.value) - 1)) / step
    else:
        whole = span / step
        rest = e.ne(whole * step, span) & e.eq(span < 0, step < 0)
        steps = whole + e.cast(rest, I64)
    return e.binary("max", steps, 0)


def _is_small(value: Expr) -> bool:
    return isinstance(value, e.DimVal) or (isinstance(value, e.Lit) and abs(value.value) < _FAR)


def _far_count(first: Expr, last: Expr, step: Expr) -> Expr:
    """The count where a difference may not fit 64 bits with a sign: it fits those without."""
    up = step > 0
    ahead = e.where(up, last > first, last < first)
    span, each = (e.cast(e.where(up, v, -v), U64) for v in (last - first, step))
    count = (span - e.lit(1, U64)) / e.where(e.eq(each, 0), e.lit(1, U64), each)
    return e.where(ahead, e.cast(e.binary("min", count, e.lit(_FAR, U64)), I64) + 1, e.lit(0, I64))


def _float_count(b: Builder, start: Tensor, limit: Tensor, delta: Tensor) -> Expr:
    known = [b.constant(t) for t in (start, limit, delta)]
    if all(k is not None for k in known):
        first, last, step = (float(k.reshape(-1)[0]) for k in known if k is not None)
        ratio = (last - first) / step if step else 0.0
        return e.lit(math.ceil(min(ratio, float(_FAR))) if ratio > 0 else 0, I64)
    first_, last_, step_ = (e.cast(scalar(b, t), F64) for t in (start, limit, delta))
    return e.binary("max", e.cast(e.unary("ceil", (last_ - first_) / step_), I64), 0)


@op("EyeLike", since=9, reviewed=22)
def eye_like(b: Builder, x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    """Ones on a diagonal of a matrix of zeros."""
    if x.rank != 2:
        b.fail(f"a matrix is expected, an input of rank {x.rank} came")
    kind = x.dtype if dtype is None else dtype_by_number(b, dtype)
    return b.compute(x.shape, lambda i, j: e.cast(e.eq(e.dimval(i + k), e.dimval(j)), kind), kind)


@op("Trilu", since=14)
@op("Trilu", since=1, domain=MS)
@strings_too
def trilu(b: Builder, x: Tensor, k: Tensor | None = None, *, upper: int = 1) -> Tensor:
    """The upper or lower triangle of matrices, zero elsewhere."""
    if x.rank < 2:
        b.fail(f"a matrix is expected, an input of rank {x.rank} came")
    diagonal = e.lit(0, I64) if k is None else e.cast(scalar(b, k), I64)

    def element(*i: Dim) -> Expr:
        offset = e.dimval(i[-1]) - e.dimval(i[-2])
        kept = offset >= diagonal if upper else offset <= diagonal
        value = x[i]
        return e.where(kept, value, e.lit(0, x.dtype))

    return b.compute(x.shape, element, x.dtype)


@op("OneHot", since=9, reviewed=28)
@strings_too
def one_hot(b: Builder, indices: Tensor, depth: Tensor, values: Tensor, *, axis: int = -1) -> Tensor:
    """``values[1]`` where an index says, ``values[0]`` elsewhere, along a new axis."""
    rank = indices.rank + 1
    b.require_equal(values.size, 2, "elements of values")
    if values.rank != 1:
        b.fail(f"values of rank 1 are expected, of rank {values.rank} came")
    if not -rank <= axis < rank:
        b.fail(f"axis {axis} is out of range for rank {rank}")
    axis %= rank
    (extent,) = settle(b, [e.cast(scalar(b, depth), I64)])
    shape = (*indices.shape[:axis], extent, *indices.shape[axis:])

    def element(*i: Dim) -> Expr:
        index = wrapped(e.cast(indices[(*i[:axis], *i[axis + 1 :])], I64), extent)
        return e.where(e.eq(index, e.dimval(i[axis])), values[(1,)], values[(0,)])

    return b.compute(shape, element, values.dtype)
