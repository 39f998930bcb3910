"""What a value is made of: the tensors that its definition reads, and those that its dims are read from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import (
    Concat,
    DimSource,
    ElementSource,
    Map,
    Object,
    Program,
    Reduce,
    Reshape,
    Result,
    TemplateCall,
    Tensor,
    call_dims,
)
from onnx_numba.schedule.expand import loads, root
from onnx_numba.schedule.steps import CallStep, Step


def dim_tensors(values: Iterable[Dim | int]) -> set[Tensor]:
    """Stored tensors whose elements or run-time shape these dims are read from."""
    found: set[Tensor] = set()
    seen: set[Sym] = set()
    stack = [symbol for value in values for symbol in d.symbols(value)]
    while stack:
        symbol = stack.pop()
        if symbol in seen:
            continue
        seen.add(symbol)
        if isinstance(symbol.source, ElementSource):
            found.add(root(symbol.source.tensor))
        elif isinstance(symbol.source, tuple) and isinstance(symbol.source[0], Tensor):
            found.add(symbol.source[0])
        elif isinstance(symbol.source, DimSource):
            stack += d.symbols(symbol.source.value)
        elif symbol.extent is not None:
            stack += d.symbols(symbol.extent)
    return found


def expression_dims(value: Expr) -> list[Dim | int]:
    """All dims that an expression mentions."""
    found: list[Dim | int] = []
    for node in e.walk(value):
        if isinstance(node, e.DimVal):
            found.append(node.value)
        elif isinstance(node, e.Load):
            found.extend(node.index)
    return found


def live_values(program: Program) -> list[Tensor | Object]:
    """Values that the outputs depend on, in program order."""
    live: set[int] = set()
    stack: list[Tensor | Object] = [v for _, v in program.outputs]
    # A template writes all its outputs, so that none is left out where one is used.
    together: defaultdict[int, list[Tensor | Object]] = defaultdict(list)
    for value in program.values:
        if isinstance(value.definition, Result) and isinstance(value.definition.call, TemplateCall):
            together[id(value.definition.call)].append(value)
    while stack:
        value = stack.pop()
        if id(value) in live:
            continue
        live.add(id(value))
        stack.extend(uses(value))
        if isinstance(value.definition, Result):
            stack.extend(together[id(value.definition.call)])
    return [v for v in program.values if id(v) in live]


def uses(value: Tensor | Object) -> list[Tensor | Object]:
    """What a value is made of."""
    definition = value.definition
    used: list[Tensor | Object] = []
    if isinstance(value, Tensor):
        used += dim_tensors([*value.shape, *(x for c in value.checks for x in (c.a, c.b))])
    if isinstance(definition, (Map, Reduce)):
        used += [x.tensor for x in loads(definition.expr)]
        used += dim_tensors(expression_dims(definition.expr))
        if isinstance(definition, Reduce):
            used += dim_tensors(v.extent for v in definition.rvars if v.extent is not None)
            used += definition.hint.operands if definition.hint else ()
    elif isinstance(definition, Reshape):
        used.append(definition.source)
    elif isinstance(definition, Concat):
        used += definition.parts
        used += dim_tensors(definition.offsets)
    elif isinstance(definition, Result):
        used += [x for x in definition.call.inputs if x is not None]
        used += dim_tensors(call_dims(definition.call))
    return used


def updated(result: Result) -> Tensor | None:
    """The input whose block a call's output takes over."""
    call = result.call
    return call.inputs[call.inplace] if isinstance(call, TemplateCall) and call.inplace is not None and result.index == 0 else None


def definition_dims(definition: object) -> list[Dim | int]:
    """All dims that a definition mentions, those of its tensors left out."""
    if isinstance(definition, (Map, Reduce)):
        found = expression_dims(definition.expr)
        if isinstance(definition, Reduce):
            found += [v.extent for v in definition.rvars if v.extent is not None]
        return found
    if isinstance(definition, Concat):
        return list(definition.offsets)
    return call_dims(definition.call) if isinstance(definition, Result) else []


def reads(step: Step) -> list[Tensor]:
    """Tensors in memory that a step reads and does not make itself, each as often as it does so, be it to multiply it or in a map."""
    if isinstance(step, CallStep):
        return [root(t) for t in step.call.inputs if isinstance(t, Tensor)]
    members = [*step.members, *(step.prologue.members if step.prologue is not None else ())]
    found = [] if step.pool is None else reads(step.pool)
    for m in members:
        found += m.hint.operands if m.hint is not None and m.hint.tuned else (load.tensor for load in loads(m.expr))
    made = {m.target for m in members}
    return [root(t) for t in found if root(t) not in made]
