"""float16 and bfloat16 as 16 bits in memory, in integer arithmetic.

LLVM's own conversions turn into calls of compiler-rt (``__truncsfhf2`` …) on processors without F16C; these vectorise anywhere.
float64 is first rounded to float32 *to odd*, which keeps enough for the second rounding to be the right one (S. Boldo and
G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.native.integer import iadd, iand, ior, isub, shl, shr
from onnx_numba.native.registry import Record, function, overloaded
from onnx_numba.native.scalar import abs_, bits_of, f32, f64, float_of, i32, select, u16

_SIGN = np.int32(-0x80000000)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_LOW16 = np.int32(0xFFFF)
_ONE = np.int32(1)
_SHIFT16 = np.int32(16)

_BF16_ROUND = np.int32(0x7FFF)

_F32_INF = np.int32(0x7F800000)
_F32_QUIET = np.int32(0x7FC00000)

# float16: 10 bits of fraction, exponents from -14 (subnormals below) to 15
_F16_DROPPED = np.int32(13)  # bits of a float32's fraction that it has not
_F16_ROUND = np.int32(0xFFF)
_F16_REBIAS = np.int32((127 - 15) << 10)
_F16_OVERFLOW = np.int32(0x477FF000)  # 65520, from where on everything rounds to infinity
_F16_NORMAL = np.int32(0x38800000)  # 2 ** -14
_F16_INF = np.int32(0x7C00)
_F16_NAN = np.int32(0x7E00)
_F16_SIGN = np.int32(0x8000)
_F16_MAGNITUDE = np.int32(0x7FFF)
_HALF = np.float32(0.5)  # its unit in the last place is the spacing of float16's subnormals
_HALF_BITS = np.int32(0x3F000000)
_F16_SCALE = np.float32(2.0**112)
_F16_INF_SHIFTED = np.int32(0x7C00 << 13)


@function
def _odd_of_f32(x: Any) -> Any:
    return x


@function
def _odd_of_f64(x: Any) -> Any:
    nearest = f32(x)
    bits = bits_of(nearest)
    toward_zero = isub(bits, i32(abs_(f64(nearest)) > abs_(x)))
    return float_of(ior(toward_zero, i32(f64(nearest) != x)))


_odd = overloaded("_odd", _odd_of_f32, _odd_of_f64)


@function
def f16_bits(x: Any) -> Any:
    """A float32 or float64 as the bits of the nearest float16, an i32; NaN gives the quiet NaN of its sign."""
    bits = bits_of(_odd(x))
    magnitude = iand(bits, _MAGNITUDE)
    even = iand(shr(magnitude, _F16_DROPPED), _ONE)
    normal = isub(shr(iadd(iadd(magnitude, _F16_ROUND), even), _F16_DROPPED), _F16_REBIAS)
    subnormal = isub(bits_of(float_of(magnitude) + _HALF), _HALF_BITS)
    special = select(magnitude > _F32_INF, _F16_NAN, _F16_INF)
    finite = select(magnitude < _F16_NORMAL, subnormal, normal)
    return ior(select(magnitude >= _F16_OVERFLOW, special, finite), iand(shr(bits, _SHIFT16), _F16_SIGN))


@function
def f16_value(bits: Any) -> Any:
    """The float32 with the value of a float16 given as bits (an i32)."""
    shifted = shl(iand(bits, _F16_MAGNITUDE), _F16_DROPPED)
    finite = bits_of(float_of(shifted) * _F16_SCALE)
    magnitude = select(shifted >= _F16_INF_SHIFTED, ior(shifted, _F32_INF), finite)
    return float_of(ior(magnitude, shl(iand(bits, _F16_SIGN), _SHIFT16)))


@function
def bf16_bits(x: Any) -> Any:
    """A float32 or float64 as the bits of the nearest bfloat16, an i32; NaN gives the quiet NaN of its sign."""
    bits = bits_of(_odd(x))
    even = iand(shr(bits, _SHIFT16), _ONE)
    rounded = iadd(iadd(bits, _BF16_ROUND), even)
    nan = ior(iand(bits, _SIGN), _F32_QUIET)
    return iand(shr(select(iand(bits, _MAGNITUDE) > _F32_INF, nan, rounded), _SHIFT16), _LOW16)


@function
def bf16_value(bits: Any) -> Any:
    """The float32 with the value of a bfloat16 given as bits (an i32)."""
    return float_of(shl(bits, _SHIFT16))


@function
def load_f16(x: Any, i: Any) -> Any:
    """Element i of a float16 buffer as float32."""
    return f16_value(i32(x[i]))


@function
def store_f16(x: Any, i: Any, v: Any) -> None:
    """Set element i of a float16 buffer to a float32 or float64, rounded once."""
    x[i] = u16(f16_bits(v))


@function
def round_f16(x: Any) -> Any:
    """The nearest float16 value, as float32."""
    return f16_value(f16_bits(x))


@function
def load_bf16(x: Any, i: Any) -> Any:
    """Element i of a bfloat16 buffer as float32."""
    return bf16_value(i32(x[i]))


@function
def store_bf16(x: Any, i: Any, v: Any) -> None:
    """Set element i of a bfloat16 buffer to a float32 or float64, rounded once."""
    x[i] = u16(bf16_bits(v))


@function
def round_bf16(x: Any) -> Any:
    """The nearest bfloat16 value, as float32."""
    return bf16_value(bf16_bits(x))


RECORDS: tuple[Record, ...] = (
    f16_bits, f16_value, bf16_bits, bf16_value, load_f16, store_f16, round_f16, load_bf16, store_bf16, round_bf16,
)  # fmt: skip
