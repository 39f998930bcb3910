"""Attention and rotary embeddings of the standard, in the terms of those of onnxruntime's domain."""

from __future__ import annotations

import math

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Shape, Tensor
from onnx_numba.ir.types import BOOL, BY_ONNX, F64, I64, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import require_broadcast, require_shape, wide
from onnx_numba.ops.contrib_attention import split_heads
from onnx_numba.ops.contrib_rotary import turned_heads
from onnx_numba.ops.product import product
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import checked_index
from onnx_numba.ops.softmax import softmax_over

Extent = Dim | int
NEVER = float("-inf")
RAW, CAPPED, BIASED = range(3)
"""What the fourth output of an attention shows: the scores, the same within the cap, or with the mask too; else the weights."""


@op("Attention", since=25)
def attention(
    b: Builder, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, past_key: Tensor | None = None,
    past_value: Tensor | None = None, valid: Tensor | None = None, *, is_causal: int = 0, q_num_heads: int = 0, kv_num_heads: int = 0,
    qk_matmul_output_mode: int = 0, scale: float | None = None, softcap: float = 0.0, softmax_precision: int | None = None,
    left_window_size: int = -1, right_window_size: int = -1,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Values summed by the softmax of scaled products of queries and keys; the keys and values, and one of the steps between."""
    if (valid is not None) and (past_key is not None):
        b.fail("nonpad_kv_seqlen does not go with past_key and past_value")
    if (past_key is None) != (past_value is None):
        b.fail("past_key and past_value must be given both or neither")
    q, k, v = (_heads(b, t, n, w) for t, n, w in ((query, q_num_heads, "Q"), (key, kv_num_heads, "K"), (value, kv_num_heads, "V")))
    before: Extent = 0
    if past_key is not None and past_value is not None:
        before = past_key.shape[2]
        k, v = b.concat([past_key, k], 2), b.concat([past_value, v], 2)
    b.require_equal(v.shape[2], k.shape[2], "places of the values")
    scores = _scores(b, q, k, scale)
    capped = b.map(lambda x: softcap * e.unary("tanh", x / softcap), scores) if softcap else scores
    ahead = 0 if is_causal else None
    if right_window_size >= 0 and not is_causal:
        ahead = right_window_size
    behind = left_window_size if left_window_size >= 0 else None
    bias = _bias(b, scores.shape, scores.dtype, _mask(b, mask), valid, before, behind, ahead)
    logits = capped
    if bias is not None:
        logits = b.map(lambda x, y: x + y, capped, b.expand(bias, scores.shape))
    if softmax_precision is not None and BY_ONNX[softmax_precision] is F64:
        logits = b.cast(logits, F64)
    weights = softmax_over(b, logits, range(3, 4))
    if bias is not None and not (mask is valid is behind is None):  # without any of them a query sees at least the first key
        top = b.reduce("max", bias, [3], True)
        weights = b.map(lambda w, m: e.where(e.eq(m, NEVER), 0.0, w), weights, b.expand(top, (*scores.shape[:3], 1)))
    weights = b.cast(weights, scores.dtype)
    shown = {RAW: scores, CAPPED: capped, BIASED: logits}.get(qk_matmul_output_mode, weights)
    result = _summed(b, weights, b.cast(v, weights.dtype))
    if query.rank == 3:
        result = b.reshape(b.transpose(result, (0, 2, 1, 3)), (result.shape[0], result.shape[2], result.shape[1] * result.shape[3]))
    return b.cast(result, query.dtype), k, v, b.cast(shown, query.dtype)


def _heads(b: Builder, x: Tensor, count: int, what: str) -> Tensor:
    """``[batch, head, place, element]``, also of rows of heads."""
    if x.rank == 4:
        return x
    if not count:
        b.fail(f"q_num_heads and kv_num_heads must be given with inputs of rank 3, which {what} has")
    return split_heads(b, x, count, what)


def _shared(query: Tensor, count: Extent) -> Shape:
    """The shape in which neighbouring heads that share one of ``count`` are one, with the rows of all."""
    batch, heads, length, size = query.shape
    return (batch, count, d.floordiv(heads, count) * length, size)


def _scores(b: Builder, query: Tensor, key: Tensor, scale: float | None) -> Tensor:
    """The scaled products ``[batch, head, place, place of key]`` in the wide type."""
    kind, size = wide(query.dtype), query.shape[3]
    b.require_equal(key.shape[3], size, "head size of K")
    b.require_equal(d.floordiv(query.shape[1], key.shape[1]) * key.shape[1], query.shape[1], "heads of Q, a multiple of those of K")
    shared = b.reshape(b.cast(query, kind), _shared(query, key.shape[1]))
    result = product(b, shared, b.transpose(b.cast(key, kind), (0, 1, 3, 2)))
    factor: Expr
    if scale is not None:
        factor = e.lit(scale, kind)
    elif isinstance(size, int):
        factor = e.lit(1 / math.sqrt(size) if size else 1.0, kind)
    else:
        factor = 1.0 / e.unary("sqrt", e.cast(e.dimval(size), kind))
    return b.reshape(b.map(lambda v: v * factor, result), (*query.shape[:3], key.shape[2]))


def _summed(b: Builder, weights: Tensor, value: Tensor) -> Tensor:
    """The sums of values by their weights, ``[batch, head, place, element]``."""
    result = product(b, b.reshape(weights, _shared(weights, value.shape[1])), value)
    return b.reshape(result, (*weights.shape[:3], value.shape[3]))


def _bias(
    b: Builder, shape: Shape, kind: DType, mask: Tensor | None, valid: Tensor | None, before: Extent, behind: int | None, ahead: int | None
) -> Tensor | None:  # fmt: skip
    """What is added to scores ``[batch, head, place, place of key]``, with axes of 1 where it is the same for all; None for nothing.

    The first query's place is that after ``before`` keys, or with ``valid`` keys such that the last one's is that of the last of them.
    A query sees the keys from ``behind`` places before its own to ``ahead`` places after it, where those are given.
    """
    if mask is valid is behind is ahead is None:
        return None
    batch, _, length, total = shape
    lead: list[Extent] = [1, 1, 1] if mask is None else list(mask.shape[:3])
    if valid is not None:
        require_shape(b, valid, (batch,), "nonpad_kv_seqlen")
        lead[0] = batch
    if behind is not None or ahead is not None:
        lead[2] = length
    full = (*lead, total)
    require_broadcast(b, full, shape, "the mask")

    def element(n: Dim, h: Dim, s: Dim, t: Dim) -> Expr:
        place = e.dimval(t)
        added: Expr = e.lit(0.0, kind)
        if mask is not None:
            given = b.broadcast_load(mask, (n, h, s, t), (*lead, mask.shape[3]))
            added = e.where(given, added, NEVER) if mask.dtype is BOOL else e.cast(given, kind)
            if mask.shape[3] != total:
                added = e.guard(place < e.dimval(mask.shape[3]), added, NEVER)
        own = e.dimval(s + before)
        seen = []
        if valid is not None:
            many = e.cast(valid[(n,)], I64)
            own = e.dimval(s - length) + many
            seen.append(place < many)
        if ahead is not None:
            seen.append(place <= own + ahead)
        if behind is not None:
            seen.append(place >= own - behind)
        for condition in seen:
            added = added + e.where(condition, e.lit(0.0, kind), NEVER)
        return added

    return b.compute(full, element, kind)


def _mask(b: Builder, mask: Tensor | None) -> Tensor | None:
    """The mask with four axes."""
    if mask is None or mask.rank == 4:
        return mask
    if mask.rank > 4 or mask.rank == 0:
        b.fail(f"a mask of rank 1 to 4 is expected, one of rank {mask.rank} came")
    return b.reshape(mask, (*[1] * (4 - mask.rank), *mask.shape))


@op("Attention", since=24)
def attention_24(
    b: Builder, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, past_key: Tensor | None = None,
    past_value: Tensor | None = None, valid: Tensor | None = None, *, is_causal: int = 0, q_num_heads: int = 0, kv_num_heads: int = 0,
    qk_matmul_output_mode: int = 0, scale: float | None = None, softcap: float = 0.0, softmax_precision: int | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The same without windows."""
    return attention(
        b, query, key, value, mask, past_key, past_value, valid, is_causal=is_causal, q_num_heads=q_num_heads, kv_num_heads=kv_num_heads,
        qk_matmul_output_mode=qk_matmul_output_mode, scale=scale, softcap=softcap, softmax_precision=softmax_precision,
    )  # fmt: skip


@op("Attention", since=23)
def attention_23(
    b: Builder, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, past_key: Tensor | None = None,
    past_value: Tensor | None = None, *, is_causal: int = 0, q_num_heads: int = 0, kv_num_heads: int = 0,
    qk_matmul_output_mode: int = 0, scale: float | None = None, softcap: float = 0.0, softmax_precision: int | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The same with a mask that is not padded: what it says of one key it says of all."""
    if mask is not None and mask.rank > 0:
        keys = key.shape[-2] if past_key is None else past_key.shape[2] + key.shape[-2]
        mask = b.expand(mask, (*mask.shape[:-1], keys))
    return attention(
        b, query, key, value, mask, past_key, past_value, is_causal=is_causal, q_num_heads=q_num_heads, kv_num_heads=kv_num_heads,
        qk_matmul_output_mode=qk_matmul_output_mode, scale=scale, softcap=softcap, softmax_precision=softmax_precision,
    )  # fmt: skip


@op("RotaryEmbedding", since=23)
def rotary_embedding(
    b: Builder, x: Tensor, cos_cache: Tensor, sin_cache: Tensor, position_ids: Tensor | None = None, *, interleaved: int = 0,
    num_heads: int = 0, rotary_embedding_dim: int = 0,
) -> Tensor:  # fmt: skip
    """Heads, or rows of heads, turned by the angles of their positions, or by angles given for all places."""
    if x.rank not in (3, 4):
        b.fail(f"an input of rank 3 or 4 is expected, one of rank {x.rank} came")
    if x.rank == 3 and not num_heads:
        b.fail("num_heads must be given with an input of rank 3")
    heads, place = x, 2
    if x.rank == 3:  # places before heads
        heads, place = b.transpose(split_heads(b, x, num_heads, "the input"), (0, 2, 1, 3)), 1
    batch, length, size = heads.shape[0], heads.shape[place], heads.shape[3]
    if cos_cache.rank != (3 if position_ids is None else 2):
        b.fail(f"a cache of cosines of rank {cos_cache.rank} does not go with {'no ' if position_ids is None else ''}position_ids")
    b.require_equal(cos_cache.shape[-1] * 2, rotary_embedding_dim or size, "twice the angles in the caches")

    def row(n: Dim, s: Dim) -> tuple[Expr | Extent, ...]:
        return (n, s) if position_ids is None else (checked_index(b, position_ids[(n, s)], cos_cache.shape[0]),)

    if position_ids is None:
        require_shape(b, cos_cache, (batch, length, cos_cache.shape[2]), "the cache of cosines")
    else:
        require_shape(b, position_ids, (batch, length), "position_ids")
    result = turned_heads(b, heads, row, cos_cache, sin_cache, bool(interleaved), place)
    return result if x.rank == 4 else b.reshape(result, x.shape)
