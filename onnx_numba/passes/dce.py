"""Dead code: nodes and constants whose results nobody uses go away.

Every operator of ONNX, random ones included, is free of effects beyond its outputs, so a node counts by its outputs alone.
"""

from __future__ import annotations

from dataclasses import replace

from onnx_numba.ir.graph import Graph, Node, reads


def remove_dead_code(graph: Graph) -> Graph:
    """Keep what the outputs of the graph depend on; in subgraphs likewise. Inputs and outputs stay as they are."""
    live = {value.name for value in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if live.intersection(node.outputs) - {""}:
            node = _without_dead_bodies(node)
            live.update(reads(node))
            kept.append(_trimmed(node, live))
    initializers = tuple(constant for constant in graph.initializers if constant.name in live)
    return replace(graph, nodes=tuple(reversed(kept)), initializers=initializers)


def _without_dead_bodies(node: Node) -> Node:
    return replace(node, bodies={key: remove_dead_code(body) for key, body in node.bodies.items()})


def _trimmed(node: Node, live: set[str]) -> Node:
    """The node without the names of outputs that nobody reads: operators then need not compute them."""
    return replace(node, outputs=tuple(name if name in live else "" for name in node.outputs))
