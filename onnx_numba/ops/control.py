"""If, Loop and Scan: their bodies are programs of their own.

There are three ways to run the iterations of a body, and the first that serves is taken:

1. *at once*: iterations that do not depend on one another become one more axis of the body's tensors (`onnx_numba.ops.lift`);
2. *in the plan*: a `LoopCall` or `BranchCall`, whose bodies become instructions of the surrounding plan
   (`onnx_numba.schedule.control`), where all that goes in and comes out is tensors of known rank;
3. *in Python*: a host step that calls the bodies' plans, for sequences, strings and state whose rank changes.

An If whose branches differ in rank, where shapes alone decide between them, is neither: one branch is taken for granted, and the run checks
that it is the one (`onnx_numba.runtime.variants`).

A loop's state may change shape, even rank, from one iteration to the next. The body is lowered for the types of the initial state; where
what it returns is of a more general type, it is lowered again for that, until nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.graph import Graph
from onnx_numba.ir.loop import BranchCall, LoopCall, Object, Tensor
from onnx_numba.ir.types import BOOL, I64, STRING, OptionalType, SequenceType, TensorType, ValueType
from onnx_numba.lower import Choice, LoweredBody, type_of
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import normal_axis
from onnx_numba.ops.deciding import by_shapes
from onnx_numba.ops.lift import Lifted, lift
from onnx_numba.ops.outside import Outside
from onnx_numba.ops.registry import op
from onnx_numba.record import record

Value = Tensor | Object
MAX_GENERALISATIONS = 6


@op("If", since=1, reviewed=25)
def if_(b: Builder, condition: Tensor, *, then_branch: Graph, else_branch: Graph) -> tuple[Any, ...]:
    """The branch that the condition chooses; a condition that the model fixes leaves only that branch."""
    _check_single(b, condition, "the condition")
    for name, branch in (("then_branch", then_branch), ("else_branch", else_branch)):
        _check_body(b, branch, 0, len(b.wanted), name)
    if len(then_branch.outputs) != len(else_branch.outputs):
        b.fail(f"then_branch has {len(then_branch.outputs)} outputs, else_branch {len(else_branch.outputs)}")
    known = b.constant(condition)
    if known is not None:
        return tuple(b.scope.inline(then_branch if bool(known.reshape(-1)[0]) else else_branch))
    choice: Choice | None = b.scope.choice
    mark = 0 if choice is None else len(choice.taken)
    branches: list[LoweredBody] = [b.scope.body(graph, ()) for graph in (then_branch, else_branch)]
    then, other = branches
    types = [merge(b, x, y) for x, y in zip(_outer_types(then), _outer_types(other), strict=True)]
    decided = by_shapes(condition) if choice is not None and condition.size == 1 and _differ_in_rank(then, other) else None
    if choice is not None and decided is not None:
        del choice.taken[mark:]  # the branches are lowered again, as part of this scope
        decision, taken = choice.next()
        b.require_branch(decided, taken, decision)
        return tuple(b.scope.inline(then_branch if taken else else_branch))
    tensors, chosen = _tensors([*then.captures, *other.captures]), _number(b, condition)
    if tensors is not None and chosen is not None and all(map(_ranked, types)):
        return b.results(BranchCall((then.program, other.program), tensors, chosen, len(then.captures)), types)
    return b.host(
        "if", [condition, *then.captures, *other.captures], types,
        then=then.program, otherwise=other.program, split=len(then.captures),
    )  # fmt: skip


@op("Loop", since=1, reviewed=25)
def loop(b: Builder, trip: Tensor | None, condition: Tensor | None, *state: Value, body: Graph) -> tuple[Any, ...]:
    """Iterations until the condition fails or the count is reached; scan outputs are stacked."""
    _check_body(b, body, 2 + len(state), 1 + len(state))
    _check_single(b, trip, "the trip count")
    _check_single(b, condition, "the condition")
    head = [_scalar_like(body.inputs[0].type, TensorType(I64, ())), _scalar_like(body.inputs[1].type, TensorType(BOOL, ()))]
    lowered, types = _fixpoint(b, body, head, [type_of(v) for v in state])
    _check_again(b, lowered.program.outputs[0][1])
    count, going = _number(b, trip), 1 if condition is None else _number(b, condition)
    if going is not None and (trip is None) == (count is None):
        run = _Iterations(lowered, tuple(types), tuple(head), state, (), count, going).results(b)
        if run is not None:
            return run
    scans = [_stacked(b, t, None) for t in lowered.outputs[1 + len(state) :]]
    return b.host(
        "loop", [trip, condition, *state, *lowered.captures], [*map(_open, types), *scans],
        body=lowered.program, state=len(state), scans=_empties(scans, body, [0] * len(scans)), ranks=[len(t.shape or ()) for t in head],
    )  # fmt: skip


@op("Scan", since=9, reviewed=25)
def scan(
    b: Builder,
    *values: Value,
    body: Graph,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None = None,
    scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None,
    scan_output_directions: Sequence[int] | None = None,
) -> tuple[Any, ...]:
    """A loop over slices of the scan inputs."""
    state, scanned = _parts(b, values, num_scan_inputs, body)
    split, count = len(state), len(body.outputs) - len(state)
    ranks = [_rank(b, v) for v in scanned]
    given = _each(b, scan_input_axes, num_scan_inputs, "scan_input_axes")
    axes = [normal_axis(b, a, rank, "scan_input_axes") for a, rank in zip(given, ranks, strict=True)]
    directions = _directions(b, scan_input_directions, num_scan_inputs, "scan_input_directions")
    out_directions = _directions(b, scan_output_directions, count, "scan_output_directions")
    out_given = _each(b, scan_output_axes, count, "scan_output_axes")
    slices = [_without_axis(b, v, a) for v, a in zip(scanned, axes, strict=True)]
    lowered, types = _fixpoint(b, body, [], [type_of(v) for v in state], slices)
    results = lowered.outputs[split:]
    out_axes = [_placed(b, a, t) for a, t in zip(out_given, results, strict=True)]
    tensors = _tensors(scanned)
    if tensors is not None:
        rows = tuple(_reversed(b, _moved(b, v, a, 0), r) for v, a, r in zip(tensors, axes, directions, strict=True))
        for other in rows[1:]:
            b.require_equal(other.shape[0], rows[0].shape[0], "the number of slices of a scan input")
        run = _Iterations(lowered, tuple(types), (), state, rows, rows[0].shape[0], 1).results(b)
        if run is not None:
            stacks = zip(run[split:], out_axes, out_directions, strict=True)
            return (*run[:split], *(_moved(b, _reversed(b, v, r), 0, a) for v, a, r in stacks))
    stacked = [_stacked(b, t, a) for t, a in zip(results, out_axes, strict=True)]
    return b.host(
        "scan", [*state, *scanned, *lowered.captures], [*map(_open, types), *stacked],
        body=lowered.program, state=split, scanned=num_scan_inputs, axes=axes,
        directions=directions, out_axes=out_axes, out_directions=out_directions, scans=_empties(stacked, body, out_axes),
    )  # fmt: skip


@op("Scan", since=8)
def scan_8(
    b: Builder, lengths: Tensor | None, *values: Value, body: Graph, num_scan_inputs: int, directions: Sequence[int] | None = None
) -> tuple[Any, ...]:
    """The first form: a batch axis before the sequence axis, and sequence lengths."""
    state, scanned = _parts(b, values, num_scan_inputs, body)
    split = len(state)
    ways = _directions(b, directions, num_scan_inputs, "directions")
    slices = [_without_axis(b, v, 0, 2) for v in scanned]
    lowered, types = _fixpoint(b, body, [], [_without_axis(b, v, 0) for v in state], slices)
    outer = [_stacked(b, _open(t), 0) for t in types]
    stacked = [_stacked(b, _stacked(b, t, 0), 0) for t in lowered.outputs[split:]]
    return b.host(
        "scan_batched", [lengths, *state, *scanned, *lowered.captures], [*outer, *stacked],
        body=lowered.program, state=split, scanned=num_scan_inputs, directions=ways, scans=[_empty(t) for t in stacked],
    )  # fmt: skip


@record
class _Iterations:
    """What Loop and Scan have in common.

    ``head`` is empty or has the types of the iteration number and of the condition; ``rows`` are tensors whose first axis the
    iterations go along.
    """

    body: LoweredBody
    types: tuple[ValueType, ...]
    head: tuple[TensorType, ...]
    state: tuple[Value, ...]
    rows: tuple[Tensor, ...]
    count: Dim | int | None
    going: Dim | int

    def results(self, b: Builder) -> tuple[Any, ...] | None:
        """The last state, and the stacked rows of results along a first axis; None where there are steps for Python."""
        inputs = _tensors([*self.state, *self.rows, *self.body.captures])
        program = self.body.program
        again = program.outputs[0][1] if self.head else None
        if isinstance(again, Tensor) and again.size != 1:
            return None  # the run sees whether it has one element
        if inputs is None or not all(isinstance(value, Tensor) for _, value, *_ in [*program.inputs, *program.outputs]):
            return None
        return self._at_once(b) or self._in_plan(b, inputs)

    @property
    def _skip(self) -> int:
        """Outputs of the body before its state."""
        return 1 if self.head else 0

    def _at_once(self, b: Builder) -> tuple[Any, ...] | None:
        """The results of iterations that do not depend on one another."""
        count, split = self._iterations(), len(self.state)
        outputs = self.body.program.outputs[self._skip :]
        formal = self.body.program.inputs[len(self.head) :]
        if count is None or any(out[1] is not given[1] for out, given in zip(outputs[:split], formal, strict=False)):
            return None
        fixed, rows = ([Lifted(t, v) for t in part if isinstance(t, Tensor)] for part, v in ((self.state, False), (self.rows, True)))
        captured = [Lifted(t, False) for t in self.body.captures if isinstance(t, Tensor)]
        results = lift(b, self.body.program, [*self._head(b, count), *fixed, *rows, *captured], count)[self._skip + split :]
        if None in results:
            return None
        every = [r.tensor if r.varies else b.expand(r.tensor, (count, *r.tensor.shape)) for r in results if r is not None]
        return (*self.state, *every)

    def _head(self, b: Builder, count: Dim | int) -> list[Lifted]:
        """Number and condition of every iteration."""
        if not self.head:
            return []
        number, condition = ((1,) * len(t.shape or ()) for t in self.head)
        return [
            Lifted(b.compute((count, *number), lambda t, *_: e.dimval(t, I64), I64), True),
            Lifted(b.full(condition, True, BOOL), False),
        ]

    def _in_plan(self, b: Builder, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """The results of a call whose body the plan runs."""
        program, split = self.body.program, len(self.state)
        outside = _captured(self.body)
        formal = [value for _, value, *_ in program.inputs[len(self.head) :]]
        for value, row in zip(formal[split:], self.rows, strict=False):
            outside.same(value.shape, row.shape[1:])  # type: ignore[union-attr]
        last = []
        for value, first, type_ in zip(formal, self.state, self.types, strict=False):
            assert isinstance(value, Tensor) and isinstance(first, Tensor) and isinstance(type_, TensorType)
            kept = [axis for axis, x in enumerate(type_.shape or ()) if x is not None]
            outside.same(tuple(value.shape[k] for k in kept), tuple(first.shape[k] for k in kept))
            last.append(TensorType(value.dtype, tuple(first.shape[k] if k in kept else None for k in range(value.rank))))
        rows = [value for _, value in program.outputs[self._skip + split :]]
        stacks = [TensorType(r.dtype, (self._iterations(), *outside.shape(r.shape))) for r in rows if isinstance(r, Tensor)]
        call = LoopCall(program, inputs, self.count, self.going, bool(self.head), split, len(self.rows))
        return b.results(call, [*last, *stacks])

    def _iterations(self) -> Dim | int | None:
        """How many iterations there are; None where the body or only the run decides."""
        if not self.head or self.count is None:
            return self.count
        (_, condition), again = self.body.program.inputs[1][:2], self.body.program.outputs[0][1]
        always = isinstance(again, Tensor) and again.content is not None and all(isinstance(c, e.Lit) and c.value for c in again.content)
        return d.dmax(self.count, 0) * self.going if always or again is condition else None


def _check_body(b: Builder, body: Graph, inputs: int, outputs: int, name: str = "the body") -> None:
    """Demand that a body takes so many inputs, and gives at least so many outputs."""
    if len(body.inputs) != inputs:
        b.fail(f"{name} has {len(body.inputs)} inputs, {inputs} are expected")
    if len(body.outputs) < outputs:
        b.fail(f"{name} has {len(body.outputs)} outputs, at least {outputs} are expected")


def _check_single(b: Builder, value: Value | None, what: str) -> None:
    """Demand one element, of a value whose size is known; for others the step in Python does."""
    if isinstance(value, Tensor) and isinstance(value.size, int) and value.size != 1:
        b.fail(f"{what} has {value.size} elements, one is expected")


def _check_again(b: Builder, value: Value) -> None:
    """Demand that what a loop's body says about going on is a truth value."""
    kind = type_of(value)
    if not isinstance(kind, TensorType) or kind.dtype is not BOOL:
        b.fail(f"the condition that the body gives is a {kind}, tensor(bool) is expected")
    _check_single(b, value, "the condition that the body gives")


