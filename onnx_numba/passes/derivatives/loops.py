"""Derivatives of Loop and Scan, which differentiate the graphs inside them.

One becomes two nodes. The first is the same loop again with what its iterations are given as further results, as far as it is needed.
The second is a Scan over these from the last iteration to the first: its body computes the iteration anew and walks it backwards, its
state is the adjoint of the loop's state and, for every value that the body reads from outside, the sum of the adjoints so far. For
``y = Loop(n, true, x)`` with the body ``z = Mul(s, w)``::

    ,, k, s = Loop(n, true, x) <body = (k, c, s) => (c, z, k, s) { z = Mul(s, w) }>
    dx, dw = Scan(dy, zeros, k, s) <body = (dz, dw, k, s) => (ds, sum) {
        ds = Mul(dz, w) g = Mul(dz, s) sum = Add(dw, g) },
        num_scan_inputs = 2, scan_input_directions = [1, 1]>

No Scan goes over sequences, nor over tensors whose shapes change, so where these are a part of it, a Loop takes the Scan's place, and what
the iterations are given is kept in sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnx_numba.ir.graph import Graph, Node, reads
from onnx_numba.ir.types import BOOL, I64, OptionalType, SequenceType, TensorType, ValueType
from onnx_numba.ops.gradient import DOMAIN, adjoint_type, inside
from onnx_numba.passes.dce import remove_dead_code
from onnx_numba.passes.derivatives.bodies import Adjoints, Differentiate, Differentiation, again, by_name, opened, or_zeros, shaped
from onnx_numba.passes.derivatives.table import Call
from onnx_numba.passes.derivatives.terms import Body, Term, Writer
from onnx_numba.record import record


@record
class _Form:
    """How the body of a Loop or Scan is called.

    ``head`` counts the formal inputs before the state, of which the outputs have one less; the axes and directions are those of the
    values that are scanned and of the scan outputs.
    """

    head: int
    state: tuple[str, ...]
    scanned: tuple[str, ...]
    axes: tuple[int, ...]
    directions: tuple[int, ...]
    out_axes: tuple[int, ...]
    out_directions: tuple[int, ...]

    @staticmethod
    def of(call: Call) -> _Form:
        node = call.node
        outputs = len(node.bodies["body"].outputs)
        if node.op == "Loop":
            state = node.inputs[2:]
            none = (0,) * (outputs - 1 - len(state))
            return _Form(2, state, (), (), (), none, none)
        scanned = call.attribute("num_scan_inputs")
        split = len(node.inputs) - scanned

        def each(name: str, count: int) -> tuple[int, ...]:
            return tuple(call.attribute(name) or (0,) * count)

        return _Form(
            0, node.inputs[:split], node.inputs[split:],
            each("scan_input_axes", scanned), each("scan_input_directions", scanned),
            each("scan_output_axes", outputs - split), each("scan_output_directions", outputs - split),
        )  # fmt: skip


def scan(differentiate: Differentiate, call: Call, active: set[str]) -> Adjoints:
    """A Scan; one over a batch, as opset 8 has it, is differentiated as the Scan over the batch whose body is a Scan along time."""
    if call.node.since_version > 8:
        return loop(differentiate, call, active)
    return anew(differentiate, call, active, _over_batch(call, again(call, call.node.bodies["body"])))


def scan_as_loop(call: Call, body: Graph) -> tuple[list[Node], list[Term]]:
    """A Scan with this body as a Loop, or one over a batch as Scans that are not: the nodes, and their results."""
    return _gathering(call, body) if call.node.since_version > 8 else _over_batch(call, body)


def _over_batch(call: Call, body: Graph) -> tuple[list[Node], list[Term]]:
    """The results of a Scan over a batch with this body, and the nodes that make them.

    Those of ``y, z = Scan(lengths, x, w) <num_scan_inputs=1, body = …>`` are::

        y, z = Scan(lengths, x, w) <body = (length, s, v) => (t, padded) {
            rows = Slice(v, [0], [length], [0]) t, stack = Scan(s, rows) <num_scan_inputs=1, body = …>
            steps = Shape(v) missing = Sub(steps[0], length) padded = Pad(stack, [0, missing], , [0]) }, num_scan_inputs=3>
    """
    w = call.w
    with w.recorded() as nodes:
        results = _batches(call, body)
    return nodes, results


def _batches(call: Call, body: Graph) -> list[Term]:
    w = call.w
    lengths, *given = call.xs
    scanned = call.attribute("num_scan_inputs")
    split = len(given) - scanned
    entry = Body(w)
    formal = [entry.input(_slice(w, term, 0)) for term in given]
    along, inputs, count = formal, formal, None
    if lengths:
        length = entry.input(_slice(w, lengths, 0))
        inputs = [length, *formal]
        first, count = np.array([0]), length.reshaped([1])
        along = [*formal[:split], *(entry("Slice", x, first, count, first) for x in formal[split:])]
    made = entry.add(
        "Scan", along, len(body.outputs), bodies={"body": body}, num_scan_inputs=scanned,
        scan_input_directions=call.attribute("directions"),
    )  # fmt: skip
    if count:
        missing = entry("Shape", formal[split], start=0, end=1) - count
        ends = entry("Concat", np.array([0]), missing, axis=0)
        made[split:] = [entry("Pad", stack, ends, None, np.array([0])) for stack in made[split:]]
    batch = [lengths, *given] if lengths else given
    return w.add("Scan", batch, len(made), bodies={"body": entry.graph(inputs, made)}, num_scan_inputs=len(batch))


def anew(differentiate: Differentiate, call: Call, active: set[str], made: tuple[list[Node], list[Term]]) -> Adjoints:
    """What a node adds to the adjoints of what it reads, through nodes that make its results anew."""
    nodes, results = made
    read = set(reads(call.node))
    seeds = {term.name: g for term, g in zip(results, call.gs, strict=True) if g}
    found = differentiate(call.w).adjoints(nodes, seeds, active & read, read)
    return [(name, found[name]) for name in sorted(active & read) if name in found]


def _gathering(call: Call, copy: Graph) -> tuple[list[Node], list[Term]]:
    """A Scan as a Loop that gathers the slices itself."""
    w, form = call.w, _Form.of(call)
    split = len(form.state)
    with w.recorded() as nodes:
        count = w("Gather", Term(w, form.scanned[0]).shape, np.array(form.axes[0]))
        step = Body(w, copy.initializers)
        number, going = step.input(TensorType(I64, ())), step.input(TensorType(BOOL, ()))
        state = [step.input(w.known.type_of(name), value.name) for name, value in zip(form.state, copy.inputs, strict=False)]
        back = step.here(count) - 1 - number
        for name, value, axis, direction in zip(form.scanned, copy.inputs[split:], form.axes, form.directions, strict=True):
            step.give(step("Gather", Term(step, name), back if direction else number, axis=axis), value.name)
        for node in copy.nodes:
            step.emit(node)
        body = step.graph([number, going, *state], [going, *(Term(step, value.name) for value in copy.outputs)])
        made = w.add("Loop", [count, None, *(Term(w, name) for name in form.state)], len(copy.outputs), bodies={"body": body})
        scans = zip(made[split:], form.out_axes, form.out_directions, strict=True)
        results = [*made[:split], *(_arranged(stack, axis, direction) for stack, axis, direction in scans)]
    return nodes, results


def _arranged(stack: Term, axis: int, direction: int) -> Term:
    """What iterations have stacked along a first axis, along another one, and from the last to the first."""
    w = stack.writer
    if direction:
        stack = w("Slice", stack, [-1], [np.iinfo(np.int64).min], [0], [-1])
    if axis == 0:
        return stack
    # However many axes there are, those before the place and those after it are as good as one each.
    place = axis + 1 or None
    before, after = w("Shape", stack, start=1, end=place), w("Shape", stack, start=place) if place else w.constant(np.zeros(0, np.int64))
    count = w("Shape", stack, end=1)
    flat = stack.reshaped(w("Concat", count, *(w("ReduceProd", extents) for extents in (before, after)), axis=0))
    return w("Transpose", flat, perm=[1, 0, 2]).reshaped(w("Concat", before, count, after, axis=0))


def loop(differentiate: Differentiate, call: Call, active: set[str]) -> Adjoints:
    """A Loop, or a Scan: itself again, then a Scan or Loop in reverse."""
    form, w = _Form.of(call), call.w
    if any(inside(w.known.type_of(name)) is None for name in form.state):
        raise call.unsupported("the types of its state must be known; declare the types of the inputs")
    turned = _turned(differentiate, call, form, active)
    names = [*(form.state[k] for k in turned.carried), *turned.read, *(form.scanned[k] for k in turned.sliced)]
    live = turned.needed
    state = [form.head + k for k, term in enumerate(turned.formal[form.head :]) if term.name in live]
    fixed = not any(turned.changing[k] for k in (*state, *(form.head + k for k in turned.carried)))
    if fixed and all(isinstance(w.known.type_of(name), TensorType) for name in names):
        made = _in_scan(call, form, turned, live)
    elif call.node.op == "Loop":
        made = _in_loop(call, form, turned, state)
    else:
        return anew(differentiate, call, active, scan_as_loop(call, again(call, call.node.bodies["body"])))
    return [(name, term) for name, term in zip(names, made, strict=True) if name in active]


def _first(call: Call, turned: _Turned, ends: Sequence[Term]) -> list[Term]:
    """The state of the loop in reverse before its first iteration."""
    carried = [or_zeros(call.gs[k], ends[k]) for k in turned.carried]
    return carried + [Term(call.w, name).filled(0) for name in turned.read]


def _in_scan(call: Call, form: _Form, turned: _Turned, live: set[str]) -> list[Term]:
    """The loop again, which keeps what its iterations are given, then a Scan in reverse."""
    w = call.w
    # Something must say how many iterations there were.
    kept = [k for k, term in enumerate(turned.formal) if term.name in live or (form.head and k == 0)]
    ends, stacks, _ = _recorded(call, form, w, kept)
    first = _first(call, turned, ends)
    stacked = [call.gs[len(form.state) + k] for k in turned.stacked]
    given = [*stacks, *(Term(w, x) for x in form.scanned), *stacked]
    return w.add(
        "Scan", [*first, *given], len(first) + len(turned.sliced), bodies={"body": turned.body(kept)}, num_scan_inputs=len(given),
        scan_input_axes=[*[0] * len(stacks), *form.axes, *(form.out_axes[k] for k in turned.stacked)],
        scan_input_directions=[1 - d for d in (*[0] * len(stacks), *form.directions, *(form.out_directions[k] for k in turned.stacked))],
        scan_output_axes=[form.axes[k] for k in turned.sliced] or None,
        scan_output_directions=[1 - form.directions[k] for k in turned.sliced] or None,
    )  # fmt: skip


def _in_loop(call: Call, form: _Form, turned: _Turned, state: Sequence[int]) -> list[Term]:
    """The loop again, which keeps what its iterations are given, in sequences if it changes its shape, then a Loop in reverse."""
    w = call.w
    kept, remembered = [0, *(k for k in state if not turned.changing[k])], [k for k in state if turned.changing[k]]
    ends, (numbers, *stacks), memories = _recorded(call, form, w, kept, remembered)
    graph = turned.body(range(len(turned.formal)))
    step = Body(w, graph.initializers)
    number, going = step.input(TensorType(I64, ())), step.input(TensorType(BOOL, ()))
    for term in turned.state:
        step.input(turned.inner.known.type_of(term.name), term.name)
    place = step.here(numbers.size) - 1 - number
    step.give(place, turned.formal[0].name)
    step.give(going, turned.formal[1].name)
    for k, stack in zip(kept[1:], stacks, strict=True):
        step.give(step("Gather", stack, place), turned.formal[k].name)
    for k, memory in zip(remembered, memories, strict=True):
        step.give(step("SequenceAt", memory, place), turned.formal[k].name)
    for k, adjoint in zip(turned.stacked, turned.adjoints, strict=True):
        step.give(step("Gather", call.gs[len(form.state) + k], place), adjoint.name)
    for node in graph.nodes:
        step.emit(node)
    body = step.graph([number, going, *turned.state], [going, *(Term(step, value.name) for value in graph.outputs)])
    first = _first(call, turned, ends)
    return w.add("Loop", [numbers.size, None, *first], len(first), bodies={"body": remove_dead_code(body)})


@record
class _Turned:
    """The body of the loop in reverse.

    Attributes
    ----------
    carried, sliced, stacked : list of int
        Of which of the loop's state and scanned values it gives adjoints, and of which scan outputs it is given them.
    read : list of str
        What it sums the adjoints of.
    formal, rows : list of Term
        What an iteration of the loop is given: number, condition and state, and slices.
    changing : list of bool
        Which of ``formal`` are sequences, or tensors whose shapes may not stay the same.
    state, adjoints : list of Term
        The inputs that are its own state, and the adjoints of slices of scan outputs.
    results : list of Term
        Its outputs.
    inner : Body
        Its nodes.
    """

    carried: list[int]
    sliced: list[int]
    stacked: list[int]
    read: list[str]
    formal: list[Term]
    rows: list[Term]
    changing: list[bool]
    state: list[Term]
    adjoints: list[Term]
    results: list[Term]
    inner: Body

    def body(self, kept: Sequence[int]) -> Graph:
        """The graph that is given what was ``kept`` of the loop's numbers, conditions and state."""
        inputs = [*self.state, *(self.formal[k] for k in kept), *self.rows, *self.adjoints]
        return remove_dead_code(self.inner.graph(inputs, self.results))

    @property
    def needed(self) -> set[str]:
        """All that it needs."""
        graph = self.body(range(len(self.formal)))
        return {value.name for value in graph.outputs}.union(*map(reads, graph.nodes))


