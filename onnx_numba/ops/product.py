"""Matrix products as reductions: what the operators that multiply matrices share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Contraction, Shape, Tensor
from onnx_numba.ir.types import DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import wide

Extent = Dim | int
Index = tuple[Dim, ...]


def without_vectors(b: Builder, result: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The product of matrices without the axes that x or y, being vectors, did not have."""
    if x.rank > 1 and y.rank > 1:
        return result
    batch, (rows, columns) = result.shape[:-2], result.shape[-2:]
    return b.reshape(result, (*batch, *([rows] if x.rank > 1 else []), *([columns] if y.rank > 1 else [])))


def contract(b: Builder, x: Tensor, y: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``multiply(x, y)`` for sums of products, which reads every element many times.

    16-bit floats are taken as float32 there, so that they are converted once and a tuned kernel can take them; only the result is
    rounded.
    """
    width = wide(x.dtype)
    if width is x.dtype:
        return multiply(x, y)
    left, right = (b.compute(t.shape, lambda *i, t=t: t[i], width) for t in (x, y))
    result = multiply(left, right)
    return b.compute(result.shape, lambda *i: result[i], x.dtype)


def product(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """``x[..., m, k] @ y[..., k, n]``."""
    return contract(b, x, y, lambda left, right: matrix_product(b, left, right, left.dtype))


def matrix_product(b: Builder, x: Tensor, y: Tensor, dtype: DType) -> Tensor:
    """The same with products formed in ``dtype``."""
    depth = x.shape[-1]
    b.require_equal(y.shape[-2], depth, "rows of the second matrix")
    batch = b.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    shape: Shape = (*batch, x.shape[-2], y.shape[-1])

    def element(p: Index, r: Index) -> Expr:
        return e.cast(load(b, x, batch, p[:-2], p[-2], r[0]), dtype) * e.cast(load(b, y, batch, p[:-2], r[0], p[-1]), dtype)

    return b.reduction("sum", shape, (depth,), element, dtype, Contraction("matmul", (x, y), {}))


def load(b: Builder, matrix: Tensor, batch: Shape, at: Sequence[Extent], row: Extent, column: Extent) -> Expr:
    """An element of a matrix in a stack of them that broadcasts to ``batch``."""
    return b.broadcast_load(matrix, (*at, row, column), (*batch, *matrix.shape[-2:]))


def transposed_product(b: Builder, x: Tensor, y: Tensor, trans_a: bool, trans_b: bool) -> Tensor:
    """The product of two matrices either of which may be given transposed."""
    rows, depth = x.shape[::-1] if trans_a else x.shape
    inner, columns = y.shape[::-1] if trans_b else y.shape
    b.require_equal(inner, depth, "rows of the second matrix")

    def element(p: Index, r: Index) -> Expr:
        left = x[(r[0], p[0])] if trans_a else x[(p[0], r[0])]
        return left * (y[(p[1], r[0])] if trans_b else y[(r[0], p[1])])

    hint = Contraction("matmul", (x, y), {"trans_a": trans_a, "trans_b": trans_b})
    return b.reduction("sum", (rows, columns), (depth,), element, x.dtype, hint)
