"""The recurrences of RNN, GRU and LSTM along time.

``X`` is the element type; ``F``, ``G``, ``H`` are activations ``name(v, alpha, beta)`` with parameters ``FA``, ``FB`` …;
with ``REVERSE`` time runs backward, as it does in a second direction; ``CLIP`` bounds what activations of gates are given, the cell is
not clipped. What the input of each step contributes is in the first buffer, biases included.

A work unit is a few sequences of the batch in one direction, which take each step together, also those that have ended, whose gates nobody
looks at; and it is some of the state's units, in panels of ``width``. Either it is all of them, and the work unit takes all steps, or it
is one panel, and a round of the call is one step, for all panels need the whole state of the step before. That lies in ``states``, which
has one of even steps and one of odd steps. R has the columns of a panel together, see `onnx_numba.ops.rnn.panelled`.

Dims are: steps, sequences, state's units; sequences of a work unit, directions, groups of sequences, groups of panels; width of a
panel, panels of a group; steps of a round, the round's number.
"""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def rnn(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """``h = F(x + h R)``; buffers: x, R, h0, lengths, then all h, the last one and the states."""
    inputs = X_p(bufs, 0)
    matrices = X_p(bufs, 1)
    firsts = X_p(bufs, 2)
    lengths = i64_p(bufs, 3)
    every = X_p(bufs, 4)
    lasts = X_p(bufs, 5)
    states = X_p(bufs, 6)
    steps, batch, size = dims[0], dims[1], dims[2]
    rows, ways, blocks, groups = dims[3], dims[4], dims[5], dims[6]
    width, panels, span, turn = dims[7], dims[8], dims[9], dims[10]
    gates = X_scratch(ctx, 0)
    for unit in range(lo, hi):
        rest = udiv(unit, groups)
        initial = (unit - rest * groups) * panels
        final = initial + panels
        left = initial * width
        right = min(final * width, size)
        way = udiv(rest, blocks)
        backward = REVERSE or way == 1
        begin = (rest - way * blocks) * rows
        end = min(begin + rows, batch)
        given = X_at(inputs, way * steps * batch * size)
        weights = X_at(matrices, way * groups * panels * width * size)
        first = X_at(firsts, way * batch * size)
        last = X_at(lasts, way * batch * size)
        longest = longest_of(lengths, begin, end, steps)
        if turn == 0:
            begin_states(last, first, begin, end, left, right, size)
            clear_ended(X_at(every, way * batch * size), ways * batch * size, lengths, begin, end, steps, left, right, size)
        for s in range(turn * span, min(turn * span + span, longest)):
            source = first if s == 0 else X_at(states, ((s & 1) * ways + way) * batch * size)
            target = X_at(states, (((s + 1) & 1) * ways + way) * batch * size)
            for panel in range(initial, final):
                j0 = panel * width
                columns = min(width, size - j0)
                row_product(gates, width, X_at(source, begin * size), size, X_at(weights, j0 * size), width, end - begin, size, width)
                for b in range(begin, end):
                    length = min(lengths[b], steps)
                    if s >= length:
                        continue
                    t = length - 1 - s if backward else s
                    base = (t * batch + b) * size + j0
                    place = ((t * ways + way) * batch + b) * size + j0
                    line = X_at(gates, (b - begin) * width)
                    after = X_at(target, b * size + j0)
                    for j in range(columns):
                        apart()
                        after[j] = F(max_(min_(given[base + j] + line[j], X(CLIP)), X(-CLIP)), X(FA), X(FB))
                        every[place + j] = after[j]
                    if s == length - 1:
                        for j in range(columns):
                            last[b * size + j0 + j] = after[j]
    return 0


def gru(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Gates z, r and candidate h; buffers: x, R, h0, lengths, perhaps R's bias of the candidate, then all h, the last one and the states.

    Unless ``LINEAR`` the candidate is of the whole state multiplied by r, and where a step is shared it takes two rounds. Behind the states
    lie z and r, or what r and the state make.
    """
    inputs = X_p(bufs, 0)
    matrices = X_p(bufs, 1)
    firsts = X_p(bufs, 2)
    lengths = i64_p(bufs, 3)
    if INNER:
        inners = X_p(bufs, INNERS)
    every = X_p(bufs, EVERY)
    lasts = X_p(bufs, LAST)
    states = X_p(bufs, STATES)
    steps, batch, size = dims[0], dims[1], dims[2]
    rows, ways, blocks, groups = dims[3], dims[4], dims[5], dims[6]
    width, panels, span, turn = dims[7], dims[8], dims[9], dims[10]
    gates = X_scratch(ctx, 0)
    candidates = X_at(gates, rows * 2 * width)
    halves = groups > 1 and not LINEAR
    start = turn >> 1 if halves else turn * span
    gating = not halves or turn & 1 == 0
    ending = not halves or turn & 1 == 1
    for unit in range(lo, hi):
        rest = udiv(unit, groups)
        initial = (unit - rest * groups) * panels
        final = initial + panels
        left = initial * width
        right = min(final * width, size)
        way = udiv(rest, blocks)
        backward = REVERSE or way == 1
        begin = (rest - way * blocks) * rows
        end = min(begin + rows, batch)
        given = X_at(inputs, way * steps * batch * 3 * size)
        weights = X_at(matrices, way * groups * panels * width * 3 * size)
        first = X_at(firsts, way * batch * size)
        last = X_at(lasts, way * batch * size)
        update = X_at(states, (2 * ways + way) * batch * size)
        reset = X_at(states, (3 * ways + way) * batch * size)
        if INNER:
            inner = X_at(inners, way * size)
        longest = longest_of(lengths, begin, end, steps)
        if turn == 0:
            begin_states(last, first, begin, end, left, right, size)
            clear_ended(X_at(every, way * batch * size), ways * batch * size, lengths, begin, end, steps, left, right, size)
        for s in range(start, min(start + span, longest)):
            source = first if s == 0 else X_at(states, ((s & 1) * ways + way) * batch * size)
            target = X_at(states, (((s + 1) & 1) * ways + way) * batch * size)
            state = X_at(source, begin * size)
            for panel in range(initial, final if gating else initial):
                j0 = panel * width
                columns = min(width, size - j0)
                row_product(gates, 2 * width, state, size, X_at(weights, 3 * j0 * size), 3 * width, end - begin, size, 2 * width)
                for b in range(begin, end):
                    length = min(lengths[b], steps)
                    if s >= length:
                        continue
                    t = length - 1 - s if backward else s
                    base = (t * batch + b) * 3 * size + j0
                    line = X_at(gates, (b - begin) * 2 * width)
                    z = X_at(update, b * size + j0)
                    r = X_at(reset, b * size + j0)
                    before = X_at(source, b * size + j0)
                    for j in range(columns):
                        apart()
                        z[j] = F(max_(min_(given[base + j] + line[j], X(CLIP)), X(-CLIP)), X(FA), X(FB))
                        gate = F(max_(min_(given[base + size + j] + line[width + j], X(CLIP)), X(-CLIP)), X(FA), X(FB))
                        r[j] = gate if LINEAR else gate * before[j]
            if not LINEAR:
                state = X_at(reset, begin * size)
            for panel in range(initial, final if ending else initial):
                j0 = panel * width
                columns = min(width, size - j0)
                matrix = X_at(weights, 3 * j0 * size + 2 * width)
                row_product(candidates, width, state, size, matrix, 3 * width, end - begin, size, width)
                for b in range(begin, end):
                    length = min(lengths[b], steps)
                    if s >= length:
                        continue
                    t = length - 1 - s if backward else s
                    base = (t * batch + b) * 3 * size + 2 * size + j0
                    place = ((t * ways + way) * batch + b) * size + j0
                    candidate = X_at(candidates, (b - begin) * width)
                    z = X_at(update, b * size + j0)
                    r = X_at(reset, b * size + j0)
                    before = X_at(source, b * size + j0)
                    after = X_at(target, b * size + j0)
                    for j in range(columns):
                        apart()
                        total = candidate[j]
                        if INNER:
                            total = inner[j0 + j] + total
                        total = r[j] * total if LINEAR else total
                        total = max_(min_(total + given[base + j], X(CLIP)), X(-CLIP))
                        after[j] = (X(1.0) - z[j]) * G(total, X(GA), X(GB)) + z[j] * before[j]
                        every[place + j] = after[j]
                    if s == length - 1:
                        for j in range(columns):
                            last[b * size + j0 + j] = after[j]
    return 0


def lstm(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Gates i, o, f and candidate c; buffers: x, R, h0, lengths, c0, perhaps peepholes, then all h, the last h, the last c and the states.

    With ``QUANTISED`` h is quantised to bytes at every step, in the scale of all its sequences together, which then are one work unit.
    R has bytes with a sign, in words as `word_product` takes them. Buffers before the results are, per column of R, its scale, its zero
    point c, and the sum of its bytes less c: ``sum((h - z) * (R - c)) == sum(h * R) - z * sum(R - c) - c * sum(h)``.
    """
    inputs = X_p(bufs, 0)
    matrices = W_p(bufs, 1)
    firsts = X_p(bufs, 2)
    lengths = i64_p(bufs, 3)
    first_cells = X_p(bufs, 4)
    if PEEPHOLES:
        peeps = X_p(bufs, PEEPS)
    every = X_p(bufs, EVERY)
    lasts = X_p(bufs, LAST)
    last_cells = X_p(bufs, LAST_CELL)
    states = X_p(bufs, STATES)
    steps, batch, size = dims[0], dims[1], dims[2]
    rows, ways, blocks, groups = dims[3], dims[4], dims[5], dims[6]
    width, panels, span, turn = dims[7], dims[8], dims[9], dims[10]
    gates = X_scratch(ctx, 0)
    extent = groups * panels * width * 4 * size
    if QUANTISED:
        all_scales = X_p(bufs, SCALES)
        all_zeros = i32_p(bufs, ZEROS)
        all_totals = i32_p(bufs, TOTALS)
        pitch = udiv(4 * size + PANEL - 1, PANEL) * PANEL
        words = udiv(size + 3, 4)
        extent = pitch * words
        sums = i32_at(gates, 4 * rows * size)
        levels = i32_at(sums, rows * pitch)
    for unit in range(lo, hi):
        rest = udiv(unit, groups)
        initial = (unit - rest * groups) * panels
        final = initial + panels
        left = initial * width
        right = min(final * width, size)
        way = udiv(rest, blocks)
        backward = REVERSE or way == 1
        begin = (rest - way * blocks) * rows
        end = min(begin + rows, batch)
        given = X_at(inputs, way * steps * batch * 4 * size)
        weights = W_at(matrices, way * extent)
        first = X_at(firsts, way * batch * size)
        last = X_at(lasts, way * batch * size)
        first_cell = X_at(first_cells, way * batch * size)
        last_cell = X_at(last_cells, way * batch * size)
        if QUANTISED:
            scales = X_at(all_scales, way * 4 * size)
            zeros = i32_at(all_zeros, way * 4 * size)
            totals = i32_at(all_totals, way * 4 * size)
        longest = longest_of(lengths, begin, end, steps)
        if turn == 0:
            begin_states(last, first, begin, end, left, right, size)
            begin_states(last_cell, first_cell, begin, end, left, right, size)
            clear_ended(X_at(every, way * batch * size), ways * batch * size, lengths, begin, end, steps, left, right, size)
        for s in range(turn * span, min(turn * span + span, longest)):
            source = first if s == 0 else X_at(states, ((s & 1) * ways + way) * batch * size)
            target = X_at(states, (((s + 1) & 1) * ways + way) * batch * size)
            state = X_at(source, begin * size)
            for panel in range(initial, final):
                j0 = panel * width
                columns = min(width, size - j0)
                if QUANTISED:
                    low = X(0.0)
                    high = X(0.0)
                    for b in range(begin, end):
                        if s <= lengths[b]:  # also of sequences that have just ended
                            for j in range(size):
                                low = acc_min(low, source[b * size + j])
                                high = acc_max(high, source[b * size + j])
                    scale = X(1.0) if low == high else (high - low) / X(255.0)
                    zero = max_(min_(rint(-low / scale), X(255.0)), X(0.0))
                    for b in range(end - begin):
                        line = u8_at(levels, 4 * b * words)
                        for j in range(size):
                            level = max_(min_(rint(state[b * size + j] / scale) + zero, X(255.0)), X(0.0))
                            line[j] = u8(bits_of(level + X(WHOLE)))
                    word_product(0, 1, sums, levels, words, weights, end - begin, words, 4 * size)
                    for b in range(end - begin):
                        line = u8_at(levels, 4 * b * words)
                        total = i32(0)
                        for j in range(size):
                            total = acc_add(total, i32(line[j]))
                        for j in range(4 * size):
                            product = sums[b * pitch + j] - i32(zero) * totals[j] - total * zeros[j]
                            gates[b * 4 * size + j] = X(i32(product)) * (scale * scales[j])
                else:
                    row_product(gates, 4 * width, state, size, X_at(weights, 4 * j0 * size), 4 * width, end - begin, size, 4 * width)
                for b in range(begin, end):
                    length = min(lengths[b], steps)
                    if s >= length:
                        continue
                    t = length - 1 - s if backward else s
                    place = ((t * ways + way) * batch + b) * size + j0
                    base = (t * batch + b) * 4 * size + j0
                    line = X_at(gates, (b - begin) * 4 * width)
                    c = X_at(last_cell, b * size + j0)
                    after = X_at(target, b * size + j0)
                    if PEEPHOLES:
                        peep = X_at(peeps, way * 3 * size + j0)
                    for j in range(columns):
                        apart()
                        held = c[j]
                        enter = given[base + j] + line[j]
                        leave = given[base + size + j] + line[width + j]
                        keep = given[base + 2 * size + j] + line[2 * width + j]
                        candidate = given[base + 3 * size + j] + line[3 * width + j]
                        if PEEPHOLES:
                            enter = enter + peep[j] * held
                            keep = keep + peep[2 * size + j] * held
                        enter = F(max_(min_(enter, X(CLIP)), X(-CLIP)), X(FA), X(FB))
                        keep = X(1.0) - enter if COUPLED else F(max_(min_(keep, X(CLIP)), X(-CLIP)), X(FA), X(FB))
                        now = keep * held + enter * G(max_(min_(candidate, X(CLIP)), X(-CLIP)), X(GA), X(GB))
                        if PEEPHOLES:
                            leave = leave + peep[size + j] * now
                        c[j] = now
                        after[j] = F(max_(min_(leave, X(CLIP)), X(-CLIP)), X(FA), X(FB)) * H(now, X(HA), X(HB))
                        every[place + j] = after[j]
                    if s == length - 1:
                        for j in range(columns):
                            last[b * size + j0 + j] = after[j]
    return 0
