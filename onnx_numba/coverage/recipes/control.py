"""Control flow, sequences, optionals and training operators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx.defs
from onnx import TensorProto, helper

from onnx_numba.coverage.case import Case, Draft, convert, element, onnx_type, type_proto
from onnx_numba.coverage.recipes import recipe

YES = np.array(1.0)


def _info(name: str, type_: str) -> onnx.ValueInfoProto:
    return helper.make_value_info(name, type_proto(type_))


def _graph(nodes: Sequence[Any], inputs: dict[str, str], outputs: dict[str, str], name: str = "body") -> onnx.GraphProto:
    given, results = ([_info(*item) for item in values.items()] for values in (inputs, outputs))
    return helper.make_graph(list(nodes), name, given, results)


# ---- control flow


@recipe("If")
def if_(c: Draft) -> Iterator[Case]:
    branches = {
        key: _graph(_carried(c, value), {}, {"result": c.types["V"]}, key)
        for key, value in (("then_branch", "then_value"), ("else_branch", "else_value"))
    }
    for name, chosen in (("", YES), ("else", -YES)):
        made = c.make(chosen, name=name, **branches)
        yield replace(made, outer={key: (convert(c.real(2, 3), c.types["V"]), c.types["V"]) for key in ("then_value", "else_value")})


def _carried(c: Draft, value: str) -> list[Any]:
    """Nodes that hand an outer value through: a loop where this version's Identity does not take the type."""
    type_ = c.types["V"]
    allowed = onnx.defs.get_schema("Identity", c.version, "").type_constraints[0].allowed_type_strs
    if type_ in allowed:
        return [helper.make_node("Identity", [value], ["result"])]
    body = _graph(
        [helper.make_node("Identity", ["go"], ["on"])], {"i": "tensor(int64)", "go": "tensor(bool)", "v": type_},
        {"on": "tensor(bool)", "v": type_}, f"loop_{value}",
    )  # fmt: skip
    once = helper.make_node("Constant", [], ["trips"], value=helper.make_tensor("one", TensorProto.INT64, [], [1]))
    return [once, helper.make_node("Loop", ["trips", "", value], ["result"], body=body)]


@recipe("Loop")
def loop(c: Draft) -> Iterator[Case]:
    type_ = c.types["V"]
    head = {"i": "tensor(int64)", "go": "tensor(bool)"}
    on = helper.make_node("Identity", ["go"], ["on"])
    same = _graph([on], {**head, "v": type_}, {"on": "tensor(bool)", "v": type_})
    yield c.make(np.array(2, np.int64), YES, c.real(2, 3), outputs=1, body=same)
    number = "tensor(float)"
    add = [on, helper.make_node("Add", ["v", "v"], ["w"]), helper.make_node("Identity", ["w"], ["each"])]
    body = _graph(add, {**head, "v": number}, {"on": "tensor(bool)", "w": number, "each": number})
    for name, trips, go in (("scan", 3, YES), ("no trips", 0, YES), ("stopped", 3, -YES)):
        yield c.make(np.array(trips, np.int64), go, c.real(2, 3), outputs=2, name=name, types={"V": number}, body=body)
    stop = [helper.make_node("Not", ["go"], ["on"]), *add[1:]]
    once = _graph(stop, {**head, "v": number}, {"on": "tensor(bool)", "w": number, "each": number})
    yield c.make(np.array(5, np.int64), YES, c.real(2, 3), outputs=2, name="stops", types={"V": number}, body=once)
    yield c.make(None, YES, c.real(2, 3), outputs=2, name="while", types={"V": number}, body=once)


@recipe("Scan")
def scan(c: Draft) -> Iterator[Case]:
    type_ = c.types["V"]
    nodes = [helper.make_node("Identity", [n], [m]) for n, m in (("s", "t"), ("x", "y"))]
    same = _graph(nodes, {"s": type_, "x": type_}, {"t": type_, "y": type_})
    first = [None] if c.version == 8 else []
    lead = (2,) if c.version == 8 else ()
    yield c.make(*first, c.real(*lead, 2), c.real(*lead, 3, 2), outputs=2, num_scan_inputs=1, body=same)
    number = "tensor(float)"
    nodes = [helper.make_node("Add", ["s", "x"], ["t"]), helper.make_node("Mul", ["t", "x"], ["y"])]
    body = _graph(nodes, {"s": number, "x": number}, {"t": number, "y": number})
    given: dict[str, Any] = {"outputs": 2, "types": {"V": number}, "num_scan_inputs": 1, "body": body}
    yield c.make(*first, c.real(*lead, 2), c.real(*lead, 3, 2), name="sum", **given)
    if c.version == 8:
        yield c.make(None, c.real(2, 2), c.real(2, 3, 2), name="backwards", directions=[1], **given)
        yield c.make(np.array([2, 3], np.int64), c.real(2, 2), c.real(2, 3, 2), name="lengths", **given)
        return
    yield c.make(c.real(2), c.real(3, 2), name="backwards", scan_input_directions=[1], **given)
    yield c.make(c.real(2), c.real(3, 2), name="output backwards", scan_output_directions=[1], **given)
    yield c.make(c.real(2), c.real(2, 3), name="axes", scan_input_axes=[1], scan_output_axes=[1], **given)
    if c.version >= 11:
        yield c.make(c.real(2), c.real(2, 3), name="axes=-1", scan_input_axes=[-1], scan_output_axes=[-1], **given)


