"""The recurrences of RNN, GRU and LSTM along time; a work unit is a few sequences of the batch in one direction, multiplied together.

``X`` is the element type; ``F``, ``G``, ``H`` are activations ``name(v, alpha, beta)`` with parameters ``FA``, ``FB`` …;
with ``REVERSE`` time runs backward, as it does in a second direction; ``CLIP`` bounds what activations of gates are given, the cell is
not clipped. What the input of each step contributes is in the first buffer, biases included, R is transposed. The state lies in the last
outputs while it runs. A unit has ``dims[3]`` sequences. They take each step together, also those that have ended, whose gates nobody
looks at. All buffers but the lengths are of ``dims[4]`` directions, each of which has ``dims[5]`` units.
"""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def rnn(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """``h = F(x + h R)``; buffers: x, R, h0, lengths, then all h and the last one."""
    inputs = X_p(bufs, 0)
    matrices = X_p(bufs, 1)
    firsts = X_p(bufs, 2)
    lengths = i64_p(bufs, 3)
    every = X_p(bufs, 4)
    lasts = X_p(bufs, 5)
    steps = dims[0]
    batch = dims[1]
    size = dims[2]
    ways = dims[4]
    blocks = dims[5]
    gates = X_scratch(ctx, 0)
    for unit in range(lo, hi):
        way = udiv(unit, blocks)
        backward = REVERSE or way == 1
        begin = (unit - way * blocks) * dims[3]
        end = min(begin + dims[3], batch)
        given = X_at(inputs, way * steps * batch * size)
        weights = X_at(matrices, way * size * size)
        first = X_at(firsts, way * batch * size)
        last = X_at(lasts, way * batch * size)
        longest = 0
        for b in range(begin, end):
            for j in range(size):
                last[b * size + j] = first[b * size + j]
            length = max(min(lengths[b], steps), 0)
            longest = max(longest, length)
            for s in range(length, steps):
                for j in range(size):
                    every[((s * ways + way) * batch + b) * size + j] = X(0.0)
        for s in range(longest):
            for b in range(begin, end):
                length = min(lengths[b], steps)
                t = length - 1 - s if backward else s
                base = (t * batch + b) * size
                line = X_at(gates, (b - begin) * size)
                for j in range(size):
                    line[j] = given[base + j] if s < length else X(0.0)
            add_product(gates, size, X_at(last, begin * size), size, weights, size, end - begin, size, size)
            for b in range(begin, end):
                length = min(lengths[b], steps)
                if s >= length:
                    continue
                t = length - 1 - s if backward else s
                place = ((t * ways + way) * batch + b) * size
                line = X_at(gates, (b - begin) * size)
                h = X_at(last, b * size)
                for j in range(size):
                    h[j] = F(max_(min_(line[j], X(CLIP)), X(-CLIP)), X(FA), X(FB))
                    every[place + j] = h[j]
    return 0


def gru(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Gates z, r and candidate h; buffers: x, R, h0, lengths, R's bias of the candidate, then all h and the last one."""
    inputs = X_p(bufs, 0)
    matrices = X_p(bufs, 1)
    firsts = X_p(bufs, 2)
    lengths = i64_p(bufs, 3)
    inners = X_p(bufs, 4)
    every = X_p(bufs, 5)
    lasts = X_p(bufs, 6)
    steps = dims[0]
    batch = dims[1]
    size = dims[2]
    ways = dims[4]
    blocks = dims[5]
    gates = X_scratch(ctx, 0)
    candidates = X_at(gates, dims[3] * 2 * size)
    kept = X_at(gates, dims[3] * 3 * size)
    for unit in range(lo, hi):
        way = udiv(unit, blocks)
        backward = REVERSE or way == 1
        begin = (unit - way * blocks) * dims[3]
        end = min(begin + dims[3], batch)
        given = X_at(inputs, way * steps * batch * 3 * size)
        weights = X_at(matrices, way * size * 3 * size)
        first = X_at(firsts, way * batch * size)
        last = X_at(lasts, way * batch * size)
        inner = X_at(inners, way * size)
        longest = 0
        for b in range(begin, end):
            for j in range(size):
                last[b * size + j] = first[b * size + j]
            length = max(min(lengths[b], steps), 0)
            longest = max(longest, length)
            for s in range(length, steps):
                for j in range(size):
                    every[((s * ways + way) * batch + b) * size + j] = X(0.0)
        for s in range(longest):
            for b in range(begin, end):
                length = min(lengths[b], steps)
                t = length - 1 - s if backward else s
                base = (t * batch + b) * size
                line = X_at(gates, (b - begin) * 2 * size)
                for j in range(2 * size):
                    line[j] = given[3 * base + j] if s < length else X(0.0)
            add_product(gates, 2 * size, X_at(last, begin * size), size, weights, 3 * size, end - begin, size, 2 * size)
            for b in range(begin, end):
                line = X_at(gates, (b - begin) * 2 * size)
                h = X_at(last, b * size)
                for j in range(2 * size):
                    line[j] = F(max_(min_(line[j], X(CLIP)), X(-CLIP)), X(FA), X(FB))
                for j in range(size):
                    kept[(b - begin) * size + j] = h[j] if LINEAR else line[size + j] * h[j]
                    candidates[(b - begin) * size + j] = inner[j]
            add_product(candidates, size, kept, size, X_at(weights, 2 * size), 3 * size, end - begin, size, size)
            for b in range(begin, end):
                length = min(lengths[b], steps)
                if s >= length:
                    continue
                t = length - 1 - s if backward else s
                base = (t * batch + b) * size
                place = ((t * ways + way) * batch + b) * size
                line = X_at(gates, (b - begin) * 2 * size)
                candidate = X_at(candidates, (b - begin) * size)
                h = X_at(last, b * size)
                for j in range(size):
                    total = line[size + j] * candidate[j] if LINEAR else candidate[j]
                    total = max_(min_(total + given[3 * base + 2 * size + j], X(CLIP)), X(-CLIP))
                    h[j] = (X(1.0) - line[j]) * G(total, X(GA), X(GB)) + line[j] * h[j]
                    every[place + j] = h[j]
    return 0


def lstm(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Gates i, o, f and candidate c; buffers: x, R, h0, lengths, c0, peepholes, then all h, the last h and the last c.

    With ``QUANTISED`` h is quantised to bytes at every step, in the scale of all its sequences together, which then are one work unit.
    R has bytes with a sign, in words as `word_product` takes them. Buffers before the results are, per column of R, its scale, its zero
    point c, and the sum of its bytes less c: ``sum((h - z) * (R - c)) == sum(h * R) - z * sum(R - c) - c * sum(h)``.
    """
    inputs = X_p(bufs, 0)
    matrices = W_p(bufs, 1)
    firsts = X_p(bufs, 2)
    lengths = i64_p(bufs, 3)
    first_cells = X_p(bufs, 4)
    peeps = X_p(bufs, 5)
    every = X_p(bufs, EVERY)
    lasts = X_p(bufs, LAST)
    last_cells = X_p(bufs, LAST_CELL)
    steps = dims[0]
    batch = dims[1]
    size = dims[2]
    rows = dims[3]
    ways = dims[4]
    blocks = dims[5]
    gates = X_scratch(ctx, 0)
    extent = size * 4 * size
    if QUANTISED:
        all_scales = X_p(bufs, 6)
        all_zeros = i32_p(bufs, 7)
        all_totals = i32_p(bufs, 8)
        pitch = udiv(4 * size + PANEL - 1, PANEL) * PANEL
        words = udiv(size + 3, 4)
        extent = pitch * words
        sums = i32_at(gates, 4 * rows * size)
        levels = i32_at(sums, rows * pitch)
    for unit in range(lo, hi):
        way = udiv(unit, blocks)
        backward = REVERSE or way == 1
        begin = (unit - way * blocks) * rows
        end = min(begin + rows, batch)
        given = X_at(inputs, way * steps * batch * 4 * size)
        weights = W_at(matrices, way * extent)
        first = X_at(firsts, way * batch * size)
        last = X_at(lasts, way * batch * size)
        first_cell = X_at(first_cells, way * batch * size)
        last_cell = X_at(last_cells, way * batch * size)
        peep = X_at(peeps, way * 3 * size)
        if QUANTISED:
            scales = X_at(all_scales, way * 4 * size)
            zeros = i32_at(all_zeros, way * 4 * size)
            totals = i32_at(all_totals, way * 4 * size)
        longest = 0
        for b in range(begin, end):
            for j in range(size):
                last[b * size + j] = first[b * size + j]
                last_cell[b * size + j] = first_cell[b * size + j]
            length = max(min(lengths[b], steps), 0)
            longest = max(longest, length)
            for s in range(length, steps):
                for j in range(size):
                    every[((s * ways + way) * batch + b) * size + j] = X(0.0)
        for s in range(longest):
            for b in range(begin, end):
                length = min(lengths[b], steps)
                t = length - 1 - s if backward else s
                base = (t * batch + b) * size
                line = X_at(gates, (b - begin) * 4 * size)
                for j in range(4 * size):
                    line[j] = given[4 * base + j] if s < length else X(0.0)
            state = X_at(last, begin * size)
            if QUANTISED:
                low = X(0.0)
                high = X(0.0)
                for b in range(begin, end):
                    if s <= lengths[b]:  # also of sequences that have just ended
                        for j in range(size):
                            low = acc_min(low, last[b * size + j])
                            high = acc_max(high, last[b * size + j])
                scale = X(1.0) if low == high else (high - low) / X(255.0)
                zero = max_(min_(rint(-low / scale), X(255.0)), X(0.0))
                for b in range(end - begin):
                    line = u8_at(levels, 4 * b * words)
                    for j in range(size):
                        level = max_(min_(rint(state[b * size + j] / scale) + zero, X(255.0)), X(0.0))
                        line[j] = u8(bits_of(level + X(WHOLE)))
                word_product(sums, levels, words, weights, end - begin, words, 4 * size)
                for b in range(end - begin):
                    line = u8_at(levels, 4 * b * words)
                    total = i32(0)
                    for j in range(size):
                        total = acc_add(total, i32(line[j]))
                    for j in range(4 * size):
                        product = sums[b * pitch + j] - i32(zero) * totals[j] - total * zeros[j]
                        gates[b * 4 * size + j] = gates[b * 4 * size + j] + X(i32(product)) * (scale * scales[j])
            else:
                add_product(gates, 4 * size, state, size, weights, 4 * size, end - begin, size, 4 * size)
            for b in range(begin, end):
                length = min(lengths[b], steps)
                if s >= length:
                    continue
                t = length - 1 - s if backward else s
                place = ((t * ways + way) * batch + b) * size
                line = X_at(gates, (b - begin) * 4 * size)
                h = X_at(last, b * size)
                c = X_at(last_cell, b * size)
                for j in range(size):
                    before = c[j]
                    gate = max_(min_(line[j] + peep[j] * before, X(CLIP)), X(-CLIP))
                    enter = F(gate, X(FA), X(FB))
                    gate = max_(min_(line[2 * size + j] + peep[2 * size + j] * before, X(CLIP)), X(-CLIP))
                    keep = X(1.0) - enter if COUPLED else F(gate, X(FA), X(FB))
                    gate = max_(min_(line[3 * size + j], X(CLIP)), X(-CLIP))
                    after = keep * before + enter * G(gate, X(GA), X(GB))
                    gate = max_(min_(line[size + j] + peep[size + j] * after, X(CLIP)), X(-CLIP))
                    c[j] = after
                    h[j] = F(gate, X(FA), X(FB)) * H(after, X(HA), X(HB))
                    every[place + j] = h[j]
    return 0
