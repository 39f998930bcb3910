"""The backend API as callers see it: what ``prepare`` and ``run`` take and give, and what they refuse."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import onnx_numba
import onnx_numba.backend as backend
from onnx_numba import errors, samples
from onnx_numba.options import Options

ADD = """
<ir_version: 10, opset_import: ["" : 21]>
add (float[n, 3] x, float[3] bias) => (float[n, 3] y, float[n, 3] z) {
    y = Add(x, bias)
    z = Neg(y)
}
"""
RELU = """
<ir_version: 10, opset_import: ["" : 21]>
relu (float[n, 3] x) => (float[n, 3] y) { y = Relu(x) }
"""
X = np.array([[1, 2, 3], [-4, -5, -6]], np.float32)
BIAS = np.array([10, 20, 30], np.float32)


@pytest.fixture(scope="module")
def add() -> backend.BackendRep:
    return backend.prepare(parser.parse_model(ADD))


@pytest.fixture(scope="module")
def relu() -> backend.BackendRep:
    return backend.prepare(parser.parse_model(RELU))


# What prepare takes


def test_model_forms(tmp_path: Path) -> None:
    model = parser.parse_model(RELU)
    path = tmp_path / "relu.onnx"
    onnx.save(model, path)
    for form in (model, model.SerializeToString(), str(path), path):
        np.testing.assert_array_equal(backend.prepare(form).run(X).y, np.maximum(X, 0))


def test_prepared_rep_is_itself(relu: backend.BackendRep) -> None:
    assert backend.prepare(relu) is relu
    np.testing.assert_array_equal(backend.run_model(relu, X)[0], np.maximum(X, 0))


def test_external_data_beside_the_file(tmp_path: Path) -> None:
    weight = np.arange(3, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "external",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    cache = tmp_path / "cache"
    np.testing.assert_array_equal(backend.prepare(path, cache=cache).run(X)[0], X + weight)
    again = backend.prepare(path, cache=cache)
    assert again.stats["cached"]
    np.testing.assert_array_equal(again.run(X)[0], X + weight)
    (weight + 7).tofile(tmp_path / "w.bin")
    changed = backend.prepare(path, cache=cache)
    assert not changed.stats["cached"]
    np.testing.assert_array_equal(changed.run(X)[0], X + weight + 7)


def test_unsorted_nodes_and_no_output_shape() -> None:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["h"], ["y"]), helper.make_node("Relu", ["x"], ["h"])],
        "unsorted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    np.testing.assert_array_equal(backend.prepare(model).run(X).y, -np.maximum(X, 0))


# What run takes and gives


@pytest.mark.parametrize(
    "inputs", [[X, BIAS], (X, BIAS), {"bias": BIAS, "x": X}, [X.tolist(), [10, 20, 30]]], ids=["list", "tuple", "dict", "lists"]
)
def test_input_forms(add: backend.BackendRep, inputs: Any) -> None:
    outputs = add.run(inputs)
    assert isinstance(outputs, tuple)
    assert outputs._fields == ("y", "z")
    np.testing.assert_array_equal(outputs.y, X + BIAS)
    np.testing.assert_array_equal(outputs["z"], -(X + BIAS))
    np.testing.assert_array_equal(outputs[1], outputs["z"])
    y, z = outputs
    assert y.dtype == z.dtype == np.float32


def test_single_array(relu: backend.BackendRep) -> None:
    np.testing.assert_array_equal(relu.run(X).y, np.maximum(X, 0))


@pytest.mark.parametrize(
    "change",
    [lambda x: np.asfortranarray(x), lambda x: np.repeat(x, 2, 1)[:, ::2], lambda x: x.astype(">f4")],
    ids=["fortran", "strided", "big-endian"],
)
def test_layouts(relu: backend.BackendRep, change: Callable[[np.ndarray], np.ndarray]) -> None:
    given = change(X)
    before = given.copy()
    np.testing.assert_array_equal(relu.run(given).y, np.maximum(X, 0))
    np.testing.assert_array_equal(given, before)


def test_read_only_input_and_outputs_of_ones_own(relu: backend.BackendRep) -> None:
    x = X.copy()
    x.flags.writeable = False
    first = relu.run(x).y
    first[:] = -1
    second = relu.run(x).y
    np.testing.assert_array_equal(first, np.full_like(X, -1))
    np.testing.assert_array_equal(second, np.maximum(X, 0))


def test_output_never_aliases_an_input() -> None:
    rep = backend.prepare(parser.parse_model(RELU.replace("Relu", "Identity")))
    x = X.copy()
    out = rep.run(x).y
    out += 1
    np.testing.assert_array_equal(x, X)


def test_zero_rows(relu: backend.BackendRep) -> None:
    assert relu.run(np.zeros((0, 3), np.float32)).y.shape == (0, 3)


def test_data_frame_as_matrix(relu: backend.BackendRep) -> None:
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    np.testing.assert_array_equal(relu.run(frame).y, np.maximum(X, 0))
    mixed = pd.DataFrame({"a": [1, 2], "b": [0.5, -0.5], "c": [3, 4]})
    np.testing.assert_array_equal(relu.run(mixed).y, np.maximum(mixed.to_numpy(), 0).astype(np.float32))


COLUMNS = """
<ir_version: 10, opset_import: ["" : 21]>
columns (float[n, 1] age, int64[n, 1] visits, string[n, 1] city) => (float[n, 1] sum, string[n, 1] where) {
    v = Cast<to = 1>(visits)
    sum = Add(age, v)
    where = Identity(city)
}
"""


def test_data_frame_by_column() -> None:
    rep = backend.prepare(parser.parse_model(COLUMNS))
    frame = pd.DataFrame({"city": ["Bern", "Wien"], "age": [30.5, 40.0], "visits": [1, 2]})
    outputs = rep.run(frame)
    np.testing.assert_array_equal(outputs["sum"], np.array([[31.5], [42.0]], np.float32))
    assert outputs["where"].dtype == object
    assert outputs["where"].tolist() == [["Bern"], ["Wien"]]
    with pytest.raises(errors.InputError, match=r"no column for \['city'\].*'age', 'visits', 'city'"):
        rep.run(frame.drop(columns="city"))
    with pytest.raises(errors.InputError, match=r"columns \['extra'\] that are no inputs"):
        rep.run(frame.assign(extra=1))


# What run refuses


@pytest.mark.parametrize(
    ("inputs", "kind", "says"),
    [
        ({"y": X, "bias": BIAS}, ValueError, r"'y'.*'x', 'bias'"),
        ({"x": X}, ValueError, "'bias'"),
        ([X], ValueError, "2 inputs.*'x', 'bias'.*got 1"),
        ([X, BIAS, BIAS], ValueError, "2 inputs.*got 3"),
        (X, ValueError, "2 inputs.*got 1"),
        ([X.astype(np.float64), BIAS], TypeError, "'x'.*float32.*float64"),
        ([X, BIAS.astype(np.int64)], TypeError, "'bias'.*float32.*int64"),
        ([X[0], BIAS], ValueError, "'x'.*rank 2.*rank 1"),
        ([X[:, :2], BIAS], ValueError, r"'x'.*\[n, 3\].*\[2, 2\]"),
        ([X, BIAS[:2]], ValueError, r"'bias'.*\[3\].*\[2\]"),
        ([X, None], ValueError, "'bias'"),
        ([X, "text"], TypeError, "'bias'"),
    ],
)
def test_wrong_inputs(add: backend.BackendRep, inputs: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says) as raised:
        add.run(inputs)
    assert isinstance(raised.value, errors.OnnxNumbaError)
    assert "\n" not in str(raised.value)


def test_run_takes_no_options(relu: backend.BackendRep) -> None:
    with pytest.raises(TypeError, match="fast"):
        relu.run(X, fast=True)


def test_a_class_of_ones_own_may_run_otherwise(relu: backend.BackendRep) -> None:
    class Twice(backend.BackendRep):
        def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
            return super().run(2 * inputs, **kwargs)

    np.testing.assert_array_equal(Twice(relu._prepared).run(X).y, np.maximum(2 * X, 0))


@pytest.mark.parametrize("portable", [False, True])
def test_one_row_of_iris(portable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if portable:
        monkeypatch.setattr("onnx_numba.runtime.engine.usable", lambda: False)
    row = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
    for _ in range(2):  # built, then from the store
        rep = backend.prepare(samples.path())
        for inputs in (row, [row], {"X": row}, row.tolist(), pd.DataFrame(row)):
            inputs = [inputs] if isinstance(inputs, list) and inputs[0] is not row else inputs
            label, probabilities = rep.run(inputs)
            assert label.tolist() == [0] and list(probabilities[0]) == [0, 1, 2]
            assert sum(probabilities[0].values()) == pytest.approx(1)


# What prepare refuses


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x00" * 64], ids=["empty", "text", "zeros"])
def test_no_model(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(errors.ModelError):
        backend.prepare(data)
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(errors.ModelError, match=r"m\.onnx"):
        backend.prepare(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated(share: float) -> None:
    data = Path(samples.path()).read_bytes()
    with pytest.raises(errors.OnnxNumbaError):
        backend.prepare(data[: int(len(data) * share)])


def test_no_file() -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        backend.prepare("absent.onnx")


def _one_node(op: str, domain: str = "", opset: int = 21) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], name="the_node", domain=domain)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    imports = {"": 21, domain: opset}
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*entry) for entry in imports.items()])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (_one_node("Nonsense"), ["the_node", "Nonsense", "21"]),
        (_one_node("Gelu", opset=19), ["the_node", "Gelu", "19"]),
        (_one_node("Fancy", "my.domain", 3), ["the_node", "Fancy", "my.domain", "3"]),
        (_one_node("Relu", opset=999), ["Relu", "999"]),
    ],
    ids=["operator", "too old an opset", "domain", "too new an opset"],
)
def test_unknown_operators(model: onnx.ModelProto, words: list[str]) -> None:
    with pytest.raises(errors.OnnxNumbaError) as raised:
        backend.prepare(model)
    assert all(word in str(raised.value) for word in words), str(raised.value)
    assert "\n" not in str(raised.value)


def test_unknown_option() -> None:
    with pytest.raises(errors.OptionError, match="num_threads"):
        backend.prepare(samples.path(), num_thread=2)


def test_dims_that_are_fixed() -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[N,C,H,W] x) => (float[N,4,H,W] y) { y = Conv<pads=[1,1,1,1]>(x, w) }'
    made = parser.parse_model(text)
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    made.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    free, fixed = backend.prepare(made), backend.prepare(made, dims={"H": 20, "W": 30})
    assert fixed.options.dims == (("H", 20), ("W", 30)) and fixed.options == Options(dims=fixed.options.dims)
    assert [str(port.type) for port in (*fixed.inputs, *fixed.outputs)] == ["tensor(float) N×C×20×30", "tensor(float) N×4×20×30"]
    x = np.random.default_rng(1).standard_normal((2, 3, 20, 30)).astype(np.float32)
    np.testing.assert_allclose(fixed.run(x).y, free.run(x).y, rtol=1e-4, atol=1e-5)
    with pytest.raises(errors.InputError, match="20"):
        fixed.run(np.zeros((1, 3, 21, 30), np.float32))
    assert free.run(np.zeros((1, 3, 21, 30), np.float32)).y.shape == (1, 4, 21, 30)


def test_dims_of_sequences_that_are_fixed() -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (seq(float[n,2]) x) => (float[m,2] y) { y = ConcatFromSequence<axis = 0>(x) }'
    rep = backend.prepare(parser.parse_model(text), dims={"n": 3})
    assert "3×2" in str(rep.inputs[0].type)
    assert rep.run([[np.ones((3, 2), np.float32)] * 2]).y.shape == (6, 2)


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        ({"M": 3}, "'M'"), ({"N": -1}, "-1"), ({"N": 2.0}, "2.0"), ({"N": True}, "True"), ({"": 2}, "''"), ({1: 2}, "1"), ("N", "'N'"),
        (("N", 2), "2"),
    ],
)  # fmt: skip
def test_dims_that_cannot_be_fixed(dims: Any, words: str) -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }'
    with pytest.raises(errors.OptionError, match="dims: ") as raised:
        backend.prepare(parser.parse_model(text), dims=dims)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_something_else() -> None:
    with pytest.raises(TypeError):
        backend.prepare(3)  # type: ignore[arg-type]


# Devices


@pytest.mark.parametrize("device", ["CPU", "CPU:0"])
def test_cpu(device: str) -> None:
    assert backend.supports_device(device)
    np.testing.assert_array_equal(backend.prepare(parser.parse_model(RELU), device).run(X)[0], np.maximum(X, 0))


@pytest.mark.parametrize("device", ["cpu", "GPU", "CPU:1", "CUDA:x", "", "CPU:0:1"])
def test_no_device(device: str) -> None:
    assert not backend.supports_device(device)
    with pytest.raises(errors.DeviceError, match="device"):
        backend.prepare(parser.parse_model(RELU), device)


@pytest.mark.skipif(backend.supports_device("CUDA"), reason="there is a CUDA device, real or simulated")
@pytest.mark.parametrize("device", ["CUDA", "CUDA:0"])
def test_cuda_says_why_not(device: str) -> None:
    with pytest.raises(errors.DeviceError, match="CUDA:0 cannot run here"):
        backend.prepare(parser.parse_model(RELU), device)


def test_get_device() -> None:
    assert onnx_numba.get_device() == "CPU"


# The rest of the backend


def test_run_node() -> None:
    node = helper.make_node("Add", ["a", "b"], ["c"])
    np.testing.assert_array_equal(backend.run_node(node, [X, BIAS])[0], X + BIAS)
    np.testing.assert_array_equal(backend.run_node(node, {"a": X, "b": BIAS}).c, X + BIAS)


def test_run_node_with_outputs_info_and_opset() -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    outputs = backend.run_node(node, X, outputs_info=[(np.float32, X.shape)], opset_version=11)
    np.testing.assert_allclose(outputs[0].sum(1), 1, rtol=1e-6)


def test_run_node_without_an_optional_input() -> None:
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    for inputs in ([X, np.float32(1)], [X, None, np.float32(1)]):
        np.testing.assert_array_equal(backend.run_node(node, inputs)[0], np.minimum(X, 1))
    with pytest.raises(errors.InputError, match="without a name"):
        backend.run_node(node, [X, X, X])


def test_run_node_of_ml_domain_and_bfloat16() -> None:
    node = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=0.0)
    np.testing.assert_array_equal(backend.run_node(node, X)[0], (X > 0).astype(np.float32))
    x = X.astype(ml_dtypes.bfloat16)
    result = backend.run_node(helper.make_node("Neg", ["x"], ["y"]), x)[0]
    assert result.dtype == x.dtype
    np.testing.assert_array_equal(result, -x)


def test_run_node_on_a_map() -> None:
    node = helper.make_node("DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", string_vocabulary=["b", "a"])
    assert backend.run_node(node, [{"a": 1.5}], jit=False)[0].tolist() == [[0, 1.5]]
    for absent in ({}, None):
        with pytest.raises(errors.InputError, match="unknown; put the node into a model"):
            backend.run_node(node, [absent])


def test_run_node_with_an_input_twice() -> None:
    node = helper.make_node("Add", ["a", "a"], ["c"])
    np.testing.assert_array_equal(backend.run_node(node, [X, X], jit=False)[0], X + X)
    with pytest.raises(errors.InputError, match="'a' more than once"):
        backend.run_node(node, [X, BIAS])


def test_run_node_refuses_a_wrong_count() -> None:
    with pytest.raises(errors.InputError, match=r"2 inputs \['a', 'b'\], got 1"):
        backend.run_node(helper.make_node("Add", ["a", "b"], ["c"]), [X])


def test_is_opset_supported() -> None:
    assert backend.is_opset_supported(parser.parse_model(RELU)) == (True, "")
    supported, message = backend.is_opset_supported(_one_node("Relu", opset=999))
    assert not supported
    assert "999" in message
    assert backend.is_compatible(parser.parse_model(RELU))
    assert not backend.is_compatible(_one_node("Relu", opset=999))
    assert not backend.is_compatible(_one_node("Fancy", "my.domain", 3))
    assert not backend.is_compatible(parser.parse_model(RELU), "TPU")


def test_rep_tells_about_itself(add: backend.BackendRep) -> None:
    assert [port.name for port in add.inputs] == ["x", "bias"]
    assert [port.name for port in add.outputs] == ["y", "z"]
    assert "def " in add.source
    assert add.options == Options()
    assert [(op, domain) for _, op, domain, *_ in add.served] == [("Add", ""), ("Neg", "")]
    assert "x: tensor(float)" in repr(add)


def test_named_tuple_as_onnx_makes_it() -> None:
    from onnx.backend.base import namedtupledict

    names = ["0", "a.b", "class", "fine", "fine2"]
    ours, theirs = (make("Outputs", names)(*range(5)) for make in (backend.namedtupledict, namedtupledict))
    assert ours._fields == theirs._fields
    assert tuple(ours) == tuple(theirs)
    assert [ours[name] for name in names] == [theirs[name] for name in names] == list(range(5))
    assert ours[-1] == theirs[-1]
    assert ours[1:3] == theirs[1:3]
    with pytest.raises(KeyError):
        ours["absent"]


def test_version_is_the_package_s() -> None:
    from importlib.metadata import version

    assert onnx_numba.__version__ == version("onnx-numba")


# What is imported when


def _imported(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_import_is_light() -> None:
    assert not {"numpy", "numba", "llvmlite", "onnx", "ml_dtypes"} & _imported("import onnx_numba; dir(onnx_numba)")
    assert not {"numba", "llvmlite", "onnx"} & _imported("import onnx_numba.backend, onnx_numba.cli")


def test_warm_prepare_imports_neither_onnx_nor_numba() -> None:
    code = """
