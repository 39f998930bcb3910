"""Inlining: calls of functions replaced by the functions' bodies.

`inline` does this for model-local functions, once, at import. `expand` does it for one node whose operator the standard defines
by a function; whoever lowers a node calls it when no implementation exists, since some of these bodies depend on input types.

Names of a body are made unique by the name of the call's first output in front, as in ``y»tmp``: no two nodes write the same
name, so no two calls can collide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from onnx_numba import schemas
from onnx_numba.errors import ModelError
from onnx_numba.ir.graph import AttributeRef, Function, FunctionKey, Graph, Node, Value
from onnx_numba.ir.types import ValueType
from onnx_numba.passes.dce import remove_dead_code
from onnx_numba.passes.rename import private, rename_node
from onnx_numba.passes.schema_functions import schema_function


def inline(graph: Graph, functions: Mapping[FunctionKey, Function], active: tuple[FunctionKey, ...] = ()) -> Graph:
    """Replace every call of a function, also those in subgraphs and in the functions themselves.

    Raises
    ------
    ModelError
        A function calls itself, directly or through others.
    """
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.extend(_inlined(node, functions, active))
    return graph.with_nodes(tuple(nodes))


def _inlined(node: Node, functions: Mapping[FunctionKey, Function], active: tuple[FunctionKey, ...]) -> list[Node]:
    bodies = {key: inline(body, functions, active) for key, body in node.bodies.items()}
    node = replace(node, bodies=bodies)
    if node.since_version != 0:
        return [node]
    if node.key in active:
        chain = " → ".join(f"{domain}.{name}" for domain, name, _ in (*active, node.key))
        raise ModelError(f"{node}: functions call each other in a circle: {chain}")
    inner = instantiate(node, functions[node.key])
    return [leaf for each in inner for leaf in _inlined(each, functions, (*active, node.key))]


def expand(node: Node, input_types: Sequence[ValueType | None]) -> Graph | None:
    """The body that the standard gives for a node's operator; None where it gives none.

    Parameters
    ----------
    node : Node
        The node to replace.
    input_types : sequence of ValueType or None
        Types of ``node.inputs``, None where absent or unknown.

    Returns
    -------
    Graph or None
        Its nodes read the names in ``node.inputs`` and write those in ``node.outputs``; all other names are unique in the model.
    """
    calling, functions = _calling(node)
    function = schema_function(calling, input_types)
    if function is None:
        return None
    types = dict(zip(node.inputs, input_types, strict=False))
    inputs = tuple(Value(name, kind) for name, kind in types.items() if name)
    outputs = tuple(Value(name) for name in node.outputs if name)
    graph = Graph(inputs, outputs, (), instantiate(node, function), node.name)
    return remove_dead_code(inline(graph, functions) if functions else graph)


def _calling(node: Node) -> tuple[Node, dict[FunctionKey, Function]]:
    """The node with each of its subgraphs made a function, and a call of it in its place.

    The body that onnx makes is written for an opset of its own, in which the subgraph's nodes would mean something else. ::

        SequenceMap (xs) <body = (x) => (y) { t = Abs(x) y = Neg(t) }>   becomes
        SequenceMap (xs) <body = (x) => (»body0) { »body0 = ».body(x) }>   with   ».body (x) => (y) { t = Abs(x) y = Neg(t) }
    """
    bodies, functions = {}, {}
    for name, body in node.bodies.items():
        inputs, outputs = tuple(v.name for v in body.inputs), tuple(v.name for v in body.outputs)
        results = tuple(f"»{name}{k}" for k in range(len(outputs)))  # a body may give an input as it is, or a value twice
        call = Node(name, "»", 0, 0, inputs, results, name=node.name)
        constants = [Node("Constant", "", 13, 13, (), (c.name,), {"value": c.array}, c.name) for c in body.initializers]
        captures = {outer: outer for outer in body.captures}
        nodes = (*constants, *body.nodes)
        functions[call.key] = Function(call.key, inputs, outputs, {}, schemas.newest_opsets(), nodes, captures)
        values = tuple(replace(value, name=result) for value, result in zip(body.outputs, results, strict=True))
        bodies[name] = replace(body, outputs=values, initializers=(), nodes=(call,))
    return replace(node, bodies=bodies), functions


def instantiate(node: Node, function: Function) -> tuple[Node, ...]:
    """The nodes of a function's body, reading and writing the values of one call."""
    if len(node.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
        counts = f"{len(function.inputs)} inputs and {len(function.outputs)} outputs"
        raise ModelError(f"{node}: {len(node.inputs)} inputs and {len(node.outputs)} outputs are given to a function of {counts}")
    prefix = next(filter(None, node.outputs), node.name) + "»"
    names = dict(function.captures) | dict.fromkeys(function.inputs, "") | dict(zip(function.inputs, node.inputs, strict=False))
    copies = []
    for formal, actual in zip(function.outputs, node.outputs, strict=False):
        if not actual:
            continue
        if not formal:
            raise ModelError(f"{node}: the function's body never defines output {actual!r}")
        if formal in names:  # an output that is an input, or an earlier output, as it is
            copies.append((names[formal], actual))
        else:
            names[formal] = actual

    values = {**function.defaults, **node.attributes}
    nodes = []
    for inner in function.nodes:
        inner = rename_node(inner, lambda name: names[name] if name in names else prefix + name)
        nodes.append(replace(_bound(inner, values, node.bodies), name=f"{node.name}/{inner.name}"))
    opset = function.opsets.get("", 1)
    for number, (source, target) in enumerate(copies):
        nodes.append(Node("Identity", "", 1, opset, (source,), (target,), name=f"{node.name}/copy#{number}"))
    return tuple(_trimmed(each) for each in nodes)


def _bound(node: Node, values: Mapping[str, Any], graphs: Mapping[str, Graph]) -> Node:
    """A node with references to the call's attributes replaced; an attribute whose reference has no value is left out."""
    attributes: dict[str, Any] = {}
    bodies = {key: _bound_graph(body, values, graphs) for key, body in node.bodies.items()}
    for key, value in node.attributes.items():
        if not isinstance(value, AttributeRef):
            attributes[key] = value
        elif value.name in graphs:
            bodies[key] = private(graphs[value.name], next(filter(None, node.outputs), node.name) + "»" + key + "»")
        elif value.name in values:
            attributes[key] = values[value.name]
    return replace(node, attributes=attributes, bodies=bodies)


def _bound_graph(graph: Graph, values: Mapping[str, Any], graphs: Mapping[str, Graph]) -> Graph:
    return graph.with_nodes(tuple(_bound(node, values, graphs) for node in graph.nodes))


def _trimmed(node: Node) -> Node:
    """A node whose inputs do not end in absent ones, which the call may have left out."""
    inputs = node.inputs
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    bodies = {key: body.with_nodes(tuple(map(_trimmed, body.nodes))) for key, body in node.bodies.items()}
    return replace(node, inputs=inputs, bodies=bodies)
