"""Resize and Upsample: interpolation, one axis after the other.

Coordinates and weights are float64, as in the standard's reference: which neighbour is the nearest turns on the last bit. Neighbours
and weights of an axis are tables of their own, since they are the same for all lines along it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import BOOL, DTYPES, F32, F64, I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import by_parts
from onnx_numba.ops.gradient import DOMAIN
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import elements, is_strings, settle, strings_too, wrap_axes
from onnx_numba.record import record

Extent = Dim | int
Index = tuple[Dim, ...]


@record
class Rules:
    """How elements of the output are found in the input; the attributes of Resize, but for ``round``, the nearest neighbour."""

    mode: str = "nearest"
    coordinates: str = "asymmetric"
    round: str = "floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    extrapolation: float = 0.0
    antialias: bool = False

    @property
    def reach(self) -> int:
        """How far from an element an interpolation uses it, in elements of the input."""
        return 2 if self.mode == "cubic" else 1


@record
class Axis:
    """One axis that is resized: its number, its extents before and after, their ratio, and the part of it that is taken."""

    number: int
    before: Extent
    after: Extent
    scale: Expr
    crop: tuple[Expr, Expr] | None = None


def _nearest_of_strings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a resize serve strings, of which there is nothing between two."""

    @wraps(function)
    def wrapper(b: Builder, x: Any, *inputs: Any, mode: str, **attributes: Any) -> Any:
        if is_strings(x) and (mode != "nearest" or attributes.get("extrapolation_value")):
            b.fail("strings can be resized by mode nearest only, without an extrapolation_value")
        return strings_too(function)(b, x, *inputs, mode=mode, **attributes)

    return wrapper


def _f64(value: Extent | Expr | float) -> Expr:
    if isinstance(value, (Expr, float)):
        return e.cast(value, F64)
    return e.cast(e.dimval(value), F64)


@op("Upsample", since=1, reviewed=1)
@_nearest_of_strings
def upsample_1(b: Builder, x: Tensor, *, height_scale: float, width_scale: float, mode: str) -> Tensor:
    """The last two axes stretched."""
    return upsample_7(b, x, scales=[1.0] * (x.rank - 2) + [height_scale, width_scale], mode=mode)


@op("Upsample", since=7, reviewed=7)
@_nearest_of_strings
def upsample_7(b: Builder, x: Tensor, *, scales: Sequence[float], mode: str) -> Tensor:
    """Every axis stretched by a factor."""
    rules = Rules("nearest" if mode == "nearest" else "linear")
    return _resize(b, x, _by_scales(b, x, list(range(x.rank)), [e.lit(e.lit(s, F32).value, F64) for s in scales]), rules)


@op("Upsample", since=9, reviewed=10)
@_nearest_of_strings
def upsample_9(b: Builder, x: Tensor, scales: Tensor, *, mode: str) -> Tensor:
    """Every axis stretched by a factor."""
    rules = Rules("nearest" if mode == "nearest" else "linear")
    return _resize(b, x, _by_scales(b, x, list(range(x.rank)), _floats(b, scales)), rules)


@op("Resize", since=10, reviewed=10)
@_nearest_of_strings
def resize_10(b: Builder, x: Tensor, scales: Tensor, *, mode: str) -> Tensor:
    """Every axis scaled; where it shrinks, the nearest neighbour is the one above."""
    rules = Rules("nearest" if mode == "nearest" else "linear", round="simple")
    return _resize(b, x, _by_scales(b, x, list(range(x.rank)), _floats(b, scales)), rules)


@op("Resize", since=11, reviewed=13)
@_nearest_of_strings
def resize_11(
    b: Builder, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None, *,
    coordinate_transformation_mode: str, cubic_coeff_a: float, exclude_outside: int, extrapolation_value: float, mode: str,
    nearest_mode: str,
) -> Tensor:  # fmt: skip
    """Every axis scaled by a factor or to a size."""
    rules = Rules(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, bool(exclude_outside), extrapolation_value)
    if coordinate_transformation_mode == "tf_half_pixel_for_nn":  # in version 11 only
        rules = replace(rules, coordinates="tf_half_pixel_for_nn")
    return _resize(b, x, _axes(b, x, roi, scales, sizes, list(range(x.rank)), "stretch", rules), rules)


@op("Resize", since=18, reviewed=19)
@_nearest_of_strings
def resize(
    b: Builder, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None, *,
    antialias: int, axes: Sequence[int] | None = None, coordinate_transformation_mode: str, cubic_coeff_a: float,
    exclude_outside: int, extrapolation_value: float, keep_aspect_ratio_policy: str, mode: str, nearest_mode: str,
) -> Tensor:  # fmt: skip
    """Some axes scaled by factors or to sizes."""
    rules = Rules(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        extrapolation_value,
        bool(antialias),
    )
    numbers = list(range(x.rank)) if axes is None else wrap_axes(b, axes, x.rank)
    return _resize(b, x, _axes(b, x, roi, scales, sizes, numbers, keep_aspect_ratio_policy, rules), rules)


