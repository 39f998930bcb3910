"""Regions of interest, and convolutions whose windows are bent: RoiAlign, MaxRoiPool, DeformConv."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir import plan
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import DTYPES, I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.convolution import biased, require_groups
from onnx_numba.ops.points import Points
from onnx_numba.ops.product import product
from onnx_numba.ops.registry import op
from onnx_numba.ops.window import window
from onnx_numba.templates import detect as kernels

Extent = Dim | int
Index = tuple[Dim, ...]
Ints = Sequence[int] | None

_CHANNELS = 64
"""Channels in a work unit of RoiAlign, for which places and weights of samples are computed once; more gain nothing."""


@op("RoiAlign", since=10, reviewed=10)
def roi_align_10(
    b: Builder, x: Tensor, rois: Tensor, batch_indices: Tensor, *, mode: str, output_height: int, output_width: int,
    sampling_ratio: int, spatial_scale: float,
) -> Tensor:  # fmt: skip
    """Samples of regions, whose coordinates are those of corners."""
    return roi_align(
        b, x, rois, batch_indices, coordinate_transformation_mode="output_half_pixel", mode=mode, output_height=output_height,
        output_width=output_width, sampling_ratio=sampling_ratio, spatial_scale=spatial_scale,
    )  # fmt: skip


@op("RoiAlign", since=16, reviewed=22)
def roi_align(
    b: Builder, x: Tensor, rois: Tensor, batch_indices: Tensor, *, coordinate_transformation_mode: str, mode: str,
    output_height: int, output_width: int, sampling_ratio: int, spatial_scale: float,
) -> Tensor:  # fmt: skip
    """Samples of regions."""
    if rois.rank != 2 or batch_indices.rank != 1 or sampling_ratio < 0:
        b.fail(f"rois of rank {rois.rank}, batch_indices of rank {batch_indices.rank}, sampling_ratio {sampling_ratio}")
    if mode not in ("avg", "max") or coordinate_transformation_mode not in ("half_pixel", "output_half_pixel"):
        b.fail(f"mode {mode!r} with coordinate_transformation_mode {coordinate_transformation_mode!r} is unknown")
    half = coordinate_transformation_mode == "half_pixel"
    b.require_equal(rois.shape[1], 4, "coordinates of a region")
    b.require_equal(batch_indices.shape[0], rois.shape[0], "batch indices")
    how = {"RATIO": sampling_ratio, "OFFSET": 0.5 if half else 0.0, "CLAMP": not half, "MAXIMUM": mode == "max", "SCALE": spatial_scale}
    inputs = [rois, b.cast(batch_indices, I64)]
    units = rois.shape[0] * d.ceildiv(x.shape[1], _CHANNELS) * output_height
    return _pool_regions(b, kernels.roi_align, x, inputs, (output_height, output_width), units, {**how, "CHANNELS": _CHANNELS})


@op("MaxRoiPool", since=1, reviewed=22)
def max_roi_pool(b: Builder, x: Tensor, rois: Tensor, *, pooled_shape: Sequence[int], spatial_scale: float) -> Tensor:
    """The greatest elements of the bins of regions."""
    if rois.rank != 2:
        b.fail(f"rois of rank 2 are expected, they have rank {rois.rank}")
    b.require_equal(rois.shape[1], 5, "numbers of a region")
    units = rois.shape[0] * x.shape[1]
    return _pool_regions(b, kernels.max_roi_pool, x, [rois], tuple(pooled_shape), units, {"SCALE": spatial_scale})


def _pool_regions(
    b: Builder, body: Any, x: Tensor, inputs: Sequence[Tensor], size: tuple[int, ...], units: Extent, constants: dict[str, Any]
) -> Tensor:  # fmt: skip
    if x.rank != 4 or len(size) != 2 or min(size) < 1:
        b.fail(f"an image of rank 4 and two extents of at least 1 are expected, rank {x.rank} and {size} came")
    for axis in (0, 2, 3):
        b.require_elements(x.shape[axis], inputs[0].shape[0] * x.shape[1], f"axis {axis} of the image")
    kind = DTYPES[x.dtype.compute]
    (result,) = b.template(
        body, [b.cast(x, kind), b.cast(inputs[0], kind), *inputs[1:]], [(kind, (inputs[0].shape[0], x.shape[1], *size))],
        total=units, dims=(*x.shape, *size), types={"X": kind},
        constants={**constants, "INDEX_RANGE": plan.INDEX_RANGE}, scratch=constants.get("CHANNELS", 0) * kind.size,
    )  # fmt: skip
    return b.cast(result, x.dtype)


@op("DeformConv", since=19, reviewed=22)
def deform_conv(
    b: Builder, x: Tensor, w: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None, *,
    dilations: Ints = None, group: int = 1, kernel_shape: Ints = None, offset_group: int = 1, pads: Ints = None,
    strides: Ints = None,
) -> Tensor:  # fmt: skip
    """A convolution that reads every element of a window at a place of its own, between elements by linear interpolation."""
    rank = x.rank - 2
    if rank < 1 or w.rank != x.rank:
        b.fail(f"an image of rank {x.rank} and weights of rank {w.rank}")
    require_groups(b, w.shape[0], group, "output channels")
    require_groups(b, x.shape[1], offset_group, "input channels")
    kernel = w.shape[2:]
    for k, extent in enumerate(kernel_shape or kernel):
        b.require_equal(kernel[k], extent, f"kernel_shape[{k}]")
    view = window(b, x.shape[2:], kernel, strides=strides, pads=pads, dilations=dilations)
    b.require_equal(w.shape[1] * group, x.shape[1], "input channels")
    batch, (features, channels), out = x.shape[0], w.shape[:2], view.outputs
    # Of every point of a window they are the same in all channels of an offset group.
    points = (batch, offset_group, *kernel, *out)
    offsets = b.reshape(offset, (batch, offset_group, *kernel, rank, *out))
    strength = None if mask is None else b.reshape(mask, points)
    kind = DTYPES[x.dtype.compute]

    def place(at: Index, k: int) -> Expr:
        inner, p = at[2 : 2 + rank], at[2 + rank :]
        start = p[k] * view.strides[k] + inner[k] * view.dilations[k] - view.before[k]
        return e.cast(e.dimval(start), kind) + e.cast(offsets[(*at[: 2 + rank], k, *p)], kind)

    def tap(k: int, side: Dim, at: Index) -> tuple[Expr, Expr]:
        """An element on axis k and its weight; -1 and nothing for one outside, even of an infinite offset, whose weight is no number."""
        exact = place(at, k)
        base = e.unary("floor", exact)
        found = e.cast(base, I64) + e.dimval(side)
        inside = (found >= 0) & (found < e.dimval(x.shape[2 + k]))
        weight = 1.0 - e.unary("abs", e.cast(e.dimval(side), kind) - (exact - base))
        return e.where(inside, found, e.lit(-1, I64)), e.where(inside, weight, e.lit(0.0, kind))

    made = Points(b, x, points, 2, tap, kind, True)
    shared = d.floordiv(x.shape[1], offset_group)

    def sample(*i: Dim) -> Expr:
        at = (i[0], 0 if offset_group == 1 else d.floordiv(i[1], shared), *i[2:])
        total = made.total(i[:2], at)
        return total if strength is None else total * e.cast(strength[at], kind)

    depth, columns = channels * d.product(kernel), d.product(out)
    samples = b.reshape(b.compute((batch, x.shape[1], *kernel, *out), sample, kind), (batch, group, depth, columns))
    filters = b.reshape(b.cast(w, kind), (1, group, d.floordiv(features, group), depth))
    result = b.cast(b.reshape(product(b, filters, samples), (batch, features, *out)), x.dtype)
    return result if bias is None else biased(b, result, bias)
