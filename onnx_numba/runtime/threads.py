"""The thread pool's Python half: how many threads, starting and stopping them, and a fresh start after a fork.

Workers are daemon threads that call compiled code once and stay there, without the GIL, until the pool is stopped; see
``onnx_numba.native.pool`` for what they do. Threads are started when the first parallel region needs them.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnx_numba.ir.abi import (
    P_ACQUIRE,
    P_BUSY,
    P_MASK,
    P_MASK_WORDS,
    P_PLACE,
    P_PROCESSOR,
    P_REGION,
    P_RELEASE,
    P_SEATS,
    P_SLEEPING,
    P_SPIN,
    P_STARTED,
    P_STOP,
    P_WORKERS,
    SEAT_ASLEEP,
    SEAT_AVOIDED,
    SEAT_LOCK,
    SEAT_SHARE,
    SEAT_STRIDE,
    SEAT_THREAD,
)
from onnx_numba.runtime.fork import on_fork
from onnx_numba.runtime.state import address_of, words

if TYPE_CHECKING:
    from onnx_numba.runtime.engine import NativeCode

_SPIN_SECONDS = 100e-6
"""How long a worker looks for work before it sleeps: longer than the gap between two steps, shorter than a scheduler's tick."""


def thread_count(requested: int | None) -> int:
    """Threads for one run: the number asked for, else what affinity and the cgroup's quota allow."""
    if requested is not None:
        return requested
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:
        allowed = os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, min(allowed, math.ceil(quota) if quota is not None else allowed))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """Processors that this process's cgroup may use, the least of all its ancestors', or None without a limit."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root if not controllers else root / "cpu"
        group = base / path.lstrip("/")
        for directory in (group, *group.parents):
            limit = _quota_of(directory)
            if limit is not None:
                limits.append(limit)
            if directory == base:
                break
    return min(limits, default=None)


def _quota_of(directory: Path) -> float | None:
    try:
        if (directory / "cpu.max").exists():
            quota, period = (directory / "cpu.max").read_text().split()
        else:
            quota = (directory / "cpu.cfs_quota_us").read_text().strip()
            period = (directory / "cpu.cfs_period_us").read_text().strip()
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError):
        return None


def _address_in(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def processor_mask(processors: Collection[int]) -> NDArray[np.int64]:
    """Processors as the bits that ``sched_setaffinity`` takes."""
    mask = np.zeros(max(processors) // 64 + 1, np.uint64)
    for number in processors:
        mask[number // 64] |= np.uint64(1 << number % 64)
    return mask.view(np.int64)


def _held_lock() -> int:
    """A new ``PyThread_type_lock``, taken, so that whoever acquires it next sleeps until it is released."""
    allocate, acquire = ctypes.pythonapi.PyThread_allocate_lock, ctypes.pythonapi.PyThread_acquire_lock
    allocate.restype, allocate.argtypes = ctypes.c_void_p, []
    acquire.restype, acquire.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]
    lock = allocate()
    if not lock:
        raise MemoryError("no lock for a worker thread")
    acquire(lock, 0)
    return int(lock)


class Pool:
    """Worker threads that serve one parallel region at a time; a region that finds the pool busy runs on its caller alone.

    Parameters
    ----------
    threads : int
        Threads of a region, its caller included.
    code : NativeCode
        The workers' machine code.
    """

    def __init__(self, threads: int, code: NativeCode) -> None:
        self.threads = threads
        self._code = code
        self._words: NDArray[np.int64] = words(P_SEATS + threads * SEAT_STRIDE)
        self.address = address_of(self._words)
        self._lock = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._mask: NDArray[np.int64] | None = None
        self._words[P_ACQUIRE] = _address_in(ctypes.pythonapi, "PyThread_acquire_lock")
        self._words[P_RELEASE] = _address_in(ctypes.pythonapi, "PyThread_release_lock")
        self._words[P_SPIN] = _spin_rounds(code)
        on_fork(self)
        self._stop = weakref.finalize(self, _stop, self._words, self._workers)

    def start(self) -> None:
        """Start the workers, unless they run already. A system that gives fewer threads gets a smaller pool."""
        with self._lock:
            if self._words[P_STARTED]:
                return
            self._allow_processors()
            for number in range(1, self.threads):
                seat = P_SEATS + number * SEAT_STRIDE
                self._words[seat + SEAT_LOCK] = _held_lock()
                self._words[seat + SEAT_AVOIDED] = -1
                thread = threading.Thread(target=_work, args=(self._code, self._words, number), name=f"onnx-numba-{number}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    break
                self._words[seat + SEAT_THREAD] = thread.native_id or 0
                self._workers.append(thread)
            self._words[P_WORKERS] = len(self._workers)
            self._words[P_STARTED] = 1

    def _allow_processors(self) -> None:
        """Say where workers may be woken: where the thread that starts them may run. Linux only; see `onnx_numba.native.pool`."""
        if not sys.platform.startswith("linux"):
            return
        system = ctypes.CDLL(None)
        self._mask = processor_mask(os.sched_getaffinity(0))
        self._words[P_MASK], self._words[P_MASK_WORDS] = address_of(self._mask), self._mask.size
        self._words[P_PLACE] = _address_in(system, "sched_setaffinity")
        self._words[P_PROCESSOR] = _address_in(system, "sched_getcpu")

    def stop(self) -> None:
        """End the threads; no region may be in progress. They are started again when needed."""
        with self._lock:
            _stop(self._words, self._workers)
            self._reset()

    def after_fork(self) -> None:
        """Forget the threads, which only the parent has, and whatever region they were in."""
        self._lock = threading.Lock()
        self._workers.clear()
        self._reset()

    def _reset(self) -> None:
        self._words[[P_REGION, P_BUSY, P_SLEEPING, P_STOP, P_STARTED, P_WORKERS]] = 0
        for word in (SEAT_SHARE, SEAT_ASLEEP):
            self._words[P_SEATS + word :: SEAT_STRIDE] = 0


def _work(code: NativeCode, pool: NDArray[np.int64], number: int) -> None:
    """A worker's thread; it holds the words and the code, never the pool, which would then live for ever."""
    code.worker(address_of(pool), number)


