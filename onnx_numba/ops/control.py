"""If, Loop and Scan: their bodies are programs of their own, which a step in Python calls.

A loop's state may change shape, even rank, from one iteration to the next. The body is lowered for the types of the initial state; where
what it returns is of a more general type, it is lowered again for that, until nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx_numba.ir.graph import Graph
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import BOOL, I64, OptionalType, SequenceType, TensorType, ValueType
from onnx_numba.lower import LoweredBody, type_of
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.registry import op

Value = Tensor | Object
MAX_GENERALISATIONS = 6


@op("If", since=1, reviewed=25)
def if_(b: Builder, condition: Tensor, *, then_branch: Graph, else_branch: Graph) -> tuple[Any, ...]:
    """The branch that the condition chooses; a condition that the model fixes leaves only that branch."""
    known = b.constant(condition)
    if known is not None:
        return tuple(b.scope.inline(then_branch if bool(known.reshape(-1)[0]) else else_branch))
    branches: list[LoweredBody] = [b.scope.body(graph, ()) for graph in (then_branch, else_branch)]
    then, other = branches
    types = [merge(b, x, y) for x, y in zip(then.outputs, other.outputs, strict=True)]
    return b.host(
        "if", [condition, *then.captures, *other.captures], types,
        then=then.program, otherwise=other.program, split=len(then.captures),
    )  # fmt: skip


@op("Loop", since=1, reviewed=25)
def loop(b: Builder, trip: Tensor | None, condition: Tensor | None, *state: Value, body: Graph) -> tuple[Any, ...]:
    """Iterations until the condition fails or the count is reached; scan outputs are stacked."""
    head = [_scalar_like(body.inputs[0].type, TensorType(I64, ())), _scalar_like(body.inputs[1].type, TensorType(BOOL, ()))]
    lowered, types = _fixpoint(b, body, head, [type_of(v) for v in state], 1)
    scans = [_stacked(b, t, None) for t in lowered.outputs[1 + len(state) :]]
    return b.host(
        "loop", [trip, condition, *state, *lowered.captures], [*types, *scans],
        body=lowered.program, state=len(state), scans=[_empty(t) for t in scans], ranks=[len(t.shape or ()) for t in head],
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
    split = len(values) - num_scan_inputs
    state, scanned = values[:split], values[split:]
    axes = [a % _rank(b, v) for a, v in zip(scan_input_axes or [0] * num_scan_inputs, scanned, strict=True)]
    slices = [_without_axis(b, v, a) for v, a in zip(scanned, axes, strict=True)]
    lowered, types = _fixpoint(b, body, [], [type_of(v) for v in state], 0, slices)
    results = lowered.outputs[split:]
    out_axes = [
        a % (len(t.shape or ()) + 1) if isinstance(t, TensorType) else 0
        for a, t in zip(scan_output_axes or [0] * len(results), results, strict=True)
    ]
    stacked = [_stacked(b, t, a) for t, a in zip(results, out_axes, strict=True)]
    return b.host(
        "scan", [*state, *scanned, *lowered.captures], [*types, *stacked],
        body=lowered.program, state=split, scanned=num_scan_inputs, axes=axes,
        directions=list(scan_input_directions or [0] * num_scan_inputs), out_axes=out_axes,
        out_directions=list(scan_output_directions or [0] * len(results)), scans=[_empty(t) for t in stacked],
    )  # fmt: skip


@op("Scan", since=8)
def scan_8(
    b: Builder, lengths: Tensor | None, *values: Value, body: Graph, num_scan_inputs: int, directions: Sequence[int] | None = None
) -> tuple[Any, ...]:
    """The first form: a batch axis before the sequence axis, and sequence lengths."""
    split = len(values) - num_scan_inputs
    state, scanned = values[:split], values[split:]
    slices = [_without_axis(b, v, 0, 2) for v in scanned]
    lowered, types = _fixpoint(b, body, [], [_without_axis(b, v, 0) for v in state], 0, slices)
    outer = [_stacked(b, t, 0) for t in types]
    stacked = [_stacked(b, _stacked(b, t, 0), 0) for t in lowered.outputs[split:]]
    return b.host(
        "scan_batched", [lengths, *state, *scanned, *lowered.captures], [*outer, *stacked],
        body=lowered.program, state=split, scanned=num_scan_inputs, directions=list(directions or [0] * num_scan_inputs),
        scans=[_empty(t) for t in stacked],
    )  # fmt: skip


def _fixpoint(
    b: Builder, body: Graph, head: list[TensorType], types: list[ValueType], skip: int, tail: Sequence[ValueType] = ()
) -> tuple[LoweredBody, list[ValueType]]:
    """Lower a body for state types that its own results fit."""
    for _ in range(MAX_GENERALISATIONS):
        lowered: LoweredBody = b.scope.body(body, [*head, *types, *tail])
        merged = [merge(b, t, out) for t, out in zip(types, lowered.outputs[skip:], strict=False)]
        if merged == [_anonymous(t) for t in types]:
            return lowered, merged
        types = merged
    return b.unsupported("the types of the loop's state do not settle")


def _anonymous(type_: ValueType) -> ValueType:
    if isinstance(type_, TensorType) and type_.shape is not None:
        return TensorType(type_.dtype, tuple(x if isinstance(x, int) else None for x in type_.shape))  # type: ignore[misc]
    return type_


def merge(b: Builder, x: ValueType, y: ValueType) -> ValueType:
    """The narrowest type that covers both."""
    if isinstance(x, TensorType) and isinstance(y, TensorType):
        if x.dtype is not y.dtype:
            b.fail(f"a value is {x.dtype.onnx_name} on one way and {y.dtype.onnx_name} on another")
        if x.shape is None or y.shape is None or len(x.shape) != len(y.shape):
            return TensorType(x.dtype)
        shape = tuple(p if isinstance(p, int) and p == q else None for p, q in zip(x.shape, y.shape, strict=True))
        return TensorType(x.dtype, shape)  # type: ignore[arg-type]
    if isinstance(x, SequenceType) and isinstance(y, SequenceType):
        return SequenceType(merge(b, x.element, y.element))
    if isinstance(x, OptionalType) or isinstance(y, OptionalType):
        left = x.element if isinstance(x, OptionalType) else x
        right = y.element if isinstance(y, OptionalType) else y
        return OptionalType(merge(b, left, right))
    if x != y:
        b.fail(f"a value is {x} on one way and {y} on another")
    return x


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
    _rank(b, value)
    type_ = type_of(value)
    assert isinstance(type_, TensorType) and type_.shape is not None
    return TensorType(type_.dtype, (*type_.shape[:axis], *type_.shape[axis + count :]))


def _stacked(b: Builder, type_: ValueType, axis: int | None) -> TensorType:
    if not isinstance(type_, TensorType):
        b.fail(f"a scan output must be a tensor, not {type_}")
    if type_.shape is None:
        return type_
    shape = list(type_.shape)
    shape.insert(axis or 0, None)  # type: ignore[arg-type]
    return TensorType(type_.dtype, tuple(shape))


def _empty(type_: TensorType) -> tuple[str, tuple[int, ...]]:
    """Element type and shape of a scan output of no iterations."""
    return type_.dtype.name, tuple(x if isinstance(x, int) else 0 for x in type_.shape or (0,))
