"""Segments: nodes that can only be lowered when a run has said more about their inputs, as models of their own.

A node whose input has a rank that only the run knows, or whose lowering needs a value that only the run knows, joins a segment, and
so do the nodes that read what it makes. The plan has one step for it, ``deferred``, which holds the segment as a model and prepares it
when it is first reached; see `onnx_numba.runtime.segments`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, shape_inference

from onnx_numba import schemas
from onnx_numba.encode import encode_graph, encode_node
from onnx_numba.errors import UnsupportedError
from onnx_numba.ir.graph import Graph, Initializer, Node, Value, reads
from onnx_numba.ir.types import BY_ONNX, BY_ONNX_NAME, STRING, OptionalType, SequenceType, TensorType, ValueType, dtype_of
from onnx_numba.ops import gradient

EMBEDDED = 1 << 20
"""Constants of more bytes are handed to a segment in every run; smaller ones are part of it."""

Array = np.ndarray[Any, Any]
Types = Mapping[str, ValueType]
Assume = Callable[[Node, Types, Mapping[str, Array]], Types]
_CALLS = "»"
"""The domain of functions that are made here."""


class Segment:
    """Nodes waiting to become one step.

    Parameters
    ----------
    assume : callable
        ``assume(node, inputs, constants)`` gives types of a node's outputs by name where onnx cannot tell, none if it cannot either.

    Attributes
    ----------
    nodes : list of Node
        In their order.
    inputs : dict
        Type by name of the values from outside.
    constants : dict
        Array by name of constants from outside.
    made : dict
        Type by name of the values that the nodes make.
    """

    def __init__(self, assume: Assume) -> None:
        self._assume = assume
        self.nodes: list[Node] = []
        self.inputs: dict[str, ValueType] = {}
        self.constants: dict[str, Array] = {}
        self.made: dict[str, ValueType] = {}

    def continues(self, node: Node) -> bool:
        """Whether a node belongs here because of what it reads: a value of unknown rank, or numbers that dims are made of."""
        used = [self.made[name] for name in reads(node) if name in self.made]
        whole = not node.bodies or (node.domain, node.op) == gradient.PULLBACK
        return any(unranked(kind) or _dims_like(kind) for kind in used) and whole

    def add(self, node: Node, types: Mapping[str, ValueType], constants: Mapping[str, Array], results: Sequence[ValueType] = ()) -> None:
        """Take a node in; ``types`` and ``constants`` tell what it reads from outside, ``results`` what it gives if onnx cannot tell."""
        self.inputs.update({name: open_dims(kind) for name, kind in types.items()})
        self.constants.update(constants)
        known = {**{name: self._type(name) for name in reads(node)}}
        if results:
            self.made.update({name: kind for name, kind in zip(node.outputs, results, strict=False) if name})
        else:
            self.made.update(output_types(node, known, {n: self.constants[n] for n in known if n in self.constants}, self._assume))
        self.nodes.append(node)

    def _type(self, name: str) -> ValueType:
        if name in self.constants:
            return _array_type(self.constants[name])
        return self.made[name] if name in self.made else self.inputs[name]

    def model(self, outputs: Sequence[str]) -> bytes:
        """The segment as a model."""
        results = tuple(Value(name, open_dims(self.made[name])) for name in outputs)
        return _model(self.nodes, self.inputs, self.constants, results).SerializeToString(deterministic=True)

    def step(self, outputs: Sequence[str]) -> dict[str, Any]:
        """Parameters of the step that runs it."""
        model = self.model(outputs)
        return {"model": model, "digest": hashlib.sha256(model).hexdigest(), "named": tuple(self.inputs.items())}

    def __str__(self) -> str:
        names = [str(node) for node in self.nodes]
        return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def unranked(kind: ValueType) -> bool:
    """Whether it is a tensor of unknown rank."""
    return isinstance(kind, TensorType) and kind.shape is None


def _dims_like(kind: ValueType) -> bool:
    return isinstance(kind, TensorType) and kind.dtype.is_int and kind.shape is not None and len(kind.shape) <= 1


def open_dims(kind: ValueType) -> ValueType:
    """The type with None for every dim that is not a number."""
    if isinstance(kind, TensorType) and kind.shape is not None:
        return TensorType(kind.dtype, tuple(x if isinstance(x, int) else None for x in kind.shape))
    return kind


def _opsets(nodes: Iterable[Node]) -> dict[str, int]:
    """The newest version of each domain that nodes are of."""
    versions: dict[str, int] = {}
    for node in _all_nodes(nodes):
        versions[node.domain] = max(node.opset, versions.get(node.domain, 0))
    return {"": onnx.defs.onnx_opset_version(), **versions}


def _means_same(node: Node, opset: int) -> bool:
    schema = schemas.find(node.op, node.domain, opset)
    return node.opset == opset if schema is None else schema.since_version == node.since_version


def _with_calls(nodes: Iterable[Node], opsets: Mapping[str, int], functions: list[onnx.FunctionProto]) -> Iterator[Node]:
    """The nodes, those that mean something else in the opsets as calls of functions, which have opsets of their own.

    In opset 21 ``y = Softmax (x)`` of opset 11 becomes ``y = ».call0 (x)`` with ``<opset_import: ["" : 11]> ».call0 (x) => (y)
    { y = Softmax (x) }``.
    """
    for node in nodes:
        own = opsets if _means_same(node, opsets[node.domain]) else {**opsets, node.domain: node.opset}
        bodies = {key: body.with_nodes(tuple(_with_calls(body.nodes, own, functions))) for key, body in node.bodies.items()}
        called = replace(node, bodies=bodies)
        if own is not opsets:
            name, inputs, outputs = f"call{len(functions)}", reads(called), tuple(filter(None, node.outputs))
            functions.append(helper.make_function(_CALLS, name, inputs, outputs, [encode_node(called)], _imported(own)))
            called = Node(name, _CALLS, 0, 1, inputs, outputs, name=node.name)
        yield called


def _imported(opsets: Mapping[str, int]) -> list[onnx.OperatorSetIdProto]:
    return [helper.make_opsetid(*entry) for entry in sorted({**opsets, _CALLS: 1}.items())]


def _all_nodes(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        for body in node.bodies.values():
            yield from _all_nodes(body.nodes)


def _model(
    nodes: Sequence[Node], inputs: Mapping[str, ValueType], constants: Mapping[str, Array], outputs: Sequence[Value]
) -> onnx.ModelProto:
    opsets, functions = _opsets(nodes), list[onnx.FunctionProto]()
    called = tuple(_with_calls(nodes, opsets, functions))
    initializers = tuple(Initializer(name, dtype_of(array.dtype) or STRING, array) for name, array in constants.items())
    values = tuple(Value(name, kind) for name, kind in inputs.items())
    graph = encode_graph(Graph(values, tuple(outputs), initializers, called, str(nodes[0])))
    # A fixed version keeps the bytes, by which the store knows the model, the same.
    return helper.make_model(graph, opset_imports=_imported(opsets), ir_version=10, functions=functions)


def output_types(node: Node, inputs: Types, constants: Mapping[str, Array], assume: Assume) -> dict[str, ValueType]:
    """Types of a node's outputs, as far as onnx can tell, or else ``assume``.

    Raises
    ------
    UnsupportedError
        Not even an element type follows from the inputs.
    """
    outer = {name: kind for name, kind in inputs.items() if name not in constants}
    model = _model([node], outer, constants, [Value(name) for name in node.outputs if name])
    try:
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError):
        inferred = model  # the run will say what is wrong, in this package's words
    found = {value.name: _decoded(value.type) for value in inferred.graph.output}
    if any(map(unranked, inputs.values())):
        # Of ranks it does not know onnx leaves the dims out, and says that there are none: the scores of Attention, for one.
        found = {name: _unless_scalar(kind) for name, kind in found.items()}
    result = {name: found.get(name) or _by_schema(node, position, inputs) for position, name in enumerate(node.outputs) if name}
    assumed = assume(node, inputs, constants) if None in result.values() else {}
    known = {name: kind or assumed.get(name) for name, kind in result.items()}
    missing = [name for name, kind in known.items() if kind is None]
    if missing:
        raise UnsupportedError(f"{node}: the type of output {missing[0]!r} must be known before the run")
    return {name: kind for name, kind in known.items() if kind is not None}


def _unless_scalar(kind: ValueType | None) -> ValueType | None:
    """The type, but for a scalar's, of which only the element type is kept."""
    return TensorType(kind.dtype) if isinstance(kind, TensorType) and kind.shape == () else kind


