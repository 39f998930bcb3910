"""Boosted trees as TreeEnsembles, straight from the trees of LightGBM, categories and missing values included.

A converter of our own, since float and double, and sets of categories, are what is to be measured: of a float ensemble the thresholds
are rounded down, so that ``x <= threshold`` says the same of every float x.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from bench import build
from bench.case import Built, Source
from bench.models import learned

_LEQ, _MEMBER = 0, 6
"""Numbers of node modes of TreeEnsemble."""


@dataclass
class _Nodes:
    """The attributes of TreeEnsemble, filled node by node."""

    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    yes_is_leaf: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)
    no_is_leaf: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    members: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)

    def add(self, tree: dict[str, Any], dtype: type) -> tuple[int, bool]:
        """A subtree, nodes before their children; gives its number and whether it is a leaf."""
        if "leaf_value" in tree:
            self.weights.append(tree["leaf_value"])
            return len(self.weights) - 1, True
        number = len(self.features)
        member = tree["decision_type"] == "=="
        self.features.append(tree["split_feature"])
        self.modes.append(_MEMBER if member else _LEQ)
        self.splits.append(0.0 if member else _rounded_down(tree["threshold"], dtype))
        # Comparisons with NaN are false: only a split whose missing values go left needs the flag, and sets never have one.
        self.missing.append(int(not member and tree["missing_type"] == "NaN" and tree["default_left"]))
        if member:
            self.members += [*map(float, tree["threshold"].split("||")), np.nan]
        for ids, leaves in ((self.yes, self.yes_is_leaf), (self.no, self.no_is_leaf)):
            ids.append(0)
            leaves.append(0)
        for ids, leaves, child in ((self.yes, self.yes_is_leaf, "left_child"), (self.no, self.no_is_leaf, "right_child")):
            ids[number], leaf = self.add(tree[child], dtype)
            leaves[number] = int(leaf)
        return number, False


def _rounded_down(threshold: float, dtype: type) -> float:
    # LightGBM's largest double means: all but the missing.
    rounded = dtype(np.clip(threshold, np.finfo(dtype).min, np.finfo(dtype).max))
    return float(np.nextafter(rounded, dtype(-np.inf)) if rounded > threshold else rounded)


def ensemble(booster: Any, dtype: type) -> bytes:
    """A regression booster of LightGBM as one TreeEnsemble of ai.onnx.ml 5."""
    nodes = _Nodes()
    for tree in booster.dump_model()["tree_info"]:
        nodes.roots.append(nodes.add(tree["tree_structure"], dtype)[0])
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    attributes: dict[str, Any] = {
        "n_targets": 1,
        "aggregate_function": 1,
        "post_transform": 0,
        "tree_roots": nodes.roots,
        "nodes_featureids": nodes.features,
        "nodes_splits": numpy_helper.from_array(np.array(nodes.splits, dtype), "splits"),
        "nodes_modes": numpy_helper.from_array(np.array(nodes.modes, np.uint8), "modes"),
        "nodes_truenodeids": nodes.yes,
        "nodes_trueleafs": nodes.yes_is_leaf,
        "nodes_falsenodeids": nodes.no,
        "nodes_falseleafs": nodes.no_is_leaf,
        "nodes_missing_value_tracks_true": nodes.missing,
        "leaf_targetids": [0] * len(nodes.weights),
        "leaf_weights": numpy_helper.from_array(np.array(nodes.weights, dtype), "weights"),
    }
    if nodes.members:
        attributes["membership_values"] = numpy_helper.from_array(np.array(nodes.members, dtype), "members")
    node = helper.make_node("TreeEnsemble", ["X"], ["y"], domain="ai.onnx.ml", **attributes)
    return build.model([node], {"X": (kind, ["n", booster.num_feature()])}, {"y": (kind, ["n", 1])}, ml=5)


def lightgbm(trees: int, leaves: int, depth: int, dtype: type = np.float32, missing: bool = False, categories: int = 0) -> Built:
    """A booster of LightGBM with 30 features, some of them with missing values or of so many categories."""
    import lightgbm as lgb

    x, y = table(6000, missing, categories)
    parameters = {
        "objective": "regression", "num_leaves": leaves, "max_depth": depth, "learning_rate": 0.05, "min_data_in_leaf": 5,
        "verbose": -1, "seed": 0, "use_missing": missing, "num_threads": 1,
    }  # fmt: skip
    data = lgb.Dataset(x, y, categorical_feature=list(range(4)) if categories else [])
    booster = lgb.train(parameters, data, trees)
    return Built(ensemble(booster, dtype), {"lightgbm": Source(booster), "forest": Source("lightgbm")}, leaves)


def xgboost(trees: int, depth: int) -> Built:
    """A booster of XGBoost for two classes, as onnxmltools converts it."""
    import xgboost as xgb
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    x, y = learned.table(6000, 30)
    fitted = xgb.XGBRegressor(n_estimators=trees, max_depth=depth, learning_rate=0.05, random_state=0, n_jobs=1).fit(x, y)
    model = convert_xgboost(fitted, initial_types=[("X", FloatTensorType([None, 30]))], target_opset=15)
    booster = fitted.get_booster()
    return Built(model.SerializeToString(), {"xgboost": Source(booster), "forest": Source("xgboost")}, 2**depth)


def table(rows: int, missing: bool, categories: int) -> tuple[np.ndarray, np.ndarray]:
    """As ``learned.table`` of 30 features; a tenth missing, the first four of categories, if so."""
    x, y = learned.table(rows, 30)
    generator = np.random.default_rng(1)
    if missing:
        x[generator.random(x.shape) < 0.1] = np.nan
    if categories:
        x[:, :4] = generator.integers(0, categories, (rows, 4))
        y = y + np.sin(x[:, 0] * 7) + np.cos(x[:, 1] * 3)
    return x, y
