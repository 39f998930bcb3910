"""Positions of extremes in two sweeps, each of which vectorises: what the extreme is, then the first (or last) place that has it.

One sweep that remembers both goes element by element; it is left to values that cost more to compute again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Sym
from onnx_numba.ir.expr import Expr, Flat
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import BOOL, I32, I64, DType
from onnx_numba.schedule.expand import cost
from onnx_numba.schedule.steps import Group, Member

CHEAP = 8
"""Simple operations up to which a value is computed twice."""


def position_type(value: DType, variables: Sequence[Sym]) -> DType:
    """What positions of values are counted in: in 32 bits, where the extent is known to fit, unless values are wider.

    A choice of positions by a comparison of values takes least where both are as wide. With AVX2 that of int64 is half as fast for float32.

    Examples
    --------
    >>> position_type(F32, [Sym("r0", extent=1000)]).name, position_type(F32, [Sym("r0", extent=Sym("n"))]).name
    ('i32', 'i64')
    """
    fits = all(isinstance(v.extent, int) and v.extent < 1 << 31 for v in variables)
    return I32 if fits and value.size < I64.size else I64


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
    value, kind = member.expr, position_type(member.expr.dtype, [variable])
    least, greatest = kind.limits
    none = greatest if first else -1
    extreme = _unstored(member, "max" if member.kind.startswith("argmax") else "min", value)
    top = Flat(extreme.tensor, (member.position,))
    there = e.eq(value, top)
    if value.dtype.is_float:
        there = e.where(e.eq(top, top), there, e.ne(value, value))
    place = _unstored(member, "min" if first else "max", e.where(there, e.dimval(d.dim(variable), kind), e.lit(none, kind)))
    found = Flat(place.tensor, (member.position,))
    position = e.cast(e.where(e.eq(found, none if first else least), e.lit(0, kind), found), member.tensor.dtype)
    return [extreme, place, replace(member, kind="map", expr=position, inner=False, rvars=())]


def _unstored(member: Member, kind: str, value: Expr) -> Member:
    tensor = Tensor(f"{member.tensor.name}.{kind}", value.dtype, member.tensor.shape, member.tensor.definition)
    return replace(member, tensor=tensor, target=tensor, kind=kind, expr=value, stored=False)
