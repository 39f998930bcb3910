"""Windows that slide over the spatial axes of an image, and what lies under them: for derivatives of convolutions and pools."""

from __future__ import annotations

import numpy as np

from onnx_numba.passes.derivatives.table import Call
from onnx_numba.passes.derivatives.terms import Term
from onnx_numba.record import record


@record
class Windows:
    """How a convolution's windows lie: where the first begins, before the first element, is a tensor; see `windows_over`."""

    begin: Term
    padded: Term
    strides: list[int]
    dilations: list[int]
    group: int


def spatial(x: Term) -> Term:
    """The extents of the spatial axes."""
    return x.writer("Shape", x, start=2)


def windows_over(c: Call, image: Term, weights: Term, places: Term) -> Windows:
    """The windows over an image, one for each place; ``padded`` are the extents that they cover together."""
    rank = weights.rank - 2
    strides, gaps = (list(c.attribute(name) or [1] * rank) for name in ("strides", "dilations"))
    kernel = (spatial(weights) - 1) * c.w.constant(np.array(gaps, np.int64)) + 1
    padded = (spatial(places) - 1) * c.w.constant(np.array(strides, np.int64)) + kernel
    mode = c.attribute("auto_pad")
    begin = c.w.constant(np.array(list(c.attribute("pads") or [0] * rank)[:rank], np.int64))
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = c.w("Max", padded - spatial(image), np.zeros(rank, np.int64))
        begin = (pads + int(mode == "SAME_LOWER")) / 2
    elif mode == "VALID":
        begin = c.w.constant(np.zeros(rank, np.int64))
    return Windows(begin, padded, strides, gaps, c.attribute("group", 1))


def around(image: Term, begin: Term, end: Term) -> Term:
    """Zeros around an image; negative counts take away."""
    w, none = image.writer, np.zeros(2, np.int64)
    return w("Pad", image, w("Concat", none, begin, none, end, axis=0))


def spread(view: Windows, g: Term, weights: Term, image: Term) -> Term:
    """The adjoint of the image under the windows."""
    full = g.writer("ConvTranspose", g, weights, strides=view.strides, dilations=view.dilations, group=view.group)
    return around(full, -view.begin, spatial(image) + view.begin - view.padded)


def covered(view: Windows, image: Term) -> Term:
    """The image with as many zeros around it as the windows reach beyond it."""
    return around(image, view.begin, view.padded - view.begin - spatial(image))
