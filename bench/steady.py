"""Time per call, once prepared: alternating calls of both runtimes in one process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import onnx_numba.backend as backend
from onnx_numba.cli import timing

REST = 0.05
"""Seconds before a block of calls with several threads: onnxruntime's spin on after a call and would take the other's cores."""


def measure(path: Path, feed: Mapping[str, Any], threads: int, seconds: float) -> dict[str, float]:
    """Median seconds per call of both, their ratio, and how far apart their outputs are."""
    rep = backend.prepare(path, num_threads=threads)
    session = _session(path, threads)
    only = next(iter(feed.values())) if len(feed) == 1 else feed
    distance = difference(list(rep.run(only)), session.run(None, dict(feed)))
    calls = {"ours": lambda: rep.run(only), "theirs": lambda: session.run(None, feed)}
    medians = timing.alternate(calls, seconds, rest=0.0 if threads == 1 else REST)
    return {**medians, "ratio": medians["theirs"] / medians["ours"], "difference": distance}


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def difference(got: Any, want: Any) -> float:
    """How far apart outputs are: max|got − want| / max|want|, the largest of all.

    For what is not floating it is the share that differs; another shape or type is infinitely far.
    """
    if isinstance(want, Mapping):
        return difference(list(got.values()), list(want.values())) if list(got) == list(want) else np.inf
    if isinstance(want, list):
        if want and isinstance(want[0], float):
            return difference(np.asarray(got), np.asarray(want))
        pairs = zip(got, want, strict=True) if len(got) == len(want) else [([], [0.0])]
        return max((difference(one, other) for one, other in pairs), default=0.0)
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape or got.dtype != want.dtype:
        return np.inf
    if want.size == 0:
        return 0.0
    if want.dtype.kind != "f":
        return float((got != want).mean())
    scale = np.abs(want[np.isfinite(want)]).max(initial=0.0) or 1.0
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    # Infinities that agree are `same`; their difference is NaN and of no interest.
    with np.errstate(invalid="ignore"):
        return float(np.where(same, 0.0, np.abs(got.astype("f8") - want.astype("f8"))).max() / scale)
