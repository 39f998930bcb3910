"""The table of coverage: what it says of operators, and that README shows its totals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.defs
import pytest

from onnx_numba.cli import coverage, main
from onnx_numba.coverage.cases import plain
from onnx_numba.coverage.table import KINDS, REFUSED, kind, rows, totals

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


@pytest.mark.parametrize(
    ("operator", "version", "how"),
    [
        ("Add", 14, "map"),
        ("Transpose", 25, "map"),
        ("ReduceSum", 13, "reduce"),
        ("TopK", 24, "template"),
        ("Softmax", 13, "composition"),
        ("StringConcat", 20, "host"),
    ],
)
def test_kind(operator: str, version: int, how: str) -> None:
    case = next(case for case in plain(onnx.defs.get_schema(operator, version, "")) if "string" not in case.assignment or how == "host")
    assert kind(case) == how


def test_strings_cannot_be_added() -> None:
    apart = {case.types["T"]: case for case in plain(onnx.defs.get_schema("Col2Im", 18, ""))}["tensor(string)"]
    overlapping = replace(apart, attributes={}, inputs=(apart.inputs[0], np.array([3, 3]), np.array([2, 2])))
    assert kind(overlapping) == REFUSED and kind(apart) in KINDS


def test_command_and_readme(capsys: pytest.CaptureFixture[str]) -> None:
    """Every operator of the installed onnx is in the table, with every type that it allows, and README has its totals."""
    assert main(["inspect", "--coverage"]) == 0
    shown = capsys.readouterr().out.splitlines()
    every = onnx.defs.get_all_schemas_with_history()
    table = list(rows())
    assert len({(row.operator, row.version) for row in table}) == len(every)
    allowed = {
        (f"{s.domain}.{s.name}".lstrip("."), s.since_version, c.type_param_str)
        for s in every
        for c in s.type_constraints
    }
    assert allowed <= {(row.operator, row.version, row.constraint) for row in table}
    assert sum(totals(table)["kinds"].values()) == len(table)
    assert shown[-2:] == list(coverage.summary(table))
    excerpt = README.split("```text\nAdd  14")[1].split("```")[0].splitlines()
    assert [line for line in ["Add  14" + excerpt[0], *excerpt[1:]] if line != "…" and line not in shown] == []


def test_inspect_needs_something_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect"]) == 1
    assert "name a model, or ask for --coverage" in capsys.readouterr().err
