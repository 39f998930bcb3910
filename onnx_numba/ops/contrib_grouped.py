"""Attention in which heads of queries share heads of keys, over a cache of earlier keys and values."""

from __future__ import annotations

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Shape, Tensor
from onnx_numba.ir.types import I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS, require_broadcast, require_shape
from onnx_numba.ops.contrib_attention import attended, biased, scores, split_heads
from onnx_numba.ops.contrib_cache import Window, storage, window
from onnx_numba.ops.contrib_rotary import rotated
from onnx_numba.ops.norm import root_mean_square
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import natural_index, scalar, settle
from onnx_numba.ops.softmax import softmax_over
from onnx_numba.record import record

Extent = Dim | int


@record
class _Lengths:
    """Of each sequence ``[batch]``, in int64: how many keys there are after this step, how many were before, how many queries count.

    ``total`` is the greatest number of keys.
    """

    keys: Tensor
    past: Tensor
    valid: Tensor
    total: Extent


@op("GroupQueryAttention", since=1, domain=MS)
def group_query_attention(
    b: Builder, query: Tensor, key: Tensor | None, value: Tensor | None, past_key: Tensor | None, past_value: Tensor | None,
    seqlens_k: Tensor, total_sequence_length: Tensor, cos_cache: Tensor | None = None, sin_cache: Tensor | None = None,
    position_ids: Tensor | None = None, attention_bias: Tensor | None = None, head_sink: Tensor | None = None,
    k_scale: Tensor | None = None, v_scale: Tensor | None = None, q_norm_weight: Tensor | None = None,
    k_norm_weight: Tensor | None = None, query_seqlens: Tensor | None = None, *, num_heads: int, kv_num_heads: int,
    scale: float | None = None, softcap: float | None = None, do_rotary: int | None = None, rotary_interleaved: int | None = None,
    local_window_size: int = -1, smooth_softmax: int = -1, qk_output: int = 0, causal: int = 1, sliding_window_cache: int = 0,
    k_quant_type: str = "NONE", v_quant_type: str = "NONE", kv_cache_bit_width: int | None = None, qk_norm_epsilon: float = 1e-6,
    q_norm_epsilon: float | None = None, k_norm_epsilon: float | None = None,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Attention over the cache with the new keys and values put in; the cache, and the scores before or after the softmax."""
    if (past_key is None) != (past_value is None) or (q_norm_weight is None) != (k_norm_weight is None):
        b.fail("past_key and past_value, and q_norm_weight and k_norm_weight, must be given both or neither")
    q, k, v = _heads(b, query, key, value, num_heads, kv_num_heads)
    lengths = _lengths(b, seqlens_k, total_sequence_length, query_seqlens, q)
    total = lengths.total
    if q_norm_weight is not None and k_norm_weight is not None:
        q = _normal(b, q, q_norm_weight, q_norm_epsilon or qk_norm_epsilon)
        k = _normal(b, k, k_norm_weight, k_norm_epsilon or qk_norm_epsilon)
    if do_rotary:
        if cos_cache is None or sin_cache is None:
            b.fail("do_rotary needs cos_cache and sin_cache")
        places = _places(b, lengths, position_ids, q.shape[2])
        q, k = (rotated(b, t, places, cos_cache, sin_cache, bool(rotary_interleaved)) for t in (q, k))
    stores = (
        storage(b, "k", k_quant_type, kv_cache_bit_width, k_scale, past_key, k),
        storage(b, "v", v_quant_type, kv_cache_bit_width, v_scale, past_value, v),
    )
    new = [(past, store.encoded(b, t)) for past, store, t in zip((past_key, past_value), stores, (k, v), strict=True)]
    if sliding_window_cache:
        kept = window(b, past_key, local_window_size)
        lengths, begin, resident, first = _staged(b, lengths, kept, q.shape[2])
        both = [_cached(b, past, t, lengths) for past, t in new]
        keys, values = (kept.kept(b, t, begin, resident) for t in both)
        attention_bias = attention_bias and _from(b, attention_bias, first, (*q.shape[:3], total), lengths.total)
    else:
        both = [_cached(b, past, t, lengths) for past, t in new]
        keys, values = both
    seen_keys, seen_values = (
        store.decoded(b, _first(b, cache, lengths.total), t.shape[3]) for store, cache, t in zip(stores, both, (k, v), strict=True)
    )
    logits = scores(b, q, seen_keys, scale)
    if softcap:
        logits = b.map(lambda x: softcap * e.unary("tanh", x / softcap), logits)
    logits = biased(b, logits, attention_bias)
    seen = _seen(b, logits, lengths, bool(causal), local_window_size)
    weights = _softmax(b, seen, _sink(b, head_sink, num_heads, smooth_softmax == 1, seen))
    output = b.cast(attended(b, weights, seen_values), query.dtype)
    if not qk_output:
        return output, keys, values, None
    shown = weights if qk_output == 2 else logits
    if sliding_window_cache:
        shown = _shifted(b, shown, first, total)
    return output, keys, values, b.cast(shown, query.dtype)


def _heads(
    b: Builder, query: Tensor, key: Tensor | None, value: Tensor | None, count: int, shared: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as heads; all in the query where no others are given."""
    if count % shared:
        b.fail(f"num_heads {count} is no multiple of kv_num_heads {shared}")
    if key is None and value is None:
        both = split_heads(b, query, count + 2 * shared, "the packed query")

        def part(start: int, size: int) -> Tensor:
            shape = (both.shape[0], size, *both.shape[2:])
            return b.compute(shape, lambda n, h, s, i: both[(n, h + start, s, i)], both.dtype)

        return part(0, count), part(count, shared), part(count + shared, shared)
    if key is None or value is None:
        b.fail("key and value must be given both or neither")
    heads = split_heads(b, query, count, "the query")
    keys, values = split_heads(b, key, shared, "the key"), split_heads(b, value, shared, "the value")
    for what, t in (("the key", keys), ("the value", values)):
        require_shape(b, t, (heads.shape[0], shared, heads.shape[2], t.shape[3]), what)
    return heads, keys, values


def _lengths(b: Builder, last: Tensor, total: Tensor, valid: Tensor | None, query: Tensor) -> _Lengths:
    batch, length = query.shape[0], query.shape[2]
    (most,) = settle(b, [e.cast(scalar(b, total), I64)])
    b.require_equal(last.size, batch, "elements of seqlens_k")
    flat = b.reshape(last, (batch,))
    keys = b.compute((batch,), lambda n: _number(natural_index(b, flat[(n,)], most)) + 1, I64)
    if valid is None:
        counted = b.map(lambda t: e.binary("min", t, e.dimval(length)), keys)
    else:
        require_shape(b, valid, (batch,), "query_seqlens")
        counted = b.compute((batch,), lambda n: _number(natural_index(b, valid[(n,)], length + 1)), I64)
    past = b.map(lambda t, c: t - c, keys, counted)
    return _Lengths(keys, past, counted, most)


def _number(index: Expr | Extent) -> Expr:
    return index if isinstance(index, Expr) else e.dimval(index)


def _normal(b: Builder, heads: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    require_shape(b, weight, (heads.shape[3],), "the weights of a norm")
    return root_mean_square(b, heads, weight, axis=-1, epsilon=epsilon, stash_type=1)[0]


def _places(b: Builder, lengths: _Lengths, ids: Tensor | None, length: Extent) -> Tensor:
    """The positions of the queries; 0 for those that do not count."""
    shape = (*lengths.past.shape, length)
    if ids is not None:
        require_shape(b, ids, shape, "position_ids")
        return ids

    def element(n: Dim, s: Dim) -> Expr:
        return e.where(e.dimval(s) < lengths.valid[(n,)], lengths.past[(n,)] + e.dimval(s), 0)

    return b.compute(shape, element, I64)


def _cached(b: Builder, past: Tensor | None, new: Tensor, lengths: _Lengths) -> Tensor:
    """Earlier keys or values, then those of this step, then zeros; as long as the cache was, or longer where that is too short."""
    batch, heads, _, size = new.shape
    room: Extent = 0
    if past is not None:
        require_shape(b, past, (batch, heads, past.shape[2] if past.rank == 4 else 0, size), "a tensor of the past")
        room = past.shape[2]
    known = b.compute((batch,), lambda n: _number(natural_index(b, lengths.past[(n,)], room + 1)), I64)

    def element(n: Dim, h: Dim, t: Dim, i: Dim) -> Expr:
        place = e.dimval(t)
        at = place - known[(n,)]
        fresh = e.guard((at >= 0) & (at < lengths.valid[(n,)]), new[(n, h, at, i)], 0)
        return fresh if past is None else e.guard((at < 0) & (place < e.dimval(room)), past[(n, h, t, i)], fresh)

    return b.compute((batch, heads, d.dmax(room, lengths.total), size), element, new.dtype)


def _staged(b: Builder, lengths: _Lengths, kept: Window, length: Extent) -> tuple[_Lengths, Tensor, Tensor, Tensor]:
    """A step over a cache that keeps a window, as one over a cache with room for both, which begins with what the window's has.

    Returns its lengths, from where on its places are kept and how many, and the position in the sequence of the first.
    """
    before, after = kept.resident(b, lengths.past), kept.resident(b, lengths.keys)
    first = b.map(lambda t, r: t - r, lengths.past, before)
    begin = b.map(lambda t, r, f: t - r - f, lengths.keys, after, first)
    keys = b.map(lambda r, c: r + c, before, lengths.valid)
    return _Lengths(keys, before, lengths.valid, kept.capacity + length), begin, after, first


def _from(b: Builder, bias: Tensor, first: Tensor, shape: Shape, count: Extent) -> Tensor:
    """A bias for ``count`` keys from another position on in each sequence; ``shape`` is that of the bias for all positions."""
    if bias.rank != 4:
        b.fail(f"attention_bias of rank 4 is expected, one of rank {bias.rank} came")
    require_broadcast(b, bias.shape, shape, "attention_bias")
    full = b.expand(bias, shape)

    def element(n: Dim, h: Dim, s: Dim, t: Dim) -> Expr:
        place = e.dimval(t) + first[(n,)]
        return e.guard(place < e.dimval(shape[3]), full[(n, h, s, place)], 0)

    return b.compute((*shape[:3], count), element, bias.dtype)


def _shifted(b: Builder, scores: Tensor, first: Tensor, total: Extent) -> Tensor:
    """Scores of the keys from one position on in each sequence, as those of all ``total`` positions; 0 for keys that are gone."""

    def element(n: Dim, h: Dim, s: Dim, t: Dim) -> Expr:
        place = e.dimval(t) - first[(n,)]
        return e.guard((place >= 0) & (place < e.dimval(scores.shape[3])), scores[(n, h, s, place)], 0)

    return b.compute((*scores.shape[:3], total), element, scores.dtype)


def _first(b: Builder, cache: Tensor, count: Extent) -> Tensor:
    """The part of a cache that is in use."""
    if count == cache.shape[2]:
        return cache
    return b.compute((*cache.shape[:2], count, cache.shape[3]), lambda *i: cache[i], cache.dtype)


def _seen(b: Builder, logits: Tensor, lengths: _Lengths, causal: bool, window: int) -> Tensor:
    """The scores, minus infinity where a query does not see a key: later ones, those before its window, and what is no key."""

    def element(n: Dim, h: Dim, s: Dim, t: Dim) -> Expr:
        place, own = e.dimval(t), lengths.past[(n,)] + e.dimval(s)
        allowed = place < lengths.keys[(n,)]
        if causal:
            allowed = allowed & (place <= own)
        if window > 0:
            allowed = allowed & (place > own - window)
        return e.where(allowed, logits[(n, h, s, t)], float("-inf"))

    return b.compute(logits.shape, element, logits.dtype)


def _sink(b: Builder, sink: Tensor | None, heads: int, smooth: bool, logits: Tensor) -> Tensor | None:
    """The score of a key that has no value, ``[head, 1, 1]``."""
    if sink is not None:
        require_shape(b, sink, (heads,), "head_sink")
        return b.reshape(b.cast(sink, logits.dtype), (heads, 1, 1))
    return b.full((1, 1, 1), 0.0, logits.dtype) if smooth else None


def _softmax(b: Builder, logits: Tensor, sink: Tensor | None) -> Tensor:
    """The softmax over the keys; a sink takes part in the sum."""
    if sink is None:
        return softmax_over(b, logits, range(3, 4))
    top = b.map(lambda m, k: e.binary("max", m, k), b.reduce("max", logits, [3], True), sink)
    terms = b.map(lambda v, m: e.unary("exp_decay", v - m), logits, top)
    total = b.map(lambda t, m, k: t + e.unary("exp_decay", k - m), b.reduce("sum", terms, [3], True), top, sink)
    return b.map(lambda t, s: t / s, terms, total)
