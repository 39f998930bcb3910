"""onnxruntime's pools and convolutions of 8-bit images (domain com.microsoft), whose channels may lie last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F32, I32
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS
from onnx_numba.ops.contrib_quant import as_floats, one_number
from onnx_numba.ops.pool import average_pool, lowest
from onnx_numba.ops.quant import qlinear_conv, quantised
from onnx_numba.ops.registry import op
from onnx_numba.ops.window import window

Index = tuple[Dim, ...]
Ints = Sequence[int] | None


def channels_first(b: Builder, x: Tensor, channels_last: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``function`` of an image whose channels may lie last, for which they come before the spatial axes."""
    if not channels_last:
        return function(x)
    result = function(b.transpose(x, (0, x.rank - 1, *range(1, x.rank - 1))))
    return b.transpose(result, (0, *range(2, x.rank), 1))


@op("QLinearGlobalAveragePool", since=1, domain=MS)
def qlinear_global_average_pool(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None, *,
    channels_last: int = 0,
) -> Tensor:  # fmt: skip
    """The mean of every channel, quantised: whole numbers are added, then scaled once."""
    axes = range(1, x.rank - 1) if channels_last else range(2, x.rank)
    count = d.product(x.shape[a] for a in axes)
    scales = one_number(b, x_scale, F32, "scale"), one_number(b, y_scale, F32, "scale")
    zeros = [one_number(b, z, x.dtype, "zero point") for z in (x_zero, y_zero)]
    total = b.reduce("sum", x, axes, True, I32)

    def element(v: Expr, left: Expr, out: Expr, zero: Expr, out_zero: Expr) -> Expr:
        factor = left / (out * e.cast(e.dimval(count), F32))
        return quantised(e.cast(v - e.cast(zero, I32) * e.cast(e.dimval(count), I32), F32) * factor, out_zero, x.dtype)

    return b.map(element, total, *scales, *zeros, dtype=x.dtype)


@op("QLinearAveragePool", since=1, domain=MS)
def qlinear_average_pool(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None, *,
    kernel_shape: Sequence[int], auto_pad: str = "NOTSET", ceil_mode: int = 0, channels_last: int = 0, count_include_pad: int = 0,
    pads: Ints = None, strides: Ints = None,
) -> Tensor:  # fmt: skip
    """The mean of every window, quantised; that of the whole image is `qlinear_global_average_pool`, which rounds otherwise."""
    windows: dict[str, Any] = {"auto_pad": auto_pad, "ceil_mode": ceil_mode, "pads": pads, "strides": strides}

    def pooled(image: Tensor) -> Tensor:
        view = window(b, image.shape[2:], kernel_shape, **windows)
        if image.shape[2:] == tuple(kernel_shape) and not view.padded:
            return qlinear_global_average_pool(b, image, x_scale, x_zero, y_scale, y_zero)
        values = as_floats(b, image, x_scale, x_zero)
        means = average_pool(b, values, kernel_shape=kernel_shape, count_include_pad=count_include_pad, **windows)
        parameters = one_number(b, y_scale, F32, "scale"), one_number(b, y_zero, x.dtype, "zero point")
        return b.map(lambda v, s, z: quantised(v / s + e.cast(z, F32), None, x.dtype), means, *parameters, dtype=x.dtype)

    return channels_first(b, x, channels_last, pooled)


@op("QLinearConv", since=1, domain=MS)
def qlinear_conv_nhwc(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor, w: Tensor, w_scale: Tensor, w_zero: Tensor, y_scale: Tensor,
    y_zero: Tensor, bias: Tensor | None = None, *, auto_pad: str = "NOTSET", channels_last: int = 0, dilations: Ints = None,
    group: int = 1, kernel_shape: Ints = None, pads: Ints = None, strides: Ints = None,
) -> Any:  # fmt: skip
    """The standard's convolution of quantised tensors, of images whose channels may lie last."""

    def convolved(image: Tensor) -> Any:
        return qlinear_conv(
            b, image, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias, auto_pad=auto_pad, dilations=dilations,
            group=group, kernel_shape=kernel_shape, pads=pads, strides=strides,
        )  # fmt: skip

    return channels_first(b, x, channels_last, convolved)


@op("NhwcMaxPool", since=1, domain=MS)
def nhwc_max_pool(
    b: Builder, x: Tensor, *, kernel_shape: Sequence[int], auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: Ints = None,
    pads: Ints = None, strides: Ints = None,
) -> Tensor:  # fmt: skip
    """The greatest element of every window of an image whose channels lie last, along which it is computed."""
    view = window(
        b, x.shape[1:-1], kernel_shape, auto_pad=auto_pad, ceil_mode=ceil_mode, dilations=dilations, pads=pads, strides=strides
    )  # fmt: skip

    def element(p: Index, r: Index) -> Expr:
        at, inside = view.source(p[1:-1], r)
        return e.guard(inside, x[(p[0], *at, p[-1])], lowest(x.dtype))

    return b.reduction("max", (x.shape[0], *view.outputs, x.shape[-1]), view.kernel, element, x.dtype)
