"""Support vector machines of ai.onnx.ml. Where the standard is silent, they do what onnxruntime does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr, where
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F32, F64, I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.elementwise import power_of
from onnx_numba.ops.ml_linear import ML, rows
from onnx_numba.ops.ml_scores import check_transform, labels_of, logistic, probit, transformed
from onnx_numba.ops.product import product
from onnx_numba.ops.registry import op
from onnx_numba.templates.svm import couple

Floats = Sequence[float] | None
Array = np.ndarray[Any, Any]


def _kernel(b: Builder, x: Tensor, vectors: Array, kind: str, parameters: Floats, offset: float = 0.0) -> Tensor:
    """The kernel function of every row and every vector: [rows, vectors]."""
    gamma, coef0, degree = (*(parameters or ()), 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        b.require_equal(x.shape[1], vectors.shape[1], "features of a row")
        table = b.weight(np.ascontiguousarray(vectors.T))  # vectors side by side are the lanes

        def square(p: tuple[Dim, ...], r: tuple[Dim, ...]) -> Expr:
            difference = x[(p[0], r[0])] - table[(r[0], p[1])]
            return difference * difference

        distance = b.reduction("sum", (x.shape[0], len(vectors)), (vectors.shape[1],), square, F32)
        return b.map(lambda v: e.unary("exp", -gamma * v), distance)
    dots = product(b, x, b.weight(np.ascontiguousarray(vectors.T)))
    scalar: dict[str, Callable[[Expr], Expr]] = {
        "LINEAR": lambda v: v + offset,
        "POLY": lambda v: power_of(gamma * v + coef0, e.lit(degree, F32), F32),
        "SIGMOID": lambda v: e.unary("tanh", gamma * v + coef0),
    }
    if kind not in scalar:
        b.fail(f"kernel_type must be LINEAR, POLY, RBF or SIGMOID, not {kind!r}")
    return b.map(scalar[kind], dots)


@op("SVMRegressor", since=1, domain=ML)
def svm_regressor(
    b: Builder, x: Tensor, *, coefficients: Floats = None, kernel_params: Floats = None, kernel_type: str, n_supports: int,
    one_class: int, post_transform: str, rho: Floats = None, support_vectors: Floats = None,
) -> Tensor:  # fmt: skip
    """A number for each row, or for one class whether it belongs to it: 1 or -1. Like onnxruntime, it transforms neither."""
    check_transform(b, post_transform)
    table = b.cast(rows(b, x), F32)
    weights = np.array(coefficients or (), np.float32)
    origin = (rho or (0.0,))[0]
    vector = len(support_vectors or ())
    if not len(weights) or (n_supports and (n_supports < 0 or len(weights) != n_supports or not vector or vector % n_supports)):
        b.fail(f"{len(weights)} coefficients and {vector} numbers of support vectors for n_supports {n_supports}")
    if n_supports:
        vectors = np.array(support_vectors, np.float32).reshape(n_supports, -1)
        values = product(b, _kernel(b, table, vectors, kernel_type, kernel_params), b.weight(weights.reshape(-1, 1)))
        scores = b.map(lambda v: v + origin, values)
    else:
        scores = _kernel(b, table, weights.reshape(1, -1), "LINEAR", None, origin)
    if one_class:
        return b.map(lambda v: where(v > 0, e.lit(1.0, F32), -1.0), scores)
    return scores


@op("SVMClassifier", since=1, domain=ML)
def svm_classifier(
    b: Builder, x: Tensor, *, classlabels_ints: Sequence[int] | None = None, classlabels_strings: Sequence[str] | None = None,
    coefficients: Floats = None, kernel_params: Floats = None, kernel_type: str, post_transform: str, prob_a: Floats = None,
    prob_b: Floats = None, rho: Floats = None, support_vectors: Floats = None, vectors_per_class: Sequence[int] | None = None,
) -> Any:  # fmt: skip
    """Classes by votes of all pairs, with their decision values or probabilities; or one linear function per class."""
    check_transform(b, post_transform)
    labels: Sequence[Any] = classlabels_strings or classlabels_ints or ()
    table, count = b.cast(rows(b, x), F32), len(labels)
    weights, origins = np.array(coefficients or (), np.float32), list(rho or ())
    _check_sizes(b, count, len(weights), len(support_vectors or ()), vectors_per_class or (), len(origins), prob_a or (), prob_b or ())
    if not vectors_per_class:
        scores = _kernel(b, table, weights.reshape(count, -1), "LINEAR", None, origins[0])
        winner = b.reduce("argmax", scores, [1])
        if count == 2:
            winner = _linear_winner(b, scores, winner, bool((weights >= 0).all()))
        return labels_of(b, winner, classlabels_ints, classlabels_strings), transformed(b, scores, post_transform)
    vectors = np.array(support_vectors, np.float32).reshape(sum(vectors_per_class), -1)
    kernels = _kernel(b, table, vectors, kernel_type, kernel_params)
    decisions = _decisions(b, kernels, weights.reshape(count - 1, -1), list(vectors_per_class), origins)
    winner = b.reduce("argmax", _votes(b, decisions, count), [1])
    if prob_a:
        chances = _probabilities(b, decisions, count, list(prob_a), list(prob_b or ()))
        result = transformed(b, chances, post_transform)
    else:
        result = _two(b, decisions, post_transform) if count == 2 else transformed(b, decisions, post_transform)
    return labels_of(b, winner, classlabels_ints, classlabels_strings), result


def _check_sizes(
    b: Builder, count: int, weights: int, numbers: int, sizes: Sequence[int], origins: int, slopes: Sequence[float], shifts: Sequence[float]
) -> None:  # fmt: skip
    """Demand that the attributes of a classifier fit each other."""
    pairs, vectors = count * (count - 1) // 2, sum(sizes)
    if not count:
        b.fail("there are no class labels")
    if not sizes and (not weights or weights % count or not origins):
        b.fail(f"{weights} coefficients and {origins} numbers of rho for {count} classes")
    if sizes and (len(sizes) != count or count < 2 or min(sizes) < 0 or not vectors or not numbers or numbers % vectors):
        b.fail(f"{numbers} numbers of support vectors for vectors_per_class {list(sizes)} and {count} classes")
    if sizes and (weights != (count - 1) * vectors or origins < pairs):
        b.fail(f"{weights} coefficients and {origins} numbers of rho for {vectors} support vectors of {count} classes")
    if slopes and (len(slopes) < pairs or len(shifts) < pairs):
        b.fail(f"{len(slopes)} numbers of prob_a and {len(shifts)} of prob_b for {pairs} pairs of classes")


def _linear_winner(b: Builder, scores: Tensor, best: Tensor, positive: bool) -> Tensor:
    """Of two linear functions the second wins as soon as any is positive, in onnxruntime."""
    top = b.reduce("max", scores, [1])
    return b.map(lambda v, k: where(v >= 0.5 if positive else v > 0, e.lit(1, I64), k), top, best, dtype=I64)


def class_pairs(count: int) -> list[tuple[int, int]]:
    """All pairs of classes, in the order in which models have numbers of them."""
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def _decisions(b: Builder, kernels: Tensor, weights: Array, sizes: list[int], origins: list[float]) -> Tensor:
    """The decision value of every pair of classes."""
    matrix = pair_weights(weights, sizes)
    sums = product(b, b.cast(kernels, F64), b.weight(matrix))
    return b.map(lambda v, r: e.cast(v + r, F32), sums, b.weight(np.array(origins[: matrix.shape[1]], np.float64)), dtype=F32)


def pair_weights(weights: Array, sizes: Sequence[int]) -> Array:
    """What the kernels of all vectors count for every pair of classes: a column has the weights of both classes' vectors."""
    starts = np.cumsum([0, *sizes])
    pairs = class_pairs(len(sizes))
    matrix = np.zeros((weights.shape[1], len(pairs)), np.float64)
    for k, (i, j) in enumerate(pairs):
        matrix[starts[i] : starts[i + 1], k] = weights[j - 1, starts[i] : starts[i + 1]]
        matrix[starts[j] : starts[j + 1], k] = weights[i, starts[j] : starts[j + 1]]
    return matrix