def _stop(pool: NDArray[np.int64], workers: list[threading.Thread]) -> None:
    """Tell the workers to leave, wake those that sleep, and wait for them."""
    if not workers:
        return
    release = ctypes.pythonapi.PyThread_release_lock
    release.restype, release.argtypes = None, [ctypes.c_void_p]
    pool[P_STOP] = 1
    while any(thread.is_alive() for thread in workers):
        for number in range(1, len(workers) + 1):
            seat = P_SEATS + number * SEAT_STRIDE
            if pool[seat + SEAT_ASLEEP]:
                # Only this thread wakes by now, so a plain exchange will do.
                pool[seat + SEAT_ASLEEP] = 0
                release(int(pool[seat + SEAT_LOCK]))
        for thread in workers:
            thread.join(0.001)
    workers.clear()


def _spin_rounds(code: NativeCode) -> int:
    """Rounds of waiting in ``_SPIN_SECONDS``: how long a pause takes differs by a factor of ten between processors."""
    rounds = 2000
    best = math.inf
    for _ in range(3):
        begun = time.perf_counter()
        code.spin(rounds)
        best = min(best, time.perf_counter() - begun)
    return max(100, int(rounds * _SPIN_SECONDS / best))


class _Pools:
    """One pool per number of threads, shared by all sessions of the process and gone with the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: weakref.WeakValueDictionary[tuple[int, int], Pool] = weakref.WeakValueDictionary()
        on_fork(self)

    def get(self, threads: int, code: NativeCode) -> Pool:
        with self._lock:
            pool = self._pools.get((threads, id(code)))
            if pool is None:
                pool = self._pools[threads, id(code)] = Pool(threads, code)
            return pool

    def after_fork(self) -> None:
        self._lock = threading.Lock()


_POOLS = _Pools()


def pool_for(threads: int, code: NativeCode) -> Pool:
    """The process's pool of that size."""
    return _POOLS.get(threads, code)
