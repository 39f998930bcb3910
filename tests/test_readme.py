"""README's code runs, and .ci/run runs README's test command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.startswith("[0] [{0: 0.98")


def test_commands_for_a_fresh_machine() -> None:
    demo, test = re.findall(r"```sh\n(python3 -m venv .*)\n```", README)
    assert demo.endswith("/onnx-numba demo")
    lines = [line for line in README.splitlines() if "/pytest" in line]
    assert lines[0] == test
    assert "grep -m 1 '/pytest' README.md" in (ROOT / ".ci" / "run").read_text()
