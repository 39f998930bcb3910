"""Sorting, detection, losses, determinants, quantisation and text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser
from operators import Case, check, model, onnxruntime_outputs, reference_outputs

import onnx_numba.backend as backend
from onnx_numba.errors import ExecutionError, OnnxNumbaError
from onnx_numba.runtime.hosts_sort import FEW, _numbered

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(13)


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


X = f32(3, 7, 2)
BOXES = np.sort(RNG.random((2, 9, 4)).astype(np.float32).reshape(2, 9, 2, 2), axis=2).reshape(2, 9, 4)
SCORES = RNG.random((2, 3, 9)).astype(np.float32)
MANY_BOXES = np.concatenate([PLACES := np.random.default_rng(1).random((1, 500, 2)).astype(np.float32), PLACES + np.float32(0.08)], 2)
MANY_SCORES = np.round(np.random.default_rng(2).random((1, 2, 500)), 2).astype(np.float32)
U8 = RNG.integers(0, 256, (4, 6)).astype(np.uint8)
I8 = RNG.integers(-128, 128, (6, 5)).astype(np.int8)
POINT, ONE = np.array(7, np.uint8), np.array(0.02, np.float32)
IMAGE = RNG.integers(0, 256, (1, 2, 5, 5)).astype(np.uint8)
KERNEL = RNG.integers(0, 256, (3, 2, 3, 3)).astype(np.uint8)

CASES = [
    Case("TopK", 11, [X, i64(3)], {"axis": 1}, (1,), outputs=2),
    Case("TopK", 11, [X, i64(7)], {"axis": 1, "largest": 0}, outputs=2),
    Case("TopK", 10, [np.round(X), i64(4)], {"axis": 1}, outputs=2),
    Case("TopK", 1, [X], {"axis": 0, "k": 2}, outputs=2),
    Case("TopK", 11, [RNG.integers(0, 5, (4, 40)), i64(20)], {}, (1,), outputs=2),
    Case("Unique", 11, [np.round(f32(12))], {}, outputs=4),
    Case("Unique", 11, [np.round(f32(12))], {"sorted": 0}, outputs=4),
    Case("Unique", 11, [np.round(RNG.standard_normal((5, 9)))], {}),
    Case("Unique", 11, [RNG.integers(-4, 4, 60)], {"sorted": 0}),
    Case("Unique", 11, [np.round(f32(5, 2) / 2)], {"axis": 0}, outputs=4),
    Case("NonMaxSuppression", 11, [BOXES, SCORES, i64(4), f32(1) * 0 + 0.1, f32(1) * 0 + 0.3]),
    Case("NonMaxSuppression", 10, [BOXES, SCORES, i64(9), f32(1) * 0 + 0.4, f32(1) * 0], {"center_point_box": 1}, (2,)),
    Case("NonMaxSuppression", 11, [BOXES, SCORES]),
    Case("NonMaxSuppression", 11, [MANY_BOXES, MANY_SCORES, i64(150), f32(1) * 0 + 0.3]),
    Case("NonMaxSuppression", 11, [MANY_BOXES, MANY_SCORES, i64(200), f32(1) * 0 + 0.05], {"center_point_box": 1}),
    Case("Det", 11, [f32(3, 4, 4)]),
    Case("NegativeLogLikelihoodLoss", 13, [f32(4, 5), i64(0, 4, 2, 2), f32(5)], {"ignore_index": 2}),
    Case("NegativeLogLikelihoodLoss", 13, [f32(2, 5, 3), RNG.integers(0, 5, (2, 3))], {"reduction": "none"}),
    Case("SoftmaxCrossEntropyLoss", 13, [f32(4, 5), i64(0, 4, 2, 2), f32(5)], {"reduction": "sum"}, outputs=2),
    Case("QuantizeLinear", 13, [X, np.array(0.1, np.float32), np.array(3, np.int8)]),
    Case("QuantizeLinear", 13, [X, np.abs(f32(7)) + 0.1, RNG.integers(0, 9, 7).astype(np.uint8)], {"axis": 1}),
    Case("QuantizeLinear", 21, [f32(3, 6), np.abs(f32(3, 2)) + 0.1], {"axis": 1, "block_size": 3}),
    Case("DequantizeLinear", 13, [U8, ONE, POINT]),
    Case("DequantizeLinear", 13, [RNG.integers(-999, 999, (3, 4)).astype(np.int32), ONE]),
    Case("DynamicQuantizeLinear", 11, [X], outputs=3),
]


PRODUCTS_OF_BYTES = [
    Case("MatMulInteger", 10, [U8, I8, POINT, np.array(2, np.int8)]),
    Case("QLinearMatMul", 10, [U8, ONE, POINT, I8, ONE, np.array(0, np.int8), np.array(0.9, np.float32), POINT]),
    Case("ConvInteger", 10, [IMAGE, KERNEL, POINT], {"pads": [1, 1, 1, 1]}),
    Case("QLinearConv", 10, [IMAGE, ONE, POINT, KERNEL, ONE, POINT, np.array(0.5, np.float32), POINT], {"strides": [2, 2]}),
]


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("kind", [*"fdbBhHiIqQ", "e"])
def test_most_of_a_lane_in_order(kind: str, largest: int) -> None:
    """NaN is greater than everything, zeros of both signs are equal, and of equal elements the earlier is first."""
    dtype = np.dtype(kind)
    x = RNG.integers(-40 if dtype.kind != "u" else 0, 40, (2, 70, 3)).astype(dtype)
    if dtype.kind == "f":
        x[:, 5:9], x[:, 20:24:2], x[:, 30:33], x[:, 40:42], x[:, 43] = np.nan, -0.0, np.inf, -np.inf, np.finfo(dtype).tiny
        x[:, 8] = -x[:, 8]
    else:
        x[:, 5:7], x[:, 9] = np.iinfo(dtype).max, np.iinfo(dtype).min
    for k in (24, 70):
        case = Case("TopK", 11, [x, i64(k)], {"axis": 1, "largest": largest}, (1,), outputs=2)
        rank = np.unique(np.where(x == 0, 0, x), return_inverse=True)[1].reshape(x.shape)
        places = np.argsort(-rank if largest else rank, axis=1, kind="stable")[:, :k]
        for jit in (True, False):
            got = backend.prepare(model(case, False), jit=jit).run([x])
            np.testing.assert_array_equal(got[1], places)
            assert got[0].tobytes() == np.take_along_axis(x, places, 1).tobytes()


@pytest.mark.parametrize("case", PRODUCTS_OF_BYTES, ids=str)
def test_the_interpreter_agrees(case: Case) -> None:
    """Where a processor has no instruction for products of bytes, some sums of onnxruntime saturate."""
    check(case, reference_outputs(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_onnxruntime_agrees(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=2e-5, atol=2e-6)


def test_nan_counts_as_greatest_and_ties_go_to_the_first() -> None:
    x = np.array([[1, np.nan, 1, 3, 1, -np.inf]], np.float32)
    greatest = [np.array([[np.nan, 3, 1, 1]], np.float32), np.array([[1, 3, 0, 2]])]
    check(Case("TopK", 11, [x, i64(4)], {}, (1,), outputs=2), greatest)
    smallest = [np.array([[-np.inf, 1, 1, 1, 3, np.nan]], np.float32), np.array([[5, 0, 2, 4, 3, 1]])]
    check(Case("TopK", 11, [x, i64(6)], {"largest": 0}, (1,), outputs=2), smallest)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("rise", [-1, 0, 1])
def test_long_lanes(largest: int, rise: int) -> None:
    """More elements than are looked at one by one, rising, falling or neither, with equal ones and NaN among them."""
    x = np.round(f32(3, 500) * 20 + rise * np.arange(500, dtype=np.float32))
    x[1, RNG.integers(0, 500, 5)] = np.nan
    k = 37
    keys = np.where(np.isnan(x), np.inf, x) * (-1 if largest else 1)
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    check(Case("TopK", 11, [x, i64(k)], {"largest": largest}, (1,), outputs=2), [np.take_along_axis(x, order, 1), order])


def test_more_than_there_is_is_an_error() -> None:
    case = Case("TopK", 11, [f32(2, 3), i64(4)], {}, outputs=2)
    with pytest.raises(OnnxNumbaError):
        backend.prepare(model(case, True)).run(list(case.inputs))


def test_a_class_that_does_not_exist_is_an_error() -> None:
    case = Case("NegativeLogLikelihoodLoss", 13, [f32(2, 3), i64(0, 3)])
    with pytest.raises(ExecutionError, match="out of range"):
        backend.prepare(model(case, False)).run(list(case.inputs))


TEXT = [
    Case("StringConcat", 20, [np.array(["a", "b"], object), np.array("c", object)]),
    Case("StringSplit", 20, [np.array(["a b  c", "", "d"], object)], outputs=2),
    Case("StringSplit", 20, [np.array(["a-b-c"], object)], {"delimiter": "-", "maxsplit": 1}, outputs=2),
    Case(
        "TfIdfVectorizer", 9, [np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], np.int32)],
        {
            "max_gram_length": 2, "min_gram_length": 1, "max_skip_count": 5, "mode": "TF", "ngram_counts": [0, 4],
            "ngram_indexes": [0, 1, 2, 3, 4, 5, 6], "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", TEXT, ids=str)
def test_text_agrees_with_onnxruntime(case: Case) -> None:
    check(case, onnxruntime_outputs(case), interpreted=False)


def test_stop_words_are_taken_out() -> None:
    words = np.array(["Mon", "tue", "Wed"], object)
    given = {"case_change_action": "UPPER", "stopwords": ["mon"]}
    check(Case("StringNormalizer", 10, [words], given), [np.array(["TUE", "WED"], object)])
    exact = {"is_case_sensitive": 1, "stopwords": ["mon", "Wed"]}
    check(Case("StringNormalizer", 10, [words], exact), [np.array(["Mon", "tue"], object)])
    nothing = {"stopwords": ["mon", "tue", "wed"]}
    check(Case("StringNormalizer", 10, [words], nothing), [np.array([""], object)])


@pytest.mark.parametrize("zeros", [[0.0, -0.0], [-0.0, 0.0]])
@pytest.mark.parametrize("outputs", [1, 4])
def test_of_equal_zeros_the_first_is_kept(zeros: list[float], outputs: int) -> None:
    case = Case("Unique", 11, [np.array([3.0, np.nan, *zeros, np.nan, 3.0], np.float32)], {}, outputs=outputs)
    values = backend.prepare(model(case, dynamic=False)).run(case.inputs)[0]
    np.testing.assert_array_equal(values, np.float32([0, 3, np.nan]))
    assert np.signbit(values[0]) == np.signbit(zeros[0])


def test_points_of_deform_conv_at_infinity() -> None:
    """They are outside, as those far away are."""
    x, w, offsets = f32(1, 2, 6, 6), f32(3, 2, 3, 3), f32(1, 18, 6, 6)
    near = offsets.copy()
    near[0, 3, 2, 2], near[0, 4, 3, 3] = 1e6, -1e6
    offsets[0, 3, 2, 2], offsets[0, 4, 3, 3] = np.inf, -np.inf
    far, wanted = (Case("DeformConv", 19, [x, w, o], {"pads": [1] * 4}) for o in (offsets, near))
    check(far, backend.prepare(model(wanted, False)).run([x, w, near]))


@pytest.mark.parametrize("shape", [(60, 3), (5, 40, 3), (4, 1, 1), (3, FEW + 1), (0, 3), (3, 0)])
def test_slices_are_numbered_as_numpy_does(shape: tuple[int, ...]) -> None:
    drawn = np.random.default_rng(3).integers(0, 2, shape)
    for x in (drawn, drawn > 0, np.where(drawn, np.nan, -0.0), np.where(drawn, 0.0, -0.0)):
        for axis in range(x.ndim):
            _, *expected = np.unique(x, return_index=True, return_inverse=True, return_counts=True, axis=axis)
            for got, wanted in zip(_numbered(x, axis), expected, strict=True):
                np.testing.assert_array_equal(got, wanted.reshape(-1))


def test_distinct_strings() -> None:
    x = np.array([["b", "a", "c"], ["a", "", "é"]], object)
    for order, expected in ((1, ["", "a", "b", "c", "é"]), (0, ["b", "a", "c", "", "é"])):
        text = f'<ir_version: 9, opset_import: ["" : 17]> g (string[2,3] x) => (string[N] y) {{ y = Unique<sorted={order}>(x) }}'
        assert backend.prepare(parser.parse_model(text)).run([x]).y.tolist() == expected
