"""What nodes draw by chance, kept, so that derivatives see the draws of the run and no others.

A Dropout gives its mask, whether somebody asked for it or not. A node in whose bodies something is drawn becomes two: one that gives the
draws as further outputs, which takes the node's place, and one that is given them, which differentiation reads instead. Draws are kept as
rows of float64, which hold all that is drawn and are of one type in every branch. Of ``y = Scan(x, w)`` whose body draws
``u = RandomUniformLike(s)``::

    y, r = Scan(x, w) <num_scan_inputs=1, body = (s, i) => (z, kept) {
        u = RandomUniformLike(s) z = Mul(s, u) wide = Cast(u) kept = Reshape(wide, [-1]) }>
    y = Scan(x, w, r) <num_scan_inputs=2, body = (s, i, kept) => (z) {
        wide = Reshape(kept, Shape(s)) u = CastLike(wide, s) z = Mul(s, u) }>

A Loop and a SequenceMap give sequences of rows, whose lengths may differ. Where those of a Scan may differ, a Loop takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_numba.ir.graph import Graph, Node, Value
from onnx_numba.ir.types import BOOL, F64, I64, DType, SequenceType, TensorType
from onnx_numba.passes.derivatives import Call, Term, Writer
from onnx_numba.passes.derivatives.chance import RANDOM, dropped, may_train
from onnx_numba.passes.derivatives.loops import scan_as_loop
from onnx_numba.record import record

_ROW = TensorType(F64, (None,))


@record
class _Draw:
    """A row of what has been drawn: its name, and whether its length may differ from one time to the next."""

    name: str
    varies: bool


@record
class _Split:
    """Nodes that give what they draw, the same nodes given it, and what that is."""

    giving: list[Node]
    given: list[Node]
    draws: list[_Draw]


def with_draws(node: Node, w: Writer) -> list[tuple[Node, Node]]:
    """Nodes that give what a node draws, besides its own results, each with the node that is to be differentiated in its place.

    Parameters
    ----------
    node : Node
        May be any.
    w : Writer
        Makes names; its nodes are not taken from it.
    """
    if node.bodies:
        split = _of_bodies(node, w)
        return [(each, next((meant for meant in reversed(split.given) if _shares(meant, each)), each)) for each in split.giving]
    masked = _with_mask(node, w) if may_train(node, w.known.constant) else node
    return [(masked, masked)]


def _shares(given: Node, giving: Node) -> bool:
    """Whether two nodes have an output in common; the last one that has is given the draws, those before it put them together."""
    return any(name and name in giving.outputs for name in given.outputs)


def _with_mask(node: Node, w: Writer) -> Node:
    y, mask = (*node.outputs, "")[:2]
    return replace(node, outputs=(y or w.fresh(), mask or w.fresh()))


def _of_nodes(nodes: Sequence[Node], w: Writer) -> _Split:
    result = _Split([], [], [])
    for node in nodes:
        if node.bodies:
            split = _of_bodies(node, w)
        elif node.domain == "" and node.op in RANDOM:
            split = _of_random(node, w)
        elif may_train(node, w.known.constant):
            split = _of_dropout(_with_mask(node, w), w)
        else:
            split = _Split([node], [node], [])
        result.giving.extend(split.giving)
        result.given.extend(split.given)
        result.draws.extend(split.draws)
    return result


def _kept(w: Writer, name: str) -> tuple[list[Node], _Draw]:
    """The nodes that make a row of what has been drawn."""
    with w.recorded() as nodes:
        row = w("Cast", Term(w, name), to=F64.onnx).reshaped([-1])
    return nodes, _Draw(row.name, False)


def _of_random(node: Node, w: Writer) -> _Split:
    keeping, draw = _kept(w, node.outputs[0])
    call = _call(node, w)
    with w.recorded() as nodes:
        if not call.xs:
            shape = w.constant(np.array(call.attribute("shape"), np.int64))
        elif node.op == "Multinomial":
            shape = w("Concat", w("Shape", call.xs[0], end=1), np.array([call.attribute("sample_size")]), axis=0)
        else:
            shape = call.xs[0].shape
        row = Term(w, draw.name).reshaped(shape)
        kind = call.attribute("dtype")
        w.give(row.cast_like(call.xs[0]) if kind is None else w("Cast", row, to=kind), node.outputs[0])
    return _Split([node, *keeping], nodes, [draw])


def _of_dropout(node: Node, w: Writer) -> _Split:
    keeping, draw = _kept(w, node.outputs[1])
    call = _call(node, w)
    with w.recorded() as nodes:
        row = Term(w, draw.name).reshaped(call.xs[0].shape)
        mask = w("Cast", row, to=BOOL.onnx)
        w.give(dropped(call, mask), node.outputs[0])
        w.give(mask if node.since_version > 6 else row.cast_like(call.xs[0]), node.outputs[1])
    return _Split([node, *keeping], nodes, [draw])


def _call(node: Node, w: Writer) -> Call:
    xs, ys = ([Term(w, name) if name else None for name in names] for names in (node.inputs, node.outputs))
    return Call(w, node, xs, ys, [])


def _of_bodies(node: Node, w: Writer) -> _Split:
    """A node with graphs inside it; a Scan whose rows may differ in length, which no stack holds, is a Loop."""
    splits = {key: _of_nodes(body.nodes, w) for key, body in node.bodies.items()}
    inner = [(key, draw) for key, split in splits.items() for draw in split.draws]
    if not inner:
        return _Split([node], [node], [])
    if node.op == "Scan" and any(draw.varies for _, draw in inner):
        return _of_nodes(_without_stacks(node, w), w)
    outer = [w.fresh() for _ in inner]
    giving, given = {}, {}
    for key, body in node.bodies.items():
        rows, values = _rows(w, key, inner)
        giving[key] = replace(body, nodes=(*splits[key].giving, *rows), outputs=(*body.outputs, *values))
        own = [(draw.name, name) for (place, draw), name in zip(inner, outer, strict=True) if place == key]
        given[key] = _reading(node, replace(body, nodes=tuple(splits[key].given)), own, w)
    giver = replace(node, outputs=(*_named(node, w), *outer), bodies=giving, attributes=_attributes(node, "output", len(outer)))
    taker = replace(node, bodies=given)
    if node.op in ("Scan", "SequenceMap"):
        taker = replace(taker, inputs=(*node.inputs, *outer), attributes=_attributes(node, "input", len(outer)))
    if node.op == "If":
        return _Split([giver], [taker], [_Draw(name, True) for name in outer])
    return _of_stacks(giver, taker, outer, w) if node.op == "Scan" else _of_sequences(giver, taker, outer, w)


def _without_stacks(node: Node, w: Writer) -> list[Node]:
    """A Scan by a Loop."""
    nodes, results = scan_as_loop(_call(node, w), node.bodies["body"])
    with w.recorded() as named:
        for term, name in zip(results, node.outputs, strict=True):
            if name:
                w.give(term, name)
    return [*nodes, *named]


def _of_stacks(giver: Node, taker: Node, outer: Sequence[str], w: Writer) -> _Split:
    """A Scan, whose last outputs are stacks of rows, made rows themselves."""
    call, batches = _call(taker, w), 0 if taker.since_version > 8 else 1
    first = len(taker.inputs) - taker.attributes["num_scan_inputs"]
    axis = (call.attribute("scan_input_axes") or [0])[0] + batches
    with w.recorded() as flattened:
        draws = [_Draw(Term(w, name).reshaped([-1]).name, True) for name in outer]
    with w.recorded() as stacked:
        counts = w("Gather", call.xs[first].shape, [*range(batches), axis])
        times = w("Max", w("ReduceProd", counts), np.array(1))
        for draw, name in zip(draws, outer, strict=True):
            row = Term(w, draw.name)
            length = w("Div", row.size, times)
            w.give(row.reshaped(w("Concat", counts, length.reshaped([1]), axis=0)), name)
    return _Split([giver, *flattened], [*stacked, taker], draws)


def _of_sequences(giver: Node, taker: Node, outer: Sequence[str], w: Writer) -> _Split:
    """A Loop or SequenceMap that gives sequences of rows, each made a row itself, with another one of lengths."""
    count, body = len(outer), giver.bodies["body"]
    rows = body.outputs[-count:]
    with w.recorded() as measuring:
        sizes = [Value(w("Reshape", Term(w, row.name).size, [1]).name, TensorType(I64, (1,))) for row in rows]
    measured = [w.fresh() for _ in outer]
    body = replace(body, nodes=(*body.nodes, *measuring), outputs=(*body.outputs, *sizes))
    giver = replace(giver, outputs=(*giver.outputs, *measured), bodies={"body": body})
    before: list[Node] = []
    if giver.op == "Loop":
        before, giver = _collecting(giver, 2 * count, w)
    with w.recorded() as flattened:
        draws = [_Draw(_joined(w, name, kind).name, True) for names, kind in ((outer, F64), (measured, I64)) for name in names]
    with w.recorded() as sequences:
        for row, lengths, name in zip(draws[:count], draws[count:], outer, strict=True):
            parts = w("Concat", w("Cast", Term(w, lengths.name), to=I64.onnx), np.array([0]), axis=0)
            w.give(w("SequenceErase", w("SplitToSequence", Term(w, row.name), parts)), name)
    return _Split([*before, giver, *flattened], [*sequences, taker], draws)


def _joined(w: Writer, sequence: str, kind: DType) -> Term:
    """The rows in a sequence, which may be empty, as one of float64."""
    some = w("SequenceInsert", Term(w, sequence), np.zeros(0, kind.numpy))
    return w("Cast", _row(w("ConcatFromSequence", some, axis=0)), to=F64.onnx)


def _row(x: Term) -> Term:
    """What is a row, said of it: nothing tells how many axes the elements of a sequence have that has been empty."""
    return x.reshaped([-1])


def _named(node: Node, w: Writer) -> tuple[str, ...]:
    """Names of all outputs that the node's body gives, since others are to come after them."""
    body = next(iter(node.bodies.values()))
    count = len(body.outputs) - (node.op == "Loop")
    return tuple(name or w.fresh() for name in (*node.outputs, *[""] * (count - len(node.outputs))))


