"""Gradients of the scores that models of ai.onnx.ml give."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from gradients import Array, parsed

import onnx_numba.backend as backend

X = np.array([[1.0, -2.0, 4.0], [0.5, 3.0, -1.0]], np.float32)


def slope(node: str, weighted: str = "y = Identity(s)") -> Array:
    """The gradient by `X` of the sum of what is weighted of a node's scores, s."""
    text = f"""g (float[2,3] x) => (float[2,3] d) {{ s = ai.onnx.ml.{node} {weighted} d = Gradient<xs=["x"], y="y">(x) }}"""
    model = parsed(text.replace(" s = ", " k, s = ") if "Classifier" in node else text)
    model.opset_import.add(domain="ai.onnx.ml", version=3)
    return np.asarray(backend.prepare(model, jit=False).run([X])[0])


def differences(function: Callable[[Array], Array], step: float = 1e-6) -> Array:
    """Central differences of the sum of a function of `X`, in float64."""
    x, found = X.astype(np.float64), np.zeros(X.shape)
    for place in np.ndindex(X.shape):
        moved = np.zeros(X.shape)
        moved[place] = step
        found[place] = (np.sum(function(x + moved)) - np.sum(function(x - moved))) / (2 * step)
    return found
