"""Starting the processes that measure, and what they say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench import build, peers
from bench.case import Built, Case

_ROOT = Path(__file__).resolve().parents[1]
_WARM_STARTS = 3
"""The median of so many."""
_TIMEOUT = 400
_MEASURED = ("prepare", "first_result")


def steady(case: Case, folder: Path, threads: int, chosen: Sequence[str], seconds: float) -> dict[str, Any]:
    """Time per call of the peers on a case, with so many threads on so many cores."""
    names = [name for name in chosen if peers.get(name).applies(folder) and not (name == peers.OURS_ON_ONE_THREAD and threads == 1)]
    request = {
        "folder": str(folder),
        "threads": threads,
        "peers": names,
        "seconds": seconds,
        "streams": case.streams,
        "flops": case.flops is not None,
        "tolerance": case.tolerance,
    }
    return _json("bench.worker", [json.dumps(request)], _environment(threads))


def prime(store: Path, folder: Path) -> float:
    """Fill an empty store with the code that belongs to no model, by preparing an unrelated one; gives the seconds that took."""
    Built(build.model([build.node("Sign", "x", "y")], {"x": ["n"]}, {"y": ["n"]})).write(folder)
    np.savez(folder / "feed.npz", x=np.zeros(3, np.float32))
    return _start(peers.OURS, folder, store, "cold")["prepare"]


def starts(folder: Path, store: Path, primed: Path, small: Path, chosen: Sequence[str]) -> dict[str, Any]:
    """Whole processes with one thread: ours with an empty store, then all peers in turn, ours with a full one, then their memory."""
    shutil.copytree(primed, store)
    cold = _start(peers.OURS, folder, store, "cold")
    names = [name for name in peers.STARTED if name in chosen]
    rounds = [{name: _attempt(name, folder, store) for name in names} for _ in range(_WARM_STARTS)]
    warm = {name: _medians([one[name] for one in rounds]) | _attempt(name, folder, store, "memory", str(small)) for name in names}
    shutil.rmtree(store)
    weights = (folder / "model.onnx").stat().st_size
    return {"cold": cold["prepare"], "import_numba": cold["import"], "weights_bytes": weights, "warm": warm}


def _medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    failed = next((one for one in rounds if "error" in one), None)
    return failed or {key: median(one[key] for one in rounds) for key in _MEASURED}


def _attempt(name: str, folder: Path, store: Path, *mode: str) -> dict[str, Any]:
    try:
        return _start(name, folder, store, *mode)
    except RuntimeError as error:
        return {"error": str(error)}


def _start(name: str, folder: Path, store: Path, *mode: str) -> dict[str, Any]:
    # Bytecode is kept, as installing a package does it, whatever this process was told; `prime` imports what is imported later.
    kept = {key: value for key, value in _environment(1).items() if key != "PYTHONDONTWRITEBYTECODE"}
    places = {"ONNX_NUMBA_CACHE": str(store), "PYTHONPYCACHEPREFIX": str(folder.parent / "bytecode")}
    started = time.time()
    times = _json("bench.child", [name, str(folder), *mode], {**kept, **places})
    if "first_result_at" in times:
        times["first_result"] = times["first_result_at"] - started
    return times


def _environment(threads: int) -> dict[str, str]:
    counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    # In CI OpenVINO sends no telemetry: a thread does that, which competes with every peer's calls for the interpreter.
    return {**os.environ, **counts, "CI": "true"}


def _json(module: str, arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{module} took more than {_TIMEOUT} s") from error
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"{module} ended with {done.returncode}: {last[:300]}")
    return json.loads(done.stdout.splitlines()[-1])
