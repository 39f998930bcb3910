"""Derivatives of products: matrices, convolutions, and poolings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_numba.passes.derivatives.shape import scattered
from onnx_numba.passes.derivatives.table import Call, composed, rule
from onnx_numba.passes.derivatives.terms import Term


def _swapped(x: Term) -> Term:
    """Every matrix in the last two axes transposed."""
    rank = x.rank
    return x.writer("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])


@rule("MatMul")
def _matmul(c: Call) -> Sequence[Term | None]:
    (a, b), g = c.xs, c.gs[0]
    # Vectors are matrices of one row or column.
    row, column = a.rank == 1, b.rank == 1
    if column:
        g = c.w("Unsqueeze", g, [-1])
    if row:
        g = c.w("Unsqueeze", g, [-2])
    left = c.w("Unsqueeze", a, [0]) if row else a
    right = c.w("Unsqueeze", b, [1]) if column else b
    to_left = c.w("MatMul", g, _swapped(right)).sum_to(left)
    to_right = c.w("MatMul", _swapped(left), g).sum_to(right)
    return to_left.reshaped(a.shape), to_right.reshaped(b.shape)


@composed("Gemm")
def _gemm(c: Call) -> Sequence[Term | None]:
    a, b = (c.w("Transpose", x, perm=[1, 0]) if c.attribute(flag) else x for x, flag in zip(c.xs[:2], ("transA", "transB"), strict=True))
    product, bias = c.w("MatMul", a, b), c.x(2)
    alpha, beta = c.attribute("alpha"), c.attribute("beta")
    product = product if alpha == 1 else product * alpha
    return [product if bias is None else product + (bias if beta == 1 else bias * beta)]


@composed("Einsum")
def _einsum(c: Call) -> Sequence[Term | None]:
    """A sum of products that broadcast: every operand with an axis for every label."""
    terms, arrow, result = c.attribute("equation").replace(" ", "").partition("->")
    operands = terms.split(",")
    if "." in terms or any(len(set(labels)) < len(labels) for labels in operands):
        raise c.unsupported("an equation with '...' or with a label twice in an operand")
    seen = sorted(set(terms) - {","})
    if not arrow:
        result = "".join(label for label in seen if terms.count(label) == 1)
    order = [*result, *(label for label in seen if label not in result)]
    product: Term | None = None
    for x, labels in zip(c.xs, operands, strict=True):
        sorted_ = c.w("Transpose", x, perm=[labels.index(label) for label in order if label in labels])
        factor = c.w("Unsqueeze", sorted_, [k for k, label in enumerate(order) if label not in labels])
        product = factor if product is None else product * factor
    gone = range(len(result), len(order))
    return [c.w("ReduceSum", product, gone, keepdims=0, noop_with_empty_axes=1)]


@dataclass(frozen=True)
class _Windows:
    """How a convolution's windows lie: where the first begins, before the first element, is a tensor; see `_windows`."""

    begin: Term
    padded: Term
    strides: list[int]
    dilations: list[int]
    group: int


def _spatial(x: Term) -> Term:
    return x.writer("Shape", x, start=2)


def _windows(c: Call, image: Term, weights: Term, places: Term) -> _Windows:
    """The windows over an image, one for each place; ``padded`` are the extents that they cover together."""
    rank = weights.rank - 2
    strides, gaps = (list(c.attribute(name) or [1] * rank) for name in ("strides", "dilations"))
    kernel = (_spatial(weights) - 1) * c.w.constant(np.array(gaps, np.int64)) + 1
    padded = (_spatial(places) - 1) * c.w.constant(np.array(strides, np.int64)) + kernel
    mode = c.attribute("auto_pad")
    begin = c.w.constant(np.array(list(c.attribute("pads") or [0] * rank)[:rank], np.int64))
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = c.w("Max", padded - _spatial(image), np.zeros(rank, np.int64))
        begin = (pads + int(mode == "SAME_LOWER")) / 2
    elif mode == "VALID":
        begin = c.w.constant(np.zeros(rank, np.int64))
    return _Windows(begin, padded, strides, gaps, c.attribute("group", 1))


def _around(image: Term, begin: Term, end: Term) -> Term:
    """Zeros around an image; negative counts take away."""
    w, none = image.writer, np.zeros(2, np.int64)
    return w("Pad", image, w("Concat", none, begin, none, end, axis=0))


def _spread(view: _Windows, g: Term, weights: Term, image: Term) -> Term:
    """The adjoint of the image under the windows."""
    full = g.writer("ConvTranspose", g, weights, strides=view.strides, dilations=view.dilations, group=view.group)
    return _around(full, -view.begin, _spatial(image) + view.begin - view.padded)


