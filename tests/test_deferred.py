"""Segments: nodes on values whose rank, or some content, only the run knows, compiled when they are reached."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

import onnx_numba.backend as backend
from onnx_numba.errors import OnnxNumbaError, UnsupportedError
from onnx_numba.ir.types import F32, I64, SequenceType, TensorType
from onnx_numba.runtime.segments import LEVELS, facts, given

Array = np.ndarray[Any, Any]

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
CUBE = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8


def model(text: str, opset: int = 18) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')


def prepared(text: str, opset: int = 18, **options: Any) -> backend.BackendRep:
    return backend.prepare(model(text, opset), **options)


def ways(rep: backend.BackendRep) -> list[str]:
    return [entry[4] for entry in rep.served]


def check(actual: Any, expected: Any) -> None:
    expected = np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "interpreted"])
def test_an_input_of_unknown_rank_feeds_ordinary_operators(jit: bool) -> None:
    rep = prepared("g (float[] x, float c) => (float[] y) {a = Add(x, c) b = Relu(a) y = Mul(b, b)}", jit=jit)
    assert ways(rep) == ["deferred"] * 3
    for x in (MATRIX, CUBE, np.array(3, np.float32), np.zeros((0, 2), np.float32)):
        check(rep.run([x, np.float32(0.5)])[0], np.maximum(x + np.float32(0.5), 0) ** 2)


def test_nodes_that_follow_one_another_are_one_step() -> None:
    rep = prepared("g (float[] x) => (float[] y) {a = Exp(x) b = Relu(a) c = Exp(b) d = Neg(c) y = Abs(d)}")
    assert [host.function for host in rep._prepared.session.plan.hosts] == ["deferred"]


def test_nodes_of_several_opsets_are_one_step() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21, "local" : 1, "older" : 1]>
        g (float[] x) => (float[] y) { a = local.old(x) b = Softmax(a) y = local.looped(b) }
        <domain: "local", opset_import: ["" : 12]> old (x) => (y) { y = Softmax<axis=1>(x) }
        <domain: "local", opset_import: ["" : 9, "older" : 1]> looped (x) => (y) { n = Constant<value = int64 {2}>()
            t = Constant<value = bool {1}>()
            y = Loop(n, t, x) <body = b (int64 i, bool c, float[] s) => (bool o, float[] r) { o = Identity(c) r = older.sum(s, x) }> }
        <domain: "older", opset_import: ["" : 6]> sum (a, b) => (y) { c = Add<broadcast=1>(a, b) y = Neg(c) }"""
    rep = backend.prepare(parser.parse_model(text), jit=False)
    powers = np.exp(CUBE)
    again = np.exp(powers / powers.sum((1, 2), keepdims=True))
    check(rep.run([CUBE])[0], again / again.sum(-1, keepdims=True))
    assert ways(rep)[:2] == ["deferred"] * 2
    assert sum(host.function == "deferred" for host in rep._prepared.session.plan.hosts) < 3


def test_dims_of_an_unknown_rank_stay_in_the_segment_until_the_rank_is_known() -> None:
    rep = prepared(
        """g (float[] x) => (float[] y) {
        a = Relu(x) s = Shape(a) zero = Constant<value_ints=[0]>() rest = Constant<value_ints=[-1]>()
        n = Gather(s, zero) t = Concat<axis=0>(n, rest) b = Reshape(a, t) y = Exp(b) }"""
    )
    assert ways(rep)[-1] == "map"
    check(rep.run([CUBE])[0], np.exp(CUBE.reshape(2, 12)))
    check(rep.run([MATRIX])[0], np.exp(np.maximum(MATRIX, 0)))


def test_one_form_serves_every_shape_of_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_numba.pipeline import Build

    rep = prepared("g (float[] x) => (float[] y) {a = Exp(x) y = Sub(a, x)}")
    built: list[Any] = []
    original = Build.artefact
    monkeypatch.setattr(Build, "artefact", lambda self, *a: built.append(self.given) or original(self, *a))
    for shape in ((2, 3), (4, 1), (0, 7), (2, 3)):
        x = np.ones(shape, np.float32)
        check(rep.run([x])[0], np.exp(x) - x)
    assert len(built) <= 1


