"""Steps of ai.onnx.ml on strings and maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnx_numba.ir.abi import BUILD_ITEMS, BUILD_MAPS
from onnx_numba.runtime.host import factory, of_objects
from onnx_numba.runtime.hosts_text import string_from_numbers, string_to_numbers

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]

MOST_SPELT_OUT = 64
"""Classes up to which a map is spelt out in code."""


@of_objects(BUILD_MAPS, lambda params: list(params["labels"]))
@factory
def zipmap(params: Params) -> Callable[[Array], tuple[list[dict[Any, float]]]]:
    """A map from class to score for every row.

    Few classes make a function of their own, which builds a row's map faster than ``dict(zip(…))`` (0.28 µs against
    0.72 for three classes)::

        lambda rows: [{'no': v0, 'yes': v1} for v0, v1, in rows]
    """
    labels = list(params["labels"])

    def general(rows: list[list[float]]) -> list[dict[Any, float]]:
        return [dict(zip(labels, row, strict=True)) for row in rows]

    build: Callable[[list[list[float]]], list[dict[Any, float]]] = general
    if 0 < len(labels) <= MOST_SPELT_OUT and len(set(labels)) == len(labels) and all(type(x) in (int, str) for x in labels):
        items = ", ".join(f"{label!r}: v{k}" for k, label in enumerate(labels))
        names = "".join(f"v{k}, " for k in range(len(labels)))
        build = eval(f"lambda rows: [{{{items}}} for {names}in rows]", {})

    def step(scores: Array) -> tuple[list[dict[Any, float]]]:
        return (build(scores.tolist() if scores.ndim > 1 else [scores.tolist()]),)

    return step


@of_objects(BUILD_ITEMS, lambda params: params["labels"].tolist())
def ml_labels(params: Params, positions: Array) -> tuple[Array]:
    """Class names at positions."""
    return (np.asarray(params["labels"][positions], object),)


def _storage(name: str) -> np.dtype[Any]:
    from onnx_numba.ir.types import DTYPES

    return DTYPES[name].numpy


def _array(values: list[Any], kind: np.dtype[Any]) -> Array:
    result = np.empty(len(values), kind)
    result[:] = values
    return result


def cast_map(params: Params, x: Mapping[int, Any]) -> tuple[Array]:
    """A map's values in the order of its keys, or at places given by them, as a row."""
    keys = sorted(x)
    if params["dense"]:
        return (_cast([x[key] for key in keys], params["given"], params["dtype"]).reshape(1, -1),)
    if keys and keys[0] < 0:
        raise ValueError(f"key {keys[0]} is no place in a row")
    places = [key for key in keys if key < params["size"]]
    row = np.full((1, params["size"]), params["fill"], _storage(params["dtype"]))
    row[0, places] = _cast([x[key] for key in places], params["given"], params["dtype"])
    return (row,)


def _cast(values: list[Any], given: str, dtype: str) -> Array:
    """Values of one element type as another, like Cast."""
    array = _array(values, _storage(given))
    if given == dtype:
        return array
    if given == "string":
        return string_to_numbers({"dtype": dtype}, array)[0]
    return string_from_numbers({}, array)[0] if dtype == "string" else array.astype(_storage(dtype))


def dict_vectorizer(params: Params, x: Mapping[Any, Any]) -> tuple[Array]:
    """A map's values in the order of a vocabulary, 0 (or an empty string) for those it lacks."""
    dtype = params["dtype"]
    if dtype == "string":
        return (_array([x.get(key, "") for key in params["vocabulary"]], np.dtype(object)).reshape(1, -1),)
    return (np.array([x.get(key, 0) for key in params["vocabulary"]], _storage(dtype)).reshape(1, -1),)


_STEPS = (zipmap, ml_labels, cast_map, dict_vectorizer)
HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {function.__name__: function for function in _STEPS}
"""The steps of this module by name."""
