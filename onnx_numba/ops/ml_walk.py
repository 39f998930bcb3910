"""The call of the kernel that walks a forest: what is known of the forest decides how it goes; see `onnx_numba.templates.trees`."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import BOOL, F32, F64, I32, I64, DType
from onnx_numba.native.forest import LANES
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.ml_chains import joined
from onnx_numba.ops.ml_codes import Codes
from onnx_numba.ops.ml_forest import LEAF, Forest
from onnx_numba.ops.ml_forest_tables import LEAF_BITS, Columns, Spans, Tests, nodes, spans, tests
from onnx_numba.ops.ml_steps import by_steps
from onnx_numba.record import record
from onnx_numba.templates.trees import MOST_WORDS, score_forest

Array = np.ndarray[Any, Any]

AGGREGATES = ("SUM", "MIN", "MAX")
TESTS_PER_STEP = 12
"""How many tests for rows side by side, whose operands are vectors, take the time of a step, whose operands are gathered."""
CACHED = 1 << 19
"""Bytes of nodes that stay in the cache from one block of rows to the next; of a larger forest, a tree serves more rows at a time."""
MANY_ROWS = 8 * LANES


def walk(b: Builder, x: Tensor, forest: Forest, targets: int, aggregate: str, dtype: DType) -> tuple[Tensor, Tensor]:
    """What the trees say of every row, and whether a target got any weight: both [rows, targets]."""
    assert dtype in (F32, F64)
    _check(b, x, forest, targets)
    forest = joined(forest)
    n, bits = x.shape[0], 8 * dtype.size
    leaves = spans(forest, forest.levels) if forest.parents.max(initial=0) <= 1 else None
    codes = Codes.of(forest, np.fromiter(forest.sets, np.int64, len(forest.sets)), bits)
    coded = codes.brief(forest)
    by_tests = leaves is not None and _tests_pay(forest, codes, leaves)
    if not by_tests:
        codes = Codes.of(forest, coded, bits)
    steps = by_steps(forest, codes, coded)
    columns = Columns.of(steps.forest, len(codes.features))
    number = _numbers(forest, leaves)
    made = nodes(steps, columns, number)
    first_leaf = np.zeros(len(forest.roots) + 1, np.int64)
    if leaves is not None:
        first_leaf[1:] = np.cumsum(leaves.count[forest.roots])
    tested = tests(forest, columns, codes, leaves) if by_tests and leaves is not None else _no_tests(dtype)
    order = np.argsort(number[forest.reached & (forest.kind == LEAF)])
    ends = np.flatnonzero(forest.reached & (forest.kind == LEAF))[order]
    weighed = _regular(forest, ends, leaves, targets) or _any(forest, ends)
    # All tests take as long for a few rows as for a whole block; walks may be shared out row by row.
    unit = LANES if by_tests else 1
    blocks: Dim | int = 1
    if made.records.nbytes > CACHED:
        blocks = d.dmax(1, d.dmin(d.ceildiv(n, 4 * LANES), MANY_ROWS // LANES))
    most_rows = LANES * blocks
    inputs = [b.cast(x, dtype), *(b.weight(table) for table in (
        columns.keys.astype(np.int32), codes.features.astype(np.int32), codes.first.astype(np.int32), codes.members, made.records,
        made.roots, tested.first_group, tested.words, tested.operands, tested.places, tested.keeps, first_leaf.astype(np.int32),
        weighed.entries, weighed.targets, weighed.weights,
    ))]  # fmt: skip
    small = made.records.dtype == np.int32
    constants: dict[str, int | float | bool | str] = {
        "AGGREGATE": AGGREGATES.index(aggregate), "TESTS": by_tests, "UNIT": unit,
        "REGULAR": weighed.width > 0, "SINGLE": weighed.width == 1 and aggregate == "SUM",
        "SETS": columns.words > 0, "BITS": bits, "LEAF": (1 << LEAF_BITS[made.records.dtype.str[1:]]) - 1,
    }  # fmt: skip
    if len(forest.inner):
        last = int(forest.feature[forest.inner].max())
        b.require_equal(d.compare("lt", last, x.shape[1]), 1, f"feature {last} within the {x.shape[1]} of a row")
    types = {"X": dtype, "R": F32 if small else F64, "N": I32 if small else I64, "M": I32 if bits == 32 else I64}
    scores, seen = b.template(
        score_forest, inputs, [(dtype, (n, targets)), (BOOL, (0 if weighed.width else n, targets))],
        total=d.ceildiv(n, unit), grain=blocks * (LANES // unit), types=types,
        dims=(
            n, x.shape[1], len(columns.keys), columns.words, len(forest.roots), targets, weighed.width, most_rows, made.column_bits,
            len(steps.forest.levels) - 1,
        ),
        scratch=most_rows * (len(columns) + (targets if weighed.width else 0)) * dtype.size, constants=constants,
    )  # fmt: skip
    if weighed.width:
        covered = np.isin(np.arange(targets), forest.targets)
        seen = b.full((n, targets), True, BOOL) if covered.all() else b.expand(b.weight(covered[None]), (n, targets))
    return scores, seen


def _check(b: Builder, x: Tensor, forest: Forest, targets: int) -> None:
    features = forest.feature[forest.inner]
    if len(features) and features.min() < 0:
        b.fail(f"the trees test feature {features.min()}")
    if len(features) and isinstance(x.shape[1], int) and x.shape[1] <= features.max():
        b.fail(f"the trees test feature {features.max()}, but rows have {x.shape[1]}")
    wrong = forest.targets[(forest.targets < 0) | (forest.targets >= targets)]
    if len(wrong):
        b.fail(f"a leaf has a weight for target {wrong[0]}, but there are {targets}")


def _tests_pay(forest: Forest, codes: Codes, leaves: Spans) -> bool:
    """Whether making all tests of a tree takes less time than the steps to its deepest leaf."""
    if not len(forest.inner) or leaves.count[forest.roots].max() > MOST_WORDS * codes.bits:
        return False
    made = len(forest.inner) - len(forest.sets) + len(codes.node)
    steps = np.zeros(len(forest.roots), np.int64)
    for depth, level in enumerate(forest.levels):
        steps[leaves.tree[level]] = depth
    return made <= TESTS_PER_STEP * int(steps.sum())


def _numbers(forest: Forest, leaves: Spans | None) -> Array:
    """A number for every leaf: trees in order, within them in the order of their tests where each has leaves of its own."""
    number = np.zeros(len(forest.kind), np.int64)
    if leaves is not None:
        count = leaves.count[forest.roots]
        return leaves.start + (np.cumsum(count) - count)[leaves.tree] if len(count) else number
    ends = np.concatenate([level[forest.kind[level] == LEAF] for level in forest.levels] or [number[:0]])
    number[ends] = np.arange(len(ends))
    return number


def _no_tests(dtype: DType) -> Tests:
    none = np.zeros(1, np.int32)
    word = none.astype(np.int32 if dtype is F32 else np.int64)
    return Tests(none, none, word, none, word)


@record
class _Weights:
    """Weights of numbered leaves; if every leaf has the same number of them, that is ``width``, else 0."""

    entries: Array
    targets: Array
    weights: Array
    width: int


def _regular(forest: Forest, ends: Array, leaves: Spans | None, targets: int) -> _Weights | None:
    """Weights of leaves that have one each, for the same target within a tree, or one for each target in order."""
    if not len(ends):
        return None
    sizes = np.diff(forest.first)[ends]
    width = int(sizes[0])
    if width not in (1, targets) or (sizes != width).any():
        return None
    place = forest.first[ends][:, None] + np.arange(width)
    target = forest.targets[place]
    if (target != target[:, :1] + np.arange(width)).any():
        return None
    if leaves is None and (target != target[0]).any():
        return None
    of_tree = np.full(len(forest.roots), target[0, 0])
    if leaves is not None:
        tree = leaves.tree[ends]
        of_tree[tree] = target[:, 0]
        if (of_tree[tree] != target[:, 0]).any():
            return None
    first = np.zeros(len(of_tree), np.int64)
    first[np.unique(of_tree, return_index=True)[1]] = 1
    return _Weights((2 * of_tree + first).astype(np.int32), np.zeros(1, np.int32), forest.weights[place].reshape(-1), width)


def _any(forest: Forest, ends: Array) -> _Weights:
    sizes = np.diff(forest.first)[ends]
    place = np.repeat(forest.first[ends] - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))
    entries = np.concatenate([[0], np.cumsum(sizes)])
    return _Weights(entries.astype(np.int32), forest.targets[place].astype(np.int32), forest.weights[place], 0)
