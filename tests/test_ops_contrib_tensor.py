"""onnxruntime's own operators on tensors, signals and text against onnxruntime, or NumPy where it has no kernel on the CPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from operators import Case, check, feeds, model, onnxruntime_outputs

import onnx_numba.backend as backend
from onnx_numba.errors import OnnxNumbaError

RNG = np.random.default_rng(31)
Array = np.ndarray[Any, Any]


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def i32(*values: int) -> Array:
    return np.array(values, np.int32)


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def texts(*values: str) -> Array:
    return np.array(values, object)


def case(op: str, inputs: list[Any], constants: tuple[int, ...] = (), outputs: int = 1, **attributes: Any) -> Case:
    return Case(op, 1, inputs, attributes, constants, outputs, "com.microsoft")


def boxes(*rows: tuple[float, ...]) -> Array:
    return np.array(rows, np.float32)


IMAGES = f32(2, 3, 5, 6)
BOXES = boxes((0, 0, 1, 1), (0.1, 0.2, 0.9, 0.6), (-0.2, 0.5, 1.1, 1.4), (0.8, 0.9, 0.2, 0.1))
WHICH = i32(0, 1, 1, 0)
TOKENS = i64(1, 2, 3, 1, 2, 4, 1, 2, 5, 5, 5, 5, 5, 5, 5, 5).reshape(2, 8)

CASES = [
    case("Trilu", [f32(3, 4), np.array(1, np.int64)], (1,)),
    case("Trilu", [f32(2, 3, 4), np.array(-1, np.int64)], upper=0),
    case("Trilu", [RNG.integers(-9, 9, (4, 3))]),
    case("ExpandDims", [f32(2, 3), np.array(1, np.int32)], (1,)),
    case("ExpandDims", [f32(2, 3), np.array(-1, np.int32)], (1,)),
    case("ExpandDims", [f32(2, 3), np.array(-3, np.int32)]),
    case("ExpandDims", [texts("a", "b"), np.array(0, np.int32)], (1,)),
    case("Pad", [f32(2, 3), i64(0, 2, 1, 0)], (1,)),
    case("Pad", [f32(2, 3), i64(0, 2, 1, -1).reshape(1, 4), np.array([1.5], np.float32)], (1,)),
    case("Pad", [f32(4, 3), i64(1, 2, 1, 0)], mode="reflect"),
    case("Pad", [f32(2, 3), i64(0, 2, 1, 1)], (1,), mode="edge"),
    case("GatherND", [f32(2, 3, 4), i64(0, 1, 1, 2).reshape(2, 2)]),
    case("GatherND", [RNG.integers(-9, 9, (2, 3)), i32(1, 0).reshape(2, 1)], (1,)),
    case("Range", [np.array(2, np.int32), np.array(9, np.int32), np.array(3, np.int32)]),
    case("Range", [np.array([0.5], np.float32), np.array([3.0], np.float32)]),
    case("Range", [np.array(5, np.int16), np.array(0, np.int16), np.array(-2, np.int16)], (0, 1, 2)),
    case("SampleOp", [f32(2, 3)]),
    case("UnfoldTensor", [f32(2, 7, 3)], dim=1, size=3, step=2),
    case("UnfoldTensor", [RNG.integers(-9, 9, (2, 5))], size=2),
    case("Unique", [np.array([2, 1, 1, 3, 4, 3], np.float32)], outputs=3),
    case("Inverse", [f32(3, 3)]),
    case("Inverse", [f32(2, 3, 4, 4).astype(np.float64)]),
    case("Inverse", [np.array([[0, 2], [1, 0]], np.float32)]),
    case("TransposeMatMul", [f32(2, 4, 3), f32(2, 5, 4)], transA=1, transB=1, alpha=0.5),
    case("TransposeMatMul", [f32(3, 4), f32(4, 2)]),
    case("ConvTransposeWithDynamicPads", [f32(1, 3, 4, 5), f32(3, 2, 3, 3), i64(1, 0, 1, 2), f32(2)], (2,), strides=[2, 3]),
    case("ConvTransposeWithDynamicPads", [f32(1, 3, 4, 5), f32(3, 2, 3, 3), i64(0, 1, 2, 0)], dilations=[1, 2]),
    *(
        case("GridSample", [IMAGES, f32(2, 2, 3, 2)], mode=mode, padding_mode=border, align_corners=corners)
        for mode, border, corners in (
            ("bilinear", "zeros", 0),
            ("nearest", "border", 1),
            ("bicubic", "reflection", 1),
            ("bicubic", "border", 0),
            ("bicubic", "border", 1),
        )
    ),
    case("DynamicTimeWarping", [f32(5, 7)]),
    case("DynamicTimeWarping", [np.round(f32(1, 9, 4))]),
    case("DynamicTimeWarping", [np.ones((3, 3), np.float32)]),
    case("CDist", [f32(4, 3), f32(2, 3)]),
    case("CDist", [f32(5, 16), f32(70, 16)], metric="euclidean"),
    case("CDist", [f32(4, 9).astype(np.float64), f32(5, 9).astype(np.float64)], metric="euclidean"),
    case("NGramRepeatBlock", [TOKENS, f32(2, 7)], ngram_size=3),
    case("NGramRepeatBlock", [TOKENS, f32(2, 7)], ngram_size=1),
    case("NGramRepeatBlock", [TOKENS, f32(2, 7)], ngram_size=9),
    case("CropAndResize", [IMAGES, BOXES, WHICH, i32(4, 3)], (3,)),
    case("CropAndResize", [IMAGES, BOXES, WHICH, i32(3, 1)], extrapolation_value=-2.5),
    case("CropAndResize", [IMAGES, BOXES, WHICH, i32(4, 5)], (3,), mode="nearest", extrapolation_value=9.0),
    case("MurmurHash3", [RNG.integers(-(2**31), 2**31, (3, 4)).astype(np.int32)]),
    case("MurmurHash3", [RNG.integers(-(2**62), 2**62, 5)], positive=0, seed=42),
    case("MurmurHash3", [f32(6)], seed=7),
    case("MurmurHash3", [f32(6).astype(np.float64)], positive=0),
    case("MurmurHash3", [np.arange(5, dtype=np.uint64) * 0x123456789ABCD]),
    case("MurmurHash3", [texts("", "a", "ab", "abc", "abcd", "größer als zuvor")]),
    case("MurmurHash3", [texts("x", "yz").reshape(2, 1)], positive=0, seed=3),
]


@pytest.mark.parametrize("given", CASES, ids=str)
def test_result_is_that_of_onnxruntime(given: Case) -> None:
    check(given, onnxruntime_outputs(given), rtol=1e-4, atol=1e-5)


# ---- onnxruntime has no kernels for these on the CPU


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_real_fourier_transform(dtype: Any) -> None:
    x = f32(3, 4, 6).astype(dtype)
    for axes in ((-1,), (-2, -1)):
        values = np.fft.rfftn(x.astype(np.float64), axes=axes)
        parts = np.stack([values.real, values.imag], -1).astype(dtype)
        tolerance = 2e-2 if dtype is np.float16 else 1e-5
        check(case("Rfft", [x], signal_ndim=len(axes)), [parts], tolerance, tolerance)
        check(case("Irfft", [parts], signal_ndim=len(axes)), [x], tolerance, tolerance)


def test_bias_serves_several_rows_of_a_softmax() -> None:
    x = f32(2, 3, 4, 5).astype(np.float64)
    for bias, inner in ((f32(2, 1, 1, 5), 1), (f32(3, 4, 5), 0), (f32(1, 1, 4, 5), 0)):
        values = np.exp(x + bias)
        expected = (values / values.sum(-1, keepdims=True)).astype(np.float32)
        check(case("BiasSoftmax", [x.astype(np.float32), bias], axis=3, is_inner_broadcast=inner), [expected], interpreted=False)


def test_gelu_of_the_second_half_scales_the_first() -> None:
    x, bias = f32(2, 3, 8), f32(8)
    left, right = np.split((x + bias).astype(np.float64), 2, axis=-1)
    gelu = right * 0.5 * (1 + np.vectorize(math.erf)(right / math.sqrt(2)))
    check(case("BiasSplitGelu", [x, bias]), [(left * gelu).astype(np.float32)])


def test_bias_and_skip_are_added() -> None:
    x, bias, skip = f32(2, 3, 4), f32(4), f32(2, 3, 4)
    check(case("BiasAdd", [x, bias, skip]), [x + bias + skip])


@pytest.mark.parametrize("op", ["ComplexMul", "ComplexMulConj"])
def test_product_of_complex_numbers(op: str) -> None:
    x, y = f32(2, 3, 2), f32(3, 2)
    second = y[..., 0] + 1j * y[..., 1]
    product = (x[..., 0] + 1j * x[..., 1]) * (second if op == "ComplexMul" else second.conj())
    check(case(op, [x, y]), [np.stack([product.real, product.imag], -1).astype(np.float32)])


def test_whether_all_is_finite() -> None:
    fine, nan, inf = f32(2, 3), np.array([1, np.nan], np.float32), np.array([-np.inf, 0], np.float32)
    for inputs, attributes, expected in (
        ([fine, fine[0]], {}, True), ([fine, nan], {}, False), ([inf, fine], {}, False),
        ([nan], {"isinf_only": 1}, True), ([inf], {"isnan_only": 1}, True), ([nan], {"isnan_only": 1}, False),
    ):  # fmt: skip
        check(case("IsAllFinite", inputs, **attributes), [np.array(expected)], interpreted=False)


# ---- what the cases above cannot say


def test_inverse_of_half_floats_and_of_a_singular_matrix() -> None:
    x = (f32(2, 3, 3) + 3 * np.eye(3, dtype=np.float32)).astype(np.float16)
    check(case("Inverse", [x]), [np.linalg.inv(x.astype(np.float64)).astype(np.float16)], 1e-3, 1e-3)
    (got,) = backend.prepare(model(case("Inverse", [np.ones((2, 2), np.float32)]), False)).run([np.ones((2, 2), np.float32)])
    assert not np.isfinite(got).any()


@pytest.mark.parametrize("dtype", [np.int64, object])
def test_distinct_elements_in_order(dtype: Any) -> None:
    x = np.array([7, 3, 7, 5, 3], np.int64)
    values = np.array([7, 3, 5], np.int64)
    if dtype is object:
        x, values = x.astype(str).astype(object), values.astype(str).astype(object)
    check(case("Unique", [x], outputs=3), [values, i64(0, 1, 0, 2, 1), i64(2, 2, 1)], interpreted=False)


LINES = texts("Hello World, again", "", "a,b  c", "zażółć gęślą jaźń")
TOKENIZERS: list[tuple[Array, dict[str, Any]]] = [
    (LINES, {"separators": [" "], "mark": 0, "mincharnum": 1}),
    (LINES, {"separators": [" ", ","], "mark": 1, "mincharnum": 2}),
    (LINES, {"separators": ["[, ]+"], "mark": 0, "mincharnum": 1}),
    (LINES, {"separators": [" |, |,"], "mark": 0, "mincharnum": 1}),
    (LINES.reshape(2, 2), {"separators": [""], "mark": 1, "mincharnum": 1}),
    (LINES, {"tokenexp": ".", "mark": 0, "mincharnum": 1}),
    (LINES, {"tokenexp": "[a-z]+", "mark": 1, "mincharnum": 2}),
    (LINES, {"tokenexp": "a|ag|aga", "mark": 0, "mincharnum": 1}),
    (LINES, {"tokenexp": "a?(ga)?", "mark": 0, "mincharnum": 1}),
    (texts("", ""), {"separators": [" "], "mark": 1, "mincharnum": 1}),
    (np.empty((2, 0), object), {"separators": [" "], "mark": 1, "mincharnum": 1}),
    (np.empty((0,), object), {"tokenexp": "a", "mark": 0, "mincharnum": 1}),
]


@pytest.mark.parametrize(("lines", "attributes"), TOKENIZERS, ids=lambda v: str(v)[:60])
def test_tokens_are_those_of_onnxruntime(lines: Array, attributes: dict[str, Any]) -> None:
    given = case("Tokenizer", [lines], pad_value="#", **attributes)
    check(given, onnxruntime_outputs(given), interpreted=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (case("CropAndResize", [IMAGES, BOXES, i32(2, 1, 1, 0), i32(2, 2)], (3,)), "out of range"),
        (case("NGramRepeatBlock", [TOKENS, f32(2, 4)], ngram_size=2), "out of range"),
        (case("UnfoldTensor", [f32(2, 3)], size=4), "size"),
        (case("CDist", [f32(2, 3), f32(2, 4)]), "columns"),
        (case("Inverse", [f32(2, 3)]), "rows"),
        (case("UnfoldTensor", [f32(2, 3)], size=1, step=0), "step"),
        (case("Irfft", [f32(3, 1, 2)], signal_ndim=1), "two frequencies"),
        (case("BiasSoftmax", [f32(3, 4), f32(2)], is_inner_broadcast=0), "bias"),
        (case("Tokenizer", [texts("a")], mark=0, mincharnum=1, pad_value="", tokenexp="("), "regular expression"),
        (case("Tokenizer", [texts("a")], mark=0, mincharnum=1, pad_value=""), "separators and tokenexp"),
        (case("MurmurHash3", [f32(2)], seeds=1), "seeds"),
    ],
    ids=str,
)
def test_bad_input_is_refused(given: Case, message: str) -> None:
    with pytest.raises(OnnxNumbaError, match=message):
        backend.prepare(model(given, False)).run(feeds(given))
