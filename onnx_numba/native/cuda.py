"""The names that CUDA kernels may use: those that compute values, and a few that stand for another kind of memory there.

A buffer is a one-dimensional device array rather than a pointer, ``ctx`` an array of one int64 for the whole grid, and scratch a
slice of bytes that belongs to the thread. `onnx_numba.compile.cuda` makes all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from onnx_numba.native import RECORDS, around, memory, pack, plane, tile, transpose, windows
from onnx_numba.native.memory import ELEMENTS
from onnx_numba.native.registry import Record

NO_FAILURE = 2**63 - 1
"""What ``ctx`` holds while nothing has failed; then it is the smallest of ``index * FAILURE_CODES + code``."""
FAILURE_CODES = 16

_CPU_ONLY = {record.name for module in (memory, around, tile, pack, plane, windows, transpose) for record in module.RECORDS}
VALUES: Mapping[str, Record] = MappingProxyType({name: record for name, record in RECORDS.items() if name not in _CPU_ONLY})
"""The records that mean on CUDA what they mean on the CPU."""

NAMES = frozenset(VALUES) | {"fail", "check_index"} | {f"{name}_{verb}" for name in ELEMENTS for verb in ("at", "scratch")}
"""Every name of `onnx_numba.native` that a CUDA kernel may use."""


def failure(word: int) -> tuple[int, int]:
    """Code and work index that a word left in ``ctx`` stands for."""
    return word % FAILURE_CODES, word // FAILURE_CODES
