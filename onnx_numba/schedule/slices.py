"""Products and what is made of them, a few rows at a time.

Attention computes ``softmax(q k) v`` of every head. Step by step it writes the scores of all heads, and reads them again when no near cache
holds them any more. Where those are large, all steps are done for some rows of one head, then for the next,

    for unit in range(6 * 9):                               # 6 heads, 9 times 168 rows of 1500, the last time 156
        rows = 168 from unit % 9 * 168 on
        scores = q[unit // 9, rows] k[unit // 9]            # 168 x 1500
        weights = softmax(scores)
        y[unit // 9, rows] = weights v[unit // 9]

so that scores and weights are those of a slice, in the worker's own memory, and no worker waits for another in between. Kernels are those
of a matrix with as few rows as a slice. No slice overlaps another: products add to what they have written. (T. Dao et al.,
"FlashAttention", 2022, also cut keys in blocks, which rows of scores that fit in a second-level cache do not need.)
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import replace
from functools import partial

from onnx_numba.codegen import keep
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr, Flat, Load
from onnx_numba.ir.loop import Contraction, KernelCall, Program, Tensor
from onnx_numba.schedule.domain import coefficient
from onnx_numba.schedule.expand import root
from onnx_numba.schedule.steps import CallStep, Group, Member, Slices, Step, Strides, Work
from onnx_numba.schedule.tune import Body
from onnx_numba.schedule.uses import reads
from onnx_numba.templates.gemm import Gemm
from onnx_numba.templates.packing import packed_size

LEAST, MOST = 1 << 16, 1 << 19
"""Bytes of a slice's own tensors: of fewer, what is packed and begun for each slice takes too long; more would not be faster where a near
cache holds them, as 2 MB of this size did, and slower where none does."""
ENOUGH = 1 << 20
"""Bytes of all slices' own tensors below which a cache holds them in any case."""
OPERAND = 1 << 20
"""Bytes of a right operand, which every slice reads, at most."""
FEWEST = 6
"""Slices that there are at least, if that is known, so that threads can share them."""
REACH = 8
"""Steps among which those that belong together are."""


def in_slices(steps: Sequence[Step], program: Program, kept: Container[Tensor]) -> list[Work]:
    """The steps, with chains that begin and end by a product made slice by slice; what is ``kept`` stays whole."""
    given = {root(v) for _, v in program.outputs if isinstance(v, Tensor)}
    readers: dict[Tensor, set[int]] = {}
    for position, step in enumerate(steps):
        for tensor in reads(step):
            readers.setdefault(tensor, set()).add(position)
    result: list[Work] = []
    done: set[int] = set()
    for start, step in enumerate(steps):
        if start in done:
            continue
        chain = _chain(steps, start, readers)
        groups = [g for p in chain if isinstance(g := steps[p], Group)]
        inner = [t for g in groups[:-1] for t in g.writes]
        alone = not any(t in given or t in kept or not t.dtype.is_float for t in inner)
        found = _sliced(groups, inner) if chain and alone and done.isdisjoint(range(start, chain[-1] + 1)) else None
        if found is None:
            result.append(step)
            continue
        between = [p for p in range(start, chain[-1]) if p not in chain]  # they need nothing of the chain
        result += [*(steps[p] for p in between), found]
        done.update([*between, *chain])
    return result


def _chain(steps: Sequence[Step], start: int, readers: dict[Tensor, set[int]]) -> list[int]:
    """Positions of a product, of what is made of its result, and of another product of that, which alone is read elsewhere.

    Two products with nothing between gain nothing: each reads a matrix of weights for every slice.
    """
    first = steps[start]
    if not isinstance(first, Group) or _gemm(first) is None:
        return []
    chain, written = [start], {*first.writes}
    for position in range(start + 1, min(start + REACH, len(steps))):
        step = steps[position]
        if written.isdisjoint(reads(step)):
            if isinstance(step, CallStep) and not isinstance(step.call, KernelCall):
                return []  # it might change in place what the chain reads
            continue
        chain.append(position)
        if not isinstance(step, Group) or step.pool is not None or step.prologue is not None:
            return []
        if _gemm(step) is not None:
            return chain if len(chain) > 2 and all(readers.get(t, set()) <= {*chain} for t in written) else []
        if any(m.hint is not None for m in step.members):
            return []
        written.update(step.writes)
    return []


def _gemm(group: Group) -> Body | None:
    """The product that a group computes, unless its right operand is known to be large."""
    hint = group.members[0].hint if group.pool is None and group.prologue is None else None
    if hint is None or not hint.tuned:
        return None
    body: Body = hint.params["body"]
    if not isinstance(body.spec, Gemm) or body.spec.tile.dot is not None:
        return None
    return body if d.compare("le", _packed(body) * hint.operands[1].dtype.size, OPERAND) != 0 else None


def _packed(body: Body) -> Dim | int:
    """Elements of one packed matrix of the right operand."""
    assert isinstance(body.spec, Gemm)
    _, n, k, *_ = body.dims
    return packed_size(n, k, body.spec.tile)


