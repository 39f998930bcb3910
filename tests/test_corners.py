"""Corners of the standard that its own tests leave out: each of these was once wrong, refused, or said in Python's words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, parser
from operators import Case, feeds, model

from onnx_numba import backend, errors

Array = np.ndarray[Any, Any]
FAR, LEAST = 2**63 - 1, -(2**63)


def f32(*values: Any) -> Array:
    return np.array(values, np.float32)


def i64(*values: Any) -> Array:
    return np.array(values, np.int64)


def text(*values: Any) -> Array:
    return np.array(values, object)


def empty(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


def scalar(value: Any) -> Array:
    return np.array(value)


def in_every_way(op: str, opset: int, inputs: list[Any], attributes: dict[str, Any], *expected: Array) -> list[Any]:
    """The case with its later inputs given at run time, and with them constant."""
    later = tuple(range(1, len(inputs)))
    cases = [Case(op, opset, inputs, attributes, constants, len(expected)) for constants in (*([later] if later else []), ())]
    return [pytest.param(case, expected, id=f"{case}-{len(case.constants)}") for case in cases]


ROW, FOUR, PAIRS = f32(1, 2, 3, 4, 5), f32(1, 2, 3, 4), text(["b", "a"], ["b", "a"], ["a", "c"])
TALL = np.arange(4, dtype=np.float32).reshape(2, *[1] * 10, 2)
ONES, STEPS = np.ones((1, 1, 2), np.float32), f32([[0, 1, 2]])

RESULTS = [
    *in_every_way("Split", 18, [ROW], {"num_outputs": 4}, f32(1, 2), f32(3, 4), f32(5), empty(0)),
    *in_every_way("Pad", 18, [TALL, i64(*[0] * 11, 1, *[0] * 12)], {}, np.pad(TALL, [*[(0, 0)] * 11, (1, 0)])),
    *in_every_way("Pad", 18, [TALL, i64(1, *[0] * 23)], {"mode": "edge"}, np.pad(TALL, [(1, 0), *[(0, 0)] * 11], "edge")),
    *in_every_way("ReduceSum", 13, [TALL, i64(*range(12))], {"keepdims": 0}, TALL.sum()),
    *in_every_way("Split", 18, [f32(*range(149))], {"num_outputs": 80}, *np.split(f32(*range(149)), [*range(2, 150, 2), *[149] * 5])),
    # One element that is not periodic is 0 / 0 in the function bodies of the standard.
    *[c for op in ("Hann", "Hamming", "Blackman") for c in in_every_way(f"{op}Window", 17, [scalar(1)], {"periodic": 0}, f32(np.nan))],
    # A dim that is copied is no part of what -1 stands for, even where it is 0.
    *in_every_way("Reshape", 13, [empty(0, 3), i64(0, -1)], {}, empty(0, 3)),
    *in_every_way("Reshape", 13, [empty(1, 1, 0), i64(1, -1, 0)], {}, empty(1, 1, 0)),
    *in_every_way("Reshape", 13, [PAIRS, i64(-1)], {}, PAIRS.reshape(-1)),
    *in_every_way("Unique", 11, [PAIRS], {"axis": 0}, PAIRS[[2, 0]], i64(2, 0), i64(1, 1, 0), i64(1, 2)),
    *in_every_way("Unique", 11, [PAIRS], {"axis": 0, "sorted": 0}, PAIRS[[0, 2]], i64(0, 2), i64(0, 0, 1), i64(2, 1)),
    # Backward from far before the beginning of nothing.
    *in_every_way("Slice", 13, [empty(3, 0), i64(LEAST), i64(-7), i64(1), i64(-2)], {}, empty(3, 0)),
    *in_every_way("Slice", 13, [f32([1, 2], [3, 4]), i64(1, 0), i64(5, 5), i64(0, 1), i64(FAR, FAR)], {}, f32([3])),
    # What a negative pad takes away is gone before the rest is filled.
    *in_every_way("Pad", 19, [FOUR, i64(-1, 5)], {"mode": "wrap"}, f32(2, 3, 4, 2, 3, 4, 2, 3)),
    *in_every_way("Pad", 19, [FOUR, i64(2, -1)], {"mode": "reflect"}, f32(3, 2, 1, 2, 3)),
    *in_every_way("Pad", 25, [empty(1, 0, dtype=object), i64(2, 0, 1, 0)], {"mode": "wrap"}, empty(4, 0, dtype=object)),
    *in_every_way("Range", 11, [scalar(LEAST), scalar(FAR), scalar(FAR)], {}, i64(LEAST, -1, FAR - 1)),
    *in_every_way("Range", 11, [scalar(FAR), scalar(LEAST), scalar(LEAST)], {}, i64(FAR, -1)),
    *in_every_way("Range", 11, [scalar(0), scalar(10), scalar(FAR)], {}, i64(0)),
    *in_every_way("Range", 11, [f32(0)[0], f32(np.nan)[0], f32(1)[0]], {}, empty(0)),
    # Padding counts for nothing, even beside elements that nothing is below.
    *in_every_way("MaxPool", 12, [np.zeros((1, 1, 3), np.uint8)], {"kernel_shape": [2], "pads": [1, 0]},
                  np.zeros((1, 1, 3), np.uint8), i64([[0, 0, 1]])),
    *in_every_way("MaxPool", 12, [np.full((1, 1, 2), -np.inf, np.float32)], {"kernel_shape": [2], "dilations": [2], "pads": [1, 1]},
                  np.full((1, 1, 2), -np.inf, np.float32), i64([[1, 0]])),
    *in_every_way("ConvTranspose", 11, [ONES[..., :1], ONES[..., :1]], {"strides": [3], "output_shape": [3]}, f32([[1, 0, 0]])),
    *in_every_way("ConvTranspose", 11, [ONES, STEPS], {"output_shape": [2]}, f32([[1, 3]])),
    # An infinite element reaches its own windows, no other.
    *in_every_way("ConvTranspose", 11, [f32([[np.inf, 1]]), f32([[1, 2, 3]])], {"strides": [2]}, f32([[np.inf, np.inf, np.inf, 2, 3]])),
    *in_every_way("ConvTranspose", 11, [f32([[np.inf, 1]]), f32([[1, 2]])], {"strides": [2]}, f32([[np.inf, np.inf, 1, 2]])),
    *in_every_way("Resize", 19, [FOUR, f32(0.5, 1), None, i64(2)], {"coordinate_transformation_mode": "tf_crop_and_resize"}, f32(2, 4)),
    *in_every_way("Softmax", 13, [empty(2, 1, 2, 0)], {"axis": 1}, empty(2, 1, 2, 0)),
    *in_every_way("SoftmaxCrossEntropyLoss", 13, [empty(2, 1, 0), empty(2, 0, dtype=np.int64), f32(1)], {"reduction": "sum"}, f32(0)[0]),
    # Its body in the standard is for a filter whose length is known.
    *in_every_way("CausalConvWithState", 27, [f32([[1, 2, 3]]), f32([[2, 1]])], {}, f32([[1, 4, 7]]), f32([[3]])),
    *in_every_way("RandomUniformLike", 22, [empty(2, 3)], {"low": 1.0, "high": 1.0}, np.ones((2, 3), np.float32)),
    *in_every_way("RNN", 14, [f32([[np.inf]]), f32([[1]]), f32([[0]])], {"hidden_size": 1, "activations": ["Relu"]}, f32([[[np.inf]]])),
]  # fmt: skip


@pytest.mark.parametrize(("case", "expected"), RESULTS)
@pytest.mark.parametrize("dims", ["known", "open", "no rank"])
def test_results(case: Case, expected: tuple[Array, ...], dims: str) -> None:
    made = model(case, dims != "known")
    for value in made.graph.input if dims == "no rank" else ():
        value.type.tensor_type.ClearField("shape")
    for value, wanted in zip(backend.prepare(made, jit=False).run(feeds(case)), expected, strict=True):
        assert value.dtype == wanted.dtype and value.shape == wanted.shape, (value.dtype, value.shape)
        np.testing.assert_array_equal(value, wanted)


REFUSALS = [
    (Case("Reshape", 14, [empty(2, 0, 2), i64(0, 2, -1)], {"allowzero": 1}), "both"),
    (Case("Reshape", 13, [f32(1), i64(1, 0)]), r"0 beyond the rank|copies dim 1|does not fit"),
    (Case("Pad", 23, [empty(4, 1), i64(-5, 0, 0, 0)]), "negative dim"),
    (Case("Unsqueeze", 13, [empty(1, 1), i64(1, -3)]), "twice"),
    (Case("Range", 11, [scalar(LEAST), scalar(FAR), scalar(1)]), "bytes are needed"),
    (Case("Range", 11, [f32(0)[0], f32(np.inf)[0], f32(1)[0]]), "bytes are needed"),
]


@pytest.mark.parametrize(("case", "what"), REFUSALS, ids=str)
@pytest.mark.parametrize("constant", [True, False])
def test_refusals(case: Case, what: str, constant: bool) -> None:
    given = Case(case.op, case.opset, case.inputs, case.attributes, tuple(range(1, len(case.inputs))) if constant else ())
    with pytest.raises(errors.OnnxNumbaError, match=rf"(?s){case.op}.*({what})") as caught:
        backend.prepare(model(given, False), jit=False).run(feeds(given))
    assert "are not supported (" not in str(caught.value)


def compiled(body: str) -> backend.BackendRep:
    return backend.prepare(parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {body}'))


def test_what_overflows_64_bits_wraps_wherever_it_is_read() -> None:
    """LLVM took it for granted that sums and products with a sign do not, so that ``x + 1 < x`` was false."""
    rep = compiled(
        "(int64[n] x) => (bool[n] less, int64[n] same, int64 total) { one = Constant<value_int = 1>() more = Add(x, one) "
        "less = Less(more, x) big = Constant<value_int = 8589934592>() wide = Mul(x, big) same = Div(wide, big) "
        "square = Mul(x, x) sum = ReduceSum<keepdims = 0>(square) zero = Constant<value_int = 0>() total = Min(sum, zero) }"
    )
    less, same, total = rep.run(i64(FAR, 2**40, 5))
    assert less.tolist() == [True, False, False] and same.tolist() == [-1, 0, 5]
    assert total == 0
    assert rep.run(i64(3 * 2**30, 0, 0)).total == 9 * 2**60 - 2**64


@pytest.mark.parametrize("shape", [i64(2**33, 2**33), i64(11, (2**64 + 6) // 11)])
def test_a_shape_beyond_64_bits_is_an_error(shape: Array) -> None:
    """It wrapped, and the processor divided by 0."""
    rep = compiled("(float[2,3] x, int64[2] s) => (float[a,b] y) { y = Reshape(x, s) }")
    with pytest.raises(errors.ExecutionError, match="64 bits"):
        rep.run([np.ones((2, 3), np.float32), shape])


def test_an_output_beyond_what_numpy_counts_is_an_error() -> None:
    rep = compiled("(int64[1] s) => (float[n] y) { y = ConstantOfShape(s) }")
    with pytest.raises(errors.OutOfMemoryError, match="bytes are needed"):
        rep.run(i64(2**62))


@pytest.mark.parametrize(("operator", "given", "shape"), [("Unsqueeze", 2, (1, 2, 1, 3)), ("Squeeze", 2, (3,))])
def test_axes_of_which_some_are_known(operator: str, given: int, shape: tuple[int, ...]) -> None:
    rank = "2,3" if operator == "Unsqueeze" else "1,3,1"
    made = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> g (float[{rank}] x, int64[1] a) => (float y) '
        f"{{ first = Constant<value_ints = [0]>() axes = Concat<axis = 0>(first, a) y = {operator}(x, axes) }}"
    )
    made.graph.output[0].type.tensor_type.ClearField("shape")
    x = np.ones([int(n) for n in rank.split(",")], np.float32)
    assert backend.prepare(made, jit=False).run([x, i64(given)]).y.shape == shape


def test_scores_of_attention_where_no_rank_is_known() -> None:
    """Of dims that it does not know onnx's inference says that there are none."""
    q, k, v = np.full((1, 1, 1, 2), 2, np.float32), np.full((1, 1, 1, 2), 3, np.float32), np.ones((1, 1, 1, 1), np.float32)
    node = helper.make_node("Attention", ["q", "k", "v"], ["y", "", "", "scores"], qk_matmul_output_mode=0, scale=1.0)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "qkv"]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "scores")]
    graph = helper.make_graph([node], "g", inputs, outputs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    got = backend.prepare(made, jit=False).run([q, k, v])
    assert got.y.tolist() == v.tolist() and got.scores.tolist() == [[[[12]]]]


@pytest.mark.parametrize("jit", [True, False])
def test_inputs_with_defaults_may_be_given(jit: bool) -> None:
    """An initializer of an input's name is its default, so that the shape of the result is for the caller to say."""
    made = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[2,3] x, int64[n] s, float w) => (float[a,b] y) '
        "<int64[2] s = {3, 2}, float w = {2}> { z = Mul(x, w) y = Reshape(z, s) }"
    )
    rep = backend.prepare(made, jit=jit)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for inputs, shape, factor in (
        ([x], (3, 2), 2), ({"x": x, "s": i64(1, 6)}, (1, 6), 2), ([x, i64(6, 1), f32(3)[0]], (6, 1), 3), ([x, None, f32(3)[0]], (3, 2), 3),
        ({"x": x}, (3, 2), 2),
    ):  # fmt: skip
        np.testing.assert_array_equal(rep.run(inputs).y, x.reshape(shape) * np.float32(factor))
    with pytest.raises(errors.InputError, match="'w': expected rank 0"):
        rep.run({"x": x, "w": f32(1)})
    with pytest.raises(errors.InputError, match="unknown input 'v'"):
        rep.run({"x": x, "v": x})


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceSum", "ReduceMax"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_an_axis_of_a_scalar(operator: str, keepdims: int) -> None:
    """Axis 0 and no other, as where it is constant; where the run gives it, Python had no such item in a tuple."""
    case = Case(operator, 18, [np.array(3, np.float32), i64(0)], {"keepdims": keepdims}, (1,))
    given = Case(case.op, case.opset, case.inputs, case.attributes)
    for way in (case, given):
        rep = backend.prepare(model(way, True), jit=False)
        got = rep.run(feeds(way))[0]
        assert got == 3 and got.shape == ()
    with pytest.raises(errors.ExecutionError, match="an axis is out of range for rank 0"):
        rep.run([np.array(3, np.float32), i64(1)])