def _parts(b: Builder, values: Sequence[Value], count: int, body: Graph) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    """The state and the scanned values among the inputs of a Scan."""
    if not 1 <= count <= len(values):
        b.fail(f"num_scan_inputs is {count}, of {len(values)} inputs")
    split = len(values) - count
    _check_body(b, body, len(values), split)
    return tuple(values[:split]), tuple(values[split:])


def _each(b: Builder, given: Sequence[int] | None, count: int, what: str) -> list[int]:
    """A number for each of ``count`` values, 0 where none are given."""
    numbers = list(given or [0] * count)
    if len(numbers) != count:
        b.fail(f"{what} has {len(numbers)} entries, {count} are expected")
    return numbers


def _directions(b: Builder, given: Sequence[int] | None, count: int, what: str) -> list[int]:
    """For each of ``count`` values 0, or 1 for a way from the end."""
    ways = _each(b, given, count, what)
    if not set(ways) <= {0, 1}:
        b.fail(f"{what} are {ways}, each must be 0 or 1")
    return ways


def _captured(body: LoweredBody) -> Outside:
    """What is known outside of a body of the dims of what it captures."""
    outside = Outside()
    formal = body.program.inputs[len(body.program.inputs) - len(body.captures) :]
    for (_, value, *_), outer in zip(formal, body.captures, strict=True):
        if isinstance(value, Tensor) and isinstance(outer, Tensor):
            outside.same(value.shape, outer.shape)
    return outside


