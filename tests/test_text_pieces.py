"""Strings cut into pieces and counted by compiled code: the same as Python's strings, RE2 and plain counting say."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_numba import backend
from onnx_numba.ops.automaton import automaton, one_character

MS, ML = "com.microsoft", "ai.onnx.ml"
LINES = [
    "Hello World, again", "", " ", "a,b  c", "zażółć gęślą jaźń", "\u3000wide\u2003spaces\x85here\xa0", "aba",
    "\x1ctab\tnew\nline\r\n", "日本 語😀", ",,", "a-b--c---", "no\0zero",
]  # fmt: skip


def strings(items: Sequence[str], *shape: int) -> np.ndarray:
    made = np.empty(len(items), object)
    made[:] = items
    return made.reshape(shape or -1)


def model(nodes: list[Any], shape: Sequence[Any], outputs: dict[str, int], kind: int = TensorProto.STRING) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "pieces", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(n, t, None) for n, t in outputs.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(ML, 4), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def both(node: Any, x: np.ndarray, shape: Sequence[Any], **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a node that cuts makes as Python's strings, and what it makes as numbers, found in a table of the former."""
    expected = backend.prepare(model([node], shape, {"t": TensorProto.STRING}), **options).run([x]).t
    keys = [*dict.fromkeys(expected.reshape(-1).tolist()), "none of them"]
    find = helper.make_node("LabelEncoder", ["t"], ["n"], domain=ML, keys_strings=keys, values_int64s=range(len(keys)), default_int64=-1)
    rep = backend.prepare(model([node, find], shape, {"n": TensorProto.INT64}), **options)
    numbers = rep.run([x]).n
    assert numbers.shape == expected.shape
    return expected, np.array([*keys, "?"], object)[numbers]


@pytest.mark.parametrize("most", [None, 0, 1, 2, 100])
@pytest.mark.parametrize("separator", [None, "", " ", ",", "--", "ż", "aa", "\u3000"])
def test_split_like_python(separator: str | None, most: int | None) -> None:
    attributes = {name: value for name, value in (("delimiter", separator), ("maxsplit", most)) if value is not None}
    node = helper.make_node("StringSplit", ["x"], ["t", "length"], **attributes)
    x = strings([*LINES, "aaaaa"])
    rows = [text.split(separator or None, -1 if most is None else most) for text in x]
    expected, got = both(node, x, ["n"])
    assert [row[: len(want)] for row, want in zip(expected.tolist(), rows, strict=True)] == rows
    assert got.tolist() == expected.tolist()
    lengths = backend.prepare(model([node], ["n"], {"length": TensorProto.INT64})).run([x]).length
    assert lengths.tolist() == list(map(len, rows))


@pytest.mark.parametrize("shape", [(0,), (2, 0), (3, 4), ()])
def test_split_of_any_rank(shape: tuple[int, ...]) -> None:
    node = helper.make_node("StringSplit", ["x"], ["t", "length"])
    x = strings(LINES[: int(np.prod(shape))], *shape) if shape else np.array("one two", object)
    expected, got = both(node, x, [f"d{k}" for k in range(len(shape))])
    assert expected.shape[:-1] == shape
    assert got.tolist() == expected.tolist()


TOKENIZERS: list[dict[str, Any]] = [
    {"tokenexp": "[a-zA-Z0-9_]+"},
    {"tokenexp": "[a-z]+", "mincharnum": 2, "mark": 1},
    {"tokenexp": "a|ab|aba"},
    {"tokenexp": r"\w\w+"},
    {"tokenexp": r"[^\s,]+", "mincharnum": 3, "mark": 1, "pad_value": "ż"},
    {"tokenexp": "[żół]+", "mincharnum": 2},
    {"tokenexp": "."},
    {"tokenexp": r"\pL+"},  # RE2 does it
    {"separators": [" "]},
    {"separators": [""], "mark": 1},
    {"separators": [" ", ","], "mincharnum": 2},
    {"separators": ["-+"], "mark": 1, "pad_value": ""},
    {"separators": ["--", "b"]},  # one after the other, by RE2
]


@pytest.mark.parametrize("options", [{}, {"jit": False}], ids=["compiled", "plain"])
@pytest.mark.parametrize("attributes", TOKENIZERS, ids=str)
def test_tokens(attributes: dict[str, Any], options: dict[str, Any]) -> None:
    pytest.importorskip("re2")
    given = {"mark": 0, "mincharnum": 1, "pad_value": "#", **attributes}
    node = helper.make_node("Tokenizer", ["x"], ["t"], domain=MS, **given)
    expected, got = both(node, strings(LINES), ["n"], **options)
    assert got.tolist() == expected.tolist()
    expected, got = both(node, strings(LINES, 3, 4), [3, 4], **options)
    assert got.tolist() == expected.tolist()


