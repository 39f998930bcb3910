"""Rows whose elements are computed one way in the middle and another at both ends, as those of a padded image: a loop for each piece.

A row of zeros, then of ``x``, then of zeros again is

    q0 = min(1, s0) if v1 else s0
    q1 = max(min(s1, s0), q0)
    for i1 in range(0, q0):
        x1[b0 + i1] = f32(0.0)
    for i1 in range(q0, q1):
        x1[b0 + i1] = x0[b1 + i1]
    for i1 in range(q1, s0):
        x1[b0 + i1] = f32(0.0)

where ``v1`` says whether the row is one of the image at all. Where the middle needs what is the same along the row, as an index that was
looked up, ``if q0 < q1`` keeps that from being read for rows without a middle. One loop that asks at every element is not vectorised,
and takes more than twice the time for images of 44 x 44.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx_numba.codegen import keep
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.types import BOOL, I64
from onnx_numba.record import record
from onnx_numba.schedule.domain import coefficient


@record
class Stretch:
    """Where along a variable a condition holds: from the largest of ``lows`` up to the smallest of ``highs``, if ``elsewhere`` holds.

    Attributes
    ----------
    condition : Expr
        What holds there, and only there.
    lows, highs : tuple of Dim or int
        They do not depend on the variable. One of them may be empty.
    elsewhere : Expr
        The part of the condition that does not depend on the variable.
    """

    condition: Expr
    lows: tuple[Dim | int, ...]
    highs: tuple[Dim | int, ...]
    elsewhere: Expr


def stretch(values: Iterable[Expr], variable: Sym) -> Stretch | None:
    """The first condition among those that values are chosen by which holds on one stretch of a variable."""
    for node in keep.parts(values):
        if isinstance(node, e.Op) and node.name in ("guard", "select"):
            found = _holds(node.args[0], variable)
            if found:
                return found
    return None


def _holds(condition: Expr, variable: Sym) -> Stretch | None:
    lows: list[Dim | int] = []
    highs: list[Dim | int] = []
    others = []
    for part in _conjuncts(condition):
        if not keep.depends(part, {variable}):
            others.append(part)
            continue
        difference = _difference(part)
        if difference is None or any(keep.depends(v, {variable}) for v in e.values_in(difference)):
            return None
        rest, factor = d.substitute(difference, {variable: 0}), coefficient(difference, variable)
        if factor == 1:
            highs.append(-rest)
        elif factor == -1:
            lows.append(rest + 1)
        else:
            return None
    elsewhere = e.all_of(*others)
    never = isinstance(elsewhere, e.Lit) and not elsewhere.value
    return Stretch(condition, tuple(lows), tuple(highs), elsewhere) if (lows or highs) and not never else None


def reads_before(values: Iterable[Expr], found: Stretch, variable: Sym) -> bool:
    """Whether the stretch needs elements that are read before its loop, where it may turn out to be empty, and they may not exist."""
    return any(
        isinstance(part, e.Load) or (isinstance(part, e.Op) and part.name == "check_index")
        for node in e.walk(*values)
        if isinstance(node, e.Op) and node.name == "guard" and node.args[0] == found.condition
        for part in e.walk(node.args[1])
        if not keep.depends(part, {variable})
    )


def _conjuncts(condition: Expr) -> list[Expr]:
    if isinstance(condition, e.Op) and condition.name == "and" and condition.dtype is BOOL:
        return [part for side in condition.args for part in _conjuncts(side)]
    return [condition]


def _difference(condition: Expr) -> Dim | int | None:
    """What is below zero where a comparison of dims holds."""
    if not isinstance(condition, e.Op) or condition.name not in ("lt", "le"):
        return None
    a, b = (_as_dim(side) for side in condition.args)
    return None if a is None or b is None else a - b - (condition.name == "le")


def _as_dim(value: Expr) -> Dim | int | None:
    """A number that is added to others without overflow, as extents and places are."""
    if value.dtype is not I64:
        return None
    return value.value if isinstance(value, e.DimVal) else int(value.value) if isinstance(value, e.Lit) else None
