"""The importer: what it resolves, what it tolerates, and how it refuses."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from imported import assert_well_formed, evaluate, imported, text_model
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from onnx_numba.errors import ModelError, OnnxNumbaError, UnsupportedError
from onnx_numba.importer import Model, load
from onnx_numba.ir.types import F32, I64, MapType, OptionalType, SequenceType, TensorType
from onnx_numba.passes.defaults import freeze_defaults
from onnx_numba.passes.rename import all_defined

RELU = "agraph (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }"


MANY_THINGS = """agraph (bool c, float[N, 3] x) => (float[N, 3] y) <float[2] w = {1, 2}, int64[1] k = {3}> {
    a = Elu<alpha = 2.0>(x)
    y = If(c) <then_branch = t () => (float[N] r) { r = Mul(a, w) }, else_branch = e () => (float[N] q) { q = Neg(x) }>
    z = Constant<value = float[2] {1.0, 2.0}>()
    s, t = Split<axis = 1, num_outputs = 2>(x)
}"""


class TestReading:
    def test_proto_bytes_and_path_give_the_same(self, tmp_path: Path) -> None:
        proto = text_model(RELU)
        path = tmp_path / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        for source in (proto, proto.SerializeToString(), bytearray(proto.SerializeToString()), str(path), path):
            model = load(source)
            assert [node.op for node in model.graph.nodes] == ["Relu"]
            assert model.opsets == {"": 17} and model.ir_version == 8

    def test_metadata(self) -> None:
        proto = text_model(RELU)
        proto.producer_name, proto.producer_version, proto.doc_string = "maker", "1.2", "what it is"
        proto.metadata_props.add(key="a", value="b")
        model = load(proto)
        assert (model.producer, model.doc, model.metadata) == ("maker 1.2", "what it is", {"a": "b"})

    @pytest.mark.parametrize("data", [b"", b"hello, world, this is text", b"\x00" * 100, bytes(range(256)), b"\x08\x07"])
    def test_garbage(self, data: bytes) -> None:
        with pytest.raises(ModelError, match="not an ONNX model"):
            load(data)

    def test_every_truncation_is_refused(self) -> None:
        data = text_model(RELU).SerializeToString()
        for length in range(len(data)):
            with pytest.raises(ModelError):
                load(data[:length])

    def test_other_types_are_refused(self) -> None:
        with pytest.raises(TypeError, match="not int"):
            load(3)
        with pytest.raises(ModelError):
            load(numpy_helper.from_array(np.zeros(3)).SerializeToString())

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "none.onnx")

    @pytest.mark.parametrize("op", [b"Re\nu", b"Re\xffu", b"Re\x00u"])
    def test_messages_are_one_line(self, op: bytes) -> None:
        with pytest.raises(ModelError) as caught:
            load(text_model(RELU).SerializeToString().replace(b"Relu", op))
        assert str(caught.value).isprintable()

    def test_damaged_models_are_refused_with_our_errors(self) -> None:
        data = text_model(MANY_THINGS, 'ir_version: 8, opset_import: ["" : 18]').SerializeToString()
        random = np.random.default_rng(0)
        for _ in range(2000):
            damaged = bytearray(data)
            for place in random.integers(0, len(data), random.integers(1, 6)):
                damaged[place] = random.integers(0, 256)
            with contextlib.suppress(OnnxNumbaError):
                load(bytes(damaged))


class TestOperators:
    def test_versions_are_resolved(self) -> None:
        graph = imported("agraph (float[N] x) => (float[N] y) { t = Softmax(x) y = ai.onnx.Add(t, x) }")
        softmax, add = graph.nodes
        assert (softmax.op, softmax.domain, softmax.since_version, softmax.opset) == ("Softmax", "", 13, 17)
        assert (add.domain, add.since_version) == ("", 14)

    @pytest.mark.parametrize(
        ("node", "error", "words"),
        [
            ("y = Nonsense(x)", ModelError, ["'Nonsense#0'", "Nonsense", "ai.onnx", "17", "no such operator"]),
            ("[g] y = Gelu(x)", ModelError, ["Gelu", "opset 17", "came with opset 20"]),
            ("y = ai.onnx.ml.Binarizer(x)", ModelError, ["imports no opset of domain ai.onnx.ml"]),
            ("y = Relu(x, x)", ModelError, ["has 2 inputs, at most 1"]),
            ("y = Add(x)", ModelError, ["has 1 inputs, at least 2"]),
            ("y = Concat(x, x)", ModelError, ["lacks its attribute 'axis'"]),
            ('y = Elu<alpha = "a">(x)', ModelError, ["'alpha'", "STRING", "FLOAT"]),
            ("y = Relu(z)", ModelError, ["'Relu#0'", "input 'z' is never defined"]),
        ],
    )
    def test_refusals(self, node: str, error: type[Exception], words: list[str]) -> None:
        with pytest.raises(error) as caught:
            imported(f"agraph (float[N] x) => (float[N] y) {{ {node} }}")
        for word in words:
            assert word in str(caught.value)

    def test_opset_newer_than_onnx(self) -> None:
        newest = onnx.defs.onnx_opset_version()
        proto = text_model(RELU, f'ir_version: 8, opset_import: ["" : {newest + 1}]')
        with pytest.raises(UnsupportedError, match=f"Relu of domain ai.onnx, opset {newest + 1}.*up to opset {newest}"):
            load(proto)

    def test_foreign_domains_pass(self) -> None:
        graph = imported("agraph (float[N] x) => (float[N] y) { y = com.acme.Thing<k = 3>(x) }")
        assert (graph.nodes[0].since_version, graph.nodes[0].attributes) == (1, {"k": 3})

    def test_unused_domains_need_not_be_known(self) -> None:
        load(text_model(RELU, 'ir_version: 99, opset_import: ["" : 17, "com.acme" : 4, "ai.onnx.ml" : 999]'))

    def test_duplicate_opset_imports(self) -> None:
        model = load(text_model(RELU, 'ir_version: 8, opset_import: ["" : 9, "ai.onnx" : 17]'))
        assert model.opsets == {"": 17} and "9 and 17" in model.notes[0]

    def test_no_opset_import_before_ir_3(self) -> None:
        proto = text_model(RELU)
        proto.ir_version = 2
        del proto.opset_import[:]
        assert load(proto).graph.nodes[0].opset == 1
        proto.ir_version = 7
        with pytest.raises(ModelError, match="no opset"):
            load(proto)


class TestAttributes:
    def test_values(self) -> None:
        tensor = numpy_helper.from_array(np.arange(3, dtype=np.int16))
        node = helper.make_node(
            "Thing", ["x"], ["y"], domain="d", i=1, f=0.5, s="é", ints=[1, 2], floats=[1.0, 2.0], strings=["a", "b"], t=tensor,
            tp=helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 2, None]),
        )  # fmt: skip
        node.attribute.append(AttributeProto(name="raw", type=AttributeProto.STRING, s=b"\xff\xfe"))
        values = load(model_of([node])).graph.nodes[0].attributes
        assert values["i"] == 1 and values["f"] == 0.5 and values["s"] == "é" and values["raw"] == b"\xff\xfe"
        assert values["ints"] == (1, 2) and values["floats"] == (1.0, 2.0) and values["strings"] == ("a", "b")
        assert values["t"].dtype == np.int16 and values["t"].tolist() == [0, 1, 2]
        assert values["tp"] == TensorType(F32, ("N", 2, None))

    def test_sparse(self) -> None:
        values = numpy_helper.from_array(np.array([5.0, 7.0], np.float32), "v")
        linear = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1, 5]), "i"), [2, 3])
        coordinates = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([[0, 1], [1, 2]]), "i"), [2, 3])
        for sparse in (linear, coordinates):
            node = helper.make_node("Constant", [], ["y"], sparse_value=sparse)
            assert load(model_of([node])).graph.nodes[0].attributes["sparse_value"].tolist() == [[0, 5, 0], [0, 0, 7]]
        proto = model_of([helper.make_node("Add", ["x", "v"], ["y"])])
        proto.graph.sparse_initializer.append(linear)
        assert load(proto).graph.initializers[0].array.tolist() == [[0, 5, 0], [0, 0, 7]]

    @pytest.mark.parametrize(
        ("values", "indices", "shape"),
        [
            ([5.0, 7.0], [-1, 1], [2, 3]), ([5.0, 7.0], [1, 6], [2, 3]), ([5.0, 7.0], [3, 1], [2, 3]), ([5.0, 7.0], [1, 1], [2, 3]),
            ([5.0], [1, 2], [2, 3]), ([5.0, 7.0], [[0, -1], [1, 2]], [2, 3]), ([5.0, 7.0], [[0, 1], [0, 1]], [2, 3]),
            ([5.0, 7.0], [[0], [1]], [2, 3]), ([5.0], [0.0], [2]), ([5.0], [0], []), ([5.0], [0], [-3]),
        ],
    )  # fmt: skip
    def test_sparse_tensors_that_are_malformed(self, values: list[float], indices: list[Any], shape: list[int]) -> None:
        given = numpy_helper.from_array(np.array(values, np.float32), "v")
        sparse = helper.make_sparse_tensor(given, numpy_helper.from_array(np.array(indices), "i"), shape)
        with pytest.raises(ModelError, match="spars"):
            load(model_of([helper.make_node("Constant", [], ["y"], sparse_value=sparse)]))

    def test_a_sparse_tensor_that_no_memory_holds(self) -> None:
        given = numpy_helper.from_array(np.ones(1, np.float32), "v")
        sparse = helper.make_sparse_tensor(given, numpy_helper.from_array(np.array([0]), "i"), [1 << 40, 1 << 12])
        with pytest.raises(UnsupportedError, match="more than memory"):
            load(model_of([helper.make_node("Constant", [], ["y"], sparse_value=sparse)]))

    def test_integer_where_a_float_is_declared(self) -> None:
        value = imported("agraph (float[N] x) => (float[N] y) { y = Elu<alpha = 2>(x) }").nodes[0].attributes["alpha"]
        assert value == 2.0 and isinstance(value, float)

    def test_type_left_out(self) -> None:
        node = helper.make_node("Elu", ["x"], ["y"])
        node.attribute.append(AttributeProto(name="alpha", f=3.0))
        assert load(model_of([node])).graph.nodes[0].attributes == {"alpha": 3.0}

    def test_of_other_versions_are_ignored_where_they_say_nothing(self) -> None:
        model = load(shape_13("start = 0"))
        assert model.graph.nodes[0].attributes == {}
        assert "'start'" in model.notes[0] and "15" in model.notes[0] and "ignored" in model.notes[0]

    @pytest.mark.parametrize(("text", "words"), [("start = 1", ["'start'", "version 15"]), ("first = 1", ["'first'", "no version"])])
    def test_others_are_refused(self, text: str, words: list[str]) -> None:
        with pytest.raises(ModelError) as raised:
            load(shape_13(text))
        assert all(word in str(raised.value) for word in ["Shape", *words])


def shape_13(attribute: str) -> onnx.ModelProto:
    return text_model(f"agraph (float[N] x) => (int64[1] y) {{ y = Shape<{attribute}>(x) }}", 'ir_version: 8, opset_import: ["" : 13]')


def model_of(nodes: list[onnx.NodeProto], opset: int = 17) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])
    y = onnx.ValueInfoProto(name="y")
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", opset)])


class TestInitializers:
    @pytest.mark.parametrize(
        "array",
        [
            np.array(True), np.arange(-3, 3, dtype=np.int8), np.arange(6, dtype=np.uint16).reshape(2, 3),
            np.zeros((0, 4), np.float64),
            np.array([1.5, np.nan, np.inf], np.float16), np.array([1.5, -2.0], ml_dtypes.bfloat16),
            np.array([1 + 2j], np.complex64),
            np.array(["a", "ü"], object), np.array([2**63], np.uint64),
        ],
    )  # fmt: skip
    def test_element_types(self, array: np.ndarray) -> None:
        proto = model_of([helper.make_node("Thing", ["x", "w"], ["y"], domain="d")])
        typed = numpy_helper.from_array(array, "w")
        if array.dtype.kind not in "Oc" and array.dtype != ml_dtypes.bfloat16:
            proto.graph.initializer.append(helper.make_tensor("w", typed.data_type, array.shape, array.ravel().tolist()))
            assert_same_array(load(proto).graph.initializers[0].array, array)
            del proto.graph.initializer[:]
        proto.graph.initializer.append(typed)
        constant = load(proto).graph.initializers[0]
        assert_same_array(constant.array, array)
        assert constant.dtype.onnx == typed.data_type and not constant.array.flags.writeable

    def test_bytes_that_are_not_utf8_stay_bytes(self) -> None:
        proto = model_of([helper.make_node("Thing", ["x", "w"], ["y"], domain="d")])
        proto.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.STRING, dims=[2], string_data=[b"ok", b"\xff"]))
        assert load(proto).graph.initializers[0].array.tolist() == ["ok", b"\xff"]

    @pytest.mark.parametrize(
        ("fields", "error", "word"),
        [
            ({"dims": [3], "raw_data": b"1234", "data_type": 1}, ModelError, "'w'"),
            ({"dims": [3], "float_data": [1.0], "data_type": 1}, ModelError, "'w'"),
            ({"dims": [-1], "float_data": [1.0], "data_type": 1}, ModelError, "bad shape"),
            ({"dims": [2], "string_data": [b"a"], "data_type": 8}, ModelError, "1 strings"),
            ({"dims": [], "data_type": 0}, ModelError, "no element type"),
            ({"dims": [], "data_type": 99}, ModelError, "no element type"),
            ({"dims": [3], "raw_data": b"1", "data_type": TensorProto.INT4}, ModelError, "'w'"),
            ({"dims": [3], "int32_data": [1, 2, 3], "data_type": TensorProto.UINT4}, ModelError, "'w'"),
        ],
    )
    def test_bad_tensors(self, fields: dict[str, object], error: type[Exception], word: str) -> None:
        proto = model_of([helper.make_node("Add", ["x", "w"], ["y"])])
        proto.graph.initializer.append(TensorProto(name="w", **fields))
        with pytest.raises(error, match=word):
            load(proto)

    def test_also_an_input(self) -> None:
        text = "agraph (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }"
        graph = imported(text)
        assert graph.inputs[0].default is None and graph.inputs[1].default.array.tolist() == [1, 2]
        assert graph.initializers == ()
        old = imported(text, header='ir_version: 3, opset_import: ["" : 7]')
        assert [value.name for value in old.inputs] == ["x"] and old.initializers[0].name == "w"
        frozen = freeze_defaults(graph)
        assert [value.name for value in frozen.inputs] == ["x"] and frozen.initializers[0].name == "w"
        kept = freeze_defaults(graph, keep={"w"}).inputs
        assert [(value.name, value.default) for value in kept] == [("x", None), ("w", None)]

    def test_given_twice(self) -> None:
        proto = model_of([helper.make_node("Add", ["x", "w"], ["y"])])
        for number in (1.0, 2.0):
            proto.graph.initializer.append(numpy_helper.from_array(np.array([number], np.float32), "w"))
        model = load(proto)
        assert model.graph.initializers[0].array.tolist() == [2.0] and "twice" in model.notes[0]


def assert_same_array(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape
    assert got.tolist() == want.tolist() or np.array_equal(got, want, equal_nan=True)


class TestExternalData:
    def model(self, directory: Path, **entries: object) -> Path:
        proto = model_of([helper.make_node("Add", ["x", "w"], ["y"])])
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
        for key, value in {"location": "weights.bin", **entries}.items():
            tensor.external_data.add(key=key, value=str(value))
        proto.graph.initializer.append(tensor)
        directory.mkdir(exist_ok=True)
        path = directory / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        np.arange(8, dtype=np.float32).tofile(directory / "weights.bin")
        return path

    def test_is_mapped(self, tmp_path: Path) -> None:
        array = load(self.model(tmp_path, offset=8, length=16)).graph.initializers[0].array
        assert array.tolist() == [2, 3, 4, 5] and not array.flags.writeable and not array.flags.owndata

    def test_directory_for_models_from_memory(self, tmp_path: Path) -> None:
        data = self.model(tmp_path).read_bytes()
        assert load(data, directory=tmp_path).graph.initializers[0].array.tolist() == [0, 1, 2, 3]
        with pytest.raises(ModelError, match="came from memory"):
            load(data)

    @pytest.mark.parametrize(
        ("entries", "word"),
        [
            ({"location": "none.bin"}, "missing"),
            ({"location": "../weights.bin"}, "not inside"),
            ({"location": "sub/../../weights.bin"}, "not inside"),
            ({"location": "/etc/passwd"}, "not inside"),
            ({"location": "C:\\weights.bin"}, "not inside"),
            ({"location": "..\\weights.bin"}, "not inside"),
            ({"location": ""}, "not inside"),
            ({"location": "."}, "missing"),
            ({"offset": 20}, "32 bytes, 36 are needed"),
            ({"offset": -4}, "not a number"),
            ({"length": 12}, "12 bytes, but"),
            ({"location": "we\0ights.bin"}, "no name of a file"),
            ({"location": "w" * 5000}, "no name of a file"),
            ({"offset": "\uff18"}, "not a number"),
            ({"offset": "9" * 5000}, "not a number"),
        ],
    )
    def test_refusals(self, tmp_path: Path, entries: dict[str, object], word: str) -> None:
        np.arange(8, dtype=np.float32).tofile(tmp_path / "weights.bin")
        path = self.model(tmp_path / "inner", **entries)
        with pytest.raises(ModelError, match=word) as caught:
            load(path)
        assert "'w'" in str(caught.value)

    @pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
    def test_links(self, tmp_path: Path) -> None:
        """A link out of the directory is refused; a download cache, where model and data both are links, works."""
        path = self.model(tmp_path / "inner")
        weights = path.parent / "weights.bin"
        weights.rename(tmp_path / "weights.bin")
        weights.symlink_to(tmp_path / "weights.bin")
        with pytest.raises(ModelError, match="not inside"):
            load(path)
        path.rename(tmp_path / "blob")
        path.symlink_to(tmp_path / "blob")
        assert load(path).graph.initializers[0].array.tolist() == [0, 1, 2, 3]


class TestTypes:
    def test_of_inputs(self) -> None:
        graph = imported(
            "agraph (float[N, 3, ?] a, float b, seq(float[2]) c, optional(seq(int64)) d, map(int64, float[2]) e) => (y) { y = Identity(a) }"
        )
        a, b, c, d, e = (value.type for value in graph.inputs)
        assert a == TensorType(F32, ("N", 3, None))
        assert isinstance(b, TensorType) and c == SequenceType(TensorType(F32, (2,)))
        assert isinstance(d, OptionalType) and isinstance(d.element, SequenceType)
        assert e == MapType(I64, TensorType(F32, (2,)))
        assert graph.outputs[0].type is None

    def test_rank_may_be_unknown(self) -> None:
        proto = model_of([helper.make_node("Relu", ["x"], ["y"])])
        proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
        assert load(proto).graph.inputs[0].type == TensorType(F32, None)
        proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [-1, 0]))
        assert load(proto).graph.inputs[0].type == TensorType(F32, (None, 0))

    def test_inputs_must_have_one(self) -> None:
        proto = model_of([helper.make_node("Relu", ["x"], ["y"])])
        proto.graph.input[0].ClearField("type")
        with pytest.raises(ModelError, match="'x' has no type"):
            load(proto)


class TestOrder:
    def test_unsorted_nodes_are_sorted(self) -> None:
        graph = imported("agraph (float[N] x) => (float[N] y) { y = Neg(b) b = Abs(a) a = Relu(x) }")
        assert [node.op for node in graph.nodes] == ["Relu", "Abs", "Neg"]

    def test_sorted_nodes_keep_their_order(self) -> None:
        graph = imported("agraph (float[N] x) => (float[N] y) { a = Relu(x) b = Abs(x) c = Neg(x) d = Add(c, a) y = Add(b, d) }")
        assert [node.outputs[0] for node in graph.nodes] == ["a", "b", "c", "d", "y"]

    def test_what_subgraphs_read_counts(self) -> None:
        graph = imported(
            "agraph (bool c, float[N] x) => (float[N] y) {"
            " y = If(c) <then_branch = t () => (float[N] r) { r = Neg(late) }, else_branch = e () => (float[N] q) { q = Neg(x) }>"
            " late = Relu(x) }"
        )
        assert [node.op for node in graph.nodes] == ["Relu", "If"]
        assert graph.nodes[1].bodies["then_branch"].captures == ("late",)
        assert_well_formed(graph)

    def test_circles_name_their_nodes(self) -> None:
        with pytest.raises(ModelError) as caught:
            imported("agraph (float[N] x) => (float[N] y) { [p] a = Add(x, b) [q] b = Neg(a) [r] y = Neg(b) [s] z = Neg(x) }")
        message = str(caught.value)
        assert "circle" in message and "'p'" in message and "'q'" in message and "'r'" not in message and "'s'" not in message

    @pytest.mark.parametrize(
        ("body", "word"),
        [
            ("{ y = Relu(x) y = Neg(x) }", "'y' is defined a second time"),
            ("{ x = Relu(x) y = Neg(x) }", "'x' is defined a second time"),
            ("<float[1] w = {1}> { w = Relu(x) y = Neg(w) }", "'w' is defined a second time"),
            ("{ z = Relu(x) }", "output 'y' of graph 'agraph' is never defined"),
        ],
    )
    def test_definitions(self, body: str, word: str) -> None:
        with pytest.raises(ModelError, match=word):
            imported(f"agraph (float[N] x) => (float[N] y) {body}")

    def test_absent_inputs_and_outputs(self) -> None:
        graph = imported('agraph (float[N] x, float m) => (float[N] y) { y = Clip(x, "", m) z = Dropout(y, "", "") }')
        assert graph.nodes[0].inputs == ("x", "", "m") and graph.nodes[1].inputs == ("y",)


LOOP = """
agraph (int64 n, bool c, float[2] x) => (float[2] y, float[K, 2] ys) {
    w = Neg(x)
    y, ys = Loop(n, c, x) <body = b (int64 i, bool c, float[2] x) => (bool d, float[2] z, float[2] s) {
        d = Identity(c)
        w = Add(x, v)
        z = Identity(w)
        s = If(c) <
            then_branch = t () => (float[2] r) { w = Mul(x, v) r = Neg(w) }, else_branch = e () => (float[2] w) { w = Neg(x) }>
    }>
    v = Abs(w)
}"""


class TestScopes:
    def test_hidden_names_are_told_apart(self) -> None:
        graph = imported(LOOP)
        assert_well_formed(graph)
        loop = next(node for node in graph.nodes if node.op == "Loop")
        assert loop.bodies["body"].captures == ("v",)
        names = all_defined(graph)
        assert {"n", "c", "x", "w", "v", "y", "ys"} <= names and len(names) > 15

    def test_meaning_is_kept(self) -> None:
        x = np.array([1, -2], np.float32)
        y, scans = evaluate(imported(LOOP), {"n": np.array(3), "c": np.array(True), "x": x})
        states = [x + np.abs(x) * k for k in range(4)]
        np.testing.assert_array_equal(y, states[3])
        np.testing.assert_array_equal(scans, [-state * np.abs(x) for state in states[:3]])

    def test_an_outer_value_as_output_of_a_subgraph(self) -> None:
        graph = imported(
            "agraph (bool c, float[N] x) => (float[N] y) {"
            " y = If(c) <then_branch = t () => (float[N] x) { }, else_branch = e () => (float[N] q) { q = Neg(x) }> }"
        )
        assert graph.nodes[0].bodies["then_branch"].captures == ("x",)

    def test_names_of_subgraphs_are_not_seen_outside(self) -> None:
        with pytest.raises(ModelError, match="'q' is never defined"):
            imported(
                "agraph (bool c, float[N] x) => (float[N] y) {"
                " z = If(c) <then_branch = t () => (float[N] q) { q = Neg(x) },"
                " else_branch = e () => (float[N] r) { r = Neg(x) }>"
                " y = Neg(q) }"
            )


def test_onnx_test_models_load() -> None:
    """Every model of onnx's backend suite comes in, but for those of element types that are not supported."""
    from onnx.backend.test.loader import load_model_tests

    refused = 0
    cases = load_model_tests(kind="node")
    for case in cases:
        try:
            model = load(case.model if case.model_dir is None else Path(case.model_dir) / "model.onnx")
        except UnsupportedError as error:
            assert "element type" in str(error)
            refused += 1
            continue
        assert isinstance(model, Model)
        assert_well_formed(model.graph)
    assert len(cases) - refused >= 1700
