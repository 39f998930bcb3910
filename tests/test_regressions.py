"""Models that once gave a wrong answer, each with what was wrong."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_numba import errors
from onnx_numba.importer import load
from onnx_numba.lower import lower
from onnx_numba.options import Options
from onnx_numba.prepare import PreparedModel, prepare_model


def graph(text: str) -> onnx.ModelProto:
    """A model of one graph in onnx's text form."""
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> g {text}')


def prepared(model: onnx.ModelProto | str) -> PreparedModel:
    """The model as plain Python."""
    return prepare_model(graph(model) if isinstance(model, str) else model, options=Options(jit=False, cache=False))


def results(model: str, *inputs: Any) -> list[np.ndarray[Any, Any]]:
    """What a model gives."""
    return [np.asarray(v) for v in prepared(model).run(list(inputs))]


def test_a_constant_that_is_scattered_into_is_not_overwritten() -> None:
    """The copy that the kernel updates was computed at prepare, so that updates of one run were seen by the next."""
    model = prepared(
        "(int64[k] i, float[k] u) => (float[3] y) { d = Constant<value_floats=[1.0, 2.0, 3.0]>() y = ScatterElements(d, i, u) }"
    )
    first = model.run([np.array([0]), np.array([7], np.float32)])[0]
    second = model.run([np.array([2]), np.array([9], np.float32)])[0]
    assert first.tolist() == [7, 2, 3]
    assert second.tolist() == [1, 2, 9]


@pytest.mark.parametrize("operator", ["Neg(q)", "Mul(q, q)"])
def test_what_is_made_of_a_guarded_value_stays_behind_it(operator: str) -> None:
    """It was moved out of the inner loop in which the guard was written: used before it had a value."""
    x, z = np.arange(4, dtype=np.float32), np.ones((4, 3), np.float32)
    text = (
        "(float[n] x, float[n, m] z) => (float[n, m] y) { p = Constant<value_ints=[1, -1]>() q = Pad(x, p) "
        f"r = {operator} a = Constant<value_ints=[1]>() w = Unsqueeze(r, a) y = Add(w, z) }}"
    )
    padded = np.array([0, 0, 1, 2], np.float32)
    expected = (-padded if operator == "Neg(q)" else padded * padded)[:, None] + z
    np.testing.assert_array_equal(results(text, x, z)[0], expected)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_a_dim_may_be_zero(n: int) -> None:
    """Outside the loops over it, a dim was taken to be at least 1: ``n > 0`` was always true, and ``max(n - 1, 0)`` was n - 1."""
    text = (
        "(float[n] x) => (bool[1] y, int64[1] z) { s = Shape(x) a = Constant<value_ints=[0]>() o = Constant<value_ints=[1]>() "
        "y = Greater(s, a) t = Sub(s, o) z = Max(t, a) }"
    )
    y, z = results(text, np.zeros(n, np.float32))
    assert y.tolist() == [n > 0]
    assert z.tolist() == [max(n - 1, 0)]


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize(("start", "end", "step"), [(1, 1 << 62, 1), (0, -1, 1), (-1, -(1 << 62), -2)])
def test_a_slice_of_a_dim_that_may_be_zero(n: int, start: int, end: int, step: int) -> None:
    """Its extent was n - 1, which is -1 of nothing."""
    text = (
        f"(float[n] x) => (float[k] y) {{ a = Constant<value_ints=[{start}]>() b = Constant<value_ints=[{end}]>() "
        f"c = Constant<value_ints=[0]>() d = Constant<value_ints=[{step}]>() y = Slice(x, a, b, c, d) }}"
    )
    x = np.arange(n, dtype=np.float32)
    np.testing.assert_array_equal(results(text, x)[0], x[start:end:step])


