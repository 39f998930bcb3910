"""Operators that read images at computed coordinates: GridSample and AffineGrid."""

from __future__ import annotations

from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import DTYPES, F64, I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS, by_parts
from onnx_numba.ops.points import Points
from onnx_numba.ops.registry import op
from onnx_numba.ops.resize import cubic_weight
from onnx_numba.ops.settle import elements, is_strings, settle, strings_too

Extent = Dim | int
Index = tuple[Dim, ...]
_CUBIC_A = -0.75
_TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
"""Elements along an axis that a point is made of."""
_FAR = 4.0
"""Distance from an image beyond which no point is made of any of its elements."""
_WRITTEN_OUT = 8
"""Elements of a point up to which their sum is an expression, which takes a loop and its start less."""


@op("GridSample", since=16, reviewed=22)
@op("GridSample", since=1, domain=MS)
def grid_sample(
    b: Builder, x: Tensor | Object, grid: Tensor, *, align_corners: int = 0, mode: str = "bilinear", padding_mode: str = "zeros"
) -> Any:
    """An image at the coordinates of a grid, which run from -1 to 1."""
    if is_strings(x) and mode != "nearest":
        b.fail("strings can be sampled by mode nearest only")
    return _sampled(b, x, grid, align_corners, mode, padding_mode)


@strings_too
def _sampled(b: Builder, x: Tensor, grid: Tensor, align_corners: int, mode: str, padding_mode: str) -> Tensor:
    rank = x.rank - 2
    if rank < 1 or grid.rank != x.rank:
        b.fail(f"an image of rank {x.rank} and a grid of rank {grid.rank}")
    for k in range(rank if padding_mode != "zeros" else 0):
        b.require_elements(x.shape[2 + k], d.product(grid.shape[1:-1]), f"axis {2 + k} of the image")
    b.require_equal(grid.shape[-1], rank, "coordinates of a point")
    b.require_equal(grid.shape[0], x.shape[0], "batch of the grid")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    if mode not in ("nearest", "linear", "cubic") or padding_mode not in ("zeros", "border", "reflection"):
        b.fail(f"mode {mode!r} with padding_mode {padding_mode!r} is unknown")
    shape = (*x.shape[:2], *grid.shape[1:-1])
    axes = [_Border(x.shape[2 + k], bool(align_corners), padding_mode) for k in range(rank)]
    if x.dtype.kind == "c":
        return by_parts(b, x, lambda v, _: _sampled(b, v, grid, align_corners, mode, padding_mode))
    kind = DTYPES[x.dtype.compute] if x.dtype.is_float else F64

    points = (x.shape[0], *grid.shape[1:-1])

    def coordinate(at: Index, k: int) -> Expr:
        # The last coordinate of a point is that of the first spatial axis.
        value = e.cast(grid[(*at, rank - 1 - k)], kind)
        extent = axes[k].length(kind)
        place = (value + 1.0) / 2.0 * (extent - 1.0) if align_corners else ((value + 1.0) * extent - 1.0) / 2.0
        place = axes[k].numbered(place)
        if mode == "cubic" and padding_mode == "border":
            return place  # the weights are those of where the point is; only the elements that they go with are clamped
        return axes[k].enter(e.unary("rint", place) if mode == "nearest" else place)

    def tap(k: int, r: Dim, at: Index) -> tuple[Expr, Expr]:
        """An element on axis k that a point is made of, and its weight."""
        place = coordinate(at, k)
        base = e.unary("floor", place)
        step = e.dimval(r) - 1 if mode == "cubic" else e.dimval(r)
        distance = e.unary("abs", e.cast(step, kind) - (place - base))
        return axes[k].index(e.cast(base, I64) + step), cubic_weight(distance, _CUBIC_A) if mode == "cubic" else 1.0 - distance

    made = Points(b, x, points, _TAPS[mode], tap, None if mode == "nearest" else kind, padding_mode == "zeros")
    if len(made.sides) > _WRITTEN_OUT:
        counts = (_TAPS[mode],) * rank
        return b.cast(b.reduction("sum", shape, counts, lambda i, r: made.term(i[:2], (i[0], *i[2:]), r), kind), x.dtype)
    return b.cast(b.compute(shape, lambda *i: made.total(i[:2], (i[0], *i[2:])), made.kind or x.dtype), x.dtype)


