"""Lowering: from the graph to LoopIR, node by node, types and shapes coming out on the way.

A node is served by its implementation in `onnx_numba.ops`, else by the function body that the standard gives for it, whose nodes are
lowered in its place. A subgraph becomes a `Program` of its own whose inputs are its formal ones and then its captures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_numba.errors import ModelError, OnnxNumbaError, UnsupportedError
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.graph import Graph, Initializer, Node
from onnx_numba.ir.loop import Constant, Object, Program, Tensor, Weight
from onnx_numba.ir.types import STRING, TensorType, ValueType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.registry import Registry, builtin
from onnx_numba.options import Options
from onnx_numba.passes.inline import expand

Value = Tensor | Object


def lower(graph: Graph, options: Options, registry: Registry | None = None) -> Program:
    """The program of a model's graph.

    Raises
    ------
    ModelError
        The graph contradicts the standard.
    UnsupportedError
        A node is not served, or needs something that is known only while running.
    """
    lowering = Lowering(Program(), options, registry or builtin())
    for value in graph.inputs:
        if value.type is None:
            raise ModelError(f"input {value.name!r} has no type; give it one in the model")
        lowering.env[value.name] = lowering.builder.input(value.name, value.type, lowering.dims, optional=value.default is not None)
        if value.default is not None:
            lowering.program.defaults[value.name] = value.default.array
    lowering.graph(graph)
    lowering.program.outputs = [(v.name, lowering.value(v.name)) for v in graph.outputs]
    return lowering.program


@dataclass(frozen=True)
class LoweredBody:
    """A subgraph as a program.

    Attributes
    ----------
    program : Program
        Its inputs are the formal inputs, then ``captures``.
    captures : tuple of Tensor or Object
        Outer values to be handed in, in order.
    outputs : tuple of ValueType
        What it gives; dims that the call decides are None.
    """

    program: Program
    captures: tuple[Value, ...]
    outputs: tuple[ValueType, ...]


class Lowering:
    """Lowers the nodes of one scope into one program."""

    def __init__(self, program: Program, options: Options, registry: Registry) -> None:
        self.program = program
        self.options = options
        self.registry = registry
        self.env: dict[str, Value] = {}
        self.dims: dict[str, Sym] = {}
        self.constants: dict[str, Initializer] = {}
        self.builder = Builder(program, options, self)

    def value(self, name: str) -> Value:
        """The value of a name; initializers become weights when they are first used."""
        if name not in self.env:
            if name not in self.constants:
                raise ModelError(f"value {name!r} is used but nothing defines it")
            self.env[name] = self._constant(self.constants[name])
        return self.env[name]

    def _constant(self, initializer: Initializer) -> Value:
        if initializer.dtype is STRING:
            return self.builder.object_constant(initializer.array, TensorType(STRING, initializer.array.shape), initializer.name)
        return self.builder.weight(initializer.array, initializer.name)

    def graph(self, graph: Graph) -> None:
        """Lower a graph's initializers and nodes into this scope."""
        for initializer in graph.initializers:
            self.constants[initializer.name] = initializer
        for node in graph.nodes:
            self.node(node)

    def node(self, node: Node, function: str = "") -> None:
        """Lower one node."""
        inputs = [self.value(name) if name else None for name in node.inputs]
        label = f"{node.op} {node.name!r}" if node.name else node.op
        implementation = self.registry.find(node)
        if implementation is None:
            self._expanded(node, inputs)
            return
        with self.builder.at_node(str(node), label, tuple(map(bool, node.outputs)), node.opset):
            try:
                result = implementation.call(self.builder, node, inputs)
            except OnnxNumbaError:
                raise
            except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
                raise UnsupportedError(f"{node}: inputs {_types(inputs)} are not supported ({type(error).__name__}: {error})") from error
        results = result if isinstance(result, tuple) else (result,)
        if len(results) < len([o for o in node.outputs if o]):
            raise UnsupportedError(f"{node}: {len(node.outputs)} outputs are asked for, {len(results)} are supported")
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                if value is None:
                    raise UnsupportedError(f"{node}: its output {name!r} is not supported")
                self.env[name] = value
        if not function:
            self.program.served.append((node.name, node.op, node.domain, node.since_version, _how(results)))

    def _expanded(self, node: Node, inputs: Sequence[Value | None]) -> None:
        body = expand(node, [None if v is None else type_of(v) for v in inputs])
        if body is None:
            raise UnsupportedError(f"{node} is not supported: no implementation, and the standard gives no function body for it")
        for initializer in body.initializers:
            self.constants[initializer.name] = initializer
        for inner in body.nodes:
            self.node(inner, function=node.op)
        self.program.served.append((node.name, node.op, node.domain, node.since_version, "function"))

    def body(self, graph: Graph, inputs: Sequence[ValueType]) -> LoweredBody:
        """Lower a subgraph for inputs of the given types."""
        inner = Lowering(Program(weights=self.program.weights), self.options, self.registry)
        for value, type_ in zip(graph.inputs, inputs, strict=True):
            inner.env[value.name] = inner.builder.input(value.name, type_, inner.dims)
        captures = []
        for name in graph.captures:
            outer = self.value(name)
            constant = inner.constant_like(outer)
            if constant is None:
                captures.append(outer)
                constant = inner.builder.input(name, type_of(outer), inner.dims)
            inner.env[name] = constant
        inner.graph(graph)
        inner.program.outputs = [(v.name, inner.value(v.name)) for v in graph.outputs]
        outputs = tuple(_open(type_of(value)) for _, value in inner.program.outputs)
        return LoweredBody(inner.program, tuple(captures), outputs)

    def inline(self, graph: Graph) -> list[Value]:
        """Lower a subgraph without inputs into this scope; answers its outputs."""
        self.graph(graph)
        return [self.value(v.name) for v in graph.outputs]

    def constant_like(self, outer: Value) -> Value | None:
        """An outer value that the model fixes, as a constant of this scope; None if it is not fixed."""
        definition = outer.definition
        if isinstance(outer, Object):
            if isinstance(definition, Constant):
                return self.builder.object_constant(definition.value, outer.type, outer.name)
            return None
        if isinstance(definition, Weight):
            return self.builder.weight(self.program.weights[definition.index], outer.name)
        if outer.content is not None and all(isinstance(c, e.Lit) for c in outer.content):
            values = [c.value for c in outer.content if isinstance(c, e.Lit)]
            shape = tuple(int(x) for x in outer.shape if isinstance(x, int))
            return self.builder.weight(np.array(values, outer.dtype.numpy).reshape(shape), outer.name)
        return None


def type_of(value: Value) -> ValueType:
    """A value's type; dims that are not numbers are named by what they are, so that equal ones stay equal in a subgraph."""
    if isinstance(value, Object):
        return value.type
    return TensorType(value.dtype, tuple(x if isinstance(x, int) else repr(x) for x in value.shape))  # type: ignore[misc]


def _open(type_: ValueType) -> ValueType:
    """The type without names of dims, which mean nothing outside."""
    if isinstance(type_, TensorType) and type_.shape is not None:
        return TensorType(type_.dtype, tuple(x if isinstance(x, (int, Dim)) else None for x in type_.shape))
    return type_


def _types(values: Sequence[Value | None]) -> str:
    return ", ".join("absent" if v is None else str(type_of(v)) for v in values) or "none"


def _how(results: Sequence[Any]) -> str:
    """How a node is served, by the definition of its first result."""
    first = next((r for r in results if r is not None), None)
    definition = getattr(first, "definition", None)
    name = type(getattr(definition, "call", definition)).__name__
    kinds = {"HostCall": "host", "TemplateCall": "template", "Reduce": "reduce", "Constant": "constant", "Weight": "constant"}
    return kinds.get(name, "map")
