"""Sequences, optionals and tensors of strings."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest

import onnx_numba.backend as backend
from onnx_numba.errors import OnnxNumbaError

HEADER = '<ir_version: 8, opset_import: ["" : 18]>\n'


def run(text: str, *inputs: Any, jit: bool = True) -> Any:
    return backend.prepare(onnx.parser.parse_model(HEADER + text), jit=jit).run(list(inputs))


ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((1, 3), np.float32), np.zeros((0, 3), np.float32)]


@pytest.mark.parametrize("jit", [True, False])
def test_elements_of_a_sequence_go_on_into_kernels(jit: bool) -> None:
    text = """g (float[N, 3] a, float[M, 3] b, int64 k) => (float[P, 3] y, int64 n) {
        s = SequenceConstruct(a, b)
        t = SequenceInsert(s, a, k)
        u = SequenceAt(t, k)
        y = Mul(u, u)
        n = SequenceLength(t)
    }"""
    y, n = run(text, ARRAYS[0], ARRAYS[1], np.array(1), jit=jit)
    np.testing.assert_array_equal(y, ARRAYS[0] ** 2)
    assert n == 3 and n.dtype == np.int64


@pytest.mark.parametrize("new_axis", [0, 1])
def test_concat_from_sequence(new_axis: int) -> None:
    text = f"""g (float[N, 3] a, float[N, 3] b) => (float[...] y) {{
        s = SequenceConstruct(a, b)
        c = ConcatFromSequence<axis = 0, new_axis = {new_axis}>(s)
        y = Neg(c)
    }}""".replace("float[...] y", "float[P, 3] y" if not new_axis else "float[2, P, 3] y")
    expected = np.stack([ARRAYS[0]] * 2) if new_axis else np.concatenate([ARRAYS[0]] * 2)
    np.testing.assert_array_equal(run(text, ARRAYS[0], ARRAYS[0])[0], -expected)


def test_split_to_sequence_in_pieces() -> None:
    text = """g (float[N, M] x, int64 size) => (seq(float[K, M]) y) { y = SplitToSequence<axis = 0>(x, size) }"""
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    (pieces,) = run(text, x, np.array(2))
    assert [p.shape for p in pieces] == [(2, 2), (2, 2), (1, 2)]
    np.testing.assert_array_equal(np.concatenate(pieces), x)


def test_a_sequence_does_not_share_memory_with_inputs() -> None:
    x = np.zeros((2, 3), np.float32)
    (sequence,) = run("g (float[N, 3] x) => (seq(float[N, 3]) y) { y = SequenceConstruct(x, x) }", x)
    sequence[0][:] = 1
    assert not x.any() and not sequence[1].any()


def test_an_empty_sequence_is_new_every_time() -> None:
    rep = backend.prepare(onnx.parser.parse_model(HEADER + "g () => (seq(float) y) { y = SequenceEmpty() }"))
    rep.run([])[0].append(1)
    assert rep.run([])[0] == []


@pytest.mark.parametrize("position", [2, -3])
def test_a_position_outside_is_an_error(position: int) -> None:
    text = "g (float[3] a, int64 k) => (float[3] y) { s = SequenceConstruct(a, a)\n y = SequenceAt(s, k) }"
    with pytest.raises(OnnxNumbaError, match="position"):
        run(text, np.ones(3, np.float32), np.array(position))


def test_optional_holds_or_not() -> None:
    text = "g (float[N] x) => (float[N] y, bool h) { o = Optional(x)\n y = OptionalGetElement(o)\n h = OptionalHasElement(o) }"
    y, has = run(text, np.ones(2, np.float32))
    assert has and y.tolist() == [1, 1]


def test_strings_are_moved_like_numbers() -> None:
    text = """g (string[N, M] x, int64[2] i) => (string[M, 2] y, string[K] z, int64[2] n) {
        t = Transpose<perm = [1, 0]>(x)
        y = Gather<axis = 1>(t, i)
        flat = Constant<value = int64[1] {-1}>()
        r = Reshape(x, flat)
        z = Concat<axis = 0>(r, r)
        n = Shape(x)
    }"""
    x = np.array([["a", "b", "c"], ["d", "e", "ü"]], object)
    y, z, n = run(text, x, np.array([1, 0]))
    assert y.tolist() == x.T[:, [1, 0]].tolist()
    assert z.tolist() == [*x.reshape(-1), *x.reshape(-1)]
    assert n.tolist() == [2, 3]


@pytest.mark.parametrize("jit", [True, False])
def test_a_body_of_sequencemap_means_what_it_means_in_the_model(jit: bool) -> None:
    """onnx writes SequenceMap as a Loop of opset 17, where ReduceMax has no axes as input and no other domain is known."""
    text = """<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 3]>
    g (seq(float[n,2]) s, float[2] w) => (seq(float[2]) y, seq(float[n,2]) z) {
        y, z = SequenceMap (s) <body = b (float[n,2] e) => (float[2] o, float[n,2] e) <int64[1] axis = {0}> {
            m = ReduceMax<keepdims = 0>(e, axis)  p = ai.onnx.ml.Binarizer<threshold = 3.0>(m)  o = Add(p, w) }> }"""
    x = np.array([[1, 5], [2, 3]], np.float32)
    y, z = backend.prepare(onnx.parser.parse_model(text), jit=jit).run([[x, x[1:]], np.array([10, 20], np.float32)])
    assert [item.tolist() for item in y] == [[10, 21], [10, 20]]
    assert [item.tolist() for item in z] == [x.tolist(), x[1:].tolist()]


@pytest.mark.parametrize("split", [np.array(2), np.array([], np.int64)])
def test_nothing_splits_into_no_pieces(split: np.ndarray) -> None:
    dims = ", ".join(["0"] * split.ndim)
    text = f"g (float[n,3] x, int64[{dims}] s) => (seq(float[m,3]) y) {{ y = SplitToSequence<axis = 0>(x, s) }}"
    (pieces,) = run(text.replace("int64[]", "int64"), ARRAYS[2], split, jit=False)
    assert pieces == []


def map_cast(given: int, made: int, **attributes: Any) -> backend.BackendRep:
    node = onnx.helper.make_node("CastMap", ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    kind = onnx.helper.make_map_type_proto(onnx.TensorProto.INT64, onnx.helper.make_tensor_type_proto(given, []))
    y = onnx.helper.make_tensor_value_info("y", made, [1, None])
    graph = onnx.helper.make_graph([node], "g", [onnx.helper.make_value_info("x", kind)], [y])
    return backend.prepare(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("ai.onnx.ml", 1)]), jit=False)


@pytest.mark.parametrize(("form", "size", "expected"), [("DENSE", 1, ["0.1", "NaN"]), ("SPARSE", 3, ["0.1", "", "NaN"])])
def test_numbers_of_a_map_become_text_like_others(form: str, size: int, expected: list[str]) -> None:
    rep = map_cast(onnx.TensorProto.FLOAT, onnx.TensorProto.STRING, cast_to="TO_STRING", map_form=form, max_map=size)
    assert rep.run([{2: float("nan"), 0: 0.1}])[0].tolist() == [expected]
    if form == "SPARSE":
        with pytest.raises(OnnxNumbaError, match="key -1 is no place"):
            rep.run([{-1: 2.0}])


def test_text_in_a_map_becomes_whole_numbers_that_no_float_holds() -> None:
    rep = map_cast(onnx.TensorProto.STRING, onnx.TensorProto.INT64, cast_to="TO_INT64")
    assert rep.run([{1: "9007199254740993", 0: "7"}])[0].tolist() == [[7, 9007199254740993]]
