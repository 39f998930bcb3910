"""Operators that read elements at positions given by data, and those that find positions."""

from __future__ import annotations

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Object, Shape, Tensor
from onnx_numba.ir.types import BOOL, I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.characters import text_of
from onnx_numba.ops.common import MS
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import checked_index, strings_too, wrap_axis
from onnx_numba.templates.index import count_true, find_true

Extent = Dim | int


@op("Gather", since=1, reviewed=13)
@strings_too
def gather(b: Builder, data: Tensor, indices: Tensor, *, axis: int) -> Tensor:
    """Slices of ``data`` along an axis, by index."""
    axis = wrap_axis(b, axis, data.rank)
    b.require_elements(data.shape[axis], indices.size, f"axis {axis} of the data")
    rank = indices.rank
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])

    def element(*i: Dim) -> Expr:
        index = checked_index(b, indices[i[axis : axis + rank]], data.shape[axis])
        return data[(*i[:axis], index, *i[axis + rank :])]

    return b.compute(shape, element, data.dtype)


@op("GatherElements", since=11, reviewed=13)
@strings_too
def gather_elements(b: Builder, data: Tensor, indices: Tensor, *, axis: int) -> Tensor:
    """Elements of ``data`` at the position of the index, but for one axis, which the index gives."""
    axis = wrap_axis(b, axis, data.rank)
    fits_inside(b, indices.shape, data.shape, axis)
    b.require_elements(data.shape[axis], indices.size, f"axis {axis} of the data")

    def element(*i: Dim) -> Expr:
        return data[(*i[:axis], checked_index(b, indices[i], data.shape[axis]), *i[axis + 1 :])]

    return b.compute(indices.shape, element, data.dtype)


def fits_inside(b: Builder, inner: Shape, outer: Shape, axis: int) -> None:
    """Demand that extents are not above those of another shape, but for one axis."""
    if len(inner) != len(outer):
        b.fail(f"indices of rank {len(inner)} for data of rank {len(outer)}")
    for k, (small, large) in enumerate(zip(inner, outer, strict=True)):
        if k != axis:
            b.require(d.compare("le", small, large), f"dim {k} of the indices ({small}) is greater than that of the data ({large})")


@op("GatherND", since=11, reviewed=11)
@op("GatherND", since=1, domain=MS)
@strings_too
def gather_nd_11(b: Builder, data: Tensor, indices: Tensor) -> Tensor:
    """Slices of ``data`` at index tuples."""
    return gather_nd(b, data, indices, batch_dims=0)


@op("GatherND", since=12, reviewed=13)
@strings_too
def gather_nd(b: Builder, data: Tensor, indices: Tensor, *, batch_dims: int) -> Tensor:
    """Slices of ``data`` at index tuples, the leading dims being common to both."""
    depth = indices.shape[-1] if indices.rank else 0
    if not isinstance(depth, int):
        b.deferred("the last dim of the indices must be known before the run")
    if not indices.rank or not 0 <= batch_dims < min(indices.rank, data.rank) or not 1 <= depth <= data.rank - batch_dims:
        b.fail(f"index tuples of {depth} for data of rank {data.rank} with {batch_dims} batch dims")
    for k in range(batch_dims):
        b.require_equal(indices.shape[k], data.shape[k], f"batch dim {k}")
    for k in range(batch_dims, batch_dims + depth):
        b.require_elements(data.shape[k], d.product(indices.shape[:-1]), f"axis {k} of the data")
    outer = indices.rank - 1
    shape = (*indices.shape[:-1], *data.shape[batch_dims + depth :])

    def element(*i: Dim) -> Expr:
        at = [checked_index(b, indices[(*i[:outer], k)], data.shape[batch_dims + k]) for k in range(depth)]
        return data[(*i[:batch_dims], *at, *i[outer:])]

    return b.compute(shape, element, data.dtype)


def true_positions(b: Builder, mask: Tensor) -> Tensor:
    """The positions at which a 1-d boolean tensor holds."""
    if mask.rank != 1:
        b.fail(f"a condition of rank 1 is expected, one of rank {mask.rank} came")
    positions = _true_indices(b, mask)
    return b.reshape(positions, positions.shape[1:])


@op("NonZero", since=9, reviewed=13)
def non_zero(b: Builder, x: Tensor | Object) -> Tensor:
    """The indices of elements that are not zero, a row per axis; of strings those that are not empty."""
    if isinstance(x, Object):
        spans = text_of(b, x).spans
        filled = b.compute(spans.shape[:-1], lambda *i: e.compare("lt", spans[(*i, 0)], spans[(*i, 1)]), BOOL)
        return _true_indices(b, filled)
    return _true_indices(b, b.map(lambda v: e.cast(v, BOOL), x, dtype=BOOL))


def _true_indices(b: Builder, x: Tensor) -> Tensor:
    """The indices of elements that are true, a row per axis."""
    (count,) = b.template(count_true, [b.reshape(x, (x.size,))], [(I64, (1,))], dims=(x.size,))
    (found,) = b.dims(count)
    if x.rank == 0:
        return b.full((0, found), 0, I64)
    rank = max((k for k, extent in enumerate(x.shape) if extent != 1), default=0) + 1
    constants = {"RANK": rank, "MORE": x.rank - rank}
    return b.template(find_true, [x], [(I64, (x.rank, found))], dims=(*x.shape[:rank], found), constants=constants)[0]


@op("Compress", since=9, reviewed=28)
@strings_too
def compress(b: Builder, x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """The slices along an axis, or the elements, for which a condition holds."""
    if axis is None:
        x, axis = b.reshape(x, (x.size,)), 0
    axis = wrap_axis(b, axis, x.rank)
    positions = true_positions(b, condition)
    b.require_elements(x.shape[axis], positions.shape[0])
    shape = (*x.shape[:axis], positions.shape[0], *x.shape[axis + 1 :])

    def element(*i: Dim) -> Expr:
        return x[(*i[:axis], checked_index(b, positions[(i[axis],)], x.shape[axis]), *i[axis + 1 :])]

    return b.compute(shape, element, x.dtype)
