"""Derivatives of operators that are linear in what they read: interpolation along axes, blocks added up, grids of points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_numba.ir.types import F64, I64, TensorType
from onnx_numba.ops.gradient import DOMAIN
from onnx_numba.passes.derivatives.table import Call, composed, rule
from onnx_numba.passes.derivatives.terms import Term


@composed("Resize", "Upsample")
def _resize(c: Call) -> Sequence[Term | None]:
    """Along every axis a product with the matrix that is the operator done to the identity.

    What lies outside the image is 0 here: its value is the same whatever the operator reads.
    """
    w, y, rank = c.w, c.xs[0], c.xs[0].rank
    for place, axis in enumerate(c.attribute("axes") or range(rank)):
        axis %= rank
        if not _stays(c, axis, place):
            order = [k for k in range(rank) if k != axis] + [axis]
            rows = w("MatMul", w("Transpose", y, perm=order), _matrix(c, place))
            y = w("Transpose", rows, perm=[int(k) for k in np.argsort(order)])
    return [y]


def _since(c: Call) -> int:
    """The version of Resize that the node is; Upsample is older than all of them."""
    return c.node.since_version if c.node.op == "Resize" else 0


def _stays(c: Call, axis: int, place: int) -> bool:
    """Whether an axis is known to stay as it is: a scale a little above 1 moves elements even where the extent stays."""
    if c.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        return False
    if c.x(3) is not None:
        kinds = [c.w.known.type_of(term.name) for term in (c.xs[0], c.ys[0])]
        before, after = (kind.shape[axis] if isinstance(kind, TensorType) and kind.shape else None for kind in kinds)
        return before is not None and before == after and c.attribute("keep_aspect_ratio_policy", "stretch") == "stretch"
    scales = _scales(c)
    known = c.w.known.constant(scales.name)
    return known is not None and scales.name not in c.active and bool(known[place] == 1)


def _scales(c: Call) -> Term:
    """The scales, which attributes state in the first versions."""
    given = c.x(2 if _since(c) >= 11 else 1)
    if given is not None:
        return given
    stated = c.attribute("scales") or [*[1.0] * (c.xs[0].rank - 2), c.attribute("height_scale"), c.attribute("width_scale")]
    return c.w.constant(np.array(stated, np.float32))


def _matrix(c: Call, place: int) -> Term:
    """The matrix of the axis at a place among those that are resized.

    Its operator finds scales as the node itself does: one that keeps an image's proportions is that of another axis, and no float32.
    """
    names = (
        "mode", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "nearest_mode", "antialias", "axes",
        "keep_aspect_ratio_policy",
    )  # fmt: skip
    attributes = {name: c.attribute(name) for name in names}
    inputs: Sequence[Term | None] = c.xs
    if _since(c) < 11:
        inputs = c.xs[0], None, _scales(c)
        attributes |= {
            "mode": "nearest" if attributes["mode"] == "nearest" else "linear", "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "simple" if _since(c) else "floor",
        }  # fmt: skip
    return c.w.add("ResizeMatrix", inputs, domain=DOMAIN, place=place, **attributes)[0]


@composed("ResizeMatrix")
def _resize_matrix(c: Call) -> Sequence[Term | None]:
    """The weights that columns have of their neighbours, where these lie; float64, as what moves them is.

    Which neighbour is the nearest does not change with a small change of the scale.
    """
    w, place = c.w, c.attribute("place")
    if c.attribute("mode") == "nearest":
        return [c.ys[0]]
    rows, columns = (_numbers(w("Gather", c.ys[0].shape, np.array(k))) for k in range(2))
    before, after = (w("Cast", numbers.size, to=F64.onnx) for numbers in (rows, columns))
    scale = _scale(c, before, place)
    at = _coordinates(c, columns, before, after, scale, place)
    base = w("Ceil", at) - 1
    reach = 2 if c.attribute("mode") == "cubic" else 1
    shrink = w("Min", scale, scale.number(1)) if c.attribute("antialias", 0) else scale.number(1)
    first = w("Floor", -reach / shrink) + 1
    taps = w("Unsqueeze", _numbers(w("Cast", 2 - first * 2, to=I64.onnx)) + first, [1])
    sources, last = base + taps, before - 1
    weights = _kernel(c, (taps - (at - base)) * shrink)
    if c.attribute("exclude_outside"):
        weights = weights.at(w("And", sources > -1, sources < before))
    if c.attribute("exclude_outside") or c.attribute("antialias", 0):
        sums = w("ReduceSum", weights, [0])
        weights = weights / w("Where", sums.equals(0), sums.number(1), sums)
    if c.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        weights = weights.at(w("Not", w("Or", at < 0, at > last)))
    here = w("Unsqueeze", rows, [1, 2]).equals(w("Max", w("Min", sources, last), scale.number(0)))
    matrix = w("ReduceSum", w("Where", here, weights, weights.number(0)), [1], keepdims=0)
    return [matrix.cast_like(c.ys[0])]


def _numbers(count: Term) -> Term:
    """0, 1, 2 and so on, float64."""
    w = count.writer
    return w("Cast", w("Range", np.array(0), count, np.array(1)), to=F64.onnx)


def _scale(c: Call, before: Term, place: int) -> Term:
    """The scale of a matrix's axis; one that follows from sizes is a constant."""
    w, number = c.w, np.array(place)
    if c.x(3) is None:
        return w("Cast", w("Gather", c.xs[2], number), to=F64.onnx)
    sizes = w("Floor", w("Cast", c.xs[3], to=F64.onnx))
    policy = c.attribute("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return w("Gather", sizes, number) / before
    axes = [axis % c.xs[0].rank for axis in c.attribute("axes") or range(c.xs[0].rank)]
    ratios = sizes / w("Cast", w("Gather", c.xs[0].shape, axes), to=F64.onnx)
    return w("ReduceMin" if policy == "not_larger" else "ReduceMax", ratios, keepdims=0)


def _coordinates(c: Call, places: Term, before: Term, after: Term, scale: Term, place: int) -> Term:
    """Where in the image, in elements of it, those at ``places`` in the result are: see `onnx_numba.ops.resize`."""
    w, mode = c.w, c.attribute("coordinate_transformation_mode")
    width, centred = scale * before, (places + 0.5) / scale - 0.5
    single = width.equals(1)
    if mode == "asymmetric":
        return places / scale
    if mode == "tf_half_pixel_for_nn":
        return (places + 0.5) / scale
    if mode == "pytorch_half_pixel":
        return w("Where", single, scale.number(-0.5), centred)
    if mode == "half_pixel_symmetric":
        return before / 2 * (1 - after / width) + centred
    if mode == "half_pixel":
        return centred
    ratio = w("Where", single, scale.number(1), width - 1)
    if mode == "align_corners":
        return w("Where", single, scale.number(0), places * (before - 1) / ratio)
    roi = w("Cast", c.xs[1], to=F64.onnx).reshaped([2, -1])
    first, last = (w("GatherND", roi, np.array([half, place])) for half in range(2))
    span = (last - first) * (before - 1)
    return w("Where", single, span / 2, places * span / ratio) + first * (before - 1)


def _kernel(c: Call, distance: Term) -> Term:
    """The weight of an element at a distance. Where ``linear`` has a corner, the slope is that to the left."""
    w, size = c.w, c.w("Where", distance < 0, -distance, distance)
    if c.attribute("mode") == "linear":
        return (1 - size).at(w("And", w("GreaterOrEqual", distance, distance.number(-1)), distance < 1))
    a = float(np.float32(c.attribute("cubic_coeff_a")))
    near = ((a + 2) * size - (a + 3)) * size * size + 1
    far = ((a * size - 5 * a) * size + 8 * a) * size - 4 * a
    return w("Where", size < 1, near, far.at(size < 2))


@composed("AffineGrid")
def _affine_grid(c: Call) -> Sequence[Term | None]:
    """The points that the identity leaves where they are, with a last coordinate of 1, times the map."""
    w, theta = c.w, c.xs[0]
    identity = w("EyeLike", w("Expand", theta.number(0), w("Shape", theta, start=1)))
    points = c.again(w("Expand", identity, theta.shape), c.xs[1])[0]
    count = w("ReduceProd", w("Shape", points, start=1, end=-1))
    rows = points.reshaped(w("Concat", w("Shape", points, end=1), count, w("Shape", points, start=-1), axis=0))
    rows = w("Pad", rows, [0, 0, 0, 0, 0, 1], rows.number(1))
    return [w("MatMul", rows, w("Transpose", theta, perm=[0, 2, 1])).reshaped(c.ys[0].shape)]


@rule("Col2Im")
def _col2im(c: Call) -> Sequence[Term | None]:
    """The blocks of the adjoint: a convolution of every channel with one filter for each place in a block."""
    w, x, g, block = c.w, c.xs[0], c.gs[0], c.xs[2]
    images = g.reshaped(w("Concat", np.array([-1, 1]), w("Shape", g, start=2), axis=0))
    size = w("ReduceProd", block)
    eye = w("EyeLike", w("Expand", g.number(0), w("Concat", size, size, axis=0)))
    filters = eye.reshaped(w("Concat", size, np.array([1]), block, axis=0))
    names = ("dilations", "pads", "strides")
    return [w("Conv", images, filters, **{name: c.attribute(name) for name in names}).reshaped(x.shape)]
