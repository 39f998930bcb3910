"""Models of the corpus, where ONNX_NUMBA_CORPUS (or ``../shared/corpus``) holds one."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.case import Built, Case, Feed, Model, of_rows, sized

FOLDER = Path(os.environ.get("ONNX_NUMBA_CORPUS", Path(__file__).resolve().parents[3] / "shared" / "corpus"))


def cases(*names: str) -> Iterator[Case]:
    """Models with their first set of inputs, by the corpus's names."""
    for name, record in _records(names):
        yield Case(name, _model(record), partial(_feed, record), nodes=record["nodes_total"], tolerance=_tolerance(record))


def tables(sizes: tuple[int, ...], *names: str, turns: int = 0) -> Iterator[Case]:
    """Models of rows, with as many rows as said, repeated from their last set of inputs; calls of one row take so many in turn."""
    for name, record in _records(names):
        yield from sized(name, _model(record), partial(_rows, record), sizes, turns, tolerance=_tolerance(record))


def largest() -> str | None:
    """The name of the model with the most nodes; None without a corpus."""
    module = _module()
    return max(module.models(), key=lambda record: record["nodes_total"])["name"] if module else None


@cache
def _module() -> ModuleType | None:
    if not (FOLDER / "MANIFEST.json").exists():
        return None
    spec = importlib.util.spec_from_file_location("onnx_numba_corpus", FOLDER / "corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _records(names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    if module := _module():
        records = {record["name"]: record for record in module.models()}
        yield from ((name, records[name]) for name in names)


def _model(record: dict[str, Any]) -> Model:
    return Model(record["name"], lambda: Built((FOLDER / record["file"]).read_bytes()))


def _feed(record: dict[str, Any], number: int = 0) -> Feed:
    module = _module()
    assert module is not None
    return list(module.cases(record))[number][0]


def _rows(record: dict[str, Any], rows: int) -> Feed:
    return of_rows(_feed(record, -1), rows)


def _tolerance(record: dict[str, Any]) -> float:
    return max(record["tolerance"], 1e-3)
