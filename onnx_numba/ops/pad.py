"""Pad and CenterCropPad."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import by_axis, elements, scalar, settle, strings_too, wrap_axes

Extent = Dim | int


@op("Pad", since=1, reviewed=1)
def pad_1(b: Builder, x: Tensor, *, paddings: Sequence[int], mode: str, value: float) -> Tensor:
    """Elements around a tensor, as many as an attribute says."""
    return pad_2(b, x, pads=paddings, mode=mode, value=value)


@op("Pad", since=2, reviewed=2)
def pad_2(b: Builder, x: Tensor, *, pads: Sequence[int], mode: str, value: float) -> Tensor:
    """Elements around a tensor, as many as an attribute says."""
    if len(pads) != 2 * x.rank:
        b.fail(f"{len(pads)} pads for an input of rank {x.rank}")
    return padded(b, x, pads[: x.rank], pads[x.rank :], mode, e.lit(value, x.dtype))


@op("Pad", since=11, reviewed=25)
@strings_too
def pad(b: Builder, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None, *, mode: str) -> Tensor:
    """Elements around a tensor; negative pads take away."""
    given = elements(b, pads, "pads")
    b.require_equal(len(given), 2 * (x.rank if axes is None else axes.size), "number of pads")
    half = len(given) // 2
    none = [e.lit(0, I64)] * x.rank
    before = by_axis(b, axes, given[:half], x.rank, none)
    after = by_axis(b, axes, given[half:], x.rank, none)
    settled = settle(b, [*before, *after], signed=range(2 * x.rank))
    fill = e.lit(0, x.dtype) if value is None else scalar(b, value)
    return padded(b, x, settled[: x.rank], settled[x.rank :], mode, fill)


def padded(b: Builder, x: Tensor, before: Sequence[Extent], after: Sequence[Extent], mode: str, fill: Expr) -> Tensor:
    """``x`` with elements before and after along every axis."""
    if all(p == 0 for p in (*before, *after)):
        return x
    shape = tuple(p + n + q for p, n, q in zip(before, x.shape, after, strict=True))
    if mode == "constant":
        return _constant(b, x, before, after, shape, fill)
    if mode not in _SOURCE:
        b.fail(f"mode {mode!r} is unknown")
    # What a negative pad takes away is gone before anything is filled from the rest.
    first = [d.dmax(-p, 0) for p in before]
    extents = [d.dmax(n - cut - d.dmax(-q, 0), 0) for n, cut, q in zip(x.shape, first, after, strict=True)]
    for k, extent in enumerate(extents):
        b.require_elements(extent, shape[k], f"axis {k} of the input")
    source = _SOURCE[mode]
    # Remainders are slow: where an element comes from is computed once for all rows.
    moved = [k for k, (p, q) in enumerate(zip(before, after, strict=True)) if not p == 0 == q]
    tables = {
        k: b.compute((shape[k],), lambda i, k=k: e.dimval(first[k] + source(i, d.dmax(before[k], 0), extents[k])), I64) for k in moved
    }

    def element(*i: Dim) -> Expr:
        at = [tables[k][(place,)] if k in tables else place for k, place in enumerate(i)]
        filled = x[tuple(at)]
        if x.rank - 1 not in tables:
            return filled
        # Most of a row is one of the input's as it is, whichever that is.
        place = i[-1] - before[-1]
        inside = e.all_of(e.dimval(place) >= 0, e.dimval(place) < e.dimval(x.shape[-1]))
        return e.guard(inside, x[(*at[:-1], place)], filled)

    return b.compute(shape, element, x.dtype)


def _constant(b: Builder, x: Tensor, before: Sequence[Extent], after: Sequence[Extent], shape: tuple[Extent, ...], fill: Expr) -> Tensor:
    def element(*i: Dim) -> Expr:
        at = [k - p for k, p in zip(i, before, strict=True)]
        inside = []
        for k, p, q, n in zip(at, before, after, x.shape, strict=True):
            if p != 0:
                inside.append(e.dimval(k) >= 0)
            if q != 0:
                inside.append(e.dimval(k) < e.dimval(n))
        return e.guard(e.all_of(*inside), x[tuple(at)], fill)

    return b.compute(shape, element, x.dtype)


def _edge(i: Extent, before: Extent, extent: Extent) -> Extent:
    return d.dmax(d.dmin(i - before, extent - 1), 0)


def _reflect(i: Extent, before: Extent, extent: Extent) -> Extent:
    period = d.dmax(extent * 2 - 2, 1)
    place = d.mod(_from_zero(i, before, period), period)
    return d.dmin(place, period - place)


def _wrap(i: Extent, before: Extent, extent: Extent) -> Extent:
    return d.mod(_from_zero(i, before, extent), extent)


def _from_zero(i: Extent, before: Extent, period: Extent) -> Extent:
    """``i - before`` moved by whole periods so that it is never negative."""
    if isinstance(before, int) and isinstance(period, int):
        return i + (-before % period)
    return i - before + before * period


_SOURCE: dict[str, Callable[[Extent, Extent, Extent], Extent]] = {"edge": _edge, "reflect": _reflect, "wrap": _wrap}


@op("CenterCropPad", since=18)
@strings_too
def center_crop_pad(b: Builder, x: Tensor, shape: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """Cropped or padded with zeros around the centre to a given shape."""
    target = list(x.shape)
    wanted = settle(b, elements(b, shape, "shape"))
    places = list(range(x.rank)) if axes is None else wrap_axes(b, axes, x.rank)
    if len(places) != len(wanted):
        b.fail(f"{len(wanted)} extents for {len(places)} axes")
    for axis, extent in zip(places, wanted, strict=True):
        target[axis] = extent
    before: list[Extent] = []
    for n, m in zip(x.shape, target, strict=True):
        # The odd element of a crop goes at the end, that of padding too: both halves are rounded toward the front.
        grow, crop = d.floordiv(d.dmax(m - n, 0), 2), d.floordiv(d.dmax(n - m, 0), 2)
        before.append(grow - crop)
    after = [m - n - p for m, n, p in zip(target, x.shape, before, strict=True)]
    return padded(b, x, before, after, "constant", e.lit(0, x.dtype))
