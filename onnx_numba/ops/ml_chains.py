"""Chains of tests that lead to the same outcome, as one test of a set.

Exporters that have no sets write one as a chain, and what follows once per member:

    v == 1 ? A : v == 5 ? A : v == 9 ? A : B        becomes  v in {1, 5, 9} ? A : B
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from onnx_numba.ops.ml_forest import LEAF, LESS, MEMBER, Forest

Array = np.ndarray[Any, Any]


def joined(forest: Forest) -> Forest:
    """The forest without tests that decide nothing, and with each chain of tests for the same outcome as one test."""
    forest = forest.without_idle_tests()
    if not forest.sets:
        return forest
    no, sets = forest.no.copy(), dict(forest.sets)
    tests = np.fromiter(sets, np.int64, len(sets))
    after = no[tests]
    same = (forest.kind[after] == MEMBER) & (forest.feature[after] == forest.feature[tests]) & (forest.parents[after] == 1)
    tests, after = tests[same], after[same]
    same = _alike(forest, forest.yes[tests], forest.yes[after])
    following = dict(zip(tests[same].tolist(), after[same].tolist(), strict=True))
    for head in following.keys() - set(following.values()):
        chain = [head]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        sets[head] = np.unique(np.concatenate([sets[k] for k in chain]))
        no[head] = no[chain[-1]]
    made = replace(forest, no=no)
    return replace(made, sets={k: members for k, members in sets.items() if made.reached[k]})


def _alike(forest: Forest, one: Array, other: Array) -> Array:
    """Which pairs of nodes are equal with all that lies below them."""
    numbers: dict[bytes, int] = {}
    of_set = np.full(len(forest.kind), -1)
    for node, members in forest.sets.items():
        of_set[node] = numbers.setdefault(members.tobytes(), len(numbers))
    threshold = np.where(forest.kind == LESS, forest.threshold, 0).view(f"i{forest.threshold.itemsize}")
    size = np.diff(forest.first)
    columns = (forest.kind, forest.feature, threshold, forest.missing, of_set, size)
    alike = np.ones(len(one), bool)
    pairs = np.stack([np.arange(len(one)), one, other])
    for _ in forest.levels:  # as many as a walk may take steps
        pairs = pairs[:, alike[pairs[0]] & (pairs[1] != pairs[2])]
        place, one, other = np.unique(pairs, axis=1)
        equal = np.all([column[one] == column[other] for column in columns], axis=0)
        equal &= _same_weights(forest, one, other, np.where(equal, size[one], 0))
        alike[place[~equal]] = False
        inner = forest.kind[one] != LEAF
        place, one, other = place[inner], one[inner], other[inner]
        pairs = np.concatenate([[place, forest.yes[one], forest.yes[other]], [place, forest.no[one], forest.no[other]]], axis=1)
    return alike


def _same_weights(forest: Forest, one: Array, other: Array, size: Array) -> Array:
    """Which pairs of nodes have the same entries, of which both have so many."""
    pair = np.repeat(np.arange(len(size)), size)
    place = np.arange(len(pair)) - np.repeat(np.cumsum(size) - size, size)
    a, b = forest.first[one][pair] + place, forest.first[other][pair] + place
    bits = forest.weights.view(f"i{forest.weights.itemsize}")
    different = (forest.targets[a] != forest.targets[b]) | (bits[a] != bits[b])
    return np.bincount(pair[different], minlength=len(size)) == 0
