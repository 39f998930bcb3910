"""Products with matrices whose numbers have few bits and are stored by blocks, each with a scale and a zero point."""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def multiply(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Rows times panels of columns; a work unit is ``ROWS`` rows with one panel.

    Buffers: rows of floats; bytes ``[panel, k, few]``, in which number ``p`` of byte ``b`` belongs to column ``p * few + b`` of the
    panel; scales and zero points (of type ``Z``) ``[panel, block, column]``; the result ``[row, panel, column]``. The matrix is
    never whole in memory: ``CHUNK`` rows of a panel are turned to floats, and serve all rows of the unit.
    """
    x = f32_p(bufs, 0)
    numbers = u8_p(bufs, 1)
    scales = f32_p(bufs, 2)
    zeros = Z_p(bufs, 3)
    y = f32_p(bufs, 4)
    rows = dims[0]
    depth = dims[1]
    width = dims[2]
    panels = dims[3]
    blocks = dims[4]
    block = dims[5]
    zero_step = dims[6]
    few = width // SHARE
    weights = f32_scratch(ctx, 0)
    for unit in range(lo, hi):
        part = unit // panels
        panel = unit - part * panels
        first = part * ROWS
        last = min(first + ROWS, rows)
        for i in range(first, last):
            out = f32_at(y, (i * panels + panel) * width)
            for j in range(width):
                out[j] = f32(0)
        for k0 in range(0, depth, CHUNK):
            count = min(CHUNK, depth - k0)
            group = (panel * blocks + k0 // block) * width
            for k in range(count):
                source = u8_at(numbers, (panel * depth + k0 + k) * few)
                for p in range(SHARE):
                    target = f32_at(weights, k * width + p * few)
                    scale = f32_at(scales, group + p * few)
                    zero = Z_at(zeros, group * zero_step + p * few)
                    for j in range(few):
                        target[j] = (f32(u8(shr(source[j], u8(p * BITS)) & u8(MASK))) - f32(zero[j])) * scale[j]
            for i in range(first, last):
                a = f32_at(x, i * depth + k0)
                out = f32_at(y, (i * panels + panel) * width)
                for k in range(0, count - 3, 4):
                    row0 = f32_at(weights, k * width)
                    row1 = f32_at(weights, (k + 1) * width)
                    row2 = f32_at(weights, (k + 2) * width)
                    row3 = f32_at(weights, (k + 3) * width)
                    a0 = a[k]
                    a1 = a[k + 1]
                    a2 = a[k + 2]
                    a3 = a[k + 3]
                    for j in range(width):
                        out[j] = fma(a3, row3[j], fma(a2, row2[j], fma(a1, row1[j], fma(a0, row0[j], out[j]))))
                for k in range(count - count % 4, count):
                    row = f32_at(weights, k * width)
                    for j in range(width):
                        out[j] = fma(a[k], row[j], out[j])
    return 0
