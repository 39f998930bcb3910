"""TL2cgen: tree ensembles as C code, compiled once per model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench import peers
from bench.peers import treelite

MODULES = ("tl2cgen", "treelite")
MOST_LEAVES = 70_000
"""Of a whole ensemble; the C compiler takes about a minute for as many."""


def applies(folder: Path) -> bool:
    return treelite.applies(folder)


def load(folder: Path, threads: int) -> peers.OneOutput:
    import tl2cgen

    library = folder / "tl2cgen.so"
    forest, output = treelite.model(folder)
    if not library.exists():
        treelite.check_size(folder, MOST_LEAVES)
        _compile(forest, library)
    predictor = tl2cgen.Predictor(str(library), nthread=threads)
    return peers.OneOutput(lambda x: predictor.predict(tl2cgen.DMatrix(x)), output)


def _compile(forest: Any, library: Path) -> None:
    import tl2cgen

    tl2cgen.export_lib(forest, toolchain="gcc", libpath=str(library), params={"parallel_comp": 16}, nthread=len(os.sched_getaffinity(0)))
