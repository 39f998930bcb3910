"""Convolutions in tiles of a few pixels of a row by vectors of output channels, for float32 and float64.

`onnx_numba.templates.conv` multiplies some output channels by vectors of positions. Where rows of the output are no multiple of a vector,
as those of 14 and of 7 pixels, some of every last vector is for nothing, and each tap along a row needs a copy of the input in which
what it sees begins with a vector. Here the roles are exchanged: vectors run over output channels, whose number is mostly a power of
two, and of the input single elements are multiplied, which may lie anywhere. So a *patch* holds each element that a work unit sees
once, rows beside each other with zeros for the padding, and a stride costs nothing. A table of offsets tells where in the patch the
first pixel of a tile finds row k of the sum.

Sums come as pixels by channels, for as many channels as a tile is wide, and are transposed into their place of the output when they are
complete. That has to pay: see `saves`.

Every output is summed over channels, then taps, in the same blocks as in `onnx_numba.templates.conv`, in the same order wherever it lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from onnx_numba.ir.dims import ceildiv, dmin
from onnx_numba.native.tile import Tile, tile_shape
from onnx_numba.record import record
from onnx_numba.target import Target
from onnx_numba.templates.block import ELEMENT_BYTES, Block, Epilogue, Extent, indent, no_epilogue
from onnx_numba.templates.conv import Conv, altered
from onnx_numba.templates.patch import MOST_STRIDE, padded_copy

MOST_PIXELS = 224
"""Pixels of a work unit: their sums for a tile's channels stay in the first cache, and what they see in the second."""
MOST_PANELS = 8
"""Panels of output channels of a work unit: their part of the filters stays in the second cache while pixels take turns."""
ENOUGH_UNITS = 16
"""Work units below which they are divided further, so that threads find something to do."""
LEAST_TILES = 4
"""Tiles of pixels in a unit below which they are not divided further: each unit reads all its filters."""
FEW_UNITS, LEAST_TILES_OF_FEW = 4, 3
"""So few units that threads would idle are divided once more: a convolution of 3 x 3 from 128 to 32 channels of 7 x 7 pixels is two units,
of four and of three rows. That costs one thread a twentieth and saves two of them a quarter."""
LEAST_PANELS = 2
"""Panels of output channels in a unit below which they are not divided further: each unit lays out all that its pixels see."""

TRANSPOSED, LAID_OUT = 8, 12
"""Multiply-adds that take as long as transposing a sum, and as laying out an element where a filter has several taps."""
FEW_SUMS = 10
"""Sums of a tile below which a multiply-add waits for the one before."""
HALO = 0.5
"""How much more is laid out then for every row from one tap to the next, as what units see overlaps; by the other template no more than
once for every tap."""


