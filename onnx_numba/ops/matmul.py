"""Matrix products: MatMul, Gemm."""

from __future__ import annotations

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Dequantised, Tensor
from onnx_numba.ir.types import F32
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import per_position, require_broadcast
from onnx_numba.ops.dequantised import blocks_of, factors, less_zero, rescaled, weight_of, zero_of
from onnx_numba.ops.few_bits import FEW_ROWS, DequantisedBlocks, by_panels
from onnx_numba.ops.integer import integer_product
from onnx_numba.ops.product import contract, product, transposed_product, without_vectors
from onnx_numba.ops.registry import op


@op("MatMul", since=1, reviewed=13)
def matmul(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """NumPy's matrix product: leading dims broadcast, vectors are rows on the left and columns on the right."""
    if not x.rank or not y.rank:
        b.fail("a scalar cannot be multiplied as a matrix")
    left = x if x.rank > 1 else b.reshape(x, (1, *x.shape))
    right = y if y.rank > 1 else b.reshape(y, (*y.shape, 1))
    result = _of_dequantised(b, left, right) or _of_blocks(b, left, right)
    return without_vectors(b, product(b, left, right) if result is None else result, x, y)


def _of_dequantised(b: Builder, left: Tensor, right: Tensor) -> Tensor | None:
    """The product of the integers that both matrices are made of, or that the right one is as a weight; None if it is not made of any."""
    sides = factors(b, left, right, right.rank - 1, right.shape[-2])
    if sides is not None:
        return _of_integers(b, sides)
    weight = weight_of(b, right, right.rank - 1)
    if weight is None:
        return None
    sums = product(b, b.compute(left.shape, lambda *i: left[i], F32), b.cast(less_zero(b, weight), F32))
    scale = per_position(b, b.as_data(weight.scale), sums.rank, sums.rank - 1)
    return b.map(lambda v, s: v * e.cast(s, F32), sums, scale, dtype=left.dtype)


def _of_blocks(b: Builder, left: Tensor, right: Tensor, turned: bool = False) -> Tensor | None:
    """The product of few rows with a weight of few bits that is scaled by blocks of its rows; None if it is not such a one."""
    weight, rows = blocks_of(b, right, int(turned)), d.product(left.shape[:-1])
    if weight is None or (isinstance(rows, int) and rows > FEW_ROWS):
        return None
    matrix = DequantisedBlocks(weight, turned)
    b.require_equal(left.shape[-1], matrix.rows, "columns of the first matrix")
    return b.cast(by_panels(b, b.cast(left, F32), matrix), left.dtype)


def _of_integers(b: Builder, sides: tuple[Dequantised, Dequantised]) -> Tensor:
    left, right = sides
    sums = integer_product(b, left.integers, right.integers, zero_of(b, left), zero_of(b, right))
    return rescaled(b, sums, sides, sums.rank - 1)


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
    left, right = (b.transpose(t, (1, 0)) if turned else t for t, turned in ((x, transA), (y, transB)))
    result = _of_dequantised(b, left, right) or _of_blocks(b, left, y, bool(transB))
    if result is None:
        result = contract(b, x, y, lambda v, w: transposed_product(b, v, w, bool(transA), bool(transB)))
    if alpha != 1:
        result = b.map(lambda v: _scaled(v, alpha), result)
    if c is not None:
        require_broadcast(b, c.shape, result.shape, "C")
    if c is None or beta == 0:
        return result
    return b.map(lambda v, w: v + (w if beta == 1 else _scaled(w, beta)), result, b.expand(c, result.shape))


def _scaled(value: Expr, factor: float) -> Expr:
    """A product with a float, taken as float where the value is an integer."""
    if value.dtype.is_float:
        return factor * value
    return e.cast(factor * e.cast(value, e.F64), value.dtype)
