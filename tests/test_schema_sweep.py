"""Every version of every operator does what the standard says, for every type that it allows.

A run takes a tenth of the cases, another one every day of the year. ``ONNX_NUMBA_SWEEP=all`` takes all of them, a number from 0 to 9 the
tenth that it names; ``python tests/schema_sweep.py -n 2`` takes all of them too and writes the results down.
"""

from __future__ import annotations

import onnx.defs
import pytest
import schema_sweep
from rotation import part

from onnx_numba.coverage.cases import cases, schemas

PART = part("ONNX_NUMBA_SWEEP")


@pytest.mark.parametrize("operator", schema_sweep.operators())
def test_every_version_and_type(operator: str) -> None:
    listed = schema_sweep.listed()
    problems = []
    for outcome in schema_sweep.outcomes(operator, PART):
        if outcome.wrong and outcome.case not in listed:
            problems.append(f"{outcome.case}: {outcome.wrong}")
        elif not outcome.wrong and outcome.case in listed:
            problems.append(f"{outcome.case} passes and is listed as failing")
    assert not problems, "\n".join(problems)


def test_every_allowed_type_occurs() -> None:
    for schema in schemas():
        made = list(cases(schema))
        for constraint in schema.type_constraints:
            seen = {case.types[constraint.type_param_str] for case in made if not case.variant}
            assert seen >= set(constraint.allowed_type_strs), (schema.name, schema.since_version, constraint.type_param_str)


def test_names_are_unique() -> None:
    names = [str(case) for schema in schemas() for case in cases(schema)]
    assert len(names) == len(set(names))


def test_models_are_valid() -> None:
    """What onnx's own inference of types says of them; a deprecated operator has none."""
    for schema in schemas():
        if not schema.deprecated:
            onnx.shape_inference.infer_shapes(next(cases(schema)).model(), strict_mode=True)


def test_failures_are_of_cases_that_exist() -> None:
    names = {str(case) for schema in schemas() for case in cases(schema)}
    assert set(schema_sweep.listed()) <= names
