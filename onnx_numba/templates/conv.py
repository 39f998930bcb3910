"""Convolutions in one to three dimensions on the CPU for float32, float64 and words of bytes, as one kernel of products.

The filters are packed once, at prepare, into panels of a few output channels (`pack_filters_source`). The rest is one kernel
(`conv_source`): a work unit multiplies some output channels by a block of columns, which are positions of the output. For every
block of the sum it first lays out a *patch* in this worker's scratch, the part of the input that its columns see in the block's
channels. All output channels of the unit then use it.

How the patch is laid out tells `onnx_numba.templates.patch`. A table of offsets tells the register tile where in it row k of its right
operand begins.

A convolution of few output channels without strides and padding, whose filter is one wide in all axes but the first, like 1×1, reads its
input as it is.

Every output is summed over channels, then taps, in blocks set by the filter alone, in the same order wherever it lies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from onnx_numba.ir.dims import ceildiv, compare, dmax, dmin, floordiv, product
from onnx_numba.native.tile import Tile, tile_shape, word_tile
from onnx_numba.record import record
from onnx_numba.target import Target
from onnx_numba.templates.block import ELEMENT_BYTES, Block, Epilogue, Extent, indent, no_epilogue
from onnx_numba.templates.gemm import spread, times
from onnx_numba.templates.packing import packing_source
from onnx_numba.templates.patch import MOST_STRIDE, lay_out, patch_offsets
from onnx_numba.templates.strips import begin_strip, end_strip, multiply_strip

ENOUGH_UNITS = 16
"""Work units below which output channels are divided further, so that threads find something to do."""

LEAST_TILES = 4
"""Tiles of output channels in a unit below which they are not divided further."""

LEAST_USES = 12
"""The same where there is a patch, for every element that is read to lay one out: times the stride, over the taps that share it, and times
the axes, as several mean many short rows."""

LEAST_COLUMNS = 32
"""Columns of a unit below which they are not divided: every one reads all its filters, from the second cache or from beyond it."""

PLAIN_TILES = 8
"""Tiles of output channels up to which an input that needs no laying out is read as it is: its rows lie far apart, where they evict each
other from the first cache, and a vector of them is in two lines of it. Up to 16 tiles that takes 0.93 of the time of laying it out (256 to
128 channels of 56 x 56), but then what was done to the input before, as to those of DenseNet, could not be done to the patch."""

COPY_WORK = 16
"""Multiply-adds that take as long as laying out an element of a patch."""

MANY_COLUMNS = 512
"""Columns from which on tiles of fewer rows than there could be are considered: what they read of filters more often is in the cache."""

BLOCK_BYTES = 24 << 10
"""Bytes of sums that stay in the first cache until the epilogue takes them."""

STEP_WORK = 1.5
"""Multiply-adds of vectors that take as long as whatever else a tile does for each term of its sums."""

TILE_DEPTH = 8
"""Terms of its sums that take as long as a tile's beginning and end."""


