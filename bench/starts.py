"""Starts of whole processes: cold compile, warm prepare, first result, peak memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.models import chain

_ROOT = Path(__file__).resolve().parents[1]
_WARM_STARTS = 3


def prime(store: Path, folder: Path) -> float:
    """Fill an empty store with the code that belongs to no model, by preparing an unrelated one; gives the seconds that took."""
    import numpy as np
    import onnx

    from onnx_numba.cli import values

    onnx.save(chain(("Sign",)), folder / "prime.onnx")
    values.write_npz(folder / "prime.npz", {"x": np.zeros(3, np.float32)})
    return _start("ours-cold", folder / "prime.onnx", folder / "prime.npz", 1, store)["prepare"]


def measure(model: Path, feed: Path, primed: Path, folder: Path) -> dict[str, Any]:
    """Cold and warm starts of onnx_numba, and starts of onnxruntime, each in processes of its own with one thread."""
    store = folder / "store"
    shutil.copytree(primed, store)
    cold = _start("ours-cold", model, feed, 1, store)
    warm, theirs = [], []
    for _ in range(_WARM_STARTS):
        warm.append(_start("ours", model, feed, 1, store))
        theirs.append(_start("theirs", model, feed, 1, store))
    shutil.rmtree(store)
    return {
        "cold_prepare": cold["prepare"],
        "import_numba": cold["import_numba"],
        "warm_imported": warm[0]["imported"],
        **{f"warm_{name}": median(start[name] for start in warm) for name in ("prepare", "first_result", "peak_mb")},
        **{f"theirs_{name}": median(start[name] for start in theirs) for name in ("prepare", "first_result", "peak_mb")},
    }


def _start(runtime: str, model: Path, feed: Path, threads: int, store: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.child", runtime, str(model), str(feed), str(threads)]
    environment = {**os.environ, "ONNX_NUMBA_CACHE": str(store)}
    started = time.time()
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])} failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    times = json.loads(done.stdout.splitlines()[-1])
    times["first_result"] = times["first_result_at"] - started
    return times
