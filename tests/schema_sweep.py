"""Every version of every operator, with every type that it allows, compiled and compared: the harness, and the command that takes all.

``python tests/schema_sweep.py -n 2`` runs all cases in two processes and writes ``data/schema_sweep.txt``, a line for each version, and
``data/schema_sweep_expected_failures.txt``. Read the difference before you commit it: a case that passed before is a regression.
Names of operators as further arguments take those alone and write nothing. Compiling all takes three to ten minutes; ``--plain`` runs the
generated modules as plain Python, and the written table says so.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rotation import belongs
from schema_expected import UnknownError, difference, expected

from onnx_numba import backend
from onnx_numba.coverage.case import Case
from onnx_numba.coverage.cases import cases, schemas

_DATA = Path(__file__).resolve().parent / "data"
RESULTS = _DATA / "schema_sweep.txt"
FAILURES = _DATA / "schema_sweep_expected_failures.txt"


@dataclass(frozen=True)
class Outcome:
    """What became of a case: who said what it should give, and in one line what is wrong, if anything is."""

    case: str
    oracle: str
    wrong: str | None


def run(case: Case, jit: bool = True) -> Outcome:
    """Compile and run a case, or run its module as plain Python, and compare."""
    try:
        wanted = expected(case)
    except UnknownError as error:
        return Outcome(str(case), "none", f"nobody knows what is expected: {error}")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            got = list(backend.prepare(case.model(), num_threads=1, jit=jit).run(case.feed))
        return Outcome(str(case), wanted.oracle, difference(case, got, wanted))
    except Exception as error:
        return Outcome(str(case), wanted.oracle, " ".join(f"{type(error).__name__}: {error}".split())[:200])


def due(case: Case, part: str) -> bool:
    """Whether a case belongs to a part of the sweep; the versions of an operator are together, for they share kernels."""
    return belongs(f"{case.key} {case.variant} {case.assignment}", part)


def operators() -> dict[str, list[Any]]:
    """The schemas by operator."""
    found: dict[str, list[Any]] = defaultdict(list)
    for schema in schemas():
        found[f"{schema.domain}.{schema.name}" if schema.domain else schema.name].append(schema)
    return dict(found)


def outcomes(operator: str, part: str, jit: bool = True) -> list[Outcome]:
    """The outcomes of an operator's cases in a part."""
    return [run(case, jit) for schema in operators()[operator] for case in cases(schema) if due(case, part)]


# ---- the list of expected failures: a line says operator-versions/variant/types: reason


@lru_cache(maxsize=1)
def listed() -> dict[str, str]:
    """Case → reason, of the cases that are known to fail."""
    found = {}
    for line in FAILURES.read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, reason = line.partition(": ")
            found.update(dict.fromkeys(_versions(name), reason))
    return found


def _versions(name: str) -> Iterator[str]:
    head, _, rest = name.partition("/")
    operator, _, versions = head.rpartition("-")
    return (f"{operator}-{version}/{rest}" for version in versions.split(","))


def _failure_lines(failed: Iterable[Outcome]) -> list[str]:
    together: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for outcome in failed:
        head, _, rest = outcome.case.partition("/")
        operator, _, version = head.rpartition("-")
        together[operator, rest, _reason(outcome)].append(version)
    return [f"{operator}-{','.join(versions)}/{rest}: {reason}" for (operator, rest, reason), versions in together.items()]


def _reason(outcome: Outcome) -> str:
    """The message without the version, so that the same failure of several versions is one line."""
    return (outcome.wrong or "").partition("): ")[2] or outcome.wrong or ""


# ---- the command


def main(arguments: list[str]) -> int:
    """Run all cases, or those of the operators that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1, metavar="PROCESSES")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("operators", nargs="*")
    given = parser.parse_args(arguments)
    names = given.operators or list(operators())
    with ProcessPoolExecutor(given.n, get_context("spawn")) as pool:
        found = dict(zip(names, pool.map(partial(outcomes, part="all", jit=not given.plain), names), strict=True))
    every = [outcome for one in found.values() for outcome in one]
    failed = [outcome for outcome in every if outcome.wrong]
    text = _table(every, "as plain Python" if given.plain else "compiled")
    if given.operators:
        print("\n".join([*text, *(f"{outcome.case}: {outcome.wrong}" for outcome in failed)]))
        return len(failed) > 0
    RESULTS.write_text("\n".join(text) + "\n")
    head = "# Cases of the sweep that fail, strictly: one that is listed and passes is an error. `python tests/schema_sweep.py` writes it."
    FAILURES.write_text("\n".join([head, *_failure_lines(failed)]) + "\n")
    print(text[1])
    return 0


def _table(every: list[Outcome], how: str) -> list[str]:
    """A line for each version."""
    by_version: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in every:
        by_version[outcome.case.partition("/")[0]].append(outcome)
    passed = sum(outcome.wrong is None for outcome in every)
    lines = [
        f"# Every operator in every version, with every type that it allows, under onnx {onnx.__version__}: cases, passed, oracles.",
        f"# {len(by_version)} versions, {len(every)} cases, {passed} passed, {how}.",
    ]
    for version, some in by_version.items():
        oracles = Counter(outcome.oracle for outcome in some)
        asked = " ".join(f"{name}:{count}" for name, count in sorted(oracles.items()))
        lines.append(f"{version} {len(some)} {sum(outcome.wrong is None for outcome in some)} {asked}")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
