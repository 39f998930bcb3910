"""Steps that sort whole tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]


def unique(params: Params, x: Array) -> tuple[Array, ...]:
    """Distinct elements, or slices along an axis, and unless they are ``alone`` where each first is, which one every element is, how many
    there are.
    """
    axis = params["axis"]
    if params["alone"] and axis is None and x.dtype.kind in "biuf":
        return (_distinct(x.reshape(-1), params["sorted"]),)
    source, along = (x.reshape(-1), 0) if axis is None else (x, axis)
    _, first, inverse, counts = np.unique(_keys(source), return_index=True, return_inverse=True, return_counts=True, axis=along)
    inverse = inverse.reshape(-1)
    if not params["sorted"]:
        order = np.argsort(first, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        first, inverse, counts = first[order], place[inverse], counts[order]
    return np.take(source, first, axis=along), *(np.asarray(a, np.int64) for a in (first, inverse, counts))


def _distinct(x: Array, in_order: bool) -> Array:
    """The distinct ones among numbers, each as it comes first."""
    if not in_order:
        return x[np.sort(np.unique(x, return_index=True)[1])]
    values = np.unique(x)
    zero = values == 0
    if x.dtype.kind == "f" and zero.any():
        values[zero] = x[x == 0][0]  # of either sign
    return values


def _keys(x: Array) -> Array:
    """What compares as the elements do: NumPy compares slices of numbers only, so of strings their places among all of them."""
    return np.unique(x, return_inverse=True)[1].reshape(x.shape) if x.dtype == object else x


HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {"unique": unique}
"""The steps of this module by name."""