def test_an_axis_that_is_named_twice() -> None:
    """Among constants it counts once, as in onnxruntime; given by the run it would change the rank of the result."""
    case = Case("ReduceSum", 13, [f32([1, 2], [3, 4]), i64(0, -2)], {"keepdims": 0}, (1,))
    np.testing.assert_array_equal(backend.prepare(model(case, True), jit=False).run(feeds(case))[0], f32(4, 6))
    given = Case(case.op, case.opset, case.inputs, case.attributes)
    with pytest.raises(errors.ExecutionError, match="an axis is named twice"):
        backend.prepare(model(given, True), jit=False).run(feeds(given))


@pytest.mark.parametrize("n", [0, 2])
def test_a_shape_made_of_dims_copies_where_it_holds_0(n: int) -> None:
    """The standard speaks of the numbers in the shape, wherever they come from."""
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3), empty(n, 4)
    by_shape = "(float[a,b] x, float[n,m] y) => (float[c,d] z) { s = Shape(y)  z = Reshape(x, s) }"
    for shape in ((0, 3), (2, 0), (0, 0), (3, 2)):
        np.testing.assert_array_equal(compiled(by_shape).run([x, empty(*shape)])[0], x.reshape(shape if 0 not in shape else x.shape))
    head = "(float[a,b] x, float[n,m] y) => (float[c,d] z) { n = Shape<end = 1>(y)  m = Constant<value = int64[1] {-1}>() "
    for parts, wanted in (("n, m", (2, 3)), ("m, n", (2, 3) if n == 0 else (3, 2))):
        rep = compiled(f"{head} s = Concat<axis = 0>({parts})  z = Reshape(x, s) }}")
        np.testing.assert_array_equal(rep.run([x, y])[0], x.reshape(wanted))
    rep = compiled(f"{head} s = Concat<axis = 0>(n, m)  z = Reshape(x, s) }}")
    assert rep.run([x[:, :0], y])[0].shape == (2, 0)
