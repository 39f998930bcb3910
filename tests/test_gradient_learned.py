"""Gradients through operators of ai.onnx.ml."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import Array, parsed
from learned import X, differences, slope

import onnx_numba.backend as backend

WEIGHTS = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -0.5]], np.float32)
COEFFICIENTS = "coefficients=[0.5, -1.0, 2.0, 1.0, 0.25, -0.5], intercepts=[0.5, -0.25]"


def test_scaler() -> None:
    np.testing.assert_allclose(slope("Scaler<offset=[1.0], scale=[2.0, 3.0, -1.0]>(x)"), [[2, 3, -1]] * 2)


def test_imputer() -> None:
    np.testing.assert_array_equal(slope("Imputer<imputed_value_floats=[7.0], replaced_value_float=4.0>(x)"), [[1, 1, 0], [1, 1, 1]])


def test_features() -> None:
    node = "ArrayFeatureExtractor(x, i)"
    text = f"""g (float[2,3] x, int64[3] i) => (float[2,3] d) {{ y = ai.onnx.ml.{node} d = Gradient<xs=["x"], zs=["i"], y="y">(x, i) }}"""
    model = parsed(text)
    model.opset_import.add(domain="ai.onnx.ml", version=3)
    np.testing.assert_array_equal(backend.prepare(model, jit=False).run([X, np.array([2, 0, 2])])[0], [[1, 0, 2]] * 2)


@pytest.mark.parametrize(("widths", "expected"), [("", [1, 2, 3, 4, 5]), ("<inputdimensions=[2, 3]>", [1, 2, 0, 3, 4])])
def test_features_side_by_side(widths: str, expected: list[int]) -> None:
    text = f"""g (float[2,3] x, float[2,1,2] v, float[5] w) => (float[2,3] d, float[2,1,2] e) {{
        s = ai.onnx.ml.FeatureVectorizer{widths}(x, v) y = Mul(s, w) d, e = Gradient<xs=["x", "v"], zs=["w"], y="y">(x, v, w) }}"""
    model = parsed(text)
    model.opset_import.add(domain="ai.onnx.ml", version=3)
    weights = np.arange(1, 6, dtype=np.float32)
    d, e = backend.prepare(model, jit=False).run([X, np.ones((2, 1, 2), np.float32), weights])
    np.testing.assert_array_equal(d, [expected[:3]] * 2)
    np.testing.assert_array_equal(e, [[expected[3:]]] * 2)


def test_normalizer() -> None:
    length = np.sqrt((X**2).sum(1, keepdims=True))
    np.testing.assert_allclose(slope('Normalizer<norm="L2">(x)'), 1 / length - X * X.sum(1, keepdims=True) / length**3, 1e-5)


def test_scores() -> None:
    np.testing.assert_allclose(slope(f"LinearRegressor<{COEFFICIENTS}, targets=2>(x)"), [WEIGHTS.sum(0)] * 2)
    node = f'LinearClassifier<{COEFFICIENTS}, classlabels_ints=[3, 4], post_transform="LOGISTIC">(x)'
    shares = 1 / (1 + np.exp(-(X @ WEIGHTS.T + [0.5, -0.25])))
    np.testing.assert_allclose(slope(node), (shares * (1 - shares)) @ WEIGHTS, 1e-5)
    node = f'LinearRegressor<{COEFFICIENTS}, targets=2, post_transform="SOFTMAX">(x)'
    powers = np.exp(X @ WEIGHTS.T + [0.5, -0.25])
    shares = powers / powers.sum(1, keepdims=True)
    squares = 2 * shares * (shares - (shares**2).sum(1, keepdims=True))
    np.testing.assert_allclose(slope(node, "y = Mul(s, s)"), squares @ WEIGHTS, 1e-4, 1e-6)


def test_what_jumps_is_constant_between_jumps() -> None:
    np.testing.assert_array_equal(slope("Binarizer<threshold=0.7>(x)"), np.zeros((2, 3)))


def quantiles(v: Array) -> Array:
    """Winitzki's approximation of those of the normal distribution."""
    x = 2 * v - 1
    log = np.log((1 - x) * (1 + x))
    first = 2 / (3.14159 * 0.147) + log / 2
    return np.sqrt(2) * np.sign(x) * np.sqrt(np.sqrt(first**2 - log / 0.147) - first)


def test_quantiles_of_scores() -> None:
    """A score of one half, where the formula of the operator has a root of zero, and another one."""
    node = 'LinearRegressor<coefficients=[0.125, 0.0625, 0.0625], intercepts=[0.25], targets=1, post_transform="PROBIT">(x)'
    slopes = np.array([0.125, 0.0625, 0.0625])
    np.testing.assert_array_equal(X @ slopes + 0.25, [0.5, 0.4375])
    middle = np.sqrt(2 * 3.14159)
    beside = (quantiles(np.array([0.4375 + 1e-6])) - quantiles(np.array([0.4375 - 1e-6]))) / 2e-6
    np.testing.assert_allclose(slope(node), [middle * slopes, beside * slopes], 1e-5)


