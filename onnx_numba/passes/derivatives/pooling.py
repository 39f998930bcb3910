"""Derivatives of pools, and of the normalisation that is one over channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_numba.ir.types import I64
from onnx_numba.ops.common import wide
from onnx_numba.passes.derivatives.shape import scattered
from onnx_numba.passes.derivatives.table import Call, composed, rule
from onnx_numba.passes.derivatives.terms import Term
from onnx_numba.passes.derivatives.windows import Windows, covered, spatial, windows_over


def _window_sums(c: Call, x: Term) -> tuple[Term, Windows]:
    """The sums over a pool's windows, with zeros around the image: a convolution of every channel with ones."""
    ones = c.w("Expand", x.number(1), [1, 1, *c.attribute("kernel_shape")])
    view = windows_over(c, x, ones, c.ys[0])
    planes = covered(view, x.reshaped(c.w("Concat", np.array([-1, 1]), spatial(x), axis=0)))
    sums = c.w("Conv", planes, ones, strides=view.strides, dilations=view.dilations)
    return sums.reshaped(c.ys[0].shape), view


@composed("AveragePool")
def _average_pool(c: Call) -> Sequence[Term | None]:
    """The sum over the number of elements in the window."""
    x, kernel = c.xs[0], c.attribute("kernel_shape")
    sums, view = _window_sums(c, x)
    extents = spatial(x)
    if c.attribute("count_include_pad", 0):
        same = str(c.attribute("auto_pad")).startswith("SAME")
        pads = c.w.constant(np.array(list(c.attribute("pads") or [0] * len(kernel))[-len(kernel) :], np.int64))
        extents = view.padded if same else view.begin + extents + pads
        view = replace(view, begin=view.begin - view.begin)
    plane = c.w("Expand", x.number(1), c.w("Concat", np.array([1, 1]), extents, axis=0))
    ones = c.w("Expand", x.number(1), [1, 1, *kernel])
    return [sums / c.w("Conv", covered(view, plane), ones, strides=view.strides, dilations=view.dilations)]


def _powers(c: Call, x: Term) -> Term:
    return c.w("Pow", c.w("Abs", x), x.number(c.attribute("p", 2)))


def _root(c: Call, sums: Term) -> Term:
    """The root of sums of powers; it has the derivative 0 at 0, where it has none."""
    none = sums.equals(0)
    return c.w("Pow", c.w("Where", none, sums.number(1), sums), sums.number(1 / c.attribute("p", 2))).at(c.w("Not", none))


@composed("LpPool")
def _lp_pool(c: Call) -> Sequence[Term | None]:
    return [_root(c, _window_sums(c, _powers(c, c.xs[0]))[0])]


@composed("GlobalLpPool")
def _global_lp_pool(c: Call) -> Sequence[Term | None]:
    return [_root(c, c.w("ReduceSum", _powers(c, c.xs[0]), range(2, c.xs[0].rank)))]


@composed("LRN")
def _local_response_normalization(c: Call) -> Sequence[Term | None]:
    """Channels are an axis of an image of their own, over which the mean of squares slides."""
    x, size = c.xs[0], c.attribute("size")
    image = (x * x).reshaped(c.w("Concat", c.w("Shape", x, end=1), np.array([1]), c.w("Shape", x, start=1, end=2), np.array([-1]), axis=0))
    before = (size - 1) // 2
    means = c.w("AveragePool", image, kernel_shape=[size, 1], pads=[before, 0, size - 1 - before, 0], count_include_pad=1)
    scale = means.reshaped(x.shape) * c.attribute("alpha") + c.attribute("bias")
    return [x / c.w("Pow", scale, x.number(c.attribute("beta")))]


@rule("MaxPool")
def _max_pool(c: Call) -> Sequence[Term | None]:
    """The adjoint goes to the elements that were taken."""
    names = ("strides", "pads", "dilations", "auto_pad", "kernel_shape", "ceil_mode")
    places = c.w.add("MaxPool", [c.xs[0]], 2, **{name: c.attribute(name) for name in names})[1]
    return [scattered(c.gs[0], places, c.xs[0])]


@composed("MaxRoiPool")
def _max_roi_pool(c: Call) -> Sequence[Term | None]:
    """The greatest elements along one axis, then along the other; 0 for bins without any."""
    w, x, kind = c.w, c.xs[0], wide(c.xs[0].dtype).onnx
    regions = w("Cast", c.xs[1], to=kind)
    image = w("Gather", w("Cast", x, to=kind), w("Cast", w("Gather", regions, np.array(0), axis=1), to=I64.onnx))
    rows, columns = (_bins(c, regions, axis, bins) for axis, bins in enumerate(c.attribute("pooled_shape")))
    least = image.number(-math.inf)
    values = w("Where", w("Unsqueeze", rows, [1, 4]), w("Unsqueeze", image, [2]), least)
    values = w("Unsqueeze", w("ReduceMax", values, [3], keepdims=0), [3])
    values = w("ReduceMax", w("Where", w("Unsqueeze", columns, [1, 2]), values, least), [4], keepdims=0)
    some = [w("ReduceMax", w("Cast", part, to=I64.onnx), [2], keepdims=0) for part in (rows, columns)]
    return [values.at(w("Unsqueeze", some[0], [1, 3]) * w("Unsqueeze", some[1], [1, 2]) > 0).cast_like(x)]


def _bins(c: Call, regions: Term, axis: int, bins: int) -> Term:
    """Which elements along an axis the bins of regions have: ``[region, bin, element]``; corners are given with the last axis first."""
    w = c.w
    corners = (w("Gather", regions, [k - axis], axis=1) * c.attribute("spatial_scale") for k in (2, 4))
    low, high = (w("Sign", corner) * w("Floor", w("Abs", corner) + 0.5) for corner in corners)
    size = w("Max", high - low + 1, low.number(1)) / bins
    numbers = w.constant(np.arange(bins)).cast_like(regions)
    first, last = (w("Unsqueeze", place + low, [2]) for place in (w("Floor", numbers * size), w("Ceil", (numbers + 1) * size)))
    places = w("Range", np.array(0), w("Gather", c.xs[0].shape, np.array(2 + axis)), np.array(1)).cast_like(regions)
    return w("And", w("GreaterOrEqual", places, first), w("Less", places, last))


@composed("GlobalAveragePool")
def _global_average_pool(c: Call) -> Sequence[Term | None]:
    return [c.w("ReduceMean", c.xs[0], range(2, c.xs[0].rank))]


@composed("GlobalMaxPool")
def _global_max_pool(c: Call) -> Sequence[Term | None]:
    return [c.w("ReduceMax", c.xs[0], range(2, c.xs[0].rank))]
