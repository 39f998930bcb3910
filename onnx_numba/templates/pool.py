"""Pooling over windows of images: a row of the output at a time.

The rows of its windows are folded into one, which lies between as many neutral elements as windows reach beyond the image; then each window
is a few neighbours in it. Both steps run along whole rows, without a case for the edges, and fold rows + columns elements for each
output in place of rows * columns.
"""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821, F841
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onnx_numba.ir.loop import TemplateCall
from onnx_numba.native.vector import has_masks
from onnx_numba.target import Target

FOLDED = ("GREATEST", "DIVIDES", "ROWS", "COLUMNS", "DOWN", "ACROSS", "GAP_DOWN", "GAP_ACROSS", "LANES")
"""The literals of ``fold_plane``, in order."""
MOST_VECTORS = 6
"""Vectors of a row that `fold_planes` has in registers at a time."""


def fold_windows(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """``FOLD`` the elements of every window that are inside the image, beginning with ``FIRST``; a work unit is a row of the output.

    ``X`` is the element type; windows are ``ROWS`` by ``COLUMNS``, ``DOWN`` and ``ACROSS`` apart, their elements ``GAP_DOWN`` and
    ``GAP_ACROSS``. ``SMALL`` says that ``DOWNWARDS`` is the fold of a window's rows at ``x``, from ``lines`` on, as one expression;
    ``NARROW`` that ``SIDEWAYS`` is that of its columns for the output ``j``, in ``windows``, made the result; ``VALUE`` makes it of
    ``value``. Where both divide by ``counts``, which say of each place of an output how much a window covers, they are ``COUNTED``, and
    lie before the results, which are buffer ``OUT``.

    Dims: extents of an image, those of its output, padding above and to the left, elements of a folded row (what windows reach, and at
    least the padding to the left and a row of the image), and how many rows are folded before windows are: what has just been stored
    cannot be loaded a few elements further on until it has arrived in the cache. Scratch holds so many rows.
    """
    image = X_p(bufs, 0)
    out = X_p(bufs, OUT)
    height = dims[0]
    width = dims[1]
    outputs = dims[2]
    columns = dims[3]
    above = dims[4]
    left = dims[5]
    pitch = dims[6]
    band = dims[7]
    folded = X_scratch(ctx, 0)
    for x in range(band * pitch):
        folded[x] = X(FIRST)
    for begin in range(lo, hi, band):
        end = min(hi, begin + band)
        for unit in range(begin, end):
            plane = udiv(unit, outputs)
            top = (unit - plane * outputs) * DOWN - above
            inside = X_at(folded, (unit - begin) * pitch + left)
            # From ``first`` to ``last`` the rows of the windows are in the image.
            first = max(0, (GAP_DOWN - 1 - top) // GAP_DOWN)
            last = min(ROWS, (height - top + GAP_DOWN - 1) // GAP_DOWN)
            if SMALL and first == 0 and last == ROWS:
                lines = X_at(image, (plane * height + top) * width)
                for x in range(width):
                    # As of a loop so short: else LLVM would take so many elements at a time that most rows are remainders.
                    interleave(16)
                    apart()
                    inside[x] = DOWNWARDS
            else:
                for x in range(width):
                    inside[x] = X(FIRST)
                for k in range(first, last):
                    line = X_at(image, (plane * height + top + k * GAP_DOWN) * width)
                    for x in range(width):
                        inside[x] = FOLD(inside[x], line[x])
        for unit in range(begin, end):
            windows = X_at(folded, (unit - begin) * pitch)
            row = X_at(out, unit * columns)
            if COUNTED:
                counts = X_at(X_p(bufs, 1), urem(unit, outputs) * columns)
            if NARROW:
                for j in range(columns):
                    interleave(16)
                    apart()
                    row[j] = SIDEWAYS
            else:
                for j in range(columns):
                    value = X(FIRST)
                    for m in range(COLUMNS):
                        value = FOLD(value, windows[j * ACROSS + m * GAP_ACROSS])
                    row[j] = VALUE
    return 0


def fold_planes(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """`fold_windows` for targets with masked loads and floats, with the same buffers, dims and work units; see `masked`.

    Rows and columns lie in vectors of ``LANES``. ``GREATEST`` says whether the greatest elements are sought, or sums, which ``DIVIDES`` by
    ``SHARE``.
    """
    image = X_p(bufs, 0)
    out = X_p(bufs, 1)
    height = dims[0]
    width = dims[1]
    outputs = dims[2]
    columns = dims[3]
    above = dims[4]
    left = dims[5]
    unit = lo
    while unit < hi:
        plane = udiv(unit, outputs)
        top = unit - plane * outputs
        rows = min(outputs - top, hi - unit)
        source = X_at(image, plane * height * width)
        row = X_at(out, unit * columns)
        fold_plane(GREATEST, DIVIDES, ROWS, COLUMNS, DOWN, ACROSS, GAP_DOWN, GAP_ACROSS, LANES, source, X(SHARE), row, height, width, rows,
                   columns, above - top * DOWN, left)
        unit += rows
    return 0


def masked(call: TemplateCall, target: Target) -> TemplateCall | None:
    """A call of `fold_windows` as one of `fold_planes`, where that is faster: where a few vectors see a row of the image."""
    if call.body is not fold_windows or not has_masks(target):
        return None
    (dtype,), constants = call.types.values(), call.constants
    lanes = 4 * target.lanes // dtype.size
    seen = (lanes - 1) * int(constants["ACROSS"]) + (int(constants["COLUMNS"]) - 1) * int(constants["GAP_ACROSS"])
    few = constants["SMALL"] and constants["NARROW"] and seen < MOST_VECTORS * lanes
    if not dtype.is_float or constants["COUNTED"] or not few:
        return None
    return replace(call, body=fold_planes, constants={**constants, "LANES": lanes}, scratch=0)
