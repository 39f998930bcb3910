"""Where elements lie: results in the order in which they are read, and constants so that vectors can lie across many short sums.

Distances between the rows of x and those of a constant c, as converters write them, are a reduction whose only reader is a transpose:

    y[t, i] = sum over k of (x[i, k] - c[t, k]) ** 2            z[i, t] = sqrt(y[t, i])

`in_reading_order` stores y the way z reads it, so that one kernel computes both. A sum over few k is no loop for vectors; `across` gives
the kernel c transposed, whose loop over t is one (`onnx_numba.codegen.columns`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_numba.codegen.columns import by_columns
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Sym
from onnx_numba.ir.expr import Expr, Flat, Load
from onnx_numba.ir.loop import Map, Object, Program, Reduce, Tensor, Weight
from onnx_numba.schedule.domain import normalise
from onnx_numba.schedule.expand import loads
from onnx_numba.schedule.steps import Group, Step
from onnx_numba.schedule.uses import live_values, uses

SHORT = 128
"""Terms up to which a sum is short: a few vectors, and what is left over."""
WIDE = 64
"""Results that lie side by side, at least, for vectors across them."""


def in_reading_order(program: Program) -> None:
    """Permute the axes of reductions that are only read through one permutation, in place."""
    values = live_values(program)
    readers: defaultdict[int, list[Tensor | Object]] = defaultdict(list)
    for value in values:
        for used in dict.fromkeys(map(id, uses(value))):
            readers[used].append(value)
    given = {id(value) for _, value in program.outputs}
    for value in values:
        reading = readers[id(value)]
        if isinstance(value, Tensor) and id(value) not in given and len(reading) == 1 and isinstance(reading[0], Tensor):
            _permute(value, reading[0])


def _permute(tensor: Tensor, reader: Tensor) -> None:
    definition, reading = tensor.definition, reader.definition
    if not isinstance(definition, Reduce) or definition.hint is not None or tensor.content is not None or not isinstance(reading, Map):
        return
    found = {load.index for load in loads(reading.expr) if load.tensor is tensor}
    if len(found) != 1 or not _along_rows(definition):
        return
    (index,) = found
    identity = tuple(map(d.dim, reading.vars))
    axes = [index.index(v) if v in index else -1 for v in identity]
    if sorted(axes) != list(range(tensor.rank)) or index == identity or reader.shape != tuple(tensor.shape[k] for k in axes):
        return
    kept = iter([definition.vars[k] for k in axes])
    order = tuple(next(kept) if v in definition.vars else v for v in definition.order)
    tensor.shape = reader.shape
    tensor.definition = replace(definition, vars=tuple(definition.vars[k] for k in axes), order=order)

    def leaf(node: Expr, again: Callable[[Expr], Expr]) -> Expr | None:
        return Load(tensor, identity) if isinstance(node, Load) and node.tensor is tensor else None

    reader.definition = Map(reading.vars, e.rewrite(reading.expr, leaf, {}))


def _along_rows(reduce: Reduce) -> bool:
    """Whether all that is reduced lies side by side, so that the order of results makes no difference to it."""
    reduced = set(reduce.rvars)
    return all(load.index and d.symbols(load.index[-1]) & reduced for load in loads(reduce.expr))


def across(steps: Sequence[Step], weights: list[np.ndarray[Any, Any]]) -> list[Step]:
    """The steps with transposed weights where these let vectors lie across short reductions."""
    made: dict[Tensor, Tensor] = {}
    return [_across(step, weights, made) if isinstance(step, Group) else step for step in steps]


def _across(group: Group, weights: list[np.ndarray[Any, Any]], made: dict[Tensor, Tensor]) -> Group:
    rows, columns = ([v for v in variables if v.extent != 1] for variables in (group.rvars, group.pvars))
    if len(rows) != 1 or not columns or any(m.hint is not None for m in group.members):
        return group
    (row,), column = rows, columns[-1]
    if not isinstance(row.extent, int) or not isinstance(column.extent, int) or row.extent > SHORT or column.extent < WIDE:
        return group
    place = d.dim(column) * row.extent + d.dim(row)
    found = {x.tensor for m in group.members for x in loads(m.expr) if x.index == (place,)}
    turned = {t for t in found if isinstance(t.definition, Weight) and weights[t.definition.index].size == row.extent * column.extent}
    if not turned:
        return group
    names = {t: made.get(t) or Tensor(f"{t.name}.across", t.dtype, (row.extent, column.extent), t.definition) for t in turned}
    changed = replace(group, members=[replace(m, expr=_turned(m.expr, place, names, column, row)) for m in group.members])
    if not by_columns(normalise(changed)):
        return group
    for tensor, other in names.items():
        if tensor not in made:
            assert isinstance(tensor.definition, Weight)
            weights.append(np.ascontiguousarray(weights[tensor.definition.index].reshape(column.extent, row.extent).T))
            other.definition = Weight(len(weights) - 1)
            made[tensor] = other
    return changed


def _turned(value: Expr, place: object, names: dict[Tensor, Tensor], column: Sym, row: Sym) -> Expr:
    """The expression with loads from transposed weights."""
    assert column.extent is not None
    there = d.dim(row) * column.extent + d.dim(column)

    def leaf(node: Expr, again: Callable[[Expr], Expr]) -> Expr | None:
        if isinstance(node, Load) and node.tensor in names and node.index == (place,):
            return Flat(names[node.tensor], (there,))
        return None

    return e.rewrite(value, leaf, {})
