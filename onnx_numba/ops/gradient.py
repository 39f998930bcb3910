"""What derivatives need and ONNX lacks; nodes of it come from `onnx_numba.passes.differentiation` only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.graph import Graph
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import C128, F32, F64, OptionalType, SequenceType, TensorType, ValueType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import tensor_type, wide
from onnx_numba.ops.registry import op
from onnx_numba.ops.sequence import type_of

DOMAIN = "onnx_numba"
PULLBACK = (DOMAIN, "Pullback")


@op("RealPart", since=1, domain=DOMAIN)
def real_part(b: Builder, x: Tensor) -> Tensor:
    """The real parts of complex numbers."""
    return b.map(lambda v: e.part("real", v), x, dtype=F64 if x.dtype is C128 else F32)


def adjoint_type(kind: ValueType) -> ValueType:
    """The type of the adjoint of a value: its own, but float64 where a tensor holds no fractions."""
    if isinstance(kind, (SequenceType, OptionalType)):
        return replace(kind, element=adjoint_type(kind.element))
    if isinstance(kind, TensorType) and kind.dtype.kind not in "fc":
        return TensorType(F64, kind.shape)
    return kind


def inside(kind: ValueType | None) -> TensorType | None:
    """The type of a tensor, or of the tensors in a sequence or optional; None if it is not known."""
    while isinstance(kind, (SequenceType, OptionalType)):
        kind = kind.element
    return kind if isinstance(kind, TensorType) else None


@op("FilledInside", since=1, domain=DOMAIN)
def filled_inside(b: Builder, x: Object, *, value: float) -> Object:
    """A sequence or optional such as another one, with tensors full of a number in it."""
    made = adjoint_type(x.type)
    tensor = inside(made)
    if tensor is None:
        b.unsupported(f"tensors are expected, {x.type} came")
    return b.host("filled_inside", [x], [made], value=value, dtype=tensor.dtype.name)[0]


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


@op("Pullback", since=1, domain=DOMAIN)
def pullback(b: Builder, *values: Tensor | Object | None, of: Graph) -> NoReturn:
    """What the only node of ``of`` adds to the adjoints of values, put off until their ranks are known: see `onnx_numba.passes.reverse`.

    The values follow the node's results and the adjoints of these; what is not there is absent.
    """
    wanted = values[2 * len(of.nodes[0].outputs) :]
    results = [adjoint_type(type_of(value)) for value in wanted if value is not None]
    b.deferred_type("the ranks of what it reads must be known before the run", results)


def result_type(op: str, inputs: Sequence[ValueType], output: int) -> ValueType:
    """The type of an output, counted from the end, of an operator of this domain, as far as it follows from the types of its inputs."""
    first = inputs[0]
    if op == "Pullback":
        return adjoint_type(inputs[output])
    if op == "Forget":
        return SequenceType(first)
    if op == "FilledInside":
        return adjoint_type(first)
    if isinstance(first, TensorType):
        if op == "RealPart":
            return TensorType(F64 if first.dtype is C128 else F32, first.shape)
        if op == "ResizeMatrix":
            return tensor_type(first.dtype, (None, None))
        if op == "SumTo" and isinstance(inputs[1], TensorType):
            return TensorType(first.dtype, inputs[1].shape)
    return first
