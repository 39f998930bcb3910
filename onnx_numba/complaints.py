"""What the standard has against a node: types that its schema does not allow, and what its shape inference says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import onnx.shape_inference
from onnx.defs import OpSchema

from onnx_numba import schemas
from onnx_numba.encode import encode_node, encode_type
from onnx_numba.ir.graph import Node
from onnx_numba.ir.types import TensorType, ValueType

Parameter = tuple[str, str, frozenset[str]]


def mistyped(node: Node, types: Sequence[ValueType | None]) -> str | None:
    """What is wrong with the element types of a node's inputs; None where nothing is.

    A type that this version of the operator does not list is let pass: other versions may, and runtimes do. But what one letter of
    the schema stands for is one type.
    """
    bound: dict[str, tuple[str, str]] = {}
    for number, (parameter, kind) in enumerate(zip(_parameters(node.op, node.domain, node.opset, len(types)), types, strict=False)):
        if parameter is None or not isinstance(kind, TensorType):
            continue
        name, letter, allowed = parameter
        actual = f"tensor({kind.dtype.onnx_name})"
        if not any(each.startswith("tensor(") for each in allowed):
            return f"input {number} ({name}) is a {actual}, expected is {_choice(allowed)}"
        if len(allowed) == 1 and actual not in allowed:
            return f"input {number} ({name}) is a {actual}, expected is {_choice(allowed)}"
        before, first = bound.setdefault(letter, (actual, name))
        if before != actual:
            return f"inputs {first} and {name} must have one type, they are {before} and {actual}"
    return None


def _choice(allowed: frozenset[str]) -> str:
    return " or ".join(sorted(allowed)[:3])


@lru_cache(maxsize=4096)
def _parameters(op: str, domain: str, opset: int, count: int) -> tuple[Parameter | None, ...]:
    """Name, type letter and allowed types of each of ``count`` inputs; None where anything goes."""
    schema = schemas.find(op, domain, opset)
    if schema is None:
        return ()
    allowed = {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.onnx.type_constraints}
    formal = schema.onnx.inputs
    result: list[Parameter | None] = []
    for number in range(count if formal else 0):
        one = formal[min(number, len(formal) - 1)]
        free = one.option == OpSchema.FormalParameterOption.Variadic and not one.is_homogeneous
        result.append(None if free else (one.name, one.type_str, allowed.get(one.type_str, frozenset([one.type_str]))))
    return tuple(result)


def refused(node: Node, types: Sequence[ValueType | None]) -> str | None:
    """What onnx's shape inference for the operator has against the node; None where it has nothing, or there is none."""
    schema = schemas.find(node.op, node.domain, node.opset)
    if schema is None or not schema.onnx.has_type_and_shape_inference_function or node.bodies:
        return None
    given = {name: encode_type(kind) for name, kind in zip(node.inputs, types, strict=True) if name and kind is not None}
    try:
        onnx.shape_inference.infer_node_outputs(schema.onnx, encode_node(node), given)
    except Exception as error:  # whatever it raises is what it has against the node
        lines = [line for line in str(error).splitlines() if line.strip()]
        return lines[-1].rpartition("] ")[2] if lines else None
    return None