def test_slices_without_the_first_and_the_last_are_known_to_be_as_long() -> None:
    """Else their difference would be a broadcast."""
    text = (
        "(float[n] x) => (float[k] y) { z = Constant<value_ints=[0]>() o = Constant<value_ints=[1]>() m = Constant<value_ints=[-1]>() "
        "e = Constant<value_ints=[9223372036854775807]>() a = Slice(x, o, e) b = Slice(x, z, m) y = Sub(a, b) }"
    )
    program = lower(load(graph(text)).graph, Options())
    assert "bcast" not in repr(program.outputs[0][1])
    np.testing.assert_array_equal(results(text, np.array([1, 4, 9], np.float32))[0], [3, 5])


@pytest.mark.parametrize("n", [3, 10, 12])
def test_arithmetic_on_dims_rounds_towards_zero(n: int) -> None:
    """Differences of dims were divided as if they were never negative."""
    text = (
        "(float[n] x) => (int64[1] y, int64[1] z, int64[1] w) { s = Shape(x) a = Constant<value_ints=[10]>() "
        "b = Constant<value_ints=[3]>() t = Sub(s, a) y = Div(t, b) z = Mod<fmod=1>(t, b) w = Mod(t, b) }"
    )
    found = [v.tolist() for v in results(text, np.zeros(n, np.float32))]
    assert found == [[int((n - 10) / 3)], [int(np.fmod(n - 10, 3))], [(n - 10) % 3]]


def test_a_negative_dim_wraps_in_a_type_without_sign() -> None:
    """A cast to uint32 and back did nothing."""
    text = (
        "(float[n] x) => (int64[1] y) { s = Shape(x) a = Constant<value_ints=[10]>() t = Sub(s, a) "
        "u = Cast<to = 12>(t) y = Cast<to = 7>(u) }"
    )
    assert results(text, np.zeros(3, np.float32))[0].tolist() == [2**32 - 7]


@pytest.mark.parametrize(
    "step", ["h{k} = Div({p}, c) t{k} = Add(h{k}, {p})", "h{k} = Max({p}, c) i{k} = Sub({p}, c) t{k} = Max(h{k}, i{k})"]
)
def test_nested_arithmetic_on_dims_is_planned_quickly(step: str) -> None:
    """Bounds of shared parts were worked out anew for every use, and sums grew with every step: time doubled, then squared."""
    text, previous = "", "s"
    for k in range(150):
        text += step.format(k=k, p=previous) + " "
        previous = f"t{k}"
    started = time.perf_counter()
    prepared(f"(float[n] x) => (int64[1] y) {{ s = Shape(x) c = Constant<value_ints=[3]>() {text} y = Identity({previous}) }}")
    assert time.perf_counter() - started < 10


def test_code_grows_with_the_number_of_pieces_that_the_run_gives_sizes_of() -> None:
    """Every start was said as the sum of all sizes before it, and every size was picked from all of them: 256 took half a minute."""

    def split(count: int) -> PreparedModel:
        names = ", ".join(f"y{k}" for k in range(count))
        ports = ", ".join(f"float[a{k}] y{k}" for k in range(count))
        return prepared(f"(float[n] x, int64[{count}] sizes) => ({ports}) {{ {names} = Split<axis = 0>(x, sizes) }}")

    short, rep = split(40), split(80)
    assert len(rep.source) < 2.2 * len(short.source)
    sizes = np.arange(80) % 3
    x = np.arange(sizes.sum(), dtype=np.float32)
    for got, wanted in zip(rep.run([x, sizes]), np.split(x, np.cumsum(sizes)[:-1]), strict=True):
        np.testing.assert_array_equal(got, wanted)
    with pytest.raises(errors.ExecutionError, match=r"Split.*size of -1"):
        rep.run([x, np.where(np.arange(80) == 70, -1, sizes)])


def test_a_size_that_two_operators_read_is_one_dim() -> None:
    """They were two of one name, whose order in a product was not the same in every process."""
    text = "(float[1,1] x, float[1,1] y, int64[2] s) => (float[a,b] p, float[a,b] q) { p = Expand(x, s)  q = Expand(y, s) }"
    (_, p), (_, q) = lower(load(graph(text)).graph, Options()).outputs
    assert p.shape == q.shape
    assert results(text, *[np.ones((1, 1), np.float32)] * 2, np.array([2, 3]))[1].shape == (2, 3)


