"""What is known of a graph's values before it is lowered: it is lowered for trial, node by node."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from onnx_numba.errors import OnnxNumbaError
from onnx_numba.ir.graph import Graph, Initializer, Node, reads
from onnx_numba.ir.loop import Program
from onnx_numba.ir.types import ValueType
from onnx_numba.lower import Lowering, type_of
from onnx_numba.ops.registry import builtin
from onnx_numba.options import Options

Array = np.ndarray[Any, Any]


class KnownValues:
    """Types and contents of values, as far as they follow from the nodes added so far.

    Parameters
    ----------
    graph : Graph
        Has the inputs and constants; its nodes are added one by one.
    options : Options
        Those that the model is prepared with.
    outer : KnownValues, optional
        Of the graph around this one.
    """

    def __init__(self, graph: Graph, options: Options, outer: KnownValues | None = None) -> None:
        program = Program() if outer is None else Program(weights=outer._lowering.program.weights)
        self._lowering: Lowering = Lowering(program, options, builtin())
        self._options = options
        self._outer = outer
        for value in graph.inputs:
            self.declare(value.name, value.type)
        self._lowering.constants.update({constant.name: constant for constant in graph.initializers})

    def inside(self, initializers: Sequence[Initializer]) -> KnownValues:
        """What is known in a graph within this one, which has these constants."""
        return KnownValues(Graph((), (), tuple(initializers), ()), self._options, self)

    def declare(self, name: str, kind: ValueType | None) -> None:
        """Say that there is a value that no node makes; it stays unknown where its type is."""
        if kind is not None:
            self._lowering.env[name] = self._lowering.builder.input(name, kind, self._lowering.dims)

    def add(self, node: Node) -> None:
        """Take a node in; what it makes stays unknown where it cannot be lowered."""
        for name in reads(node):
            self._value(name)
        self._lowering.uses.update(node.outputs)
        with suppress(OnnxNumbaError):
            self._lowering.node(node)

    def type_of(self, name: str) -> ValueType | None:
        """A value's type; None if it is not known."""
        value = self._value(name)
        return None if value is None else type_of(value)

    def constant(self, name: str) -> Array | None:
        """What a value always is; None if it is not always the same, or not known."""
        value = self._value(name)
        found = None if value is None else self._lowering.builder.constant(value)
        return found if isinstance(found, np.ndarray) else None

    def _value(self, name: str) -> Any:
        lowering = self._lowering
        outer = None
        if self._outer is not None and name not in lowering.env and name not in lowering.constants:
            outer = self._outer._value(name)
        if outer is not None:
            constant = lowering.constant_like(outer)
            lowering.env[name] = lowering.builder.input(name, type_of(outer), lowering.dims) if constant is None else constant
        try:
            return lowering.value(name)
        except OnnxNumbaError:
            return None
