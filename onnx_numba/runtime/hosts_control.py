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
    if bool(np.asarray(condition).reshape(-1)[0]):
        return params["then"](*captures[:split])
    return params["otherwise"](*captures[split:])


def loop(params: Params, trip: Any, condition: Any, *values: Any) -> tuple[Any, ...]:
    """Run a body until its condition fails or the count is reached."""
    body, count = params["body"], params["state"]
    state, captures = [_kept(v) for v in values[:count]], values[count:]
    limit = None if trip is None else int(np.asarray(trip).reshape(-1)[0])
    going = True if condition is None else bool(np.asarray(condition).reshape(-1)[0])
    shapes = [(1,) * rank for rank in params["ranks"]]
    collected: list[list[Any]] = [[] for _ in params["scans"]]
    number = 0
    while going and (limit is None or number < limit):
        counter = np.full(shapes[0], number, np.int64)
        again, *results = body(counter, np.full(shapes[1], going, np.bool_), *state, *captures)
        going = bool(np.asarray(again).reshape(-1)[0])
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
    """Scan of version 8: per batch entry, over as many steps as its length says; shorter outputs are padded with zeros."""
    count, scanned = params["state"], params["scanned"]
    inputs, captures = values[count : count + scanned], values[count + scanned :]
    states: list[list[Any]] = []
    outputs: list[list[Any]] = []
    for entry in range(len(inputs[0])):
        steps = inputs[0].shape[1] if lengths is None else int(lengths[entry])
        sequences = [_slices(v[entry][:steps], 0, r) for v, r in zip(inputs, params["directions"], strict=True)]
        state, collected = _over(params["body"], [_kept(v[entry]) for v in values[:count]], sequences, captures, len(params["scans"]))
        states.append(state)
        outputs.append([_padded(items, inputs[0].shape[1]) for items in collected])
    return (*(np.stack(column) for column in zip(*states, strict=True)), *(np.stack(column) for column in zip(*outputs, strict=True)))


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


def _slices(value: Any, axis: int, reverse: int) -> list[Any]:
    moved = np.moveaxis(value, axis, 0)
    return [np.ascontiguousarray(part).reshape(part.shape) for part in (moved[::-1] if reverse else moved)]


def _stack(items: list[Any], empty: tuple[str, tuple[int, ...]], axis: int) -> Any:
    if items:
        return np.ascontiguousarray(np.stack(items, axis))
    name, shape = empty
    return np.zeros(shape, DTYPES[name].numpy)


def _padded(items: list[Any], steps: int) -> Any:
    missing = [np.zeros_like(items[0])] * (steps - len(items))
    return np.stack([*items, *missing])


def _kept(value: Any) -> Any:
    """A value that may outlive the step: the caller's arrays are views of memory that is used again."""
    return value.copy() if isinstance(value, np.ndarray) else value


HOSTS = {"if": if_, "loop": loop, "scan": scan, "scan_batched": scan_batched}
