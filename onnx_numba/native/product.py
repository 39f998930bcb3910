"""Small products inside other kernels, in plain Python: what a recurrence adds to its gates at every step.

Four rows and four terms at a time, a vector of the right matrix that was loaded once is multiplied four times, and sums are loaded and
stored once for four terms. Every sum takes its terms one by one, in order, however many rows there are.
"""

from __future__ import annotations

from typing import Any

from onnx_numba.native.registry import function
from onnx_numba.native.scalar import fma

BLOCK = 4
"""Rows that are multiplied together."""


@function
def add_product(
    sums: Any, sums_row: Any, left: Any, left_row: Any, right: Any, right_row: Any, rows: Any, depth: Any, columns: Any
) -> None:
    """``sums[i * sums_row + j] += sum over k of left[i * left_row + k] * right[k * right_row + j]``."""
    whole = rows - rows % 4
    for i in range(0, whole, 4):
        add_product_of_four(sums, sums_row, left, left_row, right, right_row, i, depth, columns)
    for i in range(whole, rows):
        row = i * left_row
        line = i * sums_row
        for k in range(0, depth - 3, 4):
            x0 = left[row + k]
            x1 = left[row + k + 1]
            x2 = left[row + k + 2]
            x3 = left[row + k + 3]
            y0 = k * right_row
            y1 = y0 + right_row
            y2 = y1 + right_row
            y3 = y2 + right_row
            for j in range(columns):
                total = fma(x1, right[y1 + j], fma(x0, right[y0 + j], sums[line + j]))
                sums[line + j] = fma(x3, right[y3 + j], fma(x2, right[y2 + j], total))
        for k in range(depth - depth % 4, depth):
            x0 = left[row + k]
            y0 = k * right_row
            for j in range(columns):
                sums[line + j] = fma(x0, right[y0 + j], sums[line + j])


@function
def add_product_of_four(
    sums: Any, sums_row: Any, left: Any, left_row: Any, right: Any, right_row: Any, first: Any, depth: Any, columns: Any
) -> None:
    """`add_product` of four rows from ``first`` on."""
    r0 = first * left_row
    r1 = r0 + left_row
    r2 = r1 + left_row
    r3 = r2 + left_row
    s0 = first * sums_row
    s1 = s0 + sums_row
    s2 = s1 + sums_row
    s3 = s2 + sums_row
    for k in range(0, depth - 3, 4):
        y0 = k * right_row
        y1 = y0 + right_row
        y2 = y1 + right_row
        y3 = y2 + right_row
        a0 = left[r0 + k]
        a1 = left[r0 + k + 1]
        a2 = left[r0 + k + 2]
        a3 = left[r0 + k + 3]
        b0 = left[r1 + k]
        b1 = left[r1 + k + 1]
        b2 = left[r1 + k + 2]
        b3 = left[r1 + k + 3]
        c0 = left[r2 + k]
        c1 = left[r2 + k + 1]
        c2 = left[r2 + k + 2]
        c3 = left[r2 + k + 3]
        d0 = left[r3 + k]
        d1 = left[r3 + k + 1]
        d2 = left[r3 + k + 2]
        d3 = left[r3 + k + 3]
        for j in range(columns):
            v0 = right[y0 + j]
            v1 = right[y1 + j]
            v2 = right[y2 + j]
            v3 = right[y3 + j]
            sums[s0 + j] = fma(a3, v3, fma(a2, v2, fma(a1, v1, fma(a0, v0, sums[s0 + j]))))
            sums[s1 + j] = fma(b3, v3, fma(b2, v2, fma(b1, v1, fma(b0, v0, sums[s1 + j]))))
            sums[s2 + j] = fma(c3, v3, fma(c2, v2, fma(c1, v1, fma(c0, v0, sums[s2 + j]))))
            sums[s3 + j] = fma(d3, v3, fma(d2, v2, fma(d1, v1, fma(d0, v0, sums[s3 + j]))))
    for k in range(depth - depth % 4, depth):
        y0 = k * right_row
        a0 = left[r0 + k]
        b0 = left[r1 + k]
        c0 = left[r2 + k]
        d0 = left[r3 + k]
        for j in range(columns):
            v0 = right[y0 + j]
            sums[s0 + j] = fma(a0, v0, sums[s0 + j])
            sums[s1 + j] = fma(b0, v0, sums[s1 + j])
            sums[s2 + j] = fma(c0, v0, sums[s2 + j])
            sums[s3 + j] = fma(d0, v0, sums[s3 + j])


RECORDS = (add_product,)
