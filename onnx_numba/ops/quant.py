"""Quantisation, and products and convolutions of quantised tensors, as compositions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr, where
from onnx_numba.ir.formats import FORMATS
from onnx_numba.ir.loop import Concat, Dequantised, Tensor
from onnx_numba.ir.types import F32, F64, I32, U8, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.cast import rounded
from onnx_numba.ops.common import MS, channel_view, normal_axis, per_position, require_broadcast, require_shape, wide
from onnx_numba.ops.convolution import biased, windows_of
from onnx_numba.ops.create import dtype_by_number
from onnx_numba.ops.dequantised import beside, dequantised, moderate, undone, value
from onnx_numba.ops.integer import centred, integer_conv, integer_product
from onnx_numba.ops.matmul import matmul
from onnx_numba.ops.registry import op

Index = tuple[Dim, ...]
Ints = Sequence[int] | None
INTEGERS = 1.5 * (1 << 23)
"""Where neighbouring float32 numbers are 1 apart, for 22 bits in either direction."""


def _parameter(b: Builder, p: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point for each element of ``x``: given for all, for each position of an axis, or for blocks of it."""
    if p.size == 1:
        return b.reshape(p, ())
    axis = normal_axis(b, axis, x.rank)
    if not block:
        return channel_view(b, p, x.rank, axis) if p.rank == 1 else p
    if block < 0 or p.rank != x.rank:
        b.fail(f"blocks of {block}, with a scale or zero point of rank {p.rank} for an input of rank {x.rank}")
    for k, extent in enumerate(x.shape):
        b.require_equal(p.shape[k], d.ceildiv(extent, block) if k == axis else extent, f"dim {k} of the scale or zero point")
    return b.compute(x.shape, lambda *i: p[(*i[:axis], d.floordiv(i[axis], block), *i[axis + 1 :])], p.dtype)


def _require_fitting(b: Builder, x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int) -> None:
    """Demand a scale for all of ``x``, for each position of an axis or for each block of it, and a zero point for each scale."""
    if zero is not None:
        require_as_scale(b, zero, scale)
    if block or scale.size == 1:
        return
    positions = (x.shape[normal_axis(b, axis, x.rank)],)
    require_broadcast(b, scale.shape, positions if scale.rank == 1 else x.shape, "the scale")


def require_as_scale(b: Builder, zero: Tensor, scale: Tensor, what: str = "the zero point") -> None:
    """Demand that zero points come in the shape of their scales, of which one number may have any rank."""
    if zero.rank == scale.rank:
        require_shape(b, zero, scale.shape, what)
        return
    for p in (zero, scale):
        if isinstance(p.size, int) and p.size != 1:
            b.fail(f"{what} must have the shape of the scale: expected {list(scale.shape)}, got {list(zero.shape)}")
        b.require_equal(p.size, 1, f"{what} and the scale have ranks {zero.rank} and {scale.rank}, so one number each is needed")


def _numbered(b: Builder, axis: int, x: Tensor, parameters: Sequence[Tensor]) -> int | None:
    """The axis whose positions have scales and zero points of their own; None where one does for all."""
    return None if all(p.size == 1 for p in parameters) else normal_axis(b, axis, x.rank)


def quantised(v: Expr, zero: Expr | None, dtype: DType, saturate: bool = True) -> Expr:
    """A float in units of the scale, moved by the zero point: as an integer rounded to even and limited, else as a small float.

    As an integer NaN becomes the lowest number, as in onnxruntime.
    """
    if dtype.is_float:
        return rounded(v if zero is None else v + e.cast(zero, v.dtype), dtype, saturate)
    low, high = dtype.limits
    number = e.unary("rint", v)
    if zero is not None:
        number = number + e.cast(zero, v.dtype)
    limited = where(number > high, float(high), where(number >= low, number, float(low)))
    # The sum has the integer in its low bits. A conversion that saturates would do the same, but several times slower.
    return e.cast(e.Op("bits_of", (e.cast(limited, F32) + INTEGERS,), I32), dtype)


def _by_reciprocal(v: Expr, s: Expr) -> Expr:
    """``v / s``, where s is the same for a row; see `onnx_numba.native.quotient`."""
    return e.Op("quotient", (v, s, 1.0 / s), F32) if s.dtype is F32 else v / s


def _is_quantised(dtype: DType) -> bool:
    if dtype.is_int:
        return dtype.bits <= 16
    return dtype.is_float and dtype.bits <= 8 and not FORMATS[dtype.name].is_scale


