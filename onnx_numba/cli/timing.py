"""Fair timing of several functions: in alternating blocks, so that a slow phase of the machine hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

_BLOCK_SECONDS = 2e-3
"""Length of one block: far above the clock's own cost, far below a phase of the machine."""
_REST_SHARE = 5
"""A block lasts at least the rest before it divided by this: what fell asleep meanwhile, as threads do, wakes up in little of it."""
_FEWEST = 3
"""Blocks of each function, however long they take."""
_WARM_CALLS, _WARM_SECONDS = 12, 0.5
"""Calls before the first block, or those of so long a time: in its first runs a session tries one thread and several by turns."""


def alternate(calls: Mapping[str, Callable[[], Any]], seconds: float, rest: float = 0.0) -> dict[str, float]:
    """Name → median seconds per call over what ``blocks`` gives."""
    return {name: statistics.median(times) for name, times in blocks(calls, seconds, rest).items()}


def blocks(calls: Mapping[str, Callable[[], Any]], seconds: float, rest: float = 0.0) -> dict[str, list[float]]:
    """Measure functions against each other.

    Parameters
    ----------
    calls : mapping
        Name → function.
    seconds : float
        How long to measure each of them, rests not counted.
    rest : float
        Seconds to wait before each block and before the first calls: threads of the other runtime spin on for a while after its calls.

    Returns
    -------
    dict
        Name → seconds per call of every block; three blocks at least, the first calls not counted.
    """
    lengths, shortest = {}, max(_BLOCK_SECONDS, rest / _REST_SHARE)
    for name, call in calls.items():
        time.sleep(rest)
        lengths[name] = _block_length(call, shortest)
    measured: dict[str, list[float]] = {name: [] for name in calls}
    rounds, left = 0, seconds * len(calls)
    while rounds < _FEWEST or left > 0:
        for name, call in calls.items():
            time.sleep(rest)
            measured[name].append(_block(call, lengths[name]))
            left -= measured[name][-1] * lengths[name]
        rounds += 1
    return measured


def _block_length(call: Callable[[], Any], seconds: float) -> int:
    """Calls per block of at least so many seconds; warms up at the same time."""
    end = time.perf_counter() + _WARM_SECONDS
    for number in range(_WARM_CALLS):
        if number and time.perf_counter() > end:
            break
        call()
    length = 1
    while (taken := _block(call, length) * length) < seconds:
        length = max(2 * length, int(length * seconds / max(taken, 1e-9)))
    return length


def _block(call: Callable[[], Any], length: int) -> float:
    start = time.perf_counter()
    for _ in range(length):
        call()
    return (time.perf_counter() - start) / length


def text(seconds: float) -> str:
    """A duration with three digits and its unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
