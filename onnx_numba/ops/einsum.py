"""Einsum: sums of products that an equation of axis labels describes.

Terms are multiplied from left to right, two at a time, and what no later term needs is summed at once. Of two terms, a label of both that
the result has too is a batch of matrices, one that it lacks is the depth of a matrix product, labels of one term are its rows or columns:
so most equations are matrix products of views of their inputs, and what is left is elementwise or a plain sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from onnx_numba.ir.dims import Dim, product
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import wide
from onnx_numba.ops.product import matrix_product
from onnx_numba.ops.registry import op
from onnx_numba.record import record

Extent = Dim | int
Index = tuple[Dim, ...]


@record
class Factor:
    """A tensor and the labels of its axes."""

    labels: list[str]
    tensor: Tensor


@op("Einsum", since=12, reviewed=28)
def einsum(b: Builder, *xs: Tensor, equation: str) -> Tensor:
    """The sum of products that an equation of axis labels describes; 16-bit floats are rounded once, at the end."""
    terms, result = parse_equation(b, equation.replace(" ", ""), [x.rank for x in xs])
    extents: dict[str, Extent] = {}
    for labels, x in zip(terms, xs, strict=True):
        for label, extent in zip(labels, x.shape, strict=True):
            known = extents.setdefault(label, extent)
            if known != extent:
                extents[label] = b.broadcast_shapes((known,), (extent,))[0]
    dtype, several = xs[0].dtype, len(xs) > 1
    width = wide(dtype) if several else dtype
    factors = [Factor(labels, b.cast(x, width)) for labels, x in zip(terms, xs, strict=True)]
    while len(factors) > 1:
        first, second, *later = factors
        needed = {*result, *(label for factor in later for label in factor.labels)}
        left, right = _alone(b, first, {*second.labels, *needed}, extents), _alone(b, second, {*first.labels, *needed}, extents)
        kept = [label for label in dict.fromkeys([*left.labels, *right.labels]) if label in needed]
        factors = [_pair(b, left, right, kept, extents), *later]
    return b.cast(_sum_of_products(b, factors, result, extents), dtype)


def _alone(b: Builder, x: Factor, elsewhere: set[str], extents: dict[str, Extent]) -> Factor:
    """A factor with diagonals taken and summed along the labels that appear nowhere else."""
    kept = [label for label in dict.fromkeys(x.labels) if label in elsewhere]
    return x if kept == x.labels else Factor(kept, _sum_of_products(b, [x], kept, extents))


def _pair(b: Builder, x: Factor, y: Factor, kept: list[str], extents: dict[str, Extent]) -> Factor:
    """Two factors multiplied, and summed along the labels that are not kept."""
    both = [label for label in x.labels if label in y.labels]
    summed = [label for label in both if label not in kept]
    rows, columns = ([label for label in factor.labels if label not in both] for factor in (x, y))
    if not (summed and rows and columns):
        return Factor(kept, _sum_of_products(b, [x, y], kept, extents))
    batch = [label for label in both if label in kept]
    left, right = _matrices(b, x, batch, rows, summed, extents), _matrices(b, y, batch, summed, columns, extents)
    order = [*batch, *rows, *columns]
    made = b.reshape(matrix_product(b, left, right, left.dtype), [extents[label] for label in order])
    return Factor(order, made)


def _matrices(
    b: Builder, x: Factor, batch: list[str], rows: list[str], columns: list[str], extents: dict[str, Extent]
) -> Tensor:  # fmt: skip
    """A factor as a stack of matrices, whose axes may each be several of its own."""
    order = [*batch, *rows, *columns]
    turned = b.transpose(b.expand(x.tensor, tuple(extents[label] for label in x.labels)), [x.labels.index(label) for label in order])
    sides = [product(extents[label] for label in side) for side in (rows, columns)]
    return b.reshape(turned, [*(extents[label] for label in batch), *sides])


def _sum_of_products(b: Builder, factors: Sequence[Factor], result: list[str], extents: dict[str, Extent]) -> Tensor:
    """The sum along all labels that the result lacks, in its order of axes."""
    if len(factors) == 1 and Counter(result) == Counter(factors[0].labels) and len(set(result)) == len(result):
        full = b.expand(factors[0].tensor, tuple(extents[label] for label in factors[0].labels))
        return b.transpose(full, [factors[0].labels.index(label) for label in result])
    summed = list(dict.fromkeys(label for factor in factors for label in factor.labels if label not in result))
    shape, dtype = tuple(extents[label] for label in result), factors[0].tensor.dtype

    def element(p: Index, r: Index) -> Expr:
        at = dict(zip([*result, *summed], [*p, *r], strict=True))
        values = [
            b.broadcast_load(x.tensor, [at[label] for label in x.labels], tuple(extents[label] for label in x.labels)) for x in factors
        ]
        value = values[0]
        for factor in values[1:]:
            value = value * factor
        return value

    if not summed:
        return b.compute(shape, lambda *p: element(p, ()), dtype)
    return b.reduction("sum", shape, tuple(extents[label] for label in summed), element, dtype)


def parse_equation(b: Builder, equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """The axis labels of every term and of the result; axes under an ellipsis are labelled by digits, counted from the last."""
    left, arrow, right = equation.partition("->")
    names = left.split(",")
    if len(names) != len(ranks):
        b.fail(f"equation {equation!r} has {len(names)} terms, {len(ranks)} inputs came")
    terms = [_labels(b, name, rank) for name, rank in zip(names, ranks, strict=True)]
    every = [label for term in terms for label in term]
    hidden = sorted({label for label in every if label.isdigit()}, key=int, reverse=True)
    if not arrow:
        return terms, [*hidden, *sorted(label for label in set(every) if every.count(label) == 1 and not label.isdigit())]
    result: list[str] = []
    before, dots, after = right.partition("...")
    result = [*before, *(hidden if dots else []), *after]
    if not set(result) <= set(every) or len(set(result)) < len(result):
        b.fail(f"equation {equation!r} has no such result")
    return terms, result


def _labels(b: Builder, term: str, rank: int) -> list[str]:
    before, dots, after = term.partition("...")
    covered = rank - len(before) - len(after)
    if covered < 0 or (covered and not dots) or (not (before + after).replace(" ", "").isalpha() and before + after):
        b.fail(f"term {term!r} of an equation does not fit an input of rank {rank}")
    return [*before, *(str(k) for k in range(covered - 1, -1, -1)), *after]
