"""What ``inspect --coverage`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import onnx

from onnx_numba.cli import progress
from onnx_numba.coverage.table import KINDS, REFUSED, Row, rows, totals


def lines() -> Iterator[str]:
    """The table, a line for each operator, version, constraint and way of being served, then its totals."""
    table = list(rows(progress.bar(unit="versions")))
    yield "operator  version  constraint  how: types"
    for key, some in groupby(table, lambda row: (row.operator, row.version, row.constraint, row.how)):
        yield line(*key, list(some))
    yield ""
    yield from summary(table)


def line(operator: str, version: int, constraint: str, how: str, some: list[Row]) -> str:
    """One line of the table."""
    types = "" if constraint == "-" else f" {constraint}"
    return f"{operator}  {version} {types}  {how}: {' '.join(row.type_ for row in some)}".replace(": -", "")


def summary(table: list[Row]) -> Iterator[str]:
    """The totals."""
    found = totals(table)
    missing = ", ".join(found["missing"]) or "none"
    yield f"{found['operators']} operators, {found['versions']} schema versions of onnx {onnx.__version__}; missing: {missing}"
    counts = ", ".join(f"{name} {found['kinds'][name]}" for name in (*KINDS, REFUSED))
    yield f"{found['types']} types of them: {counts}"