def _outer_types(body: LoweredBody) -> list[ValueType]:
    """Types of a branch's results, with the dims that are known outside."""
    outside = _captured(body)
    return [
        TensorType(value.dtype, outside.shape(value.shape)) if isinstance(value, Tensor) else type_
        for (_, value), type_ in zip(body.program.outputs, body.outputs, strict=True)
    ]


def _differ_in_rank(then: LoweredBody, other: LoweredBody) -> bool:
    """Whether all results are tensors of known rank, but not all of the same rank."""
    pairs = list(zip(then.outputs, other.outputs, strict=True))
    ranks = [
        (len(p.shape), len(q.shape))
        for p, q in pairs
        if isinstance(p, TensorType) and isinstance(q, TensorType) and p.shape is not None and q.shape is not None
    ]
    return len(ranks) == len(pairs) and any(p != q for p, q in ranks)


def _tensors(values: Sequence[Value]) -> tuple[Tensor, ...] | None:
    """The values, if all are tensors."""
    found = tuple(v for v in values if isinstance(v, Tensor))
    return found if len(found) == len(values) else None


def _number(b: Builder, value: Value | None) -> Dim | int | None:
    """The single number in a tensor; None if there is no telling where it lies."""
    if isinstance(value, Tensor) and value.size == 1:
        return b.dims(value, signed={0})[0]
    return None


