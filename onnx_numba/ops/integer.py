"""Products and convolutions of 8-bit integers, exactly, by the kernels for floats.

The operands are differences of bytes in int32, so between -255 and 255. Sums of up to ``STEP`` products of such numbers are below
2**24 and exact in float32, whose tuned kernels are many times as fast as loops over integers. Longer sums are cut into parts; a part
is one matrix, or one group of a convolution, and the parts are added up as integers.
"""

from __future__ import annotations

import math
from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F32, F64, I32, I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.conv import conv
from onnx_numba.ops.matmul import matmul, product

STEP = 256


def integer_product(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """The product of matrices, or of vectors or stacks of them as of `matmul`, in int32."""
    known = [n for n in (*x.shape[-1:], *y.shape[-2:-1]) if isinstance(n, int)]
    if x.rank < 2 or y.rank < 2 or not known:
        return matmul(b, x, y)
    b.require_equal(y.shape[-2], x.shape[-1], "rows of the second matrix")
    depth = known[0]
    count = max(-(-depth // STEP), 1)
    step = -(-depth // count)

    def part(t: Tensor, axis: int) -> Tensor:
        """The parts of a matrix along an axis, as matrices of floats."""

        def element(*i: Dim) -> Expr:
            at: list[Dim | int] = [*i[:-3], *i[-2:]]
            at[axis] = i[-3] * step + at[axis]
            return e.guard(e.dimval(at[axis]) < depth, e.cast(t[tuple(at)], F32), 0)

        shape = [*t.shape[:-2], count, *t.shape[-2:]]
        shape[axis] = step
        return b.compute(tuple(shape), element, F32)

    sums = product(b, part(x, -1), part(y, -2))
    return b.reduce("sum", sums, [sums.rank - 3], dtype=I32, function=_whole)


def integer_conv(b: Builder, x: Tensor, w: Tensor, *, group: int, **windows: Any) -> Tensor:
    """The convolution of ``x`` with the filters ``w``, in int32; the attributes are those of `conv`."""
    known = [n for n in w.shape if isinstance(n, int)]
    taps = math.prod(known[2:])
    if len(known) < w.rank or not 0 < taps <= STEP or known[0] % group:
        return conv(b, x, w, group=group, **windows)
    channels, features = known[1], known[0] // group
    parts = _parts(channels, STEP // taps)
    share = -(-channels // parts)

    def weight(f: Dim, c: Dim, *k: Dim) -> Expr:
        rest = d.floordiv(f, features)
        channel = d.mod(rest, parts) * share + c
        row = d.floordiv(rest, parts) * features + d.mod(f, features)
        return e.guard(e.dimval(channel) < channels, e.cast(w[(row, channel, *k)], F32), 0)

    def pixel(n: Dim, c: Dim, *i: Dim) -> Expr:
        channel = d.mod(c, parts * share)
        value = x[(n, d.floordiv(c, parts * share) * channels + channel, *i)]
        return e.guard(e.dimval(channel) < channels, e.cast(value, F32), 0)

    b.require_equal(x.shape[1], channels * group, "input channels")
    image = b.compute((x.shape[0], group * parts * share, *x.shape[2:]), pixel, F32) if parts * share != channels else b.cast(x, F32)
    filters = b.compute((group * parts * features, share, *w.shape[2:]), weight, F32)
    sums = conv(b, image, filters, group=group * parts, **windows)
    batch, _, *extents = sums.shape
    total = b.reduce("sum", b.reshape(sums, (batch, group, parts, features, *extents)), [2], dtype=I32, function=_whole)
    return b.reshape(total, (batch, group * features, *extents))


def _parts(channels: int, most: int) -> int:
    """In how many parts of at most so many channels they are cut: as few as can be, or up to twice as many if these are whole."""
    fewest = max(-(-channels // most), 1)
    return next((n for n in range(fewest, 2 * fewest) if channels % n == 0), fewest)


def _whole(v: Expr) -> Expr:
    """A whole float32 as an int32, read from the bits of a float64: the conversion saturates, which is not vectorised."""
    return e.cast(e.Op("bits_of", (e.cast(v, F64) + 1.5 * (1 << 52),), I64), I32)
