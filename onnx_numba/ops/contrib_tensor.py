"""onnxruntime's operators that move, choose or count elements (domain com.microsoft)."""

from __future__ import annotations

from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import BOOL, F32, I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS
from onnx_numba.ops.create import range_
from onnx_numba.ops.pad import pad
from onnx_numba.ops.registry import op
from onnx_numba.ops.scatter import scatter_flat
from onnx_numba.ops.settle import checked_index, elements, settle, strings_too, wrap_axis
from onnx_numba.ops.shape import unsqueeze
from onnx_numba.ops.sort import unique

Extent = Dim | int
Index = tuple[Dim, ...]


@op("ExpandDims", since=1, domain=MS)
def expand_dims(b: Builder, x: Tensor | Object, axis: Tensor) -> Any:
    """A new axis of extent 1."""
    return unsqueeze(b, x, b.reshape(axis, (1,)))


@op("Unique", since=1, domain=MS)
def unique_in_order(b: Builder, x: Tensor | Object) -> tuple[Any, Any, Any]:
    """Distinct elements in the order in which they come first, which of them each element is, and how often they occur."""
    values, _, places, counts = unique(b, x, axis=None, sorted=0)
    return values, places, counts


@op("Pad", since=1, domain=MS)
def pad_any_rank(b: Builder, x: Tensor, pads: Tensor, value: Tensor | None = None, *, mode: str = "constant") -> Tensor:
    """The standard's pad; the numbers may be a row."""
    return pad(b, x, b.reshape(pads, (pads.size,)), value, mode=mode)


@op("Range", since=1, domain=MS)
def range_by_one(b: Builder, start: Tensor, limit: Tensor, delta: Tensor | None = None) -> Tensor:
    """The standard's range, in steps of 1 if nothing else is said."""
    return range_(b, start, limit, b.full((), 1, start.dtype) if delta is None else delta)


@op("UnfoldTensor", since=1, domain=MS)
@strings_too
def unfold_tensor(b: Builder, x: Tensor, *, size: int, dim: int = -1, step: int = 1) -> Tensor:
    """All slices of ``size`` elements of an axis, ``step`` apart, each along a new last axis."""
    axis = wrap_axis(b, dim, x.rank)
    if size < 1 or step < 1:
        b.fail(f"size={size} and step={step} must be at least 1")
    count = d.floordiv(x.shape[axis] - size, step) + 1
    b.require_equal(d.compare("le", size, x.shape[axis]), 1, f"size ({size}) within the extent of axis {axis} ({x.shape[axis]})")
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :], size)
    return b.compute(shape, lambda *i: x[(*i[:axis], i[axis] * step + i[-1], *i[axis + 1 : -1])], x.dtype)


@op("NGramRepeatBlock", since=1, domain=MS)
def ngram_repeat_block(b: Builder, tokens: Tensor, scores: Tensor, *, ngram_size: int) -> Tensor:
    """Scores of the tokens that would repeat a run of ``ngram_size`` tokens are minus infinity."""
    if ngram_size < 1:
        b.fail(f"ngram_size must be at least 1, not {ngram_size}")
    batch, length = tokens.shape
    vocabulary = scores.shape[1]
    b.require_equal(scores.shape[0], batch, "rows of the scores")
    last = length + 1 - ngram_size
    runs = (batch, d.dmax(last, 0))

    def position(i: Dim, k: Dim) -> Expr:
        token = checked_index(b, tokens[(i, k + ngram_size - 1)], vocabulary)
        return e.dimval(i * vocabulary + e.as_index(token))

    def score(i: Dim, k: Dim) -> Expr:
        same = e.all_of(*(e.eq(tokens[(i, k + j)], tokens[(i, last + j)]) for j in range(ngram_size - 1)))
        return e.where(same, e.lit(float("-inf"), F32), float("inf"))

    positions = b.compute(runs, position, I64)
    return scatter_flat(b, scores, positions, b.compute(runs, score, scores.dtype), 1, "min")


@op("CropAndResize", since=1, domain=MS)
def crop_and_resize(
    b: Builder, x: Tensor, rois: Tensor, batch_indices: Tensor, crop_size: Tensor, *, mode: str = "bilinear",
    extrapolation_value: float = 0.0,
) -> Tensor:  # fmt: skip
    """Boxes cut from images and resized so that corners meet; what lies outside of an image has a value of its own."""
    if mode not in ("bilinear", "nearest"):
        b.fail(f"mode must be bilinear or nearest, not {mode!r}")
    sizes = settle(b, elements(b, crop_size, "crop_size"))
    b.require_equal(rois.shape[0], batch_indices.shape[0], "number of boxes")
    b.require_equal(rois.shape[1], 4, "numbers of a box")
    shape = (rois.shape[0], x.shape[1], *sizes)

    def coordinate(box: Dim, i: Dim, axis: int) -> Expr:
        start, end = rois[(box, axis)], rois[(box, axis + 2)]
        top = e.cast(e.dimval(x.shape[2 + axis] - 1), start.dtype)
        if sizes[axis] == 1:
            return 0.5 * (start + end) * top
        steps = e.dimval(sizes[axis] - 1)
        step = (end - start) * top / e.cast(steps, start.dtype)
        place = e.where(e.eq(e.dimval(i), steps), end * top, start * top + e.cast(e.dimval(i), start.dtype) * step)
        return e.where(e.eq(steps, 0), 0.5 * (start + end) * top, place)

    def element(box: Dim, channel: Dim, i: Dim, j: Dim) -> Expr:
        image = checked_index(b, batch_indices[(box,)], x.shape[0])
        y, z = coordinate(box, i, 0), coordinate(box, j, 1)
        inside = [(v >= 0) & (v <= e.cast(e.dimval(n - 1), v.dtype)) for v, n in zip((y, z), x.shape[2:], strict=True)]

        def pixel(row: Expr, column: Expr) -> Expr:
            return x[(image, channel, e.cast(row, I64), e.cast(column, I64))]

        value = pixel(_nearest(y), _nearest(z)) if mode == "nearest" else _bilinear(pixel, y, z)
        return e.guard(e.all_of(*inside), value, extrapolation_value)

    return b.compute(shape, element, x.dtype)


def _nearest(v: Expr) -> Expr:
    """Rounded; a half goes up."""
    whole = e.unary("floor", v)
    return e.where(v - whole >= 0.5, whole + 1.0, whole)


def _bilinear(pixel: Any, y: Expr, x: Expr) -> Expr:
    top, left = e.unary("floor", y), e.unary("floor", x)
    rows = []
    for row in (top, e.unary("ceil", y)):
        first = pixel(row, left)
        rows.append(first + (pixel(row, e.unary("ceil", x)) - first) * (x - left))
    return rows[0] + (rows[1] - rows[0]) * (y - top)


@op("IsAllFinite", since=1, domain=MS)
def is_all_finite(b: Builder, *xs: Tensor, isinf_only: int = 0, isnan_only: int = 0) -> Tensor:
    """Whether no element of any input is NaN or infinite, or only one of the two."""
    if isinf_only and isnan_only:
        b.fail("isinf_only and isnan_only exclude each other")

    def fine(v: Expr) -> Expr:
        bad = [e.unary(name, v) for name, asked in (("isnan", not isinf_only), ("isinf", not isnan_only)) if asked]
        return e.all_of(*(~v for v in bad))

    parts = [b.reduce("and", x, range(x.rank), dtype=BOOL, function=fine) for x in xs]
    return b.map(lambda *v: e.all_of(*v), *parts, dtype=BOOL)
