"""Register tiles of matrix products: the innermost loop of gemm and convolution.

``gemm_tile`` multiplies a few rows of A by a few vectors of columns of B with all sums in registers. Both operands are
addressed by strides, so that packed panels (constant strides, folded into the addresses) and matrices in place go through one
emitter; ``gemm_tile_at`` takes the rows of B from a table of offsets instead, which is how a convolution reads its input
without copies.

Every element is one chain of multiply-adds over k, from zero, whatever the shape of the tile and its place in the matrix, and
is then added to C or stored there. So the bits of a product do not depend on tiles, edges or threads, as long as the blocks
of K are the same.

``gemm_tile_i8`` and its like read B as numbers of fewer bits, of which each is exactly a float32, and convert them in registers: a product
of a few rows takes as long as it takes to read B. Their bits are those of ``gemm_tile`` on the float32.

Products of bytes are the same with words of four of them in place of elements, see `onnx_numba.native.dot`; their sums are exact.

The twins run the same chain in NumPy. For float32 they form each multiply-add in float64 and round once more to float32; that
double rounding differs from a fused operation in about one of 2**29 cases by one unit in the last place. For float64 they
round the product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from onnx_numba.ir.types import DTYPES, F16, DType
from onnx_numba.native.dot import FIRST_NUMBER, Dot, DotEmitter, dot_add, dot_for, joined, plain_dot_for
from onnx_numba.native.emit import numba_type, prefetch
from onnx_numba.native.memory import LINE
from onnx_numba.native.registry import Intrinsic
from onnx_numba.native.vector import VectorEmitter, has_masks, multiply_add, outlined, pointer_typing
from onnx_numba.record import record
from onnx_numba.target import Target

AHEAD = 2048
"""Bytes of a packed operand that are fetched before they are multiplied. In a large network weights come from beyond the caches, and what
the processor foresees ends with every page. With 1 KB to 4 KB layers of ResNet-50 of 14 x 14 or 7 x 7 pixels take 0.92 of the time on
Zen 4, and a product of 1024 x 1024 matrices on Emerald Rapids 0.95."""
NARROW = ("i8", "u8", "i16", "u16", "f16", "bf16")
"""Types that B may have in memory in place of float32."""
FETCHED_ROWS = 8
"""Rows up to which a tile fetches nothing of what the next one multiplies of A: for so few sums its loads are all that a processor can do,
and a convolution of 1 x 1 with 7 rows, 1024 x 2048 channels and a stride of 2 would take 1.15 times as long. With more rows it hides where
another core has just written that: 1024 x 256 channels of 14 x 14 take two threads 0.86 of the time."""
FEW_ROWS = 4
"""Rows of a tile up to which nothing is fetched ahead: it loads nearly as often as it multiplies."""


@record
class Tile:
    """The shape of a register tile: ``rows`` × ``vectors`` vectors of ``lanes`` elements.

    ``fused`` tells whether the target multiplies and adds in one instruction; where it does not, ``llvm.fma`` would be a call
    of libm for every element, and the tile multiplies and adds in two steps. ``dot`` tells how words of bytes are multiplied,
    where elements are such. ``registers`` is how many vectors the target holds.
    """

    rows: int
    vectors: int
    lanes: int
    fused: bool = True
    dot: Dot | None = None
    registers: int = 16

    @property
    def step(self) -> int:
        """How the tile multiplies and adds, as a literal."""
        return int(self.fused) if self.dot is None else self.dot.number

    @property
    def parts(self) -> int:
        """Registers that a vector of an operand takes."""
        return 2 if self.dot is not None and self.dot.kind in ("pairs", "halves") else 1

    @property
    def left_words(self) -> int:
        """Elements that one of the left operand takes where it is packed: two words if it is spread."""
        return 2 if self.dot is not None and self.dot.spreads else 1

    def fits(self, rows: int, vectors: int) -> bool:
        """Whether the sums of so large a tile fit registers, and beside them what is multiplied; B's vectors stay for further rows."""
        return rows * vectors + self.parts * ((vectors if rows > 1 else 1) + 1) < self.registers

    @property
    def low(self) -> list[tuple[int, int]]:
        """Rows and panels of the tiles for rows that do not fill this one, in turn: the wider, the more sums hide the latency of another.

        Examples
        --------
        >>> Tile(6, 2, 8).low
        [(4, 1), (2, 2), (1, 4)]
        """
        heights = [rows for rows in (4, 2, 1) if rows < self.rows]
        return [(rows, max(p for p in (1, 2, 4) if p == 1 or self.fits(rows, p * self.vectors))) for rows in heights]

    @property
    def columns(self) -> int:
        """The width of the tile in elements, which is the width of a packed panel of B."""
        return self.vectors * self.lanes

    def literals(self, rows: int | None = None, panels: int = 1) -> str:
        """The leading arguments of ``gemm_tile``: this tile, or another number of rows over several panels."""
        return f"{rows or self.rows}, {self.vectors}, {self.lanes}, {panels}, {self.step}"


