"""Arithmetic of dims: what is folded stays what it was, at every place of the loops."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Opaque, Sym

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


def test_a_common_unit_is_taken_out():
    i, j = Sym("i", extent=28), Sym("j", extent=48)
    value = d.dim(i) * 48 + d.dim(j)
    assert d.floordiv(value, 336) == d.dim(Opaque("div", (d.dim(i), 7)))
    assert d.mod(value, 336) == d.dim(Opaque("mod", (d.dim(i), 7))) * 48 + d.dim(j)
    assert d.floordiv(d.dim(Sym("n")) * 7203 + d.dim(Sym("k", extent=7203)), 115248).depth == 1
