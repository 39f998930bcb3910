"""sin, cos, tan, asin, acos and atan, branch-free, for arguments of any size.

Up to 2**28 the argument is reduced by pi/2 in three parts (Cody and Waite); above, by multiplying its integer significand with
the 192 bits of 2/pi that matter (M. Payne and R. Hanek, 1983). Both are computed for every element and one is selected, so that
loops stay vectors.

Bounds that the tests hold them to, in units in the last place: float32 0.51; float64: sin, cos 1; tan, asin, acos, atan 2.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.native.integer import iadd, iand, imul, ior, isub, shl, shr
from onnx_numba.native.polynomial import F64, polynomial, table
from onnx_numba.native.registry import Record, function, overloaded
from onnx_numba.native.scalar import abs_, bits_of, copysign, f32, f64, float_of, fma, i64, select, sqrt, u64

_HALF_PI, _HALF_PI_2 = np.float64(1.5707963267948966), np.float64(6.123233995736766e-17)
_HALF_PI_3 = np.float64(-1.4973849048591698e-33)
_TWO_OVER_PI = np.float64(2 / np.pi)
_ZERO, _HALF, _ONE, _TWO = np.float64(0), np.float64(0.5), np.float64(1), np.float64(2)
_MAGIC, _MAGIC_BITS = F64.magic, F64.magic.view(np.int64)
_LARGE = np.float64(2.0**28)

# ---- reduction of large arguments

_TWO_OVER_PI_DIGITS = (
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1d"
    "eb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b"
    "5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b"
    "6babf0cfbc209af4361da9e391615ee61b08"
)
"""2/pi after the point, in hexadecimal."""

_WORDS = [0] + [int(_TWO_OVER_PI_DIGITS[i : i + 16], 16) for i in range(0, len(_TWO_OVER_PI_DIGITS), 16)]
_two_over_pi = table("two_over_pi", _WORDS)

_EXPONENT_MASK, _FRACTION_MASK, _HIDDEN = np.int64(0x7FF), np.int64((1 << 52) - 1), np.int64(1 << 52)
_FRACTION_BITS = np.int64(52)
# The first bit of 2/pi that matters to m 2**e has index e - 2; there are 64 zeros in front, and e is the biased exponent - 1075.
_FIRST_EXPONENT = np.int64(1075 - 62)
_I0, _I1, _I2, _I3, _I6, _I63 = (np.int64(n) for n in (0, 1, 2, 3, 6, 63))
_LAST_START = np.int64(2046 - 1013)
_U1, _U32, _U62, _U63, _U64 = (np.uint64(n) for n in (1, 32, 62, 63, 64))
_LOW32 = np.uint64(0xFFFFFFFF)
_ROUND = np.uint64(1 << 61)
_SCALE_HIGH, _SCALE_LOW = np.float64(2.0**-62), np.float64(2.0**-126)


@function
def _window(word: Any, shift: Any) -> Any:
    """64 bits of 2/pi that begin ``shift`` bits into a word."""
    return ior(shl(_two_over_pi(word), shift), shr(_two_over_pi(word + _I1), isub(_U64, shift)))


@function
def _high_product(a: Any, b: Any) -> Any:
    """The upper 64 bits of the product of two u64."""
    a0, a1, b0, b1 = iand(a, _LOW32), shr(a, _U32), iand(b, _LOW32), shr(b, _U32)
    low = imul(a0, b0)
    cross = iadd(imul(a1, b0), shr(low, _U32))
    other = iadd(imul(a0, b1), iand(cross, _LOW32))
    return iadd(iadd(imul(a1, b1), shr(cross, _U32)), shr(other, _U32))


@function
def _large_start(x: Any) -> Any:
    """The first bit of 2/pi that matters: those before give whole turns."""
    start = isub(iand(shr(bits_of(x), _FRACTION_BITS), _EXPONENT_MASK), _FIRST_EXPONENT)
    return select(start < _I0, _I0, select(start > _LAST_START, _LAST_START, start))


@function
def _large_high(x: Any) -> Any:
    """The product of a large argument with 2/pi modulo 4, in units of 2**-62."""
    start = _large_start(x)
    word, shift = shr(start, _I6), u64(iand(start, _I63))
    m = u64(ior(iand(bits_of(x), _FRACTION_MASK), _HIDDEN))
    w1, w2 = _window(word + _I1, shift), _window(word + _I2, shift)
    middle = iadd(imul(m, w1), _high_product(m, w2))
    carry = u64(middle < imul(m, w1))
    return iadd(iadd(imul(m, _window(word, shift)), _high_product(m, w1)), carry)


@function
def _large_low(x: Any) -> Any:
    """The 64 bits that follow those of `_large_high`."""
    start = _large_start(x)
    word, shift = shr(start, _I6), u64(iand(start, _I63))
    m = u64(ior(iand(bits_of(x), _FRACTION_MASK), _HIDDEN))
    return iadd(imul(m, _window(word + _I1, shift)), _high_product(m, _window(word + _I2, shift)))


@function
def _large_quadrant(x: Any) -> Any:
    return i64(shr(iadd(_large_high(x), _ROUND), _U62))


@function
def _large_turns(x: Any) -> Any:
    """The distance to the nearest multiple of pi/2, as a multiple of it in units of 2**-62: a signed integer."""
    high = _large_high(x)
    return isub(high, shl(shr(iadd(high, _ROUND), _U62), _U62))


@function
def _quadrant(x: Any) -> Any:
    """How many quarter turns x is from its remainder, modulo 4, for x not below zero."""
    near = isub(bits_of(fma(x, _TWO_OVER_PI, _MAGIC)), _MAGIC_BITS)
    return iand(select(x > _LARGE, _large_quadrant(x), near), _I3)


@function
def _remainder(x: Any) -> Any:
    """x less the nearest multiple of pi/2, for x not below zero."""
    n = fma(x, _TWO_OVER_PI, _MAGIC) - _MAGIC
    near = fma(-n, _HALF_PI, x) - n * _HALF_PI_2
    return select(x > _LARGE, _large_remainder(x), near)


@function
def _remainder_low(x: Any) -> Any:
    """What `_remainder` lacks."""
    n = fma(x, _TWO_OVER_PI, _MAGIC) - _MAGIC
    first = fma(-n, _HALF_PI, x)  # exact
    second = n * _HALF_PI_2
    near = first - second
    taken = near - first
    lost = (first - (near - taken)) - (second + taken)
    low = fma(-n, _HALF_PI_3, lost - fma(n, _HALF_PI_2, -second))
    return select(x > _LARGE, _large_remainder_low(x), low)


@function
def _large_remainder(x: Any) -> Any:
    turns = i64(_large_turns(x))
    high = f64(turns)
    rest = f64(isub(turns, i64(high))) * _SCALE_HIGH + f64(_large_low(x)) * _SCALE_LOW
    return fma(high * _SCALE_HIGH, _HALF_PI, fma(rest, _HALF_PI, high * _SCALE_HIGH * _HALF_PI_2))


@function
def _large_remainder_low(x: Any) -> Any:
    turns = i64(_large_turns(x))
    high = f64(turns)
    rest = f64(isub(turns, i64(high))) * _SCALE_HIGH + f64(_large_low(x)) * _SCALE_LOW
    scaled = high * _SCALE_HIGH
    return fma(rest, _HALF_PI, fma(scaled, _HALF_PI, -_large_remainder(x)) + scaled * _HALF_PI_2)


# ---- sin, cos, tan

# (sin(r) / r - 1) / r**2 in r**2, 2**-66 of sin; (cos(r) - 1 + r**2 / 2) / r**4 in r**2, 2**-70 of cos
_sin_curve = polynomial(
    np.float64, -0.16666666666666666, 0.008333333333333331, -0.00019841269841264572, 2.755731921895843e-06,
    -2.5052106101457205e-08, 1.6058511055650984e-10, -7.585496590635883e-13,
)  # fmt: skip
_cos_curve = polynomial(
    np.float64, 0.041666666666666664, -0.0013888888888888887, 2.480158730158437e-05, -2.7557319221191045e-07,
    2.0876755718221886e-09, -1.1470449450437748e-11, 4.745204198361654e-14,
)  # fmt: skip


@function
def _sin_near(r: Any, low: Any) -> Any:
    """sin(r + low) for r up to pi/4."""
    z = r * r
    return r + fma(r * z, _sin_curve(z), low * (_ONE - _HALF * z))


@function
def _cos_near(r: Any, low: Any) -> Any:
    """cos(r + low) for r up to pi/4."""
    z = r * r
    half = _HALF * z
    value = _ONE - half
    return value + (((_ONE - value) - half) + fma(z * z, _cos_curve(z), -r * low))


@function
def _turned(r: Any, low: Any, quadrant: Any) -> Any:
    """sin(r + low + quadrant pi/2)."""
    value = select(iand(quadrant, _I1) == _I0, _sin_near(r, low), _cos_near(r, low))
    return select(iand(quadrant, _I2) == _I0, value, -value)


@function
def _sin(x: Any) -> Any:
    size = abs_(x)
    value = _turned(_remainder(size), _remainder_low(size), _quadrant(size))
    return select(x == _ZERO, x, copysign(_ONE, x) * value + (x - x))


@function
def _cos(x: Any) -> Any:
    size = abs_(x)
    return _turned(_remainder(size), _remainder_low(size), _quadrant(size) + _I1) + (x - x)


@function
def _tan(x: Any) -> Any:
    size = abs_(x)
    r, low = _remainder(size), _remainder_low(size)
    sine, cosine = _sin_near(r, low), _cos_near(r, low)
    odd = iand(_quadrant(size), _I1) != _I0
    value = select(odd, -cosine, sine) / select(odd, sine, cosine)
    return select(x == _ZERO, x, copysign(_ONE, x) * value + (x - x))


# ---- the same for float32, in float64 with less of everything

# 2**-35 and 2**-38, as above
_sin_curve_f32 = polynomial(np.float64, -0.16666666663630159, 0.008333331787426065, -0.00019840039856392, 2.724389073159956e-06)
_cos_curve_f32 = polynomial(np.float64, 0.04166666666413259, -0.00138888875989612, 2.4800561162181e-05, -2.7295912657355e-07)
# By biased exponent, 2/pi times the unit of its last bit, modulo 4: in units of 2**-62, and the 32 bits that follow.
_DIGITS, _DIGIT_BITS = int(_TWO_OVER_PI_DIGITS, 16), 4 * len(_TWO_OVER_PI_DIGITS)
_units_high, _units_low = (
    table(name, [(_DIGITS << e >> _DIGIT_BITS + 150 - more) % 2**bits for e in range(256)])
    for name, more, bits in (("two_over_pi_high", 62, 64), ("two_over_pi_low", 94, 32))
)
_EXPONENT_MASK_F32, _FRACTION_MASK_F32, _HIDDEN_F32 = np.int64(0xFF), np.int64((1 << 23) - 1), np.int64(1 << 23)
_FRACTION_BITS_F32 = np.int64(23)
_ZERO_F32, _ONE_F32 = np.float32(0), np.float32(1)
_UNIT = np.float64(2.0**-62 * np.pi / 2)
_TURN = np.uint64(2**62 - 1)
_AT_2_52, _AT_2_84 = (np.float64(2.0**n).view(np.uint64) for n in (52, 84))
_UPPER_SURPLUS = np.float64(2.0**84 + 2.0**61 + 2.0**52)


@function
def _large_high_f32(x: Any) -> Any:
    """The product of a large float32 (as float64) with 2/pi modulo 4, in units of 2**-62 and within two of them."""
    bits = i64(bits_of(f32(x)))
    e = iand(shr(bits, _FRACTION_BITS_F32), _EXPONENT_MASK_F32)
    m = u64(ior(iand(bits, _FRACTION_MASK_F32), _HIDDEN_F32))
    return iadd(imul(m, _units_high(e)), shr(imul(m, _units_low(e)), _U32))


@function
def _quadrant_f32(x: Any) -> Any:
    near = isub(bits_of(fma(x, _TWO_OVER_PI, _MAGIC)), _MAGIC_BITS)
    return select(x > _LARGE, i64(shr(iadd(_large_high_f32(x), _ROUND), _U62)), near)


@function
def _remainder_f32(x: Any) -> Any:
    n = fma(x, _TWO_OVER_PI, _MAGIC) - _MAGIC
    near = fma(-n, _HALF_PI_2, fma(-n, _HALF_PI, x))
    # The distance to the nearest multiple of pi/2 and 2**61 more: 62 bits, which become a float in two halves, as AVX2 has no
    # instruction for all.
    turns = iand(iadd(_large_high_f32(x), _ROUND), _TURN)
    upper = float_of(i64(ior(shr(turns, _U32), _AT_2_84))) - _UPPER_SURPLUS
    return select(x > _LARGE, (upper + float_of(i64(ior(iand(turns, _LOW32), _AT_2_52)))) * _UNIT, near)


@function
def _sin_near_f32(r: Any) -> Any:
    z = r * r
    return fma(r * z, _sin_curve_f32(z), r)


@function
def _cos_near_f32(r: Any) -> Any:
    z = r * r
    return fma(z * z, _cos_curve_f32(z), fma(-_HALF, z, _ONE))


@function
def _turned_f32(r: Any, quadrant: Any) -> Any:
    value = select(iand(quadrant, _I1) == _I0, _sin_near_f32(r), _cos_near_f32(r))
    return select(iand(quadrant, _I2) == _I0, value, -value)


@function
def _sin_f32(x: Any) -> Any:
    size = f64(abs_(x))
    value = f32(_turned_f32(_remainder_f32(size), _quadrant_f32(size)))
    return select(x == _ZERO_F32, x, copysign(_ONE_F32, x) * value + (x - x))


@function
def _cos_f32(x: Any) -> Any:
    size = f64(abs_(x))
    return f32(_turned_f32(_remainder_f32(size), _quadrant_f32(size) + _I1)) + (x - x)


@function
def _tan_f32(x: Any) -> Any:
    size = f64(abs_(x))
    r = _remainder_f32(size)
    sine, cosine = _sin_near_f32(r), _cos_near_f32(r)
    odd = iand(_quadrant_f32(size), _I1) != _I0
    value = f32(select(odd, -cosine, sine) / select(odd, sine, cosine))
    return select(x == _ZERO_F32, x, copysign(_ONE_F32, x) * value + (x - x))


# ---- asin, acos, atan

_PI, _PI_LOW = _TWO * _HALF_PI, _TWO * _HALF_PI_2
_QUARTER_PI, _QUARTER_PI_LOW = _HALF * _HALF_PI, _HALF * _HALF_PI_2
_TAN_PI_8, _TAN_3_PI_8 = np.float64(np.sqrt(2.0) - 1), np.float64(np.sqrt(2.0) + 1)
# (atan(t) / t - 1) / t**2 in t**2, 2**-57 of atan; (asin(t) / t - 1) / t**2 in t**2, 2**-62 of asin
_atan_curve = polynomial(
    np.float64, -0.3333333333333333, 0.1999999999999575, -0.14285714284709872, 0.11111111018439664, -0.09090904696900784,
    0.07692185736504487, -0.0666454466312447, 0.05858417145589465, -0.05086758695643999, 0.03926702111573922,
    -0.019217487759341522,
)  # fmt: skip
_asin_curve = polynomial(
    np.float64, 0.16666666666666666, 0.07500000000000133, 0.04464285714251697, 0.030381944478626948, 0.02237215730112586,
    0.017352820436492625, 0.013963711619992289, 0.011567263573855437, 0.009615378369971131, 0.009355226443249801,
    0.0029121075734939365, 0.019873227923806712, -0.01968705019149856, 0.02988726057889031,
)  # fmt: skip


@function
def _atan(x: Any) -> Any:
    size = abs_(x)
    small, middle = size <= _TAN_PI_8, size <= _TAN_3_PI_8
    t = select(small, size, select(middle, size - _ONE, -_ONE)) / select(small, _ONE, select(middle, size + _ONE, size))
    base = select(small, _ZERO, select(middle, _QUARTER_PI, _HALF_PI))
    base_low = select(small, _ZERO, select(middle, _QUARTER_PI_LOW, _HALF_PI_2))
    z = t * t
    return copysign(base + (t + (fma(t * z, _atan_curve(z), base_low))), x)


@function
def _asin_rest(t: Any, z: Any) -> Any:
    """asin(t) - t for t**2 = z up to 1/4."""
    return t * z * _asin_curve(z)


@function
def _asin(x: Any) -> Any:
    size = abs_(x)
    outer = size > _HALF
    z = select(outer, (_ONE - size) * _HALF, size * size)
    t = select(outer, sqrt(z), size)
    value = t + _asin_rest(t, z)
    return copysign(select(outer, _HALF_PI - (_TWO * value - _HALF_PI_2), value), x)


@function
def _acos(x: Any) -> Any:
    size = abs_(x)
    outer = size > _HALF
    z = select(outer, (_ONE - size) * _HALF, size * size)
    t = select(outer, sqrt(z), x)
    rest = _asin_rest(t, z)
    inner = _HALF_PI - (t - (_HALF_PI_2 - rest))
    double = _TWO * (t + rest)
    return select(outer, select(x > _ZERO, double, _PI - (double - _PI_LOW)), inner)


# ---- the same for float32, in float64 with less of everything

# 2**-36 and 2**-35, as above
_asin_curve_f32 = polynomial(
    np.float64, 0.16666667180194658, 0.07499948902324885, 0.044659971080349546, 0.03011253685394821, 0.02460464968395209,
    0.007509642203982711, 0.034646147972792855,
)  # fmt: skip
_atan_curve_f32 = polynomial(
    np.float64, -0.3333333249914479, 0.19999903909066188, -0.14282007775283487, 0.11044691716933572, -0.0847626937415758,
    0.047440482997393646,
)  # fmt: skip
_HALF_F32 = np.float32(0.5)


@function
def _root_f32(z: Any) -> Any:
    """The square root of a float32 to 2**-48, by one in float32 and a step of Newton's: those of float64 take twice as long."""
    root = sqrt(z)
    return f64(root) + f64(fma(-root, root, z) / select(root == _ZERO_F32, _ONE_F32, root + root))


