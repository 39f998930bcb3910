"""exp, exp2, exp_decay, expm1, sinh, cosh, tanh and sigmoid, branch-free.

``exp(x) = 2**n * exp(r)`` with ``n`` the integer nearest to ``x / ln 2`` and ``r = x - n ln 2`` in two steps (W. J. Cody and
W. Waite, "Software Manual for the Elementary Functions", 1980). ``n`` is found by adding 1.5 * 2**fraction, so that no conversion
to integers is needed, which AVX2 lacks for 64 bits. Comparisons are such that NaN goes through all of it.

Bounds that the tests hold them to, in units in the last place: exp, exp2, exp_decay 1.25; cosh 2;
expm1, sinh, tanh, sigmoid 2.5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from onnx_numba.native.integer import iadd, isub, shl, shr
from onnx_numba.native.polynomial import F32, F64, Format, polynomial
from onnx_numba.native.registry import Function, Intrinsic, Record, function, overloaded
from onnx_numba.native.scalar import abs_, bits_of, copysign, float_of, fma, select


class _Constants(NamedTuple):
    """What differs between the formats."""

    format: Format
    ln2: tuple[float, float]  # high and low part
    curve: Intrinsic  # (exp(r) - 1 - r) / r**2
    low: float  # exp is 0 from here down, exp and cosh infinite from high on
    high: float
    low2: float  # the same for exp2
    high2: float
    flushed: float  # exp_decay is 0 from here down: its power of two is the number whose bits are all 0
    low1: float  # expm1 is -1 from here down
    high1: float  # expm1 and sinh are infinite from here on, and 2**(n - 2) still is finite
    tiny: float  # expm1(x) and sinh(x) are x below


_F32 = _Constants(
    F32, (0.693145751953125, 1.4286068e-06),
    # 2**-28
    polynomial(np.float32, 0.5, 0.16666514, 0.041666187, 0.00836953, 0.0013951707),
    low=-104.0, high=90.0, low2=-152.0, high2=130.0, flushed=-88.0, low1=-20.0, high1=89.5, tiny=1e-5,
)  # fmt: skip
_F64 = _Constants(
    F64, (0.6931471805598903, 5.497923018708371e-14),
    # 2**-63
    polynomial(
        np.float64, 0.5, 0.16666666666666685, 0.04166666666666673, 0.008333333333315419, 0.001388888888885617,
        0.00019841269900373163, 2.48015873778242e-05, 2.7557230889313297e-06, 2.7557230113548457e-07, 2.5113416484888393e-08,
        2.0927889362866444e-09,
    ),
    low=-746.0, high=712.0, low2=-1077.0, high2=1026.0, flushed=-709.0, low1=-50.0, high1=710.7, tiny=1e-12,
)  # fmt: skip


def _exponentials(c: _Constants) -> dict[str, Function]:
    """exp, exp2 and ``exp_scaled(x, k) = exp(x) * 2**k``."""
    real, whole, magic = c.format.real, c.format.whole, c.format.magic
    magic_bits, bias, fraction = magic.view(whole), whole(c.format.bias), whole(c.format.fraction)
    low, high, low2, high2, flushed = real(c.low), real(c.high), real(c.low2), real(c.high2), real(c.flushed)
    log2_e, ln2, ln2_high, ln2_low = real(np.log2(np.e)), real(np.log(2.0)), real(c.ln2[0]), real(c.ln2[1])
    zero, once, one, curve = whole(0), whole(1), real(1), c.curve

    @function
    def power(n: Any) -> Any:
        """2**n for an exponent in the normal range."""
        return float_of(shl(iadd(n, bias), fraction))

    @function
    def scaled(r: Any, n: Any) -> Any:
        """exp(r) * 2**n in two factors, each of which is a normal number."""
        half = shr(n, once)
        value = one + fma(r * r, curve(r), r)
        return value * power(half) * power(isub(n, half))

    @function
    def exp_scaled(x: Any, k: Any) -> Any:
        y = select(x < low, low, x)
        y = select(y > high, high, y)  # one after the other: each is one instruction then
        shifted = fma(y, log2_e, magic)
        n = shifted - magic
        r = fma(n, -ln2_low, fma(n, -ln2_high, y))
        return scaled(r, iadd(isub(bits_of(shifted), magic_bits), k))

    @function
    def exp(x: Any) -> Any:
        return exp_scaled(x, zero)

    @function
    def exp2(x: Any) -> Any:
        y = select(x < low2, low2, x)
        y = select(y > high2, high2, y)
        shifted = y + magic
        return scaled((y - (shifted - magic)) * ln2, isub(bits_of(shifted), magic_bits))

    @function
    def exp_decay(x: Any) -> Any:
        """exp(x) for x of at most 0, and 0 where that is not a normal number: it takes two thirds of the instructions."""
        y = select(x < flushed, flushed, x)
        shifted = fma(y, log2_e, magic)
        n = shifted - magic
        r = fma(n, -ln2_low, fma(n, -ln2_high, y))
        return (one + fma(r * r, curve(r), r)) * power(isub(bits_of(shifted), magic_bits))

    return {"exp": exp, "exp2": exp2, "exp_scaled": exp_scaled, "exp_decay": exp_decay}


def _expm1_quarter(c: _Constants) -> Function:
    """``expm1(x) / 4``, which does not overflow before sinh does."""
    real, whole, magic = c.format.real, c.format.whole, c.format.magic
    magic_bits, bias, fraction = magic.view(whole), whole(c.format.bias - 2), whole(c.format.fraction)
    low, high, curve = real(c.low1), real(c.high1), c.curve
    log2_e, ln2_high, ln2_low = real(np.log2(np.e)), real(c.ln2[0]), real(c.ln2[1])
    quarter = real(0.25)

    @function
    def expm1_quarter(x: Any) -> Any:
        y = select(x < low, low, x)
        y = select(y > high, high, y)
        shifted = fma(y, log2_e, magic)
        n = shifted - magic
        r = fma(n, -ln2_low, fma(n, -ln2_high, y))
        scale = float_of(shl(iadd(isub(bits_of(shifted), magic_bits), bias), fraction))
        return fma(scale, fma(r * r, curve(r), r), scale - quarter)

    return expm1_quarter


def _hyperbolics(c: _Constants, exp_scaled: Function) -> dict[str, Function]:
    """expm1, sinh, cosh, tanh and sigmoid."""
    real, whole = c.format.real, c.format.whole
    tiny, flat = real(c.tiny), real(-c.low1)
    zero, quarter, half, one, two, four = (real(n) for n in (0, 0.25, 0.5, 1, 2, 4))
    unscaled, halved = whole(0), whole(-1)
    expm1_quarter = _expm1_quarter(c)

    @function
    def expm1(x: Any) -> Any:
        return select(abs_(x) < tiny, x * (one + x / two), four * expm1_quarter(x))

    @function
    def sinh(x: Any) -> Any:
        size = abs_(x)
        h = two * expm1_quarter(size)
        value = select(size > flat, h, h + h / (two * h + one))
        return select(size < tiny, x, copysign(value, x))

    @function
    def cosh(x: Any) -> Any:
        h = exp_scaled(abs_(x), halved)
        return h + quarter / h

    @function
    def tanh(x: Any) -> Any:
        size = abs_(x)
        t = expm1_quarter(select(size > flat, flat, two * size))
        return select(size < tiny, x, copysign(t / (t + half), x))

    @function
    def sigmoid(x: Any) -> Any:
        e = exp_scaled(-abs_(x), unscaled)
        return select(x >= zero, one, e) / (one + e)

    return {"expm1": expm1, "sinh": sinh, "cosh": cosh, "tanh": tanh, "sigmoid": sigmoid}


def _family(c: _Constants) -> dict[str, Function]:
    functions = _exponentials(c)
    return functions | _hyperbolics(c, functions["exp_scaled"])


EXPONENTIALS = {c.format.name: _family(c) for c in (_F32, _F64)}
"""The functions of each format, by name; ``exp_scaled(x, k)`` is ``exp(x) * 2**k``."""

RECORDS: tuple[Record, ...] = tuple(
    overloaded(name, EXPONENTIALS["f32"][name], EXPONENTIALS["f64"][name])
    for name in ("exp", "exp2", "exp_decay", "expm1", "sinh", "cosh", "tanh", "sigmoid")
)
