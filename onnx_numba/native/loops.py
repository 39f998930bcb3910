"""What a kernel says of the loop around a call: it computes nothing, and LLVM is told when the loop's jump back is written.

`onnx_numba.compile.numba_internals` makes LLVM's own words of them, as each target needs.
"""

from __future__ import annotations

from typing import Any

from onnx_numba.native.emit import is_int
from onnx_numba.native.registry import Record, intrinsic

DOMAIN, STREAMED, FETCHED = "onnx-numba", "streams", "fetches"
"""What stores carry that may go around the caches, and loads of which more is to be fetched ahead: scopes, in a domain of their own, of
LLVM's ``alias.scope``. Nothing is said not to be in them, so that they mean nothing to LLVM, which yet keeps them when it makes vectors, or
loads and stores of float16 where those were of its bits."""


def _typing(count: int) -> Any:
    def typed(*args: Any) -> Any:
        from numba import types

        return types.none if len(args) == count and all(map(is_int, args)) else None

    return typed


def _emit_nothing(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return context.get_dummy_value()


@intrinsic(_typing(1), _emit_nothing)
def interleave(length: int) -> None:
    """Have the innermost loop around this take several vectors of its iterations, none of which needs another, at a time.

    LLVM does so with short loops. In long ones each step waits for the one before, and a processor sees too few of them at once.
    ``length`` is a literal: how many iterations there are, or 0 where only the run knows.
    """


@intrinsic(_typing(0), _emit_nothing)
def through_indices() -> None:
    """Say that the innermost loop around this finds most of what it reads through indices that it has read.

    How many elements are best taken at a time differs between processors that gather them by an instruction and others.
    """


@intrinsic(_typing(0), _emit_nothing)
def in_vectors() -> None:
    """Say that the iterations of the innermost loop around this are a few whole vectors, and nothing needs another.

    LLVM writes so short a loop out before it looks for vectors, of which it then finds none where arrays might overlap. A rotary embedding
    of 16 of 32 pairs in 1,024 rows takes 13 µs in place of 31 so.
    """


@intrinsic(_typing(1), _emit_nothing)
def masked(lanes: int) -> None:
    """Say that the innermost loop around this has few iterations, and is to be made of vectors of ``lanes`` elements, a literal, of which
    the last is under a mask: what `onnx_numba.codegen.rests` writes.
    """


@intrinsic(_typing(0), _emit_nothing)
def streams() -> None:
    """Say that the innermost loop around this writes elements side by side, which nothing in the kernel reads.

    Results that are too large for the caches then go around them; see `onnx_numba.compile.streaming`.
    """


@intrinsic(_typing(0), _emit_nothing)
def fetches() -> None:
    """Say that the innermost loop around this reads elements side by side, more than the caches may hold.

    What comes a page later is asked for meanwhile; see `onnx_numba.compile.streaming`.
    """


@intrinsic(_typing(0), _emit_nothing)
def apart() -> None:
    """Say that of the memory which an iteration of the innermost loop around this writes no other reads or writes anything.

    Else LLVM compares where every two arrays lie before it takes several elements at a time: in a step of an LSTM of 16 units there are
    27 pairs to compare, which takes a tenth of it. Rows that go backwards, and places read in the loop, it cannot compare, and takes one
    element at a time. Loops without the comparison are compiled in an eighth less time.
    """


RECORDS: tuple[Record, ...] = (interleave, through_indices, in_vectors, masked, streams, fetches, apart)
