"""Elementwise operators, activations and casts: old versions, mixed types, and the corners of number formats."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto
from operators import Case, check, onnxruntime_outputs

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(11)
NAN, INF = np.nan, np.inf


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


AGAINST_NUMPY: list[tuple[Case, Array]] = []


def case(expected: Any, op: str, opset: int, inputs: list[Array], **attributes: Any) -> None:
    AGAINST_NUMPY.append((Case(op, opset, inputs, attributes), np.asarray(expected)))


A, B = f32(2, 3, 4), f32(3)
case(A + B[:, None], "Add", 6, [A, B], broadcast=1, axis=1)
case(A - B[:, None], "Sub", 1, [A, B], broadcast=1, axis=1)
case(A * A[0, :, :], "Mul", 6, [A, A[0]], broadcast=1)
case(B[:, None] < A, "Greater", 1, [A, B], broadcast=1, axis=1)
BITS = RNG.integers(0, 2, (2, 3, 4)).astype(bool)
case(BITS ^ BITS[0, :, 0][:, None], "Xor", 1, [BITS, BITS[0, :, 0]], broadcast=1, axis=1)
case(np.clip(A, -0.5, np.inf), "Clip", 6, [A], min=-0.5)
case(np.where(A < 0, A * B[None, :, None], A), "PRelu", 6, [A, B])

I8 = np.array([-128, -7, 7, 127, 100], np.int8)
J8 = np.array([-1, 3, -3, 2, 100], np.int8)
case(np.array([-128, -2, -2, 63, 1], np.int8), "Div", 14, [I8, J8])
case((I8.astype(int) + J8).astype(np.int8), "Add", 14, [I8, J8])
case(np.array([0, 2, -2, 1, 0], np.int8), "Mod", 13, [I8, J8])
case(np.array([0, -1, 1, 1, 0], np.int8), "Mod", 13, [I8, J8], fmod=1)
U8 = np.array([1, 200, 255], np.uint8)
case(np.array([2, 0, 0], np.uint8), "BitShift", 11, [U8, np.array([1, 8, 200], np.uint8)], direction="LEFT")
case(np.array([0, 12, 0], np.uint8), "BitShift", 11, [U8, np.array([1, 4, 9], np.uint8)], direction="RIGHT")
case(np.array([8, 1, 9], np.int32), "Pow", 15, [np.array([2, -1, -3], np.int32), np.array([3, 4, 2], np.int64)])
case(np.array([2, 3], np.int64), "Pow", 13, [np.array([4, 9], np.int64), np.array(0.5, np.float32)])
case(np.array([9, 0.25], np.float32), "Pow", 12, [np.array([3, -0.5], np.float32), np.array(2, np.int64)])

SPECIAL = np.array([NAN, INF, -INF, -0.0, 2.5, -2.5, 3.5], np.float32)
case(np.array([NAN, INF, 0, 0, 2.5, 0, 3.5], np.float32), "Max", 13, [SPECIAL, np.array(0, np.float32)])
case(np.rint(SPECIAL), "Round", 22, [SPECIAL])
case(np.sign(SPECIAL), "Sign", 13, [SPECIAL])
case(np.isinf(SPECIAL) & (SPECIAL < 0), "IsInf", 20, [SPECIAL], detect_positive=0)
case(np.array([NAN, INF, 0, 0, 2.5, 0, 3.5], np.float32), "Relu", 14, [SPECIAL])
case(np.array([-3, 0, 2], np.int8), "Shrink", 9, [np.array([-4, 1, 3], np.int8)], lambd=1.5, bias=1.0)
case(np.array([1, 2, 3], np.float32), "Mean", 13, [np.array([0, 1, 2], np.float32), np.array([2, 3, 4], np.float32)])

WIDE = np.array([NAN, INF, -INF, 3.9, -3.9, 300.0, -300.0, 1e20], np.float32)
case(np.array([0, 127, -128, 3, -3, 127, -128, 127], np.int8), "Cast", 13, [WIDE], to=TensorProto.INT8)
case(np.array([0, 255, 0, 3, 0, 255, 0, 255], np.uint8), "Cast", 13, [WIDE], to=TensorProto.UINT8)
case(WIDE != 0, "Cast", 13, [WIDE], to=TensorProto.BOOL)
case(np.array([1, 2, 3], np.int64), "Cast", 1, [np.array([1.5, 2.5, 3.5], np.float32)], to="INT64")
TIE = np.array([2049.0 + 1e-9, 2049.0, 65519.0], np.float64)
case(TIE.astype(np.float16), "Cast", 13, [TIE], to=TensorProto.FLOAT16)
case(A.astype(ml_dtypes.bfloat16), "Cast", 13, [A], to=TensorProto.BFLOAT16)
case(A.astype(np.float16).astype(np.float64), "Cast", 13, [A.astype(np.float16)], to=TensorProto.DOUBLE)
case(A.view(np.int32), "BitCast", 26, [A], to=TensorProto.INT32)
HALF = A.astype(np.float16)
case((HALF.astype(np.float32) * HALF).astype(np.float16), "Mul", 14, [HALF, HALF])
case(np.zeros((0, 3), np.float32), "Exp", 13, [np.zeros((0, 3), np.float32)])
case(np.array(np.exp(np.float32(1))), "Exp", 13, [np.array(1, np.float32)])


@pytest.mark.parametrize(("case", "expected"), AGAINST_NUMPY, ids=[str(c) for c, _ in AGAINST_NUMPY])
def test_numpy_agrees(case: Case, expected: Array) -> None:
    check(case, [expected])


X = f32(3, 5) * 3
ACTIVATIONS = [
    Case("Elu", 6, [X], {"alpha": 0.7}),
    Case("Selu", 6, [X]),
    Case("Celu", 12, [X], {"alpha": 0.7}),
    Case("Gelu", 20, [X]),
    Case("Gelu", 20, [X], {"approximate": "tanh"}),
    Case("HardSigmoid", 6, [X], {"alpha": 0.3, "beta": 0.4}),
    Case("HardSwish", 14, [X]),
    Case("Mish", 18, [X]),
    Case("Softplus", 1, [X]),
    Case("Softsign", 1, [X]),
    Case("ThresholdedRelu", 10, [X], {"alpha": 0.7}),
    Case("LeakyRelu", 6, [X], {"alpha": 0.1}),
    Case("Sigmoid", 13, [X]),
    Case("Tanh", 13, [X]),
    Case("Erf", 13, [X]),
]


@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_activations_agree_with_onnxruntime(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=1e-5, atol=1e-6, interpreted=False)


def test_strings_are_cast_compared_and_chosen() -> None:
    texts = np.array(["1.5", "-3", "NaN", "INF"], object)
    check(Case("Cast", 13, [texts], {"to": TensorProto.FLOAT}), [np.array([1.5, -3, NAN, INF], np.float32)])
    other = np.array(["1.5", "x", "NaN", ""], object)
    check(Case("Equal", 19, [texts, other]), [np.array([True, False, True, False])])
    mask = np.array([True, False, False, True])
    check(Case("Where", 16, [mask, texts, other]), [np.array(["1.5", "x", "NaN", "INF"], object)])
