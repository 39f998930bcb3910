"""Whether a run uses the pool or its caller alone: measured, because only measuring can tell.

Waking sleeping workers may cost more than a short run takes, and on a machine that others use as well a worker that has claimed
a chunk may not be given a processor. So a state remembers the time per chunk of both ways and takes the pool where that saves more
than measuring it loses again. The other way is tried now and then, to notice that things have changed: the more rarely the slower it
is, but soon after the first runs, as what they met beside them may have been the end of something else. Results do not depend on it, as
chunks are the same either way.

The functions are compiled by numba; words are named in ``onnx_numba.ir.abi``.
"""

from __future__ import annotations

from onnx_numba.ir.abi import S_CHUNKS, S_MODE, S_POOL, S_RATE, S_RUNS, S_TRIED

_RETRY = 16
"""Every so many runs, or more seldom, the other way is tried again."""
_PRICE = 128
"""Those trials take at most one part in so many of all runs' time: where the other way takes far longer they are as much rarer."""
_GAIN = 16
"""One part in so many is what the pool has to save: others have use for its threads."""
_TRIAL = 1_000_000
"""Nanoseconds of runs of either way before they are compared."""
_FEWEST, _MOST = 2, 4
"""Runs that make a trial, however long or short: one alone may have been interrupted."""


def choose(state):  # type: ignore[no-untyped-def]
    """Set ``S_MODE`` for the run that begins: 1 for the pool, 0 for the caller alone."""
    state[S_CHUNKS] = 0
    state[S_MODE] = 0
    if state[S_POOL] == 0:
        return 0
    number = state[S_RUNS]
    state[S_RUNS] = number + 1
    alone = state[S_TRIED]
    shared = state[S_TRIED + 1]
    if min(alone, shared) < _TRIAL:
        state[S_MODE] = 1 if shared <= alone else 0
    else:
        mode = 1 if state[S_RATE + 1] <= state[S_RATE] - state[S_RATE] // _GAIN else 0
        lost = abs(state[S_RATE + 1] - state[S_RATE])
        early = number & (number - 1) == 0  # a power of two
        state[S_MODE] = 1 - mode if early or number % max(_RETRY, _PRICE * lost // state[S_RATE + mode]) == 0 else mode
    return 0


def judge(state, nanoseconds):  # type: ignore[no-untyped-def]
    """Take the time of a finished run into account; the very first allocated memory and started threads, and tells nothing.

    Of the trials the best counts. Later a run that took longer than what is known moves that by a bounded step, since it may have been
    interrupted; one that was faster counts half, so that a way that looks worse than it is soon gets its chance.
    """
    if state[S_CHUNKS] > 0 and state[S_RUNS] > 1:
        mode = state[S_MODE]
        rate = max(1, nanoseconds * 16 // state[S_CHUNKS])
        known = state[S_RATE + mode]
        if known == 0:
            known = rate
        elif state[S_TRIED + mode] < _TRIAL:
            known = min(known, rate)
        else:
            known += min(known // 8, (rate - known) // 2)
        state[S_RATE + mode] = max(1, known)
        state[S_TRIED + mode] += max(_TRIAL // _MOST, min(_TRIAL // _FEWEST, nanoseconds))
    return 0
