"""Products of words of bytes inside other kernels: what a quantised recurrence adds to its gates at every step, or what a block
of a matrix of few bits gives.

The right operand lies in panels of `PANEL` words, in each of which the summed axis is the outer one, so that a tile reads it from the first
word to the last.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from onnx_numba.native.dot import BYTES, Dot, plain_dot_for
from onnx_numba.native.integer import iadd, iand, imul, shl, shr
from onnx_numba.native.product import by_rows
from onnx_numba.native.registry import Intrinsic, Preferred, function
from onnx_numba.native.scalar import cast_like
from onnx_numba.native.tile import TileEmitter
from onnx_numba.native.vector import VectorEmitter, outlined
from onnx_numba.target import Target

PANEL = 128
"""Words along a panel: as many as a single row takes together."""


SIGNED, EITHER = 1, 2
"""What bytes of an operand are, if not 0 for such without a sign: such with one, or so small that it does not matter."""


def _dot(target: Target, left: int, right: int) -> Dot:
    """How the target multiplies bytes of two operands.

    Examples
    --------
    >>> _dot(Target("arm64-apple-macosx", "apple-m1", "+dotprod"), SIGNED, EITHER)
    Dot(kind='neon', left='i8', right='i8', flips=False)
    """
    ways = [plain_dot_for(target, *(("u8", "i8")[k] for k in (left, r))) for r in ((0, SIGNED) if right == EITHER else (right,))]
    return next((dot for dot in ways if dot.kind != "pairs"), ways[0])


def _build(target: Target, builder: Any, literals: list[int], args: Any) -> None:
    sums, left, left_row, right, rows, depth, columns = args
    lanes, dot = target.lanes, _dot(target, *literals)
    outer = VectorEmitter(builder, sums.type.pointee, lanes)
    number, width = outer.number, outer.number(PANEL)
    padded = builder.mul(builder.sdiv(builder.add(columns, number(PANEL - 1)), width), width)

    def block(count: int, vectors: int, i: Any) -> None:
        tile = TileEmitter(target, builder, [count, vectors, lanes, 1, dot.number], sums.type.pointee)
        start, line = builder.gep(left, [builder.mul(i, left_row)]), builder.gep(sums, [builder.mul(i, padded)])

        def step(j: Any, values: list[Any]) -> list[Any]:
            inside = builder.srem(j, width)
            panel = builder.gep(right, [builder.add(builder.mul(builder.sub(j, inside), depth), inside)])
            found = tile.sums(tile.columns_at(start, number(1)), left_row, lambda k, _: builder.gep(panel, [builder.mul(k, width)]), depth)
            tile.write_whole(found, builder.gep(line, [j]), padded, False)
            return values

        outer.loop(number(0), padded, vectors * lanes, [], step)

    by_rows(outer, rows, lanes, block)


def _emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return outlined("word_product", 2, partial(_build, context.compiled_for))(context, builder, signature, args)


def _typing(*args: Any) -> Any:
    from numba import types
    from numba.core.typing import signature

    words = types.CPointer(types.int32)
    wanted = [*args[:2], words, words, types.int64, words, types.int64, types.int64, types.int64]
    literal = len(args) == len(wanted) and all(isinstance(arg, types.IntegerLiteral) for arg in args[:2])
    return signature(types.void, *wanted) if literal and all(args[k] == words for k in (2, 3, 5)) else None


@function
def _byte(word: Any, kind: Any) -> Any:
    above = cast_like(24, word)
    return shr(shl(word, above), above) if kind == SIGNED else iand(word, cast_like(255, word))


@function
def _product(
    left_kind: Any, right_kind: Any, sums: Any, left: Any, left_row: Any, right: Any, rows: Any, depth: Any, columns: Any
) -> None:
    """``sums[i * pitch + j]`` is the sum over k < ``depth`` of word ``left[i * left_row + k]`` times word k of column j in ``right``.

    The kinds say which bytes have a sign, see `SIGNED`. ``pitch`` is ``columns`` in whole panels; what is written beyond the columns
    means nothing.
    """
    pitch = (columns + (PANEL - 1)) // PANEL * PANEL
    for i in range(rows):
        for j in range(columns):
            place = (j // PANEL) * PANEL * depth + j % PANEL
            total = cast_like(0, sums[0])
            for k in range(depth):
                a = left[i * left_row + k]
                b = right[place + k * PANEL]
                for _ in range(BYTES):
                    total = iadd(total, imul(_byte(a, left_kind), _byte(b, right_kind)))
                    a = shr(a, cast_like(8, total))
                    b = shr(b, cast_like(8, total))
            sums[i * pitch + j] = total


# Every processor has instructions for it, of one kind or another; the plain form is the twin, and that of CUDA.
word_product = Preferred("word_product", lambda target: True, Intrinsic("word_product", _product.python, _typing, _emit), _product)

RECORDS = (word_product,)
