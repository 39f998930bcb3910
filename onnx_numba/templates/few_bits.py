"""Products with matrices whose numbers have few bits and are stored by blocks, each with a scale and a zero point.

The numbers lie in words of 32 bits ``[panel, k // GROUP, column]``, so many of a column in each as fit, the first in the lowest bits.
"""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def multiply(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Rows times panels of columns; a work unit is ``ROWS`` rows with one panel.

    Buffers: rows of floats, in which whole words of numbers have terms; the words; scales and zero points (of type ``Z``)
    ``[panel, block, column]``; the result. The matrix is never whole in memory: ``CHUNK`` rows of a panel are turned to floats, less
    their zero points, and serve all rows of the unit. A row alone takes them as they come, with no conversion: a number beside the bits
    of ``2**23`` is that much plus itself times the power of two of its place, by which the row is divided. (Zero points that are floats,
    for which ``WHOLE`` is not set, are taken off apart.) Either way the terms of a chunk are summed up in order from zero, and the sum is
    scaled.
    """
    x = f32_p(bufs, 0)
    words = u32_p(bufs, 1)
    scales = f32_p(bufs, 2)
    zeros = Z_p(bufs, 3)
    y = f32_p(bufs, 4)
    rows = dims[0]
    depth = dims[1]
    columns = dims[2]
    width = dims[3]
    panels = dims[4]
    blocks = dims[5]
    block = dims[6]
    zero_step = dims[7]
    points = f32_scratch(ctx, 0)
    sums = f32_scratch(ctx, 16 * width)
    weights = f32_scratch(ctx, 32 * width)
    for unit in range(lo, hi):
        part = unit // panels
        panel = unit - part * panels
        first = part * ROWS
        last = min(first + ROWS, rows)
        used = min(width, columns - panel * width)
        for i in range(first, last):
            out = f32_at(y, i * columns + panel * width)
            for j in range(used):
                out[j] = f32(0)
        for k0 in range(0, depth, CHUNK):
            count = min(CHUNK, depth - k0)
            group = (panel * blocks + k0 // block) * width
            scale = f32_at(scales, group)
            zero = Z_at(zeros, group * zero_step)
            alone = last - first == 1
            for j in range(width):
                point = f32(zero[j])
                sums[j] = f32(0)
                points[j] = point
                if alone:
                    points[j] = f32(START) + point
                    points[width + j] = f32(START) + point * f32(1 << BITS)
                    points[2 * width + j] = f32(START) + point * f32(1 << THIRD)
                    points[3 * width + j] = f32(START) + point * f32(1 << FOURTH)
            for g in range(0, count, GROUP):
                source = u32_at(words, (panel * depth + k0 + g) // GROUP * width)
                if not alone:
                    for k in range(GROUP):
                        target = f32_at(weights, (g + k) * width)
                        for j in range(width):
                            target[j] = f32(shr(source[j], u32(k * BITS)) & u32(MASK)) - points[j]
                else:
                    for j in range(0, width, 16):
                        fetch_line(source, j + AHEAD)
                    for k in range(0, GROUP, 4):
                        a = f32_at(x, first * depth + k0 + g + k)
                        a0 = a[0]
                        a1 = a[1] * f32(1 / (1 << BITS))
                        a2 = a[2] * f32(1 / (1 << THIRD))
                        a3 = a[3] * f32(1 / (1 << FOURTH))
                        for j in range(width):
                            word = shr(source[j], u32(k * BITS))
                            high = shr(word, u32(APART))
                            w0 = float_of(i32((word & u32(MASK)) | u32(ONES))) - f32(REST)
                            w1 = float_of(i32((word & u32(MASK << BITS)) | u32(ONES))) - f32(REST)
                            w2 = float_of(i32((high & u32(MASK << THIRD)) | u32(ONES))) - f32(REST)
                            w3 = float_of(i32((high & u32(MASK << FOURTH)) | u32(ONES))) - f32(REST)
                            total = fma(a0, w0 - points[j], sums[j])
                            total = fma(a1, w1 - points[width + j], total)
                            total = fma(a2, w2 - points[2 * width + j], total)
                            sums[j] = fma(a3, w3 - points[3 * width + j], total)
            for i in range(first, last, 4):
                together = min(4, last - i)
                if not alone:
                    row_product(sums, width, f32_at(x, i * depth + k0), depth, weights, width, together, count, width)
                for r in range(together):
                    out = f32_at(y, (i + r) * columns + panel * width)
                    found = f32_at(sums, r * width)
                    for j in range(used):
                        out[j] = fma(scale[j], found[j], out[j])
    return 0


def quantise(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Rows of floats as bytes with a sign, by blocks, for `multiply_bytes`; a work unit is a row.

    Buffers: the rows, the bytes, a scale for each block, a sum of bytes for each chunk. The bytes are in the order in which the words
    of the matrix have theirs: byte b of word p of a group is term ``b * SHARE + p`` of it. A block with infinities has 0 for what is
    finite, and one with NaN has a scale of NaN.
    """
    x = f32_p(bufs, 0)
    steps = i8_p(bufs, 1)
    scales = f32_p(bufs, 2)
    sums = f32_p(bufs, 3)
    depth = dims[0]
    padded = dims[1]
    block = dims[2]
    chunk = dims[3]
    for i in range(lo, hi):
        row = f32_at(x, i * depth)
        made = i8_at(steps, i * padded)
        for k0 in range(0, padded, block):
            stop = min(k0 + block, depth)
            largest = f32(0)
            for k in range(k0, stop):
                largest = acc_max(largest, abs_(row[k]))
            # Of less than this the reciprocal would be infinite.
            largest = max_(largest, f32(1e-36))
            inverse = f32(127) / largest
            endless = isinf_(largest)
            scales[i * (padded // block) + k0 // block] = largest if endless else largest / f32(127)
            for c0 in range(k0, k0 + block, chunk):
                total = i32(0)
                for g in range(c0, c0 + chunk, 4 * SHARE):
                    for p in range(SHARE):
                        for b in range(4):
                            k = g + b * SHARE + p
                            step = i8(0)
                            if k < stop:
                                value = row[k]
                                if endless:
                                    step = i8(copysign(f32(1), value)) if isinf_(value) else i8(0)
                                else:
                                    step = i8(rint(value * inverse))
                            made[g + p * 4 + b] = step
                            total += i32(step)
                sums[i * (padded // chunk) + c0 // chunk] = f32(total)
    return 0


def multiply_bytes(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Rows of bytes as `quantise` makes them times panels of columns; a work unit is ``ROWS`` rows with one panel.

    Buffers: the bytes, their scales and sums, then the matrix as for `multiply`, and the result. Of ``CHUNK`` rows of a panel each
    number gets a byte of its own; products of bytes are exact, and so is what the zero points take from their sums.
    """
    x = i32_p(bufs, 0)
    x_scales = f32_p(bufs, 1)
    x_sums = f32_p(bufs, 2)
    words = i32_p(bufs, 3)
    scales = f32_p(bufs, 4)
    zeros = Z_p(bufs, 5)
    y = f32_p(bufs, 6)
    rows = dims[0]
    depth = dims[1]
    columns = dims[2]
    width = dims[3]
    panels = dims[4]
    blocks = dims[5]
    block = dims[6]
    zero_step = dims[7]
    points = f32_scratch(ctx, 0)
    sums = i32_scratch(ctx, 4 * PANEL)
    weights = i32_scratch(ctx, 20 * PANEL)
    for unit in range(lo, hi):
        part = unit // panels
        panel = unit - part * panels
        first = part * ROWS
        last = min(first + ROWS, rows)
        used = min(width, columns - panel * width)
        for i in range(first, last):
            out = f32_at(y, i * columns + panel * width)
            for j in range(used):
                out[j] = f32(0)
        for k0 in range(0, depth, CHUNK):
            group = (panel * blocks + k0 // block) * width
            scale = f32_at(scales, group)
            zero = Z_at(zeros, group * zero_step)
            for j in range(width):
                points[j] = f32(zero[j])
            for g in range(CHUNK // GROUP):
                source = i32_at(words, ((panel * depth + k0) // GROUP + g) * width)
                for p in range(SHARE):
                    target = i32_at(weights, (g * SHARE + p) * PANEL)
                    for j in range(width):
                        target[j] = shr(source[j], i32(p * BITS)) & i32(MASKS)
            for i in range(first, last, 4):
                together = min(4, last - i)
                word_product(1, KIND, sums, i32_at(x, (i * depth + k0) // 4), depth // 4, weights, together, CHUNK // 4, width)
                for r in range(together):
                    out = f32_at(y, (i + r) * columns + panel * width)
                    found = i32_at(sums, r * PANEL)
                    factor = x_scales[(i + r) * blocks + k0 // block]
                    bytes_ = x_sums[(i + r) * (depth // CHUNK) + k0 // CHUNK]
                    for j in range(used):
                        out[j] = fma(scale[j] * factor, f32(found[j]) - points[j] * bytes_, out[j])
    return 0
