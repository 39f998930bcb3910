"""How far apart the outputs of two peers are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def difference(got: Any, want: Any) -> float:
    """How far apart outputs are: max|got − want| / max|want|, the largest of all.

    For what is not floating it is the share that differs; another shape or type is infinitely far.
    """
    if isinstance(want, list) and want and isinstance(want[0], Mapping):
        same = len(got) == len(want) and all(list(one) == list(other) for one, other in zip(got, want, strict=True))
        return difference(_table(got), _table(want)) if same else np.inf
    if isinstance(want, Mapping):
        return difference(list(got.values()), list(want.values())) if list(got) == list(want) else np.inf
    if isinstance(want, list):
        if want and isinstance(want[0], float):
            return difference(np.asarray(got), np.asarray(want))
        pairs = zip(got, want, strict=True) if len(got) == len(want) else [([], [0.0])]
        return max((difference(one, other) for one, other in pairs), default=0.0)
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape or got.dtype != want.dtype:
        return np.inf
    return _distance(got, want)


def difference_of_values(got: list[Any], want: list[Any]) -> float:
    """As ``difference`` where one of them is no ONNX runtime: of the outputs that both give, of any shape and type that hold the values."""
    both = [(one, other) for one, other in zip(got, want, strict=False) if one is not None and other is not None]
    pairs = [(np.ravel(_table(one)), np.ravel(_table(other))) for one, other in both]
    return max((_distance(one.astype(other.dtype), other) if one.size == other.size else np.inf for one, other in pairs), default=np.inf)


def _table(value: Any) -> np.ndarray:
    """The values of a ZipMap's maps as a matrix; anything else as an array."""
    maps = isinstance(value, list) and value and isinstance(value[0], Mapping)
    return np.asarray([list(row.values()) for row in value] if maps else value)


def _distance(got: np.ndarray, want: np.ndarray) -> float:
    if want.size == 0:
        return 0.0
    if want.dtype.kind != "f":
        return float((got != want).mean())
    scale = np.abs(want[np.isfinite(want)]).max(initial=0.0) or 1.0
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    # Infinities that agree are `same`; their difference is NaN and of no interest.
    with np.errstate(invalid="ignore"):
        return float(np.where(same, 0.0, np.abs(got.astype("f8") - want.astype("f8"))).max() / scale)
