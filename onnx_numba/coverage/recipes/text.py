"""Strings and images."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from onnx_numba.coverage.case import Array, Case, Draft
from onnx_numba.coverage.recipes import recipe

WORDS = np.array(["monday", "Tuesday", "wednesday", "THURSDAY"], object)


@recipe("StringNormalizer")
def string_normalizer(c: Draft) -> Iterator[Case]:
    yield c.make(WORDS, case_change_action="UPPER", stopwords=["monday"], is_case_sensitive=1)
    yield c.make(WORDS, name="lower", case_change_action="LOWER", stopwords=["MONDAY"])
    yield c.make(WORDS[:1], name="nothing left", stopwords=["monday"], is_case_sensitive=1)
    yield c.make(WORDS.reshape(1, 4), name="row", case_change_action="NONE", stopwords=["Tuesday"], is_case_sensitive=1)


@recipe("StringSplit")
def string_split(c: Draft) -> Iterator[Case]:
    yield c.make(np.array(["hello world", " a  b c", ""], object), outputs=2)
    yield c.make(np.array(["a-b--c", "d"], object), outputs=2, name="delimiter", delimiter="-")
    yield c.make(np.array(["a b c d"], object), outputs=2, name="maxsplit", maxsplit=2)


@recipe("RegexFullMatch")
def regex(c: Draft) -> Iterator[Case]:
    yield c.make(np.array(["www.a.com", "b.org", "www.com"], object), pattern=r"www\.[a-z]+\.com")


@recipe("TfIdfVectorizer")
def tf_idf(c: Draft) -> Iterator[Case]:
    strings = c.types["T"] == "tensor(string)"
    numbers = np.array([[1, 1, 3, 3], [3, 2, 1, 5]], np.int64)
    x = numbers.astype(str).astype(object) if strings else numbers
    pool = [2, 3, 5, 4, 1, 3, 3, 2]
    given = {
        "ngram_counts": [0, 4], "ngram_indexes": [0, 1, 2, 3, 4, 5], "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 1,
        **({"pool_strings": [str(v) for v in pool]} if strings else {"pool_int64s": pool}),
    }  # fmt: skip
    weights = [0.5, 2.0, 1.0, 1.5, 0.25, 3.0]
    yield c.make(x, mode="TF", **given)
    yield c.make(x, name="IDF", mode="IDF", weights=weights, **given)
    yield c.make(x[0], name="TFIDF", mode="TFIDF", weights=weights, **given)


@recipe("ImageDecoder")
def image_decoder(c: Draft) -> Iterator[Case]:
    for pixel_format in ("RGB", "BGR", "Grayscale"):
        yield c.make(_bitmap(), name="" if pixel_format == "RGB" else pixel_format, pixel_format=pixel_format)


def _bitmap() -> Array:
    """A BMP file of two rows: red, green and blue, then white, black and grey."""
    rows = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(255, 255, 255), (0, 0, 0), (128, 128, 128)]]
    pixels = b"".join(b"".join(bytes(pixel[::-1]) for pixel in row).ljust(12, b"\0") for row in reversed(rows))
    head = struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54)
    about = struct.pack("<IiiHHIIiiII", 40, 3, 2, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    return np.frombuffer(head + about + pixels, np.uint8)