def _ranked(type_: ValueType) -> bool:
    return isinstance(type_, TensorType) and type_.dtype is not STRING and type_.shape is not None


def _moved(b: Builder, tensor: Tensor, source: int, target: int) -> Tensor:
    """An axis moved elsewhere."""
    order = [k for k in range(tensor.rank) if k != source]
    order.insert(target, source)
    return b.transpose(tensor, order)


def _reversed(b: Builder, tensor: Tensor, reverse: int) -> Tensor:
    """The first axis from its end, if so asked."""
    if not reverse:
        return tensor
    return b.compute(tensor.shape, lambda i, *rest: tensor[(tensor.shape[0] - 1 - i, *rest)], tensor.dtype)


def _fixpoint(
    b: Builder, body: Graph, head: Sequence[TensorType], types: list[ValueType], tail: Sequence[ValueType] = ()
) -> tuple[LoweredBody, list[ValueType]]:
    """Lower a body for state types that its own results fit; dims with names in these are those of the first state."""
    for _ in range(MAX_GENERALISATIONS):
        lowered: LoweredBody = b.scope.body(body, [*head, *types, *tail])
        given = [value for _, value, *_ in lowered.program.inputs[len(head) :]]
        results = lowered.program.outputs[1 if head else 0 :]
        merged = [_general(b, t, value, out) for t, value, (_, out) in zip(types, given, results, strict=False)]
        if merged == types:
            return lowered, types
        types = merged
    return b.unsupported("the types of the loop's state do not settle")


