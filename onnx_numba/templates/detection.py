"""Choosing boxes that do not overlap: non-maximum suppression in three steps.

`select_boxes` chooses for every image and class, `offsets` counts, `write_boxes` puts the choices side by side.
"""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any


def select_boxes(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """The chosen boxes of every image and class, best first.

    Buffers are boxes [images, n, 4], scores [images, classes, n], the overlap that is too much, the score that is too low, then
    the choices [images * classes, most], how many there are, and room for a heap [images * classes, n]. Dims are the numbers of
    boxes, classes, and most choices; a work unit is an image and class. Boxes are corners, or centre and extents if
    ``CENTRES``; ``FLOOR`` says whether scores must be above the second number. Of equal scores the earlier box is better. A box is
    compared with ``TOGETHER`` of those chosen at once, whose corners and areas lie side by side in the scratch, zeros behind them.
    """
    boxes = f32_p(bufs, 0)
    scores = f32_p(bufs, 1)
    overlap = f32_p(bufs, 2)[0]
    least = f32_p(bufs, 3)[0]
    chosen = i64_p(bufs, 4)
    counts = i64_p(bufs, 5)
    heap = i64_p(bufs, 6)
    n = dims[0]
    classes = dims[1]
    most = dims[2]
    pitch = most + TOGETHER
    left = f32_scratch(ctx, 0)
    right = f32_at(left, pitch)
    above = f32_at(left, 2 * pitch)
    below = f32_at(left, 3 * pitch)
    areas = f32_at(left, 4 * pitch)
    for unit in range(lo, hi):
        base = unit // classes * n * 4
        row = unit * n
        size = i64(0)
        for i in range(n):
            if not FLOOR or scores[row + i] > least:
                heap[row + size] = i
                size += 1
        count = i64(0)
        start = size // 2 - 1
        while size > 0 and count < most:
            # Sift down: while the heap is built from each inner node in turn, then from the root, which the last one replaced.
            at = start if start >= 0 else i64(0)
            item = heap[row + at]
            child = 2 * at + 1
            while child < size:
                best = heap[row + child]
                if child + 1 < size:
                    other = heap[row + child + 1]
                    s = scores[row + other]
                    t = scores[row + best]
                    if s > t or (s == t and other < best):
                        best = other
                        child = child + 1
                s = scores[row + best]
                t = scores[row + item]
                if not (s > t or (s == t and best < item)):
                    break
                heap[row + at] = best
                at = child
                child = 2 * at + 1
            heap[row + at] = item
            if start > 0:
                start -= 1
                continue
            start = i64(-1)
            box = heap[row]
            size -= 1
            heap[row] = heap[row + size]
            a = base + box * 4
            if CENTRES:
                ax1 = boxes[a] - boxes[a + 2] * f32(0.5)
                ax2 = boxes[a] + boxes[a + 2] * f32(0.5)
                ay1 = boxes[a + 1] - boxes[a + 3] * f32(0.5)
                ay2 = boxes[a + 1] + boxes[a + 3] * f32(0.5)
            else:
                ax1 = min_(boxes[a], boxes[a + 2])
                ax2 = max_(boxes[a], boxes[a + 2])
                ay1 = min_(boxes[a + 1], boxes[a + 3])
                ay2 = max_(boxes[a + 1], boxes[a + 3])
            area = (ax2 - ax1) * (ay2 - ay1)
            free = True
            j = i64(0)
            while free and j < count and area > f32(0.0):
                hits = i32(0)
                for k in range(TOGETHER):
                    width = min_(ax2, right[j + k]) - max_(ax1, left[j + k])
                    height = min_(ay2, below[j + k]) - max_(ay1, above[j + k])
                    own = areas[j + k]
                    shared = width * height
                    hit = (width > f32(0.0)) & (height > f32(0.0)) & (own > f32(0.0)) & (shared / (area + own - shared) > overlap)
                    hits = ior(hits, i32(hit))
                free = hits == 0
                j += TOGETHER
            if free:
                chosen[unit * most + count] = box
                if urem(count, TOGETHER) == 0:
                    for k in range(count, count + TOGETHER):
                        left[k] = f32(0.0)
                        right[k] = f32(0.0)
                        above[k] = f32(0.0)
                        below[k] = f32(0.0)
                        areas[k] = f32(0.0)
                left[count] = ax1
                right[count] = ax2
                above[count] = ay1
                below[count] = ay2
                areas[count] = area
                count += 1
        counts[unit] = count
    return 0


def offsets(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Running sums: buffers are counts and, one longer, the sums of all before; the dim is how many counts there are."""
    counts = i64_p(bufs, 0)
    sums = i64_p(bufs, 1)
    total = i64(0)
    sums[0] = total
    for i in range(dims[0]):
        total += counts[i]
        sums[i + 1] = total
    return 0


def write_boxes(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Rows (image, class, box). Buffers are choices, offsets and rows; dims are the numbers of classes and most choices."""
    chosen = i64_p(bufs, 0)
    first = i64_p(bufs, 1)
    rows = i64_p(bufs, 2)
    classes = dims[0]
    most = dims[1]
    for unit in range(lo, hi):
        begin = first[unit]
        for j in range(first[unit + 1] - begin):
            rows[3 * (begin + j)] = unit // classes
            rows[3 * (begin + j) + 1] = unit % classes
            rows[3 * (begin + j) + 2] = chosen[unit * most + j]
    return 0
