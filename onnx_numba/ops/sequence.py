"""Operators on sequences and optionals: steps in Python."""

from __future__ import annotations

from onnx_numba.ir import expr as e
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import BOOL, I32, I64, OptionalType, SequenceType, TensorType, ValueType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import AnyShape, normal_axis, shape_of, tensor_type
from onnx_numba.ops.create import dtype_by_number
from onnx_numba.ops.registry import op

Value = Tensor | Object


def type_of(value: Value) -> ValueType:
    """The type of a value, without dims that only the run knows."""
    if isinstance(value, Object):
        return _without_dims(value.type)
    return tensor_type(value.dtype, tuple(x if isinstance(x, int) else None for x in value.shape))


def joined(b: Builder, a: ValueType, c: ValueType) -> ValueType:
    """The type of what may be of either type."""
    if a == c:
        return a
    if not isinstance(a, TensorType) or not isinstance(c, TensorType) or a.dtype is not c.dtype:
        b.fail(f"a sequence cannot hold both {a} and {c}")
    if a.shape is None or c.shape is None or len(a.shape) != len(c.shape):
        return tensor_type(a.dtype, None)
    return tensor_type(a.dtype, tuple(x if isinstance(x, int) and x == y else None for x, y in zip(a.shape, c.shape, strict=True)))


def element_type(b: Builder, value: Value) -> ValueType:
    """The type of a sequence's elements."""
    kind = value.type if isinstance(value, Object) else None
    if isinstance(kind, OptionalType):
        kind = kind.element
    if not isinstance(kind, SequenceType):
        b.fail(f"a sequence is expected, {type_of(value)} came")
    return _without_dims(kind.element)


def _without_dims(kind: ValueType) -> ValueType:
    """The type with only the dims that are numbers: names and what is computed mean nothing elsewhere."""
    if isinstance(kind, TensorType) and kind.shape is not None:
        return tensor_type(kind.dtype, tuple(x if isinstance(x, int) else None for x in kind.shape))
    return kind


def _check_position(b: Builder, position: Value | None) -> None:
    """Demand a single whole number; where only the run knows how many there are, the step does."""
    kind = None if position is None else type_of(position)
    if isinstance(kind, TensorType) and (kind.dtype not in (I32, I64) or any(isinstance(x, int) and x != 1 for x in kind.shape or ())):
        b.fail(f"the position is a {kind}, a scalar of int32 or int64 is expected")


@op("SequenceConstruct", since=11)
def sequence_construct(b: Builder, *xs: Value) -> Object:
    """A sequence of the inputs."""
    kind = type_of(xs[0])
    for x in xs[1:]:
        kind = joined(b, kind, type_of(x))
    return b.host("sequence_construct", xs, [SequenceType(kind)])[0]


@op("SequenceEmpty", since=11)
def sequence_empty(b: Builder, *, dtype: int | None = None) -> Object:
    """A sequence without elements."""
    kind = tensor_type(dtype_by_number(b, 1 if dtype is None else dtype), None)
    return b.host("sequence_construct", [], [SequenceType(kind)])[0]


@op("SequenceAt", since=11)
def sequence_at(b: Builder, sequence: Object, position: Tensor) -> Value:
    """The element at a position."""
    _check_position(b, position)
    return b.host("sequence_at", [sequence, position], [element_type(b, sequence)])[0]


@op("SequenceInsert", since=11)
def sequence_insert(b: Builder, sequence: Object, item: Value, position: Tensor | None = None) -> Object:
    """The sequence with one more element."""
    _check_position(b, position)
    kind = SequenceType(joined(b, element_type(b, sequence), type_of(item)))
    return b.host("sequence_insert", [sequence, item, position], [kind])[0]


@op("SequenceErase", since=11)
def sequence_erase(b: Builder, sequence: Object, position: Tensor | None = None) -> Object:
    """The sequence without one element."""
    _check_position(b, position)
    return b.host("sequence_erase", [sequence, position], [SequenceType(element_type(b, sequence))])[0]


@op("SequenceLength", since=11)
def sequence_length(b: Builder, sequence: Object) -> Tensor:
    """The number of elements."""
    return b.host("sequence_length", [sequence], [TensorType(I64, ())])[0]


@op("SplitToSequence", since=11, reviewed=24)
def split_to_sequence(b: Builder, x: Value, split: Tensor | None = None, *, axis: int, keepdims: int) -> Object:
    """Pieces along an axis."""
    kind = type_of(x)
    shape = shape_of(x)
    if not isinstance(kind, TensorType):
        b.fail(f"a tensor is expected, {kind} came")
    if shape is not None:
        if not shape:
            b.fail("a scalar has no axis to split")
        axis = normal_axis(b, axis, len(shape))
        piece: AnyShape = () if split is None and not keepdims else (None,)
        known = tuple(n if isinstance(n, int) else None for n in shape)
        return _split(b, x, split, tensor_type(kind.dtype, (*known[:axis], *piece, *known[axis + 1 :])), axis, keepdims)
    return _split(b, x, split, kind, axis, keepdims)


def _split(b: Builder, x: Value, split: Tensor | None, kind: ValueType, axis: int, keepdims: int) -> Object:
    return b.host("split_to_sequence", [x, split], [SequenceType(kind)], axis=axis, keepdims=keepdims)[0]


@op("ConcatFromSequence", since=11)
def concat_from_sequence(b: Builder, sequence: Object, *, axis: int, new_axis: int) -> Value:
    """All elements side by side along an axis, or stacked along a new one."""
    if new_axis not in (0, 1):
        b.fail(f"new_axis must be 0 or 1, not {new_axis}")
    kind = element_type(b, sequence)
    if not isinstance(kind, TensorType):
        b.fail(f"a sequence of tensors is expected, one of {kind} came")
    rank = None if kind.shape is None else len(kind.shape) + bool(new_axis)
    made = tensor_type(kind.dtype, None if rank is None else (None,) * rank)
    return b.host("concat_from_sequence", [sequence], [made], axis=axis, new_axis=new_axis)[0]


@op("Optional", since=15, reviewed=28)
def optional(b: Builder, value: Value | None = None, *, type: ValueType | None = None) -> Object:
    """An optional that holds a value, or nothing."""
    if value is None and type is None:
        b.fail("an optional without a value needs a type")
    kind = type if value is None else type_of(value)
    assert kind is not None
    return b.host("optional", [value], [kind if isinstance(kind, OptionalType) else OptionalType(kind)])[0]


@op("OptionalGetElement", since=15, reviewed=28)
def optional_get_element(b: Builder, value: Value) -> Value:
    """What an optional holds; a value that is none is itself."""
    if isinstance(value, Tensor) or not isinstance(value.type, OptionalType):
        return value
    return b.host("optional_get_element", [value], [_without_dims(value.type.element)])[0]


@op("OptionalHasElement", since=15, reviewed=28)
def optional_has_element(b: Builder, value: Value | None = None) -> Tensor:
    """Whether an optional holds anything."""
    if value is None or isinstance(value, Tensor) or not isinstance(value.type, OptionalType):
        present = value is not None
        return b.compute((), lambda: e.lit(present, BOOL), BOOL)
    return b.host("optional_has_element", [value], [TensorType(BOOL, ())])[0]
