"""Paths through matrices."""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any


def cheapest_path(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Dynamic time warping: the path from the first element of a matrix to the last whose elements have the least sum.

    A step goes down, to the right, or both; of two that cost the same the one to the right is taken. Buffers: the matrix, the steps
    ``[step, (row, column)]`` from the last to the first, how many there are, room for a row of costs, and room for where each
    element is reached from: 0 from both, 1 from above, 2 from the left.
    """
    x = X_p(bufs, 0)
    steps = i32_p(bufs, 1)
    found = i64_p(bufs, 2)
    cost = X_p(bufs, 3)
    way = i8_p(bufs, 4)
    rows = dims[0]
    columns = dims[1]
    cost[0] = X(0)
    for j in range(columns):
        cost[j + 1] = X(inf)
    for i in range(rows):
        corner = cost[0]
        cost[0] = X(inf)
        for j in range(columns):
            above = cost[j + 1]
            left = cost[j]
            best = left
            source = i8(2)
            if corner < above and corner < left:
                best = corner
                source = i8(0)
            elif above < corner and above < left:
                best = above
                source = i8(1)
            way[i * columns + j] = source
            corner = above
            cost[j + 1] = best + x[i * columns + j]
    i = rows - 1
    j = columns - 1
    count = i64(0)
    while i >= 0 and j >= 0:
        steps[2 * count] = i32(i)
        steps[2 * count + 1] = i32(j)
        count += 1
        source = way[i * columns + j]
        if source != i8(2):
            i -= 1
        if source != i8(1):
            j -= 1
    found[0] = count
    return 0
