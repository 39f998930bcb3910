"""The loops of a group: split variables so that no index divides, merge those that every index walks as one.

Splitting: ``y[k]`` reading ``x[k // w, k % w]`` becomes two loops, since ``(h*w' + v) // w'`` is ``h``. Merging: two adjacent loops in
which each index is a multiple of ``i * extent(j) + j`` become one. An index by remainder in an inner loop was six times slower
than nested loops (7.3 ms against 1.16 ms for 10 M elements), and a merged loop vectorises over short inner extents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Opaque, Sym
from onnx_numba.schedule.steps import Group, Member
from onnx_numba.schedule.uses import expression_dims

SPLIT_LIMIT = 12


def normalise(group: Group) -> Group:
    """The same group with its loops split and merged."""
    group = _without_ones(group)
    for _ in range(SPLIT_LIMIT):
        found = _find_split(group)
        if found is None:
            break
        group = _without_ones(_split(group, *found))
    merging = True
    while merging:
        merging = False
        for variables in (group.pvars, group.rvars):
            for a, b in pairwise(variables):
                if mergeable(group, a, b):
                    group = merge(group, a, b)
                    merging = True
                    break
            if merging:
                break
    return group


def _without_ones(group: Group) -> Group:
    """The group without loops of one round, whose variables would hide in an index what is divided."""
    return rewrite(group, {v: 0 for v in group.order if v.extent == 1}, [v for v in group.order if v.extent != 1])


def _dims(group: Group) -> Iterable[Dim | int]:
    for member in group.members:
        yield member.position
        yield from expression_dims(member.expr)


def _find_split(group: Group) -> tuple[Sym, Dim | int] | None:
    # An arg-reduction gives the position along its one variable, which therefore stays whole.
    whole = set(group.rvars) if any(m.kind.startswith("arg") for m in group.members) else set()
    for atom in _divisions(_dims(group)):
        numerator, divisor = atom.args
        for symbol in d.symbols(numerator):
            if symbol not in group.order or symbol in whole or symbol.extent is None:
                continue
            shift, outer = numerator - d.dim(symbol), d.floordiv(symbol.extent, divisor)
            # A shift stays in the divisions, which are then of the inner loop alone.
            if outer != 1 and outer * divisor == symbol.extent and not (d.symbols(shift) | d.symbols(divisor)) & set(group.order):
                return symbol, divisor
    return None


def _divisions(values: Iterable[Dim | int]) -> Iterable[Opaque]:
    """Divisions in dims, those within others included, each once: deep dims share parts."""
    seen: set[Opaque] = set()
    stack = list(values)[::-1]
    while stack:
        for atom in sorted(d.atoms(stack.pop()), key=lambda a: a.key):
            if isinstance(atom, Opaque) and atom.op != "value" and atom not in seen:
                seen.add(atom)
                if atom.op in ("div", "mod"):
                    yield atom
                stack += atom.args


def _split(group: Group, symbol: Sym, inner: Dim | int) -> Group:
    assert symbol.extent is not None
    a, b = Sym(symbol.name + "a", extent=d.floordiv(symbol.extent, inner)), Sym(symbol.name + "b", extent=inner)
    order = [w for v in group.order for w in ((a, b) if v is symbol else (v,))]
    split = rewrite(group, {symbol: d.dim(a) * inner + d.dim(b)}, order)
    if symbol in group.pvars:
        split.pvars = tuple(w for v in group.pvars for w in ((a, b) if v is symbol else (v,)))
    else:
        split.rvars = tuple(w for v in group.rvars for w in ((a, b) if v is symbol else (v,)))
    return split


def rewrite(group: Group, table: dict[Sym, Dim | int], order: Sequence[Sym]) -> Group:
    """The group with variables replaced, and ``order`` those that are left."""
    memo: dict[e.Expr, e.Expr] = {}
    members: list[Member] = [
        replace(m, expr=e.substitute(m.expr, table, memo), position=d.substitute(m.position, table)) for m in group.members
    ]
    pvars, rvars = (tuple(v for v in variables if v in order) for variables in (group.pvars, group.rvars))
    return replace(group, members=members, order=tuple(order), pvars=pvars, rvars=rvars)


def coefficient(value: Dim | int, symbol: Sym) -> Dim | int | None:
    """What a symbol is multiplied by in a dim that is linear in it; None where it is not."""
    if isinstance(value, int):
        return 0
    terms: dict[d.Monomial, int] = {}
    for monomial, factor in value.terms.items():
        if any(isinstance(a, Opaque) and a.op != "value" and symbol in d.symbols(d.dim(a)) for a in monomial):
            return None
        times = sum(a is symbol for a in monomial)
        if times > 1:
            return None
        if times:
            terms[tuple(a for a in monomial if a is not symbol)] = factor
    return d._make(terms)


def mergeable(group: Group, a: Sym, b: Sym) -> bool:
    """Whether every index walks two adjacent loops as if they were one."""
    if any(m.kind.startswith("arg") for m in group.members) and a in group.rvars:
        return False
    if any(v.extent is not None and d.symbols(v.extent) & {a, b} for v in group.order):
        return False  # another loop's length depends on them
    for value in _dims(group):
        outer, inner = coefficient(value, a), coefficient(value, b)
        if outer is None or inner is None or b.extent is None or outer != inner * b.extent:
            return False
    return True


def merge(group: Group, a: Sym, b: Sym) -> Group:
    """The group with two loops made one, which takes the place of the first."""
    assert a.extent is not None and b.extent is not None
    whole = Sym(a.name, extent=a.extent * b.extent)
    order = tuple(whole if v is a else v for v in group.order if v is not b)
    table: dict[Sym, Dim | int] = {a: 0, b: d.dim(whole)}
    merged = rewrite(group, table, order)
    merged.pvars = tuple(whole if v is a else v for v in group.pvars if v is not b)
    merged.rvars = tuple(whole if v is a else v for v in group.rvars if v is not b)
    return merged
