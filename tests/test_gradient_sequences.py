"""Gradients through sequences of tensors."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import agrees, drawing, run

f64 = drawing(9)


@pytest.mark.parametrize("place", [0, 1, -1])
def test_parts_of_a_split(place: int) -> None:
    text = """g (double[7,2] x, int64 k) => (double[n,2] y, double[7,2] d) {
        s = SplitToSequence<axis=0>(x, three) three = Constant<value=int64 {3}>() a = SequenceAt(s, k) zero = Constant<value=int64 {0}>()
        b = SequenceAt(s, zero) m = ReduceSum<keepdims=0>(b) p = Mul(a, a) y = Mul(p, m) d = Gradient<xs=["x"], zs=["k"], y="y">(x, k) }"""
    agrees(text, [f64(7, 2), np.int64(place)], [0])


@pytest.mark.parametrize("keep", [0, 1])
def test_slices_one_by_one(keep: int) -> None:
    text = f"""g (double[2,3] x) => (double[2,3] d) {{ s = SplitToSequence<axis=1, keepdims={keep}>(x)
        z = ConcatFromSequence<axis=0, new_axis=1>(s) y = Mul(z, z) d = Gradient<xs=["x"], y="y">(x) }}"""
    x = f64(2, 3)
    np.testing.assert_allclose(run(text, x)[0], 2 * x)


def test_tensors_put_together() -> None:
    text = """g (double[2,3] x, double[2,1] w, double[2,2] v) => (double[2,n] y, double[2,3] a, double[2,1] b, double[2,2] c) {
        k = Constant<value=int64 {-1}>() zero = Constant<value=int64 {0}>() s = SequenceConstruct(x, w)
        t = SequenceInsert(s, v, k) u = SequenceInsert(t, x) r = SequenceErase(u, zero) z = ConcatFromSequence<axis=-1>(r)
        q = SequenceErase(u) e = SequenceAt(q, k) f = ReduceSum<keepdims=0>(e) p = Mul(z, z) y = Mul(p, f)
        a, b, c = Gradient<xs=["x", "w", "v"], y="y">(x, w, v) }"""
    agrees(text, [f64(2, 3), f64(2, 1), f64(2, 2)], [0, 1, 2])


class TestMap:
    TEXT = """g (double[7,2] x, double[2] w, double v) => (double y, double[7,2] d, double[2] e, double f) {
        three = Constant<value=int64 {3}>() zero = Constant<value=int64[1] {0}>() s = SplitToSequence<axis=0>(x, three)
        a, b = SequenceMap(s, s, w) <body = b (double[r,2] i, double[r,2] j, double[2] k) => (double[r,2] p, double[2] q) {
            o = Mul(i, k) p = Sin(o) m = Mul(j, v) q = ReduceSum<keepdims=0>(m, zero) }>
        g = ConcatFromSequence<axis=0>(a) h = ConcatFromSequence<axis=0, new_axis=1>(b)
        l = ReduceSumSquare<keepdims=0>(g) m = ReduceSumSquare<keepdims=0>(h) y = Mul(l, m)
        d, e, f = Gradient<xs=["x", "w", "v"], y="y">(x, w, v) }"""

    def test_elements_and_what_all_share(self) -> None:
        agrees(self.TEXT, [f64(7, 2), f64(2), np.array(0.7)], [0, 1, 2])

    def test_the_second_result_alone(self) -> None:
        agrees(self.TEXT.replace("Mul(l, m)", "Identity(m)"), [f64(7, 2), f64(2), np.array(0.7)], [0, 1, 2])

    def test_an_empty_sequence(self) -> None:
        text = """g (double[2] w) => (double[2] y, double[2] d) { x = SequenceEmpty<dtype=11>() last = Constant<value=int64 {-1}>()
            s = SequenceMap(x, w) <body = b (double[2] i, double[2] k) => (double[2] p) { p = Mul(i, k) }>
            t = SequenceInsert(s, w) a = SequenceAt(t, last) y = Mul(a, a) d = Gradient<xs=["w"], y="y">(w) }"""
        agrees(text, [f64(2)], [0])

    def test_a_second_derivative(self) -> None:
        text = """g (double[3,2] x, double[2] w) => (double h, double[3,2] a, double[2] b) {
            s = SplitToSequence<axis=0>(x) t = SequenceMap(s) <body = b (double[1,2] i) => (double[1,2] p) { q = Mul(i, w) p = Mul(q, i) }>
            z = ConcatFromSequence<axis=0>(t) y = Mul(z, z) d = Gradient<xs=["x"], zs=["w"], y="y">(x, w)
            h = ReduceSumSquare<keepdims=0>(d) a, b = Gradient<xs=["x", "w"], y="h">(x, w) }"""
        agrees(text, [f64(3, 2), f64(2)], [0, 1])

    def test_a_sequence_read_from_outside(self) -> None:
        text = """g (double[5,2] x, double[2] w) => (double y, double[5,2] d, double[2] e) { two = Constant<value=int64 {2}>()
            s = SplitToSequence<axis=0>(x, two) zero = Constant<value=int64 {0}>()
            t, u = SequenceMap(s, w) <body = b (double[r,2] i, double[2] v) => (double[r,2] p, double[2] q) {
                j = SequenceAt(s, zero) one = Constant<value=int64 {1}>() k = SequenceAt(s, one) m = Mul(j, k)
                l = ReduceSum<keepdims=0>(m) a = Mul(i, l) p = Mul(a, v) q = Mul(v, l) }>
            z = ConcatFromSequence<axis=0>(t) o = ConcatFromSequence<axis=0>(u) f = ReduceSumSquare<keepdims=0>(z)
            g = ReduceSumSquare<keepdims=0>(o) y = Mul(f, g) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
        agrees(text, [f64(5, 2), f64(2)], [0, 1])


def test_an_operand_of_a_rank_that_only_the_run_knows() -> None:
    text = """g (int64 n, double[2,3] x, double[3] w) => (double[2,3] y, double[2,3] d, double[3] e) { s = SequenceConstruct(x, w)
        k = SequenceAt(s, n) p = Mul(k, x) y = Mul(p, k) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
    for place in (0, 1):
        agrees(text, [np.int64(place), f64(2, 3), f64(3)], [1, 2])
