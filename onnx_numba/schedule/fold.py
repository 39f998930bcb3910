"""Staging: what depends on weights alone is computed once, at prepare, by the same kernels that would compute it in every run.

Packed filters, transposed weights, `1 / sqrt(variance + epsilon)`, tables of sines become weights. The constant part of a program is a
program itself: its outputs are the constant tensors that the rest reads. A constant much larger than the weights it is made of stays an
expression where the rest reads it, though what is made of it may be kept; so does one made of numbers alone that is cheaper to compute
than to load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.loop import (
    Check,
    Concat,
    KernelCall,
    Map,
    Object,
    Program,
    Reduce,
    Reshape,
    Result,
    TemplateCall,
    Tensor,
    Weight,
    call_dims,
)
from onnx_numba.schedule.expand import cost, loads, root
from onnx_numba.schedule.uses import expression_dims, live_values, updated, uses

Array = np.ndarray[Any, Any]
Evaluate = Callable[[Program, int], Sequence[Array]]
"""Runs a program without inputs; the second argument estimates its steps."""

GROWTH = 4
"""A constant may be this many times as large as what it is made of ..."""
SMALL = 1 << 16
"""... or have this many bytes."""
CHEAP = 8
"""An element made of numbers is computed again wherever it is read when that takes fewer simple operations ..."""
LARGE = 1 << 27
"""... or when there are more bytes of them."""


def fold(program: Program, evaluate: Evaluate) -> None:
    """Turn constant tensors that the rest of the program reads into weights, in place."""
    values = live_values(program)
    constants = _constants(values)
    for tensor in constants:
        tensor.checks = ()
    frontier = _frontier(program, values, constants)
    if not frontier:
        return
    stage = Program(outputs=[(t.name, t) for t in frontier], values=program.values, weights=program.weights)
    work = sum(_work(t) for t in constants)
    for tensor, array in zip(frontier, evaluate(stage, work), strict=True):
        program.weights.append(array)
        tensor.definition = Weight(len(program.weights) - 1)
        tensor.checks = ()
        if array.size == 1 and tensor.dtype.kind == "f":
            tensor.content = (e.lit(float(array.reshape(-1)[0]), tensor.dtype),)


def _constants(values: Sequence[Tensor | Object]) -> dict[Tensor, int]:
    """Constant tensors, each with the bytes of the weights it is made of (0 for those made of nothing but numbers).

    What a node demands is demanded by all that it makes, also by what it makes of weights alone; that may be a constant where something
    else is left to demand it.
    """
    known = _made_of_weights(values, None)
    if any(t.checks for t in known):
        left = {c for v in values if isinstance(v, Tensor) and v not in known and v.content is None for c in v.checks}
        known = _made_of_weights(values, left)
    return known


def _made_of_weights(values: Sequence[Tensor | Object], demanded: set[Check] | None) -> dict[Tensor, int]:
    """`_constants`, of which each demands nothing that is not ``demanded`` elsewhere."""
    known: dict[Tensor, int] = {}
    for value in values:
        if not isinstance(value, Tensor) or not all(isinstance(x, int) for x in value.shape):
            continue
        if demanded is not None and not demanded.issuperset(value.checks):
            continue
        used = _sources(value)
        if used is None or any(t not in known for t in used):
            continue
        size = _bytes(value)
        known[value] = size if isinstance(value.definition, Weight) else sum(known[t] for t in dict.fromkeys(used))
    for value in values:  # what a call of the run overwrites must not be a weight, which serves every run
        if isinstance(value.definition, Result) and value not in known and (copy := updated(value.definition)) is not None:
            known.pop(copy, None)
    return known


def _sources(tensor: Tensor) -> Sequence[Tensor] | None:
    """The tensors that one is made of; None if it depends on anything else."""
    definition = tensor.definition
    if isinstance(definition, Weight):
        return ()
    if isinstance(definition, Reshape):
        return (definition.source,)
    if isinstance(definition, Concat):
        return definition.parts
    if isinstance(definition, (Map, Reduce)):
        own = {*definition.vars, *(definition.rvars if isinstance(definition, Reduce) else ())}
        dims = [*expression_dims(definition.expr), *(v.extent for v in own if v.extent is not None)]
        if any(d.symbols(x) - own for x in dims):
            return None
        operands = definition.hint.operands if isinstance(definition, Reduce) and definition.hint else ()
        return (*(x.tensor for x in loads(definition.expr)), *operands)
    if isinstance(definition, Result) and isinstance(definition.call, (TemplateCall, KernelCall)):
        call = definition.call
        if call.inputs and all(isinstance(x, int) for x in call_dims(call)):
            return call.inputs
    return None


def _frontier(program: Program, values: Sequence[Tensor | Object], constants: dict[Tensor, int]) -> list[Tensor]:
    """Constants worth keeping that are read from outside the constant part."""
    wanted: dict[Tensor, None] = {}
    costly = _costly(constants)
    grown: set[Tensor] = set()

    def want(tensor: object) -> None:
        if not isinstance(tensor, Tensor) or tensor not in constants:
            return
        base = root(tensor)
        given = constants[base]
        if isinstance(base.definition, Weight) or base.content is not None or base in grown:
            return
        if given and _bytes(base) > max(SMALL, GROWTH * given):
            grown.add(base)
            for used in uses(base):
                want(used)
        elif given or (base in costly and _bytes(base) <= LARGE):
            wanted[base] = None

    for value in values:
        if value not in constants:
            for used in uses(value):
                want(used)
    for _, value in program.outputs:
        want(value)
    return list(wanted)


def _costly(constants: Mapping[Tensor, int]) -> set[Tensor]:
    """Constants whose elements take a template, a reduction or some work to compute, their own or that of what they are made of."""
    found: set[Tensor] = set()
    for tensor in constants:
        definition = tensor.definition
        own = cost(definition.expr) >= CHEAP if isinstance(definition, Map) else isinstance(definition, (Reduce, Result))
        if own or not found.isdisjoint(_sources(tensor) or ()):
            found.add(tensor)
    return found


def _bytes(tensor: Tensor) -> int:
    size = tensor.size
    assert isinstance(size, int)
    return size * tensor.dtype.size


def _work(tensor: Tensor) -> int:
    definition = tensor.definition
    variables = (*definition.vars, *definition.rvars) if isinstance(definition, Reduce) else ()
    domain = d.product(v.extent for v in variables if v.extent is not None) if variables else tensor.size
    return domain if isinstance(domain, int) else 0
