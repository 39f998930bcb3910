"""The graph: an ONNX model after import, with every ambiguity of the file format resolved.

What later stages may rely on:

* every name is defined once in the whole model, subgraphs included, so that one flat environment serves all scopes;
* nodes stand in an order in which every value is defined before it is used;
* operators are resolved to the version of their schema (``since_version``), attributes are Python values;
* `Graph.captures` says which values of outer scopes a subgraph reads;
* the empty string stands for an absent optional input or an output nobody asked for.

Nothing here changes after it is made: passes build new graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from onnx_numba.ir.types import DType, ValueType
from onnx_numba.record import record

if TYPE_CHECKING:
    import numpy as np


@record(eq=False)
class Initializer:
    """A constant of the model.

    Attributes
    ----------
    name : str
        The value's name.
    dtype : DType
        Element type.
    array : numpy.ndarray
        Read-only elements; may be a view of a memory-mapped file. Strings lie in object arrays.
    """

    name: str
    dtype: DType
    array: np.ndarray[Any, Any]


@record(eq=False)
class Value:
    """An input or output of a graph as the model declares it.

    Attributes
    ----------
    name : str
        The value's name.
    type : ValueType or None
        Declared type; None where the model says nothing. Dims of its tensors are ``int``, a name, or None where nothing is known.
    default : Initializer or None
        For inputs that callers may leave out: what they are then.
    """

    name: str
    type: ValueType | None = None
    default: Initializer | None = None


@record
class AttributeRef:
    """Stands, inside a function, for the attribute of this name of the node that calls the function."""

    name: str


GRADIENT = ("ai.onnx.preview.training", "Gradient")
"""Domain and name of the operator whose attributes name values: its node has them as further inputs, first those named by ``xs`` and
``zs``, as many as are fed, then ``y``. `onnx_numba.passes.differentiation` replaces it."""

FunctionKey = tuple[str, str, str]
"""Domain, name and overload of a function."""


@record(eq=False)
class Node:
    """One application of an operator.

    Attributes
    ----------
    op, domain : str
        The operator; the domain of the standard's own operators is ``""``.
    since_version : int
        Version of the operator's schema; for domains without schemas, the version that the model imports; 0 for calls of
        model-local functions, which `onnx_numba.passes.inline` replaces.
    opset : int
        The version of ``domain`` that the model, or the function this node came from, imports.
    inputs, outputs : tuple of str
        Value names, ``""`` for those left out; ``inputs`` does not end in ``""``.
    attributes : mapping
        Attributes that the node states, defaults not filled in: numbers, strings (bytes where not UTF-8), tuples of these, NumPy
        arrays for tensors, `ValueType` for types. Inside functions also `AttributeRef`.
    name : str
        For messages; made up where the model gives none.
    doc : str
        The model's own comment.
    bodies : mapping
        Subgraph attributes.
    overload : str
        Overload of a model-local function.
    """

    op: str
    domain: str
    since_version: int
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    doc: str = ""
    bodies: Mapping[str, Graph] = field(default_factory=dict)
    overload: str = ""

    @property
    def key(self) -> FunctionKey:
        """What a function must be called for this node to be a call of it."""
        return (self.domain, self.op, self.overload)

    def __str__(self) -> str:
        return describe(self.name, self.op, self.domain, self.opset)


@record(eq=False)
class Graph:
    """A model's graph, or a subgraph of a node such as If or Loop."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    initializers: tuple[Initializer, ...]
    nodes: tuple[Node, ...]
    name: str = ""

    @cached_property
    def captures(self) -> tuple[str, ...]:
        """Names that the graph reads from outer scopes, in order of first use."""
        own = self.defined
        names = dict.fromkeys(name for node in self.nodes for name in reads(node))
        names.update(dict.fromkeys(value.name for value in self.outputs))
        return tuple(name for name in names if name and name not in own)

    @cached_property
    def defined(self) -> frozenset[str]:
        """Names that the graph itself defines, those inside its subgraphs left out."""
        names = {value.name for value in self.inputs} | {constant.name for constant in self.initializers}
        return frozenset(names.union(*(node.outputs for node in self.nodes)) - {""})

    def with_nodes(self, nodes: tuple[Node, ...]) -> Graph:
        """The same graph made of other nodes."""
        return replace(self, nodes=nodes)


@record(eq=False)
class Function:
    """The body of an operator written in terms of others, model-local or from a schema.

    Attributes
    ----------
    key : FunctionKey
        Domain, name and overload.
    inputs, outputs : tuple of str
        Formal names; the name of an output that the body never defines is ``""``.
    defaults : mapping
        Attributes that calls may leave out and their values.
    opsets : mapping
        Version by domain that the body's nodes are resolved in.
    nodes : tuple of Node
        The body; attributes may be `AttributeRef`.
    captures : mapping
        For a subgraph made a function, see `onnx_numba.passes.inline.expand`: names in it and what they are in the call's scope.
    """

    key: FunctionKey
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    defaults: Mapping[str, Any]
    opsets: Mapping[str, int]
    nodes: tuple[Node, ...]
    captures: Mapping[str, str] = field(default_factory=dict)


def reads(node: Node) -> tuple[str, ...]:
    """Every value that a node needs: its inputs and what its subgraphs capture, without duplicates."""
    names = dict.fromkeys(name for name in node.inputs if name)
    for body in node.bodies.values():
        names.update(dict.fromkeys(body.captures))
    return tuple(names)


def describe(name: str, op: str, domain: str, opset: int) -> str:
    """A node in words, as messages name it: one line, whatever the names are."""
    words = f"{op} of domain {domain or 'ai.onnx'}, opset {opset or 'not imported'}"
    return f"node {name!r} ({words if words.isprintable() else repr(words)})"
