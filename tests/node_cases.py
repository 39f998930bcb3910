"""onnx's node tests as cases: a model, and sets of inputs and expected outputs."""

from __future__ import annotations

import warnings
from typing import Any

import expected_failures
import onnx
from onnx import numpy_helper
from rotation import belongs, part

with warnings.catch_warnings():
    # onnx computes its expected values while it is imported, overflows and all.
    warnings.simplefilter("ignore")
    from onnx.backend.test.loader import load_model_tests

    CASES = {case.name: case for case in load_model_tests(kind="node")}

_LISTED = expected_failures.read("test_onnx_suite")


def due(variable: str) -> list[str]:
    """Names of the cases of the part that is due by `rotation`, without those that fail in the suite itself and random ones."""
    good = [name for name in CASES if f"{name}_cpu" not in _LISTED and not expected_failures.is_random(name)]
    return [name for name in good if belongs(name, part(variable))]


def value(given: Any) -> Any:
    """An input or expected output as `run` takes and gives it."""
    if isinstance(given, onnx.TensorProto):
        return numpy_helper.to_array(given)
    if isinstance(given, onnx.SequenceProto):
        return numpy_helper.to_list(given)
    return numpy_helper.to_optional(given) if isinstance(given, onnx.OptionalProto) else given
