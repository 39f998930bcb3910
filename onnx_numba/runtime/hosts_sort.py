"""Steps that sort whole tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]

FEW = 16
"""Elements of a slice of numbers up to which one sort for each of them takes less than a sort that compares slices."""


def unique(params: Params, x: Array) -> tuple[Array, ...]:
    """Distinct elements, or slices along an axis, and unless they are ``alone`` where each first is, which one every element is, how many
    there are.
    """
    axis = params["axis"]
    if params["alone"] and axis is None and x.dtype.kind in "biuf":
        return (_distinct(x.reshape(-1), params["sorted"]),)
    if params["alone"] and axis is None and x.dtype == object:
        texts = dict.fromkeys(x.reshape(-1).tolist())
        return (np.array(sorted(texts) if params["sorted"] else list(texts), object),)
    source, along = (x.reshape(-1), 0) if axis is None else (x, axis)
    first, inverse, counts = _numbered(_keys(source), along)
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


def _numbered(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """Where each distinct slice, in ascending order, is first, which one every slice is, how many there are."""
    slices = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) if x.size else x
    if x.ndim < 2 or not 0 < slices.shape[1] <= FEW or not x.size or x.dtype.kind not in "biuf":
        _, first, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True, axis=axis)
        return first, inverse.reshape(-1), counts
    order = np.lexsort(slices.T[::-1])
    ascending = slices[order]
    starts = np.ones(len(order), np.bool_)
    np.any(ascending[1:] != ascending[:-1], axis=1, out=starts[1:])
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.cumsum(starts) - 1
    return order[starts], inverse, np.diff(np.flatnonzero(starts), append=len(order))


def _keys(x: Array) -> Array:
    """What compares as the elements do: NumPy compares slices of numbers only, so of strings their places among all of them."""
    return np.unique(x, return_inverse=True)[1].reshape(x.shape) if x.dtype == object else x


HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {"unique": unique}
"""The steps of this module by name."""
