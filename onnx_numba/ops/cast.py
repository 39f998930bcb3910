"""Casts among element types, strings included, and reinterpretation of bits."""

from __future__ import annotations

from typing import Any

from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.formats import FORMATS
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import BY_ONNX, BY_ONNX_NAME, DTYPES, F64, I64, STRING, DType, TensorType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import is_string, shape_of, tensor, tensor_type
from onnx_numba.ops.registry import op
from onnx_numba.templates.elements import copy_elements

MODES = {"up": "_up", "down": "_down", "nearest": ""}
"""The standard's ``round_mode``: what it adds to the name of a rounding."""


@op("Cast", since=6, reviewed=28)
def cast(b: Builder, x: Tensor | Object, *, to: int, saturate: int = 1, round_mode: str = "up") -> Any:
    """Another element type; ``saturate`` and ``round_mode`` concern only floats of 8 bits."""
    if to not in BY_ONNX:
        b.unsupported(f"element type number {to} is not supported")
    return convert(b, x, BY_ONNX[to], bool(saturate), round_mode)


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
    dtype = like.dtype if isinstance(like, Tensor) else like.type.dtype  # type: ignore[union-attr]
    return convert(b, x, dtype, bool(saturate), round_mode)


def convert(b: Builder, x: Tensor | Object, dtype: DType, saturate: bool = True, mode: str = "up") -> Any:
    """``x`` as ``dtype``, by a step in Python where strings are involved."""
    if mode not in MODES:
        b.fail(f"round_mode must be one of {', '.join(MODES)}, not {mode!r}")
    if is_string(x) or (dtype is STRING and isinstance(x, Tensor)):
        if is_string(x) and dtype is STRING:
            return x
        if dtype is STRING:
            return b.host("string_from_numbers", [x], [tensor_type(dtype, shape_of(x))], dtype=dtype.name)
        parsed = dtype if dtype.stored == dtype.name else F64 if dtype.is_float else I64
        x = b.host("string_to_numbers", [x], [tensor_type(parsed, shape_of(x))], dtype=parsed.name)[0]
    numbers = tensor(b, x)
    if numbers.dtype is dtype:
        return numbers
    return b.map(lambda v: rounded(v, dtype, saturate, mode), numbers, dtype=dtype)


def rounded(v: Expr, dtype: DType, saturate: bool = True, mode: str = "up") -> Expr:
    """A scalar rounded to ``dtype``; floats of 8 bits that saturate take what is out of range, infinities too, for their limits."""
    form = FORMATS.get(dtype.name)
    if form is None or dtype.bits != 8:
        return e.round_to(v, dtype)
    if saturate:
        v = e.wide_float(v)
        v = e.binary("max", e.binary("min", v, form.greatest), form.lowest)
    return e.round_to(v, dtype, MODES[mode] if form.is_scale else "")


@op("BitCast", since=26)
def bit_cast(b: Builder, x: Tensor, *, to: int) -> Any:
    """The same bits as another type of the same size."""
    dtype = BY_ONNX.get(to)
    if dtype is None or dtype.kind == "s":
        b.unsupported(f"element type number {to} is not supported")
    if dtype.bits != x.dtype.bits:
        b.fail(f"{x.dtype.onnx_name} and {dtype.onnx_name} differ in size")
    if dtype is x.dtype:
        return x
    bits = DTYPES[f"u{8 * dtype.size}"]
    (result,) = b.template(copy_elements, [x], [(dtype, x.shape)], total=x.size, grain=4096, types={"X": bits})
    return result
