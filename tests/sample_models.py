"""Small models that together use every form of generated code and every template, each with inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

from onnx_numba import samples

Array = np.ndarray[Any, Any]
HEAD = '<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 3, "local" : 1]>\n'


@dataclass(frozen=True)
class Sample:
    """A model's text, its inputs, and the tensors that it holds as initializers."""

    text: str
    inputs: Callable[[np.random.Generator], list[Any]]
    weights: Callable[[np.random.Generator], dict[str, Array]] = lambda _: {}

    def model(self) -> onnx.ModelProto:
        """The model."""
        made = parser.parse_model(HEAD + self.text)
        for name, array in self.weights(np.random.default_rng(1)).items():
            made.graph.initializer.append(numpy_helper.from_array(array, name))
        return made

    def feed(self, seed: int = 0) -> list[Any]:
        """Inputs, the same for the same seed."""
        return self.inputs(np.random.default_rng(seed))


def f32(random: np.random.Generator, *shape: int) -> Array:
    return random.standard_normal(shape).astype(np.float32)


def ints(text: str) -> str:
    """A constant vector of int64 in a model's text."""
    return f"Constant<value_ints=[{text}]>()"


UNARY = [
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSwish",
    "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt",
    "Tan", "Tanh",
]  # fmt: skip
TREES = (
    'y, scores = ai.onnx.ml.TreeEnsembleClassifier<nodes_treeids=[0,0,0,1,1,1], nodes_nodeids=[0,1,2,0,1,2], '
    "nodes_featureids=[0,0,0,1,0,0], nodes_hitrates=[1.0,1.0,1.0,1.0,1.0,1.0], "
    'nodes_modes=["BRANCH_LEQ","LEAF","LEAF","BRANCH_LT","LEAF","LEAF"], '
    "nodes_values=[0.1,0.0,0.0,-0.2,0.0,0.0], nodes_truenodeids=[1,0,0,1,0,0], nodes_falsenodeids=[2,0,0,2,0,0], "
    "nodes_missing_value_tracks_true=[0,0,0,0,0,0], class_treeids=[0,0,1,1], class_nodeids=[1,2,1,2], class_ids=[0,1,2,0], "
    'class_weights=[0.5,0.7,0.2,0.9], classlabels_int64s=[3,5,7], post_transform="SOFTMAX">(x)'
)


def _math(kind: str) -> str:
    """A kernel in which every function occurs."""
    lines = [f"{op.lower()} = {op}({'cosh' if op == 'Acosh' else 'x'})" for op in UNARY]
    terms = [op.lower() for op in UNARY]
    sums = [f"s{k} = Add({a if k == 0 else f's{k - 1}'}, {b})" for k, (a, b) in enumerate(itertools.pairwise(terms))]
    tail = f"two = Pow(x, x) rest = Mod<fmod=1>(two, x) y = Add(s{len(terms) - 2}, rest)"
    return f"g ({kind}[n] x) => ({kind}[n] y) {{ {' '.join(lines)} {' '.join(sums)} {tail} }}"


