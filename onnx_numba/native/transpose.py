"""Blocks of a matrix transposed in registers: vectors of rows in, vectors of columns out, for elements of any size.

Squares follow one another as their elements are written, which is best while a block is in the cache, or as they are read, which is best
where that comes from memory and is written to the cache.

A block is covered by squares of as many elements each way as a vector holds, the last of a row or column moved back over its neighbour,
so that no element is copied alone unless the block is narrower than the least square.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.native.registry import Intrinsic
from onnx_numba.native.vector import VectorEmitter, outlined, pointer_typing
from onnx_numba.target import Target

LARGEST = 16
"""Elements along a square: more of them would not fit the registers."""
LEAST = 4
"""A square of fewer elements gains nothing over copying them one by one."""


def square_lanes(target: Target, size: int) -> int:
    """Elements of ``size`` bytes along the squares of a target.

    Examples
    --------
    >>> from onnx_numba.target import LEVELS
    >>> square_lanes(Target("x86_64-unknown-linux-gnu", "x86-64-v3", LEVELS["x86-64-v3"]), 4)
    8
    """
    return min(LARGEST, 4 * target.lanes // size) if size <= 8 else 1


def _transpose_block(
    size: int, lanes: int, target: Any, target_row: int, source: Any, source_row: int, rows: int, columns: int, as_read: int
) -> None:
    """``target[i * target_row + j] = source[j * source_row + i]`` for i < ``rows`` and j < ``columns``."""
    for i in range(rows if columns else 0):
        target[i * target_row : i * target_row + columns] = source[np.arange(columns) * source_row + i]


class _Transposer(VectorEmitter):
    """One block; elements are integers of their size, whatever they mean."""

    def __init__(self, builder: Any, literals: list[int], args: Any) -> None:
        from llvmlite import ir

        size, lanes = literals
        super().__init__(builder, ir.IntType(8 * size), lanes)
        self.align = min(size, 8)
        target, self.target_row, source, self.source_row, self.rows, self.columns, as_read = args
        self.as_read = builder.icmp_signed("!=", as_read, self.number(0))
        self.target, self.source = (builder.bitcast(p, self.element.as_pointer()) for p in (target, source))

    def emit(self, n: int) -> None:
        """The block in squares of n if one fits into it, else in smaller ones."""
        if n < min(LEAST, self.lanes) or n == 1:
            self._narrow()
            return
        fits = self.builder.icmp_signed(">=", self.smaller(self.rows, self.columns), self.number(n))
        with self.builder.if_else(fits) as (then, otherwise):
            with then:
                self._squares(n)
            with otherwise:
                self.emit(n // 2)

    def _places(self, i: Any, j: Any) -> tuple[Any, Any]:
        """Where row i, column j of the block is to lie, and where it lies."""
        builder = self.builder
        target = self.shift(self.target, builder.add(builder.mul(i, self.target_row), j))
        return target, self.shift(self.source, builder.add(builder.mul(j, self.source_row), i))

    def _ordered(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Two numbers, or the second and the first where squares follow one another as they are read."""
        return self.builder.select(self.as_read, b, a), self.builder.select(self.as_read, a, b)

    def _squares(self, n: int) -> None:
        builder, number = self.builder, self.number
        vector, past = self.ir.VectorType(self.element, n), number(n - 1)

        last_row, last_column = builder.sub(self.rows, number(n)), builder.sub(self.columns, number(n))
        outer, inner = self._ordered(self.rows, self.columns)

        def line(a: Any, values: list[Any]) -> list[Any]:
            def square(b: Any, values: list[Any]) -> list[Any]:
                i, j = self._ordered(a, b)
                to, source = self._places(self.smaller(i, last_row), self.smaller(j, last_column))
                starts = [self.shift(source, builder.mul(self.source_row, number(k))) for k in range(n)]
                for k, found in enumerate(self.transposed([self.load(start, vector) for start in starts])):
                    self.store(found, self.shift(to, builder.mul(self.target_row, number(k))))
                return values

            self.loop(number(0), builder.add(inner, past), n, [], square)
            return values

        self.loop(number(0), builder.add(outer, past), n, [], line)

    def _narrow(self) -> None:
        """A block of few rows or columns: vectors of a row of the source, element by element to their places, or single elements."""
        builder, number, n = self.builder, self.number, self.lanes
        whole = builder.icmp_signed(">=", self.rows, number(n))
        with builder.if_else(builder.and_(whole, builder.icmp_signed(">=", self.rows, self.columns))) as (then, otherwise):
            with then:
                self.loop(number(0), self.columns, 1, [], self._scattered)
            with otherwise:
                self._one_by_one()

    def _scattered(self, j: Any, values: list[Any]) -> list[Any]:
        builder, n = self.builder, self.lanes

        def vector(i: Any, values: list[Any]) -> list[Any]:
            target, source = self._places(self.smaller(i, builder.sub(self.rows, self.number(n))), j)
            found = self.load(source)
            for k in range(n):
                element = builder.extract_element(found, self.number(k))
                builder.store(element, self.shift(target, builder.mul(self.target_row, self.number(k))), align=self.align)
            return values

        self.loop(self.number(0), builder.add(self.rows, self.number(n - 1)), n, [], vector)
        return values

    def _one_by_one(self) -> None:
        def line(i: Any, values: list[Any]) -> list[Any]:
            def one(j: Any, values: list[Any]) -> list[Any]:
                target, source = self._places(i, j)
                self.builder.store(self.builder.load(source, align=self.align), target, align=self.align)
                return values

            self.loop(self.number(0), self.columns, 1, [], one)
            return values

        self.loop(self.number(0), self.rows, 1, [], line)


def _build(builder: Any, literals: list[int], args: Any) -> None:
    emitter = _Transposer(builder, literals, args)
    emitter.emit(emitter.lanes)


transpose_block = Intrinsic("transpose_block", _transpose_block, pointer_typing(2, (2, 4), None, 9), outlined("transpose_block", 2, _build))

RECORDS = (transpose_block,)
