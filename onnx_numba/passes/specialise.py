"""Specialisation: a graph for what is known of its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from onnx_numba.errors import ModelError, OptionError
from onnx_numba.ir.given import Given
from onnx_numba.ir.graph import Graph, Initializer, Value
from onnx_numba.ir.types import STRING, MapType, TensorType, ValueType, dtype_of


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


def with_dims(graph: Graph, dims: Mapping[str, int]) -> Graph:
    """Give named dims of inputs, and of outputs where these have the same names, their extents."""
    named = dict.fromkeys(name for value in graph.inputs if value.type is not None for name in _names(value.type))
    for name in dims:
        if name not in named:
            known = f"those that do are {', '.join(map(repr, named))}" if named else "none has a name"
            raise OptionError(f"dims: no dim of an input is called {name!r}; {known}")

    def fixed(value: Value) -> Value:
        return value if value.type is None else replace(value, type=_with_dims(value.type, dims))

    return replace(graph, inputs=tuple(map(fixed, graph.inputs)), outputs=tuple(map(fixed, graph.outputs)))


def _names(kind: ValueType) -> Iterator[str]:
    if isinstance(kind, TensorType):
        yield from (extent for extent in kind.shape or () if isinstance(extent, str))
    else:
        yield from _names(kind.value if isinstance(kind, MapType) else kind.element)


def _with_dims(kind: ValueType, dims: Mapping[str, int]) -> ValueType:
    if isinstance(kind, TensorType):
        shape = kind.shape
        return replace(kind, shape=shape and tuple(dims.get(x, x) if isinstance(x, str) else x for x in shape))
    if isinstance(kind, MapType):
        return replace(kind, value=_with_dims(kind.value, dims))
    return replace(kind, element=_with_dims(kind.element, dims))
