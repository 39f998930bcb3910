"""Convolutions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Dequantised, Object, Tensor
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.convolution import Extent, Index, Ints, biased, check_kernel, convolve, require_groups, windows_of
from onnx_numba.ops.dequantised import factors, rescaled, zero_of
from onnx_numba.ops.integer import integer_conv
from onnx_numba.ops.product import contract, product
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import elements, is_strings, settle, strings_too
from onnx_numba.ops.window import Window, window
from onnx_numba.record import record

MOST_WINDOWS = 2
"""Windows for each input element up to which a transposed convolution is one of windows: beside small inputs lie many that see little."""

LEAST_ELEMENTS = 8
"""Input elements below which columns cost as much as of so many: fewer do not fill a vector."""

COLUMN_PASSES = 3
"""How often an element of the columns is touched (written, put into place, added) for each time that phases touch one of their patches."""


@op("Conv", since=1, reviewed=22)
def conv(
    b: Builder, x: Tensor, w: Tensor, bias: Tensor | None = None, *, auto_pad: str, dilations: Ints = None, group: int = 1,
    kernel_shape: Ints = None, pads: Ints = None, strides: Ints = None,
) -> Tensor:  # fmt: skip
    """Sums over windows of all channels of a group, weighted."""
    view = windows_of(
        b, x, w, auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads, strides=strides
    )  # fmt: skip
    sides = factors(b, x, w, 0, d.product(w.shape[1:]))
    if sides is None:
        result = contract(b, x, w, lambda image, filters: convolve(b, image, filters, view, group))
    else:
        image, filters = sides
        sums = integer_conv(b, image.integers, filters.integers, zero_of(b, image), zero_of(b, filters), view, group)
        result = rescaled(b, sums, sides, 1)
    return result if bias is None else biased(b, result, bias)


@op("ConvTranspose", since=1, reviewed=22)
def conv_transpose(
    b: Builder, x: Tensor, w: Tensor, bias: Tensor | None = None, *, auto_pad: str, dilations: Ints = None, group: int = 1,
    kernel_shape: Ints = None, output_padding: Ints = None, output_shape: Ints = None, pads: Sequence[Extent] | None = None,
    strides: Ints = None,
) -> Tensor:  # fmt: skip
    """What a convolution's gradient is: every input spreads over a window of the output."""
    check_kernel(b, x, w, kernel_shape)
    b.require_equal(w.shape[0], x.shape[1], "input channels")
    require_groups(b, x.shape[1], group, "input channels")
    rank = x.rank - 2
    steps, gaps, extra = (tuple(v or [fill] * rank) for v, fill in ((strides, 1), (dilations, 1), (output_padding, 0)))
    if not len(steps) == len(gaps) == len(extra) == rank or len(pads or [0] * 2 * rank) != 2 * rank or len(output_shape or steps) < rank:
        b.fail(f"strides {steps}, dilations {gaps}, output_padding {extra}, pads {pads}, output_shape {output_shape} for {rank} axes")
    if min(*steps, *gaps) < 1 or min(extra) < 0 or auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""):
        b.fail(f"strides {steps} and dilations {gaps} must be at least 1, output_padding {extra} at least 0, auto_pad {auto_pad!r} known")
    outputs, before = _transposed_extents(x.shape[2:], w.shape[2:], steps, gaps, extra, auto_pad, pads, output_shape)
    axes = [_Spread(*v) for v in zip(x.shape[2:], w.shape[2:], steps, gaps, before, strict=True)]
    channels, sides, by_phases = d.floordiv(w.shape[0], group), None, _phases_pay(axes, outputs)
    if by_phases:
        sides = factors(b, x, w, 1 if group == 1 else None, channels * d.product(axis.taps for axis in axes))
    if sides is not None:
        result = _integers_by_phases(b, sides, axes, outputs, group)
    elif by_phases and not _columns_are_less(axes, channels, w.shape[1]):
        result = _floats_by_phases(b, x, w, axes, outputs, group)
    else:
        result = _gathered(b, _columns(b, x, w, group), axes, (x.shape[0], w.shape[1] * group, *outputs))
    return result if bias is None else biased(b, result, bias)


def _phases_pay(axes: Sequence[_Spread], outputs: Sequence[Extent]) -> bool:
    """Whether a convolution for every phase is possible, and no slower than columns as far as is known while planning."""
    if not all(axis.phases for axis in axes):
        return False
    windows = d.product(axis.windows(n) for axis, n in zip(axes, outputs, strict=True))
    elements = d.product(axis.extent for axis in axes)
    return not isinstance(windows, int) or not isinstance(elements, int) or windows <= MOST_WINDOWS * max(elements, LEAST_ELEMENTS)


