"""Inputs with defaults: some exporters list every weight as an input that callers could replace, though few ever do."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from onnx_numba.ir.graph import Graph


def freeze_defaults(graph: Graph, keep: Container[str] = ()) -> Graph:
    """Make a constant of every input that has a default, but inputs like others of those named in ``keep``, for which runs give values."""
    frozen = [value for value in graph.inputs if value.default is not None and value.name not in keep]
    constants = tuple(value.default for value in frozen if value.default is not None)
    inputs = tuple(replace(value, default=None) for value in graph.inputs if value not in frozen)
    return replace(graph, inputs=inputs, initializers=(*constants, *graph.initializers))
