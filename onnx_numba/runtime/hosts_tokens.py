"""Tokens of strings, for onnxruntime's Tokenizer."""

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


HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {"tokenize": tokenize}
"""The steps of this module by name."""
