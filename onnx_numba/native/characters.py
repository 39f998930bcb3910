"""Strings as compiled code sees them: runs of UTF-8 bytes, and tables of such by which a string is found.

A table has a power of two of slots, each 0 or one more than the number of a key, which lies at the first free slot from that of its hash
on. `onnx_numba.ops.characters` makes tables; at least half of their slots are free.
"""

from __future__ import annotations

from typing import Any

from onnx_numba.native.registry import Record, function
from onnx_numba.native.scalar import i64, u64

HASH_START, HASH_FACTOR, HASH_MASK = 2166136261, 16777619, 0xFFFFFFFF
"""Numbers of the hash FNV-1a of 32 bits."""
ASCII = 128
"""How many characters have one byte."""


@function
def hash_step(value: Any, item: Any) -> Any:
    """A step of FNV-1a (Fowler, Noll and Vo, public domain)."""
    return ((value ^ item) * HASH_FACTOR) & HASH_MASK


@function
def hash_bytes(data: Any, start: Any, stop: Any) -> Any:
    """The hash of bytes, with its upper half mixed into the lower."""
    value = i64(HASH_START)
    for k in range(start, stop):
        value = hash_step(value, i64(data[k]))
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


@function
def code_length(byte: Any) -> Any:
    """How many bytes the character has that begins with a byte."""
    return 1 + i64(byte >= 0xC0) + i64(byte >= 0xE0) + i64(byte >= 0xF0)


@function
def code_at(data: Any, at: Any) -> Any:
    """The code point of the character whose bytes begin at a place."""
    byte = i64(data[at])
    length = code_length(byte)
    code = byte if length == 1 else byte & (0x7F >> length)
    for k in range(at + 1, at + length):
        code = (code << 6) | (i64(data[k]) & 0x3F)
    return code


@function
def count_codes(data: Any, start: Any, stop: Any) -> Any:
    """How many characters there are."""
    count = i64(0)
    for k in range(start, stop):
        count += i64((i64(data[k]) & 0xC0) != 0x80)
    return count


@function
def is_ascii_space(code: Any) -> Any:
    """Whether Python takes an ASCII character for white space."""
    return (code >= 9 and code <= 13) or (code >= 28 and code <= 32)


@function
def is_other_space(code: Any) -> Any:
    """Whether Python takes another character for white space."""
    high = (code >= 0x2000 and code <= 0x200A) or code == 0x2028 or code == 0x2029 or code == 0x202F or code == 0x205F
    return high or code == 0x85 or code == 0xA0 or code == 0x1680 or code == 0x3000


@function
def skip_spaces(data: Any, at: Any, stop: Any, spaces: Any) -> Any:
    """Where white space, or what is none if ``spaces`` does not hold, ends."""
    going = at < stop
    while going:
        byte = i64(data[at])
        length = i64(1)
        space = is_ascii_space(byte)
        if byte >= ASCII:
            length = code_length(byte)
            space = is_other_space(code_at(data, at))
        going = space == spaces
        if going:
            at += length
            going = at < stop
    return at


@function
def class_of(code: Any, bounds: Any, kinds: Any, count: Any) -> Any:
    """The class of a character: that of the last bound which is not above it."""
    low = i64(0)
    high = count
    while high - low > 1:
        middle = (low + high) // 2
        if bounds[middle] <= code:
            low = middle
        else:
            high = middle
    return kinds[low]


@function
def longest_match(data: Any, start: Any, stop: Any, steps: Any, bounds: Any, kinds: Any, count: Any) -> Any:
    """Where the longest match of an automaton ends that begins at a place, or -1.

    ``steps`` has a row for every state, with a column for every ASCII character and then for every class: twice the place where the
    next state's row begins, and one more if that state accepts; or -2. The classes of other characters than ASCII's follow from
    ``bounds`` and ``kinds``.
    """
    row = i64(0)
    found = i64(-1)
    at = start
    going = at < stop
    while going:
        column = i64(data[at])
        if column < ASCII:
            at += 1
        else:
            length = code_length(column)
            column = ASCII + class_of(code_at(data, at), bounds, kinds, count)
            at += length
        step = steps[row + column]
        row = step >> 1
        if step & 1 != 0:
            found = at
        going = step >= 0 and at < stop
    return found


@function
def murmur_mixed(word: Any) -> Any:
    """A word of 32 bits as MurmurHash3 mixes it, in 64 bits without a sign."""
    word = (word * u64(0xCC9E2D51)) & u64(HASH_MASK)
    return (((word << u64(15)) | (word >> u64(17))) & u64(HASH_MASK)) * u64(0x1B873593) & u64(HASH_MASK)


@function
def murmur_hash(data: Any, start: Any, stop: Any, seed: Any) -> Any:
    """MurmurHash3_x86_32 (Austin Appleby, public domain) of bytes, in 64 bits without a sign."""
    value = u64(seed)
    at = start
    while at < stop:
        word = u64(0)
        count = min(i64(4), stop - at)
        for k in range(count):
            word = word | (u64(data[at + k]) << u64(8 * k))
        value = value ^ murmur_mixed(word)
        if count == 4:
            value = (value << u64(13)) | (value >> u64(19))
            value = ((value & u64(HASH_MASK)) * u64(5) + u64(0xE6546B64)) & u64(HASH_MASK)
        at += 4
    value = value ^ u64(stop - start)
    value = ((value ^ (value >> u64(16))) * u64(0x85EBCA6B)) & u64(HASH_MASK)
    value = ((value ^ (value >> u64(13))) * u64(0xC2B2AE35)) & u64(HASH_MASK)
    return value ^ (value >> u64(16))


@function
def put_span(out: Any, place: Any, start: Any, stop: Any) -> Any:
    """Write a span; where the next one goes."""
    out[2 * place] = start
    out[2 * place + 1] = stop
    return place + 1


@function
def fill_row(out: Any, first: Any, place: Any, last: Any, marked: Any, pad: Any, pad_end: Any) -> Any:
    """Marks around the strings of a row, if they are wanted, and padding behind them; bytes of the marks follow those of the padding."""
    if marked != 0 and last > first:
        put_span(out, first, pad_end, pad_end + 1)
        place = put_span(out, place, pad_end + 1, pad_end + 2)
    while place < last:
        place = put_span(out, place, pad, pad_end)
    return place


RECORDS: tuple[Record, ...] = (
    hash_step, hash_bytes, same_bytes, find_key, code_length, code_at, count_codes, is_ascii_space, is_other_space, skip_spaces,
    class_of, longest_match, murmur_mixed, murmur_hash, put_span, fill_row,
)  # fmt: skip
