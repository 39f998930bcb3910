"""Derivatives of operators that are linear in an image: interpolation along its axes, and blocks added up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_numba.ir.types import TensorType
from onnx_numba.passes.derivatives.table import Call, rule
from onnx_numba.passes.derivatives.terms import Argument, Term


@rule("Resize", "Upsample", since=7)
def _resize(c: Call) -> Sequence[Term | None]:
    """Along every axis a product with the matrix that is the operator done to the identity."""
    x, y, g = c.xs[0], c.ys[0], c.gs[0]
    if c.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise c.unsupported("keep_aspect_ratio_policy")
    axes = c.attribute("axes") or range(x.rank)
    crops = c.attribute("coordinate_transformation_mode") == "tf_crop_and_resize"
    for number, axis in enumerate(axes):
        axis %= x.rank
        if not crops and _same_extent(c, axis):
            continue
        order = [k for k in range(x.rank) if k != axis] + [axis]
        rows = c.w("MatMul", c.w("Transpose", g, perm=order), _matrix(c, x, y, axis, number, len(axes)))
        g = c.w("Transpose", rows, perm=[int(k) for k in np.argsort(order)])
    return [g]


def _same_extent(c: Call, axis: int) -> bool:
    """Whether an axis is known to stay as it is."""
    kinds = [c.w.known.type_of(term.name) for term in (c.xs[0], c.ys[0])]
    before, after = (kind.shape[axis] if isinstance(kind, TensorType) and kind.shape else None for kind in kinds)
    return before is not None and before == after


def _matrix(c: Call, x: Term, y: Term, axis: int, number: int, count: int) -> Term:
    """The identity, resized along its first axis as the image is along an axis: that of a number among as many as are resized."""
    w = c.w
    before, after = (w("Shape", term, start=axis, end=axis + 1) for term in (x, y))
    eye = w("EyeLike", w("Expand", x.number(0), w("Concat", before, before, axis=0)))
    since, attributes = c.node.since_version, {}
    if "extrapolation_value" in c.node.attributes:
        attributes["extrapolation_value"] = 0.0  # what does not come from the image has no part in the derivative

    def one(values: Term, place: int, other: float) -> list[Argument]:
        """A number out of several, and what stands for an axis that stays as it is."""
        return [w("Gather", values, [place]), values.number(other).reshaped([1])]

    if c.node.op == "Upsample" and since < 9:
        return c.again(eye, scales=[c.attribute("scales")[number], 1.0])[0]
    if since < 11:
        return c.again(eye, w("Concat", *one(c.xs[1], number, 1), axis=0))[0]
    roi, scales, sizes = c.x(1), c.x(2), c.x(3)
    if roi is not None:
        roi = w("Concat", *one(roi, number, 0), *one(roi, number + count, 1), axis=0)
    if sizes is not None:
        return c.again(eye, roi, None, w("Concat", after, before, axis=0), axes=None, **attributes)[0]
    assert scales is not None
    return c.again(eye, roi, w("Concat", *one(scales, number, 1), axis=0), axes=None, **attributes)[0]


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
