"""Quotients and remainders of dims, in normal form and as numbers."""

from __future__ import annotations

import random

import pytest

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Sym

H, W = Sym("H"), Sym("W")


def number(value, table) -> int:
    return value if isinstance(value, int) else d.substitute(value, table)


def test_a_factor_of_both_sides_is_left_out():
    i, j = Sym("i", extent=d.dim(H) * d.dim(W)), Sym("j", extent=40)
    position = d.dim(i) * 40 + d.dim(j)
    assert d.floordiv(position, d.dim(W) * 40) == d.floordiv(d.dim(i), d.dim(W))
    assert d.mod(position, d.dim(W) * 40) == d.mod(d.dim(i), d.dim(W)) * 40 + d.dim(j)
    assert d.floordiv(d.dim(i) * 6 + 5, 4) == d.floordiv(d.dim(i) * 3 + 2, 2)


@pytest.mark.parametrize("seed", range(200))
def test_quotients_and_remainders_are_those_of_numbers(seed):
    choose = random.Random(seed)
    k = choose.choice([2, 3, 5, 6, 40])
    w, h = d.dim(W), d.dim(H)
    extent = choose.choice([k, w, h * w, w * k])
    i, j, m = Sym("i", extent=extent), Sym("j", extent=k), Sym("m", extent=w)
    divisor = choose.choice([k * 4, w * k, h * k, h * w, w * w * k, 6])
    value = d.dim(i) * choose.choice([k, k * 6, w, 1, w * k])
    value = value + choose.choice([0, d.dim(j), d.dim(m), d.dim(j) * 2, d.dim(m) * k + d.dim(j), 3])
    quotient, rest = d.floordiv(value, divisor), d.mod(value, divisor)
    for _ in range(8):
        table = {H: choose.randint(1, 5), W: choose.randint(1, 7)}
        table |= {i: choose.randrange(number(extent, table)), j: choose.randrange(k), m: choose.randrange(table[W])}
        assert (number(quotient, table), number(rest, table)) == divmod(number(value, table), number(divisor, table))
