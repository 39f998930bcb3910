"""Passes over imported graphs: calls of functions inlined, operators replaced by the bodies their schemas have, dead code removed."""

from __future__ import annotations

import numpy as np
import pytest
from imported import assert_well_formed, evaluate, imported
from onnx import helper, parser
from onnx.reference import ReferenceEvaluator

from onnx_numba.encode import encode_graph
from onnx_numba.errors import ModelError
from onnx_numba.importer import load
from onnx_numba.ir.graph import Graph, Node
from onnx_numba.passes.dce import remove_dead_code
from onnx_numba.passes.inline import expand

FUNCTIONS = """
<ir_version: 9, opset_import: ["" : 17, "local" : 1]>
agraph (float[N] x) => (float[N] y, float[N] z) {
    [a] y = local.outer <k = 3.0>(x)
    [b] z = local.outer(x, y)
}
<domain: "local", opset_import: ["" : 13, "local" : 1]>
outer <k: float = 2.0>(p, q) => (r) {
    t = Elu <alpha: float = @k>(p)
    two = Constant <value_float: float = @k>()
    u = local.inner(t, two)
    r = Max(u, q)
}
<domain: "local", opset_import: ["" : 15]>
inner (a, b) => (c) { t = Add(a, b) s = Shape(t) c = Mul(t, b) }
"""


class TestFunctions:
    def test_calls_are_inlined(self) -> None:
        graph = load(parser.parse_model(FUNCTIONS)).graph
        assert_well_formed(graph)
        assert all(node.domain == "" and node.since_version for node in graph.nodes)
        first = [node for node in graph.nodes if node.name.startswith("a/")]
        assert [node.op for node in first] == ["Elu", "Constant", "Add", "Shape", "Mul", "Max"]
        assert [node.opset for node in first] == [13, 13, 15, 15, 15, 13]
        assert first[0].attributes == {"alpha": 3.0} and first[1].attributes == {"value_float": 3.0}
        assert first[-1].inputs[1:] == ()  # the second input was left out
        second = next(node for node in graph.nodes if node.name == "b/Elu#0")
        assert second.attributes == {"alpha": 2.0}

    def test_results(self) -> None:
        x = np.array([-1, 0, 2], np.float32)
        model = parser.parse_model(FUNCTIONS)
        got = evaluate(load(model).graph, {"x": x})
        y = (np.where(x > 0, x, 3 * np.expm1(x)) + 3) * 3
        z = np.maximum((np.where(x > 0, x, 2 * np.expm1(x)) + 2) * 2, y)
        np.testing.assert_allclose(got, [y, z], rtol=1e-6)

    def test_outputs_that_are_inputs(self) -> None:
        text = """
        <ir_version: 9, opset_import: ["" : 17, "local" : 1]>
        agraph (float[N] x) => (float[N] a, float[N] b, float[N] c) { a, b, c = local.f(x) }
        <domain: "local", opset_import: ["" : 13]>
        f (p) => (p, q, q) { q = Neg(p) }
        """
        graph = load(parser.parse_model(text)).graph
        assert_well_formed(graph)
        x = np.array([1, 2], np.float32)
        np.testing.assert_array_equal(evaluate(graph, {"x": x}), [x, -x, -x])

    def test_references_inside_subgraphs_and_graphs_as_arguments(self) -> None:
        text = """
        <ir_version: 9, opset_import: ["" : 17, "local" : 1]>
        agraph (bool c, float[2] x) => (float[2] y) { w = Abs(x)
            y = local.f(c, x) <k = 4.0, g = t () => (float[2] r) { r0 = Add(w, x) r = Neg(r0) }> }
        <domain: "local", opset_import: ["" : 17]>
        f <k, g>(c, p) => (q) {
            h = If(c) <then_branch: graph = @g, else_branch: graph = @g>
            o = If(c) <then_branch = t () => (m) { m = Elu<alpha: float = @k>(p) }, else_branch = e () => (n) { n = Neg(p) }>
            q = Add(h, o)
        }
        """
        graph = load(parser.parse_model(text)).graph
        assert_well_formed(graph)
        assert len({name for node in graph.nodes for body in node.bodies.values() for name in body.defined}) == 6
        elu = graph.nodes[2].bodies["then_branch"].nodes[0]
        assert elu.attributes == {"alpha": 4.0}

    def test_circular_calls(self) -> None:
        text = """
        <ir_version: 9, opset_import: ["" : 17, "local" : 1]>
        agraph (float[N] x) => (float[N] y) { y = local.f(x) }
        <domain: "local", opset_import: ["local" : 1]> f (p) => (q) { q = local.g(p) }
        <domain: "local", opset_import: ["local" : 1]> g (p) => (q) { q = local.f(p) }
        """
        with pytest.raises(ModelError, match=r"local\.f → local\.g → local\.f"):
            load(parser.parse_model(text))

    @pytest.mark.parametrize(
        ("call", "word"),
        [("y = local.f(x, x)", "2 inputs and 1 outputs are given"), ("y = local.h(x)", "'nowhere' is never defined")],
    )
    def test_bad_calls(self, call: str, word: str) -> None:
        text = f"""
        <ir_version: 9, opset_import: ["" : 17, "local" : 1]>
        agraph (float[N] x) => (float[N] y) {{ {call} }}
        <domain: "local", opset_import: ["" : 17]> f (p) => (q) {{ q = Neg(p) }}
        <domain: "local", opset_import: ["" : 17]> h (p) => (q) {{ q = Neg(nowhere) }}
        """
        with pytest.raises(ModelError, match=word):
            load(parser.parse_model(text))

    def test_what_is_never_called_need_not_be_valid(self) -> None:
        text = """
        <ir_version: 9, opset_import: ["" : 17, "local" : 1]>
        agraph (float[N] x) => (float[N] y) { y = Neg(x) }
        <domain: "local", opset_import: ["" : 17]> f (p) => (q) { q = Nonsense(p) }
        """
        load(parser.parse_model(text))


