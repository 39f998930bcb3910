"""The names that kernels may use: Python twins and LLVM emitters of each, free of numba until something is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from onnx_numba.native.registry import Record

RECORDS: Mapping[str, Record] = MappingProxyType({})
"""Every name that kernels may use."""


def twins() -> dict[str, Callable[..., Any]]:
    """The namespace in which kernels run as plain Python."""
    return {name: record.__call__ if not hasattr(record, "twin") else record.twin for name, record in RECORDS.items()}
