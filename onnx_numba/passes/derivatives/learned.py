"""Derivatives of the operators of ``ai.onnx.ml`` that are smooth; trees and encoders, whose results jump, are constants between jumps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_numba.ir.types import F32, F64
from onnx_numba.ops.ml_scores import PI, WINITZKI
from onnx_numba.passes.derivatives.table import Call, composed, rule
from onnx_numba.passes.derivatives.terms import Array, Term


def floats(c: Call, name: str) -> Array:
    """An attribute, as float32."""
    return np.array(c.attribute(name), np.float32)


@composed("Scaler")
def _scaler(c: Call) -> Sequence[Term | None]:
    x, offset, scale = c.w("Cast", c.xs[0], to=F32.onnx), floats(c, "offset"), floats(c, "scale")
    if x.rank == 0:
        offset, scale = offset.reshape(()), scale.reshape(())
    return [(x - c.w.constant(offset)) * c.w.constant(scale)]


@composed("Normalizer")
def _normalizer(c: Call) -> Sequence[Term | None]:
    """Rows without a length stay as they are."""
    w, x = c.w, c.w("Cast", c.xs[0], to=F32.onnx)
    kind = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}[c.attribute("norm")]
    length = w(kind, x, [min(1, x.rank - 1)])
    return [x / w("Where", length.equals(0), length.number(1), length)]


@rule("Imputer")
def _imputer(c: Call) -> Sequence[Term | None]:
    """What has been put in has no derivative."""
    return [c.gs[0].at(c.xs[0].equals(c.ys[0]))]


@composed("ArrayFeatureExtractor")
def _array_feature_extractor(c: Call) -> Sequence[Term | None]:
    return [c.w("Gather", c.xs[0], c.xs[1].reshaped([-1]), axis=-1).reshaped(c.ys[0].shape)]


@composed("LinearRegressor")
def _linear_regressor(c: Call) -> Sequence[Term | None]:
    targets, transform = c.attribute("targets"), c.attribute("post_transform")
    return [transformed(c, _scores(c, targets), transform if targets > 1 or transform == "PROBIT" else "NONE")]


@composed("LinearClassifier")
def _linear_classifier(c: Call) -> Sequence[Term | None]:
    labels = c.attribute("classlabels_strings") or c.attribute("classlabels_ints")
    count = len(c.attribute("intercepts") or labels)
    scores, transform = _scores(c, count), c.attribute("post_transform")
    if count > 1:
        return [None, transformed(c, scores, transform)]
    if len(labels) == 2:
        return [None, of_two(c, scores, transform, 1 - scores)]
    return [None, transformed(c, scores, transform if transform in ("LOGISTIC", "PROBIT") else "NONE")]


@composed("FeatureVectorizer")
def _feature_vectorizer(c: Call) -> Sequence[Term | None]:
    """Tables side by side, each cut or filled up with zeros to the width stated for it."""
    w, tables = c.w, [table(c, x) for x in c.xs]
    for k, width in enumerate(c.attribute("inputdimensions") or ()):
        missing = w.constant(np.array([width])) - w("Shape", tables[k], start=1)
        tables[k] = w("Pad", tables[k], w("Concat", np.zeros(3, np.int64), missing, axis=0))
    return [w("Concat", *tables, axis=1)]


def table(c: Call, x: Term) -> Term:
    """An input as a matrix of samples; a vector is one sample."""
    wide = c.w("Cast", x, to=F32.onnx)
    return wide.reshaped([1, -1]) if x.rank == 1 else wide if x.rank == 2 else c.w("Flatten", wide, axis=1)


def _scores(c: Call, targets: int) -> Term:
    sums = c.w("MatMul", table(c, c.xs[0]), c.w.constant(np.ascontiguousarray(floats(c, "coefficients").reshape(targets, -1).T)))
    return sums + c.w.constant(floats(c, "intercepts")) if c.attribute("intercepts") else sums


def transformed(c: Call, scores: Term, transform: str) -> Term:
    """A transformation of rows of scores."""
    if transform == "LOGISTIC":
        return c.w("Sigmoid", scores)
    if transform == "SOFTMAX":
        return c.w("Softmax", scores, axis=1)
    if transform == "SOFTMAX_ZERO":
        return _softmax_zero(c, scores)
    return _probit(c, scores) if transform == "PROBIT" else scores


def of_two(c: Call, score: Term, transform: str, other: Term) -> Term:
    """The scores of two classes from that of the second, with what the first one's is if it is not transformed."""
    if transform == "LOGISTIC":
        return c.w("Sigmoid", c.w("Concat", -score, score, axis=1))
    return c.w("Concat", *((_probit(c, score), score.filled(0)) if transform == "PROBIT" else (other, score)), axis=1)


def _softmax_zero(c: Call, scores: Term) -> Term:
    """Scores of about zero stay in proportion and do not count."""
    w = c.w
    counts = w("Abs", scores) > 1e-7
    # Any number near the greatest keeps the powers finite, and this one is constant.
    top = w("Floor", w("ReduceMax", scores, [1]))
    powers = w("Exp", scores - top)
    return w("Where", counts, powers, scores * w("Exp", -top)) / w("ReduceSum", powers.at(counts), [1])


def _probit(c: Call, scores: Term) -> Term:
    """`onnx_numba.ops.ml_scores.probit` in a form that is smooth in the middle: with ``x = 2 v - 1`` and ``log = ln(1 - x²)``

        root² = sqrt(first² - log / a) - first = x² (-log / x²) / a / (sqrt(first² - log / a) + first)
    """
    w, x = c.w, c.w("Cast", scores, to=F64.onnx) * 2 - 1
    square = x * x
    near = square < 1e-3
    # What is not chosen must be a number too, for its derivative.
    far = w("Where", near, square.number(0.5), square)
    ratio = w("Where", near, 1 + square * (0.5 + square * (1 / 3 + square / 4)), -w("Log", 1 - far) / far)
    first = 2 / (PI * WINITZKI) - 0.5 * (ratio * square)
    root = w("Sqrt", first * first + ratio * square / WINITZKI) + first
    return w("Cast", x * w("Sqrt", ratio / root * (2 / WINITZKI)), to=F32.onnx)
