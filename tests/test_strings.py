"""Strings as numbers: what compiled operators make of them, and how the fast entry reads those of Python."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_numba import backend, errors
from onnx_numba.ir.abi import SMALL_OUTPUT
from onnx_numba.runtime.program import REFUSED

ML = "ai.onnx.ml"
WORDS = ["", "a", "b", "ab", "ö", "日本", "😀", "a\0b", "\0", "x" * 300, "missing"]
SURROGATES = ["\ud800", "a\udfff", "\ud83d\ude00"]


def strings(*items: Any) -> np.ndarray:
    made = np.empty(len(items), object)
    made[:] = items
    return made


def model(nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, int]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "strings", [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, t, None) for n, t in outputs.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(ML, 4)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def encoder(**attributes: Any) -> onnx.ModelProto:
    kind = TensorProto.STRING if "values_strings" in attributes else TensorProto.INT64
    node = helper.make_node("LabelEncoder", ["x"], ["y"], domain=ML, **attributes)
    return model([node], {"x": (TensorProto.STRING, ["n"])}, {"y": kind})


@pytest.fixture(scope="module")
def numbers() -> Any:
    return backend.prepare(encoder(keys_strings=WORDS[:-1], values_int64s=range(len(WORDS) - 1), default_int64=-7), num_threads=1)


def test_every_string_is_found_and_no_other(numbers: Any) -> None:
    assert numbers.run([strings(*WORDS)]).y.tolist() == [*range(len(WORDS) - 1), -7]
    assert numbers.run([strings()]).y.shape == (0,)
    assert numbers.run([strings("", "")]).y.tolist() == [0, 0]


def test_plain_python_finds_the_same() -> None:
    plain = backend.prepare(encoder(keys_strings=WORDS[:-1], values_int64s=range(len(WORDS) - 1), default_int64=-7), jit=False)
    assert plain.run([strings(*WORDS, *SURROGATES)]).y.tolist() == [*range(len(WORDS) - 1), -7, -7, -7, -7]


@pytest.mark.parametrize(
    "given",
    [
        np.array(["b", "?", "ab"]),
        np.array([b"b", b"?", b"ab"]),
        strings(b"b", "?", "ab"),
        strings("b", "-", "?", "-", "ab", "-")[::2],
        ["b", "?", "ab"],
        strings(np.str_("b"), "?", "ab"),
        strings("b", "\ud800", "ab"),
    ],
    ids=["U", "S", "bytes", "pieces", "list", "subclass", "surrogate"],
)
def test_other_ways_to_give_strings(numbers: Any, given: Any) -> None:
    assert numbers.run([given]).y.tolist() == [2, -7, 3]


@pytest.mark.parametrize("item", [None, np.nan, 1])
def test_what_is_no_string_is_refused(numbers: Any, item: Any) -> None:
    with pytest.raises(errors.InputTypeError, match="strings"):
        numbers.run([strings("a", item)])
    with pytest.raises(errors.InputTypeError):
        numbers.run([np.empty(2, object)])


def test_the_fast_entry_takes_strings(numbers: Any) -> None:
    entry = numbers._prepared.session._entry
    if entry is None:
        pytest.skip("objects lie differently here")
    assert entry.function([strings("b", "ö")]).y.tolist() == [2, 4]
    assert entry.function([strings(*["ö"] * 5000, "b")]).y.tolist() == [4] * 5000 + [2]  # more bytes than characters
    assert entry.function([strings("b", *SURROGATES)]).y.tolist() == [2, -7, -7, -7]  # by way of Python, in the middle of the run
    assert entry.function([strings("b", "ö")]).y.tolist() == [2, 4]
    for refused in (np.array(["b"]), strings("b", None), strings("b", b"b"), strings("b", "b").reshape(1, 2)):
        assert entry.function([refused]) is REFUSED


def test_no_reference_is_kept_or_lost(numbers: Any) -> None:
    few, many = strings(*"abc"), strings(*(f"key {k}" for k in range(SMALL_OUTPUT // 16)))
    before = [sys.getrefcount(few), sys.getrefcount(many), sys.getrefcount(many[7]), sys.getrefcount(None)]
    for _ in range(50):
        numbers.run([few])
        numbers.run([many])
        numbers.run([few])
    after = [sys.getrefcount(few), sys.getrefcount(many), sys.getrefcount(many[7]), sys.getrefcount(None)]
    assert before[:3] == after[:3]
    assert abs(before[3] - after[3]) < 20  # sessions of other tests may come and go


def test_a_step_in_python_finds_the_input_too() -> None:
    """The strings leave as they came, joined by a step in Python, and as numbers."""
    nodes = [
        helper.make_node("StringConcat", ["x", "x"], ["twice"]),
        helper.make_node("LabelEncoder", ["x"], ["y"], domain=ML, keys_strings=["a", "b"], values_int64s=[1, 2], default_int64=0),
        helper.make_node("LabelEncoder", ["twice"], ["z"], domain=ML, keys_strings=["aa", "bb"], values_int64s=[1, 2], default_int64=0),
        helper.make_node("Identity", ["x"], ["same"]),
    ]
    outputs = {"twice": TensorProto.STRING, "y": TensorProto.INT64, "z": TensorProto.INT64, "same": TensorProto.STRING}
    rep = backend.prepare(model(nodes, {"x": (TensorProto.STRING, ["n"])}, outputs), num_threads=1)
    x = strings("a", "c", "b")
    for _ in range(3):
        got = rep.run([x])
        assert [v.tolist() for v in got] == [["aa", "cc", "bb"], [1, 0, 2], [1, 0, 2], ["a", "c", "b"]]
        assert not np.shares_memory(got.same, x)


def test_strings_that_moved_are_read_where_they_are_now() -> None:
    nodes = [
        helper.make_node("Concat", ["x", "w"], ["both"], axis=1),
        helper.make_node("Transpose", ["both"], ["turned"], perm=[1, 0]),
        helper.make_node("Gather", ["turned", "i"], ["rows"], axis=0),
        helper.make_node("Equal", ["rows", "x1"], ["same"]),
        helper.make_node("LabelEncoder", ["rows"], ["y"], domain=ML, keys_strings=WORDS, values_strings=WORDS[::-1]),
        helper.make_node("LabelEncoder", ["y"], ["z"], domain=ML, keys_strings=WORDS[::-1], values_int64s=range(len(WORDS))),
    ]
    inputs = {
        "x": (TensorProto.STRING, ["n", 2]), "w": (TensorProto.STRING, ["n", None]), "i": (TensorProto.INT64, [3]),
        "x1": (TensorProto.STRING, [1]),
    }  # fmt: skip
    rep = backend.prepare(model(nodes, inputs, {"same": TensorProto.BOOL, "y": TensorProto.STRING, "z": TensorProto.INT64}))
    x, w = strings(*WORDS[:4]).reshape(2, 2), strings(*WORDS[4:8]).reshape(2, 2)
    rows = np.concatenate([x, w], 1).T[[3, 0, 1]]
    got = rep.run([x, w, np.array([3, 0, 1]), strings("b")])
    assert got.same.tolist() == (rows == "b").tolist()
    assert got.y.tolist() == [[WORDS[::-1][WORDS.index(item)] for item in row] for row in rows]
    assert got.z.tolist() == [[WORDS.index(item) for item in row] for row in rows]


def test_choice_and_emptiness() -> None:
    nodes = [
        helper.make_node("Where", ["c", "x", "x1"], ["chosen"]),
        helper.make_node("NonZero", ["chosen"], ["filled"]),
        helper.make_node("OneHotEncoder", ["chosen"], ["hot"], domain=ML, cats_strings=["a", "", "a"]),
    ]
    inputs = {"c": (TensorProto.BOOL, ["n"]), "x": (TensorProto.STRING, ["n"]), "x1": (TensorProto.STRING, [1])}
    outputs = {"chosen": TensorProto.STRING, "filled": TensorProto.INT64, "hot": TensorProto.FLOAT}
    rep = backend.prepare(model(nodes, inputs, outputs))
    got = rep.run([np.array([True, False, True]), strings("a", "b", "ö"), strings("")])
    assert got.chosen.tolist() == ["a", "", "ö"]
    assert got.filled.tolist() == [[0, 2]]
    assert got.hot.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_a_category_that_is_unknown_is_an_error() -> None:
    node = helper.make_node("OneHotEncoder", ["x"], ["y"], domain=ML, cats_strings=["a", "b"], zeros=0)
    rep = backend.prepare(model([node], {"x": (TensorProto.STRING, ["n"])}, {"y": TensorProto.FLOAT}))
    assert rep.run([strings("b")]).y.tolist() == [[0, 1]]
    with pytest.raises(errors.ExecutionError, match=r"OneHotEncoder.*range"):
        rep.run([strings("b", "c")])


def test_inputs_whose_dims_have_one_name_must_agree() -> None:
    node = helper.make_node("Equal", ["x", "w"], ["y"])
    rep = backend.prepare(model([node], {"x": (TensorProto.STRING, ["n"]), "w": (TensorProto.STRING, ["n"])}, {"y": TensorProto.BOOL}))
    assert rep.run([strings("a", "b"), strings("a", "c")]).y.tolist() == [True, False]
    with pytest.raises(errors.ExecutionError, match=r"'w'.*dim n"):
        rep.run([strings("a", "b"), strings("a")])


def test_tables_of_many_keys() -> None:
    keys = [f"{k:x}" for k in range(5000)]
    rep = backend.prepare(encoder(keys_strings=keys, values_int64s=range(5000), default_int64=-1), num_threads=1)
    given = np.random.default_rng(0).permutation(np.array([*keys, *(f"{k:x}" for k in range(5000, 9000))], object))
    assert Counter(rep.run([given]).y.tolist()) == Counter({-1: 4000, **dict.fromkeys(range(5000), 1)})


@pytest.mark.parametrize(
    "kept",
    [
        "s = SequenceConstruct(chosen, chosen)  y = ConcatFromSequence<axis = 0>(s)",
        "o = Optional(chosen)  y = OptionalGetElement(o)",
        "e = SequenceEmpty<dtype = 8>()  s = SequenceInsert(e, chosen)  y = SequenceAt(s, zero)",
    ],
    ids=["sequence", "optional", "inserted"],
)
def test_chosen_strings_that_something_holds_can_be_stored(kept: str, tmp_path: Path) -> None:
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
    g (string[n] x) => (string[m] y) <string mark = {{"!"}}, int64 zero = {{0}}>
    {{ same = Equal(x, mark)  longer = StringConcat(x, mark)  chosen = Where(same, mark, longer)  {kept} }}"""
    for _ in range(2):
        rep = backend.prepare(onnx.parser.parse_model(text), cache=tmp_path)
        assert rep.run([strings("a", "!")])[0].tolist()[:2] == ["a!", "!"]
