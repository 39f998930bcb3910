"""Networks: products, convolutions, pools, norms, resizing, attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onnx_numba.coverage.case import Case, Const, Draft
from onnx_numba.coverage.recipes import recipe
from onnx_numba.coverage.recipes.shape import ints

# ---- products


@recipe("MatMul")
def matmul(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3), c.real(3, 4))
    yield c.make(c.real(2, 1, 2, 3), c.real(3, 3, 4), name="batches")
    yield c.make(c.real(3), c.real(3, 4), name="vector")
    yield c.make(c.real(3), c.real(3), name="dot")


@recipe("Gemm")
def gemm(c: Draft) -> Iterator[Case]:
    a, b = c.real(2, 3), c.real(3, 4)
    yield c.make(a, b, c.real(2, 4))
    yield c.make(c.real(3, 2), c.real(4, 3), c.real(2, 4), name="transposed", transA=1, transB=1)
    yield c.make(a, b, c.real(2, 4), name="alpha,beta", alpha=0.5, beta=2.0)
    legacy = {"broadcast": 1} if c.has("broadcast") else {}
    yield c.make(a, b, c.real(4), name="row", **legacy)
    yield c.make(a, b, c.real(2, 1), name="column", **legacy)
    yield c.make(a, b, c.real(), name="scalar", **legacy)
    if c.version >= 11:
        yield c.make(a, b, name="no C")


@recipe("MatMulInteger")
def matmul_integer(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3), c.real(3, 4), np.array(3), np.array(5))
    yield c.make(c.real(2, 3), c.real(3, 4), name="no zero points")
    yield c.make(c.real(2, 3), c.real(3, 4), np.array([1, 3]), np.array([5, 1, 0, 2]), name="per row and column")


@recipe("QLinearMatMul")
def qlinear_matmul(c: Draft) -> Iterator[Case]:
    scale = np.array(0.25)
    yield c.make(c.real(2, 3), scale, np.array(1), c.real(3, 4), np.array(0.5), np.array(2), np.array(0.75), np.array(3))
    rows = np.array([0.25, 0.5]), np.array([1, 2])
    yield c.make(c.real(2, 3), *rows, c.real(3, 4), scale, np.array(2), np.array(0.75), np.array(3), name="per row")


@recipe("ConvInteger")
def conv_integer(c: Draft) -> Iterator[Case]:
    x, w = c.real(1, 2, 4, 4), c.real(3, 2, 2, 2)
    yield c.make(x, w, np.array(2))
    yield c.make(x, w, name="no zero points")
    yield c.make(x, w, np.array(2), np.array([1, 0, 2]), name="per channel", pads=[1, 1, 1, 1], strides=[2, 2])


@recipe("QLinearConv")
def qlinear_conv(c: Draft) -> Iterator[Case]:
    x, w = c.real(1, 2, 4, 4), c.real(3, 2, 2, 2)
    scales = np.array(0.25), np.array(0.5), np.array(0.75)
    yield c.make(x, scales[0], np.array(1), w, scales[1], np.array(0), scales[2], np.array(3))
    bias = np.array([10, -20, 5])
    per = np.array([0.5, 0.25, 1.0])
    yield c.make(
        x, scales[0], np.array(1), w, per, np.array([0, 0, 0]), scales[2], np.array(3), bias, name="bias,per channel", pads=[1, 1, 1, 1]
    )


# ---- convolutions and pools


@recipe("Conv")
def conv(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(1, 2, 4, 4), c.real(3, 2, 3, 3), c.real(3), pads=[1, 1, 1, 1])
    yield c.make(c.real(1, 4, 5, 5), c.real(4, 2, 2, 2), name="groups", group=2, strides=[2, 2], dilations=[2, 1])
    yield c.make(c.real(1, 2, 6), c.real(3, 2, 3), name="1-d")
    yield c.make(c.real(1, 1, 3, 3, 3), c.real(2, 1, 2, 2, 2), name="3-d")
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield c.make(c.real(1, 2, 5, 5), c.real(3, 2, 2, 2), name=auto, auto_pad=auto, strides=[2, 2])


@recipe("ConvTranspose")
def conv_transpose(c: Draft) -> Iterator[Case]:
    x, w = c.real(1, 2, 3, 3), c.real(2, 3, 3, 3)
    yield c.make(x, w, c.real(3))
    yield c.make(x, w, name="strides", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    yield c.make(x, w, name="output_shape", strides=[2, 2], output_shape=[7, 6])
    yield c.make(c.real(1, 4, 3), c.real(4, 1, 2), name="groups,1-d", group=2, dilations=[2])
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield c.make(x, w, name=auto, auto_pad=auto, strides=[2, 2])


@recipe("CausalConvWithState")
def causal_conv(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(1, 2, 4), c.real(2, 1, 3), c.real(2), c.real(1, 2, 2), outputs=2)
    yield c.make(c.real(1, 2, 4), c.real(2, 1, 3), outputs=2, name="plain")
    yield c.make(c.real(1, 2, 4), c.real(2, 1, 3), c.real(2), outputs=2, name="silu", activation="silu")


@recipe("DeformConv")
def deform_conv(c: Draft) -> Iterator[Case]:
    x, w, offset = c.real(1, 2, 3, 3), c.real(2, 2, 2, 2), c.real(1, 8, 2, 2) + 1 / 16
    yield c.make(x, w, offset)
    yield c.make(x, w, offset, c.real(2), c.real(1, 4, 2, 2), name="bias,mask")


@recipe("AveragePool")
def average_pool(c: Draft) -> Iterator[Case]:
    x = c.real(1, 2, 4, 4)
    yield c.make(x, kernel_shape=[2, 2])
    yield c.make(x, name="pads", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    yield from _pool_variants(c, x)
    if c.has("count_include_pad"):
        yield c.make(x, name="count_include_pad", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
        if c.has("ceil_mode"):
            yield c.make(
                x, name="ceil,count_include_pad", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], ceil_mode=1, count_include_pad=1
            )


def _pool_variants(c: Draft, x: Any) -> Iterator[Case]:
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield c.make(x, name=auto, auto_pad=auto, kernel_shape=[3, 3], strides=[2, 2])
    if c.has("ceil_mode"):
        yield c.make(x, name="ceil", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    if c.has("dilations"):
        yield c.make(x, name="dilations", kernel_shape=[2, 2], dilations=[2, 2])
    yield c.make(c.real(1, 2, 5), name="1-d", kernel_shape=[2], strides=[2])
    yield c.make(c.real(1, 1, 3, 3, 3), name="3-d", kernel_shape=[2, 2, 2])


@recipe("MaxPool")
def max_pool(c: Draft) -> Iterator[Case]:
    x = c.real(1, 2, 4, 4)
    yield c.make(x, kernel_shape=[2, 2])
    yield c.make(x, name="pads", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    yield from _pool_variants(c, x)
    if c.version >= 8:
        for order in (0, 1):
            yield c.make(x, name=f"indices,storage_order={order}", outputs=2, kernel_shape=[2, 2], strides=[2, 2], storage_order=order)


@recipe("LpPool")
def lp_pool(c: Draft) -> Iterator[Case]:
    x = c.real(1, 2, 4, 4, low=0.25)
    yield c.make(x, kernel_shape=[2, 2])
    yield c.make(x, name="p=3", kernel_shape=[2, 2], pads=[1, 1, 0, 0], p=3.0 if c.version < 2 else 3)
    if c.version >= 2:
        yield from _pool_variants(c, x)


@recipe("GlobalAveragePool", "GlobalMaxPool")
def global_pool(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(1, 2, 3, 4))
    yield c.make(c.real(2, 2, 3), name="1-d")


@recipe("GlobalLpPool")
def global_lp_pool(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(1, 2, 3, 4))
    yield c.make(c.real(1, 2, 3, 4), name="p=3", p=3.0 if c.version < 2 else 3)


@recipe("MaxUnpool")
def max_unpool(c: Draft) -> Iterator[Case]:
    x, indices = c.real(1, 1, 2, 2), np.array([[[[5, 7], [13, 15]]]], np.int64)
    yield c.make(x, indices, kernel_shape=[2, 2], strides=[2, 2])
    yield c.make(x, indices, ints(1, 1, 5, 5), name="output_shape", kernel_shape=[2, 2], strides=[2, 2])


@recipe("MaxRoiPool")
def max_roi_pool(c: Draft) -> Iterator[Case]:
    rois = np.array([[0, 0, 0, 3, 3], [0, 1, 2, 4, 5]], np.int64)
    yield c.make(c.real(1, 2, 6, 6), rois, pooled_shape=[2, 2])
    yield c.make(c.real(1, 2, 6, 6), rois, name="spatial_scale", pooled_shape=[2, 1], spatial_scale=0.5)


@recipe("RoiAlign")
def roi_align(c: Draft) -> Iterator[Case]:
    x, rois, batch = c.real(1, 2, 6, 6), np.array([[0.5, 0.5, 3.5, 4.5], [1.0, 2.0, 4.0, 5.0]]), np.array([0, 0], np.int64)
    yield c.make(x, rois, batch, output_height=2, output_width=2)
    yield c.make(x, rois, batch, name="max", mode="max", output_height=2, output_width=2, sampling_ratio=2)
    yield c.make(x, rois, batch, name="sampled", output_height=2, output_width=3, sampling_ratio=3, spatial_scale=0.5)
    for mode in ("half_pixel", "output_half_pixel") if c.has("coordinate_transformation_mode") else ():
        yield c.make(x, rois, batch, name=mode, output_height=2, output_width=2, coordinate_transformation_mode=mode)


@recipe("Col2Im")
def col2im(c: Draft) -> Iterator[Case]:
    if c.types["T"] == "tensor(string)":  # cannot be added up
        yield c.make(c.real(1, 4, 4), ints(4, 4), ints(2, 2), strides=[2, 2])
        return
    yield c.make(c.real(1, 4, 4), ints(3, 3), ints(2, 2))
    yield c.make(c.real(1, 4, 4), ints(4, 4), ints(2, 2), name="strides", strides=[2, 2])
    yield c.make(c.real(1, 4, 9), ints(4, 4), ints(2, 2), name="pads,dilations", pads=[1, 1, 0, 0], dilations=[2, 2])


# ---- norms


@recipe("BatchNormalization")
def batch_normalization(c: Draft) -> Iterator[Case]:
    x = c.real(2, 3, 2, 2)
    rows = c.real(3), c.real(3), c.real(3), c.real(3, low=0.25)
    hint = {"consumed_inputs": [0, 0, 0, 1, 1]} if c.version == 1 else {}
    testing = {"is_test": 1} if c.has("is_test") else {}
    yield c.make(x, *rows, **hint, **testing)
    yield c.make(x, *rows, name="epsilon", epsilon=0.125, **hint, **testing)
    if c.has("spatial"):
        every = c.real(3, 2, 2), c.real(3, 2, 2), c.real(3, 2, 2), c.real(3, 2, 2, low=0.25)
        yield c.make(x, *every, name="spatial=0", spatial=0, **hint, **testing)
        if c.version < 9:
            yield c.make(x, *every, name="spatial=0,training", outputs=5, spatial=0, **hint)
    if c.version >= 14:
        yield c.make(x, *rows, name="training", outputs=3, training_mode=1, momentum=0.75)
    else:
        yield c.make(x, *rows, name="training", outputs=5, momentum=0.75, **hint)


@recipe("InstanceNormalization")
def instance_normalization(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3, 2, 2), c.real(3), c.real(3))
    yield c.make(c.real(2, 3, 4), c.real(3), c.real(3), name="epsilon", epsilon=0.125)


@recipe("GroupNormalization")
def group_normalization(c: Draft) -> Iterator[Case]:
    count = 2 if c.version < 21 else 4
    yield c.make(c.real(2, 4, 2, 2), c.real(count), c.real(count), num_groups=2)
    yield c.make(c.real(2, 4, 3), c.real(count), c.real(count), name="epsilon", num_groups=2, epsilon=0.125)


@recipe("LayerNormalization")
def layer_normalization(c: Draft) -> Iterator[Case]:
    stash = {"stash_type": c.number("U")}
    yield c.make(c.real(2, 3, 4), c.real(4), c.real(4), outputs=3, **stash)
    yield c.make(c.real(2, 3, 4), c.real(3, 4), name="axis=1", axis=1)
    yield c.make(c.real(2, 3, 4), c.real(4), None, name="no bias", epsilon=0.125)


@recipe("RMSNormalization")
def rms_normalization(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3, 4), c.real(4))
    yield c.make(c.real(2, 3, 4), c.real(3, 4), name="axis=1", axis=1)


@recipe("LRN")
def lrn(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(1, 5, 2, 2), size=3)
    yield c.make(c.real(1, 5, 2, 2), name="even", size=4, alpha=0.5, beta=0.5, bias=2.0)


# ---- resizing and sampling


@recipe("Resize")
def resize(c: Draft) -> Iterator[Case]:
    x, scales = c.real(1, 1, 3, 4), np.array([1, 1, 2, 1.5], np.float32)
    if c.version < 11:
        for mode in ("nearest", "linear"):
            name = "" if mode == "nearest" else mode
            yield c.make(x, Const(scales), name=name, mode=mode)
            yield c.make(x, Const(np.array([1, 1, 0.5, 0.5], np.float32)), name=f"{mode},down", mode=mode)
        yield c.make(x, scales, name="of the run")
        return
    roi = Const(np.zeros(0)) if c.version < 13 else None
    yield c.make(x, roi, Const(scales))
    yield from _resize_modes(c, x, roi)
    sizes = [roi, Const(np.zeros(0, np.float32)) if c.version < 13 else None, ints(1, 1, 5, 3)]
    for mode in ("nearest", "linear", "cubic"):
        yield c.make(x, *sizes, name=f"{mode},sizes", mode=mode)
    if c.version >= 18:
        yield from _resize_since_18(c, x)


def _resize_modes(c: Draft, x: Any, roi: Any) -> Iterator[Case]:
    down = Const(np.array([1, 1, 0.6, 0.6], np.float32))
    up = Const(np.array([1, 1, 2, 1.5], np.float32))
    transforms = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"]
    transforms += ["tf_half_pixel_for_nn"] if c.version < 13 else []
    transforms += ["half_pixel_symmetric"] if c.version >= 19 else []
    crop = Const(np.array([0, 0, 0.25, 0.125, 1, 1, 0.75, 1.25]))
    for how in transforms:
        region = crop if how == "tf_crop_and_resize" else roi
        for mode in ("nearest", "linear", "cubic"):
            for name, scales in (("up", up), ("down", down)):
                yield c.make(x, region, scales, name=f"{mode},{how},{name}", mode=mode, coordinate_transformation_mode=how)
    for how in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        for name, scales in (("up", up), ("down", down)):
            yield c.make(
                x, roi, scales, name=f"nearest,{how},{name}", nearest_mode=how, coordinate_transformation_mode="asymmetric"
            )
    yield c.make(x, roi, up, name="cubic_coeff_a", mode="cubic", cubic_coeff_a=-0.5)
    yield c.make(x, roi, down, name="cubic,exclude_outside", mode="cubic", exclude_outside=1)
    yield c.make(
        x, crop, up, name="extrapolation", mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=10.0
    )


def _resize_since_18(c: Draft, x: Any) -> Iterator[Case]:
    down = Const(np.array([1, 1, 0.6, 0.6], np.float32))
    for mode in ("linear", "cubic"):
        yield c.make(x, None, down, name=f"{mode},antialias", mode=mode, antialias=1)
        yield c.make(x, None, Const(np.array([1, 1, 2, 0.5], np.float32)), name=f"{mode},antialias,mixed", mode=mode, antialias=1)
    yield c.make(x, None, down, name="cubic,antialias,exclude_outside", mode="cubic", antialias=1, exclude_outside=1)
    yield c.make(x, None, Const(np.array([2, 1.5], np.float32)), name="axes", axes=[2, 3], mode="linear")
    yield c.make(x, None, Const(np.array([1.5, 2], np.float32)), name="axes turned", axes=[3, 2], mode="linear")
    for policy in ("stretch", "not_larger", "not_smaller"):
        for mode in ("nearest", "linear"):
            yield c.make(
                x, None, None, ints(7, 6), name=f"{mode},{policy}", mode=mode, axes=[2, 3], keep_aspect_ratio_policy=policy
            )


@recipe("GridSample")
def grid_sample(c: Draft) -> Iterator[Case]:
    x, grid = c.real(1, 2, 3, 3), c.real(1, 2, 2, 2, low=-1, high=1) * 0.75
    names = ("bilinear", "nearest", "bicubic") if c.version < 20 else ("linear", "nearest", "cubic")
    yield c.make(x, grid, mode="nearest" if c.types["T1"] == "tensor(string)" else None)
    for mode in names:
        for padding in ("zeros", "border", "reflection"):
            for corners in (0, 1):
                yield c.make(
                    x, grid * 1.5, name=f"{mode},{padding},{corners}", mode=mode, padding_mode=padding, align_corners=corners
                )
    if c.version >= 20:
        yield c.make(c.real(1, 1, 2, 3, 3), c.real(1, 2, 2, 2, 3, low=-1, high=1), name="3-d")


@recipe("AffineGrid")
def affine_grid(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(1, 2, 3), ints(1, 1, 2, 3))
    yield c.make(c.real(1, 3, 4), ints(1, 1, 2, 2, 3), name="3-d", align_corners=1)


# ---- attention


@recipe("Attention")
def attention(c: Draft) -> Iterator[Case]:
    q, k, v = c.real(1, 2, 2, 4), c.real(1, 2, 3, 4), c.real(1, 2, 3, 4)
    yield c.make(q, k, v, c.real(2, 3))
    yield c.make(q, k, v, name="causal", is_causal=1)
    yield c.make(q, k, v, name="softcap", softcap=0.5, scale=0.25)
    yield c.make(c.real(1, 4, 2, 4), k, v, name="groups of heads")
    yield c.make(c.real(1, 2, 8), c.real(1, 3, 8), c.real(1, 3, 8), name="3-d", q_num_heads=2, kv_num_heads=2)
    yield c.make(q, k, v, None, c.real(1, 2, 1, 4), c.real(1, 2, 1, 4), outputs=3, name="past")
    for mode in (0, 1, 2, 3):
        yield c.make(
            q, k, v, c.real(2, 3), outputs=[True, False, False, True], name=f"qk_matmul_output_mode={mode}", qk_matmul_output_mode=mode
        )
    if c.version >= 24:
        yield c.make(q, k, v, None, None, None, np.array([2], np.int64), name="nonpad_kv_seqlen")
    if c.version >= 25:
        yield c.make(q, k, v, name="window", left_window_size=1, right_window_size=0)


@recipe("LinearAttention")
def linear_attention(c: Draft) -> Iterator[Case]:
    q, k, v = c.real(1, 3, 4, low=-1, high=1), c.real(1, 3, 4, low=-1, high=1), c.real(1, 3, 4, low=-1, high=1)
    state, decay, beta = c.real(1, 2, 2, 2), c.real(1, 3, 2, low=-1, high=0), c.real(1, 3, 2, low=0, high=1)
    heads = {"q_num_heads": 2, "kv_num_heads": 2}
    yield c.make(q, k, v, state, decay, beta, outputs=2, update_rule="gated_delta", **heads)
    yield c.make(q, k, v, outputs=2, name="linear", update_rule="linear", **heads)
    yield c.make(q, k, v, state, decay, outputs=2, name="gated", update_rule="gated", **heads)
    yield c.make(q, k, v, state, None, beta, outputs=2, name="delta", update_rule="delta", **heads)


@recipe("RotaryEmbedding")
def rotary_embedding(c: Draft) -> Iterator[Case]:
    positions = np.array([[0, 1, 3]], np.int64)
    yield c.make(c.real(1, 2, 3, 4), c.real(5, 2), c.real(5, 2), positions)
    yield c.make(c.real(1, 2, 3, 4), c.real(1, 3, 2), c.real(1, 3, 2), name="no positions")
    yield c.make(c.real(1, 2, 3, 4), c.real(5, 2), c.real(5, 2), positions, name="interleaved", interleaved=1)
    yield c.make(c.real(1, 3, 8), c.real(5, 2), c.real(5, 2), positions, name="3-d", num_heads=2)
    yield c.make(c.real(1, 2, 3, 4), c.real(5, 1), c.real(5, 1), positions, name="partial", rotary_embedding_dim=2)


@recipe("ai.onnx.preview.FlexAttention")
def flex_attention(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(1, 2, 2, 4), c.real(1, 2, 3, 4), c.real(1, 2, 3, 4))
    yield c.make(c.real(1, 4, 2, 4), c.real(1, 2, 3, 4), c.real(1, 2, 3, 4), name="groups of heads", scale=0.25)