@op("QuantizeLinear", since=1, domain=MS)
@op("QuantizeLinear", since=10, reviewed=28)
def quantize_linear(
    b: Builder, x: Tensor, scale: Tensor, zero: Tensor | None = None, *, axis: int = 1, saturate: int = 1, block_size: int = 0,
    output_dtype: int = 0, precision: int = 0,
) -> Tensor:  # fmt: skip
    """``saturate(round(x / scale) + zero)``; the type of the scale is that of the quotient, unless ``precision`` says another."""
    stated = dtype_by_number(b, output_dtype) if output_dtype else None
    dtype = zero.dtype if zero is not None else stated or U8
    if stated not in (None, dtype):
        b.fail(f"output_dtype is {stated.onnx_name}, but the zero point is {dtype.onnx_name}")
    if not _is_quantised(dtype):
        b.unsupported(f"quantisation to {dtype.onnx_name}")
    kind = dtype_by_number(b, precision) if precision else scale.dtype
    given = [p for p in (scale, zero) if p is not None]
    _require_fitting(b, x, scale, zero, axis, block_size)

    def steps(x: Tensor) -> Tensor:
        if not block_size and not precision and scale.rank < 2:
            before = undone(b, x, scale, zero, _numbered(b, axis, x, given), dtype)
            if before is not None:
                return before
        parameters = [_parameter(b, beside(b, p, x), x, axis, block_size) for p in given]
        by_rows = scale.size == 1 or (scale.rank == 1 and normal_axis(b, axis, x.rank) < x.rank - 1)
        divide = _by_reciprocal if by_rows and dtype.is_int and moderate(b, scale) else operator.truediv
        return _divided(b, x, parameters, dtype, e.round_to if precision else e.cast, kind, bool(saturate), divide)

    if isinstance(x.definition, Concat) and all(p.size == 1 for p in given):  # its parts are put together as what is smaller
        b.require_as(x)
        return b.concat([steps(part) for part in x.definition.parts], x.definition.axis)
    return steps(x)


def _divided(
    b: Builder, x: Tensor, parameters: Sequence[Tensor], dtype: DType, operand: Callable[[Expr, DType], Expr], kind: DType, saturate: bool,
    divide: Callable[[Expr, Expr], Expr],
) -> Tensor:  # fmt: skip
    """A tensor in units of a scale, by division in type ``kind``, to which ``operand`` brings what is divided."""
    if not kind.is_float or kind.bits <= 8:  # a scale of powers of two or integers, which no quotient can be
        kind = F64 if kind.is_int else F32

    def element(v: Expr, s: Expr, *z: Expr) -> Expr:
        quotient = e.round_to(divide(operand(v, kind), operand(s, kind)), kind)
        return quantised(quotient, z[0] if z else None, dtype, saturate)

    return b.map(element, x, *parameters, dtype=dtype)


