"""Signal processing: Fourier transforms, windows, the mel scale. All but transforms of complex numbers is computed in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Shape, Tensor
from onnx_numba.ir.types import F32, F64, I64, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import wide
from onnx_numba.ops.create import dtype_by_number
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import demand, scalar, settle, wrapped
from onnx_numba.templates.signal import dft as dft_kernel

Extent = Dim | int


_LANES = 16
"""Lines that are transformed side by side: two AVX-512 registers of float64."""
_SIDE_BY_SIDE = 4096
"""Longest lines for which that stays in the second-level cache."""


def transform(b: Builder, lines: Tensor, kept: Extent, inverse: bool) -> Tensor:
    """The transform of complex lines ``[…, n, 2]``, its first frequencies, not divided by n."""
    n = lines.shape[-2]
    sign = 1.0 if inverse else -1.0

    def root(k: Dim, part: Dim) -> Expr:
        angle = e.cast(e.dimval(k), F64) * (2.0 * math.pi) / e.cast(e.dimval(n), F64)
        return e.where(e.eq(e.dimval(part), 0), e.unary("cos", angle), e.unary("sin", angle) * sign)

    dtype = lines.dtype
    roots = b.compute((n, 2), root, dtype)
    shape = (*lines.shape[:-2], kept, 2)
    count = d.product(lines.shape[:-2])
    lanes = 1
    if isinstance(n, int) and n <= _SIDE_BY_SIDE:  # no more than there are lines to fill them
        lanes = min(_LANES, 1 << max(count - 1, 0).bit_length()) if isinstance(count, int) else _LANES
    (result,) = b.template(
        dft_kernel, [lines, roots], [(dtype, shape)], total=d.ceildiv(count, lanes), dims=(count, n, kept), types={"X": dtype},
        constants={"LANES": lanes}, scratch=(n + 1) * 4 * lanes * dtype.size,
    )  # fmt: skip
    return result


def complex_lines(b: Builder, shape: Shape, element: Callable[..., Expr], parts: Extent, dtype: DType) -> Tensor:
    """Complex lines from the parts of their elements; without imaginary parts these are zero.

    Real lines are computed in float64: in float32 the frequencies above the middle would not be exactly those below, conjugated.
    """
    kind = wide(dtype) if parts == 2 else F64

    def either(*i: Dim) -> Expr:
        if parts == 2:
            return e.cast(element(*i), kind)
        value = e.cast(element(*i[:-1], i[-1] if parts != 1 else 0), kind)
        return e.guard(e.dimval(i[-1]) < e.dimval(parts), value, 0.0)

    return b.compute((*shape, 2), either, kind)


@op("DFT", since=17, reviewed=17)
def dft_17(b: Builder, x: Tensor, dft_length: Tensor | None = None, *, axis: int, inverse: int, onesided: int) -> Tensor:
    """The discrete Fourier transform along an axis that an attribute names."""
    return _dft(b, x, dft_length, e.lit(axis, I64), bool(inverse), bool(onesided))


@op("DFT", since=20)
def dft(
    b: Builder, x: Tensor, dft_length: Tensor | None = None, axis: Tensor | None = None, *, inverse: int, onesided: int
) -> Tensor:  # fmt: skip
    """The discrete Fourier transform along an axis, by default the last but one."""
    which = e.lit(-2, I64) if axis is None else e.cast(scalar(b, axis), I64)
    return _dft(b, x, dft_length, which, bool(inverse), bool(onesided))


def _check_parts(b: Builder, parts: Dim | int) -> None:
    """Demand numbers of one part, which are real, or of two."""
    if isinstance(parts, int) and parts not in (1, 2):
        b.fail(f"the last dim must be 1 or 2, it is {parts}")
    known = isinstance(parts, int)
    b.require(1 if known else d.compare("eq", parts, 1) + d.compare("eq", parts, 2), "the last dim must be 1 or 2")


def _dft(b: Builder, x: Tensor, dft_length: Tensor | None, axis: Expr, inverse: bool, onesided: bool) -> Tensor:
    if x.rank < 2:
        b.fail(f"an input of at least rank 2 is expected, one of rank {x.rank} came")
    parts = x.shape[-1]
    _check_parts(b, parts)
    at = wrapped(axis, x.rank)
    demand(b, (axis >= -x.rank) & (axis < x.rank) & e.ne(at, x.rank - 1), f"the axis is out of range for rank {x.rank}, or the last one")
    one = e.lit(1, I64)
    outer: Expr = one
    extent: Expr = one
    inner: Expr = one
    for k, value in enumerate(map(e.dimval, x.shape[:-1])):
        outer = outer * e.where(at > k, value, one)
        extent = e.where(e.eq(at, k), value, extent)
        inner = inner * e.where(at < k, value, one)
    if dft_length is not None:
        length = e.cast(scalar(b, dft_length), I64)
    else:
        length = (extent - 1) * 2 if inverse and onesided else extent
    before, size, after, n = settle(b, [outer, extent, inner, length])
    b.require(d.compare("lt", 0, n), "dft_length must be at least 1")
    source = b.transpose(b.reshape(x, (before, size, after, parts)), (0, 2, 1, 3))
    lines = _lines(b, source, n, inverse and onesided)
    kept = d.floordiv(n, 2) + 1 if onesided and not inverse else n
    result = transform(b, lines, kept, inverse)
    made = 1 if inverse and onesided else 2

    def element(i: Dim, k: Dim, j: Dim, part: Dim) -> Expr:
        value = result[(i, j, k, part)]
        return value / e.cast(e.dimval(n), value.dtype) if inverse else value

    final = b.compute((before, kept, after, made), element, x.dtype)
    extents = settle(b, [e.where(e.eq(at, k), e.dimval(kept), e.dimval(v)) for k, v in enumerate(x.shape[:-1])])
    return b.reshape(final, (*extents, made))


def _lines(b: Builder, source: Tensor, n: Extent, half: bool) -> Tensor:
    """Lines of ``n`` complex numbers: cut or padded with zeros; those given by their first half are completed."""
    before, after, size, parts = source.shape

    def element(i: Dim, j: Dim, k: Extent, part: Extent) -> Expr:
        place = e.dimval(k)
        if not half:
            return e.guard(place < e.dimval(size), source[(i, j, k, part)], 0.0)
        mirrored = place > e.dimval(d.floordiv(n, 2))
        place = e.where(mirrored, e.dimval(n) - place, place)
        value = e.guard(place < e.dimval(size), source[(i, j, place, part)], 0.0)
        return e.where(mirrored & e.eq(e.dimval(part), 1), -value, value)

    return complex_lines(b, (before, after, n), element, parts, source.dtype)


@op("STFT", since=17)
def stft(
    b: Builder, signal: Tensor, frame_step: Tensor, window: Tensor | None = None, frame_length: Tensor | None = None, *,
    onesided: int,
) -> Tensor:  # fmt: skip
    """The Fourier transforms of overlapping frames."""
    if signal.rank != 3 or (window is not None and window.rank != 1):
        b.fail(f"a signal of rank 3 and a window of rank 1 are expected, the signal has rank {signal.rank}")
    batch, length, parts = signal.shape
    _check_parts(b, parts)
    given = e.dimval(length if window is None else window.shape[0])
    if frame_length is not None:
        given = e.cast(scalar(b, frame_length), I64)
    step, size = settle(b, [e.cast(scalar(b, frame_step), I64), given])
    if window is not None:
        b.require_equal(window.shape[0], size, "length of the window")
    b.require(d.compare("lt", 0, step), "frame_step must be at least 1")
    b.require(d.compare("lt", 0, size), "frame_length must be at least 1")
    b.require(d.compare("le", size, length), f"frames of {size} in a signal of {length}")
    frames = d.floordiv(length - size, step) + 1

    def element(i: Dim, f: Dim, k: Extent, part: Extent) -> Expr:
        value = e.cast(signal[(i, f * step + k, part)], F64)
        return value if window is None else value * e.cast(window[(k,)], F64)

    lines = complex_lines(b, (batch, frames, size), element, parts, signal.dtype)
    kept = d.floordiv(size, 2) + 1 if onesided else size
    return b.cast(transform(b, lines, kept, False), signal.dtype)


def _window(b: Builder, size: Tensor, periodic: int, output_datatype: int, value: Callable[[Expr], Expr]) -> Tensor:
    """``value`` of the angle, which runs over a full turn; integers are cut off from float32, in which the standard computes.

    A window of one element that is not periodic is NaN, not 1 as in SciPy and PyTorch: the function body in the standard divides
    by ``size - 1``, and onnxruntime and the reference evaluator do too.
    """
    (n,) = settle(b, [e.cast(scalar(b, size), I64)])
    last = e.cast(e.dimval(n if periodic else n - 1), F64)
    dtype = dtype_by_number(b, output_datatype)

    def element(i: Dim) -> Expr:
        weight = value(e.cast(e.dimval(i), F64) * (2.0 * math.pi) / last)
        return e.cast(weight, F32) if dtype.is_int else weight

    return b.compute((n,), element, dtype)


@op("HannWindow", since=17)
def hann_window(b: Builder, size: Tensor, *, output_datatype: int, periodic: int) -> Tensor:
    """Hann's window."""
    return _window(b, size, periodic, output_datatype, lambda a: 0.5 - e.unary("cos", a) * 0.5)