def only_node(text: str, opset: int) -> tuple[Graph, Node]:
    graph = imported(text, header=f'ir_version: 8, opset_import: ["" : {opset}]')
    assert len(graph.nodes) == 1
    return graph, graph.nodes[0]


class TestExpand:
    def test_a_plain_body(self) -> None:
        graph, node = only_node("agraph (float[N] x) => (float[N] y) { y = Elu<alpha = 0.5>(x) }", 22)
        body = expand(node, [graph.inputs[0].type])
        assert body is not None and body.captures == ()
        assert_well_formed(body)
        x = np.array([-1, 2], np.float32)
        np.testing.assert_allclose(evaluate(body, {"x": x}, 18)[0], [0.5 * np.expm1(np.float32(-1)), 2], rtol=1e-6)

    def test_defaults_of_the_schema(self) -> None:
        graph, node = only_node("agraph (float[N] x) => (float[N] y) { y = Elu(x) }", 22)
        body = expand(node, [graph.inputs[0].type])
        assert body is not None
        np.testing.assert_allclose(evaluate(body, {"x": np.array([-1], np.float32)}, 18)[0], np.expm1([-1]), rtol=1e-6)

    def test_a_body_that_depends_on_types(self) -> None:
        graph, node = only_node("agraph (float[2, 3] x, float[3] s) => (float[2, 3] y) { y, m = LayerNormalization(x, s) }", 17)
        body = remove_dead_code(graph.with_nodes(expand(node, [value.type for value in graph.inputs]).nodes))
        assert_well_formed(body)
        feed = {"x": np.arange(6, dtype=np.float32).reshape(2, 3) ** 2, "s": np.array([1, 2, 3], np.float32)}
        want = ReferenceEvaluator(helper.make_model(encode_graph(graph), opset_imports=[helper.make_opsetid("", 17)])).run(None, feed)
        np.testing.assert_allclose(evaluate(body, feed), want, rtol=1e-5)

    def test_a_subgraph_that_captures(self) -> None:
        text = """agraph (seq(float[N]) x, float[N] input_sequence) => (seq(float[N]) y) {
            y = SequenceMap(x) <body = b (float[N] e) => (float[N] r) { r = Add(e, input_sequence) }> }"""
        graph, node = only_node(text, 17)
        body = expand(node, [graph.inputs[0].type])
        assert body is not None
        assert body.captures == ("input_sequence",)
        got = evaluate(graph.with_nodes(body.nodes), {"x": [np.ones(2, np.float32)], "input_sequence": np.array([2, 3], np.float32)})
        np.testing.assert_array_equal(got[0], [[3, 4]])

    def test_none_where_there_is_no_body(self) -> None:
        _, node = only_node("agraph (float[N] x) => (float[N] y) { y = Sin(x) }", 17)
        assert expand(node, [None]) is None
        foreign = imported("agraph (float[N] x) => (float[N] y) { y = com.acme.Thing(x) }").nodes[0]
        assert expand(foreign, [None]) is None


class TestDeadCode:
    def test_unused_nodes_go(self) -> None:
        graph = imported(
            "agraph (float[N] x) => (float[N] y) <float[1] w = {1}, float[1] v = {1}> "
            "{ a = RandomNormalLike(x) b = Add(a, w) y, m = Dropout(x) c = Neg(v) }"
        )
        alive = remove_dead_code(graph)
        assert [node.op for node in alive.nodes] == ["Dropout"]
        assert alive.nodes[0].outputs == ("y", "") and alive.initializers == ()
        assert [value.name for value in alive.inputs] == ["x"]

    def test_in_subgraphs(self) -> None:
        graph = imported(
            "agraph (bool c, float[N] x) => (float[N] y) { a = Abs(x) b = Sin(x)"
            " y = If(c) <then_branch = t () => (float[N] r) { z = Neg(a) r = Neg(b) },"
            " else_branch = e () => (float[N] q) { q = Neg(x) }> }"
        )
        alive = remove_dead_code(graph)
        assert [node.op for node in alive.nodes] == ["Sin", "If"]
        assert alive.nodes[1].bodies["then_branch"].captures == ("b",)
