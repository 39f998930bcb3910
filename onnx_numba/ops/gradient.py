"""What derivatives need and ONNX lacks; nodes of it come from `onnx_numba.passes.differentiation` only."""

from __future__ import annotations

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import C128, F32, F64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import wide
from onnx_numba.ops.registry import op

DOMAIN = "onnx_numba"


@op("RealPart", since=1, domain=DOMAIN)
def real_part(b: Builder, x: Tensor) -> Tensor:
    """The real parts of complex numbers."""
    return b.map(lambda v: e.part("real", v), x, dtype=F64 if x.dtype is C128 else F32)


@op("SumTo", since=1, domain=DOMAIN)
def sum_to(b: Builder, x: Tensor, like: Tensor) -> Tensor:
    """The reverse of broadcasting ``like`` to the shape of ``x``: the sum over all copies of each element of ``like``."""
    extra = x.rank - like.rank
    shape = (*[1] * extra, *like.shape)
    if extra == 0 and shape == x.shape:
        return x
    # Where the run alone knows whether an axis was broadcast, its extent is walked inside if the target's is 1, else outside.
    outer: list[Dim | int] = []
    inner: list[Dim | int] = []
    for extent, target in zip(x.shape, shape, strict=True):
        copied = 0 if target == extent else d.compare("eq", target, 1)
        outer.append(target)
        inner.append(1 + (extent - 1) * copied)

    def element(p: tuple[Dim, ...], r: tuple[Dim, ...]) -> Expr:
        return e.cast(x[tuple(i + k for i, k in zip(p, r, strict=True))], wide(x.dtype))

    total = b.reduction("sum", tuple(outer), tuple(inner), element, wide(x.dtype))
    return b.reshape(b.cast(total, x.dtype), like.shape)
