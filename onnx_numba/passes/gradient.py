"""Gradient nodes and what is put off of them, which `onnx_numba.passes.differentiation` replaces.

Few graphs have any, and the rules of derivatives are imported for those alone.
"""

from __future__ import annotations

from onnx_numba.ir.graph import GRADIENT, Graph
from onnx_numba.ops.gradient import PULLBACK
from onnx_numba.options import Options


def expand_gradients(graph: Graph, options: Options) -> Graph:
    """Replace the Gradient nodes of a graph and of its subgraphs, and Pullbacks, as far as enough is known of what they read.

    Raises
    ------
    UnsupportedError
        No derivative is known of a node between ``xs`` and ``y``.
    """
    if not has(graph, GRADIENT, PULLBACK):
        return graph
    from onnx_numba.passes.differentiation import differentiated

    return differentiated(graph, options)


def has(graph: Graph, *operators: tuple[str, str]) -> bool:
    """Whether there are nodes of operators, by domain and name, in a graph or its subgraphs."""
    return any((node.domain, node.op) in operators or any(has(body, *operators) for body in node.bodies.values()) for node in graph.nodes)
