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
