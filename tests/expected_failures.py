"""Lists of expected failures in data files: one line per test, its name and the reason.

``python tests/expected_failures.py`` runs the suite and the corpus and writes the lists anew. Arguments go to pytest, as ``-n 4``
or the path of one of the two modules. Read the difference before you commit it: a test that passed before is a regression, not an
expected failure.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent

FILES = {module: _HERE / "data" / f"{module[5:]}_expected_failures.txt" for module in ("test_onnx_suite", "test_corpus")}
"""Test module → its list."""

RECORD = "--record-failures"
"""The option of pytest, in conftest.py, that applies no list and writes the lists from what failed."""

_HEAD = (
    "# name: reason. Strict: a test that is listed here and passes is an error, unless what it compares is random.",
    "# `python tests/expected_failures.py` writes this file anew.",
)


def is_random(name: str) -> bool:
    """Whether a test compares random bits with those of another generator, and so passes by chance once in a while."""
    return name.startswith("test_bernoulli")


def is_group(name: str) -> bool:
    """Whether a test class or function holds what lists are about, rather than tests of its own."""
    return name.startswith("OnnxBackend") or name == "test_backend"


def read(module: str) -> dict[str, str]:
    """Name → reason for a test module; nothing when it has no list."""
    path = FILES.get(module)
    if path is None or not path.exists():
        return {}
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    entries = dict(line.split(": ", 1) for line in lines)
    if len(entries) != len(lines):
        raise ValueError(f"{path} names a test twice")
    return entries


def write(module: str, failures: dict[str, str]) -> None:
    """Write the list of a test module anew, sorted by name."""
    FILES[module].parent.mkdir(exist_ok=True)
    FILES[module].write_text("\n".join([*_HEAD, *(f"{name}: {failures[name]}" for name in sorted(failures))]) + "\n")


def main(arguments: list[str]) -> int:
    """Run the modules that have lists, or those given, and write their lists."""
    given = any(argument.endswith(".py") for argument in arguments)
    modules = [] if given else [str(_HERE / f"{module}.py") for module in FILES]
    command = [sys.executable, "-m", "pytest", RECORD, "--tb=line", *modules, *arguments]
    # 1 says that tests failed, which is what this is about; more, that pytest itself did.
    return max(0, subprocess.run(command, cwd=_HERE.parent, check=False).returncode - 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
