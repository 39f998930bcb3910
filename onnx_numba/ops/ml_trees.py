"""Tree ensembles of ai.onnx.ml. Where the standard is silent, they do what onnxruntime does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr, where
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import BOOL, F32, F64, I64, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.ml_forest import Forest, by_leaf, by_tree
from onnx_numba.ops.ml_linear import ML, rows
from onnx_numba.ops.ml_scores import TRANSFORMS, check_transform, labels_of, logistic, probit, transformed
from onnx_numba.ops.ml_walk import walk
from onnx_numba.ops.registry import op

Array = np.ndarray[Any, Any]
Ints = Sequence[int] | None
AVERAGES = ("AVERAGE", "SUM", "MIN", "MAX")
"""What trees' results become one by; numbers are those of TreeEnsemble."""
Floats = Sequence[float] | None


def _numbers(values: Floats, table: Array | None) -> list[float]:
    """Numbers from either of two attributes."""
    return table.reshape(-1).tolist() if table is not None and table.size else list(values or ())


def _threshold_type(x: Tensor) -> DType:
    return F64 if x.dtype is F64 else F32


# ---- regression


def _regress(
    b: Builder, x: Tensor, forest: Forest, targets: int, aggregate: str, transform: str, base: Sequence[float]
) -> Tensor:
    """Scores of all targets in the type that thresholds have."""
    kind = _threshold_type(x)
    if aggregate not in AVERAGES:
        b.fail(f"aggregate_function must be one of {', '.join(AVERAGES)}, not {aggregate!r}")
    average = aggregate == "AVERAGE"
    scores, seen = walk(b, rows(b, x), forest, targets, "SUM" if average else aggregate, kind)
    count = float(len(forest.roots))

    def element(v: Expr, s: Expr, *origin: Expr) -> Expr:
        value = v / count if average else v
        value = value + origin[0] if origin else value
        if targets == 1 and aggregate in ("MIN", "MAX"):
            return where(s, value, origin[0] if origin else 0.0)
        # Of several targets, onnxruntime gives no base value to one that got no weight.
        return value if targets == 1 else where(s, value, 0.0)

    origins = [b.weight(np.array(base, kind.numpy))] if len(base) == targets else []
    result = b.map(element, scores, seen, *origins)
    if targets == 1:
        # onnxruntime applies no other transformation to a single target.
        return b.map(probit, result) if transform == "PROBIT" else result
    return transformed(b, result, transform)


@op("TreeEnsembleRegressor", since=1, reviewed=5, domain=ML)
def tree_ensemble_regressor(
    b: Builder, x: Tensor, *, aggregate_function: str, n_targets: int = 1, post_transform: str, base_values: Floats = None,
    base_values_as_tensor: Array | None = None, nodes_treeids: Ints = None, nodes_nodeids: Ints = None,
    nodes_featureids: Ints = None, nodes_modes: Sequence[str] = (), nodes_values: Floats = None,
    nodes_values_as_tensor: Array | None = None, nodes_truenodeids: Ints = None, nodes_falsenodeids: Ints = None,
    nodes_missing_value_tracks_true: Ints = None, nodes_hitrates: Floats = None, nodes_hitrates_as_tensor: Array | None = None,
    target_treeids: Ints = None, target_nodeids: Ints = None, target_ids: Ints = None, target_weights: Floats = None,
    target_weights_as_tensor: Array | None = None,
) -> Tensor:  # fmt: skip
    """One number per target."""
    check_transform(b, post_transform)
    weights = _numbers(target_weights, target_weights_as_tensor)
    forest = by_tree(
        nodes_treeids or (), nodes_nodeids or (), nodes_featureids or (), nodes_modes,
        _numbers(nodes_values, nodes_values_as_tensor), nodes_truenodeids or (), nodes_falsenodeids or (),
        nodes_missing_value_tracks_true,
        (target_treeids or (), target_nodeids or (), target_ids or (), weights), _threshold_type(x).numpy.type,
    )  # fmt: skip
    base = _numbers(base_values, base_values_as_tensor)
    result = _regress(b, x, forest, n_targets, aggregate_function, post_transform, base)
    return b.cast(result, F32)


