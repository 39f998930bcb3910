"""Kernels that find positions or write at positions given by data; ``X`` stands for the element type."""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
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


def scatter_set(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Put blocks at positions; the last one of a position stays."""
    positions = i64_p(bufs, 1)
    updates = X_p(bufs, 2)
    out = X_p(bufs, 3)
    block = dims[1]
    first = lo * TILE
    last = min(hi * TILE, block)
    for k in range(dims[0]):
        base = positions[k] * block
        for t in range(first, last):
            out[base + t] = updates[k * block + t]
    return 0


def scatter_add(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Add blocks at positions."""
    positions = i64_p(bufs, 1)
    updates = X_p(bufs, 2)
    out = X_p(bufs, 3)
    block = dims[1]
    first = lo * TILE
    last = min(hi * TILE, block)
    for k in range(dims[0]):
        base = positions[k] * block
        for t in range(first, last):
            out[base + t] = X(out[base + t] + updates[k * block + t])
    return 0


def scatter_mul(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Multiply by blocks at positions."""
    positions = i64_p(bufs, 1)
    updates = X_p(bufs, 2)
    out = X_p(bufs, 3)
    block = dims[1]
    first = lo * TILE
    last = min(hi * TILE, block)
    for k in range(dims[0]):
        base = positions[k] * block
        for t in range(first, last):
            out[base + t] = X(out[base + t] * updates[k * block + t])
    return 0


def scatter_max(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Keep the greater of what is there and blocks at positions."""
    positions = i64_p(bufs, 1)
    updates = X_p(bufs, 2)
    out = X_p(bufs, 3)
    block = dims[1]
    first = lo * TILE
    last = min(hi * TILE, block)
    for k in range(dims[0]):
        base = positions[k] * block
        for t in range(first, last):
            out[base + t] = max_(out[base + t], updates[k * block + t])
    return 0


def scatter_min(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Keep the lesser of what is there and blocks at positions."""
    positions = i64_p(bufs, 1)
    updates = X_p(bufs, 2)
    out = X_p(bufs, 3)
    block = dims[1]
    first = lo * TILE
    last = min(hi * TILE, block)
    for k in range(dims[0]):
        base = positions[k] * block
        for t in range(first, last):
            out[base + t] = min_(out[base + t], updates[k * block + t])
    return 0
