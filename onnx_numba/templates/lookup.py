"""Looking values up in a sorted table."""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any


def lookup_sorted(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """The number of each element's key, by bisection; for NaN how many keys there are, for what is none of them one more.

    Buffers are the elements, the keys in ascending order, and the target. The only dim is the number of keys; a work unit is an element.
    Which half a key is in no processor foresees: all of some elements take the same number of steps, side by side.
    """
    x = X_p(bufs, 0)
    keys = X_p(bufs, 1)
    places = i64_p(bufs, 2)
    n = dims[0]
    low = i64_local(64)
    for start in range(lo, hi, 64):
        count = min(64, hi - start)
        for j in range(count):
            low[j] = i64(0)
        left = n
        while left > 1:
            half = left >> 1
            for j in range(count):
                through_indices()
                apart()
                at = low[j]
                low[j] = select(keys[at + half - 1] < x[start + j], at + half, at)
            left -= half
        for j in range(count):
            key = x[start + j]
            place = n + 1
            if key != key:
                place = n
            elif n > 0 and keys[low[j]] == key:
                place = low[j]
            places[start + j] = place
    return 0


def translate_bytes(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Each byte replaced by what a table of 256 has in its place.

    Buffers are the bytes, the table and the result. The only dim is the number of bytes; a work unit is ``STRETCH`` of them.
    """
    source = u8_p(bufs, 0)
    table = u8_p(bufs, 1)
    results = u8_p(bufs, 2)
    begin = lo * STRETCH
    translate(u8_at(results, begin), u8_at(source, begin), table, min(dims[0], hi * STRETCH) - begin)
    return 0
