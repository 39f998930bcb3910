"""Maps at the beginnings of convolutions: a work unit computes what it is about to multiply, which nobody stores or reads else.

In a network whose layers are normalised before they are convolved, as in

    a = Relu(Mul(x, s) + b)     y = Conv(a, w)      filters of 1 x 1, s and b a number per channel

a is as large as x, and with several threads each reads a part of it that another one has just written. The convolution lays out a patch
of x and changes it there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import replace

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.loop import Program, Shape, Tensor
from onnx_numba.schedule.expand import cost, loads, root
from onnx_numba.schedule.fuse import BUFFER_LIMIT
from onnx_numba.schedule.steps import Group, Step
from onnx_numba.schedule.tune import Body
from onnx_numba.schedule.uses import reads
from onnx_numba.templates.conv import Conv
from onnx_numba.templates.pixels import PixelConv

MOST_COST = 16
"""Operations on an element, as often as units compute it, that cost no more than to store it and load it again."""


def with_prologues(steps: list[Step], program: Program, kept: Container[Tensor]) -> list[Step]:
    """The steps, with maps in those convolutions that alone read what they make; what is ``kept`` is stored anyway."""
    given = {root(v) for _, v in program.outputs if isinstance(v, Tensor)}
    readers = Counter(tensor for step in steps for tensor in reads(step))
    makers: dict[Tensor, list[Group]] = {}
    for step in steps:
        if isinstance(step, Group):
            for tensor in step.writes:
                makers.setdefault(tensor, []).append(step)
    made: dict[int, Step] = {}
    dropped: set[int] = set()
    for step in steps:
        hint = step.members[0].hint if isinstance(step, Group) else None
        if not isinstance(step, Group) or hint is None or not hint.tuned:
            continue
        image = hint.operands[0]
        making = makers.get(image, [])
        if readers[image] == 1 and image not in given and image not in kept and len(making) == 1:
            found = _with_prologue(step, making[0])
            if found is not None:
                made[id(step)] = found
                dropped.add(id(making[0]))
    return [made.get(id(step), step) for step in steps if id(step) not in dropped]


def _with_prologue(group: Group, maker: Group) -> Group | None:
    """The convolution of what the map is made of; None where that is not possible or no gain."""
    first = group.members[0]
    assert first.hint is not None
    body: Body = first.hint.params["body"]
    changed = _changed(body)
    if changed is None or d.compare("le", cost(maker.members[0].expr) * _times(changed), MOST_COST) != 1:
        return None
    source = _source(maker, body.image)
    if source is None or source.dtype.name != body.spec.dtype:
        return None
    buffers = {load.tensor for m in (*group.members, *maker.members) for load in loads(m.expr)} | {*group.writes, *first.hint.operands}
    if len(buffers) > BUFFER_LIMIT:
        return None
    hint = replace(first.hint, operands=(source, *first.hint.operands[1:]), params={"body": changed})
    checks, origins = [*maker.checks, *group.checks], [*maker.origins, *group.origins]
    return replace(group, members=[replace(first, hint=hint), *group.members[1:]], checks=checks, origins=origins, prologue=maker)


def _source(maker: Group, image: Shape) -> Tensor | None:
    """The tensor of which a map changes each element, by numbers that are the same in all of a channel of all images.

    It is computed of elements beyond the image too, where vectors end: what could fail, as an index or an integer division does, may not
    be among its operations.
    """
    (member, *others) = maker.members
    target = member.target
    whole = member.kind == "map" and target is member.tensor and len(maker.pvars) == target.rank == len(maker.order) and target.rank > 2
    if others or not whole or any(d.compare("eq", a, b) != 1 for a, b in zip(target.shape[:2], image[:2], strict=True)):
        return None
    nodes = list(e.walk(member.expr))
    if any(isinstance(node, (e.DimVal, e.Op)) and not (isinstance(node, e.Op) and node.dtype.kind in "fb") for node in nodes):
        return None
    single: dict[Sym, Dim | int] = {v: 0 for v in maker.order if v.extent == 1}
    places = [(load.tensor, d.substitute(load.index[0], single)) for load in loads(member.expr)]
    here = d.substitute(member.position, single)
    changed = [tensor for tensor, place in places if place == here]
    moving = set(maker.pvars) - {maker.pvars[1]}
    numbers = [tensor for tensor, place in places if not d.symbols(place) & moving and not e.values_in(place)]
    alone = len(changed) == 1 and len(numbers) == len(places) - 1 and changed[0] not in numbers
    return changed[0] if alone and changed[0].dtype is target.dtype else None


def _changed(body: Body) -> Body | None:
    """The convolution that changes what it has laid out, where that is each element once."""
    spec = body.spec
    if isinstance(spec, PixelConv) and spec.single:
        return replace(body, spec=replace(spec, altered=True))
    alike = isinstance(spec, Conv) and spec.taps == 1 and spec.rank == 1 and spec.strides == (1,) and not spec.plain and not spec.fill
    return body if alike else None


def _times(body: Body) -> Dim | int:
    """How many units compute an element: those for different output channels."""
    return d.ceildiv(body.dims[2], d.dmax(body.dims[3], 1))