def test_a_long_chain_of_views() -> None:
    """It was inlined by recursion as deep as the chain was long."""
    text, previous = "", "x"
    for k in range(401):
        text += f"t{k} = Transpose({previous}) "
        previous = f"t{k}"
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(results(f"(float[n, m] x) => (float[a, b] y) {{ {text} y = Identity({previous}) }}", x)[0], x.T)


def test_names_in_a_model_are_never_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A line break in the name of an output, or quotes in that of the graph, ended the comment or docstring of the generated module."""
    model = graph("(float[n] x) => (float[n] y) { y = Neg(x) }")
    model.graph.name = 'a"""; print("run by the graph\'s name"); """'
    model.graph.output[0].name = model.graph.node[0].output[0] = "y\nprint('run by the name of an output')\n#"
    assert prepared(model).run([np.ones(2, np.float32)])[0].tolist() == [-1, -1]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("jit", [True, False])
def test_an_index_into_a_single_constant_is_checked(jit):
    model = graph("(int64[K] i) => (float[K] y) { c=Constant<value_floats=[1.0]>() y=Gather(c,i) }")
    rep = prepare_model(model, options=Options(jit=jit))
    np.testing.assert_array_equal(rep.run([np.array([0, -1])])[0], [1.0, 1.0])
    with pytest.raises(errors.ExecutionError, match="range"):
        rep.run([np.array([5])])


@pytest.mark.parametrize("jit", [True, False])
def test_a_reshape_before_a_convolution_is_checked(jit):
    model = graph("(float[N] x, int64[4] s, float[2,1,3,3] w) => (float[A,B,C,D] y) { r=Reshape(x,s) y=Conv<pads=[1,1,1,1]>(r,w) }")
    rep = prepare_model(model, options=Options(jit=jit))
    x, w = np.ones(32, np.float32), np.ones((2, 1, 3, 3), np.float32)
    assert rep.run([x, np.array([1, 1, 4, 8]), w])[0].shape == (1, 2, 4, 8)
    with pytest.raises(errors.ExecutionError, match="fit"):
        rep.run([x, np.array([1, 1, 40, 80]), w])


@pytest.mark.parametrize("step", ["t{k} = Neg({p})", "t{k} = Add({p}, c)", "a{k} = Abs({p}) t{k} = Mul(a{k}, {p})"])
def test_a_long_chain(step: str) -> None:
    """One kernel took it all in, and expressions are walked recursively."""
    text, previous = "", "x"
    for k in range(2000):
        text += step.format(k=k, p=previous) + " "
        previous = f"t{k}"
    got = results(f"(float[n] x) => (float[n] y) <float[1] c = {{1.0}}> {{ {text} y = Identity({previous}) }}", np.ones(3, np.float32))[0]
    assert got.tolist() == [2001.0 if "Add" in step else 1.0] * 3


def test_kernels_of_two_bodies_that_differ_in_name_alone() -> None:
    """The module has one function for both, so the other's name was missed."""
    text = """(seq(float[n]) s) => (seq(float[n]) y, seq(float[n]) z) <float two = {2.0}> {
        y = SequenceMap(s) <body = b (float[n] e) => (float[n] r) { r = Mul(e, e) }>
        z = SequenceMap(s) <body = b (float[n] e) => (float[n] r) { r = Pow(e, two) }> }"""
    x = np.array([1.0, 3.0], np.float32)
    for got in results(text, [x]):
        np.testing.assert_array_equal(got[0], x * x)


def test_a_sequence_map_whose_first_result_nobody_reads() -> None:
    text = """(seq(float[n]) s) => (seq(float[n]) z) {
        y, z = SequenceMap(s) <body = b (float[n] e) => (float[n] p, float[n] q) { p = Neg(e) q = Exp(e) }> }"""
    x = np.array([1.0, 3.0], np.float32)
    np.testing.assert_allclose(results(text, [x, x])[0], np.exp([x, x]), 1e-6)
