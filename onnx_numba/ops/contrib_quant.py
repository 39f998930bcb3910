"""onnxruntime's operators on 8-bit tensors, element by element (domain com.microsoft), rounded as its x86 kernels round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr, where
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F32, F64, I32, U32, DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS, normal_axis
from onnx_numba.ops.quant import quantised
from onnx_numba.ops.reduce import axes_known, fold, mean
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import wrap_axis


def one_number(b: Builder, p: Tensor | None, dtype: DType, what: str) -> Tensor:
    """A scale or zero point that holds for the whole tensor, as a scalar; a zero point that is left out is 0."""
    if p is None:
        return b.full((), 0, dtype)
    b.require_equal(p.size, 1, f"number of elements of the {what}")
    return b.reshape(p, ())


def dequantised(v: Expr, scale: Expr, zero: Expr) -> Expr:
    """An element's value."""
    return e.cast(scale, F32) * e.cast(e.cast(v, I32) - e.cast(zero, I32), F32)


def as_floats(b: Builder, x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """The values of a quantised tensor."""
    return b.map(dequantised, x, one_number(b, scale, F32, "scale"), one_number(b, zero, x.dtype, "zero point"), dtype=F32)


def requantised(b: Builder, values: Tensor, scale: Tensor, zero: Tensor | None, dtype: DType) -> Tensor:
    """Values as a quantised tensor."""
    parameters = one_number(b, scale, F32, "scale"), one_number(b, zero, dtype, "zero point")
    return b.map(lambda v, s, z: quantised(v / s, z, dtype), values, *parameters, dtype=dtype)


def _mapped(
    b: Builder, function: Callable[[Expr], Expr], x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor,
    y_zero: Tensor | None,
) -> Tensor:  # fmt: skip
    """``function`` of the values, quantised: what onnxruntime reads from a table of 256 results."""
    return requantised(b, b.map(function, as_floats(b, x, x_scale, x_zero)), y_scale, y_zero, x.dtype)


@op("QLinearSigmoid", since=1, domain=MS)
def qlinear_sigmoid(b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None) -> Tensor:
    """The logistic function."""
    return _mapped(b, lambda v: e.unary("sigmoid", v), x, x_scale, x_zero, y_scale, y_zero)


@op("QLinearLeakyRelu", since=1, domain=MS)
def qlinear_leaky_relu(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None, *,
    alpha: float = 0.01,
) -> Tensor:  # fmt: skip
    """Negative values times alpha."""
    return _mapped(b, lambda v: where(v >= 0, v, alpha * v), x, x_scale, x_zero, y_scale, y_zero)


@op("QLinearWhere", since=1, domain=MS)
def qlinear_where(
    b: Builder, condition: Tensor, x: Tensor, x_scale: Tensor, x_zero: Tensor, y: Tensor, y_scale: Tensor, y_zero: Tensor,
    z_scale: Tensor, z_zero: Tensor,
) -> Tensor:  # fmt: skip
    """Elements of one of two tensors, in a common scale."""
    first = _mapped(b, lambda v: v, x, x_scale, x_zero, z_scale, z_zero)
    second = _mapped(b, lambda v: v, y, y_scale, y_zero, z_scale, z_zero)
    return b.map(lambda c, v, w: where(c, v, w), condition, first, second, dtype=z_zero.dtype)


@op("QLinearConcat", since=1, domain=MS)
def qlinear_concat(b: Builder, y_scale: Tensor, y_zero: Tensor, *inputs: Tensor, axis: int) -> Tensor:
    """Tensors side by side, in a common scale; each comes with its scale and zero point."""
    if not inputs or len(inputs) % 3:
        b.fail(f"a tensor, a scale and a zero point are expected for each input, {len(inputs)} tensors came")
    triples = zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True)
    parts = [_mapped(b, lambda v: v, x, scale, zero, y_scale, y_zero) for x, scale, zero in triples]
    return b.concat(parts, wrap_axis(b, axis, parts[0].rank))


