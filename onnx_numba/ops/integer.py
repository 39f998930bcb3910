"""Products and convolutions of 8-bit integers, exactly: of the bytes as they are, from which zero points are taken afterwards.

Both are done by `onnx_numba.native.dot` four bytes at a time. Only a convolution of single channels, which has no four to take, is one of
floats: sums of up to ``MOST_TAPS`` products of differences of bytes are below 2**24 and exact in float32.
"""

from __future__ import annotations

import functools
import operator

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, ceildiv
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F32, F64, I32, I64
from onnx_numba.native.dot import BYTES
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import channel_view, per_position
from onnx_numba.ops.convolution import convolution, convolve
from onnx_numba.ops.dequantised import less
from onnx_numba.ops.product import matrix_product, without_vectors
from onnx_numba.ops.window import Window

MOST_TAPS = 256


def centred(b: Builder, x: Tensor, zero: Tensor | None) -> Tensor:
    """``x - zero`` in int32, or in float32 for floats."""
    kind = F32 if x.dtype.is_float else I32
    if zero is None:
        return b.cast(x, kind)
    return b.map(less, x, zero, dtype=kind)


def integer_product(b: Builder, x: Tensor, y: Tensor, x_zero: Tensor | None, y_zero: Tensor | None) -> Tensor:
    """``(x - x_zero) @ (y - y_zero)`` in int32, of matrices, or of vectors or stacks of them as of `matmul`.

    Zero points broadcast to the rows of x and to the columns of y. They are taken from the product of the bytes as they are::

        sum((x - a) * (y - c)) == sum(x * y) - a * (sum(y) - depth * c) - c * sum(x)
    """
    left = x if x.rank > 1 else b.reshape(x, (1, *x.shape))
    right = y if y.rank > 1 else b.reshape(y, (*y.shape, 1))
    # Before the product: kernels join the last one that they can, and what is made of the product belongs into its own.
    rows = b.reduce("sum", left, [-1], keepdims=True, dtype=I32)
    columns = b.reduce("sum", right, [-2], keepdims=True, dtype=I32)
    sums = matrix_product(b, left, right, I32)
    if y_zero is not None and not _is_zero(b, y_zero):
        depth = e.dimval(x.shape[-1], I32)
        sums = b.map(lambda v, s, c: v - s * e.cast(c, I32), sums, rows, b.as_data(y_zero))
        columns = b.map(lambda s, c: s - depth * e.cast(c, I32), columns, y_zero)
    if x_zero is not None and not _is_zero(b, x_zero):
        sums = b.map(lambda v, s, a: v - s * e.cast(a, I32), sums, columns, b.as_data(x_zero))
    return without_vectors(b, sums, x, y)


def _is_zero(b: Builder, zero: Tensor | None, shift: int = 0) -> bool:
    """Whether zero points are known to be 0 once a number is added."""
    if zero is None:
        return shift == 0
    known = b.constant(zero)
    return known is not None and bool((known.astype(int) == -shift).all())


