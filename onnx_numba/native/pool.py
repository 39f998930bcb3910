"""Parallel regions: the native half of the thread pool.

A *region* runs one kernel over ``[0, total)`` in chunks of ``grain``. Chunks are claimed from an atomic ticket: the generation of
the region in its upper half, the chunks nobody has claimed yet in its lower. The caller publishes a region by storing a new
ticket and claims chunks like everybody else, so a worker that comes late, or never, delays nothing; all there is to wait for at
the end are chunks that somebody is working on. The region's description is read after a successful claim and at no other time:
while a claimed chunk is unfinished the caller does not return, so the description stays.

Workers look for work for a bounded time, then sleep on a lock of their own. The lock is CPython's ``PyThread_type_lock``, which
every platform has and which needs no GIL. No wake-up is lost: a worker says that it is asleep and then looks at the ticket once
more, the caller stores the ticket and then looks for sleepers. A worker begins asleep, since only who is woken is kept off the
caller's processor.

The functions are compiled by numba; words are named in ``onnx_numba.ir.abi``.
"""

from __future__ import annotations

from onnx_numba.ir.abi import (
    CTX_STRIDE,
    LOCK_ADDRESS,
    LOCK_ASLEEP,
    LOCK_AVOIDED,
    LOCK_STRIDE,
    LOCK_THREAD,
    MAX_CHUNKS,
    NOT_FAILED,
    P_ACQUIRE,
    P_ARGS,
    P_BUSY,
    P_CHUNKS,
    P_CTX,
    P_DIMS,
    P_FAILED,
    P_FINISHED,
    P_GRAIN,
    P_KERNEL,
    P_LOCKS,
    P_MASK,
    P_MASK_WORDS,
    P_PLACE,
    P_PROCESSOR,
    P_RELEASE,
    P_SLEEPING,
    P_SPIN,
    P_STATE,
    P_STOP,
    P_TICKET,
    P_TOTAL,
    P_WORKERS,
    S_ARGS,
    S_AROUND,
    S_CANCEL,
    S_CTX,
    S_DIMS,
)
from onnx_numba.ir.plan import CTX_AROUND, CTX_INDEX, CTX_STATUS
from onnx_numba.native.address import call_c
from onnx_numba.native.memory import POINTERS, atomic_add, atomic_load, atomic_store, call_kernel, cas, pause

i64_p = next(record for record in POINTERS if record.name == "i64_p")
i64_at = next(record for record in POINTERS if record.name == "i64_at")

_CHUNK_MASK = (1 << 32) - 1
_INT = (1 << 32) - 1


def claim(pool):  # type: ignore[no-untyped-def]
    """Take one chunk of the current region: how many were left with it, or 0 if there was none."""
    while True:
        ticket = atomic_load(pool, P_TICKET)
        left = ticket & _CHUNK_MASK
        if left == 0 or cas(pool, P_TICKET, ticket, ticket - 1):
            return left


def run_chunk(pool, worker, left):  # type: ignore[no-untyped-def]
    """Run a claimed chunk, unless one before it has failed or the run was cancelled.

    Chunks are claimed in order, so every chunk before the first failing one runs, and the smallest failing index is found whoever
    ran what.
    """
    chunk = pool[P_CHUNKS] - left
    state = i64_p(pool, P_STATE)
    if chunk < atomic_load(pool, P_FAILED) and atomic_load(state, S_CANCEL) == 0:
        ctx = i64_at(i64_p(pool, P_CTX), worker * CTX_STRIDE)
        ctx[CTX_AROUND] = state[S_AROUND]
        low = chunk * pool[P_GRAIN]
        high = min(pool[P_TOTAL], low + pool[P_GRAIN])
        status = call_kernel(pool[P_KERNEL], ctx, i64_p(pool, P_ARGS), i64_p(pool, P_DIMS), low, high)
        if status != 0 or ctx[CTX_STATUS] != 0:
            if ctx[CTX_STATUS] == 0:
                ctx[CTX_STATUS] = status
                ctx[CTX_INDEX] = low
            while True:
                failed = atomic_load(pool, P_FAILED)
                if chunk >= failed or cas(pool, P_FAILED, failed, chunk):
                    break
    atomic_add(pool, P_FINISHED, 1)


