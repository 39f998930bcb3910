"""Gradient of ai.onnx.preview.training: every derivative against differences, and what the operator's own text promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from operators import Case

import onnx_numba.backend as backend
from onnx_numba.errors import ModelError, UnsupportedError

Array = np.ndarray[Any, Any]
TRAINING = "ai.onnx.preview.training"
RNG = np.random.default_rng(5)


def f64(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


X = f64(2, 3, 4)
POSITIVE = np.abs(X) + 0.2
INSIDE = np.tanh(X)
IMAGE = f64(2, 4, 6, 5)
SMOOTH = [
    "Abs", "Asinh", "Atan", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish",
    "Neg", "Relu", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Tan", "Tanh", "ThresholdedRelu",
]  # fmt: skip
ELEMENTWISE = [
    *(Case(op, 22, [X]) for op in SMOOTH),
    *(Case(op, 22, [INSIDE]) for op in ("Acos", "Asin", "Atanh")),
    *(Case(op, 22, [POSITIVE]) for op in ("Log", "Reciprocal", "Sqrt")),
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
    Case("RMSNormalization", 23, [X, f64(4)]),
    Case("GroupNormalization", 21, [IMAGE, f64(4), f64(4)], {"num_groups": 2}),
    Case("InstanceNormalization", 22, [IMAGE, f64(4), f64(4)]),
    Case("BatchNormalization", 15, [IMAGE, f64(4), f64(4), f64(4), POSITIVE[0, 0]]),
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
    Case("Gemm", 13, [f64(3, 2), f64(4, 3), f64(4)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", 13, [f64(2, 3), f64(3, 4)]),
    Case("Einsum", 12, [X, f64(4, 2)], {"equation": "abc,cd->bad"}),
    Case("Conv", 11, [IMAGE, f64(3, 4, 2, 3), f64(3)], {"pads": [1, 0, 1, 2], "strides": [2, 1]}),
    Case("Conv", 11, [IMAGE, f64(6, 2, 3, 2)], {"group": 2, "dilations": [1, 2], "strides": [2, 3]}),
    Case("Conv", 11, [IMAGE, f64(2, 4, 3, 2)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case("Conv", 11, [IMAGE[..., 0], f64(4, 1, 3)], {"auto_pad": "SAME_LOWER", "group": 4}),
    Case("ConvTranspose", 11, [IMAGE[..., :3], f64(4, 2, 3, 2), f64(4)],
         {"group": 2, "strides": [2, 1], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}),
    Case("AveragePool", 11, [IMAGE], {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 1, 0, 1]}),
    Case("AveragePool", 11, [IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Case("MaxPool", 12, [IMAGE], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    Case("GlobalAveragePool", 1, [IMAGE]),
    Case("GlobalMaxPool", 1, [IMAGE]),
]  # fmt: skip


def differentiable(case: Case) -> list[int]:
    """The inputs with a derivative; the statistics of a normalisation count as given."""
    found = [k for k, x in enumerate(case.inputs) if x is not None and x.dtype == np.float64]
    skipped = {"CastLike": [1], "BatchNormalization": [3, 4]}.get(case.op, [])
    return [k for k in found if k not in skipped and not (case.op == "SoftmaxCrossEntropyLoss" and k)]


def case_model(case: Case, weights: Array, gradient: bool, dynamic: bool = False) -> onnx.ModelProto:
    """The weighted first output of a node, and its gradient."""
    names = [f"x{k}" if x is not None else "" for k, x in enumerate(case.inputs)]
    nodes = [
        helper.make_node(case.op, names, [f"y{k}" for k in range(case.outputs)], name="it", **case.attributes),
        helper.make_node("Mul", ["y0", "w"], ["z"]),
    ]
    results = ["z"]
    if gradient:
        xs = [names[k] for k in differentiable(case)]
        results = [f"d{x}" for x in xs]
        nodes.append(helper.make_node("Gradient", xs, results, domain=TRAINING, xs=xs, y="z"))
    inputs, constants = [], [numpy_helper.from_array(weights, "w")]
    for k, x in enumerate(case.inputs):
        if k in case.constants:
            constants.append(numpy_helper.from_array(x, names[k]))
        elif x is not None:
            free = dynamic and x.dtype == np.float64
            shape = [f"n{k}_{a}" for a in range(x.ndim)] if free else list(x.shape)
            inputs.append(helper.make_tensor_value_info(names[k], helper.np_dtype_to_tensor_dtype(x.dtype), shape))
    outputs = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in results]
    graph = helper.make_graph(nodes, "case", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid(TRAINING, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def differences(model: onnx.ModelProto, feeds: dict[str, Array], name: str, step: float = 1e-6) -> Array:
    """Central differences of the sum of a model's output, by onnx's own evaluator."""
    forward = ReferenceEvaluator(model)

    def at(index: tuple[int, ...], change: float) -> float:
        moved = feeds[name].copy()
        moved[index] += change
        return float(np.sum(forward.run(None, {**feeds, name: moved})[0]))

    slopes = [(at(i, step) - at(i, -step)) / (2 * step) for i in np.ndindex(feeds[name].shape)]
    return np.array(slopes).reshape(feeds[name].shape)


def check(case: Case, dynamic: bool = False, jit: bool = False) -> None:
    feeds = {f"x{k}": x for k, x in enumerate(case.inputs) if x is not None and k not in case.constants}
    unweighted = case_model(case, np.array(1.0), False)
    weights = np.random.default_rng(1).standard_normal(ReferenceEvaluator(unweighted).run(None, feeds)[0].shape)
    got = backend.prepare(case_model(case, weights, True, dynamic), jit=jit).run(feeds)
    forward = case_model(case, weights, False)
    for k, value in zip(differentiable(case), got, strict=True):
        np.testing.assert_allclose(value, differences(forward, feeds, f"x{k}"), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", [*ELEMENTWISE, *SHAPES, *REDUCTIONS, *PRODUCTS], ids=str)
def test_differences_agree(case: Case) -> None:
    check(case)
