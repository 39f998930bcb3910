"""Attention of onnxruntime's domain: heads, masks, past and present, as compositions of products and a softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Shape, Tensor
from onnx_numba.ir.types import BOOL, I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS, require_broadcast, require_shape, wide
from onnx_numba.ops.contrib_qmatmul import matmul_integer_to_float
from onnx_numba.ops.matmul import matmul
from onnx_numba.ops.product import product
from onnx_numba.ops.registry import op
from onnx_numba.ops.softmax import softmax_over

Extent = Dim | int
LOWEST = -3.4028234663852886e38
"""The least float32: what onnxruntime adds where a later place must not be seen."""


def split_heads(b: Builder, x: Tensor, count: int, what: str) -> Tensor:
    """``[batch, place, hidden]`` as ``[batch, head, place, element]``."""
    if x.rank != 3:
        b.fail(f"{what} of rank 3 is expected, one of rank {x.rank} came")
    size = d.floordiv(x.shape[2], count)
    b.require_equal(size * count, x.shape[2], f"hidden size of {what} in {count} heads")
    return b.transpose(b.reshape(x, (*x.shape[:2], count, size)), (0, 2, 1, 3))


def scores(b: Builder, query: Tensor, key: Tensor, scale: float | None) -> Tensor:
    """The scaled products of queries and keys ``[batch, head, place, place of key]``, in the wide type.

    Where there are fewer heads of keys, neighbouring heads of queries share one.
    """
    kind = wide(query.dtype)
    batch, heads, length, size = query.shape
    b.require_equal(key.shape[3], size, "head size of the keys")
    shared = b.reshape(b.cast(query, kind), (batch, key.shape[1], d.floordiv(heads, key.shape[1]) * length, size))
    result = product(b, shared, b.transpose(b.cast(key, kind), (0, 1, 3, 2)))
    if scale:
        factor: Expr = e.lit(scale, kind)
    elif isinstance(size, int):
        factor = e.lit(1 / math.sqrt(size), kind)
    else:
        factor = 1.0 / e.unary("sqrt", e.cast(e.dimval(size), kind))
    return b.reshape(b.map(lambda v: v * factor, result), (batch, heads, length, key.shape[2]))


def attended(b: Builder, weights: Tensor, value: Tensor) -> Tensor:
    """The sums of values by their weights, heads side by side: ``[batch, place, hidden]``."""
    batch, heads, length, total = weights.shape
    shared = b.reshape(weights, (batch, value.shape[1], d.floordiv(heads, value.shape[1]) * length, total))
    result = b.reshape(product(b, shared, b.cast(value, weights.dtype)), (batch, heads, length, value.shape[3]))
    rows = b.transpose(result, (0, 2, 1, 3))
    return b.cast(b.reshape(rows, (batch, length, heads * value.shape[3])), value.dtype)


def biased(b: Builder, logits: Tensor, bias: Tensor | None) -> Tensor:
    """The scores plus a bias that broadcasts over batch and heads."""
    if bias is None:
        return logits
    if bias.rank != 4:
        b.fail(f"attention_bias of rank 4 is expected, one of rank {bias.rank} came")
    require_broadcast(b, bias.shape, logits.shape, "attention_bias")
    return b.map(lambda v, w: v + e.cast(w, v.dtype), logits, b.expand(bias, logits.shape))


def _padding(b: Builder, mask: Tensor, shape: Shape) -> Tensor:
    """Which keys may be seen, ``[batch, 1, place, place of key]``: 0 or 1 for each, or where the keys of each sequence end.

    Ends may be followed by starts, or by more that says nothing here.
    """
    batch, _, length, total = shape
    full = (batch, 1, length, total)
    if mask.rank == 2:
        require_shape(b, mask, (batch, total), "the mask")
        return b.compute(full, lambda n, _, s, t: mask[(n, t)] > 0, BOOL)
    if mask.rank == 3:
        require_shape(b, mask, (batch, length, total), "the mask")
        return b.compute(full, lambda n, _, s, t: mask[(n, s, t)] > 0, BOOL)
    if mask.rank != 1:
        b.unsupported(f"a mask of rank {mask.rank}")
    count = mask.shape[0]
    b.require_equal((count - batch) * (count - batch * 2) * (count - batch * 3 - 2), 0, "elements of the mask for this batch")

    def seen(n: Dim, _: Dim, s: Dim, t: Dim) -> Expr:
        place = e.dimval(t)
        start = e.guard(e.eq(e.dimval(count), e.dimval(batch * 2)), e.cast(mask[(n + batch,)], I64), 0)
        return (place < e.cast(mask[(n,)], I64)) & (place >= start)

    return b.compute(full, seen, BOOL)


def masked(b: Builder, logits: Tensor, mask: Tensor | None, past: Extent, causal: bool, filtered: float) -> Tensor:
    """The scores with ``filtered`` added where the mask hides a key, or the least float where it comes later than the query."""
    allowed = None if mask is None else _padding(b, mask, logits.shape)
    one = e.dimval(logits.shape[2]) <= 1  # a single query sees all keys

    def element(n: Dim, h: Dim, s: Dim, t: Dim) -> Expr:
        v = logits[(n, h, s, t)]
        added: Expr = e.lit(0.0, v.dtype)
        if allowed is not None:
            added = e.where(allowed[(n, 0, s, t)], added, filtered)
        if causal:
            added = e.where(one | (e.dimval(t) <= e.dimval(s + past)), added, LOWEST)
        return v + added

    return b.compute(logits.shape, element, logits.dtype) if causal or allowed is not None else logits


def weights_of(b: Builder, logits: Tensor) -> Tensor:
    """The softmax over the keys."""
    return softmax_over(b, logits, range(3, 4))


def _joined(b: Builder, past: Tensor | None, new: Tensor, what: str) -> tuple[Tensor, Extent]:
    """Earlier keys or values before the new ones, and how many those are."""
    if past is None:
        return new, 0
    require_shape(b, past, (*new.shape[:2], past.shape[2] if past.rank == 4 else 0, new.shape[3]), what)
    return b.concat([past, new], 2), past.shape[2]


def _window(b: Builder, x: Tensor, start: Extent, size: Extent) -> Tensor:
    """Some elements of the last axis."""
    return b.compute((*x.shape[:-1], size), lambda *i: x[(*i[:-1], i[-1] + start)], x.dtype)


@op("Attention", since=1, domain=MS)
def attention(
    b: Builder, x: Tensor, weights: Tensor, bias: Tensor | None = None, mask_index: Tensor | None = None, past: Tensor | None = None,
    attention_bias: Tensor | None = None, past_sequence_length: Tensor | None = None, *, num_heads: int, unidirectional: int = 0,
    scale: float | None = None, mask_filter_value: float = -10000.0, qkv_hidden_sizes: Sequence[int] | None = None,
    do_rotary: int = 0, rotary_embedding_dim: int | None = None, past_present_share_buffer: int = 0,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Queries, keys and values by one product, then attention; the present keys and values, stacked."""
    if do_rotary or past_present_share_buffer or past_sequence_length is not None:
        b.unsupported("do_rotary, past_present_share_buffer and past_sequence_length, which onnxruntime's CPU does not run either")
    if x.rank != 3 or weights.rank != 2:
        b.fail(f"an input of rank 3 and weights of rank 2 are expected, ranks {x.rank} and {weights.rank} came")
    projected = matmul(b, x, weights)
    if bias is not None:
        require_shape(b, bias, (weights.shape[1],), "the bias")
        projected = b.map(lambda v, c: v + c, projected, bias)
    sizes = _sizes(b, weights.shape[1], qkv_hidden_sizes)
    return _attended_to_itself(
        b, projected, sizes, num_heads, mask_index, past, attention_bias, bool(unidirectional), scale, mask_filter_value
    )  # fmt: skip


