"""The bench measures, compares and draws; no timing is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import families, figures, outputs, report, worker  # noqa: E402 — the bench is no part of the package


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a whole run on one tiny model, compared with itself, and what it printed."""
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "bench", "--model", "relu_1k", "--seconds", "0.01", "--threads", "1", "--json", str(folder / "a.json")]
    for more in (["--markdown", str(folder / "a.md")], ["--no-starts", "--resume", "--compare", str(folder / "a.json")]):
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_all_of_a_run_is_in_its_json(run: tuple[Path, str]) -> None:
    document = json.loads((run[0] / "a.json").read_text())
    result = document["results"]["relu_1k"]
    found = result["steady"]["1"]["peers"]
    assert found["onnx_numba"]["difference"] == 0
    assert all(found[name]["low"] <= found[name]["median"] <= found[name]["high"] for name in ("onnx_numba", "onnxruntime"))
    assert result["starts"]["cold"] > 0
    assert {"prepare", "first_result", "run_bytes"} <= set(result["starts"]["warm"]["onnxruntime"])
    assert all("is not installed" in line for line in document["left_out"])


def test_tables(run: tuple[Path, str]) -> None:
    folder, printed = run
    text = (folder / "a.md").read_text()
    for words in ("| relu_1k ", "one operator in 0.2 s", "python -m bench", "first result onnxruntime"):
        assert words in text
    assert "## Compared with" in printed
    assert "×1.00" in printed


def test_picture(run: tuple[Path, str]) -> None:
    from bench import picture

    picture.draw(json.loads((run[0] / "a.json").read_text()), "1", run[0] / "a.svg")
    assert "<svg" in (run[0] / "a.svg").read_text()


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for _, case in families.cases()]
    assert len(names) == len(set(names))


def _result(difference: float, ours: float = 1.0, theirs: float = 10.0) -> dict[str, Any]:
    peers = {"onnx_numba": {"median": ours, "difference": difference, "reference": "onnxruntime"}, "onnxruntime": {"median": theirs}}
    steady = {"1": {"peers": peers, "limits": {}}}
    return {"family": "one-row", "model": "m", "rows": 1, "leaves": None, "nodes": None, "flops": None, "tolerance": 1e-3, "steady": steady}


def test_a_fast_wrong_answer_is_a_failure() -> None:
    assert figures.ratio(_result(1e-4), "1", "onnxruntime") == 10
    assert not report.is_bad(_result(1e-4))
    wrong = _result(0.1)
    assert figures.ratio(wrong, "1", "onnxruntime") is None
    assert report.is_bad(wrong)
    assert any("onnx_numba: off by 0.1 from onnxruntime" in part for part in report.failures({"m": wrong}))


def test_the_interpreter_of_onnx_judges_a_disagreement() -> None:
    right, wrong = [np.float32([1.0, 2.0])], [np.float32([1.0, 3.0])]

    def compared(standard: list[Any]) -> dict[str, Any]:
        results: dict[str, Any] = {"onnx_numba": {}, "onnxruntime": {}}
        worker._compare(results, {"onnx_numba": right, "onnxruntime": wrong}, 1e-3, lambda: standard)
        return results

    found = compared(right)
    assert found["onnx_numba"] == {"difference": 0, "reference": "onnx.reference"}
    assert found["onnxruntime"]["difference"] == 0.5
    judged = {**_result(0.0), "steady": {"1": {"peers": found}}}
    assert any("onnxruntime: off by 0.5 from onnx.reference" in part for part in report.failures({"m": judged}))
    nobody = compared([np.float32([7.0, 7.0])])
    assert nobody["onnx_numba"]["reference"] == "onnxruntime"
    assert "difference" not in nobody["onnxruntime"]


def test_goals_say_whether_they_are_met() -> None:
    text = report.goals({"fast": _result(0.0, 1.0, 9.0), "slow": _result(0.0, 1.0, 4.0)}, ["1"])
    mean, each = text.splitlines()[2:4]
    assert "6.00" in mean and "met" in mean and "1 of 2" in mean
    assert "slow 4.00" in each and "2 of 2" in each


def test_differences() -> None:
    one = np.array([1.0, 2.0], np.float32)
    assert outputs.difference([one], [one + np.float32(0.2)]) == pytest.approx(0.2 / 2.2)
    assert outputs.difference([one], [one.astype(np.float64)]) == np.inf
    assert outputs.difference([[{0: 0.5}]], [[{1: 0.5}]]) == np.inf
    maps = [{0: 0.25, 1: 0.75}, {0: 0.5, 1: 0.5}]
    assert outputs.difference_of_values([None, np.array([[0.25, 0.75], [0.5, 0.5]])], [one, maps]) == 0
    assert outputs.difference_of_values([one], [np.zeros(3, np.float32)]) == np.inf


def test_calls_of_one_row_take_rows_in_turn() -> None:
    (trees,) = [family for family in families.FAMILIES if family.name == "trees"]
    cases = list(trees.cases()) if trees.cases else []
    assert all((case.turns is not None) == (case.rows == 1) for case in cases)
    rows = worker._single_rows({"x": np.arange(6).reshape(3, 2)})
    assert [row["x"].tolist() for row in rows] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert worker._single_rows({}) == []
    call = worker._in_turn([lambda row=row: row["x"][0, 0] for row in rows])  # type: ignore[misc]
    assert [call() for _ in range(5)] == [0, 2, 4, 0, 2]
