"""onnxruntime's products with quantised matrices (domain com.microsoft)."""

from __future__ import annotations

from collections.abc import Callable

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F32, I32, U8, U32, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.contrib_quant import DOMAIN, one_number
from onnx_numba.ops.matmul import gemm, matmul
from onnx_numba.ops.quant import centred, dynamic_quantize_linear, matmul_integer, per_column, quantised
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import checked_index
from onnx_numba.templates.few_bits import multiply

Extent = Dim | int

# ---- 8-bit integers


def _scaled(b: Builder, sums: Tensor, scales: tuple[Tensor, Tensor], bias: Tensor | None, dtype: DType) -> Tensor:
    """Sums of products as floats: times both scales, plus a bias."""

    def element(v: Expr, left: Expr, right: Expr, *more: Expr) -> Expr:
        value = e.cast(v, F32) * (e.cast(left, F32) * e.cast(right, F32))
        return value + e.cast(more[0], F32) if more else value

    return b.map(element, sums, *scales, *([] if bias is None else [bias]), dtype=dtype)


@op("MatMulIntegerToFloat", since=1, domain=DOMAIN)
def matmul_integer_to_float(
    b: Builder, x: Tensor, y: Tensor, x_scale: Tensor, y_scale: Tensor, x_zero: Tensor | None = None, y_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The product of two quantised tensors, the right one perhaps by column, as floats."""
    left = one_number(b, x_scale, x_scale.dtype, "scale of the first input")
    sums = matmul_integer(b, x, y, one_number(b, x_zero, x.dtype, "zero point of the first input"), y_zero)
    return _scaled(b, sums, (left, per_column(b, y_scale)), bias, x_scale.dtype)


@op("DynamicQuantizeMatMul", since=1, domain=DOMAIN)
def dynamic_quantize_matmul(
    b: Builder, x: Tensor, y: Tensor, y_scale: Tensor, y_zero: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """The product of a float tensor, quantised by its range, and a quantised one."""
    steps, scale, zero = dynamic_quantize_linear(b, x)
    return matmul_integer_to_float(b, steps, y, scale, y_scale, zero, y_zero, bias)


@op("QGemm", since=1, domain=DOMAIN)
def qgemm(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor, y: Tensor, y_scale: Tensor, y_zero: Tensor, c: Tensor | None = None,
    out_scale: Tensor | None = None, out_zero: Tensor | None = None, *, transA: int = 0, transB: int = 0, alpha: float = 1.0,
) -> Tensor:  # fmt: skip
    """``alpha x y + c`` of quantised matrices; ``c`` is in units of the product. Without a zero point the result stays float."""
    left = centred(b, x, one_number(b, x_zero, x.dtype, "zero point of the first input"))
    columns = per_column(b, y_zero)
    right = centred(b, y, b.reshape(columns, (columns.size, 1)) if transB and columns.rank else columns)
    sums = gemm(b, left, right, c, transA=transA, transB=transB, alpha=1.0, beta=1.0)
    scales = [one_number(b, x_scale, F32, "scale of the first input"), per_column(b, y_scale)]
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


@op("MatMulInteger16", since=1, domain=DOMAIN)
def matmul_integer16(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """The product of two 16-bit integer tensors in 32 bits."""
    kind = U32 if x.dtype.kind == y.dtype.kind == "u" else I32
    return matmul(b, b.cast(x, kind), b.cast(y, kind))


# ---- weights of few bits

PANEL = 256
"""Columns of a panel, at most: enough for loops over them to be long, few enough for a part of a panel to stay in cache."""
ROWS = 32
CHUNK = 32


class _Blocks:
    """A matrix of ``rows`` by ``columns``, stored transposed: each column in blocks of ``size`` numbers of ``bits`` bits."""

    def __init__(
        self, b: Builder, shape: tuple[int, int], size: int, bits: int, packed: Tensor, scales: Tensor, zeros: Tensor | None
    ) -> None:
        self.rows, self.columns = shape
        self.size, self.bits = size, bits
        self.count = d.ceildiv(self.rows, size)
        for axis, extent in enumerate((self.columns, self.count, size * bits // 8)):
            b.require_equal(packed.shape[axis], extent, f"dim {axis} of B")
        self.packed = b.reshape(packed, (self.columns, self.count * size * bits // 8))
        self.scales = b.reshape(scales, (self.columns, self.count))
        self.packed_zeros = zeros is not None and zeros.dtype is U8
        across = d.ceildiv(self.count * bits, 8) if self.packed_zeros else self.count
        self.zeros = None if zeros is None else b.reshape(zeros, (self.columns, across))

    def _unpacked(self, data: Tensor, column: Extent, k: Extent) -> Expr:
        """Number ``k`` of those packed into a row of bytes, the first in the lowest bits."""
        share = 8 // self.bits
        byte = data[(column, d.floordiv(k, share))]
        shift = e.cast(e.dimval(d.mod(k, share) * self.bits), U8)
        return e.binary("shr", byte, shift) & ((1 << self.bits) - 1)

    def number(self, k: Extent, column: Extent) -> Expr:
        """What is stored for an element."""
        return self._unpacked(self.packed, column, k)

    def zero(self, block: Extent, column: Extent) -> Expr:
        """The zero point of a block."""
        if self.zeros is None:
            return e.lit(1 << (self.bits - 1), U8)
        return self._unpacked(self.zeros, column, block) if self.packed_zeros else self.zeros[(column, block)]

    def scale(self, block: Extent, column: Extent) -> Expr:
        """The scale of a block."""
        return e.cast(self.scales[(column, block)], F32)


@op("MatMulNBits", since=1, domain=DOMAIN)
def matmul_nbits(
    b: Builder, x: Tensor, packed: Tensor, scales: Tensor, zero_points: Tensor | None = None, g_idx: Tensor | None = None,
    bias: Tensor | None = None, *, K: int, N: int, block_size: int, bits: int = 4, accuracy_level: int = 0, weight_prepacked: int = 0,
) -> Tensor:  # fmt: skip
    """The product with a matrix stored by column, in blocks of numbers of few bits with a scale and a zero point each.

    It is computed in float32, which is as accurate as any ``accuracy_level`` asks for.
    """
    if bits not in (2, 4, 8) or block_size < 16 or block_size & (block_size - 1) or weight_prepacked:
        b.unsupported(f"bits={bits}, block_size={block_size}, weight_prepacked={weight_prepacked}")
    b.require_equal(x.shape[-1], K, "columns of A")
    values = b.cast(x, F32)
    if packed.size == 0:  # the product is left out
        result = b.full((*x.shape[:-1], N), 0, F32)
    else:
        matrix = _Blocks(b, (K, N), block_size, bits, packed, scales, zero_points)
        result = _by_panels(b, values, matrix) if g_idx is None else _by_groups(b, values, matrix, g_idx)
    if bias is None:
        return b.cast(result, x.dtype)
    return b.map(lambda v, w: v + e.cast(w, F32), result, bias, dtype=x.dtype)


def _by_groups(b: Builder, x: Tensor, matrix: _Blocks, groups: Tensor) -> Tensor:
    """The product where every row of the matrix says which block it belongs to."""

    def element(k: Dim, column: Dim) -> Expr:
        block = e.as_index(checked_index(b, groups[(k,)], matrix.count))
        return (e.cast(matrix.number(k, column), F32) - e.cast(matrix.zero(block, column), F32)) * matrix.scale(block, column)

    return matmul(b, x, b.compute((matrix.rows, matrix.columns), element, F32))


def _by_panels(b: Builder, x: Tensor, matrix: _Blocks) -> Tensor:
    """The product, the matrix kept in few bits, but arranged so that a kernel reads it as it lies."""
    panels = d.ceildiv(matrix.columns, PANEL)
    width = 16 * d.ceildiv(matrix.columns, 16 * panels)
    share = 8 // matrix.bits
    few = width // share

    def column(panel: Extent, j: Extent, value: Callable[[Extent], Expr]) -> Expr:
        at = panel * width + j
        return e.guard(e.dimval(at) < matrix.columns, value(at), 0)

    def byte(panel: Dim, k: Dim, j: Dim) -> Expr:
        result: Expr = e.lit(0, U8)
        for p in range(share):
            number = column(panel, j + p * few, lambda at: matrix.number(k, at))
            result = result | e.binary("shl", number, p * matrix.bits)
        return result

    numbers = b.compute((panels, matrix.rows, few), byte, U8)
    blocks = (panels, matrix.count, width)
    scales = b.compute(blocks, lambda panel, k, j: column(panel, j, lambda at: matrix.scale(k, at)), F32)
    kind = F32 if matrix.zeros is not None and not matrix.packed_zeros else U8
    if matrix.zeros is None:
        zeros = b.full((width,), 1 << (matrix.bits - 1), U8)
    else:
        zeros = b.compute(blocks, lambda panel, k, j: column(panel, j, lambda at: matrix.zero(k, at)), kind)
    rows = d.product(x.shape[:-1])
    (result,) = b.template(
        multiply, [x, numbers, scales, zeros], [(F32, (rows, panels * width))], total=d.ceildiv(rows, ROWS) * panels,
        dims=(rows, matrix.rows, width, panels, matrix.count, matrix.size, int(matrix.zeros is not None)),
        types={"Z": kind}, scratch=4 * CHUNK * width,
        constants={"SHARE": share, "BITS": matrix.bits, "MASK": (1 << matrix.bits) - 1, "ROWS": ROWS, "CHUNK": min(CHUNK, matrix.size)},
    )  # fmt: skip
    return b.reshape(b.compute((rows, matrix.columns), lambda i, j: result[(i, j)], F32), (*x.shape[:-1], matrix.columns))
