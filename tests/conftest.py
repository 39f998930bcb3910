"""One store for all test workers, the expected failures, and an honest count of what passed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import expected_failures
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(expected_failures.RECORD, action="store_true", help="apply no list of expected failures; write the lists")


def pytest_configure(config: pytest.Config) -> None:
    """Give the controller, and through its environment all workers, one temporary store and one place for onnx's models."""
    if hasattr(config, "workerinput"):
        return
    root = Path(tempfile.mkdtemp(prefix="onnx_numba_tests_"))
    config.add_cleanup(lambda: shutil.rmtree(root, ignore_errors=True))
    for variable in {"ONNX_NUMBA_CACHE", "ONNX_MODELS"} - set(os.environ):
        os.environ[variable] = str(root / variable.lower())
        config.add_cleanup(lambda variable=variable: os.environ.pop(variable, None))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what the lists name as strict expected failures."""
    if config.getoption(expected_failures.RECORD):
        return
    lists = {module: expected_failures.read(module) for module in expected_failures.FILES}
    for item in items:
        module, name = _module_and_name(item.nodeid)
        reason = lists.get(module, {}).get(name)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=not expected_failures.is_random(name)))


def _module_and_name(nodeid: str) -> tuple[str, str]:
    """A node id as the lists have it: the test's own name, or its parameter."""
    path, _, rest = nodeid.partition("::")
    name, _, parameter = rest.rpartition("::")[2].partition("[")
    return Path(path).stem, parameter.removesuffix("]") or name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Turn a skip within onnx's suite into a failure: it would be missing from the count of what passed without a word."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and hasattr(getattr(item, "cls", None), "onnx_category"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is not passed: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how many tests passed, from the reports of all workers, and write the lists if asked to."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    failures: dict[str, dict[str, str]] = defaultdict(dict)
    for outcome in ("passed", "failed", "error", "xfailed"):
        for report in terminalreporter.stats.get(outcome, []):
            module, name = _module_and_name(report.nodeid)
            group = report.nodeid.partition("::")[2].partition("[")[0]
            if module not in expected_failures.FILES or not expected_failures.is_group(group):
                continue
            counts[group][outcome] += 1
            failures[module].update({name: _reason(report)} if outcome in ("failed", "error") else {})
    for group, outcomes in sorted(counts.items()):
        terminalreporter.write_line(f"{group}: {outcomes['passed']} of {outcomes.total()} passed")
    if config.getoption(expected_failures.RECORD):
        for module, failed in failures.items():
            expected_failures.write(module, failed)


def _reason(report: pytest.TestReport) -> str:
    """A failure's message in one line, short enough for a list."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = re.sub(r"^[\w.]+\.(?=\w+: )", "", crash.message if crash else str(report.longrepr))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # NumPy's comparisons say what differs only some lines on.
    return " ".join(lines[:5] if lines and lines[0] == "AssertionError:" else lines[:1])[:200]
