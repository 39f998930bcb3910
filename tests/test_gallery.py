"""The page "ONNX Runtime Backend for ONNX" of onnxruntime's gallery: the same lines print the same with either package."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

import onnx_numba.backend as backend
from onnx_numba import get_device, samples

ROWS = np.array([[-1.0, -2.0, 5.0, 6.0], [-1.0, -2.0, -3.0, -4.0], [-1.0, -2.0, 7.0, 8.0]], np.float32)


def _lines() -> str:
    notebook = nbformat.read(Path(__file__).resolve().parents[1] / "notebooks" / "backend.ipynb", as_version=4)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def _printed(code: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    exec(compile(code, "<gallery>", "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out.splitlines()


def test_same_lines_same_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    ours = _printed(_lines(), capsys)
    theirs = _printed(re.sub(r"\bonnx_numba\b", "onnxruntime", _lines()), capsys)
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        if their.startswith("probabilities="):
            maps, wanted = (ast.literal_eval(line.removeprefix("probabilities=")) for line in (our, their))
            assert [list(item) for item in maps] == [list(item) for item in wanted]
            np.testing.assert_allclose(
                [list(m.values()) for m in maps], [list(m.values()) for m in wanted], rtol=1e-5, atol=1e-12
            )
        elif "onnxruntime" not in their:
            assert our == their


@pytest.mark.parametrize("of", [str, Path, lambda name: Path(name).read_bytes()], ids=["str", "path", "bytes"])
def test_the_sample(of) -> None:
    label, probabilities = backend.prepare(of(samples.path("logreg_iris.onnx")), get_device()).run(ROWS)
    assert label.dtype == np.int64
    assert label.tolist() == [2, 0, 2]
    assert isinstance(probabilities, list)
    assert [list(item) for item in probabilities] == [[0, 1, 2]] * 3
    assert all(type(key) is int and type(value) is float for item in probabilities for key, value in item.items())
    np.testing.assert_allclose([sum(item.values()) for item in probabilities], 1.0, rtol=1e-6)


def test_unknown_sample() -> None:
    with pytest.raises(FileNotFoundError, match=r"no sample 'x'; there are \['logreg_iris.onnx'\]"):
        samples.path("x")