def _attended_to_itself(
    b: Builder, projected: Tensor, sizes: Sequence[Extent], num_heads: int, mask: Tensor | None, past: Tensor | None, bias: Tensor | None,
    causal: bool, scale: float | None, filtered: float,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Attention over queries, keys and values that lie side by side, and the present keys and values, stacked."""
    parts = [_window(b, projected, start, size) for start, size in zip((0, sizes[0], sizes[0] + sizes[1]), sizes, strict=True)]
    query, key, value = (split_heads(b, part, num_heads, "the product") for part in parts)
    before: Extent = 0
    if past is not None:
        require_shape(b, past, (2, *key.shape[:2], past.shape[3] if past.rank == 5 else 0, key.shape[3]), "past")
        earlier = [b.compute(past.shape[1:], lambda *i, part=part: past[(part, *i)], past.dtype) for part in (0, 1)]
        (key, before), (value, _) = _joined(b, earlier[0], key, "past"), _joined(b, earlier[1], value, "past")
    logits = biased(b, scores(b, query, key, scale), bias)
    logits = masked(b, logits, mask, before, causal, filtered)
    present = None
    if len(b.wanted) > 1 and b.wanted[1]:
        present = b.concat([b.reshape(t, (1, *t.shape)) for t in (key, value)], 0)
    return attended(b, weights_of(b, logits), value), present


@op("QAttention", since=1, domain=MS)
def quantised_attention(
    b: Builder, x: Tensor, weights: Tensor, bias: Tensor, x_scale: Tensor, weight_scale: Tensor, mask_index: Tensor | None = None,
    x_zero: Tensor | None = None, weight_zero: Tensor | None = None, past: Tensor | None = None, *, num_heads: int,
    unidirectional: int = 0, scale: float | None = None, mask_filter_value: float = -10000.0, do_rotary: int = 0,
    past_present_share_buffer: int = 0,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """`attention` of quantised rows and weights, which are multiplied as integers; from there on it is one of floats."""
    if do_rotary or past_present_share_buffer:
        b.unsupported("do_rotary and past_present_share_buffer, which onnxruntime's CPU does not run either")
    if x.rank != 3 or weights.rank != 2:
        b.fail(f"an input of rank 3 and weights of rank 2 are expected, ranks {x.rank} and {weights.rank} came")
    require_shape(b, bias, (weights.shape[1],), "the bias")
    projected = matmul_integer_to_float(b, x, weights, x_scale, weight_scale, x_zero, weight_zero, bias)
    sizes = _sizes(b, weights.shape[1], None)
    return _attended_to_itself(b, projected, sizes, num_heads, mask_index, past, None, bool(unidirectional), scale, mask_filter_value)


def _sizes(b: Builder, columns: Extent, given: Sequence[int] | None) -> list[Extent]:
    """How many columns of the weights are of queries, keys and values."""
    if not given:
        third = d.floordiv(columns, 3)
        b.require_equal(third * 3, columns, "columns of the weights in three parts")
        return [third] * 3
    if len(given) != 3 or min(given) <= 0 or given[0] != given[1]:
        b.fail(f"qkv_hidden_sizes must be three sizes, the first two equal, not {list(given)}")
    b.require_equal(columns, sum(given), "columns of the weights, the sum of qkv_hidden_sizes")
    return list(given)


@op("MultiHeadAttention", since=1, domain=MS)
def multi_head_attention(
    b: Builder, query: Tensor, key: Tensor | None = None, value: Tensor | None = None, bias: Tensor | None = None,
    key_padding_mask: Tensor | None = None, attention_bias: Tensor | None = None, past_key: Tensor | None = None,
    past_value: Tensor | None = None, past_sequence_length: Tensor | None = None, cache_indirection: Tensor | None = None, *,
    num_heads: int, unidirectional: int = 0, scale: float | None = None, mask_filter_value: float = -10000.0,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Attention over given queries, keys and values; the present keys and values, and the scores."""
    if past_sequence_length is not None or cache_indirection is not None:
        b.unsupported("past_sequence_length and cache_indirection, which are for buffers shared between past and present")
    if (past_key is None) != (past_value is None):
        b.fail("past_key and past_value must be given both or neither")
    q, k, v = _heads(b, query, key, value, bias, num_heads)
    keys, before = _joined(b, past_key, k, "past_key")
    values, _ = _joined(b, past_value, v, "past_value")
    b.require_equal(values.shape[2], keys.shape[2], "places of the values")
    logits = biased(b, scores(b, q, keys, scale), attention_bias)
    logits = masked(b, logits, key_padding_mask, before, bool(unidirectional), mask_filter_value)
    return attended(b, weights_of(b, logits), values), keys, values, b.cast(logits, query.dtype)


def _heads(
    b: Builder, query: Tensor, key: Tensor | None, value: Tensor | None, bias: Tensor | None, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as heads, whichever way they are packed, with the bias of the product that they came from."""
    if query.rank == 5:
        return _unpacked(b, query, 3, bias, count, 0)  # type: ignore[return-value]
    offset = query.shape[-1]
    heads = split_heads(b, _plus(b, query, bias, 0), count, "the query")
    if key is None:
        b.fail("the key must be given unless the query packs all three")
    if key.rank == 5:
        return (heads, *_unpacked(b, key, 2, bias, count, offset))  # type: ignore[return-value]
    if value is None:
        b.fail("the value must be given unless the key packs both")
    if key.rank == 4:  # earlier keys and values as they are kept
        return heads, key, value
    keys = split_heads(b, _plus(b, key, bias, offset), count, "the key")
    values = split_heads(b, _plus(b, value, bias, offset + key.shape[-1]), count, "the value")
    return heads, keys, values


def _plus(b: Builder, x: Tensor, bias: Tensor | None, offset: Extent) -> Tensor:
    """Rows plus the part of the bias from ``offset`` on."""
    if bias is None:
        return x
    if bias.rank != 1:
        b.fail(f"a bias of rank 1 is expected, one of rank {bias.rank} came")
    b.require_equal(d.compare("le", offset + x.shape[-1], bias.shape[0]), 1, "elements of the bias")
    return b.compute(x.shape, lambda *i: x[i] + bias[(i[-1] + offset,)], x.dtype)


def _unpacked(b: Builder, packed: Tensor, parts: int, bias: Tensor | None, count: int, offset: Extent) -> tuple[Tensor, ...]:
    """Tensors ``[batch, head, place, element]`` packed as ``[batch, place, head, part, element]``."""
    batch, length, _, _, size = packed.shape
    require_shape(b, packed, (batch, length, count, parts, size), "the packed input")
    made = []
    for part in range(parts):
        rows = b.compute((batch, length, count, size), lambda n, s, h, k, part=part: packed[(n, s, h, part, k)], packed.dtype)
        flat = _plus(b, b.reshape(rows, (batch, length, size * count)), bias, offset + part * (size * count))
        made.append(split_heads(b, flat, count, "the packed input"))
    return tuple(made)
