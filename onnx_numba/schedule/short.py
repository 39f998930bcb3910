"""Reductions over a few elements, as maps of as many terms: these are fused with what reads them, and written as maps are.

The squares of complex numbers' magnitudes, which audio models take of pairs,

    y[t, f] = sum over r < 2 of x[t, f, r] ** 2         z[t, f] = log(y[t, f])

become

    z[t, f] = log(0 + x[t, f, 0] ** 2 + x[t, f, 1] ** 2)

One kernel computes that, in vectors that lie across f. Of a reduction, each result would be found from its number, by division, and be
stored.

A reduction whose result is read again for every element of its rows, as in a softmax, stays one: a kernel then keeps the row.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from functools import partial

from onnx_numba.codegen.folds import identity
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Map, Object, Program, Reduce, Reshape, Tensor
from onnx_numba.ir.types import DTYPES
from onnx_numba.schedule.expand import cost, loads
from onnx_numba.schedule.uses import live_values, uses

FEW = 4
"""Elements that are written out."""
MOST_COST = 32
"""Simple operations of all terms, at most."""
_FOLDS = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}


def write_out(program: Program) -> None:
    """Make maps of reductions over few elements, in place."""
    values = live_values(program)
    readers: defaultdict[int, list[Tensor | Object]] = defaultdict(list)
    for value in values:
        for used in dict.fromkeys(map(id, uses(value))):
            readers[used].append(value)
    for value in values:
        definition = value.definition
        if isinstance(value, Tensor) and isinstance(definition, Reduce) and _few(value, definition) and not _read_again(value, readers):
            value.definition = Map(definition.vars, _terms(value, definition))


def _few(tensor: Tensor, reduce: Reduce) -> bool:
    """Whether a reduction has few terms, each of elements that no other result is made of."""
    if reduce.hint is not None or reduce.kind not in _FOLDS or tensor.content is not None:
        return False
    count = d.product(v.extent for v in reduce.rvars if v.extent is not None)
    if not isinstance(count, int) or not 0 < count <= FEW or count * cost(reduce.expr) > MOST_COST:
        return False
    every = {v for v in reduce.order if v.extent != 1}
    return any(every <= {v for index in load.index for v in d.symbols(index)} for load in loads(reduce.expr))


def _read_again(tensor: Tensor, readers: dict[int, list[Tensor | Object]]) -> bool:
    """Whether what is made of a tensor, element by element, is read more than once for some element of it."""
    stack, seen = [tensor], {tensor}
    while stack:
        for reader in readers[id(stack.pop())]:
            definition = reader.definition
            if not isinstance(reader, Tensor) or reader in seen or not isinstance(definition, (Map, Reduce, Reshape)):
                continue
            seen.add(reader)
            loops = definition.order if isinstance(definition, Reduce) else ()
            domain = d.product(v.extent for v in loops if v.extent is not None) if loops else reader.size
            if not d.at_least_zero(tensor.size - domain):
                return True
            if not loops:
                stack.append(reader)
    return False


def _terms(tensor: Tensor, reduce: Reduce) -> Expr:
    """The fold of all terms in order, as a reduction has it: from zero for a sum, whose result is no negative zero."""
    compute = DTYPES[tensor.dtype.compute]
    ranges = [range(v.extent) for v in reduce.rvars if isinstance(v.extent, int)]
    terms: list[Expr] = [identity("sum", compute)] if reduce.kind == "sum" and compute.is_float else []
    for place in itertools.product(*ranges):
        table: dict[Sym, Dim | int] = dict(zip(reduce.rvars, place, strict=True))
        terms.append(e.cast(e.substitute(reduce.expr, table), compute))
    return e.cast(functools.reduce(partial(e.binary, _FOLDS[reduce.kind]), terms), tensor.dtype)
