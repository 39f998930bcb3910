"""Scaling and linear models of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr, where
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F32, F64, I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import normal_axis
from onnx_numba.ops.ml_scores import check_transform, labels_of, logistic, probit, transformed
from onnx_numba.ops.product import product
from onnx_numba.ops.registry import op

ML = "ai.onnx.ml"
Floats = Sequence[float]


def rows(b: Builder, x: Tensor) -> Tensor:
    """The input as a matrix of samples; a vector is one sample."""
    if x.rank == 0:
        b.fail("the input must have at least one axis")
    if x.rank == 1:
        return b.reshape(x, (1, *x.shape))
    return x if x.rank == 2 else b.reshape(x, (x.shape[0], d.product(x.shape[1:])))


@op("Scaler", since=1, domain=ML)
def scaler(b: Builder, x: Tensor, *, offset: Floats, scale: Floats) -> Tensor:
    """``(x - offset) * scale`` as float32, with numbers for all features or one for each."""
    if not offset or not scale:
        b.fail("offset and scale are needed")
    kind = F64 if x.dtype is F64 else F32
    for name, values in (("offset", offset), ("scale", scale)):
        if len(values) != 1:
            b.require_equal(len(values), x.shape[-1] if x.rank else 1, f"numbers of {name}")
    shift, factor = (b.weight(np.array(v, np.float32)) for v in (offset, scale))
    if x.rank == 0:
        shift, factor = b.reshape(shift, ()), b.reshape(factor, ())

    def element(v: Expr, o: Expr, s: Expr) -> Expr:
        return e.cast((e.cast(v, kind) - e.cast(o, kind)) * e.cast(s, kind), F32)

    return b.map(element, x, shift, factor, dtype=F32)


@op("Normalizer", since=1, domain=ML)
def normalizer(b: Builder, x: Tensor, *, norm: str) -> Tensor:
    """Rows divided by their maximum, the sum of magnitudes, or their length; rows whose norm is 0 stay as they are."""
    axis = [normal_axis(b, min(1, x.rank - 1), x.rank)]
    values = b.cast(x, F32)
    if norm == "MAX":
        size = b.reduce("max", values, axis, True)
    elif norm == "L1":
        size = b.reduce("sum", values, axis, True, function=lambda v: e.unary("abs", v))
    elif norm == "L2":
        squares = b.reduce("sum", values, axis, True, function=lambda v: v * v)
        size = b.map(lambda s: e.unary("sqrt", s), squares)
    else:
        b.fail(f"norm must be MAX, L1 or L2, not {norm!r}")
    return b.map(lambda v, n: where(e.eq(n, 0.0), v, v / n), values, size)


def _linear(b: Builder, x: Tensor, coefficients: Floats, intercepts: Floats | None, targets: int) -> Tensor:
    """``x @ coefficients.T + intercepts`` in float32."""
    if targets < 1 or not coefficients or len(coefficients) % targets or len(intercepts or [0] * targets) != targets:
        b.fail(f"{len(coefficients or ())} coefficients and {len(intercepts or ())} intercepts for {targets} targets")
    matrix = np.array(coefficients, np.float32).reshape(targets, -1)
    result = product(b, b.cast(rows(b, x), F32), b.weight(np.ascontiguousarray(matrix.T)))
    if not intercepts:
        return result
    return b.map(lambda v, c: v + c, result, b.weight(np.array(intercepts, np.float32)))


@op("LinearRegressor", since=1, domain=ML)
def linear_regressor(
    b: Builder, x: Tensor, *, coefficients: Floats, intercepts: Floats | None = None, post_transform: str, targets: int
) -> Tensor:
    """One linear function per target. Like onnxruntime, it transforms a single one only by PROBIT."""
    scores = _linear(b, x, coefficients, intercepts, targets)
    check_transform(b, post_transform)
    return transformed(b, scores, post_transform if targets > 1 or post_transform == "PROBIT" else "NONE")


@op("LinearClassifier", since=1, domain=ML)
def linear_classifier(
    b: Builder, x: Tensor, *, coefficients: Floats, intercepts: Floats | None = None, post_transform: str,
    multi_class: int = 0, classlabels_ints: Sequence[int] | None = None, classlabels_strings: Sequence[str] | None = None,
) -> Any:  # fmt: skip
    """One linear function per class, the greatest wins; a single one separates two classes at zero."""
    check_transform(b, post_transform)
    labels = classlabels_strings or classlabels_ints
    if not labels:
        b.fail("there are no class labels")
    count = len(intercepts) if intercepts else len(labels)
    if count > 1 and count != len(labels):
        b.fail(f"{len(labels)} class labels for {count} intercepts")
    scores = _linear(b, x, coefficients, intercepts, count)
    if count > 1:
        winner = b.reduce("argmax", scores, [1])
        return labels_of(b, winner, classlabels_ints, classlabels_strings), transformed(b, scores, post_transform)
    n = scores.shape[0]
    names: Sequence[Any] = labels if len(labels) == 2 else (["0", "1"] if classlabels_strings else [0, 1])
    positive = b.compute((n,), lambda i: where(scores[(i, 0)] > 0, e.lit(1, I64), 0), I64)
    ints, strings = (None, names) if classlabels_strings else (names, None)
    return labels_of(b, positive, ints, strings), _binary_scores(b, scores, post_transform, len(labels) == 2)


def _binary_scores(b: Builder, scores: Tensor, transform: str, both: bool) -> Tensor:
    """Scores of two classes from that of the second."""
    if not both:
        scalar = {"LOGISTIC": logistic, "PROBIT": probit}.get(transform)
        return b.map(scalar, scores) if scalar else scores

    def element(i: Any, j: Any) -> Expr:
        s = scores[(i, 0)]
        first = e.eq(e.dimval(j), 0)
        if transform == "LOGISTIC":
            return logistic(where(first, -s, s))
        if transform == "PROBIT":
            return where(first, probit(s), 0.0)
        return where(first, 1.0 - s, s)

    return b.compute((scores.shape[0], 2), element, F32)
