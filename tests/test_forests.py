"""Forests of every shape against a walk in plain Python: the same bits, whichever way the kernel goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import onnx_numba.backend as backend
from onnx_numba.errors import ModelError, OnnxNumbaError
from onnx_numba.ops.ml_chains import joined
from onnx_numba.ops.ml_forest import by_leaf as forest_by_leaf

Array = np.ndarray[Any, Any]
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
MEMBER = 6
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


@dataclass
class Split:
    mode: int
    feature: int
    value: Any
    yes: Any
    no: Any
    missing: bool

    def passes(self, v: Any) -> bool:
        if self.missing and v != v:
            return True
        t = self.value
        return bool((v <= t, v < t, v >= t, v > t, v == t, v != t)[self.mode] if self.mode < MEMBER else v in t)


@dataclass
class Leaf:
    weights: list[tuple[int, float]] = field(default_factory=list)


def leaf_of(tree: Any, row: Array) -> Leaf:
    while isinstance(tree, Split):
        tree = tree.yes if tree.passes(row[tree.feature]) else tree.no
    return tree


def expected(trees: list[Any], x: Array, targets: int, aggregate: str) -> Array:
    """Weights combined in the order of the trees, in the type of the rows."""
    y = np.zeros((len(x), targets), x.dtype)
    for i, row in enumerate(x):
        seen: set[int] = set()
        for tree in trees:
            for target, weight in leaf_of(tree, row).weights:
                w, before = x.dtype.type(weight), y[i, target]
                if aggregate in ("SUM", "AVERAGE"):
                    y[i, target] = before + w
                elif target not in seen:
                    y[i, target] = w
                else:
                    y[i, target] = min(before, w) if aggregate == "MIN" else max(before, w)
                seen.add(target)
    return y / x.dtype.type(len(trees)) if aggregate == "AVERAGE" else y


def grown(
    random: np.random.Generator, leaves: int, values: Array, modes: list[int], weigh: Any, features: int, missing: bool, most: int = 4
) -> Any:
    """A random tree, grown leaf by leaf, with sets of at most so many members."""
    root: list[Any] = [Leaf(weigh())]
    ends: list[tuple[Any, Any]] = [(root, 0)]
    for _ in range(leaves - 1):
        owner, name = ends.pop(int(random.integers(len(ends))) if random.random() < 0.7 else -1)
        mode = int(random.choice(modes))
        value = random.choice(values)
        if mode == MEMBER:
            members = values[random.integers(len(values), size=random.integers(most + 1))]
            value = members[~np.isnan(members)]  # NaN separates sets
        lost = missing and bool(random.random() < 0.5)
        made = Split(mode, int(random.integers(features)), value, Leaf(weigh()), Leaf(weigh()), lost)
        if isinstance(owner, list):
            owner[name] = made
        else:
            setattr(owner, name, made)
        ends += [(made, "yes"), (made, "no")]
    return root[0]


def by_tree(trees: list[Any], x: Array, targets: int, aggregate: str) -> onnx.ModelProto:
    """A TreeEnsembleRegressor."""
    names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    nodes: dict[str, list[Any]] = {name: [] for name in names}
    weights: list[tuple[int, int, int, float]] = []
    for k, tree in enumerate(trees):
        waiting, number = [(tree, 0)], 1
        while waiting:
            at, own = waiting.pop()
            if isinstance(at, Leaf):
                row: tuple[Any, ...] = (k, own, 0, "LEAF", 0.0, 0, 0, 0)
                weights += [(k, own, target, weight) for target, weight in at.weights]
            else:
                row = (k, own, at.feature, MODES[at.mode], float(at.value), number, number + 1, int(at.missing))
                waiting += [(at.yes, number), (at.no, number + 1)]
                number += 2
            for name, value in zip(names, row, strict=True):
                nodes[name].append(value)
    columns = list(zip(*weights, strict=True)) or [()] * 4
    given: dict[str, Any] = {f"nodes_{name}": values for name, values in nodes.items()}
    given |= {f"target_{name}": list(values) for name, values in zip(("treeids", "nodeids", "ids"), columns, strict=False)}
    if x.dtype == np.float64:
        given["nodes_values_as_tensor"] = numpy_helper.from_array(np.array(given.pop("nodes_values")))
        given["target_weights_as_tensor"] = numpy_helper.from_array(np.array(columns[3], np.float64))
    else:
        given["target_weights"] = [float(w) for w in columns[3]]
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=targets, aggregate_function=aggregate, **given
    )
    return model(node, x, TensorProto.FLOAT, 3)


def by_leaf(trees: list[Any], x: Array, targets: int, aggregate: str) -> onnx.ModelProto:
    """A TreeEnsemble, whose leaves have one weight each; a tree of one leaf becomes a test with one outcome."""
    tests: list[list[Any]] = []
    leaves: list[tuple[int, float]] = []
    members: list[float] = []
    roots = []

    def place(tree: Any) -> tuple[int, int]:
        if isinstance(tree, Leaf):
            leaves.append(tree.weights[0])
            return len(leaves) - 1, 1
        number = len(tests)
        tests.append([])
        if tree.mode == MEMBER:
            members.extend([*tree.value, np.nan])
        tests[number] = [tree.feature, tree.mode, 0.0 if tree.mode == MEMBER else tree.value, *place(tree.yes), *place(tree.no),
                         int(tree.missing)]  # fmt: skip
        return number, 0

    for tree in trees:
        at, single = place(tree)
        if single:
            tests.append([0, 0, 0.0, at, 1, at, 1, 0])
        roots.append(len(tests) - 1 if single else at)
    feature, mode, split, yes, yes_leaf, no, no_leaf, missing = map(list, zip(*tests, strict=True))
    node = helper.make_node(
        "TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", n_targets=targets, aggregate_function=AGGREGATES.index(aggregate),
        tree_roots=roots, nodes_featureids=feature, nodes_modes=tensor(mode, np.uint8), nodes_splits=tensor(split, x.dtype),
        nodes_truenodeids=yes, nodes_trueleafs=yes_leaf, nodes_falsenodeids=no, nodes_falseleafs=no_leaf,
        nodes_missing_value_tracks_true=missing, leaf_targetids=[t for t, _ in leaves],
        leaf_weights=tensor([w for _, w in leaves], x.dtype),
        membership_values=tensor(members, x.dtype) if members else None,
    )  # fmt: skip
    return model(node, x, helper.np_dtype_to_tensor_dtype(x.dtype), 5)


def tensor(values: list[Any], dtype: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype))


def model(node: onnx.NodeProto, x: Array, result: int, version: int) -> onnx.ModelProto:
    ins = [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), ["n", "f"])]
    outs = [helper.make_tensor_value_info("y", result, ["n", None])]
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(helper.make_graph([node], "forest", ins, outs), opset_imports=sets, ir_version=8)


VALUES = np.array([-np.inf, -1.5, -1.0, -0.0, 0.0, 1e-45, 0.5, 1.0, 1.0000001, 3.0, np.inf], np.float32)
"""Thresholds and rows alike, so that they are often equal or neighbours."""


def rows(random: np.random.Generator, count: int, features: int, dtype: Any, missing: bool) -> Array:
    x = VALUES[random.integers(len(VALUES), size=(count, features))].astype(dtype)
    x[random.random(x.shape) < 0.3] = np.nan if missing else 0.25
    return x


def agrees(trees: list[Any], x: Array, targets: int, aggregate: str, make: Any, counts: list[int], **options: Any) -> None:
    wanted = expected(trees, x, targets, aggregate)
    prepared = backend.prepare(make(trees, x, targets, aggregate), **options)
    for count in counts:
        (got,) = prepared.run(x[:count])
        np.testing.assert_array_equal(got, wanted[:count].astype(got.dtype))


@st.composite
def forests(draw: st.DrawFn) -> tuple[Any, ...]:
    make = draw(st.sampled_from([by_tree, by_leaf]))
    modes = draw(st.lists(st.integers(0, MEMBER if make is by_leaf else MEMBER - 1), min_size=1, max_size=3))
    leaves = draw(st.sampled_from([1, 2, 7, 32, 33, 70, 140]))
    return (
        make, modes, leaves, draw(st.sampled_from([1, 3, 70])), draw(st.booleans()), draw(st.sampled_from([1, 3])),
        draw(st.sampled_from([np.float32, np.float64])), draw(st.sampled_from(["SUM", "SUM", "AVERAGE", "MIN"])),
        draw(st.sampled_from(["one", "turns", "all", "any"])), draw(st.integers(0, 2**32)),
    )  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True)
@given(forests())
def test_every_way_gives_the_same_bits(case: tuple[Any, ...]) -> None:
    make, modes, leaves, count, missing, targets, dtype, aggregate, spread, seed = case
    random = np.random.default_rng(seed)
    thresholds = np.append(VALUES, np.float32(np.nan)) if random.random() < 0.3 else VALUES
    trees = []
    for k in range(count):

        def weigh(k: int = k) -> list[tuple[int, float]]:
            owners = {"one": [0], "turns": [k % targets], "all": list(range(targets))}
            chosen = owners.get(spread) or [t for t in range(targets) if random.random() < 0.6]
            if make is by_leaf:
                chosen = [chosen[0] if chosen else 0]
            return [(t, float(np.float32(random.normal()))) for t in chosen]

        trees.append(grown(random, leaves, thresholds, modes, weigh, 4, missing))
    x = rows(random, 70, 5, dtype, missing)
    if targets > 1 and spread != "all":
        aggregate = "SUM" if aggregate == "AVERAGE" else aggregate
    agrees(trees, x, targets, aggregate, make, [1, 20, 27, 70] if count < 70 else [2, 27, 40])


def one(random: np.random.Generator) -> Any:
    return lambda: [(0, float(np.float32(random.normal())))]


def test_a_forest_too_large_for_the_cache_and_any_number_of_threads() -> None:
    random = np.random.default_rng(5)
    trees = [grown(random, 3000, random.normal(size=500).astype(np.float32), [0], one(random), 8, False) for _ in range(13)]
    x = random.normal(size=(700, 8)).astype(np.float32)
    for threads in (1, 2, 3):
        agrees(trees, x, 1, "SUM", by_tree, [700, 100, 65, 64, 63, 1], num_threads=threads)


def test_a_tree_as_deep_as_it_has_tests() -> None:
    tree: Any = Leaf([(0, -1.0)])
    for k in range(3000):
        tree = Split(0, k % 2, k / 600, Leaf([(0, float(k))]), tree, False)
    x = np.random.default_rng(0).uniform(0, 5, (70, 2)).astype(np.float32)
    agrees([tree], x, 1, "SUM", by_tree, [70, 1])


@pytest.mark.parametrize("missing", [False, True])
def test_membership_in_a_large_set(missing: bool) -> None:
    values = np.unique(np.random.default_rng(1).integers(-5000, 5000, 3000)).astype(np.float32)
    tree = Split(MEMBER, 1, values, Leaf([(0, 1.0)]), Leaf([(0, 2.0)]), missing)
    x = np.random.default_rng(2).integers(-5100, 5100, (90, 2)).astype(np.float32)
    x[:7, 1] = np.nan
    agrees([tree, tree], x, 1, "SUM", by_leaf, [90, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("leaves", "missing"), [(20, False), (60, True), (700, True)])
def test_sets_of_many_categories(leaves: int, missing: bool, dtype: Any) -> None:
    """More than a word has bits, some of them no small whole numbers."""
    random = np.random.default_rng(leaves)
    values = np.concatenate([np.arange(150), [-np.inf, -3, -0.0, 0.5, 1e9, np.inf]]).astype(dtype)
    trees = [grown(random, leaves, values, [0, MEMBER, MEMBER], one(random), 3, missing, 80) for _ in range(4)]
    x = np.append(values, dtype(151))[random.integers(len(values) + 1, size=(130, 4))]
    x[random.random(x.shape) < 0.1] = np.nan
    agrees(trees, x, 1, "SUM", by_leaf, [130, 64, 3])


def chained(tree: Any) -> Any:
    """The tree with every set as a chain of equalities, what follows repeated for each."""
    if isinstance(tree, Leaf):
        return tree
    yes, no = chained(tree.yes), chained(tree.no)
    if tree.mode != MEMBER:
        return Split(tree.mode, tree.feature, tree.value, yes, no, tree.missing)
    for value in tree.value:
        no = Split(MODES.index("BRANCH_EQ"), tree.feature, value, yes, no, tree.missing)
    return no


@pytest.mark.parametrize("missing", [False, True])
def test_a_chain_of_equalities_is_one_test(missing: bool) -> None:
    random = np.random.default_rng(11)
    values = np.arange(12, dtype=np.float32)
    trees = [chained(grown(random, 12, values, [0, MEMBER], one(random), 3, missing)) for _ in range(5)]
    x = np.append(values, np.float32(np.nan))[random.integers(13, size=(80, 3))]
    agrees(trees, x, 1, "SUM", by_tree, [80, 2])


@pytest.mark.parametrize(("last", "tests"), [(2.0, 2), (2.5, 4)])
def test_chains_join_only_where_the_same_follows(last: float, tests: int) -> None:
    """``x0 == 1 ? (x1 <= 4 ? 1 : 2) : x0 == 5 ? (x1 <= 4 ? 1 : last) : 3``."""
    modes, splits = np.array([4, 0, 4, 0]), np.array([1, 4, 5, 4], np.float32)
    weights = np.array([1, 2, 1, last, 3], np.float32)
    forest = forest_by_leaf(
        [0], [0, 1, 0, 1], modes, splits, [1, 0, 3, 2], [0, 1, 0, 1], [2, 1, 4, 3], [0, 1, 1, 1], None, [0] * 5, weights, None, np.float32
    )
    assert len(joined(forest).inner) == tests


def test_more_features_than_fit_beside_a_distance() -> None:
    random = np.random.default_rng(3)

    def full(first: int, tests: int) -> Any:
        if not tests:
            return Leaf([(0, float(first))])
        half = tests // 2
        return Split(0, first + half, 0.5, full(first, half), full(first + half + 1, half), False)

    x = random.random((70, (1 << 16) - 1), np.float32)
    agrees([full(0, x.shape[1])], x, 1, "SUM", by_tree, [70, 3])


def test_the_module_runs_as_plain_python() -> None:
    random = np.random.default_rng(7)
    for leaves, make in ((9, by_leaf), (9, by_tree), (60, by_tree)):
        trees = [grown(random, leaves, VALUES, [0, 3, 4], one(random), 4, True) for _ in range(2)]
        agrees(trees, rows(random, 20, 4, np.float32, True), 1, "SUM", make, [2, 20], jit=False)


def broken(**changes: Any) -> onnx.ModelProto:
    node = by_tree([Split(0, 1, 0.5, Leaf([(0, 1.0)]), Leaf([(0, 2.0)]), False)], np.zeros((1, 2), np.float32), 1, "SUM").graph.node[0]
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute} | changes
    made = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **given)
    return model(made, np.zeros((1, 2), np.float32), TensorProto.FLOAT, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes_truenodeids": [7, 0, 0]}, "child that does not exist"),
        ({"target_nodeids": [1, 9]}, "node 9 of tree 0, which does not exist"),
        ({"target_ids": [0, 1]}, "target 1"),
        ({"nodes_featureids": [-1, 0, 0]}, "feature -1"),
        ({"nodes_values": [0.5]}, "different lengths"),
        ({"nodes_nodeids": [0, 1, 1]}, "the same number"),
    ],
)
def test_a_broken_forest_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        backend.prepare(broken(**changes))


def test_a_node_below_itself_is_refused() -> None:
    modes = ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"]
    with pytest.raises(ModelError, match="below itself"):
        backend.prepare(broken(nodes_modes=modes, nodes_truenodeids=[1, 1, 0], nodes_falsenodeids=[2, 2, 0], target_nodeids=[2, 2]))


def test_rows_that_lack_a_feature_are_refused() -> None:
    prepared = backend.prepare(broken())
    with pytest.raises(OnnxNumbaError):
        prepared.run(np.zeros((3, 1), np.float32))