def keep_apart(pool, lock):  # type: ignore[no-untyped-def]
    """Take the caller's processor from those that a sleeping worker may be woken on.

    Linux wakes a thread where its waker runs unless it sees an idle processor, and a virtual machine's idle processors look busy to
    it (``vcpu_is_preempted`` in its kernel/sched): the worker would wait until the caller has done all the work. Who holds the
    region alone uses the mask, so the bit can be left out for the length of the call.
    """
    if pool[P_PROCESSOR] == 0:
        return
    processor = call_c(pool[P_PROCESSOR]) & _INT
    if processor == lock[LOCK_AVOIDED] or processor >= 64 * pool[P_MASK_WORDS]:
        return
    mask = i64_p(pool, P_MASK)
    kept = mask[processor >> 6]
    mask[processor >> 6] = kept & ~(1 << (processor & 63))
    # It fails, and nothing changes, if there is no other processor.
    call_c(pool[P_PLACE], lock[LOCK_THREAD], 8 * pool[P_MASK_WORDS], pool[P_MASK])
    mask[processor >> 6] = kept
    lock[LOCK_AVOIDED] = processor


def wake(pool, wanted):  # type: ignore[no-untyped-def]
    """Wake up to that many sleeping workers."""
    for worker in range(pool[P_WORKERS]):
        if wanted <= 0 or atomic_load(pool, P_SLEEPING) == 0:
            break
        lock = i64_at(pool, P_LOCKS + worker * LOCK_STRIDE)
        if atomic_load(lock, LOCK_ASLEEP) == 1 and cas(lock, LOCK_ASLEEP, 1, 0):
            atomic_add(pool, P_SLEEPING, -1)
            keep_apart(pool, lock)
            call_c(pool[P_RELEASE], lock[LOCK_ADDRESS])
            wanted -= 1


def region(pool, state, kernel, total, grain):  # type: ignore[no-untyped-def]
    """Run a kernel's chunks on all threads; its buffers and dims stand in the state.

    Returns 0 if all is well, 1 if a chunk failed or was left out, -1 if nothing was done because the pool is busy or there are
    too many chunks to count.
    """
    chunks = (total + grain - 1) // grain
    if chunks >= MAX_CHUNKS or not cas(pool, P_BUSY, 0, 1):
        return -1
    pool[P_STATE] = state[0]
    pool[P_KERNEL] = kernel
    pool[P_CTX] = state[S_CTX]
    pool[P_ARGS] = state[S_ARGS]
    pool[P_DIMS] = state[S_DIMS]
    pool[P_TOTAL] = total
    pool[P_GRAIN] = grain
    pool[P_CHUNKS] = chunks
    pool[P_FINISHED] = 0
    pool[P_FAILED] = NOT_FAILED
    generation = (atomic_load(pool, P_TICKET) >> 32) + 1
    atomic_store(pool, P_TICKET, ((generation & 0x7FFFFFFF) << 32) | chunks)
    if atomic_load(pool, P_SLEEPING) != 0:
        wake(pool, chunks - 1)
    while True:
        left = claim(pool)
        if left == 0:
            break
        run_chunk(pool, 0, left)
    while atomic_load(pool, P_FINISHED) < chunks:
        pause()
    bad = 0
    if atomic_load(pool, P_FAILED) != NOT_FAILED or atomic_load(state, S_CANCEL) != 0:
        bad = 1
    atomic_store(pool, P_BUSY, 0)
    return bad


def sleep(pool, worker):  # type: ignore[no-untyped-def]
    """Wait until woken, unless there is work by now."""
    lock = i64_at(pool, P_LOCKS + (worker - 1) * LOCK_STRIDE)
    atomic_store(lock, LOCK_ASLEEP, 1)
    atomic_add(pool, P_SLEEPING, 1)
    work = (atomic_load(pool, P_TICKET) & _CHUNK_MASK) != 0 or atomic_load(pool, P_STOP) != 0
    if work and cas(lock, LOCK_ASLEEP, 1, 0):
        atomic_add(pool, P_SLEEPING, -1)
        return
    call_c(pool[P_ACQUIRE], lock[LOCK_ADDRESS], 1)


def worker(pool, number):  # type: ignore[no-untyped-def]
    """What a worker's thread does until the pool is stopped; the caller is number 0, workers begin at 1."""
    idle = pool[P_SPIN]
    while atomic_load(pool, P_STOP) == 0:
        left = claim(pool)
        if left != 0:
            run_chunk(pool, number, left)
            idle = 0
        elif idle < pool[P_SPIN]:
            idle += 1
            pause()
        else:
            sleep(pool, number)
            idle = 0
    return 0


def spin(rounds):  # type: ignore[no-untyped-def]
    """Pause so many times, to measure how long that takes."""
    for _ in range(rounds):
        pause()
    return 0
