"""Kernels on strings: spans of bytes, two numbers for each string, and the bytes that they lie in."""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def lookup_text(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """The number of each string's key in a table, or how many keys there are where it has none.

    Buffers are spans and bytes of the strings, slots, spans and bytes of the table, and the target; dims are the table's number of
    slots less 1 and its number of keys.
    """
    spans = i64_p(bufs, 0)
    data = u8_p(bufs, 1)
    slots = i64_p(bufs, 2)
    key_spans = i64_p(bufs, 3)
    keys = u8_p(bufs, 4)
    out = i64_p(bufs, 5)
    for k in range(lo, hi):
        found = find_key(data, spans[2 * k], spans[2 * k + 1], slots, dims[0], key_spans, keys)
        out[k] = dims[1] if found < 0 else found
    return 0


def equal_text(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Whether strings are equal; buffers are spans and bytes of the ones, of the others, and the target."""
    spans = i64_p(bufs, 0)
    data = u8_p(bufs, 1)
    others = i64_p(bufs, 2)
    other_data = u8_p(bufs, 3)
    out = bool_p(bufs, 4)
    for k in range(lo, hi):
        out[k] = same_bytes(data, spans[2 * k], spans[2 * k + 1], other_data, others[2 * k], others[2 * k + 1])
    return 0


def count_grams(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """How often n-grams occur in rows of numbered words.

    Buffers are the words; per word the column of it alone, or -1; a table of the longer n-grams: slots, where each begins among their
    words, those words, their columns; their sizes; and the target. Dims are words in a row, columns, the number from which on a word is
    in no n-gram, the table's number of slots less 1, how many sizes there are, and the greatest distance from word to word.
    """
    words = i64_p(bufs, 0)
    single = i64_p(bufs, 1)
    slots = i64_p(bufs, 2)
    starts = i64_p(bufs, 3)
    grams = i64_p(bufs, 4)
    columns = i64_p(bufs, 5)
    sizes = i64_p(bufs, 6)
    out = i32_p(bufs, 7)
    length = dims[0]
    for row in range(lo, hi):
        base = row * dims[1]
        first = row * length
        for k in range(dims[1]):
            out[base + k] = 0
        for k in range(first, first + length):
            if words[k] < dims[2] and single[words[k]] >= 0:
                out[base + single[words[k]]] += 1
        for number in range(dims[4]):
            size = sizes[number]
            for step in range(1, dims[5] + 1):
                for start in range(first, first + length - (size - 1) * step):
                    known = words[start] < dims[2]
                    value = i64(START)
                    n = i64(0)
                    while known and n < size:
                        word = words[start + n * step]
                        known = word < dims[2]
                        value = hash_step(value, word)
                        n += 1
                    at = (value ^ (value >> 15)) & dims[3]
                    while known and slots[at] != 0:
                        gram = slots[at] - 1
                        same = starts[gram + 1] - starts[gram] == size
                        n = i64(0)
                        while same and n < size:
                            same = grams[starts[gram] + n] == words[start + n * step]
                            n += 1
                        if same:
                            out[base + columns[gram]] += 1
                            known = False
                        at = (at + 1) & dims[3]
    return 0


def hash_text(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """MurmurHash3 of each string's bytes; the dim is the seed, buffers are spans, bytes and the target."""
    spans = i64_p(bufs, 0)
    data = u8_p(bufs, 1)
    out = Y_p(bufs, 2)
    for k in range(lo, hi):
        out[k] = Y(murmur_hash(data, spans[2 * k], spans[2 * k + 1], dims[0]))
    return 0


def match_text(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Whether an automaton matches each string from its beginning to its end.

    Buffers are spans, bytes, the automaton's steps, bounds and classes, and the target; dims are the number of bounds, and whether it
    matches the empty string.
    """
    spans = i64_p(bufs, 0)
    data = u8_p(bufs, 1)
    steps = i64_p(bufs, 2)
    bounds = i64_p(bufs, 3)
    kinds = i64_p(bufs, 4)
    out = bool_p(bufs, 5)
    for k in range(lo, hi):
        stop = spans[2 * k + 1]
        if stop == spans[2 * k]:
            out[k] = dims[1] != 0
        else:
            out[k] = longest_match(data, spans[2 * k], stop, steps, bounds, kinds, dims[0]) == stop
    return 0
