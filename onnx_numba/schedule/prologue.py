"""Maps at the beginnings of convolutions: a work unit computes what it is about to multiply, which nobody stores or reads else.

In a network whose layers are normalised before they are convolved, as in

    a = Relu(Mul(x, s) + b)     y = Conv(a, w)      filters of 1 x 1, s and b a number per channel

a is as large as x, and with several threads each reads a part of it that another one has just written. The convolution lays out a patch
of x and changes it there.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.loop import Program, Tensor
from onnx_numba.schedule.expand import cost, loads, root
from onnx_numba.schedule.pooled import reads
from onnx_numba.schedule.steps import Group, Step
from onnx_numba.schedule.tune import Body
from onnx_numba.templates.conv import Conv
from onnx_numba.templates.pixels import PixelConv

MOST_COST = 16
"""Operations on an element, as often as units compute it, that cost no more than to store it and load it again."""


def with_prologues(steps: list[Step], program: Program, kept: Container[Tensor]) -> list[Step]:
    """The steps, with maps in those convolutions that alone read what they make; what is ``kept`` is stored anyway."""
    given = {root(v) for _, v in program.outputs if isinstance(v, Tensor)}
    readers: dict[Tensor, int] = {}
    makers: dict[Tensor, list[Step]] = {}
    for step in steps:
        for tensor in dict.fromkeys(reads(step)):
            readers[tensor] = readers.get(tensor, 0) + 1
        for tensor in step.writes if isinstance(step, Group) else ():
            makers.setdefault(tensor, []).append(step)
    made: dict[int, Step] = {}
    dropped: set[int] = set()
    for step in steps:
        hint = step.members[0].hint if isinstance(step, Group) else None
        if not isinstance(step, Group) or hint is None or not hint.tuned:
            continue
        operand = root(hint.operands[0])
        if readers.get(operand) == 1 and operand not in given and operand not in kept and len(makers.get(operand, ())) == 1:
            (maker,) = makers[operand]
            found = _with_prologue(step, operand, maker) if isinstance(maker, Group) else None
            if found is not None:
                made[id(step)] = found
                dropped.add(id(maker))
    return [made.get(id(step), step) for step in steps if id(step) not in dropped]


def _with_prologue(group: Group, operand: Tensor, maker: Group) -> Group | None:
    """The convolution of what the map is made of; None where that is no gain."""
    first = group.members[0]
    assert first.hint is not None
    body: Body = first.hint.params["body"]
    source = _source(maker)
    if source is None or source.dtype is not operand.dtype or source.dtype.name != body.spec.dtype:
        return None
    changed = _changed(body)
    if changed is None or d.compare("le", cost(maker.members[0].expr) * _times(changed), MOST_COST) != 1:
        return None
    hint = replace(first.hint, operands=(source, *first.hint.operands[1:]), params={"body": changed})
    checks, origins = [*maker.checks, *group.checks], [*maker.origins, *group.origins]
    return replace(group, members=[replace(first, hint=hint), *group.members[1:]], checks=checks, origins=origins, prologue=maker)


def _source(maker: Group) -> Tensor | None:
    """The tensor of which a map changes each element, by numbers that are the same in all of a channel of all images."""
    if len(maker.members) != 1 or maker.rvars or maker.members[0].kind != "map" or maker.pool is not None:
        return None
    (member,) = maker.members
    if len(maker.pvars) != member.target.rank or member.target.rank < 3:
        return None
    single: dict[Sym, Dim | int] = {v: 0 for v in maker.order if v.extent == 1}
    places = [(load.tensor, d.substitute(load.index[0], single)) for load in loads(member.expr)]
    here = d.substitute(member.position, single)
    changed = [tensor for tensor, place in places if place == here]
    moving = set(maker.pvars) - {maker.pvars[1]}
    numbers = [tensor for tensor, place in places if not d.symbols(place) & moving]
    return changed[0] if len(changed) == 1 and len(numbers) == len(places) - 1 else None


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
