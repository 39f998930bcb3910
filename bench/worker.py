"""All peers on one case, alternating, in one process: ``python -m bench.worker REQUEST``, both ways JSON.

A process of its own, so that threads, settings and memory of one case are not those of the next, and a crash costs one case.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench import limits, outputs, peers
from bench.feed import read_feed
from onnx_numba.cli import timing

REST = 0.05
"""Seconds before a block of calls with several threads: those of some peers spin on after a call and would take the next one's cores."""
PATIENCE = 4.0
"""Seconds of a call after which a peer is not called again: that call is its time."""


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Load the peers, compare their outputs, time them."""
    folder, threads = Path(request["folder"]), request["threads"]
    pin(threads)
    feed, turns = read_feed(folder), _single_rows(read_feed(folder, "turns.npz"))
    calls: dict[str, Callable[[], Any]] = {}
    results: dict[str, dict[str, Any]] = {}
    answers: dict[str, list[Any]] = {}
    for name in request["peers"]:
        try:
            calls[name], results[name], answers[name] = _first_call(name, folder, [feed, *turns], threads)
        except Exception as error:
            results[name] = {"error": _words(error)}
    _compare(results, answers, request["tolerance"], lambda: _standard(folder, feed))
    moved = sum(_bytes(value) for value in [*feed.values(), *next(iter(answers.values()), [])])
    del answers
    bounds = _limits(request, moved, threads)
    for name in [name for name in calls if results[name]["first_call"] > PATIENCE]:
        del calls[name]
        results[name].update(_statistics([results[name]["first_call"]]))
    blocks = timing.blocks({**calls, **bounds}, request["seconds"], rest=0.0 if threads == 1 else REST) if calls else {}
    for name in calls:
        results[name].update(_statistics(blocks[name]))
    return {"peers": results, "limits": _limit_values(bounds, blocks, moved)}


def _words(error: Exception) -> str:
    """An error in one line; of a long one the start and the end, where some peers say what it was."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= 240 else f"{text[:100]} … {text[-140:]}"


def pin(threads: int) -> None:
    """Keep this process on as many cores as it has threads: the last ones, as the first serve interrupts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def _single_rows(feed: dict[str, Any]) -> list[dict[str, Any]]:
    rows = len(next(iter(feed.values()), ()))
    return [{name: array[k : k + 1].copy() for name, array in feed.items()} for k in range(rows)]


def _in_turn(calls: list[Callable[[], Any]]) -> Callable[[], Any]:
    """One call that makes these in turn, and takes some 50 ns more than they do."""
    following = itertools.cycle(calls).__next__
    return lambda: following()()


def _first_call(
    name: str, folder: Path, feeds: list[dict[str, Any]], threads: int
) -> tuple[Callable[[], Any], dict[str, Any], list[Any]]:  # fmt: skip
    runner = peers.get(name).load(folder, threads)
    feed, *turns = feeds
    call = runner.bind(feed)
    started = time.perf_counter()
    result = runner.outputs(call())
    # Some compile at the first call: only the second says how long a call is.
    first = time.perf_counter() - started
    if first > PATIENCE:
        started = time.perf_counter()
        call()
        first = time.perf_counter() - started
    return _in_turn([runner.bind(other) for other in turns]) if turns else call, {"first_call": first}, result


def _compare(
    results: dict[str, dict[str, Any]], answers: dict[str, list[Any]], tolerance: float, standard: Callable[[], list[Any]]
) -> None:
    """How far every peer is from the reference, which is the first that ran where it itself did not.

    Where a runtime disagrees with it, onnx's own interpreter is asked, and it is the reference if a peer agrees with it: onnxruntime's
    sums of bytes saturate on processors without VNNI (its documentation, "Quantize ONNX Models", on U8S8).
    """
    reference = peers.REFERENCE if peers.REFERENCE in answers else next((name for name in answers if name != peers.OURS), None)
    if reference is None:
        return
    far = {name: _far(name, answer, reference, answers[reference]) for name, answer in answers.items() if name != reference}
    if any(peers.runs_onnx(name) and not distance <= tolerance for name, distance in far.items()):
        try:
            right = standard()
        except Exception:  # it does not run every model: then the disagreement is reported as it is
            right = []
        judged = {name: _far(name, answer, reference, right) for name, answer in answers.items()}
        if right and any(distance <= tolerance for distance in judged.values()):
            reference, far = "onnx.reference", judged
    for name, distance in far.items():
        results[name].update(difference=distance, reference=reference)


def _far(name: str, answer: list[Any], reference: str, right: list[Any]) -> float:
    of_onnx = peers.runs_onnx(name) and peers.runs_onnx(reference)
    return (outputs.difference if of_onnx else outputs.difference_of_values)(answer, right)


def _standard(folder: Path, feed: dict[str, Any]) -> list[Any]:
    """The outputs of onnx's own interpreter."""
    from onnx.reference import ReferenceEvaluator

    return list(ReferenceEvaluator(folder / "model.onnx").run(None, feed))


def _bytes(value: Any) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else 0


def _limits(request: dict[str, Any], moved: int, threads: int) -> dict[str, Callable[[], Any]]:
    bounds: dict[str, Callable[[], Any]] = {}
    if request["streams"]:
        bounds["copy"] = limits.Copy(moved, threads)
    if request["flops"]:
        bounds.update(limits.multiply_adds(threads))
    return bounds


def _limit_values(bounds: dict[str, Any], blocks: dict[str, list[float]], moved: int) -> dict[str, float]:
    """Bytes moved per run and per second, floating-point operations per second.

    Copying is looked at as the peers are, by its median. What a core can compute is the most that it ever did.
    """
    values: dict[str, float] = {}
    if not blocks:
        return values
    if "copy" in bounds:
        values["bytes"] = moved
        values["bytes_per_s"] = moved * bounds["copy"].repeats / statistics.median(blocks["copy"])
    rates = [bound.flops / min(blocks[name]) for name, bound in bounds.items() if name != "copy"]
    if rates:
        values["flops_per_s"] = max(rates)
    return values


def _statistics(blocks: list[float]) -> dict[str, float]:
    """Median, quartiles and their number."""
    low, _, high = statistics.quantiles(blocks, n=4, method="inclusive") if len(blocks) > 1 else blocks * 3
    return {"median": statistics.median(blocks), "low": low, "high": high, "blocks": len(blocks)}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
