"""Derivatives of nodes with graphs inside them: If, whose branches give the adjoints of what they read, SequenceMap, and the loops."""

from __future__ import annotations

import numpy as np

from onnx_numba.ir.graph import Node
from onnx_numba.ir.types import BOOL, I64, SequenceType, TensorType, ValueType
from onnx_numba.passes.dce import remove_dead_code
from onnx_numba.passes.derivatives.bodies import Adjoints, Differentiate, again, by_name, opened, shaped
from onnx_numba.passes.derivatives.loops import anew, loop, scan
from onnx_numba.passes.derivatives.table import Call
from onnx_numba.passes.derivatives.terms import Body, Term


def _branches(differentiate: Differentiate, call: Call, active: set[str]) -> Adjoints:
    """An If whose branches give the adjoints of all that any of them reads."""
    parts = []
    wanted: dict[str, None] = {}
    for key, body in call.node.bodies.items():
        inner, copy = opened(call, body, ())
        read = [name for name in copy.captures if name in active]
        results = [value.name for value in copy.outputs]
        seeds = by_name((name, g and shaped(inner.here(g), Term(inner, name))) for name, g in zip(results, call.gs, strict=True))
        found = differentiate(inner).adjoints(copy.nodes, seeds, read, read)
        wanted.update((name, None) for name in read if name in found)
        parts.append((key, inner, found))
    if not wanted:
        return []
    graphs = {
        key: inner.graph((), [found[name] if name in found else Term(inner, name).filled(0) for name in wanted])
        for key, inner, found in parts
    }
    return list(zip(wanted, call.w.add("If", [call.xs[0]], len(wanted), bodies=graphs), strict=True))


def _mapped(differentiate: Differentiate, call: Call, active: set[str]) -> Adjoints:
    """A SequenceMap whose body gives the adjoints of the elements, and of what it reads besides, to be summed. Of ``y = Mul(x, w)``::

        dx, dws = SequenceMap(xs, w, dys) <body = (x, w, dy) => (dx, dw) { dx = Mul(dy, w) dw = Mul(dy, x) }>
        none = Expand(0, w_shape) all = SequenceInsert(dws, none) stack = ConcatFromSequence(all) <new_axis=1> dw = ReduceSum(stack, [0])
    """
    w, node = call.w, call.node
    given = [_element(call, x) for x in call.xs]
    inner, copy = opened(call, node.bodies["body"], [kind for kind, _ in given])
    formal = [value.name for value in copy.inputs]
    wanted = [name for name, outer in zip(formal, node.inputs, strict=True) if outer in active]
    read = [name for name in copy.captures if name in active]
    if not all(isinstance(w.known.type_of(x), TensorType) for x in read):
        return anew(differentiate, call, active, _map_as_loop(call))
    ended = [(value.name, inner.input(_element(call, g)[0]), g) for value, g in zip(copy.outputs, call.gs, strict=True) if g]
    seeds = by_name((name, element) for name, element, _ in ended)
    found = differentiate(inner).adjoints(copy.nodes, seeds, [*wanted, *read], [*formal, *read])
    names = [name for name in (*wanted, *read) if name in found]
    if not names:
        return []
    body = inner.graph([*(Term(inner, name) for name in formal), *(element for _, element, _ in ended)], [found[name] for name in names])
    inputs = [*call.xs, *(g for *_, g in ended)]
    made = w.add("SequenceMap", inputs, len(names), bodies={"body": remove_dead_code(body)})
    outer = {name: (x, each) for name, x, (_, each) in zip(formal, call.xs, given, strict=True)}
    adjoints = []
    for name, adjoint in zip(names, made, strict=True):
        x, each = outer.get(name) or (Term(w, name), False)
        adjoints.append((x.name, adjoint if each else _total(call, adjoint, x)))
    return adjoints


def _map_as_loop(call: Call) -> tuple[list[Node], list[Term]]:
    """A SequenceMap as a Loop whose state are the sequences made so far."""
    w, copy = call.w, again(call, call.node.bodies["body"])
    made = [(value, _element(call, y)[0]) for value, y in zip(copy.outputs, call.ys, strict=False) if y]
    with w.recorded() as nodes:
        empty = [w("SequenceEmpty", dtype=kind.dtype.onnx if isinstance(kind, TensorType) else None) for _, kind in made]
        step = Body(w, copy.initializers)
        number, going = step.input(TensorType(I64, ())), step.input(TensorType(BOOL, ()))
        before = [step.input(None) for _ in made]
        for value, x in zip(copy.inputs, call.xs, strict=True):
            step.give(step("SequenceAt", x, number) if _element(call, x)[1] else x, value.name)
        for node in copy.nodes:
            step.emit(node)
        after = [step("SequenceInsert", state, Term(step, value.name)) for state, (value, _) in zip(before, made, strict=True)]
        body = step.graph([number, going, *before], [going, *after])
        results = w.add("Loop", [w("SequenceLength", call.xs[0]), None, *empty], len(made), bodies={"body": body})
    names = iter(results)
    return nodes, [next(names) if y else y for y in call.ys]


def _element(call: Call, x: Term) -> tuple[ValueType, bool]:
    """The type of what an iteration of SequenceMap is given of a value, and whether that is an element of it."""
    kind = call.w.known.type_of(x.name)
    if kind is None:
        raise call.unsupported("the types of its sequences must be known; declare the types of the inputs")
    return (kind.element, True) if isinstance(kind, SequenceType) else (kind, False)


def _total(call: Call, adjoints: Term, x: Term) -> Term:
    """The sum of a sequence of adjoints of a tensor; 0 of an empty one."""
    w = call.w
    every = w("ConcatFromSequence", w("SequenceInsert", adjoints, x.filled(0)), axis=0, new_axis=1)
    return w("ReduceSum", every, np.array([0]), keepdims=0)


RULES = {"If": _branches, "Loop": loop, "Scan": scan, "SequenceMap": _mapped}
