"""What RNN, GRU and LSTM begin with: how many steps there are, and the states before the first and after the last of them."""

from __future__ import annotations

from typing import Any

from onnx_numba.native.registry import Record, function
from onnx_numba.native.scalar import cast_like


@function
def longest_of(lengths: Any, begin: Any, end: Any, steps: Any) -> Any:
    """The most steps of any of the sequences from ``begin`` to ``end``, which have ``steps`` at the most."""
    longest = 0
    for b in range(begin, end):
        longest = max(longest, min(lengths[b], steps))
    return longest


@function
def begin_states(states: Any, firsts: Any, begin: Any, end: Any, left: Any, right: Any, size: Any) -> None:
    """Put the units from ``left`` to ``right`` of the states that sequences begin with, rows of ``size`` elements."""
    for b in range(begin, end):
        for j in range(left, right):
            states[b * size + j] = firsts[b * size + j]


@function
def clear_ended(
    every: Any, step: Any, lengths: Any, begin: Any, end: Any, steps: Any, left: Any, right: Any, size: Any
) -> None:  # fmt: skip
    """Zero those units of the states that are after a sequence's end; states of a step begin ``step`` elements after those before."""
    zero = cast_like(0, every[0])
    for b in range(begin, end):
        for s in range(max(min(lengths[b], steps), 0), steps):
            for j in range(left, right):
                every[s * step + b * size + j] = zero


RECORDS: tuple[Record, ...] = (longest_of, begin_states, clear_ended)
