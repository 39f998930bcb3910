"""Operators that order elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import I32, I64, STRING, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import is_string, lanes, normal_axis, shape_of, tensor, tensor_type, wide
from onnx_numba.ops.registry import op
from onnx_numba.templates.sort import sorted_lanes, top_k

_CHUNK = 16384
"""Elements that a chunk looks at: results lie close together, and two threads that write to one cache line wait for each other."""
_MANY, _PART = 24, 20
"""Elements, and at least one of so many, of which sorting whole lanes takes less time than keeping the best in a heap: of 1000 float32
for 100 of them 8 µs instead of 21, for 50 of them 8 instead of 10."""


def _top(b: Builder, x: Tensor, count: Dim | int, axis: int, largest: int) -> tuple[Tensor, Tensor]:
    if x.rank == 0:
        b.fail("a scalar has no axis")
    axis = normal_axis(b, axis, x.rank)
    _, extent, inner = lanes(x.shape, axis)
    b.require(d.compare("le", count, extent), f"k ({count}) is greater than the extent of axis {axis} ({extent})")
    kind = wide(x.dtype)
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    body: Callable[..., int]
    if d.compare("le", _MANY, count) == 1 and d.compare("le", extent, count * _PART) == 1:
        body, types, constants = sorted_lanes, {"X": kind, "K": I64 if kind.size == 8 else I32}, _keys(kind, bool(largest))
        scratch: Dim | int = kind.size * 256 * I64.size + extent * (2 * (I64.size + I64.size))
    else:
        body, types, constants, scratch = top_k, {"X": kind}, {"LARGEST": bool(largest), "DENSE": inner == 1}, 0
    values, places = b.template(
        body, [b.cast(x, kind)], [(kind, shape), (I64, shape)],
        total=d.product(x.shape[:axis]) * inner, dims=(extent, inner, count),
        grain=d.dmax(1, d.floordiv(_CHUNK, d.dmax(extent, 1))), types=types, constants=constants, scratch=scratch,
    )  # fmt: skip
    return b.cast(values, x.dtype), places


def _keys(kind: DType, largest: bool) -> dict[str, int]:
    """The constants of `sorted_lanes`: how an element becomes a key without a sign."""
    sign = 8 * kind.size - 1
    flip = 0 if kind.kind == "u" else -1 << sign  # what lies before a sign is not looked at
    return {"BYTES": kind.size, "FLOAT": kind.is_float, "SIGN": sign, "MOST": (1 << sign) - 1, "FLIP": ~flip if largest else flip}


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
