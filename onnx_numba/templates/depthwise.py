"""Convolutions of one channel each (groups = channels) in one and two dimensions, for targets with masked vector loads.

There is nothing to share between filters here, so the input is read in place, without laying it out: see
`onnx_numba.native.plane`. Every output is summed over the taps that lie inside the image, in order; the bias is added last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_numba.ir.dims import product
from onnx_numba.native.plane import has_masks
from onnx_numba.native.tile import tile_shape
from onnx_numba.record import record
from onnx_numba.target import Target
from onnx_numba.templates.gemm import ELEMENT_BYTES, Block, Epilogue, Extent, indent, no_epilogue

MOST_TAPS = 64
"""Taps are unrolled; larger filters go through `onnx_numba.templates.conv`."""

MOST_STRIDE = 4


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
        Whether the output is only ever seen by the epilogue: a plane of it then lies in the worker's scratch.

    Notes
    -----
    Buffers: input [N, C, *extents], filters [C * multiplier, 1, *kernel] as they are, output (unless ``in_scratch``), bias
    (if there is one), then the epilogue's own from `first_buffer` on. Dims: channels of the input, multiplier, the extents of
    the input, those of the output, the padding before the first element, per axis each; the epilogue's own from `first_dim`
    on. A work unit is one plane of the output: there are N * C * multiplier.
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
        return 2 + 3 * self.rank

    def scratch_bytes(self, dims: Sequence[Extent]) -> Extent:
        """Bytes of scratch that every worker needs, for the kernel's dims: a plane of the output if it is ``in_scratch``."""
        return self.in_scratch * product(dims[2 + self.rank : 2 + 2 * self.rank]) * ELEMENT_BYTES[self.dtype]


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

    The epilogue is called with one output channel as its only row, and all positions of the output as columns.
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
    lines += ["channels = dims[0]", "multiplier = dims[1]", *(f"{v} = dims[{2 + i}]" for i, v in enumerate(names))]
    if flat:
        lines += ["in_h = 1", "out_h = 1", "pad_h = 0"]
    block = f"{t}_scratch(ctx, 0)" if conv.in_scratch else f"{t}_at(out, unit * out_size)"
    return f"""\
def {name}(ctx, bufs, dims, lo, hi):
{indent(lines, 1)}
    filters = channels * multiplier
    out_size = out_h * out_w
    for unit in range(lo, hi):
        batch = udiv(unit, filters)
        i0 = unit - batch * filters
        i1 = i0 + 1
        j0 = 0
        j1 = out_size
        block = {block}
        pitch = out_size
        source = {t}_at(x, udiv(unit, multiplier) * in_h * in_w)
        weights = {t}_at(w, i0 * {math.prod(conv.kernel)})
        added = {"bias[i0]" if conv.bias else f"{t}(0)"}
        depthwise_plane({literals}, source, weights, added, block, in_h, in_w, out_h, out_w, pad_h, pad_w)
{indent(epilogue(Block()), 2)}
    return 0
"""
