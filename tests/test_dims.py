"""Quotients and remainders of dims, in normal form and as numbers."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_products_of_sums_do_not_grow_without_end():
    """A tensor of rank 30, padded along all axes, has the product of 30 sums of three dims as its size."""
    names = [[Sym(f"{name}{axis}", signed=name == "p") for name in "pnq"] for axis in range(30)]
    shape = [d.total(map(d.dim, three)) for three in names]
    size = d.product(shape)
    assert len(size.terms) < 1000
    numbers = [(k % 3 - 1, 1 + k % 2, k % 2) for k in range(30)]
    table = {sym: number for three, values in zip(names, numbers, strict=True) for sym, number in zip(three, values, strict=True)}
    assert d.substitute(size, table) == math.prod(map(sum, numbers))
    assert not d.nonnegative(size) and not d.at_least_zero(size)
    i = d.dim(Sym("i", extent=shape[0]))
    index = (i - d.dim(names[0][0])) * d.product(shape[1:])
    assert any(i.terms.keys() <= {(atom,)} for atom in d.atoms(index))  # strides are read from it


EXTENTS = st.integers(1, 5)
STRIDES = st.sampled_from([-3, 0, 1, 2, 3, 4, 6, 7, 8, 12, 21, 24, 28])


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(EXTENTS, EXTENTS, EXTENTS),
    st.tuples(STRIDES, STRIDES, STRIDES),
    st.integers(-5, 30),
    st.sampled_from([2, 3, 4, 6, 12, 24, 84]),
)
def test_division_by_a_number(extents, strides, start, divisor):
    loops = [Sym(f"i{k}", extent=extent) for k, extent in enumerate(extents)]
    value = start + sum((d.dim(i) * stride for i, stride in zip(loops, strides, strict=True)), start=0)
    quotient, rest = d.floordiv(value, divisor), d.mod(value, divisor)
    for place in itertools.product(*map(range, extents)):
        table = dict(zip(loops, place, strict=True))
        number = start + sum(p * s for p, s in zip(place, strides, strict=True))
        assert d.substitute(quotient, table) == number // divisor
        assert d.substitute(rest, table) == number % divisor


@settings(max_examples=200, deadline=None)
@given(st.tuples(EXTENTS, EXTENTS, EXTENTS), st.integers(1, 4), st.integers(1, 4))
def test_division_by_sizes_that_only_the_run_knows(extents, depth, count):
    """Rows of images of ``depth`` channels, in windows of ``count``: all three known at run time."""
    channels, windows = Sym("C"), Sym("W")
    row, column, channel = (Sym("i", extent=extents[0]), Sym("j", extent=d.dim(windows)), Sym("k", extent=d.dim(channels)))
    unit = d.dim(windows) * d.dim(channels)
    value = d.dim(row) * unit + d.dim(column) * d.dim(channels) + d.dim(channel)
    for divisor in (unit, 2 * unit, d.dim(channels), d.dim(channels) * 3):
        quotient, rest = d.floordiv(value, divisor), d.mod(value, divisor)
        for i, j, k in itertools.product(range(extents[0]), range(count), range(depth)):
            table = {row: i, column: j, channel: k, channels: depth, windows: count}
            number, by = d.substitute(value, table), d.substitute(divisor, table)
            assert d.substitute(quotient, table) == number // by
            assert d.substitute(rest, table) == number % by
