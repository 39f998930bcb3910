"""What derivatives need and ONNX lacks; nodes of it come from `onnx_numba.passes.differentiation` only."""

from __future__ import annotations

from dataclasses import replace

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import C128, F32, F64, DType, OptionalType, SequenceType, TensorType, ValueType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import tensor_type, wide
from onnx_numba.ops.registry import op
from onnx_numba.ops.sequence import type_of

DOMAIN = "onnx_numba"


@op("RealPart", since=1, domain=DOMAIN)
def real_part(b: Builder, x: Tensor) -> Tensor:
    """The real parts of complex numbers."""
    return b.map(lambda v: e.part("real", v), x, dtype=F64 if x.dtype is C128 else F32)


def adjoint_dtype(dtype: DType) -> DType:
    """The element type of the adjoint of a tensor: its own, but float64 where that has no fractions."""
    return dtype if dtype.kind in "fc" else F64


@op("FilledInside", since=1, domain=DOMAIN)
def filled_inside(b: Builder, x: Object, *, value: float) -> Object:
    """A sequence or optional such as another one, with tensors full of a number in it."""
    inner: list[DType] = []

    def adjoint(kind: ValueType) -> ValueType:
        if isinstance(kind, (SequenceType, OptionalType)):
            return replace(kind, element=adjoint(kind.element))
        if not isinstance(kind, TensorType):
            b.unsupported(f"tensors are expected, {kind} came")
        inner.append(adjoint_dtype(kind.dtype))
        return tensor_type(inner[0], kind.shape)

    made = adjoint(x.type)
    return b.host("filled_inside", [x], [made], value=value, dtype=inner[0].name)[0]


@op("SumInside", since=1, domain=DOMAIN)
def sum_inside(b: Builder, x: Object, y: Object) -> Object:
    """The sums of the tensors in two sequences or optionals that are alike."""
    return b.host("sum_inside", [x, y], [x.type])[0]


@op("Forget", since=1, domain=DOMAIN)
def forget(b: Builder, like: Tensor | Object) -> Object:
    """A sequence of values such as another one, without any."""
    return b.host("sequence_construct", [], [SequenceType(type_of(like))])[0]


@op("Remember", since=1, domain=DOMAIN)
def remember(b: Builder, memory: Object, value: Tensor | Object) -> Object:
    """A sequence of values, which may be sequences themselves, with one more at its end."""
    return b.host("sequence_insert", [memory, value, None], [SequenceType(type_of(value))])[0]


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
