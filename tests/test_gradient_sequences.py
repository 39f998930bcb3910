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
