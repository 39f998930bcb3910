"""Derivatives of the operators of ``ai.onnx.ml`` that are smooth; trees and encoders, whose results jump, are constants between jumps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_numba.ir.types import F32
from onnx_numba.passes.derivatives.table import Call, composed, rule
from onnx_numba.passes.derivatives.terms import Term


def _floats(c: Call, name: str) -> np.ndarray:
    return np.array(c.attribute(name), np.float32)


@composed("Scaler")
def _scaler(c: Call) -> Sequence[Term | None]:
    x, offset, scale = c.w("Cast", c.xs[0], to=F32.onnx), _floats(c, "offset"), _floats(c, "scale")
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


@composed("FeatureVectorizer")
def _feature_vectorizer(c: Call) -> Sequence[Term | None]:
    """Rows side by side, those of each input cut or filled up with zeros to the width stated for it."""
    w, widths = c.w, c.attribute("inputdimensions")
    parts = []
    for k, x in enumerate(c.xs):
        rows = w("Cast", w("Unsqueeze", x, [0]) if x.rank == 1 else w("Flatten", x), to=F32.onnx)
        if widths:
            missing = w.constant(np.array([widths[k]])) - w("Shape", rows, start=1)
            rows = w("Pad", rows, w("Concat", np.zeros(3, np.int64), missing, axis=0))
        parts.append(rows)
    return [w("Concat", *parts, axis=1)]


@composed("LinearRegressor")
def _linear_regressor(c: Call) -> Sequence[Term | None]:
    targets, transform = c.attribute("targets"), c.attribute("post_transform")
    return [_transformed(c, _scores(c, targets), transform if targets > 1 or transform == "PROBIT" else "NONE")]


@composed("LinearClassifier")
def _linear_classifier(c: Call) -> Sequence[Term | None]:
    labels = c.attribute("classlabels_strings") or c.attribute("classlabels_ints")
    count = len(c.attribute("intercepts") or labels)
    if count < 2:
        raise c.unsupported("it has the scores of one class alone")
    return [None, _transformed(c, _scores(c, count), c.attribute("post_transform"))]


def _scores(c: Call, targets: int) -> Term:
    x = c.w("Cast", c.xs[0], to=F32.onnx)
    rows = c.w("Unsqueeze", x, [0]) if x.rank == 1 else x
    sums = c.w("MatMul", rows, c.w.constant(np.ascontiguousarray(_floats(c, "coefficients").reshape(targets, -1).T)))
    return sums + c.w.constant(_floats(c, "intercepts")) if c.attribute("intercepts") else sums


def _transformed(c: Call, scores: Term, transform: str) -> Term:
    if transform == "NONE":
        return scores
    if transform == "LOGISTIC":
        return c.w("Sigmoid", scores)
    if transform == "SOFTMAX":
        return c.w("Softmax", scores, axis=1)
    raise c.unsupported(f"it transforms scores by {transform}")
