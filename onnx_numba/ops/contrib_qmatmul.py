"""onnxruntime's products of integer matrices (domain com.microsoft)."""

from __future__ import annotations

from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F32, I32, U32, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS, require_broadcast
from onnx_numba.ops.contrib_quant import one_number
from onnx_numba.ops.matmul import matmul
from onnx_numba.ops.quant import dynamic_quantize_linear, matmul_integer, per_column, quantised
from onnx_numba.ops.registry import op


def _scaled(b: Builder, sums: Tensor, scales: tuple[Tensor, Tensor], bias: Tensor | None, dtype: DType) -> Tensor:
    """Sums of products as floats: times both scales, plus a bias."""

    def element(v: Expr, left: Expr, right: Expr, *more: Expr) -> Expr:
        value = e.cast(v, F32) * (e.cast(left, F32) * e.cast(right, F32))
        return value + e.cast(more[0], F32) if more else value

    return b.map(element, sums, *scales, *([] if bias is None else [bias]), dtype=dtype)


@op("MatMulIntegerToFloat", since=1, domain=MS)
def matmul_integer_to_float(
    b: Builder, x: Tensor, y: Tensor, x_scale: Tensor, y_scale: Tensor, x_zero: Tensor | None = None, y_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The product of two quantised tensors, the right one perhaps by column, as floats."""
    left = one_number(b, x_scale, x_scale.dtype, "scale of the first input")
    sums = matmul_integer(b, x, y, one_number(b, x_zero, x.dtype, "zero point of the first input"), y_zero)
    return _scaled(b, sums, (left, per_column(b, y_scale, y, "the scale of the second input")), bias, x_scale.dtype)


@op("DynamicQuantizeMatMul", since=1, domain=MS)
def dynamic_quantize_matmul(
    b: Builder, x: Tensor, y: Tensor, y_scale: Tensor, y_zero: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """The product of a float tensor, quantised by its range, and a quantised one."""
    steps, scale, zero = dynamic_quantize_linear(b, x)
    return matmul_integer_to_float(b, steps, y, scale, y_scale, zero, y_zero, bias)


@op("QGemm", since=1, domain=MS)
def qgemm(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor, y: Tensor, y_scale: Tensor, y_zero: Tensor, c: Tensor | None = None,
    out_scale: Tensor | None = None, out_zero: Tensor | None = None, *, transA: int = 0, transB: int = 0, alpha: float = 1.0,
) -> Tensor:  # fmt: skip
    """``alpha x y + c`` of quantised matrices; ``c`` is in units of the product. Without a zero point the result stays float."""
    left, right = (b.transpose(t, (1, 0)) if turn else t for t, turn in ((x, transA), (y, transB)))
    sums = matmul_integer(b, left, right, one_number(b, x_zero, x.dtype, "zero point of the first input"), y_zero)
    if c is not None:
        require_broadcast(b, c.shape, sums.shape, "C")
        sums = b.map(lambda v, w: v + w, sums, b.expand(c, sums.shape))
    scales = [one_number(b, x_scale, F32, "scale of the first input"), per_column(b, y_scale, right, "the scale of the second input")]
    if out_scale is not None:
        scales.append(one_number(b, out_scale, F32, "scale of the result"))
    zeros = [] if out_zero is None else [one_number(b, out_zero, out_zero.dtype, "zero point of the result")]

    def element(v: Expr, first: Expr, second: Expr, *more: Expr) -> Expr:
        factor = alpha * first * second
        if out_scale is not None:
            factor = factor / more[0]
        value = e.cast(v, F32) * factor
        return value if out_zero is None else quantised(value, more[-1], out_zero.dtype)

    return b.map(element, sums, *scales, *zeros, dtype=F32 if out_zero is None else out_zero.dtype)


@op("MatMulInteger16", since=1, domain=MS)
def matmul_integer16(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """The product of two 16-bit integer tensors in 32 bits."""
    kind = U32 if x.dtype.kind == y.dtype.kind == "u" else I32
    return matmul(b, b.cast(x, kind), b.cast(y, kind))
