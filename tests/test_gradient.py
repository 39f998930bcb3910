"""Gradient of ai.onnx.preview.training: every derivative against differences, and what the operator's own text promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradients import TRAINING, agrees, check, drawing, ints, parsed, refused, run
from onnx import TensorProto, helper, numpy_helper
from operators import Case

import onnx_numba.backend as backend
from onnx_numba.errors import ModelError, UnsupportedError

f64 = drawing(5)

X = f64(2, 3, 4)
POSITIVE = np.abs(X) + 0.2
INSIDE = np.tanh(X)
IMAGE = f64(2, 4, 6, 5)
HOLES = np.array([0.0, 1.0, 1.0, 1.0])
SINGULAR = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [-1.0, 0.5, 2.0]])
SMOOTH = [
    "Abs", "Asinh", "Atan", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish",
    "Neg", "Relu", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Tan", "Tanh", "ThresholdedRelu",
]  # fmt: skip
ELEMENTWISE = [
    *(Case(op, 22, [X]) for op in SMOOTH),
    *(Case(op, 22, [INSIDE]) for op in ("Acos", "Asin", "Atanh")),
    *(Case(op, 22, [POSITIVE]) for op in ("Log", "Reciprocal", "Sqrt")),
    Case("Shrink", 9, [X], {"lambd": 0.4, "bias": 0.1}),
    Case("Acosh", 22, [POSITIVE + 1]),
    Case("Add", 22, [X, f64(3, 1)]),
    Case("Sub", 22, [f64(4), X]),
    Case("Mul", 22, [X, f64(1, 4)]),
    Case("Mul", 22, [f64(2, 1), f64(1, 3)]),
    Case("Div", 22, [X, POSITIVE[0]]),
    Case("Pow", 22, [POSITIVE, f64(4)]),
    Case("Pow", 22, [X, ints(2)]),
    Case("Mod", 13, [X * 5, POSITIVE[0] + 1], {"fmod": 1}),
    Case("Sum", 13, [X, f64(4), f64(3, 1)]),
    Case("Mean", 13, [X, f64(4)]),
    Case("Max", 13, [X, f64(3, 1), f64(4)]),
    Case("Min", 13, [X, f64(4)]),
    Case("Where", 16, [np.array([[True], [False], [True]]), X, f64(4)]),
    Case("Clip", 13, [X, np.array(-0.5), np.array(0.4)]),
    Case("Clip", 13, [X, None, np.array(0.4)]),
    Case("LeakyRelu", 6, [X], {"alpha": 0.3}),
    Case("PRelu", 16, [X, f64(4)]),
    Case("Cast", 22, [X], {"to": TensorProto.DOUBLE}),
    Case("CastLike", 19, [X, f64(1)]),
    Case("Dropout", 22, [X]),
    *(Case(op, 6, [POSITIVE, POSITIVE[0, :, 0] + 1], {"broadcast": 1, "axis": 1}) for op in ("Add", "Sub", "Mul", "Div", "Pow")),
    Case("Mul", 1, [X, f64(3, 4)], {"broadcast": 1}),
    Case("Add", 6, [X, f64(2)], {"broadcast": 1, "axis": 0}),
    Case("Dropout", 22, [X, np.array(0.3)]),
]  # fmt: skip
SHAPES = [
    Case("Transpose", 22, [X]),
    Case("Transpose", 22, [X], {"perm": [2, 0, 1]}),
    Case("Reshape", 22, [X, ints(4, -1)], constants=(1,)),
    Case("Flatten", 22, [X], {"axis": 2}),
    Case("Squeeze", 22, [X[:1], ints(0)], constants=(1,)),
    Case("Unsqueeze", 22, [X, ints(1, -1)], constants=(1,)),
    Case("Unsqueeze", 11, [X], {"axes": [1]}),
    Case("Expand", 13, [f64(3, 1), ints(2, 1, 4)], constants=(1,)),
    Case("Concat", 13, [X, f64(2, 1, 4), f64(2, 2, 4)], {"axis": -2}),
    Case("Split", 18, [X, ints(1, 3)], {"axis": -1}, (1,), 2),
    Case("Slice", 13, [X, ints(-1, 0), ints(-5, 2), ints(2, 1), ints(-2, 1)], constants=(1, 2, 3, 4)),
    Case("Slice", 13, [X, ints(1), ints(3), ints(2)]),
    Case("Gather", 13, [X, np.array([[0, 2], [2, -3]])], {"axis": 1}),
    Case("GatherElements", 13, [X, np.array([[[0, 1, 0, 1], [1, 1, 0, 0]]])]),
    Case("GatherND", 13, [X, np.array([[0, 2], [0, 2], [1, 0]])]),
    Case("Tile", 13, [X, ints(2, 1, 2)], constants=(1,)),
    Case("Pad", 21, [X, ints(1, 0, 2, 0, -1, 1), np.array(0.7)], constants=(1,)),
    Case("Pad", 2, [X], {"pads": [1, 0, 2, 0, 1, 0]}),
    Case("Pad", 21, [X, ints(0, 1, 2, 0, 1, 1)], {"mode": "reflect"}, (1,)),
    Case("DepthToSpace", 13, [IMAGE], {"blocksize": 2, "mode": "CRD"}),
    Case("SpaceToDepth", 13, [IMAGE[:, :, :, :4]], {"blocksize": 2}),
    Case("CumSum", 14, [X, np.array(1)], {"exclusive": 1}),
    Case("Trilu", 14, [X]),
    Case("TopK", 11, [X, ints(2)], {"axis": 1}, (1,), 2),
    Case("ScatterElements", 18, [X, np.array([[[0, 1, 0, 1], [1, 0, 1, 0]]]), f64(1, 2, 4)]),
    Case("ScatterElements", 18, [X, np.array([[[0, 1, 0, 1], [0, 0, 1, 0]]]), f64(1, 2, 4)], {"reduction": "add"}),
    Case("ScatterND", 18, [X, np.array([[1], [0]]), f64(2, 3, 4)]),
    Case("ScatterElements", 18, [X, np.array([[[0, 1, 0, 1], [0, 0, 1, 0]]]), f64(1, 2, 4)], {"reduction": "max"}),
    Case("ScatterND", 18, [X, np.array([[1], [1]]), f64(2, 3, 4)], {"reduction": "min"}),
    Case("ScatterElements", 18, [X * HOLES, np.array([[[0, 1, 0, 1], [0, 0, 1, 0]]]), f64(1, 2, 4) * HOLES], {"reduction": "mul"}),
    Case("ScatterND", 18, [X, np.array([[1], [0], [1], [1]]), f64(4, 3, 4) * HOLES], {"reduction": "mul"}),
    Case("OneHot", 11, [np.array([[1, -1], [0, 7]]), np.array(3), f64(2)], {"axis": 1}, (1,)),
]  # fmt: skip
REDUCTIONS = [
    *(
        Case(f"Reduce{name}", 18, [POSITIVE, ints(0, -1)], {"keepdims": keep}, (1,))
        for name, keep in [
            ("Sum", 0), ("Mean", 0), ("Max", 0), ("Min", 1), ("SumSquare", 0), ("L1", 1), ("L2", 0), ("LogSum", 0), ("LogSumExp", 0),
        ]
    ),
    Case("ReduceSum", 13, [X]),
    Case("ReduceMean", 11, [X], {"axes": [1], "keepdims": 0}),
    Case("Softmax", 13, [X], {"axis": 1}),
    Case("LogSoftmax", 13, [X]),
    Case("Softmax", 11, [X], {"axis": 1}),
    Case("LayerNormalization", 17, [X, f64(3, 4), f64(3, 4)], {"axis": 1}),
    Case("LayerNormalization", 17, [X, f64(4)]),
    Case("RMSNormalization", 23, [X, f64(4)], {"stash_type": 11}),
    Case("GroupNormalization", 21, [IMAGE, f64(4), f64(4)], {"num_groups": 2, "stash_type": 11}),
    Case("InstanceNormalization", 22, [IMAGE, f64(4), f64(4)]),
    Case("BatchNormalization", 15, [IMAGE, f64(4), f64(4), f64(4), POSITIVE[0, 0]]),
    Case("BatchNormalization", 15, [IMAGE, f64(4), f64(4), f64(4), POSITIVE[0, 0]], {"training_mode": 1}, (), 3),
    Case("BatchNormalization", 7, [X, f64(12), f64(12), f64(12), POSITIVE.reshape(-1)[:12]], {"spatial": 0}),
    Case("BatchNormalization", 6, [X, f64(3), f64(3), f64(3), POSITIVE[0, :, 0]]),
    Case("MeanVarianceNormalization", 13, [IMAGE[:, :2, :3]]),
    Case("Attention", 23, [f64(1, 2, 3, 4), f64(1, 2, 3, 4), f64(1, 2, 3, 2)], {"is_causal": 1}),
    Case("LpNormalization", 22, [X], {"axis": 1}),
    Case("SoftmaxCrossEntropyLoss", 13, [f64(3, 5), ints(1, 0, 4)]),
    Case("SoftmaxCrossEntropyLoss", 13, [f64(3, 5), ints(1, 0, 4), f64(5)], {"reduction": "none"}),
]  # fmt: skip
PRODUCTS = [
    Case("MatMul", 13, [X, f64(4, 2)]),
    Case("MatMul", 13, [f64(1, 2, 3), f64(4, 3, 2)]),
    Case("MatMul", 13, [f64(3), f64(2, 3, 2)]),
    Case("MatMul", 13, [X, f64(4)]),
    Case("MatMul", 13, [f64(4), f64(4)]),
    Case("Det", 22, [f64(2, 3, 3)]),
    Case("Det", 11, [f64(1, 1)]),
    Case("Det", 11, [np.stack([SINGULAR, np.outer(SINGULAR[0], SINGULAR[2]), np.zeros((3, 3))])]),
    Case("Gemm", 13, [f64(3, 2), f64(4, 3), f64(4)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", 13, [f64(2, 3), f64(3, 4)]),
    Case("Einsum", 12, [X, f64(4, 2)], {"equation": "abc,cd->bad"}),
    Case("Conv", 11, [IMAGE[:, :2, :4], f64(3, 2, 2, 3), f64(3)], {"pads": [1, 0, 1, 2], "strides": [2, 1]}),
    Case("Conv", 11, [IMAGE, f64(6, 2, 3, 2)], {"group": 2, "dilations": [1, 2], "strides": [2, 3]}),
    Case("Conv", 11, [IMAGE, f64(2, 4, 3, 2)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case("Conv", 11, [IMAGE[..., 0], f64(4, 1, 3)], {"auto_pad": "SAME_LOWER", "group": 4}),
    Case("ConvTranspose", 11, [f64(1, 2, 3, 2), f64(2, 2, 3, 2), f64(4)],
         {"group": 2, "strides": [2, 1], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}),
    Case("AveragePool", 11, [IMAGE[:, :2, :4]], {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 1, 0, 1]}),
    Case("AveragePool", 11, [IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Case("MaxPool", 12, [IMAGE[:, :2]], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    Case("GlobalAveragePool", 1, [IMAGE]),
    Case("GlobalMaxPool", 1, [IMAGE]),
]  # fmt: skip


PLACES = np.array([[[[1, 8, 4], [14, 11, 17]], [[0, 9, 3], [12, 13, 16]]]])
SAMPLED = [
    Case("Resize", 19, [IMAGE[:1, :2], None, np.array([1, 1, 1.5, 0.7], np.float32)], {"mode": "linear"}, (2,)),
    Case("Resize", 19, [IMAGE[:1, :2], None, None, ints(5, 7)], {"mode": "cubic", "axes": [3, 2]}, (3,)),
    Case("Resize", 19, [IMAGE[:1, :2], None, None, ints(3, 2)], {"mode": "linear", "antialias": 1, "axes": [-2, -1]}, (3,)),
    Case("Resize", 13, [IMAGE[:1, :2], None, np.array([1, 1, 2, 0.6], np.float32)], {"mode": "nearest"}, (2,)),
    Case("Resize", 18, [IMAGE[:1, :2], np.array([0.1, -0.2, 0.8, 1.1], np.float32), None, ints(4, 5)],
         {"mode": "linear", "axes": [2, 3], "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 3.0}, (1, 3)),
    *(Case("Resize", 19, [IMAGE[:1, :2], None, None, ints(*sizes)],
           {"mode": mode, "axes": [-1, 2], "keep_aspect_ratio_policy": policy}, (3,))
      for mode, policy, sizes in (("linear", "not_larger", (7, 10)), ("cubic", "not_smaller", (7, 10)), ("nearest", "not_larger", (3, 4)),
                                  ("linear", "not_smaller", (1, 7)))),
    Case("Resize", 19, [IMAGE[:1, :2], np.array([0.1, -0.2, 0.8, 1.1], np.float32), None, ints(4, 5)],
         {"mode": "linear", "axes": [2, 3], "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 3.0,
          "keep_aspect_ratio_policy": "not_smaller"}, (1, 3)),
    Case("Resize", 18, [IMAGE[:1, :2], None, None, ints(3, 4)],
         {"mode": "linear", "antialias": 1, "axes": [2, 3], "keep_aspect_ratio_policy": "not_smaller"}, (3,)),
    Case("Resize", 19, [IMAGE[:1, :2], None, np.array([1, 1, 1.1, 1.15], np.float32)], {"mode": "linear"}, (2,)),
    Case("Resize", 10, [IMAGE[:1, :2], np.array([1, 1, 1.1, 1.15], np.float32)], {"mode": "linear"}, (1,)),
    Case("Resize", 10, [IMAGE[:1, :2], np.array([1, 1, 2, 0.6], np.float32)], {"mode": "nearest"}, (1,)),
    Case("Upsample", 9, [IMAGE[:1, :2], np.array([1, 1, 2, 3], np.float32)], {"mode": "linear"}, (1,)),
    Case("Upsample", 7, [IMAGE[:1, :2]], {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 1.0]}),
    Case("Col2Im", 18, [f64(2, 12, 9), ints(4, 3), ints(2, 3)], {"pads": [0, 1, 0, 1]}, (1, 2)),
    Case("LpPool", 22, [IMAGE[:, :2, :4]], {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 1, 0, 1], "p": 3}),
    Case("LpPool", 22, [IMAGE[:, :2]], {"kernel_shape": [2, 2], "strides": [3, 2], "ceil_mode": 1}),
    Case("GlobalLpPool", 2, [IMAGE], {"p": 3}),
    Case("LRN", 13, [IMAGE], {"size": 3, "alpha": 0.4, "beta": 0.6, "bias": 1.5}),
    Case("LRN", 13, [IMAGE], {"size": 2, "alpha": 0.4}),
    Case("AveragePool", 22, [IMAGE[:, :2]], {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 0, 1, 1]}),
    Case("AveragePool", 22, [IMAGE[:, :2]],
         {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 0, 1, 1], "count_include_pad": 1}),
    Case("AveragePool", 22, [IMAGE[:, :2]],
         {"kernel_shape": [3, 2], "strides": [2, 1], "auto_pad": "SAME_LOWER", "count_include_pad": 1, "dilations": [1, 2]}),
    Case("AveragePool", 11, [IMAGE[:, :2]], {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("MaxUnpool", 11, [f64(1, 2, 2, 3), PLACES], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("MaxUnpool", 11, [f64(1, 2, 2, 3), PLACES, ints(1, 2, 5, 7)], {"kernel_shape": [2, 2], "strides": [2, 2]}, (2,)),
    Case("ConvTranspose", 11, [f64(1, 2, 3, 2), f64(2, 2, 3, 2)], {"strides": [2, 3], "output_shape": [6, 4]}),
    Case("ConvTranspose", 11, [f64(1, 2, 3, 2), f64(2, 2, 3, 4)], {"strides": [2, 1], "auto_pad": "SAME_UPPER"}),
    Case("ConvTranspose", 11, [f64(1, 2, 3, 2), f64(2, 2, 4, 2)], {"strides": [1, 3], "auto_pad": "SAME_LOWER"}),
    Case("DFT", 20, [f64(2, 5, 3, 2)], {}),
    Case("DFT", 20, [f64(2, 5, 3, 1), np.array(7), np.array(1)], {"onesided": 1}, (1, 2)),
    Case("DFT", 17, [f64(2, 5, 3, 2), np.array(4)], {"inverse": 1, "axis": 1}, (1,)),
    Case("DFT", 20, [f64(2, 5, 3, 2), None, np.array(1)], {"inverse": 1, "onesided": 1}, (2,)),
    Case("DFT", 17, [f64(2, 3, 2), np.array(7)], {"inverse": 1, "onesided": 1, "axis": 1}, (1,)),
    Case("DFT", 17, [f64(2, 6, 1), np.array(6)], {"inverse": 1, "onesided": 1, "axis": 1}, (1,)),
    Case("STFT", 17, [f64(2, 9, 1), np.array(2), f64(4)], {}, (1,)),
    Case("STFT", 17, [f64(2, 9, 2), np.array(3), None, np.array(5)], {"onesided": 0}, (1, 3)),
    Case("TensorScatter", 24, [f64(2, 3, 5, 2), f64(2, 3, 2, 2), ints(3, 1)]),
    Case("TensorScatter", 24, [f64(2, 5, 2), f64(2, 2, 2), ints(4, 1)], {"mode": "circular"}),
    Case("Unique", 11, [X]),
    Case("Unique", 11, [X], {"axis": 1, "sorted": 0}),
    Case("Einsum", 12, [X, f64(1, 4, 2)], {"equation": "...c,...cd->...d"}),
    Case("Einsum", 12, [f64(2, 3, 4, 4), f64(3, 3)], {"equation": "b...ii, jj -> ...ji"}),
    Case("Einsum", 12, [f64(3, 2, 3, 3)], {"equation": "ijii"}),
    Case("Einsum", 12, [f64(2, 3), f64(3, 4)], {"equation": "...b,bc"}),
]  # fmt: skip


@pytest.mark.parametrize("case", [*ELEMENTWISE, *SHAPES, *REDUCTIONS, *PRODUCTS, *SAMPLED], ids=str)
def test_differences_agree(case: Case) -> None:
    check(case)


CHOSEN = {
    "Sigmoid", "Tanh", "Softplus", "Pow", "Div", "Max", "Where", "Clip", "Reshape", "Expand", "Concat", "Split", "Slice", "Gather",
    "GatherElements", "GatherND", "Pad", "CumSum", "TopK", "ScatterElements", "ScatterND", "ReduceMean", "ReduceMax", "ReduceL2",
    "ReduceLogSumExp", "Softmax", "LogSoftmax", "LayerNormalization", "BatchNormalization", "MatMul", "Gemm", "Einsum", "Conv",
    "ConvTranspose", "AveragePool", "MaxPool", "SoftmaxCrossEntropyLoss", "Resize", "Upsample", "Col2Im", "LpPool", "LRN", "MaxUnpool",
    "TensorScatter", "Unique", "Det",
}  # fmt: skip
"""Operators whose derivatives are of every kind there is."""

SOME = [case for case in [*ELEMENTWISE, *SHAPES, *REDUCTIONS, *PRODUCTS, *SAMPLED] if case.op in CHOSEN]
FIRST = {case.op: case for case in reversed(SOME)}


@pytest.mark.parametrize("case", [*FIRST.values(), *(case for case in SHAPES if case.attributes.get("reduction") == "mul")], ids=str)
def test_derivatives_have_derivatives(case: Case) -> None:
    check(case, second=True)


@pytest.mark.parametrize("case", SOME, ids=str)
def test_shapes_known_to_the_run_alone(case: Case) -> None:
    check(case, dynamic=True)


@pytest.mark.parametrize("op", ["Max", "MaxPool", "Conv", "Slice"])
def test_compiled(op: str) -> None:
    check(FIRST[op], dynamic=True, jit=True)


class TestGraphs:
    def test_a_value_used_several_times(self) -> None:
        text = 'g (double[3] x) => (double[3] d) { a = Mul(x, x) b = Sin(a) c = Mul(b, x) y = Add(c, a) d = Gradient<xs=["x"], y="y">(x) }'
        x = np.array([0.3, -1.0, 2.0])
        expected = np.cos(x * x) * 2 * x * x + np.sin(x * x) + 2 * x
        np.testing.assert_allclose(run(text, x)[0], expected)

    def test_the_statistics_of_a_normalisation(self) -> None:
        text = """g (float[2,3] x, float[3] s) => (float[2,3] d) { n, m, v = LayerNormalization(x, s) p = Mul(m, v) y = Mul(p, p)
            d = Gradient<xs=["x"], y="y">(x) }"""
        x = f64(2, 3)

        def value(x: np.ndarray) -> float:
            return float((x.mean(1) ** 2 / (x.var(1) + 1e-5)).sum())

        expected = [[(value(x + 1e-6 * e) - value(x - 1e-6 * e)) / 2e-6 for e in np.eye(6).reshape(2, 3, 2, 3)[k]] for k in range(2)]
        np.testing.assert_allclose(run(text, x.astype(np.float32), np.ones(3, np.float32))[0], expected, 1e-4)

    def test_the_running_statistics_of_a_batch(self) -> None:
        text = """g (double[2,3,4] x, double[3] s, double[3] m, double[3] v) => (double[3] y, double[2,3,4] d, double[3] e, double[3] f) {
            n, a, b = BatchNormalization<training_mode=1, momentum=0.7>(x, s, s, m, v) p = Exp(a) y = Mul(p, b)
            d, e, f = Gradient<xs=["x", "m", "v"], zs=["s"], y="y">(x, m, v, s) }"""
        agrees(text, [f64(2, 3, 4), f64(3), f64(3), np.abs(f64(3))], [0, 2, 3])

    def test_a_value_that_is_both_operands(self) -> None:
        text = 'g (double[2,2] x) => (double[2,2] d) { y = Gemm(x, x) d = Gradient<xs=["x"], y="y">(x) }'
        x = f64(2, 2)
        np.testing.assert_allclose(run(text, x)[0], np.ones((2, 2)) @ x.T + x.T @ np.ones((2, 2)))

    def test_other_values_than_those_named(self) -> None:
        text = """g (double[2] x, double[2] w, double[2] v) => (double[2] y, double[2] d, double[2] e) {
            s = Exp(w) p = Mul(x, s) y = Mul(p, x) d, e = Gradient<xs=["x", "w"], y="y">(v, x) }"""
        x, w, v = np.array([[1.0, 2.0], [0.5, -0.5], [3.0, -1.0]])
        y, d, e = run(text, x, w, v)
        np.testing.assert_allclose(y, x * x * np.exp(w))
        np.testing.assert_allclose(d, 2 * v * np.exp(x))
        np.testing.assert_allclose(e, v * v * np.exp(x))

    def test_one_value_for_two_names(self) -> None:
        text = 'g (double x, double w) => (double d, double e) { y = Pow(x, w) d, e = Gradient<xs=["x", "w"], y="y">(x, x) }'
        np.testing.assert_allclose(run(text, 2.0, 5.0), [2 * 2.0, 4 * np.log(2)])

    def test_an_intermediate_value_is_independent(self) -> None:
        text = """g (double x, double w) => (double d, double e) {
            h = Mul(x, x) p = Mul(h, w) y = Mul(p, x) d, e = Gradient<xs=["h", "x"], zs=["w"], y="y">(h, x, w) }"""
        np.testing.assert_allclose(run(text, 3.0, 5.0), [15.0, 45.0])

    def test_what_is_not_differentiated_is_cut_too(self) -> None:
        text = 'g (double x) => (double d) { h = Exp(x) y = Mul(h, x) d = Gradient<xs=["x"], zs=["h"], y="y">(x, h) }'
        np.testing.assert_allclose(run(text, 2.0), [np.exp(2.0)])

    def test_a_value_without_influence_has_the_gradient_zero(self) -> None:
        text = """g (double[n] x, float[2] w) => (double[n] d, float[2] e) {
            f = Floor(x) y = Exp(f) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
        d, e = run(text, np.ones(3), np.ones(2, np.float32))
        np.testing.assert_array_equal(d, np.zeros(3))
        assert e.dtype == np.float32 and not e.any()

    def test_a_value_itself(self) -> None:
        np.testing.assert_array_equal(run('g (double[n] x) => (double[n] d) { d = Gradient<xs=["x"], y="x">(x) }', [5.0, 6.0])[0], [1, 1])

    def test_a_skipped_output(self) -> None:
        text = 'g (double x, double w) => (double e) { y = Mul(x, w) , e = Gradient<xs=["x", "w"], y="y">(x, w) }'
        np.testing.assert_allclose(run(text, 3.0, 5.0), [3.0])

    @pytest.mark.parametrize("kind", [np.float16, np.float32])
    def test_the_element_type_stays(self, kind: Any) -> None:
        name = {np.float16: "float16", np.float32: "float"}[kind]
        text = f'g ({name}[2] x) => ({name}[2] d) {{ t = Tanh(x) y = Mul(t, t) d = Gradient<xs=["x"], y="y">(x) }}'
        x = np.array([0.5, -0.25], kind)
        (d,) = run(text, x)
        assert d.dtype == kind
        wide = x.astype(np.float64)
        np.testing.assert_allclose(d, 2 * np.tanh(wide) * (1 - np.tanh(wide) ** 2), rtol=2e-3 if kind is np.float16 else 1e-6)

    def test_an_operator_of_float32_alone(self) -> None:
        text = 'g (float[3] x) => (float[3] d) { y = Celu<alpha=2.0>(x) d = Gradient<xs=["x"], y="y">(x) }'
        x = np.array([-1.0, 0.5, -3.0], np.float32)
        np.testing.assert_allclose(run(text, x)[0], np.where(x > 0, 1, np.exp(x / 2)), rtol=1e-6)

    def test_the_second_order_example_of_the_schema(self) -> None:
        text = """g (double[2,3] x, double[3,1] w, double[2,1] l) => (double[2,3] a, double[3,1] b, double[2,3] c, double[3,1] e) {
            y = Gemm(x, w) r = Sub(y, l) o = Mul(r, r)
            a, b = Gradient<xs=["x", "w"], zs=["l"], y="o">(x, w, l) c, e = Gradient<xs=["x", "w"], zs=["l"], y="b">(x, w, l) }"""
        x, w, label = f64(2, 3), f64(3, 1), f64(2, 1)
        a, b, c, e = run(text, x, w, label)
        rest = x @ w - label
        np.testing.assert_allclose(a, 2 * rest @ w.T)
        np.testing.assert_allclose(b, 2 * x.T @ rest)
        np.testing.assert_allclose(c, 2 * (rest + x.sum(1, keepdims=True) @ w.T))
        np.testing.assert_allclose(e, 2 * x.T @ x.sum(1, keepdims=True))

    def test_in_a_subgraph(self) -> None:
        text = """g (bool c, double x) => (double d) { y = Mul(x, x)
            d = If(c) <then_branch = t () => (double a) { z = Mul(y, x) a = Gradient<xs=["x"], y="z">(x) },
                       else_branch = e () => (double b) { b = Gradient<xs=["x"], y="y">(x) }> }"""
        np.testing.assert_allclose(run(text, np.array(True), 3.0), [27.0])
        np.testing.assert_allclose(run(text, np.array(False), 3.0), [6.0])

    def test_in_a_subgraph_that_reads_constants(self) -> None:
        text = """g (bool c, double[2] x) => (double[2] d) { w = Constant<value=double[2] {3.0, 4.0}>()
            d = If(c) <then_branch = t () => (double[2] a) { z = Mul(w, x) a = Gradient<xs=["x"], y="z">(x) },
                       else_branch = e () => (double[2] b) { b = Identity(w) }> }"""
        np.testing.assert_array_equal(run(text, np.array(True), [1.0, 2.0])[0], [3.0, 4.0])

    def test_in_a_function(self) -> None:
        text = f"""g (double x) => (double d) {{ s = Sin(x) d = local.slope(s) }}
            <domain: "local", opset_import: ["" : 21, "{TRAINING}" : 1]> slope (x) => (d) {{
                y = Mul(x, x) d = Gradient<xs=["x"], y="y">(x) }}"""
        np.testing.assert_allclose(run(text, 0.5), [2 * np.sin(0.5)])

    def test_through_a_function(self) -> None:
        text = """g (double x) => (double d) { y = local.square(x) d = Gradient<xs=["x"], y="y">(x) }
            <domain: "local", opset_import: ["" : 21]> square (x) => (y) { y = Mul(x, x) }"""
        np.testing.assert_allclose(run(text, 4.0), [8.0])

    def test_weights_that_a_normalisation_is_folded_into(self) -> None:
        text = """g (double[1,2,3,3] x) => (double[1,3,2,2] y, double[3,2,2,2] d) {
            h = Conv(x, w) y = BatchNormalization(h, s, o, o, v) d = Gradient<xs=["w"], y="y">(w) }"""
        model = parsed(text)
        scale, variance = np.array([1.0, 2.0, -3.0]), np.array([1.0, 0.5, 4.0])
        for name, array in {"w": f64(3, 2, 2, 2), "s": scale, "o": f64(3), "v": variance}.items():
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        x = f64(1, 2, 3, 3)
        d = backend.prepare(model, jit=False).run([x])[1]
        sums = np.lib.stride_tricks.sliding_window_view(x[0], (2, 2), (1, 2)).sum((1, 2))
        np.testing.assert_allclose(d, (scale / np.sqrt(variance + 1e-5))[:, None, None, None] * sums)

    def test_training_lowers_the_loss(self) -> None:
        text = """g (float[n,4] x, int64[n] t, float[4,5] w, float[5] b, float[5,3] v, float[3] c)
            => (float loss, float[4,5] dw, float[5] db, float[5,3] dv, float[3] dc) {
            h = Gemm(x, w, b) r = Gelu(h) s = Gemm(r, v, c) loss = SoftmaxCrossEntropyLoss(s, t)
            dw, db, dv, dc = Gradient<xs=["w", "b", "v", "c"], zs=["x", "t"], y="loss">(w, b, v, c, x, t) }"""
        rep = backend.prepare(parsed(text), jit=False)
        random = np.random.default_rng(0)
        x = random.standard_normal((6, 4)).astype(np.float32)
        labels = np.argmax(x[:, :3], 1)
        weights = [random.standard_normal(shape).astype(np.float32) * np.float32(0.3) for shape in ((4, 5), (5,), (5, 3), (3,))]
        losses = []
        for _ in range(20):
            loss, *slopes_ = rep.run([x, labels, *weights])
            weights = [w - np.float32(1) * s for w, s in zip(weights, slopes_, strict=True)]
            losses.append(float(loss))
        assert losses[-1] < 0.3 * losses[0]


class TestEdges:
    def test_infinities_that_are_not_chosen_do_not_matter(self) -> None:
        text = """g (double[2] x) => (double[2] d) { zero = Constant<value=double {0}>() l = Log(x) p = Greater(x, zero)
            y = Where(p, l, zero) d = Gradient<xs=["x"], y="l">(x) }"""
        with np.errstate(divide="ignore"):
            np.testing.assert_array_equal(run(text, [0.0, 2.0])[0], [np.inf, 0.5])

    def test_powers_of_zero(self) -> None:
        text = 'g (double[3] x, double[3] n) => (double[3] d, double[3] e) { y = Pow(x, n) d, e = Gradient<xs=["x", "n"], y="y">(x, n) }'
        d, e = run(text, [0.0, 0.0, 0.0], [0.0, 1.0, 2.0])
        np.testing.assert_array_equal(d, [0, 1, 0])
        np.testing.assert_array_equal(e, [0, 0, 0])

    def test_equal_extremes_share(self) -> None:
        text = 'g (double[3] x) => (double[3] d) { y = ReduceMax(x) d = Gradient<xs=["x"], y="y">(x) }'
        np.testing.assert_array_equal(run(text, [2.0, 1.0, 2.0])[0], [0.5, 0, 0.5])

    def test_empty(self) -> None:
        text = 'g (double[n,3] x, double[3] w) => (double[3] d) { y = Mul(x, w) d = Gradient<xs=["w"], y="y">(w) }'
        np.testing.assert_array_equal(run(text, np.zeros((0, 3)), np.ones(3))[0], np.zeros(3))

    def test_indices_have_no_gradient(self) -> None:
        text = """g (double[4] x) => (double[2] v, double[4] d) { k = Constant<value_ints=[2]>() v, i = TopK(x, k) f = Cast<to=11>(i)
            y = Mul(f, x2) x2 = Gather(x, i) d = Gradient<xs=["x"], y="y">(x) }"""
        np.testing.assert_array_equal(run(text, [4.0, 1.0, 3.0, 9.0])[1], [0, 0, 0, 3])

    def test_the_first_of_equal_elements_has_the_derivative(self) -> None:
        text = 'g (double[4] x) => (double[4] d) { y = Unique(x) s = Mul(y, y) d = Gradient<xs=["x"], y="s">(x) }'
        np.testing.assert_array_equal(run(text, [3.0, 1.0, 3.0, 1.0])[0], [6, 2, 0, 0])

    def test_norms_of_nothing(self) -> None:
        text = 'g (double[1,1,3] x) => (double[1,1,3] d) { y = GlobalLpPool(x) d = Gradient<xs=["x"], y="y">(x) }'
        np.testing.assert_array_equal(run(text, np.zeros((1, 1, 3)))[0], np.zeros((1, 1, 3)))

    def test_an_optional(self) -> None:
        text = """g (double[2] x) => (double[2] d) { o = Optional(x) g = OptionalGetElement(o) y = Mul(g, g)
            d = Gradient<xs=["x"], y="y">(x) }"""
        np.testing.assert_array_equal(run(text, [3.0, 1.0])[0], [6, 2])

    def test_training_dropout_with_its_mask(self) -> None:
        text = """g (double[50] x, float r, bool t) => (double[50] y, bool[50] m, double[50] d) {
            y, m = Dropout<seed=3>(x, r, t) d = Gradient<xs=["x"], y="y">(x) }"""
        _, mask, d = run(text, np.ones(50), np.array(0.25, np.float32), np.array(True))
        assert 0 < mask.sum() < 50
        np.testing.assert_allclose(d, mask / 0.75)
        np.testing.assert_array_equal(run(text, np.ones(50), np.array(0.25, np.float32), np.array(False))[2], np.ones(50))

    def test_an_update_as_great_as_what_is_there(self) -> None:
        text = """g (double[2] x, int64[2] i, double[2] u) => (double[2] d, double[2] e) {
            y = ScatterElements<reduction="max">(x, i, u) d, e = Gradient<xs=["x", "u"], zs=["i"], y="y">(x, u, i) }"""
        d, e = run(text, [3.0, 5.0], np.array([0, 0]), [3.0, 3.0])
        np.testing.assert_allclose(d, [1 / 3, 1])
        np.testing.assert_allclose(e, [1 / 3, 1 / 3])

    @pytest.mark.parametrize(("shape", "attributes"), [((), ""), ((3,), "<axis=1>"), ((2, 2), "<axis=-1, block_size=2>")])
    def test_scales_of_what_is_stored_in_few_bits(self, shape: tuple[int, ...], attributes: str) -> None:
        dims = ",".join(map(str, shape))
        kind = f"[{dims}]" if dims else ""
        text = f"""g (int8[2,3] q, float{kind} s, int8{kind} z) => (float{kind} d) {{ y = DequantizeLinear{attributes}(q, s, z)
            d = Gradient<xs=["s"], zs=["q", "z"], y="y">(s, q, z) }}"""
        q, zero = np.array([[1, -2, 3], [40, 50, -128]], np.int8), np.full(shape, 3, np.int8)
        levels = q.astype(np.float32) - 3
        blocks = np.stack([levels[:, :2].sum(1), levels[:, 2]], 1)
        expected = {(): levels.sum(), (3,): levels.sum(0), (2, 2): blocks}[shape]
        np.testing.assert_allclose(run(text, q, np.ones(shape, np.float32), zero)[0], expected)

    def test_levels_do_not_change_a_little(self) -> None:
        text = """g (float[2] x, float s) => (float[2] d) { q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)
            d = Gradient<xs=["x"], y="y">(x) }"""
        np.testing.assert_array_equal(run(text, np.ones(2, np.float32), np.array(0.5, np.float32))[0], [0, 0])

    def test_an_extent_that_may_be_broadcast(self) -> None:
        text = 'g (double[n,3] x, double[m,k] w) => (double[m,k] d) { y = Mul(x, w) d = Gradient<xs=["w"], y="y">(w) }'
        x = f64(2, 3)
        rep = backend.prepare(parsed(text), jit=False)
        for axes, shape in (((), (2, 3)), ((0,), (1, 3)), ((1,), (2, 1)), ((0, 1), (1, 1))):
            np.testing.assert_allclose(rep.run([x, np.ones(shape)])[0], x.sum(axes, keepdims=True) if axes else x)


class TestOldTraining:
    """BatchNormalization before version 14, which trains where more outputs than its first are used."""

    @pytest.mark.parametrize(("opset", "attributes", "shape"), [
        (9, "momentum=0.7", "3"), (7, "epsilon=0.1", "3"), (7, "spatial=0", "3,4"), (6, "is_test=0", "3"),
    ])  # fmt: skip
    def test_all_outputs(self, opset: int, attributes: str, shape: str) -> None:
        single = shape != "3"
        text = f"""g (double[2,3,4] x, double[{shape}] s, double[{shape}] t, double[{shape}] c, double[{shape}] w)
            => (double[{shape}] y, double[2,3,4] d, double[{shape}] e, double[{shape}] f, double[{shape}] h, double[{shape}] i) {{
            n, m, v, a, b = BatchNormalization<{attributes}>(x, s, t, c, w) o = Exp(n)
            q = ReduceSum<axes=[{"0" if single else "0,2"}], keepdims=0>(o) r = Mul(q, m) u = Mul(v, a) j = Mul(u, b) y = Add(r, j)
            d, e, f, h, i = Gradient<xs=["x", "s", "t", "c", "w"], y="y">(x, s, t, c, w) }}"""
        parameters = [f64(*map(int, shape.split(","))) for _ in range(4)]
        agrees(text, [f64(2, 3, 4), *parameters[:3], np.abs(parameters[3]) + 0.2], range(5), opset=opset)

    @pytest.mark.parametrize("outputs", ["n", "n, m, v, a, b"])
    def test_outputs_that_nobody_reads(self, outputs: str) -> None:
        text = f"""g (double[2,3,4] x, double[3] s, double[3] w) => (double[2,3,4] y, double[2,3,4] d) {{
            {outputs} = BatchNormalization(x, s, s, s, w) y = Sin(n) d = Gradient<xs=["x"], y="y">(x) }}"""
        agrees(text, [f64(2, 3, 4), f64(3), np.abs(f64(3)) + 0.2], [0], opset=9)

    def test_readers_that_only_the_gradient_has(self) -> None:
        head, body = "g (double[2,3] x, double[3] s, double[3] w) => (", """double[2,3] d) {
            n, m = BatchNormalization(x, s, s, s, w) o = Exp(n) y = Add(o, m) d = Gradient<xs=["x"], y="y">(x) }"""
        x, s, w = f64(2, 3), f64(3), np.abs(f64(3)) + 0.2
        agrees(f"{head}double[2,3] y, {body}", [x, s, w], [0], opset=9)
        alone, both = (backend.prepare(parsed(head + more + body, 9), jit=False).run([x, s, w]) for more in ("", "double[2,3] y, "))
        np.testing.assert_allclose(alone[0], both[1], rtol=1e-12)

    def test_in_a_branch(self) -> None:
        text = """g (bool t, double[2,3] x, double[3] s, double[3] w) => (double[2,3] y, double[2,3] d) {
            y = If(t) <then_branch = a () => (double[2,3] z) { n, m = BatchNormalization(x, s, s, s, w) o = Exp(n) z = Add(o, m) },
                else_branch = b () => (double[2,3] q) { q = Sin(x) }>
            d = Gradient<xs=["x"], y="y">(x) }"""
        for taken in (True, False):
            agrees(text, [np.array(taken), f64(2, 3), f64(3), np.abs(f64(3)) + 0.2], [1], opset=9)

    def test_a_rank_that_the_run_alone_knows(self) -> None:
        text = """g (double[2,3] x, double[3] s, double[3] w, double[n] z, int64[k] i) => (double[n] d, double[2,3] y, double[3] m) {
            h = Reshape(x, i) y, m = BatchNormalization<momentum=0.5>(h, s, s, s, w) p = Sin(z) d = Gradient<xs=["z"], y="p">(z) }"""
        x, s, w = f64(2, 3), f64(3), np.abs(f64(3)) + 0.2
        _, y, m = backend.prepare(parsed(text, 9), jit=False).run([x, s, w, f64(4), ints(2, 3)])
        np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * s + s, rtol=1e-6)
        np.testing.assert_allclose(m, 0.5 * s + 0.5 * x.mean(0))


