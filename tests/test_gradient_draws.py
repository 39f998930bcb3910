"""Gradients through what is drawn by chance: derivatives see the draws of the run."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import agrees, drawing, parsed, run

import onnx_numba.backend as backend

f64 = drawing(12)

LOOP = """g (int64 n, double[3] x, double[3] w) => (double[m,3] q, double[3] d, double[3] e) { t = Constant<value=bool {1}>()
    y, q = Loop(n, t, x) <body = b (int64 k, bool c, double[3] s) => (bool c, double[3] z, double[3] o) { p = Mul(s, w) BODY o = Exp(z) }>
    d, e = Gradient<xs=["x", "w"], y="q">(x, w) }"""


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("drawn", [
    "u = RandomUniformLike<seed=2.0>(p) z = Mul(p, u)",
    "f = Cast<to=1>(p) v = RandomNormal<seed=2.0, shape=[3], dtype=11>() l = Sigmoid(f) h = Bernoulli<seed=3.0, dtype=11>(l)"
    " i = Mul(v, h) z = Mul(p, i)",
    "r = Constant<value=float {0.4}>() z, m = Dropout<seed=4>(p, r, t)",
])  # fmt: skip
def test_in_a_loop(drawn: str, count: int) -> None:
    agrees(LOOP.replace("BODY", drawn), [np.int64(count), f64(3), f64(3)], [1, 2])


def test_draws_without_a_seed_are_those_of_the_run() -> None:
    text = """g (int64 n, double[3] x) => (double[3] y, double[m,3] r, double[3] d) { t = Constant<value=bool {1}>()
        y, r = Loop(n, t, x) <body = b (int64 k, bool c, double[3] s) => (bool c, double[3] z, double[3] u) {
            u = RandomUniformLike(s) z = Mul(s, u) }>
        d = Gradient<xs=["x"], y="y">(x) }"""
    x = f64(3)
    y, drawn, d = run(text, np.int64(3), x)
    np.testing.assert_allclose(y, x * drawn.prod(0))
    np.testing.assert_allclose(d, drawn.prod(0))


def test_in_a_branch_of_a_loop_that_scans() -> None:
    """Rows of different lengths, and of loops within loops."""
    drawn = """two = Constant<value=int64 {2}>() m = Mod(k, two) o0 = Cast<to=9>(m)
        z = If(o0) <then_branch = a () => (double[3] f) { u = RandomNormal<seed=2.0, shape=[3], dtype=11>() f = Mul(p, u) },
            else_branch = e () => (double[3] f0) { f0 = Scan(p) <num_scan_inputs=1, body = s (double i) => (double j) {
                h = Tanh(i) l = Abs(h) v = Bernoulli<seed=3.0>(l) a0 = Add(v, h) j = Mul(a0, i) }> }>"""
    agrees(LOOP.replace("BODY", drawn), [np.int64(3), f64(3), f64(3)], [1, 2])


def test_loops_in_loops() -> None:
    drawn = """one = Constant<value=int64 {1}>() k1 = Add(k, one)
        z = Loop(k1, t, p) <body = bb (int64 i, bool g, double[3] a) => (bool g, double[3] f) {
            u = RandomUniformLike<seed=2.0>(a) f = Mul(a, u) }>"""
    agrees(LOOP.replace("BODY", drawn), [np.int64(2), f64(3), f64(3)], [1, 2])


def test_in_a_map() -> None:
    text = """g (double[5,2] x, double[2] w) => (double[5,2] y, double[5,2] d, double[2] e) { three = Constant<value=int64 {3}>()
        s = SplitToSequence<axis=0>(x, three) m = SequenceMap(s) <body = b (double[r,2] i) => (double[r,2] o) {
            u = RandomUniformLike<seed=1.0>(i) a = Mul(i, w) o = Mul(a, u) }>
        y = ConcatFromSequence<axis=0>(m) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
    agrees(text, [f64(5, 2), f64(2)], [0, 1])


def test_in_a_scan_over_a_batch() -> None:
    text = """g (int64[3] n, double[3,2] x, double[3,4,2] w) => (double[3,4,2] y, double[3,2] d, double[3,4,2] e) {
        q, r = Scan(n, x, w) <num_scan_inputs=1, directions=[1], body = b (double[2] s, double[2] i) => (double[2] z, double[2] o) {
            u = RandomUniformLike<seed=1.0>(s) p = Mul(s, i) t = Mul(p, u) z = Sigmoid(t) o = Add(z, i) }>
        a = Unsqueeze<axes=[1]>(q) y = Mul(a, r) d, e = Gradient<xs=["x", "w"], zs=["n"], y="y">(x, w, n) }"""
    agrees(text, [np.array([4, 1, 3]), f64(3, 2), f64(3, 4, 2)], [1, 2], opset=8)


@pytest.mark.parametrize("training", [False, True])
def test_dropout_whose_mask_nobody_asks_for(training: bool) -> None:
    text = """g (double[50] x, float r, bool t) => (double[50] y, double[50] d, float e) {
        y = Dropout(x, r, t) d, e = Gradient<xs=["x", "r"], y="y">(x, r) }"""
    y, d, e = run(text, np.ones(50), np.float32(0.25), np.array(training))
    np.testing.assert_allclose(d, y)
    np.testing.assert_allclose(e, y.sum() / 0.75 if training else 0, 1e-6)
    assert not training or 0 < np.sum(y == 0) < 50


@pytest.mark.parametrize(("opset", "attributes", "trains"), [
    (6, "", True), (1, "is_test=0, ratio=0.25", True), (6, "is_test=1", False), (10, "", False),
])  # fmt: skip
@pytest.mark.parametrize("outputs", ["y", "y, m"])
def test_old_dropout(opset: int, attributes: str, trains: bool, outputs: str) -> None:
    text = f"""g (double[60] x) => (double[60] y, double[60] d) {{ {outputs} = Dropout<{attributes}>(x)
        d = Gradient<xs=["x"], y="y">(x) }}""".replace("<>", "")
    y, d = backend.prepare(parsed(text, opset), jit=False).run([np.ones(60)])
    np.testing.assert_allclose(d, y)
    assert bool(np.any(y == 0)) is trains


def branches(shape: str = "double[2]") -> str:
    """An If that makes ``o`` of ``p``, both of a shape, whose branches draw a number for each element and three numbers."""
    return f"""o = If(i) <then_branch = a () => ({shape} f) {{ u = RandomUniformLike<seed=3.0>(p) f = Mul(p, u) }},
        else_branch = e () => ({shape} g0) {{ v = RandomNormal<seed=2.0, shape=[3], dtype=11>()
            k1 = Constant<value=int64 {{1}}>() h = Gather(v, k1) m = Mul(p, h) g0 = Exp(m) }}>"""


@pytest.mark.parametrize("layout", [
    "", "scan_input_directions=[1, 0], scan_output_directions=[1],", "scan_input_axes=[0, 1], scan_output_axes=[-1],",
    "scan_output_axes=[1],",
])  # fmt: skip
def test_branches_of_a_scan_draw_differently(layout: str) -> None:
    shape = (2, 3) if "input_axes" in layout else (3, 2)
    text = f"""g (double[2] x, double[{shape[0]},{shape[1]}] w, bool[3] c) => (double z, double[2] d, double[a,b] e) {{
        y, q = Scan(x, c, w) <num_scan_inputs=2, {layout} body = b (double[2] s, bool i, double[2] r) => (double[2] o, double[2] l) {{
            p = Mul(s, r) {branches()} l = Sin(o) }}>
        w0 = Constant<value_floats=[0.5, -1.5, 0.25, 2.0, 1.0, -0.75]>() w1 = Cast<to=11>(w0) k = Shape(q) w2 = Reshape(w1, k)
        m = Mul(q, w2) m0 = ReduceSum<keepdims=0>(m) m1 = ReduceSum<keepdims=0>(y) z = Add(m0, m1)
        d, e = Gradient<xs=["x", "w"], zs=["c"], y="z">(x, w, c) }}"""
    agrees(text, [f64(2), f64(*shape), np.array([True, False, True])], [0, 1])


def test_a_scan_that_draws_differently_in_a_loop() -> None:
    drawn = f"""c0 = Constant<value=bool[3] {{1, 0, 1}}>()
        z = Scan(c0, p) <num_scan_inputs=2, body = sc (bool i, double p) => (double o) {{ {branches("double")} }}>"""
    agrees(LOOP.replace("BODY", drawn), [np.int64(2), f64(3), f64(3)], [1, 2])


def test_a_scan_over_a_batch_that_draws_differently() -> None:
    text = f"""g (int64[3] n, double[3,2] x, double[3,4,2] w, bool[3,4] c) => (double[3,4,2] y, double[3,2] d, double[3,4,2] e) {{
        q, r = Scan(n, x, w, c) <num_scan_inputs=2, body = b (double[2] s, double[2] t, bool i) => (double[2] z, double[2] l) {{
            p = Mul(s, t) {branches()} z = Sigmoid(o) l = Add(z, t) }}>
        a = Unsqueeze<axes=[1]>(q) y = Mul(a, r) d, e = Gradient<xs=["x", "w"], zs=["n", "c"], y="y">(x, w, n, c) }}"""
    chosen = np.array([[True, False, True, False], [False] * 4, [True, True, False, True]])
    agrees(text, [np.array([4, 1, 3]), f64(3, 2), f64(3, 4, 2), chosen], [1, 2], opset=8)