def _sliced(groups: Sequence[Group], inner: Sequence[Tensor]) -> Slices | None:
    """The steps for one slice, and where the others lie; None where that follows no rule, or does not pay."""
    body = _gemm(groups[0])
    assert body is not None and isinstance(body.spec, Gemm)
    variables, rows = groups[0].pvars, body.dims[0]
    matrices = d.product(v.extent for v in variables[: body.batch + body.rows - 1] if v.extent is not None)
    whole = d.total(t.size * t.dtype.size for t in inner)
    if d.compare("lt", whole, ENOUGH) == 1:
        return None
    tile = math.lcm(*(b.spec.tile.rows for b in map(_gemm, groups) if b is not None and isinstance(b.spec, Gemm)))
    each = _rows(rows, matrices, d.floordiv(whole, matrices * rows), tile)
    slices = d.ceildiv(rows, each) * matrices
    if slices == 1 or d.compare("lt", slices, FEWEST) == 1:
        return None
    slicer = _Slicer(groups, matrices, rows, each)
    parts = [slicer.part(g, g is groups[-1]) for g in groups]
    if slicer.failed:
        return None
    strides = {t: at for t, at in slicer.strides.items() if t not in inner}
    axes, strides = _merged(slicer.axes, strides)
    checks = list(dict.fromkeys(c for g in groups for c in g.checks))
    origins = list(dict.fromkeys(o for g in groups for o in g.origins))
    return Slices(parts, axes, rows, each, slicer.count, slicer.start, strides, [slicer.new[t] for t in inner], checks, origins)


def _rows(rows: Dim | int, matrices: Dim | int, size: Dim | int, tile: int) -> Dim | int:
    """How many rows a slice has, each with ``size`` bytes of its own: of about as many as there may be, and whole tiles of them.

    It is as many as there are if nothing is known of them but that they are few.
    """
    size = d.dmax(size, 1)
    most = d.dmax(d.floordiv(MOST, size * tile), 1) * tile
    blocks = d.dmax(d.ceildiv(rows, most), d.ceildiv(FEWEST, d.dmax(matrices, 1)))
    tiles = d.dmax(d.ceildiv(d.ceildiv(rows, blocks), tile), d.ceildiv(LEAST, size * tile))
    return d.dmax(d.dmin(tiles * tile, rows), 1)


