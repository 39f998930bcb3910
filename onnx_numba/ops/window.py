"""Windows that slide over the spatial axes of an image: what convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ops.builder import Builder
from onnx_numba.record import record

Extent = Dim | int


@record
class Window:
    """Window sizes, steps and padding along the spatial axes, and how many windows there are.

    Attributes
    ----------
    extents : tuple of Dim or int
        Extents of the image.
    kernel, strides, dilations : tuple
        Size of the window, and distances of windows and of elements within one.
    before, after : tuple
        Padding.
    outputs : tuple
        Number of windows.
    beyond : bool
        Whether windows may reach past the padding at the end.
    """

    extents: tuple[Extent, ...]
    kernel: tuple[Extent, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[Extent, ...]
    after: tuple[Extent, ...]
    outputs: tuple[Extent, ...]
    beyond: bool = False

    def source(self, outer: Sequence[Extent], inner: Sequence[Extent]) -> tuple[list[Extent], Expr]:
        """The image position of an element of a window, and whether it is inside the image."""
        at: list[Extent] = []
        inside: list[Expr] = []
        for k, (o, i) in enumerate(zip(outer, inner, strict=True)):
            position = o * self.strides[k] + i * self.dilations[k] - self.before[k]
            if self.before[k] != 0:
                inside.append(e.dimval(position) >= 0)
            if self.after[k] != 0 or self.beyond:
                inside.append(e.dimval(position) < e.dimval(self.extents[k]))
            at.append(position)
        return at, e.all_of(*inside)

    def along(self, axes: slice) -> Window:
        """The windows along some of the axes."""
        return Window(
            self.extents[axes], self.kernel[axes], self.strides[axes], self.dilations[axes], self.before[axes], self.after[axes],
            self.outputs[axes], self.beyond,
        )  # fmt: skip

    def first(self, outer: Sequence[Extent]) -> list[Extent]:
        """The image position of the first element of a window that is not in the padding before the image."""
        starts = [o * s - p for o, s, p in zip(outer, self.strides, self.before, strict=True)]
        return [start + d.ceildiv(d.dmax(-start, 0), gap) * gap for start, gap in zip(starts, self.dilations, strict=True)]

    @property
    def padded(self) -> bool:
        """Whether windows may reach outside the image."""
        return self.beyond or any(p != 0 for p in (*self.before, *self.after))

    @property
    def reaches(self) -> bool:
        """Whether every window is known to have an element inside the image."""
        padding = zip(self.before, self.after, self.kernel, self.dilations, strict=True)
        return all((p == 0 == q) or (g == 1 and _less(p, k) and _less(q, k)) for p, q, k, g in padding)

    def covered(self, outer: Sequence[Extent], with_padding: bool) -> Extent:
        """How many elements of a window are inside the image, or inside the image and its padding."""
        count: Extent = 1
        for k, o in enumerate(outer):
            low: Extent = -self.before[k] if with_padding else 0
            high = self.extents[k] + self.after[k] if with_padding else self.extents[k]
            start = o * self.strides[k] - self.before[k]
            first = 0 if with_padding else d.ceildiv(d.dmax(low - start, 0), self.dilations[k])
            last = d.dmin(self.kernel[k], d.ceildiv(d.dmax(high - start, 0), self.dilations[k]))
            count = count * (last - first)
        return count


def _less(a: Extent, b: Extent) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a < b


def window(
    b: Builder, extents: Sequence[Extent], kernel: Sequence[Extent], *, strides: Sequence[int] | None, pads: Sequence[int] | None,
    dilations: Sequence[int] | None = None, auto_pad: str = "NOTSET", ceil_mode: int = 0,
) -> Window:  # fmt: skip
    """The windows that the attributes of a convolution or pool describe."""
    rank = len(extents)
    steps = tuple(strides or [1] * rank)
    gaps = tuple(dilations or [1] * rank)
    if not len(kernel) == len(steps) == len(gaps) == rank or (pads and len(pads) != 2 * rank):
        b.fail(f"kernel {list(kernel)}, strides {steps}, dilations {gaps}, pads {pads} for {rank} spatial axes")
    if min((*steps, *gaps, *(k for k in kernel if isinstance(k, int))), default=1) < 1 or min(pads or (0,)) < 0:
        b.fail(f"kernel {list(kernel)}, strides {steps} and dilations {gaps} must be at least 1, pads {pads} at least 0")
    reach = [(k - 1) * g + 1 for k, g in zip(kernel, gaps, strict=True)]
    before: list[Extent] = list(pads[:rank]) if pads else [0] * rank
    after: list[Extent] = list(pads[rank:]) if pads else [0] * rank
    outputs: list[Extent] = []
    beyond = False
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        outputs = [d.ceildiv(n, s) for n, s in zip(extents, steps, strict=True)]
        total = [d.dmax((m - 1) * s + r - n, 0) for n, m, s, r in zip(extents, outputs, steps, reach, strict=True)]
        smaller = [d.floordiv(t, 2) for t in total]
        larger = [t - h for t, h in zip(total, smaller, strict=True)]
        before, after = (smaller, larger) if auto_pad == "SAME_UPPER" else (larger, smaller)
    elif auto_pad in ("NOTSET", "VALID", ""):
        if auto_pad == "VALID":
            before, after = [0] * rank, [0] * rank
        for n, p, q, s, r in zip(extents, before, after, steps, reach, strict=True):
            room = n + p + q - r
            count = d.floordiv(room, s) + 1
            if ceil_mode and s > 1:
                rounded_up = d.ceildiv(room, s) + 1
                # A window must begin inside the image or the padding before it.
                count = rounded_up - d.compare("le", n + p, (rounded_up - 1) * s)
                beyond = beyond or not isinstance(count, int) or count != d.floordiv(room, s) + 1
            outputs.append(d.dmax(count, 0))
    else:
        b.fail(f"auto_pad {auto_pad!r} is unknown")
    return Window(tuple(extents), tuple(kernel), steps, gaps, tuple(before), tuple(after), tuple(outputs), beyond)
