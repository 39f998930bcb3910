"""Reductions, the softmax family and normalisations: all ways of giving axes, old versions, empty tensors, narrow types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operators import Case, check, onnxruntime_outputs

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(12)


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def axes(*values: int) -> Array:
    return np.array(values, np.int64)


X = f32(2, 3, 4)
POSITIVE = np.abs(X) + 0.1
REDUCTIONS = [
    Case("ReduceSum", 11, [X], {"axes": [0, -1], "keepdims": 0}),
    Case("ReduceSum", 13, [X, axes(1, -1)], {"keepdims": 0}, (1,)),
    Case("ReduceSum", 13, [X, axes(1, -1)], {"keepdims": 0}),
    Case("ReduceSum", 13, [X, axes(0)], {"keepdims": 1}),
    Case("ReduceSum", 13, [X, axes()], {"noop_with_empty_axes": 1}, (1,)),
    Case("ReduceSum", 13, [X]),
    Case("ReduceMean", 18, [X, axes(-2)], {"keepdims": 0}),
    Case("ReduceMean", 13, [(X * 9).astype(np.int32)], {"axes": [1]}),
    Case("ReduceMax", 18, [X, axes(0, 2)], {"keepdims": 0}),
    Case("ReduceMin", 12, [(X * 9).astype(np.int8)], {"axes": [1]}),
    Case("ReduceProd", 13, [X], {"axes": [2]}),
    Case("ReduceL1", 13, [X], {"axes": [2], "keepdims": 0}),
    Case("ReduceL2", 18, [X, axes(1)]),
    Case("ReduceLogSum", 13, [POSITIVE], {"axes": [0]}),
    Case("ReduceLogSumExp", 18, [X * 80, axes(2)], {"keepdims": 0}),
    Case("ReduceSumSquare", 13, [X], {"axes": [-1]}),
    Case("ReduceSum", 13, [np.array(3, np.float32)]),
    Case("ArgMax", 13, [np.round(X)], {"axis": 1}),
    Case("ArgMax", 12, [np.round(X)], {"axis": -1, "keepdims": 0, "select_last_index": 1}),
    Case("ArgMin", 11, [np.round(X)], {"axis": 0}),
    Case("Softmax", 13, [X], {"axis": 1}),
    Case("Softmax", 11, [X], {"axis": 1}),
    Case("LogSoftmax", 13, [X * 50]),
    Case("LogSoftmax", 1, [X], {"axis": 2}),
    Case("Hardmax", 13, [X], {"axis": 0}),
    Case("Hardmax", 11, [X], {"axis": 1}),
    Case("CumSum", 14, [X, np.array(-1, np.int64)]),
    Case("CumSum", 11, [X, np.array(1, np.int32)], {"exclusive": 1, "reverse": 1}),
    Case("LayerNormalization", 17, [X, f32(3, 4), f32(3, 4)], {"axis": 1}, outputs=3),
    Case("InstanceNormalization", 6, [X, f32(3), f32(3)]),
    Case("MeanVarianceNormalization", 13, [f32(2, 3, 4, 2)]),
    Case("LpNormalization", 1, [X], {"p": 1, "axis": 1}),
    Case("LpNormalization", 22, [X]),
    Case("LRN", 13, [f32(2, 7, 3, 2)], {"size": 5, "alpha": 0.5}),
    Case("BatchNormalization", 15, [X, f32(3), f32(3), f32(3), POSITIVE[0, :, 0]]),
    Case("BatchNormalization", 9, [X, f32(3), f32(3), f32(3), POSITIVE[0, :, 0]]),
    Case("BatchNormalization", 7, [X, f32(3), f32(3), f32(3), POSITIVE[0, :, 0]]),
    Case("Dropout", 7, [X]),
]


@pytest.mark.parametrize("case", REDUCTIONS, ids=str)
def test_onnxruntime_agrees(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=2e-5, atol=2e-6)


EMPTY = np.zeros((2, 0), np.float32)


@pytest.mark.parametrize(
    ("op", "expected"),
    [("ReduceSum", 0), ("ReduceProd", 1), ("ReduceMax", -np.inf), ("ReduceMin", np.inf), ("ReduceLogSumExp", -np.inf)],
)
def test_an_empty_reduction_gives_the_identity(op: str, expected: float) -> None:
    check(Case(op, 20, [EMPTY, axes(1)], {"keepdims": 0}, (1,)), [np.full(2, expected, np.float32)])


def test_sums_of_halves_are_kept_in_float32() -> None:
    halves = np.full((1, 4096), 0.5, np.float16)
    check(Case("ReduceSum", 13, [halves, axes(1)], {}, (1,)), [np.array([[2048.0]], np.float16)])


def test_booleans_have_a_greatest() -> None:
    flags = np.array([[True, False], [False, False]])
    check(Case("ReduceMax", 20, [flags, axes(1)], {"keepdims": 0}, (1,)), [np.array([True, False])])
    check(Case("ReduceMin", 20, [flags, axes(0)], {"keepdims": 0}, (1,)), [np.array([False, False])])


def test_parameters_per_activation() -> None:
    parameters = [f32(3, 4) for _ in range(3)]
    variance = np.abs(f32(3, 4)) + 0.1
    scale, bias, center = parameters
    expected = (X - center) / np.sqrt(variance + 1e-5) * scale + bias
    check(Case("BatchNormalization", 7, [X, *parameters, variance], {"spatial": 0}), [expected], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [18, 21])
def test_groups_had_parameters_in_version_18_and_channels_have_them_since(opset: int) -> None:
    x, scale, bias = f32(2, 6, 3), f32(3), f32(3)
    grouped = x.reshape(2, 3, -1)
    standard = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 1e-5)
    expected = (standard * scale[:, None] + bias[:, None]).reshape(x.shape).astype(np.float32)
    parameters = [scale, bias] if opset == 18 else [np.repeat(scale, 2), np.repeat(bias, 2)]
    check(Case("GroupNormalization", opset, [x, *parameters], {"num_groups": 3}), [expected], rtol=1e-5, atol=1e-5)


def test_training_gives_running_moments() -> None:
    scale, bias, center, variance = f32(3), f32(3), f32(3), np.abs(f32(3))
    mean, var = X.mean((0, 2)), X.var((0, 2))
    expected = (X - mean[:, None]) / np.sqrt(var[:, None] + 1e-5) * scale[:, None] + bias[:, None]
    case = Case("BatchNormalization", 15, [X, scale, bias, center, variance], {"training_mode": 1}, outputs=3)
    check(case, [expected, center * 0.9 + mean * 0.1, variance * 0.9 + var * 0.1], rtol=1e-4, atol=1e-5)
