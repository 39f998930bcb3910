"""Steps on strings: casts, and the text operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from onnx_numba.ir.types import DTYPES, DType, dtype_of
from onnx_numba.runtime.host import factory
from onnx_numba.runtime.regex import compiled

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]


def string_from_numbers(params: Params, x: Array) -> tuple[Array]:
    """Numbers as text: floats by the shortest digits that identify them, as the standard's tests have it."""
    dtype = dtype_of(x.dtype)
    x = x if dtype is None or dtype.package == "np" else x.astype(DTYPES[dtype.compute].numpy)
    flat = x.reshape(-1)
    # Python's own numbers are written faster, but a float of its own has as many digits as float64 needs.
    narrow = x.dtype.kind == "f" and x.dtype != np.float64
    texts = list(map(str, flat if narrow else flat.astype(np.int8).tolist() if x.dtype.kind == "b" else flat.tolist()))
    if x.dtype.kind == "f" and not np.isfinite(flat).all():
        texts = [_NOT_FINITE.get(text, text) for text in texts]
    return (_objects(texts, x.shape),)


_NOT_FINITE = {"nan": "NaN", "inf": "INF", "-inf": "-INF"}


def string_to_numbers(params: Params, x: Array) -> tuple[Array]:
    """Text as numbers; integers may be written as floats, NaN and infinities by their usual names."""
    dtype, texts = DTYPES[params["dtype"]], x.reshape(-1).tolist()
    with np.errstate(over="ignore"):  # what is too great for a float is infinite
        numbers = _plain_numbers(dtype, texts)
        return ((_numbers(dtype, texts) if numbers is None else numbers).reshape(x.shape),)


def _plain_numbers(dtype: DType, texts: list[str]) -> Array | None:
    """All texts as Python reads them, if none of them has to be looked at alone."""
    together = "".join(texts)
    if dtype.kind == "b" or not together.isascii() or "_" in together:
        return None
    read, kind = (int, dtype.numpy) if dtype.is_int else (float, np.dtype(np.float64))
    try:
        return np.fromiter(map(read, texts), kind, len(texts)).astype(dtype.numpy, copy=False)
    except (OverflowError, ValueError):
        return None


def _numbers(dtype: DType, texts: list[str]) -> Array:
    """The texts one by one, or an error that says which of them is no number or too great."""
    if dtype.is_int:
        convert: Callable[[str], Any] = _integer
    else:
        convert = _truth if dtype.kind == "b" else _real
    numbers = list(map(convert, texts))
    if dtype.is_int:
        least, greatest = dtype.limits
        beyond = next((number for number in numbers if not least <= number <= greatest), None)
        if beyond is not None:
            raise ValueError(f"{beyond} is outside the range of {dtype.onnx_name}, {least} to {greatest}")
    return np.array(numbers, object if dtype.is_int else np.float64).astype(dtype.numpy)


def _plain(text: str) -> str:
    """The text, which must not be a number in Python alone: with underscores between its digits, or with digits of other scripts."""
    if "_" in text or not text.isascii():
        raise ValueError(f"could not convert string to float: {text!r}")
    return text


def _real(text: str) -> float:
    return float(_plain(text))


def _integer(text: str) -> int:
    try:
        return int(_plain(text))
    except ValueError:
        return int(_real(text))


def _truth(text: str) -> bool:
    named = {"": False, "false": False, "true": True}.get(text.strip().lower())
    return _real(text) != 0 if named is None else named


def _objects(items: Sequence[Any], shape: tuple[int, ...]) -> Array:
    """An object array of the items."""
    result = np.empty(len(items), object)
    result[:] = items
    return result.reshape(shape)


def string_concat(params: Params, x: Array, y: Array) -> tuple[Array]:
    """Strings joined pairwise, broadcast."""
    return (np.asarray(np.add(x.astype(object), y.astype(object)), object),)


def string_split(params: Params, x: Array) -> tuple[Array]:
    """Pieces of every string along a new last axis, filled up with empty strings."""
    delimiter, limit = params["delimiter"] or None, -1 if params["maxsplit"] is None else params["maxsplit"]
    rows = [text.split(delimiter, limit) for text in x.reshape(-1).tolist()]
    width = max(map(len, rows), default=0)
    for row in rows:
        if len(row) < width:
            row += [""] * (width - len(row))
    # Not as rows: NumPy would look at every piece to find out whether it is a row in its turn.
    return (np.fromiter(chain.from_iterable(rows), object, len(rows) * width).reshape(*x.shape, width),)


def regex_full_match(params: Params, x: Array) -> tuple[Array]:
    """Whether all of a string matches the pattern."""
    pattern = compiled(params["pattern"])
    found = [pattern.fullmatch(text) is not None for text in x.reshape(-1).tolist()]
    return (np.array(found, np.bool_).reshape(x.shape),)


@factory
def string_normalizer(params: Params) -> Callable[[Array], tuple[Array]]:
    """Stop words taken out and case changed, of strings in one axis, or in two of which the first has extent 1."""
    changes: Mapping[str, Callable[[str], str] | None] = {"LOWER": str.lower, "UPPER": str.upper, "NONE": None}
    change = changes[params["case_change_action"]]
    fold = None if params["is_case_sensitive"] else str.lower
    stop = frozenset(params["stopwords"] if fold is None else map(fold, params["stopwords"]))

    def step(x: Array) -> tuple[Array]:
        kept = x.reshape(-1).tolist()
        if stop:
            keys = kept if fold is None else map(fold, kept)
            kept = [text for text, key in zip(kept, keys, strict=True) if key not in stop]
        if change is not None:
            kept = list(map(change, kept))
        result = np.empty(max(len(kept), 1), object)
        result[:] = kept or [""]
        return (result if x.ndim == 1 else result.reshape(1, -1),)

    return step


_STEPS = (
    string_from_numbers, string_to_numbers, string_concat, string_split, regex_full_match,
    string_normalizer,
)  # fmt: skip
HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {function.__name__: function for function in _STEPS}
"""The steps of this module by name."""