@op("HammingWindow", since=17)
def hamming_window(b: Builder, size: Tensor, *, output_datatype: int, periodic: int) -> Tensor:
    """Hamming's window."""
    return _window(b, size, periodic, output_datatype, lambda a: 25 / 46 - e.unary("cos", a) * (21 / 46))


@op("BlackmanWindow", since=17)
def blackman_window(b: Builder, size: Tensor, *, output_datatype: int, periodic: int) -> Tensor:
    """Blackman's window."""

    def value(a: Expr) -> Expr:
        return 0.42 - e.unary("cos", a) * 0.5 + e.unary("cos", a * 2.0) * 0.08

    return _window(b, size, periodic, output_datatype, value)


@op("MelWeightMatrix", since=17)
def mel_weight_matrix(
    b: Builder, num_mel_bins: Tensor, dft_length: Tensor, sample_rate: Tensor, lower_edge_hertz: Tensor,
    upper_edge_hertz: Tensor, *, output_datatype: int,
) -> Tensor:  # fmt: skip
    """Triangular filters that are equally wide on the mel scale."""
    bins, length = settle(b, [e.cast(scalar(b, t), I64) for t in (num_mel_bins, dft_length)])
    rate, low, high = (e.cast(scalar(b, t), F64) for t in (sample_rate, lower_edge_hertz, upper_edge_hertz))
    per_octave = 2595.0 / math.log(10.0)

    def mel(hertz: Expr) -> Expr:
        return e.unary("log1p", hertz / 700.0) * per_octave

    step = (mel(high) - mel(low)) / e.cast(e.dimval(bins + 2), F64)

    def border(i: Extent) -> Expr:
        """The spectrum's bin at which filter i begins."""
        hertz = e.unary("expm1", (e.cast(e.dimval(i), F64) * step + mel(low)) / per_octave) * 700.0
        return e.cast(e.unary("floor", e.cast(e.dimval(length + 1), F64) * hertz / rate), I64)

    def element(j: Dim, i: Dim) -> Expr:
        left, centre, right = border(i), border(i + 1), border(i + 2)
        place = e.dimval(j)
        rise, fall = centre - left, right - centre
        up = e.cast(place - left, F64) / e.cast(e.binary("max", rise, 1), F64)
        up = e.where(e.eq(rise, 0), e.lit(1.0, F64), up)
        down = e.cast(right - place, F64) / e.cast(e.binary("max", fall, 1), F64)
        zero = e.lit(0.0, F64)
        rising = e.where((place >= left) & (place <= centre), up, zero)
        return e.where((place >= centre) & (place < right), down, rising)

    return b.compute((d.floordiv(length, 2) + 1, bins), element, dtype_by_number(b, output_datatype))
