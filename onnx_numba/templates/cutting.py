"""Kernels that cut strings into pieces, which stay where they are: a piece is a span of the same bytes.

All are written twice in a model, by the constant ``FILL``: to count the pieces of each string, and then to write their spans into rows
as long as the longest needs. Their buffers are spans and bytes, tables of their own, and the target; their dims are the length of a row, 1
if rows begin and end with marks, where the padding begins and ends, and some of their own.
"""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def cut_at_spaces(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """As Python's ``text.split()`` does. The dim of its own is the greatest number of cuts, or less than 0."""
    spans = i64_p(bufs, 0)
    data = u8_p(bufs, 1)
    out = i64_p(bufs, 2)
    for row in range(lo, hi):
        stop = spans[2 * row + 1]
        place = row * dims[0]
        first = place
        at = skip_spaces(data, spans[2 * row], stop, True)
        while at < stop:
            end = stop if place - first == dims[4] else skip_spaces(data, at, stop, False)
            if FILL:
                put_span(out, place, at, end)
            place += 1
            at = skip_spaces(data, end, stop, True)
        if FILL:
            fill_row(out, first, place, first + dims[0], dims[1], dims[2], dims[3])
        else:
            out[row] = place - first
    return 0


def cut_at_text(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """As Python's ``text.split(separator)`` does, whose bytes are a table. Dims of its own: the greatest number of cuts, its length."""
    spans = i64_p(bufs, 0)
    data = u8_p(bufs, 1)
    separator = u8_p(bufs, 2)
    out = i64_p(bufs, 3)
    length = dims[5]
    for row in range(lo, hi):
        start = spans[2 * row]
        stop = spans[2 * row + 1]
        place = row * dims[0]
        first = place
        at = start
        while at + length <= stop and place - first != dims[4]:
            if data[at] == separator[0] and same_bytes(data, at, at + length, separator, 0, length):
                if FILL:
                    put_span(out, place, start, at)
                place += 1
                at += length
                start = at
            else:
                at += 1
        if FILL:
            put_span(out, place, start, stop)
        place += 1
        if FILL:
            fill_row(out, first, place, first + dims[0], dims[1], dims[2], dims[3])
        else:
            out[row] = place - first
    return 0


def cut_characters(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """A piece for every character."""
    spans = i64_p(bufs, 0)
    data = u8_p(bufs, 1)
    out = i64_p(bufs, 2)
    for row in range(lo, hi):
        at = spans[2 * row]
        stop = spans[2 * row + 1]
        if FILL:
            first = row * dims[0]
            place = first + dims[1]
            while at < stop:
                end = at + code_length(i64(data[at]))
                place = put_span(out, place, at, end)
                at = end
            fill_row(out, first, place, first + dims[0], dims[1], dims[2], dims[3])
        else:
            out[row] = count_codes(data, at, stop)
    return 0


def cut_by_automaton(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """What an automaton matches, or what lies between its matches if ``APART``.

    Tables are its steps, bounds and classes, see `onnx_numba.native.characters.longest_match`; dims of its own are the number of bounds
    and how many characters a piece must have.
    """
    spans = i64_p(bufs, 0)
    data = u8_p(bufs, 1)
    steps = i64_p(bufs, 2)
    bounds = i64_p(bufs, 3)
    kinds = i64_p(bufs, 4)
    out = i64_p(bufs, 5)
    for row in range(lo, hi):
        at = spans[2 * row]
        stop = spans[2 * row + 1]
        start = at
        first = row * dims[0]
        place = first + (dims[1] if FILL else 0)
        before = place
        going = True
        while going:
            end = i64(-1)
            if at < stop:
                end = longest_match(data, at, stop, steps, bounds, kinds, dims[4])
            going = at < stop
            begin = at
            close = end
            if APART:
                begin = start
                close = at if end >= 0 or not going else i64(-1)
            kept = close - begin >= dims[5]
            if kept and dims[5] > 1:
                kept = count_codes(data, begin, close) >= dims[5]
            if kept:
                if FILL:
                    put_span(out, place, begin, close)
                place += 1
            if end >= 0 and (APART or kept):
                at = end
                start = end
            elif going:
                at += code_length(i64(data[at]))
        if FILL:
            fill_row(out, first, place, first + dims[0], dims[1], dims[2], dims[3])
        else:
            out[row] = place - before
    return 0
