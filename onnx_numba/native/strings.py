"""Python's strings read by compiled code: what the fast entry does for inputs of strings, and for the step that makes numbers of them.

What is odd (a lone surrogate, an array that lies in pieces) is left to the step's Python function.
"""

from __future__ import annotations

from onnx_numba.ir.abi import (
    A_DATA,
    A_DIMS,
    A_DTYPE,
    A_FLAGS,
    A_RANK,
    B_BUFFER,
    B_CASE,
    B_DATA,
    B_DIMS,
    B_KIND,
    B_OBJECT,
    B_RANK,
    B_ROOM,
    BUILD_TEXT,
    BUILD_WORDS,
    D_IDENTITY,
    F_BLOCKS,
    F_BUILDS,
    F_BYTE,
    F_CLEAR,
    F_DIMS,
    F_INCREF,
    F_LENGTH,
    F_LIST_GET,
    F_LIST_SET,
    F_LOOSE,
    F_NDARRAY,
    F_NEW_ARRAY,
    F_NONE,
    F_OBJECT,
    F_OBJECTS,
    F_SHAPE,
    F_STEPS,
    F_STR,
    F_UTF8,
    O_TYPE,
    READABLE,
    S_BUFS,
    S_SLOTS,
    SMALL_OUTPUT,
    U_LENGTH,
)
from onnx_numba.native.address import bytes_at, call_c, halves_at, words_at
from onnx_numba.native.memory import POINTERS, atomic_load, memcpy

_pointers = {record.name: record for record in POINTERS}
i64_p, i64_at = _pointers["i64_p"], _pointers["i64_at"]

SPAN = 16
"""Bytes of a span."""


def readable(array, rank):  # type: ignore[no-untyped-def]
    """Whether an array has so many axes and its elements lie one after the other."""
    return halves_at(array + A_RANK)[0] == rank and (halves_at(array + A_FLAGS)[0] & READABLE) == READABLE


def all_strings(front, array, count):  # type: ignore[no-untyped-def]
    """Whether all elements of an array of objects are of Python's own type of strings."""
    items = words_at(words_at(array + A_DATA)[0])
    for k in range(count):
        item = atomic_load(items, k)
        if item == 0 or words_at(item + O_TYPE)[0] != front[F_STR]:
            return False
    return True


def characters(front, array, count):  # type: ignore[no-untyped-def]
    """How many characters the elements of an array of objects have in all, or -1 if one is not of Python's own type of strings."""
    items = words_at(words_at(array + A_DATA)[0])
    total = 0
    for k in range(count):
        item = atomic_load(items, k)
        if item == 0 or words_at(item + O_TYPE)[0] != front[F_STR]:
            return -1
        total += words_at(item + U_LENGTH)[0]
    return total


def encode(front, array, count, block, size):  # type: ignore[no-untyped-def]
    """Write spans and UTF-8 bytes of strings, of which ``size`` bytes fit: how many there are, or -1 if a string has none."""
    items = words_at(words_at(array + A_DATA)[0])
    spans, data, at = words_at(block), block + SPAN * count, 0
    for k in range(count):
        source = call_c(front[F_UTF8], atomic_load(items, k), front[F_LENGTH])
        if source == 0:
            call_c(front[F_CLEAR])
            return -1
        length = words_at(front[F_LENGTH])[0]
        spans[2 * k] = at
        if at + length <= size:
            memcpy(bytes_at(data + at), bytes_at(source), length)
        at += length
        spans[2 * k + 1] = at
    return at


def change_case(data, count, first):  # type: ignore[no-untyped-def]
    """Make 26 letters of ASCII from ``first`` on those of the other case, which lie 32 further on or back."""
    for k in range(count):
        letter = data[k]
        data[k] = letter ^ 32 if first <= letter and letter < first + 26 else letter


def text(front, state, step, number):  # type: ignore[no-untyped-def]
    """Make spans and bytes of strings: 1, 0 if Python has to, or -1 if there was an exception."""
    array = call_c(front[F_LIST_GET], front[F_OBJECTS], step[B_OBJECT])
    rank = step[B_RANK]
    if words_at(array + O_TYPE)[0] != front[F_NDARRAY] or not readable(array, rank):
        return 0
    if words_at(words_at(array + A_DTYPE)[0] + D_IDENTITY)[0] != words_at(front[F_OBJECT] + D_IDENTITY)[0]:
        return 0
    slots, dims = i64_p(state, S_SLOTS), i64_at(i64_p(front, F_DIMS), step[B_DIMS])
    shape = words_at(words_at(array + A_DIMS)[0])
    count = 1
    for axis in range(rank):
        count *= atomic_load(shape, axis)
    size = -1
    total = letters = characters(front, array, count)
    if total < 0 or (step[B_CASE] != 0 and (count == 0 or count != atomic_load(shape, rank - 1))):
        return 0
    while size < total:  # once more if characters have several bytes
        size = max(total, 1)
        block = room(front, step, number, SPAN * count + size)
        if block == 0:
            return -1
        bytes_at(block + SPAN * count)[0] = 0
        total = encode(front, array, count, block, size)
        if total < 0 or (step[B_CASE] != 0 and total > letters):
            return 0
    if step[B_CASE] != 0:
        change_case(bytes_at(block + SPAN * count), total, step[B_CASE])
    for axis in range(rank):
        slots[atomic_load(dims, axis)] = atomic_load(shape, axis)
    slots[atomic_load(dims, rank)] = 2
    buffers = i64_p(state, S_BUFS)
    buffers[step[B_BUFFER]] = block
    if step[B_DATA] >= 0:
        slots[atomic_load(dims, rank + 1)] = max(total, 1)
        buffers[step[B_DATA]] = block + SPAN * count
    return 1


def room(front, step, number, size):  # type: ignore[no-untyped-def]
    """The address of so many bytes, which belong to a step until the run is over, small ones for longer; 0 for an exception."""
    if size > step[B_ROOM]:
        i64_p(front, F_SHAPE)[0] = size
        call_c(front[F_INCREF], front[F_BYTE])
        made = call_c(front[F_NEW_ARRAY], front[F_NDARRAY], front[F_BYTE], 1, front[F_SHAPE], 0, 0, 0, 0)
        if made == 0:
            return 0
        call_c(front[F_LIST_SET], front[F_BLOCKS], number, made)
        step[B_ROOM] = size
        if size > SMALL_OUTPUT:
            front[F_LOOSE] = 1
    return words_at(call_c(front[F_LIST_GET], front[F_BLOCKS], number) + A_DATA)[0]


def forget(front):  # type: ignore[no-untyped-def]
    """Free the memory that is too large to be kept."""
    if front[F_LOOSE] == 0:
        return
    front[F_LOOSE] = 0
    for number in range(front[F_STEPS]):
        step = i64_at(i64_p(front, F_BUILDS), number * BUILD_WORDS)
        if step[B_KIND] == BUILD_TEXT and step[B_ROOM] > SMALL_OUTPUT:
            step[B_ROOM] = 0
            call_c(front[F_INCREF], front[F_NONE])
            call_c(front[F_LIST_SET], front[F_BLOCKS], number, front[F_NONE])
