"""Classical machine learning: the domain ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from onnx_numba.coverage.case import Case, Draft, convert, onnx_type
from onnx_numba.coverage.recipes import recipe

ML = "ai.onnx.ml."
POSTS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")


@recipe(ML + "ArrayFeatureExtractor")
def array_feature_extractor(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4), np.array([[0, 2, 1]], np.int64))


@recipe(ML + "Binarizer")
def binarizer(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4), threshold=0.5)
    yield c.make(c.real(3, 4), name="default")


@recipe(ML + "CastMap")
def cast_map(c: Draft) -> Iterator[Case]:
    values = {0: "1", 2: "3"} if "string" in c.types["T1"] else {0: 1.5, 2: 3.0}
    target = {"tensor(string)": "TO_STRING", "tensor(float)": "TO_FLOAT", "tensor(int64)": "TO_INT64"}[c.types["T2"]]
    yield c.make(values, cast_to=target, map_form="DENSE")
    yield c.make(values, name="sparse", cast_to=target, map_form="SPARSE", max_map=4)


@recipe(ML + "CategoryMapper")
def category_mapper(c: Draft) -> Iterator[Case]:
    yield c.make(_keys(c, "T1"), cats_strings=["a", "b", "c"], cats_int64s=[10, 20, 30], default_string="?", default_int64=-7)


def _keys(c: Draft, constraint: str) -> Any:
    """Three known keys and an unknown one, of the constraint's type."""
    return np.array(["b", "a", "zz", "c"], object) if "string" in c.types[constraint] else np.array([20, 10, 99, 30], np.int64)


@recipe(ML + "LabelEncoder")
def label_encoder(c: Draft) -> Iterator[Case]:
    if c.version == 1:
        values = np.array(["b", "a", "zz"], object) if "string" in c.types["T1"] else np.array([1, 0, 9], np.int64)
        yield c.make(values, classes_strings=["a", "b", "c"], default_string="?", default_int64=-7)
        return
    suffixes = {"tensor(string)": "strings", "tensor(int64)": "int64s", "tensor(float)": "floats"}
    tables = {"strings": ["a", "b", "c"], "int64s": [10, 20, 30], "floats": [10.0, 20.0, 30.0]}
    given: dict[str, Any] = {}
    for side, type_ in (("keys", c.types["T1"]), ("values", c.types["T2"])):
        suffix = suffixes.get(type_)
        if suffix:
            given[f"{side}_{suffix}"] = tables[suffix]
        else:
            given[f"{side}_tensor"] = _attribute(np.array([10, 20, 30], np.int64), type_)
    if c.types["T2"] not in suffixes:
        given["default_tensor"] = _attribute(np.array([7], np.int64), c.types["T2"])
    yield c.make(_keys(c, "T1"), **given)


def _attribute(values: Any, type_: str, name: str = "value") -> Any:
    array = convert(values, type_)
    return helper.make_tensor(name, onnx_type(type_), array.shape, array)


@recipe(ML + "DictVectorizer")
def dict_vectorizer(c: Draft) -> Iterator[Case]:
    key, _, value = c.types["T1"][4:-1].partition(", ")
    keys: list[Any] = ["a", "b", "zz"] if key == "string" else [10, 20, 99]
    values: list[Any] = ["x", "y", "z"] if value == "string" else [3, 4, 5] if value == "int64" else [1.5, 2.5, 3.5]
    vocabulary = {"string_vocabulary": ["b", "c", "a"]} if key == "string" else {"int64_vocabulary": [20, 30, 10]}
    yield c.make(dict(zip(keys, values, strict=True)), **vocabulary)


@recipe(ML + "FeatureVectorizer")
def feature_vectorizer(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3), c.real(2, 2), inputdimensions=[3, 2])


@recipe(ML + "Imputer")
def imputer(c: Draft) -> Iterator[Case]:
    if "int" in c.types["T"]:
        yield c.make(np.array([[1, 7, 3], [7, 5, 7]], np.int64), imputed_value_int64s=[10, 20, 30], replaced_value_int64=7)
        return
    x = np.array([[1.0, np.nan, 3.0], [np.nan, 5.0, 7.0]])
    yield c.make(x, imputed_value_floats=[10.0, 20.0, 30.0], replaced_value_float=float("nan"))
    yield c.make(x, name="one", imputed_value_floats=[9.0], replaced_value_float=7.0)


