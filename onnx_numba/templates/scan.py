"""Running sums and products along one axis."""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any

LANES = 1024
"""Lanes that go side by side: as many running results stay in the first cache. Of 256, bursts of a kilobyte from every row, 500 rows of
1,000 float32 take 200 µs, of 1,024 they take 150."""


def running(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """A running sum, or product if ``PRODUCT``, of every lane; buffers are source and target.

    Dims are the extent of the axis and that of all axes after it together, in which lanes lie side by side; a work unit is up to `LANES` of
    them. ``EXCLUSIVE`` leaves an element's own value out of its result, ``REVERSE`` runs from the end.
    """
    x = X_p(bufs, 0)
    y = X_p(bufs, 1)
    n = dims[0]
    inner = dims[1]
    blocks = (inner + LANES - 1) // LANES
    for unit in range(lo, hi):
        outer = unit // blocks
        first = (unit - outer * blocks) * LANES
        lanes = min(LANES, inner - first)
        source = X_at(x, outer * n * inner + first)
        target = X_at(y, outer * n * inner + first)
        if lanes == 1:
            total = X(1) if PRODUCT else X(0)
            for k in range(n):
                at = (n - 1 - k if REVERSE else k) * inner
                value = source[at]
                if EXCLUSIVE:
                    target[at] = total
                total = X(total * value) if PRODUCT else X(total + value)
                if not EXCLUSIVE:
                    target[at] = total
        elif n > 0:
            start = (n - 1) * inner if REVERSE else 0
            for j in range(lanes):
                begin = X(1) if PRODUCT else X(0)
                value = source[start + j]
                target[start + j] = begin if EXCLUSIVE else (X(begin * value) if PRODUCT else X(begin + value))
            for k in range(1, n):
                at = (n - 1 - k if REVERSE else k) * inner
                before = at + inner if REVERSE else at - inner
                added = before if EXCLUSIVE else at
                for j in range(lanes):
                    total = target[before + j]
                    value = source[added + j]
                    target[at + j] = X(total * value) if PRODUCT else X(total + value)
    return 0
