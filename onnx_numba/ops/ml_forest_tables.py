"""A forest as the arrays that `onnx_numba.templates.trees.score_forest` reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnx_numba.ops.ml_forest import LEAF, LESS, MEMBER, Forest, distinct
from onnx_numba.templates.trees import GROUP, LANES

Array = np.ndarray[Any, Any]

LEAF_BITS = {"i4": 22, "i8": 51}
"""Bits of a NaN that may hold a leaf's number, by the type of its bits."""


# ---- columns


@dataclass(frozen=True)
class Columns:
    """What tests read: a feature, or a feature with NaN replaced by what passes the test."""

    keys: Array

    @classmethod
    def of(cls, features: Array, missing: Array) -> Columns:
        """The columns of some tests."""
        used = distinct(2 * features + missing)
        return cls(used if len(used) else np.zeros(1, np.int64))

    def number(self, features: Array, missing: Array) -> Array:
        """Numbers of the columns of some tests."""
        return np.searchsorted(self.keys, 2 * features + missing)


# ---- tests of trees with few leaves


@dataclass(frozen=True)
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
    """The child whose leaves a test removes: ``v <= t`` when it fails, ``v == t`` when it holds."""
    return np.where(forest.kind == MEMBER, forest.no, forest.yes)


def kept(forest: Forest) -> Array:
    """The other child."""
    return np.where(forest.kind == MEMBER, forest.yes, forest.no)


@dataclass(frozen=True)
class Tests:
    """Tests by tree, kind and word, as arrays that start with one entry per test."""

    first_group: Array
    words: Array
    thresholds: Array
    places: Array
    keeps: Array


