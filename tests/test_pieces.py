"""Rows that are computed one way in the middle and another at both ends: each piece is a loop of its own, wherever the pieces begin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import parser

from onnx_numba import backend

HEAD = '<ir_version: 9, opset_import: ["" : 21]>\n'
PADS = HEAD + "g (float[A,B,C] x, int64[6] pads, float fill) => (float[D,E,F] y) { y=Pad(x, pads, fill) }"


def prepare(text, **options):
    return backend.prepare(parser.parse_model(text), **options)


def padded(x, pads, fill):
    """NumPy pads by no negative numbers."""
    half = len(pads) // 2
    for k, (before, after) in enumerate(zip(pads[:half], pads[half:], strict=True)):
        x = np.take(x, range(max(-before, 0), x.shape[k] - max(-after, 0)), k)
    return np.pad(x, [(max(p, 0), max(q, 0)) for p, q in zip(pads[:half], pads[half:], strict=True)], constant_values=fill)


def loops(source):
    return sum(line.lstrip().startswith("for ") for line in source.splitlines())


def image(*shape):
    return np.random.default_rng(4).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module", params=[True, False], ids=["compiled", "python"])
def by_run(request):
    return prepare(PADS, jit=request.param)


@settings(max_examples=60, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 9)] * 3), pads=st.tuples(*[st.integers(-4, 5)] * 6))
def test_pads_that_the_run_says(by_run, shape, pads):
    after = [n + p + q for n, p, q in zip(shape, pads[:3], pads[3:], strict=True)]
    kept = [n + min(p, 0) + min(q, 0) for n, p, q in zip(shape, pads[:3], pads[3:], strict=True)]
    assume(min(after) >= 0 and min(kept) >= 0)
    x, fill = image(*shape), np.array(0.5, np.float32)
    np.testing.assert_array_equal(by_run.run([x, np.array(pads), fill])[0], padded(x, pads, fill))


@pytest.mark.parametrize(
    ("shape", "pads"),
    [
        ((2, 3, 44, 44), (0, 0, 1, 1, 0, 0, 1, 1)),
        ((2, 3, 20, 40), (0, 0, 0, 2, 0, 0, 0, 0)),
        ((2, 3, 20, 40), (0, 1, 0, 0, 0, 0, 3, 7)),
        ((2, 3, 20, 40), (0, 0, -2, -40, 0, 0, 3, 5)),
        ((9000,), (5000, 7)),
        ((9000,), (-4500, 5000)),
        ((9000,), (0, 4097)),
        ((3, 17), (40, 0, 0, 40)),
    ],
)
def test_pads_that_the_model_says(shape, pads):
    axes, numbers = ",".join("ABCD"[: len(shape)]), ",".join(map(str, pads))
    text = HEAD + f"g (float[{axes}] x) => (float[{axes.lower()}] y) <int64[{len(pads)}] p = {{{numbers}}}> {{ y=Pad(x, p) }}"
    rep, x = prepare(text), image(*shape)
    np.testing.assert_array_equal(rep.run([x])[0], padded(x, pads, 0))
    assert not any(line.lstrip().startswith("if ") for line in rep.source.splitlines())


def test_other_members_of_a_loop_are_in_all_pieces():
    text = HEAD + """g (float[4,40] x, float[4,43] z) => (float[4,43] y, float[4,43] s)
        <int64[4] p = {0,1,0,2}, float two = {2}> { a=Relu(x) b=Pad(a, p, two) y=Mul(b, z) s=Add(y, z) }"""
    rep, x, z = prepare(text), image(4, 40), image(4, 43)
    y, s = rep.run([x, z])
    expected = padded(np.maximum(x, 0), (0, 1, 0, 2), 2) * z
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(s, expected + z)
    assert rep.source.count("def ") == 1
    assert loops(rep.source) == 4


def test_a_pad_of_a_pad():
    text = HEAD + """g (float[5,30] x) => (float[7,40] y) <int64[4] p = {1,2,0,3}, int64[4] q = {0,1,1,4}, float a = {1}, float b = {2}>
        { u=Pad(x, p, a) y=Pad(u, q, b) }"""
    x = image(5, 30)
    np.testing.assert_array_equal(prepare(text).run([x])[0], padded(padded(x, (1, 2, 0, 3), 1), (0, 1, 1, 4), 2))


@pytest.mark.parametrize("k", [-(2**63), -50, -3, 0, 1, 29, 50, 2**63 - 1])
def test_a_band_of_a_matrix_is_not_where_a_sum_would_overflow(k):
    text = HEAD + "g (float[A,B] x, int64 k) => (float[A,B] y) { y=Trilu<upper=1>(x, k) }"
    x = image(20, 30)
    np.testing.assert_array_equal(prepare(text).run([x, np.array(k)])[0], np.triu(x, max(-99, min(k, 99))))


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(0, 5, 0, 3), (1, 0, 2, 0), (2, 30, 1, 33), (0, 0, 0, 1)], ids=str)
def test_what_fills_the_ends_may_come_from_the_row(mode, pads):
    text = HEAD + f"""g (float[5,40] x, int64[4] p) => (float[A,B] y) {{ u=Pad<mode="{mode}">(x, p) y=Relu(u) }}"""
    x = image(5, 40)
    expected = np.maximum(np.pad(x, [(pads[0], pads[2]), (pads[1], pads[3])], mode), 0)
    for options in ({}, {"jit": False}):
        np.testing.assert_array_equal(prepare(text, **options).run([x, np.array(pads)])[0], expected)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_what_is_cut_off_fills_nothing(mode):
    text = HEAD + f"""g (float[5,40] x) => (float[A,B] y) <int64[4] p = {{0,-3,0,4}}> {{ y=Pad<mode="{mode}">(x, p) }}"""
    x = image(5, 40)
    np.testing.assert_array_equal(prepare(text).run([x])[0], np.pad(x[:, 3:], [(0, 0), (0, 4)], mode))


@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "python"])
def test_what_a_row_looks_up_is_not_looked_up_for_a_row_of_padding(jit):
    text = HEAD + (
        "g (float[A,20] x, bool[A] keep, int64[4] pads) => (float[D,E] y) "
        "{ some=Compress<axis=0>(x, keep) y=Pad(some, pads) }"
    )
    rep = prepare(text, jit=jit)
    x = image(5, 20)
    for keep in ([1, 1, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]):
        for pads in ((-1, 2, 3, 0), (1, 2, 2, 3), (2, -3, -1, 4)):
            some = x[np.array(keep, bool)]
            if len(some) + min(pads[0], 0) + min(pads[2], 0) >= 0:
                result = rep.run([x, np.array(keep, bool), np.array(pads)])[0]
                np.testing.assert_array_equal(result, padded(some, pads, 0.0))


@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "python"])
def test_rows_of_which_nothing_is_left(jit):
    rep = prepare(HEAD + "g (float[A,1] x) => (float[D,1] y) { p=Constant<value_ints=[2, -1, 0, 1]>() y=Pad(x, p) }", jit=jit)
    np.testing.assert_array_equal(rep.run([image(30, 1)])[0], np.zeros((32, 1), np.float32))
