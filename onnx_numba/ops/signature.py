"""The schema of an operator that onnx does not know, as the signature of its lowering function states it.

Parameters by position are the inputs: those with a default, or whose annotation allows None, may be absent. Keyword-only parameters
are the attributes: those without a default must be given. An attribute's type is that of its annotation, else of its default; where
neither says, it is taken as the file has it.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto

from onnx_numba.ir.graph import Graph
from onnx_numba.schemas import AttributeSpec, Schema

_MANY = 1 << 31
"""More inputs or outputs than a node can have."""

_SINGLE: dict[Any, int] = {
    float: AttributeProto.FLOAT, int: AttributeProto.INT, bool: AttributeProto.INT, str: AttributeProto.STRING,
    np.ndarray: AttributeProto.TENSOR, Graph: AttributeProto.GRAPH,
}  # fmt: skip
_LISTS: dict[Any, int] = {float: AttributeProto.FLOATS, int: AttributeProto.INTS, str: AttributeProto.STRINGS}


def schema_of(function: Callable[..., Any], op: str, domain: str, since: int) -> Schema:
    """The schema of an operator that ``function`` lowers; its first parameter is the builder."""
    hints = _hints(function)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    inputs = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    needed = tuple(k for k, p in enumerate(inputs) if p.default is p.empty and not _allows_none(hints.get(p.name)))
    counted = range(needed[-1] + 1 if needed else 0, (_MANY if variadic else len(inputs)) + 1)
    attributes = {}
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and p.name != "node":
            default = None if p.default is p.empty else p.default
            attributes[p.name] = AttributeSpec(p.name, _kind(hints.get(p.name), default), p.default is p.empty, default)
    return Schema(op, domain, since, attributes, counted, range(_MANY), None, needed)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations; none where one of them names what exists for type checkers only."""
    try:
        return typing.get_type_hints(function)
    except NameError:
        return {}


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, types.UnionType) else (annotation,)


def _allows_none(annotation: Any) -> bool:
    return types.NoneType in _alternatives(annotation)


def _kind(annotation: Any, default: Any) -> int | None:
    """The type of an attribute as an ``AttributeProto.AttributeType`` number; None for any."""
    found = [a for a in _alternatives(type(default) if annotation is None else annotation) if a is not types.NoneType]
    if len(found) != 1:
        return None
    origin, arguments = typing.get_origin(found[0]), typing.get_args(found[0])
    if inspect.isclass(origin) and issubclass(origin, Sequence) and arguments:
        return _LISTS.get(arguments[0])
    return _SINGLE.get(origin or found[0])
