"""Positions of extremes in two sweeps, each of which vectorises: what the extreme is, then the first (or last) place that has it.

One sweep that remembers both goes element by element; it is left to values that cost more to compute again.
"""

from __future__ import annotations

from dataclasses import replace

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Sym
from onnx_numba.ir.expr import Expr, Flat
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import BOOL, I64
from onnx_numba.schedule.expand import cost
from onnx_numba.schedule.steps import Group, Member

CHEAP = 8
"""Simple operations up to which a value is computed twice."""


def in_two_sweeps(group: Group) -> Group:
    """The group with its cheap arg-reductions replaced by folds."""
    if not any(m.kind.startswith("arg") for m in group.members) or len(group.rvars) != 1:
        return group
    members: list[Member] = []
    for m in group.members:
        positional = m.kind.startswith("arg") and m.expr.dtype is not BOOL and cost(m.expr) <= CHEAP
        members += _folds(m, group.rvars[0]) if positional else [m]
    return replace(group, members=members)


def _folds(member: Member, variable: Sym) -> list[Member]:
    """The extreme, the first place where it is, and 0 in place of that where nothing was reduced."""
    first = not member.kind.endswith("last")
    value, none = member.expr, (1 << 63) - 1 if first else -1
    extreme = _unstored(member, "max" if member.kind.startswith("argmax") else "min", value)
    top = Flat(extreme.tensor, (member.position,))
    there = e.eq(value, top)
    if value.dtype.is_float:
        there = e.where(e.eq(top, top), there, e.ne(value, value))
    place = _unstored(member, "min" if first else "max", e.where(there, e.dimval(d.dim(variable)), e.lit(none, I64)))
    found = Flat(place.tensor, (member.position,))
    position = e.cast(e.where(e.eq(found, none if first else -(1 << 63)), e.lit(0, I64), found), member.tensor.dtype)
    return [extreme, place, replace(member, kind="map", expr=position, inner=False, rvars=())]


def _unstored(member: Member, kind: str, value: Expr) -> Member:
    tensor = Tensor(f"{member.tensor.name}.{kind}", value.dtype, member.tensor.shape, member.tensor.definition)
    return replace(member, tensor=tensor, target=tensor, kind=kind, expr=value, stored=False)
