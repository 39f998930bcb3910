"""Functions of one byte as tables: the bits that the expression gives, and only where that is what a tensor is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnx_numba import backend
from onnx_numba.native.translate import looks_up
from onnx_numba.schedule.tabulate import ENTRIES, FEWEST
from onnx_numba.target import host_target

Array = np.ndarray[Any, Any]
HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
RANDOM = np.random.default_rng(5)
COUNT = FEWEST + 77


def prepared(text: str, **options: Any) -> Any:
    return backend.prepare(parser.parse_model(HEAD + text), **options)


def quantised(function: str, kind: str = "uint8", shape: str = "N", zero: int = 7) -> str:
    scales = f"s=Constant<value_float=0.05>() t=Constant<value_float=0.02>() z=Constant<value={kind} {{{zero}}}>()"
    return f"g ({kind}[{shape}] x) => ({kind}[{shape}] y) {{ {scales} a=DequantizeLinear(x,s,z) {function} y=QuantizeLinear(b,t,z) }}"


def tabulated(rep: Any) -> bool:
    return "translate(" in rep.source


def one_by_one(text: str, x: Array) -> Array:
    """What a model makes of so few elements at a time that no table pays."""
    rep = prepared(text.replace("[N]", f"[{ENTRIES}]"))
    assert not tabulated(rep)
    padded = np.concatenate([x, np.zeros(-len(x) % ENTRIES, x.dtype)])
    return np.concatenate([rep.run([part])[0] for part in padded.reshape(-1, ENTRIES)])[: len(x)]


@pytest.mark.parametrize("options", [{}, {"cpu": "generic"}, {"jit": False}], ids=["host", "generic", "interpreted"])
@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("function", ["b=Sigmoid(a)", "c=Sigmoid(a) b=Mul(a,c)", "b=Tanh(a)", "b=Erf(a)"])
def test_the_bits_are_those_of_the_expression(function: str, kind: str, options: dict[str, Any]) -> None:
    rep = prepared(quantised(function, kind), **options)
    assert tabulated(rep)
    x = RANDOM.integers(0, ENTRIES, COUNT).astype(np.uint8).view(kind)
    np.testing.assert_array_equal(rep.run([x])[0], one_by_one(quantised(function, kind), x))


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 4095, 4096, 4097, 20_000])
def test_any_number_of_bytes(count: int) -> None:
    text = quantised("b=Sigmoid(a)")
    x = RANDOM.integers(0, ENTRIES, count).astype(np.uint8)
    np.testing.assert_array_equal(prepared(text).run([x])[0], one_by_one(text, x) if count else x)


def test_a_table_of_bytes_between_two_nodes_and_one_of_what_is_made_of_them() -> None:
    """SiLU as models have it: what lies between is quantised too, and is a table only where somebody else reads it."""
    text = quantised("c=Sigmoid(a) d=QuantizeLinear(c,t,z) f=DequantizeLinear(d,t,z) b=Mul(a,f)")
    rep = prepared(text)
    assert rep.source.count("def ") == 1 and tabulated(rep)
    x = RANDOM.integers(0, ENTRIES, COUNT).astype(np.uint8)
    np.testing.assert_array_equal(rep.run([x])[0], one_by_one(text, x))
    both = prepared(text.replace("(uint8[N] y)", "(uint8[N] y, uint8[N] d)"))
    assert both.source.count("quantizelinear_") == 3  # one kernel, called twice
    np.testing.assert_array_equal(both.run([x])[0], rep.run([x])[0])


def test_what_a_convolution_makes_is_looked_up() -> None:
    text = """g (float[1,4,20,20] x, float[4,4,3,3] w) => (y) {
        s=Constant<value_float=0.05>() z=Constant<value=uint8 {9}>()
        c=Conv<pads=[1,1,1,1]>(x,w) q=QuantizeLinear(c,s,z) a=DequantizeLinear(q,s,z) b=Sigmoid(a) y=QuantizeLinear(b,s,z) }"""
    x, w = (RANDOM.standard_normal(shape).astype(np.float32) for shape in ((1, 4, 20, 20), (4, 4, 3, 3)))
    rep = prepared(text)
    assert tabulated(rep)
    plain = prepared(text.replace("y=Quant", "r=Quant").replace("=> (y)", "=> (q)")).run([x, w])[0]
    expected = np.clip(np.rint(1 / (1 + np.exp(-(plain.astype(np.float32) - 9) * np.float32(0.05))) / 0.05) + 9, 0, 255)
    np.testing.assert_allclose(rep.run([x, w])[0].astype(int), expected, atol=1)


@pytest.mark.parametrize(
    "text",
    [
        "g (uint8[N] x, float s, float t) => (y) { a=DequantizeLinear(x,s) b=Sigmoid(a) y=QuantizeLinear(b,t) }",
        quantised("v=Constant<value_floats=[1.0,2.0]>() c=Mul(a,v) b=Sigmoid(c)", shape="N,2"),
        quantised("c=Transpose(a) b=Sigmoid(c)", shape="64,32"),
        "g (uint8[N] x, uint8[N] v) => (y) { s=Constant<value_float=0.1>() a=DequantizeLinear(x,s) c=DequantizeLinear(v,s)"
        " d=Add(a,c) b=Sigmoid(d) y=QuantizeLinear(b,s) }",
        "g (float[N] x) => (y) { s=Constant<value_float=0.1>() q=QuantizeLinear(x,s) a=DequantizeLinear(q,s) b=Relu(a)"
        " t=Constant<value_float=0.2>() y=QuantizeLinear(b,t) }",
    ],
    ids=["scales_of_the_run", "a_number_for_each_column", "moved", "two_operands", "cheaper_than_to_store"],
)  # fmt: skip
def test_where_there_is_no_table(text: str) -> None:
    assert not tabulated(prepared(text))


def test_cheap_functions_are_looked_up_where_many_bytes_are_at_a_time() -> None:
    assert tabulated(prepared(quantised("b=LeakyRelu(a)"))) == looks_up(host_target())
    assert not tabulated(prepared(quantised("b=LeakyRelu(a)"), cpu="generic"))
