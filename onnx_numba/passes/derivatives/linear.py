"""Derivatives of products: matrices, and convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_numba.ir.types import I64
from onnx_numba.passes.derivatives.table import Call, composed, rule
from onnx_numba.passes.derivatives.terms import Term
from onnx_numba.passes.derivatives.windows import Windows, covered, spatial, spread, windows_over


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


@rule("Det")
def _det(c: Call) -> Sequence[Term | None]:
    """The determinants of what is left of a matrix without a row and a column, with alternating signs: right for singular ones too."""
    w, x, g = c.w, c.xs[0], c.gs[0]
    rank, side = x.rank, w("Gather", x.shape, np.array(-1))
    numbers = w("Range", np.array(0), side, np.array(1))
    row = w("Unsqueeze", numbers, [1])
    rest = w("Range", np.array(0), side - 1, np.array(1))
    rest = rest + w("Cast", w("GreaterOrEqual", rest, row), to=I64.onnx)
    parts = w("Gather", w("Gather", x, rest, axis=rank - 2), rest, axis=rank)
    minors = w("Det", w("Transpose", parts, perm=[*range(rank - 2), rank - 2, rank, rank - 1, rank + 1]))
    odd = w("Mod", row + numbers, np.array(2)).cast_like(x)
    return [w("Unsqueeze", g, [-2, -1]) * (1 - odd * 2) * minors]


@composed("Gemm")
def _gemm(c: Call) -> Sequence[Term | None]:
    a, b = (c.w("Transpose", x, perm=[1, 0]) if c.attribute(flag) else x for x, flag in zip(c.xs[:2], ("transA", "transB"), strict=True))
    product, bias = c.w("MatMul", a, b), c.x(2)
    alpha, beta = c.attribute("alpha"), c.attribute("beta")
    product = product if alpha == 1 else product * alpha
    return [product if bias is None else product + (bias if beta == 1 else bias * beta)]


@composed("MatMulInteger")
def _matmul_integer(c: Call) -> Sequence[Term | None]:
    """A zero point is one for all, or for each row of the first and each column of the second matrix."""
    zero = c.x(2)
    if zero is not None and zero.rank == 1:
        zero = c.w("Unsqueeze", zero, [1])
    return [c.w("MatMul", _above(c.xs[0], zero), _above(c.xs[1], c.x(3)))]


@composed("ConvInteger")
def _conv_integer(c: Call) -> Sequence[Term | None]:
    """The padding stands for the zero point; that of the filters may be one for each."""
    zero, weights = c.x(3), c.xs[1]
    if zero is not None and zero.rank == 1:
        zero = c.w("Unsqueeze", zero, range(1, weights.rank))
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    return [c.w("Conv", _above(c.xs[0], c.x(2)), _above(weights, zero), **{name: c.attribute(name) for name in names})]


def _above(x: Term, zero: Term | None) -> Term:
    """The numbers that integers stand for, a zero point for their zero."""
    return x.real() if zero is None else x.real() - zero.real()


@composed("Einsum")
def _einsum(c: Call) -> Sequence[Term | None]:
    """A sum of products that broadcast: every operand with an axis for every label."""
    operands, result = _labels(c)
    parts = [_diagonal(x, labels) for x, labels in zip(c.xs, operands, strict=True)]
    seen = sorted({label for _, labels in parts for label in labels})
    order = [*result, *(label for label in seen if label not in result)]
    product: Term | None = None
    for x, labels in parts:
        sorted_ = c.w("Transpose", x, perm=[labels.index(label) for label in order if label in labels])
        factor = c.w("Unsqueeze", sorted_, [k for k, label in enumerate(order) if label not in labels])
        product = factor if product is None else product * factor
    gone = range(len(result), len(order))
    return [c.w("ReduceSum", product, gone, keepdims=0, noop_with_empty_axes=1)]


def _labels(c: Call) -> tuple[list[list[str]], list[str]]:
    """The labels of every operand's axes and of the result's; axes that ``...`` stands for are labelled by their number from the end."""
    terms, arrow, result = c.attribute("equation").replace(" ", "").partition("->")

    def spelt(term: str, rank: int) -> list[str]:
        before, dots, after = term.partition("...")
        hidden = rank - len(before) - len(after) if dots else 0
        return [*before, *(str(k) for k in reversed(range(hidden))), *after]

    operands = [spelt(term, x.rank) for term, x in zip(terms.split(","), c.xs, strict=True)]
    widest = max((sum(label.isdigit() for label in labels) for labels in operands), default=0)
    if arrow:
        return operands, spelt(result, len(result.replace("...", "")) + widest)
    once = sorted(label for label in set(terms) - {",", "."} if terms.count(label) == 1)
    return operands, [*(str(k) for k in reversed(range(widest))), *once]


def _diagonal(x: Term, labels: list[str]) -> tuple[Term, list[str]]:
    """An operand with every label once: of axes that share one, the diagonal."""
    for label in sorted(set(labels)):
        while labels.count(label) > 1:
            pair = [k for k, each in enumerate(labels) if each == label][:2]
            rest = [k for k in range(len(labels)) if k not in pair]
            square = x.writer("Transpose", x, perm=[*rest, *pair])
            side = x.writer("Gather", x.shape, np.array(pair[0]))
            flat = square.reshaped(x.writer("Concat", x.writer("Gather", x.shape, rest), (side * side).reshaped([1]), axis=0))
            places = x.writer("Range", np.array(0), side * side, side + 1)
            x, labels = x.writer("Gather", flat, places, axis=-1), [*(labels[k] for k in rest), label]
    return x, labels


def _weights(view: Windows, image: Term, g: Term, like: Term) -> Term:
    """The adjoint of the weights: a convolution of the covered image with the adjoint, batch and channels exchanged."""
    w, group, rank = image.writer, view.group, like.rank

    def parted(x: Term) -> Term:
        """As ``[batch, group, channels in it, *extents]``."""
        batch = w("Shape", x, end=1)
        return x.reshaped(w("Concat", batch, np.array([group, -1]), spatial(x), axis=0))

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
    view = windows_over(c, x, weights, g)
    return spread(view, g, weights, x), _weights(view, covered(view, x), g, weights), c.x(2) and _bias(g)


@rule("ConvTranspose")
def _conv_transpose(c: Call) -> Sequence[Term | None]:
    """A convolution of the adjoint."""
    x, weights, g = c.xs[0], c.xs[1], c.gs[0]
    view = windows_over(c, g, weights, x)
    same = str(c.attribute("auto_pad")).startswith("SAME")
    if c.attribute("output_shape") or same:
        # The pads follow from the extents, of which the larger part is at the end for SAME_UPPER alone.
        total = view.padded + c.w.constant(np.array(c.attribute("output_padding") or [0] * (x.rank - 2), np.int64)) - spatial(g)
        total = c.w("Max", total, np.zeros(x.rank - 2, np.int64)) if same else total
        half = c.w("Div", total - c.w("Mod", total, np.array(2)), np.array(2))
        view = replace(view, begin=half if c.attribute("auto_pad") == "SAME_UPPER" else total - half)
    image = covered(view, g)
    adjoint = c.w("Conv", image, weights, strides=view.strides, dilations=view.dilations, group=view.group)
    return adjoint, _weights(view, image, x, weights), c.x(2) and _bias(g)


