"""Control flow that cannot be part of a plan, for its values are sequences, strings or of changing rank.

Bodies are compiled plans, the loop around them is Python; see `onnx_numba.ops.control` for what is done otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from onnx_numba.ir.types import DTYPES

Params = Mapping[str, Any]


def if_(params: Params, condition: Any, *captures: Any) -> tuple[Any, ...]:
    """Run one of two bodies."""
    split = params["split"]
    if _single(condition, "the condition"):
        return params["then"](*captures[:split])
    return params["otherwise"](*captures[split:])


def loop(params: Params, trip: Any, condition: Any, *values: Any) -> tuple[Any, ...]:
    """Run a body until its condition fails or the count is reached."""
    body, count = params["body"], params["state"]
    state, captures = [_kept(v) for v in values[:count]], values[count:]
    limit = None if trip is None else int(_single(trip, "the trip count"))
    going = True if condition is None else bool(_single(condition, "the condition"))
    shapes = [(1,) * rank for rank in params["ranks"]]
    collected: list[list[Any]] = [[] for _ in params["scans"]]
    number = 0
    while going and (limit is None or number < limit):
        counter = np.full(shapes[0], number, np.int64)
        again, *results = body(counter, np.full(shapes[1], going, np.bool_), *state, *captures)
        going = bool(_single(again, "the condition that the body gives"))
        state = results[:count]
        for items, item in zip(collected, results[count:], strict=True):
            items.append(item)
        number += 1
    return (*state, *(_stack(items, empty, 0) for items, empty in zip(collected, params["scans"], strict=True)))


def scan(params: Params, *values: Any) -> tuple[Any, ...]:
    """Run a body over slices."""
    count, scanned = params["state"], params["scanned"]
    state = [_kept(v) for v in values[:count]]
    sequences = [_slices(v, a, r) for v, a, r in zip(values[count:], params["axes"], params["directions"], strict=False)]
    state, collected = _over(params["body"], state, sequences, values[count + scanned :], len(params["scans"]))
    stacked = [
        _stack(items[::-1] if reverse else items, empty, axis)
        for items, empty, axis, reverse in zip(collected, params["scans"], params["out_axes"], params["out_directions"], strict=True)
    ]
    return (*state, *stacked)


def scan_batched(params: Params, lengths: Any, *values: Any) -> tuple[Any, ...]:
    """Scan of version 8: per batch entry, over as many steps as its length says; shorter outputs are filled up."""
    count, scanned = params["state"], params["scanned"]
    first, inputs, captures = values[:count], values[count : count + scanned], values[count + scanned :]
    batch, steps = inputs[0].shape[:2]
    if any(len(v) != batch for v in first) or any(v.shape[:2] != (batch, steps) for v in inputs):
        raise ValueError(f"inputs of shapes {[v.shape for v in (*first, *inputs)]} do not have the same batch, or length")
    limits = [steps] * batch if lengths is None else lengths.tolist()
    if len(limits) != batch or not all(0 <= n <= steps for n in limits):
        raise ValueError(f"sequence lengths {limits}, one from 0 to {steps} for each of {batch} batch entries is expected")
    states: list[list[Any]] = []
    outputs: list[list[list[Any]]] = []
    for entry, limit in enumerate(limits):
        sequences = [_slices(_at(v, entry)[:limit], 0, r) for v, r in zip(inputs, params["directions"], strict=True)]
        state, collected = _over(params["body"], [_kept(_at(v, entry)) for v in first], sequences, captures, len(params["scans"]))
        states.append(state)
        outputs.append(collected)
    last = [np.stack([state[k] for state in states]) if states else initial.copy() for k, initial in enumerate(first)]
    stacked = [_filled([entry[k] for entry in outputs], steps, empty) for k, empty in enumerate(params["scans"])]
    return (*last, *stacked)


def _over(
    body: Callable[..., tuple[Any, ...]], state: list[Any], sequences: Sequence[Sequence[Any]], captures: Iterable[Any], outputs: int
) -> tuple[list[Any], list[list[Any]]]:
    collected: list[list[Any]] = [[] for _ in range(outputs)]
    for slices in zip(*sequences, strict=True):
        results = body(*state, *slices, *captures)
        state = list(results[: len(state)])
        for items, item in zip(collected, results[len(state) :], strict=True):
            items.append(item)
    return state, collected


def _single(value: Any, what: str) -> Any:
    """The only element of a tensor."""
    array = np.asarray(value)
    if array.size != 1:
        raise ValueError(f"{what} has {array.size} elements, one is expected")
    return array.reshape(-1)[0]


def _at(value: Any, position: int) -> Any:
    """An entry along the first axis, an array even where that is a single string."""
    return value[position : position + 1].reshape(value.shape[1:])


def _slices(value: Any, axis: int, reverse: int) -> list[Any]:
    moved = np.moveaxis(value, axis, 0)
    order = range(len(moved))
    return [np.ascontiguousarray(part).reshape(part.shape) for part in (_at(moved, k) for k in (reversed(order) if reverse else order))]


def _stack(items: list[Any], empty: tuple[str, tuple[int, ...]], axis: int) -> Any:
    if items:
        return np.ascontiguousarray(np.stack(items, axis))
    name, shape = empty
    return np.zeros(shape, DTYPES[name].numpy)


def _filled(entries: list[list[Any]], steps: int, empty: tuple[str, tuple[int, ...]]) -> Any:
    """Per batch entry its rows, and after them rows of zeros, or of empty strings, up to ``steps``."""
    name, shape = empty
    shapes = [row.shape for rows in entries for row in rows]
    dtype = DTYPES[name]
    fill = np.full((shapes or [shape[2:]])[0], "" if dtype.kind == "s" else 0, dtype.numpy)
    if not entries or not steps:
        return np.zeros((len(entries), steps, *fill.shape), dtype.numpy)
    return np.stack([np.stack([*rows, *[fill] * (steps - len(rows))]) for rows in entries])


def _kept(value: Any) -> Any:
    """A value that may outlive the step: the caller's arrays are views of memory that is used again."""
    return value.copy() if isinstance(value, np.ndarray) else value


HOSTS = {"if": if_, "loop": loop, "scan": scan, "scan_batched": scan_batched}
