"""Casts, comparisons and float arithmetic with results defined for every operand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from onnx_numba.native.emit import (
    call,
    is_bool,
    is_complex,
    is_float,
    is_int,
    is_scalar,
    is_signed,
    llvm_intrinsic,
    numba_type,
    plain,
    same,
    suffix,
    tested,
)  # fmt: skip
from onnx_numba.native.registry import Intrinsic, Record, function, intrinsic

_NUMPY: dict[str, Any] = {
    "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64,
}  # fmt: skip
_SCALARS: dict[str, type] = {"bool": np.bool_, "f32": np.float32, "f64": np.float64, **_NUMPY}

# ---- casts

_PRECISION = {"f32": 24, "f64": 53}
"""Bits of the integers that a float has all of."""


def _int_twin(name: str) -> Callable[[Any], Any]:
    scalar = _NUMPY[name]
    limits = np.iinfo(scalar)
    low, high, mask, sign = int(limits.min), int(limits.max), (1 << limits.bits) - 1, 1 << (limits.bits - 1)

    def cast(x: Any) -> Any:
        if isinstance(x, (float, np.floating)):
            if x != x:
                return scalar(0)
            return scalar(high if x >= high else low if x <= low else int(x))
        wrapped = int(x) & mask
        return scalar(wrapped - (mask + 1) if low < 0 and wrapped & sign else wrapped)

    return cast


def _f32_twin(x: Any) -> Any:
    """From Python's int by way of int64, as compiled code has it: through float64 it would round twice."""
    return np.float32(np.int64(x)) if isinstance(x, int) else np.float32(x)


def _bool_twin(x: Any) -> Any:
    return np.bool_(x != 0)


_CAST_TWINS: dict[str, Callable[[Any], Any]] = {
    "bool": _bool_twin, "f32": _f32_twin, "f64": np.float64, **{name: _int_twin(name) for name in _NUMPY},
}  # fmt: skip


def _cast(name: str) -> Intrinsic:
    def typing(*args: Any) -> Any:
        return numba_type(name) if len(args) == 1 and is_scalar(plain(args[0])) else None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return cast_value(context, builder, args[0], plain(signature.args[0]), signature.return_type)

    return Intrinsic("bool_" if name == "bool" else name, _CAST_TWINS[name], typing, emit)


def cast_value(context: Any, builder: Any, value: Any, source: Any, target: Any) -> Any:
    """LLVM value of ``value`` cast from one numba scalar type to another."""
    if source == target:
        return value
    result = context.get_value_type(target)
    zero = value.type(0)
    if is_bool(target):
        return builder.fcmp_unordered("!=", value, zero) if is_float(source) else builder.icmp_unsigned("!=", value, zero)
    if is_float(source):
        if is_float(target):
            return builder.fpext(value, result) if target.bitwidth > source.bitwidth else builder.fptrunc(value, result)
        if builder.module.triple.startswith("x86_64"):
            return saturating(builder, value, is_signed(target), result)
        convert = "fptosi" if is_signed(target) else "fptoui"
        return call(builder, f"llvm.{convert}.sat.{suffix(result)}.{suffix(value.type)}", result, [value])
    if is_float(target):
        return builder.sitofp(value, result) if is_signed(source) else builder.uitofp(value, result)
    if result.width <= value.type.width:
        return builder.trunc(value, result) if result.width < value.type.width else value
    return builder.sext(value, result) if is_signed(source) else builder.zext(value, result)


def saturating(builder: Any, value: Any, signed: bool, result: Any) -> Any:
    """A float as an LLVM integer, toward zero, with NaN as 0 and what is out of range as the nearest limit.

    LLVM's own ``fptosi.sat`` says the same, but is one lane at a time where no instruction does it, and NVVM has none. A float that has
    both limits is limited before it is converted, by way of 32 bits: where masks are as wide as elements, as with AVX2, those of floats
    would have to become masks of bytes.
    """
    bits = result.width - signed
    low, high = (-(1 << bits) if signed else 0), (1 << bits) - 1
    unordered = builder.fcmp_unordered("uno", value, value)
    if bits < 32 and bits <= _PRECISION[suffix(value.type)]:
        limited = builder.select(unordered, value.type(0.0), value)
        for name, limit in ((">", low), ("<", high)):
            bound = value.type(float(limit))
            limited = builder.select(builder.fcmp_ordered(name, limited, bound), limited, bound)
        number = builder.fptosi(limited, result.__class__(32))
        return builder.trunc(number, result) if result.width < 32 else number
    number = (builder.fptosi if signed else builder.fptoui)(value, result)  # undefined where the limits take its place
    above = builder.fcmp_ordered(">=", value, value.type(float(high + 1)))
    below = builder.fcmp_ordered("<=", value, value.type(float(low)))
    number = builder.select(above, result(high), builder.select(below, result(low), number))
    return builder.select(unordered, result(0), number)


