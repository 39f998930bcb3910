"""From the graph back to protobuf, for onnx's own functions that want to see a node."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from onnx_numba import schemas
from onnx_numba.ir.graph import Graph, Initializer, Node
from onnx_numba.ir.types import MapType, OptionalType, SequenceType, TensorType, ValueType


def encode_node(node: Node) -> NodeProto:
    """The protobuf of a node."""
    proto = NodeProto(op_type=node.op, domain=node.domain, name=node.name, overload=node.overload)
    proto.input.extend(node.inputs)
    proto.output.extend(node.outputs)
    schema = schemas.find(node.op, node.domain, node.opset)
    for name, value in node.attributes.items():
        declared = schema.attributes[name].type if schema and name in schema.attributes else None
        proto.attribute.append(_attribute(name, value, declared))
    for name, body in node.bodies.items():
        proto.attribute.append(AttributeProto(name=name, type=AttributeProto.GRAPH, g=encode_graph(body)))
    return proto


def encode_graph(graph: Graph) -> GraphProto:
    """The protobuf of a graph."""
    proto = GraphProto(name=graph.name or "graph")
    proto.node.extend(map(encode_node, graph.nodes))
    proto.initializer.extend(map(_initializer, graph.initializers))
    for values, target in ((graph.inputs, proto.input), (graph.outputs, proto.output)):
        for value in values:
            target.append(helper.make_value_info(value.name, encode_type(value.type)))
    return proto


def encode_type(kind: ValueType | None) -> TypeProto:
    """The protobuf of a type; dims that are not numbers are left open."""
    proto = TypeProto()
    if isinstance(kind, TensorType):
        proto.tensor_type.elem_type = kind.dtype.onnx
        if kind.shape is not None:
            proto.tensor_type.shape.SetInParent()
            for extent in kind.shape:
                dim = proto.tensor_type.shape.dim.add()
                if isinstance(extent, int):
                    dim.dim_value = extent
    elif isinstance(kind, SequenceType):
        proto.sequence_type.elem_type.CopyFrom(encode_type(kind.element))
    elif isinstance(kind, OptionalType):
        proto.optional_type.elem_type.CopyFrom(encode_type(kind.element))
    elif isinstance(kind, MapType):
        proto.map_type.key_type = kind.key.onnx
        proto.map_type.value_type.CopyFrom(encode_type(kind.value))
    return proto


def _attribute(name: str, value: Any, declared: int | None) -> AttributeProto:
    if isinstance(value, np.ndarray):
        return AttributeProto(name=name, type=AttributeProto.TENSOR, t=_tensor(value))
    if isinstance(value, (TensorType, SequenceType, OptionalType, MapType)):
        return AttributeProto(name=name, type=AttributeProto.TYPE_PROTO, tp=encode_type(value))
    return helper.make_attribute(name, value, attr_type=declared)


def _initializer(constant: Initializer) -> TensorProto:
    proto = _tensor(constant.array)
    proto.name = constant.name
    return proto


def _tensor(array: np.ndarray[Any, Any]) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array))
