"""onnx's own backend tests, on the CPU. What is not supported yet is in data/onnx_suite_expected_failures.txt."""

from __future__ import annotations

import unittest
import warnings

import expected_failures
import pytest

import onnx_numba.backend


class Backend(onnx_numba.backend.Backend):
    """Takes every model as compatible: one that cannot run is to fail and say why, where the runner would skip it."""

    @classmethod
    def is_compatible(cls, *_: object, **__: object) -> bool:
        return True


with warnings.catch_warnings():
    # onnx computes its expected values while it is imported, overflows and all.
    warnings.simplefilter("ignore")
    from onnx.backend.test import BackendTest

    _suite = BackendTest(Backend, __name__)

CASES: dict[str, type[unittest.TestCase]] = _suite.test_cases


def _tests(case: type[unittest.TestCase]) -> list[str]:
    return [name for name in vars(case) if name.startswith("test_")]


def _on_cpu(category: str, case: type[unittest.TestCase]) -> type[unittest.TestCase]:
    """The case without its tests for CUDA: onnx makes one of everything for both, and thousands of skips would hide real ones."""
    for name in _tests(case):
        if name.endswith("_cuda"):
            delattr(case, name)
    case.onnx_category = category  # type: ignore[attr-defined]
    return case


globals().update({category: _on_cpu(category, case) for category, case in CASES.items()})


UNPASSABLE = {f"test_bernoulli{kind}_cpu" for kind in ("", "_expanded", "_double", "_double_expanded", "_seed", "_seed_expanded")} | {
    "test_loop16_seq_none_cpu"
}
"""What no backend can pass: six compare random bits, one raises in onnx's own comparison; test_ops_random.py has what they are about."""


@pytest.mark.parametrize(
    ("category", "total"),
    [
        ("OnnxBackendNodeModelTest", 1884),
        ("OnnxBackendPyTorchConvertedModelTest", 82),
        ("OnnxBackendPyTorchOperatorModelTest", 35),
        ("OnnxBackendRealModelTest", 9),
        ("OnnxBackendSimpleModelTest", 23),
    ],
)
def test_every_test_there_is(category: str, total: int) -> None:
    """Failures are strict and skips are failures, so what is not listed has passed once this file is green."""
    assert len(_tests(CASES[category])) >= total


def test_all_pass_but_those_that_cannot() -> None:
    assert set(expected_failures.read("test_onnx_suite")) == UNPASSABLE


def test_list_names_only_real_tests() -> None:
    known = {name for case in CASES.values() for name in _tests(case)}
    assert set(expected_failures.read("test_onnx_suite")) <= known
