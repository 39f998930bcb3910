"""Elements that are computed in another type than they are stored in: floats of 16 bits and fewer, integers of 4 and 2 bits.

All of it is integer arithmetic, which vectorises anywhere: LLVM's own conversions turn into calls of compiler-rt (``__truncsfhf2`` …)
on processors without F16C. Where float16 from and to float32 is an instruction, it is used. The functions of a type come from its
description in `onnx_numba.ir.formats`:

* ``from_T(bits)``: an element of a buffer in the type that it is computed in;
* ``to_T(v)``: the element that is stored, rounded once from float32 or float64, ties to even; what is out of range becomes infinity, NaN
  or the greatest number, whichever of these the format has first; integers wrap;
* ``round_T(v)``: ``from_T(to_T(v))``.

float64 is first rounded to float32 *to odd*, which keeps enough for the second rounding to be the right one (S. Boldo and
G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np

from onnx_numba.ir.formats import FORMATS, Format
from onnx_numba.ir.types import DTYPES, DType
from onnx_numba.native.emit import numba_type
from onnx_numba.native.integer import iadd, iand, ior, isub, shl, shr
from onnx_numba.native.registry import Function, Preferred, Record, function, intrinsic, overloaded
from onnx_numba.native.scalar import abs_, bits_of, cast_like, f32, f64, float_of, i8, i32, select, u8, u16

# float32
_SIGN = np.int32(-0x80000000)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INF = np.int32(0x7F800000)
_QUIET = np.int32(0x7FC00000)
_NORMAL = np.int32(0x00800000)  # 2 ** -126
_BIAS, _FRACTION = 127, 23

_ONE = np.int32(1)
_ZERO = np.int32(0)


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
def odd_f64(x: Any) -> Any:
    """A 64-bit integer as float64, rounded to odd where it takes more than 53 bits, so that it can be rounded again."""
    dropped = cast_like(11, x)
    kept = shl(shr(x, dropped), dropped)
    odd = select(kept == x, x, ior(kept, cast_like(1 << 11, x)))
    return f64(select(abs_(x) < cast_like(1 << 53, x), x, odd))


# ---- floats: two functions for a format, ``bits(x)`` and ``value(bits)``


def _general(form: Format) -> tuple[Function, Function]:
    """Bits by shifting a float32's and rounding; for results below the normal numbers an addition rounds."""
    fnuz = form.special == "fnuz"
    dropped = np.int32(_FRACTION - form.fraction)
    almost_half = np.int32((1 << (_FRACTION - form.fraction - 1)) - 1)
    rebias = np.int32((_BIAS - form.bias) << form.fraction)
    least_normal = bits_of(np.float32(2.0 ** (1 - form.bias)))
    spacing = np.float32(2.0 ** (1 - form.bias - form.fraction + _FRACTION))  # its unit in the last place is that of subnormals
    spacing_bits = bits_of(spacing)
    top, overflow, nan = np.int32(form.top), np.int32(form.overflow), np.int32(form.nan)
    payload = np.int32((1 << form.fraction) - 1 if form.special == "ieee" else 0)  # what a NaN keeps
    sign, sign_shift = np.int32(form.sign), np.int32(31 - form.exponent - form.fraction)

    @function
    def bits(x: Any) -> Any:
        full = bits_of(_odd(x))
        magnitude = iand(full, _MAGNITUDE)
        even = iand(shr(magnitude, dropped), _ONE)
        normal = isub(shr(iadd(iadd(magnitude, almost_half), even), dropped), rebias)
        subnormal = isub(bits_of(float_of(magnitude) + spacing), spacing_bits)
        nearest = select(magnitude < least_normal, subnormal, normal)
        finite = select(nearest > top, overflow, nearest)
        unsigned = select(magnitude > _INF, ior(nan, iand(shr(magnitude, dropped), payload)), finite)
        signed = ior(unsigned, iand(shr(full, sign_shift), sign))
        return select(unsigned == _ZERO, _ZERO, signed) if fnuz else signed

    mask, scale = np.int32(form.magnitude), np.float32(2.0 ** (_BIAS - form.bias))
    special = np.int32(form.top + 1)
    special_bits = _INF if form.special == "ieee" else _QUIET

    @function
    def value(bits: Any) -> Any:
        magnitude = iand(bits, mask)
        shifted = shl(magnitude, dropped)
        finite = bits_of(float_of(shifted) * scale)
        outside = iand(bits, ior(mask, sign)) == sign if fnuz else magnitude >= special
        infinite = ior(shifted, select(magnitude > special, _QUIET, special_bits))
        unsigned = select(outside, infinite, finite)
        return float_of(ior(unsigned, shl(iand(bits, sign), sign_shift)))

    return bits, value


def has_half(target: Any) -> bool:
    """Whether the processor converts float16."""
    return target.arch == "aarch64" or "f16c" in target.enabled


def _half_bits_typing(*args: Any) -> Any:
    return numba_type("i32") if args == (numba_type("f32"),) else None