def test_without_a_string_the_result_has_an_axis_less() -> None:
    pytest.importorskip("re2")
    tokenizer = helper.make_node("Tokenizer", ["x"], ["t"], domain=MS, mark=0, mincharnum=1, pad_value="#", tokenexp="[a-z]+")
    flat = helper.make_node("Flatten", ["t"], ["f"])
    grams = helper.make_node(
        "TfIdfVectorizer", ["f"], ["y"], max_gram_length=1, min_gram_length=1, max_skip_count=0, mode="TF", ngram_counts=[0],
        ngram_indexes=[0, 1], pool_strings=["a", "b"],
    )  # fmt: skip
    rep = backend.prepare(model([tokenizer, flat, grams], ["n"], {"t": TensorProto.STRING, "y": TensorProto.FLOAT}))
    for _ in range(2):
        some, none = rep.run([strings(["a b a", "c", ""])]), rep.run([strings([])])
        assert some.t.tolist() == [["a", "b", "a"], ["c", "#", "#"], ["#"] * 3]
        assert some.y.tolist() == [[2, 1], [0, 0], [0, 0]]
        assert none.t.shape == (0,)
        assert none.y.shape == (0, 2)
    assert rep.run([strings(["", ""])]).t.shape == (2, 0)
    rep._prepared.session.trim()
    assert rep._prepared.session.arena_bytes >= 0


def counted(rows: np.ndarray, grams: dict[tuple[Any, ...], int], width: int, skips: int) -> np.ndarray:
    result = np.zeros((len(rows), width), np.int64)
    for row, items in zip(result, rows.tolist(), strict=True):
        for size in sorted({len(gram) for gram in grams}):
            for step in range(1, 2 if size == 1 else skips + 2):
                for start in range(len(items) - (size - 1) * step):
                    column = grams.get(tuple(items[start : start + (size - 1) * step + 1 : step]))
                    if column is not None:
                        row[column] += 1
    return result


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("kind", [np.int32, np.int64, object])
@pytest.mark.parametrize(("least", "most", "skips"), [(1, 1, 0), (1, 3, 0), (2, 3, 2), (1, 2, 5), (3, 3, 1)])
def test_grams(mode: str, kind: Any, least: int, most: int, skips: int) -> None:
    made = np.random.default_rng(least + most + skips)
    pool = [*range(5), *made.integers(0, 6, (12, 2)).reshape(-1), *made.integers(0, 6, (10, 3)).reshape(-1)]
    pool = list(map(int, pool))
    counts = [0, 5, 29]
    indexes = made.permutation(27)
    grams: dict[tuple[Any, ...], int] = {}
    column = iter(indexes)
    for size, (start, stop) in enumerate(zip(counts, [*counts[1:], len(pool)], strict=True), 1):
        for at in range(start, stop, size):
            grams[tuple(pool[at : at + size])] = int(next(column))
    weights = made.random(27).astype(np.float32)
    x = made.integers(-1, 8, (7, 11))
    wanted = {gram: column for gram, column in grams.items() if least <= len(gram) <= most}
    expected = counted(x, wanted, 27, skips)
    by_column = np.ones(27, np.float32)
    by_column[indexes] = weights
    result = {"TF": expected, "IDF": (expected > 0) * by_column, "TFIDF": expected * by_column}[mode].astype(np.float32)
    words = object is kind
    node = helper.make_node(
        "TfIdfVectorizer", ["x"], ["y"], min_gram_length=least, max_gram_length=most, max_skip_count=skips, mode=mode,
        ngram_counts=counts, ngram_indexes=indexes.tolist(), weights=weights.tolist(),
        **({"pool_strings": list(map(str, pool))} if words else {"pool_int64s": pool}),
    )  # fmt: skip
    given = strings(list(map(str, x.reshape(-1))), *x.shape) if words else x.astype(kind)
    kinds = {object: TensorProto.STRING, np.int32: TensorProto.INT32, np.int64: TensorProto.INT64}
    rep = backend.prepare(model([node], ["n", "m"], {"y": TensorProto.FLOAT}, kinds[kind]))
    np.testing.assert_array_equal(rep.run([given]).y, result)
    np.testing.assert_array_equal(rep.run([given[:, :2]]).y.shape, (7, 27))
    one = backend.prepare(model([node], ["m"], {"y": TensorProto.FLOAT}, kinds[kind]))
    np.testing.assert_array_equal(one.run([given[3]]).y, result[3])


def test_grams_of_what_python_made_and_of_what_moved() -> None:
    nodes = [
        helper.make_node("StringNormalizer", ["x"], ["low"], case_change_action="LOWER", is_case_sensitive=0, stopwords=["THE END"]),
        helper.make_node("StringSplit", ["low"], ["t", "length"]),
        helper.make_node("Transpose", ["t"], ["turned"], perm=[1, 0]),
        helper.make_node("Transpose", ["turned"], ["back"], perm=[1, 0]),
        helper.make_node(
            "TfIdfVectorizer", ["back"], ["y"], max_gram_length=2, min_gram_length=1, max_skip_count=0, mode="TF", ngram_counts=[0, 2],
            ngram_indexes=[0, 1, 2], pool_strings=["straße", "σας", "σας", "ende"],
        ),
    ]  # fmt: skip
    rep = backend.prepare(model(nodes, ["n"], {"y": TensorProto.FLOAT}))
    x = ["Straße straße", "The End", "ΣΑΣ ende ΣΑΣ"]
    assert rep.run([strings(x)]).y.tolist() == [[2, 0, 0], [0, 2, 1]]
    assert rep.run([strings(["the end"])]).y.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("change", ["LOWER", "UPPER", "NONE"])
