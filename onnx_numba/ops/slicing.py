"""Operators that cut tensors into pieces, put pieces together and repeat them."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import (
    by_axis,
    checked_index,
    elements,
    greater,
    scalar,
    settle,
    smaller,
    strings_too,
    wrap_axes,
    wrap_axis,
    wrapped,
)  # fmt: skip

Extent = Dim | int
_END = 2**31 - 1
"""From here on a bound of a slice means the end: exporters write the greatest int32 or int64."""


@op("Concat", since=1, reviewed=1)
@strings_too
def concat_1(b: Builder, *xs: Tensor, axis: int | None = None) -> Tensor:
    """Side by side along an axis, the second by default."""
    return concat(b, *xs, axis=1 if axis is None else axis)


@op("Concat", since=4, reviewed=13)
@strings_too
def concat(b: Builder, *xs: Tensor, axis: int) -> Tensor:
    """Side by side along an axis."""
    if len({x.rank for x in xs}) > 1:
        b.fail(f"inputs of ranks {[x.rank for x in xs]} cannot be concatenated")
    return b.concat(xs, wrap_axis(b, axis, xs[0].rank))


@op("Split", since=1, reviewed=1)
@strings_too
def split_1(
    b: Builder, x: Tensor, sizes: Tensor | None = None, *, axis: int | None = None, split: Sequence[int] | None = None
) -> tuple[Tensor, ...]:
    """In pieces of the sizes that an input or an attribute gives, or of equal ones."""
    return split_13(b, x, sizes, axis=axis or 0) if split is None else split_2(b, x, axis=axis or 0, split=split)


@op("Split", since=2, reviewed=11)
@strings_too
def split_2(b: Builder, x: Tensor, *, axis: int, split: Sequence[int] | None = None) -> tuple[Tensor, ...]:
    """In pieces of the sizes that an attribute gives, or of equal ones."""
    axis = wrap_axis(b, axis, x.rank)
    return _pieces(b, x, axis, _equal(b, x, axis) if split is None else list(split))


@op("Split", since=13, reviewed=13)
@strings_too
def split_13(b: Builder, x: Tensor, split: Tensor | None = None, *, axis: int) -> tuple[Tensor, ...]:
    """In pieces of the sizes that an input gives, or of equal ones."""
    axis = wrap_axis(b, axis, x.rank)
    return _pieces(b, x, axis, _equal(b, x, axis) if split is None else settle(b, elements(b, split, "split")))


@op("Split", since=18)
@strings_too
def split(b: Builder, x: Tensor, split: Tensor | None = None, *, axis: int, num_outputs: int | None = None) -> tuple[Tensor, ...]:
    """In pieces of given sizes, or in a number of equal ones of which the last may be smaller."""
    if split is not None:
        return split_13(b, x, split, axis=axis)
    axis = wrap_axis(b, axis, x.rank)
    count = len(b.wanted) if num_outputs is None else num_outputs
    if count < 1 or count < len(b.wanted):
        b.fail(f"num_outputs is {count} for {len(b.wanted)} outputs")
    extent = x.shape[axis]
    size = d.ceildiv(extent, count)
    # Where pieces are rounded up far, the last ones have nothing left: 5 in 4 is 2, 2, 1, 0. Each start is said without the sizes
    # before it, whose sums would take time quadratic in the number of pieces.
    return tuple(_window(b, x, axis, d.dmin(k * size, extent), d.dmax(d.dmin(size, extent - k * size), 0)) for k in range(count))


def _equal(b: Builder, x: Tensor, axis: int) -> list[Extent]:
    count = len(b.wanted)
    size = d.floordiv(x.shape[axis], count)
    b.require_equal(size * count, x.shape[axis], f"{count} equal pieces of dim {axis}")
    return [size] * count


def _pieces(b: Builder, x: Tensor, axis: int, sizes: Sequence[Extent]) -> tuple[Tensor, ...]:
    if len(sizes) < len(b.wanted):
        b.fail(f"{len(sizes)} sizes are given for {len(b.wanted)} outputs")
    for k, size in enumerate(sizes):
        if not d.at_least_zero(size):
            b.require(d.compare("le", 0, size), f"size {k} of the pieces is below 0")
    b.require_equal(d.total(sizes), x.shape[axis], f"sum of the pieces of dim {axis}")
    pieces = []
    start: Extent = 0
    for size in sizes:
        pieces.append(_window(b, x, axis, start, size))
        start = b.short(start + size)
    return tuple(pieces)


def _window(b: Builder, x: Tensor, axis: int, start: Extent, size: Extent) -> Tensor:
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    return b.compute(shape, lambda *i: x[(*i[:axis], i[axis] + start, *i[axis + 1 :])], x.dtype)


@op("Slice", since=1, reviewed=1)
@strings_too
def slice_1(b: Builder, x: Tensor, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None) -> Tensor:
    """A window that attributes give."""
    if not len(starts) == len(ends) == len(starts if axes is None else axes):
        b.fail(f"{len(starts)} starts and {len(ends)} ends for axes {axes}")
    zero, one = e.lit(0, I64), e.lit(1, I64)
    first, last = [zero] * x.rank, [e.lit(_END, I64)] * x.rank
    for axis, start, end in zip(wrap_axes(b, range(len(starts)) if axes is None else axes, x.rank), starts, ends, strict=True):
        first[axis], last[axis] = e.lit(start, I64), e.lit(end, I64)
    return _slice(b, x, first, last, [one] * x.rank)


@op("Slice", since=10, reviewed=13)
@strings_too
def slice_(b: Builder, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    """Every ``steps``-th element from ``starts`` to before ``ends``."""
    rank = x.rank
    b.require_equal(ends.size, starts.size, "number of ends")
    b.require_equal(starts.size if steps is None else steps.size, starts.size, "number of steps")
    zero, one, end = e.lit(0, I64), e.lit(1, I64), e.lit(_END, I64)
    first = by_axis(b, axes, elements(b, starts, "starts"), rank, [zero] * rank)
    last = by_axis(b, axes, elements(b, ends, "ends"), rank, [end] * rank)
    step = [one] * rank if steps is None else by_axis(b, axes, elements(b, steps, "steps"), rank, [one] * rank)
    return _slice(b, x, first, last, step)


def _slice(b: Builder, x: Tensor, starts: Sequence[Expr], ends: Sequence[Expr], steps: Sequence[Expr]) -> Tensor:
    values: list[Expr] = []
    for start, end, step, extent in zip(starts, ends, steps, x.shape, strict=True):
        values += _range(start, end, step, extent)
    settled = settle(b, values, signed=[k for k in range(len(values)) if k % 3 != 1])
    first, size, stride = settled[0::3], settled[1::3], settled[2::3]
    for distance in stride:
        b.require(d.compare("ne", distance, 0), "a step of 0")
    if tuple(size) == x.shape and all(s == 1 for s in stride):
        return x
    return b.compute(tuple(size), lambda *i: x[tuple(f + k * s for f, k, s in zip(first, i, stride, strict=True))], x.dtype)


def _range(start: Expr, end: Expr, step: Expr, extent: Extent) -> tuple[Expr, Expr, Expr]:
    """Where a slice begins, how long it is, and its step."""
    n, zero = e.dimval(extent), e.lit(0, I64)
    if not (isinstance(step, e.Lit) and abs(step.value) < _END):
        # A greater step would make sums and products wrap, and leads beyond the end all the same.
        step = smaller(greater(step, -(n + 1)), n + 1)
    forward = step > 0
    first = e.where(forward, _clamp(start, n, zero, n), _clamp(start, n, zero, n - 1))
    last = e.where(forward, _clamp(end, n, zero, n), _clamp(end, n, zero - 1, n - 1))
    if isinstance(step, e.Lit) and step.value == 1:
        # By a known start itself, so that ``x[1:]`` is as long as ``x[:-1]``: max(n - 1, 0), not n - min(1, n).
        begin = start if isinstance(start, e.Lit) and 0 <= start.value < _END else first
        return first, greater(last - begin, zero), step
    up, down = (last - first + step - 1) / step, (last - first + step + 1) / step
    return first, greater(e.where(forward, up, down), zero), step


def _clamp(value: Expr, n: Expr, low: Expr, high: Expr) -> Expr:
    if isinstance(value, e.Lit) and value.value >= _END:
        return high
    if isinstance(value, e.Lit) and value.value <= -_END:
        return smaller(low, high)
    extent = e.as_dim(n)
    assert extent is not None
    if high == n:
        return greater(smaller(wrapped(value, extent), high), low)
    # The upper end wins: stepping back through nothing begins before its first element.
    return smaller(greater(wrapped(value, extent), low), high)


@op("Tile", since=1, reviewed=1)
@strings_too
def tile_1(b: Builder, x: Tensor, tiles: Tensor, axis: Tensor) -> Tensor:
    """Repeated along one axis."""
    which = wrap_axis(b, b.ints(axis, "axis")[0], x.rank)
    (count,) = settle(b, [e.cast(scalar(b, tiles), I64)])
    return _tile(b, x, [count if k == which else 1 for k in range(x.rank)])


@op("Tile", since=6, reviewed=13)
@strings_too
def tile(b: Builder, x: Tensor, repeats: Tensor) -> Tensor:
    """Repeated along every axis."""
    counts = settle(b, elements(b, repeats, "repeats"))
    if len(counts) != x.rank:
        b.fail(f"{len(counts)} repeats for an input of rank {x.rank}")
    return _tile(b, x, counts)


def _tile(b: Builder, x: Tensor, counts: Sequence[Extent]) -> Tensor:
    # Copies get an axis of their own, so that no index is a remainder.
    shape: list[Extent] = []
    own: list[int] = []
    for count, extent in zip(counts, x.shape, strict=True):
        if count != 1:
            shape.append(count)
        own.append(len(shape))
        shape.append(extent)
    wide = b.compute(tuple(shape), lambda *i: x[tuple(i[k] for k in own)], x.dtype)
    return b.reshape(wide, [count * extent for count, extent in zip(counts, x.shape, strict=True)])


@op("DepthToSpace", since=1, reviewed=1)
@strings_too
def depth_to_space_1(b: Builder, x: Tensor, *, blocksize: int) -> Tensor:
    """Channels to blocks of pixels."""
    return depth_to_space(b, x, blocksize=blocksize, mode="DCR")


@op("DepthToSpace", since=11, reviewed=28)
@strings_too
def depth_to_space(b: Builder, x: Tensor, *, blocksize: int, mode: str) -> Tensor:
    """Channels to blocks of pixels; the block's axes are before the depth's (DCR) or after (CRD)."""
    n, c, h, w = _image(b, x, blocksize, mode)
    depth = d.floordiv(c, blocksize * blocksize)
    b.require_equal(depth * (blocksize * blocksize), c, "channels of whole blocks")
    if mode == "DCR":
        apart = b.transpose(b.reshape(x, (n, blocksize, blocksize, depth, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        apart = b.transpose(b.reshape(x, (n, depth, blocksize, blocksize, h, w)), (0, 1, 4, 2, 5, 3))
    return b.reshape(apart, (n, depth, h * blocksize, w * blocksize))


@op("SpaceToDepth", since=1, reviewed=28)
@strings_too
def space_to_depth(b: Builder, x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Blocks of pixels to channels."""
    n, c, h, w = _image(b, x, blocksize, mode)
    rows, columns = d.floordiv(h, blocksize), d.floordiv(w, blocksize)
    b.require_equal(rows * blocksize, h, "height of whole blocks")
    b.require_equal(columns * blocksize, w, "width of whole blocks")
    apart = b.reshape(x, (n, c, rows, blocksize, columns, blocksize))
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return b.reshape(b.transpose(apart, order), (n, c * (blocksize * blocksize), rows, columns))


