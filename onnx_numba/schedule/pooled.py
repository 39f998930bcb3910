"""Pools at the ends of convolutions: a work unit folds the windows of what it has just made, which nobody else stores or reads.

A convolution of 32 channels of 900 x 120 elements and a MaxPool by 2 write 13.8 MB, read them again and write 3.5; together they write 3.5.
Where windows overlap, units do so too, and make some rows twice.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr, Lit, Load, Op
from onnx_numba.ir.loop import Program, TemplateCall, Tensor, Weight
from onnx_numba.schedule.expand import root
from onnx_numba.schedule.steps import CallStep, Group, Step
from onnx_numba.schedule.tune import Body
from onnx_numba.schedule.uses import reads
from onnx_numba.target import Target
from onnx_numba.templates.block import ELEMENT_BYTES
from onnx_numba.templates.conv import Conv
from onnx_numba.templates.pool import fold_planes, fold_windows, masked

Array = np.ndarray[Any, Any]

MOST_BYTES = 1 << 18
"""What a unit makes is no larger, so that it is in the second cache beside the filters and the patch."""
SHARED = 8
"""Rows of a unit for each that the next one makes again."""
STORE_WORK = 24
"""Multiply-adds that take as long as storing an element of an image beyond the second cache and loading it again."""
_NUMBERS = ("ROWS", "COLUMNS", "DOWN", "ACROSS", "GAP_DOWN", "GAP_ACROSS")


def in_planes(steps: list[Step], target: Target) -> list[Step]:
    """The steps, with pools in vectors of a target's masked loads where it has those."""

    def faster(step: Step) -> Step:
        found = masked(step.call, target) if isinstance(step, CallStep) and isinstance(step.call, TemplateCall) else None
        return replace(step, call=found) if isinstance(step, CallStep) and found is not None else step

    return [faster(step) for step in steps]


def pooled(steps: list[Step], program: Program, kept: Container[Tensor] = ()) -> list[Step]:
    """The steps, with pools in those convolutions that make what nothing but the pool reads; what is ``kept`` is stored anyway."""
    given = {root(v) for _, v in program.outputs if isinstance(v, Tensor)}
    readers: dict[Tensor, list[Step]] = {}
    for step in steps:
        for tensor in dict.fromkeys(reads(step)):
            readers.setdefault(tensor, []).append(step)
    made: dict[int, Step] = {}
    dropped: set[int] = set()
    for step in steps:
        target = _image(step) if isinstance(step, Group) else None
        reading = readers.get(target, []) if target is not None and target not in given and target not in kept else []
        if isinstance(step, Group) and target is not None and len(reading) == 1 and isinstance(reading[0], CallStep):
            ended = _with_pool(step, target, reading[0], program.weights)
            if ended is not None:
                made[id(step)] = ended
                dropped.add(id(reading[0]))
    return [made.get(id(step), step) for step in steps if id(step) not in dropped]


def _image(group: Group) -> Tensor | None:
    """All that a convolution of two axes stores, where that lies as the convolution itself would."""
    hint, stored = group.members[0].hint, [m for m in group.members if m.stored]
    if hint is None or not hint.tuned or not isinstance(hint.params["body"].spec, Conv) or len(stored) != 1:
        return None
    single: dict[Sym, Dim | int] = {v: 0 for v in group.order if v.extent == 1}
    (last,), first = stored, group.members[0]
    alike = d.substitute(last.position, single) == d.substitute(first.position, single) and last.target.dtype is first.tensor.dtype
    return last.target if alike and last.target.shape == first.tensor.shape and last.target.rank == 4 else None


def _with_pool(group: Group, target: Tensor, pool: CallStep, weights: Sequence[Array]) -> Group | None:
    """The convolution in work units of rows of windows, which end with the pool; None where that is no gain."""
    call, first = pool.call, group.members[0]
    if not isinstance(call, TemplateCall) or call.body not in (fold_windows, fold_planes) or call.inputs[0].shape != target.shape:
        return None
    assert first.hint is not None
    body: Body = first.hint.params["body"]
    ended = (_apart if call.body is fold_windows else _overlapping)(body, call, target)
    if ended is None or call.types["X"] is not target.dtype:
        return None
    work = d.floordiv(body.unit_work * ended.dims[4], d.dmax(d.dmin(d.product(target.shape[2:]), body.dims[4]), 1))
    assert isinstance(ended.spec, Conv)
    ended = replace(ended, units=ended.spec.work_units(target.shape[0], ended.dims), unit_work=work)
    members = [replace(first, hint=replace(first.hint, params={"body": ended})), *group.members[1:]]
    origins, checks = [*group.origins, *pool.origins], [*group.checks, *pool.checks]
    (last,) = (m for m in group.members if m.stored)
    rising = last is not first and len(group.pvars) == target.rank and _greatest_inside(call) and _rises(last.expr, group, weights)
    return replace(group, members=members, checks=checks, origins=origins, pool=pool, pool_first=rising)


