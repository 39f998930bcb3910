"""Walking forests of decision trees.

A node is four int32 numbers: feature, node if its test holds, node if not, and a word that is ``2 * mode + missing`` in an inner
node and the number of the leaf in a leaf. A leaf is its own successor, so that eight walks can go on side by side until none
moves: each waits for memory at every step, and these waits overlap. They are walks of neighbouring rows through one tree, or
of few rows through neighbouring trees.
"""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any

ROWS = 64
"""Rows of a work unit: they pass through a tree one after the other while it is in the cache."""


def walk_forest(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """What all trees say of every row, as one number per target.

    Buffers are the rows, nodes, thresholds, roots, the first entry of every leaf (and the end), targets and weights of entries;
    then the results and whether a target got any weight. Dims are the numbers of rows, features, trees and targets; a work unit
    is `ROWS` rows. ``AGGREGATE`` is 0 for sums, 1 for minima, 2 for maxima; ``MODE`` is the test of all nodes or -1 if they
    differ (0 <=, 1 <, 2 >=, 3 >, 4 ==, 5 !=); ``MISSING`` says whether NaN passes some tests.
    """
    x = X_p(bufs, 0)
    nodes = i32_p(bufs, 1)
    thresholds = X_p(bufs, 2)
    roots = i32_p(bufs, 3)
    first = i32_p(bufs, 4)
    targets = i32_p(bufs, 5)
    weights = X_p(bufs, 6)
    y = X_p(bufs, 7)
    seen = bool_p(bufs, 8)
    n_rows = dims[0]
    n_features = dims[1]
    n_trees = dims[2]
    n_targets = dims[3]
    ats = i64_local(8)
    bases = i64_local(8)
    for unit in range(lo, hi):
        start = unit * 64
        count = min(n_rows - start, 64)
        for i in range(start * n_targets, (start + count) * n_targets):
            y[i] = X(0)
            seen[i] = bool_(0)
        # Counting along is cheaper than a division per walk, which takes as long as two of its steps.
        pairs = n_trees * count
        tree = i64(0)
        begun = i64(0)
        ended = i64(0)
        for group in range(0, pairs, 8):
            for j in range(8):
                ats[j] = i64(roots[tree])
                bases[j] = (start + begun) * n_features
                if group + j + 1 < pairs:  # the last walk fills up its group
                    begun += 1
                    if begun == count:
                        begun = i64(0)
                        tree += 1
            moved = i64(1)
            while moved != 0:
                moved = i64(0)
                for j in range(8):
                    at = ats[j]
                    v = x[bases[j] + nodes[4 * at]]
                    t = thresholds[at]
                    word = nodes[4 * at + 3]
                    mode = word // 2 if MODE < 0 else MODE
                    if mode == 0:
                        passes = v <= t
                    elif mode == 1:
                        passes = v < t
                    elif mode == 2:
                        passes = v >= t
                    elif mode == 3:
                        passes = v > t
                    elif mode == 4:
                        passes = v == t
                    else:
                        passes = v != t
                    if MISSING and v != v and word % 2 == 1:
                        passes = True
                    following = i64(select(passes, nodes[4 * at + 1], nodes[4 * at + 2]))
                    moved = moved | (following ^ at)
                    ats[j] = following
            for j in range(min(8, pairs - group)):
                leaf = i64(nodes[4 * ats[j] + 3])
                row = (start + ended) * n_targets
                ended += 1
                if ended == count:
                    ended = i64(0)
                for k in range(i64(first[leaf]), i64(first[leaf + 1])):
                    place = row + targets[k]
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
    return 0