import numpy as np
from onnx_numba import backend, samples
label, proba = backend.prepare(samples.path()).run(np.ones((1, 4), np.float32))
"""
    _imported(code)
    assert not {"numba", "onnx", "pandas"} & _imported(code)


def test_lazy_names() -> None:
    for name in onnx_numba.__all__:
        assert getattr(onnx_numba, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        onnx_numba.nothing  # noqa: B018


WITH_DEFAULTS = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n] w, float[3] x, float scale) => (float[m] y) <float[3] w = {10.0, 20.0, 30.0}, float scale = {2.0}> {
    sum = Add(x, w)  y = Mul(sum, scale) }"""


@pytest.mark.parametrize("jit", [True, False])
def test_inputs_that_the_model_has_values_for_may_be_given(jit: bool) -> None:
    rep = backend.prepare(parser.parse_model(WITH_DEFAULTS), jit=jit)
    x, w, scale = np.array([1, 2, 3], np.float32), np.array([5], np.float32), np.array(3, np.float32)
    assert [port.name for port in rep.inputs] == ["x"]
    for inputs in ({"x": x}, [x], x):
        assert rep.run(inputs)[0].tolist() == [22, 44, 66]
    assert rep.run({"x": x, "w": w})[0].tolist() == [12, 14, 16]
    assert rep.run({"x": x, "scale": scale})[0].tolist() == [33, 66, 99]
    assert rep.run([w, x, scale])[0].tolist() == [18, 21, 24]  # in the order of the graph
    assert rep.run({"x": x})[0].tolist() == [22, 44, 66]
    for wrong in ({"x": x, "v": w}, {"w": w}, {"x": x, "w": w.astype(np.float64)}, [w, x, scale, x]):
        with pytest.raises(errors.InputError):
            rep.run(wrong)