# ---- sequences


@recipe("SequenceConstruct")
def sequence_construct(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3), c.real(1, 3))


@recipe("SequenceEmpty")
def sequence_empty(c: Draft) -> Iterator[Case]:
    yield c.make(dtype=onnx_type(element(c.types["S"])))
    yield c.make(name="default", types={"S": "seq(tensor(float))"})


@recipe("SequenceLength")
def sequence_length(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3))


@recipe("SequenceAt", "SequenceErase")
def sequence_at(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3), np.array(1))
    yield c.make(c.real(2, 3), np.array(-1), name="last")
    if c.schema.name == "SequenceErase":
        yield c.make(c.real(2, 3), name="default")


@recipe("SequenceInsert")
def sequence_insert(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3), c.real(1, 2), np.array(1))
    yield c.make(c.real(2, 3), c.real(1, 2), name="append")
    yield c.make(c.real(2, 3), c.real(1, 2), np.array(-1), name="negative")


@recipe("ConcatFromSequence")
def concat_from_sequence(c: Draft) -> Iterator[Case]:
    yield c.make([c.real(2, 3), c.real(1, 3)], axis=0)
    yield c.make([c.real(2, 3), c.real(2, 3)], name="new_axis", axis=-1, new_axis=1)


@recipe("SplitToSequence")
def split_to_sequence(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(4, 3), np.array([1, 3]))
    yield c.make(c.real(5, 3), np.array(2), name="chunks")
    yield c.make(c.real(2, 3), name="ones", axis=1)
    yield c.make(c.real(2, 3), name="keepdims=0", axis=1, keepdims=0)


@recipe("SequenceMap")
def sequence_map(c: Draft) -> Iterator[Case]:
    each, other = element(c.types["S"]), c.types["V"]
    body = _graph([helper.make_node("Identity", ["x"], ["y"])], {"x": each}, {"y": each})
    yield c.make(c.real(2, 3), body=body)
    inner = element(other) if other.startswith("seq(") else other
    both = [helper.make_node("Identity", [n], [f"{n}_out"]) for n in ("x", "a")]
    second = _graph(both, {"x": each, "a": inner}, {"x_out": each, "a_out": inner})
    made = c.make(c.real(2, 3), c.real(2, 3), name="with another", outputs=2, body=second)
    yield replace(made, outputs=(f"seq({each})", f"seq({inner})"), everywhere=True)


# ---- optionals


@recipe("Optional")
def optional(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3))
    yield c.make(name="absent", type=type_proto(c.types["V"]))


@recipe("OptionalGetElement")
def optional_get(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3))


@recipe("OptionalHasElement")
def optional_has(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3))
    if c.version >= 18:
        yield c.make(name="no input")


# ---- training


@recipe("ai.onnx.preview.training.Adagrad")
def adagrad(c: Draft) -> Iterator[Case]:
    rate, step = np.array(0.125), np.array(3, np.int64)
    yield c.make(rate, step, c.real(3), c.real(3), c.real(3, low=0.25), outputs=2, norm_coefficient=0.5, decay_factor=0.25, epsilon=0.125)
    yield c.make(rate, step, *_tensors(c, 3), outputs=4, name="two")


@recipe("ai.onnx.preview.training.Adam")
def adam(c: Draft) -> Iterator[Case]:
    rate, step = np.array(0.125), np.array(3, np.int64)
    yield c.make(rate, step, c.real(3), c.real(3), c.real(3), c.real(3, low=0.25), outputs=3, norm_coefficient=0.5, epsilon=0.125)
    yield c.make(rate, np.array(0, np.int64), *_tensors(c, 4), outputs=6, name="two,first step", norm_coefficient_post=0.25)


@recipe("ai.onnx.preview.training.Momentum")
def momentum(c: Draft) -> Iterator[Case]:
    rate, step = np.array(0.125), np.array(3, np.int64)
    given: dict[str, Any] = {"alpha": 0.75, "beta": 0.5, "norm_coefficient": 0.25}
    yield c.make(rate, step, c.real(3), c.real(3), c.real(3), outputs=2, mode="standard", **given)
    yield c.make(rate, step, c.real(3), c.real(3), c.real(3), outputs=2, name="nesterov", mode="nesterov", **given)
    yield c.make(rate, np.array(0, np.int64), *_tensors(c, 3), outputs=4, name="two,first step", mode="standard", **given)


def _tensors(c: Draft, groups: int) -> list[Any]:
    """Two tensors of every group (values, gradients, states); states are not negative."""
    return [c.real(*shape, low=0.25 if k >= 2 else -2) for k in range(groups) for shape in ((3,), (2, 2))]


@recipe("ai.onnx.preview.training.Gradient")
def gradient(c: Draft) -> Iterator[Case]:
    square = helper.make_node("Mul", ["in0", "in0"], ["square"])
    made = c.make(c.real(3), xs=["in0"], y="square")
    # The schema lets outputs be of any float type; a derivative has the type of what it is taken by.
    yield replace(made, before=(square,), outputs=(made.types["T1"],))


