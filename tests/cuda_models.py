"""Small models that between them need every kind of CUDA kernel, with inputs for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_numba.samples import path

OPSET = 21
MODELS: dict[str, Callable[[], tuple[Any, list[Any]]]] = {}

Case = Callable[[], tuple[Any, list[Any]]]
F, I64, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def case(make: Case) -> Case:
    MODELS[make.__name__] = make
    return make


def value(name: str, kind: int = F, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def numbers(*shape: int, kind: Any = np.float32, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) * 2).astype(kind)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any] | None = None) -> ModelProto:
    constants = [numpy_helper.from_array(np.asarray(w), name) for name, w in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def simple(kind: str, arrays: list[Any], outputs: list[Any], weights: dict[str, Any] | None = None, **attributes: Any) -> Any:
    """One node over inputs ``x0 x1 …`` and then the weights."""
    names = [f"x{k}" for k in range(len(arrays))]
    inputs = [value(n, helper.np_dtype_to_tensor_dtype(a.dtype), *a.shape) for n, a in zip(names, arrays, strict=True)]
    made = helper.make_node(kind, [*names, *(weights or {})], [o.name for o in outputs], **attributes)
    return model([made], inputs, outputs, weights), arrays


@case
def iris() -> Any:
    rows = [[-1, -2, 5, 6], [-1, -2, -3, -4], [-1, -2, 7, 8]]
    return path("logreg_iris.onnx"), [np.array(rows, np.float32)]


@case
def mlp() -> Any:
    weights = {"w0": numbers(8, 16), "b0": numbers(16), "w1": numbers(16, 3, seed=1), "b1": numbers(3)}
    nodes = [
        node("Gemm", "x w0 b0", "h"), node("Relu", "h", "r"), node("Gemm", "r w1 b1", "s"), node("Softmax", "s", "y", axis=-1),
    ]  # fmt: skip
    return model(nodes, [value("x", F, "n", 8)], [value("y", F, "n", 3)], weights), [numbers(5, 8)]


@case
def convolution() -> Any:
    weights = {
        "w": numbers(4, 2, 3, 3), "b": numbers(4), "scale": numbers(4) + 3, "shift": numbers(4), "mean": numbers(4),
        "var": np.abs(numbers(4)) + 1,
    }  # fmt: skip
    nodes = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1], strides=[2, 2]), node("BatchNormalization", "c scale shift mean var", "n"),
        node("Relu", "n", "r"), node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]), node("GlobalAveragePool", "p", "g"),
        node("Flatten", "g", "y"),
    ]  # fmt: skip
    return model(nodes, [value("x", F, 2, 2, 9, 9)], [value("y", F, 2, 4)], weights), [numbers(2, 2, 9, 9)]


@case
def matmul_batched() -> Any:
    return simple("MatMul", [numbers(2, 3, 4), numbers(2, 4, 5)], [value("y", F, 2, 3, 5)])


@case
def loop() -> Any:
    body = helper.make_graph(
        [node("Mul", "s x2", "s2"), node("Identity", "c", "c2"), node("Identity", "s2", "scan")], "body",
        [value("i", I64), value("c", B), value("s", F, 3)], [value("c2", B), value("s2", F, 3), value("scan", F, 3)],
    )  # fmt: skip
    nodes = [helper.make_node("Loop", ["trips", "", "x"], ["y", "all"], body=body)]
    inputs = [value("trips", I64), value("x", F, 3), value("x2", F, 3)]
    return model(nodes, inputs, [value("y", F, 3), value("all", F, None, 3)]), [np.array(3), numbers(3), numbers(3, seed=1)]


@case
def branch() -> Any:
    graphs = {
        f"{name}_branch": helper.make_graph([node(kind, "x", name)], name, [], [value(name, F, 4)])
        for name, kind in (("then", "Exp"), ("else", "Neg"))
    }
    return model([node("If", "c", "y", **graphs)], [value("c", B), value("x", F, 4)], [value("y", F, 4)]), [np.array(True), numbers(4)]


@case
def nonzero() -> Any:
    return simple("NonZero", [np.array([[0, 1, 2], [3, 0, 0]], np.float32)], [value("y", I64, 2, None)])


@case
def softmax_of_outer_axis() -> Any:
    return simple("Softmax", [numbers(3, 5, 4)], [value("y", F, 3, 5, 4)], axis=1)


@case
def layer_normalization() -> Any:
    return simple("LayerNormalization", [numbers(3, 8)], [value("y", F, 3, 8)], {"scale": numbers(8), "bias": numbers(8, seed=1)})


@case
def elementwise_functions() -> Any:
    names = ["Erf", "Tanh", "Sigmoid", "Sin", "Sqrt", "Floor", "Round", "Abs", "Softplus", "Log", "IsInf", "Sign", "Atan", "Mish"]
    special = np.array([0.0, -0.0, 1.5, -2.5, 100.0, -100.0, np.inf, -np.inf, np.nan], np.float32)
    nodes = [node(name, "x", f"y{k}") for k, name in enumerate(names)]
    outputs = [value(f"y{k}", B if name == "IsInf" else F, 9) for k, name in enumerate(names)]
    return model(nodes, [value("x", F, 9)], outputs), [special]


@case
def half_precision() -> Any:
    nodes = [node("Mul", "x y", "m"), node("Exp", "m", "z"), node("Cast", "z", "b", to=TensorProto.BFLOAT16)]
    kind = TensorProto.FLOAT16
    inputs, outputs = [value("x", kind, 7), value("y", kind, 7)], [value("z", kind, 7), value("b", TensorProto.BFLOAT16, 7)]
    return model(nodes, inputs, outputs), [numbers(7, kind=np.float16), numbers(7, kind=np.float16, seed=1)]


@case
def bfloat16_sum() -> Any:
    x = numbers(4, 6).astype(ml_dtypes.bfloat16)
    return simple("ReduceSum", [x], [value("y", TensorProto.BFLOAT16, 4, 1)], {"axes": np.array([1])})


@case
def integers() -> Any:
    x = np.array([-128, -7, 7, 127, 5], np.int8)
    y = np.array([-1, 2, -2, 3, 0], np.int8)
    nodes = [node("Add", "x y", "a"), node("Div", "x y", "d"), node("Mod", "x y", "m"), node("Max", "x y", "g")]
    kind = TensorProto.INT8
    return model(nodes, [value("x", kind, 5), value("y", kind, 5)], [value(n, kind, 5) for n in "admg"]), [x, y]


@case
def casts() -> Any:
    x = np.array([np.nan, np.inf, -np.inf, 300.7, -300.7, 1e30, -3.5], np.float64)
    kinds = [TensorProto.INT8, TensorProto.UINT8, TensorProto.INT64, TensorProto.UINT64, TensorProto.FLOAT, TensorProto.BOOL]
    nodes = [node("Cast", "x", f"y{k}", to=kind) for k, kind in enumerate(kinds)]
    return model(nodes, [value("x", TensorProto.DOUBLE, 7)], [value(f"y{k}", kind, 7) for k, kind in enumerate(kinds)]), [x]


SMALL = [name for name in dir(TensorProto) if name.startswith(("FLOAT8", "FLOAT6", "FLOAT4", "INT4", "INT2", "UINT4", "UINT2"))]


@case
def casts_to_small_types() -> Any:
    x = np.array([np.nan, np.inf, 500.0, 1e-9, 0.3, 3.49, -0.0, 2.0**-6], np.float64)
    nodes = [node("Cast", "x", f"y{k}", to=getattr(TensorProto, name), saturate=k % 2) for k, name in enumerate(SMALL)]
    return model(nodes, [value("x", TensorProto.DOUBLE, 8)], [value(f"y{k}", getattr(TensorProto, n), 8) for k, n in enumerate(SMALL)]), [x]


@case
def casts_from_small_types() -> Any:
    kinds = [getattr(TensorProto, name) for name in SMALL]
    nodes = [node("Cast", f"x{k}", f"y{k}", to=F) for k in range(len(SMALL))]
    inputs = [value(f"x{k}", kind, 4) for k, kind in enumerate(kinds)]
    given = [np.arange(4, dtype=np.uint8).view(helper.tensor_dtype_to_np_dtype(kind)) for kind in kinds]
    return model(nodes, inputs, [value(f"y{k}", F, 4) for k in range(len(SMALL))]), given


@case
def casts_of_large_integers() -> Any:
    x = np.array([(1 << 60) + 1, (1 << 60) + (1 << 52) + 1, -(1 << 62) - 1, -3], np.int64)
    kinds = [TensorProto.BFLOAT16, TensorProto.FLOAT8E5M2, TensorProto.INT2]
    nodes = [node("Cast", "x", f"y{k}", to=kind) for k, kind in enumerate(kinds)]
    return model(nodes, [value("x", I64, 4)], [value(f"y{k}", kind, 4) for k, kind in enumerate(kinds)]), [x]


@case
def complex_numbers() -> Any:
    x = (numbers(3, 4) + 1j * numbers(3, 4, seed=1)).astype(np.complex64)
    nodes = [node("Trilu", "x", "t"), node("Pad", "t pads", "p"), node("ScatterElements", "x i t", "y", axis=0, reduction="mul")]
    kind = TensorProto.COMPLEX64
    weights = {"pads": np.array([1, 0, 0, 1]), "i": np.array([[0, 1, 2, 2]] * 3)}
    return model(nodes, [value("x", kind, 3, 4)], [value("p", kind, 4, 5), value("y", kind, 3, 4)], weights), [x]


@case
def argmax() -> Any:
    x = np.array([[1, np.nan, 3], [2, 5, 5]], np.float32)
    return simple("ArgMax", [x], [value("y", I64, 2)], axis=1, keepdims=0, select_last_index=1)


@case
def views_and_concat() -> Any:
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0]), node("Slice", "t one two", "s"), node("Concat", "s t", "c", axis=0),
        node("Expand", "c shape", "y"),
    ]  # fmt: skip
    weights = {"one": np.array([1]), "two": np.array([3]), "shape": np.array([2, 1, 1])}
    return model(nodes, [value("x", F, 4, 5)], [value("y", F, 2, 7, 4)], weights), [numbers(4, 5)]


@case
def gather() -> Any:
    return simple("Gather", [numbers(5, 3), np.array([[0, -1], [4, 2]])], [value("y", F, 2, 2, 3)], axis=0)


@case
def scatter_elements() -> Any:
    arrays = [numbers(3, 3), np.array([[1, 0, 2], [0, 2, 1]]), numbers(2, 3, seed=1)]
    return simple("ScatterElements", arrays, [value("y", F, 3, 3)], axis=0, reduction="add")


@case
def running_sum() -> Any:
    return simple("CumSum", [numbers(3, 4)], [value("y", F, 3, 4)], {"axis": np.array(1)}, reverse=1)


@case
def top_k() -> Any:
    return simple("TopK", [numbers(3, 9)], [value("v", F, 3, 4), value("i", I64, 3, 4)], {"k": np.array([4])})


@case
def sorted_lanes() -> Any:
    return simple("TopK", [numbers(2, 30)], [value("v", F, 2, 25), value("i", I64, 2, 25)], {"k": np.array([25])})


@case
def recurrence() -> Any:
    arrays = [numbers(3, 2, 4), numbers(1, 20, 4, seed=1), numbers(1, 20, 5, seed=2)]
    return simple("LSTM", arrays, [value("y", F, 3, 1, 2, 5), value("h", F, 1, 2, 5)], hidden_size=5)


@case
def trees() -> Any:
    tree = {
        "nodes_treeids": [0] * 3 + [1] * 3, "nodes_nodeids": [0, 1, 2] * 2, "nodes_featureids": [0, 0, 0, 1, 0, 0],
        "nodes_values": [0.5, 0, 0, -0.5, 0, 0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
        "nodes_truenodeids": [1, 0, 0] * 2, "nodes_falsenodeids": [2, 0, 0] * 2, "target_treeids": [0, 0, 1, 1],
        "target_nodeids": [1, 2, 1, 2], "target_ids": [0] * 4, "target_weights": [1.0, 2.0, 10.0, 20.0], "n_targets": 1,
    }  # fmt: skip
    made = node("TreeEnsembleRegressor", "x", "y", domain="ai.onnx.ml", **tree)
    return model([made], [value("x", F, "n", 2)], [value("y", F, "n", 1)]), [numbers(6, 2)]


@case
def few_bits() -> Any:
    packed = np.random.default_rng(0).integers(0, 256, (5, 2, 8)).astype(np.uint8)
    weights = {"b": packed, "s": numbers(5, 2, seed=1), "z": packed[:, 0, :1]}
    attributes = {"K": 30, "N": 5, "block_size": 16, "domain": "com.microsoft"}
    return simple("MatMulNBits", [numbers(3, 30)], [value("y", F, 3, 5)], weights, **attributes)


@case
def few_bits_by_bytes() -> Any:
    packed = np.random.default_rng(0).integers(0, 256, (5, 2, 8)).astype(np.uint8)
    weights = {"b": packed, "s": numbers(5, 2, seed=1), "z": packed[:, 0, :1]}
    attributes = {"K": 30, "N": 5, "block_size": 16, "accuracy_level": 4, "domain": "com.microsoft"}
    return simple("MatMulNBits", [numbers(3, 30)], [value("y", F, 3, 5)], weights, **attributes)


@case
def inverse() -> Any:
    return simple("Inverse", [numbers(2, 3, 3)], [value("y", F, 2, 3, 3)], domain="com.microsoft")


@case
def quantised() -> Any:
    x, y = (np.random.default_rng(k).integers(0, 256, (3, 4)).astype(np.uint8) for k in range(2))
    zero = np.array(7, np.uint8)
    weights = {"s": np.float32(0.5), "z": zero, "out": np.float32(0.75)}
    made = helper.make_node("QLinearAdd", ["x", "s", "z", "y", "s", "z", "out", "z"], ["v"], domain="com.microsoft")
    kind = TensorProto.UINT8
    return model([made], [value("x", kind, 3, 4), value("y", kind, 3, 4)], [value("v", kind, 3, 4)], weights), [x, y]


@case
def product_of_bytes() -> Any:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (5, 9)).astype(np.uint8), random.integers(-128, 128, (9, 6)).astype(np.int8)
    zeros = {"a": np.array(7, np.uint8), "c": y[0].copy()}
    nodes = [node("MatMulInteger", "x y a c", "v")]
    ports = [value("x", TensorProto.UINT8, "n", 9), value("y", TensorProto.INT8, 9, 6)]
    return model(nodes, ports, [value("v", TensorProto.INT32, "n", 6)], zeros), [x, y]


@case
def quantised_recurrence() -> Any:
    random = np.random.default_rng(0)
    weights = {name: random.integers(0, 256, (1, rows, 20)).astype(np.uint8) for name, rows in (("w", 4), ("r", 5))}
    weights |= {"s": np.array([0.01], np.float32), "z": np.array([121], np.uint8)}
    names = ["x", "w", "r", "", "", "", "", "", "s", "z", "s", "z"]
    made = helper.make_node("DynamicQuantizeLSTM", names, ["y"], domain="com.microsoft", hidden_size=5)
    return model([made], [value("x", F, 3, 2, 4)], [value("y", F, 3, 1, 2, 5)], weights), [numbers(3, 2, 4)]


@case
def resize() -> Any:
    return simple("Resize", [numbers(1, 1, 3, 4)], [value("y", F, 1, 1, 6, 8)], {"roi": np.zeros(0, np.float32),
                  "scales": np.array([1, 1, 2, 2], np.float32)}, mode="linear")  # fmt: skip


@case
def empty() -> Any:
    nodes = [node("Exp", "x", "e"), node("ReduceSum", "e axes", "y", keepdims=0)]
    outputs = [value("e", F, "n", 3), value("y", F, 3)]
    return model(nodes, [value("x", F, "n", 3)], outputs, {"axes": np.array([0])}), [np.zeros((0, 3), np.float32)]


@case
def scalar() -> Any:
    return simple("Add", [np.array(2.0, np.float32), np.array(3.0, np.float32)], [value("y", F)])
