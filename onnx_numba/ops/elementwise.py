"""Arithmetic, element by element, with broadcasting: one or two operands, or any number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr, where
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import BOOL, F32, F64, I64, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import tensor, wide
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import scalar, strings_too

Lowering = Callable[..., Any]


def unary(function: Callable[[Expr], Expr], dtype: DType | None = None) -> Lowering:
    """A lowering that applies ``function`` to every element.

    ``consumed_inputs`` was a hint of version 1, which means nothing. The lowering belongs to the family that ``function`` is of.
    """

    def lower(b: Builder, x: Tensor, *, consumed_inputs: Any = None) -> Tensor:
        return b.map(function, x, dtype=dtype)

    lower.__module__ = function.__module__
    return lower


def binary(function: Callable[[Expr, Expr], Expr], dtype: DType | None = None) -> Lowering:
    """A lowering that applies ``function`` to broadcast operands."""

    def lower(b: Builder, x: Tensor, y: Tensor) -> Tensor:
        return b.map(function, x, y, dtype=dtype)

    lower.__module__ = function.__module__
    return lower


def legacy_binary(function: Callable[[Expr, Expr], Expr], dtype: DType | None = None) -> Lowering:
    """The same before version 7: ``broadcast`` allows it and ``axis`` says where the second shape begins in the first."""

    def lower(b: Builder, x: Tensor, y: Tensor, *, axis: int | None = None, broadcast: int = 0, consumed_inputs: Any = None) -> Tensor:
        return b.map(function, x, legacy_align(b, x, y, axis, broadcast), dtype=dtype)

    lower.__module__ = function.__module__
    return lower


def legacy_align(b: Builder, x: Tensor, y: Tensor, axis: int | None, broadcast: int) -> Tensor:
    """``y`` with as many trailing axes of extent 1 as put its first axis at ``axis`` of ``x``."""
    if not broadcast or axis is None:
        return y
    trailing = x.rank - axis % max(x.rank, 1) - y.rank
    return b.reshape(y, (*y.shape, *[1] * trailing)) if trailing > 0 else y


# ---- one operand


def _sign(v: Expr) -> Expr:
    if v.dtype.kind == "u":
        return where(v > 0, 1, v)
    return where(v > 0, 1, where(v < 0, -1, v))


neg = op("Neg", since=1, reviewed=13)(unary(lambda v: e.unary("neg", v)))
absolute = op("Abs", since=1, reviewed=13)(unary(lambda v: e.unary("abs", v)))
floor = op("Floor", since=1, reviewed=13)(unary(lambda v: e.unary("floor", v)))
ceil = op("Ceil", since=1, reviewed=13)(unary(lambda v: e.unary("ceil", v)))
sqrt = op("Sqrt", since=1, reviewed=13)(unary(lambda v: e.unary("sqrt", v)))
exp = op("Exp", since=1, reviewed=13)(unary(lambda v: e.unary("exp", v)))
log = op("Log", since=1, reviewed=13)(unary(lambda v: e.unary("log", v)))
reciprocal = op("Reciprocal", since=1, reviewed=13)(unary(lambda v: 1.0 / v))
sin = op("Sin", since=7, reviewed=22)(unary(lambda v: e.unary("sin", v)))
cos = op("Cos", since=7, reviewed=22)(unary(lambda v: e.unary("cos", v)))
tan = op("Tan", since=7, reviewed=22)(unary(lambda v: e.unary("tan", v)))
asin = op("Asin", since=7, reviewed=22)(unary(lambda v: e.unary("asin", v)))
acos = op("Acos", since=7, reviewed=22)(unary(lambda v: e.unary("acos", v)))
atan = op("Atan", since=7, reviewed=22)(unary(lambda v: e.unary("atan", v)))
sinh = op("Sinh", since=9, reviewed=22)(unary(lambda v: e.unary("sinh", v)))
cosh = op("Cosh", since=9, reviewed=22)(unary(lambda v: e.unary("cosh", v)))
asinh = op("Asinh", since=9, reviewed=22)(unary(lambda v: e.unary("asinh", v)))
acosh = op("Acosh", since=9, reviewed=22)(unary(lambda v: e.unary("acosh", v)))
atanh = op("Atanh", since=9, reviewed=22)(unary(lambda v: e.unary("atanh", v)))
sign = op("Sign", since=9, reviewed=13)(unary(_sign))
round_even = op("Round", since=11, reviewed=22)(unary(lambda v: e.unary("rint", v)))


@op("Erf", since=9, reviewed=13)
def erf(b: Builder, x: Tensor) -> Tensor:
    """Integers are allowed too: their results are truncated."""
    if x.dtype.is_float:
        return b.map(lambda v: e.unary("erf", v), x)
    return b.map(lambda v: e.cast(e.unary("erf", e.cast(v, F64)), x.dtype), x)


@op("IsNaN", since=9, reviewed=20)
def is_nan(b: Builder, x: Tensor) -> Tensor:
    """Whether each element is NaN."""
    return b.map(lambda v: e.unary("isnan", v), x, dtype=BOOL)


@op("IsInf", since=10, reviewed=20)
def is_inf(b: Builder, x: Tensor, *, detect_negative: int, detect_positive: int) -> Tensor:
    """Whether each element is an infinity of a sign that is asked for."""
    if detect_negative and detect_positive:
        return b.map(lambda v: e.unary("isinf", v), x, dtype=BOOL)
    if not detect_negative and not detect_positive:
        return b.full(x.shape, False, BOOL)
    return b.map(lambda v: e.eq(v, float("inf") if detect_positive else float("-inf")), x, dtype=BOOL)


# ---- two operands

add = op("Add", since=7, reviewed=14)(binary(lambda v, w: v + w))
sub = op("Sub", since=7, reviewed=14)(binary(lambda v, w: v - w))
mul = op("Mul", since=7, reviewed=14)(binary(lambda v, w: v * w))
div = op("Div", since=7, reviewed=14)(binary(lambda v, w: v / w))
add_1 = op("Add", since=1, reviewed=6)(legacy_binary(lambda v, w: v + w))
sub_1 = op("Sub", since=1, reviewed=6)(legacy_binary(lambda v, w: v - w))
mul_1 = op("Mul", since=1, reviewed=6)(legacy_binary(lambda v, w: v * w))
div_1 = op("Div", since=1, reviewed=6)(legacy_binary(lambda v, w: v / w))


@op("Mod", since=10, reviewed=28)
def mod(b: Builder, x: Tensor, y: Tensor, *, fmod: int) -> Tensor:
    """The remainder, with the sign of the divisor, or of the dividend if ``fmod`` is set."""
    return b.map(lambda v, w: e.binary("fmod" if fmod else "mod", v, w), x, y)


@op("Pow", since=7, reviewed=15)
def power(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """The power; the result has the type of the base, whatever that of the exponent."""
    return b.map(lambda v, w: power_of(v, w, x.dtype), x, y)


@op("Pow", since=1)
def power_1(b: Builder, x: Tensor, y: Tensor, *, axis: int | None = None, broadcast: int = 0) -> Tensor:
    """Version 1, with its own broadcasting."""
    return power(b, x, legacy_align(b, x, y, axis, broadcast))


def power_of(v: Expr, w: Expr, dtype: DType) -> Expr:
    """A value to the power of another, as an element of ``dtype``, which is the first's type in memory."""
    if isinstance(w, e.Lit) and float(w.value) == 2:
        return v * v
    if v.dtype.is_int and w.dtype.is_int:
        # In 64 bits no exponent is cut, and the result wraps to the narrower type as it should.
        return e.cast(e.binary("ipow", e.cast(v, I64), e.cast(w, I64)), dtype)
    if v.dtype.is_int:
        return e.cast(e.binary("pow", e.cast(v, F64), e.cast(w, F64)), dtype)
    if isinstance(w, e.Lit) and w.value == 3:
        return v * v * v
    if isinstance(w, e.Lit) and w.value == 0.5:
        # Unlike sqrt, pow turns -0 to 0 and gives infinity for minus infinity.
        return where(e.eq(v, float("-inf")), float("inf"), e.unary("sqrt", v + 0.0))
    kind = F64 if F64 in (v.dtype, w.dtype) else F32
    return e.cast(e.binary("pow", e.cast(v, kind), e.cast(w, kind)), wide(dtype))


