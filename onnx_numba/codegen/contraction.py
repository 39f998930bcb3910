"""Tuned contractions as kernels: the template's source, with the maps that were fused to it run on every finished block.

A product whose result only a relu sees becomes

    def matmul_relu_1a2b3c4d(ctx, bufs, dims, lo, hi):
        ...
        for unit in range(lo, hi):
            ...                                     # a block of the product, in place of its part of x2
            for ii in range(i0, i1):
                line = f32_at(block, (ii - i0) * pitch)
                for jj in range(j0, j1):
                    sum = line[jj - j0]
                    line[jj - j0] = max_(sum, f32(0.0))
        return 0

What becomes a part of a larger image is stored row by row of that, ``s3`` elements each:

            for ii in range(i0, i1):
                line = i32_at(block, (ii - i0) * pitch)
                for kk in range(udiv(j0, s3), udiv(j1 + s3 - 1, s3)):
                    es1 = kk * s3 - j0
                    for jj in range(max(-es1, 0), min(s3, j1 - j0 - es1)):
                        sum = line[es1 + jj]
                        x4[eb2 + kk * s4 + jj] = max_(sum, f32(0.0))
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from onnx_numba.codegen.cpu import GroupWriter
from onnx_numba.codegen.emitter import Block, Emitter, Var
from onnx_numba.codegen.kernel import KernelSource, named
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr, Load
from onnx_numba.ir.loop import TemplateCall, Tensor
from onnx_numba.ir.types import DTYPES
from onnx_numba.schedule.domain import merge, mergeable, rewrite
from onnx_numba.schedule.expand import loads, root, unravel
from onnx_numba.schedule.steps import CallStep, Group
from onnx_numba.schedule.tune import Body
from onnx_numba.templates.conv import Conv, conv_source
from onnx_numba.templates.depthwise import Depthwise, depthwise_source
from onnx_numba.templates.gemm import Gemm, gemm_source
from onnx_numba.templates.pixels import PixelConv, pixel_source
from onnx_numba.templates.pool import FOLDED, fold_planes

CHUNK_PRODUCTS, LEAST_PRODUCTS = 1 << 19, 3 << 16
"""Multiply-adds of a chunk: 11 µs, since each may pack operands of its own. Less than two of them in all are two shorter ones, unless these
would be so short that they cost as much to hand over as they take, some 4 µs."""


def generate(group: Group) -> KernelSource:
    """The kernel of a group whose first member is a tuned contraction."""
    product = group.members[0]
    assert product.hint is not None
    body: Body = product.hint.params["body"]
    target = _target(group) if group.pool is None else None
    spec = replace(body.spec, in_scratch=target is None)
    emitter = EpilogueEmitter([*product.hint.operands, *([target] if target else [])], list(body.dims))
    lines = _epilogue(group, body, emitter, target if group.pool is None else _folded(group.pool))
    end = [] if group.pool is None else _pool(group.pool, emitter)
    if group.pool is not None and group.pool_first:
        lines, end = [], [*end, *_results(group.pool, emitter), *lines]
    start = _prologue(group, body, emitter)
    match spec:
        case Gemm():
            text = gemm_source("kernel", spec, lambda _: lines)
        case Depthwise():
            text = depthwise_source("kernel", spec, lambda _: lines)
        case PixelConv():
            text = pixel_source("kernel", spec, lambda _: lines, start)
        case Conv():
            text = conv_source("kernel", spec, lambda _: lines, lambda _: end, _in_parts(group, body), start)
    _, _, text = text.partition(":\n")
    used = set(re.findall(r"\w+", "\n".join([*start, *lines, *end, *emitter.blocks[0].lines])))
    head = [f"    x{k} = {t.dtype.name}_p(bufs, {k})" for k, t in enumerate(emitter.buffers) if f"x{k}" in used]
    head += [f"    s{k} = dims[{k}]" for k in range(len(emitter.dims)) if f"s{k}" in used]
    source = [*head, *emitter.blocks[0].lines, *text.rstrip().splitlines()]
    return named(group.origins, source, emitter.buffers, emitter.dims, body.units, _grain(body), spec.scratch_bytes(body.dims))


def _grain(body: Body) -> Dim | int:
    """Work units per chunk, from sizes alone. Where only the run knows how much a unit is, this is computed in each, and kept short."""
    each = d.dmax(body.unit_work, 1)
    most = d.floordiv(CHUNK_PRODUCTS, each)
    return d.dmax(d.floordiv(LEAST_PRODUCTS, each), d.dmin(most, d.ceildiv(body.units, 2))) if isinstance(each, int) else most


class EpilogueEmitter(Emitter):
    """An emitter of lines inside another kernel, beside whose names and after whose buffers and dims its own come."""

    def __init__(self, buffers: list[Tensor], dims: list[Dim | int]) -> None:
        super().__init__(buffers)
        self.dims = dims
        self.work = "unit"

    def fresh(self, prefix: str) -> str:
        """A name not used before, nor by the kernel around."""
        return super().fresh(f"e{prefix}")


def _target(group: Group) -> Tensor | None:
    """The tensor in whose memory the product is formed; None where none receives it at its own positions.

    If only other members see the product, the first of them that is stored like it is made out of it in place.
    """
    product = group.members[0]
    single: dict[Sym, Dim | int] = {v: 0 for v in group.order if v.extent == 1}  # which not every position speaks of
    place = d.substitute(product.position, single)
    for m in group.members:
        same = d.substitute(m.position, single) == place
        alike = same and m.target is m.tensor and m.target.dtype is product.tensor.dtype
        if m.stored and alike and m.target.shape == product.tensor.shape:
            return m.target
    return None


def _in_parts(group: Group, body: Body) -> bool:
    """Whether what follows the product is better run on short rows that are in the first cache than on long ones.

    It is not where it reads a tensor of the product's size or makes two: rows of what is in no cache should be long. Nor where it makes
    bytes, of which a short row is little more than a vector, and the rest of it is done one by one.
    """
    made, columns = {m.target for m in group.members}, set(group.pvars[body.batch + body.rows :])
    others = (load for m in group.members[1:] for load in loads(m.expr) if load.tensor not in made)
    alone = len(group.writes) == 1 and not any(d.symbols(index) & columns for load in others for index in load.index)
    return alone and group.writes[0].dtype.size > 1


def _folded(pool: CallStep) -> Tensor:
    """The tensor that a pool reads, of which there is only ever the block that has just been made."""
    assert isinstance(pool.call, TemplateCall)
    return root(pool.call.inputs[0])


def _pool(step: CallStep, emitter: EpilogueEmitter) -> list[str]:
    """The lines that fold the windows of a block of whole rows of them: rows into the first of each window, then neighbours in it.

    The image may end with the rows that the last windows see, before their stride does.

    For a MaxPool by 2 of 60 columns, of which a block has an even number of rows::

        for ii in range(i0, i1):
            for kk in range(udiv(j0, s15), min(udiv(j1 + s15 - 1, s15), s16)):
                lines = f32_at(block, (ii - i0) * pitch + kk * s15 - j0)
                for jj in range(s17):
                    interleave(16)
                    apart()
                    lines[jj] = acc_max(lines[0 * s17 + jj], lines[1 * s17 + jj])
        for ii in range(i0, i1):
            for kk in range(udiv(j0, s15), min(udiv(j1 + s15 - 1, s15), s16)):
                windows = f32_at(block, (ii - i0) * pitch + kk * s15 - j0)
                row = f32_at(x4, ((batch * s18 + ii) * s16 + kk) * s19)
                for jj in range(s19):
                    interleave(16)
                    apart()
                    row[jj] = acc_max(windows[jj * 2 + 0], windows[jj * 2 + 1])
    """
    call = step.call
    assert isinstance(call, TemplateCall)
    if call.body is fold_planes:
        return _planes(step, call, emitter)
    (result,) = (t for t in step.outputs if isinstance(t, Tensor))
    _, width, outputs, columns = call.dims[:4]
    t, down = result.dtype.name, int(call.constants["DOWN"])
    line, row, many, length, features = map(emitter.parameter, (width * down, width, outputs, columns, result.shape[1]))
    names = {"x": "jj", "j": "jj", "width": row}
    folds = [re.sub(r"\b(x|j|width)\b", lambda m: names[m[0]], str(call.constants[name])) for name in ("DOWNWARDS", "SIDEWAYS")]
    start = f"{t}_at(block, (ii - i0) * pitch + kk * {line} - j0)"
    return f"""\