@op("TreeEnsemble", since=5, domain=ML)
def tree_ensemble(
    b: Builder, x: Tensor, *, aggregate_function: int, n_targets: int = 1, post_transform: int, tree_roots: Ints = None,
    nodes_featureids: Ints = None, nodes_modes: Array, nodes_splits: Array, nodes_truenodeids: Ints = None,
    nodes_trueleafs: Ints = None, nodes_falsenodeids: Ints = None, nodes_falseleafs: Ints = None,
    nodes_missing_value_tracks_true: Ints = None, nodes_hitrates: Array | None = None, leaf_targetids: Ints = None,
    leaf_weights: Array, membership_values: Array | None = None,
) -> Tensor:  # fmt: skip
    """The form that replaces both others; results have the input's type."""
    forest = by_leaf(
        tree_roots or (), nodes_featureids or (), nodes_modes, nodes_splits, nodes_truenodeids or (), nodes_trueleafs or (),
        nodes_falsenodeids or (), nodes_falseleafs or (), nodes_missing_value_tracks_true, leaf_targetids or (), leaf_weights,
        membership_values, _threshold_type(x).numpy.type,
    )  # fmt: skip
    if not 0 <= aggregate_function < len(AVERAGES) or not 0 <= post_transform < len(TRANSFORMS):
        b.fail(f"aggregate_function {aggregate_function} or post_transform {post_transform} is unknown")
    aggregate = AVERAGES[aggregate_function]
    return b.cast(_regress(b, x, forest, n_targets, aggregate, TRANSFORMS[post_transform], ()), x.dtype)


# ---- classification


@op("TreeEnsembleClassifier", since=1, reviewed=5, domain=ML)
def tree_ensemble_classifier(
    b: Builder, x: Tensor, *, post_transform: str, base_values: Floats = None, base_values_as_tensor: Array | None = None,
    classlabels_int64s: Ints = None, classlabels_strings: Sequence[str] | None = None, nodes_treeids: Ints = None,
    nodes_nodeids: Ints = None, nodes_featureids: Ints = None, nodes_modes: Sequence[str] = (), nodes_values: Floats = None,
    nodes_values_as_tensor: Array | None = None, nodes_truenodeids: Ints = None, nodes_falsenodeids: Ints = None,
    nodes_missing_value_tracks_true: Ints = None, nodes_hitrates: Floats = None, nodes_hitrates_as_tensor: Array | None = None,
    class_treeids: Ints = None, class_nodeids: Ints = None, class_ids: Ints = None, class_weights: Floats = None,
    class_weights_as_tensor: Array | None = None,
) -> Any:  # fmt: skip
    """The class with the greatest sum of weights, and a score per class."""
    check_transform(b, post_transform)
    weights = _numbers(class_weights, class_weights_as_tensor)
    forest = by_tree(
        nodes_treeids or (), nodes_nodeids or (), nodes_featureids or (), nodes_modes,
        _numbers(nodes_values, nodes_values_as_tensor), nodes_truenodeids or (), nodes_falsenodeids or (),
        nodes_missing_value_tracks_true,
        (class_treeids or (), class_nodeids or (), class_ids or (), weights), _threshold_type(x).numpy.type,
    )  # fmt: skip
    labels = classlabels_strings or classlabels_int64s or ()
    count = len(labels)
    if not count:
        b.fail("there are no class labels")
    base = _numbers(base_values, base_values_as_tensor)
    each = count != 2 or len(forest.given) > 1
    if base and len(base) != count and (each or len(base) != 1):
        b.fail(f"{len(base)} base values for {count} classes")
    scores, seen = walk(b, rows(b, x), forest, count, "SUM", _threshold_type(x))
    if count == 1:
        winner, result = _single(b, scores, base, post_transform)
        if classlabels_strings:
            winner = b.full(winner.shape, 0, I64)
        return labels_of(b, winner, (0, 1), classlabels_strings), b.cast(result, F32)
    if each:
        winner, result = _many(b, scores, seen, base, post_transform)
    else:
        case = Binary(bool(weights) and min(weights) >= 0, base, post_transform)
        winner, result = case.outputs(b, scores, [_seen(forest, seen, k) for k in (0, 1)])
    return labels_of(b, winner, classlabels_int64s, classlabels_strings), b.cast(result, F32)


def _seen(forest: Forest, seen: Tensor, target: int) -> Callable[[Dim], Expr]:
    """Whether a target got any weight in a row, known beforehand where all leaves of a tree agree on it."""
    if target not in forest.given:
        return lambda i: e.lit(False, BOOL)
    if forest.always(target):
        return lambda i: e.lit(True, BOOL)
    return lambda i: seen[(i, target)]


