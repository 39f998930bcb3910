"""Pools at the ends of convolutions: a work unit folds the windows of what it has just made, which nobody else stores or reads.

A convolution of 32 channels of 900 x 120 elements and a MaxPool by 2 write 13.8 MB, read them again and write 3.5; together they write 3.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.loop import Program, TemplateCall, Tensor
from onnx_numba.schedule.expand import loads, root
from onnx_numba.schedule.steps import CallStep, Group, Step
from onnx_numba.schedule.tune import Body
from onnx_numba.templates.conv import Conv
from onnx_numba.templates.gemm import ELEMENT_BYTES
from onnx_numba.templates.pool import fold_windows

MOST_BYTES = 1 << 18
"""What a unit makes is no larger, so that it is in the second cache beside the filters and the patch."""
_NUMBERS = ("ROWS", "COLUMNS", "DOWN", "ACROSS", "GAP_DOWN", "GAP_ACROSS")


def pooled(steps: list[Step], program: Program) -> list[Step]:
    """The steps, with pools in those convolutions that make what nothing but the pool reads."""
    given = {root(v) for _, v in program.outputs if isinstance(v, Tensor)}
    readers: dict[Tensor, list[Step]] = {}
    for step in steps:
        for tensor in dict.fromkeys(_reads(step)):
            readers.setdefault(tensor, []).append(step)
    made: dict[int, Step] = {}
    dropped: set[int] = set()
    for step in steps:
        target = _image(step) if isinstance(step, Group) else None
        reading = readers.get(target, []) if target is not None and target not in given else []
        if isinstance(step, Group) and target is not None and len(reading) == 1 and isinstance(reading[0], CallStep):
            ended = _with_pool(step, target, reading[0])
            if ended is not None:
                made[id(step)] = ended
                dropped.add(id(reading[0]))
    return [made.get(id(step), step) for step in steps if id(step) not in dropped]


def _reads(step: Step) -> Iterable[Tensor]:
    if isinstance(step, CallStep):
        return [root(t) for t in step.call.inputs if isinstance(t, Tensor)]
    written = {m.target for m in step.members}
    operands = [root(t) for m in step.members if m.hint is not None for t in m.hint.operands]
    return [*operands, *(x.tensor for m in step.members for x in loads(m.expr) if x.tensor not in written)]


def _image(group: Group) -> Tensor | None:
    """All that a convolution of two axes stores, where that lies as the convolution itself would."""
    hint, stored = group.members[0].hint, [m for m in group.members if m.stored]
    if hint is None or not hint.tuned or not isinstance(hint.params["body"].spec, Conv) or len(stored) != 1:
        return None
    single: dict[Sym, Dim | int] = {v: 0 for v in group.order if v.extent == 1}
    (last,), first = stored, group.members[0]
    alike = d.substitute(last.position, single) == d.substitute(first.position, single) and last.target.dtype is first.tensor.dtype
    return last.target if alike and last.target.shape == first.tensor.shape and last.target.rank == 4 else None


def _with_pool(group: Group, target: Tensor, pool: CallStep) -> Group | None:
    """The convolution in work units of rows of windows, which end with the pool; None where windows overlap or leave the image."""
    call, first = pool.call, group.members[0]
    if not isinstance(call, TemplateCall) or call.body is not fold_windows or call.inputs[0].shape != target.shape:
        return None
    assert first.hint is not None
    body: Body = first.hint.params["body"]
    assert isinstance(body.spec, Conv)
    height, width, outputs, columns, above, left = call.dims[:6]
    rows, across, down, step, gap_down, gap_across = (int(call.constants[name]) for name in _NUMBERS)
    reach, aside = (rows - 1) * gap_down, (across - 1) * gap_across
    sides = (d.compare("lt", (outputs - 1) * down + reach, height), d.compare("lt", (columns - 1) * step + aside, width))
    inside = above == 0 == left and sides == (1, 1) and call.constants["SMALL"] and call.constants["NARROW"]
    line = width * down
    unit = d.dmax(d.floordiv(body.dims[4], d.dmax(line, 1)), 1) * line
    small = d.compare("le", d.dmin(body.dims[2], body.spec.most_rows) * line, MOST_BYTES // ELEMENT_BYTES[body.spec.dtype])
    if not inside or reach >= down or small != 1 or call.types["X"] is not target.dtype:
        return None
    dims = (*body.dims[:4], unit, *body.dims[5:])
    work = d.floordiv(body.unit_work * unit, d.dmax(d.dmin(d.product(target.shape[2:]), body.dims[4]), 1))
    body = replace(body, dims=dims, units=body.spec.work_units(target.shape[0], dims), unit_work=work)
    members = [replace(first, hint=replace(first.hint, params={"body": body})), *group.members[1:]]
    origins, checks = [*group.origins, *pool.origins], [*group.checks, *pool.checks]
    return replace(group, members=members, checks=checks, origins=origins, pool=pool)
