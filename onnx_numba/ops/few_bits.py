"""Products with matrices of few bits a number, which stay so in memory, arranged so that a kernel reads them as they lie."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Protocol

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Dequantised, Tensor
from onnx_numba.ir.types import F32, I8, I32, U8, U32, DType
from onnx_numba.native.words import EITHER, PANEL
from onnx_numba.ops.builder import Builder
from onnx_numba.templates.few_bits import multiply, multiply_bytes, quantise

Extent = Dim | int

ROWS = 64
"""Rows that share what is unpacked of a panel."""
ONES = 0x4B000000
"""The bits of 2**23 in float32, between which and twice that neighbours are 1 apart."""
CHUNK, BYTE_CHUNK = 32, 128
"""Rows of a panel that are unpacked at once, to floats or to bytes: 32 KB."""
AHEAD = 2048
"""Words that are fetched before a row alone needs them: of bytes, 4096 x 4096 take 1.5 ms in place of 2.1."""
FEW_ROWS = 40
"""Rows up to which a weight by blocks is better read in few bits than spread to float32 while preparing."""


class Blocks(Protocol):
    """A matrix of ``rows`` by ``columns`` numbers without a sign of ``bits`` bits: each column in ``count`` blocks of ``size`` numbers.

    Elements are ``(number - zero) * scale``, with a zero point and a scale for each block.
    """

    rows: int
    columns: int
    size: int
    bits: int
    count: Extent

    @property
    def zero_type(self) -> DType:
        """The type of zero points, ``u8`` or ``f32``."""

    @property
    def one_zero(self) -> int | None:
        """The zero point of all blocks, if there is one."""

    def word(self, first: Extent, column: Extent) -> Expr:
        """The numbers of a column from row ``first`` on that fit 32 bits, the first in the lowest; beyond the last row anything."""

    def zero(self, block: Extent, column: Extent) -> Expr:
        """The zero point of a block."""

    def scale(self, block: Extent, column: Extent) -> Expr:
        """The scale of a block, in float32."""


class DequantisedBlocks:
    """What DequantizeLinear makes by blocks of rows, or of columns of a ``turned`` matrix; numbers with a sign are moved to have none."""

    def __init__(self, made_of: Dequantised, turned: bool) -> None:
        self.made_of, self.turned = made_of, turned
        integers = made_of.integers
        shape = [x for x in integers.shape if isinstance(x, int)]
        self.rows, self.columns = reversed(shape) if turned else shape
        self.size, self.bits = made_of.block, integers.dtype.bits
        self.count: Extent = -(-self.rows // self.size)
        self.moved = 1 << (self.bits - 1) if integers.dtype.kind == "i" else 0
        self.zero_type = U8
        self.one_zero = self.moved if made_of.zero is None else None

    def _number(self, source: Tensor, row: Extent, column: Extent) -> Expr:
        value = source[(column, row) if self.turned else (row, column)]
        return e.cast(e.cast(value, I32) + self.moved, U32)

    def word(self, first: Extent, column: Extent) -> Expr:
        """The numbers of a column from row ``first`` on."""
        whole = self.rows * self.bits % 32 == 0
        numbers = []
        for k in range(32 // self.bits):
            number = self._number(self.made_of.integers, first + k, column)
            numbers.append(number if whole else e.guard(e.dimval(first + k) < self.rows, number, 0))
        return functools.reduce(operator.or_, (e.binary("shl", v, k * self.bits) for k, v in enumerate(numbers)))

    def zero(self, block: Extent, column: Extent) -> Expr:
        """The zero point of a block."""
        assert self.made_of.zero is not None
        return self._number(self.made_of.zero, block, column)

    def scale(self, block: Extent, column: Extent) -> Expr:
        """The scale of a block."""
        return e.cast(self.made_of.scale[(column, block) if self.turned else (block, column)], F32)


def by_panels(b: Builder, x: Tensor, matrix: Blocks, as_bytes: bool = False) -> Tensor:
    """The product, the matrix kept in few bits, but arranged so that a kernel reads it as it lies; the rows as bytes or as floats."""
    panels = d.ceildiv(matrix.columns, PANEL)
    width = 16 * d.ceildiv(matrix.columns, 16 * panels)
    share = 8 // matrix.bits
    group = 4 * share

    def column(panel: Extent, j: Extent, value: Callable[[Extent], Expr]) -> Expr:
        at = panel * width + j
        return e.guard(e.dimval(at) < matrix.columns, value(at), 0)

    def word(panel: Dim, g: Dim, j: Dim) -> Expr:
        return column(panel, j, lambda at: matrix.word(group * g, at))

    depth = matrix.count * matrix.size if as_bytes else group * d.ceildiv(matrix.rows, group)
    words = b.compute((panels, d.floordiv(depth, group), width), word, U32)
    blocks = (panels, matrix.count, width)
    scales = b.compute(blocks, lambda panel, k, j: column(panel, j, lambda at: matrix.scale(k, at)), F32)
    kind, one = matrix.zero_type, matrix.one_zero
    if one is not None:
        zeros = b.full((width,), one, U8)
    else:
        zeros = b.compute(blocks, lambda panel, k, j: column(panel, j, lambda at: matrix.zero(k, at)), kind)
    rows = d.product(x.shape[:-1])
    dims = (rows, depth, matrix.columns, width, panels, matrix.count, matrix.size, int(one is None))
    constants = {"SHARE": share, "GROUP": group, "BITS": matrix.bits, "MASK": (1 << matrix.bits) - 1, "ROWS": ROWS}
    operands, result, total = [words, scales, zeros], [(F32, (rows, matrix.columns))], d.ceildiv(rows, ROWS) * panels
    if as_bytes:
        chunk = min(BYTE_CHUNK, matrix.size)
        quantised = b.template(
            quantise, [x], [(I8, (rows, depth)), (F32, (rows, matrix.count)), (F32, (rows, d.floordiv(depth, chunk)))],
            total=rows, dims=(matrix.rows, depth, matrix.size, chunk), constants={"SHARE": share},
        )  # fmt: skip
        constants |= {"CHUNK": chunk, "PANEL": PANEL, "KIND": EITHER if matrix.bits < 8 else 0, "MASKS": constants["MASK"] * 0x01010101}
        (made,) = b.template(
            multiply_bytes, [*quantised, *operands], result, total=total, dims=dims, types={"Z": kind}, constants=constants,
            scratch=(20 + chunk) * PANEL,
        )  # fmt: skip
    else:
        if matrix.rows % group:
            x = b.compute((*x.shape[:-1], depth), lambda *i: e.guard(e.dimval(i[-1]) < matrix.rows, x[i], 0), F32)
        chunk, apart = min(CHUNK, matrix.size), 0 if matrix.bits < 8 else 2 * matrix.bits
        places = {"AHEAD": AHEAD, "APART": apart, "THIRD": 2 * matrix.bits - apart, "FOURTH": 3 * matrix.bits - apart, "ONES": ONES}
        whole = {"START": 2.0**23, "REST": 0.0} if kind is U8 else {"START": 0.0, "REST": 2.0**23}
        (made,) = b.template(
            multiply, [x, *operands], result, total=total, dims=dims, types={"Z": kind},
            constants=constants | places | whole | {"CHUNK": chunk}, scratch=(32 + 4 * chunk) * width,
        )  # fmt: skip
    return b.reshape(made, (*x.shape[:-1], matrix.columns))
