"""Steps that move strings, at positions that were computed as numbers are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def strings_take(params: Mapping[str, Any], positions: Array, *sources: Array) -> tuple[Array]:
    """Elements of all sources, one after the other, at flat positions that count from 1; at 0 is the empty string."""
    flat = [np.asarray(source, object).reshape(-1) for source in sources]
    every = flat[0] if len(flat) == 1 else np.concatenate(flat)
    taken = np.empty(positions.shape, object)
    taken[...] = ""
    found = positions > 0
    taken[found] = every[positions[found] - 1]
    return (taken,)


HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {"strings_take": strings_take}
