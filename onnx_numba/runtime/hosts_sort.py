"""Steps that sort whole tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]


def unique(params: Params, x: Array) -> tuple[Array, Array, Array, Array]:
    """Distinct elements, or slices along an axis; where each first is, which one every element is, how many there are."""
    axis = params["axis"]
    source = x.reshape(-1) if axis is None else x
    values, first, inverse, counts = np.unique(
        source, return_index=True, return_inverse=True, return_counts=True, axis=0 if axis is None else axis
    )
    inverse = inverse.reshape(-1)
    if not params["sorted"]:
        order = np.argsort(first, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        values = np.take(values, order, axis=0 if axis is None else axis)
        first, inverse, counts = first[order], place[inverse], counts[order]
    return values.astype(x.dtype), *(np.asarray(a, np.int64) for a in (first, inverse, counts))  # type: ignore[return-value]


HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {"unique": unique}
"""The steps of this module by name."""
