"""Convolutions in tiles of pixels: beside those of the other template, bit for bit."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from template_kernels import check_guards, guarded, run, splits
from test_templates_conv import TYPES, convolve, host_conv, numbers, out_extents, square

from onnx_numba.native.tile import Tile
from onnx_numba.native.vector import has_masks
from onnx_numba.target import LEVELS, TARGETS, Target, host_target
from onnx_numba.templates.conv import Conv, conv_tile, pack_filters_source
from onnx_numba.templates.pixels import PixelConv, pixel_source, pixel_tile, saves

SMALL = {"block_depth": 16, "patch_blocks": 1}
WIDE = Target("x86_64-unknown-linux-gnu", "x86-64-v4", LEVELS["x86-64-v4"])


def host_pixels(kernel, strides, width, dtype="f32", **fields):
    fields = {"masks": has_masks(host_target()), **fields}
    return PixelConv(dtype, pixel_tile(host_target(), dtype, width), kernel, strides, **fields)


def by_pixels(conv, x, w, pads, groups=1, epilogue=None, ranges=None, python=False, extra=()):
    """Run the two kernels."""
    filters, channels = len(w) // groups, w.shape[1]
    out = out_extents(Conv(conv.dtype, conv.tile, conv.kernel, conv.strides, conv.dilations), x.shape[2:], pads)
    k = channels * math.prod(conv.kernel)
    held, packed = guarded(conv.packing.packed_size(groups, filters, channels), x.dtype)
    dims = [filters, k, 1, k, groups, filters * k]
    panels = groups * -(-filters // conv.tile.columns)
    run(pack_filters_source("kernel", conv.packing), [w, packed], dims, [(0, panels)], python=python)
    check_guards(held)
    held, y = guarded((len(x), len(w), *out), x.dtype)
    own = conv.dims(len(x), groups, channels, filters, x.shape[2:], out, pads[:2])
    text = pixel_source("kernel", conv, *([epilogue] if epilogue else []))
    buffers = [x, packed, *([] if conv.in_scratch else [y]), *extra]
    units = conv.work_units(len(x), own)
    run(text, buffers, own, ranges(units) if ranges else [(0, units)], conv.scratch_bytes(own), python)
    check_guards(held)
    return y


CASES = [
    # kernel, strides, pads (begin…, end…), extents, dilations other than 1
    ((3, 3), (1, 1), (1, 1, 1, 1), (7, 7)),
    ((3, 3), (1, 1), (1, 1, 1, 1), (9, 55)),
    ((3, 3), (2, 2), (1, 1, 1, 1), (21, 20)),
    ((3, 3), (2, 2), (0, 0, 1, 1), (28, 28)),
    ((7, 7), (2, 2), (3, 3, 3, 3), (30, 31)),
    ((1, 1), (1, 1), (0, 0, 0, 0), (1, 49)),
    ((1, 1), (1, 1), (0, 0, 0, 0), (1, 251)),
    ((1, 1), (2, 2), (0, 0, 0, 0), (15, 41)),
    ((1, 1), (3, 2), (0, 0, 0, 0), (9, 12)),
    ((1, 5), (1, 1), (0, 2, 0, 2), (4, 33)),
    ((1, 3), (1, 1), (0, 2, 0, 0), (1, 131)),
    ((5, 1), (3, 2), (4, 0, 0, 0), (33, 4)),
    ((3, 1), (1, 9), (1, 0, 1, 0), (5, 40)),
    ((2, 4), (2, 3), (1, 3, 0, 2), (10, 26)),
    ((4, 4), (1, 1), (5, 5, 5, 5), (2, 3)),
    ((3, 3), (1, 1), (2, 2, 2, 2), (9, 28), (2, 2)),
    ((3, 3), (1, 1), (6, 6, 6, 6), (13, 17), (6, 6)),
    ((3, 2), (2, 3), (0, 4, 7, 0), (19, 31), (4, 5)),
    ((3, 3), (2, 2), (1, 0, 0, 2), (15, 16), (1, 2)),
    ((1, 3), (1, 1), (0, 8, 0, 8), (1, 90), (1, 8)),
]


def inputs(kernel, extents, groups, channels, filters, kind):
    """Numbers with NaN beyond the image's end, which would show in the output."""
    count = 2 * groups * channels * math.prod(extents)
    memory = np.full(count + 64, np.nan, kind)
    memory[:count] = numbers(count, kind)
    return memory[:count].reshape(2, groups * channels, *extents), numbers((groups * filters, channels, *kernel), kind, 1)


