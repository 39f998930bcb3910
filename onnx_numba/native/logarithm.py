"""log, log1p, softplus, the inverse hyperbolic functions and pow_, branch-free.

``log(2**e * m) = e ln 2 + log(m)`` with m between sqrt(1/2) and sqrt(2), and log(m) by ``s = (m - 1) / (m + 1)`` as in FreeBSD's
msun (e_log.c, Sun Microsystems, 1993), with coefficients of our own. `pow_` carries the logarithm in two floats, to 2**-64.

Bounds that the tests hold them to, in units in the last place: log 1; log1p, softplus 2; asinh, acosh, atanh 0.51
(float64: 2.5); pow_ 0.51 (float64: 2).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from onnx_numba.native.exponential import EXPONENTIALS
from onnx_numba.native.integer import iadd, isub, shl, shr
from onnx_numba.native.polynomial import F32, F64, Format, polynomial, through_f64
from onnx_numba.native.registry import Function, Intrinsic, Record, function, overloaded
from onnx_numba.native.scalar import abs_, bits_of, copysign, f32, f64, float_of, fma, select, sqrt, trunc


class _Constants(NamedTuple):
    """What differs between the formats."""

    format: Format
    ln2: tuple[float, float]  # high part, whose multiples are exact, and low part
    curve: Intrinsic  # (2 atanh(s) / s - 2) / s**2 as a function of s**2
    scale: int  # subnormals are multiplied by 2**scale


_F32 = _Constants(
    F32, (0.693145751953125, 1.4286068e-06),
    # 2**-34
    polynomial(np.float32, 0.6666667, 0.40000126, 0.28550506, 0.23338632), 25,
)  # fmt: skip
_F64 = _Constants(
    F64, (0.6931471805598903, 5.497923018708371e-14),
    # 2**-57
    polynomial(
        np.float64, 0.666666666666667, 0.3999999999989502, 0.28571428627943596, 0.22222210822159572,
        0.18182911391007042, 0.15330995706646272, 0.1462527246892973,
    ),
    54,
)  # fmt: skip


def _logarithms(c: _Constants, exp: Function) -> dict[str, Function]:
    """log, log1p and softplus."""
    real, whole = c.format.real, c.format.whole
    fraction, root = whole(c.format.fraction), real(np.sqrt(0.5)).view(whole)
    magic, magic_bits = c.format.magic, c.format.magic.view(whole)
    normal, grow = real(np.finfo(real).tiny), real(2.0**c.scale)
    unscaled, scaled = whole(0), whole(-c.scale)
    zero, half, one, two, infinity, nan = real(0), real(0.5), real(1), real(2), real(np.inf), real(np.nan)
    ln2_high, ln2_low, curve = real(c.ln2[0]), real(c.ln2[1]), c.curve

    @function
    def log(x: Any) -> Any:
        small = x < normal
        bits = bits_of(select(small, x * grow, x))
        exponent = shr(isub(bits, root), fraction)
        f = float_of(isub(bits, shl(exponent, fraction))) - one
        n = float_of(iadd(iadd(exponent, select(small, scaled, unscaled)), magic_bits)) - magic
        s = f / (two + f)
        z = s * s
        square = half * f * f
        value = n * ln2_high - ((square - fma(s, square + z * curve(z), n * ln2_low)) - f)
        special = select(x == zero, -infinity, nan)
        return select(x == infinity, x, select(x > zero, value, special))

    @function
    def log1p(x: Any) -> Any:
        u = one + x
        lost = select(abs_(x) < one, x - (u - one), one - (u - x))  # what rounding u has dropped
        corrected = log(u) + select(lost == zero, zero, lost / u)
        return copysign(select(x == infinity, x, corrected), x)

    @function
    def softplus(x: Any) -> Any:
        return select(x > zero, x, zero) + log1p(exp(-abs_(x)))

    return {"log": log, "log1p": log1p, "softplus": softplus}


_NARROW, _WIDE = (_logarithms(c, EXPONENTIALS[c.format.name]["exp"]) for c in (_F32, _F64))
_log, _log1p, _exp = _WIDE["log"], _WIDE["log1p"], EXPONENTIALS["f64"]["exp"]

_ZERO, _HALF, _ONE, _TWO = np.float64(0), np.float64(0.5), np.float64(1), np.float64(2)
_INFINITY, _NAN = np.float64(np.inf), np.float64(np.nan)
_LN2 = np.float64(np.log(2.0))
_LARGE = np.float64(2.0**28)  # from here on x**2 + 1 is x**2


@function
def _asinh(x: Any) -> Any:
    size = abs_(x)
    square = size * size
    near = _log1p(size + square / (_ONE + sqrt(square + _ONE)))
    return copysign(select(size > _LARGE, _log(size) + _LN2, near), x)


@function
def _acosh(x: Any) -> Any:
    t = x - _ONE
    near = _log1p(t + sqrt(t * (_TWO + t)))
    return select(x > _LARGE, _log(x) + _LN2, select(x >= _ONE, near, _NAN))


@function
def _atanh(x: Any) -> Any:
    size = abs_(x)
    return copysign(_HALF * _log1p(_TWO * size / (_ONE - size)), x)


# ---- pow_

_ROOT = np.float64(np.sqrt(0.5)).view(np.int64)
_FRACTION = np.int64(52)
_NORMAL = np.float64(np.finfo(np.float64).tiny)
_GROW = np.float64(2.0**54)
_UNSCALED, _SCALED = np.int64(0), np.int64(-54)
_THIRD, _THIRD_LOW = np.float64(1 / 3), np.float64(1.850371707708594e-17)
_LN2_LOW = np.float64(2.3190468138462996e-17)
_MAGIC = F64.magic
_MAGIC_BITS = _MAGIC.view(np.int64)
_POWER_RANGE = np.float64(800.0)
# (atanh(s) / s - 1 - s**2 / 3) / s**4 as a function of s**2, 2**-70
_atanh_curve = polynomial(
    np.float64, 0.2, 0.14285714285714704, 0.11111111110816053, 0.09090909170329319, 0.07692297205484722,
    0.06667417088663238, 0.05852729361783924, 0.05865600398072137,
)  # fmt: skip


@function
def _exponent(x: Any) -> Any:
    """The integer e with x / 2**e between sqrt(1/2) and sqrt(2), for normal x."""
    return shr(isub(bits_of(x), _ROOT), _FRACTION)


@function
def _power_of_positive(x: Any, y: Any) -> Any:
    """x**y for finite x > 0 and finite y."""
    small = x < _NORMAL
    grown = select(small, x * _GROW, x)
    exponent = _exponent(grown)
    m = float_of(isub(bits_of(grown), shl(exponent, _FRACTION)))
    n = float_of(iadd(iadd(exponent, select(small, _SCALED, _UNSCALED)), _MAGIC_BITS)) - _MAGIC
    # s + s_low = (m - 1) / (m + 1)
    f = m - _ONE
    d = m + _ONE
    d_low = select(m > _ONE, _ONE - (d - m), m - (d - _ONE))
    s = f / d
    s_low = (fma(-s, d, f) - s * d_low) / d
    # z + z_low = s**2;  t + t_low = z / 3 + z**2 * curve(z) = atanh(s) / s - 1
    z = s * s
    z_low = fma(s, s, -z) + _TWO * s * s_low
    rest = _THIRD_LOW + z * _atanh_curve(z)
    c = _THIRD + rest
    c_low = rest - (c - _THIRD)
    t = z * c
    t_low = fma(z, c, -t) + fma(z, c_low, z_low * c)
    # log(m) = 2 (s + s t), log(x) = n ln 2 + log(m)
    p = s * t
    p_low = fma(s, t, -p) + fma(s, t_low, s_low * t)
    a = s + p
    a_low = (p - (a - s)) + (p_low + s_low)
    k = n * _LN2
    k_low = fma(n, _LN2, -k) + n * _LN2_LOW
    high = k + _TWO * a
    back = high - k
    low = (k - (high - back)) + (_TWO * a - back) + (k_low + _TWO * a_low)
    # exp(y log(x))
    e = y * high
    e_low = fma(y, high, -e) + y * low
    bounded = select(e > _POWER_RANGE, _POWER_RANGE, select(e < -_POWER_RANGE, -_POWER_RANGE, e))
    value = _exp(bounded)
    inside = abs_(e) < _POWER_RANGE
    return select(inside, fma(value, select(inside, e_low, _ZERO), value), value)


@function
def _pow_f64(x: Any, y: Any) -> Any:
    size = abs_(x)
    ordinary = (size > _ZERO) & (size < _INFINITY) & (abs_(y) < _INFINITY)
    power = _power_of_positive(select(ordinary, size, _ONE), select(ordinary, y, _ONE))
    # Zero and infinity to a power, and powers to infinity: zero or infinity, by which way it goes; 1 for a base of one.
    grows = (size > _ONE) == (y > _ZERO)
    limit = select(size == _ONE, _ONE, select(grows, _INFINITY, _ZERO))
    magnitude = select(ordinary, power, select((x != x) | (y != y), _NAN, limit))
    whole = trunc(y) == y
    odd = whole & (trunc(y * _HALF) != y * _HALF)
    signed = select(odd, copysign(magnitude, x), magnitude)
    undefined = (x < _ZERO) & (size < _INFINITY) & (abs_(y) < _INFINITY) & (trunc(y) != y)
    return select((y == _ZERO) | (x == _ONE), _ONE, select(undefined, _NAN, signed))


@function
def _pow_f32(x: Any, y: Any) -> Any:
    return f32(_pow_f64(f64(x), f64(y)))


RECORDS: tuple[Record, ...] = (
    *(overloaded(name, _NARROW[name], _WIDE[name]) for name in _NARROW),
    through_f64("asinh", _asinh, odd=True), through_f64("acosh", _acosh), through_f64("atanh", _atanh, odd=True),
    overloaded("pow_", _pow_f32, _pow_f64),
)  # fmt: skip
