"""Treelite's interpreter of tree ensembles (GTIL)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench import peers

MODULES = ("treelite",)


def applies(folder: Path) -> bool:
    return peers.has_source(folder, "forest")


def model(folder: Path) -> tuple[Any, int]:
    """Treelite's form of the ensemble, and the output that it gives."""
    import treelite

    source = peers.source(folder, peers.source(folder, "forest").what)
    name = type(source.what).__module__.partition(".")[0]
    frontend = treelite.frontend
    read = {"lightgbm": frontend.from_lightgbm, "xgboost": frontend.from_xgboost, "sklearn": treelite.sklearn.import_model}
    return read[name](source.what), source.output


def check_size(folder: Path, most: int) -> None:
    """Refuse an ensemble of more leaves, which would take too long to compile."""
    forest, _ = model(folder)
    leaves = forest.dump_as_json(pretty_print=False).count('"leaf_value"')
    if leaves > most:
        raise ValueError(f"{leaves} leaves; compiling more than {most} takes too long")


def load(folder: Path, threads: int) -> peers.OneOutput:
    import treelite

    forest, output = model(folder)
    return peers.OneOutput(lambda x: treelite.gtil.predict(forest, np.asarray(x), nthread=threads), output)
