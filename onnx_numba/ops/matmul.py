"""Matrix products: MatMul, Gemm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Contraction, Shape, Tensor
from onnx_numba.ir.types import DType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import wide
from onnx_numba.ops.registry import op

Extent = Dim | int
Index = tuple[Dim, ...]


@op("MatMul", since=1, reviewed=13)
def matmul(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """NumPy's matrix product: leading dims broadcast, vectors are rows on the left and columns on the right."""
    if not x.rank or not y.rank:
        b.fail("a scalar cannot be multiplied as a matrix")
    left = x if x.rank > 1 else b.reshape(x, (1, *x.shape))
    right = y if y.rank > 1 else b.reshape(y, (*y.shape, 1))
    return without_vectors(b, product(b, left, right), x, y)


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


@op("Gemm", since=1, reviewed=6)
def gemm_1(
    b: Builder, x: Tensor, y: Tensor, c: Tensor, *, transA: int, transB: int, alpha: float, beta: float, broadcast: int
) -> Tensor:  # fmt: skip
    """``alpha x y + beta c``; ``c`` may broadcast as it may in later versions, whatever the attribute says."""
    return gemm(b, x, y, c, transA=transA, transB=transB, alpha=alpha, beta=beta)


@op("Gemm", since=7, reviewed=13)
def gemm(
    b: Builder, x: Tensor, y: Tensor, c: Tensor | None = None, *, transA: int, transB: int, alpha: float, beta: float
) -> Tensor:  # fmt: skip
    """``alpha x y + beta c`` of matrices that may be given transposed."""
    if x.rank != 2 or y.rank != 2:
        b.fail(f"two matrices are expected, inputs of rank {x.rank} and {y.rank} came")
    result = contract(b, x, y, lambda left, right: _transposed_product(b, left, right, bool(transA), bool(transB)))
    if alpha != 1:
        result = b.map(lambda v: _scaled(v, alpha), result)
    if c is None or beta == 0:
        return result
    return b.map(lambda v, w: v + (w if beta == 1 else _scaled(w, beta)), result, b.expand(c, result.shape))


def _transposed_product(b: Builder, x: Tensor, y: Tensor, trans_a: bool, trans_b: bool) -> Tensor:
    rows, depth = x.shape[::-1] if trans_a else x.shape
    inner, columns = y.shape[::-1] if trans_b else y.shape
    b.require_equal(inner, depth, "rows of the second matrix")

    def element(p: Index, r: Index) -> Expr:
        left = x[(r[0], p[0])] if trans_a else x[(p[0], r[0])]
        return left * (y[(p[1], r[0])] if trans_b else y[(r[0], p[1])])

    hint = Contraction("matmul", (x, y), {"trans_a": trans_a, "trans_b": trans_b})
    return b.reduction("sum", (rows, columns), (depth,), element, x.dtype, hint)


def _scaled(value: Expr, factor: float) -> Expr:
    """A product with a float, taken as float where the value is an integer."""
    if value.dtype.is_float:
        return factor * value
    return e.cast(factor * e.cast(value, e.F64), value.dtype)
