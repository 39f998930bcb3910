"""Matrix products, convolutions, pools, resizing, recurrences and signals against onnxruntime, with dims known and unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operators import Case, check, feeds, model, onnxruntime_outputs

from onnx_numba import backend

RNG = np.random.default_rng(11)


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


def resized(opset: int, x: np.ndarray[Any, Any], scales: Any, sizes: Any, **attributes: Any) -> list[Case]:
    """The case with scales or sizes constant, and with them given at run time."""
    roi = attributes.pop("roi", None)
    inputs = [x, roi, scales] if sizes is None else [x, roi, scales, sizes]
    return [Case("Resize", opset, inputs, attributes, constants) for constants in ((1, 2, 3), ())]


LINEAR = {"mode": "linear"}
CUBIC = {"mode": "cubic"}

CASES = [
    Case("MatMul", 13, [f32(3, 4), f32(4, 5)]),
    Case("MatMul", 13, [f32(4), f32(4, 5)]),
    Case("MatMul", 13, [f32(2, 3, 4), f32(4)]),
    Case("MatMul", 13, [f32(4), f32(4)]),
    Case("MatMul", 13, [f32(2, 1, 3, 4), f32(5, 4, 2)]),
    Case("MatMul", 13, [f32(3, 0), f32(0, 2)]),
    Case("MatMul", 13, [RNG.integers(-9, 9, (3, 4)), RNG.integers(-9, 9, (4, 2))]),
    Case("Gemm", 7, [f32(4, 3), f32(5, 4), f32(5)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", 13, [f32(3, 4), f32(4, 5)]),
    Case("Gemm", 13, [f32(3, 4), f32(4, 5), f32(3, 1)], {"beta": 0.25}),
    Case("Einsum", 12, [f32(2, 3, 4), f32(2, 4, 5)], {"equation": "bij, bjk -> bik"}),
    Case("Einsum", 12, [f32(2, 3, 3)], {"equation": "...ii->...i"}),
    Case("Einsum", 12, [f32(2, 5, 3, 4), f32(2, 6, 3, 4)], {"equation": "bqhd,bkhd->bhqk"}),
    Case("Einsum", 12, [f32(3, 4, 3), f32(4, 1, 5), f32(5, 2)], {"equation": "iji,jke,el->li"}),
    Case("Conv", 11, [f32(2, 3, 7, 8), f32(4, 3, 3, 2)]),
    Case("Conv", 11, [f32(2, 4, 7, 8), f32(6, 2, 3, 3), f32(6)], {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]}),
    Case("Conv", 11, [f32(1, 3, 9), f32(3, 1, 3)], {"group": 3, "auto_pad": "SAME_LOWER"}),
    Case("Conv", 11, [f32(1, 2, 5, 5, 5), f32(3, 2, 2, 2, 2)], {"strides": [2, 2, 1], "auto_pad": "SAME_UPPER"}),
    Case("Conv", 11, [f32(1, 2, 5, 6), f32(3, 2, 3, 3)], {"auto_pad": "VALID"}),
    Case("Conv", 11, [f32(2, 80, 14, 14), f32(64, 40, 3, 3), f32(64)], {"group": 2, "pads": [1, 1, 1, 1]}),
    Case("Conv", 11, [f32(2, 64, 15, 14), f32(96, 64, 1, 1)], {"strides": [2, 2]}),
    Case("ConvTranspose", 11, [f32(1, 3, 4, 5), f32(3, 2, 3, 3), f32(2)], {"strides": [2, 3], "pads": [1, 0, 1, 2]}),
    Case("ConvTranspose", 11, [f32(1, 4, 5), f32(4, 2, 3)], {"group": 2, "dilations": [2], "output_padding": [1], "strides": [2]}),
    Case("ConvTranspose", 11, [f32(1, 1, 3, 3), f32(1, 2, 3, 3)], {"strides": [3, 2], "output_shape": [8, 7]}),
    Case("ConvTranspose", 11, [f32(2, 6, 5), f32(6, 2, 8), f32(4)], {"group": 2, "strides": [4], "pads": [1, 2], "output_padding": [3]}),
    Case("ConvTranspose", 11, [f32(2, 3, 4, 5), f32(3, 2, 4, 3)], {"strides": [2, 1], "dilations": [1, 2], "pads": [3, 0, 0, 1]}),
    Case("ConvTranspose", 11, [f32(1, 2, 9, 5), f32(2, 1, 2, 4)], {"group": 2, "strides": [1, 2], "pads": [3, 5, 2, 1]}),
    Case("ConvTranspose", 11, [f32(1, 8, 3, 4, 2), f32(8, 4, 2, 4, 3)], {"strides": [2, 2, 1], "pads": [0, 1, 1, 1, 0, 1]}),
    Case("ConvTranspose", 11, [f32(2, 16, 12, 11), f32(16, 24, 4, 4), f32(24)], {"strides": [2, 2], "pads": [1] * 4}),
    Case("ConvTranspose", 11, [f32(1, 2, 1, 1), f32(2, 3, 5, 5)], {"strides": [1, 1]}),
    Case("ConvTranspose", 11, [f32(2, 16, 12, 11), f32(16, 24, 3, 5), f32(24)], {"strides": [2, 3], "pads": [1, 0, 1, 2]}),
    Case("ConvTranspose", 11, [f32(1, 4, 6, 5, 4), f32(4, 3, 3, 3, 3)], {"group": 2, "strides": [2, 2, 2], "pads": [1] * 6}),
    Case("ConvTranspose", 11, [f32(1, 1, 3, 3), f32(1, 2, 3, 3)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("ConvTranspose", 11, [f32(2, 32, 6, 7), f32(32, 1, 3, 3), f32(1)], {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]}),
    Case("ConvTranspose", 11, [f32(1, 64, 6, 5), f32(64, 2, 3, 5), f32(4)], {"group": 2, "strides": [2, 3], "pads": [1, 0, 0, 2]}),
    Case("ConvTranspose", 11, [f32(1, 32, 4, 4, 3), f32(32, 2, 3, 2, 3)], {"strides": [2, 1, 2], "pads": [1, 0, 0, 1, 0, 2]}),
    Case("ConvTranspose", 11, [f32(1, 32, 6, 5), f32(32, 2, 3, 3)], {"pads": [1, 1, 0, 1]}),
    Case("MaxPool", 11, [f32(2, 3, 21, 13)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    Case("MaxPool", 11, [f32(1, 2, 19, 40)], {"kernel_shape": [2, 5], "strides": [1, 2], "pads": [1, 0, 0, 3]}),
    Case("MaxPool", 11, [f32(1, 1, 9, 700)], {"kernel_shape": [18, 17], "pads": [9, 8, 9, 8]}),
    Case("AveragePool", 11, [f32(2, 3, 11, 7)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Case("MaxPool", 11, [f32(1, 2, 700)], {"kernel_shape": [300]}),
    Case("AveragePool", 11, [f32(1, 1, 260, 15)], {"kernel_shape": [250, 3]}),
    Case("MaxPool", 12, [f32(1, 2, 7, 8)], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}, outputs=2),
    Case("MaxPool", 12, [f32(1, 2, 7, 8)], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, outputs=2),
    Case("MaxPool", 12, [f32(1, 2, 9)], {"kernel_shape": [3], "auto_pad": "SAME_UPPER"}),
    Case("MaxPool", 8, [f32(1, 2, 4, 4)], {"kernel_shape": [2, 2], "storage_order": 1}, outputs=2),
    Case("AveragePool", 11, [f32(1, 2, 7, 8)], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    Case("AveragePool", 19, [f32(1, 2, 7, 8)], {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "count_include_pad": 1}),
    Case("AveragePool", 11, [f32(1, 2, 7)], {"kernel_shape": [4], "auto_pad": "SAME_LOWER"}),
    Case("AveragePool", 11, [f32(2, 3, 7, 6)], {"kernel_shape": [7, 6], "strides": [2, 1]}),
    Case("MaxPool", 11, [f32(2, 3, 20)], {"kernel_shape": [20]}),
    Case("LpPool", 11, [f32(1, 2, 6, 6)], {"kernel_shape": [2, 3], "p": 3}),
    Case("GlobalAveragePool", 1, [f32(2, 3, 4, 5)]),
    Case("GlobalMaxPool", 1, [f32(2, 3, 4)]),
    Case("GlobalLpPool", 2, [f32(2, 3, 4, 5)], {"p": 2}),
    Case("MaxUnpool", 11, [f32(1, 1, 2, 2), i64(5, 7, 13, 15).reshape(1, 1, 2, 2)], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("Upsample", 7, [f32(1, 2, 3, 3)], {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
    Case("Upsample", 9, [f32(1, 2, 3, 3), floats(1, 1, 2, 2)], {"mode": "linear"}, constants=(1,)),
    Case("Resize", 10, [f32(1, 2, 6, 6), floats(1, 1, 0.5, 0.7)], {"mode": "nearest"}, constants=(1,)),
    Case("Resize", 10, [f32(1, 2, 6, 6), floats(1, 1, 0.5, 1.5)], {"mode": "linear"}),
    *resized(13, f32(1, 1, 4, 4), floats(1, 1, 0.8, 1.6), None, **CUBIC),
    *resized(13, f32(1, 1, 4, 4), floats(1, 1, 0.8, 1.6), None, exclude_outside=1, cubic_coeff_a=-0.5, **CUBIC),
    *resized(13, f32(1, 1, 4, 4), None, i64(1, 1, 3, 7), coordinate_transformation_mode="align_corners", **LINEAR),
    *resized(13, f32(1, 1, 4, 4), None, i64(1, 1, 3, 7), coordinate_transformation_mode="pytorch_half_pixel", **LINEAR),
    *resized(13, f32(1, 1, 4, 4), None, i64(1, 1, 9, 7), nearest_mode="ceil", coordinate_transformation_mode="asymmetric"),
    # Of three terms, of which the order decides which side of an element this is on.
    *resized(19, f32(1, 5, 3), floats(1, 0.5, 1.5), None, nearest_mode="floor", coordinate_transformation_mode="half_pixel_symmetric"),
    *resized(18, f32(1, 1, 9, 8), floats(1, 1, 0.6, 0.5), None, antialias=1, **LINEAR),
    *resized(18, f32(1, 1, 9, 8), None, i64(6, 4), axes=[2, 3], keep_aspect_ratio_policy="not_larger", **LINEAR),
    Case("GridSample", 16, [f32(1, 2, 4, 5), f32(1, 3, 3, 2)], {"mode": "bilinear", "padding_mode": "reflection"}),
    Case("GridSample", 16, [f32(1, 2, 4, 5), f32(1, 3, 3, 2)], {"mode": "bicubic", "padding_mode": "border", "align_corners": 1}),
    Case("RoiAlign", 16, [f32(2, 2, 6, 7), floats(0, 0, 5, 4, 1, 1, 6, 6).reshape(2, 4), i64(0, 1)], {"output_height": 2}),
    Case("RoiAlign", 16, [f32(2, 70, 6, 7), floats(0, 0, 5, 4, 1, 1, 9, 6).reshape(2, 4), i64(1, 0)], {"output_width": 3}),
    Case("RoiAlign", 16, [f32(1, 70, 6, 7), floats(-3, 0, 5, 4).reshape(1, 4), i64(0)], {"mode": "max", "sampling_ratio": 1}),
    Case("MaxRoiPool", 1, [f32(2, 2, 6, 7), floats(1, 0, 0, 5, 4).reshape(1, 5)], {"pooled_shape": [2, 3], "spatial_scale": 0.5}),
    Case("RNN", 14, [f32(4, 2, 3), f32(1, 5, 3), f32(1, 5, 5), f32(1, 10)], {"hidden_size": 5}, outputs=2),
    Case(
        "GRU",
        14,
        [f32(4, 2, 3), f32(2, 15, 3), f32(2, 15, 5), f32(2, 30), np.array([4, 2], np.int32), f32(2, 2, 5)],
        {"hidden_size": 5, "direction": "bidirectional", "linear_before_reset": 1},
        outputs=2,
    ),
    Case(
        "LSTM",
        14,
        [f32(4, 2, 3), f32(1, 20, 3), f32(1, 20, 5), f32(1, 40), np.array([4, 3], np.int32), None, f32(1, 2, 5), f32(1, 15)],
        {"hidden_size": 5, "direction": "reverse", "clip": 0.5},
        outputs=3,
    ),
    Case(
        "LSTM",
        7,
        [f32(4, 2, 3), f32(1, 20, 3), f32(1, 20, 5)],
        {
            "hidden_size": 5,
            "activations": ["HardSigmoid", "Elu", "Softsign"],
            "activation_alpha": [0.3, 0.7],
            "activation_beta": [0.4],
        },
        outputs=3,
    ),
    Case(  # more sequences than are taken together
        "LSTM",
        14,
        [
            *(f32(4, 6, 3), f32(2, 20, 3), f32(2, 20, 5), f32(2, 40), np.array([4, 3, 1, 4, 2, 4], np.int32)),
            *(f32(2, 6, 5), f32(2, 6, 5), f32(2, 15)),
        ],
        {"hidden_size": 5, "direction": "bidirectional"},
        outputs=3,
    ),
    Case(  # activations that differ by direction
        "RNN",
        14,
        [f32(4, 6, 3), f32(2, 5, 3), f32(2, 5, 5), f32(2, 10), None, f32(2, 6, 5)],
        {"hidden_size": 5, "direction": "bidirectional", "activations": ["Relu", "Tanh"]},
        outputs=2,
    ),
    Case(
        "GRU",
        14,
        [f32(4, 3, 2), f32(2, 18, 2), f32(2, 18, 6), f32(2, 36)],
        {"hidden_size": 6, "direction": "bidirectional", "activations": ["Sigmoid", "Tanh", "Tanh", "Sigmoid"]},
        outputs=2,
    ),
    Case(
        "LSTM",
        14,
        [f32(4, 3, 2), f32(2, 24, 2), f32(2, 24, 6), f32(2, 48)],
        {"hidden_size": 6, "direction": "bidirectional", "activations": ["Sigmoid", "Tanh", "Tanh", "Tanh", "Sigmoid", "Softsign"]},
        outputs=3,
    ),
    Case("DFT", 17, [f32(2, 12, 1)], {"onesided": 1}),
    Case("DFT", 17, [f32(2, 16, 2)], {"inverse": 1}),
    Case("STFT", 17, [f32(1, 40, 1), np.array(8), floats(*np.hanning(16))], {"onesided": 1}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_onnxruntime(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(dtype: Any) -> None:
    x, w = f32(2, 3, 5, 5).astype(dtype), f32(4, 3, 3, 3).astype(dtype)
    wide = Case("Conv", 11, [x.astype(np.float32), w.astype(np.float32)])
    check(Case("Conv", 11, [x, w]), [onnxruntime_outputs(wide)[0].astype(dtype)], rtol=2e-3, atol=2e-3)
    a, b = f32(3, 4).astype(dtype), f32(4, 5).astype(dtype)
    check(Case("MatMul", 13, [a, b]), [(a.astype(np.float64) @ b.astype(np.float64)).astype(dtype)], rtol=1e-3, atol=1e-3)


def test_integer_products_wrap() -> None:
    a, b = np.array([[2**31 - 1]], np.int32), np.array([[3]], np.int32)
    with np.errstate(over="ignore"):
        check(Case("MatMul", 13, [a, b]), [a * b])


@pytest.mark.parametrize("depth", [255, 256, 257, 700])
def test_deep_products_of_extreme_integers_are_exact(depth: int) -> None:
    a, b = np.full((2, depth), 255, np.uint8), np.full((depth, 3), -128, np.int8)
    a[1] = np.arange(depth)
    zeros = [np.array(0, np.uint8), np.array(127, np.int8)]
    expected = a.astype(np.int32) @ (b.astype(np.int32) - 127)
    check(Case("MatMulInteger", 10, [a, b, *zeros]), [expected], interpreted=False)
    check(Case("MatMulInteger", 10, [a[None], b, *zeros], constants=(1, 2, 3)), [expected[None]], interpreted=False)


@pytest.mark.parametrize(
    ("image", "filters", "attributes"),
    [
        ((1, 5, 7, 8), (4, 5, 3, 3), {"pads": [1, 1, 1, 0]}),
        ((2, 31, 5, 6), (3, 31, 3, 3), {"strides": [2, 1]}),
        ((1, 64, 4, 4), (2, 64, 3, 3), {"dilations": [1, 2], "pads": [1, 1, 1, 1]}),
        ((1, 6, 5, 5), (8, 3, 2, 2), {"group": 2}),
        ((1, 600, 2, 3), (4, 300, 1, 1), {"group": 2}),
        ((1, 8, 6, 6), (8, 1, 3, 3), {"group": 8, "auto_pad": "SAME_UPPER"}),
        ((1, 2, 18, 19), (3, 2, 17, 16), {}),
        ((1, 300, 9), (2, 300, 3), {}),
    ],
)
def test_convolution_of_extreme_integers_is_exact(image: Any, filters: Any, attributes: dict[str, Any]) -> None:
    x, w = RNG.choice(np.array([0, 255], np.uint8), image), RNG.choice(np.array([0, 255], np.uint8), filters)
    x[0], w[0] = 255, 255
    for zeros, constants in (((0, 0), ()), ((255, 7), (1, 2, 3))):
        case = Case("ConvInteger", 10, [x, w, *(np.array(z, np.uint8) for z in zeros)], attributes, constants)
        check(case, onnxruntime_outputs(case), interpreted=False)


INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("aligned", [0, 1])
def test_samples_at_places_that_are_no_numbers(mode: str, aligned: int) -> None:
    """Infinitely far there is what the padding says; NaN is -1, as in PyTorch, to which the standard refers, and in onnxruntime."""
    x = np.arange(1, 13, dtype=np.float32).reshape(1, 1, 3, 4)

    def sampled(padding: str, *places: tuple[float, float]) -> np.ndarray[Any, Any]:
        grid = np.array(places, np.float32).reshape(1, 1, -1, 2)
        case = Case("GridSample", 20, [x, grid], {"mode": mode, "padding_mode": padding, "align_corners": aligned})
        found = [backend.prepare(model(case, False), jit=jit).run(feeds(case))[0] for jit in (True, False)]
        np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
        return found[0][0, 0, 0]

    far = [(INF, 0.3), (-INF, 0.3), (0.3, INF), (0.3, -INF), (INF, -INF), (3e38, 0.3), (0.3, -3e38)]
    np.testing.assert_array_equal(sampled("zeros", *far), np.zeros(len(far)))
    near = np.clip(far, -30, 30)
    np.testing.assert_allclose(sampled("border", *far), sampled("border", *near), rtol=1e-6)
    lost, first = [(NAN, 0.3), (0.3, NAN), (NAN, NAN)], [(-1, 0.3), (0.3, -1), (-1, -1)]
    for padding in ("zeros", "border", "reflection"):
        np.testing.assert_array_equal(sampled(padding, *lost), sampled(padding, *first))
    # No reflection of it lies anywhere.
    np.testing.assert_array_equal(sampled("reflection", (INF, 0.3), (0.3, -INF)), sampled("reflection", *first[:2]))
