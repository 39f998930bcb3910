"""Pooling of regions of interest; ``X`` is the element type."""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def roi_align(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Bilinear samples in every bin, averaged, or with ``MAXIMUM`` the greatest weighted corner of any.

    Samples outside the image are 0; without a ``RATIO`` there may be any number of them, and only rows and columns near the image are
    looked at. A work unit is a row of bins in ``CHANNELS`` channels, which share where samples lie and what their corners weigh; scratch
    has a number for each.
    """
    image = X_p(bufs, 0)
    regions = X_p(bufs, 1)
    batches = i64_p(bufs, 2)
    out = X_p(bufs, 3)
    channels = dims[1]
    height = dims[2]
    width = dims[3]
    rows = dims[4]
    columns = dims[5]
    size = height * width
    found = X_scratch(ctx, 0)
    blocks = (channels + CHANNELS - 1) // CHANNELS
    for unit in range(lo, hi):
        block = unit // rows
        bin_row = unit - block * rows
        region = block // blocks
        channel = (block - region * blocks) * CHANNELS
        count = min(CHANNELS, channels - channel)
        given = batches[region]  # no image is counted from the end
        batch = check_index(ctx, given if given >= 0 else dims[0], dims[0], unit, INDEX_RANGE)
        planes = X_at(image, (batch * channels + channel) * size)
        bins = X_at(out, ((region * channels + channel) * rows + bin_row) * columns)
        left = regions[4 * region] * X(SCALE) - X(OFFSET)
        top = regions[4 * region + 1] * X(SCALE) - X(OFFSET)
        wide = regions[4 * region + 2] * X(SCALE) - X(OFFSET) - left
        tall = regions[4 * region + 3] * X(SCALE) - X(OFFSET) - top
        if CLAMP:
            wide = max_(wide, X(1.0))
            tall = max_(tall, X(1.0))
        bin_height = tall / X(rows)
        bin_width = wide / X(columns)
        down = i64(RATIO) if RATIO > 0 else i64(ceil(bin_height))
        across = i64(RATIO) if RATIO > 0 else i64(ceil(bin_width))
        cell_top = top + X(bin_row) * bin_height
        for bin_column in range(columns):
            cell_left = left + X(bin_column) * bin_width
            seen = i64(0)
            for k in range(count):
                found[k] = X(-inf) if MAXIMUM else X(0.0)
            first_row = i64(0)
            last_row = down
            first_column = i64(0)
            last_column = across
            if RATIO == 0:
                first_row = max(i64((X(-1.0) - cell_top) * X(down) / bin_height) - 2, 0)
                last_row = min(i64((X(height) - cell_top) * X(down) / bin_height), down - 2) + 2
                first_column = max(i64((X(-1.0) - cell_left) * X(across) / bin_width) - 2, 0)
                last_column = min(i64((X(width) - cell_left) * X(across) / bin_width), across - 2) + 2
            for row in range(first_row, last_row):
                y = cell_top + (X(row) + X(0.5)) * bin_height / X(down)
                if not (y >= X(-1.0) and y <= X(height)):
                    continue
                y = min_(max_(y, X(0.0)), X(height - 1))
                above = i64(y)
                below = min(above + 1, height - 1)
                v = y - X(above)
                for column in range(first_column, last_column):
                    x = cell_left + (X(column) + X(0.5)) * bin_width / X(across)
                    if not (x >= X(-1.0) and x <= X(width)):
                        continue
                    x = min_(max_(x, X(0.0)), X(width - 1))
                    before = i64(x)
                    after = min(before + 1, width - 1)
                    u = x - X(before)
                    seen += 1
                    corner = X_at(planes, above * width + before)
                    right = after - before
                    down_one = (below - above) * width
                    weight_a = (X(1.0) - v) * (X(1.0) - u)
                    weight_b = (X(1.0) - v) * u
                    weight_c = v * (X(1.0) - u)
                    weight_d = v * u
                    for k in range(count):
                        a = weight_a * corner[k * size]
                        b = weight_b * corner[k * size + right]
                        c = weight_c * corner[k * size + down_one]
                        d = weight_d * corner[k * size + down_one + right]
                        found[k] = max_(found[k], max_(max_(a, b), max_(c, d))) if MAXIMUM else found[k] + (a + b + c + d)
            samples = X(max(down, 0)) * X(max(across, 0))
            for k in range(count):
                value = found[k]
                if not MAXIMUM:
                    value = value / max_(samples, X(1.0))
                elif X(seen) < samples or seen == 0:
                    value = max_(value, X(0.0))
                bins[k * rows * columns + bin_column] = value
    return 0


def max_roi_pool(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """The greatest element of every bin of a region whose corners are rounded to elements; 0 for empty bins.

    A work unit is a channel of a region.
    """
    image = X_p(bufs, 0)
    regions = X_p(bufs, 1)
    out = X_p(bufs, 2)
    channels = dims[1]
    height = dims[2]
    width = dims[3]
    rows = dims[4]
    columns = dims[5]
    for unit in range(lo, hi):
        region = unit // channels
        channel = unit % channels
        given = i64(regions[5 * region])  # no image is counted from the end
        batch = check_index(ctx, given if given >= 0 else dims[0], dims[0], unit, INDEX_RANGE)
        plane = X_at(image, (batch * channels + channel) * height * width)
        left = i64(regions[5 * region + 1] * X(SCALE) + copysign(X(0.5), regions[5 * region + 1]))
        top = i64(regions[5 * region + 2] * X(SCALE) + copysign(X(0.5), regions[5 * region + 2]))
        right = i64(regions[5 * region + 3] * X(SCALE) + copysign(X(0.5), regions[5 * region + 3]))
        bottom = i64(regions[5 * region + 4] * X(SCALE) + copysign(X(0.5), regions[5 * region + 4]))
        bin_height = X(max(bottom - top + 1, 1)) / X(rows)
        bin_width = X(max(right - left + 1, 1)) / X(columns)
        for cell in range(rows * columns):
            row = cell // columns
            column = cell % columns
            first_row = min(max(i64(floor(X(row) * bin_height)) + top, 0), height)
            last_row = min(max(i64(ceil(X(row + 1) * bin_height)) + top, 0), height)
            first = min(max(i64(floor(X(column) * bin_width)) + left, 0), width)
            last = min(max(i64(ceil(X(column + 1) * bin_width)) + left, 0), width)
            best = X(-inf)
            for y in range(first_row, last_row):
                for x in range(first, last):
                    best = max_(best, plane[y * width + x])
            out[unit * rows * columns + cell] = best if last_row > first_row and last > first else X(0.0)
    return 0
