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
    """The positions at which a mask of ``RANK`` axes holds: a row for each of these, of ``dims[RANK]`` numbers, and ``MORE`` rows of zeros.

    Every position is written down and, where the mask does not hold, written over by the next, up to the last that holds: whether one does
    no processor foresees.
    """
    mask = bool_p(bufs, 0)
    out = i64_p(bufs, 1)
    count = dims[RANK]
    length = dims[RANK - 1]
    end = length
    for axis in range(RANK - 1):
        end *= dims[axis]
    while end > 0 and not mask[end - 1]:
        end -= 1
    last = i64_at(out, (RANK - 1) * count)
    found = i64(0)
    for start in range(0, end, max(length, 1)):
        line = bool_at(mask, start)
        before = found
        for k in range(min(length, end - start)):
            last[found] = k
            found += i64(1) if line[k] else i64(0)
        if found > before:
            rest = start // length
            for above in range(RANK - 1):
                axis = RANK - 2 - above
                quotient = rest // dims[axis]
                place = rest - quotient * dims[axis]
                rest = quotient
                row = i64_at(out, axis * count)
                for n in range(before, found):
                    row[n] = place
    for k in range(RANK * count, (RANK + MORE) * count):
        out[k] = 0
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