def _columns_are_less(axes: Sequence[_Spread], channels: Extent, features: Extent) -> bool:
    """Whether for each input position columns, which grow with features, take less moving of memory than phases, which grow with channels.

    A phase's convolution reads the image and lays out an element for each of its taps, unless there is but one. With 64 channels of
    56 x 56 elements, windows of 3 and a stride of 2, one feature takes 69 µs by columns and 391 by phases, 32 take 1420 and 1530. With
    16 channels of 112 x 112 elements 32 features take 4800 and 3200.
    """
    taps = [math.prod(phases.taps for phases in chosen) for chosen in itertools.product(*(axis.phases for axis in axes))]
    columns, patches = features * d.product(axis.kernel for axis in axes), channels * sum(n + 1 for n in taps)
    return taps != [1] and isinstance(columns, int) and isinstance(patches, int) and COLUMN_PASSES * columns <= patches


def _floats_by_phases(b: Builder, x: Tensor, w: Tensor, axes: Sequence[_Spread], outputs: Sequence[Extent], group: int) -> Tensor:
    def made(x: Tensor, w: Tensor) -> Tensor:
        return _by_phases(b, x, w, axes, outputs, group, lambda filters, view: convolve(b, x, filters, view, group))

    return contract(b, x, w, made)


def _integers_by_phases(
    b: Builder, sides: tuple[Dequantised, Dequantised], axes: Sequence[_Spread], outputs: Sequence[Extent], group: int
) -> Tensor:
    image, weights = sides
    zero = zero_of(b, weights)

    def convolved(filters: Tensor, view: Window) -> Tensor:
        zeros = zero
        if zero is not None and zero.rank:
            phases = d.floordiv(filters.shape[0], zero.size)
            zeros = b.reshape(b.expand(b.reshape(zero, (zero.size, 1)), (zero.size, phases)), filters.shape[:1])
        return integer_conv(b, image.integers, filters, zero_of(b, image), zeros, view, group)

    sums = _by_phases(b, image.integers, weights.integers, axes, outputs, group, convolved)
    return rescaled(b, sums, sides, 1)


def _by_phases(
    b: Builder, x: Tensor, w: Tensor, axes: Sequence[_Spread], outputs: Sequence[Extent], group: int,
    convolved: Callable[[Tensor, Window], Tensor],
) -> Tensor:  # fmt: skip
    """A transposed convolution as convolutions, each of whose features is a feature's outputs of one phase.

    Phases that see equally many taps are features of one convolution, which ``convolved`` makes of filters and windows. To fill others up
    with weights of 0 would not do: an infinite element would reach them.
    """
    rank = len(axes)
    channels, features = d.floordiv(x.shape[1], group), w.shape[1]
    strides, gaps = tuple(axis.stride for axis in axes), tuple(axis.dilation for axis in axes)
    counts = tuple(axis.windows(n) for axis, n in zip(axes, outputs, strict=True))

    def plane(chosen: tuple[_Phases, ...]) -> Tensor:
        sizes, taps = tuple(c.count for c in chosen), tuple(c.taps for c in chosen)

        def weight(*i: Dim) -> Expr:
            channel, tap = i[2 + rank], i[3 + rank :]
            places = [c.first + p + (c.taps - 1 - t) * s for c, p, t, s in zip(chosen, i[2 : 2 + rank], tap, strides, strict=True)]
            return w[(i[0] * channels + channel, i[1], *places)]

        filters = b.compute((group, features, *sizes, channels, *taps), weight, w.dtype)
        filters = b.reshape(filters, (group * features * math.prod(sizes), channels, *taps))
        before = tuple((n - 1) * g - axis.start for n, g, axis in zip(taps, gaps, axes, strict=True))
        after = tuple(m + (n - 1) * g - p - axis.extent for m, n, g, p, axis in zip(counts, taps, gaps, before, axes, strict=True))
        result = convolved(filters, Window(x.shape[2:], taps, (1,) * rank, gaps, before, after, counts))
        return b.reshape(result, (x.shape[0], group * features, *sizes, *counts))

    return _interleaved(b, axes, outputs, plane)


