"""Kernels that move single elements."""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any


def copy_elements(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Copy elements as bits: buffers are source and target; a work unit is an element."""
    x = X_p(bufs, 0)
    y = X_p(bufs, 1)
    for i in range(lo, hi):
        y[i] = x[i]
    return 0
