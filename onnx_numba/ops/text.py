"""Operators on strings; all are steps in Python."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from onnx_numba.errors import UnsupportedError
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import BOOL, F32, I64, STRING
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import AnyShape, broadcast_ranks, shape_of, tensor_type
from onnx_numba.ops.registry import op
from onnx_numba.runtime.regex import compiled


@op("StringConcat", since=20)
def string_concat(b: Builder, x: Object, y: Object) -> Any:
    """Strings joined pairwise."""
    return b.host("string_concat", [x, y], [tensor_type(STRING, broadcast_ranks([shape_of(x), shape_of(y)]))])


@op("StringSplit", since=20)
def string_split(b: Builder, x: Object, *, delimiter: str | None = None, maxsplit: int | None = None) -> Any:
    """Strings cut into pieces."""
    shape = shape_of(x)
    pieces = tensor_type(STRING, None if shape is None else (*shape, None))
    return b.host("string_split", [x], [pieces, tensor_type(I64, shape)], delimiter=delimiter, maxsplit=maxsplit)


@op("RegexFullMatch", since=20)
def regex_full_match(b: Builder, x: Object, *, pattern: str | None = None) -> Any:
    """Whether all of a string matches a pattern."""
    check_expression(b, pattern or "")
    return b.host("regex_full_match", [x], [tensor_type(BOOL, shape_of(x))], pattern=pattern or "")


def check_expression(b: Builder, expression: str) -> None:
    """Refuse what is no regular expression."""
    try:
        compiled(expression)
    except UnsupportedError as error:
        b.unsupported(str(error))
    except ValueError as error:
        b.fail(str(error))


@op("StringNormalizer", since=10)
def string_normalizer(
    b: Builder, x: Object, *, case_change_action: str, is_case_sensitive: int, locale: str | None = None,
    stopwords: tuple[str, ...] | None = None,
) -> Any:  # fmt: skip
    """Stop words taken out and case changed; Unicode's rules hold for every locale."""
    if case_change_action not in ("LOWER", "UPPER", "NONE"):
        b.fail(f"case_change_action must be LOWER, UPPER or NONE, not {case_change_action!r}")
    shape = shape_of(x)
    if shape is not None and (len(shape) not in (1, 2) or (len(shape) == 2 and isinstance(shape[0], int) and shape[0] != 1)):
        b.fail(f"the input must have shape [C] or [1, C], not {list(shape)}")
    result: AnyShape | None = None if shape is None else (None,) if len(shape) == 1 else (1, None)
    return b.host(
        "string_normalizer", [x], [tensor_type(STRING, result)],
        case_change_action=case_change_action, is_case_sensitive=is_case_sensitive, stopwords=stopwords or (),
    )  # fmt: skip


@op("TfIdfVectorizer", since=9)
def tfidf_vectorizer(
    b: Builder, x: Tensor | Object, *, max_gram_length: int, max_skip_count: int, min_gram_length: int, mode: str,
    ngram_counts: tuple[int, ...], ngram_indexes: tuple[int, ...], pool_int64s: tuple[int, ...] | None = None,
    pool_strings: tuple[str, ...] | None = None, weights: tuple[float, ...] | None = None,
) -> Any:  # fmt: skip
    """Occurrences of n-grams."""
    pool: tuple[Any, ...] = pool_strings or pool_int64s or ()
    slots: dict[tuple[Any, ...], int] = {}
    bounds = (*ngram_counts, len(pool))
    grams = sum(max(stop - start, 0) // size for size, (start, stop) in enumerate(pairwise(bounds), 1))
    if list(bounds) != sorted(bounds) or min(bounds) < 0 or grams != len(ngram_indexes) or min(ngram_indexes, default=-1) < 0:
        b.fail(f"ngram_counts {ngram_counts} and {len(ngram_indexes)} ngram_indexes do not fit a pool of {len(pool)}")
    if weights and len(weights) != len(ngram_indexes):
        b.fail(f"{len(weights)} weights for {len(ngram_indexes)} ngram_indexes")
    if mode not in ("TF", "IDF", "TFIDF") or not 0 < min_gram_length <= max_gram_length or max_skip_count < 0:
        b.fail(f"mode {mode!r}, n-grams of {min_gram_length} to {max_gram_length} and {max_skip_count} skips are not allowed")
    index = iter(ngram_indexes)
    for size, (start, stop) in enumerate(zip(ngram_counts, (*ngram_counts[1:], len(pool)), strict=True), 1):
        for at in range(start, stop, size):
            slots[tuple(pool[at : at + size])] = next(index)
    width = max(ngram_indexes) + 1
    by_slot = None
    if weights:
        by_slot = np.ones(width, np.float32)
        by_slot[list(ngram_indexes)] = weights
    shape = shape_of(x)
    result = None if shape is None else (*shape[:-1], width)
    return b.host(
        "tfidf", [x], [tensor_type(F32, result)],
        slots=slots, width=width, weights=by_slot, mode=mode, min=min_gram_length, max=max_gram_length, skip=max_skip_count,
    )  # fmt: skip
