"""Matrix products on the CPU for float32, float64 and bytes: packed panels, a register tile, any strides, a fused epilogue.

``C[m, n] = A[m, k] @ B[k, n]``, with broadcast batches. B is packed by `onnx_numba.templates.packing.pack_b_source`, once at prepare for
a weight, as a step before the product else. A is read in place through its two strides, so transposed operands and views need no copies.

A work unit is one block of at most `Gemm.block_rows` × `Gemm.block_columns` elements of C, with the whole of K, and of fewer rows where
those take longer than `UNIT_WORK`, or of fewer columns where there are few rows; tiles and panels are shared out among units evenly.
Rows of A that displace each other from a cache have blocks of another shape, see `Gemm.for_rows`.
Inside, K goes in blocks of `Gemm.block_depth`; every element is the sum of its blocks in order, each block one chain of multiply-adds.
This holds for full tiles, padded edges and single rows, so the bits of an element depend on nothing but its row of A, its column
of B and K, and on whether a few rows are multiplied by columns of B where these are.

Bytes are multiplied as words of four along K, with sums in int32, which wrap; see `onnx_numba.native.dot`. B is packed as words. A is
packed too, block by block and every row. Where bytes of A have to be flipped, what that adds to each column lies behind the panels of its
matrix, with the other sign, and C starts from it.

A weight that is of fewer bits in the model is packed as it is, see `Gemm.narrow`: a few rows take as long as it takes to read it. To pack
what the run makes would take as long as to read it twice: if few rows meet it, and only the run knows, these read it unpacked, see
`Gemm.unpacked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx_numba.ir.dims import ceildiv, compare, dmax, dmin, floordiv, product
from onnx_numba.ir.types import DTYPES
from onnx_numba.native.dot import BYTES
from onnx_numba.native.tile import Tile
from onnx_numba.record import record
from onnx_numba.templates.block import ELEMENT_BYTES, Block, Epilogue, Extent, indent, no_epilogue

UNIT_WORK = 1 << 22
"""Multiply-adds of a work unit that fewer rows are better than, so that threads share a small product: some 50 µs. Each unit reads B."""
FEWEST_TILES = 3
"""Tiles of rows that a unit keeps: with fewer, panels of B do not come from the second-level cache as fast as they are used."""
ALIASED = 4096
"""Bytes between lines that share their few places in a first-level cache: rows so far apart, or a multiple of it, displace each other."""
NEAR = 1 << 16
"""Bytes of panels of B that a row of tiles goes through before the next one does, and one panel at least. Of shallow sums C is what takes
the time: a row of tiles then writes kilobytes of each of its rows at a time. The products of 1024 queries and keys of 64 float32 take 3.65
ms in place of 4.75."""
FEW_ROWS = 3
"""Rows that are not worth packing the right operand, unless that is done while preparing."""
FEW_PANELS = 4
"""Panels of B that do not pay for packing rows of A, even such: for one of 64 columns that takes a third as long again."""
FEWEST_HIGH = 5
"""The same where a unit has few panels: with 3, products of 512 rows and 4096 x 4096 weights take 1.07 of the time."""


@record
class Gemm:
    """What is fixed in the code of a product.

    Attributes
    ----------
    dtype : str
        The type of C: ``f32`` or ``f64``, or ``i32`` for bytes.
    tile : Tile
        The register tile, see `onnx_numba.native.tile.tile_shape` and `onnx_numba.native.tile.byte_tile`.
    batch_rank : int
        Number of batch dims of C.
    bias : bool
        Whether C starts from a row of N numbers instead of zero.
    in_scratch : bool
        Whether C is only ever seen by the epilogue: blocks of it then lie in the worker's scratch and there is no buffer for C.
    in_place : bool
        Whether a full tile reads rows of A where they are, unless these displace each other from the first-level cache.
    columns : int, optional
        N, where it is known: no tile is then wider than what there is.
    narrow : str, optional
        The type that packed B has in place of float32, one of `onnx_numba.native.tile.NARROW`. Full tiles read what they share of it from
        the worker's scratch, where it is spread to float32, if they are many; others convert it in registers.
    few : bool
        Whether rows are known never to fill a tile: what only full tiles need is left out.
    unpacked : str, optional
        How B lies where `unpacked_rows` or less read it from its own buffer: by ``rows``, which are whole panels, or by ``columns``.
    block_depth, row_tiles, column_panels : int
        Depth of a block of K, in words for bytes; tiles and panels along one block of C.

    Notes
    -----
    Buffers of the kernel: A, packed B, B (if it may be read ``unpacked``), C (unless ``in_scratch``), the bias (if there is one), then the
    epilogue's own from `first_buffer` on. Dims are those of `dims`, then the epilogue's own from `first_dim` on. C is contiguous. A must
    have no axis of stride 0 but batch dims.
    """

    dtype: str
    tile: Tile
    batch_rank: int = 0
    bias: bool = False
    in_scratch: bool = False
    in_place: bool = False
    columns: int | None = None
    narrow: str | None = None
    few: bool = False
    unpacked: str | None = None
    block_depth: int = 256
    row_tiles: int = 8
    column_panels: int = 16

    def high(self) -> Gemm:
        """The same in blocks that are high and narrow."""
        return replace(self, row_tiles=2 * self.row_tiles, column_panels=FEW_PANELS)

    def for_rows(self, m: Extent, a_row: Extent, a_col: Extent) -> Gemm:
        """The same for a left operand with so many rows and these strides.

        Rows that displace each other from the first-level cache are not packed where blocks are of few panels. With AVX-512 products of
        128 rows and 4096 x 4096 weights take 31 ms in place of 35. What lies otherwise, or is no whole tile, is better in wide blocks.
        """
        fills = not isinstance(m, int) or m >= self.tile.rows
        apart = isinstance(a_row, int) and a_row * ELEMENT_BYTES[self.dtype] % ALIASED == 0
        return self.high() if self.in_place and fills and apart and a_col == 1 else self

    def with_narrow(self, dtype: str, rows: Extent) -> Gemm:
        """The same of packed B of a narrower type, where C has so many rows: in high and narrow blocks, for each spreads its part of B."""
        few = isinstance(rows, int) and 4 * rows <= 3 * self.tile.rows
        return replace(self.high(), narrow=dtype, few=few)

    @property
    def left(self) -> str:
        """The type of A."""
        return self.dtype if self.tile.dot is None else self.tile.dot.source

    @property
    def starts(self) -> bool:
        """Whether C starts from numbers that packed B holds for its columns."""
        return self.tile.dot is not None and self.tile.dot.flips

    @property
    def right(self) -> str:
        """The type of packed B."""
        return self.narrow or self.dtype

    @property
    def half(self) -> bool:
        """Whether the last panel has columns for half of its vectors only."""
        return self.columns is not None and self.tile.vectors == 2 and 0 < self.columns % self.tile.columns <= self.tile.lanes

    @property
    def low(self) -> list[tuple[int, int]]:
        """Rows and panels of the tiles for the last rows, see `onnx_numba.native.tile.Tile.low`: no more panels than there are."""
        if not self.columns:
            return self.tile.low
        there = -(-self.columns // self.tile.columns)
        return [(rows, min(panels, there)) for rows, panels in self.tile.low]

    @property
    def block_rows(self) -> int:
        """Rows of C in one work unit, at most."""
        return self.tile.rows * self.row_tiles

    @property
    def block_columns(self) -> int:
        """Columns of C in one work unit, at most."""
        return self.tile.columns * self.column_panels

    @property
    def first_buffer(self) -> int:
        """Index of the epilogue's first buffer."""
        return 2 + (self.unpacked is not None) + (not self.in_scratch) + self.bias

    @property
    def first_dim(self) -> int:
        """Index of the epilogue's first dim."""
        return self.axis(self.batch_rank)

    def axis(self, number: int) -> int:
        """Index of the first dim of a batch axis."""
        more = int(self.unpacked is not None)
        return 6 + more + (3 + more) * number

    def axes(self, dims: Sequence[Extent]) -> list[Sequence[Extent]]:
        """What the kernel's dims say of each batch axis."""
        return [dims[self.axis(k) : self.axis(k + 1)] for k in range(self.batch_rank)]

    @property
    def unpacked_rows(self) -> int:
        """Rows that read B where it is, at most: never a tile of them."""
        return min(FEW_ROWS, 3 * self.tile.rows // 4)

    def scratch_bytes(self, dims: Sequence[Extent]) -> int:
        """Bytes of scratch that every worker needs, whatever the kernel's dims."""
        spread = 0 if self.narrow is None else max(NEAR, self.block_depth * self.tile.columns * ELEMENT_BYTES[self.dtype])
        return self.spread_at + spread

    @property
    def spread_at(self) -> int:
        """Where in scratch what is spread of packed B lies."""
        elements = self.block_rows * self.block_depth * self.tile.left_words
        if self.in_scratch:
            elements += self.block_rows * self.block_columns
        return elements * ELEMENT_BYTES[self.dtype]

    def dims(
        self, m: Extent, n: Extent, k: Extent, a_row: Extent, a_col: Extent, axes: Sequence[Sequence[Extent]] = (), b_line: Extent = 0
    ) -> tuple[Extent, ...]:  # fmt: skip
        """The kernel's dims: M, N, K, strides of A along M and K, the number of blocks of rows, and what there is of each batch dim.

        Of those, outermost first: its extent, the stride of A in elements, the stride of B in packed matrices (0 where it is broadcast),
        and that of B in elements. The latter and B's stride from line to line, before them, are left out unless it may be ``unpacked``.
        """
        more = int(self.unpacked is not None)
        blocks = ceildiv(m, self.unit_rows(n, k))
        return (m, n, k, a_row, a_col, blocks, *[b_line][:more], *(x for axis in axes for x in axis[: 3 + more]))

    def row_work(self, n: Extent, k: Extent) -> Extent:
        """Multiply-adds of one row of a unit, of words for bytes."""
        return dmin(n, self.block_columns) * (k if self.tile.dot is None else ceildiv(k, BYTES))

    def unit_rows(self, n: Extent, k: Extent) -> Extent:
        """Rows of C in one work unit of so many columns and so deep a sum, at most."""
        if self.narrow:
            return self.block_rows
        work = dmax(self.tile.rows * self.row_work(n, k), 1)
        least = FEWEST_HIGH if self.column_panels <= FEW_PANELS else FEWEST_TILES
        return dmin(self.row_tiles, dmax(least, floordiv(UNIT_WORK, work))) * self.tile.rows

    def work_units(self, dims: Sequence[Extent]) -> Extent:
        """The number of work units, of the kernel's dims: matrices, blocks of columns, blocks of rows, which read the same part of B."""
        batch = product(extent for extent, *_ in self.axes(dims))
        return batch * dims[5] * self._column_blocks(*dims[:3])

    @property
    def few_rows(self) -> int:
        """Rows of C that no unit has fewer of; where there are no more, units share columns."""
        return self.tile.rows * FEWEST_TILES

    @property
    def fewest_columns(self) -> int:
        """Columns of C that units of few rows keep."""
        return self.tile.columns * FEW_PANELS

    def _column_blocks(self, m: Extent, n: Extent, k: Extent) -> Extent:
        work = floordiv(m * n * (k if self.tile.dot is None else ceildiv(k, BYTES)), UNIT_WORK)
        shared = compare("le", m, self.few_rows) * dmin(floordiv(n, self.fewest_columns), work)
        return dmax(ceildiv(n, self.block_columns), shared)

    def unit_work(self, dims: Sequence[Extent]) -> Extent:
        """Multiply-adds of a work unit, about."""
        m, n, k = dims[:3]
        return dmin(m, self.unit_rows(n, k)) * self.row_work(n, k)


def gemm_source(name: str, gemm: Gemm, epilogue: Epilogue = no_epilogue) -> str:
    """The source of a kernel that multiplies; see `Gemm` for its buffers, dims and work units.

    Parameters
    ----------
    name : str
        Name of the kernel.
    gemm : Gemm
        What is fixed in the code.
    epilogue : callable
        Gives the lines that are run on every finished block, see `Block`. They may write the block itself or other buffers.

    Examples
    --------
    A product followed by a relu in place::

        def relu(b):
            return [
                f"for i in range({b.i1} - {b.i0}):",
                f"    for j in range({b.j1} - {b.j0}):",
                f"        at = i * {b.pitch} + j",
                f"        {b.block}[at] = max_({b.block}[at], f32(0.0))",
            ]

        gemm_source("dense_relu", Gemm("f32", tile_shape(target, "f32"), bias=True), relu)
    """
    t, tile, width = gemm.dtype, gemm.tile, gemm.tile.columns
    return f"""\
def {name}(ctx, bufs, dims, lo, hi):
{indent(_arguments(gemm), 1)}
    packed = {t}_scratch(ctx, 0)
{indent(_few(gemm), 1)}
    column_blocks = udiv(n + {gemm.block_columns - 1}, {gemm.block_columns})
    if m <= {gemm.few_rows}:
        column_blocks = max(column_blocks, min(udiv(n, {gemm.fewest_columns}), udiv(m * n * k, {UNIT_WORK})))
    unit_rows = udiv(udiv(m + {tile.rows - 1}, {tile.rows}) + row_blocks - 1, row_blocks) * {tile.rows}
    unit_columns = udiv(udiv(n + {width - 1}, {width}) + column_blocks - 1, column_blocks) * {width}
    padded = udiv(n + {width - 1}, {width}) * {width}
    matrix_size = padded * (k + {int(gemm.starts)})
    for unit in range(lo, hi):
{indent(_locate(gemm), 2)}
{indent(_start(gemm), 2)}
{indent(_tiled(gemm), 2)}
{indent(_dots(gemm), 2)}
        for k0 in range({"done" if gemm.unpacked == "columns" else "0"}, k, {gemm.block_depth}):
            depth = min({gemm.block_depth}, k - k0)
            keep = {1 if gemm.bias or gemm.starts else "k0"}
            source = {gemm.left}_at(left, k0 * {BYTES if tile.dot else 1} * a_col)
{indent(_tiles(gemm), 3)}
{indent(_last_rows(gemm), 3)}
{indent(epilogue(Block()), 2)}
    return 0
"""


def _arguments(gemm: Gemm) -> list[str]:
    t = gemm.dtype
    lines = [f"a = {gemm.left}_p(bufs, 0)", f"b = {gemm.right}_p(bufs, 1)"]
    if gemm.unpacked:
        lines += [f"own = {t}_p(bufs, 2)", "own_line = dims[6]"]
    if not gemm.in_scratch:
        lines.append(f"c = {t}_p(bufs, {gemm.first_buffer - gemm.bias - 1})")
    if gemm.bias:
        lines.append(f"bias = {t}_p(bufs, {gemm.first_buffer - 1})")
    lines += [f"{v} = dims[{i}]" for i, v in enumerate(("m", "n", "k", "a_row", "a_col", "row_blocks"))]
    return lines + (["bytes = k", f"k = udiv(bytes + {BYTES - 1}, {BYTES})"] if gemm.tile.dot else [])


def _few(gemm: Gemm) -> list[str]:
    """How far apart columns and rows of panels are, where they may be those of B itself; how much of K is done without panels."""
    if gemm.unpacked is None:
        return []
    lines = [f"few = m <= {gemm.unpacked_rows}"]
    if gemm.unpacked == "columns":
        return [*lines, "done = k if few else 0"]
    return [*lines, "b_across = 1 if few else k", f"b_line = own_line if few else {gemm.tile.columns}"]


def _dots(gemm: Gemm) -> list[str]:
    """A few rows times columns of B, each of which is one line of memory."""
    t = gemm.dtype
    return [] if gemm.unpacked != "columns" else f"""\
if few:
    for i in range(rows):
        row = {t}_at(left, i * a_row)
        for j in range(columns):
            column = {t}_at(own, own_start + j * own_line)
            total = {t}(0.0)
            for q in range(k):
                total = acc_add(total, row[q] * column[q])
            block[i * pitch + j] = total""".splitlines()


def _locate(gemm: Gemm) -> list[str]:
    """From the number of the unit to its block of C and the places of its operands."""
    t = gemm.dtype
    lines = [
        "rest = udiv(unit, row_blocks)",
        "i0 = (unit - rest * row_blocks) * unit_rows",
        "i1 = min(i0 + unit_rows, m)",
        "batch = udiv(rest, column_blocks)",
        "j0 = (rest - batch * column_blocks) * unit_columns",
        "j1 = min(j0 + unit_columns, n)",
        "rows = i1 - i0",
        "columns = j1 - j0",
        "a_start = i0 * a_row",
        "b_start = j0 * k",
    ]
    if gemm.unpacked:
        lines.append("own_start = j0" + (" * own_line" if gemm.unpacked == "columns" else ""))
    if gemm.batch_rank:
        lines.append("index = batch")
    for d in reversed(range(gemm.batch_rank)):
        extent = gemm.axis(d)
        lines += [
            f"outer = udiv(index, dims[{extent}])",
            f"index -= outer * dims[{extent}]",
            f"a_start += index * dims[{extent + 1}]",
            f"b_start += index * dims[{extent + 2}] * matrix_size",
            *([f"own_start += index * dims[{extent + 3}]"] if gemm.unpacked else []),
            "index = outer",
        ]
    lines += [f"left = {gemm.left}_at(a, a_start)", f"right = {gemm.right}_at(b, b_start)"]
    if gemm.unpacked == "rows":
        lines += ["if few:", f"    right = {t}_at(own, own_start)"]
    if gemm.in_scratch:
        offset = gemm.block_rows * gemm.block_depth * gemm.tile.left_words * ELEMENT_BYTES[t]
        return lines + [f"block = {t}_scratch(ctx, {offset})", f"pitch = {gemm.block_columns}"]
    return lines + [f"block = {t}_at(c, (batch * m + i0) * n + j0)", "pitch = n"]


def _start(gemm: Gemm) -> list[str]:
    """What C is before the first block of K, which overwrites it where that is nothing."""
    first = [*(["bias[j0 + j]"] if gemm.bias else []), *(["starts[j]"] if gemm.starts else [])]
    if first:
        begin = [f"starts = {gemm.dtype}_at(right, (padded - j0) * k + j0)"] if gemm.starts else []
        return [*begin, "for i in range(rows):", "    for j in range(columns):", f"        block[i * pitch + j] = {' + '.join(first)}"]
    return [
        "if k == 0:",
        "    for i in range(rows):",
        "        for j in range(columns):",
        f"            block[i * pitch + j] = {gemm.dtype}(0)",
    ]


def _tiled(gemm: Gemm) -> list[str]:
    """How many rows are done in full tiles, and how many of them are taken from A itself."""
    rows = gemm.tile.rows
    if gemm.few:
        return ["tiled = 0"]
    lines = [f"tiled = rows - urem(rows, {rows})"]
    if gemm.in_place:
        good = f"columns <= {FEW_PANELS * gemm.tile.columns} or urem(a_row, {ALIASED // ELEMENT_BYTES[gemm.dtype]}) != 0"
        lines.append(f"whole = tiled if a_col == 1 and ({good}) else 0")
    return [*lines, f"if 4 * (rows - tiled) > {3 * rows}:", f"    tiled += {rows}"]


def _tiles(gemm: Gemm) -> list[str]:
    """Rows in full tiles, the last one padded if it is nearly full; full ones from A itself where that is read well."""
    if gemm.few:
        return []
    t, tile, width = gemm.dtype, gemm.tile, gemm.tile.columns
    pack = [f"pack_panel({tile.rows}, {tile.lanes}, panel, strip, rows - i, a_row, a_col, depth)"]
    if tile.dot:
        pack = _pack_words(gemm, tile.rows)
    place = f"panel = {t}_at(packed, i * {times('depth', tile.left_words)})"
    whole, panel, row, step = "0", [place], "1", str(tile.rows)
    if gemm.in_place:
        whole = "whole"
        panel = [
            "if i < whole:",
            f"    panel = {t}_at(source, i * a_row)",
            "    row = a_row",
            "    step = 1",
            "else:",
            f"    {place}",
            "    row = 1",
            f"    step = {tile.rows}",
        ]
        row, step = "row", "step"

    def multiply(tile: Tile, name: str = "gemm_tile", strip: str = "strip") -> str:
        columns = f"{strip}, 0, {width}, place, pitch, rows - i, columns - j, depth"
        return f"{name}({tile.literals()}, keep, panel, {row}, {step}, {columns})"

    calls = [multiply(tile)]
    if gemm.half:
        half = replace(tile, vectors=1)
        calls = [f"if columns - j <= {tile.lanes}:", f"    {multiply(half)}", "else:", *(f"    {c}" for c in calls)]
    stored, spreading = f"{gemm.right}_at(right, j * k + k0 * {width})", list[str]()
    strip = stored
    if gemm.narrow:
        strip = f"{t}_at(wide, (j - start) * depth)"
        few = multiply(tile, f"gemm_tile_{gemm.narrow}", stored)
        calls = [f"if rows <= {gemm.few_rows}:", f"    {few}", "else:", *(f"    {c}" for c in calls)]
        spreading = _spread(gemm, stored)
    return f"""\
for i in range({whole}, tiled, {tile.rows}):
    {place}
    strip = {gemm.left}_at(source, i * a_row)
{indent(pack, 1)}
span = max(udiv({NEAR}, depth * {width * ELEMENT_BYTES[t]}), 1) * {width}
for start in range(0, columns, span):
{indent(spreading, 1)}
    for i in range(0, tiled, {tile.rows}):
{indent(panel, 2)}
        for j in range(start, min(start + span, columns), {width}):
            strip = {strip}
            place = {t}_at(block, i * pitch + j)
{indent(calls, 3)}\
""".splitlines()


def _spread(gemm: Gemm, stored: str) -> list[str]:
    """Where there are many rows, the panels that a row of tiles goes through are spread to float32 for all of them."""
    t, width = gemm.dtype, gemm.tile.columns
    assert gemm.narrow is not None
    value = f"from_{gemm.narrow}" if DTYPES[gemm.narrow].is_float else t
    return f"""\
wide = {t}_scratch(ctx, {gemm.spread_at})
if rows > {gemm.few_rows}:
    for j in range(start, min(start + span, columns), {width}):
        bits = {stored}
        place = {t}_at(wide, (j - start) * depth)
        for q in range(depth * {width}):
            apart()
            place[q] = {value}(bits[q])""".splitlines()


def _pack_words(gemm: Gemm, rows: int) -> list[str]:
    """The calls that pack rows of A from i on as words, for the current block of K."""
    literals, size = f"{rows}, {gemm.tile.lanes}, {int(gemm.starts)}", times("depth", rows)
    given = f"strip, rows - i, a_row, a_col, min(bytes - k0 * {BYTES}, depth * {BYTES})"
    if gemm.tile.left_words == 1:
        return [f"pack_words({literals}, panel, {given})"]
    return [f"pack_words({literals}, i32_at(panel, {size}), {given})", spread(gemm.tile, "panel", size)]


def spread(tile: Tile, target: str, size: str) -> str:
    """The call that spreads words of the left operand: so many, which lie behind as much room at the target."""
    assert tile.dot is not None
    return f"spread_words({int(tile.dot.left == 'i8')}, {tile.lanes}, {target}, i32_at({target}, {size}), {size})"


def times(value: str, factor: int) -> str:
    """The text of a value times a number, if that is not 1."""
    return value if factor == 1 else f"({value}) * {factor}" if " " in value else f"{value} * {factor}"


def _last_rows(gemm: Gemm) -> list[str]:
    """The rows that are left, in low and wide tiles: straight from A, but bytes from their words."""
    t, width = gemm.dtype, gemm.tile.columns
    lines = ["first = min(tiled, rows)"]
    multiply = f"gemm_tile_{gemm.narrow}" if gemm.narrow else "gemm_tile"
    row, a_row, a_k = f"{t}_at(source, i * a_row)", "a_row", "a_col"
    across, line = ("b_across", "b_line") if gemm.unpacked == "rows" else ("k", str(width))
    if gemm.tile.dot:
        place = f"i32_at(packed, i * {times('depth', gemm.tile.left_words)})"
        row, a_row, a_k = place, "depth", "1"
        lines += [
            "for i in range(first, rows):",
            f"    panel = {place}",
            f"    strip = {gemm.left}_at(source, i * a_row)",
            *indent(_pack_words(gemm, 1), 1).splitlines(),
        ]
    for rows, panels in gemm.low:
        literals, step = gemm.tile.literals(rows, panels), panels * width
        lines += f"""\
last = rows - urem(rows - first, {rows})
if first < last:
    for j in range(0, columns, {step}):
        strip = {gemm.right}_at(right, j * {across} + k0 * {line})
        for i in range(first, last, {rows}):
            row = {row}
            place = {t}_at(block, i * pitch + j)
            {multiply}({literals}, keep, row, {a_row}, {a_k}, strip, {width} * {across}, {line}, place, pitch, {rows}, columns - j, depth)
first = last""".splitlines()
    return lines
