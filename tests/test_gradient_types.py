"""Gradients by tensors of every type, in the type that the graph declares for them, or else in that of ``y``."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import parsed, run

import onnx_numba.backend as backend


@pytest.mark.parametrize(("kind", "y"), [
    ("int64", "h = Mul(x, x) g = Mul(h, x) y = Sub(g, x)"),
    ("int32", "h = Mul(x, x) f = Cast<to=11>(h) g = Cast<to=11>(x) p = Mul(f, g) y = Sub(p, g)"),
    ("int64", "i = Cast<to=6>(x) c = Constant<value_ints=[2]>() g = Pow(x, c) j = Cast<to=7>(i) h = Mul(g, j) y = Sub(h, x)"),
])  # fmt: skip
def test_integers_are_numbers(kind: str, y: str) -> None:
    (d,) = run(f'g ({kind}[3] x) => (float16[3] d) {{ {y} d = Gradient<xs=["x"], y="y">(x) }}', np.array([1, -2, 3], kind))
    assert d.dtype == np.float16
    np.testing.assert_array_equal(d, [2, 11, 26])


def test_what_is_rounded_or_a_position_does_not_change() -> None:
    text = """g (int64[2] x, double[5] w) => (double[2] d, double[5] e) { two = Constant<value_ints=[2]>() h = Div(x, two)
        a = Gather(w, h) f = Cast<to=11>(h) b = Mul(a, f) g = Cast<to=11>(x) s = Sin(g) q = Cast<to=7>(s) r = Cast<to=11>(q)
        c = Mul(b, r) y = Add(c, g) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
    d, e = run(text, np.array([2, 8]), np.ones(5))
    np.testing.assert_array_equal(d, [1, 1])
    np.testing.assert_array_equal(e, np.zeros(5))


def test_counts_and_products_of_quantised_numbers_do_not_change() -> None:
    grams = "min_gram_length=1, max_gram_length=1, max_skip_count=0, ngram_counts=[0], ngram_indexes=[0, 1], pool_int64s=[1, 2]"
    text = f"""g (int64[4] n, uint8[2,2] q, float s, uint8 z) => (double[4] d, float e) {{ t = TfIdfVectorizer<mode="TF", {grams}>(n)
        m = QLinearMatMul(q, s, z, q, s, z, s, z) f = Cast<to=1>(m) g = Mul(f, t) y = Mul(g, s)
        d = Gradient<xs=["n"], zs=["s"], y="y">(n, s) e = Gradient<xs=["s"], zs=["n"], y="y">(s, n) }}"""
    d, e = run(text, np.array([1, 2, 1, 3]), np.full((2, 2), 3, np.uint8), np.array(1, np.float32), np.array(0, np.uint8))
    np.testing.assert_array_equal(d, np.zeros(4))
    assert e == 2 * 18 * (2 + 1)


def test_a_float_as_an_integer() -> None:
    text = 'g (double[2] x) => (double[2] d) { y = Cast<to=7>(x) d = Gradient<xs=["x"], y="y">(x) }'
    np.testing.assert_array_equal(run(text, [2.0, 3.0])[0], [0, 0])


def test_products_of_stored_levels() -> None:
    text = """g (int8[2,3] x, uint8[3,2] w, int8[2] a, uint8[2] b) => (float[2,3] d, double[3,2] e, double[2] f, double[2] h) {
        p = MatMulInteger(x, w, a, b) y = Mul(p, p) d, e, f, h = Gradient<xs=["x", "w", "a", "b"], y="y">(x, w, a, b) }"""
    x, w, a, b = np.array([[1, 2, -3], [4, 0, 5]]), np.array([[1, 2], [3, 4], [5, 6]]), np.array([1, -2]), np.array([2, 3])
    d, e, f, h = run(text, x.astype(np.int8), w.astype(np.uint8), a.astype(np.int8), b.astype(np.uint8))
    left, right = x - a[:, None], w - b
    slope = 2 * left @ right
    np.testing.assert_allclose(d, slope @ right.T)
    np.testing.assert_allclose(e, left.T @ slope)
    np.testing.assert_allclose(f, -(slope @ right.T).sum(1))
    np.testing.assert_allclose(h, -(left.T @ slope).sum(0))


def test_a_convolution_of_stored_levels() -> None:
    text = """g (uint8[1,1,3,3] x, uint8[2,1,2,2] w, uint8 a, uint8[2] b) => (double[1,1,3,3] d, double[2,1,2,2] e, double f, double[2] h) {
        y = ConvInteger(x, w, a, b) d, e, f, h = Gradient<xs=["x", "w", "a", "b"], y="y">(x, w, a, b) }"""
    x, w = np.arange(9, dtype=np.uint8).reshape(1, 1, 3, 3), np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2)
    d, e, f, h = run(text, x, w, np.uint8(1), np.array([2, 3], np.uint8))
    right = (w - np.array([2.0, 3.0])[:, None, None, None]).sum((0, 1))
    sums = np.zeros((3, 3))
    for i, j in np.ndindex(2, 2):
        sums[i : i + 2, j : j + 2] += right[i, j]
    np.testing.assert_allclose(d[0, 0], sums)
    windows = np.lib.stride_tricks.sliding_window_view(x[0, 0] - 1.0, (2, 2)).sum((0, 1))
    np.testing.assert_allclose(e[:, 0], [windows, windows])
    np.testing.assert_allclose((f, *h), (-4 * right.sum(), -windows.sum(), -windows.sum()))


