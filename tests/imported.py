"""Models as text, imported, and what is true of every imported graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, parser
from onnx.reference import ReferenceEvaluator

from onnx_numba.encode import encode_graph
from onnx_numba.importer import load
from onnx_numba.ir.graph import Graph


def text_model(text: str, header: str = 'ir_version: 8, opset_import: ["" : 17]') -> onnx.ModelProto:
    return parser.parse_model(f"<{header}>\n{text}")


def imported(text: str, **kwargs: str) -> Graph:
    return load(text_model(text, **kwargs)).graph


def evaluate(graph: Graph, feed: dict[str, np.ndarray], opset: int = 17) -> list[np.ndarray]:
    """What onnx's reference says of an imported graph, which is turned back into a protobuf for that."""
    model = helper.make_model(encode_graph(graph), opset_imports=[helper.make_opsetid("", opset)])
    return ReferenceEvaluator(model).run(None, feed)


def assert_well_formed(graph: Graph, outer: frozenset[str] = frozenset()) -> None:
    """Every name is defined once, before its use, in this graph and those inside it."""
    known = set(outer)
    for value in (*graph.inputs, *graph.initializers):
        assert value.name not in known
        known.add(value.name)
    for node in graph.nodes:
        assert set(node.inputs) - {""} <= known
        for body in node.bodies.values():
            assert set(body.captures) <= known
            assert_well_formed(body, frozenset(known))
        assert not known & set(node.outputs) - {""}
        known |= set(node.outputs) - {""}
    assert {value.name for value in graph.outputs} <= known
