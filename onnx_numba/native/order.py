"""Floats as integers that compare as they do.

The bits of a float that is not negative do so as they are; those of a negative one do, but for the sign, in the other direction (IEEE
754-2019, section 5.10). A maximum of integers is one instruction, whose result is there a cycle later; one of floats that passes NaN on
takes three, and six cycles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.native.integer import iadd, iand, isub, ixor, shr
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

_NANS = np.int32((1 << np.finfo(np.float32).nmant) - 1)
"""How many NaN there are of each sign: so far they are moved that they wrap around to those of the other sign."""


@function
def height_of(x: Any) -> Any:
    """An integer in the order of a float32, above infinity's for every NaN, and the least that there is for minus infinity."""
    return isub(_order_of_f32(x), _NANS)


@function
def f32_of_height(place: Any) -> Any:
    """The float of a `height_of`."""
    return f32_of_order(iadd(place, _NANS))


@function
def depth_of(x: Any) -> Any:
    """An integer in the order of a float32, below minus infinity's for every NaN, and the greatest that there is for infinity."""
    return iadd(_order_of_f32(x), _NANS)


@function
def f32_of_depth(place: Any) -> Any:
    """The float of a `depth_of`."""
    return f32_of_order(isub(place, _NANS))


RECORDS: tuple[Record, ...] = (
    overloaded("order_of", _order_of_f32, _order_of_f64), f32_of_order, f64_of_order, height_of, f32_of_height, depth_of, f32_of_depth,
)  # fmt: skip
"""``order_of(x)`` is an integer of the width of x, less than that of a greater float; those of NaN are beyond the infinities', on the side
of its sign. ``f32_of_order`` and ``f64_of_order`` give the float back."""
