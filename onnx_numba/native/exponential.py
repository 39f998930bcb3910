"""exp, exp2, exp_decay, expm1, sinh, cosh, tanh and sigmoid, branch-free.

``exp(x) = 2**n * exp(r)`` with ``n`` the integer nearest to ``x / ln 2`` and ``r = x - n ln 2`` in two steps (W. J. Cody and
W. Waite, "Software Manual for the Elementary Functions", 1980). ``n`` is found by adding 1.5 * 2**fraction, so that no conversion
to integers is needed, which AVX2 lacks for 64 bits. The exponent's bias is added with it: then the low bits of the sum, shifted, are
``2**n``. Comparisons are such that NaN goes through all of it.

Bounds that the tests hold them to, in units in the last place: exp, exp2, exp_decay 1.25; cosh 2;
expm1, sinh, tanh, sigmoid 2.5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from onnx_numba.native.emit import call, numba_type, suffix
from onnx_numba.native.integer import isub, shl, shr
from onnx_numba.native.polynomial import F32, F64, Format, polynomial, signing
from onnx_numba.native.registry import Function, Intrinsic, Preferred, Record, function, intrinsic, overloaded
from onnx_numba.native.scalar import abs_, bits_of, copysign, float_of, fma, select


class _Constants(NamedTuple):
    """What differs between the formats."""

    format: Format
    ln2: tuple[float, float]  # high and low part
    curve: Intrinsic  # (exp(r) - 1 - r) / r**2
    exp: Intrinsic  # exp(r), by the same coefficients
    exp_of_negative: Intrinsic  # exp(-r)
    low: float  # exp is 0 from here down, exp and cosh infinite from high on
    high: float
    low2: float  # the same for exp2
    high2: float
    flushed: float  # exp_decay is 0 from here down: its power of two is the number whose bits are all 0
    low1: float  # expm1 is -1 from here down
    high1: float  # expm1 and sinh are infinite from here on, and 2**(n - 2) still is finite
    tiny: float  # expm1(x) and sinh(x) are x below
    flat: float  # tanh is 1 from here on
    faint: float  # sigmoid is 0 from -faint down, and 1 from sure on
    sure: float
    share: int  # 2**share * exp(x) is a normal number from -sure to faint


def _curves(real: Any, *coefficients: float) -> tuple[Intrinsic, Intrinsic, Intrinsic]:
    exp = (1.0, 1.0, *coefficients)
    return polynomial(real, *coefficients), polynomial(real, *exp), polynomial(real, *(c * (-1) ** k for k, c in enumerate(exp)))


_F32 = _Constants(
    F32, (0.693145751953125, 1.4286068e-06),
    # 2**-28
    *_curves(np.float32, 0.5, 0.16666514, 0.041666187, 0.00836953, 0.0013951707),
    low=-104.0, high=90.0, low2=-152.0, high2=130.0, flushed=-88.0, low1=-20.0, high1=89.5, tiny=1e-5, flat=10.0,
    faint=105.0, sure=60.0, share=-30,
)  # fmt: skip
_F64 = _Constants(
    F64, (0.6931471805598903, 5.497923018708371e-14),
    # 2**-63
    *_curves(
        np.float64, 0.5, 0.16666666666666685, 0.04166666666666673, 0.008333333333315419, 0.001388888888885617,
        0.00019841269900373163, 2.48015873778242e-05, 2.7557230889313297e-06, 2.7557230113548457e-07, 2.5113416484888393e-08,
        2.0927889362866444e-09,
    ),
    low=-746.0, high=712.0, low2=-1077.0, high2=1026.0, flushed=-709.0, low1=-50.0, high1=710.7, tiny=1e-12, flat=22.0,
    faint=746.0, sure=60.0, share=-60,
)  # fmt: skip


def _remainder(c: _Constants, sign: int = 1) -> Function:
    """``y - n ln 2``, or with a sign of -1 ``y + n ln 2``."""
    ln2_high, ln2_low = (c.format.real(sign * part) for part in c.ln2)

    @function
    def remainder(y: Any, n: Any) -> Any:
        return fma(n, -ln2_low, fma(n, -ln2_high, y))

    return remainder


def _exp_near(c: _Constants, power: int, sign: int = 1) -> Function:
    """``exp(sign * x) * 2**power`` where that is a normal number, or 0 because the bits of its power of two are 0.

    The sign is in the constants: the negative of a clamped x would take three instructions for one.
    """
    real, fraction, exp = c.format.real, c.format.whole(c.format.fraction), c.exp if sign == 1 else c.exp_of_negative
    shift, log2_e = real(c.format.magic + c.format.bias + power), real(sign * np.log2(np.e))
    remainder = _remainder(c, sign)

    @function
    def exp_near(x: Any) -> Any:
        shifted = fma(x, log2_e, shift)
        return exp(remainder(x, shifted - shift)) * float_of(shl(bits_of(shifted), fraction))

    return exp_near


def _scaled(c: _Constants) -> Preferred:
    """``exp(r) * 2**n`` for every n, where ``n + 2 bias`` stands in the low bits.

    AVX-512 has an instruction for that. Elsewhere it goes by two factors each of which is a normal number; the first product is exact.
    """
    once, fraction, exp = c.format.whole(1), c.format.whole(c.format.fraction), c.exp
    zero = c.format.whole(c.format.magic.view(c.format.whole) + 2 * c.format.bias)

    @function
    def scaled(r: Any, bits: Any) -> Any:
        half = shr(bits, once)
        return exp(r) * float_of(shl(half, fraction)) * float_of(shl(isub(bits, half), fraction))

    @function
    def by_instruction(r: Any, bits: Any) -> Any:
        return _ldexp(exp(r), isub(bits, zero))

    return Preferred("scaled", _has_scaling, by_instruction, scaled)


def _has_scaling(target: Any) -> bool:
    """LLVM has made vectors of it since version 22; before, it called the C library for each element."""
    import llvmlite.binding as llvm

    return target.lanes == 16 and llvm.llvm_version_info[0] >= 22


def _ldexp_typing(*args: Any) -> Any:
    return args[0] if args in ((numba_type("f32"), numba_type("i32")), (numba_type("f64"), numba_type("i64"))) else None


def _emit_ldexp(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    x, n = args
    n = n if n.type.width == 32 else builder.trunc(n, ir.IntType(32))
    return call(builder, f"llvm.ldexp.{suffix(x.type)}.i32", x.type, [x, n])


@intrinsic(_ldexp_typing, _emit_ldexp)
def _ldexp(x: Any, n: Any) -> Any:
    """``x * 2**n``, rounded once."""
    return np.ldexp(x, n)


def _exp_scaled(c: _Constants, power: int) -> Function:
    """``exp(x) * 2**power`` for every x."""
    real = c.format.real
    shift, log2_e, low, high = real(c.format.magic + 2 * c.format.bias + power), real(np.log2(np.e)), real(c.low), real(c.high)
    remainder, scaled = _remainder(c), _scaled(c)

    @function
    def exp_scaled(x: Any) -> Any:
        y = select(x < low, low, x)
        y = select(y > high, high, y)  # one after the other: each is one instruction then
        shifted = fma(y, log2_e, shift)
        return scaled(remainder(y, shifted - shift), bits_of(shifted))

    return exp_scaled


def _exponentials(c: _Constants) -> dict[str, Function]:
    """exp, exp2 and exp_decay."""
    real = c.format.real
    low2, high2, flushed = real(c.low2), real(c.high2), real(c.flushed)
    shift, ln2 = real(c.format.magic + 2 * c.format.bias), real(np.log(2.0))
    exp_scaled, exp_near, scaled = _exp_scaled(c, 0), _exp_near(c, 0), _scaled(c)

    @function
    def exp(x: Any) -> Any:
        return exp_scaled(x)

    @function
    def exp2(x: Any) -> Any:
        y = select(x < low2, low2, x)
        y = select(y > high2, high2, y)
        shifted = y + shift
        return scaled((y - (shifted - shift)) * ln2, bits_of(shifted))

    @function
    def exp_decay(x: Any) -> Any:
        """exp(x) for x of at most 0, and 0 where that is not a normal number: it takes two thirds of the instructions."""
        return exp_near(select(x < flushed, flushed, x))

    return {"exp": exp, "exp2": exp2, "exp_decay": exp_decay, "exp_near": exp_near}


def _expm1_near(c: _Constants, power: int) -> Function:
    """``expm1(x) * 2**power`` where ``exp(x) * 2**power`` is a normal number."""
    real, fraction, curve = c.format.real, c.format.whole(c.format.fraction), c.curve
    shift, log2_e, unit = real(c.format.magic + c.format.bias + power), real(np.log2(np.e)), real(2.0**power)
    remainder = _remainder(c)

    @function
    def expm1_near(x: Any) -> Any:
        shifted = fma(x, log2_e, shift)
        r = remainder(x, shifted - shift)
        scale = float_of(shl(bits_of(shifted), fraction))
        return fma(scale, fma(r * r, curve(r), r), scale - unit)

    return expm1_near


def _hyperbolics(c: _Constants) -> dict[str, Function]:
    """expm1, sinh and cosh."""
    real = c.format.real
    tiny, low, high, flat = real(c.tiny), real(c.low1), real(c.high1), real(-c.low1)
    quarter, one, two, four = (real(n) for n in (0.25, 1, 2, 4))
    exp_halved, expm1_near = _exp_scaled(c, -1), _expm1_near(c, -2)

    @function
    def expm1_quarter(x: Any) -> Any:
        """``expm1(x) / 4``, which does not overflow before sinh does."""
        y = select(x < low, low, x)
        return expm1_near(select(y > high, high, y))

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
        h = exp_halved(abs_(x))
        return h + quarter / h

    return {"expm1": expm1, "sinh": sinh, "cosh": cosh}


def _sigmoids(c: _Constants) -> dict[str, Function]:
    """tanh, as ``expm1(2 x) / (expm1(2 x) + 2)``, and sigmoid, as ``u / (u + u exp(-x))`` with a unit that keeps all of it normal."""
    real, signed = c.format.real, signing(c.format)
    flat, faint, sure, unit, two = real(c.flat), real(-c.faint), real(c.sure), real(2.0**c.share), real(2)
    expm1_near, decay = _expm1_near(c, 0), _exp_near(c, c.share, -1)

    @function
    def tanh(x: Any) -> Any:
        y = select(x < -flat, -flat, x)
        t = expm1_near(two * select(y > flat, flat, y))
        # The quotient has the sign of x but where x is -0.
        return signed(t / (t + two), x)

    @function
    def sigmoid(x: Any) -> Any:
        y = select(x < faint, faint, x)
        return unit / (unit + decay(select(y > sure, sure, y)))

    return {"tanh": tanh, "sigmoid": sigmoid}


EXPONENTIALS = {c.format.name: _exponentials(c) | _hyperbolics(c) | _sigmoids(c) for c in (_F32, _F64)}
"""The functions of each format, by name; ``exp_near(x)`` is ``exp(x)`` where that is a normal number."""

RECORDS: tuple[Record, ...] = tuple(
    overloaded(name, EXPONENTIALS["f32"][name], EXPONENTIALS["f64"][name])
    for name in ("exp", "exp2", "exp_decay", "expm1", "sinh", "cosh", "tanh", "sigmoid")
)
