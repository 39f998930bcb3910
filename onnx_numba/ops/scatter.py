"""Operators that write elements at positions given by data."""

from __future__ import annotations

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.index import fits_inside
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import checked_index, flat_index, natural_index, same_kind, strings_too, wrap_axis
from onnx_numba.templates.index import scatter

Extent = Dim | int
_VALUES = {"none": "update", "add": "{0}(old + update)", "mul": "{0}(old * update)", "max": "max_(old, update)", "min": "min_(old, update)"}
_TILE = 4096
"""Elements of a slice that one work unit writes: units share no element, so that the order of updates stays what it was."""


def scatter_flat(b: Builder, data: Tensor, positions: Tensor, updates: Tensor, block: Extent, reduction: str = "none") -> Tensor:
    """``data`` with blocks of ``updates`` put, in order, at flat positions that count in blocks."""
    if reduction not in _VALUES:
        b.fail(f"reduction {reduction!r} is unknown")
    if reduction in ("max", "min") and data.dtype.kind == "c":
        b.fail(f"reduction {reduction!r} of {data.dtype.onnx_name}, which has no order")
    wide = data.dtype if reduction == "none" else same_kind(data.dtype)
    (result,) = b.template(
        scatter, [b.cast(data, wide), positions, b.cast(updates, wide)], [(wide, data.shape)], dims=(positions.size, block), inplace=0,
        total=d.ceildiv(block, _TILE), types={"X": wide}, constants={"TILE": _TILE, "VALUE": _VALUES[reduction].format(wide.compute)},
    )  # fmt: skip
    return b.cast(result, data.dtype)


@op("Scatter", since=9, reviewed=11)
@op("ScatterElements", since=11, reviewed=13)
@strings_too
def scatter_elements_11(b: Builder, data: Tensor, indices: Tensor, updates: Tensor, *, axis: int) -> Tensor:
    """Updates put at the position of the index, but for one axis, which the index gives."""
    return scatter_elements(b, data, indices, updates, axis=axis, reduction="none")


@op("ScatterElements", since=16, reviewed=18)
@strings_too
def scatter_elements(b: Builder, data: Tensor, indices: Tensor, updates: Tensor, *, axis: int, reduction: str) -> Tensor:
    """Updates put or folded in at the position of the index, but for one axis, which the index gives."""
    axis = wrap_axis(b, axis, data.rank)
    fits_inside(b, indices.shape, data.shape, axis)
    _same_shape(b, updates, indices.shape)

    def position(*i: Dim) -> Expr:
        at = e.as_index(checked_index(b, indices[i], data.shape[axis]))
        return e.dimval(flat_index((*i[:axis], at, *i[axis + 1 :]), data.shape))

    return scatter_flat(b, data, b.compute(indices.shape, position, I64), updates, 1, reduction)


def _same_shape(b: Builder, updates: Tensor, shape: tuple[Extent, ...]) -> None:
    if updates.rank != len(shape):
        b.fail(f"updates of rank {updates.rank}, {len(shape)} is expected")
    for k, (got, wanted) in enumerate(zip(updates.shape, shape, strict=True)):
        b.require_equal(got, wanted, f"dim {k} of the updates")


@op("ScatterND", since=11, reviewed=13)
@strings_too
def scatter_nd_11(b: Builder, data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Slices put at index tuples."""
    return scatter_nd(b, data, indices, updates, reduction="none")


@op("ScatterND", since=16, reviewed=18)
@strings_too
def scatter_nd(b: Builder, data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str) -> Tensor:
    """Slices put or folded in at index tuples."""
    depth = data.rank + indices.rank - 1 - updates.rank
    if not indices.rank or not 1 <= depth <= data.rank:
        b.fail(f"data, indices and updates of ranks {data.rank}, {indices.rank} and {updates.rank} do not fit each other")
    b.require_equal(indices.shape[-1], depth, "the last dim of the indices")
    _same_shape(b, updates, (*indices.shape[:-1], *data.shape[depth:]))

    def position(*i: Dim) -> Expr:
        at = [e.as_index(checked_index(b, indices[(*i, k)], data.shape[k])) for k in range(depth)]
        return e.dimval(flat_index(at, data.shape[:depth]))

    positions = b.compute(indices.shape[:-1], position, I64)
    return scatter_flat(b, data, positions, updates, d.product(data.shape[depth:]), reduction)


@op("TensorScatter", since=24)
@strings_too
def tensor_scatter(b: Builder, past: Tensor, update: Tensor, write_indices: Tensor | None = None, *, axis: int, mode: str) -> Tensor:
    """A cache with new entries written from a position of each batch on."""
    axis = wrap_axis(b, axis, past.rank)
    if axis == 0:
        b.fail("axis 0 is the batch")
    for k in range(past.rank):
        if k != axis:
            b.require_equal(update.shape[k], past.shape[k], f"dim {k} of the update")
    extent, count = past.shape[axis], update.shape[axis]
    b.require(d.compare("le", count, extent), f"an update of {count} for a cache of {extent}")
    if mode not in ("linear", "circular") or (write_indices is not None and write_indices.rank != 1):
        b.fail(f"mode {mode!r} is unknown, or write_indices are not of rank 1")
    if write_indices is not None:
        b.require_equal(write_indices.shape[0], past.shape[0], "write_indices")
    # In a circle any position will do to begin at; in a line all of the update must fit.
    places = extent if mode == "circular" else extent - count + 1

    def element(*i: Dim) -> Expr:
        start = e.lit(0, I64) if write_indices is None else natural_index(b, write_indices[(i[0],)], places)
        at = e.dimval(i[axis]) - start
        if mode == "circular":
            at = e.where(at < 0, at + e.dimval(extent), at)
        written = (at >= 0) & (at < e.dimval(count))
        return e.guard(written, update[(*i[:axis], at, *i[axis + 1 :])], past[i])

    return b.compute(past.shape, element, past.dtype)
