"""Convolutions against float64, over kernels, strides, dilations, asymmetric padding, groups, splits."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from template_kernels import check_guards, guarded, run, splits

from onnx_numba.native import twins
from onnx_numba.native.dot import dot_for
from onnx_numba.native.tile import Tile
from onnx_numba.native.vector import has_masks
from onnx_numba.target import LEVELS, TARGETS, Target, host_target
from onnx_numba.templates.conv import Conv, conv_source, conv_tile, pack_filters_source, reads_plainly
from onnx_numba.templates.depthwise import Depthwise, depthwise, depthwise_source
from onnx_numba.templates.patch import patch_offsets

TYPES = {"f32": (np.float32, 2e-5), "f64": (np.float64, 1e-13)}
SMALL = {"block_depth": 16, "patch_blocks": 1, "row_tiles": 1, "column_panels": 1}


def numbers(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def out_extents(conv, extents, pads):
    rank = conv.rank
    return [
        (extents[d] + pads[d] + pads[rank + d] - (conv.kernel[d] - 1) * conv.dilations[d] - 1) // conv.strides[d] + 1
        for d in range(rank)
    ]


def reference(x, w, conv, pads, groups):
    """Sum over taps in float64."""
    rank, x, w = conv.rank, x.astype(np.float64), w.astype(np.float64)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    out = out_extents(conv, x.shape[2:], [0] * 2 * rank)
    result = np.zeros((len(x), groups, len(w) // groups, *out))
    grouped = x.reshape(len(x), groups, -1, *x.shape[2:])
    filters = w.reshape(groups, len(w) // groups, *w.shape[1:])
    for tap in itertools.product(*map(range, conv.kernel)):
        window = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, s, o in zip(tap, conv.dilations, conv.strides, out, strict=True)
        )
        result += np.einsum("ngc...,gfc->ngf...", grouped[(..., *window)], filters[(..., *tap)])
    return result.reshape(len(x), len(w), *out)


def convolve(conv, x, w, pads, groups=1, bias=None, epilogue=None, ranges=None, python=False, extra=(), extra_dims=()):
    """Run the two kernels; an input that can be is read as it is."""
    conv = replace(conv, plain=reads_plainly(conv.kernel, conv.strides, pads))
    extents, filters, channels = x.shape[2:], len(w) // groups, w.shape[1]
    out = out_extents(conv, extents, pads)
    k = channels * conv.taps
    held, packed = guarded(conv.packed_size(groups, filters, channels), x.dtype)
    panels = groups * -(-filters // conv.tile.rows)
    dims = [filters, k, 1, k, groups, filters * k]
    run(pack_filters_source("kernel", conv), [w, packed], dims, splits(panels), python=python)
    check_guards(held)
    held, y = guarded((len(x), len(w), *out), x.dtype)
    buffers = [x, packed, *([] if conv.in_scratch else [y]), *([] if bias is None else [bias]), *extra]
    own = conv.dims(len(x), groups, channels, filters, extents, out, pads[: conv.rank])
    units = conv.work_units(len(x), own)
    text = conv_source("kernel", conv, *([epilogue] if epilogue else []))
    run(text, buffers, [*own, *extra_dims], ranges or [(0, units)], conv.scratch_bytes(own), python)
    check_guards(held)
    return y


def check(conv, x, w, pads, groups=1, bias=None):
    found = convolve(conv, x, w, pads, groups, bias)
    plus = 0 if bias is None else bias.astype(np.float64).reshape(-1, *[1] * conv.rank)
    expected = reference(x, w, conv, pads, groups) + plus
    scale = reference(np.abs(x), np.abs(w), conv, pads, groups) + np.abs(plus) + 1e-30
    assert found.shape == expected.shape
    np.testing.assert_array_less(np.abs(found - expected) / scale, TYPES[conv.dtype][1])
    return found


def host_conv(kernel, strides=None, dilations=None, filters=None, dtype="f32", **fields):
    ones = (1,) * len(kernel)
    fields = {"masks": has_masks(host_target()), **fields}
    return Conv(dtype, conv_tile(host_target(), dtype, filters), kernel, strides or ones, dilations or ones, **fields)


GRID = [
    # kernel, strides, dilations, pads (begin…, end…), extents
    ((3,), (1,), (1,), (1, 1), (50,)),
    ((5,), (3,), (2,), (4, 0), (83,)),
    ((3, 3), (1, 1), (1, 1), (1, 1, 1, 1), (13, 56)),
    ((3, 3), (2, 2), (1, 1), (1, 1, 1, 1), (21, 20)),
    ((3, 3), (2, 1), (1, 3), (0, 2, 3, 1), (17, 19)),
    ((7, 7), (2, 2), (1, 1), (3, 3, 3, 3), (30, 31)),
    ((1, 1), (2, 2), (1, 1), (0, 0, 0, 0), (9, 11)),
    ((1, 1), (1, 1), (1, 1), (1, 0, 0, 2), (9, 11)),
    ((2, 3), (4, 4), (2, 3), (1, 2, 0, 3), (23, 26)),
    ((1, 5), (1, 1), (1, 1), (0, 2, 0, 2), (4, 33)),
    ((2, 21), (1, 20), (1, 1), (1, 3, 0, 5), (4, 211)),
    ((1, 3, 4), (1, 2, 9), (1, 1, 2), (0, 1, 2, 1, 0, 8), (3, 4, 80)),
    ((5, 1), (1, 1), (1, 1), (2, 0, 2, 0), (33, 4)),
    ((4, 4), (1, 1), (1, 1), (5, 5, 5, 5), (2, 3)),
    ((3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1, 1, 1, 1), (5, 6, 7)),
    ((2, 3, 2), (1, 2, 3), (2, 1, 1), (0, 1, 2, 1, 0, 0), (6, 8, 10)),
]


@pytest.mark.parametrize("case", GRID, ids=str)
def test_grid(case):
    check_case(case, SMALL)


@pytest.mark.parametrize("case", GRID[1::4], ids=str)
@pytest.mark.parametrize("fields", [{}, {"masks": False}], ids=["blocks", "no_masks"])
def test_grid_otherwise(case, fields):
    check_case(case, fields)


def check_case(case, fields):
    kernel, strides, dilations, pads, extents = case
    for groups, channels, filters in [(1, 5, 20), (3, 2, 4)]:
        conv = host_conv(kernel, strides, dilations, filters, bias=True, **fields)
        x, w = numbers((2, groups * channels, *extents)), numbers((groups * filters, channels, *kernel), seed=1)
        bias = numbers(groups * filters, seed=2)
        found = check(conv, x, w, pads, groups, bias)
        if conv.rank > 1 and not conv.far:
            whole = check(replace(conv, whole_rows=True), x, w, pads, groups, bias)
            assert (whole == found).all()


@pytest.mark.parametrize("kernel", [(3, 39), (2, 3, 5)], ids=str)
def test_whole_rows_with_strides_and_bytes_beyond_the_input(kernel):
    """What lies after the input is NaN here; units begin and end inside of rows, or are of one row each."""
    for strides, dilations in [((1, 1, 1), (1, 1, 1)), ((2, 1, 3), (1, 2, 2)), ((1, 2, 8), (1, 1, 4))]:
        axes = (strides[-len(kernel) :], dilations[-len(kernel) :])
        for fields in ({}, SMALL, {"masks": False}):
            conv = host_conv(kernel, *axes, filters=9, whole_rows=True, **fields)
            shape = (2, 6, *(7, 9, 190)[-conv.rank :])
            memory = np.full(math.prod(shape) + 64, np.nan, np.float32)
            memory[: math.prod(shape)] = numbers(math.prod(shape))
            pads = (1, 2, 17)[-conv.rank :] * 2
            check(conv, memory[: math.prod(shape)].reshape(shape), numbers((18, 3, *kernel), seed=1), pads, 2)


@pytest.mark.parametrize("whole_rows", [False, True])
def test_a_patch_has_room_for_what_is_laid_out(whole_rows):
    """With strides there is a segment for each remainder of taps. Where units had whole rows, or those of the windows of a pool, there was
    no room for the vectors that segments begin with, and other memory was overwritten."""
    for kernel, stride, dilation, rows, width in itertools.product([1, 2, 3, 5], [1, 2, 5], [1, 2, 7], [1, 2, 9], [1, 15, 16, 17, 40]):
        conv = Conv("f32", Tile(7, 2, 16), (kernel, 2), (stride, 1), (dilation, 1), whole_rows=whole_rows)
        dims = conv.dims(1, 1, 48, 7, (99, width + 1), (rows, width), (0, 0))
        for columns in {dims[4], conv.tile.columns, 2 * width}:
            scope = twins() | {"unit_columns": columns, "out1": width, "out_row": width, "channels": 0, "offsets": np.zeros(999, np.int64)}
            exec("\n".join(patch_offsets(conv)), scope)
            assert conv.patch_channels * scope["held"] + conv.tile.columns <= conv._patch_size((*dims[:4], columns, *dims[5:]))


def test_whole_rows_have_no_outputs_where_there_are_none():
    conv = host_conv((3, 3), filters=4, whole_rows=True)
    assert convolve(conv, np.ones((1, 2, 2, 5), "f4"), np.ones((4, 2, 3, 3), "f4"), (0, 0, 0, 0)).shape == (1, 4, 0, 3)
    assert convolve(conv, np.ones((1, 2, 5, 2), "f4"), np.ones((4, 2, 3, 3), "f4"), (0, 0, 0, 0)).shape == (1, 4, 3, 0)


def test_whole_rows_where_they_cost_less():
    tile = Tile(8, 3, 16)
    for kernel, channels, filters, out, fewer in [
        ((3, 39), 8, 8, (172, 264), True),
        ((1, 256), 1, 1, (1, 21922), True),
        ((3, 3), 32, 16, (120, 160), True),
        ((3, 3), 64, 64, (20, 17), False),
        ((3, 3), 512, 512, (7, 7), False),
    ]:
        copied = Conv("f32", tile, kernel, (1, 1), (1, 1))
        costs = [v.cost(v.dims(1, 1, channels, filters, out, out, (0, 0))) for v in (replace(copied, whole_rows=True), copied)]
        assert (costs[0] < costs[1]) == fewer


def test_large_strides_of_the_last_axis_share_code():
    sources = [conv_source("kernel", host_conv((1, 64), (1, stride))) for stride in (32, 256)]
    assert sources[0] == sources[1]
    assert sources[0] != conv_source("kernel", host_conv((1, 64), (1, 2)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kernel", [(1,), (4,), (1, 1), (3, 1), (3, 3), (2, 1, 1), (2, 2, 2)], ids=str)
def test_input_is_never_read_beyond_its_end(dtype, kernel):
    """What lies after the input is NaN here, which would show in the output."""
    for blocks in ({}, SMALL):
        conv = host_conv(kernel, filters=17, dtype=dtype, **blocks)
        shape = (2, 6, *(9, 7, 5)[: conv.rank])
        memory = np.full(math.prod(shape) + 64, np.nan, TYPES[dtype][0])
        memory[: math.prod(shape)] = numbers(math.prod(shape))
        check(
            conv,
            memory[: math.prod(shape)].reshape(shape),
            numbers((34, 3, *kernel), TYPES[dtype][0], 1),
            (0,) * 2 * conv.rank,
            2,
        )


@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_one_channel_per_group(multiplier):
    for kernel, strides in [((3, 3), (1, 1)), ((5, 5), (2, 2)), ((3, 3), (2, 1))]:
        conv = host_conv(kernel, strides, filters=multiplier)
        x, w = numbers((2, 7, 19, 23)), numbers((7 * multiplier, 1, *kernel), seed=1)
        check(conv, x, w, (1, 2, 0, 1), groups=7)


def planewise(conv, x, w, pads, bias=None, epilogue=None, ranges=None, python=False, extra=()):
    """Run the depthwise kernel."""
    extents, rank = x.shape[2:], len(conv.kernel)
    out = out_extents(conv, extents, pads)
    held, y = guarded((len(x), len(w), *out), x.dtype)
    buffers = [x, w, *([] if conv.in_scratch else [y]), *([] if bias is None else [bias]), *extra]
    dims = conv.dims(x.shape[1], len(w) // x.shape[1], extents, out, pads[:rank])
    source = depthwise_source("kernel", conv, *([epilogue] if epilogue else []))
    run(source, buffers, dims, ranges or splits(conv.work_units(len(x), dims)), conv.scratch_bytes(dims), python)
    check_guards(held)
    return y


DEPTHWISE = [
    ((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((3, 3), (2, 2), (1, 1), (0, 1, 1, 0)),
    ((5, 5), (1, 1), (2, 3), (4, 6, 4, 6)),
    ((2, 7), (3, 4), (1, 1), (0, 3, 1, 3)),
    ((7, 7), (1, 3), (1, 1), (3, 3, 3, 3)),
    ((4,), (1,), (1,), (3, 0)),
    ((9,), (2,), (2,), (5, 8)),
]


@pytest.mark.skipif(not has_masks(host_target()), reason="no masked loads")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("case", DEPTHWISE, ids=str)
def test_depthwise(case, dtype):
    *axes, pads = case
    kind, tolerance = TYPES[dtype]
    conv = depthwise(host_target(), dtype, *axes, bias=True)
    for multiplier, extents in [(1, (7, 7)), (1, (23, 40)), (2, (9, 33)), (3, (30, 17)), (1, (125, 70))]:
        extents = extents[-conv.rank :] if conv.rank == 2 else (extents[0] + extents[1],)
        memory = np.full(10 * math.prod(extents) + 64, np.nan, kind)  # NaN beyond the input, and in every other row's place
        memory[: 10 * math.prod(extents)] = numbers(10 * math.prod(extents), kind)
        x = memory[: 10 * math.prod(extents)].reshape(2, 5, *extents)
        w, bias = numbers((5 * multiplier, 1, *conv.kernel), kind, 1), numbers(5 * multiplier, kind, 2)
        plus = bias.reshape(-1, *[1] * conv.rank)
        expected = reference(x, w, conv, pads, 5) + plus
        scale = reference(np.abs(x), np.abs(w), conv, pads, 5) + np.abs(plus)
        found = planewise(conv, x, w, pads, bias)
        np.testing.assert_array_less(np.abs(found - expected) / scale, tolerance)
        units = conv.work_units(2, conv.dims(5, multiplier, extents, found.shape[2:], pads[: conv.rank]))
        assert (planewise(conv, x, w, pads, bias, ranges=[(0, units)]) == found).all()


@pytest.mark.skipif(not has_masks(host_target()), reason="no masked loads")
def test_depthwise_epilogue_and_python():
    for kernel in ((3, 3), (3,)):
        ones = (1,) * len(kernel)
        x, w, pads = numbers((2, 3, *(6, 9)[: len(kernel)])), numbers((6, 1, *kernel), seed=1), ones * 2
        plain = depthwise(host_target(), "f32", kernel, ones, ones)
        held = depthwise(host_target(), "f32", kernel, ones, ones, in_scratch=True)
        expected = planewise(plain, x, w, pads)
        np.testing.assert_allclose(planewise(plain, x, w, pads, python=True), expected, rtol=1e-4, atol=1e-5)
        for python in (False, True):
            memory, extra = guarded(expected.shape, np.float64)
            planewise(held, x, w, pads, epilogue=partial(square, all_filters="filters"), extra=[extra], python=python)
            check_guards(memory)
            np.testing.assert_allclose(extra, expected.astype(np.float64) ** 2, rtol=1e-4, atol=1e-5)


def test_rows_of_large_planes_are_shared_evenly():
    wide = Target("x86_64-unknown-linux-gnu", "x86-64-v4", LEVELS["x86-64-v4"])
    for stride, size, out, rows, units in [
        (1, 20, 20, 20, 5), (1, 56, 56, 28, 10), (1, 900, 120, 28, 165), (2, 100, 50, 20, 15), (1, 900, 9000, 4, 1125), (1, 0, 0, 1, 0),
    ]:  # fmt: skip
        conv = depthwise(wide, "f32", (3, 3), (stride,) * 2, (1, 1))
        dims = conv.dims(5, 1, (size, out * stride), (size // stride, out), (1, 1))
        assert dims[2] == rows
        assert conv.work_units(1, dims) == units
        assert conv.unit_elements(dims) == min(rows, size // stride) * out


def test_depthwise_only_where_it_pays():
    one = (1, 1)
    assert depthwise(TARGETS["aarch64-linux"], "f32", (3, 3), one, one) is None
    assert depthwise(TARGETS["x86-64"], "f32", (3, 3), one, one) is None
    wide = Target("x86_64-unknown-linux-gnu", "x86-64-v4", LEVELS["x86-64-v4"])
    assert isinstance(depthwise(wide, "f32", (3, 3), one, one), Depthwise)
    assert depthwise(wide, "f32", (31, 31), one, one) is None
    assert depthwise(wide, "f32", (3, 3, 3), one * 2, one * 2) is None


def test_float64_and_odd_widths():
    conv = host_conv((3, 3), filters=9, dtype="f64", bias=True)
    for width in range(1, 41):
        x, w = numbers((1, 3, 4, width), np.float64), numbers((9, 3, 3, 3), np.float64, 1)
        check(conv, x, w, (1, 1, 1, 1), 1, numbers(9, np.float64, 2))


def test_no_channels_no_images_no_outputs():
    conv = host_conv((3, 3), filters=4)
    assert (convolve(conv, np.ones((2, 0, 5, 5), "f4"), np.ones((4, 0, 3, 3), "f4"), (1, 1, 1, 1)) == 0).all()
    biased = host_conv((3, 3), filters=4, bias=True)
    assert (
        convolve(biased, np.ones((1, 0, 5, 5), "f4"), np.ones((4, 0, 3, 3), "f4"), (1,) * 4, bias=np.ones(4, "f4")) == 1
    ).all()
    assert convolve(conv, np.ones((0, 2, 5, 5), "f4"), np.ones((4, 2, 3, 3), "f4"), (1, 1, 1, 1)).size == 0
    assert convolve(conv, np.ones((1, 2, 2, 5), "f4"), np.ones((4, 2, 3, 3), "f4"), (0, 0, 0, 0)).shape == (1, 4, 0, 3)
    assert convolve(conv, np.ones((1, 2, 5, 2), "f4"), np.ones((4, 2, 3, 3), "f4"), (0, 0, 0, 0)).shape == (1, 4, 3, 0)


def square(b, all_filters):
    """The square as float64 into a buffer of its own."""
    return [
        "extra = f64_p(bufs, 2)",
        f"for i in range({b.i0}, {b.i1}):",
        f"    for j in range({b.j0}, {b.j1}):",
        f"        value = {b.block}[(i - {b.i0}) * {b.pitch} + j - {b.j0}]",
        f"        extra[({b.batch} * {all_filters} + i) * out_size + j] = f64(value) * f64(value)",
    ]


@pytest.mark.parametrize("kernel", [(4,), (1, 1), (3, 3), (2, 3, 2)], ids=str)
def test_epilogue(kernel):
    for blocks in ({}, SMALL):
        conv = host_conv(kernel, filters=10, in_scratch=True, **blocks)
        direct = host_conv(kernel, filters=10, **blocks)
        pads = (1,) * 2 * conv.rank
        x, w = numbers((2, 4, *(9, 8, 7)[: conv.rank])), numbers((20, 2, *kernel), seed=1)
        expected = convolve(direct, x, w, pads, 2)
        memory, extra = guarded(expected.shape, np.float64)
        convolve(conv, x, w, pads, 2, epilogue=partial(square, all_filters="groups * filters"), extra=[extra])
        check_guards(memory)
        assert (extra == expected.astype(np.float64) ** 2).all()


@pytest.mark.parametrize("kernel", [(3, 3), (3, 1)], ids=str)
def test_equal_channels_give_equal_bits(kernel):
    """All output channels have the same filter, and all positions see the same numbers."""
    for filters, groups in [(1000, 1), (64, 1), (3, 1), (24, 2)]:
        conv = host_conv(kernel, filters=filters // groups, block_depth=64)
        x = np.broadcast_to(numbers((1, 21, 1, 1)) * 1e5, (2, 21, 12, 37))
        x = np.ascontiguousarray(np.concatenate([x] * groups, axis=1))
        w = np.ascontiguousarray(np.broadcast_to(numbers((1, 21, *kernel), seed=1), (filters, 21, *kernel)))
        assert len(np.unique(convolve(conv, x, w, (0, 0, 0, 0), groups))) == 1


def test_any_split_gives_the_same_bits():
    conv = host_conv((3, 3), (2, 1), filters=30, **SMALL)
    x, w, pads = numbers((2, 6, 20, 45)), numbers((60, 3, 3, 3), seed=1), (1, 1, 1, 1)
    whole = convolve(conv, x, w, pads, 2)
    units = conv.work_units(2, conv.dims(2, 2, 3, 30, x.shape[2:], whole.shape[2:], (1, 1)))
    assert units > 4
    for seed in range(5):
        assert (convolve(conv, x, w, pads, 2, ranges=splits(units, seed)) == whole).all()
    assert (convolve(conv, x, w, pads, 2, ranges=[(u, u + 1) for u in range(units)]) == whole).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_few_columns_give_the_bits_of_many(dtype):
    """Whatever tile takes them."""
    conv = host_conv((3,), filters=20, dtype=dtype)
    kind = TYPES[dtype][0]
    x, w = numbers((2, 7, conv.tile.columns + 3), kind), numbers((20, 7, 3), kind, 1)
    many = convolve(conv, x, w, (0, 0))
    for columns in range(1, conv.tile.columns + 1):
        few = convolve(conv, np.ascontiguousarray(x[..., : columns + 2]), w, (0, 0))
        assert few.shape[-1] == columns
        assert (few == many[..., :columns]).all()


def test_small_planes_are_shared_along_columns_first():
    """A unit of fewer columns reads all filters, one of fewer filters lays out the same patch."""
    wide, narrow = Tile(14, 2, 16), Tile(6, 2, 8)
    for tile, kernel, channels, filters, size, units, least in [
        (wide, (3, 3), 48, 192, (13, 13), 6, 32),
        (wide, (3, 3), 128, 128, (28, 28), 13, 64),
        (wide, (3, 3), 512, 512, (7, 7), 8, 32),
        (wide, (1,), 512, 2048, (49,), 16, 32),
        (wide, (3, 3), 64, 64, (112, 112), 49, 256),
        (wide, (1,), 64, 30, (16,), 1, 32),
        (narrow, (3, 3), 48, 192, (13, 13), 16, 48),
    ]:
        conv = Conv("f32", tile, kernel, (1,) * len(kernel), (1,) * len(kernel))
        dims = conv.dims(1, 1, channels, filters, size, size, [k // 2 for k in kernel])
        assert conv.work_units(1, dims) == units
        assert dims[4] == least


def test_narrow_tiles_only_where_there_is_something_to_leave_out():
    for dtype, tile, found in [
        ("f32", Tile(14, 2, 16), [(1, 8), (1, 16)]), ("f64", Tile(14, 2, 8), [(1, 4), (1, 8)]), ("f32", Tile(14, 1, 16), [(1, 8)]),
        ("f32", Tile(6, 2, 8), [(1, 8)]), ("f32", Tile(8, 2, 4), [(1, 4)]), ("f32", Tile(6, 1, 8), []),
        ("i32", Tile(12, 2, 16, dot=dot_for(TARGETS["x86-64"], "i8", "u8")), [(1, 16)]),
    ]:  # fmt: skip
        assert [(t.vectors, t.lanes) for t in Conv(dtype, tile, (3,), (1,), (1,)).narrow] == found


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(64, 32, 1), (8, 6, 4), (3, 5, 2), (9, 4, 6), (2, 7, 7)])
def test_strides_that_taps_meet_by_turns(kernel, stride, dilation):
    conv = host_conv((kernel,), (stride,), (dilation,), filters=6)
    extent = (kernel - 1) * dilation + 1 + 4 * stride
    check(conv, numbers((1, 2, extent)), numbers((6, 2, kernel), seed=1), (3, 2))


def test_plain_python_agrees():
    for kernel, stride, pad in [((3,), 1, 0), ((3, 2), 2, 1), ((2, 2, 2), 2, 1)]:
        for in_scratch, whole in itertools.product((False, True), (False, True)[: len(kernel)]):
            strides, pads, fields = (stride,) * len(kernel), (pad,) * 2 * len(kernel), {**SMALL, "whole_rows": whole}
            conv = Conv("f32", Tile(3, 2, 2), kernel, strides, (1,) * len(kernel), bias=True, in_scratch=in_scratch, **fields)
            x, w = numbers((1, 4, *(6, 5, 4)[: conv.rank])), numbers((8, 2, *kernel), seed=1)
            arguments = (conv, x, w, pads, 2, numbers(8, seed=2))
            np.testing.assert_allclose(convolve(*arguments, python=True), convolve(*arguments), rtol=1e-4, atol=1e-5)


def test_tiles_divide_channels():
    target = host_target()
    for filters in range(1, 300):
        tile = conv_tile(target, "f32", filters)
        assert 1 <= tile.rows <= conv_tile(target, "f32").rows
        assert -(-filters // tile.rows) * tile.rows - filters < -(-filters // tile.rows)
    assert conv_tile(target, "f32", 1, columns=1).vectors == 1


def test_tiles_of_many_columns_divide_channels_and_rows():
    wide = Target("x86_64-unknown-linux-gnu", "x86-64-v4", LEVELS["x86-64-v4"])
    for filters, columns, row, shape in [
        (32, None, None, (11, 2)), (32, 196, None, (11, 2)), (32, 27000, None, (8, 3)), (32, 6400, 80, (11, 2)), (48, 3136, None, (12, 2)),
        (256, 3136, None, (8, 3)), (1, 21922, 21922, (1, 8)), (1, 1600, 40, (1, 3)), (0, 3136, None, (1, 8)),
    ]:  # fmt: skip
        tile = conv_tile(wide, "f32", filters, columns, row)
        assert (tile.rows, tile.vectors) == shape


@pytest.mark.parametrize("name", TARGETS)
def test_compiles_for_every_target(name):
    from onnx_numba.compile.numba_internals import compile_each

    target = TARGETS[name]
    for dtype, whole in (("f32", False), ("f32", True), ("i32", False)):
        conv = Conv(dtype, conv_tile(target, dtype, 64), (3, 3), (2, 2), (1, 1), fill=dtype == "i32", masks=has_masks(target))
        conv = replace(conv, whole_rows=whole)
        source = conv_source("kernel", conv) + pack_filters_source("pack", conv)
        symbols = {"kernel": "k1", "pack": "k2"}
        assert set(dict(compile_each(source, list(symbols), symbols, target))) == set(symbols)
