"""Images read at computed places, written as sums of elements times weights: GridSample, DeformConv and RoiAlign.

The places of ``count`` points are a tensor ``[image, count]`` for each spatial axis; a point lies between elements, which count as much as
it is near to them. So both the image and the places have derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from onnx_numba.ir.types import I64
from onnx_numba.ops.common import wide
from onnx_numba.passes.derivatives.table import Call, composed
from onnx_numba.passes.derivatives.terms import Argument, Term
from onnx_numba.passes.derivatives.windows import spatial, windows_over

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


def _read(image: Term, taps: Sequence[Sequence[Tap]], enter: Callable[[Term, int], Term] | None = None) -> Term:
    """The sum over all combinations of taps along the axes: ``[image, channel, count]``.

    Elements beyond the ends are 0, or those that ``enter`` names instead.
    """
    w = image.writer
    flat = image.reshaped(w("Concat", w("Shape", image, end=2), np.array([-1]), axis=0))
    total: Term | None = None
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
        value = value if weight is None else value * w("Unsqueeze", weight, [1])
        total = value if total is None else total + value
    assert total is not None
    return total


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
    """The mean of as many points of every bin as the node says; points far from the image count as 0."""
    w, x, regions, ratio = c.w, c.xs[0], c.xs[1], c.attribute("sampling_ratio")
    if c.attribute("mode") != "avg" or ratio == 0:
        raise c.unsupported("mode 'max', or a sampling_ratio of 0, with which the regions say how many points there are")
    half = c.node.since_version >= 16 and c.attribute("coordinate_transformation_mode") == "half_pixel"
    bins = [c.attribute("output_height"), c.attribute("output_width")]
    image = w("Gather", x, c.xs[2])
    counts = [n * ratio for n in bins]

    def along(axis: int) -> Term:
        """The places along an axis, for every region and all points; the corners are given with the last axis first."""
        low, high = (w("Gather", regions, [k - axis], axis=1) * c.attribute("spatial_scale") - 0.5 * half for k in (1, 3))
        size = high - low if half else w("Max", high - low, low.number(1))
        shares = w.constant((np.arange(counts[axis]) + 0.5) / counts[axis]).cast_like(x)
        place = w("Unsqueeze", low + size * shares, [2 - axis])
        return w("Expand", place, [1, *counts]).reshaped([-1, counts[0] * counts[1]])

    def enter(place: Term, axis: int) -> Term:
        return _limited(image, place, axis)

    places = [along(axis) for axis in range(2)]
    read = _read(image, [_linear(enter(place, axis)) for axis, place in enumerate(places)], enter)
    for axis, place in enumerate(places):
        far = w("Or", place < -1, w("Greater", place, _extent(x, axis).cast_like(place)))
        read = read.at(w("Unsqueeze", w("Not", far), [1]))
    points = read.reshaped(w("Concat", w("Shape", read, end=2), np.array([bins[0], ratio, bins[1], ratio]), axis=0))
    return [w("ReduceMean", points, [3, 5], keepdims=0)]
