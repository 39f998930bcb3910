"""Integer arithmetic with results defined for every operand: no traps, no poison.

x86 divides integers one at a time, floats in vectors. Quotients of up to 32 bits are made there by a division of floats that have more
bits than they, as C++ would have it::

    int32_t q = (int32_t)((double)a / (double)b);

A quotient that is no integer is at least one part in ``|a| + |b|`` away from the next, and such a float rounds by less: it stays
where it is, and what the conversion drops is what integer division does. Constant divisors stay integers, of which LLVM makes products.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.native.emit import call, is_int, is_signed, same
from onnx_numba.native.registry import Record, function, intrinsic
from onnx_numba.native.scalar import cast_like, select


def _safe_divisor(builder: Any, a: Any, b: Any, signed: bool) -> tuple[Any, Any]:
    """The divisor with 1 in place of 0, and of -1 under the smallest integer; and whether it was 0."""
    kind = a.type
    zero = builder.icmp_unsigned("==", b, kind(0))
    unsafe = zero
    if signed:
        smallest = builder.icmp_unsigned("==", a, kind(-(1 << (kind.width - 1))))
        unsafe = builder.or_(zero, builder.and_(smallest, builder.icmp_unsigned("==", b, kind(-1))))
    return builder.select(unsafe, kind(1), b), zero


def _truncated(builder: Any, signature: Any, args: Any) -> tuple[Any, Any]:
    """Quotient (0 for division by zero) and remainder of truncating division (0 likewise)."""
    a, b = args
    signed = is_signed(signature.return_type)
    safe, zero = _safe_divisor(builder, a, b, signed)
    if a.type.width > 32 or not builder.module.triple.startswith("x86_64"):
        quotient = builder.sdiv(a, safe) if signed else builder.udiv(a, safe)
        remainder = builder.srem(a, safe) if signed else builder.urem(a, safe)
    else:
        quotient = _quotient(builder, a, safe, signed)
        remainder = builder.sub(a, builder.mul(quotient, safe))
    return builder.select(zero, a.type(0), quotient), remainder


def _quotient(builder: Any, a: Any, b: Any, signed: bool) -> Any:
    """``a / b`` toward zero by floats, for operands that have such a quotient."""
    from llvmlite import ir

    kind = a.type
    with builder.if_else(call(builder, f"llvm.is.constant.{kind}", ir.IntType(1), [b])) as (known, unknown):
        with known:
            whole, whole_from = builder.sdiv(a, b) if signed else builder.udiv(a, b), builder.block
        with unknown:
            real, word = (ir.DoubleType(), kind) if kind.width == 32 else (ir.FloatType(), ir.IntType(32))
            widen, convert, back = ("sext", "sitofp", "fptosi") if signed else ("zext", "uitofp", "fptoui")
            x, y = (getattr(builder, convert)(getattr(builder, widen)(v, word), real) for v in (a, b))
            ratio = builder.trunc(getattr(builder, back)(builder.fdiv(x, y), word), kind)
            ratio_from = builder.block
    quotient = builder.phi(kind)
    quotient.add_incoming(whole, whole_from)
    quotient.add_incoming(ratio, ratio_from)
    return quotient


def _crosses(builder: Any, signature: Any, remainder: Any, divisor: Any) -> Any:
    """Whether flooring differs from truncating."""
    kind = divisor.type
    if not is_signed(signature.return_type):
        return None
    inexact = builder.icmp_unsigned("!=", remainder, kind(0))
    return builder.and_(inexact, builder.icmp_signed("<", builder.xor(remainder, divisor), kind(0)))


def _emit_idiv(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return _truncated(builder, signature, args)[0]


def _emit_irem(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return _truncated(builder, signature, args)[1]


def _emit_floordiv(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    quotient, remainder = _truncated(builder, signature, args)
    crosses = _crosses(builder, signature, remainder, args[1])
    return quotient if crosses is None else builder.sub(quotient, builder.zext(crosses, quotient.type))


def _emit_imod(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    remainder = _truncated(builder, signature, args)[1]
    crosses = _crosses(builder, signature, remainder, args[1])
    return remainder if crosses is None else builder.select(crosses, builder.add(remainder, args[1]), remainder)


def _wrapped(value: int, like: Any) -> Any:
    """A Python int as a scalar of the operand's type, wrapped; Python's own ints are index arithmetic and stay as they are."""
    if not isinstance(like, np.integer):
        return value
    limits = np.iinfo(like.dtype)
    return like.dtype.type((value - int(limits.min)) % (1 << limits.bits) + int(limits.min))


@intrinsic(same(is_int, 2), _emit_idiv)
def idiv(a: Any, b: Any) -> Any:
    """Quotient truncated toward zero; 0 for a division by zero, wrapped for the smallest integer by -1."""
    x, y = int(a), int(b)
    return _wrapped(0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1), a)


@intrinsic(same(is_int, 2), _emit_irem)
def irem(a: Any, b: Any) -> Any:
    """Remainder with the sign of the dividend; 0 for a division by zero."""
    x, y = int(a), int(b)
    return _wrapped(0 if y == 0 else abs(x) % abs(y) * (-1 if x < 0 else 1), a)


@intrinsic(same(is_int, 2), _emit_floordiv)
def floordiv(a: Any, b: Any) -> Any:
    """Quotient rounded down; 0 for a division by zero, wrapped for the smallest integer by -1."""
    return _wrapped(0 if b == 0 else int(a) // int(b), a)


@intrinsic(same(is_int, 2), _emit_imod)
def imod(a: Any, b: Any) -> Any:
    """Remainder with the sign of the divisor; 0 for a division by zero."""
    return _wrapped(0 if b == 0 else int(a) % int(b), a)


def _emit_unsigned(operation: str) -> Any:
    """Of operands that are not negative ``sdiv`` makes the same as ``udiv``.

    LLVM writes addresses anew in the loops that use them, ``udiv`` included, of whose divisor it does not know there that it is not zero:
    it would divide in every round of the innermost loop. It looks at no ``sdiv``. Divisions by constants are better without a sign.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir

        a, b = args
        safe, zero = _safe_divisor(builder, a, b, signed=False)
        kind = "u" if isinstance(b, ir.Constant) else "s"
        return builder.select(zero, a.type(0), getattr(builder, kind + operation)(a, safe))

    return emit