def _general(b: Builder, type_: ValueType, given: Value, result: Value) -> ValueType:
    """The type of a state that is ``given`` as ``type_`` and comes back as ``result``: dims stay where they come back the same."""
    if not isinstance(type_, TensorType) or not isinstance(given, Tensor) or not isinstance(result, Tensor) or given.rank != result.rank:
        return merge(b, type_, type_of(result))
    if given.dtype is not result.dtype:
        return merge(b, type_, type_of(result))
    shape = type_.shape or ()
    kept = tuple(x if now == then else None for x, now, then in zip(shape, result.shape, given.shape, strict=True))
    return TensorType(type_.dtype, kept)


def merge(b: Builder, x: ValueType, y: ValueType) -> ValueType:
    """The narrowest type that covers both."""
    if isinstance(x, TensorType) and isinstance(y, TensorType):
        if x.dtype is not y.dtype:
            b.fail(f"a value is {x.dtype.onnx_name} on one way and {y.dtype.onnx_name} on another")
        if x.shape is None or y.shape is None or len(x.shape) != len(y.shape):
            return TensorType(x.dtype)
        shape = tuple(p if isinstance(p, (int, Dim)) and p == q else None for p, q in zip(x.shape, y.shape, strict=True))
        return TensorType(x.dtype, shape)
    if isinstance(x, SequenceType) and isinstance(y, SequenceType):
        return SequenceType(merge(b, x.element, y.element))
    if isinstance(x, OptionalType) or isinstance(y, OptionalType):
        left = x.element if isinstance(x, OptionalType) else x
        right = y.element if isinstance(y, OptionalType) else y
        return OptionalType(merge(b, left, right))
    if x != y:
        b.fail(f"a value is {x} on one way and {y} on another")
    return x


def _open(type_: ValueType) -> ValueType:
    """The type without names of dims."""
    if isinstance(type_, TensorType) and type_.shape is not None:
        return TensorType(type_.dtype, tuple(x if isinstance(x, int) else None for x in type_.shape))
    return type_


def _scalar_like(declared: ValueType | None, default: TensorType) -> TensorType:
    """The type of a counter or condition: exporters declare both scalars and one-element vectors."""
    if isinstance(declared, TensorType) and declared.shape is not None and len(declared.shape) == 1:
        return TensorType(default.dtype, (1,))
    return default


def _rank(b: Builder, value: Value) -> int:
    type_ = type_of(value)
    if not isinstance(type_, TensorType):
        b.fail(f"a scanned value must be a tensor, not {type_}")
    if type_.shape is None:
        b.deferred("the ranks of scanned values must be known before the run")
    return len(type_.shape)


def _without_axis(b: Builder, value: Value, axis: int, count: int = 1) -> ValueType:
    if _rank(b, value) < count:
        b.fail(f"a value of rank {_rank(b, value)} is to be taken apart along {count} axes")
    type_ = type_of(value)
    assert isinstance(type_, TensorType) and type_.shape is not None
    return TensorType(type_.dtype, (*type_.shape[:axis], *type_.shape[axis + count :]))


def _placed(b: Builder, axis: int, type_: ValueType) -> int:
    """Where the slices of a scan output go, from the front where their rank is known."""
    if not isinstance(type_, TensorType) or type_.shape is None:
        return axis
    return normal_axis(b, axis, len(type_.shape) + 1, "scan_output_axes")


def _stacked(b: Builder, type_: ValueType, axis: int | None) -> TensorType:
    if not isinstance(type_, TensorType):
        b.fail(f"a scan output must be a tensor, not {type_}")
    if type_.shape is None:
        return type_
    shape = list(type_.shape)
    shape.insert(axis or 0, None)
    return TensorType(type_.dtype, tuple(shape))


def _empties(types: Sequence[TensorType], body: Graph, axes: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
    """What the scan outputs of a body are, which are its last, without iterations."""
    rows = body.outputs[len(body.outputs) - len(types) :]
    return [_empty(type_, row.type, axis) for type_, row, axis in zip(types, rows, axes, strict=True)]


def _empty(type_: TensorType, row: ValueType | None = None, axis: int = 0) -> tuple[str, tuple[int, ...]]:
    """Element type and shape of a scan output of no iterations; where its rank is not known, it is that of the row that a body declares."""
    shape: Sequence[Any] = (0,) if type_.shape is None else type_.shape
    if type_.shape is None and isinstance(row, TensorType) and row.shape is not None:
        place = axis % (len(row.shape) + 1)
        shape = (*row.shape[:place], None, *row.shape[place:])
    return type_.dtype.name, tuple(x if isinstance(x, int) else 0 for x in shape)
