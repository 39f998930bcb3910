"""A forest in which every test is one step: ``v <= t``, or whether a word of a row's code has a bit of a mask.

A set becomes a chain of such tests, one for each word that has members of it, or a search by ``v <= t`` where that takes fewer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnx_numba.ops.ml_codes import Codes
from onnx_numba.ops.ml_forest import LESS, MEMBER, Forest
from onnx_numba.record import record

Array = np.ndarray[Any, Any]


@record
class Steps:
    """The forest, whose nodes may hang on several others.

    Attributes
    ----------
    forest : Forest
        It has no sets.
    word, mask : array
        What its nodes of kind ``MEMBER`` test.
    """

    forest: Forest
    word: Array
    mask: Array


def by_steps(forest: Forest, codes: Codes, coded: Array) -> Steps:
    """The forest with the sets of some nodes as chains of their words, and the others as searches."""
    size = len(forest.kind)
    added = _Added(size)
    kind, threshold, yes, no = forest.kind.copy(), forest.threshold.copy(), forest.yes.copy(), forest.no.copy()
    word, mask = np.zeros(size, np.int64), np.zeros(size, np.uint64)
    starts = np.searchsorted(codes.node, coded)
    ends = np.searchsorted(codes.node, coded, "right")
    word[coded], mask[coded] = codes.word[starts], codes.mask[starts]
    for k, start, end in zip(coded.tolist(), starts.tolist(), ends.tolist(), strict=True):
        for at in range(end - 1, start, -1):
            no[k] = added.member(int(codes.word[at]), int(codes.mask[at]), int(yes[k]), int(no[k]))
    for k in forest.sets.keys() - set(coded.tolist()):
        members = forest.sets[k]
        missing = np.isnan(members[-1:]).any()
        borders, inside = _borders(members[:-1] if missing else members)
        start = added.search(int(forest.feature[k]), borders, [int(yes[k] if one else no[k]) for one in inside])
        kind[k] = LESS
        # Of all there is, NaN alone fails v <= infinity, and nothing passes v <= NaN.
        threshold[k], yes[k], no[k] = (np.inf, start, yes[k]) if missing else (np.nan, start, start)
    more = len(added.kind)
    made = replace(
        forest, sets={}, kind=np.concatenate([kind, np.array(added.kind, kind.dtype)]),
        feature=np.concatenate([forest.feature, np.array(added.feature, np.int64)]),
        threshold=np.concatenate([threshold, np.array(added.threshold, threshold.dtype)]),
        yes=np.concatenate([yes, np.array(added.yes, np.int64)]), no=np.concatenate([no, np.array(added.no, np.int64)]),
        missing=np.concatenate([forest.missing, np.zeros(more, bool)]),
        first=np.concatenate([forest.first, np.full(more, forest.first[-1])]),
    )  # fmt: skip
    word = np.concatenate([word, np.array(added.word, np.int64)])
    return Steps(made.without_idle_tests(), word, np.concatenate([mask, np.array(added.mask, np.uint64)]))


@dataclass
class _Added:
    """Tests that are added to a forest of ``size`` nodes."""

    size: int
    kind: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    word: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)

    def member(self, word: int, mask: int, yes: int, no: int) -> int:
        """The node that tests a word."""
        return self._add(MEMBER, 0, 0.0, word, mask, yes, no)

    def search(self, feature: int, borders: Array, outcomes: list[int]) -> int:
        """The node that decides which of some outcomes it is: its border and those before it are below a number, or not."""
        if not len(borders):
            return outcomes[0]
        middle = len(borders) // 2
        yes = self.search(feature, borders[:middle], outcomes[: middle + 1])
        no = self.search(feature, borders[middle + 1 :], outcomes[middle + 1 :])
        return self._add(LESS, feature, float(borders[middle]), 0, 0, yes, no)

    def _add(self, *row: Any) -> int:
        columns: tuple[list[Any], ...] = (self.kind, self.feature, self.threshold, self.word, self.mask, self.yes, self.no)
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        return self.size + len(self.kind) - 1


def _borders(members: Array) -> tuple[Array, Array]:
    """Numbers that part the line, in order, and which parts are the members; each part ends with its border."""
    before = np.nextafter(members, members.dtype.type(-np.inf))
    pairs = np.stack([before, members], 1).reshape(-1)
    inside = np.zeros(len(pairs) + 1, bool)
    inside[1:-1:2] = True
    if len(members) and np.isneginf(members[0]):
        pairs, inside = pairs[1:], inside[1:]
    empty = np.flatnonzero(pairs[1:] == pairs[:-1])  # members that are neighbours leave nothing between them
    drop = np.concatenate([empty, empty + 1])
    return np.delete(pairs, drop), np.delete(inside, drop + 1)