def test_elements_of_a_sequence_whose_ranks_differ() -> None:
    rep = prepared(
        """g (float[N,M] x, float[N] v, int64 i) => (float[] y) {
        s = SequenceConstruct(x, v) a = SequenceAt(s, i) b = Exp(a) y = Add(b, b) }"""
    )
    vector = np.array([1, 2], np.float32)
    check(rep.run([MATRIX, vector, np.int64(0)])[0], 2 * np.exp(MATRIX))
    check(rep.run([MATRIX, vector, np.int64(1)])[0], 2 * np.exp(vector))


def test_results_of_a_segment_go_into_sequences_and_optionals() -> None:
    rep = prepared(
        """g (float[] x) => (seq(float[]) s, bool h, float[] y) {
        a = Exp(x) b = Neg(a) s = SequenceConstruct(a, b)
        o = Optional(b) h = OptionalHasElement(o) e = OptionalGetElement(o) y = Abs(e) }"""
    )
    for x in (MATRIX, CUBE):
        sequence, has, y = rep.run([x])
        check(sequence[0], np.exp(x))
        check(sequence[1], -np.exp(x))
        assert has
        check(y, np.exp(x))


def test_branches_of_different_rank() -> None:
    rep = prepared(
        """g (float[N,3] x, bool c) => (float[] y) {
        a = If (c) <then_branch = t () => (float[N,3] p) {p = Relu(x)},
                    else_branch = e () => (float[] q) {q = ReduceMax<keepdims=0>(x)}>
        one = Constant<value_ints=[0]>()
        b = Unsqueeze(a, one) y = Neg(b) }"""
    )
    check(rep.run([MATRIX, np.array(True)])[0], -np.maximum(MATRIX, 0)[None])
    check(rep.run([MATRIX, np.array(False)])[0], np.array([-3], np.float32))


def test_a_branch_computes_with_a_captured_value_of_unknown_rank() -> None:
    rep = prepared(
        """g (float[] x, bool c) => (float[] y) {
        a = Exp(x)
        y = If (c) <then_branch = t () => (float[] p) {m = Neg(a) p = Abs(m)}, else_branch = e () => (float[] q) {q = Add(a, x)}> }"""
    )
    check(rep.run([CUBE, np.array(True)])[0], np.exp(CUBE))
    check(rep.run([MATRIX, np.array(False)])[0], np.exp(MATRIX) + MATRIX)


def test_a_loop_whose_state_gains_an_axis_in_each_iteration() -> None:
    rep = prepared(
        """g (float[N] x, int64 n) => (float[] y) {
        yes = Constant<value = bool {1}>()
        y = Loop (n, yes, x) <body = b (int64 i, bool go, float[] s) => (bool on, float[] r) {
            on = Identity(go) zero = Constant<value_ints=[0]>() two = Constant<value = float {2.0}>()
            w = Unsqueeze(s, zero) r = Mul(w, two) }> }"""
    )
    x = np.array([1, 2, 3], np.float32)
    for n in (0, 1, 3):
        check(rep.run([x, np.int64(n)])[0], (x * 2**n).reshape((1,) * n + (3,)))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_scan_over_a_tensor_of_unknown_rank(axis: int) -> None:
    rep = prepared(
        f"""g (float[] x, float[] start) => (float[] total, float[] sums) {{
        total, sums = Scan <num_scan_inputs = 1, scan_output_axes = [{axis}], body = b (float[] s, float[] row) => (float[] t, float[] o) {{
            t = Add(s, row) o = Identity(t) }}> (start, x) }}"""
    )
    for x in (MATRIX, CUBE):
        total, sums = rep.run([x, np.zeros(x.shape[1:], np.float32)])
        check(total, x.sum(0))
        check(sums, np.moveaxis(np.cumsum(x, 0), 0, axis))


@pytest.mark.parametrize("dims", [(2, 3), (4,), (), (1, 2, 3, 1)], ids=str)
def test_shapes_of_unknown_length(dims: tuple[int, ...]) -> None:
    shape = np.array(dims, np.int64)
    filled = prepared("g (int64[N] s) => (float[] y) {a = ConstantOfShape(s) y = Cos(a)}")
    check(filled.run([shape])[0], np.ones(dims, np.float32))
    x = np.arange(np.prod(dims, dtype=int), dtype=np.float32)
    reshaped = prepared("g (float[K] x, int64[N] s) => (float[] y) {a = Reshape(x, s) y = Exp(a)}")
    check(reshaped.run([x, shape])[0], np.exp(x.reshape(dims)))
    expanded = prepared("g (float x, int64[N] s) => (float[] y) {a = Expand(x, s) y = Neg(a)}")
    check(expanded.run([np.float32(2), shape])[0], np.full(dims, -2, np.float32))


