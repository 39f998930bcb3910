"""Tensors that are integers times a scale: products of them as products of the integers, moves and maxima of them as those of the integers.

Models are quantised by pairs of QuantizeLinear and DequantizeLinear around operators on floats. What DequantizeLinear makes says what it
was made of, `onnx_numba.ir.loop.Dequantised`; operators that can work on the integers ask for it::

    sum(((x - a) * s) * ((y - c) * t)) == s * t * sum((x - a) * (y - c))

The sum on the right is of integers and exact: the result has fewer roundings than one of floats. With the option ``accuracy="strict"``,
by which every node rounds as the standard has it, products stay products of floats.
"""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Dequantised, Map, Reshape, Tensor
from onnx_numba.ir.types import F16, F32, F64, I8, I16, I32, U8, DType
from onnx_numba.ops.builder import Array, Builder
from onnx_numba.ops.common import per_position, wide

SPAN = 256
"""More than any byte differs from another."""
DEEPEST = (2**31 - 1) // (255 * 255)
"""Products of differences of bytes whose sum always fits 32 bits."""
LEAST_BLOCK = 16
"""Numbers of a block of few bits that kernels read as it is; a power of two."""
SMALLEST, LARGEST = 2.0**-50, 2.0**50
"""Scales between which no number, product or sum of products overflows or loses bits in float32."""


def less(v: Expr, zero: Expr) -> Expr:
    """``v - zero``, of integers in int32."""
    return v - zero if v.dtype.is_float else e.cast(v, I32) - e.cast(zero, I32)


def dequantised(b: Builder, made_of: Dequantised) -> Tensor:
    """``(integers - zero) * scale``; of bytes it is noted that this is what they are."""
    integers, dtype = made_of.integers, made_of.dtype
    given = [beside(b, p, integers) for p in (made_of.scale, made_of.zero) if p is not None]
    parameters = [per_position(b, p, integers.rank, made_of.axis or 0) for p in given]
    result = b.map(lambda v, s, *z: value(v, s, *z, kind=wide(dtype)), integers, *parameters, dtype=dtype)
    if integers.dtype.is_int and integers.dtype.bits == 8:
        result.dequantised = made_of
    return result


def beside(b: Builder, parameter: Tensor, x: Tensor) -> Tensor:
    """A scale or zero point for a tensor: as data, so that layers which differ in it share a kernel, unless both are constant."""
    return b.as_data(parameter) if b.constant(x) is None else parameter


def value(v: Expr, scale: Expr, zero: Expr | None = None, *, kind: DType) -> Expr:
    """What an element of a quantised tensor stands for, of type ``kind``."""
    return e.cast(v if zero is None else less(v, zero), kind) * e.cast(scale, kind)


def made_of(b: Builder, x: Tensor) -> Dequantised | None:
    """The bytes that a tensor is made of, found through reshapes and moves; None if it is not known to be made of any."""
    moves: list[Tensor] = []
    while x.dequantised is None:
        definition = x.definition
        if isinstance(definition, Reshape):
            source = definition.source
        elif isinstance(definition, Map) and isinstance(definition.expr, e.Load):
            source = definition.expr.tensor
        else:
            return None
        if source.dtype is not x.dtype:
            return None
        moves.append(x)
        x = source
    found: Dequantised | None = x.dequantised
    if found is None or found.block:
        return None
    b.require_as(x, *moves)
    for move in reversed(moves):
        found = found and _moved(b, move, found)
    return found


def _moved(b: Builder, move: Tensor, source: Dequantised) -> Dequantised | None:
    """What a reshape or move of a tensor is made of."""
    if isinstance(move.definition, Reshape):
        return None if source.axis is not None else replace(source, integers=b.reshape(source.integers, move.shape))
    assert isinstance(move.definition, Map)
    load, variables = move.definition.expr, move.definition.vars
    assert isinstance(load, e.Load)
    axis = source.axis
    if axis is not None:
        along = [k for k, v in enumerate(variables) if load.index[axis] == d.dim(v)]
        if not along:
            return None
        axis = along[0]
    moved = e.Load(source.integers, load.index)
    integers = b.compute(move.shape, lambda *i: e.substitute(moved, dict(zip(variables, i, strict=True))), source.integers.dtype)
    return replace(source, integers=integers, axis=axis)


def factors(b: Builder, x: Tensor, y: Tensor, axis: int | None, depth: Dim | int) -> tuple[Dequantised, Dequantised] | None:
    """What two tensors are made of of which ``depth`` products each are to be added up; None where that is left to floats.

    The left one has one scale, the right one may have one for each position of an axis.
    """
    if b.options.accuracy == "strict" or not isinstance(depth, int) or depth > DEEPEST:
        return None
    left, right = made_of(b, x), made_of(b, y)
    if left is None or right is None or left.axis is not None or right.axis not in (None, axis):
        return None
    return (left, right) if _moderate(b, left) and _moderate(b, right) else None


def weight_of(b: Builder, x: Tensor, axis: int) -> Dequantised | None:
    """What a weight is made of whose product with floats may be that of its integers, times the scales afterwards; else None.

    Kernels then read it from memory as it is in the model. It may have scales and zero points for the positions of ``axis``.
    """
    if b.options.accuracy == "strict" or wide(x.dtype) is not F32:
        return None
    found = made_of(b, x)
    if found is None or found.axis not in (None, axis) or not _fixed(b, found.integers) or not _moderate(b, found):
        return None
    return found if found.zero is None or b.constant(found.zero) is not None else None


