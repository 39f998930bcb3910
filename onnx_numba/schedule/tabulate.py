"""Costly functions of one byte as tables of 256 entries, which `onnx_numba.schedule.fold` computes when a model is prepared.

In models quantised by QuantizeLinear and DequantizeLinear

    a = DequantizeLinear(x, s, z)    b = Sigmoid(a)    c = Mul(a, b)    y = QuantizeLinear(c, t, w)

y is a function of x alone, element by element, if scales and zero points are constants. It becomes

    table[k] = what y is for x = k        y[i] = table[x[i]]

of which the first is made by the same expression, so that no bit of the result differs.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Sym
from onnx_numba.ir.expr import Expr, Load
from onnx_numba.ir.loop import Check, Map, Object, Program, Reshape, Result, TemplateCall, Tensor, Weight
from onnx_numba.ir.types import I8, U8
from onnx_numba.native.translate import looks_up
from onnx_numba.schedule.expand import HEAVY, Expander, cost, linear, loads, root
from onnx_numba.schedule.fuse import INLINE_DEPTH
from onnx_numba.schedule.uses import live_values
from onnx_numba.target import Target
from onnx_numba.templates.lookup import translate_bytes

ENTRIES = 256
FEWEST = 4 * ENTRIES
"""Elements for which a table pays."""
COSTLY = 8
"""Simple operations of a function that takes longer than to look it up where that takes a vector at a time, and of one operation that takes
longer than to look it up byte by byte, or to store what it is a function of."""
STRETCH = 4096
"""Bytes of a work unit."""
GRAIN = 4
"""Work units of a chunk: some microseconds."""


def tabulate(program: Program, target: Target) -> None:
    """Look up every tensor of bytes that is a costly function of another, in place."""
    sources = _sources(live_values(program))
    made = [(value, source, _looked_up(value, source, target)) for value, source in sources.items() if source is not value]
    for value, source, found in made:
        if found is not None:
            table, checks = found
            program.values.insert(program.values.index(value), table)
            dims, units = (value.size,), d.ceildiv(value.size, STRETCH)
            call = TemplateCall(translate_bytes, (source, table), dims, units, GRAIN, {}, {"STRETCH": STRETCH})
            value.definition, value.checks = Result(call, 0), tuple(dict.fromkeys([*value.checks, *checks]))


def _sources(values: Sequence[Tensor | Object]) -> dict[Tensor, Tensor]:
    """The one tensor of bytes, not a constant, that each tensor is made of by maps; left out is what is made of others."""
    found: dict[Tensor, Tensor] = {}
    depths: dict[Tensor, int] = {}
    constants: set[Tensor] = set()
    for value in values:
        if not isinstance(value, Tensor):
            continue
        used = _used(value) - constants
        if not used and isinstance(value.definition, (Map, Reshape, Weight)):
            constants.add(value)
            continue
        roots = {found.get(t) for t in used}
        source = roots.pop() if len(roots) == 1 else None
        depths[value] = 1 + max((depths[t] for t in used), default=0)
        if source is not None and depths[value] < INLINE_DEPTH:
            found[value] = source
        elif value.dtype in (U8, I8):
            found[value], depths[value] = root(value), 0
    return found


def _used(value: Tensor) -> set[Tensor]:
    definition = value.definition
    if isinstance(definition, Reshape):
        return {definition.source}
    return {load.tensor for load in loads(definition.expr)} if isinstance(definition, Map) else set()


def _looked_up(value: Tensor, source: Tensor, target: Target) -> tuple[Tensor, tuple[Check, ...]] | None:
    """The table of a tensor's values by those of its source, and what must hold before; None if there is, or needs to be, none."""
    definition = value.definition
    few = isinstance(value.size, int) and value.size < FEWEST
    if not isinstance(definition, Map) or value.dtype not in (U8, I8) or few:
        return None
    expander = Expander(lambda t: t is source or not isinstance(t.definition, Map))
    expression = expander(definition.expr)
    place = linear([d.dim(v) for v in definition.vars], value.shape)
    entry = Sym("k", extent=ENTRIES)
    by_entry: dict[Expr, Expr] = {}
    for node in e.walk(expression):
        if isinstance(node, Load) and node.index == (place,) and node.tensor is source:
            by_entry[node] = e.cast(e.dimval(d.dim(entry)), source.dtype)
        elif not _constant(node):
            return None
    if not by_entry or not _pays(expression, source, target):
        return None
    by_entries = e.rewrite(expression, lambda node, _: by_entry.get(node), {})
    table = Tensor(f"{value.name}.table", value.dtype, (ENTRIES,), Map((entry,), by_entries), value.origin)
    return table, tuple(expander.checks)


def _constant(node: Expr) -> bool:
    """Whether a part of an expression is the same in every run and for all elements, or made of such."""
    if isinstance(node, Load):
        return isinstance(node.tensor.definition, Weight) and isinstance(node.index[0], int)
    return isinstance(node, e.Lit) or (isinstance(node, e.Op) and node.name not in ("guard", "check_index"))


def _pays(expression: Expr, source: Tensor, target: Target) -> bool:
    """Whether it takes less to look a value up than to compute it, and to store the source if nothing else demands that."""
    if looks_up(target) and not isinstance(source.definition, Map):
        return cost(expression) >= COSTLY
    return any(isinstance(node, e.Op) and HEAVY.get(node.name, 1) >= COSTLY for node in e.walk(expression))
