"""Forests of decision trees in one form, whichever attributes they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_numba.errors import ModelError
from onnx_numba.ir import dims as d
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import BOOL, F32, F64, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.templates.trees import ROWS, walk_forest

Array = np.ndarray[Any, Any]

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
"""Tests by number; the same numbers as in TreeEnsemble of version 5."""
LEAF = -1
MEMBER = 6


@dataclass
class Node:
    """A node; ``mode`` is `LEAF` or a test, ``yes`` and ``no`` are positions in the list of nodes."""

    mode: int
    feature: int = 0
    threshold: float = 0.0
    yes: int = 0
    no: int = 0
    missing: bool = False
    weights: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Forest:
    """Nodes of all trees and the positions of the roots."""

    nodes: list[Node]
    roots: list[int]

    def targets(self) -> set[int]:
        """Targets that some leaf has a weight for."""
        return {target for node in self.nodes for target, _ in node.weights}

    def always(self, target: int) -> bool:
        """Whether every walk gives the target a weight: some tree has one for it in all its leaves."""
        return any(all(any(t == target for t, _ in leaf.weights) for leaf in self._leaves(root)) for root in self.roots)

    def _leaves(self, root: int) -> list[Node]:
        return [self.nodes[k] for k in self._reachable(root) if self.nodes[k].mode == LEAF]

    def _reachable(self, root: int) -> list[int]:
        """Positions below a root, each followed by its subtrees: nodes walked together lie close together."""
        order: list[int] = []
        seen: set[int] = set()
        waiting = [root]
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            order.append(at)
            if self.nodes[at].mode != LEAF:
                waiting += [self.nodes[at].no, self.nodes[at].yes]
        return order

    def order(self) -> list[int]:
        """Positions of all nodes in the order in which they are stored."""
        return list(dict.fromkeys(at for root in self.roots for at in self._reachable(root)))


def by_tree(
    tree_ids: Sequence[int], node_ids: Sequence[int], features: Sequence[int], modes: Sequence[str], thresholds: Any,
    yes: Sequence[int], no: Sequence[int], missing: Sequence[int] | None, weights: Sequence[tuple[int, int, int, float]],
) -> Forest:  # fmt: skip
    """A forest from parallel lists; ``weights`` are (tree, node, target, weight)."""
    place = {key: k for k, key in enumerate(zip(tree_ids, node_ids, strict=True))}
    if len(place) < len(tree_ids):
        raise ModelError("two nodes of a tree have the same number")
    nodes: list[Node] = []
    inner: set[int] = set()
    for k, tree in enumerate(tree_ids):
        if modes[k] == "LEAF":
            nodes.append(Node(LEAF))
            continue
        if modes[k] not in MODES:
            raise ModelError(f"unknown node mode {modes[k]!r}")
        children = [place[key] for key in ((tree, yes[k]), (tree, no[k])) if key in place]
        if len(children) < 2:
            raise ModelError(f"node {node_ids[k]} of tree {tree} has a child that does not exist")
        inner.update(children)
        lost = bool(missing[k]) if missing else False
        nodes.append(Node(MODES.index(modes[k]), features[k], float(thresholds[k]), children[0], children[1], lost))
    for tree, number, target, weight in weights:
        at = place.get((tree, number))
        if at is None:
            raise ModelError(f"there is a weight for node {number} of tree {tree}, which does not exist")
        if nodes[at].mode == LEAF:
            nodes[at].weights.append((target, weight))
    roots = {tree: k for k, tree in reversed(list(enumerate(tree_ids))) if k not in inner}
    return Forest(nodes, [roots[tree] for tree in dict.fromkeys(tree_ids) if tree in roots])


def by_leaf(
    roots: Sequence[int], features: Sequence[int], modes: Array, splits: Array, yes: Sequence[int], yes_leaf: Sequence[int],
    no: Sequence[int], no_leaf: Sequence[int], missing: Sequence[int] | None, targets: Sequence[int], weights: Array,
    members: Array | None,
) -> Forest:  # fmt: skip
    """A forest from lists of inner nodes and lists of leaves; tests for membership become chains of comparisons."""
    count = len(features)
    nodes = [Node(LEAF) for _ in range(count)]
    nodes += [Node(LEAF, weights=[(int(t), float(w))]) for t, w in zip(targets, weights.reshape(-1), strict=True)]
    sets = iter(_member_sets(members))
    for k in range(count):
        mode, lost = int(modes.reshape(-1)[k]), bool(missing[k]) if missing else False
        children = yes[k] + (count if yes_leaf[k] else 0), no[k] + (count if no_leaf[k] else 0)
        if mode != MEMBER:
            nodes[k] = Node(mode, features[k], float(splits.reshape(-1)[k]), *children, lost)
            continue
        values = next(sets)
        at = k
        for j, value in enumerate(values):
            last = j == len(values) - 1
            if not last:
                nodes.append(Node(LEAF))
            nodes[at] = Node(4, features[k], value, children[0], children[1] if last else len(nodes) - 1, lost)
            at = len(nodes) - 1
        if not values:
            nodes[k] = Node(4, features[k], float("nan"), *children, lost)
    return Forest(nodes, list(roots))


def _member_sets(members: Array | None) -> list[list[float]]:
    """Sets that are separated by NaN."""
    sets: list[list[float]] = [[]]
    for value in [] if members is None else members.reshape(-1).tolist():
        if value != value:
            sets.append([])
        else:
            sets[-1].append(value)
    return sets


AGGREGATES = ("SUM", "MIN", "MAX")


def walk(b: Builder, x: Tensor, forest: Forest, targets: int, aggregate: str, dtype: DType) -> tuple[Tensor, Tensor]:
    """What the trees say of every row, and whether a target got any weight: both [rows, targets]."""
    tables = _tables(forest, dtype)
    inner = [node for node in forest.nodes if node.mode != LEAF]
    modes = {node.mode for node in inner}
    if inner:
        features = max(node.feature for node in inner) + 1
        if isinstance(x.shape[1], int) and x.shape[1] < features:
            b.fail(f"the trees test feature {features - 1}, but rows have {x.shape[1]}")
    n = x.shape[0]
    constants: dict[str, int | float | bool] = {
        "AGGREGATE": AGGREGATES.index(aggregate),
        "MODE": modes.pop() if len(modes) == 1 else -1 if modes else 0,
        "MISSING": any(node.missing for node in inner),
    }
    inputs = [b.cast(x, dtype), *(b.weight(table) for table in tables)]
    scores, seen = b.template(
        walk_forest, inputs, [(dtype, (n, targets)), (BOOL, (n, targets))],
        total=d.ceildiv(n, ROWS), dims=(n, x.shape[1], len(forest.roots), targets), types={"X": dtype}, constants=constants,
    )  # fmt: skip
    return scores, seen


def _tables(forest: Forest, dtype: DType) -> list[Array]:
    """The arrays that the kernel walks."""
    assert dtype in (F32, F64)
    order = forest.order()
    place = {at: k for k, at in enumerate(order)}
    records = np.zeros((len(order), 4), np.int32)
    thresholds = np.zeros(len(order), dtype.numpy)
    first, targets, weights = [0], [], []
    for k, at in enumerate(order):
        node = forest.nodes[at]
        if node.mode == LEAF:
            records[k] = (0, k, k, len(first) - 1)
            targets += [target for target, _ in node.weights]
            weights += [weight for _, weight in node.weights]
            first.append(len(targets))
        else:
            records[k] = (node.feature, place[node.yes], place[node.no], 2 * node.mode + node.missing)
            thresholds[k] = node.threshold
    roots = np.array([place[root] for root in forest.roots], np.int32)
    return [
        records.reshape(-1), thresholds, roots, np.array(first, np.int32), np.array(targets, np.int32),
        np.array(weights, dtype.numpy),
    ]  # fmt: skip
