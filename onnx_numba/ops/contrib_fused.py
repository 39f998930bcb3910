"""Products and convolutions of onnxruntime's domain with an activation or a factor fused in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx_numba.ir.graph import Node
from onnx_numba.ir.loop import Tensor
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS, require_shape
from onnx_numba.ops.conv import conv
from onnx_numba.ops.matmul import gemm, matmul
from onnx_numba.ops.registry import builtin, op
from onnx_numba.schemas import find

Ints = Sequence[int] | None

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Relu": (), "Tanh": (), "Sigmoid": (), "Softplus": (), "Softsign": (), "LeakyRelu": ("alpha",), "Elu": ("alpha",),
    "Selu": ("alpha", "gamma"), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max"),
}  # fmt: skip
"""Activations that can be fused, and the attributes that they take."""

_OPSET = 6
"""The version of the standard in which those have just these attributes."""


def _activated(b: Builder, x: Tensor, name: str | None, parameters: Mapping[str, float | None]) -> Tensor:
    """An activation by the name of the standard's operator, with those of its attributes that are given."""
    if not name:
        return x
    schema = find(name, "", _OPSET)
    if name not in _PARAMETERS or schema is None:
        b.fail(f"activation {name!r} is unknown; known are {', '.join(_PARAMETERS)}")
    given = {key: value for key, value in parameters.items() if key in _PARAMETERS[name] and value is not None}
    node = Node(name, "", schema.since_version, _OPSET, ("x",), ("y",), given, name=b.label)
    implementation = builtin().find(node)
    assert implementation is not None
    result = implementation.call(b, node, [x])
    assert isinstance(result, Tensor)
    return result


@op("FusedGemm", since=1, domain=MS)
def fused_gemm(
    b: Builder, x: Tensor, y: Tensor, c: Tensor | None = None, *, transA: int = 0, transB: int = 0, alpha: float = 1.0,
    beta: float = 1.0, activation: str | None = None, activation_alpha: float | None = None, activation_beta: float | None = None,
    activation_gamma: float | None = None,
) -> Tensor:  # fmt: skip
    """Gemm, then an activation."""
    result = gemm(b, x, y, c, transA=transA, transB=transB, alpha=alpha, beta=beta)
    parameters = {"alpha": activation_alpha, "beta": activation_beta, "gamma": activation_gamma}
    return _activated(b, result, activation, parameters)


@op("FusedConv", since=1, domain=MS)
def fused_conv(
    b: Builder, x: Tensor, w: Tensor, bias: Tensor | None = None, z: Tensor | None = None, *, auto_pad: str = "NOTSET",
    dilations: Ints = None, group: int = 1, kernel_shape: Ints = None, pads: Ints = None, strides: Ints = None,
    activation: str | None = None, activation_params: Sequence[float] | None = None,
) -> Tensor:  # fmt: skip
    """Conv, plus a tensor of the same shape, then an activation."""
    result = conv(
        b, x, w, bias, auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads, strides=strides
    )
    if z is not None:
        require_shape(b, z, result.shape, "Z")
        result = b.map(lambda v, s: v + s, result, z)
    names = _PARAMETERS.get(activation or "", ())
    return _activated(b, result, activation, dict(zip(names, activation_params or (), strict=False)))


@op("FusedMatMul", since=1, domain=MS)
def fused_matmul(
    b: Builder, x: Tensor, y: Tensor, *, alpha: float = 1.0, transA: int = 0, transB: int = 0, transBatchA: int = 0, transBatchB: int = 0
) -> Tensor:
    """A factor times the product of tensors whose matrices lie transposed, or whose rows are the first axis."""
    result = matmul(b, _upright(b, x, transA, transBatchA), _upright(b, y, transB, transBatchB))
    return result if alpha == 1 else b.map(lambda v: alpha * v, result)


def _upright(b: Builder, x: Tensor, transposed: int, rows_first: int) -> Tensor:
    """A stack of matrices in the order that a product takes; vectors stay as they are."""
    if x.rank < 2:
        return x
    order = list(range(x.rank))
    if rows_first:
        order = [*order[1:-1], 0, order[-1]]
    if transposed:
        order[-2:] = order[:-3:-1]
    return b.transpose(x, order)