def tile_shape(target: Target, dtype: str, columns: int | None = None) -> Tile:
    """The measured tile of a target.

    Parameters
    ----------
    target : Target
        What the code is for.
    dtype : str
        ``f32`` or ``f64``.
    columns : int, optional
        The number of columns of the matrix, where it is known: a narrow one is multiplied in tiles of one vector.

    Examples
    --------
    >>> tile_shape(Target("x86_64-unknown-linux-gnu", "x86-64-v4", LEVELS["x86-64-v4"]), "f32")
    Tile(rows=14, vectors=2, lanes=16, fused=True, dot=None, registers=32)
    """
    lanes = target.lanes if dtype == "f32" else target.lanes // 2
    rows = {16: 14, 8: 6}.get(target.lanes, 8 if target.arch == "aarch64" else 4)
    vectors = 1 if columns is not None and columns <= lanes else 2
    registers = 32 if target.lanes == 16 or target.arch == "aarch64" else 16
    return Tile(rows, vectors, lanes, target.has_fma, registers=registers)


def byte_tile(target: Target, left: str, right: str, columns: int | None = None) -> Tile:
    """The tile of a target for products of bytes, those on the left flipped if need be.

    Examples
    --------
    >>> byte_tile(Target("x86_64-unknown-linux-gnu", "x86-64-v4", LEVELS["x86-64-v4"]), "u8", "i8").rows
    12
    """
    return _of_words(tile_shape(target, "f32", columns), dot_for(target, left, right))


def word_tile(target: Target) -> Tile:
    """The tile of a target for products of words of bytes with a sign, on the left, by such without one."""
    return _of_words(tile_shape(target, "f32"), plain_dot_for(target, "i8", "u8"))


def _of_words(tile: Tile, dot: Dot) -> Tile:
    """A tile of floats for words instead, of fewer rows where their operands take more registers, and spread before."""
    if dot.kind != "pairs":
        return replace(tile, dot=dot)
    return replace(tile, rows={14: 12, 6: 4}.get(tile.rows, tile.rows), dot=replace(dot, kind="halves"))


def _twin(step: int, keep: int, left: Callable[[int, int], Any], right: Callable[[int], Any], c: Any, c_row: int,
          valid_rows: int, valid_columns: int, depth: int) -> None:  # fmt: skip
    sums = np.zeros((valid_rows, valid_columns), c.dtype)
    add = multiply_add if step < FIRST_NUMBER else partial(dot_add, Dot.numbered(step))
    with np.errstate(all="ignore"):
        for k in range(depth):
            column = np.array([left(i, k) for i in range(valid_rows)], c.dtype)
            sums = add(column[:, None], right(k)[None, :valid_columns], sums)
        for i in range(valid_rows):
            place = slice(i * c_row, i * c_row + valid_columns)
            c[place] = c[place] + sums[i] if keep else sums[i]


def _of_left(step: int, a: Any) -> Callable[[int], Any]:
    """An element of the left operand by its number."""
    spread = step >= FIRST_NUMBER and Dot.numbered(step).spreads
    return lambda at: joined(a[2 * at], a[2 * at + 1]) if spread else a[at]