@function
def _asin_sum_f32(x: Any, size: Any) -> Any:
    """asin of x with the given size if that is up to 1/2, else half of the distance of asin(size) from pi/2."""
    outer = size > _HALF_F32
    near = (_ONE_F32 - size) * _HALF_F32  # exact in the outer part
    z = select(outer, f64(near), f64(size) * f64(size))
    t = select(outer, _root_f32(near), f64(x))
    return fma(t * z, _asin_curve_f32(z), t)


@function
def _asin_f32(x: Any) -> Any:
    size = abs_(x)
    value = _asin_sum_f32(size, size)
    return copysign(f32(select(size > _HALF_F32, _HALF_PI - _TWO * value, value)), x)


@function
def _acos_f32(x: Any) -> Any:
    size = abs_(x)
    value = _asin_sum_f32(x, size)
    outer = select(x > _ZERO_F32, _TWO * value, _PI - _TWO * value)
    return f32(select(size > _HALF_F32, outer, _HALF_PI - value))


@function
def _atan_f32(x: Any) -> Any:
    size = f64(abs_(x))
    small, middle = size <= _TAN_PI_8, size <= _TAN_3_PI_8
    t = select(small, size, select(middle, size - _ONE, -_ONE)) / select(small, _ONE, select(middle, size + _ONE, size))
    base = select(small, _ZERO, select(middle, _QUARTER_PI, _HALF_PI))
    z = t * t
    return copysign(f32(base + fma(t * z, _atan_curve_f32(z), t)), x)


RECORDS: tuple[Record, ...] = (
    overloaded("sin", _sin_f32, _sin), overloaded("cos", _cos_f32, _cos), overloaded("tan", _tan_f32, _tan),
    overloaded("asin", _asin_f32, _asin), overloaded("acos", _acos_f32, _acos), overloaded("atan", _atan_f32, _atan),
)  # fmt: skip
