"""Helpers for operators whose shapes depend on values, and for those that move strings as they move numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import wraps
from itertools import combinations
from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Concat, Object, Reshape, Tensor
from onnx_numba.ir.types import DTYPES, I64, STRING, DType, TensorType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.characters import taken, text_of, with_text

Extent = Dim | int


def elements(b: Builder, tensor: Tensor, what: str = "") -> list[Expr]:
    """The elements of a small integer tensor as int64 scalars; what is known of parts of a concatenation stays known."""
    if not isinstance(tensor.size, int):
        b.deferred(f"the number of elements of {what or tensor.name} must be known before the run")
    if tensor.content is not None:
        return [e.cast(c, I64) for c in tensor.content]
    if isinstance(tensor.definition, Reshape):
        return elements(b, tensor.definition.source, what)
    if isinstance(tensor.definition, Concat) and tensor.rank == 1:
        return [v for part in tensor.definition.parts for v in elements(b, part, what)]
    flat = b.reshape(tensor, (tensor.size,))
    return [e.cast(flat[(k,)], I64) for k in range(tensor.size)]


def scalar(b: Builder, tensor: Tensor) -> Expr:
    """The only element of a tensor."""
    b.require_equal(tensor.size, 1, f"number of elements of {tensor.name}, a scalar")
    return tensor[(0,) * tensor.rank]


def settle(b: Builder, values: Sequence[Expr], signed: Collection[int] = ()) -> list[Extent]:
    """Integer scalars as dims: those that the run decides are read from tensors, of which one is made for what has to be computed.

    They are sizes, never negative, but for those at the positions in ``signed``.
    """
    known = [_known(b, v, k in signed) for k, v in enumerate(values)]
    places = [k for k, v in enumerate(known) if v is None]
    open_values = [e.cast(values[k], I64) for k in places]
    if not open_values:
        return [k for k in known if k is not None]

    def element(i: Dim) -> Expr:
        return pick(e.dimval(i), open_values)

    read = iter(b.dims(b.compute((len(open_values),), element, I64), [k for k, place in enumerate(places) if place in signed]))
    return [next(read) if k is None else k for k in known]


def _known(b: Builder, value: Expr, signed: bool) -> Extent | None:
    """A scalar as a dim, which the run may read from a tensor that has it as it is needed; None for what has to be computed."""
    known = e.as_dim(value)
    if known is not None or not isinstance(value, e.Load) or value.tensor.dtype is not I64 or value.tensor.rank != 1:
        return known
    (position,) = value.index
    return b.read_dim(value.tensor, position, signed) if isinstance(position, int) else None


def pick(index: Expr, values: Sequence[Expr]) -> Expr:
    """``values[index]`` for an index that is in range."""
    result = values[-1]
    for k in range(len(values) - 2, -1, -1):
        result = e.where(e.eq(index, k), values[k], result)
    return result


def smaller(a: Expr, b: Expr) -> Expr:
    """The minimum, decided now where dims allow it."""
    known = e.compare("le", a, b)
    return (a if known.value else b) if isinstance(known, e.Lit) else e.binary("min", a, b)


def greater(a: Expr, b: Expr) -> Expr:
    """The maximum, decided now where dims allow it."""
    known = e.compare("le", b, a)
    return (a if known.value else b) if isinstance(known, e.Lit) else e.binary("max", a, b)


def wrap_axes(b: Builder, axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front; one that is out of range or comes twice is an error."""
    result = []
    for axis in axes:
        if not -rank <= axis < rank:
            b.fail(f"axis {axis} is out of range for rank {rank}")
        result.append(axis % rank)
    if len(set(result)) < len(result):
        b.fail(f"axes {list(axes)} name an axis twice")
    return result


def wrap_axis(b: Builder, axis: int, rank: int) -> int:
    """One axis counted from the front."""
    return wrap_axes(b, [axis], rank)[0]


def wrapped(value: Expr, extent: Extent) -> Expr:
    """``value + extent`` where the value is negative."""
    return e.where(value < 0, value + e.dimval(extent), value)


def by_axis(b: Builder, axes: Tensor | None, values: Sequence[Expr], rank: int, defaults: Sequence[Expr]) -> list[Expr]:
    """What is given for ``axes`` (default: the first ones) in the order of a tensor's axes; others get their default."""
    if axes is None:
        if len(values) > rank:
            b.fail(f"{len(values)} numbers are given for the {rank} axes of the input")
        return [*values, *defaults[len(values) :]]
    b.require_equal(len(values), axes.size, "numbers given for the axes")
    known = b.constant(axes)
    result = list(defaults)
    if known is not None:
        for axis, value in zip(wrap_axes(b, [int(a) for a in known.reshape(-1)], rank), values, strict=True):
            result[axis] = value
        return result
    given = axes_in_range(b, elements(b, axes, "axes"), rank)
    for each, value in zip(given, values, strict=True):
        for axis in range(rank):
            result[axis] = e.where(e.eq(each, axis), value, result[axis])
    return result