def _interleaved(b: Builder, axes: Sequence[_Spread], outputs: Sequence[Extent], plane: Callable[[tuple[_Phases, ...]], Tensor]) -> Tensor:
    """Outputs by phases: ``plane`` gives those ``[batch, features, *phases, *counts]`` of phases that see equally many taps on each axis.

    Outputs whose places differ by a multiple of the stride see the same taps, the last tap the first element. Of a window of 3 and a
    stride of 2 two phases are made and put together, one of two taps and one of one::

        out[2 * i] = x[i - 1] * w[2] + x[i] * w[0]
        out[2 * i + 1] = x[i] * w[1]
    """

    def planes(chosen: tuple[_Phases, ...]) -> Tensor:
        if len(chosen) == len(axes):
            return plane(chosen)
        return b.concat([planes((*chosen, phases)) for phases in axes[len(chosen)].phases], 2 + len(chosen))

    found = planes(())

    def element(*i: Dim) -> Expr:
        places = [o + axis.before for o, axis in zip(i[2:], axes, strict=True)]
        rows = [d.floordiv(o, axis.stride) - axis.start for o, axis in zip(places, axes, strict=True)]
        return found[(*i[:2], *(d.mod(o, axis.stride) for o, axis in zip(places, axes, strict=True)), *rows)]

    return b.compute((*found.shape[:2], *outputs), element, found.dtype)


def _columns(b: Builder, x: Tensor, w: Tensor, group: int) -> Tensor:
    """What every input element contributes to every element of its window: ``[batch, features, *kernel, *extents]``."""
    channels = d.floordiv(x.shape[1], group)
    rows = d.product(w.shape[1:])
    left = b.transpose(b.reshape(w, (group, channels, rows)), (0, 2, 1))
    right = b.reshape(x, (x.shape[0], group, channels, d.product(x.shape[2:])))
    if group == 1:
        left, right = b.reshape(left, (rows, channels)), b.reshape(right, (x.shape[0], channels, d.product(x.shape[2:])))
    return b.reshape(product(b, left, right), (x.shape[0], w.shape[1] * group, *w.shape[2:], *x.shape[2:]))


@record
class _Phases:
    """Neighbouring phases of outputs: the first, how many there are, and how many taps of a window each of them sees."""

    first: int
    count: int
    taps: int


