"""Windows of a plane folded in vectors of its outputs: masked loads in place of padding, as in `onnx_numba.native.plane`.

Rows of a window are folded first, for all columns that a vector of outputs sees, then neighbours in what that gives. All of it stays in
registers. Rows of 13 outputs, which are one vector, take 16 cycles each for windows of 3 x 3 two apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.native.emit import call, suffix
from onnx_numba.native.plane import WIDE, PlaneEmitter, numbers_typing
from onnx_numba.native.registry import Intrinsic
from onnx_numba.native.vector import outlined


def _fold_plane(
    greatest: int, divides: int, kernel_h: int, kernel_w: int, stride_h: int, stride_w: int, dilation_h: int, dilation_w: int, lanes: int,
    x: Any, share: Any, out: Any, height: int, width: int, out_h: int, out_w: int, pad_h: int, pad_w: int,
) -> None:  # fmt: skip
    """Fold the windows of one plane of height × width: their ``greatest`` elements or their sums, which ``divides`` by ``share``.

    Elements outside the plane are left out. As in `onnx_numba.native.scalar.acc_max`, a zero may have any sign.
    """
    image = x[: height * width].reshape(height, width)
    fold, start = (np.maximum, -np.inf) if greatest else (np.add, 0)
    columns = np.arange(out_w) * stride_w - pad_w
    with np.errstate(all="ignore"):
        for y in range(out_h):
            rows = [row for row in (y * stride_h + k * dilation_h - pad_h for k in range(kernel_h)) if 0 <= row < height]
            line = np.full(width, start, out.dtype)
            for row in rows:
                line = fold(line, image[row])
            total = np.full(out_w, start, out.dtype)
            for k in range(kernel_w):
                at = columns + k * dilation_w
                inside = (at >= 0) & (at < width)
                total = fold(total, np.where(inside, line[np.where(inside, at, 0)], out.dtype.type(start)))
            out[y * out_w : (y + 1) * out_w] = total / share if divides else total


class _Windows(PlaneEmitter):
    """Columns of one vector of outputs outside, rows inside: masks stay in registers."""

    def __init__(self, builder: Any, literals: list[int], args: Any) -> None:
        self.greatest, self.divides = literals[:2]
        self.kernel, self.strides, self.dilations = literals[2:4], literals[4:6], literals[6:8]
        self.x, self.share, self.out, self.height, self.width, self.out_h, self.out_w, self.pad_h, self.pad_w = args
        super().__init__(builder, self.x.type.pointee, literals[8])
        self.start = self.ir.Constant(self.element, float("-inf") if self.greatest else 0.0)
        self.reach = (self.lanes - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilations[1] + 1
        # Where the vectors begin that a vector of outputs sees of a row; the last so early that it ends with what is seen.
        self.starts = [*range(0, self.reach - self.lanes, self.lanes), self.reach - self.lanes] if self.reach >= self.lanes else [0]

    def emit(self) -> None:
        builder = self.builder
        self.loop(self.number(0), builder.add(self.out_w, self.number(self.lanes - 1)), self.lanes, [], self._column)

    def _fold(self, a: Any, b: Any) -> Any:
        if not self.greatest:
            return self.builder.fadd(a, b)
        if self.lanes * 8 * self.align < WIDE:
            return self._greater(a, b)
        value = call(self.builder, f"llvm.maximum.v{self.lanes}{suffix(self.element)}", self.vector, [a, b])
        value.fastmath.add("nsz")
        return value

    def _greater(self, a: Any, b: Any) -> Any:
        """The greater, or a NaN, which all bits set are, where either is NaN. Where masks are vectors, as with AVX2, that takes one step in
        place of the three of a blend."""
        ir, builder = self.ir, self.builder
        bits = ir.VectorType(ir.IntType(8 * self.align), self.lanes)
        greater = builder.bitcast(builder.select(builder.fcmp_ordered(">", a, b), a, b), bits)
        either = builder.sext(builder.fcmp_unordered("uno", a, b), bits)
        return builder.bitcast(builder.or_(greater, either), self.vector)

    def _column(self, column: Any, values: list[Any]) -> list[Any]:
        builder, number = self.builder, self.number
        column, wide = self.whole(column, self.out_w)
        first = builder.sub(builder.mul(column, number(self.strides[1])), self.pad_w)
        written = self.below(self.positions(column, self.lanes), self.out_w)
        end = builder.add(first, number(max(self.reach, self.lanes)))
        inside = builder.and_(builder.icmp_signed(">=", first, number(0)), builder.icmp_signed("<=", end, self.width))

        def rows(masks: list[Any] | None) -> None:
            def row(y: Any, values: list[Any]) -> list[Any]:
                total = self._across(self._down(y, first, masks))
                if self.divides:
                    total = builder.fdiv(total, self.splat(self.share))
                self.store_first(total, self.shift(self.out, builder.add(builder.mul(y, self.out_w), column)), wide, written)
                return values

            self.loop(number(0), self.out_h, 1, [], row)

        with builder.if_else(inside) as (then, otherwise):
            with then:  # loads under masks take a unit that folds, too
                rows(None)
            with otherwise:
                rows([self.below(self.positions(builder.add(first, number(at)), self.lanes), self.width) for at in self.starts])
        return values

    def _line(self, row: Any, first: Any, masks: list[Any] | None) -> list[Any]:
        """What the outputs see of a row of the image."""
        line = self.shift(self.x, self.builder.add(self.builder.mul(row, self.width), first))
        places = [self.shift(line, self.number(at)) for at in self.starts]
        if masks is None:
            return [self.load(place) for place in places]
        return [self.load_masked(place, mask, self.start) for place, mask in zip(places, masks, strict=True)]

    def _down(self, y: Any, first: Any, masks: list[Any] | None) -> list[Any]:
        """The rows of the windows, those in the image, folded into one."""
        builder, number = self.builder, self.number
        top = builder.sub(builder.mul(y, number(self.strides[0])), self.pad_h)
        last = builder.add(top, number((self.kernel[0] - 1) * self.dilations[0]))
        inside = builder.and_(builder.icmp_signed(">=", top, number(0)), builder.icmp_signed("<", last, self.height))
        whole, part, after = (builder.append_basic_block(name) for name in ("rows.whole", "rows.part", "rows.after"))
        builder.cbranch(inside, whole, part)
        builder.position_at_end(whole)
        folded = self._line(top, first, masks)
        for k in range(1, self.kernel[0]):
            line = self._line(builder.add(top, number(k * self.dilations[0])), first, masks)
            folded = [self._fold(a, b) for a, b in zip(folded, line, strict=True)]
        builder.branch(after)
        builder.position_at_end(part)
        every = [self.ir.Constant(self.ir.VectorType(self.ir.IntType(1), self.lanes), [1] * self.lanes)] * len(self.starts)

        def step(k: Any, values: list[Any]) -> list[Any]:
            row = builder.add(top, builder.mul(k, number(self.dilations[0])))
            # Of rows outside the image nothing is loaded.
            there = builder.icmp_unsigned("<", row, self.height)
            line = self._line(row, first, [builder.select(there, m, m.type(None)) for m in masks or every])
            return [self._fold(a, b) for a, b in zip(values, line, strict=True)]

        _, some = self.loop(number(0), number(self.kernel[0]), 1, [self.splat(self.start)] * len(self.starts), step)
        builder.branch(after)
        part = builder.block
        builder.position_at_end(after)
        found = []
        for a, b in zip(folded, some, strict=True):
            found.append(builder.phi(self.vector))
            found[-1].add_incoming(a, whole)
            found[-1].add_incoming(b, part)
        return found

    def _across(self, line: list[Any]) -> Any:
        """Each window's elements of a row folded."""
        total = None
        for k in range(self.kernel[1]):
            tap = self._every(line, k * self.dilations[1])
            total = tap if total is None else self._fold(total, tap)
        return total

    def _every(self, line: list[Any], start: int) -> Any:
        """Elements ``start``, and each a stride further, of vectors that follow each other."""
        numbers = [start + j * self.strides[1] for j in range(self.lanes)]
        places = [divmod(n, self.lanes) if n < self.starts[-1] else (len(line) - 1, n - self.starts[-1]) for n in numbers]
        head, *others = sorted({n for n, _ in places})
        if not others:
            return self.shuffle(line[head], line[head], [lane for _, lane in places])
        found, lanes = line[head], [lane for _, lane in places]
        for n in others:  # those of the first vector come into place together with those of the second
            lanes = [self.lanes + lane if at == n else before for (at, lane), before in zip(places, lanes, strict=True)]
            found, lanes = self.shuffle(found, line[n], lanes), list(range(self.lanes))
        return found


def _build(builder: Any, literals: list[int], args: Any) -> None:
    _Windows(builder, literals, args).emit()


fold_plane = Intrinsic("fold_plane", _fold_plane, numbers_typing(9, (9, 11), 10, 18), outlined("fold_plane", 9, _build))

RECORDS = (fold_plane,)
