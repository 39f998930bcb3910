"""Figures of a case's results: ratios of speed, fractions of limits, memory, compile time. None where there is nothing to say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from bench import peers

Result = dict[str, Any]


def geometric_mean(ratios: Iterable[float]) -> float:
    """The mean of ratios; nan of none."""
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def measured(result: Result, threads: str, peer: str) -> Result | None:
    """What was measured of a peer, where it ran and its answer was right: a fast wrong answer counts for nothing."""
    found = result["steady"].get(threads, {}).get("peers", {}).get(peer)
    return found if found is not None and "median" in found and is_right(found, result["tolerance"]) else None


def is_right(found: Result, tolerance: float) -> bool:
    """Whether its outputs were near the reference's."""
    return found.get("difference", 0.0) <= tolerance


def ratio(result: Result, threads: str, peer: str) -> float | None:
    """Median time of the peer ÷ ours."""
    ours, theirs = measured(result, threads, peers.OURS), measured(result, threads, peer)
    return theirs["median"] / ours["median"] if ours and theirs else None


def over(*names: str) -> Callable[[Result, str], float | None]:
    """The ratio over the best of some peers."""

    def figure(result: Result, threads: str) -> float | None:
        return min((one for one in (ratio(result, threads, name) for name in names) if one is not None), default=None)

    return figure


def bandwidth(result: Result, threads: str) -> float | None:
    """Bytes in and out per second ÷ those of a copy; above one where all fits a cache."""
    return _of_limit(result, threads, "bytes_per_s", lambda limits: limits["bytes"])


def arithmetic(result: Result, threads: str) -> float | None:
    """Floating-point operations per second ÷ the most that the machine did."""
    return _of_limit(result, threads, "flops_per_s", lambda limits: result["flops"])


def _of_limit(result: Result, threads: str, limit: str, work: Callable[[Result], float]) -> float | None:
    ours, limits = measured(result, threads, peers.OURS), result["steady"].get(threads, {}).get("limits", {})
    return work(limits) / ours["median"] / limits[limit] if ours and limit in limits else None


def scaling(over: float = 0.0, under: float = math.inf) -> Callable[[Result, str], float | None]:
    """Time with one thread ÷ time with more, in the same call, for runs of so many seconds with one thread."""

    def figure(result: Result, threads: str) -> float | None:
        one = measured(result, threads, peers.OURS_ON_ONE_THREAD)
        return ratio(result, threads, peers.OURS_ON_ONE_THREAD) if one and over < one["median"] < under else None

    return figure


def memory(over: float) -> Callable[[Result, str], float | None]:
    """Peak of a run above the weights ÷ onnxruntime's, where that is over so many bytes and not the noise of allocators."""

    def figure(result: Result, threads: str) -> float | None:
        ours, theirs = (run_bytes(result, name) for name in (peers.OURS, peers.REFERENCE))
        # Weights that are mapped and were not read are no part of the process: what remains can be negative.
        return max(ours, 1.0) / theirs if ours is not None and theirs is not None and theirs > over else None

    return figure


def run_bytes(result: Result, peer: str) -> float | None:
    """What a process holds at most while it runs, above what it held before preparing, and above the weights."""
    found = started(result, peer)
    return found["run_bytes"] - result["starts"]["weights_bytes"] if found else None


def started(result: Result, peer: str) -> Result | None:
    """What was measured of a peer's whole processes."""
    found = result.get("starts", {}).get("warm", {}).get(peer)
    return found if found and "error" not in found else None


def cold(result: Result, threads: str) -> float | None:
    """Seconds of a cold compile."""
    return result.get("starts", {}).get("cold")