def _image(b: Builder, x: Tensor, blocksize: int, mode: str) -> tuple[Extent, Extent, Extent, Extent]:
    if blocksize < 1 or mode not in ("DCR", "CRD"):
        b.fail(f"blocksize {blocksize} with mode {mode!r} is not allowed")
    if x.rank != 4:
        b.fail(f"an input of rank 4 is expected, one of rank {x.rank} came")
    return x.shape  # type: ignore[return-value]


@op("ReverseSequence", since=10, reviewed=28)
@strings_too
def reverse_sequence(b: Builder, x: Tensor, lengths: Tensor, *, batch_axis: int, time_axis: int) -> Tensor:
    """The first elements of every sequence in reverse."""
    if x.rank < 2 or {batch_axis, time_axis} != {0, 1} or lengths.rank != 1:
        b.fail(f"axes {batch_axis} and {time_axis} must be 0 and 1, the ranks {x.rank} and {lengths.rank} at least 2 and 1")
    b.require_equal(lengths.shape[0], x.shape[batch_axis], "lengths")

    def element(*i: Dim) -> Expr:
        time, extent = e.dimval(i[time_axis]), x.shape[time_axis]
        length = e.cast(lengths[(i[batch_axis],)], I64)
        # Beyond the axis for a length that is negative or greater than it.
        source = e.where(length < 0, e.dimval(extent), e.where(time < length, length - 1 - time, time))
        return x[tuple(checked_index(b, source, extent) if k == time_axis else at for k, at in enumerate(i))]

    return b.compute(x.shape, element, x.dtype)