@op("QLinearAdd", since=1, domain=MS)
def qlinear_add(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y: Tensor, y_scale: Tensor, y_zero: Tensor | None, out_scale: Tensor,
    out_zero: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The sum of two quantised tensors, quantised; what does not depend on the elements comes first, as in onnxruntime."""
    scale = one_number(b, out_scale, F32, "scale")
    ratios = [b.map(lambda s, out: s / out, one_number(b, s, F32, "scale"), scale) for s in (x_scale, y_scale)]
    zeros = [one_number(b, z, x.dtype, "zero point") for z in (x_zero, y_zero, out_zero)]

    def fixed(left: Expr, right: Expr, left_zero: Expr, right_zero: Expr, zero: Expr) -> Expr:
        return e.cast(zero, F32) - (left * e.cast(left_zero, F32) + right * e.cast(right_zero, F32))

    start = b.map(fixed, *ratios, *zeros, dtype=F32)

    def element(v: Expr, w: Expr, left: Expr, right: Expr, first: Expr) -> Expr:
        sum_ = e.Op("fma", (e.cast(w, F32), right, first), F32)
        return quantised(e.Op("fma", (e.cast(v, F32), left, sum_), F32), None, x.dtype)

    return b.map(element, x, y, *ratios, start, dtype=x.dtype)


@op("QLinearMul", since=1, domain=MS)
def qlinear_mul(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y: Tensor, y_scale: Tensor, y_zero: Tensor | None, out_scale: Tensor,
    out_zero: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The product of two quantised tensors, quantised."""
    scales = [one_number(b, s, F32, "scale") for s in (x_scale, y_scale, out_scale)]
    ratio = b.map(lambda left, right, out: left * right / out, *scales)
    zero = one_number(b, out_zero, x.dtype, "zero point")

    def element(v: Expr, factor: Expr, z: Expr) -> Expr:
        return quantised(e.cast(v, F32) * factor + e.cast(z, F32), None, x.dtype)

    return b.map(element, mul_integer(b, x, x_zero, y, y_zero), ratio, zero, dtype=x.dtype)


@op("MulInteger", since=1, domain=MS)
def mul_integer(b: Builder, x: Tensor, x_zero: Tensor | None, y: Tensor, y_zero: Tensor | None = None) -> Tensor:
    """The product of two integer tensors from each of which a zero point is taken, in int32."""
    zeros = [one_number(b, z, t.dtype, "zero point") for z, t in ((x_zero, x), (y_zero, y))]

    def element(v: Expr, w: Expr, left: Expr, right: Expr) -> Expr:
        return (e.cast(v, I32) - e.cast(left, I32)) * (e.cast(w, I32) - e.cast(right, I32))

    return b.map(element, x, y, *zeros, dtype=I32)


@op("QLinearSoftmax", since=1, domain=MS)
def qlinear_softmax(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None, *, opset: int,
    axis: int = -1,
) -> Tensor:  # fmt: skip
    """Exponentials divided by their sum over an axis (before version 13 over all from it on), quantised.

    As in onnxruntime the exponentials come from a table of what lies 0 … 255 steps below the greatest element, and the scale of the
    result is 1 over a whole number.
    """
    first = normal_axis(b, axis, x.rank)
    axes = range(first, x.rank if opset < 13 else first + 1)
    extent = d.product(x.shape[a] for a in axes)
    terms = b.map(lambda v, t: e.cast(t, I32) - e.cast(v, I32), x, b.reduce("max", x, axes, True), dtype=I32)
    table = _decay(b, one_number(b, x_scale, F32, "scale"), extent)
    exponentials = b.compute(x.shape, lambda *i: table[(terms[i],)], F32)
    total = b.reduce("sum", exponentials, axes, True)
    steps = b.map(lambda s: e.unary("floor", 1.0 / s), one_number(b, y_scale, F32, "scale"))
    zero = one_number(b, y_zero, x.dtype, "zero point")
    return b.map(lambda v, t, n, z: quantised(v * n / t, z, x.dtype), exponentials, total, steps, zero, dtype=x.dtype)


def _decay(b: Builder, scale: Tensor, extent: Dim | int) -> Tensor:
    """``exp(-k scale)`` for k of 0 … 255, times a power of e that lets ``extent`` of them just not overflow a float32."""
    greatest = e.lit(math.log(float(np.finfo(np.float32).max)) - 5.0, F64)

    def element(k: Dim) -> Expr:
        step = e.cast(scale[()], F64)
        room = e.binary("max", greatest - e.unary("log", e.cast(e.dimval(extent), F64)), 0.0)
        return e.cast(e.unary("exp", (room / step - e.cast(e.dimval(k), F64)) * step), F32)

    return b.compute((256,), element, F32)


@op("QLinearReduceMean", since=1, domain=MS)
def qlinear_reduce_mean(
    b: Builder, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None, *,
    axes: Sequence[int], keepdims: int,
) -> Tensor:  # fmt: skip
    """The mean over axes, quantised."""
    means = mean(b, as_floats(b, x, x_scale, x_zero), axes_known(b, axes, x.rank), bool(keepdims))
    return requantised(b, means, y_scale, y_zero, x.dtype)


@op("ReduceSumInteger", since=1, domain=MS)
def reduce_sum_integer(b: Builder, x: Tensor, *, axes: Sequence[int], keepdims: int) -> Tensor:
    """The sum over axes in 32 bits."""
    return fold(b, "sum", x, axes_known(b, axes, x.rank), bool(keepdims), U32 if x.dtype.kind == "u" else I32)