@recipe(ML + "Normalizer")
def normalizer(c: Draft) -> Iterator[Case]:
    for norm in ("MAX", "L1", "L2"):
        yield c.make(c.real(3, 4), name="" if norm == "MAX" else norm, norm=norm)


@recipe(ML + "OneHotEncoder")
def one_hot_encoder(c: Draft) -> Iterator[Case]:
    cats = {"cats_strings": ["a", "b", "c"]} if "string" in c.types["T"] else {"cats_int64s": [10, 20, 30]}
    yield c.make(_keys(c, "T"), **cats)


@recipe(ML + "Scaler")
def scaler(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 2), offset=[0.5, -1.0], scale=[2.0, 0.25])
    yield c.make(c.real(3, 2), name="one", offset=[0.5], scale=[2.0])


@recipe(ML + "ZipMap")
def zip_map(c: Draft) -> Iterator[Case]:
    labels = {"classlabels_strings": ["a", "b", "c"]} if "string" in c.types["T"] else {"classlabels_int64s": [10, 20, 30]}
    yield c.make(c.real(2, 3), **labels)


@recipe(ML + "LinearRegressor")
def linear_regressor(c: Draft) -> Iterator[Case]:
    x = c.real(3, 2)
    yield c.make(x, coefficients=[0.5, -1.0, 2.0, 0.25], intercepts=[1.0, -0.5], targets=2)
    for post in POSTS[1:]:
        wide = post.startswith("SOFTMAX")
        weights = {"coefficients": [0.5, -1.0, 2.0, 0.25], "intercepts": [0.25, 0.5], "targets": 2}
        single = {"coefficients": [0.5, -1.0], "intercepts": [0.25], "targets": 1}
        yield c.make(x * 0.125, name=post, post_transform=post, **(weights if wide else single))


@recipe(ML + "LinearClassifier")
def linear_classifier(c: Draft) -> Iterator[Case]:
    x = c.real(4, 2)
    three = {"coefficients": [0.5, -1.0, 2.0, 0.25, -0.5, 1.0], "intercepts": [0.25, -0.5, 0.125]}
    yield c.make(x, outputs=2, **three, **_labels(c, 3))
    for post in POSTS[1:4]:
        yield c.make(x, outputs=2, name=post, post_transform=post, **three, **_labels(c, 3))
    two = {"coefficients": [0.5, -1.0], "intercepts": [0.25]}
    for post in ("NONE", "LOGISTIC"):
        yield c.make(x, outputs=2, name=f"binary,{post}", post_transform=post, **two, **_labels(c, 2))


def _labels(c: Draft, count: int, ints: str = "classlabels_ints") -> dict[str, list[Any]]:
    if c.types["T2"] == "tensor(string)":
        return {"classlabels_strings": ["a", "b", "c"][:count]}
    return {ints: [10, 20, 30][:count]}


@recipe(ML + "SVMRegressor")
def svm_regressor(c: Draft) -> Iterator[Case]:
    x = c.real(3, 2)
    given = {"support_vectors": [0.5, 1.0, -0.5, 0.25, 1.5, -1.0], "coefficients": [1.0, -0.5, 0.75], "rho": [0.25], "n_supports": 3}
    for kernel in ("RBF", "LINEAR", "POLY", "SIGMOID"):
        yield c.make(x, name="" if kernel == "RBF" else kernel, kernel_type=kernel, kernel_params=[0.5, 0.25, 2.0], **given)
    yield c.make(x, name="one_class", kernel_type="RBF", kernel_params=[0.5, 0.0, 3.0], one_class=1, **given)
    yield c.make(x, name="linear model", kernel_type="LINEAR", coefficients=[0.5, -1.0], rho=[0.25], n_supports=0)


@recipe(ML + "SVMClassifier")
def svm_classifier(c: Draft) -> Iterator[Case]:
    x = c.real(4, 2)
    vectors = [0.5, 1.0, -0.5, 0.25, 1.5, -1.0, -1.25, 0.5]
    given = {
        "support_vectors": vectors, "vectors_per_class": [2, 1, 1], "coefficients": [1.0, -0.5, 0.75, -1.0, 0.5, 0.25, -0.75, 1.25],
        "rho": [0.25, -0.125, 0.5], "kernel_params": [0.5, 0.25, 2.0],
    }  # fmt: skip
    for kernel in ("RBF", "LINEAR", "POLY", "SIGMOID"):
        yield c.make(x, outputs=2, name="" if kernel == "RBF" else kernel, kernel_type=kernel, **given, **_labels(c, 3))
    chances = {"prob_a": [-1.0, -0.5, -0.75], "prob_b": [0.125, 0.25, -0.25]}
    yield c.make(x, outputs=2, name="probabilities", kernel_type="RBF", **given, **chances, **_labels(c, 3))