def _turned(differentiate: Differentiate, call: Call, form: _Form, active: set[str]) -> _Turned:
    """The body of a loop, walked backwards."""
    # The types of what its iterations are given are those of a trial.
    trial = Body(call.w)
    count = form.head + len(form.state)
    kept = [k for k in range(count) if k < form.head or isinstance(call.w.known.type_of(form.state[k - form.head]), TensorType)]
    ends, stacks, _ = _recorded(call, form, trial, kept)
    stack = dict(zip(kept, stacks, strict=True))
    kinds = [_slice(trial, stack[k], 0) if k in stack else trial.known.type_of(ends[k - form.head].name) for k in range(count)]
    kinds += [_slice(trial, Term(trial, x), axis) for x, axis in zip(form.scanned, form.axes, strict=True)]
    inner, copy = opened(call, call.node.bodies["body"], kinds)
    formal = [value.name for value in copy.inputs]
    state, rows = formal[form.head : count], formal[count:]
    results = [value.name for value in copy.outputs][1 if form.head else 0 :]

    reverse = differentiate(inner)
    outer = dict(zip([*state, *rows], [*form.state, *form.scanned], strict=True))
    start = {name for name in copy.captures if name in active} | {name for name in outer if outer[name] in active}
    ended = [name for name, g in zip(results, call.gs, strict=True) if g]
    wanted = _matter(reverse, copy, start, dict(zip(state, results, strict=False)), ended)
    carried = [k for k, name in enumerate(state) if name in wanted]
    sliced = [k for k, name in enumerate(rows) if name in wanted]
    stacked = [k for k, g in enumerate(call.gs[len(state) :]) if g]
    read = [name for name in copy.captures if name in wanted]
    if any(inside(trial.known.type_of(name)) is None for name in read):
        raise call.unsupported("the types of what its body reads from outside must be known; declare the types of the inputs")

    after = [inner.input(_adjoint_type(trial.known.type_of(ends[k].name))) for k in carried]
    sums = [inner.input(_adjoint_type(trial.known.type_of(name))) for name in read]
    adjoints = [inner.input(_slice(trial, call.gs[len(state) + k], form.out_axes[k])) for k in stacked]
    pairs = [(results[k], g) for k, g in zip(carried, after, strict=True)]
    pairs += [(results[len(state) + k], g) for k, g in zip(stacked, adjoints, strict=True)]
    found = reverse.adjoints(copy.nodes, by_name(pairs), wanted, {*formal, *read})
    return _Turned(
        carried, sliced, stacked, read, [Term(inner, name) for name in formal[:count]], [Term(inner, name) for name in rows],
        [k >= form.head and _changes(call.w.known.type_of(form.state[k - form.head]), kinds[k]) for k in range(count)],
        [*after, *sums], adjoints,
        [
            *(or_zeros(found.get(state[k]), Term(inner, state[k])) for k in carried),
            *(shaped(total.plus(found[name]), total) if name in found else total for name, total in zip(read, sums, strict=True)),
            *(or_zeros(found.get(rows[k]), Term(inner, rows[k])) for k in sliced),
        ],
        inner,
    )  # fmt: skip