def test_softmax_without_zeros() -> None:
    """A score of zero does not count for the others."""
    node = f'LinearRegressor<{COEFFICIENTS.replace("0.5, -0.25]", "-10.0, 1.5]")}, targets=2, post_transform="SOFTMAX_ZERO">(x)'
    scores = X @ WEIGHTS.T + [-10, 1.5]
    assert scores[0, 1] == 0

    def weighted(x: Array) -> Array:
        scores = x @ WEIGHTS.T.astype(float) + [-10, 1.5]
        counts = np.abs(scores) > 1e-7
        return np.where(counts, np.exp(scores), scores) / (counts * np.exp(scores)).sum(1, keepdims=True) * [1, 2]

    d = slope(node, "w = Constant<value_floats=[1.0, 2.0]>() y = Mul(s, w)")
    np.testing.assert_allclose(d, differences(weighted, 1e-8), 1e-5, 1e-6)
    assert np.abs(d[0]).max() > 0.1


@pytest.mark.parametrize("labels", ["[3]", "[3, 4]"])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "PROBIT"])
def test_one_score_for_two_classes(labels: str, transform: str) -> None:
    node = "LinearClassifier<coefficients=[0.125, 0.0625, 0.0625], intercepts=[0.25]," \
        f' classlabels_ints={labels}, post_transform="{transform}">(x)'
    function = {"NONE": lambda s: s, "LOGISTIC": lambda s: 1 / (1 + np.exp(-s)), "PROBIT": quantiles}[transform]

    def weighted(x: Array) -> Array:
        score = x @ np.array([0.125, 0.0625, 0.0625]) + 0.25
        other = 0 * score if transform == "PROBIT" else 1 - function(score)
        return function(score) ** 2 + (other**2 if "4" in labels else 0)

    first = int(transform == "PROBIT")  # of the score one half NumPy has no differences: there is a root of zero
    np.testing.assert_allclose(slope(node, "y = Mul(s, s)")[first:], differences(weighted)[first:], 1e-4, 1e-6)


@pytest.mark.parametrize("kind", ["double", "int64"])
def test_features_of_other_types(kind: str) -> None:
    text = f"""g ({kind}[2,3] x, {kind}[2,2] k, {kind}[2,1,2] w) => (double[2,3] d, double[2,2] e, double[2,1,2] f) {{
        y = ai.onnx.ml.FeatureVectorizer<inputdimensions=[2, 3, 2]>(x, k, w) z = Mul(y, y)
        d, e, f = Gradient<xs=["x", "k", "w"], y="z">(x, k, w) }}"""
    model = parsed(text)
    model.opset_import.add(domain="ai.onnx.ml", version=3)
    x, k, w = (np.arange(1, size + 1).reshape(shape) for size, shape in ((6, (2, 3)), (4, (2, 2)), (4, (2, 1, 2))))
    d, e, f = backend.prepare(model, jit=False).run([v.astype(np.dtype(kind)) for v in (x, k, w)])
    np.testing.assert_array_equal(d, 2 * x * [1, 1, 0])
    np.testing.assert_array_equal(e, 2 * k)
    np.testing.assert_array_equal(f, 2 * w)


def test_counts_of_words_are_constant() -> None:
    text = """g (int64[4] x) => (float[2] y, double[4] d) {
        y = TfIdfVectorizer<max_gram_length=1, max_skip_count=0, min_gram_length=1, mode="TF", ngram_counts=[0], ngram_indexes=[0, 1],
            pool_int64s=[2, 3]>(x)
        d = Gradient<xs=["x"], y="y">(x) }"""
    y, d = backend.prepare(parsed(text), jit=False).run([np.array([2, 3, 3, 1])])
    np.testing.assert_array_equal(y, [1, 2])
    np.testing.assert_array_equal(d, np.zeros(4))


def test_products_that_are_quantised_are_constant() -> None:
    text = """g (float[2,2] x, float s) => (float[2,2] d, float e) { q = Cast<to=17>(x) o = Constant<value=float {0.0}>() z = Cast<to=17>(o)
        p = QLinearMatMul(q, s, z, q, s, z, s, z) y = Cast<to=1>(p) d, e = Gradient<xs=["x", "s"], y="y">(x, s) }"""
    d, e = backend.prepare(parsed(text), jit=False).run([np.ones((2, 2), np.float32), np.float32(0.5)])
    assert not d.any() and not e