@op("DequantizeLinear", since=1, domain=MS)
@op("DequantizeLinear", since=10, reviewed=28)
def dequantize_linear(
    b: Builder, x: Tensor, scale: Tensor, zero: Tensor | None = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Tensor:
    """``(x - zero) * scale``."""
    dtype = dtype_by_number(b, output_dtype) if output_dtype else scale.dtype
    if not dtype.is_float or dtype.bits <= 8:
        b.fail(f"output_dtype must be a float of 16 bits or more, not {dtype.onnx_name}")
    given = [p for p in (scale, zero) if p is not None]
    _require_fitting(b, x, scale, zero, axis, block_size)
    if block_size or any(p.rank > 1 for p in given):
        parameters = [_parameter(b, p, x, axis, block_size) for p in given]
        result = b.map(lambda v, s, *z: value(v, s, *z, kind=wide(dtype)), x, *parameters, dtype=dtype)
        if block_size and x.dtype.is_int and x.dtype.bits <= 8:
            result.dequantised = Dequantised(x, scale, zero, normal_axis(b, axis, x.rank), dtype, block_size)
        return result
    return dequantised(b, Dequantised(x, scale, zero, _numbered(b, axis, x, given), dtype))


@op("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(b: Builder, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantised to uint8 with scale and zero point from the range of the values, zero included."""
    axes = range(x.rank)
    low = b.map(lambda v: e.binary("min", v, 0.0), b.reduce("min", x, axes))
    high = b.map(lambda v: e.binary("max", v, 0.0), b.reduce("max", x, axes))
    # Zeros only: any scale will do, and 1 is onnxruntime's.
    scale = b.map(lambda v, w: where(e.eq(v, w), 1.0, (w - v) / 255.0), low, high)
    zero = b.map(lambda v, s: quantised(-v / s, None, U8), low, scale, dtype=U8)
    return b.map(lambda v, s, z: quantised(v / s, z, U8), x, scale, zero, dtype=U8), scale, zero


# ---- products


def _per_row(b: Builder, p: Tensor, x: Tensor, what: str) -> Tensor:
    """A number for all of a left operand, or one for each of its rows."""
    if p.rank == 1:
        p = b.reshape(p, () if p.size == 1 else (*p.shape, 1))
    require_broadcast(b, p.shape, (*(x.shape[:-1] or (1,)), 1), what)
    return p


def per_column(b: Builder, p: Tensor, y: Tensor, what: str) -> Tensor:
    """A number for all of a right operand, or one for each of its columns."""
    if p.size == 1:
        return b.reshape(p, ())
    require_broadcast(b, p.shape, (*y.shape[:-2], 1, y.shape[-1]) if y.rank > 1 else (1, 1), what)
    return p


@op("MatMulInteger", since=10)
def matmul_integer(
    b: Builder, x: Tensor, y: Tensor, x_zero: Tensor | None = None, y_zero: Tensor | None = None
) -> Tensor:
    """The product of two quantised tensors from each of which a zero point is taken: of integers exactly, of floats in float32."""
    left = None if x_zero is None else _per_row(b, x_zero, x, "the zero point of the first input")
    right = None if y_zero is None else per_column(b, y_zero, y, "the zero point of the second input")
    if x.dtype.is_float or y.dtype.is_float:
        return matmul(b, b.cast(centred(b, x, left), F32), b.cast(centred(b, y, right), F32))
    return integer_product(b, x, y, left, right)


def _requantised(b: Builder, sums: Tensor, scales: Sequence[Tensor], y_scale: Tensor, y_zero: Tensor) -> Tensor:
    """Sums of products in the scale and zero point of the result."""

    def element(v: Expr, left: Expr, right: Expr, out: Expr, zero: Expr) -> Expr:
        factor = e.cast(left, F32) * e.cast(right, F32) / e.cast(out, F32)
        return quantised(e.cast(v, F32) * factor, zero, y_zero.dtype)

    return b.map(element, sums, *scales, b.reshape(y_scale, ()) if y_scale.size == 1 else y_scale, y_zero, dtype=y_zero.dtype)


@op("QLinearMatMul", since=10, reviewed=21)
def qlinear_matmul(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor, y: Tensor, y_scale: Tensor, y_zero: Tensor, out_scale: Tensor,
    out_zero: Tensor,
) -> Tensor:  # fmt: skip
    """The product of two quantised tensors, quantised."""
    for whose, scale, zero in (("first input", x_scale, x_zero), ("second input", y_scale, y_zero), ("result", out_scale, out_zero)):
        require_as_scale(b, zero, scale, f"the zero point of the {whose}")
    sums = matmul_integer(b, x, y, x_zero, y_zero)
    require_broadcast(b, out_zero.shape if out_zero.size != 1 else (), sums.shape, "the zero point of the result")
    zero = b.reshape(out_zero, ()) if out_zero.size == 1 else out_zero
    scales = _per_row(b, x_scale, x, "the scale of the first input"), per_column(b, y_scale, y, "the scale of the second input")
    return _requantised(b, sums, scales, out_scale, zero)


@op("ConvInteger", since=10)
def conv_integer(
    b: Builder, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None, *, auto_pad: str,
    dilations: Ints = None, group: int = 1, kernel_shape: Ints = None, pads: Ints = None, strides: Ints = None,
) -> Tensor:  # fmt: skip
    """The convolution of integer tensors; padding stands for the zero point."""
    view = windows_of(
        b, x, w, auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads, strides=strides
    )  # fmt: skip
    image_zero = None if x_zero is None else _single(b, x_zero, "the zero point of the image")
    if w_zero is not None:
        _require_per_filter(b, w_zero, w, "the zero point of the filters")
    return integer_conv(b, x, w, image_zero, w_zero, view, group)


def _single(b: Builder, p: Tensor, what: str) -> Tensor:
    """The only number of a scale or zero point."""
    b.require_equal(p.size, 1, f"number of elements of {what}")
    return b.reshape(p, ())


def _require_per_filter(b: Builder, p: Tensor, w: Tensor, what: str) -> None:
    """Demand one number, or one for each filter."""
    if p.size != 1:
        require_broadcast(b, p.shape, w.shape[:1], what)


@op("QLinearConv", since=10)
def qlinear_conv(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor, w: Tensor, w_scale: Tensor, w_zero: Tensor, y_scale: Tensor,
    y_zero: Tensor, bias: Tensor | None = None, *, auto_pad: str, dilations: Ints = None, group: int = 1,
    kernel_shape: Ints = None, pads: Ints = None, strides: Ints = None,
) -> Any:  # fmt: skip
    """The convolution of quantised tensors, quantised."""
    sums = conv_integer(
        b, x, w, x_zero, w_zero, auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads,
        strides=strides,
    )  # fmt: skip
    if bias is not None:
        sums = biased(b, sums, bias)
    _require_per_filter(b, w_scale, w, "the scale of the filters")
    scales = (_single(b, x_scale, "the scale of the image"), per_position(b, w_scale, x.rank, 1))
    return _requantised(
        b, sums, scales, _single(b, y_scale, "the scale of the result"), _single(b, y_zero, "the zero point of the result")
    )
