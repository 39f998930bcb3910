"""Large reductions onto few elements: folds over blocks, which run in parallel, then one fold over the blocks.

The sum of ten million numbers becomes

    partial[b] = sum of x[b * 16384 + k]   over k < min(16384, n - b * 16384)
    y          = sum of partial[b]

Where blocks begin depends on sizes alone, so that the result has the same bits at any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Sym
from onnx_numba.ir.expr import Flat
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import DTYPES
from onnx_numba.schedule.domain import normalise
from onnx_numba.schedule.expand import linear, loads
from onnx_numba.schedule.steps import Group, Member, Step

BLOCK = 16384
"""Elements of a block: some 2 µs of work, and float32 sums of ten million numbers stay within a few units of the last place."""
ROWS = 8
"""A reduction onto more elements than this is parallel as it is."""
LEAST = 4 * BLOCK
"""Elements below which one block does."""


def in_blocks(steps: Sequence[Step]) -> list[Step]:
    """The steps with every large reduction onto few elements made two."""
    return [part for step in steps for part in (_split(step) if isinstance(step, Group) else [step])]


def _split(group: Group) -> list[Step]:
    if not _serial(group) or not _one_sweep(group):
        return [group]
    group = normalise(group)
    if not group.rvars:
        return [group]
    outer, *inner = group.rvars
    assert outer.extent is not None
    below = d.product(v.extent for v in inner if v.extent is not None)
    length = d.dmax(1, d.floordiv(BLOCK, d.dmax(below, 1)))
    blocks = d.ceildiv(outer.extent, length)
    if blocks == 1:  # a size that is not known may still be known to be small
        return [group]
    block = Sym("b", extent=blocks)
    within = Sym("k", extent=d.dmin(length, outer.extent - d.dim(block) * length))
    table = {outer: d.dim(block) * length + d.dim(within)}
    pvars, rvars = (block, *group.pvars), (within, *inner)
    partials, folds = [], []
    for m in group.members:
        if m.kind == "map":
            folds.append(m)
            continue
        partial = _partial(m, block, group.pvars)
        place = linear([d.dim(v) for v in pvars], partial.shape)
        partials.append(
            replace(m, tensor=partial, target=partial, expr=e.substitute(m.expr, table), position=place, stored=True, rvars=rvars)
        )
        folds.append(replace(m, expr=Flat(partial, (place,)), rvars=(block,)))
    first = Group(pvars, rvars, (*pvars, *rvars), partials, group.checks, group.origins)
    return [first, Group(group.pvars, (block,), (block, *group.pvars), folds, [], group.origins)]


def _partial(member: Member, block: Sym, pvars: Sequence[Sym]) -> Tensor:
    shape = tuple(v.extent for v in (block, *pvars) if v.extent is not None)
    return Tensor(f"{member.tensor.name}.blocks", DTYPES[member.tensor.dtype.compute], shape, member.tensor.definition)


def _serial(group: Group) -> bool:
    """Whether one or few threads would do much work; work of unknown size is much."""
    rows = d.product(v.extent for v in group.pvars if v.extent is not None)
    work = d.product(v.extent for v in group.rvars if v.extent is not None)
    return bool(group.rvars) and isinstance(rows, int) and rows <= ROWS and not (isinstance(work, int) and work < LEAST)


def _one_sweep(group: Group) -> bool:
    """Whether the group only folds what it reads, and makes something of the results."""
    results = {m.target for m in group.members}
    reductions = [m for m in group.members if m.kind != "map"]
    return (
        not any(m.kind.startswith("arg") or m.hint for m in reductions)
        and not any(m.inner for m in group.members)
        and not any(load.tensor in results for m in reductions for load in loads(m.expr))
    )
