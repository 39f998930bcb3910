"""Linear algebra on small matrices."""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any


def determinant(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Determinants by elimination with row pivots.

    Buffers are the matrices, their determinants, and room for as many matrices; the dim is the number of rows. A work unit is a
    matrix.
    """
    x = X_p(bufs, 0)
    y = X_p(bufs, 1)
    work = X_p(bufs, 2)
    n = dims[0]
    for unit in range(lo, hi):
        base = unit * n * n
        for i in range(n * n):
            work[base + i] = x[base + i]
        result = X(1)
        for k in range(n):
            pivot = i64(k)
            for i in range(k + 1, n):
                if abs_(work[base + i * n + k]) > abs_(work[base + pivot * n + k]):
                    pivot = i64(i)
            if pivot != k:
                result = -result
                for j in range(k, n):
                    swapped = work[base + k * n + j]
                    work[base + k * n + j] = work[base + pivot * n + j]
                    work[base + pivot * n + j] = swapped
            head = work[base + k * n + k]
            result = result * head
            if head == X(0):
                break
            for i in range(k + 1, n):
                factor = work[base + i * n + k] / head
                for j in range(k + 1, n):
                    work[base + i * n + j] = work[base + i * n + j] - factor * work[base + k * n + j]
        y[unit] = result
    return 0


def inverse(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Inverses by Gauss's and Jordan's elimination with row pivots; that of a singular matrix is not finite.

    Buffers are the matrices, their inverses, and room for as many matrices; the dim is the number of rows. A work unit is a matrix.
    """
    x = X_p(bufs, 0)
    y = X_p(bufs, 1)
    work = X_p(bufs, 2)
    n = dims[0]
    for unit in range(lo, hi):
        base = unit * n * n
        for i in range(n):
            for j in range(n):
                work[base + i * n + j] = x[base + i * n + j]
                y[base + i * n + j] = X(1) if i == j else X(0)
        for k in range(n):
            pivot = i64(k)
            for i in range(k + 1, n):
                if abs_(work[base + i * n + k]) > abs_(work[base + pivot * n + k]):
                    pivot = i64(i)
            if pivot != k:
                for j in range(n):
                    swapped = work[base + k * n + j]
                    work[base + k * n + j] = work[base + pivot * n + j]
                    work[base + pivot * n + j] = swapped
                    swapped = y[base + k * n + j]
                    y[base + k * n + j] = y[base + pivot * n + j]
                    y[base + pivot * n + j] = swapped
            head = work[base + k * n + k]
            for j in range(n):
                work[base + k * n + j] = work[base + k * n + j] / head
                y[base + k * n + j] = y[base + k * n + j] / head
            for i in range(n):
                factor = work[base + i * n + k]
                if i != k:
                    for j in range(n):
                        work[base + i * n + j] = work[base + i * n + j] - factor * work[base + k * n + j]
                        y[base + i * n + j] = y[base + i * n + j] - factor * y[base + k * n + j]
    return 0


def distances(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Sums of squared differences of rows, or their roots if ``ROOT``; a work unit is a row of the first matrix.

    Buffers: the first matrix, the second one transposed, the result ``[row, row of the second]``. Terms are added in order.
    """
    x = X_p(bufs, 0)
    y = X_p(bufs, 1)
    result = X_p(bufs, 2)
    depth = dims[0]
    columns = dims[1]
    for i in range(lo, hi):
        row = X_at(x, i * depth)
        out = X_at(result, i * columns)
        for j in range(columns):
            out[j] = X(0)
        for k in range(0, depth - 3, 4):
            y0 = X_at(y, k * columns)
            y1 = X_at(y, (k + 1) * columns)
            y2 = X_at(y, (k + 2) * columns)
            y3 = X_at(y, (k + 3) * columns)
            x0 = row[k]
            x1 = row[k + 1]
            x2 = row[k + 2]
            x3 = row[k + 3]
            for j in range(columns):
                d0 = x0 - y0[j]
                d1 = x1 - y1[j]
                d2 = x2 - y2[j]
                d3 = x3 - y3[j]
                out[j] = fma(d3, d3, fma(d2, d2, fma(d1, d1, fma(d0, d0, out[j]))))
        for k in range(depth - depth % 4, depth):
            last = X_at(y, k * columns)
            for j in range(columns):
                d0 = row[k] - last[j]
                out[j] = fma(d0, d0, out[j])
        if ROOT:
            for j in range(columns):
                out[j] = sqrt(out[j])
    return 0
