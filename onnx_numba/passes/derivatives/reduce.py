"""Derivatives of reductions, of the softmax family and of normalisations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnx_numba.ops.common import wide
from onnx_numba.passes.derivatives.table import Call, composed, rule
from onnx_numba.passes.derivatives.terms import Term


def _reduction(function: Callable[[Call, Term, Term], Term]) -> Callable[[Call], Sequence[Term | None]]:
    """A rule from the adjoint and the result, both with the reduced axes kept."""

    def reduced(c: Call) -> Sequence[Term | None]:
        kept = c.again(*c.xs, keepdims=1)[0]
        return [function(c, c.gs[0].reshaped(kept.shape), kept)]

    return reduced


@rule("ReduceSum")
@_reduction
def _sum(c: Call, g: Term, y: Term) -> Term:
    return c.w("Expand", g, c.xs[0].shape)


@rule("ReduceMean")
@_reduction
def _mean(c: Call, g: Term, y: Term) -> Term:
    return c.w("Expand", g * y.size.cast_like(g) / c.xs[0].size.cast_like(g), c.xs[0].shape)


@rule("ReduceSumSquare")
@_reduction
def _sum_square(c: Call, g: Term, y: Term) -> Term:
    return g * c.xs[0] * 2


@rule("ReduceL1")
@_reduction
def _l1(c: Call, g: Term, y: Term) -> Term:
    return g * c.w("Sign", c.xs[0])


@rule("ReduceL2")
@_reduction
def _l2(c: Call, g: Term, y: Term) -> Term:
    return c.w("Where", y.equals(0), g.number(0), g * c.xs[0] / y)


@rule("ReduceLogSum")
@_reduction
def _log_sum(c: Call, g: Term, y: Term) -> Term:
    return c.w("Expand", g / c.w("Exp", y), c.xs[0].shape)


@rule("ReduceLogSumExp")
@_reduction
def _log_sum_exp(c: Call, g: Term, y: Term) -> Term:
    return g * c.w("Exp", c.xs[0] - y)


@rule("ReduceMax", "ReduceMin")
@_reduction
def _extreme(c: Call, g: Term, y: Term) -> Term:
    """Elements that share the extreme share its adjoint in equal parts."""
    hits = c.xs[0].equals(y)
    return (g / hits.cast_like(g).sum_to(y)).at(hits)


@rule("Softmax", since=13)
def _softmax(c: Call) -> Sequence[Term | None]:
    y, g = c.ys[0], c.gs[0]
    return [y * (g - c.w("ReduceSum", g * y, [c.attribute("axis")]))]


@rule("LogSoftmax", since=13)
def _log_softmax(c: Call) -> Sequence[Term | None]:
    y, g = c.ys[0], c.gs[0]
    return [g - c.w("Exp", y) * c.w("ReduceSum", g, [c.attribute("axis")])]


@composed("Softmax", "LogSoftmax")
def _old_softmax(c: Call) -> Sequence[Term | None]:
    """Until opset 12 over all axes from ``axis`` on."""
    rows = c.w("Flatten", c.xs[0], axis=c.attribute("axis"))
    return [c.w(c.node.op, rows, axis=1).reshaped(c.xs[0].shape)]


def _channels(c: Call, parameter: Term, rank: int) -> Term:
    """A parameter with one element per channel, for broadcasting."""
    return c.w("Unsqueeze", parameter, range(1, rank - 1))


def _normalised(c: Call, x: Term, mean: Term, variance: Term) -> Term:
    return (x - mean) / c.w("Sqrt", variance + c.attribute("epsilon"))


def _moments(c: Call, x: Term, axes: Sequence[int]) -> tuple[Term, Term]:
    mean = c.w("ReduceMean", x, axes)
    deviation = x - mean
    return mean, c.w("ReduceMean", deviation * deviation, axes)


@composed("BatchNormalization")
def _batch_normalization(c: Call) -> Sequence[Term | None]:
    """In training by the moments of the batch, from which running ones follow.

    Until opset 8 the given ones may be those of single activations; before opset 14 a node that trains never comes here, see
    `onnx_numba.passes.training`.
    """
    x, *parameters = c.xs
    single = c.attribute("spatial", 1) != 1

    def view(p: Term) -> Term:
        each = c.w("Concat", np.array([1]), c.w("Shape", x, start=1), axis=0) if single else None
        return (_channels(c, p, x.rank) if each is None else p.reshaped(each)).cast_like(x)

    scale, bias, *given = map(view, parameters)
    if not c.attribute("training_mode", 0):
        return [_normalised(c, x, *given) * scale + bias]
    moments = _moments(c, x, [0, *range(2, x.rank)])
    momentum, olds = c.attribute("momentum"), parameters[2:]
    news = [moment.reshaped(old.shape).cast_like(old) for old, moment in zip(olds, moments, strict=True)]
    running = [old * momentum + new * (1 - momentum) for old, new in zip(olds, news, strict=True)]
    return [_normalised(c, x, *moments) * scale + bias, *running]


@composed("InstanceNormalization")
def _instance_normalization(c: Call) -> Sequence[Term | None]:
    x, scale, bias = c.xs
    moments = _moments(c, x, range(2, x.rank))
    return [_normalised(c, x, *moments) * _channels(c, scale, x.rank) + _channels(c, bias, x.rank)]


@composed("LayerNormalization")
def _layer_normalization(c: Call) -> Sequence[Term | None]:
    """At least in float32; onnx's own body takes float32 for double too, unless it declines."""
    to = wide(c.xs[0].dtype).onnx
    x, scale, *bias = (c.w("Cast", term, to=to) for term in c.xs if term is not None)
    rank = x.rank
    mean, variance = _moments(c, x, range(c.attribute("axis") % rank, rank))
    result = _normalised(c, x, mean, variance) * scale
    statistics = [mean, 1 / c.w("Sqrt", variance + c.attribute("epsilon"))]
    stash = [y and term.cast_like(y) for y, term in zip(c.ys[1:], statistics, strict=False)]
    return [(result + bias[0] if bias else result).cast_like(c.xs[0]), *stash]


@composed("MeanVarianceNormalization")
def _mean_variance_normalization(c: Call) -> Sequence[Term | None]:
    """As onnx's own body, which is for float32 only.

    Where all elements are equal what is divided is 0, so the derivative is that of the dividend alone, however the divisor changes.
    """
    mean, variance = _moments(c, c.xs[0], c.attribute("axes", (0, 2, 3)))
    return [(c.xs[0] - mean) / (variance.root() + 1e-9)]


@composed("LpNormalization")
def _lp_normalization(c: Call) -> Sequence[Term | None]:
    """What has no length stays 0, and so does its derivative, which has no other value there."""
    norm = c.w("ReduceL1" if c.attribute("p") == 1 else "ReduceL2", c.xs[0], [c.attribute("axis")])
    none = norm.equals(0)
    return [c.w("Where", none, c.xs[0].number(0), c.xs[0] / c.w("Where", none, norm.number(1), norm))]
