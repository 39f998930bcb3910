"""Gradient nodes, which `onnx_numba.passes.differentiation` replaces; few graphs have any, and its rules are imported for those alone."""

from __future__ import annotations

from onnx_numba.ir.graph import GRADIENT, Graph
from onnx_numba.options import Options


def expand_gradients(graph: Graph, options: Options) -> Graph:
    """Replace the Gradient nodes of a graph and of its subgraphs.

    Raises
    ------
    UnsupportedError
        No derivative is known of a node between ``xs`` and ``y``.
    """
    if not has_gradients(graph):
        return graph
    from onnx_numba.passes.differentiation import differentiated

    return differentiated(graph, options)


def has_gradients(graph: Graph) -> bool:
    """Whether there are Gradient nodes in a graph or its subgraphs."""
    return any((node.domain, node.op) == GRADIENT or any(map(has_gradients, node.bodies.values())) for node in graph.nodes)
