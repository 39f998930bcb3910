"""Images read at computed places, written as sums of elements times weights: GridSample, DeformConv and RoiAlign.

The places of ``count`` points are a tensor ``[image, count]`` for each spatial axis; a point lies between elements, which count as much as
it is near to them. So both the image and the places have derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import product

import numpy as np

from onnx_numba.ir.types import I64
from onnx_numba.ops.common import wide
from onnx_numba.passes.derivatives.table import Call, composed
from onnx_numba.passes.derivatives.terms import Argument, Term
from onnx_numba.passes.derivatives.windows import spatial, windows_over
from onnx_numba.record import record

Tap = tuple[Term, Term | None]
"""The number of an element along an axis, as a float, and its weight, if that is not 1."""

_CUBIC_A = -0.75


def _nearest(place: Term) -> list[Tap]:
    return [(place.writer("Round", place), None)]


def _linear(place: Term) -> list[Tap]:
    base = place.writer("Floor", place)
    return [(base, 1 - (place - base)), (base + 1, place - base)]


def _cubic(place: Term) -> list[Tap]:
    a, base = _CUBIC_A, place.writer("Floor", place)
    f = place - base

    def near(d: Term) -> Term:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Term) -> Term:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [(base - 1, far(f + 1)), (base, near(f)), (base + 1, near(1 - f)), (base + 2, far(2 - f))]


def _corners(image: Term, taps: Sequence[Sequence[Tap]], enter: Callable[[Term, int], Term] | None = None) -> Iterator[Term]:
    """For all combinations of taps along the axes the elements times their weights: ``[image, channel, count]``.

    Elements beyond the ends are 0, or those that ``enter`` names instead.
    """
    w = image.writer
    flat = image.reshaped(w("Concat", w("Shape", image, end=2), np.array([-1]), axis=0))
    for chosen in product(*taps):
        index: Term | None = None
        weight: Term | None = None
        inside: Term | None = None
        for axis, (place, share) in enumerate(chosen):
            if enter is not None:
                place = enter(place, axis)
            limited = _limited(image, place, axis)
            number = w("Cast", limited, to=I64.onnx)
            index = number if index is None else index * _extent(image, axis) + number
            weight = share if weight is None or share is None else weight * share
            here = limited.equals(place)
            inside = here if inside is None else w("And", inside, here)
        assert index is not None and inside is not None
        places = w("Expand", w("Unsqueeze", index, [1]), w("Concat", w("Shape", flat, end=2), w("Shape", index, start=1), axis=0))
        value = w("GatherElements", flat, places, axis=2)
        value = value.at(w("Unsqueeze", inside, [1])) if enter is None else value
        yield value if weight is None else value * w("Unsqueeze", weight, [1])


def _read(image: Term, taps: Sequence[Sequence[Tap]], enter: Callable[[Term, int], Term] | None = None) -> Term:
    """The sum of what `_corners` gives."""
    return reduce(Term.__add__, _corners(image, taps, enter))


def _extent(image: Term, axis: int) -> Term:
    """The extent of a spatial axis, a scalar."""
    return image.writer("Gather", image.shape, np.array(2 + axis))


def _limited(image: Term, place: Term, axis: int) -> Term:
    """A place, or the end of the axis that it lies beyond."""
    w = image.writer
    return w("Max", w("Min", place, _extent(image, axis).cast_like(place) - 1), place.number(0))


@composed("GridSample")
def _grid_sample(c: Call) -> Sequence[Term | None]:
    w, kind = c.w, wide(c.xs[0].dtype).onnx
    x, grid = (w("Cast", term, to=kind) for term in c.xs)
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(c.attribute("mode"), c.attribute("mode"))
    taps = {"nearest": _nearest, "linear": _linear, "cubic": _cubic}[mode]
    padding, aligned, rank = c.attribute("padding_mode"), bool(c.attribute("align_corners")), x.rank - 2

    def enter(place: Term, axis: int) -> Term:
        if padding == "border":
            return _limited(x, place, axis)
        return _reflected(place, _extent(x, axis).cast_like(place), 0.0 if aligned else 0.5)

    def along(axis: int) -> list[Tap]:
        value = w("Gather", grid, np.array(rank - 1 - axis), axis=-1)
        value = value.reshaped(w("Concat", w("Shape", value, end=1), np.array([-1]), axis=0))
        extent = _extent(x, axis).cast_like(value)
        place = (value + 1) * 0.5 * (extent - 1) if aligned else ((value + 1) * extent - 1) * 0.5
        # Of a cubic with borders only the elements are moved inside; the weights are those of where the point is.
        moved = padding != "zeros" and not (mode == "cubic" and padding == "border")
        return taps(enter(place, axis) if moved else place)

    read = _read(x, [along(axis) for axis in range(rank)], None if padding == "zeros" else enter)
    return [read.reshaped(c.ys[0].shape).cast_like(c.xs[0])]


def _reflected(place: Term, extent: Term, margin: float) -> Term:
    """A place mirrored at the ends until it is between them, ``margin`` beyond the middles of the outermost elements."""
    w = place.writer
    span = extent - 1 + 2 * margin
    turn = w("Where", span > 0, span, span.number(1)) * 2
    distance = w("Abs", place + margin)
    rest = distance - w("Floor", distance / turn) * turn
    turned = w("Where", w("Greater", rest, span), turn - rest, rest)
    return turned.at(span > 0) - margin


@composed("DeformConv")
def _deform_conv(c: Call) -> Sequence[Term | None]:
    """The elements that the windows read, then a product with the weights, group by group."""
    w, x, weights, y = c.w, c.xs[0], c.xs[1], c.ys[0]
    rank, group, offset_group = x.rank - 2, c.attribute("group"), c.attribute("offset_group")
    view = windows_over(c, x, weights, y)
    kernel, outputs = spatial(weights), spatial(y)

    def parted(term: Term, *extents: Argument) -> Term:
        """With an image for every group of channels that share offsets."""
        return term.reshaped(w("Concat", w("Shape", x, end=1) * offset_group, *extents, axis=0))

    def steps(count: Term, axis: int, position: int, step: int) -> Term:
        """The numbers of windows, or of elements of one, along an axis, times a step; for broadcasting."""
        numbers = w("Range", np.array(0), w("Gather", count, np.array(axis)), np.array(1)) * w.constant(np.array(step))
        return w("Unsqueeze", numbers, [k for k in range(2 * rank) if k != position])

    offsets = parted(c.xs[2], kernel, np.array([rank]), outputs)
    taps = []
    for axis in range(rank):
        start = steps(outputs, axis, rank + axis, view.strides[axis]) - w("Gather", view.begin, np.array(axis))
        start = start + steps(kernel, axis, axis, view.dilations[axis])
        place = w("Gather", offsets, np.array(axis), axis=1 + rank) + start.cast_like(x)
        taps.append(_linear(parted(place, np.array([-1]))))
    read = _read(parted(x, np.array([-1]), spatial(x)), taps)
    if c.x(4) is not None:
        read = read * parted(c.xs[4], np.array([1, -1]))
    columns = read.reshaped(w("Concat", w("Shape", x, end=1), np.array([group, -1]), w("ReduceProd", outputs), axis=0))
    rows = weights.reshaped(w("Concat", np.array([group]), w("Div", w("Shape", weights, end=1), np.array([group])), np.array([-1]), axis=0))
    result = w("MatMul", rows, columns).reshaped(y.shape)
    return [result if c.x(3) is None else result + w("Unsqueeze", c.xs[3], range(1, 1 + rank))]


@composed("RoiAlign")
def _roi_align(c: Call) -> Sequence[Term | None]:
    """The mean of some points of every bin, or the greatest of all elements that are read for them, times their weights.

    Points far from the image count as 0.
    """
    w, x = c.w, c.xs[0]
    image = w("Gather", x, c.xs[2])
    parts = [_points(c, axis, c.attribute(name)) for axis, name in enumerate(("output_height", "output_width"))]
    axes = [3, 4], [1, 2]

    def crossed(rows: Term, columns: Term) -> Term:
        """Regions, then bins and their points along one axis, then along the other."""
        return w("And", w("Unsqueeze", rows, axes[0]), w("Unsqueeze", columns, axes[1]))

    near, counted = crossed(*(part.near for part in parts)), crossed(*(part.counted for part in parts))
    flat = w("Concat", w("Shape", near, end=1), np.array([-1]), axis=0)
    places = [w("Expand", w("Unsqueeze", part.places, new), near.shape).reshaped(flat) for part, new in zip(parts, axes, strict=True)]

    def enter(place: Term, axis: int) -> Term:
        return _limited(image, place, axis)

    corners = _corners(image, [_linear(enter(place, axis)) for axis, place in enumerate(places)], enter)
    mean = c.attribute("mode") == "avg"
    values = reduce(Term.__add__, corners) if mean else w("Max", *corners)
    values = values.reshaped(w("Concat", w("Shape", image, end=2), w("Shape", near, start=1), axis=0)).at(w("Unsqueeze", near, [1]))
    counted, count = w("Unsqueeze", counted, [1]), w("Unsqueeze", parts[0].count * parts[1].count, [2, 3])
    if mean:
        return [w("ReduceSum", values.at(counted), [3, 5], keepdims=0) / w("Max", count, np.array(1)).cast_like(x)]
    greatest = w("ReduceMax", w("Where", counted, values, x.number(-math.inf)), [3, 5], keepdims=0)
    return [greatest.at(count > 0)]


@record
class _Points:
    """The points of regions along an axis.

    How many a bin has, ``[region, 1]``; where they are, and which are near the image, ``[region, bin, point]``, with as many points as
    bins of any region have; and which of them the region has, ``[region, 1, point]``.
    """

    count: Term
    places: Term
    near: Term
    counted: Term


def _points(c: Call, axis: int, bins: int) -> _Points:
    """Where a RoiAlign reads along an axis; the corners are given with the last axis first."""
    w, x, ratio = c.w, c.xs[0], c.attribute("sampling_ratio")
    half = c.node.since_version >= 16 and c.attribute("coordinate_transformation_mode") == "half_pixel"
    low, high = (w("Gather", c.xs[1], [k - axis], axis=1) * c.attribute("spatial_scale") - 0.5 * half for k in (1, 3))
    size = (high - low if half else w("Max", high - low, low.number(1))) / bins
    if ratio:
        most, count = w.constant(np.array(ratio)), w.constant(np.array([[ratio]]))
    else:
        count = w("Max", w("Cast", w("Ceil", size), to=I64.onnx), np.array(0))
        most = w("ReduceMax", w("Concat", count.reshaped([-1]), np.array([0]), axis=0), keepdims=0)
    numbers = w("Range", np.array(0), most, np.array(1))
    shares = (numbers.cast_like(x) + 0.5) / w("Max", count, np.array(1)).cast_like(x)
    steps = w.constant(np.arange(bins).reshape(-1, 1)).cast_like(x) + w("Unsqueeze", shares, [1])
    places = w("Unsqueeze", low, [2]) + w("Unsqueeze", size, [2]) * steps
    far = w("Or", places < -1, w("Greater", places, _extent(x, axis).cast_like(places)))
    return _Points(count, places, w("Not", far), w("Unsqueeze", numbers < count, [1]))