@pytest.mark.parametrize("stop", [[], ["and"]])
@pytest.mark.parametrize("words", [["@AZ[`az{", "And", "", "cD"], ["ß", "AND", "Ab"], ["and"], []])
def test_normalised_strings_are_the_same_as_numbers(change: str, stop: list[str], words: list[str]) -> None:
    """They leave as strings, and how long they are is looked up."""
    kept = [word for word in words if word.lower() not in stop] or [""]
    wanted = [{"LOWER": word.lower(), "UPPER": word.upper(), "NONE": word}[change] for word in kept]
    lengths = [len(word) for word in wanted]
    removed = {"stopwords": stop} if stop else {}
    nodes = [
        helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action=change, is_case_sensitive=0, **removed),
        helper.make_node("LabelEncoder", ["y"], ["n"], domain="ai.onnx.ml", keys_strings=wanted, values_int64s=lengths, default_int64=-1),
    ]
    for shape in ([len(words)], [1, len(words)], [len(words), 1]):  # the last is not the standard's
        rep = backend.prepare(model(nodes, ["m", "n"][: len(shape)], {"y": TensorProto.STRING, "n": TensorProto.INT64}))
        got = rep.run([strings(words, *shape)])
        assert got.y.reshape(-1).tolist() == wanted
        assert got.n.reshape(-1).tolist() == lengths
        assert got.n.shape == got.y.shape


# ---- automata

PATTERNS = [
    "[a-zA-Z0-9_]+", "a|ag|aga", "(ga)+b?", "[^ ,]+", "a{2,3}", "(a|b){2}c*", r"\w\w+", r"\d+(\.\d+)?", "a.b", "[]a]+", "[a-]+", "x*y",
    "(?:ab|c)+d", "é+", r"[\w\-']+", "a{2,}", "a{0,2}b", "(a?b){1,2}", r"[^\s]+", r"\W", r"[\d.]+", "日|本", r"\t|\n",
]  # fmt: skip


def generated(made: random.Random, depth: int = 0) -> str:
    choice = made.random()
    if depth > 3 or choice < 0.4:
        return made.choice(["a", "b", "g", "ö", "[ab]", "[^a]", ".", r"\w", r"\d", r"\."])
    inner = generated(made, depth + 1)
    if choice < 0.6:
        return inner + generated(made, depth + 1)
    if choice < 0.75:
        return f"({inner}|{generated(made, depth + 1)})"
    return f"({inner}){made.choice(['*', '+', '?', '{2}', '{1,2}', '{0,3}', '{1,}'])}"


def ends(machine: Any, text: str, start: int) -> int:
    state, found = 0, start if machine.accepting[0] else -1
    for place in range(start, len(text)):
        kind = machine.classes[int(np.searchsorted(machine.bounds, ord(text[place]), "right")) - 1]
        state = machine.steps[state][kind]
        if state < 0:
            break
        found = place + 1 if machine.accepting[state] else found
    return found


def test_automata_match_what_re2_does() -> None:
    re2 = pytest.importorskip("re2")
    made = random.Random(1)
    options = re2.Options()
    options.longest_match = True
    served = 0
    for pattern in [*PATTERNS, *(generated(made) for _ in range(150))]:
        machine = automaton([pattern])
        if machine is None:
            continue
        served += 1
        expected = re2.compile(pattern, options)
        for _ in range(30):
            text = "".join(made.choice("abgxyéö .,1-'\n日\t") for _ in range(made.randint(0, 9)))
            found = expected.search(text)
            mine = next(((start, end) for start in range(len(text) + 1) if (end := ends(machine, text, start)) >= 0), None)
            assert mine == (found.span() if found else None), (pattern, text)
    assert served > 100


@pytest.mark.parametrize(
    "pattern",
    ["^a", "a$", r"\ba", "(?i)a", "a*?b", r"\pL", "[[:alpha:]]", "(a", "a)", "[a", "a{2", "a{1000}", "*", r"\x41", "a**"],
)
def test_what_is_not_plain_is_left_to_re2(pattern: str) -> None:
    assert automaton([pattern]) is None


def test_automata_have_bounds() -> None:
    assert automaton(["(a|b)*a(a|b){12}"]) is None
    assert automaton(["(((a{50}){50}){50}){50}"]) is None
    assert automaton(["(" * 900 + "a" + ")" * 900]) is None
    assert not one_character("(" * 900 + "a" + ")" * 900)


def test_expressions_of_one_character() -> None:
    assert all(map(one_character, [" ", "[ ,]", "a|b", "(?:x)", r"\s", "ö"]))
    assert not any(map(one_character, ["", "ab", "a?", "[ab]c", "x*", "a|bc", "^a"]))
