"""Bodies that the standard itself gives for operators, in terms of simpler ones."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import FunctionProto

from onnx_numba import schemas
from onnx_numba.convert import Context, convert_function, opset_versions
from onnx_numba.encode import encode_node, encode_type
from onnx_numba.ir.graph import Function, Node
from onnx_numba.ir.types import ValueType


def schema_function(node: Node, input_types: Sequence[ValueType | None]) -> Function | None:
    """The body of a node's operator for these input types; None where the standard gives none."""
    schema = schemas.find(node.op, node.domain, node.opset)
    if schema is None or schema.since_version != node.since_version:
        return None
    raw = schema.onnx
    if raw.has_function:
        version = _version(raw.function_opset_versions, node)
        encoded = raw.get_function_with_opset_version(version)
    elif raw.has_context_dependent_function:
        version = _version(raw.context_dependent_function_opset_versions, node)
        types = [encode_type(kind).SerializeToString() for kind in input_types]
        encoded = raw.get_context_dependent_function_with_opset_version(version, encode_node(node).SerializeToString(), types)
    else:
        return None
    if not encoded:
        return None
    proto = FunctionProto.FromString(encoded)
    context = Context({"": version, **opset_versions(proto.opset_import, {})})
    function = convert_function(proto, context)
    defaults = {name: spec.default for name, spec in schema.attributes.items() if spec.default is not None}
    return Function(
        function.key, function.inputs, function.outputs, {**defaults, **function.defaults}, function.opsets, function.nodes
    )


def _version(versions: Sequence[int], node: Node) -> int:
    """The body to take: written for the newest opset not above the node's, else for the oldest there is."""
    older = [version for version in versions if version <= node.opset]
    return max(older) if older and not node.domain else min(versions)
