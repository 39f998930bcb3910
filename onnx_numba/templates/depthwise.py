"""Convolutions of one channel each (groups = channels) in one and two dimensions, for targets with masked vector loads.

There is nothing to share between filters here, so the input is read in place, without laying it out: see
`onnx_numba.native.plane`. A plane is made a few rows at a time, so that what is made of them finds them in the first cache. Every output
is summed over the taps that lie inside the image, in order; the bias is added last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_numba.ir.dims import ceildiv, dmax, dmin, floordiv
from onnx_numba.native.plane import TOGETHER
from onnx_numba.native.tile import tile_shape
from onnx_numba.native.vector import has_masks
from onnx_numba.record import record
from onnx_numba.target import Target
from onnx_numba.templates.block import ELEMENT_BYTES, Block, Epilogue, Extent, indent, no_epilogue

MOST_TAPS = 64
"""Taps are unrolled; larger filters go through `onnx_numba.templates.conv`."""

MOST_STRIDE = 4

BAND_BYTES = 24 << 10
"""Bytes of the rows that are made at a time and of those that they see, most of a first cache: columns are walked down in turn."""


@record
class Depthwise:
    """What is fixed in the code of a depthwise convolution.

    Attributes
    ----------
    dtype : str
        ``f32`` or ``f64``.
    lanes : int
        Elements of a vector.
    kernel, strides, dilations : tuple of int
        One or two numbers.
    bias : bool
        Whether there is a number per output channel to add.
    in_scratch : bool
        Whether the output is only ever seen by the epilogue: its rows then lie in the worker's scratch.

    Notes
    -----
    Buffers: input [N, C, *extents], filters [C * multiplier, 1, *kernel] as they are, output (unless ``in_scratch``), bias
    (if there is one), then the epilogue's own from `first_buffer` on. Dims: those of `dims`, the epilogue's own from `first_dim` on. A
    work unit is some rows of one plane of the output.
    """

    dtype: str
    lanes: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    bias: bool = False
    in_scratch: bool = False

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def first_buffer(self) -> int:
        """Index of the epilogue's first buffer."""
        return 2 + (not self.in_scratch) + self.bias

    @property
    def first_dim(self) -> int:
        """Index of the epilogue's first dim."""
        return 3 + 3 * self.rank

    def dims(
        self, channels: Extent, multiplier: Extent, size: Sequence[Extent], out: Sequence[Extent], before: Sequence[Extent]
    ) -> tuple[Extent, ...]:  # fmt: skip
        """The kernel's own dims.

        They are: channels of the input, the multiplier, rows of a unit, the extents of the input, those of the output, the padding
        before the first element, per axis each. Rows are divided evenly, and so that as many as are summed side by side are whole.
        """
        height = out[0] if self.rank == 2 else 1
        row_bytes = dmax(out[-1] * (1 + math.prod(self.strides)) * ELEMENT_BYTES[self.dtype], 1)
        most = dmax(floordiv(BAND_BYTES, row_bytes), TOGETHER)
        rows = ceildiv(ceildiv(height, dmax(ceildiv(height, most), 1)), TOGETHER) * TOGETHER
        return (channels, multiplier, dmax(rows, 1), *size, *out, *before)

    def work_units(self, images: Extent, dims: Sequence[Extent]) -> Extent:
        """``images * channels * multiplier * ceil(rows of the output / rows of a unit)``, for the kernel's dims."""
        bands = ceildiv(dims[3 + self.rank], dims[2]) if self.rank == 2 else 1
        return images * dims[0] * dims[1] * bands

    def unit_elements(self, dims: Sequence[Extent]) -> Extent:
        """Elements of the output that a unit makes at most, for the kernel's dims."""
        return dmin(dims[2], dims[3 + self.rank]) * dims[4 + self.rank] if self.rank == 2 else dims[3 + self.rank]

    def scratch_bytes(self, dims: Sequence[Extent]) -> Extent:
        """Bytes of scratch that every worker needs, for the kernel's dims: a unit's part of the output if it is ``in_scratch``."""
        return self.in_scratch * self.unit_elements(dims) * ELEMENT_BYTES[self.dtype]


def depthwise(
    target: Target, dtype: str, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...], bias: bool = False,
    in_scratch: bool = False,
) -> Depthwise | None:  # fmt: skip
    """The specification of a depthwise convolution, or None where the general one is better."""
    if not has_masks(target) or len(kernel) > 2 or math.prod(kernel) > MOST_TAPS or strides[-1] > MOST_STRIDE:
        return None
    return Depthwise(dtype, tile_shape(target, dtype).lanes, kernel, strides, dilations, bias, in_scratch)


def depthwise_source(name: str, conv: Depthwise, epilogue: Epilogue = no_epilogue) -> str:
    """The source of a kernel that convolves plane by plane; see `Depthwise` for its buffers, dims and work units.

    The epilogue is called with one output channel as its only row, and some rows' positions of the output as columns.
    """
    t, flat = conv.dtype, conv.rank == 1
    kernel, strides, dilations = ((1, *axis) if flat else axis for axis in (conv.kernel, conv.strides, conv.dilations))
    literals = ", ".join(map(str, [*kernel, *strides, *dilations, conv.lanes, 1]))
    names = [f"{kind}_{axis}" for kind in ("in", "out", "pad") for axis in ("h", "w")[flat:]]
    lines = [f"x = {t}_p(bufs, 0)", f"w = {t}_p(bufs, 1)"]
    if not conv.in_scratch:
        lines.append(f"out = {t}_p(bufs, 2)")
    if conv.bias:
        lines.append(f"bias = {t}_p(bufs, {conv.first_buffer - 1})")
    lines += ["channels = dims[0]", "multiplier = dims[1]", "band = dims[2]", *(f"{v} = dims[{3 + i}]" for i, v in enumerate(names))]
    if flat:
        lines += ["in_h = 1", "out_h = 1", "pad_h = 0"]
    block = f"{t}_scratch(ctx, 0)" if conv.in_scratch else f"{t}_at(out, plane * out_size + j0)"
    return f"""\
def {name}(ctx, bufs, dims, lo, hi):
{indent(lines, 1)}
    filters = channels * multiplier
    out_size = out_h * out_w
    bands = udiv(out_h + band - 1, band)
    for unit in range(lo, hi):
        plane = udiv(unit, bands)
        y0 = (unit - plane * bands) * band
        height = min(band, out_h - y0)
        batch = udiv(plane, filters)
        i0 = plane - batch * filters
        i1 = i0 + 1
        j0 = y0 * out_w
        j1 = j0 + height * out_w
        block = {block}
        pitch = out_size
        source = {t}_at(x, udiv(plane, multiplier) * in_h * in_w)
        weights = {t}_at(w, i0 * {math.prod(conv.kernel)})
        added = {"bias[i0]" if conv.bias else f"{t}(0)"}
        above = pad_h - y0 * {strides[0]}
        depthwise_plane({literals}, source, weights, added, block, in_h, in_w, height, out_w, above, pad_w)
{indent(epilogue(Block()), 2)}
    return 0
"""