class _Border:
    """What lies beyond the ends of one axis."""

    def __init__(self, extent: Extent, align_corners: bool, mode: str) -> None:
        self.extent = extent
        self.margin = 0.0 if align_corners else 0.5
        self.mode = mode

    def length(self, kind: e.DType) -> Expr:
        """The extent as a float."""
        return e.cast(e.dimval(self.extent), kind)

    def numbered(self, place: Expr) -> Expr:
        """A coordinate as a finite number, which has weights: NaN is the first end, as in PyTorch, and so is what cannot be reflected."""
        lost = e.unary("isnan", place)
        if self.mode == "reflection":
            lost = lost | e.unary("isinf", place)
        place = e.where(lost, -self.margin, place)
        # So far out all that a point is made of lies outside.
        return place if self.mode == "reflection" else e.binary("max", e.binary("min", place, self.length(place.dtype) + _FAR), -_FAR)

    def enter(self, place: Expr) -> Expr:
        """A coordinate moved into the image, unless zeros surround it."""
        top = self.length(place.dtype) - 1.0
        if self.mode == "border":
            outside = (place < -self.margin) | (place > top + self.margin)
            return e.where(outside, e.binary("max", e.binary("min", place, top), 0.0), place)
        return self.reflect(place) if self.mode == "reflection" else place

    def reflect(self, place: Expr) -> Expr:
        """A coordinate reflected at the ends until it is between them."""
        low = -self.margin
        span = self.length(place.dtype) - 1.0 + 2.0 * self.margin
        full = e.where(span > 0.0, span, e.lit(1.0, place.dtype)) * 2.0
        rest = e.binary("fmod", e.unary("abs", place - low), full)
        turned = low + e.where(rest > span, full - rest, rest)
        inside = (place >= low) & (place <= low + span)
        return e.where(inside, place, e.where(span > 0.0, turned, e.lit(low, place.dtype)))

    def index(self, place: Expr) -> Expr:
        """A pixel index that exists, or -1 for a pixel that does not count."""
        extent = e.dimval(self.extent)
        if self.mode == "zeros":
            return e.where((place >= 0) & (place < extent), place, e.lit(-1, I64))
        if self.mode == "reflection":
            place = e.cast(self.reflect(e.cast(place, F64)), I64)
        return e.binary("max", e.binary("min", place, extent - 1), 0)


@op("AffineGrid", since=20)
def affine_grid(b: Builder, theta: Tensor, size: Tensor, *, align_corners: int) -> Tensor:
    """The points of an image of a given size, moved by affine maps."""
    wanted = settle(b, elements(b, size, "size"))
    if len(wanted) not in (4, 5) or theta.rank != 3:
        b.fail(f"a size of 4 or 5 numbers is expected, {len(wanted)} came, with theta of rank {theta.rank}")
    batch, _, *spatial = wanted
    rank = len(spatial)
    b.require_equal(theta.shape[1], rank, "rows of theta")
    b.require_equal(theta.shape[2], rank + 1, "columns of theta")
    b.require_equal(theta.shape[0], batch, "batch of theta")
    kind = DTYPES[theta.dtype.compute]

    def base(i: Dim, extent: Extent) -> Expr:
        place, length = e.cast(e.dimval(i), F64), e.cast(e.dimval(extent), F64)
        if align_corners:
            return e.where(length > 1.0, place * 2.0 / e.binary("max", length - 1.0, 1.0) - 1.0, e.lit(-1.0, F64))
        return (place * 2.0 + 1.0) / length - 1.0

    def element(*i: Dim) -> Expr:
        total = e.cast(theta[(i[0], i[-1], rank)], F64)
        for k in range(rank):  # the first coordinate is that of the last axis
            total = total + e.cast(theta[(i[0], i[-1], k)], F64) * base(i[rank - k], spatial[rank - 1 - k])
        return e.cast(total, kind)

    return b.compute((batch, *spatial, rank), element, theta.dtype)
