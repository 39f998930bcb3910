"""Derivatives of operators that move elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnx_numba.ir.types import F64, I64
from onnx_numba.passes.derivatives.table import Call, composed, rule
from onnx_numba.passes.derivatives.terms import Term


@rule("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def _reshape(c: Call) -> Sequence[Term | None]:
    return [c.gs[0].reshaped(c.xs[0].shape)]


@rule("Transpose")
def _transpose(c: Call) -> Sequence[Term | None]:
    order = c.attribute("perm")
    return [c.w("Transpose", c.gs[0], perm=None if order is None else [int(k) for k in np.argsort(order)])]


@rule("Expand")
def _expand(c: Call) -> Sequence[Term | None]:
    return [c.gs[0].sum_to(c.xs[0])]


@rule("Concat")
def _concat(c: Call) -> Sequence[Term | None]:
    axis = c.attribute("axis", 1)
    start: Term = c.w.constant(np.zeros(1, np.int64))
    parts = []
    for x in c.xs:
        end = start + c.w("Gather", x.shape, [axis])
        parts.append(c.w("Slice", c.gs[0], start, end, [axis]))
        start = end
    return parts


@rule("Split")
def _split(c: Call) -> Sequence[Term | None]:
    parts = [part.filled(0) if g is None else g for part, g in zip(c.again(*c.xs), c.gs, strict=True)]
    return [c.w("Concat", *parts, axis=c.attribute("axis", 0))]


@rule("Compress", "DepthToSpace", "Gather", "GatherElements", "GatherND", "ReverseSequence", "Slice", "SpaceToDepth")
def _moved(c: Call) -> Sequence[Term | None]:
    """The operator, done to the numbers of the elements, says where each element of the adjoint came from."""
    x = c.xs[0]
    numbers = c.w("Range", np.array(0), x.size, np.array(1)).reshaped(x.shape)
    return [scattered(c.gs[0], c.again(numbers, *c.xs[1:])[0], x)]


@rule("Tile", since=6)
def _tile(c: Call) -> Sequence[Term | None]:
    return _moved(c)


@composed("Tile")
def _tile_1(c: Call) -> Sequence[Term | None]:
    """Version 1: as often as one float says, along the axis that another one says."""
    w, x = c.w, c.xs[0]
    times, axis = (w("Cast", each, to=I64.onnx).reshaped([1]) for each in c.xs[1:])
    return [w("Tile", x, w("ScatterElements", np.ones(x.rank, np.int64), axis, times))]


def scattered(g: Term, sources: Term, x: Term) -> Term:
    """The elements of ``g`` added up where ``sources`` says, in a tensor like ``x``, by place in memory."""
    w = x.writer
    zeros = w("Expand", x.number(0), x.size.reshaped([1]))
    return w("ScatterElements", zeros, sources.reshaped([-1]), g.reshaped([-1]), axis=0, reduction="add").reshaped(x.shape)


@rule("CenterCropPad", "MaxUnpool")
def _moved_among_zeros(c: Call) -> Sequence[Term | None]:
    """As `_moved`, with the elements numbered from 1 on; 0 stands for none."""
    w, x, one = c.w, c.xs[0], c.w.constant(np.array(1))
    numbers = w("Cast", w("Range", one, x.size + one, one), to=F64.onnx)
    sources = w("Cast", c.again(numbers.reshaped(x.shape), *c.xs[1:])[0], to=I64.onnx)
    found = scattered(c.gs[0], sources, w("Expand", x.number(0), (x.size + one).reshaped([1])))
    return [w("Slice", found, [1], [np.iinfo(np.int64).max]).reshaped(x.shape)]


@rule("TensorScatter")
def _tensor_scatter(c: Call) -> Sequence[Term | None]:
    """As `_moved`, with the elements of both tensors numbered."""
    count = c.xs[0].size
    both = count + c.xs[1].size
    ranges = (c.w.constant(np.array(0)), count), (count, both)
    numbers = [c.w("Range", low, high, np.array(1)).reshaped(x.shape) for x, (low, high) in zip(c.xs[:2], ranges, strict=True)]
    sources = c.again(*numbers, *c.xs[2:])[0]
    added = scattered(c.gs[0], sources, c.w("Expand", c.xs[0].number(0), both.reshaped([1])))
    parts = (c.w("Slice", added, low.reshaped([1]), high.reshaped([1])) for low, high in ranges)
    return [part.reshaped(x.shape) for part, x in zip(parts, c.xs, strict=False)]


@composed("Unique")
def _unique(c: Call) -> Sequence[Term | None]:
    """The first of every element that is there several times."""
    axis = c.attribute("axis")
    first = c.w.add("Unique", [c.xs[0]], 2, axis=axis, sorted=c.attribute("sorted"))[1]
    return [c.w("Gather", c.xs[0].reshaped([-1]) if axis is None else c.xs[0], first, axis=axis or 0)]


@rule("Pad")
def _pad(c: Call) -> Sequence[Term | None]:
    """Pads taken away again; those of the other modes copy elements, and so do what `_moved` does."""
    if c.attribute("mode") != "constant":
        return _moved(c)
    given = c.attribute("paddings" if c.node.since_version < 2 else "pads")
    pads = -c.xs[1] if given is None else [-p for p in given]
    inner = c.w("Pad", c.gs[0], pads, None, c.x(3))
    value = c.x(2)
    outside = value and (total(c.gs[0]) - total(inner)).reshaped(value.shape)
    return inner, None, outside


def total(x: Term) -> Term:
    """The sum of all elements."""
    return x.writer("ReduceSum", x, keepdims=0)


@rule("CumSum")
def _cumsum(c: Call) -> Sequence[Term | None]:
    reverse = 1 - c.attribute("reverse")
    return [c.w("CumSum", c.gs[0], c.xs[1], exclusive=c.attribute("exclusive"), reverse=reverse)]


@rule("Trilu")
def _trilu(c: Call) -> Sequence[Term | None]:
    return [c.w("Trilu", c.gs[0], c.x(1), upper=c.attribute("upper"))]


def lines(x: Term, axis: Term, rank: int) -> Term:
    """The elements as ``[before, extent, after]`` of an axis, a row of one, counted among ``rank`` axes."""
    w, shape, first = x.writer, x.shape, np.array([0])
    place = w("Where", axis < 0, axis + rank, axis)
    after = place + 1
    parts = (w("Slice", shape, first, place), w("Slice", shape, place, after), w("Slice", shape, after, shape.size.reshaped([1])))
    return x.reshaped(w("Concat", *(w("ReduceProd", part, first) for part in parts), axis=0))


@rule("TopK")
def _topk(c: Call) -> Sequence[Term | None]:
    places = c.again(*c.xs)[1] if c.ys[1] is None else c.ys[1]
    return [c.w("ScatterElements", c.xs[0].filled(0), places, c.gs[0], axis=c.attribute("axis", -1), reduction="add")]


@rule("ScatterElements", "Scatter")
def _scatter_elements(c: Call) -> Sequence[Term | None]:
    axis, places = c.attribute("axis"), c.xs[1]
    return _scatter(
        c,
        lambda x: c.w("GatherElements", x, places, axis=axis),
        lambda x, updates, reduction: c.w("ScatterElements", x, places, updates, axis=axis, reduction=reduction),
    )


@rule("ScatterND")
def _scatter_nd(c: Call) -> Sequence[Term | None]:
    places = c.xs[1]
    return _scatter(
        c,
        lambda x: c.w("GatherND", x, places),
        lambda x, updates, reduction: c.w("ScatterND", x, places, updates, reduction=reduction),
    )


def _scatter(c: Call, gathered: Callable[[Term], Term], scattered_: Callable[[Term, Term, str], Term]) -> Sequence[Term | None]:
    """A rule from what reads, and what writes, the places in question."""
    g, x, y, updates, reduction = c.gs[0], c.xs[0], c.ys[0], c.xs[2], c.attribute("reduction", "none")
    if reduction == "none":
        return scattered_(g, updates.filled(0), reduction), None, gathered(g)
    if reduction == "add":
        return g, None, gathered(g)
    if reduction == "mul":
        numbers = c.w("Range", np.array(0), x.size, np.array(1)).reshaped(x.shape)
        return _multiplied(g, x, gathered(numbers), updates)
    # Elements that share the extreme share its adjoint in equal parts.
    kept, put = x.equals(y), updates.equals(gathered(y))
    share = g / scattered_(kept.cast_like(g), put.cast_like(g), "add")
    return share.at(kept), None, gathered(share).at(put)


def _multiplied(g: Term, x: Term, places: Term, updates: Term) -> Sequence[Term | None]:
    """The adjoints of elements and of the updates that they are multiplied by, which may be 0.

    The updates become the rows of a table of ones, in which no two of them share a place: an update's row is the number of updates to
    its place that come before it in the order of places.
    """
    w, one = x.writer, np.array(1)
    count = updates.size
    ordered, order = w.add("TopK", [places.reshaped([-1]), count.reshaped([1])], 2, largest=0)
    numbers = w("Range", np.array(0), count, one)
    first = w("ScatterElements", w("Expand", count, x.size.reshaped([1])), ordered, numbers, reduction="min")
    rows = numbers - w("Gather", first, ordered)
    height = w("ReduceMax", w("Concat", rows, np.array([-1]), axis=0), keepdims=1) + 1
    ones = w("Expand", updates.number(1), height * x.size)
    slots = rows * x.size + ordered
    table = w("ScatterElements", ones, slots, w("Gather", updates.reshaped([-1]), order)).reshaped(w("Concat", height, x.shape, axis=0))
    others = w("CumProd", table, np.array(0), exclusive=1) * w("CumProd", table, np.array(0), exclusive=1, reverse=1)
    found = w("Gather", (g * x * others).reshaped([-1]), slots)
    back = w("ScatterElements", found.filled(0), order, found).reshaped(updates.shape)
    return g * w("ReduceProd", table, [0], keepdims=0), None, back


@composed("OneHot")
def _one_hot(c: Call) -> Sequence[Term | None]:
    """One value where the index is, another elsewhere."""
    off, on = (c.w("Gather", c.xs[2], np.array(k)) for k in range(2))
    hot = c.w("OneHot", c.xs[0], c.xs[1], np.array([False, True]), axis=c.attribute("axis"))
    return [c.w("Where", hot, on, off)]
