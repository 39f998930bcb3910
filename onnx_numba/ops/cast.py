"""Casts among element types, strings included, and reinterpretation of bits."""

from __future__ import annotations

from typing import Any

from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import BY_ONNX, BY_ONNX_NAME, DTYPES, F64, STRING, DType, TensorType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import is_string, shape_of, tensor, tensor_type
from onnx_numba.ops.registry import op
from onnx_numba.templates.elements import copy_elements


@op("Cast", since=6, reviewed=28)
def cast(b: Builder, x: Tensor | Object, *, to: int, saturate: int = 1, round_mode: str = "up") -> Any:
    """Another element type; ``saturate`` and ``round_mode`` concern only floats of 8 bits and fewer."""
    if to not in BY_ONNX:
        b.unsupported(f"element type number {to} is not supported")
    return convert(b, x, BY_ONNX[to])


@op("Cast", since=1)
def cast_1(b: Builder, x: Tensor | Object, *, to: str) -> Any:
    """Version 1, which names the type: ``FLOAT``, ``INT64`` …"""
    if to.lower() not in BY_ONNX_NAME:
        b.unsupported(f"element type {to} is not supported")
    return convert(b, x, BY_ONNX_NAME[to.lower()])


@op("CastLike", since=15, reviewed=25)
def cast_like(b: Builder, x: Tensor | Object, like: Tensor | Object, *, saturate: int = 1, round_mode: str = "up") -> Any:
    """The element type of another tensor."""
    if isinstance(like, Object) and not isinstance(like.type, TensorType):
        b.fail(f"target_type must be a tensor, not {like.type}")
    return convert(b, x, like.dtype if isinstance(like, Tensor) else like.type.dtype)  # type: ignore[union-attr]


def convert(b: Builder, x: Tensor | Object, dtype: DType) -> Any:
    """``x`` as ``dtype``, by a step in Python where strings are involved."""
    if is_string(x) or (dtype is STRING and isinstance(x, Tensor)):
        if is_string(x) and dtype is STRING:
            return x
        function = "string_from_numbers" if dtype is STRING else "string_to_numbers"
        return b.host(function, [x], [tensor_type(dtype, shape_of(x))], dtype=dtype.name)
    numbers = tensor(b, x)
    if numbers.dtype is dtype:
        return numbers
    return b.map(lambda v: _rounded(v, dtype), numbers, dtype=dtype)


def _rounded(v: Expr, dtype: DType) -> Expr:
    if dtype.compute != dtype.name and v.dtype.is_int and v.dtype.size >= 4:
        v = e.cast(v, F64)  # by way of float32 it would be rounded twice
    return e.round_to(v, dtype)


@op("BitCast", since=26)
def bit_cast(b: Builder, x: Tensor, *, to: int) -> Any:
    """The same bits as another type of the same size."""
    dtype = BY_ONNX.get(to)
    if dtype is None or dtype.kind == "s":
        b.unsupported(f"element type number {to} is not supported")
    if dtype.size != x.dtype.size:
        b.fail(f"{x.dtype.onnx_name} and {dtype.onnx_name} differ in size")
    if dtype is x.dtype:
        return x
    bits = DTYPES[f"u{8 * dtype.size}"]
    (result,) = b.template(copy_elements, [x], [(dtype, x.shape)], total=x.size, grain=4096, types={"X": bits})
    return result
