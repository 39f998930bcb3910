"""What a sweep leaves behind for a later one: costly values wait in the memory of an output that the later sweep will write.

Softmax needs ``exp(x - top)`` twice, in the sum and in the result. The sweep that sums stores it where the result will be, and the
last sweep scales what it finds there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Sym
from onnx_numba.ir.expr import Expr, Flat
from onnx_numba.schedule.domain import coefficient
from onnx_numba.schedule.expand import cost
from onnx_numba.schedule.steps import Member

LEAST_COST = 8
"""Simple operations that cost more than a store and a load from the first- or second-level cache."""


def host_of(sweeps: Sequence[Sequence[Member]], innermost: Sym) -> Member | None:
    """The member of the last sweep in whose memory values can wait: one that the inner loop writes element by element."""
    for member in reversed(sweeps[-1] if len(sweeps) > 1 else ()):
        if member.kind == "map" and member.inner and fits(member) and coefficient(member.position, innermost) == 1:
            return member
    return None


def fits(member: Member) -> bool:
    """Whether the member's memory holds values as they are computed."""
    return member.stored and member.target.dtype.compute == member.target.dtype.name


def waiting(member: Member) -> Flat:
    """The load of what was stored at a member's place."""
    return Flat(member.target, (member.position,))


def worth_keeping(now: Iterable[Expr], later: Iterable[Expr], host: Member, varying: Callable[[Expr], bool], least: int) -> Expr | None:
    """The costliest value that is computed now and again later, of more than ``least`` operations and the host's type."""
    again = set(parts(later))
    found, best = None, max(least, LEAST_COST - 1)
    for node in parts(now):
        if isinstance(node, e.Op) and node in again and node.dtype.name == host.target.dtype.name and varying(node):
            size = cost(node)
            if size > best:
                found, best = node, size
    return found


def parts(values: Iterable[Expr]) -> list[Expr]:
    """All sub-expressions that are computed in any case: not those behind a guard's condition."""
    found: dict[Expr, None] = {}
    stack = list(values)
    while stack:
        node = stack.pop()
        if node not in found:
            found[node] = None
            stack.extend(in_any_case(node))
    return list(found)


def in_any_case(node: Expr) -> Sequence[Expr]:
    """What an expression is made of, but for what a guard's condition stands before."""
    return (node.args[0], node.args[2]) if isinstance(node, e.Op) and node.name == "guard" else e.children(node)


def replace(value: Expr, table: dict[Expr, Expr]) -> Expr:
    """The expression with the table's entries in place of equal parts, the largest first."""
    return e.rewrite(value, lambda node, again: table.get(node), {}) if table else value


def depends(node: Expr, symbols: set[Sym]) -> bool:
    """Whether an expression's elements differ along one of these loops."""
    seen: set[Expr] = set()
    stack = [node]
    while stack:
        part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        for index in [part.value] if isinstance(part, e.DimVal) else part.index if isinstance(part, e.Load) else ():
            if d.symbols(index) & symbols:
                return True
        stack.extend(e.children(part))
    return False
