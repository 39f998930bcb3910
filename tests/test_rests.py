"""Rows that are no whole vectors, of lengths around what vectors take: against NumPy in float64, compiled and as plain Python."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from onnx_numba import backend
from onnx_numba.target import host_target

Array = np.ndarray[Any, Any]
HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
RANDOM = np.random.default_rng(8)
BOTH = pytest.mark.parametrize("jit", [True, False], ids=["compiled", "interpreted"])
LENGTHS = [1, 15, 17, 63, 64, 65, 79, 127, 129, 197, 255]
masks = pytest.mark.skipif(not host_target().masks, reason="this processor has no masks")

SOFTMAX = "g (float[N,M] x) => (float y) { y=Softmax<axis=-1>(x) }"
LOG_SOFTMAX = "g (float[N,M] x) => (float y) { y=LogSoftmax<axis=-1>(x) }"
NORM = "g (float[N,M] x, float[M] s, float[M] b) => (float y) { y=LayerNormalization(x,s,b) }"
BIAS = "g (float[N,M] x, float[M] s) => (float y) { t=Add(x,s) y=Sigmoid(t) }"


def prepared(text: str, **options: Any) -> Any:
    return backend.prepare(parser.parse_model(HEAD + text), **options)


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def softmax(x: Array) -> Array:
    wide = x.astype(np.float64)
    terms = np.exp(wide - wide.max(-1, keepdims=True))
    return terms / terms.sum(-1, keepdims=True)


def norm(x: Array, s: Array, b: Array) -> Array:
    wide = x.astype(np.float64)
    return (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5) * s + b


def reduction(op: str, kind: str) -> str:
    return f"g ({kind}[N,M] x) => ({kind} y) {{ a=Constant<value_ints=[1]>() y={op}<keepdims=0>(x,a) }}"


@masks
def test_every_loop_along_such_rows_is_in_two_parts_and_of_others_in_one() -> None:
    for text in (SOFTMAX, LOG_SOFTMAX, NORM, BIAS, reduction("ReduceMax", "float"), reduction("ReduceSum", "int32")):
        source = prepared(text).source
        assert source.count("masked(16)") == len(re.findall(r"range\(64 \* s\d\):", source)) > 0, source
    assert "masked(64)" in prepared(reduction("ReduceMax", "uint8")).source
    assert "masked(8)" in prepared(reduction("ReduceMin", "double")).source
    for length, count in ((256, 0), (150, 3), (100_001, 0)):
        assert prepared(SOFTMAX.replace("M", str(length))).source.count("masked(16)") == count


@masks
def test_what_no_vector_can_do_is_left_as_it_is() -> None:
    for text in (
        "g (int32[N,M] x, int32[M] s) => (int32 y) { y=Div(x,s) }",
        "g (float[N,M] x, float[M] s) => (float y) { y=Mod<fmod=1>(x,s) }",
        "g (float[N,M] x, int64[M] i, float[N,M] t) => (float y) { r=Gather<axis=1>(x,i) y=Add(r,t) }",
        "g (float[M,N] x, float[N,M] t) => (float y) { r=Transpose(x) e=Exp(r) y=Add(e,t) }",
    ):
        assert "masked(" not in prepared(text).source, text


def test_other_targets_have_whole_loops() -> None:
    assert "masked(" not in prepared(SOFTMAX, cpu="generic").source


@BOTH
@pytest.mark.parametrize("length", LENGTHS)
def test_rows_of_any_length(length: int, jit: bool) -> None:
    x, s, b = normal(5, length) * 3, normal(length), normal(length)
    for text, inputs, expected in (
        (SOFTMAX, [x], softmax(x)),
        (LOG_SOFTMAX, [x], np.log(softmax(x))),
        (NORM, [x, s, b], norm(x, s, b)),
        (BIAS, [x, s], 1 / (1 + np.exp(-(x.astype(np.float64) + s)))),
    ):
        copies = [v.copy() for v in inputs]
        (known,) = prepared(text.replace("M", str(length)), jit=jit).run(inputs)
        (found,) = prepared(text, jit=jit).run(inputs)
        for got in (known, found):
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-6)
        for value, copy in zip(inputs, copies, strict=True):
            np.testing.assert_array_equal(value, copy)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "int64", "float16", "float", "double"])
def test_folds_of_any_type(kind: str, length: int) -> None:
    dtype = np.dtype({"float": "float32", "double": "float64"}.get(kind, kind))
    x = (RANDOM.integers(0, 100, (4, length)) - (0 if kind == "uint8" else 50)).astype(dtype)
    for op, fold in (("ReduceMax", np.max), ("ReduceMin", np.min), ("ReduceSum", np.sum), ("ReduceSumSquare", None)):
        expected = np.sum(x.astype(np.float64) ** 2, 1) if fold is None else fold(x.astype(np.float64), axis=1)
        if dtype.kind in "iu":
            expected = expected.astype(np.int64).astype(dtype)  # wrapped
        if kind == "float16":
            expected = np.where(expected > 65519, np.inf, expected)
        (got,) = prepared(reduction(op, kind)).run([x])
        np.testing.assert_allclose(got, expected.astype(dtype), rtol=2e-3 if kind == "float16" else 1e-6)


@pytest.mark.parametrize("place", [0, 60, 64, 70])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_seen_wherever_they_are(value: float, place: int) -> None:
    x = normal(3, 71)
    x[1, place] = value
    with np.errstate(invalid="ignore"):
        expected = softmax(x)
    (got,), (logarithms,) = prepared(SOFTMAX).run([x]), prepared(LOG_SOFTMAX).run([x])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(np.exp(logarithms), expected, rtol=1e-5, atol=1e-7)
    for op, fold in (("ReduceMax", np.max), ("ReduceMin", np.min), ("ReduceSum", np.sum)):
        np.testing.assert_allclose(prepared(reduction(op, "float")).run([x])[0], fold(x, axis=1), rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_softmax_of_any_numbers(length: int, rows: int, seed: int) -> None:
    """Of any bits: NaN of either sign, infinities, zeros of either sign, numbers that are not normal."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, length)).astype(np.float32) * 20
    odd = random.random(x.shape) < 0.3 / length
    x[odd] = random.integers(0, 2**32, x.shape, dtype=np.uint32).view(np.float32)[odd]
    with np.errstate(invalid="ignore", over="ignore"):
        expected = softmax(x)
    np.testing.assert_allclose(prepared(SOFTMAX).run([x])[0], expected, rtol=2e-5, atol=1e-7)


def test_many_threads_give_the_same_bits() -> None:
    for text, length in itertools.product((SOFTMAX, reduction("ReduceSum", "float")), (70, 197)):
        x = normal(2000, length)
        one, two = (prepared(text, num_threads=n).run([x])[0] for n in (1, 2))
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("columns", [3, 7, 9, 33])
def test_softmax_of_many_rows_of_doubles(columns):
    """What rows of seven gave depended on their numbers: once in 400 times NaN."""
    text = f'<ir_version: 10, opset_import: ["" : 21]> g (double[N,{columns}] x, double[{columns}] b) => (double[N,{columns}] y)'
    rep = backend.prepare(parser.parse_model(text + " { z = Add(x, b) y = Softmax(z) }"))
    x = np.random.default_rng(1).standard_normal((20000, columns)) * 2
    terms = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(rep.run([x, np.zeros(columns)])[0], terms / terms.sum(1, keepdims=True), 1e-13)
