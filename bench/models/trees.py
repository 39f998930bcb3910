"""Tree ensembles: 100 to 1,000 trees, float and double, missing values and categories, one row to 100,000."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from bench.case import Built, Case, Feed, Model, sized
from bench.models import boosted, corpus, learned

_ALL = (1, 100, 1000, 100_000)
_SOME = (1, 1000)
_TURNS = 256
"""Rows that calls of one row take in turn."""

_LIGHTGBM: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "lgbm_100x31": ({"trees": 100, "leaves": 31, "depth": 6}, _ALL),
    "lgbm_500x63_missing": ({"trees": 500, "leaves": 63, "depth": 8, "missing": True}, _ALL),
    "lgbm_1000x63": ({"trees": 1000, "leaves": 63, "depth": 10}, _SOME),
    "lgbm_300x64_double": ({"trees": 300, "leaves": 64, "depth": 8, "dtype": np.float64}, _SOME),
    "lgbm_100x600_double": ({"trees": 100, "leaves": 600, "depth": 12, "dtype": np.float64}, _SOME),
    "lgbm_200x63_categories": ({"trees": 200, "leaves": 63, "depth": 10, "categories": 24}, _ALL),
}
_FORESTS: dict[str, tuple[Callable[[], Built], tuple[int, ...]]] = {
    "forest_100_depth14": (partial(learned.forest, 100, 14, 30), _ALL),
    "forest_200_depth8_classes": (partial(learned.forest_classifier, 200, 8), _SOME),
}


def cases() -> Iterator[Case]:
    """Generated ensembles, then those of the corpus."""
    for name, (arguments, sizes) in _LIGHTGBM.items():
        model = Model(name, partial(boosted.lightgbm, **arguments), ("lightgbm",))
        feed = partial(_table, arguments.get("missing", False), arguments.get("categories", 0), arguments.get("dtype", np.float32))
        yield from sized(name, model, feed, sizes, _TURNS)
    xgboost = Model("xgb_400_depth6", partial(boosted.xgboost, 400, 6), ("xgboost", "onnxmltools"))
    yield from sized(xgboost.name, xgboost, partial(_table, False, 0, np.float32), _SOME, _TURNS)
    for name, (build, sizes) in _FORESTS.items():
        yield from sized(name, Model(name, build, ("sklearn", "skl2onnx")), partial(_table, False, 0, np.float32), sizes, _TURNS)
    members = ("histgb_reg_nan", "gbc_breast_cancer", "xgb_digits", "lgbm_bc_zipmap", "treeensemble_ml5_member")
    yield from corpus.tables(_SOME, *members, turns=_TURNS)


def _table(missing: bool, categories: int, dtype: type, rows: int) -> Feed:
    return {"X": boosted.table(rows, missing, categories)[0].astype(dtype)}
