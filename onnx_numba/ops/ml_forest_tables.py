"""A forest as the arrays that `onnx_numba.templates.trees.score_forest` reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.native.forest import GROUP, LANES
from onnx_numba.ops.ml_codes import Codes
from onnx_numba.ops.ml_forest import LEAF, LESS, MEMBER, Forest, distinct
from onnx_numba.ops.ml_steps import Steps
from onnx_numba.record import record

Array = np.ndarray[Any, Any]

LEAF_BITS = {"i4": 22, "i8": 51}
"""Bits of a NaN that may hold a leaf's number, by the type of its bits."""


# ---- columns


@record
class Columns:
    """What tests read: a feature, a feature with NaN replaced by what passes the test, or, after these, a word of a code.

    Attributes
    ----------
    keys : array
        Per column of numbers ``2 * feature + replaced``.
    words : int
        How many columns are words.
    """

    keys: Array
    words: int

    @classmethod
    def of(cls, forest: Forest, words: int) -> Columns:
        """The columns of a forest's tests."""
        less = forest.inner[forest.kind[forest.inner] == LESS]
        used = distinct(2 * forest.feature[less] + forest.missing[less])
        return cls(used if len(used) else np.zeros(1, np.int64), words)

    def __len__(self) -> int:
        return len(self.keys) + self.words

    def number(self, forest: Forest, less: Array) -> Array:
        """Numbers of the columns that some nodes compare."""
        return np.searchsorted(self.keys, 2 * forest.feature[less] + forest.missing[less])

    def of_word(self, word: Array) -> Array:
        """Numbers of the columns that are some words."""
        return len(self.keys) + word


# ---- tests of trees with few leaves


@record
class Spans:
    """Leaves of trees in order: those below a node are side by side.

    Attributes
    ----------
    tree, start, count : array
        Per node its tree, the first leaf below it (within its tree) and how many there are.
    """

    tree: Array
    start: Array
    count: Array


def spans(forest: Forest, levels: list[Array]) -> Spans:
    """The leaves below every node of a forest in which a node hangs on one other; of a test's children, the one it removes is first."""
    size = len(forest.kind)
    count, start, tree = np.ones(size, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64)
    first, second = removed(forest), kept(forest)
    for level in reversed(levels):
        inner = level[forest.kind[level] != LEAF]
        count[inner] = count[first[inner]] + count[second[inner]]
    tree[forest.roots] = np.arange(len(forest.roots))
    for level in levels:
        inner = level[forest.kind[level] != LEAF]
        start[first[inner]], start[second[inner]] = start[inner], start[inner] + count[first[inner]]
        tree[first[inner]] = tree[second[inner]] = tree[inner]
    return Spans(tree, start, count)


def removed(forest: Forest) -> Array:
    """The child whose leaves a test removes: ``v <= t`` when it fails, one of a set when it holds."""
    return np.where(forest.kind == MEMBER, forest.no, forest.yes)


def kept(forest: Forest) -> Array:
    """The other child."""
    return np.where(forest.kind == MEMBER, forest.yes, forest.no)


@record
class Tests:
    """Tests by tree, kind and word of leaves, as arrays that start with one entry per test; operands are bits, of numbers or masks."""

    first_group: Array
    words: Array
    operands: Array
    places: Array
    keeps: Array


