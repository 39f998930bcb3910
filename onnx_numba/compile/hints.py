"""How many elements or vectors a loop takes at a time, by what it does and what it is compiled for."""

from __future__ import annotations

from onnx_numba.target import Target


def side_by_side(target: Target, length: int) -> int:
    """Vectors that a long loop takes at a time, 0 where its length, if that is known, is less than one.

    With AVX2, and on any Zen, four: ``exp(tanh(x))`` takes two thirds of the time on Zen 3, of which no more than about 128 instructions
    wait for operands, and nine tenths on Zen 4. Intel's cores with AVX-512 multiply two vectors a cycle and have the result four cycles
    later, so that eight are under way: there it takes three quarters of the time that it takes with two. What eight leave of a row is
    long, so that the row has to be.
    """
    most = 4 if target.zen else {16: 8, 8: 4}.get(target.lanes, 2)
    if length == 0:
        return min(most, 4)
    vectors = length // target.lanes
    enough = max(vectors // 4, min(vectors, 2)) if most == 8 else vectors
    return min(most, 1 << enough.bit_length() >> 1)


def gathered(target: Target) -> tuple[tuple[str, int], ...]:
    """Hints for a loop that reads through indices.

    Elements that come one by one make up a register of four; the halves of longer ones have to be joined. Four at a time keep as many
    loads under way as sixteen lanes do. On Zen 4 walks through trees take four fifths of the time that they take as LLVM chooses. With AVX2
    LLVM makes registers of four pointers, which it takes apart again: two elements at a time take 0.7 to 0.9 of the time. Where one
    instruction gathers eight they would take twice as long.
    """
    if target.lanes < 8 or target.gathers:
        return ()
    return ("vectorize.width", 4 if target.lanes == 16 else 2), ("interleave.count", 4)
