"""Running sums and products."""

from __future__ import annotations

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.loop import Tensor
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import lanes, normal_axis, wide
from onnx_numba.ops.registry import op
from onnx_numba.templates.scan import LANES, running

_GRAIN = 1 << 14
"""Elements of a chunk."""


def _running(b: Builder, x: Tensor, axis: Tensor, exclusive: int, reverse: int, product: bool) -> Tensor:
    if x.rank == 0:
        b.fail("a scalar has no axis")
    known = b.constant(axis)
    if known is not None:
        _, extent, inner = lanes(x.shape, normal_axis(b, int(known.reshape(-1)[0]), x.rank))
    else:
        (number,) = b.dims(b.reshape(axis, (1,)), signed=[0])
        b.require(d.compare("le", -x.rank, number) * d.compare("lt", number, x.rank), f"the axis is out of range for rank {x.rank}")
        extent, inner = _lanes_at(x, number + d.compare("lt", number, 0) * x.rank)
    kind = wide(x.dtype)  # sums of 16-bit floats are kept in 32 bits
    constants: dict[str, int | float | bool] = {
        "PRODUCT": product, "EXCLUSIVE": bool(exclusive), "REVERSE": bool(reverse), "LANES": LANES,
    }  # fmt: skip
    outer = d.floordiv(x.size, d.dmax(extent * inner, 1))
    together = d.dmin(inner, LANES)
    (result,) = b.template(
        running, [b.cast(x, kind)], [(kind, x.shape)],
        total=outer * d.ceildiv(inner, LANES), dims=(extent, inner),
        grain=d.dmax(1, d.floordiv(_GRAIN, d.dmax(extent * together, 1))), types={"X": kind}, constants=constants,
    )  # fmt: skip
    return b.cast(result, x.dtype)


def _lanes_at(x: Tensor, axis: Dim | int) -> tuple[Dim | int, Dim | int]:
    """Extent of an axis that only the run knows, and of all axes after it together."""
    extent: Dim | int = 0
    inner: Dim | int = 1
    for k, s in enumerate(x.shape):
        extent = extent + s * d.compare("eq", axis, k)
        inner = inner * (1 + (s - 1) * d.compare("lt", axis, k))
    return extent, inner


@op("CumSum", since=11, reviewed=14)
def cumulative_sum(b: Builder, x: Tensor, axis: Tensor, *, exclusive: int, reverse: int) -> Tensor:
    """Sums of an element and all before it along an axis."""
    return _running(b, x, axis, exclusive, reverse, False)


@op("CumProd", since=26)
def cumulative_product(b: Builder, x: Tensor, axis: Tensor, *, exclusive: int, reverse: int) -> Tensor:
    """Products of an element and all before it along an axis."""
    return _running(b, x, axis, exclusive, reverse, True)