def _recorded(
    call: Call, form: _Form, w: Writer, kept: Sequence[int], remembered: Sequence[int] = ()
) -> tuple[list[Term], list[Term], list[Term]]:
    """The loop again: its last state, and stacks of what its iterations are given before their slices, as far as it is ``kept``.

    What is to be ``remembered`` of the state comes in sequences.
    """
    node = call.node
    body = again(call, node.bodies["body"])
    given = tuple(body.inputs[k] for k in kept)
    attributes = dict(node.attributes)
    for name, values in (("scan_output_axes", form.out_axes), ("scan_output_directions", form.out_directions)):
        if name in attributes:
            attributes[name] = (*values, *[0] * len(given))
    inner = Body(w, body.initializers)
    before = [inner.input(None) for _ in remembered]
    states = [Term(inner, body.inputs[k].name) for k in remembered]
    after = [inner.add("Remember", [*pair], domain=DOMAIN)[0] for pair in zip(before, states, strict=True)]
    made = inner.graph(before, after)
    split = form.head // 2 + len(form.state)
    outputs = (*body.outputs[:split], *made.outputs, *body.outputs[split:], *given)
    body = replace(body, inputs=(*body.inputs, *made.inputs), outputs=outputs, nodes=(*body.nodes, *made.nodes))
    ends, memories, scans = ([Term(w, w.fresh()) for _ in part] for part in (form.state, remembered, form.out_axes))
    stacks = [Term(w, w.fresh()) for _ in given]
    names = tuple(term.name for term in (*ends, *memories, *scans, *stacks))
    empty = [w.add("Forget", [Term(w, form.state[k - form.head])], domain=DOMAIN)[0].name for k in remembered]
    inputs = (*node.inputs, *[""] * (2 - len(node.inputs)), *empty) if empty else node.inputs
    w.emit(replace(node, inputs=inputs, outputs=names, attributes=attributes, bodies={"body": body}, name=f"{node.name}/again"))
    return ends, stacks, memories


