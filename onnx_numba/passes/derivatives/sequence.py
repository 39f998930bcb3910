"""Derivatives of operators on sequences and optionals: their adjoints are alike, with the adjoints of what is in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_numba.ir.types import I64, OptionalType
from onnx_numba.passes.derivatives.table import Call, rule
from onnx_numba.passes.derivatives.terms import Term


@rule("SequenceConstruct")
def _construct(c: Call) -> Sequence[Term | None]:
    return [c.w("SequenceAt", c.gs[0], np.array(k)) for k in range(len(c.xs))]


def _from_front(c: Call, position: Term, count: Term) -> Term:
    """A position in a sequence of a length, counted from its front."""
    position = c.w("Cast", position, to=I64.onnx)
    return c.w("Where", position < 0, position + count, position)


@rule("SequenceAt")
def _at(c: Call) -> Sequence[Term | None]:
    place = _from_front(c, c.xs[1], c.w("SequenceLength", c.xs[0]))
    return [c.w("SequenceInsert", c.w("SequenceErase", c.xs[0].filled(0), place), c.gs[0], place)]


@rule("SequenceInsert")
def _insert(c: Call) -> Sequence[Term | None]:
    count = c.w("SequenceLength", c.xs[0])
    place = count if c.x(2) is None else _from_front(c, c.xs[2], count)
    return c.w("SequenceErase", c.gs[0], place), c.w("SequenceAt", c.gs[0], place)


@rule("SumInside")
def _sum(c: Call) -> Sequence[Term | None]:
    return c.gs[0], c.gs[0]


@rule("Optional")
def _optional(c: Call) -> Sequence[Term | None]:
    return [c.gs[0] if isinstance(c.w.known.type_of(c.xs[0].name), OptionalType) else c.w("OptionalGetElement", c.gs[0])]


@rule("OptionalGetElement")
def _element(c: Call) -> Sequence[Term | None]:
    return [c.w("Optional", c.gs[0]) if isinstance(c.w.known.type_of(c.xs[0].name), OptionalType) else c.gs[0]]


@rule("Remember")
def _remember(c: Call) -> Sequence[Term | None]:
    return c.w("SequenceErase", c.gs[0]), c.w("SequenceAt", c.gs[0], c.w("SequenceLength", c.xs[0]))


@rule("SequenceErase")
def _erase(c: Call) -> Sequence[Term | None]:
    count = c.w("SequenceLength", c.xs[0])
    place = count - 1 if c.x(1) is None else _from_front(c, c.xs[1], count)
    return [c.w("SequenceInsert", c.gs[0], c.w("SequenceAt", c.xs[0], place).filled(0), place)]


@rule("SplitToSequence")
def _split(c: Call) -> Sequence[Term | None]:
    # What has been split off one by one may have lost its axis.
    lost = c.x(1) is None and not c.attribute("keepdims")
    return [c.w("ConcatFromSequence", c.gs[0], axis=c.attribute("axis"), new_axis=int(lost))]


@rule("ConcatFromSequence")
def _concat(c: Call) -> Sequence[Term | None]:
    axis = c.attribute("axis")
    if c.attribute("new_axis"):
        return [c.w("SplitToSequence", c.gs[0], axis=axis, keepdims=0)]
    extents = c.w.each(lambda x: x.writer("Gather", x.shape, np.array([axis])), c.xs[0])
    return [c.w("SplitToSequence", c.gs[0], c.w("ConcatFromSequence", extents, axis=0), axis=axis)]
