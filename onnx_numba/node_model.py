"""A model made of one node, for ``Backend.run_node``: types come from the values that it is to run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TypeProto, ValueInfoProto, helper

from onnx_numba import schemas
from onnx_numba.errors import InputError


def feed_of(node: NodeProto, inputs: Any) -> dict[str, Any]:
    """Inputs by name; a node may use one name twice, and leave optional inputs out by an empty name."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    names = [name for name in node.input if name]
    values = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    where = f"node {node.name or node.op_type!r}"
    if len(values) == len(node.input):
        if any(value is not None for name, value in zip(node.input, values, strict=True) if not name):
            raise InputError(f"{where} has inputs {list(node.input)}, but a value is given for one without a name")
        values = [value for name, value in zip(node.input, values, strict=True) if name]
    if len(values) != len(names):
        raise InputError(f"{where} has {len(names)} inputs {names}, got {len(values)}")
    feed: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        if feed.setdefault(name, value) is not value and not np.array_equal(feed[name], value):
            raise InputError(f"{where} has input {name!r} more than once, but is given different values for it")
    return feed


def node_model(
    node: NodeProto,
    feed: dict[str, Any],
    outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None,
    opset_version: int | None,
) -> ModelProto:
    """Wrap a node in a model.

    Parameters
    ----------
    node : NodeProto
        The node.
    feed : dict
        The values of its inputs by name: arrays, lists of them (sequences), or mappings (maps).
    outputs_info : sequence of (dtype, shape) or None
        The types of its outputs; without it they are left to inference.
    opset_version : int or None
        The version of the node's domain, or None for the newest.
    """
    inputs = [helper.make_value_info(name, _type_of(name, value)) for name, value in feed.items()]
    names = [name for name in node.output if name]
    if outputs_info is None:
        outputs = [ValueInfoProto(name=name) for name in names]
    else:
        outputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
            for name, (dtype, shape) in zip(names, outputs_info, strict=True)
        ]
    graph = helper.make_graph([node], node.op_type, inputs, outputs)
    return helper.make_model(graph, opset_imports=_opset_imports(node, opset_version))


def _opset_imports(node: NodeProto, version: int | None) -> list[Any]:
    domain = schemas.normal_domain(node.domain)
    versions = {"": schemas.newest_opset(""), domain: version or schemas.newest_opset(domain) or 1}
    return [helper.make_opsetid(name, number) for name, number in versions.items()]


def _type_of(name: str, value: Any) -> TypeProto:
    if value is None:
        raise InputError(f"input {name!r}: the type of what is absent is unknown; put the node into a model")
    if isinstance(value, Mapping):
        if not value:
            raise InputError(f"input {name!r}: the types of an empty map are unknown; put the node into a model")
        key, item = next(iter(value.items()))
        return helper.make_map_type_proto(_type_of(name, key).tensor_type.elem_type, _type_of(name, item))
    if isinstance(value, list | tuple):
        if not value:
            raise InputError(f"input {name!r}: the element type of an empty sequence is unknown; put the node into a model")
        return helper.make_sequence_type_proto(_type_of(name, value[0]))
    array = np.asarray(value)
    if array.dtype.kind in "OUST":
        return helper.make_tensor_type_proto(helper.TensorProto.STRING, array.shape)
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
