"""Gradients by and through values whose ranks only the run knows."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import agrees, drawing, ints, parsed

import onnx_numba.backend as backend

f64 = drawing(11)


@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "interpreted"])
def test_a_product(jit: bool) -> None:
    text = """g (double[] x, double[] w) => (double[] y, double[] d, double[] e) {
        p = MatMul(x, w) y = Sin(p) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
    for shapes in (((2, 3), (3, 2)), ((3,), (3, 2)), ((4, 2, 3), (3,)), ((3,), (3,))):
        agrees(text, [f64(*shape) for shape in shapes], [0, 1], jit=jit)


IMAGE, VOLUME = (1, 2, 4, 3), (1, 2, 3, 4, 2)


@pytest.mark.parametrize(("node", "shapes"), [
    ("p = Transpose(x)", [(2, 3), (2, 3, 4)]),
    ("p = Transpose<perm=[1, 2, 0]>(x)", [(2, 3, 4)]),
    ("p = ReduceMean<keepdims=0>(x, i)", [(2, 3), (2, 3, 4)]),
    ("p = ReduceProd(x, i)", [(2, 3), (2, 3, 4)]),
    ("p = Gather<axis=1>(x, i)", [(2, 3), (2, 3, 4)]),
    ("p = Softmax<axis=-1>(x)", [(3,), (2, 3)]),
    ("p = CumProd(x, j)", [(3,), (2, 3)]),
    ("p = Det(x)", [(3, 3), (2, 3, 3)]),
    ('p = Einsum<equation="...i,...j->...ij">(x, x)', [(3,), (2, 3)]),
    ("p = GlobalAveragePool(x)", [IMAGE, VOLUME]),
    ("p = RMSNormalization<axis=-1>(x, w)", [(4, 3), (2, 4, 3)]),
    ('k = Constant<value_floats=[1.0, 1.0, 1.5, 0.7]>() p = Resize<mode="linear">(x, , k)', [IMAGE]),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_an_operator(node: str, shapes: list[tuple[int, ...]]) -> None:
    text = f"""g (double[] x, double[] w, int64[n] i, int64 j) => (double[] y, double[] d) {{
        {node} y = Mul(p, p) d = Gradient<xs=["x"], y="y">(x) }}"""
    for shape in shapes:
        agrees(text, [f64(*shape), f64(3), ints(0), np.int64(0)], [0], opset=26)


@pytest.mark.parametrize("shape", [IMAGE, VOLUME], ids=["image", "volume"])
def test_a_convolution(shape: tuple[int, ...]) -> None:
    text = """g (double[] x, double[] w, double[2] b) => (double[] y, double[] d, double[] e, double[2] f) {
        p = Conv(x, w, b) y = Mul(p, p) d, e, f = Gradient<xs=["x", "w", "b"], y="y">(x, w, b) }"""
    agrees(text, [f64(*shape), f64(2, *shape[1:2], *[2] * (len(shape) - 2)), f64(2)], [0, 1, 2])


def test_a_value_on_the_way() -> None:
    text = """g (double[6] x, int64[k] t, double[3] w) => (double[] y, double[6] d, double[3] e) { h = Reshape(x, t) p = MatMul(h, w)
        q = Mul(p, p) y = ReduceSum<keepdims=0>(q, z) z = Constant<value_ints=[-1]>() d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
    for dims in ((2, 3), (2, 1, 3)):
        agrees(text, [f64(6), ints(*dims), f64(3)], [0, 2])


def test_it_is_one_step_of_the_plan() -> None:
    text = """g (double[] x, double[] w) => (double[] d) { p = MatMul(x, w) q = Transpose(p) r = MatMul(w, q)
        y = ReduceMean(r) d = Gradient<xs=["x"], y="y">(x) }"""
    rep = backend.prepare(parsed(text), jit=False)
    assert [host.function for host in rep._prepared.session.plan.hosts] == ["deferred"]
    x, w = f64(3, 3), f64(3, 3)
    np.testing.assert_allclose(rep.run([x, w])[0], np.full((3, 3), 1 / 9) @ w @ w.T)


def test_a_second_derivative() -> None:
    text = """g (double[] x, double[] w) => (double[] y, double[] d, double[] e) { p = MatMul(x, w) q = Sin(p)
        f = Gradient<xs=["x"], zs=["w"], y="q">(x, w) g = Transpose(f) y = Mul(g, g) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
    for shapes in (((2, 3), (3, 2)), ((2, 2, 3), (3,))):
        agrees(text, [f64(*shape) for shape in shapes], [0, 1])


def test_a_loop_whose_state_gains_an_axis_in_each_iteration() -> None:
    text = """g (int64 n, double[2,2] x, double[2,2] w) => (double[] y, double[2,2] d, double[2,2] e) {
        z = Loop (n, , x) <body = b (int64 i, bool c, double[] s) => (bool o, double[] r) { o = Identity(c) m = MatMul(s, w)
            t = Sin(m) a = Constant<value_ints=[0]>() u = Unsqueeze(t, a) r = Concat<axis=0>(u, u) }>
        y = Mul(z, z) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
    for n in (0, 1, 3):
        agrees(text, [np.int64(n), f64(2, 2), f64(2, 2)], [1, 2])


def test_a_scan() -> None:
    text = """g (double[] x, double[] v, double[] w) => (double[] y, double[] d, double[] e, double[] f) {
        s, r = Scan (v, x) <num_scan_inputs=1, body = b (double[] s, double[] k) => (double[] t, double[] o) {
            p = MatMul(k, w) q = Transpose(p) t = Add(s, q) o = Sin(t) }>
        a = ReduceSumSquare<keepdims=0>(s) y = Mul(a, r) d, e, f = Gradient<xs=["x", "v", "w"], y="y">(x, v, w) }"""
    agrees(text, [f64(2, 3, 2), f64(2, 3), f64(2, 2)], [0, 1, 2])
    agrees(text, [f64(2, 3), f64(4), f64(3, 4)], [0, 1, 2])


@pytest.mark.parametrize("condition", [True, False], ids=str)
def test_branches_of_different_ranks(condition: bool) -> None:
    text = """g (bool c, double[2,3] x, double[3] w) => (double[] y, double[2,3] d, double[3] e) {
        p = If (c) <then_branch = t () => (double[2,3] a) { a = Mul(x, w) }, else_branch = f () => (double[2] b) { b = MatMul(x, w) }>
        q = Transpose(p) y = ReduceProd<keepdims=0>(q, k) k = Constant<value_ints=[0]>() d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
    agrees(text, [np.array(condition), f64(2, 3), f64(3)], [1, 2])


def test_elements_of_a_sequence_whose_ranks_differ() -> None:
    text = """g (double[2,3] x, double[3] v) => (double y, double[2,3] d, double[3] e) { s = SequenceConstruct(x, v)
        t = SequenceMap (s) <body = b (double[] i) => (double[] o) { j = Transpose(i) o = MatMul(i, j) }>
        k = Constant<value=int64 {0}>() l = Constant<value=int64 {1}>() a = SequenceAt(t, k) b = SequenceAt(t, l)
        p = Mul(a, b) y = ReduceSum<keepdims=0>(p) d, e = Gradient<xs=["x", "v"], y="y">(x, v) }"""
    agrees(text, [f64(2, 3), f64(3)], [0, 1])


def test_integers() -> None:
    text = """g (int64[] n, double[] x) => (double[] d, double[] e) { p = MatMul(n, n) q = Cast<to=11>(p) y = MatMul(q, x)
        d, e = Gradient<xs=["n", "x"], y="y">(n, x) }"""
    n, x = np.arange(4).reshape(2, 2), f64(2)
    d, e = backend.prepare(parsed(text), jit=False).run([n, x])
    ones = np.outer(np.ones(2), x)
    np.testing.assert_allclose(d, ones @ n.T + n.T @ ones)
    np.testing.assert_allclose(e, (n @ n).sum(0))


def test_what_is_fed_for_names() -> None:
    text = """g (double[] x, double[] w, double[] v) => (double[] d) { p = MatMul(x, w) y = Sin(p)
        d = Gradient<xs=["x"], zs=["w"], y="y">(v, w) }"""
    x, w, v = f64(2, 3), f64(3, 2), f64(4, 3)
    np.testing.assert_allclose(backend.prepare(parsed(text), jit=False).run([x, w, v])[0], np.cos(v @ w) @ w.T)


def test_draws_are_those_of_the_run() -> None:
    text = """g (double[] x, double[] w, double r, bool t) => (double[] p, double[] d) { m = MatMul(x, w) p, k = Dropout<seed=3>(m, r, t)
        q = Transpose(p) y = Mul(q, q) d = Gradient<xs=["x"], y="y">(x) }"""
    x, w = f64(4, 3), f64(3, 5)
    p, d = backend.prepare(parsed(text), jit=False).run([x, w, np.array(0.5), np.array(True)])
    assert 0 < np.count_nonzero(p) < p.size
    np.testing.assert_allclose(d, 2 * p * 2 * (p != 0) @ w.T)


def test_a_rank_that_does_not_fit() -> None:
    text = 'g (double[] x) => (double[] d) { [it] y = Transpose<perm=[1, 0]>(x) d = Gradient<xs=["x"], y="y">(x) }'
    with pytest.raises(Exception, match="it"):
        backend.prepare(parsed(text), jit=False).run([f64(2, 3, 4)])