class TestErrors:
    def test_an_operator_of_another_domain(self) -> None:
        text = 'g (double[2] x) => (double[2] d) { [it] y = com.microsoft.Gelu(x) d = Gradient<xs=["x"], y="y">(x) }'
        model = parsed(text)
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        with pytest.raises(UnsupportedError, match=r"no derivative is known of node 'it' \(Gelu of domain com.microsoft"):
            backend.prepare(model, jit=False)

    def test_only_what_lies_between_counts(self) -> None:
        text = """g (double[2] x, double[2,2] w, float r, bool t) => (double[2] d) {
            p = Dropout(w, r, t) y = Mul(p, x) d = Gradient<xs=["x"], y="y">(x) }"""
        got = run(text, [1.0, 2.0], [[3.0, 4.0], [1.0, 2.0]], np.array(0.5, np.float32), np.array(False))
        np.testing.assert_allclose(got[0], [4.0, 6.0])

    def test_names_that_nothing_defines(self) -> None:
        message = refused('g (double x) => (double d) { y = Exp(x) d = Gradient<xs=["x"], y="why">(x) }', ModelError)
        assert "'why'" in message and "Gradient" in message

    def test_as_many_inputs_as_names(self) -> None:
        message = refused('g (double x) => (double d) { y = Exp(x) d = Gradient<xs=["x"], zs=["y"], y="y">(x) }', ModelError)
        assert "1 inputs" in message and "2 values" in message

    def test_no_more_outputs_than_names(self) -> None:
        message = refused('g (double x) => (double d, double e) { y = Exp(x) d, e = Gradient<xs=["x"], y="y">(x) }', ModelError)
        assert "2 outputs" in message

    def test_no_name_twice(self) -> None:
        message = refused('g (double x, double v) => (double d) { y = Exp(x) d = Gradient<xs=["x"], zs=["x"], y="y">(x, v) }', ModelError)
        assert "twice" in message

    def test_a_value_that_depends_on_the_gradient(self) -> None:
        message = refused('g (double x) => (double d) { d = Gradient<xs=["x"], y="y">(x) y = Mul(x, d) }', ModelError)
        assert "circle" in message


