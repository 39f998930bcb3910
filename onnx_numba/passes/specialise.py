"""Specialisation: a graph for what is known of its inputs."""

from __future__ import annotations

from dataclasses import replace

from onnx_numba.errors import ModelError
from onnx_numba.ir.given import Given
from onnx_numba.ir.graph import Graph, Initializer, Value
from onnx_numba.ir.types import STRING, dtype_of


def specialise(graph: Graph, given: Given) -> Graph:
    """Give inputs the types that they will have, and make constants of those whose values are known."""
    inputs: list[Value] = []
    constants: list[Initializer] = []
    for value in graph.inputs:
        if value.name in given.constants:
            array = given.constants[value.name]
            dtype = dtype_of(array.dtype)
            if dtype is None or dtype is STRING:
                raise ModelError(f"input {value.name!r}: a value of {array.dtype.name} cannot become a constant")
            constants.append(Initializer(value.name, dtype, array))
        else:
            inputs.append(replace(value, type=given.types.get(value.name, value.type)))
    return replace(graph, inputs=tuple(inputs), initializers=(*constants, *graph.initializers))