def blocks_of(b: Builder, x: Tensor, axis: int) -> Dequantised | None:
    """What a matrix that is a weight is made of by blocks along ``axis``, if kernels for such may read it as it is; else None."""
    found = x.dequantised
    if found is None or not found.block or b.options.accuracy == "strict" or wide(x.dtype) is not F32:
        return None
    fits = found.axis == axis and found.block >= LEAST_BLOCK and found.block & (found.block - 1) == 0 and x.rank == 2
    zero = found.zero is None or b.constant(found.zero) is not None
    return found if fits and zero and b.constant(found.integers) is not None and _moderate(b, found) else None


def _fixed(b: Builder, x: Tensor) -> bool:
    """Whether the model fixes a tensor's elements, which are perhaps moved."""
    while b.constant(x) is None:
        if isinstance(x.definition, Reshape):
            x = x.definition.source
        elif isinstance(x.definition, Map) and isinstance(x.definition.expr, e.Load):
            x = x.definition.expr.tensor
        else:
            return False
    return True


def less_zero(b: Builder, weight: Dequantised) -> Tensor:
    """The integers of a weight less its zero points, of as few bits as any of the kind take."""
    integers, zero = weight.integers, weight.zero
    zeros = np.zeros(1, int) if zero is None else b.constant(zero)
    assert zeros is not None
    if zero is None or not zeros.any():
        return integers
    least, most = (limit - int(z) for limit, z in zip(integers.dtype.limits, (zeros.max(), zeros.min()), strict=True))
    dtype = next(t for t in (I8, U8, I16) if t.limits[0] <= least and most <= t.limits[1])
    axis = weight.axis or 0
    return b.map(lambda v, z: e.cast(less(v, z), dtype), integers, per_position(b, zero, integers.rank, axis), dtype=dtype)


def _moderate(b: Builder, x: Dequantised) -> bool:
    """Whether it is known that all that bytes can stand for is finite and not lost to small numbers."""
    scales = b.constant(x.scale)
    return scales is not None and moderate(b, x.scale) and bool((np.abs(scales.astype(float)) * SPAN < _greatest(x.dtype)).all())


def _greatest(dtype: DType) -> float:
    return float(ml_dtypes.finfo(dtype.numpy).max)


def moderate(b: Builder, scale: Tensor) -> bool:
    """Whether it is known that no quotient by scales or product with them loses bits that matter."""
    scales = b.constant(scale)
    if scales is None:
        return False
    size = np.abs(scales.astype(float))
    return bool(((size >= SMALLEST) & (size <= LARGEST)).all())


def rescaled(b: Builder, sums: Tensor, sides: tuple[Dequantised, Dequantised], axis: int) -> Tensor:
    """Sums of products of integers as what they stand for; the right factor's axis of scales is ``axis`` of the sums."""
    dtype, kind = sides[0].dtype, wide(sides[0].dtype)
    scales = [per_position(b, b.as_data(side.scale), sums.rank, axis) for side in sides]
    return b.map(lambda v, s, t: e.cast(v, kind) * (e.cast(s, kind) * e.cast(t, kind)), sums, *scales, dtype=dtype)


def zero_of(b: Builder, x: Dequantised) -> Tensor | None:
    """The zero point that holds for all of a tensor, or those of the positions of its axis."""
    return x.zero if x.zero is None or x.axis is not None else b.reshape(x.zero, ())


def grows(b: Builder, x: Dequantised) -> bool:
    """Whether larger integers stand for larger numbers, as far as is known while planning."""
    scale = b.constant(x.scale)
    return scale is not None and x.axis is None and bool(0 < scale.reshape(()) < np.inf)


def undone(b: Builder, x: Tensor, scale: Tensor, zero: Tensor | None, axis: int | None, dtype: DType) -> Tensor | None:
    """The bytes that quantising a tensor brings back where it is made of such by the same scale and zero point; None if it is not.

    ``rint(n * s / s)`` is n, for neither rounding moves a number of 8 bits by half of 1, as long as the product is finite and normal.
    """
    found = made_of(b, x) if x.dtype in (F16, F32, F64) else None
    if found is None or found.integers.dtype is not dtype or found.axis != axis:
        return None
    before, now = _known(b, found.scale, found.zero), _known(b, scale, zero)
    if before is None or now is None or not all(map(np.array_equal, before, now)):
        return None
    size, limits = np.abs(now[0].astype(float)), np.finfo(x.dtype.numpy)
    return found.integers if ((size >= float(limits.tiny)) & (size * SPAN < float(limits.max))).all() else None


def _known(b: Builder, scale: Tensor, zero: Tensor | None) -> tuple[Array, Array] | None:
    """Scales and zero points that the model fixes, one of each for every scale."""
    scales = b.constant(scale)
    zeros = np.zeros((), int) if zero is None else b.constant(zero)
    if scales is None or zeros is None:
        return None
    first, second = np.broadcast_arrays(scales.reshape(-1), zeros.astype(int).reshape(-1))
    return first, second
