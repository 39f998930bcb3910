"""TfIdfVectorizer: n-grams of words or numbers, counted in rows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import F32, I32, I64
from onnx_numba.native.characters import HASH_START, hash_step
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.characters import lookup
from onnx_numba.ops.common import is_string, tensor
from onnx_numba.ops.registry import op
from onnx_numba.templates.characters import count_grams
from onnx_numba.templates.lookup import lookup_sorted

Gram = tuple[int, ...]
GRAIN = 64
"""Rows that a chunk of counting takes."""


@op("TfIdfVectorizer", since=9)
def tfidf_vectorizer(
    b: Builder, x: Tensor | Object, *, max_gram_length: int, max_skip_count: int, min_gram_length: int, mode: str,
    ngram_counts: tuple[int, ...], ngram_indexes: tuple[int, ...], pool_int64s: tuple[int, ...] | None = None,
    pool_strings: tuple[str, ...] | None = None, weights: tuple[float, ...] | None = None,
) -> Any:  # fmt: skip
    """How often each n-gram of a pool occurs in each row, skips allowed, as counts, presence or weights."""
    pool: tuple[Any, ...] = pool_strings or pool_int64s or ()
    bounds = (*ngram_counts, len(pool))
    grams = sum(max(stop - start, 0) // size for size, (start, stop) in enumerate(pairwise(bounds), 1))
    if list(bounds) != sorted(bounds) or min(bounds) < 0 or grams != len(ngram_indexes) or min(ngram_indexes, default=-1) < 0:
        b.fail(f"ngram_counts {ngram_counts} and {len(ngram_indexes)} ngram_indexes do not fit a pool of {len(pool)}")
    if weights and len(weights) != len(ngram_indexes):
        b.fail(f"{len(weights)} weights for {len(ngram_indexes)} ngram_indexes")
    if mode not in ("TF", "IDF", "TFIDF") or not 0 < min_gram_length <= max_gram_length or max_skip_count < 0:
        b.fail(f"mode {mode!r}, n-grams of {min_gram_length} to {max_gram_length} and {max_skip_count} skips are not allowed")
    words, numbers = _numbered(b, x, pool)
    columns: dict[Gram, int] = {}
    index = iter(ngram_indexes)
    for size, (start, stop) in enumerate(pairwise(bounds), 1):
        for at in range(start, stop, size):
            columns[tuple(numbers[item] for item in pool[at : at + size])] = next(index)
    wanted = {gram: column for gram, column in columns.items() if min_gram_length <= len(gram) <= max_gram_length}
    width = max(ngram_indexes) + 1
    counts = _counted(b, words, len(numbers), wanted, width, max_skip_count)
    if not weights or mode == "TF":
        return b.map(lambda n: e.cast(n > 0, F32) if mode == "IDF" else e.cast(n, F32), counts, dtype=F32)
    by_column = np.ones(width, np.float32)
    by_column[list(ngram_indexes)] = weights

    def weighted(n: Expr, w: Expr) -> Expr:
        return e.cast(n if mode == "TFIDF" else n > 0, F32) * w

    return b.map(weighted, counts, b.weight(by_column), dtype=F32)


def _numbered(b: Builder, x: Tensor | Object, pool: tuple[Any, ...]) -> tuple[Tensor, dict[Any, int]]:
    """Elements as numbers of the pool's distinct items, in rows; what is no item has a number that none has. And the items' numbers."""
    if is_string(x):
        numbers = {item: k for k, item in enumerate(dict.fromkeys(pool))}
        words = lookup(b, x, [item if isinstance(item, str) else "" for item in numbers])
    else:
        values = tensor(b, x)
        numbers = {item: k for k, item in enumerate(sorted(set(pool), key=lambda item: (isinstance(item, str), item)))}
        limits = values.dtype.limits
        keys = [item for item in numbers if isinstance(item, int) and limits[0] <= item <= limits[1]]
        (words,) = b.template(
            lookup_sorted, [values, b.weight(np.array(keys, values.dtype.numpy))], [(I64, values.shape)],
            total=values.size, dims=(len(keys),), grain=1024, types={"X": values.dtype},
        )  # fmt: skip
    if words.rank > 2:
        b.fail(f"the input must have shape [C] or [N, C], not {list(words.shape)}")
    return words, numbers


def _counted(b: Builder, words: Tensor, items: int, columns: dict[Gram, int], width: int, skips: int) -> Tensor:
    """How often each column's n-gram occurs in each row."""
    single = np.full(items + 2, -1, np.int64)
    longer: list[tuple[Gram, int]] = []
    for gram, column in columns.items():
        if len(gram) == 1:
            single[gram[0]] = column
        else:
            longer.append((gram, column))
    slots = np.zeros(1 << max(2 * len(longer) - 1, 1).bit_length(), np.int64)
    for number, (gram, _) in enumerate(longer):
        at = _hash(gram) & (len(slots) - 1)
        while slots[at]:
            at = (at + 1) & (len(slots) - 1)
        slots[at] = number + 1
    stops = np.cumsum([0, *(len(gram) for gram, _ in longer)], dtype=np.int64)
    flat = np.array([item for gram, _ in longer for item in gram] or [0], np.int64)
    targets = np.array([column for _, column in longer] or [0], np.int64)
    sizes = np.array(sorted({len(gram) for gram, _ in longer}) or [0], np.int64)
    rows, row = (d.product(words.shape[:-1]), words.shape[-1]) if words.rank else (1, 1)
    steps = d.dmax(d.dmin(skips, row), 0) + 1  # no two words of a row are farther apart
    (counts,) = b.template(
        count_grams, [words, *(b.weight(table) for table in (single, slots, stops, flat, targets, sizes))],
        [(I32, (*words.shape[:-1], width))], total=rows, grain=GRAIN,
        constants={"START": HASH_START}, dims=(row, width, items, len(slots) - 1, len(sizes) if longer else 0, steps),
    )  # fmt: skip
    return counts


def _hash(gram: Gram) -> int:
    """As `onnx_numba.templates.characters.count_grams` has it."""
    value = HASH_START
    for item in gram:
        value = hash_step(value, item)
    return value ^ (value >> 15)