for ii in range(i0, i1):
    for kk in range(udiv(j0, {line}), min(udiv(j1 + {line} - 1, {line}), {many})):
        lines = {start}
        for jj in range({row}):
            interleave(16)
            apart()
            lines[jj] = {folds[0]}
for ii in range(i0, i1):
    for kk in range(udiv(j0, {line}), min(udiv(j1 + {line} - 1, {line}), {many})):
        windows = {start}
        row = {t}_at({emitter.buffer(result)}, ((batch * {features} + ii) * {many} + kk) * {length})
        for jj in range({length}):
            interleave(16)
            apart()
            row[jj] = {folds[1]}""".splitlines()


def _planes(step: CallStep, call: TemplateCall, emitter: EpilogueEmitter) -> list[str]:
    """The same in vectors of a target's masked loads, of units that overlap: each folds the windows that begin from ``unit_begin`` on.

    ::

        y0 = udiv(unit_begin, s17)
        for ii in range(i0, i1):
            lines = f32_at(block, (ii - i0) * pitch)
            row = f32_at(x4, ((batch * s18 + ii) * s19 + y0) * s20)
            fold_plane(1, 0, 3, 3, 2, 2, 1, 1, 16, lines, f32(1), row, udiv(columns, s21), s21, min(udiv(unit_step, s17), s19 - y0), s20,
                       udiv(j0, s21) + s22 - y0 * 2, s23)
    """
    (result,) = (t for t in step.outputs if isinstance(t, Tensor))
    t, constants, (_, width, outputs, columns, above, left) = result.dtype.name, call.constants, call.dims[:6]
    down = int(constants["DOWN"])
    line, row, many, length, features = map(emitter.parameter, (width * down, width, outputs, columns, result.shape[1]))
    top, side = map(emitter.parameter, (above, left))
    literals = ", ".join(str(constants[name]) for name in FOLDED)
    return f"""\
