"""What forests of decision trees say of rows.

Every test is ``v <= t``, or whether ``v`` is in a set: `onnx_numba.ops.ml_forest` brings the others to these forms. A unit of rows is
first laid out column by column, 64 rows side by side, NaN replaced in those columns whose tests it passes, and what sets test coded
as words of bits, so that membership is ``code & mask != 0`` (see `onnx_numba.ops.ml_codes`). Then there are two ways down the trees:

* *By tests* (trees of few leaves, many rows). All tests of a tree are made, and each with the one outcome clears the bits of the
  leaves below its other child; the first bit that is left is the leaf (QuickScorer, Lucchese et al. 2015). Rows are the lanes of
  vectors, so there is no branch and no load through an index but of the leaf's weight.
* *By steps*. A node is 8 bytes (16 for float64): the threshold or mask, and a word with its column and how far away its pair of
  children lies, of which the second is taken if the test holds. A leaf is its own successor, so that 64 walks go on side by side until none
  moves, or could, and their waits for memory overlap: walks of 64 rows through one tree, or of a multiple of 16 in the last block, or
  where fewer rows are left, of one row through 64 trees.

Both add up the leaves' weights in the order of the trees, row by row: results do not depend on the way, nor on threads.
"""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any

LANES = 64
"""Rows side by side."""
MOST_WORDS = 8
"""Words of bits that a tree may have, each for as many leaves as it has bits."""
GROUP = 4
"""Tests that are made in one pass over the rows."""


