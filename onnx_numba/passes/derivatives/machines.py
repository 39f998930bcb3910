"""Derivatives of the support vector machines of ``ai.onnx.ml``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_numba.ir.types import F32, F64, TensorType
from onnx_numba.ops.ml_svm import class_pairs, pair_weights
from onnx_numba.passes.derivatives.learned import floats, of_two, table, transformed
from onnx_numba.passes.derivatives.table import Call, composed
from onnx_numba.passes.derivatives.terms import Array, Body, Term


@composed("SVMRegressor")
def _regressor(c: Call) -> Sequence[Term | None]:
    """Whether a row belongs to the one class jumps."""
    if c.attribute("one_class"):
        return [c.ys[0]]
    weights, count = floats(c, "coefficients"), c.attribute("n_supports")
    vectors = floats(c, "support_vectors").reshape(count, -1) if count else weights.reshape(1, -1)
    values = _kernels(c, vectors, c.attribute("kernel_type") if count else "LINEAR")
    values = c.w("MatMul", values, c.w.constant(weights.reshape(-1, 1))) if count else values
    return [values + (c.attribute("rho") or (0.0,))[0]]


@composed("SVMClassifier")
def _classifier(c: Call) -> Sequence[Term | None]:
    count = len(c.attribute("classlabels_strings") or c.attribute("classlabels_ints"))
    weights, sizes, transform = floats(c, "coefficients"), c.attribute("vectors_per_class"), c.attribute("post_transform")
    if not sizes:
        scores = _kernels(c, weights.reshape(count, -1), "LINEAR") + c.attribute("rho")[0]
        return [None, transformed(c, scores, transform)]
    w, pairs = c.w, count * (count - 1) // 2
    kernels = _kernels(c, floats(c, "support_vectors").reshape(sum(sizes), -1), c.attribute("kernel_type"))
    sums = w("MatMul", w("Cast", kernels, to=F64.onnx), w.constant(pair_weights(weights.reshape(count - 1, -1), list(sizes))))
    decisions = w("Cast", sums + w.constant(np.array(c.attribute("rho")[:pairs], np.float64)), to=F32.onnx)
    if c.attribute("prob_a"):
        return [None, transformed(c, _chances(c, decisions, count), transform)]
    other = -decisions if transform == "NONE" else 1 - decisions
    return [None, of_two(c, decisions, transform, other) if count == 2 else transformed(c, decisions, transform)]


def _kernels(c: Call, vectors: Array, kind: str) -> Term:
    """The kernel function of every row and every vector: [rows, vectors]."""
    gamma, shift, degree = (*(c.attribute("kernel_params") or ()), 0.0, 0.0, 0.0)[:3]
    w, x = c.w, table(c, c.xs[0])
    if kind == "RBF":
        difference = w("Unsqueeze", x, [1]) - w.constant(vectors)
        return w("Exp", w("ReduceSumSquare", difference, [2], keepdims=0) * -gamma)
    dots = w("MatMul", x, w.constant(np.ascontiguousarray(vectors.T)))
    if kind == "POLY":
        base = dots * gamma + shift
        return w("Pow", base, base.number(degree))
    return w("Tanh", dots * gamma + shift) if kind == "SIGMOID" else dots


def _chances(c: Call, decisions: Term, count: int) -> Term:
    """Class probabilities from those of pairs: what the iterations of Wu, Lin and Weng's second method approach.

    Of the first of two classes in a pair let the chance be ``r``. The probabilities are the point of sum 1 where ``p @ Q @ p`` is least,
    ``Q[i, i]`` the sum of the squares of the others' chances against i and ``Q[i, j]`` minus the product of both. With S the matrix of ones
    and ``(Q + S) @ z = 1`` they are z divided by its sum, since all elements of ``Q @ p`` are equal; Q + S is positive definite.
    """
    w, pairs = c.w, class_pairs(count)
    slope, shift = (w.constant(floats(c, name)[: len(pairs)]) for name in ("prob_a", "prob_b"))
    limited = w("Clip", 1 - w("Sigmoid", decisions * slope + shift), np.array(1e-7, np.float32), np.array(1 - 1e-7, np.float32))
    mine = w("Cast", limited, to=F64.onnx)
    other = 1 - mine
    places = np.zeros((3, len(pairs), count, count))
    for k, (i, j) in enumerate(pairs):
        places[0, k, i, i] = places[1, k, j, j] = 1
        places[2, k, [i, j], [j, i]] = -1
    products = w("Concat", other * other, mine * mine, mine * other, axis=1)
    sums = w("MatMul", products, w.constant(places.reshape(-1, count * count))) + 1
    solved = _solution(c, sums.reshaped([-1, count, count]), count)
    return w("Cast", solved / w("ReduceSum", solved, [1]), to=F32.onnx)


def _solution(c: Call, matrices: Term, count: int) -> Term:
    """The solutions of ``matrix @ z = 1`` of matrices that need no pivoting, by elimination. A step, of equations with the number k::

        row, column = equations[k], equations[:, k]
        equations = equations - (column - unit[k]) * row / row[k]
    """
    w = c.w
    ends = w("Concat", w("Shape", matrices, end=2), np.array([1]), axis=0)
    equations = w("Concat", matrices, w("Expand", matrices.number(1), ends), axis=2)
    units = [w.constant(np.eye(count, length)[:, :, None]) for length in (count, count + 1)]
    step = Body(w)
    before = step.input(w.known.type_of(equations.name))
    unit, chosen = (step.input(TensorType(F64, (length, 1))) for length in (count, count + 1))
    row = step("ReduceSum", before * unit, [1])
    after = before - (step("MatMul", before, chosen) - unit) * row / step("MatMul", row, chosen)
    body = step.graph([before, unit, chosen], [after])
    solved = w.add("Scan", [equations, *units], bodies={"body": body}, num_scan_inputs=2)[0]
    return w("Gather", solved, np.array(count), axis=2)
