"""Gradients through If, Loop and Scan."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import Array, agrees, drawing, parsed, run

import onnx_numba.backend as backend

f64 = drawing(6)

LOOP = """g (int64 n, double[3] x, double[3] w) => (double[3] y, double[3] d, double[3] e) { t = Constant<value=bool {1}>()
    y = Loop(n, t, x) <body = b (int64 k, bool c, double[3] s) => (bool c, double[3] z) { p = Mul(s, w) z = Sin(p) }>
    d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""


class TestLoop:
    @pytest.mark.parametrize("count", [0, 1, 4])
    @pytest.mark.parametrize("jit", [False, True])
    def test_count(self, count: int, jit: bool) -> None:
        agrees(LOOP, [np.int64(count), f64(3), f64(3)], [1, 2], jit)

    def test_closed_form(self) -> None:
        x, w = np.array([0.5, -1.0, 2.0]), np.array([1.5, 0.0, -0.5])
        y, d, e = run(LOOP.replace("z = Sin(p)", "z = Identity(p)"), np.int64(5), x, w)
        np.testing.assert_allclose(y, x * w**5)
        np.testing.assert_allclose(d, w**5)
        np.testing.assert_allclose(e, 5 * x * w**4)

    @pytest.mark.parametrize("count", [0, 1, 9])
    def test_a_condition_and_scan_outputs(self, count: int) -> None:
        text = """g (int64 n, double[3] x, double[3] w) => (double[3] y, double[3] d, double[3] e) {
            t = Constant<value=bool {1}>() limit = Constant<value=double {4.0}>()
            q, r = Loop(n, t, x) <body = b (int64 k, bool c, double[3] s) => (bool more, double[3] z, double[3] o) {
                p = Mul(s, w) z = Add(p, s) o = Sin(z) m = ReduceSum<keepdims=0>(z) more = Less(m, limit) }>
            u = ReduceSum<keepdims=0>(r) y = Mul(u, q) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
        agrees(text, [np.int64(count), np.abs(f64(3)) * 0.4, np.abs(f64(3))], [1, 2])

    def test_without_a_count(self) -> None:
        text = """g (double x) => (double y, double d) { t = Constant<value=bool {1}>() limit = Constant<value=double {9.0}>()
            y = Loop( , t, x) <body = b (int64 k, bool c, double s) => (bool more, double z) { z = Mul(s, s) more = Less(z, limit) }>
            d = Gradient<xs=["x"], y="y">(x) }"""
        y, d = run(text, 1.5)
        np.testing.assert_allclose((y, d), (1.5**8, 8 * 1.5**7))

    def test_the_iteration_number(self) -> None:
        text = """g (int64 n, double[2] x, double[4,2] w) => (double[2] y, double[2] d, double[4,2] e) { t = Constant<value=bool {1}>()
            y = Loop(n, t, x) <body = b (int64 k, bool c, double[2] s) => (bool c, double[2] z) { v = Gather(w, k) z = Mul(s, v) }>
            d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
        agrees(text, [np.int64(3), f64(2), f64(4, 2)], [1, 2])

    def test_states_that_change_places_or_stay(self) -> None:
        text = """g (int64 n, double[2] x, double[2] w, double[2] v) => (double[2] y, double[2] d, double[2] e, double[2] f) {
            t = Constant<value=bool {1}>()
            p, q, r, i = Loop(n, t, x, w, v, n) <body = b (int64 k, bool c, double[2] s, double[2] u, double[2] a, int64 j)
                => (bool c, double[2] u, double[2] z, double[2] a, int64 l) { h = Mul(s, u) z = Add(h, a) l = Add(j, k) }>
            o = Mul(p, q) y = Mul(o, r) d, e, f = Gradient<xs=["x", "w", "v"], y="y">(x, w, v) }"""
        agrees(text, [np.int64(3), f64(2), f64(2), f64(2)], [1, 2, 3])

    def test_a_state_without_influence_may_hold_what_has_no_derivative(self) -> None:
        text = """g (int64 n, double[2,2] x) => (double[2,2] y, double[2,2] d) { t = Constant<value=bool {1}>()
            y, g = Loop(n, t, x, x) <body = b (int64 k, bool c, double[2,2] s, double[2,2] u) => (bool c, double[2,2] z, double[2,2] v) {
                z = Mul(s, x) w = BitCast<to=11>(s) v = Mul(u, w) }>
            d = Gradient<xs=["x"], y="y">(x) }"""
        agrees(text, [np.int64(3), f64(2, 2)], [1], opset=26)

    def test_a_state_without_influence_may_grow(self) -> None:
        text = """g (int64 n, double[2] x, int64[m] i) => (double[2] y, double[2] d) { t = Constant<value=bool {1}>()
            y, g = Loop(n, t, x, i) <body = b (int64 k, bool c, double[2] s, int64[a] l) => (bool c, double[2] z, int64[e] h) {
                p = Mul(s, s) z = Add(p, x) o = Constant<value_ints=[1]>() h = Concat<axis=0>(l, o) }>
            d = Gradient<xs=["x"], y="y">(x) }"""
        agrees(text, [np.int64(3), f64(2), np.zeros(1, np.int64)], [1])

    def test_nested(self) -> None:
        text = """g (int64 n, double[3] x, double[3] w) => (double[3] y, double[3] d, double[3] e) { t = Constant<value=bool {1}>()
            y = Loop(n, t, x) <body = b (int64 k, bool c, double[3] s) => (bool c, double[3] z) {
                two = Constant<value=int64 {2}>() odd = Mod(k, two) o = Cast<to=9>(odd)
                p = If(o) <then_branch = tb () => (double[3] a) { a = Mul(s, w) }, else_branch = eb () => (double[3] f) {
                    l = Loop(n, t, s) <body = bb (int64 i, bool cc, double[3] q) => (bool cc, double[3] r) { r = Mul(q, w) }>
                    f = Sin(l) }>
                z = Sin(p) }>
            d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
        agrees(text, [np.int64(4), f64(3), f64(3)], [1, 2])

    def test_other_values_than_those_named(self) -> None:
        text = """g (int64 n, double x, double v) => (double y, double d) { t = Constant<value=bool {1}>()
            y = Loop(n, t, x) <body = b (int64 k, bool c, double s) => (bool c, double z) { z = Mul(s, x) }>
            d = Gradient<xs=["x"], y="y">(v) }"""
        np.testing.assert_allclose(run(text, np.int64(3), 2.0, 3.0), [2.0**4, 4 * 3.0**3])

    def test_inside_a_body(self) -> None:
        text = """g (int64 n, double x) => (double y) { t = Constant<value=bool {1}>()
            y = Loop(n, t, x) <body = b (int64 k, bool c, double s) => (bool c, double z) {
                v = Loop(n, t, s) <body = bb (int64 i, bool cc, double q) => (bool cc, double r) { r = Mul(q, s) }>
                z = Gradient<xs=["s"], y="v">(s) }> }"""
        np.testing.assert_allclose(run(text, np.int64(2), 1.5), [3 * (3 * 1.5**2) ** 2])


SCAN = """g (double[2] x, double[5,2] w, double v) => (double[2,5] y, double[2] d, double[5,2] e, double f) {
    q, r = Scan(x, w) <num_scan_inputs=1, scan_input_directions=[1], scan_output_axes=[-1], body = b (double[2] s, double[2] i)
        => (double[2] z, double[2] o) { p = Mul(s, i) z = Sin(p) o = Mul(z, v) }>
    one = Constant<value_ints=[1]>() u = Unsqueeze(q, one) y = Mul(u, r) d, e, f = Gradient<xs=["x", "w", "v"], y="y">(x, w, v) }"""


class TestScan:
    def test_directions_and_axes(self) -> None:
        agrees(SCAN, [f64(2), f64(5, 2), np.array(0.7)], [0, 1, 2])

    def test_a_second_derivative(self) -> None:
        text = SCAN.replace("(double[2,5] y, double[2] d, double[5,2] e, double f)", "(double h, double[2] a, double[5,2] b, double c)")
        second = 'm = Mul(e, e) h = ReduceSum<keepdims=0>(m) a, b, c = Gradient<xs=["x", "w", "v"], y="h">(x, w, v)'
        text = text.replace("(x, w, v) }", f"(x, w, v) {second} }}")
        agrees(text, [f64(2), f64(5, 2), np.array(0.7)], [0, 1, 2])

    def test_a_scanned_axis_and_a_reversed_output(self) -> None:
        text = """g (double[2,4] x, double[2] w) => (double[4] y, double[2,4] d, double[2] e) {
            y = Scan(x) <num_scan_inputs=1, scan_input_axes=[-1], scan_output_directions=[1], body = b (double[2] i) => (double o) {
                p = Mul(i, w) q = Mul(p, i) o = ReduceSum<keepdims=0>(q) }>
            d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
        agrees(text, [f64(2, 4), f64(2)], [0, 1])


class TestScanOverABatch:
    """As opset 8 has it."""

    TEXT = """g (int64[3] n, double[3,2] x, double[3,4,2] w, double[3,4] u, double v)
        => (double[3,4,2] y, double[3,2] d, double[3,4,2] e, double[3,4] f, double h) {
        q, r = Scan(LENGTHS, x, w, u) <num_scan_inputs=2, directions=[1, 0], body = b (double[2] s, double[2] i, double j)
            => (double[2] z, double[2] o) { p = Mul(s, i) t = Mul(p, j) z = Sigmoid(t) k = Mul(z, v) o = Add(k, i) }>
        a = Unsqueeze<axes=[1]>(q) y = Mul(a, r)
        d, e, f, h = Gradient<xs=["x", "w", "u", "v"], zs=["n"], y="y">(x, w, u, v, n) }"""

    @pytest.mark.parametrize("lengths", ["n", ""])
    def test_every_input(self, lengths: str) -> None:
        text = self.TEXT.replace("LENGTHS", lengths)
        counts = np.array([4, 1, 3])
        agrees(text, [counts, f64(3, 2), f64(3, 4, 2), f64(3, 4), np.array(0.7)], [1, 2, 3, 4], opset=8)

    def test_without_a_state(self) -> None:
        text = """g (double[2,3,2] w, double[2] v) => (double[2,3,2] y, double[2,3,2] d, double[2] e) {
            y = Scan( , w) <num_scan_inputs=1, body = b (double[2] i) => (double[2] o) { p = Mul(i, v) o = Exp(p) }>
            d, e = Gradient<xs=["w", "v"], y="y">(w, v) }"""
        agrees(text, [f64(2, 3, 2), f64(2)], [0, 1], opset=8)

    def test_a_second_derivative(self) -> None:
        text = """g (int64[2] n, double[2,2] x, double[2,3,2] w) => (double[2,2] h, double[2,2] a, double[2,3,2] b) {
            q = Scan(n, x, w) <num_scan_inputs=1, body = b (double[2] s, double[2] i) => (double[2] z) { p = Mul(s, i) z = Mul(p, s) }>
            d = Gradient<xs=["x"], zs=["w", "n"], y="q">(x, w, n) h = Mul(d, d)
            a, b = Gradient<xs=["x", "w"], zs=["n"], y="h">(x, w, n) }"""
        agrees(text, [np.array([2, 3]), f64(2, 2), f64(2, 3, 2)], [1, 2], opset=8)


class TestIf:
    TEXT = """g (bool c, double[3] x, double[3] w) => (double[3] y, double[3] d, double[3] e) {
        y = If(c) <then_branch = t () => (double[3] a) { a = Mul(x, w) }, else_branch = f () => (double[3] b) { b = Exp(x) }>
        d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""

    @pytest.mark.parametrize("condition", [False, True])
    @pytest.mark.parametrize("jit", [False, True])
    def test_branches(self, condition: bool, jit: bool) -> None:
        agrees(self.TEXT, [np.array(condition), f64(3), f64(3)], [1, 2], jit)

    def test_only_the_branch_taken_counts(self) -> None:
        x = np.array([-1.0, 0.0, 1.0])
        _, d, e = run(self.TEXT.replace("Exp(x)", "Sqrt(x)"), np.array(True), x, np.ones(3))
        np.testing.assert_array_equal(d, np.ones(3))
        np.testing.assert_array_equal(e, x)

    @pytest.mark.parametrize("condition", [False, True])
    def test_branches_of_different_ranks(self, condition: bool) -> None:
        text = """g (bool c, double[2,3] x) => (double y, double[2,3] d) { h = If(c) <
                then_branch = t () => (double[2,3] a) { a = Mul(x, x) },
                else_branch = e () => (double[3] b) { z = Constant<value=int64[1] {0}>() b = ReduceSum<keepdims=0>(x, z) }>
            y = ReduceSum<keepdims=0>(h) d = Gradient<xs=["x"], y="y">(x) }"""
        agrees(text, [np.array(condition), f64(2, 3)], [1])

    def test_branches_that_shapes_decide_between(self) -> None:
        text = """g (double[m,3] x) => (double y, double[m,3] d) { s = Shape(x) zero = Constant<value=int64 {0}>() g = Gather(s, zero)
            one = Constant<value=int64 {1}>() c = Equal(g, one) h = If(c) <
                then_branch = t () => (double[3] a) { z = Constant<value=int64[1] {0}>() a = Squeeze(x, z) },
                else_branch = e () => (double[m,3] b) { b = Mul(x, x) }>
            y = ReduceSum<keepdims=0>(h) d = Gradient<xs=["x"], y="y">(x) }"""
        for rows in (1, 2):
            agrees(text, [f64(rows, 3)], [0])

    def test_a_value_passed_through(self) -> None:
        text = """g (bool c, double[3] x, double[3] w) => (double[3] y, double[3] d, double[3] e) {
            y = If(c) <then_branch = t () => (double[3] x) { }, else_branch = f () => (double[3] w) { }>
            d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
        _, d, e = run(text, np.array(True), f64(3), f64(3))
        np.testing.assert_array_equal((d, e), (np.ones(3), np.zeros(3)))


def test_bodies_with_loops_in_them() -> None:
    text = """g (double a, double b) => (double[n] y, double c, double d) { end = Constant<value=double {5.0}>()
        r = Range(a, end, b) y = Mul(r, r) c, d = Gradient<xs=["a", "b"], y="y">(a, b) }"""
    agrees(text, [np.array(0.4), np.array(1.3)], [0, 1])


def test_a_recurrence_that_the_standard_writes_as_a_scan() -> None:
    """Its body is in float32, so the differences are those of a recurrence in NumPy."""
    text = """g (float[1,4,3] q, float[1,4,3] k, float[1,4,2] v, float[1,4,1] a, float[1,4,1] e)
        => (float[1,4,3] dq, float[1,4,3] dk, float[1,4,2] dv, float[1,4,1] da, float[1,4,1] de) {
        y, s = LinearAttention<q_num_heads=1, kv_num_heads=1, update_rule="gated_delta", scale=0.5>(q, k, v, , a, e) z = Mul(y, y)
        dq, dk, dv, da, de = Gradient<xs=["q", "k", "v", "a", "e"], y="z">(q, k, v, a, e) }"""

    def value(q: Array, k: Array, v: Array, a: Array, e: Array) -> float:
        state, total = np.zeros((3, 2)), 0.0
        for t in range(4):
            state = np.exp(a[t]) * state
            state = state + e[t] * np.outer(k[t], v[t] - state.T @ k[t])
            total += float(np.sum((0.5 * q[t] @ state) ** 2))
        return total

    inputs = [f64(4, 3), f64(4, 3), f64(4, 2), -np.abs(f64(4, 1)), np.abs(f64(4, 1))]
    model = parsed(text)
    model.opset_import[0].version = 27
    got = backend.prepare(model, jit=False).run([x.astype(np.float32)[None] for x in inputs])
    for position, slope in enumerate(got):
        for index in np.ndindex(inputs[position].shape):
            step = np.zeros_like(inputs[position])
            step[index] = 1e-6
            high, low = ([x + sign * step if k == position else x for k, x in enumerate(inputs)] for sign in (1, -1))
            np.testing.assert_allclose(slope[0][index], (value(*high) - value(*low)) / 2e-6, 1e-3, 1e-4)


class TestSequencesInLoops:
    TEXT = """g (int64 n, double[2] x, double[2] w) => (double y, double[2] d, double[2] e) {
        t = Constant<value=bool {1}>() zero = Constant<value=int64 {0}>() e0 = SequenceConstruct(x)
        q, a, r = Loop(n, t, e0, x) <body = b (int64 k, bool c, seq(double[2]) s, double[2] a)
            => (bool c, seq(double[2]) u, double[2] z, double[2] o) {
                f = SequenceAt(s, k) v = SequenceAt(s, zero) i = Mul(f, a) j = Mul(i, w) z = Sin(j)
                u = SequenceInsert(s, z) o = Add(z, v) }>
        h = ConcatFromSequence<axis=0>(q) l = ReduceSumSquare<keepdims=0>(h) m = ReduceSumSquare<keepdims=0>(r)
        p = ReduceSumSquare<keepdims=0>(a) y0 = Add(l, m) y = Mul(y0, p) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""

    @pytest.mark.parametrize("count", [0, 1, 4])
    def test_one_that_grows(self, count: int) -> None:
        agrees(self.TEXT, [np.int64(count), f64(2), f64(2)], [1, 2])

    def test_one_that_shrinks_while_a_condition_holds(self) -> None:
        text = """g (double[4,2] x, double[2] w) => (double[2] y, double[4,2] d, double[2] e) {
            t = Constant<value=bool {1}>() one = Constant<value=int64 {1}>() v = SplitToSequence<axis=0, keepdims=0>(x)
            q, y = Loop( , t, v, w) <body = b (int64 k, bool c, seq(double[2]) s, double[2] a)
                => (bool more, seq(double[2]) u, double[2] z) {
                    f = SequenceAt(s, one) i = Mul(f, a) z = Sin(i) u = SequenceErase(s, one) m = SequenceLength(u) more = Less(one, m) }>
            d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
        agrees(text, [f64(4, 2), f64(2)], [0, 1])

    def test_one_read_from_outside(self) -> None:
        text = """g (int64 n, double[4,2] x, double[2] w) => (double[2] y, double[4,2] d, double[2] e) {
            t = Constant<value=bool {1}>() v = SplitToSequence<axis=0, keepdims=0>(x)
            y = Loop(n, t, w) <body = b (int64 k, bool c, double[2] a) => (bool c, double[2] z) {
                f = SequenceAt(v, k) i = Mul(f, a) z = Sin(i) }>
            d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
        agrees(text, [np.int64(3), f64(4, 2), f64(2)], [1, 2])

    def test_one_without_influence(self) -> None:
        text = """g (int64 n, double[2] x) => (double[2] y, double[2] d) { t = Constant<value=bool {1}>() v = SequenceConstruct(n)
            q, y = Loop(n, t, v, x) <body = b (int64 k, bool c, seq(int64) s, double[2] a) => (bool c, seq(int64) u, double[2] z) {
                u = SequenceInsert(s, k) z = Mul(a, a) }>
            d = Gradient<xs=["x"], y="y">(x) }"""
        agrees(text, [np.int64(2), f64(2)], [1])

    def test_numbers_that_places_are_taken_from(self) -> None:
        text = """g (int64[3] i, double[3] x) => (double y, double[3] d) { t = Constant<value=bool {1}>() o = Constant<value=double {1.0}>()
            n = Size(i) v = SplitToSequence<axis=0, keepdims=0>(i)
            q, y = Loop(n, t, v, o) <body = b (int64 k, bool c, seq(int64) s, double a) => (bool c, seq(int64) u, double z) {
                zero = Constant<value=int64 {0}>() j = SequenceAt(s, zero) u = SequenceErase(s, zero)
                h = Gather(x, j) p = Sin(h) z = Mul(a, p) }>
            d = Gradient<xs=["x"], y="y">(x) }"""
        agrees(text, [np.array([2, 0, 2]), f64(3)], [1])

    def test_a_second_derivative(self) -> None:
        text = """g (double[2] x, double[2] w) => (double h, double[2] a, double[2] b) {
            t = Constant<value=bool {1}>() n = Constant<value=int64 {2}>() v = SequenceConstruct(x)
            q, y = Loop(n, t, v, w) <body = b (int64 k, bool c, seq(double[2]) s, double[2] a)
                => (bool c, seq(double[2]) u, double[2] z) { f = SequenceAt(s, k) i = Mul(f, a) z = Mul(i, f) u = SequenceInsert(s, z) }>
            d = Gradient<xs=["x"], zs=["w"], y="y">(x, w) h = ReduceSumSquare<keepdims=0>(d)
            a, b = Gradient<xs=["x", "w"], y="h">(x, w) }"""
        agrees(text, [f64(2), f64(2)], [0, 1])


class TestStatesThatChange:
    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_a_shape(self, count: int) -> None:
        text = """g (int64 n, double[1] x) => (double[m] y, double[1] d) { t = Constant<value=bool {1}>()
            y = Loop(n, t, x) <body = b (int64 k, bool c, double[m] s) => (bool c, double[q] z) { p = Sin(s) z = Concat<axis=0>(p, x) }>
            d = Gradient<xs=["x"], y="y">(x) }"""
        agrees(text, [np.int64(count), f64(1)], [1])

    def test_a_shape_twice_differentiated(self) -> None:
        text = """g (int64 n, double[1] x) => (double h, double[1] a) { t = Constant<value=bool {1}>()
            y = Loop(n, t, x) <body = b (int64 k, bool c, double[m] s) => (bool c, double[q] z) { p = Sin(s) z = Concat<axis=0>(p, x) }>
            d = Gradient<xs=["x"], y="y">(x) h = ReduceSumSquare<keepdims=0>(d) a = Gradient<xs=["x"], y="h">(x) }"""
        agrees(text, [np.int64(3), f64(1)], [1])

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_an_optional(self, count: int) -> None:
        text = """g (int64 n, bool w, double[2] x) => (double[2] y, double[2] d) { t = Constant<value=bool {1}>() o = Optional(x)
            q, y = Loop(n, t, o, x) <body = b (int64 k, bool c, optional(double[2]) s, double[2] v)
                => (bool c, optional(double[2]) u, double[2] z) { h = OptionalHasElement(s)
                e = If(h) <then_branch = a () => (double[2] a1) { a1 = OptionalGetElement(s) },
                    else_branch = f () => (double[2] b1) { b1 = Exp(x) }>
                p = Sin(e) z = Mul(v, p) u = Optional(z) }>
            d = Gradient<xs=["x"], y="y">(x) }"""
        agrees(text, [np.int64(count), np.array(True), f64(2)], [2])


class TestScansThatReadSequences:
    TEXT = """g (double[2] x, double[2,3] w) => (double[2,3] y, double[2] d, double[2,3] e) {
        v = SequenceConstruct(x, x) zero = Constant<value=int64 {0}>()
        l, r = Scan(x, w) <num_scan_inputs=1, scan_input_axes=[1], scan_input_directions=[1], scan_output_axes=[-1],
            scan_output_directions=[1], body = b (double[2] s, double[2] i) => (double[2] z, double[2] o) {
                j = SequenceAt(v, zero) q = Sin(j) o = Mul(i, q) z = Mul(s, o) }>
        a = Exp(l) q = ReduceSum(a) y = Mul(r, q) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""

    def test_directions_and_axes(self) -> None:
        agrees(self.TEXT, [f64(2), f64(2, 3)], [0, 1])

    def test_a_second_derivative(self) -> None:
        text = self.TEXT.replace("(double[2,3] y, double[2] d, double[2,3] e)", "(double h, double[2] f, double[2,3] g)")
        second = """(x, w) h = ReduceSumSquare<keepdims=0>(d) f, g = Gradient<xs=["x", "w"], y="h">(x, w) }"""
        agrees(text.replace("(x, w) }", second), [f64(2), f64(2, 3)], [0, 1])