@op("ResizeMatrix", since=1, domain=DOMAIN)
def resize_matrix(
    b: Builder, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None, *,
    place: int, mode: str, coordinate_transformation_mode: str, nearest_mode: str, cubic_coeff_a: float = -0.75, exclude_outside: int = 0,
    antialias: int = 0, axes: Sequence[int] | None = None, keep_aspect_ratio_policy: str = "stretch",
) -> Tensor:  # fmt: skip
    """What Resize multiplies the lines along one axis of ``x`` with, that at a place in ``axes``.

    Of ``x`` only the type counts, as the matrix is the same for all images. Two elements are made three by ``linear`` with

        [[1, 0.5, 0], [0, 0.5, 1]]
    """
    rules = Rules(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, bool(exclude_outside), antialias=bool(antialias))
    numbers = list(range(x.rank)) if axes is None else wrap_axes(b, axes, x.rank)
    axis = _axes(b, x, roi, scales, sizes, numbers, keep_aspect_ratio_policy, rules)[place]
    identity = b.compute((axis.before, axis.before), lambda i, k: e.cast(e.eq(e.dimval(i), e.dimval(k)), x.dtype), x.dtype)
    return _resize(b, identity, [replace(axis, number=1)], rules)


def _floats(b: Builder, tensor: Tensor) -> list[Expr]:
    known = b.constant(tensor)
    if known is not None:
        return [e.lit(float(v), F64) for v in known.reshape(-1)]
    if not isinstance(tensor.size, int):
        b.deferred(f"the number of elements of {tensor.name} must be known before the run")
    flat = b.reshape(tensor, (tensor.size,))
    return [e.cast(flat[(k,)], F64) for k in range(tensor.size)]


def _axes(
    b: Builder, x: Tensor, roi: Tensor | None, scales: Tensor | None, sizes: Tensor | None, numbers: list[int], policy: str,
    rules: Rules,
) -> list[Axis]:  # fmt: skip
    if scales is not None and scales.size != 0:
        axes = _by_scales(b, x, numbers, _floats(b, scales))
    elif sizes is not None:
        axes = _by_sizes(b, x, numbers, sizes, policy)
    else:
        b.fail("neither scales nor sizes are given")
    if rules.coordinates != "tf_crop_and_resize":
        return axes
    crop = [] if roi is None else _floats(b, roi)
    if len(crop) != 2 * len(numbers):
        b.fail(f"roi must have {2 * len(numbers)} elements")
    return [replace(axis, crop=(crop[k], crop[k + len(numbers)])) for k, axis in enumerate(axes)]


def _by_scales(b: Builder, x: Tensor, numbers: Sequence[int], scales: Sequence[Expr]) -> list[Axis]:
    if len(scales) != len(numbers):
        b.fail(f"{len(scales)} scales for {len(numbers)} axes")
    if any(isinstance(s, e.Lit) and not 0 < s.value < math.inf for s in scales):
        b.fail(f"scales {[getattr(s, 'value', '?') for s in scales]} must be greater than 0, and finite")
    positive = e.cast(e.all_of(*(s > 0.0 for s in scales)), I64)
    *wanted, holds = settle(b, [*(_scaled(x.shape[k], s) for k, s in zip(numbers, scales, strict=True)), positive])
    b.require(holds, "scales must be greater than 0")
    return [Axis(k, x.shape[k], n, s) for k, n, s in zip(numbers, wanted, scales, strict=True)]


def _scaled(extent: Extent, scale: Expr, add: float = 0.0) -> Expr:
    """``floor(extent * scale + add)``."""
    if isinstance(scale, e.Lit) and (scale.value == 1 or isinstance(extent, int)):
        return e.dimval(math.floor(extent * scale.value + add) if isinstance(extent, int) else extent)
    if isinstance(scale, e.Lit) and float(scale.value).is_integer():
        return e.dimval(extent * int(scale.value))
    return e.cast(e.unary("floor", _f64(extent) * scale + add), I64)


def _by_sizes(b: Builder, x: Tensor, numbers: Sequence[int], sizes: Tensor, policy: str) -> list[Axis]:
    wanted = settle(b, elements(b, sizes, "sizes"))
    if len(wanted) != len(numbers):
        b.fail(f"{len(wanted)} sizes for {len(numbers)} axes")
    scales = [_f64(n) / _f64(x.shape[k]) for k, n in zip(numbers, wanted, strict=True)]
    if policy != "stretch":
        kinds = {"not_larger": "min", "not_smaller": "max"}
        if policy not in kinds:
            b.fail(f"keep_aspect_ratio_policy {policy!r} is unknown")
        common = scales[0]
        for scale in scales[1:]:
            common = _extreme(kinds[policy], common, scale)
        scales = [common] * len(scales)
        wanted = settle(b, [_scaled(x.shape[k], common, 0.5) for k in numbers])
    return [Axis(k, x.shape[k], n, s) for k, n, s in zip(numbers, wanted, scales, strict=True)]