# ---- trees: two of them, one with two decisions


def _trees(c: Draft, leaf: str, floats: bool) -> dict[str, Any]:
    """Nodes in arrays; ``leaf`` is what leaves are called, ``floats`` whether values may be attributes of type float."""
    nodes = {
        "nodes_treeids": [0, 0, 0, 0, 0, 1, 1, 1], "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2], "nodes_featureids": [0, 1, 0, 0, 0, 1, 0, 0],
        "nodes_truenodeids": [1, 3, 0, 0, 0, 1, 0, 0], "nodes_falsenodeids": [2, 4, 0, 0, 0, 2, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "BRANCH_LT", *["LEAF"] * 3, "BRANCH_GTE", "LEAF", "LEAF"],
        f"{leaf}_treeids": [0, 0, 0, 1, 1], f"{leaf}_nodeids": [2, 3, 4, 1, 2],
    }  # fmt: skip
    values, weights = [0.5, -0.25, 0.0, 0.0, 0.0, 0.75, 0.0, 0.0], [0.5, -0.25, 0.75, 0.125, 1.5]
    name = "class" if leaf == "class" else "target"
    if floats:
        return {**nodes, "nodes_values": values, f"{name}_weights": weights}
    tensors = {"nodes_values_as_tensor": values, f"{name}_weights_as_tensor": weights}
    return {**nodes, **{key: helper.make_tensor(key, TensorProto.DOUBLE, [len(v)], v) for key, v in tensors.items()}}


def _float_values(c: Draft, constraint: str) -> bool:
    return c.version < 3 or c.types[constraint] != "tensor(double)"


@recipe(ML + "TreeEnsembleClassifier")
def tree_classifier(c: Draft) -> Iterator[Case]:
    given = {**_trees(c, "class", _float_values(c, "T1")), "class_ids": [0, 1, 2, 1, 0]}
    labels = _labels(c, 3, "classlabels_int64s")
    yield c.make(c.real(5, 2), outputs=2, **given, **labels)
    for post in POSTS[1:4]:
        yield c.make(c.real(5, 2), outputs=2, name=post, post_transform=post, **given, **labels)
    binary = {**given, "class_ids": [0, 0, 0, 0, 0]}
    yield c.make(c.real(5, 2), outputs=2, name="binary", **binary, **_labels(c, 2, "classlabels_int64s"))


@recipe(ML + "TreeEnsembleRegressor")
def tree_regressor(c: Draft) -> Iterator[Case]:
    given = {**_trees(c, "target", _float_values(c, "T")), "target_ids": [0, 0, 0, 0, 0]}
    yield c.make(c.real(5, 2), n_targets=1, **given)
    for how in ("AVERAGE", "MIN", "MAX"):
        yield c.make(c.real(5, 2), name=how, n_targets=1, aggregate_function=how, **given)
    yield c.make(c.real(5, 2), name="two targets", n_targets=2, **{**given, "target_ids": [0, 1, 0, 1, 0]})


@recipe(ML + "TreeEnsemble")
def tree_ensemble(c: Draft) -> Iterator[Case]:
    type_ = c.types["T"]
    modes = helper.make_tensor("modes", TensorProto.UINT8, [3], [0, 1, 2])
    given = {
        "tree_roots": [0, 2], "nodes_featureids": [0, 1, 1], "nodes_modes": modes, "nodes_truenodeids": [1, 1, 3],
        "nodes_trueleafs": [0, 1, 1], "nodes_falsenodeids": [0, 2, 4], "nodes_falseleafs": [1, 1, 1], "leaf_targetids": [0, 1, 0, 1, 0],
        "nodes_splits": _attribute(np.array([0.5, -0.25, 0.75]), type_, "splits"),
        "leaf_weights": _attribute(np.array([0.5, -0.25, 0.75, 0.125, 1.5]), type_, "weights"), "n_targets": 2,
    }  # fmt: skip
    yield c.make(c.real(5, 2), aggregate_function=1, post_transform=0, **given)
    for how in (0, 2, 3):
        yield c.make(c.real(5, 2), name=f"aggregate_function={how}", aggregate_function=how, post_transform=0, **given)
