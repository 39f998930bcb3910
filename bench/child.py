"""One process, from its start to a first result: ``python -m bench.child PEER FOLDER``, with one thread. It prints JSON.

It imports as little as it can, for what it measures is a start. ``cold`` as a third argument times the import of numba apart;
``memory OTHER`` measures memory instead, above that of a process which has run the small model of another folder.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from bench import peers
from bench.feed import read_feed

_RUNS_FOR_MEMORY = 3
_STATUS = Path("/proc/self/status")


def start(name: str, folder: Path, cold: bool) -> dict[str, Any]:
    """Prepare, run once, and say when that was."""
    feed, peer = read_feed(folder), peers.get(name)
    times: dict[str, Any] = {"import": sum(_import(module) for module in (*(("numba", "onnx") if cold else ()), peer.MODULES[0]))}
    started = time.perf_counter()
    runner = peer.load(folder, 1)
    times["prepare"] = time.perf_counter() - started
    call = runner.bind(feed)
    started = time.perf_counter()
    call()
    times["first_run"] = time.perf_counter() - started
    times["first_result_at"] = time.time()
    return times


def memory(name: str, folder: Path, small: Path) -> dict[str, Any]:
    """Bytes at most during a run, above those before preparing, when the peer's own code was there already."""
    feed, peer = read_feed(folder), peers.get(name)
    other = peer.load(small, 1)
    other.bind(read_feed(small))()
    before = _memory("VmRSS")
    runner = peer.load(folder, 1)
    _forget_peak()
    call = runner.bind(feed)
    for _ in range(_RUNS_FOR_MEMORY):
        call()
    return {"run_bytes": _memory("VmHWM") - before}


def _import(module: str) -> float:
    started = time.perf_counter()
    importlib.import_module(module)
    return time.perf_counter() - started


def _memory(what: str) -> int:
    """Resident memory of this program, now (``VmRSS``) or at most (``VmHWM``).

    Linux says it per program; ``ru_maxrss`` there also counts what the parent had when it started this one, and is what others have.
    """
    if _STATUS.exists():
        (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith(f"{what}:")]
        return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _forget_peak() -> None:
    """From here on the peak is that of the runs, not of preparing."""
    if _STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    peer, place, *mode = sys.argv[1:]
    measured = memory(peer, Path(place), Path(mode[1])) if mode[:1] == ["memory"] else start(peer, Path(place), mode == ["cold"])
    print(json.dumps(measured))
