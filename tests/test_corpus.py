"""Real models with expected outputs, through ``backend.prepare`` and through the command line.

The corpus is no part of the repository; ONNX_NUMBA_CORPUS names its directory.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import expected_failures
import numpy as np
import pytest

import onnx_numba.backend as backend
from onnx_numba import cli
from onnx_numba.cli import values

ROOT = Path(os.environ.get("ONNX_NUMBA_CORPUS", Path(__file__).resolve().parents[2] / "shared" / "corpus"))

if not (ROOT / "corpus.py").exists():
    pytest.skip(f"no corpus in {ROOT}; set ONNX_NUMBA_CORPUS to its directory", allow_module_level=True)


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("onnx_numba_corpus", ROOT / "corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


corpus = _load()
RECORDS = {record["name"]: record for record in corpus.models()}
LISTED = expected_failures.read("test_corpus")


@pytest.mark.parametrize("name", RECORDS)
def test_backend(name: str) -> None:
    record = RECORDS[name]
    rep = backend.prepare(corpus.path(record))
    for feed, wanted in corpus.cases(record):
        outputs = rep.run(feed)
        corpus.check(record, wanted, {port.name: value for port, value in zip(rep.outputs, outputs, strict=True)})


# What the backend cannot run, the command line cannot either; once is enough to say so.
@pytest.mark.parametrize("name", [name for name in RECORDS if name not in LISTED], ids="cli-{}".format)
def test_command_line(name: str, tmp_path: Path) -> None:
    record = RECORDS[name]
    for feed, wanted in corpus.cases(record):
        given, result = tmp_path / "in.npz", tmp_path / "out.npz"
        values.write_npz(given, feed)
        assert cli.main(["run", str(corpus.path(record)), "--input", str(given), "--output", str(result)]) == 0
        corpus.check(record, wanted, _read(result, record))


def _read(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    with np.load(path) as archive:
        arrays = dict(archive)
    return {name: values.unpacked(arrays, name) for name, *_ in record["outputs"]}


def test_list_names_only_known_models() -> None:
    assert set(LISTED) <= set(RECORDS)