@pytest.mark.parametrize("p", [1, 2])
def test_what_has_no_length_has_a_derivative_of_0_when_it_is_normalised(p: int) -> None:
    """It was 0 / 0, and NaN in all that it was multiplied with."""
    text = f"""g (double[n,2] x, double[2] w) => (double[n,2] dx, double[2] dw) {{
        y = LpNormalization<axis = 1, p = {p}>(x)  z = Mul(y, w)  dx, dw = Gradient<xs = ["x", "w"], y = "z">(x, w) }}"""
    dx, dw = run(text, np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([1.0, 2.0]))
    assert dx[0].tolist() == [0, 0] and dx[1].all()
    np.testing.assert_allclose(dw, np.array([3, 4]) / (7 if p == 1 else 5))


def test_equal_elements_that_are_normalised_by_mean_and_variance() -> None:
    """Their derivative was NaN: that of the root of a variance of 0. What is divided is 0 there, so the divisor is as good as fixed."""
    text = """g (double[2,3] x, double[3] w) => (double[2,3] dx, double[3] dw) {
        y = MeanVarianceNormalization<axes = [1]>(x)  z = Mul(y, w)  dx, dw = Gradient<xs = ["x", "w"], y = "z">(x, w) }"""
    x, w = np.array([[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]]), np.array([1.0, 2.0, 6.0])
    dx, dw = run(text, x, w)
    np.testing.assert_allclose(dx[0], (w - w.mean()) * 1e9)
    assert np.isfinite(dx[1]).all()
    np.testing.assert_allclose(dw, (x[1] - 2) / x[1].std(), atol=1e-7)