def _extreme(kind: str, a: Expr, b: Expr) -> Expr:
    if isinstance(a, e.Lit) and isinstance(b, e.Lit):
        return a if (a.value < b.value) == (kind == "min") else b
    return e.binary(kind, a, b)


def _resize(b: Builder, x: Tensor, axes: Sequence[Axis], rules: Rules) -> Tensor:
    if rules.mode not in ("nearest", "linear", "cubic"):
        b.fail(f"mode {rules.mode!r} is unknown")
    if x.dtype.kind == "c" and rules.mode != "nearest":
        around = {"real": rules, "imag": replace(rules, extrapolation=0.0)}
        return by_parts(b, x, lambda v, name: _resize(b, v, axes, around[name]))
    for axis in axes:
        b.require_elements(axis.before, axis.after, f"axis {axis.number} of the input")
    wide = x if rules.mode == "nearest" or x.dtype.is_float else b.cast(x, F32)
    for axis in axes:
        if axis.crop is None and axis.before == axis.after and isinstance(axis.scale, e.Lit) and axis.scale.value == 1:
            continue
        if rules.mode == "nearest":
            wide = _nearest(b, wide, axis, rules)
        else:
            wide = _interpolated(b, wide, axis, rules)
    if wide.dtype is x.dtype:
        return wide
    return b.map(lambda v: e.unary("rint", v), wide, dtype=x.dtype)


def _coordinate(b: Builder, i: Extent, axis: Axis, rules: Rules) -> Expr:
    """Where in the input, in elements of it, element ``i`` of the output is."""
    place, before = _f64(i), _f64(axis.before)
    width = axis.scale * before
    centred = (place + 0.5) / axis.scale - 0.5
    if rules.coordinates == "half_pixel":
        return centred
    if rules.coordinates == "asymmetric":
        return place / axis.scale
    if rules.coordinates == "pytorch_half_pixel":
        return e.where(e.eq(width, 1.0), e.lit(-0.5, F64), centred)
    if rules.coordinates == "tf_half_pixel_for_nn":
        return (place + 0.5) / axis.scale
    if rules.coordinates == "half_pixel_symmetric":
        return before / 2.0 * (1.0 - _f64(axis.after) / width) + (place + 0.5) / axis.scale - 0.5
    single = e.eq(width, 1.0)
    ratio = e.where(single, e.lit(1.0, F64), width - 1.0)
    if rules.coordinates == "align_corners":
        return e.where(single, e.lit(0.0, F64), place * (before - 1.0) / ratio)
    if rules.coordinates != "tf_crop_and_resize" or axis.crop is None:
        b.fail(f"coordinate_transformation_mode {rules.coordinates!r} is unknown")
    first, last = axis.crop
    span = (last - first) * (before - 1.0)
    return e.where(single, span / 2.0, place * span / ratio) + first * (before - 1.0)


def _inside(value: Expr, extent: Extent) -> Expr:
    """The nearest index that exists."""
    return e.binary("max", e.binary("min", value, e.dimval(extent - 1)), 0)


def _extrapolated(b: Builder, x: Tensor, axis: Axis, rules: Rules) -> Tensor:
    """What lies outside the input replaced by ``rules.extrapolation``."""
    if axis.crop is None:
        return x

    def outside(i: Extent) -> Expr:
        place = _coordinate(b, i, axis, rules)
        return (place < 0.0) | (place > _f64(axis.before) - 1.0)

    table = b.compute((axis.after,), outside, BOOL)
    given = e.lit(rules.extrapolation, x.dtype)
    return b.compute(x.shape, lambda *i: e.where(table[(i[axis.number],)], given, x[i]), x.dtype)


_ROUND: dict[str, Callable[[Expr, Expr], Expr]] = {
    "round_prefer_floor": lambda v, _: e.unary("ceil", v - 0.5),
    "round_prefer_ceil": lambda v, _: e.unary("floor", v + 0.5),
    "floor": lambda v, _: e.unary("floor", v),
    "ceil": lambda v, _: e.unary("ceil", v),
    "simple": lambda v, scale: e.where(scale < 1.0, e.unary("ceil", v), e.unary("floor", v)),
}