def _changes(first: ValueType | None, given: ValueType | None) -> bool:
    """Whether no stack can hold what the iterations are given of a state, by its first type and that in the body."""
    return isinstance(given, (SequenceType, OptionalType)) or (given is not None and given != first)


def _adjoint_type(kind: ValueType | None) -> ValueType | None:
    """The type of the adjoint of a value; the ranks of a sequence's elements may get lost on the way."""
    kind = kind and adjoint_type(kind)
    if isinstance(kind, SequenceType) and isinstance(kind.element, TensorType):
        return SequenceType(TensorType(kind.element.dtype))
    return kind


def _slice(w: Writer, stack: Term, axis: int) -> ValueType | None:
    """The type of a slice."""
    kind = w.known.type_of(stack.name)
    if not isinstance(kind, TensorType) or kind.shape is None:
        return kind if kind is None else TensorType(stack.dtype)
    axis %= len(kind.shape)
    return TensorType(kind.dtype, kind.shape[:axis] + kind.shape[axis + 1 :])


def _matter(reverse: Differentiation, body: Graph, start: set[str], after: Mapping[str, str], ends: Sequence[str]) -> set[str]:
    """What a body is given and reads that depends on the values in ``start``, or is one, and that ``ends`` depend on, over iterations.

    ``after`` are the results by the state that they are in the next iteration.
    """
    formal = [value.name for value in body.inputs]
    reached, path = reverse.influence(body.nodes, start, formal)
    while more := {name for name, next_ in after.items() if next_ in reached} - reached:
        reached, path = reverse.influence(body.nodes, reached | more, formal)
    needed, more = set[str](), set(ends)
    while more:
        needed |= more
        for node in reversed(path):
            if needed.intersection(node.outputs):
                needed.update(reads(node))
        more = {next_ for name, next_ in after.items() if name in needed} - needed
    state = {name for name, next_ in after.items() if name in reached and next_ in needed}
    return state | {name for name in (*formal, *body.captures) if name not in after and name in reached and name in needed}