CASTS = tuple(_cast(name) for name in _CAST_TWINS)
bool_, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64 = CASTS


def _complex_cast(name: str, scalar: Any) -> Intrinsic:
    def twin(x: Any) -> Any:
        return scalar(x)

    def typing(*args: Any) -> Any:
        kind = numba_type(name)
        return kind if len(args) == 1 and (is_scalar(plain(args[0])) or args[0] == kind) else None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, source = signature.return_type, plain(signature.args[0])
        if source == target:
            return args[0]
        real = cast_value(context, builder, args[0], source, target.underlying_float)
        return builder.insert_value(context.get_constant_null(target), real, 0)

    return Intrinsic(name, twin, typing, emit)


COMPLEX_CASTS = (_complex_cast("c64", np.complex64), _complex_cast("c128", np.complex128))


def _complex_typing(*args: Any) -> Any:
    fits = len(args) == 2 and args[0] == args[1] and is_float(args[0])
    return numba_type(f"c{2 * args[0].bitwidth}") if fits else None


def _emit_complex(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    made = context.get_constant_null(signature.return_type)
    return builder.insert_value(builder.insert_value(made, args[0], 0), args[1], 1)


@intrinsic(_complex_typing, _emit_complex)
def complex_(real: Any, imag: Any) -> Any:
    """The complex number of two floats."""
    return (np.complex128 if isinstance(real, np.float64) else np.complex64)(complex(real, imag))


def _like_typing(*args: Any) -> Any:
    fits = len(args) == 2 and all(is_scalar(plain(a)) for a in args)
    return plain(args[1]) if fits else None


def _emit_like(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return cast_value(context, builder, args[0], plain(signature.args[0]), signature.return_type)


@intrinsic(_like_typing, _emit_like)
def cast_like(x: Any, model: Any) -> Any:
    """``x`` cast to the type of ``model``, for functions over several types."""
    if not isinstance(model, np.generic):
        return type(model)(x)
    name = next(name for name, scalar in _SCALARS.items() if isinstance(model, scalar))
    return _CAST_TWINS[name](x)


# ---- bits


def _bits_typing(*args: Any) -> Any:
    return numba_type("i" + suffix_bits(args[0])) if len(args) == 1 and is_float(args[0]) else None


def _float_typing(*args: Any) -> Any:
    wide = len(args) == 1 and is_int(args[0]) and plain(args[0]).bitwidth in (32, 64)
    return numba_type("f" + suffix_bits(plain(args[0]))) if wide else None


def suffix_bits(numba_type: Any) -> str:
    """The width of a numba scalar type, as text."""
    return str(numba_type.bitwidth)


def _bitcast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.bitcast(args[0], context.get_value_type(signature.return_type))


@intrinsic(_bits_typing, _bitcast)
def bits_of(x: Any) -> Any:
    """The bits of a float as a signed integer of its width."""
    return x.view(np.int64 if isinstance(x, np.float64) else np.int32)


@intrinsic(_float_typing, _bitcast)
def float_of(x: Any) -> Any:
    """The float with the bits of a 32- or 64-bit integer."""
    return x.view(np.float64 if x.itemsize == 8 else np.float32)


# ---- choice


def _select_typing(*args: Any) -> Any:
    kinds = [plain(a) for a in args]
    fits = len(kinds) == 3 and is_bool(kinds[0]) and kinds[1] == kinds[2] and (is_scalar(kinds[1]) or is_complex(kinds[1]))
    return kinds[1] if fits else None


def _emit_select(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.select(*args)


@intrinsic(_select_typing, _emit_select)
def select(condition: Any, a: Any, b: Any) -> Any:
    """``a`` where the condition holds, else ``b``; both are evaluated."""
    return a if condition else b


def _emit_extreme(name: str) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.return_type
        operation = f"{name}imum" if is_float(kind) else f"{'s' if is_signed(kind) else 'u'}{name}"
        return llvm_intrinsic(operation)(context, builder, signature, args)

    return emit


@intrinsic(same(is_scalar, 2), _emit_extreme("max"))
def max_(a: Any, b: Any) -> Any:
    """The greater, NaN if either is, with -0 < +0 (IEEE 754 maximum)."""
    if a != a or b != b:
        return a + b
    if a == b:
        return b if np.signbit(a) else a
    return a if a > b else b


@intrinsic(same(is_scalar, 2), _emit_extreme("min"))
def min_(a: Any, b: Any) -> Any:
    """The smaller, NaN if either is, with -0 < +0 (IEEE 754 minimum)."""
    if a != a or b != b:
        return a + b
    if a == b:
        return a if np.signbit(a) else b
    return a if a < b else b


def _emit_any_zero(name: str) -> Any:
    exact = _emit_extreme(name)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = exact(context, builder, signature, args)
        if is_float(signature.return_type):
            value.fastmath.add("nsz")
        return value

    return emit


@intrinsic(same(is_scalar, 2), _emit_any_zero("max"))
def acc_max(a: Any, b: Any) -> Any:
    """`max_` in a reduction, where the sign of a zero may be that of any: half as many instructions."""
    return max_(a, b)


@intrinsic(same(is_scalar, 2), _emit_any_zero("min"))
def acc_min(a: Any, b: Any) -> Any:
    """`min_` in a reduction, where the sign of a zero may be that of any."""
    return min_(a, b)


# ---- float arithmetic


@intrinsic(same(is_float, 3), llvm_intrinsic("fma"))
def fma(a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` rounded once."""
    if isinstance(a, np.float64):
        return _fma_f64(float(a), float(b), float(c))
    product, addend = np.float64(a) * np.float64(b), np.float64(c)  # the product of two float32 is exact
    total = product + addend
    if np.isfinite(total):
        # Rounding to float32 is right only from the exact sum or from one rounded to odd.
        virtual = total - product
        error = (product - (total - virtual)) + (addend - virtual)
        bits = total.view(np.int64)
        if error != 0 and not bits & 1:
            total = np.int64(bits + (1 if (error > 0) == (total > 0) else -1)).view(np.float64)
    return np.float32(total)


def _fma_f64(a: float, b: float, c: float) -> Any:
    if not (math.isfinite(a) and math.isfinite(b)) or a == 0 or b == 0:
        return np.float64(a) * np.float64(b) + np.float64(c)
    if not math.isfinite(c) or c == 0:  # a sum would lose overflow to the addend, or the sign of an underflow
        return np.float64(c if c else a * b)
    (a_over, a_under), (b_over, b_under), (c_over, c_under) = a.as_integer_ratio(), b.as_integer_ratio(), c.as_integer_ratio()
    over, under = a_over * b_over * c_under + c_over * a_under * b_under, a_under * b_under * c_under
    try:
        return np.float64(over / under)  # Python divides integers with one rounding
    except OverflowError:
        return np.float64(math.inf if over > 0 else -math.inf)


def _emit_reassociable(float_op: str, int_op: str) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if is_float(signature.return_type):
            return getattr(builder, float_op)(*args, flags=("reassoc",))
        return getattr(builder, int_op)(*args)

    return emit


def _is_number(kind: Any) -> bool:
    return is_float(kind) or is_int(kind)


@intrinsic(same(_is_number, 2), _emit_reassociable("fadd", "add"))
def acc_add(a: Any, b: Any) -> Any:
    """``a + b`` in a reduction, whose order the compiler may choose, once and for all."""
    return a + b


@intrinsic(same(_is_number, 2), _emit_reassociable("fmul", "mul"))
def acc_mul(a: Any, b: Any) -> Any:
    """``a * b`` in a reduction, whose order the compiler may choose, once and for all."""
    return a * b


@intrinsic(same(is_float, 1), llvm_intrinsic("sqrt"))
def sqrt(x: Any) -> Any:
    """Square root, rounded to nearest."""
    return np.sqrt(x)


@intrinsic(same(is_float, 1), llvm_intrinsic("floor"))
def floor(x: Any) -> Any:
    """The greatest integer not above x."""
    return np.floor(x)


@intrinsic(same(is_float, 1), llvm_intrinsic("ceil"))
def ceil(x: Any) -> Any:
    """The smallest integer not below x."""
    return np.ceil(x)


@intrinsic(same(is_float, 1), llvm_intrinsic("trunc"))
def trunc(x: Any) -> Any:
    """Toward zero."""
    return np.trunc(x)


@intrinsic(same(is_float, 1), llvm_intrinsic("rint"))
def rint(x: Any) -> Any:
    """The nearest integer, the even one of two."""
    return np.rint(x)


@intrinsic(same(is_float, 2), llvm_intrinsic("copysign"))
def copysign(x: Any, sign: Any) -> Any:
    """The magnitude of x with the sign of the other."""
    return np.copysign(x, sign)


def _emit_abs(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    (x,) = args
    if is_float(signature.return_type):
        return call(builder, f"llvm.fabs.{suffix(x.type)}", x.type, [x])
    if not is_signed(signature.return_type):
        return x
    return call(builder, f"llvm.abs.{suffix(x.type)}", x.type, [x, ir.Constant(ir.IntType(1), 0)])


@intrinsic(same(_is_number, 1), _emit_abs)
def abs_(x: Any) -> Any:
    """Magnitude; the smallest signed integer stays as it is."""
    return np.abs(x)


def _emit_neg(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.fneg(args[0]) if is_float(signature.return_type) else builder.neg(args[0])


@intrinsic(same(_is_number, 1), _emit_neg)
def neg(x: Any) -> Any:
    """Sign flipped, of zero and NaN too; integers wrap."""
    return np.negative(x)


def _emit_isnan(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.fcmp_unordered("uno", args[0], args[0])


@intrinsic(tested(is_float), _emit_isnan)
def isnan_(x: Any) -> Any:
    """Whether x is NaN."""
    return np.isnan(x)


def _emit_isinf(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    (x,) = args
    magnitude = call(builder, f"llvm.fabs.{suffix(x.type)}", x.type, [x])
    return builder.fcmp_ordered("==", magnitude, x.type(math.inf))


@intrinsic(tested(is_float), _emit_isinf)
def isinf_(x: Any) -> Any:
    """Whether x is an infinity of either sign."""
    return np.isinf(x)


def _emit_fmod(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """As in C++, where the quotient's whole part may be one too great, and what `fma` leaves of the dividend is exact::

        float q = trunc(a / b);
        if (!(fabs(q) < 16777216)) return fmod(a, b);  // NaN and infinity too
        float r = q == 0 ? a : fma(-q, b, a);
        if (copysign(r, a) != r) r += copysign(b, a);
        return copysign(r, a);
    """
    a, b = args
    kind = a.type

    def of(name: str, *values: Any) -> Any:
        return call(builder, f"llvm.{name}.{suffix(kind)}", kind, list(values))

    quotient = of("trunc", builder.fdiv(a, b))
    bits = 24 if suffix(kind) == "f32" else 53
    with builder.if_else(builder.fcmp_ordered("<", of("fabs", quotient), kind(2.0**bits))) as (few, many):
        with few:
            rest = builder.select(builder.fcmp_ordered("==", quotient, kind(0.0)), a, of("fma", builder.fneg(quotient), b, a))
            crossed = builder.fcmp_unordered("!=", of("copysign", rest, a), rest)
            rest = builder.select(crossed, builder.fadd(rest, of("copysign", b, a)), rest)
            own, own_from = of("copysign", rest, a), builder.block
        with many:
            # A call, which LLVM makes where it is needed only: its own `frem` has no effects, and would be done for every element.
            library, library_from = call(builder, "fmodf" if bits == 24 else "fmod", kind, [a, b]), builder.block
    result = builder.phi(kind)
    result.add_incoming(own, own_from)
    result.add_incoming(library, library_from)
    return result


@intrinsic(same(is_float, 2), _emit_fmod)
def fmod_(a: Any, b: Any) -> Any:
    """Remainder with the sign of the dividend, exact. Quotients of many bits are left to the C library: loops around it stay scalar."""
    return np.fmod(a, b)


@function
def mod_(a: Any, b: Any) -> Any:
    """Remainder with the sign of the divisor, as Python and NumPy have it."""
    r = fmod_(a, b)
    signed = copysign(r, b)
    return select(signed == r, signed, r + b)


RECORDS: tuple[Record, ...] = (
    *CASTS, *COMPLEX_CASTS, complex_, cast_like, bits_of, float_of, select, max_, min_, acc_max, acc_min, fma, acc_add, acc_mul, sqrt,
    floor, ceil, trunc, rint, copysign, abs_, neg, isnan_, isinf_, fmod_, mod_,
)  # fmt: skip