def _nearest(b: Builder, x: Tensor, axis: Axis, rules: Rules) -> Tensor:
    k = axis.number
    if rules.round not in _ROUND:
        b.fail(f"nearest_mode {rules.round!r} is unknown")
    shape = (*x.shape[:k], axis.after, *x.shape[k + 1 :])
    whole = _whole_factor(axis, rules)
    if whole is not None:
        return b.compute(shape, lambda *i: x[(*i[:k], i[k] // whole, *i[k + 1 :])], x.dtype)

    def source(i: Extent) -> Expr:
        place = _coordinate(b, i, axis, rules)
        return _inside(e.cast(_ROUND[rules.round](place, axis.scale), I64), axis.before)

    sources = b.compute((axis.after,), source, I64)
    found = b.compute(shape, lambda *i: x[(*i[:k], sources[(i[k],)], *i[k + 1 :])], x.dtype)
    return _extrapolated(b, found, axis, rules)


def _whole_factor(axis: Axis, rules: Rules) -> int | None:
    """The factor if every element is just repeated that often: the commonest case, and integer arithmetic."""
    if rules.coordinates != "asymmetric" or rules.round not in ("floor", "simple") or not isinstance(axis.scale, e.Lit):
        return None
    factor = float(axis.scale.value)
    return int(factor) if factor.is_integer() and factor >= 1 and axis.after == axis.before * int(factor) else None


def _interpolated(b: Builder, x: Tensor, axis: Axis, rules: Rules) -> Tensor:
    k = axis.number
    kind = DTYPES[x.dtype.compute]
    taps, start, shrink = _footprint(b, axis, rules)

    def place(i: Extent) -> tuple[Expr, Expr]:
        """The first element that counts, and the distance from the one before the coordinate, above 0 and up to 1."""
        at = _coordinate(b, i, axis, rules)
        base = e.unary("ceil", at) - 1.0
        return e.cast(base, I64) + start, at - base

    def weight(tap: Extent, i: Extent) -> Expr:
        first, ratio = place(i)
        distance = e.unary("abs", (_f64(tap) + e.cast(start, F64) - ratio) * shrink)
        value = _kernel(distance, rules)
        if rules.exclude_outside:
            source = first + e.dimval(tap)
            value = e.where((source >= 0) & (source < e.dimval(axis.before)), value, e.lit(0.0, F64))
        return value

    sources = b.compute((taps, axis.after), lambda tap, i: _inside(place(i)[0] + e.dimval(tap), axis.before), I64)
    weights = b.compute((taps, axis.after), lambda tap, i: e.cast(weight(tap, i), kind), kind)

    def term(i: Index, tap: Extent) -> Expr:
        return weights[(tap, i[k])] * x[(*i[:k], sources[(tap, i[k])], *i[k + 1 :])]

    shape = (*x.shape[:k], axis.after, *x.shape[k + 1 :])
    if taps == 2:
        total = b.compute(shape, lambda *i: term(i, 0) + term(i, 1), kind)
    else:
        total = b.reduction("sum", shape, (taps,), lambda p, r: term(p, r[0]), kind)
    if rules.antialias or rules.exclude_outside:
        sums = b.reduction("sum", (axis.after,), (taps,), lambda p, r: weight(r[0], p[0]), F64)
        plain = total
        total = b.compute(shape, lambda *i: plain[i] / e.cast(_not_zero(sums[(i[k],)]), kind), kind)
    total = _extrapolated(b, total, axis, rules)
    return b.cast(total, x.dtype)


def _not_zero(value: Expr) -> Expr:
    return e.where(e.eq(value, 0.0), e.lit(1.0, F64), value)


def _footprint(b: Builder, axis: Axis, rules: Rules) -> tuple[Extent, Expr, Expr]:
    """How many elements an output is made of, where they begin, and by how much their distances shrink."""
    reach = rules.reach
    if not rules.antialias:
        return 2 * reach, e.lit(1 - reach, I64), e.lit(1.0, F64)
    shrink = _extreme("min", axis.scale, e.lit(1.0, F64))
    if isinstance(shrink, e.Lit):
        start: Expr = e.lit(math.floor(-reach / float(shrink.value)) + 1, I64)
    else:
        start = e.cast(e.unary("floor", -float(reach) / shrink), I64) + 1
    (taps,) = settle(b, [2 - start * 2])
    return taps, start, shrink


def _kernel(distance: Expr, rules: Rules) -> Expr:
    """The weight of an element at a distance."""
    if rules.mode == "linear":
        return e.binary("max", 1.0 - distance, 0.0)
    return cubic_weight(distance, rules.cubic_a)


def cubic_weight(distance: Expr, a: float) -> Expr:
    """Keys' cubic convolution kernel."""
    near = ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1.0
    far = ((a * distance - 5.0 * a) * distance + 8.0 * a) * distance - 4.0 * a
    return e.where(distance <= 1.0, near, e.where(distance < 2.0, far, e.lit(0.0, distance.dtype)))
