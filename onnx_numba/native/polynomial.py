"""What the mathematical functions are made of: float formats, polynomials, tables of constants.

Coefficients are minimax fits by the Remez algorithm in 50 digits, rounded to the format; each says how far from the function the
polynomial it belongs to is at most, relative to the result.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from onnx_numba.native.emit import call, index_value, is_int, numba_type, suffix
from onnx_numba.native.integer import iand, ior
from onnx_numba.native.registry import Function, Intrinsic, Overloaded, function, overloaded
from onnx_numba.native.scalar import abs_, bits_of, copysign, f32, f64, float_of, fma


class Format(NamedTuple):
    """A binary float format: its name, scalar types, bits of fraction and exponent bias."""

    name: str
    real: Any
    whole: Any
    fraction: int
    bias: int

    @property
    def magic(self) -> Any:
        """Adding it rounds to an integer, which then stands in the low bits: 1.5 * 2 ** fraction."""
        return self.real(1.5 * 2.0**self.fraction)


F32 = Format("f32", np.float32, np.int32, 23, 127)
F64 = Format("f64", np.float64, np.int64, 52, 1023)


def polynomial(real: Any, *coefficients: float) -> Intrinsic:
    """A polynomial in one variable, lowest power first, by Horner's rule with fused multiply-adds."""
    constants = [real(c) for c in coefficients]
    name = "f64" if real is np.float64 else "f32"

    def twin(x: Any) -> Any:
        value = constants[-1]
        for constant in constants[-2::-1]:
            value = fma.twin(value, x, constant)
        return value

    def typing(*args: Any) -> Any:
        kind = numba_type(name)
        return kind if args == (kind,) else None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (x,) = args
        value = x.type(float(constants[-1]))
        for constant in constants[-2::-1]:
            value = call(builder, f"llvm.fma.{suffix(x.type)}", x.type, [value, x, x.type(float(constant))])
        return value

    return Intrinsic("polynomial", twin, typing, emit)


def table(name: str, words: list[int]) -> Intrinsic:
    """A table of unsigned 64-bit constants: its value at an index, as u64."""
    numbers = np.array(words, np.uint64)

    def twin(index: Any) -> Any:
        return numbers[index]

    def typing(*args: Any) -> Any:
        return numba_type("u64") if len(args) == 1 and is_int(args[0]) else None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        word, i64 = ir.IntType(64), ir.IntType(64)
        values = ir.Constant(ir.ArrayType(word, len(words)), [ir.Constant(word, w) for w in words])
        constant = cgutils.global_constant(builder, name, values)
        index = index_value(builder, args[0], signature.args[0])
        return builder.load(builder.gep(constant, [i64(0), index]))

    return Intrinsic(name, twin, typing, emit)


def signing(c: Format) -> Function:
    """``signed(value, x)``: a value with the sign of ``x``, where it has none yet or that one; an instruction less than copysign."""
    sign = c.real(-0.0).view(c.whole)

    @function
    def signed(value: Any, x: Any) -> Any:
        return float_of(ior(bits_of(value), iand(bits_of(x), sign)))

    return signed


def through_f64(name: str, wide: Function, odd: bool = False) -> Overloaded:
    """One name for a float64 function and its use for float32, where it is right but for the last rounding.

    An ``odd`` function is computed of the magnitude: a float64's sign on a number that is then rounded to float16 has LLVM round that
    float64 to float16 as well, for which most processors lack an instruction.
    """

    @function
    def narrow(x: Any) -> Any:
        return f32(wide(f64(x)))

    @function
    def with_sign(x: Any) -> Any:
        return copysign(f32(wide(f64(abs_(x)))), x)

    return overloaded(name, with_sign if odd else narrow, wide)
