"""Normalisations of onnxruntime's domain, and those that it has put into the standard's own."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import I32, I64
from onnx_numba.ops import norm
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS, require_broadcast
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import natural_index


@op("LayerNormalization", since=1)
def layer_normalization(
    b: Builder, x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Tensor | None, ...]:
    """The operator that onnxruntime had before version 17; the result has the scale's type."""
    result, *moments = norm.layer_normalization(b, x, scale, bias, axis=axis, epsilon=epsilon, stash_type=stash_type)
    assert result is not None
    return b.cast(result, scale.dtype), *moments


@op("SimplifiedLayerNormalization", since=1)
def simplified_layer_normalization(
    b: Builder, x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Tensor, Tensor]:
    """Divided by the root of the mean square; gives the inverse of that root too."""
    return norm.root_mean_square(b, x, scale, axis=axis, epsilon=epsilon, stash_type=stash_type)


@op("SkipLayerNormalization", since=1, domain=MS)
def skip_layer_normalization(
    b: Builder, x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None, bias: Tensor | None = None, *,
    epsilon: float = 1e-12,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The sum with another tensor, and with a bias, normalised over the last axis; the sum is the last output."""
    total = _summed(b, x, skip, bias)
    _check_vectors(b, total, (gamma, beta))
    return *norm.layer_normalization(b, total, gamma, beta, axis=-1, epsilon=epsilon, stash_type=1), total


@op("SkipSimplifiedLayerNormalization", since=1, domain=MS)
def skip_simplified_layer_normalization(
    b: Builder, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None, *, epsilon: float = 1e-12
) -> tuple[Tensor | None, ...]:
    """The same, divided by the root of the mean square."""
    total = _summed(b, x, skip, bias)
    _check_vectors(b, total, (gamma,))
    result, spread = norm.root_mean_square(b, total, gamma, axis=-1, epsilon=epsilon, stash_type=1)
    return result, None, spread, total


def _summed(b: Builder, x: Tensor, skip: Tensor, bias: Tensor | None) -> Tensor:
    if x.rank not in (2, 3) or skip.rank not in (2, 3) or skip.rank > x.rank:
        b.fail(f"inputs of rank 2 or 3 are expected, the input has rank {x.rank} and skip {skip.rank}")
    require_broadcast(b, skip.shape, x.shape, "skip")
    for axis in (-1, -2):  # only a batch can share what is skipped to
        b.require_equal(skip.shape[axis], x.shape[axis], f"dim {axis} of skip")
    _check_vectors(b, x, (bias,))

    def element(*i: Dim) -> Expr:
        value = x[i] if bias is None else x[i] + bias[(i[-1],)]
        return value + b.broadcast_load(skip, i, x.shape)

    return b.compute(x.shape, element, x.dtype)


def _check_vectors(b: Builder, x: Tensor, vectors: Sequence[Tensor | None]) -> None:
    """Demand that vectors have an element for every one along the last axis."""
    for vector in vectors:
        if vector is not None:
            if vector.rank != 1:
                b.fail(f"a vector along the last axis is expected, a tensor of rank {vector.rank} came")
            b.require_equal(vector.shape[0], x.shape[-1], "elements along the last axis")


@op("EmbedLayerNormalization", since=1, domain=MS)
def embed_layer_normalization(
    b: Builder, words: Tensor, segments: Tensor | None, word_embedding: Tensor, position_embedding: Tensor,
    segment_embedding: Tensor | None, gamma: Tensor, beta: Tensor, mask: Tensor | None = None, position_ids: Tensor | None = None,
    *, epsilon: float = 1e-12, mask_index_type: int | None = None,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The sum of the rows of embeddings, normalised; the number of ones in each row of the mask; the sum itself."""
    if words.rank != 2:
        b.fail(f"input_ids of rank 2 are expected, a tensor of rank {words.rank} came")
    if (segments is None) != (segment_embedding is None):
        b.fail("segment_ids and segment_embedding must be given both or neither")
    batch, length = words.shape
    positions = b.compute((1, length), lambda _, s: e.dimval(s), I64) if position_ids is None else position_ids
    total = _rows(b, words, word_embedding, words.shape)
    for ids, table in ((positions, position_embedding), (segments, segment_embedding)):
        if ids is not None and table is not None:
            total = b.map(lambda v, w: v + w, total, _rows(b, ids, table, words.shape))
    _check_vectors(b, total, (gamma, beta))
    result = norm.layer_normalization(b, total, gamma, beta, axis=-1, epsilon=epsilon, stash_type=1)[0]
    return result, _ones(b, mask, batch), total


def _rows(b: Builder, ids: Tensor, table: Tensor, shape: tuple[Dim | int, ...]) -> Tensor:
    if ids.rank != 2 or table.rank != 2:
        b.fail(f"ids and embeddings of rank 2 are expected, ids of rank {ids.rank} and an embedding of rank {table.rank} came")

    def element(n: Dim, s: Dim, k: Dim) -> Expr:
        return table[(natural_index(b, b.broadcast_load(ids, (n, s), shape), table.shape[0]), k)]

    require_broadcast(b, ids.shape, shape, "ids")
    return b.compute((*shape, table.shape[1]), element, table.dtype)


def _ones(b: Builder, mask: Tensor | None, batch: Dim | int) -> Tensor:
    if mask is None:
        return b.full((batch,), 0, I32)
    return b.reduce("sum", mask, [1], dtype=I32, function=lambda v: e.cast(e.eq(v, 1), I32))