class _Slicer:
    """Makes groups those of one slice.

    Attributes
    ----------
    axes : tuple of Dim or int
        Extents of the axes that count matrices, the outermost first.
    strides : dict of Tensor to tuple of (Dim or int)
        Elements from one matrix to the next along each of these axes, and from one row to the next.
    new : dict of Tensor to Tensor
        What the groups make for each other, and what a slice has of it.
    count : Sym, optional
        The rows of a slice where the last one may have fewer; ``own_rows`` are those of any.
    start : Sym
        Where in its matrix a slice begins.
    failed : bool
        Whether some group follows no rule.
    """

    def __init__(self, groups: Sequence[Group], matrices: Dim | int, rows: Dim | int, each: Dim | int) -> None:
        self.matrices, self.rows = matrices, rows
        self.count = None if d.mod(rows, each) == 0 else Sym("rows of a slice")
        self.own_rows = each if self.count is None else d.dim(self.count)
        self.start = Sym("first row of a slice")
        self.whole = each == rows
        self.strides: dict[Tensor, tuple[Dim | int, ...]] = {}
        self.new: dict[Tensor, Tensor] = {}
        self.failed = False
        axes = [tuple(v.extent for v in self._outermost(g) if v.extent is not None and v.extent != 1) for g in groups]
        self.axes = max(axes, key=len)

    def part(self, group: Group, last: bool) -> Group:
        """A group for one slice; the last group's results stay as they are."""
        outer = self._outermost(group)
        if self.failed:
            return group
        row = group.pvars[len(outer)]
        within = Sym(row.name, extent=self.own_rows)
        table: dict[Sym, Dim | int] = {**dict.fromkeys(outer, 0), row: d.dim(within)}
        if not last:
            for m in group.members:
                self._own(m, len(outer))
        members = [self._member(m, outer, row, table) for m in group.members]
        order, pvars = (tuple(within if v is row else v for v in some if v not in outer) for some in (group.order, group.pvars))
        return replace(group, pvars=pvars, order=order, members=members)

    def _outermost(self, group: Group) -> tuple[Sym, ...]:
        """The variables that count matrices; those that count rows follow."""
        below: Dim | int = 1
        for number, v in enumerate(group.pvars):
            if below == self.matrices and v.extent == self.rows:
                return group.pvars[:number]
            assert v.extent is not None
            below = below * v.extent
        self.failed = True
        return ()

    def _own(self, member: Member, axes: int) -> None:
        """A tensor of which a slice is all that there is."""
        t = member.tensor
        self.failed |= member.target is not t or t.shape[axes : axes + 1] != (self.rows,) or d.product(t.shape[:axes]) != self.matrices
        self.new[t] = Tensor(t.name, t.dtype, (self.own_rows, *t.shape[axes + 1 :]), t.definition, t.origin)

    def _member(self, member: Member, outer: Sequence[Sym], row: Sym, table: dict[Sym, Dim | int]) -> Member:
        hint = self._hint(member.hint, len(outer)) if member.hint is not None else None
        for node in e.walk(member.expr) if hint is None else ():
            self._check(node, outer, row)
        if member.stored:
            self._stride(member.target, member.position, outer, row)
        tensor, target = (self.new.get(t, t) for t in (member.tensor, member.target))
        moved: dict[Sym, Dim | int] = {} if self.whole else {row: table[row] + d.dim(self.start)}
        value = e.substitute(e.rewrite(member.expr, partial(self._leaf, moved), {}), table)
        return replace(member, tensor=tensor, target=target, expr=value, position=d.substitute(member.position, table), hint=hint)

    def _leaf(self, moved: dict[Sym, Dim | int], node: Expr, again: object) -> Expr | None:
        """What a slice has of a tensor, and numbers that count rows, which go on from slice to slice."""
        if isinstance(node, Load):
            return Flat(self.new[node.tensor], node.index) if node.tensor in self.new else node
        return e.dimval(d.substitute(node.value, moved), node.dtype) if isinstance(node, e.DimVal) else None

    def _check(self, node: Expr, outer: Sequence[Sym], row: Sym) -> None:
        """That a value depends on which slice it is in by what it reads, and by the number of its row."""
        if isinstance(node, Load):
            self._stride(node.tensor, node.index[0], outer, row)
            self.failed |= any(keep.depends(value, {*outer, row}) for value in e.values_in(node.index[0]))
        elif isinstance(node, e.DimVal):
            self.failed |= not d.symbols(node.value).isdisjoint(outer) or coefficient(node.value, row) is None
        elif isinstance(node, e.Op) and node.name == "check_index":
            self.failed = True  # it would tell of the place in the slice

    def _stride(self, tensor: Tensor, position: Dim | int, outer: Sequence[Sym], row: Sym) -> None:
        self._found(tensor, [(v.extent, coefficient(position, v)) for v in outer if v.extent is not None], coefficient(position, row))

    def _found(self, tensor: Tensor, steps: Sequence[tuple[Dim | int, Dim | int | None]], near: Dim | int | None) -> None:
        far = _spread(steps, self.axes)
        if far is None or near is None or self.strides.setdefault(tensor, (*far, near)) != (*far, near):
            self.failed = True

    def _hint(self, hint: Contraction, axes: int) -> Contraction:
        """The product for a slice: of a single matrix, with its rows."""
        body: Body = hint.params["body"]
        spec, (m, n, k, a_row, a_col) = body.spec, body.dims[:5]
        assert isinstance(spec, Gemm)
        self.failed |= axes != body.batch + body.rows - 1 or m != self.rows
        left, right, *own = hint.operands
        batch = spec.axes(body.dims)
        self._found(left, [(axis[0], axis[1]) for axis in batch], a_row)
        self._found(right, [(axis[0], axis[2] * _packed(body)) for axis in batch], 0)
        for tensor in own:
            self._found(tensor, [(axis[0], axis[3]) for axis in batch], 0)
        single = replace(spec, batch_rank=0)
        dims = single.dims(self.own_rows, n, k, a_row, a_col, b_line=body.dims[6] if own else 0)
        body = replace(body, spec=single, dims=dims, units=single.work_units(dims), unit_work=single.unit_work(dims), batch=0, rows=1)
        return replace(hint, operands=tuple(self.new.get(t, t) for t in hint.operands), params={"body": body})


def _spread(steps: Sequence[tuple[Dim | int, Dim | int | None]], axes: Sequence[Dim | int]) -> list[Dim | int] | None:
    """Strides along axes, given extents and strides of such that may be several of those taken as one; None where they do not fit."""
    left = [(extent, step) for extent, step in steps if extent != 1]
    found: list[Dim | int] = []
    below: Dim | int = 1
    for axis in reversed(axes):
        whole, step = left[-1] if left else (axis, None)
        if step is None:
            return None
        found.insert(0, step * below)
        below = below * axis
        if below == whole:
            left.pop()
            below = 1
    return None if left else found


def _merged(axes: Sequence[Dim | int], strides: Strides) -> tuple[tuple[Dim | int, ...], Strides]:
    """The same with axes as one that every tensor walks so."""
    kept = list(axes)
    for k in reversed(range(len(kept) - 1)):
        if all(at[k] == at[k + 1] * kept[k + 1] for at in strides.values()):
            kept[k : k + 2] = [kept[k] * kept[k + 1]]
            strides = {t: (*at[:k], *at[k + 1 :]) for t, at in strides.items()}
    return tuple(kept), strides