def _gemm_tile(
    rows: int,
    vectors: int,
    lanes: int,
    panels: int,
    step: int,
    keep: int,
    a: Any,
    a_row: int,
    a_k: int,
    b: Any,
    b_panel: int,
    b_k: int,
    c: Any,
    c_row: int,
    valid_rows: int,
    valid_columns: int,
    depth: int,
) -> None:
    """``c[i * c_row + j] (+)= sum over k of a[i * a_row + k * a_k] * b[panel(j) * b_panel + k * b_k + j % width]``.

    All of A's ``rows`` are read, and of every panel of B with a valid column the whole width; only the valid part of C is
    touched. Words of A that are spread count as one.
    """
    width, left = vectors * lanes, _of_left(step, a)
    used = -(-valid_columns // width)

    def right(k: int) -> Any:
        return np.concatenate([b[p * b_panel + k * b_k : p * b_panel + k * b_k + width] for p in range(used)])

    columns = min(panels * width, valid_columns)
    _twin(step, keep, lambda i, k: left(i * a_row + k * a_k), right, c, c_row, min(rows, valid_rows), columns, depth)


def _gemm_tile_at(rows: int, vectors: int, lanes: int, panels: int, step: int, keep: int, a: Any, a_row: int, a_k: int,
                  b: Any, offsets: Any, c: Any, c_row: int, valid_rows: int, valid_columns: int, depth: int) -> None:  # fmt: skip
    """``c[i * c_row + j] (+)= sum over k of a[i * a_row + k * a_k] * b[offsets[k] + j]``."""
    columns, left = min(panels * vectors * lanes, valid_columns), _of_left(step, a)

    def right(k: int) -> Any:
        return b[int(offsets[k]) : int(offsets[k]) + columns]

    _twin(step, keep, lambda i, k: left(i * a_row + k * a_k), right, c, c_row, min(rows, valid_rows), columns, depth)


def _gemm_tile_from(rows: int, vectors: int, lanes: int, panels: int, step: int, keep: int, a: Any, offsets: Any, a_row: int,
                    b: Any, b_k: int, c: Any, c_row: int, depth: int, ahead: Any, ahead_k: int, further: int) -> None:  # fmt: skip
    """``c[i * c_row + j] (+)= sum over k of a[offsets[k] + i * a_row] * b[k * b_k + j]``, a whole tile.

    Meanwhile ``ahead[k * ahead_k]`` are fetched, and, unless rows are few, the first and the last element of what would be multiplied if
    ``a`` began ``further`` on; they need not exist.
    """
    width = panels * vectors * lanes

    def right(k: int) -> Any:
        return b[k * b_k : k * b_k + width]

    _twin(step, keep, lambda i, k: a[int(offsets[k]) + i * a_row], right, c, c_row, rows, width, depth)


def _gemm_tile_along(rows: int, vectors: int, lanes: int, panels: int, step: int, keep: int, a: Any, a_row: int, a_k: int, b: Any,
                     offsets: Any, c: Any, c_row: int, valid_rows: int, valid_columns: int, depth: int, ahead: int) -> None:  # fmt: skip
    """`_gemm_tile_at`, and meanwhile ``b[offsets[k] + ahead]`` are fetched, which need not exist.

    For rows of B that lie where they come from, each in a page of memory of its own: the processor foresees nothing of what follows.
    """
    _gemm_tile_at(
        rows, vectors, lanes, panels, step, keep, a, a_row, a_k, b, offsets, c, c_row, valid_rows, valid_columns, depth
    )  # fmt: skip


class TileEmitter(VectorEmitter):
    """One tile; ``right(k, panel)`` gives the pointer to a panel's part of B's row k, of numbers of type ``narrow`` where that is given."""

    def __init__(self, target: Target, builder: Any, literals: list[int], element: Any, narrow: DType | None = None) -> None:
        self.rows, self.vectors, lanes, self.panels, step = literals
        super().__init__(builder, element, lanes, bool(step))
        self.across = self.panels * self.vectors
        self.masks = has_masks(target)
        self.dot = None if step < FIRST_NUMBER else DotEmitter(self, Dot.numbered(step).on(target, lanes))
        self.plus = builder.fadd if self.dot is None else builder.add
        self.left_words = 2 if self.dot is not None and self.dot.dot.spreads else 1
        self.narrow = narrow

    def right(self, place: Any) -> Any:
        """A vector of B as what is multiplied."""
        ir, builder, narrow = self.ir, self.builder, self.narrow
        if narrow is None:
            vector = self.load(place)
            return vector if self.dot is None else self.dot.right(vector)
        source, wide = (ir.VectorType(kind, self.lanes) for kind in (place.type.pointee, ir.IntType(32)))
        stored = builder.load(builder.bitcast(place, source.as_pointer()), align=narrow.size)
        if narrow is F16:
            return builder.fpext(builder.bitcast(stored, ir.VectorType(ir.HalfType(), self.lanes)), self.vector)
        whole = builder.sext(stored, wide) if narrow.kind == "i" else builder.zext(stored, wide)
        if narrow.is_int:
            return builder.sitofp(whole, self.vector)
        return builder.bitcast(builder.shl(whole, ir.Constant(wide, [16] * self.lanes)), self.vector)

    def sums(self, left: Callable[[Any], Any], a_row: Any, right: Callable[[Any, int], Any], depth: Any, stream: str = "") -> list[Any]:
        """The sums of the tile, row by row; the operand that is one ``stream``, ``left`` or ``right`` if one is, is fetched ahead.

        ``left(k)`` is where A's column k begins.
        """
        builder, add = self.builder, self.multiply_add if self.dot is None else self.dot.add

        def step(k: Any, sums: list[Any]) -> list[Any]:
            starts = [right(k, p) for p in range(self.panels)]
            rights = [self.right(self.shift(p, self.number(j * self.lanes))) for p in starts for j in range(self.vectors)]
            column = left(k)
            if stream == "left":
                self.fetch(column, 1)
            elif stream == "right" and self.rows > FEW_ROWS:
                for start in starts:
                    self.fetch(start, self.vectors * self.lanes)
            new = []
            for i in range(self.rows):
                place = self.shift(column, builder.mul(a_row, self.number(self.left_words * i)))
                places = [self.shift(place, self.number(part)) for part in range(self.left_words)]
                ones = [self.splat(builder.load(place, align=self.align)) for place in places]
                one = ones[0] if self.dot is None else self.dot.left(ones)
                new += [add(one, value, sums[i * self.across + j]) for j, value in enumerate(rights)]
            return new

        zero = self.ir.Constant(self.vector, None)
        return self.loop(self.number(0), depth, 1, [zero] * (self.rows * self.across), step)[1]

    def columns_at(self, a: Any, a_k: Any) -> Callable[[Any], Any]:
        """The columns of A that begin ``a_k`` elements apart, for `sums`."""
        return lambda k: self.shift(a, self.builder.mul(k, self.builder.mul(a_k, self.number(self.left_words))))

    def fetch(self, start: Any, elements: int) -> None:
        """Begin to load so many elements, `AHEAD` of these."""
        for place in range(AHEAD, AHEAD + elements * self.align, LINE):
            prefetch(self.builder, self.shift(start, self.number(place // self.align)))

    def write(self, sums: list[Any], keep: Any, c: Any, c_row: Any, rows: Any, columns: Any) -> None:
        """Put the valid part of the sums into C, or add it to C."""
        builder, height, width = self.builder, self.number(self.rows), self.number(self.across * self.lanes)
        kept = builder.icmp_signed("!=", keep, self.number(0))
        enough = builder.icmp_signed(">=", rows, height)
        whole = builder.and_(enough, builder.icmp_signed(">=", columns, width))
        with builder.if_else(whole) as (then, otherwise):
            with then, builder.if_else(kept) as (adding, putting):
                for place, adds in ((adding, True), (putting, False)):
                    with place:
                        self.write_whole(sums, c, c_row, adds)
            with otherwise:
                write_part = self._write_masked if self.masks else self._write_part
                write_part(sums, kept, c, c_row, self.smaller(rows, height), self.smaller(columns, width))

    def write_whole(self, sums: list[Any], c: Any, c_row: Any, adds: bool) -> None:
        """Put all of the sums into C, or add them to C."""
        for i in range(self.rows):
            row = self.shift(c, self.builder.mul(c_row, self.number(i)))
            for j in range(self.across):
                self._write_vector(sums[i * self.across + j], self.shift(row, self.number(j * self.lanes)), adds)

    def _write_vector(self, value: Any, place: Any, adds: bool) -> None:
        self.store(self.plus(self.load(place, value.type), value) if adds else value, place)

    def _write_masked(self, sums: list[Any], kept: Any, c: Any, c_row: Any, rows: Any, columns: Any) -> None:
        """The same for the first ``rows`` and ``columns``, under masks."""
        builder = self.builder
        masks = [self.below(self.positions(self.number(j * self.lanes), self.lanes), columns) for j in range(self.across)]
        with builder.if_else(kept) as (adding, putting):
            for place, adds in ((adding, True), (putting, False)):
                with place:
                    for i in range(self.rows):
                        with builder.if_then(builder.icmp_signed("<", self.number(i), rows)):
                            row = self.shift(c, builder.mul(c_row, self.number(i)))
                            for j, mask in enumerate(masks):
                                at, value = self.shift(row, self.number(j * self.lanes)), sums[i * self.across + j]
                                self.store_masked(self.plus(self.load_masked(at, mask), value) if adds else value, at, mask)

    def _write_part(self, sums: list[Any], kept: Any, c: Any, c_row: Any, rows: Any, columns: Any) -> None:
        """The same for the first ``rows`` and ``columns``: the sums go to memory, from where they are taken in vectors that fit."""
        from numba.core import cgutils

        builder, width = self.builder, self.number(self.across * self.lanes)
        held = cgutils.alloca_once(builder, self.ir.ArrayType(self.element, self.rows * self.across * self.lanes))
        held = builder.bitcast(held, self.element.as_pointer())
        self.write_whole(sums, held, width, False)
        with builder.if_else(kept) as (adding, putting):
            for place, adds in ((adding, True), (putting, False)):
                with place:
                    self._copy_rows(held, width, c, c_row, rows, columns, adds)

    def _copy_rows(self, source: Any, source_row: Any, target: Any, target_row: Any, rows: Any, columns: Any, adds: bool) -> None:
        """Copy the beginnings of rows, or add them."""
        builder = self.builder

        def copy_row(i: Any, values: list[Any]) -> list[Any]:
            from_, to = self.shift(source, builder.mul(i, source_row)), self.shift(target, builder.mul(i, target_row))

            def copy(j: Any, kind: Any) -> None:
                self._write_vector(self.load(self.shift(from_, j), kind), self.shift(to, j), adds)

            self.pieces(columns, copy)
            return values

        self.loop(self.number(0), rows, 1, [], copy_row)


def _build_tile(target: Target, builder: Any, literals: list[int], args: Any, narrow: DType | None = None) -> None:
    keep, a, a_row, a_k, b, b_panel, b_k, c, c_row, rows, columns, depth = args
    emitter = TileEmitter(target, builder, literals, a.type.pointee, narrow)
    number, width = emitter.number, emitter.vectors * emitter.lanes
    panels = [b]
    for p in range(1, emitter.panels):  # a panel without a valid column may not exist: the one before is read again
        there = builder.icmp_signed(">", columns, number(p * width))
        panels.append(builder.select(there, builder.gep(b, [builder.mul(b_panel, number(p))]), panels[-1]))
    left = emitter.columns_at(a, a_k)
    sums = emitter.sums(left, a_row, lambda k, p: builder.gep(panels[p], [builder.mul(k, b_k)]), depth, "right")
    emitter.write(sums, keep, c, c_row, rows, columns)


def _build_tile_at(target: Target, builder: Any, literals: list[int], args: Any) -> None:
    keep, a, a_row, a_k, b, offsets, c, c_row, rows, columns, depth, *ahead = args
    emitter = TileEmitter(target, builder, literals, a.type.pointee)
    width = emitter.vectors * emitter.lanes

    def right(k: Any, panel: int) -> Any:
        offset = builder.load(builder.gep(offsets, [k]), align=8)
        for further in ahead if panel == 0 else ():
            prefetch(builder, builder.gep(b, [builder.add(offset, further)]))
        return builder.gep(b, [builder.add(offset, emitter.number(panel * width))])

    emitter.write(emitter.sums(emitter.columns_at(a, a_k), a_row, right, depth, "left"), keep, c, c_row, rows, columns)


def _build_tile_from(target: Target, builder: Any, literals: list[int], args: Any) -> None:
    keep, a, offsets, a_row, b, b_k, c, c_row, depth, ahead, ahead_k, further = args
    emitter = TileEmitter(target, builder, literals, a.type.pointee)

    last = builder.add(further, builder.mul(a_row, emitter.number(emitter.rows - 1)))

    def left(k: Any) -> Any:
        prefetch(builder, builder.gep(ahead, [builder.mul(k, ahead_k)]))
        column = builder.gep(a, [builder.load(builder.gep(offsets, [k]), align=8)])
        for place in (further, last) if emitter.rows > FETCHED_ROWS else ():
            prefetch(builder, builder.gep(column, [place]))
        return column

    sums = emitter.sums(left, a_row, lambda k, _: builder.gep(b, [builder.mul(k, b_k)]), depth)
    with builder.if_else(builder.icmp_signed("!=", keep, emitter.number(0))) as (adding, putting):
        for place, adds in ((adding, True), (putting, False)):
            with place:
                emitter.write_whole(sums, c, c_row, adds)


def _emit_tile(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return outlined("gemm_tile", 5, partial(_build_tile, context.compiled_for))(context, builder, signature, args)


def _emit_tile_at(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return outlined("gemm_tile_at", 5, partial(_build_tile_at, context.compiled_for))(context, builder, signature, args)


def _emit_tile_along(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return outlined("gemm_tile_along", 5, partial(_build_tile_at, context.compiled_for))(context, builder, signature, args)


def _emit_tile_from(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return outlined("gemm_tile_from", 5, partial(_build_tile_from, context.compiled_for))(context, builder, signature, args)


gemm_tile = Intrinsic("gemm_tile", _gemm_tile, pointer_typing(5, (6, 9, 12), None, 17), _emit_tile)
gemm_tile_at = Intrinsic("gemm_tile_at", _gemm_tile_at, pointer_typing(5, (6, 9, 11), 10, 16), _emit_tile_at)
gemm_tile_along = Intrinsic("gemm_tile_along", _gemm_tile_along, pointer_typing(5, (6, 9, 11), 10, 17), _emit_tile_along)
gemm_tile_from = Intrinsic("gemm_tile_from", _gemm_tile_from, pointer_typing(5, (6, 9, 11, 14), 7, 17), _emit_tile_from)


def _tile_of(narrow: DType) -> Intrinsic:
    """`gemm_tile` of float32 whose B is of a type of fewer bits."""
    name, same = f"gemm_tile_{narrow.name}", pointer_typing(5, (6, 12), None, 17)

    def twin(*args: Any) -> Any:
        return _gemm_tile(*args[:9], args[9].view(narrow.numpy).astype(np.float32), *args[10:])  # type: ignore[call-arg]

    def typing(*args: Any) -> Any:
        from numba import types

        made = same(*args)
        if made is None or args[6] != types.CPointer(types.float32) or args[9] != types.CPointer(numba_type(narrow.stored)):
            return None
        return made.replace(args=(*made.args[:9], args[9], *made.args[10:]))

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        build = partial(_build_tile, context.compiled_for, narrow=narrow)
        return outlined(name, 5, build)(context, builder, signature, args)

    return Intrinsic(name, twin, typing, emit)


RECORDS = (gemm_tile, gemm_tile_at, gemm_tile_along, gemm_tile_from, *(_tile_of(DTYPES[name]) for name in NARROW))
