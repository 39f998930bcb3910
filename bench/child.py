"""One process, from its start to a first result: ``python -m bench.child RUNTIME MODEL FEED THREADS``. Prints JSON.

It imports as little as it can, for what it measures is a start.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_RUNS_FOR_MEMORY = 5


def main(runtime: str, model: str, feed: str, threads: int) -> dict[str, Any]:
    """Prepare, run once, and say when that was."""
    with np.load(feed) as archive:
        arrays = dict(archive)
    inputs = {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in arrays.items()}
    times: dict[str, Any] = {}
    run = _PREPARE[runtime](model, threads, times)
    started = time.perf_counter()
    run(inputs)
    times["first_run"] = time.perf_counter() - started
    times["first_result_at"] = time.time()
    times["imported"] = [name for name in ("onnx", "numba", "llvmlite") if name in sys.modules]
    for _ in range(_RUNS_FOR_MEMORY):
        run(inputs)
    times["peak_mb"] = _peak_bytes() / 1e6
    return times


def _peak_bytes() -> int:
    """Peak resident memory of this program.

    Linux says it per program; ``ru_maxrss`` there also counts what the parent had when it started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _ours(model: str, threads: int, times: dict[str, Any]) -> Callable[[Any], Any]:
    from onnx_numba import backend

    started = time.perf_counter()
    rep = backend.prepare(model, num_threads=threads)
    times["prepare"] = time.perf_counter() - started
    return rep.run


def _ours_cold(model: str, threads: int, times: dict[str, Any]) -> Callable[[Any], Any]:
    """As ``_ours``, with the import of numba, llvmlite and onnx timed apart from compiling."""
    started = time.perf_counter()
    import numba  # noqa: F401
    import onnx  # noqa: F401

    times["import_numba"] = time.perf_counter() - started
    return _ours(model, threads, times)


def _onnxruntime(model: str, threads: int, times: dict[str, Any]) -> Callable[[Any], Any]:
    import onnxruntime

    started = time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    times["prepare"] = time.perf_counter() - started
    return lambda inputs: session.run(None, inputs)


_PREPARE = {"ours": _ours, "ours-cold": _ours_cold, "theirs": _onnxruntime}

if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))))