def test_squeeze_without_axes() -> None:
    rep = prepared("g (float[N,M,K] x) => (float[] y) {a = Squeeze(x) b = Exp(a) y = Neg(b)}")
    for shape in ((1, 3, 1), (2, 1, 4), (2, 3, 4), (1, 1, 1)):
        x = np.full(shape, 0.5, np.float32)
        check(rep.run([x])[0], -np.exp(x.squeeze()))


def test_axes_that_only_the_run_knows() -> None:
    rep = prepared("g (float[N,M,K] x, int64[A] axes) => (float[] y) {a = ReduceSum<keepdims=0>(x, axes) y = Exp(a)}")
    for axes in ([0], [2], [0, 1], [-1, 0]):
        check(rep.run([CUBE, np.array(axes)])[0], np.exp(CUBE.sum(tuple(axes))))


def test_what_needs_exact_values_does_not_make_the_rest_depend_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_numba.pipeline import Build

    rep = prepared("g (float[N,M] x) => (float[] y) {a = Squeeze(x) b = Sinh(a) y = Neg(b)}")
    built: list[int] = []
    original = Build.artefact
    monkeypatch.setattr(Build, "artefact", lambda self, *a: built.append(len(onnx.load_from_string(a[0]).graph.node)) or original(self, *a))
    for n in (2, 3, 4, 5):
        for k in range(3):
            check(rep.run([np.full((n, 1), k, np.float32)])[0], -np.sinh(np.full(n, k, np.float32)))
    assert built.count(2) <= 1  # what follows the squeeze
    assert built.count(1) <= 5  # the squeeze: once in vain for its rank, then for each shape


def test_operators_that_the_standard_defines_by_others() -> None:
    rep = prepared("g (float[] x) => (float[] y) {a = Celu(x) b = Softsign(a) y = HardSwish(b)}")
    for x in (MATRIX, CUBE):
        celu = np.maximum(x, 0) + np.minimum(0, np.exp(x) - 1)
        sign = celu / (1 + np.abs(celu))
        check(rep.run([x])[0], sign * np.clip(sign / 6 + 0.5, 0, 1))


def test_strings_of_unknown_rank() -> None:
    rep = prepared(
        """g (string[] x) => (string[] y) {
        a = Transpose(x) zero = Constant<value_ints=[0]>() b = Gather(a, zero) y = Identity(b) }"""
    )
    text = np.array([["a", "b"], ["c", "d"]], object)
    assert rep.run([text])[0].tolist() == [["a", "c"]]


def test_small_constants_are_part_of_a_segment_and_large_ones_are_handed_to_it() -> None:
    constants = {"small": np.ones(1000, np.float32), "large": np.full((1000, 300), 0.5, np.float32)}
    nodes = [helper.make_node("Add", ["x", "small"], ["a"]), helper.make_node("MatMul", ["a", "large"], ["y"])]
    inputs = [onnx.ValueInfoProto(name="x", type=helper.make_tensor_type_proto(1, None))]
    outputs = [onnx.ValueInfoProto(name="y", type=helper.make_tensor_type_proto(1, None))]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(a, name) for name, a in constants.items()])
    rep = backend.prepare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))
    (step,) = rep._prepared.session.plan.hosts
    assert [name for name, _ in step.params["named"]] == ["x", "large"]
    for shape in ((1000,), (2, 1000), (3, 1, 1000)):
        np.testing.assert_allclose(rep.run([np.ones(shape, np.float32)])[0], np.full((*shape[:-1], 300), 1000.0), rtol=1e-5)


def test_results_that_nobody_reads_are_not_handed_out() -> None:
    rep = prepared("g (float[] x) => (float[] y) {a = Exp(x) b = Neg(a) c = Abs(b) y = Log(c)}")
    (step,) = rep._prepared.session.plan.hosts
    assert [o.name for o in onnx.load_from_string(step.params["model"]).graph.output] == ["y"]