def _emit_half_bits(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    half = builder.fptrunc(args[0], ir.HalfType())
    return builder.zext(builder.bitcast(half, ir.IntType(16)), ir.IntType(32))


@intrinsic(_half_bits_typing, _emit_half_bits)
def _half_bits(x: Any) -> Any:
    """The bits of the float16 next to a float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.int32(np.float16(x).view(np.uint16))


def _half_value_typing(*args: Any) -> Any:
    return numba_type("f32") if args == (numba_type("i32"),) else None


def _emit_half_value(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    half = builder.bitcast(builder.trunc(args[0], ir.IntType(16)), ir.HalfType())
    return builder.fpext(half, ir.FloatType())


@intrinsic(_half_value_typing, _emit_half_value)
def _half_value(bits: Any) -> Any:
    """The float32 that equals the float16 with these bits."""
    return np.float32(np.uint16(bits).view(np.float16))


def _converted(form: Format) -> tuple[Preferred, Preferred]:
    """float16 by the processor's own conversions where it has them."""
    portable, value = _general(form)

    @function
    def bits(x: Any) -> Any:
        return _half_bits(_odd(x))

    return Preferred("bits", has_half, bits, portable), Preferred("value", has_half, _half_value, value)


def _truncated(form: Format) -> tuple[Function, Function]:
    """A float32 without the lower half of its bits."""
    dropped = np.int32(_FRACTION - form.fraction)
    almost_half = np.int32((1 << (_FRACTION - form.fraction - 1)) - 1)
    mask = np.int32(form.sign | form.magnitude)

    @function
    def bits(x: Any) -> Any:
        full = bits_of(_odd(x))
        even = iand(shr(full, dropped), _ONE)
        rounded = iadd(iadd(full, almost_half), even)
        nan = ior(iand(full, _SIGN), _QUIET)
        return iand(shr(select(iand(full, _MAGNITUDE) > _INF, nan, rounded), dropped), mask)

    @function
    def value(bits: Any) -> Any:
        return float_of(shl(bits, dropped))

    return bits, value


def _conversions(form: Format) -> tuple[Record, Record]:
    if form == FORMATS["f16"]:
        return _converted(form)
    return (_truncated if form.exponent == 8 else _general)(form)


def _power(form: Format, added: int) -> tuple[Function, Function]:
    """A power of two; NaN for what is not between the least and the greatest. What is added to the fraction says how to round."""
    least, greatest = bits_of(np.float32(form.lowest)), bits_of(np.float32(form.greatest))
    bump, dropped, nan = np.int32(added), np.int32(_FRACTION), np.int32(form.nan)

    @function
    def bits(x: Any) -> Any:
        full = bits_of(_odd(x))
        # Twice the number, as if float32 had one exponent more: the least power is none of its normal numbers.
        double = select(full < _NORMAL, shl(full, _ONE), iadd(full, _NORMAL))
        code = isub(shr(iadd(double, bump), dropped), _ONE)
        return select(full < least, nan, select(full > greatest, nan, code))

    @function
    def value(bits: Any) -> Any:
        return float_of(select(bits == _ZERO, least, select(bits == nan, _QUIET, shl(bits, dropped))))

    return bits, value


def _float(dtype: DType, form: Format) -> Iterator[Function]:
    nearest: Record
    value: Record
    if form.is_scale:
        nearest, value = _power(form, 1 << (_FRACTION - 1))  # of two as near, the greater
        for name, added in (("up", (1 << _FRACTION) - 1), ("down", 0)):
            yield _round(f"round_{dtype.name}_{name}", _power(form, added)[0], value)
    else:
        nearest, value = _conversions(form)
    word = {1: u8, 2: u16}[dtype.size]

    @function
    def loaded(bits: Any) -> Any:
        return value(i32(bits))

    @function
    def stored(v: Any) -> Any:
        return word(nearest(v))

    yield _named(f"from_{dtype.name}", loaded)
    yield _named(f"to_{dtype.name}", stored)
    yield _round(f"round_{dtype.name}", nearest, value)


def _round(name: str, bits: Record, value: Record) -> Function:
    @function
    def rounded(x: Any) -> Any:
        return value(bits(x))

    return _named(name, rounded)


# ---- integers


def _integer(dtype: DType) -> Iterator[Function]:
    wide = {"i8": i8, "u8": u8}[dtype.compute]
    dropped = wide(8 - dtype.bits)
    mask = np.uint8((1 << dtype.bits) - 1)

    @function
    def rounded(v: Any) -> Any:
        return shr(shl(v, dropped), dropped)

    @function
    def loaded(bits: Any) -> Any:
        return rounded(wide(bits))

    @function
    def stored(v: Any) -> Any:
        return iand(u8(v), mask)

    yield _named(f"from_{dtype.name}", loaded)
    yield _named(f"to_{dtype.name}", stored)
    yield _named(f"round_{dtype.name}", rounded)


def _named(name: str, made: Function) -> Function:
    """The same function under a name of its own, in the compiler's symbols too."""
    python = made.python
    copy = FunctionType(python.__code__, python.__globals__, name, python.__defaults__, python.__closure__)
    copy.__qualname__ = name
    return Function(name, copy)


def _records() -> Iterator[Record]:
    yield odd_f64
    for dtype in DTYPES.values():
        if dtype.stored != dtype.name:
            yield from _float(dtype, FORMATS[dtype.name]) if dtype.is_float else _integer(dtype)


RECORDS: tuple[Record, ...] = tuple(_records())
