"""Normalisations: compositions of reductions and maps, computed in at least float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import BY_ONNX, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import channel_view, normal_axes, normal_axis, require_broadcast, require_shape, wide
from onnx_numba.ops.reduce import axes_known, mean
from onnx_numba.ops.registry import op


def _moments(b: Builder, x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean and variance over the axes, which are kept; the variance from the deviations, so that nothing cancels."""
    kind, over = wide(x.dtype), axes_known(b, axes, x.rank)
    center = mean(b, b.cast(x, kind), over, True)
    squares = b.map(lambda v, m: (v - m) * (v - m), x, center, dtype=kind)
    return center, mean(b, squares, over, True)


def _inverse_root(v: Expr, epsilon: float) -> Expr:
    return 1.0 / e.unary("sqrt", v + epsilon)


def _scaled(b: Builder, x: Tensor, center: Tensor, spread: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """``(x - center) * spread * scale + bias`` in the wide type, with the type of ``x`` at the end."""
    kind = wide(x.dtype)
    extra = [t for t in (scale, bias) if t is not None]

    def element(v: Expr, m: Expr, s: Expr, *more: Expr) -> Expr:
        result = (v - m) * s
        values = iter(more)
        if scale is not None:
            result = result * e.cast(next(values), kind)
        return result if bias is None else result + e.cast(next(values), kind)

    return b.map(element, x, center, spread, *extra, dtype=x.dtype)


def _stash(b: Builder, x: Tensor, stash_type: int) -> DType:
    """The type in which moments are given out; they are computed in the wide type of the input, which is no narrower."""
    if stash_type not in BY_ONNX:
        b.fail(f"stash_type {stash_type} is not an element type")
    return BY_ONNX[stash_type]


@op("LayerNormalization", since=17)
def layer_normalization(
    b: Builder, x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int, epsilon: float, stash_type: int
) -> tuple[Tensor | None, ...]:
    """Over all axes from one on; gives mean and inverse standard deviation too."""
    axes = range(normal_axis(b, axis, x.rank), x.rank)
    for name, given in (("Scale", scale), ("B", bias)):
        if given is not None:
            require_broadcast(b, given.shape, x.shape, name)
    center, variance = _moments(b, x, axes)
    spread = b.map(lambda v: _inverse_root(v, epsilon), variance)
    stash = _stash(b, x, stash_type)
    return _scaled(b, x, center, spread, scale, bias), b.cast(center, stash), b.cast(spread, stash)


@op("RMSNormalization", since=23)
def rms_normalization(b: Builder, x: Tensor, scale: Tensor, *, axis: int, epsilon: float, stash_type: int = 1) -> Tensor:
    """Divided by the root of the mean square over all axes from one on; the result has the scale's type."""
    return root_mean_square(b, x, scale, axis=axis, epsilon=epsilon, stash_type=stash_type)[0]


def root_mean_square(b: Builder, x: Tensor, scale: Tensor, *, axis: int, epsilon: float, stash_type: int) -> tuple[Tensor, Tensor]:
    """`rms_normalization` and the inverse of the root."""
    require_broadcast(b, scale.shape, x.shape, "scale")
    kind = wide(x.dtype)
    over = axes_known(b, tuple(range(normal_axis(b, axis, x.rank), x.rank)), x.rank)
    squares = b.map(lambda v: v * v, x, dtype=kind)
    spread = b.map(lambda v: _inverse_root(v, epsilon), mean(b, squares, over, True))
    result = b.map(lambda v, s, w: e.cast(v * s, scale.dtype) * w, x, spread, scale, dtype=scale.dtype)
    return result, b.cast(spread, _stash(b, x, stash_type))


def _group_normalization(
    b: Builder, x: Tensor, scale: Tensor, bias: Tensor, epsilon: float, groups: int, per_channel: bool
) -> Tensor:
    """Over the channels of a group and all positions, in a view [N, groups, channels of a group, positions]."""
    if x.rank < 3 or groups < 1:
        b.fail(f"an input of rank {x.rank} and {groups} groups")
    n, channels = x.shape[:2]
    size = d.floordiv(channels, groups)
    b.require_equal(size * groups, channels, f"channels that {groups} groups share")
    for name, given in (("scale", scale), ("bias", bias)):
        require_shape(b, given, (channels if per_channel else groups,), name)
    view = b.reshape(x, (n, groups, size, d.product(x.shape[2:])))
    center, variance = _moments(b, view, (2, 3))
    spread = b.map(lambda v: _inverse_root(v, epsilon), variance)
    shape = (1, groups, size if per_channel else 1, 1)
    return b.reshape(_scaled(b, view, center, spread, b.reshape(scale, shape), b.reshape(bias, shape)), x.shape)


@op("GroupNormalization", since=21)
def group_normalization(
    b: Builder, x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float, num_groups: int, stash_type: int = 1
) -> Tensor:
    """Over the channels of a group and all positions; scale and bias per channel."""
    return _group_normalization(b, x, scale, bias, epsilon, num_groups, True)


@op("GroupNormalization", since=18)
def group_normalization_18(
    b: Builder, x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float, num_groups: int
) -> Tensor:
    """Version 18, with scale and bias per group."""
    return _group_normalization(b, x, scale, bias, epsilon, num_groups, False)


@op("InstanceNormalization", since=1, reviewed=22)
def instance_normalization(
    b: Builder, x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float, consumed_inputs: Any = None
) -> Tensor:
    """Over all positions of a channel."""
    if x.rank < 2:
        b.fail(f"an input of rank {x.rank}, which has no channels")
    require_shape(b, scale, (x.shape[1],), "scale")
    require_shape(b, bias, (x.shape[1],), "B")
    center, variance = _moments(b, x, range(2, x.rank))
    spread = b.map(lambda v: _inverse_root(v, epsilon), variance)
    return _scaled(b, x, center, spread, channel_view(b, scale, x.rank), channel_view(b, bias, x.rank))


# ---- batch normalisation

_PARAMETERS = ("scale", "B", "input_mean", "input_var")


def _batch_norm(b: Builder, x: Tensor, parameters: Sequence[Tensor], epsilon: float) -> Tensor:
    """``(x - mean) / sqrt(var + epsilon) * scale + bias`` with parameters shaped to broadcast."""
    kind = wide(x.dtype)
    scale, bias, center, variance = parameters
    # As a tensor of its own, it is computed once where the model fixes it.
    factor = b.map(lambda s, w: e.cast(s, kind) * _inverse_root(e.cast(w, kind), epsilon), scale, variance, dtype=kind)
    return b.map(lambda v, f, t, m: (v - e.cast(m, kind)) * f + e.cast(t, kind), x, factor, bias, center, dtype=x.dtype)


def _running(b: Builder, old: Tensor, new: Tensor, momentum: float) -> Tensor:
    return b.map(lambda o, n: o * momentum + e.cast(n, wide(old.dtype)) * (1 - momentum), old, new, dtype=old.dtype)


def _channel_moments(b: Builder, x: Tensor) -> tuple[Tensor, Tensor]:
    axes = [k for k in range(x.rank) if k != 1]
    channels = x.shape[1]
    center, variance = _moments(b, x, axes)
    return b.reshape(center, (channels,)), b.reshape(variance, (channels,))


def _views(b: Builder, x: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    for name, t in zip(_PARAMETERS, parameters, strict=True):
        require_shape(b, t, (x.shape[1] if x.rank > 1 else 1,), name)
    return [channel_view(b, t, x.rank, min(1, x.rank - 1)) for t in parameters]


@op("BatchNormalization", since=14, reviewed=15)
def batch_normalization(
    b: Builder, x: Tensor, scale: Tensor, bias: Tensor, center: Tensor, variance: Tensor, *, epsilon: float, momentum: float,
    training_mode: int,
) -> Any:  # fmt: skip
    """By given moments, or in training by those of the batch, from which running ones follow."""
    if not training_mode:
        return _batch_norm(b, x, _views(b, x, (scale, bias, center, variance)), epsilon)
    _views(b, x, (scale, bias, center, variance))
    batch_center, batch_variance = _channel_moments(b, x)
    result = _batch_norm(b, x, _views(b, x, (scale, bias, batch_center, batch_variance)), epsilon)
    return result, _running(b, center, batch_center, momentum), _running(b, variance, batch_variance, momentum)


def _legacy_batch_norm(
    b: Builder, x: Tensor, parameters: tuple[Tensor, ...], epsilon: float, momentum: float, spatial: int
) -> Any:
    """Before version 14 a node trains if more outputs than the first are used.

    Attributes said so too in some versions, but exporters of the time left them at defaults that mean training in models made
    for inference.
    """
    scale, bias, center, variance = parameters
    if not any(b.wanted[1:]):
        if spatial:
            return _batch_norm(b, x, _views(b, x, parameters), epsilon)
        return _batch_norm(b, x, [b.reshape(t, (1, *x.shape[1:])) for t in parameters], epsilon)
    if spatial:
        _views(b, x, parameters)
        batch_center, batch_variance = _channel_moments(b, x)
        result = _batch_norm(b, x, _views(b, x, (scale, bias, batch_center, batch_variance)), epsilon)
    else:
        batch_center, batch_variance = (b.reshape(t, x.shape[1:]) for t in _moments(b, x, (0,)))
        every = (scale, bias, batch_center, batch_variance)
        result = _batch_norm(b, x, [b.reshape(t, (1, *x.shape[1:])) for t in every], epsilon)
    running = (_running(b, center, batch_center, momentum), _running(b, variance, batch_variance, momentum))
    return result, *running, b.cast(batch_center, center.dtype), b.cast(batch_variance, variance.dtype)


@op("BatchNormalization", since=9)
def batch_normalization_9(
    b: Builder, x: Tensor, scale: Tensor, bias: Tensor, center: Tensor, variance: Tensor, *, epsilon: float, momentum: float
) -> Any:
    """Version 9."""
    return _legacy_batch_norm(b, x, (scale, bias, center, variance), epsilon, momentum, 1)


@op("BatchNormalization", since=1, reviewed=7)
def batch_normalization_1(
    b: Builder, x: Tensor, scale: Tensor, bias: Tensor, center: Tensor, variance: Tensor, *, epsilon: float, momentum: float,
    spatial: int, is_test: int = 0, consumed_inputs: Any = None,
) -> Any:  # fmt: skip
    """Versions 1, 6 and 7, which may have parameters per activation instead of per channel."""
    return _legacy_batch_norm(b, x, (scale, bias, center, variance), epsilon, momentum, spatial)


# ---- others


@op("LpNormalization", since=1, reviewed=22)
def lp_normalization(b: Builder, x: Tensor, *, axis: int, p: int) -> Tensor:
    """Divided by the 1- or 2-norm along an axis; where that is 0 the result is 0."""
    if p not in (1, 2):
        b.fail(f"p must be 1 or 2, not {p}")
    kind, over = wide(x.dtype), [normal_axis(b, axis, x.rank)]
    magnitude: Callable[[Expr], Expr] = (lambda v: v * v) if p == 2 else (lambda v: e.unary("abs", v))
    total = b.reduce("sum", x, over, True, kind, magnitude)
    norm = b.map(lambda s: e.unary("sqrt", s), total) if p == 2 else total
    return b.map(lambda v, n: e.where(e.eq(n, 0.0), 0.0, v / n), x, norm, dtype=x.dtype)


@op("MeanVarianceNormalization", since=9, reviewed=13)
def mean_variance_normalization(b: Builder, x: Tensor, *, axes: tuple[int, ...]) -> Tensor:
    """Mean 0 and variance 1 over the axes."""
    center, variance = _moments(b, x, normal_axes(b, axes, x.rank))
    # The standard adds 1e-9 to the standard deviation here, not to the variance.
    spread = b.map(lambda v: 1.0 / (e.unary("sqrt", v) + 1e-9), variance)
    return _scaled(b, x, center, spread, None, None)


@op("LRN", since=1, reviewed=13)
def lrn(b: Builder, x: Tensor, *, alpha: float, beta: float, bias: float, size: int) -> Tensor:
    """Divided by a power of the sum of squares over neighbouring channels."""
    if x.rank < 2 or size < 1:
        b.fail(f"an input of rank {x.rank} and a size of {size}")
    kind, before, channels = wide(x.dtype), (size - 1) // 2, x.shape[1]

    def square(p: tuple[Dim, ...], r: tuple[Dim, ...]) -> Expr:
        channel = p[1] + r[0] - before
        inside = e.all_of(e.compare("le", 0, e.dimval(channel)), e.compare("lt", e.dimval(channel), e.dimval(channels)))
        value = x[(p[0], channel, *p[2:])]
        return e.guard(inside, value * value, 0.0)

    squares = b.reduction("sum", x.shape, (size,), square, kind)

    def element(v: Expr, s: Expr) -> Expr:
        return v / e.binary("pow", bias + (alpha / size) * s, beta)

    return b.map(element, x, squares)