CLASSES = {
    "classlabels_strings": ["a", "b"], "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.5, 0.0, 0.0], "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0], "class_treeids": [0, 0], "class_nodeids": [1, 2], "class_ids": [0, 1], "class_weights": [1.0, 1.0],
}  # fmt: skip


@pytest.mark.parametrize(
    ("node", "opsets", "x", "expected"),
    [
        (helper.make_node("Cast", ["x"], ["y"], to="FLOAT"), {"": 1}, np.array([[1, 2]]), np.array([[1, 2]], np.float32)),
        (helper.make_node("Cast", ["x"], ["y"], to="BOOL"), {"": 5}, np.array([[[0]], [[2]]]), np.array([[[False]], [[True]]])),
        (helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft"), {"com.microsoft": 1}, 0 * MATRIX, 0 * MATRIX),
        (
            helper.make_node("TreeEnsembleClassifier", ["x"], ["y", ""], domain="ai.onnx.ml", **CLASSES), {"ai.onnx.ml": 5},
            np.array([[0.0], [1.0]], np.float32), np.array(["a", "b"], object),
        ),
        (
            helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[3, 4]), {"ai.onnx.ml": 1},
            np.array([[1, 2]], np.float32), [{3: 1.0, 4: 2.0}],
        ),
    ],
    ids=lambda v: v.op_type if isinstance(v, onnx.NodeProto) else None,
)  # fmt: skip
def test_types_of_results_that_onnx_cannot_tell(node: onnx.NodeProto, opsets: dict[str, int], x: Any, expected: Any) -> None:
    """An operator whose inference onnx lacks says itself what it gives of an input of any rank; so does what comes after it."""
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    inputs = [onnx.ValueInfoProto(name="x", type=helper.make_tensor_type_proto(kind, None))]
    graph = helper.make_graph([node, helper.make_node("Identity", ["y"], ["z"])], "g", inputs, [onnx.ValueInfoProto(name="z")])
    imports = [helper.make_opsetid(*entry) for entry in {"": 18, **opsets}.items()]
    (z,) = backend.prepare(helper.make_model(graph, opset_imports=imports, ir_version=8), jit=False).run([x])
    if isinstance(expected, list):
        assert z == expected
    else:
        assert z.dtype == expected.dtype
        np.testing.assert_array_equal(z, expected)


def test_errors_name_the_node() -> None:
    rep = prepared("g (float[] x, float[K] w) => (float[] y) {a = Relu(x) y = MatMul(a, w)}")
    with pytest.raises(OnnxNumbaError, match="MatMul"):
        rep.run([MATRIX, np.ones(5, np.float32)])
    turned = prepared("g (float[] x) => (float[] y) {a = Relu(x) y = Transpose<perm=[0, 2, 1]>(a)}")
    with pytest.raises(OnnxNumbaError, match="Transpose"):
        turned.run([MATRIX])
    check(turned.run([CUBE])[0], CUBE.transpose(0, 2, 1))


