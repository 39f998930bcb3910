"""Groups as CPU kernels.

A softmax over rows becomes

    def softmax_1a2b3c4d(ctx, bufs, dims, lo, hi):
        x0 = f32_p(bufs, 0)
        x1 = f32_p(bufs, 1)
        s0 = dims[0]
        for i0 in range(lo, hi):
            ...
        return 0

with the loops of `onnx_numba.codegen.rows`, or those of `onnx_numba.codegen.columns` where a row's elements lie far apart, those of
`onnx_numba.codegen.turned` where rows are short, or those of `onnx_numba.codegen.tiles` where maps read across the direction in which they
write.
"""

from __future__ import annotations

from onnx_numba.codegen.columns import ColumnWriter, by_columns
from onnx_numba.codegen.emitter import Emitter
from onnx_numba.codegen.kernel import KernelSource, named
from onnx_numba.codegen.positions import in_two_sweeps
from onnx_numba.codegen.rows import GroupWriter, RowWriter, largest
from onnx_numba.codegen.tiles import TileWriter, crossing, in_tiles, moves_across, side_by_side
from onnx_numba.codegen.turned import TurnedWriter, turns
from onnx_numba.errors import UnsupportedError
from onnx_numba.schedule.domain import normalise
from onnx_numba.schedule.steps import Group
from onnx_numba.target import Target

__all__ = ["GroupWriter", "finish", "generate"]

NESTED_LOOPS = 20
"""Loops that Python allows in one another."""


def generate(group: Group, target: Target) -> KernelSource:
    """The kernel of a group for a target.

    Raises
    ------
    UnsupportedError
        It needs more loops in one another than Python allows, as a tensor of so high a rank can.
    """
    group = normalise(group)
    emitter = Emitter([], largest(group) if target.streams else 0)
    total, grain = _writer(group, emitter, target).write()
    if emitter.deepest > NESTED_LOOPS:
        where = "; ".join(group.origins)
        raise UnsupportedError(f"{where}: {emitter.deepest} loops in one another, at most {NESTED_LOOPS} are possible; lower the rank")
    written = emitter.written if emitter.streams else 0
    return named(group.origins, finish(emitter), emitter.buffers, emitter.dims, total, grain, emitter.scratch, written)


def _writer(group: Group, emitter: Emitter, target: Target) -> GroupWriter:
    """What writes a normalised group's loops, by how it walks through memory."""
    across = crossing(group)
    if across is not None:
        return TileWriter(in_tiles(group, across, moves_across(group, across), emitter.written), emitter, target)
    if by_columns(group):
        return ColumnWriter(group, emitter, target)
    if turns(group, target):
        return TurnedWriter(group, emitter, target)
    return RowWriter(side_by_side(in_two_sweeps(group)), emitter, target)


def finish(emitter: Emitter) -> list[str]:
    """The kernel's lines: pointers, dims, body, return."""
    head = [f"    x{k} = {t.dtype.name}_p(bufs, {k})" for k, t in enumerate(emitter.buffers)]
    head += [f"    s{k} = dims[{k}]" for k in range(len(emitter.dims))]
    (body,) = emitter.blocks
    end = ["    settle()"] if emitter.settles else []
    return [*head, *body.lines, *end, "    return 0"]
