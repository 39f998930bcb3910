"""Products and convolutions of 8-bit integers, exactly.

A product is one of the bytes as they are, from which the zero points are taken afterwards. A convolution is one of differences of bytes in
int32, between -255 and 255, by the kernels for floats: sums of up to ``STEP`` products of such numbers are below 2**24 and exact in
float32. Longer sums are cut into parts; a part is one group, and the parts are added up as integers.
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
from onnx_numba.ops.matmul import matrix_product, without_vectors

STEP = 256


def integer_product(b: Builder, x: Tensor, y: Tensor, x_zero: Tensor | None, y_zero: Tensor | None) -> Tensor:
    """``(x - x_zero) @ (y - y_zero)`` in int32, of matrices, or of vectors or stacks of them as of `matmul`.

    Zero points broadcast to the rows of x and to the columns of y. They are taken from the product of the bytes as they are::

        sum((x - a) * (y - c)) == sum(x * y) - a * (sum(y) - depth * c) - c * sum(x)
    """
    left = x if x.rank > 1 else b.reshape(x, (1, *x.shape))
    right = y if y.rank > 1 else b.reshape(y, (*y.shape, 1))
    sums = matrix_product(b, left, right, I32)
    columns = b.reduce("sum", right, [-2], keepdims=True, dtype=I32)
    if y_zero is not None and not _is_zero(b, y_zero):
        rows = b.reduce("sum", left, [-1], keepdims=True, dtype=I32)
        depth = e.dimval(x.shape[-1], I32)
        sums = b.map(lambda v, s, c: v - s * e.cast(c, I32), sums, rows, y_zero)
        columns = b.map(lambda s, c: s - depth * e.cast(c, I32), columns, y_zero)
    if x_zero is not None and not _is_zero(b, x_zero):
        sums = b.map(lambda v, s, a: v - s * e.cast(a, I32), sums, columns, x_zero)
    return without_vectors(b, sums, x, y)


def _is_zero(b: Builder, zero: Tensor) -> bool:
    known = b.constant(zero)
    return known is not None and not known.any()


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
