"""Renaming: copies of nodes and graphs that read and write other names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from onnx_numba.ir.graph import Graph, Node, Value

Renaming = Callable[[str], str]


def rename_node(node: Node, new: Renaming) -> Node:
    """A copy of a node with every name, those in its subgraphs included, replaced; ``""`` stays."""
    return replace(
        node,
        inputs=tuple(new(name) if name else "" for name in node.inputs),
        outputs=tuple(new(name) if name else "" for name in node.outputs),
        bodies={key: rename_graph(body, new) for key, body in node.bodies.items()},
    )


def rename_graph(graph: Graph, new: Renaming) -> Graph:
    """A copy of a graph with every name replaced."""

    def value(old: Value) -> Value:
        default = replace(old.default, name=new(old.default.name)) if old.default else None
        return replace(old, name=new(old.name), default=default)

    return replace(
        graph,
        inputs=tuple(map(value, graph.inputs)),
        outputs=tuple(map(value, graph.outputs)),
        initializers=tuple(replace(i, name=new(i.name)) for i in graph.initializers),
        nodes=tuple(rename_node(node, new) for node in graph.nodes),
    )


def all_defined(graph: Graph) -> frozenset[str]:
    """Names that a graph and its subgraphs define."""
    bodies = [body for node in graph.nodes for body in node.bodies.values()]
    return graph.defined.union(*map(all_defined, bodies))


def private(graph: Graph, prefix: str) -> Graph:
    """A copy whose own names nobody else has: a graph may be needed more than once."""
    own = all_defined(graph)
    return rename_graph(graph, lambda name: prefix + name if name in own else name)
