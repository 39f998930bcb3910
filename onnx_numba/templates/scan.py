"""Running sums and products along one axis."""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any


def running(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """A running sum, or product if ``PRODUCT``, of every lane; buffers are source and target.

    Dims are the extent of the axis and that of all axes after it together; a work unit is a lane. ``EXCLUSIVE`` leaves an
    element's own value out of its result, ``REVERSE`` runs from the end.
    """
    x = X_p(bufs, 0)
    y = X_p(bufs, 1)
    n = dims[0]
    inner = dims[1]
    for lane in range(lo, hi):
        base = lane // inner * n * inner + lane % inner
        total = X(1) if PRODUCT else X(0)
        for k in range(n):
            at = base + (n - 1 - k if REVERSE else k) * inner
            value = x[at]
            if EXCLUSIVE:
                y[at] = total
            total = X(total * value) if PRODUCT else X(total + value)
            if not EXCLUSIVE:
                y[at] = total
    return 0
