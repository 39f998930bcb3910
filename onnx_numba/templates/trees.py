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

Both add up the leaves' weights in the order of the trees, row by row: results do not depend on the way, nor on threads. Their steps are
functions of `onnx_numba.native.forest`.
"""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any

MOST_WORDS = 8
"""Words of bits that a tree may have, each for as many leaves as it has bits."""


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
            place = r * n_columns if few else udiv(r, 64) * 64 * n_columns + urem(r, 64)
            lay_row(block, place, 1 if few else 64, x, (start + min(r, count - 1)) * n_features, columns, n_numbers)
        if SETS:
            # A group is a column for a block of rows, or of few rows a column for one.
            n_codes = n_columns - n_numbers
            for group in range((count if few else blocks) * n_codes):
                whole = udiv(group, n_codes)
                c = urem(group, n_codes)
                begin = i64(first_member[c])
                end = i64(first_member[c + 1])
                feature = code_features[c]
                if few:
                    v = x[(start + whole) * n_features + feature]
                    M_at(block, whole * n_columns + n_numbers + c)[0] = code_of(v, members, begin, end, M(1))
                else:
                    for j in range(64):
                        held[j] = x[(start + min(whole * 64 + j, count - 1)) * n_features + feature]
                    code_rows(M_at(block, (whole * n_columns + n_numbers + c) * 64), held, members, begin, end, M(1))
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
            codes = M_at(values, 0)
            if TESTS and not few:
                tree = first_tree
                split = i64(first_group[2 * tree + 1])
                n_words = udiv(first_leaf[tree + 1] - first_leaf[tree] + BITS - 1, BITS)
                all_alive(alive, n_words)
                narrow_by_numbers(alive, word_places, values, places, thresholds, keeps, i64(first_group[2 * tree]), split)
                narrow_by_sets(alive, word_places, codes, places, masks, keeps, split, i64(first_group[2 * tree + 2]))
                first_alive(at, alive, n_words, i64(first_leaf[tree]), BITS)
            else:
                for j in range(lanes):
                    at[j] = roots[first_tree + j] if few else roots[first_tree]
                if few:
                    step_down(at, lanes, values, codes, nodes, words, column_bits, n_numbers, SETS, 1, 0, most_steps)
                else:
                    step_down(at, lanes, values, codes, nodes, words, column_bits, n_numbers, SETS, 64, 1, most_steps)
                for j in range(lanes):
                    at[j] = i32(words[2 * i64(at[j])] & LEAF)
                    through_indices()
            if REGULAR and not few:
                entry = i64(entries[first_tree])
                for k in range(width):
                    total = X_at(sums, (part * n_targets + entry // 2 + k) * 64)
                    for j in range(lanes):
                        total[j] = fold_weight(total[j], weights[i64(at[j]) * width + k], entry % 2 == 1, AGGREGATE)
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
                        sums[place] = fold_weight(sums[place], weights[i64(at[j]) * width + k], entry % 2 == 1, AGGREGATE)
            else:
                for j in range(lanes if few else min(64, count - part * 64)):
                    row = start + (whole if few else part * 64 + j)
                    leaf = i64(at[j])
                    for k in range(i64(entries[leaf]), i64(entries[leaf + 1])):
                        place = row * n_targets + targets[k]
                        y[place] = fold_weight(y[place], weights[k], not seen[place], AGGREGATE)
                        seen[place] = bool_(1)
        if REGULAR:
            for r in range(count):
                for k in range(n_targets):
                    y[(start + r) * n_targets + k] = sums[(udiv(r, 64) * n_targets + k) * 64 + urem(r, 64)]
        start += count
    return 0
