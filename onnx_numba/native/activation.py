"""The activations that recurrent operators choose from, each as ``name(v, alpha, beta)``."""

from __future__ import annotations

from typing import Any

from onnx_numba.native.exponential import RECORDS as _EXPONENTIALS
from onnx_numba.native.logarithm import RECORDS as _LOGARITHMS
from onnx_numba.native.registry import Record, function
from onnx_numba.native.scalar import RECORDS as _SCALARS

_NAMES: dict[str, Any] = {record.name: record for record in (*_EXPONENTIALS, *_LOGARITHMS, *_SCALARS)}
abs_, expm1, log1p, max_, min_, neg, select, sigmoid, tanh, exp = (
    _NAMES[name] for name in ("abs_", "expm1", "log1p", "max_", "min_", "neg", "select", "sigmoid", "tanh", "exp")
)


@function
def act_relu(v: Any, alpha: Any, beta: Any) -> Any:
    """``max(v, 0)``."""
    return max_(v, alpha - alpha)


@function
def act_tanh(v: Any, alpha: Any, beta: Any) -> Any:
    """The hyperbolic tangent."""
    return tanh(v)


@function
def act_sigmoid(v: Any, alpha: Any, beta: Any) -> Any:
    """``1 / (1 + exp(-v))``."""
    return sigmoid(v)


@function
def act_affine(v: Any, alpha: Any, beta: Any) -> Any:
    """``alpha v + beta``."""
    return alpha * v + beta


@function
def act_leakyrelu(v: Any, alpha: Any, beta: Any) -> Any:
    """``v``, times ``alpha`` below 0."""
    return select(v < 0, alpha * v, v)


@function
def act_thresholdedrelu(v: Any, alpha: Any, beta: Any) -> Any:
    """``v`` above ``alpha``, else 0."""
    return select(v > alpha, v, alpha - alpha)


@function
def act_scaledtanh(v: Any, alpha: Any, beta: Any) -> Any:
    """``alpha tanh(beta v)``."""
    return alpha * tanh(beta * v)


@function
def act_hardsigmoid(v: Any, alpha: Any, beta: Any) -> Any:
    """``alpha v + beta`` within 0 and 1."""
    line = alpha * v + beta
    zero = alpha - alpha
    return min_(max_(line, zero), exp(zero))


@function
def act_elu(v: Any, alpha: Any, beta: Any) -> Any:
    """``v``, below 0 ``alpha (exp(v) - 1)``."""
    return select(v < 0, alpha * expm1(v), v)


@function
def act_softsign(v: Any, alpha: Any, beta: Any) -> Any:
    """``v / (1 + |v|)``."""
    return v / (exp(alpha - alpha) + abs_(v))


@function
def act_softplus(v: Any, alpha: Any, beta: Any) -> Any:
    """``log(1 + exp(v))``."""
    return max_(v, alpha - alpha) + log1p(exp(neg(abs_(v))))


RECORDS: tuple[Record, ...] = (
    act_relu, act_tanh, act_sigmoid, act_affine, act_leakyrelu, act_thresholdedrelu, act_scaledtanh, act_hardsigmoid, act_elu,
    act_softsign, act_softplus,
)  # fmt: skip
