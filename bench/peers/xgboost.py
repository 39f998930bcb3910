"""The XGBoost booster that the model was converted from, without a DMatrix in between."""

from __future__ import annotations

from pathlib import Path

from bench import peers

MODULES = ("xgboost",)


def applies(folder: Path) -> bool:
    return peers.has_source(folder, "xgboost")


def load(folder: Path, threads: int) -> peers.OneOutput:
    source = peers.source(folder, "xgboost")
    source.what.set_param({"nthread": threads})
    return peers.OneOutput(source.what.inplace_predict, source.output)
