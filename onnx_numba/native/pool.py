"""Parallel regions: the native half of the thread pool.

A *region* runs one kernel over ``[0, total)`` in chunks of ``grain``. Every thread has a *share* of the chunks, as many one after
another as any other's and always in the same order: what a thread writes in one region it mostly finds in its own cache in the next, which
is three times as fast as taking it from another core's. A thread takes chunks from the beginning of its share, and when that is empty from
the ends of others'. So a worker that comes late, or never, delays nothing; all there is to wait for at the end are chunks that somebody
is working on. The caller takes part like everybody else. The region's description is read after a successful claim and at no other time:
while a claimed chunk is unfinished the caller does not return, so the description stays.

Workers look for work for a bounded time, then sleep on a lock of their own. The lock is CPython's ``PyThread_type_lock``, which
every platform has and which needs no GIL. No wake-up is lost: a worker says that it is asleep and then looks at the region's
number once more, the caller stores the number and then looks for sleepers. A worker begins asleep, since only who is woken is kept off the
caller's processor.

The functions are compiled by numba; words are named in ``onnx_numba.ir.abi``.
"""

from __future__ import annotations

from onnx_numba.ir.abi import (
    CTX_STRIDE,
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
    P_MASK,
    P_MASK_WORDS,
    P_PLACE,
    P_PROCESSOR,
    P_REGION,
    P_RELEASE,
    P_SEATS,
    P_SLEEPING,
    P_SPIN,
    P_STATE,
    P_STOP,
    P_TOTAL,
    P_WORKERS,
    S_ARGS,
    S_AROUND,
    S_CANCEL,
    S_CTX,
    S_DIMS,
    SEAT_ASLEEP,
    SEAT_AVOIDED,
    SEAT_LOCK,
    SEAT_SHARE,
    SEAT_STRIDE,
    SEAT_THREAD,
    SHARE_BITS,
)
from onnx_numba.ir.plan import CTX_AROUND, CTX_INDEX, CTX_STATUS
from onnx_numba.native.address import call_c
from onnx_numba.native.memory import POINTERS, atomic_add, atomic_load, atomic_store, call_kernel, cas, pause

i64_p = next(record for record in POINTERS if record.name == "i64_p")
i64_at = next(record for record in POINTERS if record.name == "i64_at")

_CHUNK = (1 << SHARE_BITS) - 1
_GENERATION = (1 << (62 - 2 * SHARE_BITS)) - 1
_INT = (1 << 32) - 1


def claim(pool, number):  # type: ignore[no-untyped-def]
    """Take a chunk of the current region for that thread, from its own share or from another's: the chunk, or -1 if none is left."""
    seat = number
    for _ in range(pool[P_WORKERS] + 1):
        at = P_SEATS + seat * SEAT_STRIDE + SEAT_SHARE
        while True:
            share = atomic_load(pool, at)
            first = (share >> SHARE_BITS) & _CHUNK
            end = share & _CHUNK
            if first >= end:
                break
            if seat == number:
                if cas(pool, at, share, share + (1 << SHARE_BITS)):
                    return first
            elif cas(pool, at, share, share - 1):
                return end - 1
        seat = seat + 1 if seat < pool[P_WORKERS] else 0
    return -1


def share_out(pool, chunks):  # type: ignore[no-untyped-def]
    """Give every thread its share of a new region's chunks, all of those who get any about as many, the caller one at least."""
    region = atomic_load(pool, P_REGION) + 1
    threads = min(pool[P_WORKERS] + 1, chunks)
    each = chunks // threads
    more = chunks - each * threads
    first = 0
    for seat in range(threads):
        end = first + each + (1 if seat < more else 0)
        share = ((region & _GENERATION) << (2 * SHARE_BITS)) | (first << SHARE_BITS) | end
        atomic_store(pool, P_SEATS + seat * SEAT_STRIDE + SEAT_SHARE, share)
        first = end
    atomic_store(pool, P_REGION, region)


def run_chunk(pool, worker, chunk):  # type: ignore[no-untyped-def]
    """Run a claimed chunk, unless one before it has failed or the run was cancelled.

    Every chunk before the first failing one runs, so the smallest failing index is found whoever ran what and in which order.
    """
    state = i64_p(pool, P_STATE)
    if chunk < atomic_load(pool, P_FAILED) and atomic_load(state, S_CANCEL) == 0:
        ctx = i64_at(i64_p(pool, P_CTX), worker * CTX_STRIDE)
        ctx[CTX_AROUND] = state[S_AROUND]
        # What this thread reports by now concerns a chunk behind this one.
        status_before = ctx[CTX_STATUS]
        index_before = ctx[CTX_INDEX]
        ctx[CTX_STATUS] = 0
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
        else:
            ctx[CTX_STATUS] = status_before
            ctx[CTX_INDEX] = index_before
    atomic_add(pool, P_FINISHED, 1)


