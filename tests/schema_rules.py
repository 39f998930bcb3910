"""What the standard's text says, in NumPy, where neither onnxruntime nor the reference evaluator knows it or does it right."""

from __future__ import annotations

from typing import Any

from onnx_numba.coverage.case import Case


def outputs(case: Case) -> list[Any] | None:
    """The outputs of a case; None where there is no rule for it."""
    return None
