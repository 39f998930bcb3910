"""Comparisons, logic and operations on bits."""

from __future__ import annotations

from typing import Any

from onnx_numba.ir import expr as e
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import BOOL
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.characters import equal_strings
from onnx_numba.ops.common import is_string, tensor
from onnx_numba.ops.elementwise import binary, legacy_binary, unary
from onnx_numba.ops.registry import op

logical_not = op("Not", since=1)(unary(lambda v: e.unary("not", v)))
bitwise_not = op("BitwiseNot", since=18)(unary(lambda v: e.unary("not", v)))

logical_and = op("And", since=7)(binary(lambda v, w: v & w))
logical_or = op("Or", since=7)(binary(lambda v, w: v | w))
logical_xor = op("Xor", since=7)(binary(lambda v, w: v ^ w))
logical_and_1 = op("And", since=1)(legacy_binary(lambda v, w: v & w))
logical_or_1 = op("Or", since=1)(legacy_binary(lambda v, w: v | w))
logical_xor_1 = op("Xor", since=1)(legacy_binary(lambda v, w: v ^ w))

bitwise_and = op("BitwiseAnd", since=18)(binary(lambda v, w: v & w))
bitwise_or = op("BitwiseOr", since=18)(binary(lambda v, w: v | w))
bitwise_xor = op("BitwiseXor", since=18)(binary(lambda v, w: v ^ w))

less = op("Less", since=7, reviewed=13)(binary(lambda v, w: v < w, BOOL))
greater = op("Greater", since=7, reviewed=13)(binary(lambda v, w: v > w, BOOL))
less_or_equal = op("LessOrEqual", since=12, reviewed=16)(binary(lambda v, w: v <= w, BOOL))
greater_or_equal = op("GreaterOrEqual", since=12, reviewed=16)(binary(lambda v, w: v >= w, BOOL))
less_1 = op("Less", since=1)(legacy_binary(lambda v, w: v < w, BOOL))
greater_1 = op("Greater", since=1)(legacy_binary(lambda v, w: v > w, BOOL))
equal_1 = op("Equal", since=1)(legacy_binary(lambda v, w: e.eq(v, w), BOOL))


@op("Equal", since=7, reviewed=19)
def equal(b: Builder, x: Tensor | Object, y: Tensor | Object) -> Any:
    """Whether elements are equal; strings since version 19."""
    if is_string(x) and is_string(y):
        return equal_strings(b, x, y)
    return b.map(e.eq, tensor(b, x, "A"), tensor(b, y, "B"), dtype=BOOL)