def test_an_operator_without_any_implementation_is_refused_at_prepare() -> None:
    graph = helper.make_graph(
        [helper.make_node("Nonsense", ["x"], ["y"], domain="example.org")], "g",
        [onnx.ValueInfoProto(name="x", type=helper.make_tensor_type_proto(1, None))],
        [onnx.ValueInfoProto(name="y", type=helper.make_tensor_type_proto(1, None))],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("example.org", 1)]
    with pytest.raises(UnsupportedError, match="Nonsense"):
        backend.prepare(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def test_without_a_store_segments_are_still_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_numba.pipeline import Build

    rep = prepared("g (float[] x) => (float[] y) {a = Tan(x) y = Sub(a, x)}", cache=False, jit=False)
    built: list[None] = []
    original = Build.artefact
    monkeypatch.setattr(Build, "artefact", lambda self, *a: built.append(None) or original(self, *a))
    for _ in range(3):
        rep.run([MATRIX])
    assert len(built) == 1


def test_trimming_reaches_the_segments() -> None:
    rep = prepared("g (float[] x) => (float[] y) {a = Softmax(x) b = Transpose(a) c = Softmax(b) y = Transpose(c)}")
    session = rep._prepared.session
    own = session.arena_bytes
    rep.run([np.ones((64, 64), np.float32)])
    kept = session.arena_bytes
    assert kept >= own + 64 * 64 * 4
    session.trim()
    assert session.arena_bytes <= kept
    session.cancel()
    check(rep.run([np.ones((1, 1), np.float32)])[0], np.ones((1, 1), np.float32))


def test_threads_that_reach_a_segment_at_once_prepare_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_numba.pipeline import Build

    rep = prepared("g (float[] x) => (float[] y) {a = Atan(x) y = Sub(a, x)}", jit=False, cache=False)
    built: list[None] = []
    original = Build.artefact
    monkeypatch.setattr(Build, "artefact", lambda self, *a: built.append(None) or original(self, *a))
    results: list[Array] = []
    threads = [threading.Thread(target=lambda: results.append(rep.run([CUBE])[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert len(results) == 4
    for result in results:
        check(result, np.arctan(CUBE) - CUBE)


WARM = """
import json, sys
import numpy as np
import onnx_numba.backend as backend
rep = backend.prepare(sys.argv[1])
shapes = json.loads(sys.argv[2])
sums = [float(rep.run([np.ones(shape, np.float32)])[0].sum()) for shape in shapes]
print(json.dumps([sums, rep.stats["cached"], sorted({"onnx", "numba"} & set(sys.modules))]))
"""


def test_a_later_process_compiles_nothing_and_imports_neither_onnx_nor_numba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNX_NUMBA_CACHE", str(tmp_path / "store"))
    path = tmp_path / "model.onnx"
    onnx.save(model("g (float[] x) => (float[] y) {a = Squeeze(x) b = Exp(a) y = Add(b, b)}"), path)

    def run(shapes: Sequence[Sequence[int]]) -> Any:
        command = [sys.executable, "-c", WARM, str(path), json.dumps(shapes)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    shapes = [(2, 1, 3), (1, 4), (5,)]
    cold, cached, _ = run(shapes)
    np.testing.assert_allclose(cold, [12 * np.e, 8 * np.e, 10 * np.e], rtol=1e-5)
    assert not cached
    assert run(shapes) == [cold, True, []]


def test_facts_grow_with_the_level() -> None:
    inputs = (("x", TensorType(F32)), ("axes", TensorType(I64, (None,))), ("s", SequenceType(TensorType(F32))))
    axes = np.array([1, 2])
    values = (CUBE, axes, [MATRIX])
    value = ("value", (2,), axes.tobytes())
    every = [facts(inputs, values, level) for level in LEVELS]
    assert every[0] == (("rank", 3), ("shape", (2,)), ())
    assert every[1] == (("shape", (2, 3, 4)), ("shape", (2,)), ())
    assert every[2] == (("rank", 3), value, ())
    assert every[3] == (("shape", (2, 3, 4)), value, ())
    assert every[4] == (("value", (2, 3, 4), CUBE.tobytes()), value, ())
    known = given(inputs, every[2])
    assert known.types == {"x": TensorType(F32, (None,) * 3)}
    assert known.constants["axes"].tolist() == [1, 2]
    assert len({given(inputs, each).digest() for each in every}) == 5


@pytest.mark.parametrize(
    ("call", "inputs"),
    [
        ("SkipLayerNormalization (x, s, a, b)", [CUBE, CUBE[::-1] * 2, CUBE[0, 0], CUBE[0, 1]]),
        ("BiasGelu (x, a)", [CUBE, CUBE[0, 1]]),
        ("FusedMatMul <transB = 1> (x, a)", [CUBE, CUBE[0]]),
        ("FusedConv <activation = \"Relu\"> (x, s, a)", [CUBE[None], CUBE[None, :, :2, :2], CUBE[0, 0, :1]]),
    ],
)  # fmt: skip
def test_operators_that_onnx_does_not_know_take_inputs_of_several_unknown_ranks(call: str, inputs: Sequence[Array]) -> None:
    names = call[call.index("(") + 1 : -1].split(", ")

    def made(ranked: bool) -> backend.BackendRep:
        ports = [f"float[{','.join(f'{n}{k}' for k in range(x.ndim)) if ranked else ''}] {n}" for n, x in zip(names, inputs, strict=True)]
        head = '<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]>'
        text = f"{head} g ({', '.join(ports)}) => (float[] z) {{ y = com.microsoft.{call}  z = Neg(y) }}"
        return backend.prepare(parser.parse_model(text))

    check(made(False).run(inputs)[0], made(True).run(inputs)[0])
