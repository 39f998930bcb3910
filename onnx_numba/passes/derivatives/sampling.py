"""Derivatives of operators that are linear in what they read: interpolation along axes, blocks added up, grids of points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_numba.ir.types import TensorType
from onnx_numba.ops.gradient import DOMAIN
from onnx_numba.passes.derivatives.table import Call, composed, rule
from onnx_numba.passes.derivatives.terms import Term


@rule("Resize", "Upsample")
def _resize(c: Call) -> Sequence[Term | None]:
    """Along every axis a product with the matrix that is the operator done to the identity."""
    x, g = c.xs[0], c.gs[0]
    axes = c.attribute("axes") or range(x.rank)
    for place, axis in enumerate(axes):
        axis %= x.rank
        if _stays(c, axis, place):
            continue
        order = [k for k in range(x.rank) if k != axis] + [axis]
        rows = c.w("MatMul", c.w("Transpose", g, perm=order), _matrix(c, place) if _since(c) >= 11 else _old_matrix(c, axis))
        g = c.w("Transpose", rows, perm=[int(k) for k in np.argsort(order)])
    return [g]


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
    scales = c.x(2 if _since(c) >= 11 else 1)
    known = _old_scales(c) if scales is None else c.w.known.constant(scales.name)
    return known is not None and bool(known[place] == 1)


def _old_scales(c: Call) -> list[float]:
    """The scales that attributes state."""
    return list(c.attribute("scales") or [*[1.0] * (c.xs[0].rank - 2), c.attribute("height_scale"), c.attribute("width_scale")])


def _matrix(c: Call, place: int) -> Term:
    """The matrix of the axis at a place among those that are resized, from version 11 on.

    Its operator finds scales as the node itself does: one that keeps an image's proportions is that of another axis, and no float32.
    """
    names = (
        "mode", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "nearest_mode", "antialias", "axes",
        "keep_aspect_ratio_policy",
    )  # fmt: skip
    attributes = {name: c.attribute(name) for name in names}
    return c.w.add("ResizeMatrix", c.xs, domain=DOMAIN, place=place, **attributes)[0]


def _old_matrix(c: Call, axis: int) -> Term:
    """The identity, resized along its first axis as the image is along one, before there were sizes."""
    w, x = c.w, c.xs[0]
    before = w("Shape", x, start=axis, end=axis + 1)
    eye = w("EyeLike", w("Expand", x.number(0), w("Concat", before, before, axis=0)))
    if c.x(1) is None:
        given = _old_scales(c)[axis]
        changed = {"scales": [given, 1.0]} if c.attribute("scales") else {"height_scale": given, "width_scale": 1.0}
        return c.again(eye, **changed)[0]
    scale = w("Gather", c.xs[1], [axis])
    return c.again(eye, w("Concat", scale, scale.number(1).reshaped([1]), axis=0))[0]


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
