"""What several operator families share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeGuard

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.loop import Object, Shape, Tensor
from onnx_numba.ir.types import C128, DTYPES, F32, F64, STRING, DType, TensorType, ValueType
from onnx_numba.ops.builder import Builder

MS = "com.microsoft"
"""The domain of onnxruntime's own operators."""

AnyShape = tuple[Dim | int | None, ...]


def wide(dtype: DType) -> DType:
    """The type that scalar expressions of ``dtype`` have; intermediate results kept in it are not rounded to 16 bits."""
    return DTYPES[dtype.compute]


def normal_axis(b: Builder, axis: int, rank: int, what: str = "axis") -> int:
    """An axis counted from the front."""
    if not -rank <= axis < max(rank, 1):
        b.fail(f"{what} {axis} is out of range for {rank} axes")
    return axis % rank if rank else 0


def normal_axes(b: Builder, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, sorted, each once."""
    return tuple(sorted({normal_axis(b, a, rank) for a in axes}))


def tensor(b: Builder, value: Tensor | Object | None, what: str = "this input") -> Tensor:
    """The value, which must be a numeric tensor of known rank."""
    if value is None:
        b.fail(f"{what} is missing")
    if isinstance(value, Object):
        b.unsupported(f"{what} of type {value.type} is not served by this operator")
    return value


def is_string(value: Tensor | Object | None) -> TypeGuard[Object]:
    """Whether the value is a tensor of strings."""
    return isinstance(value, Object) and isinstance(value.type, TensorType) and value.type.dtype is STRING


def shape_of(value: Tensor | Object) -> AnyShape | None:
    """The shape, with None for extents that only the run knows; None when even the rank is unknown."""
    if isinstance(value, Tensor):
        return value.shape
    if not isinstance(value.type, TensorType) or value.type.shape is None:
        return None
    return tuple(x if isinstance(x, (int, Dim)) else None for x in value.type.shape)


def tensor_type(dtype: DType, shape: AnyShape | None) -> ValueType:
    """The type of a host step's tensor output; extents given as None are whatever the step returns."""
    return TensorType(dtype, shape)


def broadcast_ranks(shapes: Sequence[AnyShape | None]) -> AnyShape | None:
    """The shape of a host step's broadcast result: numbers where all agree on them, None elsewhere."""
    known = [s for s in shapes if s is not None]
    if len(known) < len(shapes):
        return None
    rank = max(map(len, known), default=0)
    padded = [(1,) * (rank - len(s)) + s for s in known]
    return tuple(_common(column) for column in zip(*padded, strict=True))


def _common(extents: tuple[Dim | int | None, ...]) -> int | None:
    if not all(isinstance(x, int) for x in extents):
        return None
    return next((x for x in extents if isinstance(x, int) and x != 1), 1)


def by_parts(b: Builder, x: Tensor, function: Callable[[Tensor, str], Tensor]) -> Tensor:
    """What an operator on real tensors, ``function(part, name)``, makes of the ``real`` and the ``imag`` part of a complex one."""
    kind = F64 if x.dtype is C128 else F32
    parts = [function(b.map(lambda v, name=name: e.part(name, v), x, dtype=kind), name) for name in ("real", "imag")]
    return b.map(e.complex_of, *parts, dtype=x.dtype)


def channel_view(b: Builder, values: Tensor, rank: int, axis: int = 1) -> Tensor:
    """A 1-d tensor of one number per channel, shaped to broadcast along ``axis`` of a tensor of ``rank`` axes."""
    return b.reshape(values, [values.size if k == axis else 1 for k in range(rank)])


def per_position(b: Builder, values: Tensor, rank: int, axis: int) -> Tensor:
    """One number for all of a tensor of ``rank`` axes, as a scalar, or one for each position of an axis, as `channel_view` has them."""
    return b.reshape(values, ()) if values.size == 1 else channel_view(b, values, rank, axis)


def flatten_2d(b: Builder, x: Tensor, axis: int) -> Tensor:
    """The tensor as a matrix: axes before ``axis`` are its rows, the rest its columns."""
    return b.reshape(x, (d.product(x.shape[:axis]), d.product(x.shape[axis:])))


def lanes(shape: Shape, axis: int) -> tuple[Dim | int, Dim | int, Dim | int]:
    """How many positions lie before, along and after an axis."""
    return d.product(shape[:axis]), shape[axis], d.product(shape[axis + 1 :])


def require_broadcast(b: Builder, shape: Shape, full: Shape, what: str) -> None:
    """Demand that a shape broadcasts to another, which it must not make larger."""
    if len(shape) > len(full):
        b.fail(f"{what} has rank {len(shape)}, at most {len(full)} is expected")
    for axis, (got, wanted) in enumerate(zip(shape, full[len(full) - len(shape) :], strict=True)):
        if isinstance(got, int) and (got == 1 or isinstance(wanted, int)):
            if got not in (1, wanted):
                b.fail(f"dim {axis} of {what}: expected {wanted}{' or 1' if wanted != 1 else ''}, got {got}")
        else:
            b.require_equal(got, wanted - (wanted - 1) * d.compare("eq", got, 1), f"dim {axis} of {what}")


def require_shape(b: Builder, tensor: Tensor, shape: Shape, what: str) -> None:
    """Demand an input's shape."""
    if tensor.rank != len(shape):
        b.fail(f"{what} has rank {tensor.rank}, {len(shape)} is needed")
    for axis, (got, wanted) in enumerate(zip(tensor.shape, shape, strict=True)):
        b.require_equal(got, wanted, f"dim {axis} of {what}")
