"""onnxruntime's operators of linear algebra, signals and images (domain com.microsoft)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F64, I8, I32, I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS, normal_axis, wide
from onnx_numba.ops.conv import conv_transpose
from onnx_numba.ops.matmul import matmul
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import elements, settle
from onnx_numba.ops.signal import complex_lines, transform
from onnx_numba.ops.softmax import softmax_over
from onnx_numba.templates.linalg import distances
from onnx_numba.templates.linalg import inverse as inverse_kernel
from onnx_numba.templates.path import cheapest_path

Extent = Dim | int
Ints = Sequence[int] | None


@op("Inverse", since=1, domain=MS)
def inverse(b: Builder, x: Tensor) -> Tensor:
    """The inverses of the matrices in the last two axes."""
    if x.rank < 2:
        b.fail(f"a matrix is needed, not a tensor with {x.rank} axes")
    b.require_equal(x.shape[-2], x.shape[-1], "rows of the matrix")
    kind, batch, n = wide(x.dtype), x.shape[:-2], x.shape[-1]
    result, _work = b.template(
        inverse_kernel, [b.cast(x, kind)], [(kind, x.shape), (kind, x.shape)],
        total=d.product(batch), dims=(n,), grain=16, types={"X": kind},
    )  # fmt: skip
    return b.cast(result, x.dtype)


@op("TransposeMatMul", since=1, domain=MS)
def transpose_matmul(b: Builder, x: Tensor, y: Tensor, *, transA: int = 0, transB: int = 0, alpha: float = 1.0) -> Tensor:
    """``alpha x y`` of matrices that may be given transposed."""
    left, right = (_turned(b, t) if turn else t for t, turn in ((x, transA), (y, transB)))
    result = matmul(b, left, right)
    return result if alpha == 1 else b.map(lambda v: alpha * v, result)


def _turned(b: Builder, x: Tensor) -> Tensor:
    """Matrices transposed; a vector stays what it is."""
    return x if x.rank < 2 else b.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


@op("ConvTransposeWithDynamicPads", since=1, domain=MS)
def conv_transpose_with_dynamic_pads(
    b: Builder, x: Tensor, w: Tensor, pads: Tensor | None = None, bias: Tensor | None = None, *, auto_pad: str = "NOTSET",
    dilations: Ints = None, group: int = 1, kernel_shape: Ints = None, output_padding: Ints = None, strides: Ints = None,
) -> Tensor:  # fmt: skip
    """The standard's transposed convolution, padding given as an input."""
    if pads is not None:
        b.require_equal(pads.size, 2 * (x.rank - 2), "number of pads")
    return conv_transpose(
        b, x, w, bias, auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape,
        output_padding=output_padding, pads=None if pads is None else settle(b, elements(b, pads, "pads")), strides=strides,
    )  # fmt: skip


@op("DynamicTimeWarping", since=1, domain=MS)
def dynamic_time_warping(b: Builder, x: Tensor) -> Tensor:
    """The cheapest path through a matrix of costs, from its first element to its last: the row and the column of every step."""
    if x.rank == 3:
        b.require_equal(x.shape[0], 1, "batch")
    elif x.rank != 2:
        b.fail(f"a matrix is expected, an input of rank {x.rank} came")
    rows, columns = x.shape[-2:]
    longest = rows + columns
    steps, found, _cost, _way = b.template(
        cheapest_path, [x], [(I32, (longest, 2)), (I64, (1,)), (x.dtype, (columns + 1,)), (I8, (rows, columns))],
        dims=(rows, columns), types={"X": x.dtype},
    )  # fmt: skip
    (count,) = b.dims(found)
    return b.compute((2, count), lambda part, k: steps[(count - 1 - k, part)], I32)


@op("CDist", since=1, domain=MS)
def cdist(b: Builder, x: Tensor, y: Tensor, *, metric: str = "sqeuclidean") -> Tensor:
    """The distances of the rows of two matrices, squared or not."""
    if metric not in ("euclidean", "sqeuclidean"):
        b.unsupported(f"metric {metric!r}")
    b.require_equal(y.shape[1], x.shape[1], "columns of the second matrix")

    rows, columns = x.shape[0], y.shape[0]
    kind = wide(x.dtype)
    (result,) = b.template(
        distances, [b.cast(x, kind), b.transpose(b.cast(y, kind), (1, 0))], [(kind, (rows, columns))], total=rows,
        dims=(x.shape[1], columns), types={"X": kind}, constants={"ROOT": metric == "euclidean"},
    )  # fmt: skip
    return b.cast(result, x.dtype)


