"""Caches of keys and values: quantised ones, and ones that keep a window of the sequence only (domain com.microsoft)."""

from __future__ import annotations

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import DTYPES, F32, I8, I32, I64, U8, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import require_shape
from onnx_numba.ops.contrib_few_bits import unpacked
from onnx_numba.ops.quant import quantised
from onnx_numba.record import record

Extent = Dim | int
_MIDDLE = 8
"""What is added to a number of 4 bits to be stored without a sign."""


@record
class Storage:
    """How a cache holds the heads of keys or values ``[batch, head, place, element]``.

    Attributes
    ----------
    dtype : DType
        The element type of the cache.
    scale : Tensor or None
        What stored numbers are multiplied by, for all or ``[1, head, 1, element]``; None where they are as they are.
    packed : bool
        Whether a byte has two numbers of 4 bits, the first in its low half.
    """

    dtype: DType
    scale: Tensor | None
    packed: bool

    def encoded(self, b: Builder, heads: Tensor) -> Tensor:
        """Heads as the cache holds them; a scale of 0 counts as 1."""
        if self.scale is None:
            return heads
        inverse = b.map(lambda s: e.where(e.eq(s, 0.0), 1.0, 1.0 / s), self.scale)
        if not self.packed:
            return b.map(lambda v, s: quantised(v * s, None, self.dtype), b.cast(heads, F32), inverse, dtype=self.dtype)
        few = DTYPES["i4"]
        levels = b.map(lambda v, s: e.cast(quantised(v * s, None, few), I32) + _MIDDLE, b.cast(heads, F32), inverse, dtype=U8)
        size = heads.shape[3]

        def pair(n: Dim, h: Dim, t: Dim, i: Dim) -> Expr:
            high = e.guard(e.dimval(i * 2 + 1) < e.dimval(size), levels[(n, h, t, i * 2 + 1)], _MIDDLE)
            return levels[(n, h, t, i * 2)] | e.binary("shl", high, e.lit(4, U8))

        return b.compute((*heads.shape[:3], d.ceildiv(size, 2)), pair, U8)

    def decoded(self, b: Builder, cache: Tensor, size: Extent) -> Tensor:
        """The heads in a cache, of ``size`` elements."""
        if self.scale is None:
            return cache
        if not self.packed:
            return b.map(lambda v, s: e.cast(v, F32) * s, cache, self.scale, dtype=F32)
        numbers = b.compute((*cache.shape[:3], size), lambda *i: unpacked(cache, i, 4), U8)
        return b.map(lambda v, s: e.cast(e.cast(v, I32) - _MIDDLE, F32) * s, numbers, self.scale, dtype=F32)


def storage(
    b: Builder, what: str, kind: str, bits: int | None, scale: Tensor | None, past: Tensor | None, heads: Tensor
) -> Storage:
    """How a cache of ``heads`` is stored that the attributes describe; ``past`` is the cache so far."""
    if kind not in ("NONE", "PER_TENSOR", "PER_CHANNEL"):
        b.fail(f"{what}_quant_type {kind!r} is unknown")
    if (kind == "NONE") != (scale is None):
        b.fail(f"{what}_quant_type is {kind!r}, {what}_scale is {'absent' if scale is None else 'given'}")
    dtype = heads.dtype
    if scale is not None:
        if bits not in (4, 8):
            b.fail(f"kv_cache_bit_width must be 4 or 8, it is {bits}")
        dtype = U8 if bits == 4 else past.dtype if past is not None and past.dtype.name == "f8e4m3fn" else I8
        if kind == "PER_CHANNEL":
            require_shape(b, scale, (1, heads.shape[1], 1, heads.shape[3]), f"{what}_scale")
        else:
            b.require_equal(scale.size, 1, f"elements of {what}_scale")
            scale = b.reshape(scale, ())
    if past is not None and past.dtype is not dtype:
        b.fail(f"the cache of {what} is {past.dtype.onnx_name}, {dtype.onnx_name} is expected")
    return Storage(dtype, scale, packed=scale is not None and bits == 4)


@record
class Window:
    """A cache of ``capacity`` places of which the last ``size`` positions of a sequence are always there."""

    capacity: Extent
    size: int

    def resident(self, b: Builder, counts: Tensor) -> Tensor:
        """How many positions are kept of sequences of these lengths: all, or a whole number of evictions less.

        When a place is missing, as many positions go as the cache has places besides those of the window, and one.
        """
        together = d.dmax(self.capacity - self.size + 1, 1)

        def element(count: Expr) -> Expr:
            over = count - e.dimval(self.capacity)
            evicted = e.binary("div", over + e.dimval(together - 1), e.dimval(together)) * e.dimval(together)
            return e.where(over > 0, count - evicted, count)

        return b.map(element, counts, dtype=I64)

    def kept(self, b: Builder, staged: Tensor, begin: Tensor, count: Tensor) -> Tensor:
        """The cache made of ``count`` places of a longer one, of each sequence from another on; zeros after them."""

        def element(n: Dim, h: Dim, t: Dim, i: Dim) -> Expr:
            return e.guard(e.dimval(t) < count[(n,)], staged[(n, h, e.dimval(t) + begin[(n,)], i)], 0)

        return b.compute((*staged.shape[:2], self.capacity, staged.shape[3]), element, staged.dtype)


def window(b: Builder, past: Tensor | None, size: int) -> Window:
    """The window that a cache keeps."""
    if past is None or past.rank != 4:
        b.fail("sliding_window_cache needs past_key and past_value of rank 4, whose dim 2 is the cache's capacity")
    if size < 1:
        b.fail(f"sliding_window_cache needs a local_window_size of at least 1, it is {size}")
    b.require(d.compare("le", size, past.shape[2]), f"the cache's capacity, dim 2 of past_key, must be at least local_window_size, {size}")
    return Window(past.shape[2], size)
