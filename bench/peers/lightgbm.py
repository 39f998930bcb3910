"""The LightGBM booster that the model was converted from."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench import peers

MODULES = ("lightgbm",)


def applies(folder: Path) -> bool:
    return peers.has_source(folder, "lightgbm")


def load(folder: Path, threads: int) -> peers.OneOutput:
    source = peers.source(folder, "lightgbm")
    return peers.OneOutput(partial(source.what.predict, num_threads=threads), source.output)