SAMPLES: dict[str, Sample] = {
    "mlp": Sample(
        "g (float[n,20] x) => (float[n,5] y) { a = Gemm(x, w, b) r = Relu(a) c = MatMul(r, v) y = Softmax<axis=-1>(c) }",
        lambda r: [f32(r, 7, 20)],
        lambda r: {"w": f32(r, 20, 33), "b": f32(r, 33), "v": f32(r, 33, 5)},
    ),
    "products": Sample(
        "g (float[b,n,k] x, float[b,k,m] y, double[n,k] u, double[k,m] v) => (float[b,n,m] z, double[n,m] w, float[b,n] d) {"
        'z = MatMul(x, y) w = MatMul(u, v) d = Einsum<equation="bnk,bkn->bn">(x, y) }',
        lambda r: [f32(r, 2, 9, 4), f32(r, 2, 4, 9), r.standard_normal((9, 4)), r.standard_normal((4, 9))],
    ),
    "convolutions": Sample(
        "g (float[1,4,h,w] x) => (float[1,6,h1,w1] y, float[1,4,h2,w2] z, float[1,3,h3,w3] t) {"
        "a = Conv<pads=[1,1,1,1]>(x, w3) n = BatchNormalization(a, s, o, m, v) y = Relu(n) "
        "z = Conv<group=4, strides=[2,2]>(x, depth) t = ConvTranspose<strides=[2,2]>(x, up) }",
        lambda r: [f32(r, 1, 4, 11, 13)],
        lambda r: {
            "w3": f32(r, 6, 4, 3, 3), "depth": f32(r, 4, 1, 3, 3), "up": f32(r, 4, 3, 2, 2), "s": f32(r, 6), "o": f32(r, 6),
            "m": f32(r, 6), "v": np.abs(f32(r, 6)) + 1,
        },
    ),
    "pools": Sample(
        "g (float[1,3,12,12] x) => (float[1,3,h,w] a, float[1,3,6,6] b, float[1,3,1,1] c, float[1,3,24,24] d, int64[1,3,h,w] i) {"
        "a, i = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x) b = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x) "
        f'c = GlobalAveragePool(x) sizes = {ints("1,3,24,24")} d = Resize<mode="linear">(x, , , sizes) }}',
        lambda r: [f32(r, 1, 3, 12, 12)],
    ),
    "loop": Sample(
        "g (int64 n, float[3] x) => (float[3] last, float[k,3] all) {"
        "go = Constant<value=bool {1}>() last, all = Loop(n, go, x) <body = b (int64 i, bool c, float[3] h) => "
        "(bool go_on, float[3] next, float[3] seen) { go_on = Identity(c) next = Mul(h, x) seen = Sin(next) }> }",
        lambda r: [np.array(4), f32(r, 3)],
    ),
    "branches": Sample(
        "g (bool c, float[n] x) => (float[n] y, float[n] z) {"
        "y = If(c) <then_branch = t () => (float[n] a) { a = Exp(x) }, else_branch = e () => (float[n] b) { b = Neg(x) }> "
        "zero = Constant<value=float {0}>() last, z = Scan<num_scan_inputs=1, body = s (float h, float v) => (float o, float p) {"
        "o = Add(h, v) p = Mul(o, v) }>(zero, x) }",
        lambda r: [np.array(True), f32(r, 6)],
    ),
    "half": Sample(
        "g (float16[n] x, bfloat16[n] b) => (float16[n] y, bfloat16[n] c, float[n] z, double[n] d, float16[m] s) {"
        "e = Exp(x) y = Add(e, x) t = Tanh(b) c = Mul(t, b) w = Cast<to=1>(x) u = Cast<to=1>(c) z = Sub(w, u) d = Cast<to=11>(b) "
        "f = Cast<to=10>(d) s = CumSum(f, zero) }",
        lambda r: [f32(r, 37).astype(np.float16), f32(r, 37).astype(ml_dtypes.bfloat16)],
        lambda _: {"zero": np.array(0)},
    ),
    "math16": Sample(_math("float16"), lambda r: [(np.abs(r.standard_normal(100)) / 4).astype(np.float16)]),
    "math32": Sample(_math("float"), lambda r: [np.abs(f32(r, 100)) / 4]),
    "math64": Sample(_math("double"), lambda r: [np.abs(r.standard_normal(100)) / 4]),
    "integers": Sample(
        "g (int8[n] a, int64[n] b, uint16[n] c, bool[n] f) => (int8[n] p, int64[n] q, uint16[n] r, int64[n] s, float[n] t, bool[n] h) {"
        "a2 = Mul(a, a) p = Div(a2, a) q1 = Mod(b, m) q2 = Pow(b, two) q = Sub(q1, q2) sh = Cast<to=4>(a) "
        'r1 = BitShift<direction="LEFT">(c, sh) r2 = BitwiseXor(r1, c) r = BitwiseNot(r2) s = Where(f, q1, q2) t = Cast<to=1>(s) '
        "g1 = Less(q1, q2) h = And(f, g1) }",
        lambda r: [
            r.integers(1, 100, 50, np.int8), r.integers(-99, 99, 50), r.integers(0, 999, 50, np.uint16), r.random(50) < 0.5,
        ],
        lambda _: {"m": np.array(7), "two": np.array(2)},
    ),
    "reductions": Sample(
        "g (float[n,m] x, int64[n,m] k) => (float[m] a, float[n,1] b, float c, int64[n] d, float[m] e, int64[m] f, float[n,m] h, "
        "int64[n,m] p, float[n] q) { a = ReduceSum<keepdims=0>(x, first) b = ReduceMax(x, last) c = ReduceLogSumExp<keepdims=0>(x) "
        "d = ArgMax<axis=1, keepdims=0>(x) e = ReduceL2<keepdims=0>(x, first) f = ReduceProd<keepdims=0>(k, first) "
        "h = LayerNormalization(x, s, o) p = CumSum(k, one) q = ReduceMean<keepdims=0>(x, last) }",
        lambda r: [f32(r, 9, 6), r.integers(-3, 3, (9, 6))],
        lambda r: {"first": np.array([0]), "last": np.array([-1]), "one": np.array(1), "s": f32(r, 6), "o": f32(r, 6)},
    ),
    "quantised": Sample(
        "g (float[n,8] x, uint8[n,8] u) => (uint8[n,8] q, float[n,8] d, int32[n,4] i, uint8[n,8] p, uint8[n,4] r) {"
        "q = QuantizeLinear(x, scale, zero) d = DequantizeLinear(q, scale, zero) i = MatMulInteger(u, w) "
        "p, ps, pz = DynamicQuantizeLinear(x) r = QLinearMatMul(u, scale, zero, w, scale, wz, big, zero) }",
        lambda r: [f32(r, 5, 8), r.integers(0, 255, (5, 8), np.uint8)],
        lambda r: {
            "scale": np.float32(0.05), "big": np.float32(9), "zero": np.uint8(120), "wz": np.int8(0),
            "w": r.integers(-99, 99, (8, 4), np.int8),
        },
    ),
    "shapes": Sample(
        "g (float[n,6] x, int64[k] i) => (float[k,6] a, float[6,n] b, float[m,6] c, float[n,8] d, float[n,3] e, int64[2,z] f, "
        f'float[n,2,3] g1, float[n,12] h) {{ a = Gather(x, i) b = Transpose(x) c = Concat<axis=0>(x, a) pads = {ints("0,1,0,1")} '
        f"d = Pad(x, pads) from = {ints('5')} to = {ints('-99')} axis = {ints('1')} by = {ints('-2')} e = Slice(x, from, to, axis, by) "
        f"f = NonZero(x) s = {ints('0,2,3')} g1 = Reshape(x, s) times = {ints('1,2')} h = Tile(x, times) }}",
        lambda r: [f32(r, 5, 6), np.array([0, -1, 3, 3])],
    ),
    "scatter": Sample(
        "g (float[n,3] x, int64[k,3] i, float[k,3] u, int64[j,1] at, float[j,3] v, float[n] s) => (float[n,3] a, float[n,3] b, "
        'float[n,3] c, float[t] d, int64[t] e, float[q] w) { a = ScatterElements<reduction="add">(x, i, u) b = ScatterND(x, at, v) '
        "c = ScatterElements(x, i, u) d, e = TopK(s, three) w = Unique(s) }",
        lambda r: [
            f32(r, 6, 3), r.integers(0, 6, (4, 3)), f32(r, 4, 3), np.array([[1], [3]]), f32(r, 2, 3), f32(r, 6),
        ],
        lambda _: {"three": np.array([3])},
    ),
    "recurrent": Sample(
        "g (float[t,b,3] x) => (float[t,1,b,4] y, float[t,1,b,4] z) { y, h, c = LSTM<hidden_size=4>(x, w, r, o) "
        "z, k = GRU<hidden_size=4>(x, gw, gr) }",
        lambda r: [f32(r, 5, 2, 3)],
        lambda r: {"w": f32(r, 1, 16, 3), "r": f32(r, 1, 16, 4), "o": f32(r, 1, 32), "gw": f32(r, 1, 12, 3), "gr": f32(r, 1, 12, 4)},
    ),
    "forest": Sample("g (float[n,2] x) => (int64[n] y, float[n,3] scores) { " + TREES + " }", lambda r: [f32(r, 9, 2)]),
    "detection": Sample(
        "g (float[1,n,4] boxes, float[1,2,n] scores, float[1,2,8,8] x, float[r,4] rois, int64[r] of, float[3,3] q) => "
        "(int64[s,3] picked, float[r,2,2,2] y, float d) { picked = NonMaxSuppression(boxes, scores, many, iou) "
        "y = RoiAlign<output_height=2, output_width=2>(x, rois, of) d = Det(q) }",
        lambda r: [
            np.sort(r.random((1, 8, 4)).astype(np.float32)), r.random((1, 2, 8)).astype(np.float32), f32(r, 1, 2, 8, 8),
            np.array([[0, 0, 4, 4], [1, 1, 7, 6]], np.float32), np.array([0, 0]), f32(r, 3, 3),
        ],
        lambda _: {"many": np.array(3), "iou": np.float32(0.5)},
    ),
    "signal": Sample(
        "g (float[1,n,1] x) => (float[1,n,2] y) { y = DFT(x, , axis) }",
        lambda r: [f32(r, 1, 12, 1)],
        lambda _: {"axis": np.array(1)},
    ),
}  # fmt: skip


def iris() -> onnx.ModelProto:
    """The model that comes with the package."""
    return onnx.load(samples.path())


def one_node(op: str, inputs: list[tuple[str, str, list[Any]]], outputs: list[str], domain: str = "", opset: int = 21,
             **attributes: Any) -> onnx.ModelProto:  # fmt: skip
    """A model of one node, named ``the_node``; inputs are name, element type and dims, outputs have no declared type."""
    kinds = onnx.TensorProto.DataType
    values = [helper.make_tensor_value_info(name, kinds.Value(kind.upper()), dims) for name, kind, dims in inputs]
    node = helper.make_node(op, [name for name, *_ in inputs], outputs, name="the_node", domain=domain, **attributes)
    graph = helper.make_graph([node], "one", values, [onnx.ValueInfoProto(name=name) for name in outputs])
    imports = {"": 21, domain: opset}
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*entry) for entry in imports.items()], ir_version=10)
