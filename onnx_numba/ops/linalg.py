"""Linear algebra."""

from __future__ import annotations

from onnx_numba.ir import dims as d
from onnx_numba.ir.loop import Tensor
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import wide
from onnx_numba.ops.registry import op
from onnx_numba.templates.linalg import determinant


@op("Det", since=11, reviewed=22)
def det(b: Builder, x: Tensor) -> Tensor:
    """The determinants of the matrices in the last two axes."""
    if x.rank < 2:
        b.fail(f"a matrix is needed, not a tensor with {x.rank} axes")
    b.require_equal(x.shape[-2], x.shape[-1], "rows of the matrix")
    kind, batch, n = wide(x.dtype), x.shape[:-2], x.shape[-1]
    result, _work = b.template(
        determinant, [b.cast(x, kind)], [(kind, batch), (kind, x.shape)],
        total=d.product(batch), dims=(n,), grain=16, types={"X": kind},
    )  # fmt: skip
    return b.cast(result, x.dtype)
