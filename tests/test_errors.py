"""Bad inputs and bad models: one line of our own that names what is wrong, never a crash, never a traceback from within."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from error_checks import HEAD, MODES, X, holds, prepared
from onnx import TensorProto, helper, numpy_helper, parser
from sample_models import one_node

from onnx_numba import backend, errors

# Inputs

LINEAR = "linear (float[n,3] x, float[n] row, int64[k] index) => (float[n,3] y) { y = Relu(x) z = Add(row, row) i = Neg(index) }"
ROW = np.ones(2, np.float32)
INDEX = np.zeros(1, np.int64)
BAD_INPUTS = {
    "name": ({"x": X, "row": ROW, "indices": INDEX}, ValueError, ["'indices'", "'x', 'row', 'index'"]),
    "missing": ({"x": X, "row": ROW}, ValueError, ["'index'", "missing"]),
    "too few": ([X], ValueError, ["3 inputs", "got 1"]),
    "too many": ([X, ROW, INDEX, X], ValueError, ["3 inputs", "got 4"]),
    "none": ([X, None, INDEX], ValueError, ["'row'", "missing"]),
    "dtype": ([X.astype(np.float64), ROW, INDEX], TypeError, ["'x'", "float32", "float64", "astype"]),
    "index dtype": ([X, ROW, INDEX.astype(np.int32)], TypeError, ["'index'", "int64", "int32"]),
    "object": ([X, ROW, np.array([object()])], TypeError, ["'index'", "object"]),
    "strings": ([X, ROW, ["a"]], TypeError, ["'index'", "int64"]),
    "ragged": ([[[1.0], [2.0, 3.0]], ROW, INDEX], TypeError, ["'x'"]),
    "complex": ([X + 1j, ROW, INDEX], TypeError, ["'x'", "complex"]),
    "masked": ([np.ma.masked_array(X), ROW, INDEX], TypeError, ["'x'", "masked", "filled"]),
    "floats for ints": ([X, ROW, [0.5]], TypeError, ["'index'", "int64"]),
    "rank": ([X[0], ROW, INDEX], ValueError, ["'x'", "rank 2", "rank 1", "[n, 3]"]),
    "scalar": ([np.float32(1), ROW, INDEX], ValueError, ["'x'", "rank 2", "rank 0"]),
    "static dim": ([X[:, :2], ROW, INDEX], ValueError, ["'x'", "[n, 3]", "[2, 2]", "axis 1"]),
}


@MODES
@pytest.mark.parametrize("case", BAD_INPUTS)
def test_inputs(case: str, jit: bool) -> None:
    inputs, kind, words = BAD_INPUTS[case]
    rep = prepared(LINEAR, jit)
    with pytest.raises(kind) as raised:
        rep.run(inputs)
    holds(raised, *words)
    np.testing.assert_array_equal(rep.run([X, ROW, INDEX]).y, X)  # an error leaves nothing behind


@MODES
def test_sequence_inputs(jit: bool) -> None:
    rep = prepared("s (seq(float[n]) x, int64 i) => (float[n] y) { y = SequenceAt(x, i) }", jit)
    with pytest.raises(TypeError) as raised:
        rep.run([X, np.array(0)])
    holds(raised, "'x'", "list")
    with pytest.raises(TypeError) as raised:
        rep.run([[X[0], X[0].astype(np.int8)], np.array(0)])
    holds(raised, "'x'", "[1]", "float32", "int8")


# Shapes that only the run can check


@MODES
@pytest.mark.parametrize(
    ("text", "inputs", "words"),
    [
        ("g (float[n] x, int64[1] s) => (float[a] y) { t = Reshape(x, s) y = Identity(t) }", [X[0], np.array([99])], ["shapes"]),
        ("g (float[n] x, int64[1] s) => (float[a] y) { r = Relu(x) y = Reshape(r, s) }", [X[0], np.array([99])], ["shapes"]),
        ("g (float[n] x, float[m] z) => (float[m] y) { s = Shape(z) r = Relu(x) y = Reshape(r, s) }", [X[0], X.ravel()], ["shapes"]),
        ("g (float[n] x, float[m] z) => (float[m] y) { s = Shape(z) r = Relu(x) y = Reshape(r, s) }", [X.ravel(), X[0]], ["shapes"]),
        ("g (float[n] x, float[m] z) => (float[1] y) { s = Shape(z) r = Reshape(x, s) k = Constant<value_ints=[1]>() y, i = TopK(r, k) }",
         [X[0], X.ravel()], ["shapes"]),
        ("g (float[t,b,3] x, float[1,16,3] w, float[1,16,4] r, float[1,k] o) => (float[t,1,b,4] y) { "
         "y = LSTM<hidden_size=4>(x, w, r, o) }",
         [X[None], np.ones((1, 16, 3), np.float32), np.ones((1, 16, 4), np.float32), X[:1]], ["LSTM", "shapes"]),
        ("g (float[t,b,3] x, float[1,12,3] w, float[1,12,4] r, float[1,c,4] h) => (float[t,1,b,4] y) { "
         "y = GRU<hidden_size=4>(x, w, r, , , h) }",
         [X[None], np.ones((1, 12, 3), np.float32), np.ones((1, 12, 4), np.float32), np.ones((1, 1, 4), np.float32)], ["GRU", "shapes"]),
        ("g (float[n,m] x, int64[k] s) => (float[n,m] y) { y = ReverseSequence<batch_axis=0, time_axis=1>(x, s) }",
         [X, np.array([2])], ["ReverseSequence", "shapes"]),
        ("g (float[n,3] x, float[n,3] z) => (float[n,3] y) { y = Add(x, z) }", [X, X[:1].repeat(5, 0)], ["'z'", "shapes", "5", "2"]),
        ("g (float[a] x, float[b] z) => (float[c] y) { y = Mul(x, z) }", [X[0], X[0].repeat(2)], ["Mul", "broadcast", "3", "6"]),
        ("g (float[a,b] x, float[c,d] z) => (float[a,d] y) { y = MatMul(x, z) }", [X, X], ["MatMul"]),
        ("g (float[n] x, int64[2] s) => (float[a,b] y) { y = Reshape(x, s) }", [X[0], np.array([2, 2])], ["shapes"]),
        ("g (float[n] x, int64[2] s) => (float[a,b] y) { y = Reshape(x, s) }", [X[0], np.array([-1, 2])], ["shapes"]),
        ("g (float[n] x, int64[2] s) => (float[a,b] y) { y = Expand(x, s) }", [X[0], np.array([2, 2])], ["Expand"]),
        ("g (float[a,b] x, float[c,d] z) => (float[e,f] y) { y = Concat<axis=0>(x, z) }", [X, X[:, :2]], ["Concat"]),
        ("g (float[n] x) => (float[a,b] y) { s = Constant<value_ints=[4,-1]>() y = Reshape(x, s) }", [X.ravel()], ["shapes"]),
        ("g (float[n] x, float[m] z) => (float[k] y) { y = Where(c, x, z) c = Constant<value=bool[2] {1,0}>() }",
         [X[0], X[0]], ["Where", "broadcast"]),
        ("g (float[1,c,h,w] x, float[2,3,2,2] k) => (float[1,2,a,b] y) { y = Conv(x, k) }",
         [np.ones((1, 4, 5, 5), np.float32), np.ones((2, 3, 2, 2), np.float32)], ["Conv"]),
        ("g (float[b,n,k] x) => (float[b,n,2] y) { y = DFT(x) }", [np.ones((1, 4, 3), np.float32)], ["DFT", "1 or 2"]),
        ("g (float[b,n,k] x, int64 s, int64 l) => (float[b,f,n,2] y) { y = STFT(x, s, , l) }",
         [np.ones((1, 4, 3), np.float32), np.array(1), np.array(2)], ["STFT", "1 or 2"]),
        ("g (float[n,k] x, float[k,m] w, float[m] b) => (float[n,m] y) { y = Gemm(x, w, b) }", [X, X.T.copy(), X[0]], ["shapes"]),
    ],
)  # fmt: skip
def test_shapes_at_run_time(text: str, inputs: list[Any], words: list[str], jit: bool) -> None:
    rep = prepared(text, jit)
    with pytest.raises(errors.OnnxNumbaError) as raised:
        rep.run(inputs)
    holds(raised, *words)


# Of the second input: what does not fit, or would make the result larger. The first has the shape [2, 3, 4].
PARAMETERS = {
    "BatchNormalization(x, p, v, v, v)": ([3], [[1, 3], [3, 1], [1], [4]], "scale"),
    "BatchNormalization(x, v, v, v, p)": ([3], [[3, 1], [1]], "input_var"),
    "InstanceNormalization(x, p, v)": ([3], [[1], [1, 3], [4]], "scale"),
    "InstanceNormalization(x, v, p)": ([3], [[1], [2]], "B"),
    "GroupNormalization<num_groups = 3>(x, p, v)": ([3], [[1], [3, 1]], "scale"),
    "LayerNormalization(x, p)": ([4], [[3], [2, 2, 3, 4], [2, 1, 3]], "Scale"),
    "LayerNormalization<axis = 1>(x, s, p)": ([3, 4], [[3], [2, 2, 3, 4]], "B"),
    "RMSNormalization(x, p)": ([4], [[3], [2, 2, 3, 4]], "scale"),
    "PRelu(x, p)": ([4], [[5], [2, 2, 3, 4], [2, 2, 1]], "slope"),
    "Clip(x, p)": ([], [[2], [3, 4]], "scalar"),
    "Gemm(m, t, p)": ([3], [[2], [2, 3], [3, 2], [1, 1, 3]], "C"),
}


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("call", PARAMETERS)
def test_parameters_of_other_shapes(call: str, static: bool) -> None:
    good, bad, what = PARAMETERS[call]
    values = {"x": [2, 3, 4], "v": [3], "s": [1], "m": [3, 4], "t": [4, 3]}
    for shape in [good, *bad]:
        shapes = {name: dims for name, dims in {**values, "p": shape}.items() if f"{name}," in call or f"{name})" in call}
        named = [f"float[{','.join(str(n) if static else f'{name}{k}' for k, n in enumerate(d))}] {name}" for name, d in shapes.items()]
        proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23]> g ({", ".join(named)}) => (float[a,b,c] y) {{ y = {call} }}')
        feed = {name: np.ones(dims, np.float32) for name, dims in shapes.items()}
        if call.startswith("Gemm"):
            del proto.graph.output[0].type.tensor_type.shape.dim[0]
        if shape == good:
            backend.prepare(proto, jit=False).run(feed)
            continue
        with pytest.raises(errors.OnnxNumbaError) as raised:
            backend.prepare(proto, jit=False).run(feed)
        holds(raised, call.split("(")[0].split("<")[0], what)


@MODES
def test_index_at_run_time(jit: bool) -> None:
    rep = prepared("g (float[n,3] x, int64[k] i) => (float[k,3] y) { y = Gather(x, i) }", jit)
    for bad in (2, -3, 2**40, -(2**63)):
        with pytest.raises(errors.ExecutionError) as raised:
            rep.run([X, np.array([0, bad, 1])])
        holds(raised, "Gather", "index", "out of range")
    np.testing.assert_array_equal(rep.run([X, np.array([1, -1])]).y, X[[1, -1]])


@MODES
@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("g (float[n,3] x, int64[k,3] i) => (float[k,3] y) { y = GatherElements(x, i) }", [X, np.full((1, 3), 7)]),
        ("g (float[n,3] x, int64[k,1] i) => (float[k,3] y) { y = GatherND(x, i) }", [X, np.full((1, 1), 7)]),
        ("g (float[n,3] x, int64[k,3] i) => (float[n,3] y) { y = ScatterElements(x, i, z) z = Cast<to=1>(i) }", [X, np.full((1, 3), 7)]),
        ("g (float[n,3] x, int64[1,1] i, float[1,3] u) => (float[n,3] y) { y = ScatterND(x, i, u) }", [X, np.full((1, 1), -9), X[:1]]),
        ("g (seq(float[n,3]) x, int64 i) => (float[n,3] y) { y = SequenceAt(x, i) }", [[X], np.array(7)]),
        ("g (float[n] x, int64[1] k) => (float[k] y, int64[k] i) { y, i = TopK(x, k) }", [X[0], np.array([9])]),
        ("g (float[n,1,2,2] x, float[k,4] r, int64[k] i) => (float[k,1,1,1] y) { y = RoiAlign(x, r, i) }",
         [np.ones((2, 1, 2, 2), np.float32), np.ones((1, 4), np.float32), np.array([-1])]),
        ("g (float[n,1,2,2] x, float[k,5] r) => (float[k,1,1,1] y) { y = MaxRoiPool<pooled_shape=[1,1]>(x, r) }",
         [np.ones((2, 1, 2, 2), np.float32), -np.ones((1, 5), np.float32)]),
    ],
    ids=["GatherElements", "GatherND", "ScatterElements", "ScatterND", "SequenceAt", "TopK", "RoiAlign", "MaxRoiPool"],
)
def test_indices_of_other_operators(text: str, inputs: list[Any], jit: bool) -> None:
    rep = prepared(text, jit)
    with pytest.raises(errors.OnnxNumbaError) as raised:
        rep.run(inputs)
    holds(raised)


def test_static_index() -> None:
    with pytest.raises(errors.OnnxNumbaError) as raised:
        prepared("g (float[2,3] x) => (float[3] y) { i = Constant<value_int=5>() y = Gather(x, i) }").run(X)
    holds(raised, "Gather", "out of range")


# Values that only the run knows: nothing is read or written outside a tensor, and the error names the node and the reason


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def i64(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


RANGE = "(int64 s, int64 l, int64 d) => (int64[n] y) { y = Range(s, l, d) }"
FLOAT_RANGE = "(float s, float l, float d) => (float[n] y) { y = Range(s, l, d) }"
SLICE = "(float[n,m] x, int64[2] a, int64[2] b, int64[2] st) => (float[p,q] y) { y = Slice(x, a, b, , st) }"
SPLIT = "(float[n] x, int64[2] s) => (float[p] y, float[q] z) { y, z = Split(x, s) }"
TOPK = "(float[n] x, int64[1] k) => (float[a] y, int64[b] z) { y, z = TopK(x, k) }"
RESIZE = "(float[n,m] x, float[2] s) => (float[a,b] y) { y = Resize(x, , s) }"
SIZES = "(float[n,m] x, int64[2] s) => (float[a,b] y) { y = Resize<mode = \"linear\">(x, , , s) }"
RESHAPE = "(float[n,m] x, int64[2] s) => (float[a,b] y) { y = Reshape(x, s) }"
UNPOOL = "(float[1,1,w] x, int64[1,1,v] i) => (float[1,1,b] y) { y = MaxUnpool<kernel_shape = [2], strides = [2]>(x, i) }"
NMS = "(float[a,b,k] x, float[c,d,e] s) => (int64[n,3] y) { m = Constant<value_ints = [5]>() y = NonMaxSuppression(x, s, m) }"
ROI = (
    "(float[n,c,h,w] x, float[r,4] b, int64[q] i) => (float[r,c,u,v] y) "
    "{ y = RoiAlign<output_height = 2, output_width = 2, sampling_ratio = 1>(x, b, i) }"
)
CACHE = "(float[n,s,d] x, float[n,t,d] u, int64[n] i) => (float[n,s,d] y) { y = TensorScatter<axis = 1>(x, u, i) }"
COLUMNS = "(float[n,k,l] x, int64[2] a, int64[2] b) => (float[n,p,q,r] y) { y = Col2Im(x, a, b) }"
DFT = "(float[n,k,1] x, int64 l, int64 a) => (float[n,p,q] y) { y = DFT<onesided = 1>(x, l, a) }"
STFT = "(float[n,k,1] x, int64 s, int64 l) => (float[n,p,q,r] y) { y = STFT(x, s, , l) }"
RNN = "(float[t,b,3] x, float[1,4,3] w, float[1,4,4] r, int32[k] s) => (float[t,1,b,4] y) { y = RNN<hidden_size = 4>(x, w, r, , s) }"
LOSS = "(float[n,c] x, int64[n] t, float[k] w) => (float y) { y = NegativeLogLikelihoodLoss(x, t, w) }"
REVERSE = "(float[n,m] x, int64[k] s) => (float[n,m] y) { y = ReverseSequence<batch_axis = 0, time_axis = 1>(x, s) }"
PAD = "(float[n,m] x, int64[4] p) => (float[a,b] y) { y = Pad(x, p) }"
EDGE = "(float[n,m] x, int64[4] p) => (float[a,b] y) { y = Pad<mode = \"edge\">(x, p) }"
GATHER = "(float[n,m] x, int64[k] i) => (float[k,m] y) { y = Gather(x, i) }"
RNN_INPUTS = [f32(2, 1, 3), f32(1, 4, 3), f32(1, 4, 4)]

BAD_VALUES: list[tuple[str, list[Any], list[str]]] = [
    (RANGE, [np.int64(0), np.int64(5), np.int64(0)], ["Range", "delta"]),
    (RANGE, [np.int64(0), np.int64(2**62), np.int64(1)], ["Range", "bytes"]),
    (FLOAT_RANGE, [np.float32(0), np.float32(5), np.float32(0)], ["Range", "delta"]),
    (FLOAT_RANGE, [np.float32(0), np.float32(5), np.float32(np.nan)], ["Range", "delta"]),
    (FLOAT_RANGE, [np.float32(0), np.float32(np.inf), np.float32(1)], ["Range"]),
    (SLICE, [f32(3, 4), i64(0, 0), i64(9, 9), i64(1, 0)], ["Slice", "step"]),
    (SPLIT, [f32(3), i64(-2, 5)], ["Split", "-2"]),
    (SPLIT, [f32(3), i64(1, 5)], ["Split", "expected 3, got 6"]),
    ("(float[n,m] x, int64[2] r) => (float[p,q] y) { y = Tile(x, r) }", [f32(2, 3), i64(-1, -2)], ["Tile", "-1"]),
    ("(float[n,m] x, int64[2] r) => (float[p,q] y) { y = Expand(x, r) }", [f32(1, 1), i64(-2, -3)], ["Expand", "-2"]),
    ("(int64[2] r) => (float[p,q] y) { y = ConstantOfShape(r) }", [i64(-2, -3)], ["ConstantOfShape", "-2"]),
    ("(int64[2] r) => (float[p,q] y) { y = ConstantOfShape(r) }", [i64(2**40, 2**40)], ["ConstantOfShape"]),
    (RESHAPE, [f32(2, 3), i64(-5, 2)], ["Reshape", "negative"]),
    (RESHAPE, [f32(1, 1), i64(-1, -1)], ["Reshape", "negative"]),
    (RESHAPE, [f32(2, 3), i64(-1, 4)], ["Reshape", "6"]),
    (GATHER, [f32(0, 100_000), i64(0)], ["Gather", "axis 0"]),
    (GATHER, [f32(2, 3), i64(2**63 - 1)], ["Gather", "index"]),
    ("(float[n,m] x, int64[a,2] i) => (float[c] y) { y = GatherND(x, i) }", [f32(2, 0), np.zeros((1, 2), np.int64)],
     ["GatherND", "axis 1"]),
    ("(float[n,m] x, int64[a,b] i) => (float[c,m] y) { y = GatherElements(x, i) }", [f32(2, 3), np.zeros((1, 5), np.int64)],
     ["GatherElements", "dim 1"]),
    ("(float[n,m] x, bool[k] c) => (float[p,q] y) { y = Compress<axis = 0>(x, c) }", [f32(2, 3), np.array([0, 0, 1], bool)], ["Compress"]),
    (PAD, [f32(2, 2), i64(-3, -3, 0, 0)], ["Pad", "negative"]),
    (EDGE, [f32(0, 5), i64(1, 1, 2, 2)], ["Pad", "axis 0"]),
    ("(float[n,m] x, int64[2] a) => (float[p,q] y) { y = CenterCropPad(x, a) }", [f32(2, 1), i64(-1, 3)], ["CenterCropPad", "-1"]),
    (RESIZE, [f32(2, 2), np.array([-1, 2], np.float32)], ["Resize", "scales"]),
    (RESIZE, [f32(2, 2), np.array([np.nan, 2], np.float32)], ["Resize", "scales"]),
    (RESIZE, [f32(2, 2), np.array([np.inf, 2], np.float32)], ["Resize"]),
    (SIZES, [f32(3, 4), i64(-3, -4)], ["Resize", "-3"]),
    (SIZES, [f32(0, 1000), i64(3, 1000)], ["Resize", "axis 0"]),
    (TOPK, [f32(3), i64(-1)], ["TopK", "-1"]),
    (TOPK, [f32(3), i64(4)], ["TopK", "axis 0"]),
    ("(int64[n] x, int64 k) => (float[a,b] y) { v = Constant<value_floats = [0.0, 1.0]>() y = OneHot(x, k, v) }",
     [i64(0, 1), np.int64(-3)], ["OneHot", "-3"]),
    ("(int64[n] x, int64 k, float[m] v) => (float[a,b] y) { y = OneHot(x, k, v) }", [i64(0, 1), np.int64(3), f32(1)], ["OneHot", "values"]),
    (REVERSE, [f32(2, 3), i64(-1, 2)], ["ReverseSequence", "index"]),
    (REVERSE, [f32(2, 3), i64(4, 2)], ["ReverseSequence", "index"]),
    ("(float[n,m] x, int64 a) => (float[n,m] y) { y = CumSum(x, a) }", [f32(2, 3), np.int64(2)], ["CumSum", "axis"]),
    ("(float[n,m] x, int64[1] a) => (float[k] y) { y = ReduceSum<keepdims = 0>(x, a) }", [f32(2, 3), i64(2)], ["ReduceSum", "axis"]),
    ("(float[n,m] x) => (int64[k] y) { y = ArgMax<axis = 1, keepdims = 0>(x) }", [f32(2, 0)], ["ArgMax", "axis 1"]),
    ("(float[n,m] x, int64[1] a) => (float[p,q,r] y) { y = Unsqueeze(x, a) }", [f32(2, 3), i64(5)], ["Unsqueeze", "axis"]),
    ("(float[n,m] x, int64[1] a) => (float[p] y) { y = Squeeze(x, a) }", [f32(2, 1), i64(5)], ["Squeeze", "axis"]),
    ("(float[1,2,w] x, float[3,2,2] k, float[n] c) => (float[1,3,b] y) { y = Conv(x, k, c) }", [f32(1, 2, 4), f32(3, 2, 2), f32(2)],
     ["Conv", "bias"]),
    ("(float[1,2,w] x, float[f,1,2] k) => (float[1,f,b] y) { y = Conv<group = 2>(x, k) }", [f32(1, 2, 5), f32(3, 1, 2)],
     ["Conv", "groups"]),
    (UNPOOL, [f32(1, 1, 2), i64(0, 4).reshape(1, 1, 2)], ["MaxUnpool", "index"]),
    (UNPOOL, [f32(1, 1, 2), i64(0, -1).reshape(1, 1, 2)], ["MaxUnpool", "index"]),
    (UNPOOL, [f32(1, 1, 2), i64(0, 1, 2).reshape(1, 1, 3)], ["MaxUnpool", "indices"]),
    (NMS, [f32(1, 3, 3), f32(1, 2, 3)], ["NonMaxSuppression", "box"]),
    (ROI, [f32(1, 1, 4, 4), f32(1, 4), i64(1)], ["RoiAlign", "index"]),
    (ROI, [f32(0, 1, 4, 4), f32(1, 4), i64(0)], ["RoiAlign", "axis 0"]),
    (CACHE, [f32(2, 4, 1), f32(2, 2, 1), i64(0, 3)], ["TensorScatter", "index"]),
    (CACHE, [f32(2, 4, 1), f32(2, 2, 1), i64(0, -1)], ["TensorScatter", "index"]),
    (CACHE, [f32(2, 1, 1), f32(2, 2, 1), i64(0, 0)], ["TensorScatter", "update"]),
    (COLUMNS, [f32(1, 4, 4), i64(4, 4), i64(0, 2)], ["Col2Im", "block_shape"]),
    (COLUMNS, [f32(1, 4, 4), i64(3, 4), i64(2, 2)], ["Col2Im", "expected 4, got 6"]),
    (COLUMNS.replace("float", "string"), [np.full((1, 4, 4), "a", object), i64(3, 3), i64(2, 2)], ["Col2Im", "overlap"]),
    (DFT, [f32(1, 4, 1), np.int64(0), np.int64(1)], ["DFT", "dft_length"]),
    (DFT, [f32(1, 4, 1), np.int64(-4), np.int64(1)], ["DFT", "-4"]),
    (DFT, [f32(1, 4, 1), np.int64(4), np.int64(7)], ["DFT", "axis"]),
    (STFT, [f32(1, 4, 1), np.int64(0), np.int64(2)], ["STFT", "frame_step"]),
    (STFT, [f32(1, 4, 1), np.int64(1), np.int64(9)], ["STFT", "frames"]),
    ("(int64 n) => (float[k] y) { y = HannWindow(n) }", [np.int64(-1)], ["HannWindow", "-1"]),
    (RNN, [*RNN_INPUTS, np.array([-1], np.int32)], ["RNN", "index"]),
    (RNN, [*RNN_INPUTS, np.array([3], np.int32)], ["RNN", "index"]),
    (LOSS, [f32(2, 3), i64(0, -1), f32(3)], ["NegativeLogLikelihoodLoss", "index"]),
    (LOSS, [f32(2, 3), i64(0, 2), f32(1)], ["NegativeLogLikelihoodLoss", "weight"]),
    ("(float[n,m] x, float[a,b] s) => (uint8[n,m] y) { y = QuantizeLinear<axis = 1, block_size = 2>(x, s) }", [f32(2, 4), f32(1, 2) + 1],
     ["QuantizeLinear", "scale"]),
]  # fmt: skip


@MODES
@pytest.mark.parametrize("number", range(len(BAD_VALUES)), ids=[f"{words[0]}-{k}" for k, (*_, words) in enumerate(BAD_VALUES)])
def test_values_at_run_time(number: int, jit: bool) -> None:
    text, inputs, words = BAD_VALUES[number]
    rep = backend.prepare(parser.parse_model(HEAD.replace("21", "24") + "g " + text), jit=jit)
    with pytest.raises(errors.ExecutionError) as raised:
        rep.run(inputs)
    holds(raised, *words)


def test_more_memory_than_there_is_has_its_own_error() -> None:
    rep = prepared("g " + RANGE)
    for limit in (2**44, 2**62):
        with pytest.raises(MemoryError) as raised:
            rep.run([np.int64(0), np.int64(limit), np.int64(1)])
        holds(raised, "Range", "bytes")
    np.testing.assert_array_equal(rep.run([np.int64(0), np.int64(3), np.int64(1)]).y, [0, 1, 2])


@MODES
def test_a_check_behind_the_last_kernel_names_its_node(jit: bool) -> None:
    rep = prepared("g (float[n] x, int64[2] s) => (float[a,b] y) { r = Relu(x) y = Reshape(r, s) }", jit)
    with pytest.raises(errors.ExecutionError) as raised:
        rep.run([X[0], i64(2, 2)])
    holds(raised, "Reshape", "expected 4, got 3")


# Models


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (one_node("Nonsense", [("x", "float", ["n"])], ["y"]), ["the_node", "Nonsense", "21"]),
        (one_node("Gelu", [("x", "float", ["n"])], ["y"], opset=19), ["the_node", "Gelu", "19"]),
        (one_node("Fancy", [("x", "float", ["n"])], ["y"], "my.domain", 3), ["the_node", "Fancy", "my.domain", "3"]),
        (one_node("Relu", [("x", "float", ["n"])], ["y"], opset=999), ["999"]),
        (one_node("Relu", [("x", "float", ["n"]), ("z", "float", ["n"])], ["y"]), ["the_node", "Relu"]),
        (one_node("Add", [("x", "float", ["n"])], ["y"]), ["the_node", "Add"]),
        (one_node("Relu", [("x", "float", ["n"])], ["y", "z"]), ["the_node", "Relu"]),
        (one_node("Relu", [("x", "string", ["n"])], ["y"]), ["the_node", "Relu", "string"]),
        (one_node("Add", [("x", "float", ["n"]), ("z", "int64", ["n"])], ["y"]), ["the_node", "Add"]),
        (one_node("Add", [("x", "float", [2]), ("z", "float", [3])], ["y"]), ["the_node", "Add"]),
        (one_node("MatMul", [("x", "float", [2, 3]), ("z", "float", [4, 5])], ["y"]), ["the_node", "MatMul"]),
        (one_node("Transpose", [("x", "float", [2, 3])], ["y"], perm=[0, 2]), ["the_node", "Transpose"]),
        (one_node("Concat", [("x", "float", [2, 3])], ["y"], axis=5), ["the_node", "Concat"]),
        (one_node("Softmax", [("x", "float", [2, 3])], ["y"], axis=-7), ["the_node", "Softmax"]),
        (one_node("Cast", [("x", "float", ["n"])], ["y"]), ["the_node", "Cast", "to"]),
        (one_node("Cast", [("x", "float", ["n"])], ["y"], to=99), ["the_node", "Cast"]),
    ],
    ids=[
        "operator", "too old an opset", "domain", "too new an opset", "too many inputs", "too few inputs", "too many outputs",
        "strings", "two types", "broadcast", "inner dims", "perm", "axis", "softmax axis", "no attribute", "no type",
    ],
)  # fmt: skip
def test_nodes(model: onnx.ModelProto, words: list[str]) -> None:
    with pytest.raises(errors.OnnxNumbaError) as raised:
        backend.prepare(model)
    holds(raised, *words)


def ml_node(op: str, columns: int | str = 2, **attributes: Any) -> onnx.ModelProto:
    outputs = ["y", "z"] if op.endswith("Classifier") else ["y"]
    return one_node(op, [("x", "float", ["n", columns])], outputs, "ai.onnx.ml", 3, **attributes)


def forest(**changes: Any) -> dict[str, Any]:
    """A tree of one test and two leaves."""
    return {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0], "nodes_values": [0.5, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [1.0, 2.0], "n_targets": 1, **changes,
    }  # fmt: skip


IMAGE = [("x", "float", [1, 2, 5])]
MATRIX = [("x", "float", [2, 3])]
MALFORMED: dict[str, tuple[onnx.ModelProto, list[str]]] = {
    "attribute of no version": (one_node("Relu", MATRIX, ["y"], slope=1.0), ["Relu", "'slope'", "no version"]),
    "attribute of a later version": (one_node("Cast", MATRIX, ["y"], to=1, round_mode="down"), ["Cast", "'round_mode'", "version"]),
    "attribute of an earlier version": (one_node("ReduceSum", MATRIX, ["y"], axes=[0]), ["ReduceSum", "'axes'", "version"]),
    "types": (one_node("Concat", [("x", "float", [2]), ("z", "int64", [2])], ["y"], axis=0), ["Concat", "float", "int64"]),
    "index type": (one_node("Reshape", [*MATRIX, ("s", "int32", [1])], ["y"]), ["Reshape", "shape", "int32", "int64"]),
    "a scalar has no axis": (one_node("Gather", [("x", "float", []), ("i", "int64", [1])], ["y"]), ["Gather", "axis 0"]),
    "axes twice": (one_node("Squeeze", [("x", "float", [1, 1])], ["y"], opset=11, axes=[0, -2]), ["twice"]),
    "perm": (one_node("Transpose", MATRIX, ["y"], perm=[2, 3]), ["Transpose", "perm"]),
    "pads": (one_node("MaxPool", IMAGE, ["y"], kernel_shape=[2], pads=[-2, 0]), ["MaxPool", "pads"]),
    "strides": (one_node("MaxPool", IMAGE, ["y"], kernel_shape=[2], strides=[0]), ["MaxPool", "strides"]),
    "kernel": (one_node("AveragePool", IMAGE, ["y"], kernel_shape=[2, 2]), ["AveragePool", "kernel"]),
    "groups": (one_node("Conv", [*IMAGE, ("w", "float", [3, 1, 2])], ["y"], group=2), ["Conv", "groups"]),
    "no groups": (one_node("Conv", [*IMAGE, ("w", "float", [3, 1, 2])], ["y"], group=0), ["Conv", "groups"]),
    "no image": (one_node("GlobalMaxPool", MATRIX, ["y"]), ["GlobalMaxPool", "rank 2"]),
    "blocks": (one_node("DepthToSpace", [("x", "float", [1, 4, 2, 2])], ["y"], blocksize=0), ["DepthToSpace", "blocksize"]),
    "norm groups": (one_node("GroupNormalization", [("x", "float", [1, 4, 2]), ("s", "float", [4]), ("b", "float", [4])], ["y"],
                             num_groups=0), ["GroupNormalization", "groups"]),
    "channels": (one_node("BatchNormalization", [("x", "float", [2, 1, 2]), *((n, "float", [5]) for n in "sbmv")], ["y"]),
                 ["BatchNormalization", "expected 1, got 5"]),
    "size": (one_node("LRN", [("x", "float", [1, 2, 3])], ["y"], size=0), ["LRN", "size"]),
    "condition": (one_node("Compress", [*MATRIX, ("c", "bool", [2, 1])], ["y"]), ["Compress", "rank 2"]),
    "pieces": (one_node("Split", MATRIX, ["y", "z"], num_outputs=0), ["Split", "num_outputs"]),
    "hidden size": (one_node("GRU", [("x", "float", [2, 1, 3]), ("w", "float", [1, 12, 3]), ("r", "float", [1, 12, 4])], ["y"],
                             hidden_size=5), ["GRU", "hidden_size"]),
    "pattern": (one_node("RegexFullMatch", [("x", "string", ["n"])], ["y"], pattern="("), ["RegexFullMatch", "'('"]),
    "case": (one_node("StringNormalizer", [("x", "string", ["n"])], ["y"], case_change_action="TITLE"), ["StringNormalizer", "TITLE"]),
    "grams": (one_node("TfIdfVectorizer", [("x", "int64", ["n"])], ["y"], max_gram_length=1, max_skip_count=0, min_gram_length=1, mode="TF",
                       ngram_counts=[0], ngram_indexes=[0, 1, -7], pool_int64s=[1, 2, 3]), ["TfIdfVectorizer", "ngram_indexes"]),
    "random shape": (one_node("RandomNormal", [], ["y"], shape=[2, -3]), ["RandomNormal", "negative"]),
    "scaler": (ml_node("Scaler", scale=[1.0]), ["Scaler", "offset"]),
    "scaler sizes": (ml_node("Scaler", scale=[1.0], offset=[1.0, 2.0, 3.0]), ["Scaler", "offset", "expected 2, got 3"]),
    "coefficients": (ml_node("LinearRegressor", coefficients=[1.0, 2.0, 3.0], targets=2), ["LinearRegressor", "3 coefficients"]),
    "labels": (ml_node("LinearClassifier", coefficients=[1.0] * 6, intercepts=[0.0] * 3, classlabels_ints=[0, 1]),
               ["LinearClassifier", "2 class labels"]),
    "support vectors": (ml_node("SVMRegressor", coefficients=[1.0, 2.0], n_supports=2, support_vectors=[1.0, 2.0, 3.0], rho=[0.0]),
                        ["SVMRegressor", "support vectors"]),
    "features": (ml_node("SVMRegressor", 1, coefficients=[1.0], n_supports=1, support_vectors=[1.0, 2.0], rho=[0.0], kernel_type="RBF",
                         kernel_params=[1.0, 0.0, 0.0]), ["SVMRegressor", "features"]),
    "cast_to": (one_node("CastMap", [("x", "float", [1])], ["y"], "ai.onnx.ml", 3, cast_to="TO_BOOL"), ["CastMap"]),
    "feature": (ml_node("TreeEnsembleRegressor", **forest(nodes_featureids=[7, 0, 0])), ["TreeEnsembleRegressor", "feature 7"]),
    "feature below 0": (ml_node("TreeEnsembleRegressor", **forest(nodes_featureids=[-1, 0, 0])), ["TreeEnsembleRegressor", "feature -1"]),
    "target": (ml_node("TreeEnsembleRegressor", **forest(target_ids=[0, 5])), ["TreeEnsembleRegressor", "target 5"]),
    "target below 0": (ml_node("TreeEnsembleRegressor", **forest(target_ids=[0, -1])), ["TreeEnsembleRegressor", "target -1"]),
    "circle": (ml_node("TreeEnsembleRegressor", **forest(nodes_modes=["BRANCH_LEQ", "BRANCH_LT", "LEAF"], nodes_truenodeids=[1, 1, 0],
                                                         nodes_falsenodeids=[2, 2, 0])), ["TreeEnsembleRegressor", "below itself"]),
    "child": (ml_node("TreeEnsembleRegressor", **forest(nodes_truenodeids=[9, 0, 0])), ["TreeEnsembleRegressor", "child"]),
    "lists": (ml_node("TreeEnsembleRegressor", **forest(nodes_values=[0.5])), ["TreeEnsembleRegressor", "lengths"]),
    "aggregate": (ml_node("TreeEnsembleRegressor", **forest(aggregate_function="MEDIAN")), ["TreeEnsembleRegressor", "MEDIAN"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_nodes(case: str) -> None:
    model, words = MALFORMED[case]
    with pytest.raises(errors.ModelError) as raised:
        backend.prepare(model)
    holds(raised, "the_node", *words)


def test_features_that_only_the_run_counts() -> None:
    rep = backend.prepare(ml_node("TreeEnsembleRegressor", "c", **forest(nodes_featureids=[7, 0, 0])))
    with pytest.raises(errors.ExecutionError) as raised:
        rep.run(X)
    holds(raised, "TreeEnsembleRegressor", "feature 7")


def test_a_circle_among_nodes_and_leaves_of_a_tree_ensemble() -> None:
    values = {"nodes_splits": [0.5, 0.5], "leaf_weights": [1.0]}
    tensors = {k: helper.make_tensor(k, TensorProto.FLOAT, [len(v)], v) for k, v in values.items()}
    attributes = {
        "tree_roots": [0], "nodes_featureids": [0, 0], "nodes_modes": helper.make_tensor("m", TensorProto.UINT8, [2], [0, 0]),
        "nodes_truenodeids": [1, 0], "nodes_trueleafs": [0, 0], "nodes_falsenodeids": [0, 0], "nodes_falseleafs": [1, 1],
        "leaf_targetids": [0],
    }  # fmt: skip
    changes: dict[str, Any]
    for changes, words in [
        ({}, ["below itself"]),
        ({"nodes_falsenodeids": [3, 0]}, ["child", "does not exist"]),
        ({"tree_roots": [-1]}, ["root", "does not exist"]),
    ]:
        node = one_node("TreeEnsemble", [("x", "float", ["n", 2])], ["y"], "ai.onnx.ml", 5, **{**tensors, **attributes, **changes})
        with pytest.raises(errors.ModelError) as raised:
            backend.prepare(node)
        holds(raised, "TreeEnsemble", *words)


def _graph(nodes: list[onnx.NodeProto], outputs: tuple[str, ...] = ("y",), inputs: tuple[str, ...] = ("x",)) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in outputs],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"{op}_{outputs}", **attributes)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (_graph([_node("Add", "x b", "a"), _node("Relu", "a", "b"), _node("Relu", "b", "y")]), ["circle", "Add_a", "Relu_b"]),
        (_graph([_node("Relu", "y", "y")]), ["y"]),
        (_graph([_node("Relu", "x", "y"), _node("Neg", "x", "y")]), ["'y'"]),
        (_graph([_node("Split", "x", "y y", num_outputs=2)]), ["'y'"]),
        (_graph([_node("Relu", "x", "x")], ("x",)), ["'x'"]),
        (_graph([_node("Relu", "absent", "y")]), ["'absent'"]),
        (_graph([_node("Relu", "x", "z")]), ["'y'"]),
        (_graph([_node("Relu", "x", "y")], inputs=("x", "x")), ["'x'"]),
        (_graph([_node("If", "x", "y")]), ["If"]),
        (_graph([], ("y",)), ["'y'"]),
    ],
    ids=[
        "cycle", "own input", "two producers", "twice in one node", "shadows an input", "undefined", "no producer", "inputs",
        "no branch", "empty",
    ],
)  # fmt: skip
def test_graphs(model: onnx.ModelProto, words: list[str]) -> None:
    with pytest.raises(errors.OnnxNumbaError) as raised:
        backend.prepare(model)
    holds(raised, *words)


@pytest.mark.parametrize(
    ("bias", "inputs", "words"),
    [
        (3, ["a", "two", "t", "m", "v"], ["BatchNormalization", "expected 3, got 2"]),
        (3, ["a", "one", "t", "m", "v"], ["BatchNormalization", "expected 3, got 1"]),
        (3, ["a", "", "t", "m", "v"], ["BatchNormalization", "input 1"]),
        (2, ["a", "s", "t", "m", "v"], ["Conv", "expected 3, got 2"]),
    ],
)
def test_a_normalisation_that_does_not_fit_the_convolution_before_it(bias: int, inputs: list[str], words: list[str]) -> None:
    """It was folded all the same, and NumPy complained or broadcast."""
    sizes = {"w": (3, 1, 1, 1), "b": (bias,), **dict.fromkeys("stmv", (3,)), "one": (1,), "two": (2,)}
    nodes = [_node("Conv", "x w b", "a"), helper.make_node("BatchNormalization", inputs, ["y"])]
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(size, np.float32), name) for name, size in sizes.items()],
    )
    with pytest.raises(errors.ModelError) as raised:
        backend.prepare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    holds(raised, *words)


def test_the_same_output_twice_is_two_arrays() -> None:
    model = _graph([_node("Relu", "x", "y")], ("y", "y"))
    try:
        first, second = backend.prepare(model).run(X[0])
    except errors.ModelError:
        return  # the standard wants unique names
    np.testing.assert_array_equal(first, second)
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[3] x) => (int64[3] y) { y = Relu(x) }", r"output 'y' is declared as tensor\(int64\) 3, but is tensor\(float\) 3"),
        ("g (float[3] x) => (float[3] y) { y = SequenceConstruct(x) }", r"output 'y' is declared as tensor\(float\) 3, but is seq"),
    ],
)
def test_outputs_of_another_type_than_declared(text: str, reason: str) -> None:
    with pytest.raises(errors.ModelError, match=reason):
        prepared(text, jit=False)


def test_a_function_that_is_there_twice() -> None:
    twice = '<domain: "local", opset_import: ["" : 21]> f (u) => (v) { v = Neg(u) }'
    head = '<ir_version: 10, opset_import: ["" : 21, "local" : 1]>'
    with pytest.raises(errors.ModelError, match=r"function local.f is defined a second time"):
        backend.prepare(parser.parse_model(f"{head} g (float[3] x) => (float[3] y) {{ y = local.f(x) }} {twice} {twice}"), jit=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (seq(float[n]) s, int64[2] p) => (float[n] y) { y = SequenceAt(s, p) }", r"the position is a tensor\(int64\) 2"),
        ("g (seq(float[n]) s, float p) => (float[n] y) { y = SequenceAt(s, p) }", r"the position is a tensor\(float\)"),
        ("g (seq(float[n]) s) => (float[n] y) { y = ConcatFromSequence<axis = 0, new_axis = 2>(s) }", "new_axis must be 0 or 1"),
        ("g (float x) => (seq(float[n]) y) { y = SplitToSequence<axis = 0>(x) }", "a scalar has no axis"),
    ],
)
def test_malformed_nodes_of_sequences(text: str, reason: str) -> None:
    with pytest.raises(errors.ModelError, match=reason):
        prepared(text, jit=False)
