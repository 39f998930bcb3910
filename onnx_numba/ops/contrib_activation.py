"""Activations of onnxruntime's domain."""

from __future__ import annotations

from onnx_numba.ir import expr as e
from onnx_numba.ir.loop import Tensor
from onnx_numba.ops import activation
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS
from onnx_numba.ops.registry import op


@op("Gelu", since=1, domain=MS)
def gelu(b: Builder, x: Tensor) -> Tensor:
    """The input times the normal distribution function of it."""
    return activation.gelu(b, x, approximate="none")


@op("BiasGelu", since=1, domain=MS)
def bias_gelu(b: Builder, x: Tensor, bias: Tensor) -> Tensor:
    """`gelu` of the sum with a bias along the last axis."""
    return gelu(b, b.map(lambda v, c: v + c, x, _bias(b, x, bias)))


@op("FastGelu", since=1, domain=MS)
def fast_gelu(b: Builder, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """`gelu` by its approximation with tanh, of the sum with a bias along the last axis."""
    shifted = x if bias is None else b.map(lambda v, c: v + c, x, _bias(b, x, bias))
    return activation.gelu(b, shifted, approximate="tanh")


def _bias(b: Builder, x: Tensor, bias: Tensor) -> Tensor:
    if bias.rank != 1 or not x.rank:
        b.fail(f"a bias of rank 1 along the last axis is expected, one of rank {bias.rank} came for an input of rank {x.rank}")
    b.require_equal(bias.shape[0], x.shape[-1], "elements of the bias")
    return bias


@op("QuickGelu", since=1, domain=MS)
def quick_gelu(b: Builder, x: Tensor, *, alpha: float = 1.702) -> Tensor:
    """The input times the sigmoid of alpha times it."""
    return b.map(lambda v: v * e.unary("sigmoid", alpha * v), x)
