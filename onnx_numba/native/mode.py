"""Whether a run uses the pool or its caller alone: measured, because only measuring can tell.

Waking sleeping workers may cost more than a short run takes, and on a machine that others use as well a worker that has claimed
a chunk may not be given a processor. So a state remembers the time per chunk of both ways and takes the better one. The other
way is tried now and then, to notice that things have changed: rarely while the pool is better, since a try then costs a slow
run. Results do not depend on it, as chunks are the same either way.

The functions are compiled by numba; words are named in ``onnx_numba.native.layout``.
"""

from __future__ import annotations

from onnx_numba.native.layout import S_CHUNKS, S_MODE, S_POOL, S_RATE, S_RUNS

_RETRY = 32
"""Every so many runs the pool is tried again while the caller alone is better."""


def choose(state):  # type: ignore[no-untyped-def]
    """Set ``S_MODE`` for the run that begins: 1 for the pool, 0 for the caller alone."""
    state[S_CHUNKS] = 0
    state[S_MODE] = 0
    if state[S_POOL] == 0:
        return 0
    number = state[S_RUNS]
    state[S_RUNS] = number + 1
    alone = state[S_RATE]
    shared = state[S_RATE + 1]
    if shared == 0:
        state[S_MODE] = 1
    elif alone != 0:
        if shared <= alone:
            # Powers of two: ever more rarely.
            state[S_MODE] = 0 if number & (number - 1) == 0 else 1
        else:
            state[S_MODE] = 1 if number % _RETRY == 0 else 0
    return 0


def judge(state, nanoseconds):  # type: ignore[no-untyped-def]
    """Take the time of a finished run into account; the very first allocated memory and started threads, and tells nothing."""
    if state[S_CHUNKS] > 0 and state[S_RUNS] > 1:
        word = S_RATE + state[S_MODE]
        rate = max(1, nanoseconds * 16 // state[S_CHUNKS])
        known = state[word]
        state[word] = rate if known == 0 else known + (rate - known) // 4
    return 0
