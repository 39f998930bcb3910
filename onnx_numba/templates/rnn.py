"""The recurrences of RNN, GRU and LSTM along time, one direction; a work unit is a few sequences of the batch, multiplied together.

``X`` is the element type; ``F``, ``G``, ``H`` are activations ``name(v, alpha, beta)`` with parameters ``FA``, ``FB`` …;
with ``REVERSE`` time runs backward; ``CLIP`` bounds what activations of gates are given, the cell is not clipped. What the input
of each step contributes is in the first buffer, biases included, R is transposed. The state lies in the last outputs while it runs.
A unit has ``dims[3]`` sequences. They take each step together, also those that have ended, whose gates nobody looks at.
"""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def rnn(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """``h = F(x + h R)``; buffers: x, R, h0, lengths, then all h and the last one."""
    given = X_p(bufs, 0)
    weights = X_p(bufs, 1)
    first = X_p(bufs, 2)
    lengths = i64_p(bufs, 3)
    every = X_p(bufs, 4)
    last = X_p(bufs, 5)
    steps = dims[0]
    batch = dims[1]
    size = dims[2]
    gates = X_scratch(ctx, 0)
    for unit in range(lo, hi):
        begin = unit * dims[3]
        end = min(begin + dims[3], batch)
        longest = 0
        for b in range(begin, end):
            for j in range(size):
                last[b * size + j] = first[b * size + j]
            length = max(min(lengths[b], steps), 0)
            longest = max(longest, length)
            for s in range(length, steps):
                for j in range(size):
                    every[(s * batch + b) * size + j] = X(0.0)
        for s in range(longest):
            for b in range(begin, end):
                length = min(lengths[b], steps)
                t = length - 1 - s if REVERSE else s
                base = (t * batch + b) * size
                line = X_at(gates, (b - begin) * size)
                for j in range(size):
                    line[j] = given[base + j] if s < length else X(0.0)
            add_product(gates, size, X_at(last, begin * size), size, weights, size, end - begin, size, size)
            for b in range(begin, end):
                length = min(lengths[b], steps)
                if s >= length:
                    continue
                t = length - 1 - s if REVERSE else s
                base = (t * batch + b) * size
                line = X_at(gates, (b - begin) * size)
                h = X_at(last, b * size)
                for j in range(size):
                    h[j] = F(max_(min_(line[j], X(CLIP)), X(-CLIP)), X(FA), X(FB))
                    every[base + j] = h[j]
    return 0


def gru(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Gates z, r and candidate h; buffers: x, R, h0, lengths, R's bias of the candidate, then all h and the last one."""
    given = X_p(bufs, 0)
    weights = X_p(bufs, 1)
    first = X_p(bufs, 2)
    lengths = i64_p(bufs, 3)
    inner = X_p(bufs, 4)
    every = X_p(bufs, 5)
    last = X_p(bufs, 6)
    steps = dims[0]
    batch = dims[1]
    size = dims[2]
    gates = X_scratch(ctx, 0)
    candidates = X_at(gates, dims[3] * 2 * size)
    kept = X_at(gates, dims[3] * 3 * size)
    for unit in range(lo, hi):
        begin = unit * dims[3]
        end = min(begin + dims[3], batch)
        longest = 0
        for b in range(begin, end):
            for j in range(size):
                last[b * size + j] = first[b * size + j]
            length = max(min(lengths[b], steps), 0)
            longest = max(longest, length)
            for s in range(length, steps):
                for j in range(size):
                    every[(s * batch + b) * size + j] = X(0.0)
        for s in range(longest):
            for b in range(begin, end):
                length = min(lengths[b], steps)
                t = length - 1 - s if REVERSE else s
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
                t = length - 1 - s if REVERSE else s
                base = (t * batch + b) * size
                line = X_at(gates, (b - begin) * 2 * size)
                candidate = X_at(candidates, (b - begin) * size)
                h = X_at(last, b * size)
                for j in range(size):
                    total = line[size + j] * candidate[j] if LINEAR else candidate[j]
                    total = max_(min_(total + given[3 * base + 2 * size + j], X(CLIP)), X(-CLIP))
                    h[j] = (X(1.0) - line[j]) * G(total, X(GA), X(GB)) + line[j] * h[j]
                    every[base + j] = h[j]
    return 0


def lstm(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Gates i, o, f and candidate c; buffers: x, R, h0, lengths, c0, peepholes, R's scales, then all h, the last h and the last c.

    With ``QUANTISED`` R has whole numbers of 8 bits and a sign, and h is quantised to such at every step, in the scale of all its
    sequences together, which then are one work unit. Their products are added up as floats, ``CHUNK`` at a time, which is exact while
    that is at most 256 for float32.
    """
    given = X_p(bufs, 0)
    weights = X_p(bufs, 1)
    first = X_p(bufs, 2)
    lengths = i64_p(bufs, 3)
    first_cell = X_p(bufs, 4)
    peep = X_p(bufs, 5)
    scales = X_p(bufs, 6)
    every = X_p(bufs, 7)
    last = X_p(bufs, 8)
    last_cell = X_p(bufs, 9)
    steps = dims[0]
    batch = dims[1]
    size = dims[2]
    rows = dims[3]
    totals = f64_scratch(ctx, 0)
    gates = X_scratch(ctx, 32 * rows * size)
    sums = X_at(gates, 4 * rows * size)
    levels = X_at(sums, 4 * rows * size)
    scale = X(0.0)
    zero = X(0.0)
    for unit in range(lo, hi):
        begin = unit * rows
        end = min(begin + rows, batch)
        longest = 0
        for b in range(begin, end):
            for j in range(size):
                last[b * size + j] = first[b * size + j]
                last_cell[b * size + j] = first_cell[b * size + j]
            length = max(min(lengths[b], steps), 0)
            longest = max(longest, length)
            for s in range(length, steps):
                for j in range(size):
                    every[(s * batch + b) * size + j] = X(0.0)
        for s in range(longest):
            for b in range(begin, end):
                length = min(lengths[b], steps)
                t = length - 1 - s if REVERSE else s
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
                            low = min_(low, last[b * size + j])
                            high = max_(high, last[b * size + j])
                scale = X(1.0) if low == high else (high - low) / X(255.0)
                zero = max_(min_(rint(-low / scale), X(255.0)), X(0.0))
                for k in range((end - begin) * size):
                    levels[k] = max_(min_(rint(state[k] / scale) + zero, X(255.0)), X(0.0)) - zero
                for j in range((end - begin) * 4 * size):
                    totals[j] = f64(0.0)
                for start in range(0, size, CHUNK):
                    for j in range((end - begin) * 4 * size):
                        sums[j] = X(0.0)
                    depth = min(size - start, CHUNK)
                    right = X_at(weights, start * 4 * size)
                    add_product(sums, 4 * size, X_at(levels, start), size, right, 4 * size, end - begin, depth, 4 * size)
                    for j in range((end - begin) * 4 * size):
                        totals[j] = totals[j] + f64(sums[j])
                for b in range(end - begin):
                    for j in range(4 * size):
                        gates[b * 4 * size + j] = gates[b * 4 * size + j] + X(totals[b * 4 * size + j]) * (scale * scales[j])
            else:
                add_product(gates, 4 * size, state, size, weights, 4 * size, end - begin, size, 4 * size)
            for b in range(begin, end):
                length = min(lengths[b], steps)
                if s >= length:
                    continue
                t = length - 1 - s if REVERSE else s
                base = (t * batch + b) * size
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
                    every[base + j] = h[j]
    return 0