def score_forest(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """What all trees say of every row, as one number per target.

    Buffers are the rows; per column of numbers ``2 * feature + replaced``; per column of codes its feature, and its first member (and
    the end); members; nodes; per tree its root; for tests per tree the first group of those by ``<=`` and of those of sets, per group
    the place of its word, per test threshold or mask, place of its column and the bits it keeps; per tree its first leaf; then
    weights: if ``REGULAR``, per tree ``2 * target + first`` (first of this target), nothing, and the same number per leaf; else the
    first entry of every leaf (and the end), targets and weights of entries. Results are scores and, unless ``REGULAR``, whether a
    target got any weight. Dims are the numbers of rows, features, columns of numbers and of codes, trees, targets, weights per leaf,
    rows at a time, bits of a column's number in a node, and steps to the deepest leaf. ``AGGREGATE`` is 0 for sums, 1 for minima, 2 for
    maxima; ``SINGLE`` is for sums of one weight per leaf; a unit is ``UNIT`` rows; ``TESTS`` says whether there are tests, which fewer
    than 16 rows at a time do not use, ``SETS`` whether there are codes; words are of type ``M`` with ``BITS`` bits, nodes of types ``R``
    and ``N``, in which a leaf's number are the bits ``LEAF``.
    """
    x = X_p(bufs, 0)
    columns = i32_p(bufs, 1)
    code_features = i32_p(bufs, 2)
    first_member = i32_p(bufs, 3)
    members = X_p(bufs, 4)
    nodes = R_p(bufs, 5)
    words = N_p(bufs, 5)
    roots = i32_p(bufs, 6)
    first_group = i32_p(bufs, 7)
    word_places = i32_p(bufs, 8)
    thresholds = X_p(bufs, 9)
    masks = M_p(bufs, 9)
    places = i32_p(bufs, 10)
    keeps = M_p(bufs, 11)
    first_leaf = i32_p(bufs, 12)
    entries = i32_p(bufs, 13)
    targets = i32_p(bufs, 14)
    weights = X_p(bufs, 15)
    y = X_p(bufs, 16)
    seen = bool_p(bufs, 17)
    n_rows = dims[0]
    n_features = dims[1]
    n_numbers = dims[2]
    n_columns = dims[2] + dims[3]
    n_trees = dims[4]
    n_targets = dims[5]
    width = dims[6]
    most_rows = dims[7]
    column_bits = dims[8]
    column_mask = (1 << column_bits) - 1
    most_steps = dims[9]
    block = X_scratch(ctx, 0)
    sums = X_at(block, most_rows * n_columns)
    at = i32_local(64)
    alive = M_local(512)
    held = X_local(64)
    end_row = min(n_rows, hi * UNIT)
    start = lo * UNIT
    while start < end_row:  # a range would divide
        count = min(end_row - start, most_rows)
        few = count < 16
        if not TESTS and not few and urem(count, 16) <= 8:
            count -= urem(count, 16)  # a few rows are left for the next round
        blocks = 1 if few else udiv(count + 63, 64)
        laid = count if few else blocks * 64 if TESTS else udiv(count + 15, 16) * 16
        for r in range(laid):
            row = (start + min(r, count - 1)) * n_features
            place = r * n_columns if few else udiv(r, 64) * 64 * n_columns + urem(r, 64)
            for c in range(n_numbers):
                column = i64(columns[c])
                v = x[row + column // 2]
                if v != v and column % 2 == 1:
                    v = X(-inf)
                block[place] = v
                place += 1 if few else 64
        if SETS:
            # A group is a column for a block of rows, or of few rows a column for one.
            n_codes = n_columns - n_numbers
            for group in range((count if few else blocks) * n_codes):
                whole = udiv(group, n_codes)
                c = urem(group, n_codes)
                begin = i64(first_member[c])
                end = i64(first_member[c + 1])
                last = members[end - 1]
                if few:
                    v = x[(start + whole) * n_features + code_features[c]]
                    code = M(0)
                    for k in range(begin, end):
                        code = ior(code, select(v == members[k], shl(M(1), M(k - begin)), M(0)))
                    if last != last and v != v:
                        code = shl(M(1), M(end - 1 - begin))
                    M_at(block, whole * n_columns + n_numbers + c)[0] = code
                else:
                    codes = M_at(block, (whole * n_columns + n_numbers + c) * 64)
                    for j in range(64):
                        held[j] = x[(start + min(whole * 64 + j, count - 1)) * n_features + code_features[c]]
                        codes[j] = select(last != last and held[j] != held[j], shl(M(1), M(end - 1 - begin)), M(0))
                    for k in range(begin, end):
                        member = members[k]
                        bit = shl(M(1), M(k - begin))
                        for j in range(64):
                            codes[j] = select(held[j] == member, ior(codes[j], bit), codes[j])
        if REGULAR:
            for k in range(blocks * 64 * n_targets):
                sums[k] = X(0)
        else:
            for k in range(start * n_targets, (start + count) * n_targets):
                y[k] = X(0)
                seen[k] = bool_(0)
        # A group is one tree for a block of rows, or of few rows one row for 64 trees.
        per = udiv(n_trees + 63, 64) if few else blocks
        for group in range(count * per if few else n_trees * per):
            whole = udiv(group, per)
            part = urem(group, per)
            first_tree = part * 64 if few else whole
            values = X_at(block, whole * n_columns if few else part * 64 * n_columns)
            lanes = min(64, n_trees - first_tree) if few else 64 if TESTS else min(64, laid - part * 64)
            if TESTS and not few:
                tree = first_tree
                end = i64(first_group[2 * tree + 2])
                split = i64(first_group[2 * tree + 1])
                n_words = udiv(first_leaf[tree + 1] - first_leaf[tree] + BITS - 1, BITS)
                for k in range(64 * n_words):
                    alive[k] = M(-1)
                for g in range(i64(first_group[2 * tree]), split):
                    alive_here = M_at(alive, word_places[g])
                    v0 = X_at(values, places[4 * g])
                    v1 = X_at(values, places[4 * g + 1])
                    v2 = X_at(values, places[4 * g + 2])
                    v3 = X_at(values, places[4 * g + 3])
                    t0 = thresholds[4 * g]
                    t1 = thresholds[4 * g + 1]
                    t2 = thresholds[4 * g + 2]
                    t3 = thresholds[4 * g + 3]
                    keep0 = keeps[4 * g]
                    keep1 = keeps[4 * g + 1]
                    keep2 = keeps[4 * g + 2]
                    keep3 = keeps[4 * g + 3]
                    for j in range(64):
                        bits = alive_here[j]
                        bits = select(v0[j] <= t0, bits, iand(bits, keep0))
                        bits = select(v1[j] <= t1, bits, iand(bits, keep1))
                        bits = select(v2[j] <= t2, bits, iand(bits, keep2))
                        alive_here[j] = select(v3[j] <= t3, bits, iand(bits, keep3))
                for g in range(split, end):
                    alive_here = M_at(alive, word_places[g])
                    c0 = M_at(values, places[4 * g])
                    c1 = M_at(values, places[4 * g + 1])
                    c2 = M_at(values, places[4 * g + 2])
                    c3 = M_at(values, places[4 * g + 3])
                    mask0 = masks[4 * g]
                    mask1 = masks[4 * g + 1]
                    mask2 = masks[4 * g + 2]
                    mask3 = masks[4 * g + 3]
                    keep0 = keeps[4 * g]
                    keep1 = keeps[4 * g + 1]
                    keep2 = keeps[4 * g + 2]
                    keep3 = keeps[4 * g + 3]
                    for j in range(64):
                        bits = alive_here[j]
                        bits = select(iand(c0[j], mask0) == M(0), bits, iand(bits, keep0))
                        bits = select(iand(c1[j], mask1) == M(0), bits, iand(bits, keep1))
                        bits = select(iand(c2[j], mask2) == M(0), bits, iand(bits, keep2))
                        alive_here[j] = select(iand(c3[j], mask3) == M(0), bits, iand(bits, keep3))
                leaf = i64(first_leaf[tree])
                for k in range(n_words - 1, -1, -1):
                    alive_here = M_at(alive, 64 * k)
                    base = i32(leaf + k * BITS)
                    for j in range(64):
                        bits = alive_here[j]
                        at[j] = select(bits != M(0), iadd(base, i32(trailing_zeros(bits))), at[j])
            else:
                for j in range(lanes):
                    at[j] = roots[first_tree + j] if few else roots[first_tree]
                moved = i32(1)
                steps = 0
                while moved != 0 and steps < most_steps:
                    moved = i32(0)
                    steps += 1
                    if few:
                        for j in range(lanes):
                            node = at[j]
                            word = words[2 * i64(node) + 1]
                            column = word & column_mask
                            holds = values[column] <= nodes[2 * i64(node)]
                            if SETS:
                                member = iand(N(M_at(values, 0)[column]), words[2 * i64(node)]) != N(0)
                                holds = select(column < n_numbers, holds, member)
                            step = i32((word >> column_bits) + holds)
                            at[j] = iadd(node, step)
                            moved = ior(moved, step)
                            through_indices()
                    else:
                        for j in range(lanes):
                            node = at[j]
                            word = words[2 * i64(node) + 1]
                            column = word & column_mask
                            holds = values[(column << 6) + j] <= nodes[2 * i64(node)]
                            if SETS:
                                member = iand(N(M_at(values, 0)[(column << 6) + j]), words[2 * i64(node)]) != N(0)
                                holds = select(column < n_numbers, holds, member)
                            step = i32((word >> column_bits) + holds)
                            at[j] = iadd(node, step)
                            moved = ior(moved, step)
                            through_indices()
                for j in range(lanes):
                    at[j] = i32(words[2 * i64(at[j])] & LEAF)
                    through_indices()
            if REGULAR and not few:
                entry = i64(entries[first_tree])
                for k in range(width):
                    total = X_at(sums, (part * n_targets + entry // 2 + k) * 64)
                    if AGGREGATE == 0:
                        for j in range(lanes):
                            total[j] = X(total[j] + weights[i64(at[j]) * width + k])
                    else:
                        for j in range(lanes):
                            w = weights[i64(at[j]) * width + k]
                            better = w < total[j] if AGGREGATE == 1 else w > total[j]
                            total[j] = w if better or entry % 2 == 1 else total[j]
            elif SINGLE:
                # A sum that goes to memory and back for every tree takes three times as long.
                place = i64(entries[first_tree]) // 2 * 64 + whole
                total = sums[place]
                for j in range(lanes):
                    other = i64(entries[first_tree + j]) // 2 * 64 + whole
                    if other != place:
                        sums[place] = total
                        place = other
                        total = sums[place]
                    total = X(total + weights[i64(at[j])])
                sums[place] = total
            elif REGULAR:
                for j in range(lanes):
                    entry = i64(entries[first_tree + j])
                    for k in range(width):
                        place = (entry // 2 + k) * 64 + whole
                        w = weights[i64(at[j]) * width + k]
                        if AGGREGATE == 0:
                            sums[place] = X(sums[place] + w)
                        elif entry % 2 == 1:
                            sums[place] = w
                        elif AGGREGATE == 1:
                            sums[place] = w if w < sums[place] else sums[place]
                        else:
                            sums[place] = w if w > sums[place] else sums[place]
            else:
                for j in range(lanes if few else min(64, count - part * 64)):
                    row = start + (whole if few else part * 64 + j)
                    leaf = i64(at[j])
                    for k in range(i64(entries[leaf]), i64(entries[leaf + 1])):
                        place = row * n_targets + targets[k]
                        w = weights[k]
                        if AGGREGATE == 0:
                            y[place] = X(y[place] + w)
                        elif not seen[place]:
                            y[place] = w
                        elif AGGREGATE == 1:
                            y[place] = w if w < y[place] else y[place]
                        else:
                            y[place] = w if w > y[place] else y[place]
                        seen[place] = bool_(1)
        if REGULAR:
            for r in range(count):
                for k in range(n_targets):
                    y[(start + r) * n_targets + k] = sums[(udiv(r, 64) * n_targets + k) * 64 + urem(r, 64)]
        start += count
    return 0