def _many(b: Builder, scores: Tensor, seen: Tensor, base: Sequence[float], transform: str) -> tuple[Tensor, Tensor]:
    """Each class has weights of its own: the first greatest of those that have a score.

    Of two classes onnxruntime takes the second as soon as its score is positive, though the standard says "the top class"; and of base
    values it uses one for both, though they are to be added to the score of each.
    """
    if base:
        scores = b.map(lambda v, w: v + w, scores, b.weight(np.array(base, scores.dtype.numpy)))
        candidates = scores
    else:
        candidates = b.map(lambda v, s: where(s, v, float("-inf")), scores, seen)
    return b.reduce("argmax", candidates, [1]), transformed(b, scores, transform)


class Binary:
    """Two classes, of which one alone has weights: the standard allows it and leaves open what follows; the rules are onnxruntime's.

    Attributes
    ----------
    positive : bool
        No weight is negative.
    base : sequence of float
        No base values, one, or two.
    transform : str
        The transformation of scores.
    """

    def __init__(self, positive: bool, base: Sequence[float], transform: str) -> None:
        self.positive = positive
        self.base = base
        self.transform = transform

    def outputs(self, b: Builder, sums: Tensor, seen: Sequence[Callable[[Dim], Expr]]) -> tuple[Tensor, Tensor]:
        """Position of the label, and two scores, of every row; ``seen`` says whether a class got any weight in a row."""
        n = sums.shape[0]

        def pair(i: Dim) -> tuple[Expr, Expr]:
            return self._with_base(sums[(i, 0)], sums[(i, 1)], seen[1](i))

        def label(i: Dim) -> Expr:
            zero, one = pair(i)
            weight = where(seen[1](i), one, where(seen[0](i), zero, 0.0))
            return e.cast(weight > (0.5 if self.positive else 0.0), I64)

        def score(i: Dim, column: int) -> Expr:
            zero, one = pair(i)
            both = self._transformed((where(seen[0](i), zero, 0.0), where(seen[1](i), one, 0.0)), column)
            return both if len(self.base) == 2 else where(seen[1](i), both, self._alone(where(seen[0](i), zero, 0.0), column))

        columns = [b.compute((n,), lambda i, k=k: score(i, k), sums.dtype) for k in (0, 1)]
        scores = b.compute((n, 2), lambda i, j: where(e.eq(e.dimval(j), 0), columns[0][(i,)], columns[1][(i,)]), sums.dtype)
        return b.compute((n,), label, I64), scores

    def _with_base(self, zero: Expr, one: Expr, has_one: Expr) -> tuple[Expr, Expr]:
        if len(self.base) < 2:
            return (zero + self.base[0] if self.base else zero), one
        second = zero + self.base[1]
        return where(has_one, -second, zero + self.base[0]), where(has_one, second, one + self.base[1])

    def _transformed(self, values: tuple[Expr, Expr], column: int) -> Expr:
        v, other = values[column], values[1 - column]
        if self.transform == "LOGISTIC":
            return logistic(v)
        if self.transform == "PROBIT":
            return probit(v)
        if self.transform == "NONE":
            return v
        top = e.binary("max", v, other)
        own, rest = e.unary("exp", v - top), e.unary("exp", other - top)
        if self.transform == "SOFTMAX":
            return own / (own + rest)
        counts = [e.unary("abs", w) > 1e-7 for w in (v, other)]
        total = where(counts[0], own, 0.0) + where(counts[1], rest, 0.0)
        return where(counts[0], own, v * e.unary("exp", -top)) / total

    def _alone(self, score: Expr, column: int) -> Expr:
        """Both scores from the only one there is."""
        if self.transform == "PROBIT":
            return probit(score) if column == 0 else e.lit(0.0, score.dtype)
        if self.transform == "LOGISTIC":
            return logistic(-score if column == 0 else score)
        if self.positive:
            return 1.0 - score if column == 0 else score
        return -score if column == 0 else score


def _single(b: Builder, sums: Tensor, base: Sequence[float], transform: str) -> tuple[Tensor, Tensor]:
    """One class: whether its score is positive, and the score, of which only PROBIT is a transformation."""
    scores = b.map(lambda v: v + base[0], sums) if base else sums
    positive = b.compute((sums.shape[0],), lambda i: e.cast(scores[(i, 0)] > 0, I64), I64)
    return positive, b.map(probit, scores) if transform == "PROBIT" else scores