def tests(forest: Forest, columns: Columns, codes: Codes, leaves: Spans) -> Tests:
    """The tests of a forest whose sets all have codes; leaves are in words of as many bits."""
    bits = codes.bits
    less = forest.inner[forest.kind[forest.inner] == LESS]
    node = np.concatenate([less, codes.node])
    member = np.arange(len(node)) >= len(less)
    thresholds = forest.threshold[less].view(f"u{bits // 8}").astype(np.uint64)
    operand = np.concatenate([thresholds, codes.mask])
    column = np.concatenate([columns.number(forest, less), columns.of_word(codes.word)])
    child = removed(forest)[node]
    begin, end = leaves.start[child], leaves.start[child] + leaves.count[child]
    spread = (end - 1) // bits - begin // bits + 1
    test = np.repeat(np.arange(len(node)), spread)
    word = begin[test] // bits + np.arange(len(test)) - np.repeat(np.cumsum(spread) - spread, spread)
    low = np.maximum(begin[test] - word * bits, 0).astype(np.uint64)
    high = np.minimum(end[test] - word * bits, bits).astype(np.uint64)
    mask = (~np.uint64(0) >> (np.uint64(64) - (high - low))) << low
    run = (2 * leaves.tree[node[test]] + member[test]) * (word.max(initial=0) + 1) + word
    order = np.argsort(run, kind="stable")
    test, word, mask, run = test[order], word[order], mask[order], run[order]
    runs, first, length = np.unique(run, return_index=True, return_counts=True)
    groups = -(-length // GROUP)
    slot = np.arange(len(run)) + np.repeat((np.cumsum(groups) - groups) * GROUP - first, length)
    total = int(groups.sum()) * GROUP
    keeps = np.full(total, ~np.uint64(0), np.uint64)
    keeps[slot] = ~mask
    filled = np.zeros(total, np.uint64), np.zeros(total, np.int32)
    filled[0][slot], filled[1][slot] = operand[test], column[test] * LANES
    span = int(word.max(initial=0)) + 1
    per = np.bincount(np.repeat(runs // span, groups), minlength=2 * len(forest.roots))
    return Tests(
        np.concatenate([[0], np.cumsum(per)]).astype(np.int32), (np.repeat(runs % span, groups) * LANES).astype(np.int32),
        _words(filled[0], bits), filled[1], _words(keeps, bits),
    )  # fmt: skip


def _words(values: Array, bits: int) -> Array:
    """The lowest bits as signed integers."""
    return values.astype(f"u{bits // 8}").view(f"i{bits // 8}")


# ---- nodes


@record
class Nodes:
    """Nodes as records.

    Attributes
    ----------
    records : array
        Two numbers a node: the threshold or mask, and the distance to its children, shifted by ``column_bits``, with its column.
    roots : array
        Position of each tree's root.
    column_bits : int
    """

    records: Array
    roots: Array
    column_bits: int


def nodes(steps: Steps, columns: Columns, number: Array) -> Nodes:
    """Records of a forest's nodes, of which the leaves have numbers; each pair of children is followed by what lies below it."""
    forest = steps.forest
    levels = forest.levels
    inner = np.concatenate([level[forest.kind[level] != LEAF] for level in levels] or [np.zeros(0, np.int64)])
    pairs, end, tops = _pair_places(forest, levels)
    roots = tops[: len(forest.roots)]
    place = np.concatenate([roots, pairs[inner], pairs[inner] + 1])
    node = np.concatenate([forest.roots, forest.no[inner], forest.yes[inner]])
    leaf = forest.kind[node] == LEAF
    distance = np.where(leaf, 0, pairs[node] - place)
    member = forest.kind[node] == MEMBER
    column = np.where(member, columns.of_word(steps.word[node]), np.where(leaf, 0, columns.number(forest, node)))
    column_bits = int(len(columns) - 1).bit_length()
    reach = int(np.abs(distance).max(initial=0)) + 1
    most = int(number.max(initial=0))
    small = forest.threshold.dtype == np.float32
    if small and (reach.bit_length() + column_bits > 31 or most >= 1 << LEAF_BITS["i4"]):
        small = False
    real, whole = (np.float32, np.int32) if small else (np.float64, np.int64)
    bits = LEAF_BITS[np.dtype(whole).str[1:]]
    records = np.zeros((max(end, 1), 2), whole)
    records[:, 0] = np.full(1, np.nan, real).view(whole)
    operands = np.where(member, steps.mask[node].astype(whole), forest.threshold[node].astype(real).view(whole))
    quiet = records[0, 0] >> bits << bits
    records[place, 0] = np.where(leaf, quiet | number[forest_leaf(number, node)], operands)
    records[place, 1] = (distance << column_bits) | column
    return Nodes(records.reshape(-1), roots.astype(np.int32), column_bits)


def forest_leaf(number: Array, node: Array) -> Array:
    """Positions in ``number``, which knows no nodes that were added."""
    return np.minimum(node, len(number) - 1)


def _pair_places(forest: Forest, levels: list[Array]) -> tuple[Array, int, Array]:
    """Where the children of every test lie, where records end, and where the roots lie."""
    size = len(forest.kind)
    owner = np.full(size, -1)
    for level in levels:
        inner = level[forest.kind[level] != LEAF]
        owner[forest.no[inner]] = inner
        owner[forest.yes[inner]] = inner
    below = np.zeros(size, np.int64)
    for level in reversed(levels):
        inner = level[forest.kind[level] != LEAF]
        for child in (forest.no[inner], forest.yes[inner]):
            below[inner] += np.where(owner[child] == inner, below[child], 0)
        same = (forest.no[inner] == forest.yes[inner]) & (owner[forest.no[inner]] == inner)
        below[inner] -= np.where(same, below[forest.no[inner]], 0)
        below[inner] += 2
    free = owner[forest.roots] < 0
    unique = np.zeros(len(free), bool)
    unique[np.unique(forest.roots, return_index=True)[1]] = True
    free &= unique
    length = 2 + np.where(free, below[forest.roots], 0)  # a root and a gap, so that no pair lies on two cache lines
    tops = np.cumsum(length) - length
    pairs = np.zeros(size, np.int64)
    pairs[forest.roots[free]] = tops[free] + 2
    for level in levels:
        inner = level[forest.kind[level] != LEAF]
        no, yes = forest.no[inner], forest.yes[inner]
        mine = owner[no] == inner
        pairs[no[mine]] = pairs[inner[mine]] + 2
        after = pairs[inner] + 2 + np.where(mine & (no != yes), below[no], 0)
        mine = (owner[yes] == inner) & (no != yes)
        pairs[yes[mine]] = after[mine]
    return pairs, int(length.sum()), tops
