"""Strings as compiled code sees them: runs of UTF-8 bytes, and tables of such by which a string is found.

A table has a power of two of slots, each 0 or one more than the number of a key, which lies at the first free slot from that of its hash
on. `onnx_numba.ops.characters` makes tables; at least half of their slots are free.
"""

from __future__ import annotations

from typing import Any

from onnx_numba.native.registry import Record, function
from onnx_numba.native.scalar import i64

HASH_START, HASH_FACTOR, HASH_MASK = 2166136261, 16777619, 0xFFFFFFFF
"""Numbers of the hash FNV-1a of 32 bits."""


@function
def hash_bytes(data: Any, start: Any, stop: Any) -> Any:
    """FNV-1a (Fowler, Noll and Vo, public domain) of bytes, with its upper half mixed into the lower."""
    value = i64(HASH_START)
    for k in range(start, stop):
        value = ((value ^ i64(data[k])) * HASH_FACTOR) & HASH_MASK
    return value ^ (value >> 15)


@function
def same_bytes(one: Any, start: Any, stop: Any, other: Any, begin: Any, end: Any) -> Any:
    """Whether two runs of bytes are equal."""
    same = stop - start == end - begin
    k = i64(0)
    while same and k < stop - start:
        same = one[start + k] == other[begin + k]
        k += 1
    return same


@function
def find_key(data: Any, start: Any, stop: Any, slots: Any, mask: Any, spans: Any, keys: Any) -> Any:
    """The number of a string's key in a table with ``mask`` + 1 slots, or -1."""
    at = hash_bytes(data, start, stop) & mask
    found = i64(-1)
    while found < 0 and slots[at] != 0:
        key = slots[at] - 1
        if same_bytes(data, start, stop, keys, spans[2 * key], spans[2 * key + 1]):
            found = key
        at = (at + 1) & mask
    return found


RECORDS: tuple[Record, ...] = (hash_bytes, same_bytes, find_key)