@record
class PixelConv:
    """What is fixed in the code of a convolution; one of a single tap has no padding.

    Attributes
    ----------
    dtype : str
        ``f32`` or ``f64``.
    tile : Tile
        The register tile: pixels by vectors of output channels, see `pixel_tile`.
    kernel, strides, dilations : tuple of int
        Two numbers, of rows and of columns.
    in_scratch : bool
        Whether the output is only ever seen by the epilogue: blocks of it then lie in the worker's scratch and there is no
        buffer for it.
    masks : bool
        Whether the target has masked loads, see `onnx_numba.native.vector.has_masks`.
    altered : bool
        Whether a prologue changes what has been laid out.
    block_depth, patch_blocks : int
        As in `onnx_numba.templates.conv.Conv`.

    Notes
    -----
    Buffers of `pixel_source`: input, packed filters, output (unless ``in_scratch``), then the epilogue's own from `first_buffer` on.
    Dims: see `dims`; the epilogue's own from `first_dim` on.
    """

    dtype: str
    tile: Tile
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int] = (1, 1)
    in_scratch: bool = False
    masks: bool = False
    altered: bool = False
    block_depth: int = 147
    patch_blocks: int = 2

    @property
    def packing(self) -> Conv:
        """The convolution whose filters are packed alike, by `onnx_numba.templates.conv.pack_filters_source`: panels are tiles' columns."""
        tile = replace(self.tile, rows=self.tile.columns)
        return Conv(self.dtype, tile, self.kernel, self.strides, (1, 1), block_depth=self.block_depth, patch_blocks=self.patch_blocks)

    @property
    def single(self) -> bool:
        """Whether filters have one tap: then the input is read as it is, unless it has to be ``altered``."""
        return math.prod(self.kernel) == 1 and not self.altered

    @property
    def steps(self) -> tuple[int, int]:
        """How far pixels are apart in the patch: of an axis with one tap it holds only what is seen."""
        rows, columns = (1 if taps == 1 else stride for taps, stride in zip(self.kernel, self.strides, strict=True))
        return rows, columns

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns from the first tap to the last."""
        rows, columns = ((taps - 1) * dilation + 1 for taps, dilation in zip(self.kernel, self.dilations, strict=True))
        return rows, columns

    @property
    def first_buffer(self) -> int:
        """Index of the epilogue's first buffer."""
        return 3 - self.in_scratch

    @property
    def first_dim(self) -> int:
        """Index of the epilogue's first dim."""
        return 12

    def dims(
        self, images: Extent, groups: int, channels: int, filters: int, size: Sequence[int], out: Sequence[int], before: Sequence[int]
    ) -> tuple[int, ...]:  # fmt: skip
        """The kernel's own dims, of sizes that are known but for the number of images.

        They are: groups, input channels of a group, output channels of a group, output channels, rows and columns of a unit, the extents
        of the input, those of the output, the padding before the first element. A unit has several rows, or a part of one that is
        alone. All that depends on sizes alone.
        """
        tile, (height, width) = self.tile, out
        panels, across = -(-filters // tile.columns), -(-width // tile.rows)
        matrices = max(images, 1) * groups if isinstance(images, int) else groups
        parts = -(-panels // MOST_PANELS)
        blocks = -(-height * across // (MOST_PIXELS // tile.rows))
        parts = max(parts, min(-(-ENOUGH_UNITS // (matrices * blocks)), panels // LEAST_PANELS))
        wanted = -(-ENOUGH_UNITS // (matrices * parts))
        blocks = max(blocks, min(wanted, height * across // LEAST_TILES))
        if matrices * parts * blocks < FEW_UNITS:
            blocks = max(blocks, min(wanted, height * across // LEAST_TILES_OF_FEW))
        rows = -(-height // min(blocks, height))
        columns = width if height > 1 else tile.rows * -(-across // blocks)
        return (groups, channels, filters, tile.columns * -(-panels // parts), rows, columns, *size, *out, *before)

    def work_units(self, images: Extent, dims: Sequence[Extent]) -> Extent:
        """How many work units there are, for the kernel's dims: images, groups, parts of the output channels, blocks of pixels."""
        groups, _, filters, features, rows, columns = dims[:6]
        return images * groups * ceildiv(filters, features) * ceildiv(dims[8], rows) * ceildiv(dims[9], columns)

    def unit_work(self, dims: Sequence[Extent]) -> Extent:
        """Multiply-adds of a work unit, about."""
        return dmin(dims[2], dims[3]) * dims[4] * dmin(dims[5], dims[9]) * dims[1] * math.prod(self.kernel)

    def scratch_bytes(self, dims: Sequence[Extent]) -> Extent:
        """Bytes of scratch that every worker needs, for the kernel's dims: the offsets, the patch, the sums, the transposed sums."""
        across, lanes = ceildiv(dims[5], self.tile.rows) * self.tile.rows, self.tile.lanes
        (rows, columns), wide = self._patch_extents(dims[4], across), self.tile.rows * self.steps[1]
        patch = 0 if self.single else self.packing.patch_channels * (rows * (columns + lanes) + wide + 5 * lanes)
        sums = dims[4] * across * (dims[3] + self.tile.columns * self.in_scratch)
        return self._patch_at + (patch + sums) * ELEMENT_BYTES[self.dtype]

    def _patch_extents(self, rows: Extent, columns: Extent) -> list[Extent]:
        """Rows and columns that so many rows and columns of pixels see."""
        return [(n - 1) * step + reach for n, step, reach in zip((rows, columns), self.steps, self.reach, strict=True)]

    @property
    def _patch_at(self) -> int:
        """Where in scratch the patch is: after the offsets."""
        return -(-8 * self.packing.patch_channels * math.prod(self.kernel) // 64) * 64


def pixel_tile(target: Target, dtype: str, width: int) -> Tile:
    """The tile for rows of so many pixels: of as many pixels as divide them best, the more the better.

    Examples
    --------
    >>> level = Target("x86_64-unknown-linux-gnu", "x86-64-v4", LEVELS["x86-64-v4"])
    >>> [pixel_tile(level, "f32", width).rows for width in (56, 49, 13, 7)]
    [14, 10, 13, 7]
    """
    base = tile_shape(target, dtype)
    rows = min(range(1, base.rows + 1), key=lambda n: (-(-width // n) * (n + 1), -n))
    return replace(base, rows=rows)


def saves(conv: PixelConv, other: Conv, channels: int, filters: int, out: Sequence[int]) -> bool:
    """Whether a convolution is faster in tiles of pixels than in those of ``other``, as far as multiply-adds tell.

    Both compute what nobody needs: pixels beyond a row and channels beyond the last vector, or positions beyond the last vector and
    channels beyond the last tile. Both lay out what several taps see, ``other`` once for each tap of a row. Measured with AVX-512 on
    Emerald Rapids, square planes, the spread being the dilation:

    ===========  ========  ========  ======  =====================
    filters      channels  features  pixels  time in place of 1
    ===========  ========  ========  ======  =====================
    3 x 3        512       512       7       0.78, from memory 0.6
    3 x 3        256       256       14      0.83
    3 x 3        64        64        56      0.91
    3 x 3        128       32        56      0.82
    - spread 2   64        64        28      0.84
    - spread 6   64        64        33      0.85
    1 x 1        512       2048      7       0.77
    1 x 1        1024      256       14      0.93
    1 x 1        128       512       28      1.04, not chosen
    1 x 1        256       64        56      1.03, not chosen
    ===========  ========  ========  ======  =====================
    """
    taps, pixels = math.prod(conv.kernel), math.prod(out)
    seen = 1 + HALO * conv.dilations[0]
    layer = 0 if conv.single else LAID_OUT / (taps * filters)

    def whole(count: int, step: int) -> float:
        return -(-count // step) * step / count

    waits = max(FEW_SUMS / (conv.tile.rows * conv.tile.vectors), 1)
    own = whole(out[1], conv.tile.rows) * whole(filters, conv.tile.columns) * (waits + TRANSPOSED / (channels * taps))
    others = whole(out[1] if other.whole_rows else pixels, other.tile.lanes) * whole(filters, other.tile.rows)
    return own + layer * seen < others + layer * other.planes * min(seen, max(conv.kernel[0], 1 + HALO))


def pixel_source(name: str, conv: PixelConv, epilogue: Epilogue = no_epilogue, prologue: Sequence[str] = ()) -> str:
    """The source of a kernel that convolves; see `PixelConv` for its buffers, dims and work units.

    The epilogue's rows are output channels of all groups, its columns flat positions of the output, `Block.batch` the image. The prologue
    is run on the patch of a convolution that is ``altered``.
    """
    t, tile, packing, width = conv.dtype, conv.tile, conv.packing, conv.tile.columns
    taps = packing.taps
    further = "0"
    if conv.single:  # the last tile of a row begins so early that it is whole
        across = conv.strides[1]
        begin = f"origin + r * {conv.strides[0]} * in_w + min(q, columns - {tile.rows}) * {across}"
        further = f"{tile.rows * across} if length > {tile.rows} else {conv.strides[0]} * in_w"
    else:
        down, across = conv.steps
        begin = f"r * {down} * held_row + q * {across}"
    return f"""\
def {name}(ctx, bufs, dims, lo, hi):
{indent(_arguments(conv), 1)}
    for unit in range(lo, hi):
{indent(_locate(conv), 2)}
        for c0 in range(0, channels, {packing.patch_channels}):
            count = min({packing.patch_channels}, channels - c0)
            further = {further}  # from a tile to the next
{indent(_lay_out(conv), 3)}
{indent(altered(prologue, "rows * held_row"), 3)}
            for q0 in range(0, count * {taps}, {packing.depth}):
                depth = min({packing.depth}, count * {taps} - q0)
                k0 = c0 * {taps} + q0
                table = i64_at(offsets, q0)
                for f in range(first, last, {width}):
                    panel = {t}_at(weights, k0 * padded + f * depth)
                    ahead = {t}_at(panel, {width} * depth)
                    if f + {width} >= last:
                        ahead = {t}_at(weights, (k0 + depth) * padded + first * depth)
                    for r in range(rows):
                        for q in range(0, length, {tile.rows}):
                            start = {t}_at(source, {begin})
                            place = {t}_at(sums, (f - first) * pixels + (r * length + q) * {width})
                            gemm_tile_from({tile.literals()}, k0, start, table, {across}, panel, {width}, place, {width},
                                           depth, ahead, share, further)
                            ahead = {t}_at(ahead, share * depth)
        for f in range(first, last, {width}):
{indent(_finish(conv, epilogue), 3)}
    return 0
"""


def _arguments(conv: PixelConv) -> list[str]:
    """Buffers, dims, and what follows from them: the depth of the sum, the patch, the table of offsets."""
    t, tile, packing = conv.dtype, conv.tile, conv.packing
    lines = [f"x = {t}_p(bufs, 0)", f"w = {t}_p(bufs, 1)"]
    if not conv.in_scratch:
        lines.append(f"out = {t}_p(bufs, 2)")
    names = ["groups", "channels", "filters", "unit_filters", "unit_rows", "unit_columns"]
    names += [f"{kind}_{axis}" for kind in ("in", "out", "pad") for axis in ("h", "w")]
    lines += [f"{name} = dims[{at}]" for at, name in enumerate(names)]
    return [
        *lines,
        *f"""\
k = channels * {packing.taps}
plane = in_h * in_w
out_size = out_h * out_w
padded = udiv(filters + {tile.columns - 1}, {tile.columns}) * {tile.columns}
# Whole tiles of pixels.
pixels = unit_rows * udiv(unit_columns + {tile.rows - 1}, {tile.rows}) * {tile.rows}
offsets = i64_scratch(ctx, 0)
patch = {t}_scratch(ctx, {conv._patch_at})
{chr(10).join(_patch(conv))}
row_units = udiv(out_h + unit_rows - 1, unit_rows)
column_units = udiv(out_w + unit_columns - 1, unit_columns)
parts = udiv(filters + unit_filters - 1, unit_filters)""".splitlines(),
    ]


def _patch(conv: PixelConv) -> list[str]:
    """The shape of the patch, the table of offsets in it, and where sums are: behind it."""
    t, lanes, (down, across), (kernel_h, kernel_w) = conv.dtype, conv.tile.lanes, conv.steps, conv.kernel
    high, wide = conv.reach
    channels, pixels = conv.packing.patch_channels, conv.tile.rows
    if conv.single:
        return f"""\
for c in range(min({channels}, channels)):
    offsets[c] = c * plane
sums = patch""".splitlines()
    return f"""\
held_row = udiv((unit_columns - 1) * {across} + {wide + lanes - 1}, {lanes}) * {lanes}
# An odd number of vectors, so that channels do not meet in the same places of the cache.
held = ((unit_rows - 1) * {down} + {high}) * held_row + {-(-pixels * across // lanes) * lanes + lanes}
held = (udiv(held, {2 * lanes}) * 2 + 1) * {lanes}
for c in range(min({channels}, channels)):
    for p in range({kernel_h}):
        for q in range({kernel_w}):
            offsets[(c * {kernel_h} + p) * {kernel_w} + q] = c * held + p * {conv.dilations[0]} * held_row + q * {conv.dilations[1]}
sums = {t}_at(patch, {channels} * held)""".splitlines()


def _locate(conv: PixelConv) -> list[str]:
    """From the number of the unit to its pixels and output channels, and what it sees of the input."""
    return f"""\
rest = udiv(unit, column_units)
side = (unit - rest * column_units) * unit_columns
part = udiv(rest, row_units)
top = (rest - part * row_units) * unit_rows
outer = udiv(part, parts)
first = (part - outer * parts) * unit_filters
last = min(first + unit_filters, filters)
batch = udiv(outer, groups)
group = outer - batch * groups
rows = min(unit_rows, out_h - top)
columns = min(unit_columns, out_w - side)
length = udiv(columns + {conv.tile.rows - 1}, {conv.tile.rows}) * {conv.tile.rows}
# While a tile is multiplied, its share of the filters that come next is fetched.
share = udiv({conv.tile.columns * conv.tile.rows - 1}, rows * length) + 1
weights = {conv.dtype}_at(w, group * padded * k)
j0 = top * out_w + side
j1 = j0 + (rows - 1) * out_w + columns""".splitlines()


def _lay_out(conv: PixelConv) -> list[str]:
    """Where the unit's pixels find a block of channels: in the input, or in the patch, whose rows are laid out now."""
    t, (down, across), tile = conv.dtype, conv.strides, conv.tile
    apart = across if conv.kernel[1] == 1 else 1
    if conv.single:
        return ["source = x", f"origin = (outer * channels + c0) * plane + top * {down} * in_w + side * {across}"]
    head = f"""\
source = patch
start = side * {across} - pad_w
whole = (columns - 1) * {conv.steps[1]} + {conv.reach[1]}
for r in range((rows - 1) * {conv.steps[0]} + {conv.reach[0]}):
    target = {t}_at(patch, r * held_row)""".splitlines()
    lines = f"""\
row = top * {down} + r * {down if conv.kernel[0] == 1 else 1} - pad_h
begin = min(max(floordiv({apart - 1} - start, {apart}), 0), whole)
stop = max(begin, min(floordiv(in_w + {apart - 1} - start, {apart}), whole))
if not 0 <= row < in_h:
    stop = begin
at = 0
if begin < stop:
    at = (outer * channels + c0) * plane + row * in_w + start + begin * {apart}
line = {t}_at(x, at)""".splitlines()
    lines += padded_copy(conv.masks and apart <= MOST_STRIDE, apart, tile.lanes, "begin", "stop", "whole", f"{t}(0)")
    return [*head, *indent(lines, 1).splitlines()]


def _finish(conv: PixelConv, epilogue: Epilogue) -> list[str]:
    """Put the complete sums of a panel into their place, and run the epilogue on them."""
    t, tile = conv.dtype, conv.tile
    place = f"{t}_at(sums, unit_filters * pixels)" if conv.in_scratch else f"{t}_at(out, (batch * groups * filters + i0) * out_size + j0)"

    def put(at: str, sums: str, count: str) -> str:
        start, sums = f"{t}_at(block, {at})", f"{t}_at(panel, ({sums}) * {tile.columns})"
        return f"transpose_block({ELEMENT_BYTES[t]}, {tile.lanes}, {start}, pitch, {sums}, {tile.columns}, i1 - i0, {count}, 0)"

    lines = f"""\
panel = {t}_at(sums, (f - first) * pixels)
i0 = group * filters + f
i1 = group * filters + min(f + {tile.columns}, last)
block = {place}
pitch = {"pixels" if conv.in_scratch else "out_size"}
if length == columns:
    {put("0", "0", "rows * columns")}
else:
    for r in range(rows):""".splitlines()
    if conv.single:
        lines += f"""\
        whole = length - {tile.rows}
        {put("r * out_w", "r * length", "whole")}
        {put("r * out_w + whole", "(r + 1) * length - (columns - whole)", "columns - whole")}""".splitlines()
    else:
        lines.append(f"        {put('r * out_w', 'r * length', 'columns')}")
    return [*lines, *epilogue(Block())]