def axes_in_range(b: Builder, axes: Sequence[Expr], rank: int) -> list[Expr]:
    """Axes that only the run knows, counted from the front; it refuses those that there are not, and one that comes twice."""
    demand(b, e.all_of(*(condition for a in axes for condition in (a >= -rank, a < rank))), f"an axis is out of range for rank {rank}")
    found = [wrapped(a, rank) for a in axes]
    demand(b, e.all_of(*(e.ne(one, other) for one, other in combinations(found, 2))), "an axis is named twice")
    return found


def demand(b: Builder, condition: Expr, what: str) -> None:
    """Demand a condition on the elements of tensors; ``what`` says what is wrong where it does not hold."""
    (holds,) = settle(b, [e.cast(condition, I64)])
    b.require(holds, what)


def checked_index(b: Builder, index: Expr, extent: Extent) -> Expr | Extent:
    """An index from data: wrapped when negative; out of range it is an error, now where it is known and else at run time."""
    index = e.cast(index, I64)
    known = e.as_dim(index)
    if isinstance(known, int) and isinstance(extent, int):
        if not -extent <= known < extent:
            b.fail(f"index {known} is out of range for extent {extent}")
        return known % extent
    return e.Op("check_index", (index, e.dimval(extent)), I64)


def natural_index(b: Builder, index: Expr, extent: Extent) -> Expr:
    """`checked_index` as a scalar, where negative indices are out of range too."""
    index = e.cast(index, I64)
    place = checked_index(b, e.where(index < 0, e.dimval(extent), index), extent)
    return place if isinstance(place, Expr) else e.dimval(place)


def flat_index(index: Sequence[Extent], shape: Sequence[Extent]) -> Extent:
    """The row-major position of an index."""
    position: Extent = 0
    for i, extent in zip(index, shape, strict=True):
        position = position * extent + i
    return position


def unflatten(position: Extent, shape: Sequence[Extent]) -> tuple[Extent, ...]:
    """The index of a row-major position."""
    result: list[Extent] = []
    for extent in reversed([n if n != 0 else 1 for n in shape[1:]]):  # nothing has a position where an extent is 0
        result.append(d.mod(position, extent))
        position = d.floordiv(position, extent)
    return (*([position] if shape else []), *reversed(result))


def is_strings(value: Any) -> bool:
    """Whether a value is a tensor of strings."""
    return isinstance(value, Object) and isinstance(value.type, TensorType) and value.type.dtype is STRING


def object_rank(b: Builder, value: Object) -> int:
    """The rank of a tensor that lives in Python."""
    if not isinstance(value.type, TensorType):
        b.fail(f"a tensor is expected, {value.type} came")
    if value.type.shape is None:
        b.deferred("the rank of the input must be known before the run")
    return len(value.type.shape)


def object_shape(b: Builder, value: Object) -> tuple[Extent, ...]:
    """The dims of a tensor that lives in Python; its rank must be known."""
    rank = object_rank(b, value)
    assert isinstance(value.type, TensorType)
    shape = value.type.shape or ()
    known = tuple(x for x in shape if isinstance(x, (int, Dim)))
    if len(known) == len(shape):
        return known
    if value.text is not None:
        return text_of(b, value).shape
    (read,) = b.host("object_shape", [value], [TensorType(I64, (rank,))])
    return tuple(b.dims(read))


def strings_too(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let an operator that only moves elements serve strings: it moves their positions, at which a step in Python or a gather fetches them.

    Positions count from 1, so that where the operator writes zero there is the empty string.
    """

    @wraps(function)
    def wrapper(b: Builder, *inputs: Any, **attributes: Any) -> Any:
        texts = [v for v in inputs if is_strings(v)]
        if not texts:
            return function(b, *inputs, **attributes)
        offset: Extent = 1
        positions: dict[int, Tensor] = {}
        for text in texts:
            if id(text) in positions:
                continue
            shape = object_shape(b, text)
            positions[id(text)] = _positions(b, shape, offset)
            offset = offset + d.product(shape)
        results = function(b, *(positions[id(v)] if is_strings(v) else v for v in inputs), **attributes)
        sources = list({id(t): t for t in texts}.values())
        if not isinstance(results, tuple):
            return _fetch(b, results, sources)
        return tuple(None if r is None else _fetch(b, r, sources) for r in results)

    return wrapper


def _positions(b: Builder, shape: tuple[Extent, ...], offset: Extent) -> Tensor:
    return b.compute(shape, lambda *i: e.dimval(flat_index(i, shape) + offset), I64)


def _fetch(b: Builder, positions: Tensor, sources: list[Object]) -> Object:
    (result,) = b.host("strings_take", [positions, *sources], [TensorType(STRING, positions.shape)])
    return with_text(b, result, lambda: taken(b, positions, sources))


def same_kind(dtype: DType) -> DType:
    """The type that reductions of ``dtype`` are computed in by templates: 16-bit floats as float32."""
    return DTYPES[dtype.compute]
