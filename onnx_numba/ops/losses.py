"""Losses over classes."""

from __future__ import annotations

from typing import Any

from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import wide
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import natural_index
from onnx_numba.ops.softmax import log_softmax_over


def _nll(b: Builder, x: Tensor, target: Tensor, weight: Tensor | None, ignore: int | None, reduction: str) -> Tensor:
    """Minus the weighted element of each position's class; positions of class ``ignore`` count for nothing."""
    if reduction not in ("none", "sum", "mean"):
        b.fail(f"reduction must be none, sum or mean, not {reduction!r}")
    if x.rank < 2 or target.rank != x.rank - 1:
        b.fail(f"scores of rank {x.rank} and a target of rank {target.rank}")
    kind, classes = wide(x.dtype), x.shape[1]
    if weight is not None:
        b.require_equal(weight.size, classes, "elements of the weight")
    b.require_elements(classes, target.size, "the axis of classes")
    for k, (have, want) in enumerate(zip(target.shape, (x.shape[0], *x.shape[2:]), strict=True)):
        b.require_equal(have, want, f"dim {k} of the target")

    def place(i: tuple[Dim, ...]) -> Expr:
        return natural_index(b, target[i], classes)

    def counted(i: tuple[Dim, ...], value: Expr) -> Expr:
        return value if ignore is None else e.guard(e.ne(e.cast(target[i], I64), ignore), value, 0.0)

    def factor(i: tuple[Dim, ...]) -> Expr:
        return e.lit(1.0, kind) if weight is None else e.cast(weight[(place(i),)], kind)

    def loss(*i: Dim) -> Expr:
        value = -e.cast(x[(i[0], place(i), *i[1:])], kind)
        return counted(i, value if weight is None else value * factor(i))

    losses = b.compute(target.shape, loss, kind)
    axes = range(target.rank)
    if reduction == "none":
        return b.cast(losses, x.dtype)
    total = b.reduce("sum", losses, axes)
    if reduction == "sum":
        return b.cast(total, x.dtype)
    weights = b.reduce("sum", b.compute(target.shape, lambda *i: counted(i, factor(i)), kind), axes)
    return b.map(lambda s, w: s / w, total, weights, dtype=x.dtype)


@op("NegativeLogLikelihoodLoss", since=12, reviewed=22)
def negative_log_likelihood_loss(
    b: Builder, x: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int | None = None, reduction: str
) -> Tensor:
    """From logarithms of probabilities."""
    return _nll(b, x, target, weight, ignore_index, reduction)


@op("SoftmaxCrossEntropyLoss", since=12, reviewed=13)
def softmax_cross_entropy_loss(
    b: Builder, scores: Tensor, labels: Tensor, weight: Tensor | None = None, *, ignore_index: int | None = None, reduction: str
) -> Any:
    """From scores, whose logarithms of probabilities are the second output."""
    logs = log_softmax_over(b, scores, range(1, 2))
    return _nll(b, logs, labels, weight, ignore_index, reduction), logs
