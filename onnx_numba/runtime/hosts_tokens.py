"""Steps on strings that onnxruntime's own operators need: tokens and hashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from onnx_numba.runtime.regex import compiled

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]
START, END = "\x02", "\x03"


def tokenize(params: Params, x: Array) -> tuple[Array]:
    """Tokens of every string along a new last axis, filled up with a padding value."""
    if x.size == 0:
        return (np.empty((*x.shape[:-1], 0), object),)
    cut = _cutter(params["separators"], params["expression"], params["least"])
    rows = [cut(str(text)) for text in x.reshape(-1)]
    width = max(map(len, rows))
    if width and params["mark"]:
        rows, width = [[START, *row, END] for row in rows], width + 2
    result = np.full((len(rows), width), params["pad"], object)
    if width:
        for line, row in zip(result, rows, strict=True):
            line[: len(row)] = row
    return (result.reshape(*x.shape, width),)


def _cutter(separators: Sequence[str] | None, expression: str | None, least: int) -> Callable[[str], list[str]]:
    """The function from a string to its tokens of at least so many characters."""
    if expression == "." or (separators is not None and list(separators) == [""]):
        return list
    if separators is None:
        assert expression is not None
        wanted = compiled(expression, longest=True)
        return lambda text: list(_matching(text, wanted, least))
    patterns = [compiled(s, longest=True) for s in separators]

    def parted(text: str) -> list[str]:
        pieces = [text]
        for pattern in patterns:
            pieces = [piece for whole in pieces for piece in _between(whole, pattern) if len(piece) >= least]
        return pieces

    return parted


def _between(text: str, separator: Any) -> Iterator[str]:
    """What lies between matches."""
    start = 0
    while (found := _search(separator, text, start)) is not None:
        yield text[start : found[0]]
        start = found[1] if found[1] > found[0] else found[0] + 1
    yield text[start:]


def _matching(text: str, wanted: Any, least: int) -> Iterator[str]:
    """The matches; after one that is too short the search goes on at its second character."""
    start = 0
    while (found := _search(wanted, text, start)) is not None:
        if found[1] - found[0] >= least:
            yield text[found[0] : found[1]]
            start = found[1]
        else:
            start = found[0] + 1


def _search(pattern: Any, text: str, start: int) -> tuple[int, int] | None:
    """Where the first match from ``start`` on begins and ends."""
    found = pattern.search(text, start) if start <= len(text) else None
    return None if found is None else found.span()


def murmur_hash3(params: Params, x: Array) -> tuple[Array]:
    """MurmurHash3_x86_32 (Austin Appleby, public domain) of the UTF-8 bytes of every string."""
    hashes = [_hash(str(text).encode(), params["seed"]) for text in x.reshape(-1)]
    kind = np.uint32 if params["dtype"] == "u32" else np.int32
    return (np.array(hashes, np.uint32).reshape(x.shape).view(kind),)


def _hash(data: bytes, seed: int) -> int:
    mask = 0xFFFFFFFF

    def mixed(word: int) -> int:
        word = word * 0xCC9E2D51 & mask
        return ((word << 15 | word >> 17) & mask) * 0x1B873593 & mask

    h = seed & mask
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        h ^= mixed(int.from_bytes(data[at : at + 4], "little"))
        h = ((h << 13 | h >> 19) & mask) * 5 + 0xE6546B64 & mask
    h ^= mixed(int.from_bytes(data[whole:], "little")) ^ len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ h >> shift) * factor & mask
    return h ^ h >> 16


HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {"tokenize": tokenize, "murmur_hash3": murmur_hash3}
"""The steps of this module by name."""
