"""Convolutions in one to three dimensions on the CPU for float32 and float64, as products without a matrix of columns.

Three kernels make one convolution:

* the filters are packed once, at prepare, into panels of a few output channels (`pack_filters_source`);
* the input is laid out once a run (`lattice_source`): padded, and where there are strides, taken apart by the remainders of its
  positions, so that every tap of the filter sees its elements of consecutive outputs side by side. A convolution without
  strides and padding reads its input as it is;
* the product (`conv_source`) then needs no copies: row k of its right operand is the laid out input from some offset on, and a
  table of offsets goes to the register tile.

The price is that columns run over the whole length of a laid out row: between two rows of the output there are ``shift``
columns whose sums are thrown away when the block is moved to where it belongs. (For 3×3 filters over 56 columns these are 3.4 %.)

Every output is summed over channels, then taps, in blocks of ``Conv.block_depth``, in the same order wherever it lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnx_numba.ir.dims import dmin, product
from onnx_numba.native.tile import Tile, tile_shape
from onnx_numba.target import Target
from onnx_numba.templates.gemm import ELEMENT_BYTES, Block, Epilogue, Extent, indent, no_epilogue, pack_source


@dataclass(frozen=True)
class Conv:
    """What is fixed in the code of a convolution.

    Attributes
    ----------
    dtype : str
        ``f32`` or ``f64``.
    tile : Tile
        The register tile, see `conv_tile`.
    kernel, strides, dilations : tuple of int
        One number per spatial axis.
    bias : bool
        Whether there is a number per output channel to add.
    plain : bool
        Whether the input is read as it is, which takes strides of 1 and no padding.
    in_scratch : bool
        Whether the output is only ever seen by the epilogue: blocks of it then lie in the worker's scratch and there is no
        buffer for it.
    masks : bool
        Whether the target has masked loads, see `onnx_numba.native.plane.has_masks`.
    block_depth, row_tiles, column_panels : int
        Depth of a block of the sum, which 32 channels of 3×3 filters fill: a short last block costs as much as it sums; tiles and
        panels along one block of the output.

    Notes
    -----
    Buffers of `conv_source`: laid out input (the input itself if ``plain``), packed filters, output [N, groups * filters,
    *out] (unless ``in_scratch``), bias (if there is one), then the epilogue's own from `first_buffer` on.
    Dims: groups, input channels of a group, output channels of a group, the extents of the output; the epilogue's own from
    `first_dim` on.
    """

    dtype: str
    tile: Tile
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    bias: bool = False
    plain: bool = False
    in_scratch: bool = False
    masks: bool = False
    block_depth: int = 288
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
    def phases(self) -> tuple[int, ...]:
        """How many remainders of positions by the stride the taps meet, per axis."""
        return tuple(
            s // math.gcd(s, d) if k > 1 else 1 for k, s, d in zip(self.kernel, self.strides, self.dilations, strict=True)
        )

    @property
    def shifts(self) -> tuple[int, ...]:
        """How many elements a row of the laid out input is longer than one of the output, per axis."""
        return tuple((k - 1) * d // s for k, s, d in zip(self.kernel, self.strides, self.dilations, strict=True))

    @property
    def straight(self) -> bool:
        """Whether columns are the positions of the output, without any in between."""
        return not any(self.shifts[1:])

    @property
    def block_rows(self) -> int:
        """Output channels in one work unit."""
        return self.tile.rows * self.row_tiles

    @property
    def block_columns(self) -> int:
        """Columns in one work unit."""
        return self.tile.columns * self.column_panels

    @property
    def first_buffer(self) -> int:
        """Index of the epilogue's first buffer."""
        return 2 + (not self.in_scratch) + self.bias

    @property
    def first_dim(self) -> int:
        """Index of the epilogue's first dim."""
        return 3 + self.rank

    def lattice_size(self, images: Extent, channels: Extent, out: Sequence[Extent]) -> Extent:
        """Elements of the laid out input: those of all planes, and a tile's width that may be read beyond them.

        ``images * channels * prod(phases) * prod(out + shifts) + tile.columns``
        """
        lengths = [o + s for o, s in zip(out, self.shifts, strict=True)]
        return images * channels * math.prod(self.phases) * product(lengths) + self.tile.columns

    def packed_size(self, groups: int, filters: Extent, channels: Extent) -> Extent:
        """Elements of the packed filters: ``groups * ceil(filters / tile.rows) * tile.rows * channels * taps``."""
        return groups * ((filters + self.tile.rows - 1) // self.tile.rows) * self.tile.rows * channels * self.taps

    def columns(self, out: Sequence[Extent]) -> Extent:
        """Columns of the product, from the first position of the output to its last.

        One axis: ``o0``; two: ``(o0 - 1) * (o1 + shift1) + o1``; three: ``((o0 - 1) * (o1 + shift1) + o1 - 1) * (o2 + shift2)
        + o2``.
        """
        total = out[0]
        for extent, shift in zip(out[1:], self.shifts[1:], strict=True):
            total = (total - 1) * (extent + shift) + extent
        return total

    def work_units(self, images: Extent, groups: int, filters: Extent, out: Sequence[Extent]) -> Extent:
        """``images * groups * ceil(filters / block_rows) * ceil(columns / block_columns)``, 0 for an empty output."""
        row_blocks = (filters + self.block_rows - 1) // self.block_rows
        column_blocks = (self.columns(out) + self.block_columns - 1) // self.block_columns
        return dmin(product(out), 1) * images * groups * row_blocks * column_blocks

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch that every worker needs."""
        return _edge_at(self) + self.plain * self.block_depth * self.tile.columns * ELEMENT_BYTES[self.dtype]


def _sums_at(conv: Conv) -> int:
    """Where in scratch the block of sums is: after the two tables of offsets."""
    return 2 * 8 * conv.block_depth


def _edge_at(conv: Conv) -> int:
    """Where in scratch the copy of the last panel is."""
    held = conv.in_scratch or not conv.straight
    return _sums_at(conv) + held * conv.block_rows * conv.block_columns * ELEMENT_BYTES[conv.dtype]


def conv_tile(target: Target, dtype: str, filters: int | None = None, columns: int | None = None) -> Tile:
    """The tile for a number of output channels in a group, and of columns, as far as they are known.

    Rows divide the channels evenly (64 channels are 5 tiles of 13 rows, not of 14); tiles of few rows are made wide, which
    hides the latency of the multiply-add.

    Examples
    --------
    >>> conv_tile(Target("x86_64-unknown-linux-gnu", "znver4"), "f32", filters=64)
    Tile(rows=13, vectors=2, lanes=16, fused=True)
    """
    base = tile_shape(target, dtype)
    rows = base.rows if filters is None else max(1, -(-filters // -(-max(filters, 1) // base.rows)))
    registers = 32 if target.lanes == 16 or target.arch == "aarch64" else 16
    most = 4 if rows > 2 else 8
    if columns is not None:
        most = min(most, max(1, -(-columns // base.lanes)))
    fitting = [v for v in range(1, most + 1) if rows * v + v + 1 < registers]
    return Tile(rows, max(fitting, default=1), base.lanes, base.fused)


def pack_filters_source(name: str, conv: Conv) -> str:
    """The kernel that packs filters [groups * filters, channels, *kernel].

    Buffers: filters, packed filters. Dims: filters of a group, K = channels * taps, 1, K, groups, filters * K. A work unit is
    one panel: there are ``groups * ceil(filters / tile.rows)``.
    """
    return pack_source(name, conv.dtype, conv.tile.rows, conv.tile.lanes, 1)


def lattice_source(name: str, conv: Conv) -> str:
    """The kernel that lays out the input [N, C, *extents].

    Buffers: input, laid out input. Dims: the extents of the input, those of the output, the padding before the first element,
    per axis each. A work unit is one plane: there are N * C.
    """
    t, axes = conv.dtype, range(conv.rank)
    lines = [f"size{d} = dims[{d}]" for d in axes]
    lines += [f"length{d} = dims[{conv.rank + d}] + {conv.shifts[d]}" for d in axes]
    lines += [f"pad{d} = dims[{2 * conv.rank + d}]" for d in axes]
    lines += ["plane = " + " * ".join(map(str, [*conv.phases, *(f"length{d}" for d in axes)]))]
    lines += ["image = " + " * ".join(f"size{d}" for d in axes)]
    return f"""\
def {name}(ctx, bufs, dims, lo, hi):
    x = {t}_p(bufs, 0)
    out = {t}_p(bufs, 1)
{indent(lines, 1)}
    for unit in range(lo, hi):
        source = {t}_at(x, unit * image)
        target = {t}_at(out, unit * plane)
        at = 0
{indent(_lattice_phases(conv), 2)}
    return 0
"""


def _lattice_phases(conv: Conv) -> list[str]:
    """Nested loops over phases; for each the bounds within which positions lie in the input, then its elements."""
    lines, last = [], conv.rank - 1
    for d in range(conv.rank):
        stride, step = conv.strides[d], math.gcd(conv.strides[d], conv.dilations[d])
        pad = "    " * d
        lines += [
            f"{pad}for phase{d} in range({conv.phases[d]}):",
            f"{pad}    begin{d} = pad{d} - phase{d} * {step}",
            f"{pad}    first{d} = min(max(0, floordiv(begin{d} + {stride - 1}, {stride})), length{d})",
            f"{pad}    stop{d} = max(first{d}, min(length{d}, floordiv(size{d} + begin{d} + {stride - 1}, {stride})))",
        ]
    inside, place = "    " * conv.rank, "0"
    for d in range(last):
        lines += [f"{inside}for y{d} in range(length{d}):"]
        inside += "    "
        place = f"({place}) * size{d} + y{d} * {conv.strides[d]} - begin{d}" if d else f"y{d} * {conv.strides[d]} - begin{d}"
    within = " and ".join(f"first{d} <= y{d} < stop{d}" for d in range(last)) or "first0 < stop0"
    start = f"({place}) * size{last} - begin{last}" if last else "0 - begin0"
    row = f"""\
first, stop, start = 0, 0, 0
if {within}:
    first, stop = first{last}, stop{last}
    start = {start} + first * {conv.strides[last]}
{_lattice_row(conv)}
at += length{last}""".splitlines()
    return lines + [inside + line for line in row]


def _lattice_row(conv: Conv) -> str:
    t, stride, length = conv.dtype, conv.strides[-1], f"length{conv.rank - 1}"
    if conv.masks:
        return f"padded_row({stride}, {conv.tile.lanes}, {t}_at(target, at), {t}_at(source, start), first, stop, {length})"
    return f"""\
for y in range(first):
    target[at + y] = {t}(0)
for y in range(stop - first):
    target[at + first + y] = source[start + y * {stride}]
for y in range(stop, {length}):
    target[at + y] = {t}(0)"""


def conv_source(name: str, conv: Conv, epilogue: Epilogue = no_epilogue) -> str:
    """The source of a kernel that convolves; see `Conv` for its buffers, dims and work units.

    The epilogue's rows are output channels of all groups, its columns flat positions of the output, `Block.batch` the image.

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
    t, tile, width = conv.dtype, conv.tile, conv.tile.columns
    keep = "1" if conv.bias and conv.straight else "k0"
    return f"""\
def {name}(ctx, bufs, dims, lo, hi):
{indent(_arguments(conv), 1)}
{indent(_taps(conv), 1)}
    k = channels * {conv.taps}
    offsets = i64_scratch(ctx, 0)
{indent(_edge_table(conv), 1)}
    row_blocks = udiv(filters + {conv.block_rows - 1}, {conv.block_rows})
    column_blocks = udiv(total + {conv.block_columns - 1}, {conv.block_columns})
    for unit in range(lo, hi):
{indent(_locate(conv), 2)}
{indent(_start(conv), 2)}
        for k0 in range(0, k, {conv.block_depth}):
            depth = min({conv.block_depth}, k - k0)
            keep = {keep}
            channel = udiv(k0, {conv.taps})
            tap = k0 - channel * {conv.taps}
            start = channel * plane
            for q in range(depth):
                offsets[q] = start + taps[tap]
                tap += 1
                if tap == {conv.taps}:
                    tap = 0
                    start += plane
            for j in range(0, columns, {width}):
                strip = {t}_at(source, j)
                table = offsets
{indent(_edge(conv), 4)}
                for i in range(0, rows, {tile.rows}):
                    panel = {t}_at(weights, i * k + k0 * {tile.rows})
                    place = {t}_at(sums, i * sums_pitch + j)
                    gemm_tile_at({tile.literals()}, keep, panel, 1, {tile.rows}, strip, table, place, sums_pitch, rows - i,
                                 columns - j, depth)
{indent(_settle(conv), 2)}
{indent(epilogue(Block()), 2)}
    return 0
"""


def _arguments(conv: Conv) -> list[str]:
    """Buffers, dims, and what follows from them: lengths, steps between rows of the laid out input, the number of columns."""
    t, axes = conv.dtype, range(conv.rank)
    lines = [f"x = {t}_p(bufs, 0)", f"w = {t}_p(bufs, 1)"]
    if not conv.in_scratch:
        lines.append(f"out = {t}_p(bufs, 2)")
    if conv.bias:
        lines.append(f"bias = {t}_p(bufs, {conv.first_buffer - 1})")
    lines += ["groups = dims[0]", "channels = dims[1]", "filters = dims[2]"]
    lines += [f"out{d} = dims[{3 + d}]" for d in axes]
    lines += [f"length{d} = out{d} + {conv.shifts[d]}" for d in axes]
    lines += [f"step{conv.rank - 1} = 1"]
    lines += [f"step{d} = step{d + 1} * length{d + 1}" for d in reversed(axes[:-1])]
    lines += ["lattice = step0 * length0", f"plane = lattice * {math.prod(conv.phases)}"]
    lines += ["out_size = " + " * ".join(f"out{d}" for d in axes)]
    return lines + ["total = 1 + " + " + ".join(f"(out{d} - 1) * step{d}" for d in axes)]


def _taps(conv: Conv) -> list[str]:
    """The table of where, in a laid out plane, each tap finds its element of the first output."""
    lines = [f"taps = i64_local({conv.taps})", "at = 0", "before = 0"]
    outer, pad = "before", ""
    for d in range(conv.rank):
        stride, dilation = conv.strides[d], conv.dilations[d]
        lattices = math.prod(conv.phases[d + 1 :])
        step = math.gcd(stride, dilation)
        lines += [
            f"{pad}for t{d} in range({conv.kernel[d]}):",
            f"{pad}    jump{d} = udiv(t{d} * {dilation}, {stride})",
            f"{pad}    phase{d} = udiv(t{d} * {dilation} - jump{d} * {stride}, {step})",
            f"{pad}    tap{d} = {outer} + phase{d} * {lattices} * lattice + jump{d} * step{d}",
        ]
        outer, pad = f"tap{d}", pad + "    "
    return lines + [f"{pad}taps[at] = {outer}", f"{pad}at += 1"]


def _edge_table(conv: Conv) -> list[str]:
    """Room for a copy of the last panel of a plain input, beyond which there may be no memory, and its rows' offsets."""
    if not conv.plain:
        return []
    return [
        f"edge = {conv.dtype}_scratch(ctx, {_edge_at(conv)})",
        f"edge_offsets = i64_scratch(ctx, {8 * conv.block_depth})",
        f"for q in range({conv.block_depth}):",
        f"    edge_offsets[q] = q * {conv.tile.columns}",
    ]


def _edge(conv: Conv) -> list[str]:
    if not conv.plain:
        return []
    width = conv.tile.columns
    return f"""\
if v0 + j + {width} > total:
    for q in range(depth):
        for jj in range(columns - j):
            edge[q * {width} + jj] = strip[offsets[q] + jj]
    strip = edge
    table = edge_offsets""".splitlines()


def _locate(conv: Conv) -> list[str]:
    """From the number of the unit to its block, in columns and in positions of the output."""
    t, held = conv.dtype, conv.in_scratch or not conv.straight
    lines = f"""\
rest = udiv(unit, column_blocks)
v0 = (unit - rest * column_blocks) * {conv.block_columns}
v1 = min(v0 + {conv.block_columns}, total)
columns = v1 - v0
outer = udiv(rest, row_blocks)
r0 = (rest - outer * row_blocks) * {conv.block_rows}
rows = min({conv.block_rows}, filters - r0)
batch = udiv(outer, groups)
group = outer - batch * groups
source = {t}_at(x, outer * channels * plane + v0)
weights = {t}_at(w, (group * udiv(filters + {conv.tile.rows - 1}, {conv.tile.rows}) * {conv.tile.rows} + r0) * k)
i0 = group * filters + r0
i1 = i0 + rows""".splitlines()
    lines += [*_position(conv, "j0", "v0"), *_position(conv, "j1", "v1")]
    if held:
        lines += [f"sums = {t}_scratch(ctx, {_sums_at(conv)})", f"sums_pitch = {conv.block_columns}"]
    if conv.in_scratch:
        lines += ["block = sums", "pitch = sums_pitch"]
    else:
        lines += [f"block = {t}_at(out, (batch * groups * filters + i0) * out_size + j0)", "pitch = out_size"]
    return lines if held else lines + ["sums = block", "sums_pitch = pitch"]


def _position(conv: Conv, name: str, column: str) -> list[str]:
    """The flat position in the output of the first output at or after a column."""
    if conv.straight:
        return [f"{name} = {column}"]
    lines, rest, whole = [f"{name} = 0"], column, "1"
    lines = [f"rest0 = {column}"]
    for d in range(conv.rank - 1):
        lines += [f"y{d} = udiv(rest{d}, step{d})", f"rest{d + 1} = rest{d} - y{d} * step{d}"]
    last = conv.rank - 1
    rest, whole = f"min(rest{last}, out{last})", f"out{last}"
    for d in reversed(range(last)):
        if d:
            lines.append(f"within{d} = min(y{d} * {whole} + {rest}, out{d} * {whole})")
            rest = f"within{d}"
        else:
            lines.append(f"{name} = y0 * {whole} + {rest}")
        whole = f"out{d} * {whole}"
    return lines


def _start(conv: Conv) -> list[str]:
    """What the block is before the first part of the sum, where it is not moved afterwards: the bias."""
    t = conv.dtype
    if not conv.straight or not conv.bias:
        return f"""\
if k == 0:
    for i in range(rows):
        for j in range(columns):
            sums[i * sums_pitch + j] = {t}(0)""".splitlines()
    return """\
for i in range(rows):
    value = bias[i0 + i]
    for j in range(columns):
        sums[i * sums_pitch + j] = value""".splitlines()


def _settle(conv: Conv) -> list[str]:
    """Move runs of columns that are outputs to where they belong, and add the bias on the way."""
    if conv.straight:
        return []
    last = conv.rank - 1
    lines = ["v = v0", "at = 0", "while v < v1:", "    rest0 = v"]
    for d in range(last):
        lines += [f"    y{d} = udiv(rest{d}, step{d})", f"    rest{d + 1} = rest{d} - y{d} * step{d}"]
    lines.append(f"    following = v - rest{last} + step{last - 1}")
    inside = " and ".join([*(f"y{d} < out{d}" for d in range(1, last)), f"rest{last} < out{last}"])
    bias = " + bias[i0 + i]" if conv.bias else ""
    lines += f"""\
    if {inside}:
        run = min(out{last} - rest{last}, v1 - v)
        for i in range(rows):
            source_row = {conv.dtype}_at(sums, i * sums_pitch + v - v0)
            target_row = {conv.dtype}_at(block, i * pitch + at)
            for j in range(run):
                target_row[j] = source_row[j]{bias}
        at += run
    v = following""".splitlines()
    return lines
