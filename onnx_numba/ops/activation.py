"""Activation functions."""

from __future__ import annotations

import math
from typing import Any

from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr, where
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F32, F64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import channel_view, require_broadcast
from onnx_numba.ops.elementwise import unary
from onnx_numba.ops.registry import op


def _clamp(v: Expr) -> Expr:
    return e.binary("max", e.binary("min", v, 1.0), 0.0)


relu = op("Relu", since=1, reviewed=14)(unary(lambda v: e.binary("max", v, 0)))
sigmoid = op("Sigmoid", since=1, reviewed=13)(unary(lambda v: e.unary("sigmoid", v)))
tanh = op("Tanh", since=1, reviewed=13)(unary(lambda v: e.unary("tanh", v)))
softplus = op("Softplus", since=1, reviewed=22)(unary(lambda v: e.unary("softplus", v)))
softsign = op("Softsign", since=1, reviewed=22)(unary(lambda v: v / (1.0 + e.unary("abs", v))))
mish = op("Mish", since=18, reviewed=22)(unary(lambda v: v * e.unary("tanh", e.unary("softplus", v))))
hard_swish = op("HardSwish", since=14, reviewed=22)(unary(lambda v: v * _clamp(v / 6.0 + 0.5)))


@op("LeakyRelu", since=1, reviewed=16)
def leaky_relu(b: Builder, x: Tensor, *, alpha: float, consumed_inputs: Any = None) -> Tensor:
    """Negative values times alpha."""
    return b.map(lambda v: where(v < 0, alpha * v, v), x)


@op("PRelu", since=7, reviewed=16)
def prelu(b: Builder, x: Tensor, slope: Tensor) -> Tensor:
    """Negative values times a slope that is broadcast to the input."""
    require_broadcast(b, slope.shape, x.shape, "slope")
    return b.map(lambda v, s: where(v < 0, s * v, v), x, slope)


@op("PRelu", since=1, reviewed=6)
def prelu_1(b: Builder, x: Tensor, slope: Tensor, *, consumed_inputs: Any = None) -> Tensor:
    """Versions 1 and 6: one slope, or one per channel."""
    per_channel = slope.rank == 1 and slope.size != 1 and x.rank > 1
    return prelu(b, x, channel_view(b, slope, x.rank) if per_channel else slope)


@op("Elu", since=1, reviewed=22)
def elu(b: Builder, x: Tensor, *, alpha: float, consumed_inputs: Any = None) -> Tensor:
    """Negative values v become alpha * (exp(v) - 1)."""
    return b.map(lambda v: where(v < 0, alpha * e.unary("expm1", v), v), x)


@op("Selu", since=1, reviewed=22)
def selu(b: Builder, x: Tensor, *, alpha: float, gamma: float, consumed_inputs: Any = None) -> Tensor:
    """Elu times gamma."""
    return b.map(lambda v: gamma * where(v < 0, alpha * e.unary("expm1", v), v), x)


@op("Celu", since=12, reviewed=28)
def celu(b: Builder, x: Tensor, *, alpha: float) -> Tensor:
    """Elu whose derivative is continuous."""
    return b.map(lambda v: where(v < 0, alpha * e.unary("expm1", v / alpha), v), x)


@op("Gelu", since=20)
def gelu(b: Builder, x: Tensor, *, approximate: str) -> Tensor:
    """The input times the normal distribution function of it, exact or by tanh."""

    def exact(v: Expr) -> Expr:
        return 0.5 * v * (1.0 + e.unary("erf", v * math.sqrt(0.5)))

    def by_tanh(v: Expr) -> Expr:
        return 0.5 * v * (1.0 + e.unary("tanh", math.sqrt(2 / math.pi) * (v + 0.044715 * (v * v * v))))

    if approximate not in ("none", "tanh"):
        b.fail(f"approximate must be none or tanh, not {approximate!r}")
    return b.map(by_tanh if approximate == "tanh" else exact, x)


@op("HardSigmoid", since=1, reviewed=22)
def hard_sigmoid(b: Builder, x: Tensor, *, alpha: float, beta: float, consumed_inputs: Any = None) -> Tensor:
    """A line, limited to 0 … 1."""
    return b.map(lambda v: _clamp(alpha * v + beta), x)


@op("ThresholdedRelu", since=10, reviewed=22)
def thresholded_relu(b: Builder, x: Tensor, *, alpha: float) -> Tensor:
    """Zero up to alpha."""
    return b.map(lambda v: where(v > alpha, v, 0.0), x)


@op("Swish", since=24)
def swish(b: Builder, x: Tensor, *, alpha: float) -> Tensor:
    """The input times the sigmoid of alpha times it."""
    return b.map(lambda v: v * e.unary("sigmoid", alpha * v), x)


@op("Shrink", since=9)
def shrink(b: Builder, x: Tensor, *, bias: float, lambd: float) -> Tensor:
    """Zero within ±lambd, moved toward zero by the bias outside; integers are computed as floats."""
    kind = x.dtype if x.dtype.is_float else F64 if x.dtype.size >= 4 else F32

    def element(v: Expr) -> Expr:
        w = e.cast(v, kind)
        return e.cast(where(w < -lambd, w + bias, where(w > lambd, w - bias, 0.0)), x.dtype)

    return b.map(element, x)
