"""Gradients through operators of ai.onnx.ml."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import Array, parsed

import onnx_numba.backend as backend
from onnx_numba.errors import UnsupportedError

X = np.array([[1.0, -2.0, 4.0], [0.5, 3.0, -1.0]], np.float32)
WEIGHTS = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -0.5]], np.float32)
COEFFICIENTS = "coefficients=[0.5, -1.0, 2.0, 1.0, 0.25, -0.5], intercepts=[0.5, -0.25]"


def slope(node: str, weighted: str = "y = Identity(s)") -> Array:
    text = f"""g (float[2,3] x) => (float[2,3] d) {{ s = ai.onnx.ml.{node} {weighted} d = Gradient<xs=["x"], y="y">(x) }}"""
    model = parsed(text.replace("s = ai.onnx.ml.LinearClassifier", "k, s = ai.onnx.ml.LinearClassifier"))
    model.opset_import.add(domain="ai.onnx.ml", version=3)
    return np.asarray(backend.prepare(model, jit=False).run([X])[0])


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


def test_a_transformation_without_a_derivative() -> None:
    with pytest.raises(UnsupportedError, match="transforms scores by PROBIT"):
        slope(f'LinearRegressor<{COEFFICIENTS}, targets=2, post_transform="PROBIT">(x)')
