"""Strings as numbers, for operators that are compiled.

A tensor of strings is an `Object`, an array of Python's. Where an operator reads characters, or moves strings towards one that does, it
takes the tensor's `Text` instead: two numbers for each string, between which its UTF-8 bytes lie in one run of bytes::

    ["ab", "", "ö"]  →  spans [[0, 2], [2, 2], [2, 4]], data b"ab\\xc3\\xb6"

Operators that move, cut or choose strings make spans of spans and leave the bytes where they are. Each form is made only if somebody
asks for it: that of Python where a result leaves or a step in Python needs it, numbers elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Constant, Object, Shape, Tensor
from onnx_numba.ir.types import BOOL, I64, STRING, U8, DType, TensorType
from onnx_numba.native.characters import HASH_START, hash_step
from onnx_numba.ops.builder import Builder
from onnx_numba.record import record
from onnx_numba.templates.characters import equal_text, hash_text, lookup_text

Array = np.ndarray[Any, Any]

LOOKUP_GRAIN = 512
"""Strings that a chunk of a lookup takes."""


@record
class Text:
    """Strings as numbers.

    Attributes
    ----------
    spans : Tensor
        int64, of the shape of the strings and a last axis of two: where each begins in ``data`` and where it ends.
    data : Tensor
        Bytes.
    """

    spans: Tensor
    data: Tensor

    @property
    def shape(self) -> Shape:
        """The shape of the strings."""
        return self.spans.shape[:-1]


def text_of(b: Builder, x: Object) -> Text:
    """The strings of a tensor as numbers, made once."""
    if x.text is None:
        x.text = _constant_text(b, x) if isinstance(x.definition, Constant) else _read_text(b, x)
    made: Text = x.text()
    return made


def with_text(b: Builder, x: Object, make: Callable[[], Text]) -> Object:
    """Say how the strings of a tensor are made as numbers, should somebody ask."""
    where, label, made = b.node, b.label, list[Text]()

    def once() -> Text:
        if not made:
            with b.at_node(where, label, (True,)):
                made.append(make())
        return made[0]

    x.text = once
    return x


def _read_text(b: Builder, x: Object) -> Callable[[], Text]:
    """By a step that reads Python's strings."""
    assert isinstance(x.type, TensorType)
    if x.type.shape is None:
        b.deferred_type("the rank of a tensor of strings must be known before the run")
    spans, data = b.host("text", [x], [TensorType(I64, (*x.type.shape, 2)), TensorType(U8, (None,))])
    text = Text(spans, data)
    return lambda: text


def _constant_text(b: Builder, x: Object) -> Callable[[], Text]:
    assert isinstance(x.definition, Constant)
    text = text_weights(b, x.definition.value)
    return lambda: text


def text_weights(b: Builder, strings: Any) -> Text:
    """Strings of the model as numbers."""
    array = np.asarray(strings, object)
    spans, data = encoded([str(item) for item in array.reshape(-1).tolist()])
    return Text(b.weight(spans.reshape(*array.shape, 2)), b.weight(data))


def encoded(strings: Sequence[str]) -> tuple[Array, Array]:
    """Spans and bytes of strings; there is a byte even if there is no character, so that nothing is without an address."""
    parts = [item.encode("utf-8", "surrogatepass") for item in strings]
    stops = np.cumsum([len(part) for part in parts], dtype=np.int64)
    spans = np.stack([np.concatenate([[0], stops])[: len(parts)], stops], axis=1).astype(np.int64)
    return spans, np.frombuffer(b"".join(parts) or b"\0", np.uint8)


# ---- tables


@record
class Table:
    """Distinct strings by which others are found: weights of the model; see `onnx_numba.native.characters`."""

    slots: Tensor
    spans: Tensor
    data: Tensor
    mask: int
    keys: int


def table(b: Builder, keys: Sequence[str]) -> Table:
    """A table of distinct strings, numbered in their order."""
    spans, data = encoded(keys)
    size = 1 << max(2 * len(keys) - 1, 1).bit_length()
    slots = np.zeros(size, np.int64)
    for number, (start, stop) in enumerate(spans.tolist()):
        at = _hash(data[start:stop].tobytes()) & (size - 1)
        while slots[at]:
            at = (at + 1) & (size - 1)
        slots[at] = number + 1
    return Table(b.weight(slots), b.weight(spans if keys else np.zeros((1, 2), np.int64)), b.weight(data), size - 1, len(keys))


def _hash(data: bytes) -> int:
    value = HASH_START
    for byte in data:
        value = hash_step(value, byte)
    return value ^ (value >> 15)


def lookup(b: Builder, x: Object, keys: Sequence[str]) -> Tensor:
    """The number of each string among distinct keys, or how many keys there are where it is none of them."""
    text, found = text_of(b, x), table(b, keys)
    (places,) = b.template(
        lookup_text, [text.spans, text.data, found.slots, found.spans, found.data], [(I64, text.shape)],
        total=d.product(text.shape), dims=(found.mask, found.keys), grain=LOOKUP_GRAIN,
    )  # fmt: skip
    return places


# ---- what is made of strings


def equal_strings(b: Builder, x: Object, y: Object) -> Tensor:
    """Whether strings are equal, broadcast."""
    one, other = text_of(b, x), text_of(b, y)
    shape = b.broadcast_shapes(one.shape, other.shape)
    first, second = (b.expand(t.spans, (*shape, 2)) for t in (one, other))
    (same,) = b.template(equal_text, [first, one.data, second, other.data], [(BOOL, shape)], total=d.product(shape), grain=LOOKUP_GRAIN)
    return same


def hashes(b: Builder, x: Object, seed: int, dtype: DType) -> Tensor:
    """MurmurHash3 of each string's bytes."""
    text = text_of(b, x)
    (made,) = b.template(
        hash_text, [text.spans, text.data], [(dtype, text.shape)],
        total=d.product(text.shape), dims=(seed,), grain=LOOKUP_GRAIN, types={"Y": dtype},
    )  # fmt: skip
    return made


def strings_at(b: Builder, positions: Tensor, names: Array) -> Object:
    """Strings of the model at positions, which are in range."""
    (result,) = b.host("ml_labels", [positions], [TensorType(STRING, positions.shape)], labels=names)

    def make() -> Text:
        text = text_weights(b, names)
        shape = (*positions.shape, 2)
        return Text(b.compute(shape, lambda *i: text.spans[(e.as_index(positions[i[:-1]]), i[-1])], I64), text.data)

    return with_text(b, result, make)


def taken(b: Builder, positions: Tensor, sources: Sequence[Object]) -> Text:
    """Elements of all sources, one after the other, at flat positions that count from 1; at 0 is the empty string."""
    texts = [text_of(b, source) for source in sources]
    flat: list[Tensor] = []
    offset: Dim | int = 0
    for text in texts:
        spans = b.reshape(text.spans, (d.product(text.shape), 2))
        flat.append(_shifted(b, spans, offset))
        offset = offset + text.data.size
    every = b.concat(flat, 0)

    def element(*i: Dim) -> Expr:
        position = positions[i[:-1]]
        return e.guard(position > 0, every[(e.as_index(position - 1), i[-1])], 0)

    return Text(b.compute((*positions.shape, 2), element, I64), b.concat([text.data for text in texts], 0))


def _shifted(b: Builder, spans: Tensor, offset: Dim | int) -> Tensor:
    return spans if offset == 0 else b.map(lambda v: v + e.dimval(offset), spans)