def _apart(body: Body, call: TemplateCall, target: Tensor) -> Body | None:
    """Units of whole windows that lie apart and in the image."""
    height, width, outputs, columns, above, left = call.dims[:6]
    rows, across, down, step, gap_down, gap_across = (int(call.constants[name]) for name in _NUMBERS)
    reach, aside = (rows - 1) * gap_down, (across - 1) * gap_across
    sides = (d.compare("lt", (outputs - 1) * down + reach, height), d.compare("lt", (columns - 1) * step + aside, width))
    inside = above == 0 == left and sides == (1, 1) and call.constants["SMALL"] and call.constants["NARROW"]
    line = width * down
    if not inside or reach >= down or not _fits(body, line):
        return None
    unit = d.dmax(d.floordiv(body.dims[4], d.dmax(line, 1)), 1) * line
    return replace(body, dims=(*body.dims[:4], unit, *body.dims[5:]))


def _overlapping(body: Body, call: TemplateCall, target: Tensor) -> Body | None:
    """Units of so many rows of windows that what two of them see, which both compute, costs less than to store the image and load it."""
    assert isinstance(body.spec, Conv)
    height, width, outputs, _, above, _ = call.dims[:6]
    down, tall = int(call.constants["DOWN"]), (int(call.constants["ROWS"]) - 1) * int(call.constants["GAP_DOWN"]) + 1
    line, shared = width * down, max(tall - down, 0)
    least = max(-(-shared * SHARED // down), 1)
    pays = d.compare("le", shared * body.dims[1] * body.spec.taps, STORE_WORK * least * down)
    covers = (d.compare("lt", (outputs - 1) * down, height), d.compare("lt", above, tall))
    if (pays, *covers) != (1, 1, 1) or not _fits(body, ((least - 1) * down + tall) * width):
        return None
    rows = d.dmax(d.floordiv(body.dims[4], d.dmax(line, 1)), least)
    spec = replace(body.spec, overlap=True)
    return replace(body, spec=spec, dims=spec.overlapping(body.dims, ((rows - 1) * down + tall) * width, rows * line, above * width))


def _fits(body: Body, columns: Dim | int) -> bool:
    """Whether so many columns of all output channels of a unit are certain to be small enough."""
    assert isinstance(body.spec, Conv)
    elements = d.dmin(body.dims[2], body.spec.most_rows) * columns
    return d.compare("le", elements, MOST_BYTES // ELEMENT_BYTES[body.spec.dtype]) == 1


def _greatest_inside(call: TemplateCall) -> bool:
    """Whether a pool seeks greatest elements in vectors, in windows each of which is certain to see the image."""
    constants, (height, width, outputs, columns, above, left) = call.constants, call.dims[:6]
    if call.body is not fold_planes or not constants["GREATEST"] or not constants["GAP_DOWN"] == 1 == constants["GAP_ACROSS"]:
        return False
    sides = [("ROWS", "DOWN", height, outputs, above), ("COLUMNS", "ACROSS", width, columns, left)]
    return all(
        d.compare("lt", before, int(constants[size])) == 1 == d.compare("lt", (count - 1) * int(constants[apart]), extent + before)
        for size, apart, extent, count, before in sides
    )


def _rises(value: Expr, group: Group, weights: Sequence[Array]) -> bool:
    """Whether a value never gets less as the convolution's result gets greater, and is else the same in all of a channel.

    Then the greatest of such values is the value of the greatest. Rounding is no exception: it keeps the order of two numbers. But -inf
    and an infinite bias are NaN.
    """
    if isinstance(value, Load):
        made = next((m for m in group.members if m.target is value.tensor), None)
        return made is not None and (made is group.members[0] or _rises(made.expr, group, weights))
    if not isinstance(value, Op) or value.name not in ("add", "max", "min"):
        return False

    def fixed(part: Expr) -> bool:
        if isinstance(part, Load) and isinstance(part.tensor.definition, Weight):
            moves = any(d.symbols(index) & set(group.pvars[2:]) for index in part.index)
            return not moves and bool(np.isfinite(weights[part.tensor.definition.index]).all())
        return isinstance(part, Lit) and (value.name != "add" or math.isfinite(part.value))

    rises = [_rises(part, group, weights) for part in value.args]
    return any(rises) and all(found or fixed(part) for found, part in zip(rises, value.args, strict=True))