def keep_apart(pool, seat):  # type: ignore[no-untyped-def]
    """Take the caller's processor from those that a sleeping worker may be woken on.

    Linux wakes a thread where its waker runs unless it sees an idle processor, and a virtual machine's idle processors look busy to
    it (``vcpu_is_preempted`` in its kernel/sched): the worker would wait until the caller has done all the work. Who holds the
    region alone uses the mask, so the bit can be left out for the length of the call.
    """
    if pool[P_PROCESSOR] == 0:
        return
    processor = call_c(pool[P_PROCESSOR]) & _INT
    if processor == seat[SEAT_AVOIDED] or processor >= 64 * pool[P_MASK_WORDS]:
        return
    mask = i64_p(pool, P_MASK)
    kept = mask[processor >> 6]
    mask[processor >> 6] = kept & ~(1 << (processor & 63))
    # It fails, and nothing changes, if there is no other processor.
    call_c(pool[P_PLACE], seat[SEAT_THREAD], 8 * pool[P_MASK_WORDS], pool[P_MASK])
    mask[processor >> 6] = kept
    seat[SEAT_AVOIDED] = processor


def wake(pool, wanted):  # type: ignore[no-untyped-def]
    """Wake up to that many sleeping workers."""
    for worker in range(pool[P_WORKERS]):
        if wanted <= 0 or atomic_load(pool, P_SLEEPING) == 0:
            break
        seat = i64_at(pool, P_SEATS + (worker + 1) * SEAT_STRIDE)
        if atomic_load(seat, SEAT_ASLEEP) == 1 and cas(seat, SEAT_ASLEEP, 1, 0):
            atomic_add(pool, P_SLEEPING, -1)
            keep_apart(pool, seat)
            call_c(pool[P_RELEASE], seat[SEAT_LOCK])
            wanted -= 1


def region(pool, state, kernel, total, grain):  # type: ignore[no-untyped-def]
    """Run a kernel's chunks on all threads; its buffers and dims stand in the state.

    Returns 0 if all is well, 1 if a chunk failed or was left out, -1 if nothing was done because the pool is busy. There are fewer chunks
    than a share can count, see `onnx_numba.native.runner.chunk_length`.
    """
    chunks = (total + grain - 1) // grain
    if not cas(pool, P_BUSY, 0, 1):
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
    share_out(pool, chunks)
    if atomic_load(pool, P_SLEEPING) != 0:
        wake(pool, chunks - 1)
    while True:
        chunk = claim(pool, 0)
        if chunk < 0:
            break
        run_chunk(pool, 0, chunk)
    while atomic_load(pool, P_FINISHED) < chunks:
        pause()
    bad = 0
    if atomic_load(pool, P_FAILED) != NOT_FAILED or atomic_load(state, S_CANCEL) != 0:
        bad = 1
    atomic_store(pool, P_BUSY, 0)
    return bad


def sleep(pool, number, seen):  # type: ignore[no-untyped-def]
    """Wait until woken, unless there is by now another region than the last one seen."""
    seat = i64_at(pool, P_SEATS + number * SEAT_STRIDE)
    atomic_store(seat, SEAT_ASLEEP, 1)
    atomic_add(pool, P_SLEEPING, 1)
    work = atomic_load(pool, P_REGION) != seen or atomic_load(pool, P_STOP) != 0
    if work and cas(seat, SEAT_ASLEEP, 1, 0):
        atomic_add(pool, P_SLEEPING, -1)
        return
    call_c(pool[P_ACQUIRE], seat[SEAT_LOCK], 1)


def worker(pool, number):  # type: ignore[no-untyped-def]
    """What a worker's thread does until the pool is stopped; the caller is number 0, workers begin at 1."""
    idle = pool[P_SPIN]
    seen = 0
    while atomic_load(pool, P_STOP) == 0:
        region = atomic_load(pool, P_REGION)
        if region != seen:
            seen = region
            # Where there are fewer chunks than threads the others keep away from the shares. What this reads may be of the next region.
            chunk = -1
            if number < atomic_load(pool, P_CHUNKS):
                chunk = claim(pool, number)
            while chunk >= 0:
                run_chunk(pool, number, chunk)
                idle = 0
                chunk = claim(pool, number)
        elif idle < pool[P_SPIN]:
            idle += 1
            pause()
        else:
            sleep(pool, number, seen)
            idle = 0
    return 0


def spin(rounds):  # type: ignore[no-untyped-def]
    """Pause so many times, to measure how long that takes."""
    for _ in range(rounds):
        pause()
    return 0