@pytest.mark.parametrize("fields", [{}, SMALL, {"masks": False}], ids=["blocks", "small", "no_masks"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bits_are_those_of_the_other_template(case, fields):
    kernel, strides, pads, extents, *dilations = case
    dilations = dilations[0] if dilations else (1, 1)
    for dtype, groups, channels, filters in [("f32", 1, 5, 70), ("f32", 2, 40, 33), ("f64", 1, 3, 9)]:
        blocks = {name: size for name, size in fields.items() if name != "masks"}
        other = host_conv(kernel, strides, dilations, filters=filters, dtype=dtype, **blocks)
        conv = host_pixels(kernel, strides, out_extents(other, extents, pads)[1], dtype, dilations=dilations, **fields)
        x, w = inputs(kernel, extents, groups, channels, filters, TYPES[dtype][0])
        assert (by_pixels(conv, x, w, pads, groups, ranges=splits) == convolve(other, x, w, pads, groups)).all()


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (1, 3)], ids=str)
def test_epilogue(kernel):
    pads = tuple(k // 2 for k in kernel) * 2
    for width in (7, 40):
        conv = host_pixels(kernel, (1, 1), width)
        x, w = inputs(kernel, (9, width), 2, 6, 41, np.float32)
        expected = by_pixels(conv, x, w, pads, 2)
        memory, extra = guarded(expected.shape, np.float64)
        epilogue = partial(square, all_filters="groups * filters")
        by_pixels(replace(conv, in_scratch=True), x, w, pads, 2, epilogue=epilogue, extra=[extra], ranges=splits)
        check_guards(memory)
        assert (extra == expected.astype(np.float64) ** 2).all()


def test_any_split_gives_the_same_bits():
    conv = host_pixels((3, 3), (2, 1), 45, **SMALL)
    x, w = inputs((3, 3), (20, 45), 2, 3, 90, np.float32)
    whole = by_pixels(conv, x, w, (1, 1, 1, 1), 2)
    assert (by_pixels(conv, x, w, (1, 1, 1, 1), 2, ranges=lambda units: [(u, u + 1) for u in range(units)]) == whole).all()


def test_plain_python_agrees():
    for kernel, stride, pad, spread in [((1, 1), 2, 0, 1), ((1, 1), 1, 0, 1), ((3, 2), 2, 1, 1), ((3, 2), 1, 2, 2)]:
        for in_scratch in (False, True):
            conv = PixelConv("f32", Tile(3, 2, 2), kernel, (stride, stride), (spread, spread), in_scratch=in_scratch, **SMALL)
            x, w, pads = numbers((1, 4, 5, 9)), numbers((12, 2, *kernel), seed=1), (pad,) * 4
            found = []
            for python in (False, True):
                more = {"epilogue": partial(square, all_filters="groups * filters")} if in_scratch else {}
                extra = [np.zeros((1, 12, *out_extents(Conv("f32", conv.tile, kernel, conv.strides, conv.dilations), (5, 9), pads)))]
                y = by_pixels(conv, x, w, pads, 2, python=python, extra=extra if in_scratch else (), **more)
                found.append(extra[0] if in_scratch else y)
            np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


def test_units_are_shared_evenly():
    """Output channels first, then pixels; large ones are divided so that what they need stays in the caches."""
    for kernel, channels, filters, size, units, unit in [
        ((3, 3), 256, 256, (14, 14), 12, (64, 5, 14)),
        ((3, 3), 512, 512, (7, 7), 8, (64, 7, 7)),
        ((3, 3), 64, 64, (56, 56), 14, (64, 4, 56)),
        ((1, 1), 1024, 256, (1, 196), 12, (64, 1, 70)),
        ((1, 1), 512, 2048, (1, 49), 16, (128, 1, 50)),
        ((3, 3), 8, 20, (3, 5), 1, (32, 3, 5)),
        ((3, 3), 128, 32, (7, 7), 2, (32, 4, 7)),
        ((3, 3), 128, 32, (14, 14), 4, (32, 4, 14)),
    ]:
        conv = PixelConv("f32", pixel_tile(WIDE, "f32", size[1]), kernel, (1, 1))
        dims = conv.dims(1, 1, channels, filters, size, size, [k // 2 for k in kernel])
        assert conv.work_units(1, dims) == units
        assert dims[3:6] == unit


def test_chosen_where_rows_and_channels_divide_better():
    for kernel, channels, filters, size, spread, chosen in [
        ((3, 3), 256, 256, (14, 14), 1, True), ((3, 3), 128, 32, (56, 56), 1, True), ((1, 1), 512, 2048, (1, 49), 1, True),
        ((1, 1), 128, 512, (1, 784), 1, False), ((1, 1), 256, 64, (1, 3136), 1, False), ((3, 3), 3, 8, (64, 64), 1, False),
        ((3, 3), 64, 64, (28, 28), 2, True), ((3, 3), 64, 32, (56, 56), 18, False),
    ]:  # fmt: skip
        other = Conv("f32", conv_tile(WIDE, "f32", filters), kernel, (1, 1), (spread, spread))
        conv = PixelConv("f32", pixel_tile(WIDE, "f32", size[1]), kernel, (1, 1), (spread, spread))
        assert saves(conv, other, channels, filters, size) == chosen


@pytest.mark.parametrize("name", TARGETS)
def test_compiles_for_every_target(name):
    from onnx_numba.compile.numba_internals import compile_each

    target = TARGETS[name]
    for kernel in ((3, 3), (1, 1)):
        conv = PixelConv("f32", pixel_tile(target, "f32", 14), kernel, (2, 2), masks=has_masks(target))
        assert set(dict(compile_each(pixel_source("kernel", conv), ["kernel"], {"kernel": "k1"}, target))) == {"kernel"}
