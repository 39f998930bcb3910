"""Operator schemas: which version of an operator a node means, and what its attributes are.

Everything here comes from onnx's own registry, so a new release of onnx is known without a change. Operators that onnx does not know
have schemas too, from the functions that lower them: `onnx_numba.ops.signature`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx.defs

from onnx_numba.decode import plain_attribute
from onnx_numba.errors import ModelError, UnsupportedError
from onnx_numba.ir.graph import describe
from onnx_numba.record import record

HINTS = frozenset({"consumed_inputs"})
"""Attributes that never change a result: opset 1 let nodes say which inputs may be overwritten."""


@record
class AttributeSpec:
    """An attribute of an operator: its type (an ``AttributeProto.AttributeType`` number, None for any), and its default or None."""

    name: str
    type: int | None
    required: bool
    default: Any


@record(eq=False)
class Schema:
    """One version of one operator.

    Attributes
    ----------
    inputs, outputs : range
        How many there may be.
    onnx : onnx.defs.OpSchema or None
        What onnx says; None for operators that it does not know.
    needed : tuple of int
        Positions of inputs that must not be left out among others; only for operators that onnx does not know, since files in the
        wild leave out what onnx declares as needed.
    """

    op: str
    domain: str
    since_version: int
    attributes: Mapping[str, AttributeSpec]
    inputs: range
    outputs: range
    onnx: Any
    needed: tuple[int, ...] = ()


def same(value: Any, default: Any) -> bool:
    """Whether two values of an attribute are equal."""
    if isinstance(value, np.ndarray) or isinstance(default, np.ndarray):
        return isinstance(value, np.ndarray) and isinstance(default, np.ndarray) and np.array_equal(value, default)
    return bool(value == default)


def normal_domain(domain: str) -> str:
    """The domain with the two spellings of the standard's own made one."""
    return "" if domain == "ai.onnx" else domain


def newest_opset(domain: str) -> int | None:
    """The newest version of a domain; None where the installed onnx has no operators of it."""
    # Of these two onnx itself knows; the others' newest operators are looked for, which takes 20 ms.
    own = {"": onnx.defs.onnx_opset_version, "ai.onnx.ml": onnx.defs.onnx_ml_opset_version}
    return own[domain]() if domain in own else newest_opsets().get(domain)


@lru_cache(maxsize=1)
def newest_opsets() -> Mapping[str, int]:
    """The newest version of every domain that the installed onnx has operators of."""
    newest = {"": onnx.defs.onnx_opset_version(), "ai.onnx.ml": onnx.defs.onnx_ml_opset_version()}
    for schema in onnx.defs.get_all_schemas():
        newest[schema.domain] = max(schema.since_version, newest.get(schema.domain, 1))
    return newest


@lru_cache(maxsize=4096)
def find(op: str, domain: str, opset: int) -> Schema | None:
    """The schema that an operator has in an opset; None where it has none."""
    if not 1 <= opset <= (newest_opset(domain) or 0):
        return None
    try:
        schema = onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return None
    return _convert(schema)


def resolve(name: str, op: str, domain: str, opset: int) -> Schema | None:
    """The schema of a node; None for operators of domains that are not the standard's.

    Raises
    ------
    ModelError
        The standard's domain has no such operator in this opset.
    UnsupportedError
        The opset is newer than the installed onnx knows.
    """
    newest = newest_opset(domain)
    if newest is None:
        return None
    where = describe(name, op, domain, opset)
    if opset > newest:
        raise UnsupportedError(f"{where}: onnx {onnx.__version__} knows this domain up to opset {newest}; install a newer onnx")
    schema = find(op, domain, opset)
    if schema is None:
        later = find(op, domain, newest)
        hint = f"; it came with opset {_first_version(op, domain)}" if later else ""
        raise ModelError(f"{where}: there is no such operator in this opset{hint}")
    return schema


@lru_cache(maxsize=4096)
def elsewhere(op: str, domain: str, attribute: str) -> Mapping[int, AttributeSpec]:
    """The versions of an operator that have an attribute."""
    every = [s for s in onnx.defs.get_all_schemas_with_history() if (s.name, s.domain) == (op, domain)]
    return {s.since_version: _convert(s).attributes[attribute] for s in every if attribute in s.attributes}


def _convert(schema: Any) -> Schema:
    attributes = {}
    for name, attribute in schema.attributes.items():
        default = attribute.default_value
        value = plain_attribute(default, None) if default.type else None
        attributes[name] = AttributeSpec(name, _TYPE_NUMBERS[attribute.type.name], attribute.required, value)
    inputs = range(_least_inputs(schema), schema.max_input + 1)
    outputs = range(schema.min_output, schema.max_output + 1)
    return Schema(schema.name, schema.domain, schema.since_version, attributes, inputs, outputs, schema)


def _least_inputs(schema: Any) -> int:
    """How many inputs a node has at least, names at the end that are empty not counted: Loop's first two are optional."""
    least: int = schema.min_input
    while 0 < least <= len(schema.inputs) and schema.inputs[least - 1].option.name == "Optional":
        least -= 1
    return least


_TYPE_NUMBERS = dict(onnx.AttributeProto.AttributeType.items())


def _first_version(op: str, domain: str) -> int:
    versions = (s.since_version for s in onnx.defs.get_all_schemas_with_history() if (s.name, s.domain) == (op, domain))
    return min(versions)
