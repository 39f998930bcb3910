"""Small products inside other kernels: what a step of a recurrence adds to its gates.

A few rows are multiplied together, with a few vectors of columns of the right matrix, which is read in place: their sums stay in
registers, and what is loaded of the matrix serves all rows. Every sum is one chain of multiply-adds over the terms in order, from zero,
so that its bits do not depend on how many rows or columns there are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from onnx_numba.native.registry import Intrinsic, Preferred, function
from onnx_numba.native.scalar import cast_like, fma
from onnx_numba.native.tile import TileEmitter
from onnx_numba.native.vector import VectorEmitter, outlined
from onnx_numba.target import Target

BLOCK = 4
"""Rows that are multiplied together."""


def by_rows(emitter: VectorEmitter, rows: Any, lanes: int, block: Callable[[int, int, Any], None]) -> None:
    """Call ``block(count, vectors, first)`` for blocks of rows, with the vectors of columns that registers have room for.

    A row alone takes twice as many vectors, whose sums in flight hide the latency of a multiply-add.
    """
    first, most = emitter.number(0), 4 if lanes == 16 else 2
    for count, vectors in ((BLOCK, most), (1, 2 * most)):

        def some(i: Any, values: list[Any], count: int = count, vectors: int = vectors) -> list[Any]:
            block(count, vectors, i)
            return values

        first, _ = emitter.loop(first, rows, count, [], some)


def _build(target: Target, builder: Any, literals: list[int], args: Any) -> None:
    sums, sums_row, left, left_row, right, right_row, rows, depth, columns = args
    element = sums.type.pointee
    lanes = target.lanes * 4 // VectorEmitter(builder, element, 1).align
    outer = VectorEmitter(builder, element, lanes)

    def block(count: int, most: int, i: Any) -> None:
        start, line, column = builder.gep(left, [builder.mul(i, left_row)]), builder.gep(sums, [builder.mul(i, sums_row)]), outer.number(0)
        for vectors, width in dict.fromkeys([(most, lanes), (most // 2, lanes), (1, lanes), (1, 1)]):
            tile = TileEmitter(target, builder, [count, vectors, width, 1, int(target.has_fma)], element)

            def step(j: Any, values: list[Any], tile: TileEmitter = tile) -> list[Any]:
                place = builder.gep(right, [j])
                ones = tile.columns_at(start, outer.number(1))
                found = tile.sums(ones, left_row, lambda k, _: builder.gep(place, [builder.mul(k, right_row)]), depth)
                tile.write_whole(found, builder.gep(line, [j]), sums_row, False)
                return values

            column, _ = outer.loop(column, columns, vectors * width, [], step)

    by_rows(outer, rows, target.lanes, block)


def _emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return outlined("row_product", 0, partial(_build, context.compiled_for))(context, builder, signature, args)


def _typing(*args: Any) -> Any:
    from numba import types
    from numba.core.typing import signature

    places = (0, 2, 4)
    if len(args) != 9 or not isinstance(args[0], types.CPointer) or any(args[k] != args[0] for k in places):
        return None
    wanted = [args[0] if k in places else types.int64 for k in range(9)]
    return signature(types.void, *wanted) if isinstance(args[0].dtype, types.Float) else None


@function
def _product(
    sums: Any, sums_row: Any, left: Any, left_row: Any, right: Any, right_row: Any, rows: Any, depth: Any, columns: Any
) -> None:
    """``sums[i * sums_row + j] = sum over k of left[i * left_row + k] * right[k * right_row + j]``."""
    for i in range(rows):
        for j in range(columns):
            total = cast_like(0, sums[0])
            for k in range(depth):
                total = fma(left[i * left_row + k], right[k * right_row + j], total)
            sums[i * sums_row + j] = total


# On every processor; the plain form is the twin, and that of CUDA.
row_product = Preferred("row_product", lambda target: True, Intrinsic("row_product", _product.python, _typing, _emit), _product)

RECORDS = (row_product,)
