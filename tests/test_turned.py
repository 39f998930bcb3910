"""Short rows, many at a time: against NumPy in float64, for rows that fill a block and others, compiled and as plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, parser

from onnx_numba import backend
from onnx_numba.codegen.rests import VECTORS
from onnx_numba.codegen.turned import FEWER, LONGEST, LONGEST_COSTLY, MANY, SHORTEST
from onnx_numba.errors import ExecutionError
from onnx_numba.target import host_target

Array = np.ndarray[Any, Any]
HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
RANDOM = np.random.default_rng(4)
LONGEST_SOFTMAX = VECTORS * host_target().lanes - 1 if host_target().masks else LONGEST_COSTLY
BOTH = pytest.mark.parametrize("jit", [True, False], ids=["compiled", "interpreted"])


def prepared(text: str, **options: Any) -> Any:
    return backend.prepare(parser.parse_model(HEAD + text), **options)


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def softmax(x: Array) -> Array:
    terms = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return terms / terms.sum(-1, keepdims=True)


def turned(rep: Any) -> bool:
    return "transpose_block" in rep.source


@BOTH
@pytest.mark.parametrize("rows", [0, 1, MANY - 1, MANY, 2 * MANY + 5])
@pytest.mark.parametrize("length", [SHORTEST, 12, LONGEST, 33])
def test_any_number_of_rows(length: int, rows: int, jit: bool) -> None:
    rep = prepared(f"g (float[N,{length}] x) => (float y) {{ y=Softmax<axis=-1>(x) }}", jit=jit)
    assert turned(rep)
    x = normal(rows, length)
    np.testing.assert_allclose(rep.run([x])[0], softmax(x), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float", "double"])
def test_every_type(kind: str) -> None:
    rep = prepared(f"g ({kind}[N,3,20] x) => (y) {{ y=Softmax<axis=-1>(x) }}")
    assert turned(rep)
    number = parser.parse_graph(f"g ({kind}[1] x) => (y) {{ y=Identity(x) }}").input[0].type.tensor_type.elem_type
    x = normal(37, 3, 20).astype(helper.tensor_dtype_to_np_dtype(number))
    within = {"float16": 2e-3, "bfloat16": 2e-2, "float": 1e-5, "double": 1e-12}[kind]
    np.testing.assert_allclose(rep.run([x])[0].astype(float), softmax(x.astype(float)), rtol=within, atol=within / 10)


@BOTH
def test_masks_of_columns_and_of_every_element_and_two_results(jit: bool) -> None:
    text = """g (float[B,H,30,11] x, float[1,H,30,11] m, float[11] c) => (y, z) {
        a=Add(x,m) b=Mul(a,c) y=Softmax<axis=-1>(b) z=LogSoftmax<axis=-1>(b) }"""
    rep = prepared(text, jit=jit)
    assert turned(rep)
    x, m, c = normal(2, 3, 30, 11), normal(1, 3, 30, 11), normal(11)
    y, z = rep.run([x, m, c])
    np.testing.assert_allclose(y, softmax((x + m) * c), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(z, np.log(softmax((x + m) * c)), rtol=1e-5, atol=1e-5)


def test_a_norm_and_rows_inside_a_concatenation() -> None:
    text = """g (float[N,16] x, float[16] s, float[16] t) => (y) {
        a=LayerNormalization(x,s,t) b=Softmax<axis=-1>(x) y=Concat<axis=1>(a,b) }"""
    x, s, t = normal(70, 16), normal(16), normal(16)
    y = prepared(text).run([x, s, t])[0]
    wide = x.astype(np.float64)
    norm = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5) * s + t
    np.testing.assert_allclose(y, np.concatenate([norm, softmax(x)], 1), rtol=1e-4, atol=1e-5)


CLASSIFIER = """g (float[N,12] x, float[12] b, int32[12] names) => (p, label, best, name, peak) {
    a=Add(x,b) p=Softmax<axis=-1>(a) label=ArgMax<axis=1,keepdims=0>(a) best=ReduceMax<keepdims=0>(p,one) name=Gather(names,label)
    peak=Log(best) }"""


@BOTH
@pytest.mark.parametrize("rows", [0, 1, MANY, 2 * MANY + 5])
def test_numbers_of_a_row_beside_its_elements(rows: int, jit: bool) -> None:
    text = CLASSIFIER.replace("{", "<int64[1] one = {1}> {", 1)
    rep = prepared(text, jit=jit)
    assert turned(rep) and "check_index" in rep.source
    x, b, names = normal(rows, 12), normal(12), np.arange(100, 112, dtype=np.int32)
    if rows > 1:
        x[3, 4] = np.nan
        x[7] = 1 - b
    p, label, best, name, peak = rep.run([x, b, names])
    expected = softmax(x + b)
    np.testing.assert_allclose(p, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(label, (x + b).argmax(1) if rows else [])
    np.testing.assert_array_equal(name, names[label])
    if rows:
        np.testing.assert_allclose(best, expected.max(1), rtol=1e-5)
        np.testing.assert_allclose(peak, np.log(expected.max(1)), rtol=1e-4, atol=1e-6)


def test_what_a_number_of_a_row_looks_up_has_to_be_there() -> None:
    text = "g (float[N,12] x, float[M] t) => (p, v) { p=Softmax<axis=-1>(x) i=ArgMax<axis=1,keepdims=0>(x) v=Gather(t,i) }"
    rep = prepared(text)
    assert turned(rep)
    x = np.zeros((MANY + 3, 12), np.float32)
    rep.run([x, normal(1)])
    x[-1, 1] = 1
    with pytest.raises(ExecutionError, match="Gather"):
        rep.run([x, normal(1)])


def test_nan_and_infinity_stay_in_their_rows() -> None:
    x = normal(2 * FEWER + 3, 40)
    x[5, 7], x[-1, 39] = np.nan, np.inf
    y = prepared("g (float[N,40] x) => (y) { y=Softmax<axis=-1>(x) }").run([x])[0]
    bad = np.zeros(len(x), bool)
    bad[[5, -1]] = True
    assert np.isnan(y[bad]).any(axis=1).all() and not np.isnan(y[~bad]).any()
    np.testing.assert_allclose(y[~bad], softmax(x[~bad]), rtol=1e-5)


def test_rows_that_a_block_lacks_are_zeros() -> None:
    source = prepared("g (float[N,10] x) => (y) { y=Softmax<axis=-1>(x) }").source
    assert source.index("memset(t0, 0, 2560)") < source.index("transpose_block")


def test_threads_make_no_difference() -> None:
    text, x = "g (float[N,10] x) => (y) { y=Softmax<axis=-1>(x) }", normal(100_001, 10)
    one, two = (prepared(text, num_threads=n).run([x])[0] for n in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"g (float[N,{SHORTEST - 1}] x) => (y) {{ y=Softmax<axis=-1>(x) }}", False),
        (f"g (float[N,{LONGEST_SOFTMAX}] x) => (y) {{ y=Softmax<axis=-1>(x) }}", True),
        (f"g (float[N,{LONGEST_SOFTMAX + 1}] x) => (y) {{ y=Softmax<axis=-1>(x) }}", False),
        (f"g (float[N,{LONGEST_COSTLY}] x) => (y) {{ y=LogSoftmax<axis=-1>(x) }}", True),  # with a logarithm for each row
        (f"g (float[N,{LONGEST_COSTLY + 1}] x) => (y) {{ y=LogSoftmax<axis=-1>(x) }}", False),
        (f"g (float16[N,{LONGEST_COSTLY}] x) => (y) {{ y=Softmax<axis=-1>(x) }}", True),
        (f"g (float[N,{LONGEST}] x) => (y) {{ y=LpNormalization(x) }}", True),
        (f"g (float[N,{LONGEST + 1}] x) => (y) {{ y=LpNormalization(x) }}", False),
        ("g (float[3,10] x) => (y) { y=Softmax<axis=-1>(x) }", False),  # few rows
        ("g (float[N,M] x) => (y) { y=Softmax<axis=-1>(x) }", False),  # of unknown length
        ("g (float[N,10] x, float[N,1] r) => (y) { a=Mul(x,r) y=Softmax<axis=-1>(a) }", False),  # a number for each row
        ("g (float[N,10] x) => (y) { y=ReduceLogSumExp<keepdims=0>(x) }", False),  # nothing of the rows is left
    ],
)  # fmt: skip
def test_where_rows_are_turned(text: str, expected: bool) -> None:
    assert turned(prepared(text)) is expected