@pytest.mark.parametrize("jit", [True, False])
def test_defaults_of_strings(jit: bool) -> None:
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 20]>
        g (string[n] x, string[n] v, string w) => (string[n] y) { t = StringConcat(x, v)  y = StringConcat(t, w) }""")
    model.graph.initializer.append(numpy_helper.from_array(np.array(["1", "2"], object), "v"))
    model.graph.initializer.append(numpy_helper.from_array(np.array("!", object), "w"))
    rep = backend.prepare(model, jit=jit)
    x = np.array(["a", "b"], object)
    assert rep.run([x])[0].tolist() == ["a1!", "b2!"]
    assert rep.run({"x": x, "w": np.array("?", object)})[0].tolist() == ["a1?", "b2?"]


def test_before_ir_4_initializers_are_constants() -> None:
    model = parser.parse_model(WITH_DEFAULTS)
    model.ir_version = 3
    with pytest.raises(errors.InputError, match="unknown input 'w'"):
        backend.prepare(model, jit=False).run({"x": np.ones(3, np.float32), "w": np.ones(3, np.float32)})


def test_a_default_that_contradicts_its_input() -> None:
    shorter = WITH_DEFAULTS.replace("float[n] w", "float[2] w")
    assert backend.prepare(parser.parse_model(shorter), jit=False).run(np.zeros(3, np.float32))[0].tolist() == [20, 40, 60]
    with pytest.raises(errors.ModelError, match=r"input 'w' is declared as tensor\(int64\) n, but its initializer is a tensor\(float\)"):
        backend.prepare(parser.parse_model(WITH_DEFAULTS.replace("float[n] w", "int64[n] w")), jit=False)


def test_the_plan_for_given_defaults_is_in_the_store(tmp_path: Path) -> None:
    model, inputs = parser.parse_model(WITH_DEFAULTS), {"x": np.zeros(3, np.float32), "w": np.ones(1, np.float32)}
    first = backend.prepare(model, cache=str(tmp_path)).run(inputs)
    kept = set(tmp_path.rglob("*"))
    assert backend.prepare(model, cache=str(tmp_path)).run(inputs)[0].tolist() == first[0].tolist() == [2, 2, 2]
    assert set(tmp_path.rglob("*")) == kept


def test_a_prepared_model_is_copied_as_itself_and_not_pickled() -> None:
    rep = backend.prepare(parser.parse_model(ADD), jit=False)
    held = copy.deepcopy({"model": rep, "also": rep})
    assert held["model"] is held["also"] is copy.copy(rep) is rep
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(errors.OnnxNumbaError, match=r"pickled.*prepare") as caught:
            pickle.dumps([rep], protocol)
        assert isinstance(caught.value, TypeError)