def tests(forest: Forest, columns: Columns, leaves: Spans, nodes: Array, bits: int) -> Tests:
    """The tests of nodes with leaves in words of some bits."""
    node, threshold, equal, plain = _single_tests(forest, nodes)
    column = columns.number(forest.feature[node], np.where(plain, False, forest.missing[node]))
    child = removed(forest)[node]
    begin, end = leaves.start[child], leaves.start[child] + leaves.count[child]
    spread = (end - 1) // bits - begin // bits + 1
    test = np.repeat(np.arange(len(node)), spread)
    word = begin[test] // bits + np.arange(len(test)) - np.repeat(np.cumsum(spread) - spread, spread)
    low = np.maximum(begin[test] - word * bits, 0).astype(np.uint64)
    high = np.minimum(end[test] - word * bits, bits).astype(np.uint64)
    mask = (~np.uint64(0) >> (np.uint64(64) - (high - low))) << low
    run = (2 * leaves.tree[node[test]] + equal[test]) * (word.max(initial=0) + 1) + word
    order = np.argsort(run, kind="stable")
    test, word, mask, run = test[order], word[order], mask[order], run[order]
    runs, first, length = np.unique(run, return_index=True, return_counts=True)
    groups = -(-length // GROUP)
    slot = np.arange(len(run)) + np.repeat((np.cumsum(groups) - groups) * GROUP - first, length)
    total = int(groups.sum()) * GROUP
    keeps = np.full(total, ~np.uint64(0), np.uint64)
    keeps[slot] = ~mask
    filled = np.full(total, np.inf, threshold.dtype), np.zeros(total, np.int32)
    filled[0][slot], filled[1][slot] = threshold[test], column[test] * LANES
    span = int(word.max(initial=0)) + 1
    per = np.bincount(np.repeat(runs // span, groups), minlength=2 * len(forest.roots))
    kind = f"u{bits // 8}"
    return Tests(
        np.concatenate([[0], np.cumsum(per)]).astype(np.int32), (np.repeat(runs % span, groups) * LANES).astype(np.int32), *filled,
        keeps.astype(kind).view(kind.replace("u", "i")),
    )  # fmt: skip


def _single_tests(forest: Forest, nodes: Array) -> tuple[Array, Array, Array, Array]:
    """Nodes, thresholds, whether equality removes, and whether NaN stays: one row per threshold of nodes."""
    less = nodes[forest.kind[nodes] == LESS]
    sets = nodes[forest.kind[nodes] == MEMBER]
    sizes = [len(forest.sets[k]) for k in sets.tolist()]
    members = np.concatenate([forest.threshold[:0], *(forest.sets[k] for k in sets.tolist())])
    lost = sets[forest.missing[sets]]  # removes for NaN, which alone fails v <= infinity
    node = np.concatenate([less, np.repeat(sets, sizes), lost])
    threshold = np.concatenate([forest.threshold[less], members, np.full(len(lost), np.inf, forest.threshold.dtype)])
    position = np.arange(len(node))
    equal = (position >= len(less)) & (position < len(less) + len(members))
    return node, threshold, equal, position >= len(less)


# ---- nodes


@dataclass(frozen=True)
class Nodes:
    """Nodes as records.

    Attributes
    ----------
    records : array
        Two numbers a node: the threshold, and the distance to its children, shifted by ``column_bits``, with its column.
    roots : array
        Position of each tree's root.
    column_bits : int
    """

    records: Array
    roots: Array
    column_bits: int


def only_less(forest: Forest) -> Forest:
    """The same forest with sets as searches by ``v <= t``; nodes may then hang on several others."""
    if not forest.sets:
        return forest
    added = _Added(len(forest.kind), [], [], [], [])
    thresholds, yes, no, missing = forest.threshold.copy(), forest.yes.copy(), forest.no.copy(), forest.missing.copy()
    for k, members in forest.sets.items():
        borders, outcomes = _borders(members, int(yes[k]), int(no[k]))
        start = added.search(int(forest.feature[k]), borders, outcomes)
        if forest.missing[k]:
            thresholds[k], yes[k], no[k] = np.inf, start, yes[k]
        else:  # nothing passes v <= NaN
            thresholds[k], yes[k], no[k] = np.nan, start, start
    missing[list(forest.sets)] = False
    more = len(added.feature)
    return replace(
        forest, sets={}, missing=np.concatenate([missing, np.zeros(more, bool)]),
        kind=np.concatenate([np.where(forest.kind == MEMBER, LESS, forest.kind), np.full(more, LESS)]),
        feature=np.concatenate([forest.feature, np.array(added.feature, np.int64)]),
        threshold=np.concatenate([thresholds, np.array(added.threshold, thresholds.dtype)]),
        yes=np.concatenate([yes, np.array(added.yes, np.int64)]), no=np.concatenate([no, np.array(added.no, np.int64)]),
        first=np.concatenate([forest.first, np.full(more, forest.first[-1])]),
    ).without_idle_tests()  # fmt: skip


@dataclass
class _Added:
    """Tests that are added to a forest of ``size`` nodes."""

    size: int
    feature: list[int]
    threshold: list[float]
    yes: list[int]
    no: list[int]

    def search(self, feature: int, borders: Array, outcomes: list[int]) -> int:
        """The node that decides which of some outcomes it is: its border and those before it are below a number, or not."""
        if not len(borders):
            return outcomes[0]
        middle = len(borders) // 2
        yes = self.search(feature, borders[:middle], outcomes[: middle + 1])
        no = self.search(feature, borders[middle + 1 :], outcomes[middle + 1 :])
        for column, value in ((self.feature, feature), (self.threshold, borders[middle]), (self.yes, yes), (self.no, no)):
            column.append(value)
        return self.size + len(self.feature) - 1


def _borders(members: Array, yes: int, no: int) -> tuple[Array, list[int]]:
    """Numbers that part the line, in order, and the outcome of every part; each part ends with its border."""
    if not len(members):
        return members, [no]
    before = np.nextafter(members, members.dtype.type(-np.inf))
    pairs = np.stack([before, members], 1).reshape(-1)
    inside = np.zeros(len(pairs) + 1, bool)
    inside[1:-1:2] = True
    if np.isneginf(members[0]):
        pairs, inside = pairs[1:], inside[1:]
    empty = np.flatnonzero(pairs[1:] == pairs[:-1])  # members that are neighbours leave nothing between them
    drop = np.concatenate([empty, empty + 1])
    return np.delete(pairs, drop), [yes if one else no for one in np.delete(inside, drop + 1)]


def nodes(forest: Forest, columns: Columns, number: Array) -> Nodes:
    """Records of a forest's nodes, of which the leaves have numbers; each pair of children is followed by what lies below it."""
    forest = only_less(forest)
    levels = forest.levels
    inner = np.concatenate([level[forest.kind[level] == LESS] for level in levels] or [np.zeros(0, np.int64)])
    pairs, end, tops = _pair_places(forest, levels)
    roots = tops[: len(forest.roots)]
    place = np.concatenate([roots, pairs[inner], pairs[inner] + 1])
    node = np.concatenate([forest.roots, forest.no[inner], forest.yes[inner]])
    leaf = forest.kind[node] == LEAF
    distance = np.where(leaf, 0, pairs[node] - place)
    column = np.where(leaf, 0, columns.number(forest.feature[node], forest.missing[node]))
    column_bits = int(len(columns.keys) - 1).bit_length()
    reach = int(np.abs(distance).max(initial=0)) + 1
    most = int(number.max(initial=0))
    small = forest.threshold.dtype == np.float32
    if small and (reach.bit_length() + column_bits > 31 or most >= 1 << LEAF_BITS["i4"]):
        small = False
    real, whole = (np.float32, np.int32) if small else (np.float64, np.int64)
    bits = LEAF_BITS[np.dtype(whole).str[1:]]
    records = np.zeros((max(end, 1), 2), whole)
    records[:, 0] = np.full(1, np.nan, real).view(whole)
    thresholds = forest.threshold[node].astype(real).view(whole)
    quiet = records[0, 0] >> bits << bits
    records[place, 0] = np.where(leaf, quiet | number[forest_leaf(number, node)], thresholds)
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
        inner = level[forest.kind[level] == LESS]
        owner[forest.no[inner]] = inner
        owner[forest.yes[inner]] = inner
    below = np.zeros(size, np.int64)
    for level in reversed(levels):
        inner = level[forest.kind[level] == LESS]
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
        inner = level[forest.kind[level] == LESS]
        no, yes = forest.no[inner], forest.yes[inner]
        mine = owner[no] == inner
        pairs[no[mine]] = pairs[inner[mine]] + 2
        after = pairs[inner] + 2 + np.where(mine & (no != yes), below[no], 0)
        mine = (owner[yes] == inner) & (no != yes)
        pairs[yes[mine]] = after[mine]
    return pairs, int(length.sum()), tops
