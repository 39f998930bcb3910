"""onnxruntime's own operators on quantised tensors against onnxruntime, with dims known and unknown: equal, step for step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operators import Case, check, onnxruntime_outputs

RNG = np.random.default_rng(23)
DOMAIN = "com.microsoft"
Array = np.ndarray[Any, Any]


def u8(*shape: int) -> Array:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def i8(*shape: int) -> Array:
    return RNG.integers(-128, 128, shape).astype(np.int8)


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def scale(*values: float) -> Array:
    return np.array(values[0] if len(values) == 1 else values, np.float32)


def zero(x: Array, *values: int) -> Array:
    return np.array(values[0] if len(values) == 1 else values, x.dtype)


def case(op: str, inputs: list[Any], constants: tuple[int, ...] = (), outputs: int = 1, **attributes: Any) -> Case:
    return Case(op, 1, inputs, attributes, constants, outputs, DOMAIN)


def pairs(op: str) -> list[Case]:
    """Both types, broadcast both ways, with scales as constants and as inputs, zero points there or not."""
    a, b, c, d = u8(3, 1, 5), u8(4, 1), i8(2, 3), i8(3)
    return [
        case(op, [a, scale(0.02), zero(a, 128), b, scale(0.03), zero(b, 7), scale(0.05), zero(a, 100)]),
        case(op, [b, scale(0.5), zero(b, 0), a, scale(0.25), zero(a, 1), scale(1.0), zero(a, 0)], (1, 4, 6)),
        case(op, [c, scale(0.04), zero(c, -3), d, scale(0.01), zero(d, 9), scale(0.02), zero(c, -128)], (1, 2, 4, 5, 6, 7)),
        case(op, [d, scale(0.1), zero(d, 1), i8(), scale(0.2), zero(d, 0), scale(0.03), zero(d, 5)]),
    ]


def lookups(op: str, **attributes: Any) -> list[Case]:
    every, signed = np.arange(256).astype(np.uint8), np.arange(-128, 128).astype(np.int8).reshape(16, 16)
    return [
        case(op, [every, scale(0.05), zero(every, 120), scale(1 / 256), zero(every, 0)], (1, 2, 3, 4), **attributes),
        case(op, [signed, scale(0.03), zero(signed, 5), scale(0.01), zero(signed, -100)], **attributes),
        case(op, [signed, scale(0.03), None, scale(0.02), None], **attributes),
    ]


X, Y, Z = u8(2, 3, 4), u8(2, 1, 4), i8(2, 5, 4)
IMAGE, SIGNED = u8(2, 3, 6, 7), i8(2, 3, 6, 7)
POOL: list[Any] = [IMAGE, scale(0.037), zero(IMAGE, 111), scale(0.031), zero(IMAGE, 9)]
SIGNED_POOL: list[Any] = [SIGNED, scale(0.037), zero(SIGNED, -11), scale(0.031), zero(SIGNED, 9)]

CASES = [
    *pairs("QLinearAdd"),
    *pairs("QLinearMul"),
    *lookups("QLinearLeakyRelu"),
    *lookups("QLinearLeakyRelu", alpha=0.3),
    *lookups("QLinearSigmoid"),
    case(
        "QLinearWhere",
        [RNG.random((3, 1)) < 0.5, X, scale(0.02), zero(X, 3), Y, scale(0.03), zero(Y, 30), scale(0.025), zero(X, 20)],
    ),
    case(
        "QLinearWhere",
        [RNG.random((2, 5, 4)) < 0.5, Z, scale(0.02), zero(Z, -3), Z[:1, :1], scale(0.02), zero(Z, -3), scale(0.02), zero(Z, -3)],
        (2, 3, 5, 6, 7, 8),
    ),
    case(
        "QLinearConcat",
        [scale(0.02), zero(X, 3), X, scale(0.03), zero(X, 7), Y, scale(0.02), zero(Y, 3), X, scale(0.01), zero(X, 0)],
        (0, 1, 3, 4, 6, 7, 9, 10),
        axis=1,
    ),
    case("QLinearConcat", [scale(0.02), zero(Z, 3), Z, scale(0.03), zero(Z, -7), Z, scale(0.02), zero(Z, 3)], axis=-1),
    case("QLinearSoftmax", [X, scale(0.05), zero(X, 3), scale(1 / 256), zero(X, 0)], (1, 2, 3, 4), opset=13),
    case("QLinearSoftmax", [X, scale(0.3), None, scale(1 / 256), zero(X, 0)], opset=12, axis=1),
    case("QLinearSoftmax", [X, scale(0.3), None, scale(1 / 256), zero(X, 0)], opset=12),
    case("QLinearSoftmax", [Z, scale(0.02), zero(Z, 3), scale(1 / 127), zero(Z, -100)], opset=13, axis=1),
    case("QLinearSoftmax", [np.array([[100, -100, -100]], np.int8), scale(1.0), zero(Z, 0), scale(1 / 256), zero(Z, -100)], opset=13),
    case("QLinearGlobalAveragePool", POOL),
    case("QLinearGlobalAveragePool", SIGNED_POOL, (1, 2, 3, 4), channels_last=1),
    case("QLinearAveragePool", POOL, kernel_shape=[2, 3], strides=[2, 1]),
    case("QLinearAveragePool", SIGNED_POOL, (1, 2, 3, 4), kernel_shape=[3, 3], pads=[1, 1, 1, 0], count_include_pad=1),
    case("QLinearAveragePool", SIGNED_POOL, kernel_shape=[3, 3], pads=[1, 1, 1, 0], strides=[2, 2], ceil_mode=1),
    case("QLinearAveragePool", POOL, kernel_shape=[2, 2], auto_pad="SAME_LOWER", channels_last=1),
    case("QLinearAveragePool", [IMAGE[0], scale(0.04), zero(IMAGE, 0), scale(0.05), zero(IMAGE, 0)], kernel_shape=[3]),
    case("QLinearAveragePool", POOL, kernel_shape=[6, 7]),
    case(
        "QLinearConv",
        # Weights of 7 bits: without VNNI, onnxruntime adds two products in 16 bits.
        [IMAGE, scale(0.02), zero(IMAGE, 7), i8(4, 7, 3, 2) // 2, scale(0.01), zero(Z, 0), scale(0.5), zero(IMAGE, 99)],
        (1, 2, 3, 4, 5, 6, 7),
        channels_last=1,
        pads=[1, 1, 1, 0],
    ),
    case("NhwcMaxPool", [IMAGE], kernel_shape=[2, 3], pads=[1, 0, 1, 1], strides=[1, 2]),
    case("NhwcMaxPool", [SIGNED], kernel_shape=[3, 3], dilations=[1, 2]),
    case("QuantizeLinear", [f32(3, 4), scale(0.02), zero(Z, 3)]),
    case("QuantizeLinear", [f32(3, 4), scale(0.02, 0.03, 0.04), zero(X, 3, 100, 128)], axis=0),
    case("QuantizeLinear", [f32(3, 4), scale(0.0001), np.array(30000, np.uint16)]),
    case("QuantizeLinear", [f32(3, 2), scale(0.0002, 0.0001), np.array([0, -7], np.int16)], axis=1),
    *(
        case(
            "QuantizeLinear", [np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.5, 1.5, -0.5], np.float32), scale(1.0), np.array(5, kind)]
        )
        for kind in (np.uint8, np.int8, np.uint16, np.int16)
    ),
    case("DequantizeLinear", [X, scale(0.02), zero(X, 3)]),
    case("DequantizeLinear", [Z, scale(0.02, 0.3, 0.1, 1.0), zero(Z, 3, 1, 0, -128)], (1, 2), axis=2),
    case("DequantizeLinear", [RNG.integers(-9999, 9999, (3, 2)).astype(np.int32), scale(0.02), None]),
    case("DequantizeLinear", [RNG.integers(-9999, 9999, (3, 2)).astype(np.int16), scale(0.02), np.array(300, np.int16)]),
]


@pytest.mark.parametrize("given", CASES, ids=str)
def test_result_equals_that_of_onnxruntime(given: Case) -> None:
    check(given, onnxruntime_outputs(given))


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("QLinearAdd", [Z, scale(0.5), None, Z[:1], scale(0.25), None, scale(1.0)], {}),
        ("QLinearMul", [X, scale(0.5), None, Y, scale(0.25), None, scale(20.0), None], {}),
        ("QLinearLeakyRelu", [Z, scale(0.5), None, scale(0.7)], {}),
        ("QLinearSigmoid", [X, scale(0.02), None, scale(0.01)], {}),
        ("QLinearAveragePool", [X, scale(0.5), None, scale(0.6)], {"kernel_shape": [2]}),
    ],
)
def test_a_zero_point_that_is_left_out_is_zero(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    places = {2, 5, 7} if len(inputs) > 5 else {2, 4}
    whole = [zero(inputs[0], 0) if k in places else x for k, x in enumerate([*inputs, None][: max(places) + 1])]
    expected = onnxruntime_outputs(case(op, whole, **attributes))
    check(case(op, inputs, **attributes), expected, interpreted=False)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_every_pair_of_numbers_is_added_and_multiplied_as_by_onnxruntime(dtype: Any) -> None:
    numbers = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)
    left, right = np.repeat(numbers, 256), np.tile(numbers, 256)
    parameters = [zero(left, 5), right, scale(0.25), zero(right, 77), scale(0.75), zero(left, 3)]
    for op in ("QLinearAdd", "QLinearMul"):
        given = case(op, [left, scale(0.5), *parameters])
        check(given, onnxruntime_outputs(given), interpreted=False)


def dequantised(x: Array, step: Array, origin: Array) -> Array:
    return np.asarray((x.astype(np.float64) - origin.astype(np.float64)) * step)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_axes(keepdims: int) -> None:
    """onnxruntime declares the operator and has no kernel for it."""
    step, origin, out_step, out_origin = scale(0.02), zero(Z, 3), scale(0.011), zero(Z, -20)
    means = dequantised(Z, step, origin).mean(axis=(0, 2), keepdims=bool(keepdims))
    expected = np.clip(np.rint(means / out_step) + out_origin, -128, 127).astype(np.int8)
    check(case("QLinearReduceMean", [Z, step, origin, out_step, out_origin], axes=[0, 2], keepdims=keepdims), [expected])


def test_integer_products_and_sums_are_32_bits_wide() -> None:
    """onnxruntime declares these operators and has no kernels for them."""
    product = (X.astype(np.int32) - 7) * (Y.astype(np.int32) - 200)
    check(case("MulInteger", [X, zero(X, 7), Y, zero(Y, 200)]), [product])
    check(case("ReduceSumInteger", [X], axes=[1], keepdims=0), [X.sum(axis=1, dtype=np.uint32)])
    check(case("ReduceSumInteger", [Z], axes=[0, -1], keepdims=1), [Z.sum(axis=(0, 2), dtype=np.int32, keepdims=True)])
