"""What the models of ai.onnx.ml share: transformations of scores, and labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr, where
from onnx_numba.ir.loop import Tensor
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.characters import strings_at
from onnx_numba.ops.softmax import softmax_over

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""Transformations by the number that TreeEnsemble gives them."""
WINITZKI = 0.147
"""The number that fits his approximation of the inverse of the error function."""
PI = 3.14159
"""As the approximation has it."""


def check_transform(b: Builder, name: str) -> None:
    """Refuse a transformation that the standard does not have."""
    if name not in TRANSFORMS:
        b.fail(f"post_transform must be one of {', '.join(TRANSFORMS)}, not {name!r}")


def probit(v: Expr) -> Expr:
    """The quantile of the normal distribution, by Winitzki's approximation, as onnxruntime has it."""
    x = 2.0 * v - 1.0
    log = e.unary("log", (1.0 - x) * (1.0 + x))
    first = 2 / (PI * WINITZKI) + 0.5 * log
    root = e.unary("sqrt", e.unary("sqrt", first * first - log / WINITZKI) - first)
    return math.sqrt(2) * where(x < 0, -root, root)


def logistic(v: Expr) -> Expr:
    """The logistic function."""
    return e.unary("sigmoid", v)


def transformed(b: Builder, scores: Tensor, name: str) -> Tensor:
    """A transformation of the last axis of scores."""
    check_transform(b, name)
    if name == "SOFTMAX":
        return softmax_over(b, scores, range(scores.rank - 1, scores.rank))
    if name == "SOFTMAX_ZERO":
        return _softmax_zero(b, scores)
    scalar: dict[str, Callable[[Expr], Expr]] = {"LOGISTIC": logistic, "PROBIT": probit}
    return b.map(scalar[name], scores) if name in scalar else scores


def _softmax_zero(b: Builder, scores: Tensor) -> Tensor:
    """Softmax in which scores of zero stay (about) zero and do not count."""
    axes = [scores.rank - 1]
    top = b.reduce("max", scores, axes, True)

    def counts(v: Expr) -> Expr:
        return e.unary("abs", v) > 1e-7

    def term(v: Expr, m: Expr) -> Expr:
        return where(counts(v), e.unary("exp", v - m), v * e.unary("exp", -m))

    terms = b.map(term, scores, top)
    total = b.reduce("sum", b.map(lambda v, t: where(counts(v), t, 0.0), scores, terms), axes, True)
    return b.map(lambda t, s: t / s, terms, total)


def labels_of(b: Builder, positions: Tensor, ints: Sequence[int] | None, strings: Sequence[Any] | None) -> Any:
    """The class labels at positions (int64), strings by a step in Python."""
    if not strings and not ints:
        b.fail("there are no class labels")
    if strings:
        return strings_at(b, positions, np.array([_text(s) for s in strings], object))
    table = b.weight(np.array(ints, np.int64))
    return b.map(lambda p: table[(p,)], positions)


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