@op("BitShift", since=11, reviewed=28)
def bit_shift(b: Builder, x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """Bits moved left or right."""
    if direction not in ("LEFT", "RIGHT"):
        b.fail(f"direction must be LEFT or RIGHT, not {direction!r}")
    return b.map(lambda v, w: e.binary("shl" if direction == "LEFT" else "shr", v, w), x, y)


# ---- any number of operands


def _fold(b: Builder, xs: Sequence[Tensor], combine: Callable[[Expr, Expr], Expr]) -> Tensor:
    def fold(*values: Expr) -> Expr:
        result = values[0]
        for value in values[1:]:
            result = combine(result, value)
        return result

    if not xs:
        b.fail("at least one input is needed")
    return b.map(fold, *xs)


@op("Max", since=1, reviewed=13)
def maximum(b: Builder, *xs: Tensor, consumed_inputs: Any = None) -> Tensor:
    """The greatest, NaN if any is."""
    return _fold(b, xs, lambda v, w: e.binary("max", v, w))


@op("Min", since=1, reviewed=13)
def minimum(b: Builder, *xs: Tensor, consumed_inputs: Any = None) -> Tensor:
    """The smallest, NaN if any is."""
    return _fold(b, xs, lambda v, w: e.binary("min", v, w))


@op("Sum", since=1, reviewed=13)
def total(b: Builder, *xs: Tensor, consumed_inputs: Any = None) -> Tensor:
    """The sum."""
    return _fold(b, xs, lambda v, w: v + w)


@op("Mean", since=1, reviewed=13)
def mean(b: Builder, *xs: Tensor, consumed_inputs: Any = None) -> Tensor:
    """The sum divided by the count."""
    count = float(len(xs))

    def average(*values: Expr) -> Expr:
        result = values[0]
        for value in values[1:]:
            result = result + value
        return result / count

    return b.map(average, *xs)


@op("Clip", since=11, reviewed=13)
def clip(b: Builder, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Limited from below, then from above."""
    limits = [(name, scalar(b, t)) for name, t in (("max", low), ("min", high)) if t is not None]

    def limit(v: Expr) -> Expr:
        for name, w in limits:
            v = e.binary(name, v, w)
        return v

    return b.map(limit, x)


@op("Clip", since=1, reviewed=6)
def clip_1(b: Builder, x: Tensor, *, min: float | None = None, max: float | None = None, consumed_inputs: Any = None) -> Tensor:
    """Versions 1 and 6, with the limits as attributes."""

    def limit(v: Expr) -> Expr:
        v = v if min is None else e.binary("max", v, min)
        return v if max is None else e.binary("min", v, max)

    return b.map(limit, x)


@op("Where", since=9, reviewed=16)
@strings_too
def select(b: Builder, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Elements of ``x`` where the condition holds, else of ``y``."""
    first, second = tensor(b, x, "X"), tensor(b, y, "Y")
    return b.map(lambda c, v, w: where(c, v, w), condition, first, second, dtype=first.dtype)