def _covered(view: _Windows, image: Term) -> Term:
    """The image with as many zeros around it as the windows reach beyond it."""
    return _around(image, view.begin, view.padded - view.begin - _spatial(image))


def _weights(view: _Windows, image: Term, g: Term, like: Term) -> Term:
    """The adjoint of the weights: a convolution of the covered image with the adjoint, batch and channels exchanged."""
    w, group, rank = image.writer, view.group, like.rank

    def parted(x: Term) -> Term:
        """As ``[batch, group, channels in it, *extents]``."""
        batch = w("Shape", x, end=1)
        return x.reshaped(w("Concat", batch, np.array([group, -1]), _spatial(x), axis=0))

    rest = range(3, rank + 1)
    batch = w("Shape", g, end=1)
    images = w("Transpose", parted(image), perm=[2, 1, 0, *rest])
    images = images.reshaped(w("Concat", w("Shape", images, end=1), batch * group, w("Shape", images, start=3), axis=0))
    filters = w("Transpose", parted(g), perm=[1, 2, 0, *rest])
    filters = filters.reshaped(w("Concat", w("Shape", like, end=1), batch, w("Shape", filters, start=3), axis=0))
    found = w("Conv", images, filters, strides=view.dilations, dilations=view.strides, group=group)
    return w("Transpose", found, perm=[1, 0, *range(2, rank)])


def _bias(g: Term) -> Term:
    return g.writer("ReduceSum", g, [0, *range(2, g.rank)], keepdims=0)


@rule("Conv")
def _conv(c: Call) -> Sequence[Term | None]:
    x, weights, g = c.xs[0], c.xs[1], c.gs[0]
    view = _windows(c, x, weights, g)
    return _spread(view, g, weights, x), _weights(view, _covered(view, x), g, weights), c.x(2) and _bias(g)


@rule("ConvTranspose")
def _conv_transpose(c: Call) -> Sequence[Term | None]:
    """A convolution of the adjoint."""
    x, weights, g = c.xs[0], c.xs[1], c.gs[0]
    if c.attribute("output_shape") or c.attribute("auto_pad") not in ("NOTSET", "VALID"):
        raise c.unsupported("an output_shape, or automatic pads")
    view = _windows(c, g, weights, x)
    image = _covered(view, g)
    adjoint = c.w("Conv", image, weights, strides=view.strides, dilations=view.dilations, group=view.group)
    return adjoint, _weights(view, image, x, weights), c.x(2) and _bias(g)


@composed("AveragePool")
def _average_pool(c: Call) -> Sequence[Term | None]:
    """A convolution of every channel with ones, over the number of elements in the window."""
    if c.attribute("ceil_mode", 0):
        raise c.unsupported("ceil_mode")
    x = c.xs[0]
    names = ("strides", "pads", "dilations", "auto_pad", "kernel_shape")
    given = {name: c.attribute(name) for name in names}
    kernel = given["kernel_shape"]
    ones = c.w("Expand", x.number(1), [1, 1, *kernel])
    extents = _spatial(x)
    planes = x.reshaped(c.w("Concat", np.array([-1, 1]), extents, axis=0))
    sums = c.w("Conv", planes, ones, **given)
    if c.attribute("count_include_pad", 0):
        means = sums / int(np.prod(kernel))
    else:
        plane = c.w("Expand", x.number(1), c.w("Concat", np.array([1, 1]), extents, axis=0))
        means = sums / c.w("Conv", plane, ones, **given)
    return [means.reshaped(c.w("Concat", c.w("Shape", x, end=2), _spatial(means), axis=0))]


@rule("MaxPool")
def _max_pool(c: Call) -> Sequence[Term | None]:
    """The adjoint goes to the elements that were taken."""
    names = ("strides", "pads", "dilations", "auto_pad", "kernel_shape", "ceil_mode")
    places = c.w.add("MaxPool", [c.xs[0]], 2, **{name: c.attribute(name) for name in names})[1]
    return [scattered(c.gs[0], places, c.xs[0])]


@composed("GlobalAveragePool")
def _global_average_pool(c: Call) -> Sequence[Term | None]:
    return [c.w("ReduceMean", c.xs[0], range(2, c.xs[0].rank))]


@composed("GlobalMaxPool")
def _global_max_pool(c: Call) -> Sequence[Term | None]:
    return [c.w("ReduceMax", c.xs[0], range(2, c.xs[0].rank))]
