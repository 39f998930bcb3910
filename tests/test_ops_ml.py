"""The operators of ai.onnx.ml against onnxruntime, tree ensembles by random forests of every shape."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from operators import Case, check, model, onnxruntime_outputs

import onnx_numba.backend as backend
from onnx_numba.errors import ModelError

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(14)
ML = "ai.onnx.ml"
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def ml(op: str, version: int, inputs: list[Array], outputs: int = 1, **attributes: Any) -> Case:
    return Case(op, version, inputs, attributes, domain=ML, outputs=outputs)


def numbers(count: int) -> list[float]:
    return [float(v) for v in RNG.normal(size=count)]


X = RNG.normal(size=(5, 3)).astype(np.float32) * 3
GAPS = np.where(RNG.random((5, 3)) < 0.4, np.nan, X).astype(np.float32)
INTS = RNG.integers(0, 4, (4, 3))
TEXT = INTS.astype(str).astype(object)


def linear(classes: int, transform: str, **labels: Any) -> Case:
    weights = {"coefficients": numbers(3 * classes), "intercepts": numbers(classes)}
    return ml("LinearClassifier", 1, [X], 2, post_transform=transform, **weights, **labels)


SIMPLE = [
    ml("Scaler", 1, [X], offset=numbers(3), scale=numbers(3)),
    ml("Scaler", 1, [X.astype(np.float64)], offset=numbers(1), scale=numbers(1)),
    ml("Scaler", 1, [INTS], offset=numbers(3), scale=numbers(3)),
    *(ml("Normalizer", 1, [X], norm=norm) for norm in ("MAX", "L1", "L2")),
    ml("Binarizer", 1, [X], threshold=0.3),
    ml("Imputer", 1, [GAPS], imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan")),
    ml("Imputer", 1, [INTS], imputed_value_int64s=[9], replaced_value_int64=2),
    ml("FeatureVectorizer", 1, [X, X[:, :2]], inputdimensions=[3, 2]),
    ml("ArrayFeatureExtractor", 1, [X, np.array([2, 0])]),
    ml("ArrayFeatureExtractor", 1, [TEXT, np.array([2, 0])]),
    ml("OneHotEncoder", 1, [INTS], cats_int64s=[0, 2, 3], zeros=1),
    ml("OneHotEncoder", 1, [INTS], cats_int64s=[3, 2, 1, 0], zeros=0),
    ml("OneHotEncoder", 1, [TEXT], cats_strings=["1", "3"], zeros=1),
    ml("LabelEncoder", 2, [INTS], keys_int64s=[0, 3], values_floats=[0.5, 1.5]),
    ml("LabelEncoder", 2, [INTS], keys_int64s=[0, 3], values_strings=["a", "b"]),
    ml("LabelEncoder", 2, [TEXT], keys_strings=["0", "3"], values_int64s=[7, 8], default_int64=5),
    ml("LabelEncoder", 1, [TEXT], classes_strings=["3", "1"], default_int64=-5),
    ml("LinearRegressor", 1, [X], coefficients=numbers(6), intercepts=numbers(2), targets=2, post_transform="SOFTMAX"),
    ml("LinearRegressor", 1, [X], coefficients=numbers(3), intercepts=numbers(1), targets=1),
    *(linear(3, transform, classlabels_ints=[4, 5, 6]) for transform in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")),
    *(linear(1, transform, classlabels_strings=["n", "y"]) for transform in ("NONE", "LOGISTIC")),
]


@pytest.mark.parametrize("case", SIMPLE, ids=str)
def test_onnxruntime_agrees(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=1e-5, atol=1e-5)


# ---- trees


def forest(trees: int, modes: list[str], missing: bool, targets: list[int], prefix: str, signed: bool) -> dict[str, Any]:
    """Attributes of random trees."""
    names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    nodes: dict[str, list[Any]] = {name: [] for name in names}
    weights: dict[str, list[Any]] = {"treeids": [], "nodeids": [], "ids": [], "weights": []}

    def grow(tree: int, depth: int, count: list[int]) -> int:
        number = count[0]
        count[0] += 1
        at = len(nodes["treeids"])
        row = (tree, number, 0, "LEAF", 0.0, 0, 0, 0)
        for name, value in zip(names, row, strict=True):
            nodes[name].append(value)
        if depth == 0 or (number and RNG.random() < 0.2):
            for target in targets:
                row = (tree, number, target, float(RNG.normal() if signed else RNG.random() / trees))
                for name, value in zip(weights, row, strict=True):
                    weights[name].append(value)
            return number
        yes, no = grow(tree, depth - 1, count), grow(tree, depth - 1, count)
        lost = int(RNG.random() < 0.5) if missing else 0
        row = (tree, number, int(RNG.integers(3)), str(RNG.choice(modes)), float(RNG.integers(-2, 3)) / 2, yes, no, lost)
        for name, value in zip(names, row, strict=True):
            nodes[name][at] = value
        return number

    for tree in range(trees):
        grow(tree, 3, [0])
    return {f"nodes_{k}": v for k, v in nodes.items()} | {f"{prefix}_{k}": v for k, v in weights.items()}


def samples(dtype: Any, missing: bool) -> Array:
    x = (RNG.integers(-3, 4, (70, 3)) / 2).astype(dtype)
    if missing and x.dtype.kind == "f":
        x[RNG.random(x.shape) < 0.3] = np.nan
    return x


TYPES = [np.float32, np.float64, np.int64]


def regressors() -> list[Case]:
    cases = []
    for k, aggregate in enumerate(["SUM", "AVERAGE", "MIN", "MAX", "SUM", "MIN", "AVERAGE", "MAX"]):
        targets, missing = 1 + k % 3, bool(k % 2)
        given = forest(4, MODES if k % 2 else [MODES[k // 2]], missing, list(range(targets)), "target", True)
        base = {"base_values": numbers(targets)} if k < 4 else {}
        transform = "NONE" if targets == 1 else "SOFTMAX"
        cases.append(
            ml("TreeEnsembleRegressor", 1, [samples(TYPES[k % 2], missing)], n_targets=targets, aggregate_function=aggregate,
               post_transform=transform, **base, **given)
        )  # fmt: skip
    return cases


def classifiers() -> list[Case]:
    cases = []
    variants = [(2, [0, 1]), (2, [0]), (2, [1]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (1, [0])]
    for k, (classes, targets) in enumerate(variants * 3):
        missing, signed = bool(k % 2), k % 3 == 0
        given = forest(4, MODES if k % 2 else [MODES[k % 6]], missing, targets, "class", signed)
        base = {"base_values": numbers(classes)} if k % 4 == 3 else {}
        transform = ("NONE", "LOGISTIC", "SOFTMAX")[(k // 6) % 3]
        cases.append(
            ml("TreeEnsembleClassifier", 1, [samples(TYPES[k % 3], missing)], 2, post_transform=transform,
               classlabels_int64s=list(range(classes)), **base, **given)
        )  # fmt: skip
    return cases


@pytest.mark.parametrize("case", [*regressors(), *classifiers()], ids=lambda c: c.op)
def test_forests_agree_with_onnxruntime(case: Case) -> None:
    expected = onnxruntime_outputs(case)
    if case.attributes.get("classlabels_int64s") == [0, 1] and len(set(case.attributes["class_ids"])) == 2:
        # onnxruntime takes class 1 as soon as its score is positive, the standard the top class.
        expected[0] = expected[1].argmax(1)
    got = backend.prepare(model(case, True)).run(list(case.inputs))
    for wanted, value in zip(expected, got, strict=True):
        assert value.dtype == wanted.dtype and value.shape == wanted.shape
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)


def test_two_classes_with_weights_each() -> None:
    one_leaf = {
        "nodes_treeids": [0], "nodes_nodeids": [0], "nodes_featureids": [0], "nodes_values": [0.0], "nodes_modes": ["LEAF"],
        "nodes_truenodeids": [0], "nodes_falsenodeids": [0], "class_treeids": [0, 0], "class_nodeids": [0, 0], "class_ids": [0, 1],
        "class_weights": [0.75, 0.25], "classlabels_strings": ["no", "yes"],
    }  # fmt: skip
    for base, label, scores in (({}, "no", [0.75, 0.25]), ({"base_values": [1.0, 3.0]}, "yes", [1.75, 3.25])):
        case = ml("TreeEnsembleClassifier", 1, [X], 2, **one_leaf, **base)
        got = backend.prepare(model(case, True), jit=False).run([X])
        assert got[0].tolist() == [label] * len(X)
        np.testing.assert_allclose(got[1], [scores] * len(X))
    with pytest.raises(ModelError, match="1 base values for 2 classes"):
        backend.prepare(model(ml("TreeEnsembleClassifier", 1, [X], 2, **one_leaf, base_values=[1.0]), True), jit=False)


def test_categories_that_are_there_twice_have_their_columns() -> None:
    text = np.array(["a", "b", "c"], object)
    for x, categories in ((np.array([1, 2, 3]), {"cats_int64s": [1, 2, 1]}), (text, {"cats_strings": ["a", "b", "a"]})):
        got = backend.prepare(model(ml("OneHotEncoder", 1, [x], **categories), True), jit=False).run([x])
        assert got[0].tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_a_number_to_be_replaced_that_the_type_does_not_have() -> None:
    x = np.array([1, 2], np.int32)
    case = ml("Imputer", 1, [x], imputed_value_int64s=[7], replaced_value_int64=(1 << 32) + 1)
    assert backend.prepare(model(case, True), jit=False).run([x])[0].tolist() == [1, 2]


MIXED: dict[str, tuple[str, Array, dict[str, Any], str]] = {
    "type of keys": ("LabelEncoder", np.ones(2, np.float32), {"keys_int64s": [1], "values_int64s": [7]}, "the keys are of type int64"),
    "keys of strings": ("LabelEncoder", np.ones(2, np.int64), {"keys_strings": ["1"], "values_int64s": [7]}, "the keys are of type string"),
    "keys twice": ("LabelEncoder", np.ones(2, np.int64), {"keys_int64s": [1], "keys_floats": [1.0], "values_int64s": [7]}, "in 2"),
    "no values": ("LabelEncoder", np.ones(2, np.int64), {"keys_int64s": [1]}, "values are given in 0 attributes"),
    "default": ("LabelEncoder", np.ones(2, np.int64), {"keys_int64s": [1], "values_int64s": [7],
                "default_tensor": helper.make_tensor("d", TensorProto.FLOAT, [1], [0.5])}, "default_tensor is of float32"),
    "categories": ("OneHotEncoder", np.array(["a"], object), {"cats_int64s": [1]}, "cats_strings is needed"),
    "imputed": ("Imputer", np.ones(2, np.int32), {"imputed_value_int64s": [1 << 40]}, "are not all of type int32"),
}  # fmt: skip


@pytest.mark.parametrize("case", MIXED)
def test_attributes_of_types_that_the_input_has_not(case: str) -> None:
    op, x, attributes, reason = MIXED[case]
    with pytest.raises(ModelError, match=f"{op}.*{reason}"):
        backend.prepare(model(ml(op, 4 if op == "LabelEncoder" else 1, [x], **attributes), True), jit=False)


@pytest.mark.parametrize("jit", [True, False])
def test_the_label_of_a_scalar_is_an_array(jit: bool) -> None:
    case = ml("LabelEncoder", 2, [np.array(3)], keys_int64s=[0, 3], values_strings=["a", "b"])
    rep = backend.prepare(model(case, True), jit=jit)
    for given in ([np.array(3)], collections.OrderedDict(in0=np.array(3))):
        (label,) = rep.run(given)
        assert isinstance(label, np.ndarray) and label.shape == () and label.item() == "b"


def test_a_forest_runs_as_plain_python() -> None:
    case = classifiers()[0]
    compiled, plain = (backend.prepare(model(case, True), jit=jit).run([case.inputs[0][:9]]) for jit in (True, False))
    for one, other in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


# ---- support vectors


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("probabilities", [False, True])
def test_support_vectors_agree_with_onnxruntime(kernel: str, probabilities: bool) -> None:
    shared: dict[str, Any] = {"kernel_type": kernel, "kernel_params": [0.3, 0.1, 2.0]}
    one = ml("SVMRegressor", 1, [X], n_supports=4, coefficients=numbers(4), rho=[0.2], support_vectors=numbers(12), **shared)
    check(one, onnxruntime_outputs(one), rtol=1e-4, atol=1e-5, interpreted=False)
    chances = {"prob_a": numbers(3), "prob_b": numbers(3)} if probabilities else {}
    many = ml(
        "SVMClassifier", 1, [X], 2, vectors_per_class=[2, 1, 3], support_vectors=numbers(18), coefficients=numbers(12),
        rho=numbers(3), classlabels_ints=[0, 1, 2], **chances, **shared,
    )  # fmt: skip
    check(many, onnxruntime_outputs(many), rtol=1e-3, atol=1e-4, interpreted=False)


@pytest.mark.parametrize("count", [1, 2, 3, 50, 64, 65])
def test_keys_are_found_whatever_their_number(count: int) -> None:
    keys = np.unique(np.random.default_rng(count).standard_normal(4 * count).astype(np.float32))[:count]
    x = np.concatenate([keys, keys + np.float32(1e-3), [np.nan, -np.inf, np.inf, -0.0], keys[::-1]]).astype(np.float32)
    given = {"keys_floats": keys.tolist(), "values_int64s": list(range(count)), "default_int64": -3}
    expected = [keys.tolist().index(v) if v in keys else -3 for v in x]
    for jit in (True, False):
        (labels,) = backend.prepare(model(ml("LabelEncoder", 2, [x], **given), True), jit=jit).run([x])
        np.testing.assert_array_equal(labels, expected)