@record
class Conv:
    """What is fixed in the code of a convolution.

    Attributes
    ----------
    dtype : str
        ``f32`` or ``f64``, or ``i32`` for words of four channels' bytes, whose products `onnx_numba.native.dot` explains.
    tile : Tile
        The register tile, see `conv_tile`.
    kernel, strides, dilations : tuple of int
        One number per spatial axis.
    bias : bool
        Whether there is a number per output channel to add.
    fill : bool
        Whether the padding consists of the one element of a buffer; else of zeros.
    plain : bool
        Whether the input is read as it is: where it can be, by `reads_plainly`, and has few uses, by `uses_little`.
    in_scratch : bool
        Whether the output is only ever seen by the epilogue: blocks of it then lie in the worker's scratch and there is no
        buffer for it.
    masks : bool
        Whether the target has masked loads, see `onnx_numba.native.vector.has_masks`.
    overlap : bool
        Whether units see columns that others see too, as a pool at their end needs: see `overlapping`.
    whole_rows : bool
        Whether taps of the last axis, which is not the only one, share elements of the patch, see `cost`. Results are the same.
    block_depth, patch_blocks, row_tiles, column_panels : int
        The greatest depth of a block of the sum, such as 16 channels of 3×3 filters and 3 of 7×7 have: what a tile reads of it
        stays in the first cache; blocks that are laid out at a time; tiles that take turns over them (their filters stay in the
        second cache); the most panels along one unit.

    Notes
    -----
    Buffers of `conv_source`: input, packed filters, what the padding consists of (if there is such), output
    [N, groups * filters, *out] (unless ``in_scratch``), bias (if there is one), then the epilogue's own from `first_buffer` on.
    Dims: see `dims`; the epilogue's own from `first_dim` on.
    """

    dtype: str
    tile: Tile
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    bias: bool = False
    fill: bool = False
    plain: bool = False
    in_scratch: bool = False
    masks: bool = False
    overlap: bool = False
    whole_rows: bool = False
    block_depth: int = 147
    patch_blocks: int = 2
    row_tiles: int = 8
    column_panels: int = 8

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def taps(self) -> int:
        """Elements of a filter in one channel."""
        return math.prod(self.kernel)

    @property
    def planes(self) -> int:
        """Copies of a channel in a patch: for every tap of all axes but the first, or with whole rows for every phase of the last axis."""
        return math.prod(self.kernel[1:-1]) * min(self.phases(-1), self.kernel[-1]) if self.whole_rows else math.prod(self.kernel[1:])

    def phases(self, axis: int) -> int:
        """How many remainders of positions by the stride the taps of an axis meet by turns."""
        return self.strides[axis] // math.gcd(self.strides[axis], self.dilations[axis]) if self.kernel[axis] > 1 else 1

    @property
    def reach(self) -> int:
        """Positions that the taps of the last axis reach beyond the last one of a row."""
        return (self.kernel[-1] - 1) * self.dilations[-1] // self.strides[-1] if self.whole_rows else 0

    @property
    def patch_channels(self) -> int:
        """Channels that are laid out at a time."""
        return max(1, self.block_depth // self.taps) * self.patch_blocks

    @property
    def depth(self) -> int:
        """Depth of a block of the sum: whole channels, unless one alone is too deep."""
        return max(1, self.block_depth // self.taps) * self.taps if self.taps <= self.block_depth else self.block_depth

    @property
    def narrow(self) -> list[Tile]:
        """The tiles for what is left of a row of columns, the narrowest first: the whole one would multiply mostly what nobody looks at.

        Processors that have units of 256 bits take half the time for half a vector of 512.

        Examples
        --------
        >>> [(tile.vectors, tile.lanes) for tile in Conv("f32", Tile(14, 2, 16), (3,), (1,), (1,)).narrow]
        [(1, 8), (1, 16)]
        """
        tile = self.tile
        halved = tile.dot is None and tile.lanes * ELEMENT_BYTES[self.dtype] == 64
        found = [replace(tile, vectors=1, lanes=tile.lanes // 2)] if halved else []
        return [*found, replace(tile, vectors=1)] if tile.vectors > 1 else found

    @property
    def parts(self) -> list[tuple[Tile, ...]]:
        """The narrow tiles, and both side by side where there are two, as far as they are narrower than the whole one."""
        found: list[tuple[Tile, ...]] = [(tile,) for tile in self.narrow]
        found += [(self.narrow[1], self.narrow[0])] if len(found) == 2 else []
        return [tiles for tiles in found if sum(tile.columns for tile in tiles) < self.tile.columns]

    @property
    def most_rows(self) -> int:
        """Output channels of a unit, at most."""
        return self.tile.rows * self.row_tiles * (1 if self.plain else 4)

    @property
    def first_buffer(self) -> int:
        """Index of the epilogue's first buffer."""
        return 2 + self.fill + (not self.in_scratch) + self.bias

    @property
    def first_dim(self) -> int:
        """Index of the epilogue's first dim."""
        return 5 + 3 * self.rank + self.far + 2 * self.overlap

    @property
    def far(self) -> bool:
        """Whether the stride of the last axis is a dim: where nothing but the laying out depends on it, element by element."""
        return self.rank > 1 and self.strides[-1] > MOST_STRIDE

    def packed_size(self, groups: int, filters: Extent, channels: Extent) -> Extent:
        """Elements of the packed filters: ``groups * ceil(filters / tile.rows) * tile.rows * channels * taps``, twice as many if spread."""
        return groups * ceildiv(filters, self.tile.rows) * self.tile.rows * channels * self.taps * self.tile.left_words

    def dims(
        self, images: Extent, groups: int, channels: Extent, filters: Extent, size: Sequence[Extent], out: Sequence[Extent],
        before: Sequence[Extent],
    ) -> tuple[Extent, ...]:  # fmt: skip
        """The kernel's own dims.

        They are: groups, input channels of a group, output channels of a group, output channels and columns of a unit, the
        extents of the input, those of the output, the padding before the first element, per axis each; the stride of the last axis where
        that is `far`.

        Columns are divided evenly, with whole rows into rows if there are enough. A unit has so many output channels that their sums,
        and without a patch their filters, stay in the cache. Where there would be few units, they have fewer columns, and then fewer
        output channels: these lay out the same patch again. All that depends on sizes alone.
        """
        panels = ceildiv(product(out), self.tile.columns)
        tiles = ceildiv(filters, self.tile.rows)
        parts = ceildiv(tiles, self.most_rows // self.tile.rows)
        wanted = ceildiv(ENOUGH_UNITS, dmax(images * groups * parts, 1))
        blocks = dmax(ceildiv(panels, self.column_panels), dmax(dmin(wanted, panels // max(LEAST_COLUMNS // self.tile.columns, 1)), 1))
        wanted = ceildiv(ENOUGH_UNITS, dmax(images * groups * blocks, 1))
        least = LEAST_TILES if self.plain else -(-LEAST_USES * self.rank * self.strides[-1] // self.kernel[0])
        parts = dmax(parts, dmin(wanted, tiles // least))
        unit_rows = self.tile.rows * dmax(ceildiv(tiles, dmax(parts, 1)), 1)
        unit_columns = self.tile.columns * dmax(ceildiv(panels, blocks), 1)
        if self.whole_rows:
            enough = compare("le", blocks, product(out[:-1])) * compare("lt", 0, out[-1])
            unit_columns = unit_columns + enough * (ceildiv(product(out[:-1]), blocks) * out[-1] - unit_columns)
        far = self.strides[-1:] if self.far else ()
        return (groups, channels, filters, unit_rows, unit_columns, *size, *out, *before, *far)

    def overlapping(self, dims: Sequence[Extent], columns: Extent, step: Extent, lead: Extent) -> tuple[Extent, ...]:
        """The dims with units of so many columns that begin ``step`` apart, the first one ``lead`` before the first column."""
        return (*dims[:4], columns, *dims[5:], step, lead)

    def cost(self, dims: Sequence[Extent]) -> Extent:
        """What an element of all outputs costs for each channel, in thousandths of multiply-adds, for the kernel's dims.

        Whole rows copy less, and multiply what lies between the end of a row and that of its last tile. On Emerald Rapids 8 output
        channels of 3 × 39 taps in rows of 264 take 0.5 of the time, 16 of 3 × 3 in rows of 160 0.77, 64 in rows of 80 0.9 and in rows
        of 28 1.1.
        """
        channels, filters, rows, columns = dims[1:5]
        row = dims[4 + 2 * self.rank] if self.whole_rows else columns
        tiled, tiles = self.vectors(row)
        blocks = ceildiv(channels * self.taps, self.depth)
        padded = ceildiv(filters, self.tile.rows) * self.tile.rows
        multiplied = padded * (self.taps * channels * tiled + TILE_DEPTH * blocks * tiles * self.tile.columns)
        laid = COPY_WORK * channels * self.planes * self._plane_size(dims) * ceildiv(filters, rows)
        return floordiv(1000 * multiplied, dmax(channels * row, 1)) + floordiv(1000 * laid, dmax(channels * columns, 1))

    def vectors(self, row: Extent) -> tuple[Extent, Extent]:
        """The elements of the vectors that multiply so many columns, and in how many tiles."""
        whole = floordiv(row, self.tile.columns)
        rest = row - whole * self.tile.columns
        elements: Extent = self.tile.columns
        count: Extent = 1
        for parts in (*reversed(self.parts), ()):
            fits = compare("le", rest, sum(tile.columns for tile in parts))
            elements, count = elements + fits * (len(parts) * self.tile.lanes - elements), count + fits * (len(parts) - count)
        return whole * self.tile.columns + elements, whole + count

    def work_units(self, images: Extent, dims: Sequence[Extent]) -> Extent:
        """``images * groups * ceil(filters / unit_rows) * ceil(columns / unit_columns)``, for the kernel's dims."""
        groups, _, filters, rows, columns = dims[:5]
        columns = dims[-2] if self.overlap else columns
        return images * groups * ceildiv(filters, rows) * ceildiv(product(dims[5 + self.rank : 5 + 2 * self.rank]), columns)

    def scratch_bytes(self, dims: Sequence[Extent]) -> Extent:
        """Bytes of scratch that every worker needs, for the kernel's dims: the offsets, the patch, the sums."""
        held = dims[3] * (dims[4] + self.tile.lanes) * self.in_scratch
        return self._patch_at + (self._patch_size(dims) + held) * ELEMENT_BYTES[self.dtype]

    def _patch_size(self, dims: Sequence[Extent]) -> Extent:
        """Elements of the patch, or of the copy of the last panel that takes its place; a few more than are used."""
        if self.plain:
            return self.depth * self.tile.columns
        # Behind the last row, or the last column of a unit that has no whole tiles, a tile reads what it does not use.
        return self.patch_channels * (self.planes * self._plane_size(dims) + 2 * self.tile.lanes) + self.tile.columns

    def _plane_size(self, dims: Sequence[Extent]) -> Extent:
        """Elements of one copy of a channel in the patch, at most."""
        columns, out, lanes = dims[4], dims[5 + self.rank : 5 + 2 * self.rank], self.tile.lanes
        row = product(out[1:])
        if self.whole_rows:
            wide = ceildiv(out[-1] + self.reach, lanes) * lanes
            columns = columns + (wide - out[-1]) * ceildiv(columns + out[-1] - 2, dmax(out[-1], 1)) + self.reach
            row = product(out[1:-1]) * wide
        columns = ceildiv(columns, lanes) * lanes  # the taps of each phase begin with a vector
        size: Extent = lanes
        for phase in range(self.phases(0)):
            jumps = [t * self.dilations[0] // self.strides[0] for t in range(self.kernel[0]) if self._phase(t) == phase]
            size += columns * bool(jumps)
            for before, after in itertools.pairwise(jumps):
                size += dmin(columns, (after - before) * row) + lanes
        return size

    def _phase(self, tap: int) -> int:
        """The remainder that a tap of the first axis meets, counted in steps of what stride and dilation have in common."""
        return tap * self.dilations[0] % self.strides[0] // math.gcd(self.strides[0], self.dilations[0])

    @property
    def _patch_at(self) -> int:
        """Where in scratch the patch is: after the tables, see `_plain_offsets` and `patch_offsets`."""
        words = self.patch_channels * self.taps + (self.depth if self.plain else 5 * self.kernel[0])
        return -(-8 * words // 64) * 64


def reads_plainly(kernel: Sequence[int], strides: Sequence[int], pads: Sequence[Extent]) -> bool:
    """Whether a convolution can read its input as it is: consecutive outputs then see consecutive elements everywhere."""
    return all(k == 1 for k in kernel[1:]) and all(s == 1 for s in strides) and all(p == 0 for p in pads)


def uses_little(tile: Tile, filters: Extent) -> bool:
    """Whether a convolution has so few output channels that laying out its input pays for nothing but padding and strides."""
    return isinstance(filters, int) and -(-filters // tile.rows) <= PLAIN_TILES


def conv_tile(target: Target, dtype: str, filters: int | None = None, columns: int | None = None, row: int | None = None) -> Tile:
    """The tile for a number of output channels in a group, and of columns, as far as they are known; ``i32`` stands for words.

    Rows divide the channels evenly (64 channels are 5 tiles of 13 rows, not of 14); tiles of few rows are made wide, which
    hides the latency of the multiply-add. Of many columns, each as long as ``row`` or all in one, more tiles of fewer rows may multiply
    less that nobody looks at.

    Examples
    --------
    >>> wide = Target("x86_64-unknown-linux-gnu", "x86-64-v4", LEVELS["x86-64-v4"])
    >>> conv_tile(wide, "f32", filters=64)
    Tile(rows=13, vectors=2, lanes=16, fused=True, dot=None, registers=32)
    >>> conv_tile(wide, "f32", filters=64, columns=3136)
    Tile(rows=8, vectors=3, lanes=16, fused=True, dot=None, registers=32)
    """
    base = word_tile(target) if dtype == "i32" else tile_shape(target, dtype)

    def of(rows: int) -> Tile:
        most = 4 if rows > 2 else 8
        if columns is not None:
            most = min(most, max(1, -(-(row or columns) // base.lanes)))
        return replace(base, rows=rows, vectors=max((v for v in range(1, most + 1) if base.fits(rows, v)), default=1))

    if filters is None:
        return of(base.rows)
    channels = max(filters, 1)
    tiles = -(-channels // base.rows)
    if columns is None or columns < MANY_COLUMNS:
        return of(-(-channels // tiles))

    def work(tile: Tile) -> float:
        multiplied, _ = Conv(dtype, tile, (1,), (1,), (1,)).vectors(row or columns)
        assert isinstance(multiplied, int)
        return -(-channels // tile.rows) * multiplied * (tile.rows + STEP_WORK / tile.vectors)

    return min((of(-(-channels // n)) for n in range(tiles, 2 * tiles + 1)), key=work)


def pack_filters_source(name: str, conv: Conv) -> str:
    """The kernel that packs filters [groups * filters, channels, *kernel].

    What the tiles of one block of the sum read lies together, tile after tile, so that it comes from memory as one stream.

    Buffers: filters, packed filters. Dims: filters of a group, K = channels * taps, 1, K, groups, filters * K. A work unit is
    one panel: there are ``groups * ceil(filters / tile.rows)``.
    """
    rows, laid_out, words = conv.tile.rows, conv.patch_channels * conv.taps, conv.tile.left_words
    size = times("depth", rows)
    pack = [f"pack_panel({rows}, {conv.tile.lanes}, target, strip, n - j0, b_col, b_row, depth)"]
    if words == 2:
        given = f"i32_at(target, {size}), strip, n - j0, b_col, b_row, depth"
        pack = [f"pack_panel({rows}, {conv.tile.lanes}, {given})", spread(conv.tile, "target", size)]
    lines = f"""\
first = matrix * panels * {rows} * k
for start in range(0, k, {laid_out}):
    for k0 in range(start, min(start + {laid_out}, k), {conv.depth}):
        depth = min({conv.depth}, min(start + {laid_out}, k) - k0)
        target = {conv.dtype}_at(packed, {times(f"first + k0 * panels * {rows} + j0 * depth", words)})
        strip = {conv.dtype}_at(source, k0 * b_row)
{indent(pack, 2)}""".splitlines()
    return packing_source(name, conv.dtype, conv.dtype, rows, 1, lines)


def conv_source(
    name: str, conv: Conv, epilogue: Epilogue = no_epilogue, end: Epilogue = no_epilogue, in_parts: bool = True,
    prologue: Sequence[str] = (),
) -> str:  # fmt: skip
    """The source of a kernel that convolves; see `Conv` for its buffers, dims and work units.

    The epilogue's rows are output channels of all groups, its columns flat positions of the output, `Block.batch` the image. It is run on
    tiles of rows of what a unit makes, ``in_parts`` on parts of these that are in the first cache, ``end`` then on all. The ``prologue`` is
    run on a patch of a convolution of one tap: see `altered`.

    Examples
    --------
    A convolution with a residual added in place, whose buffer comes after the kernel's own::

        def add_residual(b):
            return [
                f"other = f32_at(f32_p(bufs, {conv.first_buffer}), (batch * groups * filters + i0) * out_size + j0)",
                "for i in range(i1 - i0):",
                "    for j in range(j1 - j0):",
                "        block[i * pitch + j] = block[i * pitch + j] + other[i * out_size + j]",
            ]

        conv_source("conv_add", conv, add_residual)
    """
    t, tile, step, apart = conv.dtype, conv.tile, conv.patch_channels, "unit_step" if conv.overlap else "unit_columns"
    return f"""\
def {name}(ctx, bufs, dims, lo, hi):
{indent(_arguments(conv), 1)}
    offsets = i64_scratch(ctx, 0)
    patch = {t}_scratch(ctx, {conv._patch_at})
{indent(_plain_offsets(conv) if conv.plain else patch_offsets(conv), 1)}
    padded = udiv(filters + {tile.rows - 1}, {tile.rows}) * {tile.rows}
    row_units = udiv(filters + unit_rows - 1, unit_rows)
    column_units = udiv(out_size + {apart} - 1, {apart})
    for unit in range(lo, hi):
{indent(_locate(conv), 2)}
{indent(_start(conv), 2)}
        for c0 in range(0, max(channels, 1), {step}):
            count = min({step}, channels - c0)
{indent(lay_out(conv), 3)}
{indent(altered(prologue, f"udiv(columns + {tile.lanes - 1}, {tile.lanes}) * {tile.lanes}"), 3)}
            for q0 in range(0, max(count * {conv.taps}, 1), {conv.depth}):
                depth = min({conv.depth}, count * {conv.taps} - q0)
                k0 = c0 * {conv.taps} + q0
                keep = {1 if conv.bias else "k0"}
                for r0 in range(0, rows, {tile.rows * conv.row_tiles}):
                    r1 = min(r0 + {tile.rows * conv.row_tiles}, rows)
                    done = 0
{indent(begin_strip(conv), 5)}
                        table = i64_at(offsets, q0)
{indent(_edge(conv), 6)}
                        for i in range(r0, r1, {tile.rows}):
                            panel = {t}_at(weights, {times("k0 * padded + (first_row + i) * depth", tile.left_words)})
                            place = {t}_at(sums, i * pitch + j)
{indent(multiply_strip(conv), 7)}
{indent(end_strip(conv), 6)}
{indent(_complete(conv, epilogue, in_parts), 6)}
{indent(_whole(conv, end), 2)}
    return 0
"""


def altered(prologue: Sequence[str], width: str) -> list[str]:
    """Run a prologue on a patch: its rows are the channels of all groups that have been laid out, its columns ``width`` elements of each:
    whole vectors, beyond whatever a unit sees.

    Of a relu::

        i0 = group * channels + c0
        i1 = i0 + count
        width = udiv(columns + 15, 16) * 16
        for ii in range(i0, i1):
            line = f32_at(patch, (ii - i0) * held)
            for jj in range(width):
                interleave(16)
                value = line[jj]
                line[jj] = max_(value, f32(0.0))
    """
    return ["i0 = group * channels + c0", "i1 = i0 + count", f"width = {width}", *prologue] if prologue else []


def _arguments(conv: Conv) -> list[str]:
    """Buffers, dims, and what follows from them: the depth of the sum, the sizes of planes and rows."""
    t, axes = conv.dtype, range(conv.rank)
    lines = [f"x = {t}_p(bufs, 0)", f"w = {t}_p(bufs, 1)"]
    if not conv.in_scratch:
        lines.append(f"out = {t}_p(bufs, {2 + conv.fill})")
    lines.append(f"fill = {f'{t}_p(bufs, 2)[0]' if conv.fill else f'{t}(0)'}")
    if conv.bias:
        lines.append(f"bias = {t}_p(bufs, {conv.first_buffer - 1})")
    names = ["groups", "channels", "filters", "unit_rows", "unit_columns", *(f"size{d}" for d in axes), *(f"out{d}" for d in axes)]
    names += [] if conv.plain else [f"pad{d}" for d in axes]
    lines += [f"{name} = dims[{at}]" for at, name in enumerate(names)]
    more = [*(["stride"] if conv.far else []), *(["unit_step", "unit_lead"] if conv.overlap else [])]
    lines += [f"{name} = dims[{conv.first_dim - len(more) + at}]" for at, name in enumerate(more)]
    return [
        *lines,
        f"k = channels * {conv.taps}",
        "plane = " + " * ".join(f"size{d}" for d in axes),
        "out_row = " + (" * ".join(f"out{d}" for d in axes[1:]) or "1"),
        "out_size = out0 * out_row",
    ]


def _plain_offsets(conv: Conv) -> list[str]:
    """The tables of where each tap finds its element of the first output, in the input and in the copy of its last panel, beyond
    which there may be no memory."""
    return f"""\
for c in range(min({conv.patch_channels}, channels)):
    for t in range({conv.taps}):
        offsets[c * {conv.taps} + t] = c * plane + t * {conv.dilations[0]} * out_row
edge_offsets = i64_at(offsets, {conv.patch_channels * conv.taps})
for q in range({conv.depth}):
    edge_offsets[q] = q * {conv.tile.columns}""".splitlines()


def _locate(conv: Conv) -> list[str]:
    """From the number of the unit to its block and the places of its operands."""
    t = conv.dtype
    first = ["first_column = (unit - rest * column_units) * unit_columns", "columns = min(unit_columns, out_size - first_column)"]
    if conv.overlap:
        first = """\
unit_begin = (unit - rest * column_units) * unit_step
first_column = max(unit_begin - unit_lead, 0)
columns = min(unit_begin - unit_lead + unit_columns, out_size) - first_column""".splitlines()
    lines = f"""\
rest = udiv(unit, column_units)
{chr(10).join(first)}
outer = udiv(rest, row_units)
first_row = (rest - outer * row_units) * unit_rows
rows = min(unit_rows, filters - first_row)
batch = udiv(outer, groups)
group = outer - batch * groups
weights = {t}_at(w, group * padded * {times("k", conv.tile.left_words)})
first_filter = group * filters + first_row""".splitlines()
    if conv.in_scratch:
        laid, lanes = conv.depth * conv.tile.columns if conv.plain else f"{conv.patch_channels} * held", conv.tile.lanes
        return [*lines, f"sums = {t}_at(patch, {laid})", f"pitch = udiv(unit_columns + {lanes - 1}, {lanes}) * {lanes}"]
    return [*lines, f"sums = {t}_at(out, (batch * groups * filters + first_filter) * out_size + first_column)", "pitch = out_size"]


def _complete(conv: Conv, epilogue: Epilogue, in_parts: bool) -> list[str]:
    """Run the epilogue on sums that have just become complete, perhaps on as many at a time as the first cache has room for.

    Of 112 rows in tiles of 32 columns, with a relu::

        if k0 + depth == k and (stop == columns or (stop + 32 - done) * (r1 - r0) > 6144):
            i0 = first_filter + r0
            i1 = first_filter + r1
            j0 = first_column + done
            j1 = first_column + stop
            block = f32_at(sums, r0 * pitch + done)
            done = stop
            for ii in range(i0, i1):
                ...
    """
    lines, t = epilogue(Block()), conv.dtype
    if not lines:
        return []
    many = f" or (stop + {conv.tile.columns} - done) * (r1 - r0) > {BLOCK_BYTES // ELEMENT_BYTES[t]}" if in_parts else ""
    return f"""\
{"stop = j" if conv.whole_rows else f"stop = min(j + {conv.tile.columns}, columns)"}
if k0 + depth == k and (stop == columns{many}):
    i0 = first_filter + r0
    i1 = first_filter + r1
    j0 = first_column + done
    j1 = first_column + stop
    block = {t}_at(sums, r0 * pitch + done)
    done = stop
{indent(lines, 1)}""".splitlines()


def _whole(conv: Conv, end: Epilogue) -> list[str]:
    """Run what needs all that a unit makes."""
    lines = end(Block())
    return f"""\
i0 = first_filter
i1 = first_filter + rows
j0 = first_column
j1 = first_column + columns
block = sums
{chr(10).join(lines)}""".splitlines() if lines else []


def _start(conv: Conv) -> list[str]:
    """What the sums begin with if there is a bias; without one their first part overwrites what is there."""
    if not conv.bias:
        return []
    return """\
for i in range(rows):
    value = bias[first_filter + i]
    for j in range(columns):
        sums[i * pitch + j] = value""".splitlines()


def _edge(conv: Conv) -> list[str]:
    """Let the last panel of a plain input be read from a copy, with zeros for what is not there."""
    if not conv.plain:
        return []
    width, t = conv.tile.columns, conv.dtype
    return f"""\
if first_column + j + {width} > out_size:
    for q in range(depth):
        for jj in range(columns - j):
            patch[q * {width} + jj] = strip[table[q] + jj]
        for jj in range(columns - j, {width}):
            patch[q * {width} + jj] = {t}(0)
    strip = patch
    table = edge_offsets""".splitlines()
