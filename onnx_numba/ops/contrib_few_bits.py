"""onnxruntime's operators on tensors of 2, 4 or 8 bits a number, packed into bytes and scaled by blocks (domain com.microsoft)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Shape, Tensor
from onnx_numba.ir.types import F32, I64, U8, U32, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS, normal_axis
from onnx_numba.ops.few_bits import by_panels
from onnx_numba.ops.matmul import matmul
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import checked_index, wrapped

Extent = Dim | int


def unpacked(data: Tensor, index: Sequence[Extent], bits: int) -> Expr:
    """An element of a tensor whose last axis is packed, the first numbers in the lowest bits of a byte."""
    share = 8 // bits
    byte = data[(*index[:-1], d.floordiv(index[-1], share))]
    return e.binary("shr", byte, e.cast(e.dimval(d.mod(index[-1], share) * bits), U8)) & ((1 << bits) - 1)


def _check_form(b: Builder, bits: int, block_size: int) -> None:
    if bits not in (2, 4, 8) or block_size < 16 or block_size & (block_size - 1):
        b.unsupported(f"bits={bits}, block_size={block_size}; 2, 4 or 8 bits and a power of two from 16 on are expected")


def _require_shape(b: Builder, t: Tensor, shape: Shape, what: str) -> None:
    if t.rank != len(shape):
        b.fail(f"{what} has {t.rank} axes, {len(shape)} are expected")
    for axis, (got, wanted) in enumerate(zip(t.shape, shape, strict=True)):
        b.require_equal(got, wanted, f"dim {axis} of {what}")


class _Blocks:
    """A matrix of ``rows`` by ``columns``, stored transposed: each column in blocks of ``size`` numbers of ``bits`` bits."""

    def __init__(
        self, b: Builder, shape: tuple[int, int], size: int, bits: int, packed: Tensor, scales: Tensor, zeros: Tensor | None
    ) -> None:
        self.rows, self.columns = shape
        self.size, self.bits = size, bits
        self.count = d.ceildiv(self.rows, size)
        _require_shape(b, packed, (self.columns, self.count, size * bits // 8), "B")
        self.packed = b.reshape(packed, (self.columns, self.count * size * bits // 8))
        self.scales = b.reshape(scales, (self.columns, self.count))
        self.packed_zeros = zeros is not None and zeros.dtype is U8
        across = d.ceildiv(self.count * bits, 8) if self.packed_zeros else self.count
        self.zeros = None if zeros is None else b.reshape(zeros, (self.columns, across))

    def number(self, k: Extent, column: Extent) -> Expr:
        """What is stored for an element."""
        return unpacked(self.packed, (column, k), self.bits)

    def zero(self, block: Extent, column: Extent) -> Expr:
        """The zero point of a block."""
        if self.zeros is None:
            return e.lit(1 << (self.bits - 1), U8)
        return unpacked(self.zeros, (column, block), self.bits) if self.packed_zeros else self.zeros[(column, block)]

    def scale(self, block: Extent, column: Extent) -> Expr:
        """The scale of a block."""
        return e.cast(self.scales[(column, block)], F32)

    def word(self, first: Extent, column: Extent) -> Expr:
        """A word of numbers from row ``first`` on."""
        at = d.floordiv(first * self.bits, 8)
        bytes_ = (e.cast(self.packed[(column, at + k)], U32) for k in range(4))
        return functools.reduce(operator.or_, (e.binary("shl", byte, 8 * k) for k, byte in enumerate(bytes_)))

    @property
    def zero_type(self) -> DType:
        """The type of zero points."""
        return F32 if self.zeros is not None and not self.packed_zeros else U8

    @property
    def one_zero(self) -> int | None:
        """The zero point of all blocks, if there is one."""
        return 1 << (self.bits - 1) if self.zeros is None else None


@op("MatMulNBits", since=1, domain=MS)
def matmul_nbits(
    b: Builder, x: Tensor, packed: Tensor, scales: Tensor, zero_points: Tensor | None = None, g_idx: Tensor | None = None,
    bias: Tensor | None = None, *, K: int, N: int, block_size: int, bits: int = 4, accuracy_level: int = 0, weight_prepacked: int = 0,
) -> Tensor:  # fmt: skip
    """The product with a matrix stored by column, in blocks of numbers of few bits with a scale and a zero point each.

    It is computed in float32. For ``accuracy_level=4`` the rows become bytes by blocks, of which products are exact, unless the options
    ask for accuracy.
    """
    _check_form(b, bits, block_size)
    if weight_prepacked:
        b.unsupported(f"weight_prepacked={weight_prepacked}, a layout of CUDA kernels")
    b.require_equal(x.shape[-1], K, "columns of A")
    values = b.cast(x, F32)
    if packed.size == 0:  # the product is left out
        result = b.full((*x.shape[:-1], N), 0, F32)
    else:
        matrix = _Blocks(b, (K, N), block_size, bits, packed, scales, zero_points)
        as_bytes = accuracy_level == 4 and b.options.accuracy != "strict"
        result = by_panels(b, values, matrix, as_bytes) if g_idx is None else _by_groups(b, values, matrix, g_idx)
    if bias is None:
        return b.cast(result, x.dtype)
    return b.map(lambda v, w: v + e.cast(w, F32), result, bias, dtype=x.dtype)


def _by_groups(b: Builder, x: Tensor, matrix: _Blocks, groups: Tensor) -> Tensor:
    """The product where every row of the matrix says which block it belongs to."""
    b.require_equal(d.compare("le", matrix.rows, groups.size), 1, f"a group for each of {matrix.rows} rows")

    def element(k: Dim, column: Dim) -> Expr:
        block = e.as_index(checked_index(b, groups[(k,)], matrix.count))
        return (e.cast(matrix.number(k, column), F32) - e.cast(matrix.zero(block, column), F32)) * matrix.scale(block, column)

    return matmul(b, x, b.compute((matrix.rows, matrix.columns), element, F32))


_FP4 = (0.0, 5.208333333e-03, 0.66666667, 1.0, 1 / 3, 0.5, 1 / 6, 0.25)
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""What the numbers stand for: a sign and 3 bits, or quantiles of the normal distribution (Dettmers et al., QLoRA)."""


