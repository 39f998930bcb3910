"""Forests of decision trees in one form, whichever attributes they come from.

Tests are ``v <= t`` or membership in a set; the others become these, which for floats is exact:

    v < t   is  v <= the float before t        v >= t  is  not v < t
    v > t   is  not v <= t                     v == t  is  membership in {t}

A *missing* test of ``v <= t`` also holds for NaN; a set has NaN as a member then. Everything here is arrays over nodes: a forest
has millions of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from onnx_numba.errors import ModelError
from onnx_numba.record import record

Array = np.ndarray[Any, Any]

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
"""Tests by number; the same numbers as in TreeEnsemble of version 5."""
_LEQ, _LT, _GTE, _GT, _EQ, _NEQ, _MEMBER = range(7)
LEAF, LESS, MEMBER = 0, 1, 2
"""Kinds of nodes."""


@record
class Forest:
    """Nodes of all trees.

    Attributes
    ----------
    kind, feature, threshold, yes, no, missing : array
        Per node, as far as they apply to its kind; ``yes`` and ``no`` are positions of nodes.
    sets : dict
        Members by node, in order; NaN, as the last, is in a set that it passes.
    roots : array
        Positions of nodes.
    first, targets, weights : array
        Node k has the entries from ``first[k]`` to ``first[k + 1]`` if it is a leaf, else none.
    """

    kind: Array
    feature: Array
    threshold: Array
    yes: Array
    no: Array
    missing: Array
    sets: dict[int, Array]
    roots: Array
    first: Array
    targets: Array
    weights: Array

    @cached_property
    def inner(self) -> Array:
        """Positions of the nodes below the roots that test."""
        return np.flatnonzero(self.reached & (self.kind != LEAF))

    @cached_property
    def given(self) -> set[int]:
        """Targets that some leaf has a weight for."""
        return set(np.unique(self.targets).tolist())

    def always(self, target: int) -> bool:
        """Whether every walk gives the target a weight: some tree has one for it in all its leaves."""
        has = np.zeros(len(self.kind), bool)
        has[np.repeat(np.arange(len(self.kind)), np.diff(self.first))[self.targets == target]] = True
        for level in reversed(self.levels):
            inner = level[self.kind[level] != LEAF]
            has[inner] = has[self.yes[inner]] & has[self.no[inner]]
        return bool(has[self.roots].any())

    @cached_property
    def parents(self) -> Array:
        """How many nodes below the roots, or trees, every node hangs on."""
        inner = self.inner
        return np.bincount(np.concatenate([self.yes[inner], self.no[inner], self.roots]), minlength=len(self.kind))

    @cached_property
    def levels(self) -> list[Array]:
        """The nodes below the roots, each after all that it hangs on."""
        left = self.parents - np.bincount(self.roots, minlength=len(self.kind))
        found: list[Array] = []
        room = np.zeros(len(self.kind), np.int64)
        level = _distinct(self.roots[left[self.roots] == 0], room)
        while len(level):
            found.append(level)
            below = self._below(level)
            np.subtract.at(left, below, 1)
            level = _distinct(below[left[below] == 0], room)
        if sum(map(len, found)) < self.reached.sum():
            raise ModelError("a node of a tree lies below itself")
        return found

    def without_idle_tests(self) -> Forest:
        """The forest without tests that have the same outcome either way."""
        position = np.arange(len(self.kind))
        target = np.where((self.kind != LEAF) & (self.yes == self.no), self.yes, position)
        for _ in range(len(position).bit_length()):
            target = target[target]
        return replace(self, yes=target[self.yes], no=target[self.no], roots=target[self.roots])

    @cached_property
    def reached(self) -> Array:
        """Which nodes are below the roots."""
        reached = np.zeros(len(self.kind), bool)
        room = np.zeros(len(self.kind), np.int64)
        level = _distinct(self.roots, room)
        while len(level):
            reached[level] = True
            below = self._below(level)
            level = _distinct(below[~reached[below]], room)
        return reached

    def _below(self, level: Array) -> Array:
        inner = level[self.kind[level] != LEAF]
        return np.concatenate([self.yes[inner], self.no[inner]])


def _distinct(positions: Array, room: Array) -> Array:
    """Positions without repetition; ``room`` has a number for each that there may be."""
    order = np.arange(len(positions))
    room[positions] = order
    return positions[room[positions] == order]


def by_tree(
    tree_ids: Sequence[int], node_ids: Sequence[int], features: Sequence[int], modes: Sequence[str], thresholds: Sequence[float],
    yes: Sequence[int], no: Sequence[int], missing: Sequence[int] | None, weights: Sequence[Sequence[Any]], dtype: Any,
) -> Forest:  # fmt: skip
    """A forest from parallel lists; ``weights`` are lists of trees, nodes, targets and weights."""
    numbers = {mode: k for k, mode in enumerate(MODES)} | {"LEAF": -1}
    unknown = set(modes) - numbers.keys()
    if unknown:
        raise ModelError(f"unknown node mode {unknown.pop()!r}")
    count = len(tree_ids)
    given = (node_ids, features, modes, thresholds, yes, no, *([missing] if missing else []))
    if any(len(values) != count for values in given) or len(set(map(len, weights))) > 1:
        raise ModelError("attributes of the trees have different lengths")
    mode = np.fromiter((numbers[m] for m in modes), np.int64, count)
    trees, nodes = np.array(tree_ids, np.int64), np.array(node_ids, np.int64)
    place = _Places(trees, nodes)
    tests = np.flatnonzero(mode >= 0)

    def children(numbers_of_children: Sequence[int]) -> Array:
        found = np.zeros(count, np.int64)
        found[tests] = place.of(trees[tests], np.array(numbers_of_children, np.int64)[tests])
        lost = tests[found[tests] < 0]
        if len(lost):
            raise ModelError(f"node {nodes[lost[0]]} of tree {trees[lost[0]]} has a child that does not exist")
        return found

    if_yes, if_no = children(yes), children(no)
    owners = [np.array(column, np.int64) for column in weights[:2]]
    leaves = place.of(*owners)
    if (leaves < 0).any():
        at = int(np.flatnonzero(leaves < 0)[0])
        raise ModelError(f"there is a weight for node {owners[1][at]} of tree {owners[0][at]}, which does not exist")
    free = np.ones(count, bool)
    free[if_yes[tests]] = free[if_no[tests]] = False
    # A tree without a root gives nothing; the others add up in the order in which they first appear.
    numbers_of_trees, appears = np.unique(trees, return_index=True)
    tops = np.flatnonzero(free)
    rooted, first_top = np.unique(trees[tops], return_index=True)
    roots = tops[first_top][np.argsort(appears[np.searchsorted(numbers_of_trees, rooted)])]
    entries = leaves, np.array(weights[2], np.int64), np.array(weights[3], np.float64)
    nan_passes = np.array(missing, np.int64) != 0 if missing else np.zeros(count, bool)
    feature, threshold = np.array(features, np.int64), np.array(thresholds, np.float64)
    return _forest(mode, feature, threshold, if_yes, if_no, nan_passes, {}, roots, entries, dtype)


def distinct(numbers: Array) -> Array:
    """The different numbers, in order."""
    ordered = np.sort(numbers)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


class _Places:
    """Positions of nodes by the numbers of tree and node."""

    def __init__(self, trees: Array, nodes: Array) -> None:
        self.trees, self.nodes = distinct(trees), distinct(nodes)
        keys = self._keys(trees, nodes)
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]
        if (self.keys[1:] == self.keys[:-1]).any():
            raise ModelError("two nodes of a tree have the same number")

    def _keys(self, trees: Array, nodes: Array) -> Array:
        """One number per pair, -1 for numbers that no node has."""
        found = np.zeros(len(trees), np.int64)
        lost = np.zeros(len(trees), bool)
        for known, values in ((self.trees, trees), (self.nodes, nodes)):
            at = np.minimum(np.searchsorted(known, values), len(known) - 1)
            lost |= known[at] != values if len(known) else True
            found = found * len(known) + at
        return np.where(lost, -1, found)

    def of(self, trees: Array, nodes: Array) -> Array:
        """Positions, -1 for nodes that do not exist."""
        keys = self._keys(trees, nodes)
        if not len(self.keys):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.order[at], -1)


def by_leaf(
    roots: Sequence[int], features: Sequence[int], modes: Array, splits: Array, yes: Sequence[int], yes_leaf: Sequence[int],
    no: Sequence[int], no_leaf: Sequence[int], missing: Sequence[int] | None, targets: Sequence[int], weights: Array,
    members: Array | None, dtype: Any,
) -> Forest:  # fmt: skip
    """A forest from lists of inner nodes and lists of leaves."""
    count, leaves = len(features), len(targets)
    mode = modes.reshape(-1).astype(np.int64)
    given = (mode, splits.reshape(-1), yes, yes_leaf, no, no_leaf, *([missing] if missing else []))
    if any(len(values) != count for values in given) or weights.size != leaves:
        raise ModelError("attributes of the trees have different lengths")
    if ((mode < 0) | (mode > _MEMBER)).any():
        raise ModelError(f"unknown node mode {mode[(mode < 0) | (mode > _MEMBER)][0]}")
    none = np.zeros(leaves, np.int64)

    def children(numbers: Sequence[int], is_leaf: Sequence[int]) -> Array:
        child, ends = np.array(numbers, np.int64), np.array(is_leaf, np.int64) != 0
        if ((child < 0) | (child >= np.where(ends, leaves, count))).any():
            raise ModelError("a node of a tree has a child that does not exist")
        return np.concatenate([child + np.where(ends, count, 0), none])

    tops = np.array(roots, np.int64)
    if ((tops < 0) | (tops >= max(count, 1))).any():
        raise ModelError("a root of a tree does not exist")
    places, sets = np.flatnonzero(mode == _MEMBER), _member_sets(members)
    if len(sets) < len(places):
        raise ModelError(f"{len(places)} nodes test for membership, but there are {len(sets)} sets")
    nan_passes = np.array(missing, np.int64) != 0 if missing else np.zeros(count, bool)
    return _forest(
        np.concatenate([mode, none - 1]), np.concatenate([np.array(features, np.int64), none]),
        np.concatenate([splits.reshape(-1).astype(np.float64), none]), children(yes, yes_leaf), children(no, no_leaf),
        np.concatenate([nan_passes, none != 0]), dict(zip(places.tolist(), sets, strict=False)), tops,
        (np.arange(leaves) + count, np.array(targets, np.int64), weights.reshape(-1).astype(np.float64)), dtype,
    )  # fmt: skip


def _member_sets(members: Array | None) -> list[Array]:
    """Sets that are separated by NaN."""
    values = np.zeros(0) if members is None else members.reshape(-1).astype(np.float64)
    return np.split(values, np.flatnonzero(np.isnan(values)))


def _forest(
    mode: Array, feature: Array, given: Array, yes: Array, no: Array, missing: Array, sets: dict[int, Array], roots: Array,
    entries: tuple[Array, Array, Array], dtype: Any,
) -> Forest:  # fmt: skip
    """The one form; entries are (leaf, target, weight)."""
    given = given.astype(dtype)
    single = (mode == _EQ) | (mode == _NEQ)
    kind = np.where(mode < 0, LEAF, np.where(single | (mode == _MEMBER), MEMBER, LESS))
    swapped = (mode == _GTE) | (mode == _GT) | (mode == _NEQ)
    threshold = _less_thresholds(mode, given)
    # NaN fails every test but !=, which the standard's flag cannot change.
    missing = np.where(mode == _NEQ, False, missing ^ swapped)
    sets = sets | {k: given[k : k + 1] for k in np.flatnonzero(single).tolist()}
    sets = {k: _members(v, dtype, bool(missing[k])) for k, v in sets.items()}
    missing = missing & (kind == LESS)
    # Nothing but NaN passes a missing test of v <= NaN: what fails v <= infinity.
    only_nan = missing & np.isnan(threshold)
    threshold = np.where(only_nan, dtype(np.inf), threshold)
    missing, swapped = missing & ~only_nan, swapped ^ only_nan
    leaf, target, weight = entries
    order = np.argsort(leaf, kind="stable")
    order = order[kind[leaf[order]] == LEAF]
    first = np.concatenate([[0], np.cumsum(np.bincount(leaf[order], minlength=len(kind)))])
    return Forest(
        kind, feature, threshold, np.where(swapped, no, yes), np.where(swapped, yes, no), missing, sets, roots,
        first, target[order], weight[order].astype(dtype),
    )  # fmt: skip


def _less_thresholds(mode: Array, threshold: Array) -> Array:
    """Thresholds of ``v <= t`` that say what tests, or their opposites, say of all numbers but NaN."""
    number = threshold.dtype.type
    with np.errstate(all="ignore"):
        before = np.where(np.isneginf(threshold), number(np.nan), np.nextafter(threshold, number(-np.inf)))
    moved = np.where((mode == _LT) | (mode == _GTE), before, threshold)
    # No number passes v >= NaN and v > NaN, so all pass the opposite.
    return np.where(np.isnan(threshold) & ((mode == _GTE) | (mode == _GT)), number(np.inf), moved)


def _members(values: Array, dtype: Any, missing: bool) -> Array:
    """A set's members in order. A NaN among those given equals nothing; what is missing is one if it passes."""
    converted = values.astype(dtype)
    numbers = np.unique(converted[~np.isnan(converted)])
    return np.append(numbers, dtype(np.nan)) if missing else numbers