def _decoded(proto: onnx.TypeProto) -> ValueType | None:
    which = proto.WhichOneof("value")
    if which == "tensor_type" and proto.tensor_type.elem_type in BY_ONNX:
        dtype = BY_ONNX[proto.tensor_type.elem_type]
        if not proto.tensor_type.HasField("shape"):
            return TensorType(dtype)
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in proto.tensor_type.shape.dim)
        return TensorType(dtype, shape)
    if which in ("sequence_type", "optional_type"):
        element = _decoded(getattr(proto, which).elem_type)
        return element and (SequenceType(element) if which == "sequence_type" else OptionalType(element))
    return None


def _by_schema(node: Node, position: int, inputs: Types) -> ValueType | None:
    """The type of an output by its declaration: a type of its own, or that of an input; None where it does not say."""
    if node.domain == gradient.DOMAIN:
        return gradient.result_type(node.op, [inputs[name] for name in node.inputs if name], position - len(node.outputs))
    schema = schemas.find(node.op, node.domain, node.opset)
    if schema is not None and schema.onnx.outputs:
        formal = schema.onnx.outputs
        declared = formal[min(position, len(formal) - 1)].type_str
        allowed = next((c.allowed_type_strs for c in schema.onnx.type_constraints if c.type_param_str == declared), [declared])
        if len(allowed) == 1 and (dtype := BY_ONNX_NAME.get(allowed[0].removeprefix("tensor(").removesuffix(")"))):
            return TensorType(dtype)
        for index, name in enumerate(node.inputs):
            kind = inputs.get(name)
            same = schema.onnx.inputs[min(index, len(schema.onnx.inputs) - 1)].type_str == declared
            if same and kind is not None:
                return TensorType(kind.dtype) if isinstance(kind, TensorType) else kind
    return None


def _array_type(array: Array) -> ValueType:
    return TensorType(dtype_of(array.dtype) or STRING, array.shape)