@op("ComplexMul", since=1, domain=MS)
def complex_mul(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """The product of complex numbers, given by their parts in the last axis."""
    return _complex_product(b, x, y, 1.0)


@op("ComplexMulConj", since=1, domain=MS)
def complex_mul_conj(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """The same with the conjugate of the second factor."""
    return _complex_product(b, x, y, -1.0)


def _complex_product(b: Builder, x: Tensor, y: Tensor, sign: float) -> Tensor:
    b.require_equal(x.shape[-1], 2, "parts of a complex number")
    b.require_equal(y.shape[-1], 2, "parts of a complex number")
    shape = (*b.broadcast_shapes(x.shape[:-1], y.shape[:-1]), 2)

    def element(*i: Dim) -> Expr:
        (a, c), (u, v) = ([b.broadcast_load(t, (*i[:-1], k), shape) for k in range(2)] for t in (x, y))
        return e.where(e.eq(e.dimval(i[-1]), 0), a * u - c * (sign * v), a * (sign * v) + c * u)

    return b.compute(shape, element, x.dtype)


@op("Rfft", since=1, domain=MS)
def rfft(b: Builder, x: Tensor, *, normalized: int = 0, onesided: int = 1, signal_ndim: int = 1) -> Tensor:
    """The Fourier transform of real signals over the last axes; of the last of them the first half."""
    _check_transform(b, x.rank, normalized, onesided, signal_ndim)
    lines = complex_lines(b, x.shape, lambda *i: x[i[:-1]], 1, x.dtype)
    result = transform(b, lines, d.floordiv(x.shape[-1], 2) + 1, False)
    for axis in range(x.rank - signal_ndim, x.rank - 1):
        result = _along(b, result, axis, False)
    return b.cast(result, x.dtype)


@op("Irfft", since=1, domain=MS)
def irfft(b: Builder, x: Tensor, *, signal_ndim: int, normalized: int = 0, onesided: int = 1) -> Tensor:
    """The real signals, of an even number of elements, whose transforms `rfft` gives."""
    rank = x.rank - 1
    _check_transform(b, rank, normalized, onesided, signal_ndim)
    b.require_equal(x.shape[-1], 2, "parts of a complex number")
    values = b.cast(x, F64)
    for axis in range(rank - signal_ndim, rank - 1):
        values = _along(b, values, axis, True)
    half = x.shape[-2]
    b.require_equal(d.compare("le", 2, half), 1, f"two frequencies at least, {half} came")
    n = (half - 1) * 2

    def element(*i: Dim) -> Expr:
        mirrored = e.dimval(i[-2]) >= e.dimval(half)
        at = e.as_index(e.where(mirrored, e.dimval(n - i[-2]), e.dimval(i[-2])))
        value = values[(*i[:-2], at, i[-1])]
        return e.where(mirrored & e.eq(e.dimval(i[-1]), 1), -value, value)

    result = transform(b, b.compute((*x.shape[:-2], n, 2), element, F64), n, True)
    count = d.product((*x.shape[rank - signal_ndim : -2], n))
    return b.compute(result.shape[:-1], lambda *i: result[(*i, 0)] / e.cast(e.dimval(count), F64), x.dtype)


def _check_transform(b: Builder, rank: int, normalized: int, onesided: int, signal_ndim: int) -> None:
    if normalized or not onesided:
        b.unsupported(f"normalized={normalized}, onesided={onesided}")
    if not 1 <= signal_ndim <= rank:
        b.fail(f"signal_ndim must be 1 to {rank}, not {signal_ndim}")


def _along(b: Builder, x: Tensor, axis: int, inverse_: bool) -> Tensor:
    """The whole transform of complex numbers along an axis."""
    order = [*(k for k in range(x.rank - 1) if k != axis), axis, x.rank - 1]
    result = transform(b, b.transpose(x, order), x.shape[axis], inverse_)
    return b.transpose(result, [order.index(k) for k in range(x.rank)])


@op("BiasSoftmax", since=1, domain=MS)
def bias_softmax(b: Builder, x: Tensor, bias: Tensor, *, is_inner_broadcast: int, axis: int = 1) -> Tensor:
    """Softmax over all axes from one on of the sum with a bias, which serves several rows: a run of them, or every so many."""
    first = normal_axis(b, axis, x.rank)
    count = d.product(x.shape[first:])
    rows, given = d.product(x.shape[:first]), d.floordiv(bias.size, count)
    if given == 0:
        b.fail(f"a bias of {bias.size} elements for rows of {count}")
    shared = d.floordiv(rows, given)
    shape = (given, shared, count) if is_inner_broadcast else (shared, given, count)
    biases = b.reshape(bias, (given, 1, count) if is_inner_broadcast else (1, given, count))
    kind = wide(x.dtype)
    sums = b.map(lambda v, w: v + w, b.reshape(x, shape), biases, dtype=kind)
    return b.cast(b.reshape(softmax_over(b, sums, range(2, 3)), x.shape), x.dtype)


@op("BiasSplitGelu", since=1, domain=MS)
def bias_split_gelu(b: Builder, x: Tensor, bias: Tensor) -> Tensor:
    """A biased tensor cut in two along its last axis: the first half times Gelu of the second."""
    half = d.floordiv(x.shape[-1], 2)
    b.require_equal(half * 2, x.shape[-1], "an even extent of the last axis")
    b.require_equal(bias.shape[-1], x.shape[-1], "extent of the bias")

    def element(*i: Dim) -> Expr:
        left, right = (x[(*i[:-1], at)] + bias[(at,)] for at in (i[-1], i[-1] + half))
        return left * (0.5 * right * (1.0 + e.unary("erf", right * math.sqrt(0.5))))

    return b.compute((*x.shape[:-1], half), element, x.dtype)


@op("BiasAdd", since=1, domain=MS)
def bias_add(b: Builder, x: Tensor, bias: Tensor, skip: Tensor) -> Tensor:
    """A tensor, a bias for its last axis and another tensor added."""
    return b.map(lambda v, w, s: v + w + s, x, bias, skip)
