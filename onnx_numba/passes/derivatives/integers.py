"""Integers that are differentiated by: numbers whose neighbours are real, so that ``Mul(n, n)`` has the derivative ``2 n``.

The adjoint of an integer is a float64, and a rule is given float64 in an integer's place wherever the operator takes floats as well. A
result that the operator rounds to a whole number, as that of a division, does not change where its operands change a little, and a
position in a tensor is no number: neither passes a derivative on.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Any

from onnx_numba import schemas
from onnx_numba.ir.graph import Node
from onnx_numba.ir.types import OptionalType, TensorType, ValueType
from onnx_numba.ops.gradient import inside
from onnx_numba.passes.derivatives.terms import Known, Term, Writer

_ROUNDED = frozenset({"Div", "GridSample", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "Resize", "Upsample"})
_SAMPLED = {"GridSample": "linear", "Resize": "nearest", "Upsample": "nearest"}
"""Operators that round unless they copy, and the mode that they have by default."""
_PRODUCTS = frozenset({"ConvInteger", "MatMulInteger"})
"""Operators of integers alone whose results are exact."""


def is_whole(kind: ValueType | None) -> bool:
    """Whether a type is one of integers, or of sequences or optionals of such."""
    element = inside(kind)
    return element is not None and element.dtype.is_int


def passes_on(node: Node, output: int, active: Container[str], known: Known) -> bool:
    """Whether an output of integers changes smoothly with the integers among the ``active`` values that a node reads."""
    if node.bodies:
        return True
    if _rounds(node, known) or not any(name in active and is_whole(known.type_of(name)) for name in node.inputs):
        return False
    return node.op in _PRODUCTS or _takes_floats(_formal(node, "outputs", output))


def _rounds(node: Node, known: Known) -> bool:
    if node.op == "Pow":
        exponent = known.type_of(node.inputs[1])
        return isinstance(exponent, TensorType) and exponent.dtype.is_float
    return node.op in _ROUNDED and (node.op not in _SAMPLED or node.attributes.get("mode", _SAMPLED[node.op]) != "nearest")


def with_reals(node: Node, active: Container[str], writer: Writer) -> tuple[Node, list[Term | None]]:
    """The node reading float64 in the place of ``active`` integers, and of those that must be of their type, and its outputs likewise."""
    known = writer.known
    outputs = [Term(writer, name) if name else None for name in node.outputs]
    numbers = [bool(name) and is_whole(known.type_of(name)) and not isinstance(known.type_of(name), OptionalType) for name in node.inputs]
    whole = {k: _formal(node, "inputs", k) for k, number in enumerate(numbers) if number}
    types = {formal for k, formal in whole.items() if node.inputs[k] in active and _takes_floats(formal)}
    if node.bodies or node.op == "BitCast" or not types:  # bits of another type would be others
        return node, outputs
    reals = {name: Term(writer, name).real().name for name in dict.fromkeys(node.inputs[k] for k in whole if whole[k] in types)}
    names = [reals[name] if whole.get(k) in types else name for k, name in enumerate(node.inputs)]
    for k, term in enumerate(outputs):
        if term and is_whole(known.type_of(term.name)) and _takes_floats(_formal(node, "outputs", k)):
            outputs[k] = term.real()
    return replace(node, inputs=tuple(names)), outputs


def _formal(node: Node, which: str, position: int) -> tuple[str, frozenset[str]]:
    """What the schema calls the type of an input or output, and what it may be."""
    schema = schemas.find(node.op, node.domain, node.opset)
    formals: Any = getattr(schema.onnx, which) if schema and schema.onnx else ()
    if not formals:
        return "", frozenset()
    formal = formals[min(position, len(formals) - 1)]
    return formal.type_str, frozenset(formal.types)


def _takes_floats(formal: tuple[str, frozenset[str]]) -> bool:
    return not formal[1].isdisjoint(("tensor(double)", "seq(tensor(double))", "optional(tensor(double))"))
