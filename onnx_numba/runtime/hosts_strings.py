"""Steps that move strings, at positions that were computed as numbers are, and that make numbers of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnx_numba.ir.abi import BUILD_TEXT
from onnx_numba.runtime.host import of_objects

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


@of_objects(BUILD_TEXT, lambda params: [])
def text(params: Mapping[str, Any], x: Array) -> tuple[Array, Array]:
    """Where each string's UTF-8 bytes begin and end, and the bytes: one at least, so that they have an address.

    Lone surrogates, which UTF-8 has no bytes for, become some that no other string has. With ``change``, ``LOWER`` or ``UPPER``, the
    strings are those that StringNormalizer makes, of which there is one at least.
    """
    items = x.reshape(-1).tolist()
    change = params.get("change")
    if change is not None:
        items = [item.lower() if change == "LOWER" else item.upper() for item in items or [""]]
    joined = "".join(items)
    data = joined.encode("utf-8", "surrogatepass")
    # As many bytes as characters: each character is one byte.
    parts = items if len(data) == len(joined) else [item.encode("utf-8", "surrogatepass") for item in items]
    stops = np.fromiter(map(len, parts), np.int64, len(parts)).cumsum()
    spans = np.zeros((len(parts), 2), np.int64)
    spans[:, 1], spans[1:, 0] = stops, stops[:-1]
    shape = x.shape if change is None else (*(1,) * (x.ndim - 1), len(parts))
    return spans.reshape(*shape, 2), np.frombuffer(data or b"\0", np.uint8)


HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {"strings_take": strings_take, "text": text}
