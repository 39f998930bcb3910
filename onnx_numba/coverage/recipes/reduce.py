"""Reductions, softmax and its like, losses, sorting."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_numba.coverage.case import Case, Const, Draft
from onnx_numba.coverage.recipes import recipe
from onnx_numba.coverage.recipes.shape import ints


@recipe("ReduceL1", "ReduceL2", "ReduceSum", "ReduceMean", "ReduceProd", "ReduceSumSquare", "ReduceMax", "ReduceMin")
def reduce(c: Draft) -> Iterator[Case]:
    yield from _reduced(c, -2.0, 2.0)


@recipe("ReduceLogSum", "ReduceLogSumExp")
def reduce_log(c: Draft) -> Iterator[Case]:
    yield from _reduced(c, 0.25, 1.5)


def _reduced(c: Draft, low: float, high: float) -> Iterator[Case]:
    by_input = not c.has("axes")
    x = c.real(2, 3, 4, low=low, high=high)

    def axes(*values: int) -> tuple[list[Const], dict[str, list[int]]]:
        return ([ints(*values)], {}) if by_input else ([], {"axes": list(values)})

    for name, values, keep in (("", (1,), 1), ("two,keepdims=0", (0, 2), 0), ("axes=-1", (-1,), 1)):
        if c.version < 11 and min(values) < 0:
            continue
        inputs, attributes = axes(*values)
        yield c.make(x, *inputs, name=name, keepdims=keep, **attributes)
    yield c.make(x, name="all")
    yield c.make(x, name="all,keepdims=0", keepdims=0)
    if c.schema.name != "ReduceMean":  # of nothing it is undefined
        inputs, attributes = axes(1)
        yield c.make(c.real(2, 0, 4), *inputs, name="empty", keepdims=0, **attributes)
    if by_input:
        yield c.make(x, np.array([1], np.int64), name="axes of the run")
        yield c.make(x, name="noop", noop_with_empty_axes=1)
        yield c.make(x, ints(), name="noop,empty axes", noop_with_empty_axes=1)
        yield c.make(x, ints(), name="empty axes", keepdims=0)


@recipe("ArgMax", "ArgMin")
def arg(c: Draft) -> Iterator[Case]:
    x = np.array([[1.0, 2.0, 2.0, 0.5], [0.25, 0.25, 1.0, 1.0]])
    yield c.make(x, axis=1)
    yield c.make(x, name="axis=0,keepdims=0", keepdims=0)
    if c.version >= 11:
        yield c.make(x, name="axis=-1", axis=-1)
    if c.has("select_last_index"):
        yield c.make(x, name="last", axis=1, select_last_index=1)


@recipe("Softmax", "LogSoftmax", "Hardmax")
def softmax(c: Draft) -> Iterator[Case]:
    x = c.real(2, 3, 4)
    yield c.make(x)
    for axis in (0, 1, 2, *((-1, -2) if c.version >= 11 else ())):
        yield c.make(x, name=f"axis={axis}", axis=axis)


@recipe("LpNormalization")
def lp_normalization(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3, 4, low=0.25))
    yield c.make(c.real(2, 3, 4), name="p=1,axis=1", p=1, axis=1)
    yield c.make(np.zeros((2, 3)), name="zero")


@recipe("MeanVarianceNormalization")
def mean_variance(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3, 2, 2), axes=[1, 2])
    # onnx 1.23's own inference fails on the body of version 13 where the attribute is left out.
    yield c.make(c.real(2, 3, 2, 2), name="default axes")


@recipe("TopK")
def top_k(c: Draft) -> Iterator[Case]:
    x = np.array([[1.0, 2.0, 2.0, 0.5], [0.25, 0.25, 1.0, 1.0], [0.5, 1.5, 1.0, 0.0]])
    if c.version < 10:
        yield c.make(x, outputs=2, k=2)
        yield c.make(x, outputs=2, name="axis=0", k=2, axis=0)
        return
    yield c.make(x, ints(2), outputs=2)
    yield c.make(x, ints(2), outputs=2, name="axis=0", axis=0)
    yield c.make(x, np.array([3], np.int64), outputs=2, name="k of the run")
    if c.version >= 11:
        yield c.make(x, ints(2), outputs=2, name="smallest", largest=0)
        yield c.make(x, ints(4), outputs=2, name="all unsorted", sorted=0)


@recipe("Unique")
def unique(c: Draft) -> Iterator[Case]:
    x = np.array([1.0, 0.5, 1.0, 2.0, 0.5])
    rows = np.array([[1.0, 0.5], [0.5, 1.0], [1.0, 0.5]])
    yield c.make(x, outputs=4)
    yield c.make(x, outputs=4, name="unsorted", sorted=0)
    yield c.make(rows, outputs=4, name="axis=0", axis=0)
    yield c.make(rows, outputs=4, name="axis=-1", axis=-1)
    yield c.make(rows, outputs=[True, False, True], name="flat")


@recipe("NonZero")
def non_zero(c: Draft) -> Iterator[Case]:
    yield c.make(np.array([[1.0, 0.0, 2.0], [0.0, 0.5, 0.0]]))


@recipe("NegativeLogLikelihoodLoss")
def nll_loss(c: Draft) -> Iterator[Case]:
    x, target, weight = c.real(2, 3, 4), np.array([[0, 1, 2, 1], [2, 2, 0, 1]], np.int64), c.real(3, low=0.25)
    yield c.make(x, target, weight)
    for reduction in ("none", "sum", "mean"):
        yield c.make(x, target, name=reduction, reduction=reduction)
        yield c.make(x, target, weight, name=f"{reduction},ignored", reduction=reduction, ignore_index=1)


@recipe("SoftmaxCrossEntropyLoss")
def cross_entropy(c: Draft) -> Iterator[Case]:
    x, labels, weight = c.real(2, 3, 4), np.array([[0, 1, 2, 1], [2, 2, 0, 1]], np.int64), c.real(3, low=0.25)
    yield c.make(x, labels, weight, outputs=2)
    for reduction in ("none", "sum", "mean"):
        yield c.make(x, labels, name=reduction, reduction=reduction)
        yield c.make(x, labels, weight, name=f"{reduction},ignored", reduction=reduction, ignore_index=1)
