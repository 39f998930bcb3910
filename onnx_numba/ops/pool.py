"""Pools: reductions over windows or over whole images."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import DTYPES, I64, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.dequantised import dequantised, grows, made_of
from onnx_numba.ops.elementwise import power_of
from onnx_numba.ops.registry import op
from onnx_numba.ops.scatter import scatter_flat
from onnx_numba.ops.settle import elements, flat_index, natural_index, settle, unflatten
from onnx_numba.ops.window import Window, window
from onnx_numba.templates.pool import fold_windows

Extent = Dim | int
Index = tuple[Dim, ...]
Ints = Sequence[int] | None


_SMALL = 16
"""Rows or columns of a window that are folded in registers: beyond that the code grows, and little is left to gain."""
_BAND, _BAND_ELEMENTS = 8, 4096
"""Rows that are folded downwards before any is folded sideways, as far as they have no more elements. Windows of 3 x 3 in 28 x 28 elements
of 64 channels take 34 µs in place of 49; longer rows gain nothing, and should stay in the first cache."""


def _nested(fold: str, start: str | None, terms: Sequence[str]) -> str:
    """All terms folded in order: ``acc_add(acc_add(f32(0), a), b)``."""
    return functools.reduce(lambda left, right: f"{fold}({left}, {right})", terms if start is None else [start, *terms])


def lowest(dtype: DType) -> bool | int | float:
    """What is not above any other value of a type."""
    if dtype.kind == "f":
        return -math.inf
    return -(1 << (8 * dtype.size - 1)) if dtype.kind == "i" else 0


def _folded(b: Builder, kind: str, x: Tensor, view: Window, dtype: DType, count: Tensor | Extent | None = None) -> Tensor:
    """The sum or the greatest element of every window, divided by a count if there is one: the same for all, or for each place."""
    first = lowest(dtype) if kind == "max" else 0
    if not view.padded and view.kernel == x.shape[2:]:  # the whole image is one window
        return _divided(b, b.reduce(kind, x, range(2, x.rank), keepdims=True, dtype=dtype), count)
    kernel = [k for k in view.kernel if isinstance(k, int)]
    rank = x.rank - 2
    if rank > 2 and len(kernel) == rank and math.prod(kernel[:-2]) <= _SMALL:
        return _divided(b, _stacked(b, kind, x, view, first, dtype), count)
    if rank > 2 or len(kernel) < rank:
        return _divided(b, _pooled(b, kind, x, view, first, lambda v: v, dtype), count)
    lead: list[Extent] = [1] * (2 - rank)  # an image of one axis is one row
    sizes, steps, gaps = ([1] * (2 - rank) + list(v) for v in (kernel, view.strides, view.dilations))
    below = [0] * (2 - rank)
    fold, start = ("acc_max", None) if kind == "max" else ("acc_add", f"{dtype.name}(0)")
    height, width = (min(size, _SMALL) for size in sizes)  # of larger windows these expressions stand where nothing runs
    each = isinstance(count, Tensor)
    share = "" if count is None else " / counts[j]" if each else f" / {dtype.name}({count})"
    constants = {
        "ROWS": sizes[0], "COLUMNS": sizes[1], "DOWN": steps[0], "ACROSS": steps[1], "GAP_DOWN": gaps[0], "GAP_ACROSS": gaps[1],
        "FIRST": first, "FOLD": fold, "SMALL": sizes[0] <= _SMALL, "NARROW": sizes[1] <= _SMALL,
        "DOWNWARDS": _nested(fold, start, [f"lines[{k * gaps[0]} * width + x]" for k in range(height)]),
        "SIDEWAYS": _nested(fold, start, [f"windows[j * {steps[1]} + {m * gaps[1]}]" for m in range(width)]) + share,
        "VALUE": f"value{share}", "COUNTED": each, "OUT": 1 + each, "GREATEST": int(kind == "max"), "DIVIDES": int(count is not None),
        "SHARE": count if isinstance(count, int) else 1,
    }  # fmt: skip
    outputs = [*lead, *view.outputs]
    reach = (outputs[1] - 1) * steps[1] + (sizes[1] - 1) * gaps[1] + 1
    folded = d.dmax(reach, view.before[-1] + x.shape[-1])
    band = d.dmax(1, d.dmin(_BAND, d.floordiv(_BAND_ELEMENTS, d.dmax(folded, 1))))
    (result,) = b.template(
        fold_windows, [b.cast(x, dtype), *([count] if isinstance(count, Tensor) else [])], [(dtype, (*x.shape[:2], *view.outputs))],
        total=x.shape[0] * x.shape[1] * outputs[0], dims=(*lead, *x.shape[2:], *outputs, *below, *view.before, folded, band),
        grain=max(1, 4096 // (sizes[0] * sizes[1] * 16)), types={"X": dtype}, constants=constants, scratch=band * folded * dtype.size,
    )  # fmt: skip
    return result


def _stacked(b: Builder, kind: str, x: Tensor, view: Window, first: Any, dtype: DType) -> Tensor:
    """Windows of more than two axes: first those of each plane, then of whole planes."""
    rank = x.rank - 2
    planes, stacks = view.along(slice(rank - 2, None)), view.along(slice(rank - 2))
    flat = b.reshape(x, (x.shape[0], d.product(x.shape[1:-2]), *x.shape[-2:]))
    folded = b.reshape(_folded(b, kind, flat, planes, dtype), (*x.shape[:-2], *planes.outputs))
    taps = list(itertools.product(*(range(k) for k in stacks.kernel if isinstance(k, int))))

    def element(*p: Dim) -> Expr:
        terms = []
        for tap in taps:
            at, inside = stacks.source(p[2:-2], tap)
            terms.append(e.guard(inside, folded[(*p[:2], *at, *p[-2:])], first))
        return functools.reduce(lambda v, w: e.binary("max", v, w) if kind == "max" else v + w, terms)

    return b.compute((*x.shape[:2], *view.outputs), element, dtype)


def _divided(b: Builder, total: Tensor, count: Tensor | Extent | None) -> Tensor:
    if count is None:
        return total
    if isinstance(count, Tensor):
        return b.compute(total.shape, lambda *i: total[i] / count[i[2:]], total.dtype)
    return b.map(lambda v: v / e.cast(e.dimval(count), v.dtype), total)


def _pooled(b: Builder, kind: str, x: Tensor, view: Window, outside: Any, value: Callable[[Expr], Expr], dtype: DType) -> Tensor:
    def element(p: Index, r: Index) -> Expr:
        at, inside = view.source(p[2:], r)
        return e.guard(inside, value(x[(p[0], p[1], *at)]), outside)

    return b.reduction(kind, (*x.shape[:2], *view.outputs), view.kernel, element, dtype)


@op("MaxPool", since=1, reviewed=22)
def max_pool(
    b: Builder, x: Tensor, *, kernel_shape: Sequence[int], auto_pad: str, ceil_mode: int = 0, dilations: Ints = None,
    pads: Ints = None, storage_order: int = 0, strides: Ints = None,
) -> Any:  # fmt: skip
    """The greatest element of every window, and where it is if that is asked for."""
    view = window(b, x.shape[2:], kernel_shape, strides=strides, pads=pads, dilations=dilations, auto_pad=auto_pad, ceil_mode=ceil_mode)
    positions = len(b.wanted) > 1 and b.wanted[1]
    steps = made_of(b, x) if view.reaches and not positions else None
    if steps is not None and grows(b, steps):
        return dequantised(b, replace(steps, integers=_greatest(b, steps.integers, view)))
    result = _greatest(b, x, view)
    return (result, _positions(b, x, view, storage_order)) if positions else result


def _greatest(b: Builder, x: Tensor, view: Window) -> Tensor:
    return b.cast(_folded(b, "max", x, view, DTYPES[x.dtype.compute]), x.dtype)


def _positions(b: Builder, x: Tensor, view: Window, storage_order: int) -> Tensor:
    """Flat positions of the greatest elements, in a tensor whose spatial axes may be stored in reverse order."""
    low = lowest(x.dtype)
    size = d.product(view.kernel)

    def candidate(*i: Dim) -> Expr:
        at, inside = view.source(i[2:-1], unflatten(i[-1], view.kernel))
        return e.guard(inside, x[(i[0], i[1], *at)], low)

    every = b.compute((*x.shape[:2], *view.outputs, size), candidate, x.dtype)
    best = b.reduce("argmax", every, [every.rank - 1])

    def flat(i: Index, at: Sequence[Extent]) -> Expr:
        spatial = flat_index(at[::-1], x.shape[:1:-1]) if storage_order else flat_index(at, x.shape[2:])
        return e.dimval((i[0] * x.shape[1] + i[1]) * d.product(x.shape[2:]) + spatial)

    def position(*i: Dim) -> Expr:
        at, inside = view.source(i[2:], unflatten(e.as_index(best[i]), view.kernel))
        # Padding comes first where no element of the image is above ``low``.
        return flat(i, at) if all(p == 0 for p in view.before) else e.where(inside, flat(i, at), flat(i, view.first(i[2:])))

    return b.compute(best.shape, position, I64)


@op("AveragePool", since=1, reviewed=22)
def average_pool(
    b: Builder, x: Tensor, *, kernel_shape: Sequence[int], auto_pad: str, ceil_mode: int = 0, count_include_pad: int = 0,
    dilations: Ints = None, pads: Ints = None, strides: Ints = None,
) -> Tensor:  # fmt: skip
    """The mean of every window, with or without the padding in it."""
    view = window(b, x.shape[2:], kernel_shape, strides=strides, pads=pads, dilations=dilations, auto_pad=auto_pad, ceil_mode=ceil_mode)
    wide = DTYPES[x.dtype.compute]
    count: Tensor | Extent = d.product(view.kernel)
    if view.padded and not (count_include_pad and not view.beyond):
        count = b.compute(view.outputs, lambda *i: e.cast(e.dimval(view.covered(i, bool(count_include_pad))), wide), wide)
    return b.cast(_folded(b, "sum", x, view, wide, count), x.dtype)


def _norm(b: Builder, total: Tensor, p: float, dtype: DType) -> Tensor:
    if p == 1:
        return b.cast(total, dtype)
    if p == 2:
        return b.map(lambda v: e.unary("sqrt", v), total, dtype=dtype)
    return b.map(lambda v: e.binary("pow", v, 1.0 / p), total, dtype=dtype)


def _power(value: Expr, p: float) -> Expr:
    if p == 2:
        return value * value
    magnitude = e.unary("abs", value)
    return magnitude if p == 1 else power_of(magnitude, e.lit(float(p), magnitude.dtype), magnitude.dtype)


@op("LpPool", since=1, reviewed=22)
def lp_pool(
    b: Builder, x: Tensor, *, kernel_shape: Ints = None, auto_pad: str, ceil_mode: int = 0, dilations: Ints = None, p: float = 2,
    pads: Ints = None, strides: Ints = None,
) -> Tensor:  # fmt: skip
    """The p-norm of every window."""
    if kernel_shape is None:
        b.fail("attribute kernel_shape is missing")
    view = window(b, x.shape[2:], kernel_shape, strides=strides, pads=pads, dilations=dilations, auto_pad=auto_pad, ceil_mode=ceil_mode)
    total = _pooled(b, "sum", x, view, 0, lambda v: _power(v, p), DTYPES[x.dtype.compute])
    return _norm(b, total, p, x.dtype)


def _spatial(b: Builder, x: Tensor) -> range:
    if x.rank < 3:
        b.fail(f"an image of at least rank 3 is expected, an input of rank {x.rank} came")
    return range(2, x.rank)


@op("GlobalMaxPool", since=1, reviewed=22)
def global_max_pool(b: Builder, x: Tensor) -> Tensor:
    """The greatest element of every channel."""
    return b.reduce("max", x, _spatial(b, x), keepdims=True)


@op("GlobalAveragePool", since=1, reviewed=22)
def global_average_pool(b: Builder, x: Tensor) -> Tensor:
    """The mean of every channel."""
    wide = DTYPES[x.dtype.compute]
    total = b.reduce("sum", x, _spatial(b, x), keepdims=True, dtype=wide)
    count = d.product(x.shape[2:])
    return b.map(lambda v: v / e.cast(e.dimval(count), wide), total, dtype=x.dtype)


@op("GlobalLpPool", since=1, reviewed=22)
def global_lp_pool(b: Builder, x: Tensor, *, p: float = 2) -> Tensor:
    """The p-norm of every channel."""
    total = b.reduce("sum", x, _spatial(b, x), keepdims=True, dtype=DTYPES[x.dtype.compute], function=lambda v: _power(v, p))
    return _norm(b, total, p, x.dtype)


@op("MaxUnpool", since=9, reviewed=22)
def max_unpool(
    b: Builder, x: Tensor, indices: Tensor, output_shape: Tensor | None = None, *, kernel_shape: Sequence[int], pads: Ints = None,
    strides: Ints = None,
) -> Tensor:  # fmt: skip
    """Elements put back where MaxPool found them, zeros elsewhere."""
    rank = x.rank - 2
    if not rank == len(kernel_shape) == len(strides or kernel_shape) or len(pads or [0] * 2 * rank) != 2 * rank or rank < 1:
        b.fail(f"kernel_shape {kernel_shape}, strides {strides} and pads {pads} for an input of rank {x.rank}")
    if indices.rank != x.rank:
        b.fail(f"indices of rank {indices.rank} for an input of rank {x.rank}")
    for k, (got, wanted) in enumerate(zip(indices.shape, x.shape, strict=True)):
        b.require_equal(got, wanted, f"dim {k} of the indices")
    steps, cut = strides or [1] * rank, pads or [0] * (2 * rank)
    spatial = [(n - 1) * s - cut[k] - cut[rank + k] + kernel_shape[k] for k, (n, s) in enumerate(zip(x.shape[2:], steps, strict=True))]
    shape = (*x.shape[:2], *spatial)
    size = d.product(shape)

    def position(*i: Dim) -> Expr:
        return natural_index(b, indices[i], size)

    filled = scatter_flat(b, b.full(shape, 0, x.dtype), b.compute(indices.shape, position, I64), x, 1)
    if output_shape is None:
        return filled
    given = tuple(settle(b, elements(b, output_shape, "output_shape")))
    if len(given) != x.rank:
        b.fail(f"output_shape has {len(given)} numbers for an input of rank {x.rank}")

    def element(*i: Dim) -> Expr:
        inside = e.all_of(*(e.dimval(k) < e.dimval(n) for k, n in zip(i, shape, strict=True)))
        return e.guard(inside, filled[i], 0)

    return b.compute(given, element, x.dtype)
