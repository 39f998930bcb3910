"""Pooling over windows of images: rows of the output, whose windows are the lanes of vectors.

A small window inside the image is folded in registers; a large one, or one that the image's edge cuts, a row of it at a time.
"""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def fold_windows(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """``FOLD`` the elements of every window that are inside the image, beginning with ``FIRST``; a work unit is a row of the output.

    ``X`` is the element type; windows are ``ROWS`` by ``COLUMNS``, ``DOWN`` and ``ACROSS`` apart, their elements ``GAP_DOWN`` and
    ``GAP_ACROSS``; ``SMALL`` says that they are to be folded in registers. Dims: extents of an image, those of its output, padding
    above and to the left.
    """
    image = X_p(bufs, 0)
    out = X_p(bufs, 1)
    height = dims[0]
    width = dims[1]
    outputs = dims[2]
    columns = dims[3]
    above = dims[4]
    left = dims[5]
    # From ``begin`` to ``end`` windows are whole; beside that, each of their elements is looked at.
    begin = min(columns, (left + ACROSS - 1) // ACROSS)
    end = max(begin, min(columns, (width - 1 - (COLUMNS - 1) * GAP_ACROSS + left) // ACROSS + 1))
    for unit in range(lo, hi):
        plane = unit // outputs
        top = (unit - plane * outputs) * DOWN - above
        row = X_at(out, unit * columns)
        # From ``first`` to ``last`` the rows of the windows are inside.
        first = max(0, (GAP_DOWN - 1 - top) // GAP_DOWN)
        last = min(ROWS, (height - top + GAP_DOWN - 1) // GAP_DOWN)
        if SMALL and first == 0 and last == ROWS:
            lines = X_at(image, (plane * height + top) * width)
            for j in range(begin, end):
                value = X(FIRST)
                for k in range(ROWS):
                    for m in range(COLUMNS):
                        value = FOLD(value, lines[k * GAP_DOWN * width + j * ACROSS - left + m * GAP_ACROSS])
                row[j] = value
        else:
            for j in range(begin, end):
                row[j] = X(FIRST)
            for k in range(first, last):
                line = X_at(image, (plane * height + top + k * GAP_DOWN) * width)
                for j in range(begin, end):
                    value = row[j]
                    for m in range(COLUMNS):
                        value = FOLD(value, line[j * ACROSS - left + m * GAP_ACROSS])
                    row[j] = value
        for edge in range(begin + columns - end):
            j = edge if edge < begin else edge - begin + end
            value = X(FIRST)
            for k in range(first, last):
                line = X_at(image, (plane * height + top + k * GAP_DOWN) * width)
                for m in range(COLUMNS):
                    x = j * ACROSS - left + m * GAP_ACROSS
                    if x >= 0 and x < width:
                        value = FOLD(value, line[x])
            row[j] = value
    return 0
