"""Steps on sequences, optionals and tensors of unknown rank.

A sequence is a list of arrays, an absent optional is None. Arrays that go into a sequence are copied: what a step is given is
valid only while it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnx_numba.ir.types import DTYPES

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]


def _position(position: Array | None, length: int, what: str, default: int, beyond: int = 0) -> int:
    """A position in a sequence, counted from the front; ``beyond`` more than its length are allowed."""
    if position is not None and position.size != 1:
        raise ValueError(f"{what}: a position of {position.size} elements, one is expected")
    index = default if position is None else int(position.reshape(-1)[0])
    if not -length <= index < length + beyond:
        raise ValueError(f"{what}: position {index} in a sequence of {length}")
    return index + length if index < 0 else index


def _own(value: Any) -> Any:
    return np.array(value) if isinstance(value, np.ndarray) else value


def sequence_construct(params: Params, *items: Any) -> tuple[list[Any]]:
    """A sequence of the inputs."""
    return (list(map(_own, items)),)


def sequence_at(params: Params, sequence: Sequence[Any], position: Array) -> tuple[Any]:
    """The element at a position."""
    return (sequence[_position(position, len(sequence), "SequenceAt", 0)],)


def sequence_insert(params: Params, sequence: Sequence[Any], item: Any, position: Array | None = None) -> tuple[list[Any]]:
    """The sequence with one more element before a position, by default at its end."""
    at = _position(position, len(sequence), "SequenceInsert", len(sequence), beyond=1)
    return ([*sequence[:at], _own(item), *sequence[at:]],)


def sequence_erase(params: Params, sequence: Sequence[Any], position: Array | None = None) -> tuple[list[Any]]:
    """The sequence without one element, by default the last."""
    at = _position(position, len(sequence), "SequenceErase", len(sequence) - 1)
    return ([*sequence[:at], *sequence[at + 1 :]],)


def sequence_length(params: Params, sequence: Sequence[Any]) -> tuple[Array]:
    """The number of elements."""
    return (np.array(len(sequence), np.int64),)


def split_to_sequence(params: Params, x: Array, split: Array | None = None) -> tuple[list[Array]]:
    """Pieces along an axis: of the sizes given, of one size but for the last, or of size 1."""
    axis = int(params["axis"])
    extent = x.shape[axis]
    if split is None:
        axis %= x.ndim
        shape = (*x.shape[:axis], *(1,) * bool(params["keepdims"]), *x.shape[axis + 1 :])
        pieces = np.array(np.moveaxis(x, axis, 0), order="C").reshape(extent, *shape)  # one copy for all
        return ([pieces[k, ...] for k in range(extent)],)
    if split.ndim > 1:
        raise ValueError(f"SplitToSequence: sizes of rank {split.ndim}, a scalar or a vector is expected")
    if split.ndim == 0:
        size = int(split)
        if size <= 0:
            raise ValueError(f"SplitToSequence: pieces of {size}")
        sizes = [min(size, extent - start) for start in range(0, extent, size)]
    else:
        sizes = [int(s) for s in split]
        if sum(sizes) != extent or any(s < 0 for s in sizes):
            raise ValueError(f"SplitToSequence: pieces of {sizes} of a dim of {extent}")
    borders = np.cumsum(sizes)
    return ([np.array(p) for p in np.split(x, borders[:-1], axis)] if sizes else [],)


def concat_from_sequence(params: Params, sequence: Sequence[Array]) -> tuple[Array]:
    """All elements side by side along an axis, or stacked along a new one."""
    if not sequence:
        raise ValueError("ConcatFromSequence: the sequence is empty")
    join = np.stack if params["new_axis"] else np.concatenate
    return (join(list(sequence), axis=int(params["axis"])),)


def optional(params: Params, value: Any = None) -> tuple[Any]:
    """An optional that holds a value, or nothing."""
    return (_own(value),)


def optional_get_element(params: Params, value: Any) -> tuple[Any]:
    """What an optional holds."""
    if value is None:
        raise ValueError("OptionalGetElement: the optional holds nothing")
    return (value,)


def optional_has_element(params: Params, value: Any = None) -> tuple[Array]:
    """Whether an optional holds anything."""
    return (np.array(value is not None),)


def filled_inside(params: Params, value: Any) -> tuple[Any]:
    """The value with arrays full of a number in the place of those in it; what is absent stays so."""
    dtype = DTYPES[params["dtype"]].numpy

    def filled(inner: Any) -> Any:
        if isinstance(inner, list):
            return [filled(each) for each in inner]
        return None if inner is None else np.full(np.shape(inner), params["value"], dtype)

    return (filled(value),)


def sum_inside(params: Params, a: Any, b: Any) -> tuple[Any]:
    """The sums of the arrays in two values that are alike."""

    def total(x: Any, y: Any) -> Any:
        if isinstance(x, list):
            return [total(*pair) for pair in zip(x, y, strict=True)]
        return None if x is None else np.asarray(x + y, x.dtype)

    return (total(a, b),)


def object_shape(params: Params, x: Array) -> tuple[Array]:
    """The dims of a tensor, from ``start`` to ``end`` if these are given."""
    return (np.array(x.shape[params.get("start", 0) : params.get("end")], np.int64),)


def object_size(params: Params, x: Array) -> tuple[Array]:
    """The number of elements of a tensor."""
    return (np.array(x.size, np.int64),)


def reshape(params: Params, x: Array, shape: Array) -> tuple[Array]:
    """Reshape to a rank that only the run knows."""
    target = [int(s) for s in shape]
    copied = [] if params["allowzero"] else [k for k, s in enumerate(target) if s == 0]
    if min(target, default=0) < -1 or target.count(-1) > 1 or any(k >= x.ndim for k in copied):
        raise ValueError(f"shape {target} does not fit an input of shape {list(x.shape)}")
    if params["allowzero"] and {0, -1} <= {*target}:
        raise ValueError(f"shape {target} has both 0 and -1, and allowzero is set")
    new = [x.shape[k] if k in copied else s for k, s in enumerate(target)]
    if -1 in new:
        # A dim that is copied goes into both shapes alike, even where it is 0.
        left = math.prod(n for k, n in enumerate(x.shape) if k not in copied)
        new[new.index(-1)] = left // max(math.prod(s for k, s in enumerate(new) if k not in copied and s != -1), 1)
    if math.prod(new) != x.size:
        raise ValueError(f"cannot reshape {list(x.shape)} to {target}")
    return (np.array(x.reshape(new)),)


HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {
    function.__name__: function
    for function in (
        sequence_construct,
        sequence_at,
        sequence_insert,
        sequence_erase,
        sequence_length,
        split_to_sequence,
        concat_from_sequence,
        optional,
        optional_get_element,
        optional_has_element,
        filled_inside,
        sum_inside,
        object_shape,
        object_size,
        reshape,
    )
}
