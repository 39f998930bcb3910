"""Kernels that find positions or write at positions given by data; ``X`` stands for the element type."""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821, F841
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def count_true(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """How many elements of a mask hold."""
    mask = bool_p(bufs, 0)
    out = i64_p(bufs, 1)
    total = i64(0)
    for k in range(dims[0]):
        if mask[k]:
            total += 1
    out[0] = total
    return 0


def find_true(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """The positions at which a mask holds."""
    mask = bool_p(bufs, 0)
    out = i64_p(bufs, 1)
    found = 0
    for k in range(dims[0]):
        if mask[k]:
            out[found] = k
            found += 1
    return 0


def scatter(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Blocks at positions, in order: ``VALUE`` is what an element becomes, of the ``old`` one and its ``update``."""
    positions = i64_p(bufs, 1)
    updates = X_p(bufs, 2)
    out = X_p(bufs, 3)
    block = dims[1]
    first = lo * TILE
    last = min(hi * TILE, block)
    for k in range(dims[0]):
        base = positions[k] * block
        for t in range(first, last):
            old = out[base + t]
            update = updates[k * block + t]
            out[base + t] = VALUE
    return 0