@intrinsic(same(is_int, 2), _emit_unsigned("div"))
def udiv(a: Any, b: Any) -> Any:
    """``a // b`` for operands that are not negative, as indices are; 0 for a division by zero."""
    return idiv(a, b)


@intrinsic(same(is_int, 2), _emit_unsigned("rem"))
def urem(a: Any, b: Any) -> Any:
    """``a % b`` for operands that are not negative, as indices are; 0 for a division by zero."""
    return irem(a, b)


def _emit_shl(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    a, b = args
    width = a.type.width
    inside = builder.icmp_unsigned("<", b, b.type(width))
    return builder.select(inside, builder.shl(a, builder.and_(b, b.type(width - 1))), a.type(0))


def _emit_shr(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    a, b = args
    width = a.type.width
    inside = builder.icmp_unsigned("<", b, b.type(width))
    if is_signed(signature.return_type):
        return builder.ashr(a, builder.select(inside, b, b.type(width - 1)))
    return builder.select(inside, builder.lshr(a, builder.and_(b, b.type(width - 1))), a.type(0))


@intrinsic(same(is_int, 2), _emit_shl)
def shl(a: Any, b: Any) -> Any:
    """``a << b``; 0 for shifts by the width or more, and by less than zero."""
    width = np.iinfo(a.dtype).bits if isinstance(a, np.integer) else 64
    return _wrapped(int(a) << int(b) if 0 <= b < width else 0, a)


@intrinsic(same(is_int, 2), _emit_shr)
def shr(a: Any, b: Any) -> Any:
    """``a >> b``, logical for unsigned, arithmetic for signed; shifts by the width or more (or below zero) leave signs only."""
    width = np.iinfo(a.dtype).bits if isinstance(a, np.integer) else 64
    return _wrapped(int(a) >> (int(b) if 0 <= b < width else width), a)


def _emit_binary(operation: str) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, operation)(*args)

    return emit


@intrinsic(same(is_int, 2), _emit_binary("add"))
def iadd(a: Any, b: Any) -> Any:
    """``a + b``, wrapped to the type of both."""
    return _wrapped(int(a) + int(b), a)


@intrinsic(same(is_int, 2), _emit_binary("sub"))
def isub(a: Any, b: Any) -> Any:
    """``a - b``, wrapped to the type of both."""
    return _wrapped(int(a) - int(b), a)


@intrinsic(same(is_int, 2), _emit_binary("mul"))
def imul(a: Any, b: Any) -> Any:
    """``a * b``, wrapped to the type of both."""
    return _wrapped(int(a) * int(b), a)


@intrinsic(same(is_int, 2), _emit_binary("and_"))
def iand(a: Any, b: Any) -> Any:
    """``a & b`` in the type of both."""
    return a & b


@intrinsic(same(is_int, 2), _emit_binary("or_"))
def ior(a: Any, b: Any) -> Any:
    """``a | b`` in the type of both."""
    return a | b


@intrinsic(same(is_int, 2), _emit_binary("xor"))
def ixor(a: Any, b: Any) -> Any:
    """``a ^ b`` in the type of both."""
    return a ^ b


def _emit_trailing_zeros(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    (a,) = args
    return builder.cttz(a, ir.Constant(ir.IntType(1), 0))


@intrinsic(same(is_int, 1), _emit_trailing_zeros)
def trailing_zeros(a: Any) -> Any:
    """How many bits below the lowest that is set; all of them for 0."""
    value, width = int(a), np.iinfo(a.dtype).bits
    return a.dtype.type((value & -value).bit_length() - 1 if value else width)


@function
def ipow(a: Any, b: Any) -> Any:
    """``a ** b``, wrapped; a negative exponent gives the truncated reciprocal, 0 for a zero base."""
    zero, one = cast_like(0, a), cast_like(1, a)
    minus_one = isub(zero, one)
    if b < zero:
        odd = iand(b, one) != zero
        # A minus one that is 255 and the like never gets here: an unsigned exponent is not negative.
        unit = select(odd, minus_one, one)
        return select(a == one, one, select(a == minus_one, unit, zero))
    result, base, left = one, a, b
    while left > zero:
        if iand(left, one) != zero:
            result = imul(result, base)
        base = imul(base, base)
        left = shr(left, one)
    return result


RECORDS: tuple[Record, ...] = (
    idiv, irem, floordiv, imod, udiv, urem, shl, shr, iadd, isub, imul, iand, ior, ixor, trailing_zeros, ipow,
)  # fmt: skip