def _rows(w: Writer, key: str, inner: Sequence[tuple[str, _Draw]]) -> tuple[list[Node], list[Value]]:
    """What a body gives of all that is drawn, also of what is drawn in other branches, which is nothing there."""
    with w.recorded() as nodes:
        names = [draw.name if place == key else w.constant(np.zeros(0)).name for place, draw in inner]
    return nodes, [Value(name, _ROW) for name in names]


def _reading(node: Node, body: Graph, own: Sequence[tuple[str, str]], w: Writer) -> Graph:
    """The body with what is drawn in it read from outside: names there by names in it."""
    if node.op in ("Scan", "SequenceMap"):
        return replace(body, inputs=(*body.inputs, *(Value(name, _ROW) for name, _ in own)))
    with w.recorded() as nodes:
        for name, outside in own:
            kept = Term(w, outside)
            w.give(_row(w("SequenceAt", kept, Term(w, body.inputs[0].name))) if node.op == "Loop" else kept, name)
    return replace(body, nodes=(*nodes, *body.nodes))


def _collecting(giver: Node, count: int, w: Writer) -> tuple[list[Node], Node]:
    """Nodes that come before, and the Loop with states for its last outputs, stacks of rows: sequences of them."""
    body = giver.bodies["body"]
    rows, states = body.outputs[-count:], len(giver.inputs[2:]) + 1
    kinds = [row.type.dtype for row in rows if isinstance(row.type, TensorType)]
    with w.recorded() as empty:
        first = [w("SequenceEmpty", dtype=kind.onnx).name for kind in kinds]
    formal = [Value(w.fresh(), SequenceType(TensorType(kind))) for kind in kinds]
    with w.recorded() as nodes:
        after = [w("SequenceInsert", Term(w, value.name), Term(w, row.name)).name for value, row in zip(formal, rows, strict=True)]
    outputs = (*body.outputs[:states], *map(Value, after), *body.outputs[states:-count])
    body = replace(body, inputs=(*body.inputs, *formal), outputs=outputs, nodes=(*body.nodes, *nodes))
    names = (*giver.outputs[: states - 1], *giver.outputs[-count:], *giver.outputs[states - 1 : -count])
    inputs = (*giver.inputs, *[""] * (2 - len(giver.inputs)), *first)
    return empty, replace(giver, inputs=inputs, outputs=names, bodies={"body": body})


def _attributes(node: Node, which: str, count: int) -> dict[str, object]:
    """Those of a Scan with further values that it scans, or further outputs; of other nodes as they are."""
    attributes = dict(node.attributes)
    if node.op == "Scan":
        names = [f"scan_{which}_axes", f"scan_{which}_directions", *(["directions"] if which == "input" else [])]
        attributes.update({name: (*attributes[name], *[0] * count) for name in names if name in attributes})
        if which == "input":
            attributes["num_scan_inputs"] += count
    return attributes