def integer_conv(b: Builder, x: Tensor, w: Tensor, x_zero: Tensor | None, w_zero: Tensor | None, view: Window, group: int) -> Tensor:
    """The convolution of an image less its zero point with filters less theirs, one for all or one for each, in int32.

    Padding is the zero point of the image. Four channels are a word. In the image they are bytes without a sign, in the filters bytes
    with one: where they are not, 128 is added or taken away, and from zero points too.
    """
    taps = d.product(w.shape[2:])
    if w.shape[1] == 1 and isinstance(taps, int) and taps <= MOST_TAPS:
        filters = centred(b, w, None if w_zero is None else per_position(b, w_zero, w.rank, 0))
        sums = convolve(b, b.cast(centred(b, x, x_zero), F32), b.cast(filters, F32), view, group)
        return b.map(_whole, sums, dtype=I32)
    channels = w.shape[1]
    image_shift, filter_shift = 128 if x.dtype.name == "i8" else 0, -128 if w.dtype.name == "u8" else 0
    grouped = _moved(b, b.reshape(x, (x.shape[0], group, channels, *x.shape[2:])), image_shift)
    filters = _moved(b, w, filter_shift)
    a, c = (_moved(b, zero, shift) for zero, shift in ((x_zero, image_shift), (w_zero, filter_shift)))
    image = b.reshape(_words(b, grouped, 2), (x.shape[0], group * ceildiv(channels, BYTES), *x.shape[2:]))
    outside = b.map(lambda z: z * 0x01010101, a)
    if (known := b.constant(outside)) is not None:
        outside = b.weight(known)
    # Before the product, as above.
    totals = b.reduce("sum", b.map(lambda f, z: f - z, filters, per_position(b, c, w.rank, 0)), range(1, w.rank))
    seen = _window_sums(b, b.reduce("sum", grouped, [2]), b.map(lambda z: z * e.dimval(channels, I32), a), view)
    sums = convolution(
        b, "word_conv", (image, _words(b, filters, 1), outside), view, group,
        lambda inside, v, f: _dot(e.guard(inside, v, outside[()]), f),
    )  # fmt: skip
    if not _is_zero(b, x_zero, image_shift):
        sums = b.map(lambda v, t, z: v - t * z, sums, channel_view(b, totals, x.rank), b.as_data(a))
    if not _is_zero(b, w_zero, filter_shift):
        share, points = d.floordiv(w.shape[0], group), b.expand(c, w.shape[:1])
        product = sums
        sums = b.compute(
            product.shape, lambda *i: product[i] - points[(i[1],)] * seen[(i[0], d.floordiv(i[1], share), *i[2:])], I32
        )  # fmt: skip
    return sums


def _moved(b: Builder, x: Tensor | None, shift: int) -> Tensor:
    """Bytes plus a number, in int32; nothing is 0."""
    if x is None:
        return b.full((), shift, I32)
    return b.map(lambda v: e.cast(v, I32) + shift if shift else e.cast(v, I32), x, dtype=I32)


def _words(b: Builder, x: Tensor, axis: int) -> Tensor:
    """Numbers as bytes, four neighbours along an axis in a word; beyond the last there is 0."""
    extent = x.shape[axis]

    def word(*i: Dim) -> Expr:
        places = [i[axis] * BYTES + t for t in range(BYTES)]
        numbers = [e.guard(e.dimval(p) < e.dimval(extent), x[(*i[:axis], p, *i[axis + 1 :])], 0) & 255 for p in places]
        return functools.reduce(operator.or_, [numbers[0], *(e.binary("shl", v, 8 * t) for t, v in enumerate(numbers[1:], 1))])

    return b.compute((*x.shape[:axis], ceildiv(extent, BYTES), *x.shape[axis + 1 :]), word, I32)


def _dot(left: Expr, right: Expr) -> Expr:
    """The sum of the products of a word's bytes without a sign and another's with one."""
    first = [e.binary("shr", left, 8 * t) & 255 for t in range(BYTES)]
    second = [e.binary("shr", e.binary("shl", right, 8 * (BYTES - 1 - t)), 8 * (BYTES - 1)) for t in range(BYTES)]
    return functools.reduce(operator.add, map(operator.mul, first, second))


def _window_sums(b: Builder, x: Tensor, outside: Tensor, view: Window) -> Tensor:
    """Sums over the windows of an image, around which there is ``outside``."""

    def element(p: tuple[Dim, ...], r: tuple[Dim, ...]) -> Expr:
        at, inside = view.source(p[2:], r)
        return e.guard(inside, x[(*p[:2], *at)], outside[()])

    return b.reduction("sum", (*x.shape[:2], *view.outputs), view.kernel, element, I32)


def _whole(v: Expr) -> Expr:
    """A whole float32 as an int32, read from the bits of a float64: the conversion saturates, which is not vectorised."""
    return e.cast(e.Op("bits_of", (e.cast(v, F64) + 1.5 * (1 << 52),), I64), I32)
