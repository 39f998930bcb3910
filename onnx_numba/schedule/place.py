"""Where concatenations put their parts: a part that lies in memory of its own is written where it belongs, and nothing copies it.

In a dense block every concatenation begins with the one before, and ends with what a convolution has made of that:

    y = Concat(x, u)    z = Concat(y, v)        axis 1, of one image
    z                   has a block
    y                   lies at 0 in z
    x                   lies at 0 in y, u at as many elements as x has, v at as many as y has

Elements of a part lie side by side in the whole only if the axes before are of one element; then a part is a place in another tensor's
block, and kernels are given a pointer there. For them it is a tensor like others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.loop import BranchCall, Concat, HostCall, Input, LoopCall, Object, Result, Tensor, Weight
from onnx_numba.record import record
from onnx_numba.schedule.expand import root, view_checks
from onnx_numba.schedule.uses import dim_tensors, updated


@record
class Place:
    """Part ``number`` of a concatenation, the ``whole``, which begins at its element ``offset``."""

    whole: Tensor
    number: int
    offset: Dim | int


Places = Mapping[Tensor, Place]


def placed(values: Sequence[Tensor | Object], stored: Set[Tensor], given: Set[Tensor]) -> dict[Tensor, Place]:
    """Places of those stored tensors that lie in a concatenation; those ``given`` to the caller have memory of their own."""
    taken = {root(t) for v in values if isinstance(v.definition, Result) and (t := updated(v.definition)) is not None}
    found: dict[Tensor, Place] = {}
    for whole in values:
        if not isinstance(whole, Tensor) or not isinstance(whole.definition, Concat) or whole in taken:
            continue
        for number, offset in _side_by_side(whole, whole.definition):
            part = whole.definition.parts[number]
            base = root(part)
            free = base in stored and base not in given and base not in taken and base not in found
            if free and _written(base) and not view_checks(part):
                found[base] = Place(whole, number, offset)
    return found


def wholes(tensors: Iterable[Tensor], places: Places) -> Iterator[Tensor]:
    """What tensors are parts of, and what that is a part of."""
    for tensor in tensors:
        while tensor in places:
            tensor = places[tensor].whole
            yield tensor


def _side_by_side(whole: Tensor, definition: Concat) -> list[tuple[int, Dim | int]]:
    """Parts by number whose elements lie side by side in a concatenation, from which on, as far as inputs alone tell.

    There are none where a check comes before the whole: it would come too late for its parts.
    """
    axis = definition.axis
    early = all(isinstance(t.definition, (Input, Weight)) for t in dim_tensors([*whole.shape, *definition.offsets]))
    if whole.checks or not early or any(extent != 1 for extent in whole.shape[:axis]):
        return []
    shapes = [(part.shape[:axis], part.shape[axis + 1 :]) for part in definition.parts]
    fits = [shape == (whole.shape[:axis], whole.shape[axis + 1 :]) for shape in shapes]
    below = d.product(whole.shape[axis + 1 :])
    return [(number, offset * below) for number, offset in enumerate(definition.offsets) if fits[number]]


def _written(tensor: Tensor) -> bool:
    """Whether a kernel writes a tensor, into memory that the plan gives it."""
    definition = tensor.definition
    if isinstance(definition, Result):
        return not isinstance(definition.call, (HostCall, LoopCall, BranchCall)) and updated(definition) is None
    return not isinstance(definition, (Input, Weight))