@op("MatMulBnb4", since=1, domain=MS)
def matmul_bnb4(
    b: Builder, x: Tensor, packed: Tensor, absmax: Tensor, *, K: int, N: int, block_size: int, quant_type: int, transB: int = 1,
    training_mode: int = 0,
) -> Tensor:  # fmt: skip
    """The product with a matrix whose rows are stored one after the other as 4-bit floats, in blocks with a greatest value each."""
    if quant_type not in (0, 1):
        b.fail(f"quant_type must be 0 (FP4) or 1 (NF4), not {quant_type}")
    b.require_equal(packed.size, (N * K + 1) // 2, "bytes of B")
    b.require_equal(absmax.size, d.ceildiv(N * K, block_size), "numbers of absmax")
    values = b.weight(np.array(_NF4 if quant_type else (*_FP4, *(-v for v in _FP4)), np.float32))
    bytes_, greatest = b.reshape(packed, (packed.size,)), b.reshape(absmax, (absmax.size,))

    def element(n: Dim, k: Dim) -> Expr:
        at = n * K + k
        shift = e.cast(e.dimval((1 - d.mod(at, 2)) * 4), U8)  # the first number of a byte has its upper half
        number = e.binary("shr", bytes_[(d.floordiv(at, 2),)], shift) & 15
        return values[(number,)] * e.cast(greatest[(d.floordiv(at, block_size),)], F32)

    matrix = b.compute((N, K), element, F32)
    return b.cast(matmul(b, b.cast(x, F32), b.transpose(matrix, (1, 0)) if transB else matrix), x.dtype)


@op("GatherBlockQuantized", since=1, domain=MS)
def gather_block_quantized(
    b: Builder, data: Tensor, indices: Tensor, scales: Tensor, zero_points: Tensor | None = None, *, bits: int = 4,
    block_size: int = 128, gather_axis: int = 0, quantize_axis: int = 1,
) -> Tensor:  # fmt: skip
    """Slices along the first axis of a tensor that is quantised in blocks of the last one, as floats; zeros where no slice is."""
    _check_form(b, bits, block_size)
    last = data.rank - 1
    if data.dtype is not U8:
        b.unsupported(f"data of type {data.dtype.onnx_name}")
    if last < 1 or normal_axis(b, gather_axis, data.rank) != 0 or normal_axis(b, quantize_axis, data.rank) != last:
        b.unsupported(f"gather_axis={gather_axis} and quantize_axis={quantize_axis}; the first and the last axis are expected")
    extent = data.shape[-1] * (8 // bits)
    blocks = d.ceildiv(extent, block_size)
    _require_shape(b, scales, (*data.shape[:-1], blocks), "scales")
    if zero_points is not None:
        _require_shape(b, zero_points, (*data.shape[:-1], d.ceildiv(blocks * bits, 8)), "zero_points")
    rank = indices.rank

    def element(*i: Dim) -> Expr:
        at = wrapped(e.cast(indices[i[:rank]], I64), data.shape[0])
        where = (e.as_index(at), *i[rank:])
        block = (*where[:-1], d.floordiv(where[-1], block_size))
        zero = e.lit(1 << (bits - 1), F32) if zero_points is None else e.cast(unpacked(zero_points, block, bits), F32)
        value = (e.cast(unpacked(data, where, bits), F32) - zero) * e.cast(scales[block], F32)
        return e.guard((at >= 0) & (at < e.dimval(data.shape[0])), value, 0)

    return b.compute((*indices.shape, *data.shape[1:-1], extent), element, scales.dtype)
