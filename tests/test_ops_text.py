"""RegexFullMatch: the syntax is RE2's, its errors are ours."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnx_numba import backend, errors


def matcher(pattern: str):
    node = helper.make_node("RegexFullMatch", ["text"], ["y"], pattern=pattern)
    given = helper.make_tensor_value_info("text", 8, ["n"])
    graph = helper.make_graph([node], "match", [given], [helper.make_tensor_value_info("y", 9, ["n"])])
    return backend.prepare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        (r"[a-z]+\d{2}", ["abc12", "z00"], ["abc1", "abc123", "ABC12", ""]),
        (r"\pL+", ["straße", "Ωmega"], ["a1", ""]),  # not Python's syntax
        (r"\p{Greek}*", ["αβγ", ""], ["abc"]),
        (r"(?i)yes|no", ["YES", "No"], ["yes no"]),
        (r"(a|b)*?c", ["ababc", "c"], ["abab"]),
        (r"(?P<year>\d{4})-\d\d", ["2024-01"], ["24-01"]),
        (r"a.b", ["a.b", "aéb"], ["a\nb"]),
        (r"(?s)a.b", ["a\nb"], ["ab"]),
        ("", [""], ["x"]),
    ],
)
def test_patterns(pattern: str, matching: list[str], other: list[str]) -> None:
    got = matcher(pattern).run(np.array([*matching, *other], object)).y
    assert got.dtype == np.bool_
    assert got.tolist() == [True] * len(matching) + [False] * len(other)


def test_time_is_linear() -> None:
    assert matcher("(a*)*b").run(np.array(["a" * 20_000], object)).y.tolist() == [False]


@pytest.mark.parametrize("pattern", ["(?<=a)b", r"(a)\1", "(", "a{2,1}"])
def test_what_re2_has_not_is_refused(pattern: str) -> None:
    with pytest.raises(errors.ModelError, match=r"RegexFullMatch.*no regular expression of RE2"):
        matcher(pattern)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(errors.UnsupportedError, match=r"RegexFullMatch.*RE2.*onnx-numba\[text\]"):
        matcher("only here")


@pytest.mark.parametrize(
    ("text", "to"),
    [("1_000", TensorProto.FLOAT), ("1_0", TensorProto.INT64), ("\uff11", TensorProto.INT64), ("300", TensorProto.INT8)],
)
def test_what_is_a_number_in_python_alone_is_none(text: str, to: int) -> None:
    cast = helper.make_node("Cast", ["x"], ["y"], to=to)
    with pytest.raises(errors.ExecutionError, match="Cast"):
        backend.run_node(cast, [np.array([text], object)], jit=False)


@pytest.mark.parametrize(
    ("texts", "to", "expected"),
    [
        (["1", "2.9", "-3e2"], TensorProto.INT64, [1, 2, -300]),  # not all as Python writes integers
        (["1", "-128", " 7 "], TensorProto.INT8, [1, -128, 7]),
        ([str((1 << 64) - 1), "0"], TensorProto.UINT64, [(1 << 64) - 1, 0]),
        (["1e40", "-inf", "0.1", "-0"], TensorProto.FLOAT, [np.inf, -np.inf, np.float32(0.1), -0.0]),
        (["true", "0", ""], TensorProto.BOOL, [True, False, False]),
        ([], TensorProto.FLOAT, []),
    ],
)
def test_texts_that_are_numbers(texts: list[str], to: int, expected: list[object]) -> None:
    cast = helper.make_node("Cast", ["x"], ["y"], to=to)
    got = backend.run_node(cast, [np.array(texts, object)], jit=False)[0]
    np.testing.assert_array_equal(got, np.array(expected, got.dtype), strict=True)
    assert np.signbit(got.astype(float)).tolist() == [np.signbit(float(v)) for v in np.array(expected, got.dtype)]


def test_pieces_of_strings_are_filled_up() -> None:
    split = helper.make_node("StringSplit", ["x"], ["y", "n"], delimiter=",")
    y, n = backend.run_node(split, [np.array([["a,b,c"], ["d"], [""]], object)], jit=False)
    assert (y.tolist(), n.tolist()) == ([[["a", "b", "c"]], [["d", "", ""]], [["", "", ""]]], [[3], [1], [1]])


def test_words_are_no_farther_apart_than_a_row_is_long() -> None:
    node = helper.make_node(
        "TfIdfVectorizer", ["x"], ["y"], mode="TF", min_gram_length=1, max_gram_length=2, max_skip_count=(1 << 63) - 1,
        ngram_counts=[0, 2], ngram_indexes=[0, 1, 2], pool_int64s=[1, 2, 1, 2],
    )  # fmt: skip
    assert backend.run_node(node, [np.array([1, 3, 3, 2, 1, 2])], jit=False)[0].tolist() == [2, 2, 3]
