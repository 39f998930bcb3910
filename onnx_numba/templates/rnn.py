"""The recurrences of RNN, GRU and LSTM along time, one direction; a work unit is one sequence of the batch.

``X`` is the element type; ``F``, ``G``, ``H`` are activations ``name(v, alpha, beta)`` with parameters ``FA``, ``FB`` …;
with ``REVERSE`` time runs backward; ``CLIP`` bounds what activations of gates are given, the cell is not clipped. What the input
of each step contributes is in the first buffer, biases included, R is transposed. The state lies in the last outputs while it runs.
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
    for b in range(lo, hi):
        h = X_at(last, b * size)
        for j in range(size):
            h[j] = first[b * size + j]
        length = max(min(lengths[b], steps), 0)
        for s in range(length, steps):
            for j in range(size):
                every[(s * batch + b) * size + j] = X(0.0)
        for s in range(length):
            t = length - 1 - s if REVERSE else s
            base = (t * batch + b) * size
            for j in range(size):
                gates[j] = given[base + j]
            for k in range(0, size - 3, 4):
                row0 = X_at(weights, k * size)
                h0 = h[k]
                row1 = X_at(weights, (k + 1) * size)
                h1 = h[k + 1]
                row2 = X_at(weights, (k + 2) * size)
                h2 = h[k + 2]
                row3 = X_at(weights, (k + 3) * size)
                h3 = h[k + 3]
                for j in range(size):
                    gates[j] = fma(h3, row3[j], fma(h2, row2[j], fma(h1, row1[j], fma(h0, row0[j], gates[j]))))
            for k in range(size - size % 4, size):
                for j in range(size):
                    gates[j] = fma(h[k], weights[k * size + j], gates[j])
            for j in range(size):
                h[j] = F(max_(min_(gates[j], X(CLIP)), X(-CLIP)), X(FA), X(FB))
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
    candidate = X_at(gates, 2 * size)
    kept = X_at(gates, 3 * size)
    for b in range(lo, hi):
        h = X_at(last, b * size)
        for j in range(size):
            h[j] = first[b * size + j]
        length = max(min(lengths[b], steps), 0)
        for s in range(length, steps):
            for j in range(size):
                every[(s * batch + b) * size + j] = X(0.0)
        for s in range(length):
            t = length - 1 - s if REVERSE else s
            base = (t * batch + b) * size
            for j in range(2 * size):
                gates[j] = given[3 * base + j]
            for k in range(0, size - 3, 4):
                row0 = X_at(weights, k * 3 * size)
                h0 = h[k]
                row1 = X_at(weights, (k + 1) * 3 * size)
                h1 = h[k + 1]
                row2 = X_at(weights, (k + 2) * 3 * size)
                h2 = h[k + 2]
                row3 = X_at(weights, (k + 3) * 3 * size)
                h3 = h[k + 3]
                for j in range(2 * size):
                    gates[j] = fma(h3, row3[j], fma(h2, row2[j], fma(h1, row1[j], fma(h0, row0[j], gates[j]))))
            for k in range(size - size % 4, size):
                for j in range(2 * size):
                    gates[j] = fma(h[k], weights[k * 3 * size + j], gates[j])
            for j in range(2 * size):
                gates[j] = F(max_(min_(gates[j], X(CLIP)), X(-CLIP)), X(FA), X(FB))
            for j in range(size):
                kept[j] = h[j] if LINEAR else gates[size + j] * h[j]
            for j in range(size):
                candidate[j] = inner[j]
            for k in range(0, size - 3, 4):
                row0 = X_at(weights, k * 3 * size + 2 * size)
                h0 = kept[k]
                row1 = X_at(weights, (k + 1) * 3 * size + 2 * size)
                h1 = kept[k + 1]
                row2 = X_at(weights, (k + 2) * 3 * size + 2 * size)
                h2 = kept[k + 2]
                row3 = X_at(weights, (k + 3) * 3 * size + 2 * size)
                h3 = kept[k + 3]
                for j in range(size):
                    candidate[j] = fma(h3, row3[j], fma(h2, row2[j], fma(h1, row1[j], fma(h0, row0[j], candidate[j]))))
            for k in range(size - size % 4, size):
                for j in range(size):
                    candidate[j] = fma(kept[k], weights[k * 3 * size + 2 * size + j], candidate[j])
            for j in range(size):
                total = gates[size + j] * candidate[j] if LINEAR else candidate[j]
                total = max_(min_(total + given[3 * base + 2 * size + j], X(CLIP)), X(-CLIP))
                h[j] = (X(1.0) - gates[j]) * G(total, X(GA), X(GB)) + gates[j] * h[j]
                every[base + j] = h[j]
    return 0


def lstm(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Gates i, o, f and candidate c; buffers: x, R, h0, lengths, c0, peepholes, R's scales, then all h, the last h and the last c.

    With ``QUANTISED`` R has whole numbers of 8 bits and a sign, and h is quantised to such at every step, in the scale of all its
    sequences together, which then are one work unit: a unit has ``dims[3]`` of them. Their products are added up as floats,
    ``CHUNK`` at a time, which is exact while that is at most 256 for float32.
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
    gates = X_scratch(ctx, 32 * size)
    sums = X_at(gates, 4 * size)
    levels = X_at(sums, 4 * size)
    scale = X(0.0)
    zero = X(0.0)
    for unit in range(lo, hi):
        longest = 0
        for b in range(unit * rows, (unit + 1) * rows):
            for j in range(size):
                last[b * size + j] = first[b * size + j]
                last_cell[b * size + j] = first_cell[b * size + j]
            length = max(min(lengths[b], steps), 0)
            longest = max(longest, length)
            for s in range(length, steps):
                for j in range(size):
                    every[(s * batch + b) * size + j] = X(0.0)
        for s in range(longest):
            if QUANTISED:
                low = X(0.0)
                high = X(0.0)
                for b in range(unit * rows, (unit + 1) * rows):
                    if s <= lengths[b]:  # also of sequences that have just ended
                        for j in range(size):
                            low = min_(low, last[b * size + j])
                            high = max_(high, last[b * size + j])
                scale = X(1.0) if low == high else (high - low) / X(255.0)
                zero = max_(min_(rint(-low / scale), X(255.0)), X(0.0))
            for b in range(unit * rows, (unit + 1) * rows):
                length = min(lengths[b], steps)
                if s >= length:
                    continue
                h = X_at(last, b * size)
                c = X_at(last_cell, b * size)
                t = length - 1 - s if REVERSE else s
                base = (t * batch + b) * size
                for j in range(4 * size):
                    gates[j] = given[4 * base + j]
                if QUANTISED:
                    for k in range(size):
                        levels[k] = max_(min_(rint(h[k] / scale) + zero, X(255.0)), X(0.0)) - zero
                    for j in range(4 * size):
                        totals[j] = f64(0.0)
                state = levels if QUANTISED else h
                target = sums if QUANTISED else gates
                for start in range(0, size, CHUNK):
                    stop = min(start + CHUNK, size)
                    if QUANTISED:
                        for j in range(4 * size):
                            sums[j] = X(0.0)
                    for k in range(start, stop - 3, 4):
                        row0 = X_at(weights, k * 4 * size)
                        h0 = state[k]
                        row1 = X_at(weights, (k + 1) * 4 * size)
                        h1 = state[k + 1]
                        row2 = X_at(weights, (k + 2) * 4 * size)
                        h2 = state[k + 2]
                        row3 = X_at(weights, (k + 3) * 4 * size)
                        h3 = state[k + 3]
                        for j in range(4 * size):
                            target[j] = fma(h3, row3[j], fma(h2, row2[j], fma(h1, row1[j], fma(h0, row0[j], target[j]))))
                    for k in range(stop - (stop - start) % 4, stop):
                        for j in range(4 * size):
                            target[j] = fma(state[k], weights[k * 4 * size + j], target[j])
                    if QUANTISED:
                        for j in range(4 * size):
                            totals[j] = totals[j] + f64(sums[j])
                if QUANTISED:
                    for j in range(4 * size):
                        gates[j] = gates[j] + X(totals[j]) * (scale * scales[j])
                for j in range(size):
                    before = c[j]
                    gate = max_(min_(gates[j] + peep[j] * before, X(CLIP)), X(-CLIP))
                    enter = F(gate, X(FA), X(FB))
                    gate = max_(min_(gates[2 * size + j] + peep[2 * size + j] * before, X(CLIP)), X(-CLIP))
                    keep = X(1.0) - enter if COUPLED else F(gate, X(FA), X(FB))
                    gate = max_(min_(gates[3 * size + j], X(CLIP)), X(-CLIP))
                    after = keep * before + enter * G(gate, X(GA), X(GB))
                    gate = max_(min_(gates[size + j] + peep[size + j] * after, X(CLIP)), X(-CLIP))
                    c[j] = after
                    h[j] = F(gate, X(FA), X(FB)) * H(after, X(HA), X(HB))
                    every[base + j] = h[j]
    return 0
