"""The names that kernels may use: Python twins and LLVM emitters of each, free of numba until something is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from onnx_numba.native import (
    activation,
    around,
    characters,
    error,
    exponential,
    forest,
    integer,
    logarithm,
    loops,
    memory,
    order,
    pack,
    plane,
    product,
    quotient,
    recurrence,
    scalar,
    small,
    tile,
    translate,
    transpose,
    trigonometric,
    windows,
    words,
)
from onnx_numba.native.registry import Function, Intrinsic, Record

_MODULES = (
    scalar, integer, small, memory, around, loops, exponential, logarithm, trigonometric, error, tile, pack, plane, windows, transpose,
    product, words, activation, recurrence, forest, characters, translate, quotient, order,
)  # fmt: skip

RECORDS: Mapping[str, Record] = MappingProxyType({record.name: record for module in _MODULES for record in module.RECORDS})
"""Every name that kernels may use."""


def twin(record: Record) -> Callable[..., Any]:
    """A record as plain Python."""
    if isinstance(record, Intrinsic):
        return record.twin
    return record.python if isinstance(record, Function) else record.__call__


def twins() -> dict[str, Callable[..., Any]]:
    """The namespace in which kernels run as plain Python."""
    return {name: twin(record) for name, record in RECORDS.items()}