@record
class _Spread:
    """One axis along which windows of the output are added up: input extent, window, step, dilation, and what is cut off before."""

    extent: Extent
    kernel: Extent
    stride: int
    dilation: int
    before: Extent

    @property
    def taps(self) -> Extent:
        """How many elements of a window may meet at one place."""
        return d.ceildiv(self.kernel, self.stride) if self.dilation == 1 else self.kernel

    @property
    def apart(self) -> Extent:
        """1 if no two elements of windows meet: those of windows ``i`` and ``k`` apart do where ``i * stride == k * dilation``."""
        common = math.gcd(self.stride, self.dilation)
        overlapping = d.compare("lt", self.stride // common, self.kernel) * d.compare("lt", self.dilation // common, self.extent)
        return 1 - overlapping

    @property
    def phases(self) -> tuple[_Phases, ...]:
        """The phases, places modulo the stride, by how many taps of the window they see; none where taps are not a stride apart."""
        if not isinstance(self.kernel, int) or (self.stride > 1 and self.dilation > 1) or self.kernel < self.stride:
            return ()
        least, more = divmod(self.kernel, self.stride)
        parts = (_Phases(0, more, least + 1), _Phases(more, self.stride - more, least))
        return tuple(part for part in parts if part.count)

    @property
    def start(self) -> Extent:
        """The input element whose window begins at the first outputs of all phases."""
        return d.floordiv(self.before, self.stride)

    def windows(self, outputs: Extent) -> Extent:
        """How many windows of the taps that a phase sees give the outputs of every phase."""
        return d.floordiv(outputs + self.before - 1, self.stride) + 1 - self.start

    def source(self, o: Extent, tap: Extent) -> tuple[Extent, Extent, list[Expr]]:
        """The element of the window and the input element that meet at ``o``, and the conditions under which they do."""
        if self.dilation == 1:  # the elements that meet are a stride apart
            kernel = d.mod(o + self.before, self.stride) + tap * self.stride
            place = d.floordiv(o + self.before, self.stride) - tap
            conditions = [e.dimval(kernel) < e.dimval(self.kernel)]
        else:
            offset = o + self.before - tap * self.dilation
            kernel, place = tap, d.floordiv(offset, self.stride)
            conditions = [e.eq(e.dimval(place * self.stride), e.dimval(offset))]
        return kernel, place, [*conditions, e.dimval(place) >= 0, e.dimval(place) < e.dimval(self.extent)]


def _gathered(b: Builder, columns: Tensor, axes: Sequence[_Spread], shape: tuple[Extent, ...]) -> Tensor:
    """The sums of columns ``[batch, features, *kernel, *extents]`` over all windows that meet at a place."""
    if all(axis.phases for axis in axes) and any(axis.stride > 1 for axis in axes):
        return _gathered_by_phases(b, columns, axes, shape)

    def element(p: Index, r: Index) -> Expr:
        kernel: list[Extent] = []
        place: list[Extent] = []
        inside: list[Expr] = []
        for axis, o, tap in zip(axes, p[2:], r, strict=True):
            k, i, conditions = axis.source(o, tap)
            kernel.append(k)
            place.append(i)
            inside += conditions
        return e.guard(e.all_of(*inside), columns[(p[0], p[1], *kernel, *place)], 0)

    return b.reduction("sum", shape, tuple(axis.taps for axis in axes), element, columns.dtype)


def _gathered_by_phases(b: Builder, columns: Tensor, axes: Sequence[_Spread], shape: tuple[Extent, ...]) -> Tensor:
    """`_gathered`, phase by phase: elements that lie side by side in the columns are added side by side."""
    rank = len(axes)
    counts = tuple(axis.windows(n) for axis, n in zip(axes, shape[2:], strict=True))

    def plane(chosen: tuple[_Phases, ...]) -> Tensor:
        def element(p: Index, r: Index) -> Expr:
            kernel = [c.first + k + t * axis.stride for c, k, t, axis in zip(chosen, p[2 : 2 + rank], r, axes, strict=True)]
            place = [o + axis.start - t * axis.dilation for o, t, axis in zip(p[2 + rank :], r, axes, strict=True)]
            inside = [e.all_of(e.dimval(o) >= 0, e.dimval(o) < e.dimval(axis.extent)) for o, axis in zip(place, axes, strict=True)]
            return e.guard(e.all_of(*inside), columns[(p[0], p[1], *kernel, *place)], 0)

        planes = (*shape[:2], *(c.count for c in chosen), *counts)
        return b.reduction("sum", planes, tuple(c.taps for c in chosen), element, columns.dtype)

    return _interleaved(b, axes, shape[2:], plane)


def _transposed_extents(
    extents: Sequence[Extent], kernel: Sequence[Extent], strides: Sequence[int], dilations: Sequence[int], extra: Sequence[int],
    auto_pad: str, pads: Sequence[Extent] | None, output_shape: Ints,
) -> tuple[list[Extent], list[Extent]]:  # fmt: skip
    """Extents of the output, and what is cut off before."""
    rank = len(extents)
    full = [(n - 1) * s + a + (k - 1) * g + 1 for n, k, s, g, a in zip(extents, kernel, strides, dilations, extra, strict=True)]
    if output_shape or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        outputs: list[Extent] = list(output_shape[-rank:]) if output_shape else [n * s for n, s in zip(extents, strides, strict=True)]
        total = [d.dmax(f - o, 0) for f, o in zip(full, outputs, strict=True)]  # what is missing is added at the end
        halves = [d.floordiv(t, 2) for t in total]
        return outputs, halves if auto_pad == "SAME_UPPER" else [t - h for t, h in zip(total, halves, strict=True)]
    if auto_pad == "VALID" or not pads:
        return full, [0] * rank
    return [f - p - q for f, p, q in zip(full, pads[:rank], pads[rank:], strict=True)], list(pads[:rank])


@op("Col2Im", since=18)
def col2im(
    b: Builder, x: Tensor | Object, image_shape: Tensor, block_shape: Tensor, *, dilations: Ints = None, pads: Ints = None,
    strides: Ints = None,
) -> Any:  # fmt: skip
    """Blocks of an image, given as columns, added up where they overlap; those of strings must not."""
    blocks = partial(_blocks, apart=is_strings(x), dilations=dilations, pads=pads, strides=strides)
    return strings_too(blocks)(b, x, image_shape, block_shape)


def _blocks(
    b: Builder, x: Tensor, image_shape: Tensor, block_shape: Tensor, *, apart: bool, dilations: Ints, pads: Ints, strides: Ints
) -> Tensor:
    if x.rank != 3:
        b.fail(f"columns of rank 3 are expected, an input of rank {x.rank} came")
    extents, kernel = settle(b, elements(b, image_shape)), settle(b, elements(b, block_shape))
    for extent in kernel:
        b.require(d.compare("lt", 0, extent), f"block_shape {kernel} must be at least 1")
    view = window(b, extents, kernel, strides=strides, pads=pads, dilations=dilations)
    size = d.product(kernel)
    channels = d.floordiv(x.shape[1], size)
    blocks = d.product(view.outputs)
    b.require_equal(channels * size, x.shape[1], "rows of whole blocks")
    b.require_equal(blocks, x.shape[2], "columns")
    columns = b.reshape(x, (x.shape[0], channels, *kernel, *view.outputs))
    axes = [_Spread(*v) for v in zip(view.outputs, kernel, view.strides, view.dilations, view.before, strict=True)]
    for axis in axes if apart else ():
        b.require(axis.apart, "strings cannot be added up: strides must be so large that no two blocks overlap")
    return _gathered(b, columns, axes, (x.shape[0], channels, *extents))
