"""Floats as integers that compare as they do.

The bits of a float that is not negative do so as they are; those of a negative one do, but for the sign, in the other direction (IEEE
754-2019, section 5.10). A maximum of integers is one instruction, whose result is there a cycle later; one of floats that passes NaN on
takes three, and six cycles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.native.integer import iand, ixor, shr
from onnx_numba.native.registry import Function, Record, function, overloaded
from onnx_numba.native.scalar import bits_of, float_of


def _ordered(name: str, integer: type[np.signedinteger[Any]]) -> tuple[Function, Function]:
    sign, others = integer(8 * integer(0).itemsize - 1), integer(np.iinfo(integer).max)

    @function
    def turned(bits: Any) -> Any:
        return ixor(bits, iand(shr(bits, sign), others))

    def order(x: Any) -> Any:
        return turned(bits_of(x))

    def of_order(place: Any) -> Any:
        return float_of(turned(place))

    return Function(f"order_of_{name}", order), Function(f"{name}_of_order", of_order)


_order_of_f32, f32_of_order = _ordered("f32", np.int32)
_order_of_f64, f64_of_order = _ordered("f64", np.int64)

RECORDS: tuple[Record, ...] = (overloaded("order_of", _order_of_f32, _order_of_f64), f32_of_order, f64_of_order)
"""``order_of(x)`` is an integer of the width of x, less than that of a greater float; those of NaN are beyond the infinities', on the side
of its sign. ``f32_of_order`` and ``f64_of_order`` give the float back."""
