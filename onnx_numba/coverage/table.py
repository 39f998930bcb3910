"""The table of coverage: every operator in every version for every type, and what its lowering makes of it.

It is computed, never written down: a small model of each is lowered, and its program says how it is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from onnx_numba.coverage.case import Case, short
from onnx_numba.coverage.cases import plain, schemas
from onnx_numba.errors import OnnxNumbaError
from onnx_numba.importer import load
from onnx_numba.ir.loop import HostCall, Program, Reduce, Result, TemplateCall, bodies_of
from onnx_numba.lower import lower
from onnx_numba.options import Options
from onnx_numba.passes.dce import remove_dead_code
from onnx_numba.passes.defaults import freeze_defaults
from onnx_numba.passes.gradient import expand_gradients
from onnx_numba.record import record

KINDS = ("map", "reduce", "template", "composition", "host")
"""How a case is served: by elementwise expressions and views alone, with one reduction, with one algorithm of its own, with several of
these or bodies that the plan runs, or with a step in Python."""

REFUSED = "refused"


@record
class Row:
    """One type of one type constraint (``-`` where a version has none), and how a model in which it occurs is served."""

    operator: str
    version: int
    constraint: str
    type_: str
    how: str


def rows(progress: Callable[[int, int], None] | None = None) -> Iterator[Row]:
    """The table, by domain, operator, version and constraint."""
    every = schemas()
    for number, schema in enumerate(every):
        found: dict[tuple[str, str], Row] = {}
        for case in plain(schema):
            how = kind(case)
            for name, type_ in case.types.items() or [("-", "-")]:
                found.setdefault((name, type_), Row(case.key, schema.since_version, name, short(type_), how))
        yield from sorted(found.values(), key=lambda row: (row.constraint, KINDS.index(row.how) if row.how in KINDS else -1, row.type_))
        if progress is not None:
            progress(number + 1, len(every))


def kind(case: Case) -> str:
    """How a case is served; `REFUSED` if it is not."""
    try:
        options = Options()
        graph = remove_dead_code(expand_gradients(freeze_defaults(load(case.model()).graph), options))
        return _kind(lower(graph, options))
    except OnnxNumbaError:
        return REFUSED


def _kind(program: Program) -> str:
    definitions = [value.definition for value in program.values]
    calls = {id(d.call): d.call for d in definitions if isinstance(d, Result)}
    bodies = [_kind(body) for call in calls.values() for body in bodies_of(call)]
    if "host" in bodies or any(isinstance(call, HostCall) for call in calls.values()):
        return "host"
    if bodies:
        return "composition"
    reductions = sum(isinstance(d, Reduce) for d in definitions)
    templates = sum(isinstance(call, TemplateCall) for call in calls.values())
    return {(0, 0): "map", (1, 0): "reduce", (0, 1): "template"}.get((reductions, templates), "composition")


def totals(table: Sequence[Row]) -> dict[str, Any]:
    """How many operators, versions and types there are and how many are served in each way, and the versions that are not at all."""
    versions = {(row.operator, row.version) for row in table}
    served = {(row.operator, row.version) for row in table if row.how != REFUSED}
    return {
        "operators": len({row.operator for row in table}),
        "versions": len(versions),
        "types": len(table),
        "kinds": {name: sum(row.how == name for row in table) for name in (*KINDS, REFUSED)},
        "missing": sorted(f"{operator}-{version}" for operator, version in versions - served),
    }
