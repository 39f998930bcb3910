"""Operators that order elements."""

from __future__ import annotations

from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import I64, STRING
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import is_string, lanes, normal_axis, shape_of, tensor, tensor_type, wide
from onnx_numba.ops.registry import op
from onnx_numba.templates.sort import top_k

_CHUNK = 16384
"""Elements that a chunk looks at: results lie close together, and two threads that write to one cache line wait for each other."""


def _top(b: Builder, x: Tensor, count: Dim | int, axis: int, largest: int) -> tuple[Tensor, Tensor]:
    if x.rank == 0:
        b.fail("a scalar has no axis")
    axis = normal_axis(b, axis, x.rank)
    _, extent, inner = lanes(x.shape, axis)
    b.require(d.compare("le", count, extent), f"k ({count}) is greater than the extent of axis {axis} ({extent})")
    kind = wide(x.dtype)
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    values, places = b.template(
        top_k, [b.cast(x, kind)], [(kind, shape), (I64, shape)],
        total=d.product(x.shape[:axis]) * inner, dims=(extent, inner, count),
        grain=d.dmax(1, d.floordiv(_CHUNK, d.dmax(extent, 1))), types={"X": kind},
        constants={"LARGEST": bool(largest), "DENSE": inner == 1},
    )  # fmt: skip
    return b.cast(values, x.dtype), places


@op("TopK", since=11, reviewed=24)
def topk(b: Builder, x: Tensor, k: Tensor, *, axis: int, largest: int, sorted: int) -> tuple[Tensor, Tensor]:
    """The greatest or smallest elements along an axis, always in order."""
    (count,) = b.dims(b.reshape(k, (1,)))
    return _top(b, x, count, axis, largest)


@op("TopK", since=10)
def topk_10(b: Builder, x: Tensor, k: Tensor, *, axis: int) -> tuple[Tensor, Tensor]:
    """Version 10: the greatest only."""
    (count,) = b.dims(b.reshape(k, (1,)))
    return _top(b, x, count, axis, 1)


@op("TopK", since=1)
def topk_1(b: Builder, x: Tensor, *, axis: int, k: int) -> tuple[Tensor, Tensor]:
    """Version 1: the greatest only, their number an attribute."""
    return _top(b, x, k, axis, 1)


@op("Unique", since=11, reviewed=28)
def unique(b: Builder, x: Tensor | Object, *, axis: int | None = None, sorted: int) -> Any:
    """Distinct elements or slices; how many there are only the run knows."""
    shape = shape_of(x)
    if axis is None:
        values: tuple[Dim | int | None, ...] | None = (None,)
    elif shape is None:
        b.deferred("the rank of the input must be known before the run")
    else:
        axis = normal_axis(b, axis, len(shape))
        values = (*shape[:axis], None, *shape[axis + 1 :])
    dtype = STRING if is_string(x) else tensor(b, x).dtype
    types = [tensor_type(dtype, values), *(tensor_type(I64, (None,)) for _ in range(3))]
    return b.host("unique", [x], types, axis=axis, sorted=bool(sorted), alone=not any(b.wanted[1:]))
