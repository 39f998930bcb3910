"""Rotary position embeddings: pairs of elements of a head turned by angles that grow with the position."""

from __future__ import annotations

from collections.abc import Callable

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS, require_shape
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import natural_index

Extent = Dim | int


def rotated(b: Builder, x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """The heads ``x[batch, head, place, element]`` turned by the angles at ``positions[batch, place]``."""
    if cos.rank != 2:
        b.fail(f"a cache of cosines of rank 2 is expected, one of rank {cos.rank} came")
    return turned_heads(b, x, lambda n, s: (natural_index(b, positions[(n, s)], cos.shape[0]),), cos, sin, interleaved)


def turned_heads(
    b: Builder, x: Tensor, row: Callable[[Dim, Dim], tuple[Expr | Extent, ...]], cos: Tensor, sin: Tensor, interleaved: bool, place: int = 2
) -> Tensor:  # fmt: skip
    """The heads ``x[batch, head, place, element]`` turned by the angles of the row ``row(batch, place)`` of the caches.

    The first ``2 n`` elements are ``n`` pairs, side by side if interleaved, else the two halves; what follows stays. ``place`` is the axis
    of places, which may lie before that of heads.
    """
    require_shape(b, sin, cos.shape, "the cache of sines")
    half = cos.shape[-1]
    lead = x.shape[:3]
    rest = x.shape[3] - half * 2
    if isinstance(rest, int) and rest < 0:
        b.fail(f"{half} angles for a head of {x.shape[3]} elements")

    def turned(*index: Dim) -> Expr:
        *outer, k, part = index if interleaved else (*index[:3], index[4], index[3])
        at = (*row(outer[0], outer[place]), k)
        own, other = (x[(*outer, k * 2 + p if interleaved else k + half * p)] for p in (part, 1 - part))
        sine = other * sin[at]
        return own * cos[at] + e.where(e.eq(e.dimval(part), 0), -sine, sine)

    pairs = (half, 2) if interleaved else (2, half)
    parts = [b.reshape(b.compute((*lead, *pairs), turned, x.dtype), (*lead, half * 2))]
    if rest != 0:
        parts.append(b.compute((*lead, rest), lambda *i: x[(*i[:-1], i[-1] + half * 2)], x.dtype))
    return b.concat(parts, 3)


@op("RotaryEmbedding", since=1, domain=MS)
def rotary_embedding(
    b: Builder, x: Tensor, position_ids: Tensor, cos_cache: Tensor, sin_cache: Tensor, *, interleaved: int = 0,
    is_packed_batching: int = 0, num_heads: int = 0, rotary_embedding_dim: int = 0, scale: float = 1.0,
) -> Tensor:  # fmt: skip
    """Heads, or rows of heads, turned by their positions: given for all, or as that of the first place."""
    if x.rank not in (3, 4):
        b.fail(f"an input of rank 3 or 4 is expected, one of rank {x.rank} came")
    if rotary_embedding_dim:
        if x.rank == 3 and not num_heads:
            b.fail("num_heads must be given with rotary_embedding_dim")
        b.require_equal(cos_cache.shape[-1] * 2, rotary_embedding_dim, "rotary_embedding_dim, twice the angles in the caches")
    heads = x
    if x.rank == 3:
        batch, length, hidden = x.shape
        count = num_heads if num_heads else d.floordiv(hidden, cos_cache.shape[-1] * 2)
        heads = b.transpose(b.reshape(x, (batch, length, count, d.floordiv(hidden, count))), (0, 2, 1, 3))
    result = rotated(b, heads, places(b, position_ids, heads.shape[0], heads.shape[2]), cos_cache, sin_cache, bool(interleaved))
    return result if x.rank == 4 else b.reshape(b.transpose(result, (0, 2, 1, 3)), x.shape)


def places(b: Builder, ids: Tensor, batch: Extent, length: Extent) -> Tensor:
    """The positions ``[batch, length]``, where only the first is given too."""
    if ids.rank == 1:
        b.require_equal(ids.shape[0], 1, "elements of position_ids")
        return b.compute((batch, length), lambda _, s: e.cast(ids[(0,)], I64) + e.dimval(s), I64)
    require_shape(b, ids, (batch, length), "position_ids")
    return ids