def _votes(b: Builder, decisions: Tensor, count: int) -> Tensor:
    """How many pairs each class wins."""

    def element(n: Dim, c: Dim) -> Expr:
        total: Expr = e.lit(0, I64)
        for k, (i, j) in enumerate(class_pairs(count)):
            positive = decisions[(n, k)] > 0
            mine = e.cast(where(positive, e.lit(i, I64), j), I64)
            total = total + where(e.eq(mine, e.dimval(c)), e.lit(1, I64), 0)
        return total

    return b.compute((decisions.shape[0], count), element, I64)


def _probabilities(b: Builder, decisions: Tensor, count: int, slope: list[float], shift: list[float]) -> Tensor:
    """Class probabilities from those of pairs (Wu, Lin and Weng's second method)."""
    pairs = len(class_pairs(count))
    factors, terms = (b.weight(np.array(v[:pairs], np.float32)) for v in (slope, shift))

    def pair(v: Expr, s: Expr, t: Expr) -> Expr:
        return e.binary("min", e.binary("max", 1.0 - logistic(v * s + t), 1e-7), 1.0 - 1e-7)

    chances = b.map(pair, decisions, factors, terms)
    n = decisions.shape[0]
    result, _matrix, _product = b.template(
        couple, [chances], [(F32, (n, count)), (F32, (n, count, count)), (F32, (n, count))],
        total=n, dims=(count,), grain=16,
    )  # fmt: skip
    return result


def _two(b: Builder, decisions: Tensor, transform: str) -> Tensor:
    """Scores of two classes without probabilities."""

    def score(i: Dim, j: Dim) -> Expr:
        v = decisions[(i, 0)]
        first = e.eq(e.dimval(j), 0)
        if transform == "NONE":
            return where(first, -v, v)
        if transform == "PROBIT":
            return where(first, probit(v), 0.0)
        if transform == "LOGISTIC":
            return logistic(where(first, -v, v))
        return where(first, 1.0 - v, v)

    return b.compute((decisions.shape[0], 2), score, F32)
