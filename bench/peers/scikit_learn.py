"""The scikit-learn estimator that the model was converted from."""

from __future__ import annotations

from pathlib import Path

from bench import peers

MODULES = ("sklearn",)


def applies(folder: Path) -> bool:
    return peers.has_source(folder, "scikit_learn")


def load(folder: Path, threads: int) -> peers.OneOutput:
    source = peers.source(folder, "scikit_learn")
    parallel = {name: threads for name in source.what.get_params() if name.rpartition("__")[2] == "n_jobs"}
    source.what.set_params(**parallel)
    return peers.OneOutput(getattr(source.what, source.method), source.output)
