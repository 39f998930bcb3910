"""Rows and planes of images with padding: masked vector loads instead of padded copies.

Elements outside of a row are loaded as zero under a mask. x86 has masked loads from AVX2 on; elsewhere LLVM would make a
branch of every element, so that templates use these names only where `onnx_numba.native.vector.has_masks` says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from onnx_numba.native.registry import Intrinsic
from onnx_numba.native.vector import VectorEmitter, multiply_add, outlined, pointer_typing

HOISTED = 16
"""Weights that are kept in registers over a plane; more of them are read again for every vector."""
ALONG = 4
"""Vectors of a row that are copied before the same of the next channel, which lies in another page of memory: of those a processor has few
at hand to store to."""
TOGETHER = 4
"""Rows of the output that are summed side by side: as many sums hide how long a multiply-add takes, and what a row of the image adds to
all of them is loaded once. On Zen 4 filters of 7 x 7 take 0.56 of the time of a row after the other, those of 3 x 3 0.8."""
WIDE = 512
"""Bits of registers of which there are 32. Of shorter ones there are 16: with the weights in them no room is left for several rows."""


def _padded_rows(stride: int, lanes: int, target: Any, pitch: int, source: Any, plane: int, first: int, stop: int, length: int,
                 count: int, fill: Any) -> None:  # fmt: skip
    """``target[c * pitch + y] = source[c * plane + (y - first) * stride]`` for c < ``count`` and ``first <= y < stop``, ``fill`` for
    the other y below ``length``. Of what follows each row up to ``lanes - 1`` elements may be overwritten."""
    for c in range(count):
        target[c * pitch : c * pitch + length] = fill
        for y in range(first, stop):
            target[c * pitch + y] = source[c * plane + (y - first) * stride]


def _depthwise_plane(
    kernel_h: int, kernel_w: int, stride_h: int, stride_w: int, dilation_h: int, dilation_w: int, lanes: int, fused: int,
    x: Any, w: Any, bias: Any, out: Any, height: int, width: int, out_h: int, out_w: int, pad_h: int, pad_w: int,
) -> None:  # fmt: skip
    """Convolve one plane of height × width with one filter; taps that lie in the padding are left out."""
    image = x[: height * width].reshape(height, width)
    with np.errstate(all="ignore"):
        for y in range(out_h):
            total = np.zeros(out_w, out.dtype)
            for ky in range(kernel_h):
                row = y * stride_h + ky * dilation_h - pad_h
                if not 0 <= row < height:
                    continue
                for kx in range(kernel_w):
                    columns = np.arange(out_w) * stride_w + kx * dilation_w - pad_w
                    inside = (columns >= 0) & (columns < width)
                    values = np.where(inside, image[row, np.where(inside, columns, 0)], out.dtype.type(0))
                    total = multiply_add(w[ky * kernel_w + kx : ky * kernel_w + kx + 1], values, total)
            out[y * out_w : (y + 1) * out_w] = total + bias


class PlaneEmitter(VectorEmitter):
    """Rows under masks."""

    def inside(self, start: Any, stop: Any, stride: int) -> list[Any]:
        """Which positions from ``start`` on are at least 0 and below ``stop``, as masks of ``stride`` vectors that follow each other.

        LLVM would test every element of the mask of one long vector for itself, unless its length is a power of 2.
        """
        starts = [self.builder.add(start, self.number(part * self.lanes)) for part in range(stride)]
        return [self.below(self.positions(at, self.lanes), stop) for at in starts]

    def whole(self, column: Any, count: Any) -> tuple[Any, Any]:
        """Where a vector of so many columns of a row begins, and whether it is whole, as it is unless the row is shorter than a vector.

        The last one begins so early, and computes some outputs again: some targets are slow to store under a mask.
        """
        last = self.builder.sub(count, self.number(self.lanes))
        wide = self.builder.icmp_signed(">=", last, self.number(0))
        return self.builder.select(wide, self.smaller(column, last), column), wide

    def store_first(self, value: Any, place: Any, wide: Any, mask: Any) -> None:
        """Store a vector, or where it is not ``wide`` those elements that the mask has."""
        with self.builder.if_else(wide) as (then, otherwise):
            with then:
                self.store(value, place)
            with otherwise:
                self.store_masked(value, place, mask)

    def load_every(self, pointer: Any, masks: list[Any], fill: Any = None) -> Any:
        """Elements 0, stride, 2 stride … from a pointer on, under as many masks as the stride is."""
        found = None
        for part, mask in enumerate(masks):
            vector = self.load_masked(self.shift(pointer, self.number(part * self.lanes)), mask, fill)
            if found is None:
                found = vector
                continue
            # Of what has come together so far the first elements are in place, or, of the first vector, a stride apart.
            before = [i * len(masks) if part == 1 else i for i in range(self.lanes)]
            places = [i * len(masks) - part * self.lanes for i in range(self.lanes)]
            lanes = [b if p < 0 else min(self.lanes + p, 2 * self.lanes - 1) for b, p in zip(before, places, strict=True)]
            found = self.shuffle(found, vector, lanes)
        return found


def _build_rows(builder: Any, literals: list[int], args: Any) -> None:
    stride, lanes = literals
    target, pitch, source, plane, first, stop, length, planes, fill = args
    emitter = PlaneEmitter(builder, target.type.pointee, lanes)
    number = emitter.number
    count = builder.sub(stop, first)
    # Of the last element's stride only the element itself is sure to be there.
    reach = builder.sub(builder.mul(count, number(stride)), number(stride - 1))
    reach = builder.select(builder.icmp_signed(">", count, number(0)), reach, number(0))

    def vectors(many: int, y: Any, values: list[Any]) -> list[Any]:
        begins = [builder.mul(builder.sub(builder.add(y, number(k * lanes)), first), number(stride)) for k in range(many)]
        masks = [emitter.inside(begin, reach, stride) for begin in begins]
        to = emitter.shift(target, y)

        def row(c: Any, values: list[Any]) -> list[Any]:
            line, place = emitter.shift(source, builder.mul(c, plane)), emitter.shift(to, builder.mul(c, pitch))
            loaded = [emitter.load_every(emitter.shift(line, begin), mask, fill) for begin, mask in zip(begins, masks, strict=True)]
            for k, value in enumerate(loaded):
                emitter.store(value, emitter.shift(place, number(k * lanes)))  # some have no fast store under a mask
            return values

        emitter.loop(number(0), planes, 1, [], row)
        return values

    y, end = number(0), builder.add(length, number(lanes - 1))
    for many in (ALONG, 2, 1) if stride == 1 else (1,):
        y, _ = emitter.loop(y, end, many * lanes, [], partial(vectors, many))


def _build_plane(builder: Any, literals: list[int], args: Any) -> None:
    _Depthwise(builder, literals, args).emit()


class _Depthwise(PlaneEmitter):
    """Columns of one vector outside, some rows at a time inside: masks and weights stay in registers."""

    def __init__(self, builder: Any, literals: list[int], args: Any) -> None:
        self.kernel, self.strides, self.dilations, lanes, fused = (
            literals[:2],
            literals[2:4],
            literals[4:6],
            literals[6],
            literals[7],
        )
        self.x, self.w, self.bias, self.out, self.height, self.width, self.out_h, self.out_w, self.pad_h, self.pad_w = args
        super().__init__(builder, self.x.type.pointee, lanes, bool(fused))
        count = self.kernel[0] * self.kernel[1]
        self.held = [self._weight(t) for t in range(count)] if count <= HOISTED else None
        self.added = self.splat(self.bias)
        crowded = self.held is not None and self.lanes * 8 * self.align < WIDE
        self.together = 1 if self.kernel[0] == 1 or crowded else TOGETHER

    def emit(self) -> None:
        builder = self.builder
        self.loop(self.number(0), builder.add(self.out_w, self.number(self.lanes - 1)), self.lanes, [], self._column)

    def _weight(self, tap: int) -> Any:
        return self.splat(self.builder.load(self.shift(self.w, self.number(tap)), align=self.align))

    def _column(self, column: Any, values: list[Any]) -> list[Any]:
        builder, number = self.builder, self.number
        column, wide = self.whole(column, self.out_w)
        start = builder.sub(builder.mul(column, number(self.strides[1])), self.pad_w)
        starts = [builder.add(start, number(kx * self.dilations[1])) for kx in range(self.kernel[1])]
        masks = [self.inside(at, self.width, self.strides[1]) for at in starts]
        written = self.below(self.positions(column, self.lanes), self.out_w)

        def block(rows: int) -> Callable[[Any, list[Any]], list[Any]]:
            return lambda y, values: self._rows(y, rows, column, wide, starts, masks, written)

        reached, _ = self.loop(number(0), self.out_h, self.together, [], block(self.together))
        if self.together > 1:
            self.loop(reached, self.out_h, 1, [], block(1))
        return values

    def _rows(self, y: Any, rows: int, column: Any, wide: Any, starts: list[Any], masks: list[Any], written: Any) -> list[Any]:
        """One vector of so many rows of the output. What is loaded of the image serves all of them."""
        builder, number = self.builder, self.number
        totals = [self.ir.Constant(self.vector, [0.0] * self.lanes)] * rows
        top = builder.sub(builder.mul(y, number(self.strides[0])), self.pad_h)
        taps: dict[int, list[tuple[int, int]]] = {}
        for row, ky in itertools.product(range(rows), range(self.kernel[0])):
            taps.setdefault(row * self.strides[0] + ky * self.dilations[0], []).append((row, ky))
        for below in sorted(taps):
            totals = self._taps(taps[below], builder.add(top, number(below)), starts, masks, totals)
        for row, total in enumerate(totals):
            place = self.shift(self.out, builder.add(builder.mul(builder.add(y, number(row)), self.out_w), column))
            self.store_first(builder.fadd(total, self.added), place, wide, written)
        return []

    def _taps(self, taps: list[tuple[int, int]], row: Any, starts: list[Any], masks: list[Any], totals: list[Any]) -> list[Any]:
        """What a row of the image, if it is there, adds to rows of the output, each with another row of the filter."""
        builder = self.builder
        before, inside, after = builder.block, builder.append_basic_block("row.inside"), builder.append_basic_block("row.after")
        builder.cbranch(builder.icmp_unsigned("<", row, self.height), inside, after)
        builder.position_at_end(inside)
        line, new = self.shift(self.x, builder.mul(row, self.width)), list(totals)
        for kx, (start, mask) in enumerate(zip(starts, masks, strict=True)):
            value = self.load_every(self.shift(line, start), mask)
            for k, ky in taps:
                tap = ky * self.kernel[1] + kx
                new[k] = self.multiply_add(self._weight(tap) if self.held is None else self.held[tap], value, new[k])
        builder.branch(after)
        inside = builder.block
        builder.position_at_end(after)
        merged = list(totals)
        for k, _ in taps:
            merged[k] = builder.phi(self.vector)
            merged[k].add_incoming(totals[k], before)
            merged[k].add_incoming(new[k], inside)
        return merged


def numbers_typing(literals: int, pointers: tuple[int, ...], number: int, count: int) -> Callable[..., Any]:
    """As `pointer_typing`, with one number of the type that the pointers point to."""

    def typing(*args: Any) -> Any:
        from numba import types

        found = pointer_typing(literals, pointers, None, count)(*args)
        if found is None:
            return None
        wanted = list(found.args)
        wanted[number] = wanted[pointers[0]].dtype
        return found.replace(args=tuple(wanted), return_type=types.void)

    return typing


padded_rows = Intrinsic("padded_rows", _padded_rows, numbers_typing(2, (2, 4), 10, 11), outlined("padded_rows", 2, _build_rows))
depthwise_plane = Intrinsic(
    "depthwise_plane", _depthwise_plane, numbers_typing(8, (8, 9, 11), 10, 18), outlined("depthwise_plane", 8, _build_plane)
)

RECORDS = (padded_rows, depthwise_plane)
