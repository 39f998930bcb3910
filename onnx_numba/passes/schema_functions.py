"""Bodies that the standard itself gives for operators, in terms of simpler ones."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

import onnx
from onnx import FunctionProto

from onnx_numba import schemas
from onnx_numba.convert import Context, convert_function, opset_versions
from onnx_numba.encode import encode_node, encode_type
from onnx_numba.ir.graph import Function, FunctionKey, Node
from onnx_numba.ir.types import TensorType, ValueType
from onnx_numba.schemas import Schema


def schema_function(node: Node, input_types: Sequence[ValueType | None]) -> Function | None:
    """The body of a node's operator for these input types; None where the standard gives none.

    Subgraphs of the node may be made of calls of functions only, which its body then has.
    """
    schema = schemas.find(node.op, node.domain, node.opset)
    if schema is None or schema.since_version != node.since_version:
        return None
    if schema.onnx.has_function:
        version = _version(schema.onnx.function_opset_versions, node)
        return _function(schema.onnx.get_function_with_opset_version(version), schema)
    if schema.onnx.has_context_dependent_function:
        return _function_for(node, input_types, schema)
    return None


def is_function(node: Node) -> bool:
    """Whether the standard gives a body for a node's operator, be it for some input types only."""
    schema = schemas.find(node.op, node.domain, node.opset)
    if schema is None or schema.since_version != node.since_version:
        return False
    return bool(schema.onnx.has_function or schema.onnx.has_context_dependent_function)


def is_fixed(kind: ValueType | None) -> bool:
    """Whether a type says all of a tensor's shape, which some of these bodies depend on."""
    return not isinstance(kind, TensorType) or (kind.shape is not None and all(isinstance(x, int) for x in kind.shape))


def _function_for(node: Node, input_types: Sequence[ValueType | None], schema: Schema) -> Function | None:
    """A body that onnx makes for this node."""
    # onnx makes no body for a SequenceMap that leaves out outputs; what nobody reads is removed later.
    called = replace(node, outputs=tuple(name or f"»{k}" for k, name in enumerate(node.outputs)))
    types = [encode_type(kind).SerializeToString() for kind in input_types]
    version = _version(schema.onnx.context_dependent_function_opset_versions, node)
    encoded = schema.onnx.get_context_dependent_function_with_opset_version(
        version, encode_node(called).SerializeToString(), types
    )
    return _function(encoded, schema, [inner.key for body in node.bodies.values() for inner in body.nodes]) if encoded else None


def _function(encoded: bytes, schema: Schema, calls: Container[FunctionKey] = ()) -> Function:
    """The body; ``calls`` are of functions."""
    proto = FunctionProto.FromString(encoded)
    # Bodies of operators outside the standard's own domain say nothing about it; they come from this release of onnx.
    opsets = {"": onnx.defs.onnx_opset_version(), **opset_versions(proto.opset_import, {})}
    function = convert_function(proto, Context(opsets, calls))
    defaults = {name: spec.default for name, spec in schema.attributes.items() if spec.default is not None}
    return replace(function, defaults={**defaults, **function.defaults})


def _version(versions: Sequence[int], node: Node) -> int:
    """The body to take: written for the newest opset not above the node's, else for the oldest there is."""
    older = [version for version in versions if version <= node.opset]
    return max(older) if older else min(versions)