@pytest.mark.parametrize("kind", ["bool", "string"])
def test_truth_values_and_strings_have_nothing_near_to_them(kind: str) -> None:
    text = f'g ({kind}[2] x, float[2] w) => (float[2] e, float[2] f, double[2] d) {{ h = Identity(x) i = Equal(h, x) y = Where(i, w, w)' \
        ' e, f = Gradient<xs=["x", "w"], y="y">(x, w) d = Gradient<xs=["x"], y="h">(x) }'
    e, f, d = run(text, np.array(["a", ""], object) if kind == "string" else np.array([True, False]), np.ones(2, np.float32))
    assert (e.dtype, d.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal((e, f, d), [[0, 0], [1, 1], [0, 0]])


def test_complex_numbers_are_differentiated_by_their_real_part() -> None:
    text = """g (complex128[3] x) => (double[3] d) { i = Constant<value_ints=[0, 1, 1]>() h = Gather(x, i)
        y = ScatterElements<reduction="mul">(x, i, h) d = Gradient<xs=["x"], y="y">(x) }"""
    x = np.array([1 + 2j, 3 - 1j, 5j])
    np.testing.assert_allclose(run(text, x)[0], [2 * x[0].real, (3 * x[1] ** 2).real, 1])


def test_integers_that_a_loop_changes() -> None:
    text = """g (int64 n, int32[2] x) => (float[2] d) { t = Constant<value=bool {1}>() v = SequenceConstruct(x)
        q, r, y = Loop(n, t, v, x) <body = b (int64 k, bool c, seq(int32[2]) s, int32[2] a)
            => (bool c, seq(int32[2]) u, int32[2] z, int32[2] o) { f = SequenceAt(s, k) z = Mul(f, a) o = Neg(z) u = SequenceInsert(s, z) }>
        d = Gradient<xs=["x"], y="y">(x) }"""
    x = np.array([2, 3], np.int32)
    np.testing.assert_array_equal(run(text, np.int64(2), x)[0], -(2 * x + 4 * x**3))


def test_integers_in_branches_and_sequences() -> None:
    text = """g (bool c, int64[2] x) => (double[2] d) { s = SequenceConstruct(x, x)
        m = SequenceMap(s) <body = b (int64[2] i) => (int64[2] o) { o = If(c) <then_branch = t () => (int64[2] p) { p = Mul(i, x) },
            else_branch = e () => (int64[2] q) { q = Sub(x, i) }> }>
        y = ConcatFromSequence<axis=0>(m) d = Gradient<xs=["x"], y="y">(x) }"""
    np.testing.assert_array_equal(run(text, np.array(True), np.array([2, 3]))[0], [8, 12])
    np.testing.assert_array_equal(run(text, np.array(False), np.array([2, 3]))[0], [0, 0])


def test_a_second_derivative_by_integers() -> None:
    text = """g (int64[2] x) => (float16[2] e) { h = Mul(x, x) y = Mul(h, x) d = Gradient<xs=["x"], y="y">(x)
        e = Gradient<xs=["x"], y="d">(x) }"""
    np.testing.assert_array_equal(run(text, np.array([2, 3]))[0], [12, 18])


def test_the_size_of_a_grid_has_no_derivative() -> None:
    text = """g (float[1,2,3] x, int64[4] n) => (float[1,2,3] d, double[4] e) { y = AffineGrid(x, n)
        d, e = Gradient<xs=["x", "n"], y="y">(x, n) }"""
    d, e = run(text, np.ones((1, 2, 3), np.float32), np.array([1, 1, 2, 2]))
    np.testing.assert_allclose(d[0], [[0, 0, 4]] * 2, atol=1e-6)
    np.testing.assert_array_equal(e, np.zeros(4))


def test_sizes_that_are_floats_have_no_derivative() -> None:
    text = """g (float[3] x, float[2] n) => (float[3] d, float[2] e) { y, z = Split<axis=0>(x, n)
        d, e = Gradient<xs=["x", "n"], y="z">(x, n) }"""
    d, e = backend.prepare(parsed(text, 1), jit=False).run([np.ones(3, np.float32), np.array([1, 2], np.float32)])
    np.testing.assert_array_equal(d, [0, 1, 1])
    np.testing.assert_array_equal(e, [0, 0])


@pytest.mark.parametrize(("source", "target", "kind"), [("float16", "bfloat16", 16), ("bfloat16", "float16", 10)])
def test_bits_of_another_float(source: str, target: str, kind: int) -> None:
    """The slope is that between neighbours, on one side or the other, in both types."""
    x = np.array([1.0, -2.5, 0.0, 6e-6, 2.0], source)
    text = f'g ({source}[5] x) => ({target}[5] y, double[5] d) {{ y = BitCast<to={kind}>(x) d = Gradient<xs=["x"], y="y">(x) }}'
    y, d = backend.prepare(parsed(text, 26), jit=False).run([x])
    assert y.tobytes() == x.tobytes()
    near = x.view(np.uint16) ^ 1
    rise, run = (near.view(v.dtype).astype(float) - v.astype(float) for v in (y, x))
    np.testing.assert_array_equal(d, (rise / run).astype(source).astype(float))


def test_bits_where_the_next_number_is_none() -> None:
    """448 is the greatest float8e4m3fn, whose slope is that below it; an infinity has no neighbours."""
    x = np.array([448.0, np.inf], np.float32)
    text = """g (float[2] x) => (double[1] d, double[1] e) { a, b = Split<num_outputs=2>(x) c = Cast<to=17>(a) h = Cast<to=10>(b)
        y = BitCast<to=18>(c) z = BitCast<to=16>(h) d = Gradient<xs=["c"], y="y">(c) e = Gradient<xs=["h"], y="z">(h) }"""
    d, e = backend.prepare(parsed(text, 26), jit=False).run([x])
    np.testing.assert_array_equal((d, e), [[0.5], [0]])


def test_bits_of_integers_and_floats() -> None:
    text = """g (int8[3] x, float[3] w, int32[3] k) => (float[3] d, float[3] e, float[3] f) { a = BitCast<to=2>(x) b = Cast<to=1>(a)
        i = BitCast<to=6>(w) c = Cast<to=1>(i) o = BitCast<to=1>(w) h = BitCast<to=1>(k) s = Sum(c, o, h) y = Mul(b, s)
        d, e, f = Gradient<xs=["x", "w", "k"], y="y">(x, w, k) }"""
    x, w, k = np.array([1, -2, 3], np.int8), np.array([1.0, -2.0, 0.5], np.float32), np.array([1, 2, 3], np.int32)
    d, e, f = backend.prepare(parsed(text, 26), jit=False).run([x, w, k])
    np.testing.assert_array_equal(d, w.view(np.int32).astype(np.float32) + w + k.view(np.float32))
    np.testing.assert_array_equal(e, x.view(np.uint8))
    np.testing.assert_array_equal(f, [0, 0, 0])