y0 = udiv(unit_begin, {line})
for ii in range(i0, i1):
    lines = {t}_at(block, (ii - i0) * pitch)
    row = {t}_at({emitter.buffer(result)}, ((batch * {features} + ii) * {many} + y0) * {length})
    fold_plane({literals}, lines, {t}({constants["SHARE"]}), row, udiv(columns, {row}), {row},
               min(udiv(unit_step, {line}), {many} - y0), {length}, udiv(j0, {row}) + {top} - y0 * {down}, {side})""".splitlines()


def _results(step: CallStep, emitter: EpilogueEmitter) -> list[str]:
    """The lines that have an epilogue run on what a pool has made, in place of a block.

    ::

        block = f32_at(x4, ((batch * s18 + i0) * s19 + y0) * s20)
        pitch = s19 * s20
        j0 = 0
        j1 = min(udiv(unit_step, s17), s19 - y0) * s20
    """
    call = step.call
    assert isinstance(call, TemplateCall)
    (result,) = (t for t in step.outputs if isinstance(t, Tensor))
    line, many, length, features = map(
        emitter.parameter, (call.dims[1] * int(call.constants["DOWN"]), call.dims[2], call.dims[3], result.shape[1])
    )
    return f"""\
block = {result.dtype.name}_at({emitter.buffer(result)}, ((batch * {features} + i0) * {many} + y0) * {length})
pitch = {many} * {length}
j0 = 0
j1 = min(udiv(unit_step, {line}), {many} - y0) * {length}""".splitlines()


def _epilogue(group: Group, body: Body, emitter: EpilogueEmitter, target: Tensor | None) -> list[str]:
    """The lines that make the other members out of a block."""
    product = group.members[0]
    if not any(m.stored for m in group.members[1:]):
        return []
    group, (batch, row, *columns) = _axes(group, body)
    product, name = group.members[0], "sum"
    writer = GroupWriter(group, emitter)
    writer.values[product.tensor] = Var(name, product.expr.dtype)
    unit = Block(2, (batch,))
    emitter.names[batch] = "batch"
    emitter.blocks.append(unit)
    with emitter.loop(row, "ii", "i0", "i1"):
        emitter.line(f"line = {product.tensor.dtype.name}_at(block, (ii - i0) * pitch)")
        with _columns(emitter, columns) as element:
            emitter.define(element, name)
            emitter.blocks[-1].owned.add(name)
            stored = [m for m in group.members[1:] if m.stored]
            emitter.count_uses([writer.resolved(m) for m in stored])
            for m in stored:
                if m.target is target:
                    emitter.line(f"{element} = {emitter.value(writer.resolved(m))}")
                else:
                    emitter.store(m.target, m.position, writer.resolved(m))
    emitter.blocks.pop()
    return [line.removeprefix("        ") for line in unit.lines]


@contextmanager
def _columns(emitter: EpilogueEmitter, columns: Sequence[Sym]) -> Iterator[str]:
    """The loop over the columns of a block, or those over stretches of columns and along each; answers where the element is."""
    if len(columns) == 1:
        with emitter.loop(columns[0], "jj", "j0", "j1"):
            yield "line[jj - j0]"
        return
    across, along = columns
    assert along.extent is not None
    length = emitter.parameter(along.extent)
    with emitter.loop(across, "kk", f"udiv(j0, {length})", f"udiv(j1 + {length} - 1, {length})"):
        start = emitter.fresh("s")
        emitter.define(f"kk * {length} - j0", start)
        with emitter.loop(along, "jj", f"max(-{start}, 0)", f"min({length}, j1 - j0 - {start})"):
            yield f"line[{start} + jj]"


def _prologue(group: Group, body: Body, emitter: EpilogueEmitter) -> list[str]:
    """The lines that change what a convolution has laid out of an image: see `onnx_numba.templates.conv.altered`."""
    if group.prologue is None:
        return []
    hint = group.members[0].hint
    assert hint is not None and isinstance(body.spec, (Conv, PixelConv))
    maker, (batch, row, column) = _axes(group.prologue, body)
    (member,), source = maker.members, hint.operands[0]
    value = Var("value", DTYPES[source.dtype.compute])

    def leaf(node: Expr, again: Callable[[Expr], Expr]) -> Expr | None:
        return value if isinstance(node, Load) and node.tensor is source else node if isinstance(node, Load) else None

    unit = Block(2, (batch,))
    emitter.names[batch] = "batch"
    emitter.blocks.append(unit)
    with emitter.loop(row, "ii", "i0", "i1"):
        emitter.line(f"line = {source.dtype.name}_at(patch, (ii - i0) * held)")
        with emitter.loop(column, "jj", "", "width"):
            emitter.line(f"interleave({body.spec.tile.lanes})")
            emitter.define("line[jj]", value.text)
            emitter.blocks[-1].owned.add(value.text)
            result = e.rewrite(member.expr, leaf, {})
            emitter.count_uses([result])
            emitter.line(f"line[jj] = {emitter.value(result)}")
    emitter.blocks.pop()
    return [line.removeprefix("        ") for line in unit.lines]


def _axes(group: Group, body: Body) -> tuple[Group, list[Sym]]:
    """The group over the number of the matrix, the row and the column, of which there may be two: stretches of columns, and along one.

    Axes that every index walks as one become one. Where some index does not, the last axis of columns stays apart, so that nothing is
    divided for an element; others are taken from the flat number by division.
    """
    ends = (0, body.batch, body.batch + body.rows, len(group.pvars))
    roles = [[v for v in group.pvars[a:b] if v.extent != 1] for a, b in itertools.pairwise(ends)]
    group = rewrite(group, {v: 0 for v in group.order if v.extent == 1}, [v for v in group.order if v.extent != 1])
    flat: list[Sym] = []
    for role, name in zip(roles, ("m", "i", "j"), strict=True):
        while len(role) > 1:
            pair = next(((a, b) for a, b in itertools.pairwise(role) if mergeable(group, a, b)), None)
            if pair is None:
                break
            before = set(group.pvars)
            group = merge(group, *pair)
            (whole,) = set(group.pvars) - before
            role[role.index(pair[0])] = whole
            role.remove(pair[1])
        last = [role.pop()] if name == "j" and len(role) > 1 else []
        if len(role) == 1:
            flat += [*role, *last]
            continue
        extents = tuple(v.extent for v in role if v.extent is not None)
        number = Sym(name, extent=d.product(extents))
        table = dict(zip(role, unravel(d.dim(number), extents), strict=True))
        kept = [v for v in group.order if v not in role]
        pvars = (*(v for v in group.pvars if v not in role), number)
        group = replace(rewrite(group, table, kept), pvars=pvars, order=(number, *kept))
        flat += [number, *last]
    return group, flat
