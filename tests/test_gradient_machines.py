"""Gradients through support vector machines."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from gradients import Array, drawing
from learned import X, differences, slope

f64 = drawing(15)

VECTORS = np.array([[0.5, -1.0, 1.0], [1.5, 0.5, 2.0], [-1.0, 1.0, 0.25], [0.5, 2.0, -0.5]])
WEIGHTS = np.array([0.5, -1.0, 0.75, 0.25])
PAIRS = np.array([[0.5, -0.25, 0.75, 0.5], [-0.5, 1.0, 0.25, -0.75]])
PARAMETERS = "kernel_params=[0.125, 0.5, 3.0]"


def listed(values: Array) -> str:
    return f"[{', '.join(map(repr, map(float, values.reshape(-1))))}]"


def kernels(x: Array, kind: str) -> Array:
    gamma, shift, degree = 0.125, 0.5, 3
    dots = x @ VECTORS.T
    if kind == "RBF":
        return np.exp(-gamma * ((x[:, None] - VECTORS) ** 2).sum(2))
    return {"LINEAR": dots, "POLY": (gamma * dots + shift) ** degree, "SIGMOID": np.tanh(gamma * dots + shift)}[kind]


@pytest.mark.parametrize("kind", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_regression(kind: str) -> None:
    node = f'SVMRegressor<coefficients={listed(WEIGHTS)}, {PARAMETERS}, kernel_type="{kind}", n_supports=4, rho=[0.5],' \
        f" support_vectors={listed(VECTORS)}>(x)"
    d = slope(node, "y = Mul(s, s)")
    np.testing.assert_allclose(d, differences(lambda x: (kernels(x, kind) @ WEIGHTS + 0.5) ** 2), 1e-4, 1e-5)


def test_regression_without_vectors() -> None:
    node = "SVMRegressor<coefficients=[0.5, -1.0, 2.0], rho=[0.25]>(x)"
    np.testing.assert_allclose(slope(node), [[0.5, -1, 2]] * 2)


def test_belonging_to_a_class_jumps() -> None:
    node = "SVMRegressor<coefficients=[0.5, -1.0, 2.0], rho=[0.25], one_class=1>(x)"
    np.testing.assert_array_equal(slope(node), np.zeros((2, 3)))


def decided(x: Array, sizes: list[int], rho: Array, kind: str = "RBF") -> Array:
    """The decision values of pairs of classes: for each the kernels of both classes' vectors, times their weights against the other."""
    values, starts = kernels(x, kind), np.cumsum([0, *sizes])
    parts = [slice(low, high) for low, high in pairwise(starts)]
    pairs = [(i, j) for i in range(len(sizes)) for j in range(i + 1, len(sizes))]
    sums = [values[:, parts[i]] @ PAIRS[j - 1, parts[i]] + values[:, parts[j]] @ PAIRS[i, parts[j]] for i, j in pairs]
    return np.stack(sums, 1) + rho


def classifier(sizes: list[int], rho: Array, more: str) -> str:
    weights = PAIRS[: len(sizes) - 1]
    return f"SVMClassifier<coefficients={listed(weights)}, {PARAMETERS}, kernel_type=\"RBF\", rho={listed(rho)}," \
        f" support_vectors={listed(VECTORS)}, vectors_per_class={sizes}, classlabels_ints={[*range(len(sizes))]}, {more}>(x)"


THREE = [1, 2, 1], np.array([0.1, -0.2, 0.3])
TWO = [1, 3], np.array([0.25])


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("classes", [TWO, THREE], ids=["two", "three"])
def test_decisions(classes: tuple[list[int], Array], transform: str) -> None:
    def weighted(x: Array) -> Array:
        scores = decided(x, *classes)
        if len(classes[0]) == 2:
            scores = np.concatenate([-scores if transform in ("NONE", "LOGISTIC") else 1 - scores, scores], 1)
        elif transform.startswith("SOFTMAX"):
            scores = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        return (1 / (1 + np.exp(-scores)) if transform == "LOGISTIC" else scores) ** 2

    d = slope(classifier(*classes, f'post_transform="{transform}"'), "y = Mul(s, s)")
    np.testing.assert_allclose(d, differences(weighted), 1e-4, 1e-5)


def test_linear_functions_of_classes() -> None:
    node = "SVMClassifier<coefficients=[0.5, -1.0, 2.0, 1.0, 0.25, -0.5], rho=[0.25], classlabels_ints=[3, 4]>(x)"
    table = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -0.5]])
    np.testing.assert_allclose(slope(node, "y = Mul(s, s)"), 2 * (X @ table.T + 0.25) @ table, 1e-5)


@pytest.mark.parametrize("classes", [TWO, THREE], ids=["two", "three"])
def test_probabilities(classes: tuple[list[int], Array]) -> None:
    """Those of sum 1 where the chances of pairs are contradicted least, by their definition."""
    slopes, shifts = np.array([-1.5, 0.75, -2.0]), np.array([0.25, -0.5, 0.125])
    count = len(classes[0])
    pairs = count * (count - 1) // 2

    def weighted(x: Array) -> Array:
        chances = 1 - 1 / (1 + np.exp(-(decided(x, *classes) * slopes[:pairs] + shifts[:pairs])))
        result = np.zeros((len(x), count))
        for n, row in enumerate(chances):
            both = np.zeros((count, count))
            both[np.triu_indices(count, 1)] = row
            both.T[np.triu_indices(count, 1)] = 1 - row  # [i, j] is the chance of i against j
            bordered = np.ones((count + 1, count + 1))
            bordered[count, count] = 0
            bordered[:count, :count] = np.diag((both**2).sum(0)) - both * both.T
            result[n] = np.linalg.solve(bordered, np.eye(count + 1)[count])[:count]
        return result * weights

    node, weights = classifier(*classes, f"prob_a={listed(slopes[:pairs])}, prob_b={listed(shifts[:pairs])}"), f64(2, count)
    d = slope(node, f"v = Constant<value_floats={listed(weights)}>() r = Shape(s) w = Reshape(v, r) y = Mul(s, w)")
    np.testing.assert_allclose(d, differences(weighted), 1e-4, 1e-5)
