"""The loops of a group whose rows are short and side by side: many rows at a time, over which the vectors lie.

A softmax over rows of ten becomes

    t0 = f32_local(640)
    t1 = f32_local(640)
    a0 = f32_local(64)
    a1 = f32_local(64)
    p0 = f32_local(64)
    for i0 in range(lo, hi):                    # blocks of 64 rows
        c0 = 0
        c1 = 64
        q0 = min(64, s1 + i0 * -64)
        if q0 < 64:
            memset(t0, 0, 2560)
        transpose_block(4, 8, t0, 64, f32_at(x0, i0 * s0), 10, 10, q0, 0)
        for j in range(c0, c1):
            a0[j - c0] = f32(-inf)
        for r0 in range(10):
            b0 = r0 * 64
            for j in range(c0, c1):
                a0[j - c0] = acc_max(a0[j - c0], t0[b0 + j])
        ...
        transpose_block(4, 8, f32_at(x1, i0 * s0), 10, t1, 64, q0, 10, 0)

with the loops of `onnx_numba.codegen.columns` over local arrays. Along a short row every fold ends in one of a vector's own elements, and
what is left of the row goes element by element, which both take longer than all else. The last block may have fewer rows: with zeros in
place of the others, and what is computed of these is left behind. What is one number for a row, such as the label of the greatest, is
stored for the rows that there are, ``for j in range(c0, q0)``, and alone may look things up.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace

from onnx_numba.codegen import keep
from onnx_numba.codegen.columns import ColumnWriter
from onnx_numba.codegen.emitter import LITERAL_LIMIT, Emitter
from onnx_numba.codegen.rests import VECTORS
from onnx_numba.codegen.rows import grain_of
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Flat, Load
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F32
from onnx_numba.native.transpose import square_lanes
from onnx_numba.schedule.domain import coefficient, rewrite
from onnx_numba.schedule.expand import HEAVY, cost, loads
from onnx_numba.schedule.steps import Group, Member
from onnx_numba.target import Target

MANY, FEWER, ROOMY = 64, 32, 8192
"""Rows of a block, the fewer where the many would have more bytes than that. Of 16 rows a processor still writes the first ones when it is
to read longer vectors of what it writes, and waits: the softmax of ten takes three times as long."""
VECTOR = 16
"""Rows of the longest vectors."""
SHORTEST, LONGEST, LONGEST_COSTLY = 9, LITERAL_LIMIT, 100
"""Elements of a row. LLVM takes several rows of fewer at a time by itself. Of more it makes vectors along the row, and does well unless a
costly function is left to be computed element by element. Where masks leave none (`onnx_numba.codegen.rests`) it does well as soon as there
is a block of whole vectors, if no costly function of one number for a row remains, as of LogSoftmax the logarithm: memory is then read and
written all the while. The softmax of 5,000 rows of 100 takes 290 µs in place of 380. 16-bit elements take longer under masks."""
COSTLY = 8
"""Simple operations of such a function."""
SQUARE = 8
"""Elements along a square that is turned in registers, at most: 16 are no faster and take longer to compile."""
MOST = 4
"""Tensors that a kernel turns at most."""


def turns(group: Group, target: Target) -> bool:
    """Whether a normalised group's rows are such that many at a time pay, and all that it reads and writes can be turned."""
    if len(group.rvars) != 1 or not group.pvars:
        return False
    (along,), across = group.rvars, group.pvars[-1]
    if not isinstance(along.extent, int) or not SHORTEST <= along.extent <= _longest(group, along, target):
        return False
    if isinstance(across.extent, int) and across.extent < LITERAL_LIMIT:
        return False
    folds, stored = [m for m in group.members if m.kind != "map"], stored_inside(group)
    if not folds or not stored or len({m.target for m in stored}) < len(stored):
        return False
    if not all(_turned(m.position, along, across) for m in stored):
        return False
    everywhere = _nodes(_needed([*folds, *stored], group))
    if any(isinstance(node, e.Op) and node.name in ("guard", "check_index") for node in everywhere):
        return False
    turned, others = _loads(group, everywhere, along, across)
    return 0 < len(turned) <= MOST - len(stored) and not any(
        across in d.symbols(load.index[0]) or e.values_in(load.index[0]) for load in others
    )


def stored_inside(group: Group) -> list[Member]:
    """What is stored for each element of a row."""
    return [m for m in group.members if m.stored and m.kind == "map" and m.inner]


def _needed(members: Sequence[Member], group: Group) -> list[Member]:
    """Members and those that they need."""
    of = {m.target: m for m in group.members}
    found = dict.fromkeys(members)
    waiting = list(members)
    while waiting:
        for load in loads(waiting.pop().expr):
            member = of.get(load.tensor)
            if member is not None and member not in found:
                found[member] = None
                waiting.append(member)
    return list(found)


def _longest(group: Group, along: Sym, target: Target) -> int:
    costly = [n for n in _nodes(group.members) if isinstance(n, e.Op) and HEAVY.get(n.name, 1) >= COSTLY]
    inner = [n for n in costly if keep.depends(n, {along})]
    if not inner:
        return LONGEST
    words = all(m.target.dtype.size >= F32.size for m in stored_inside(group))
    return VECTORS * target.lanes - 1 if target.masks and words and len(inner) == len(costly) else LONGEST_COSTLY


def _nodes(members: Sequence[Member]) -> list[e.Expr]:
    return list(dict.fromkeys(e.walk(*(m.expr for m in members))))


def _loads(group: Group, nodes: Sequence[e.Expr], along: Sym, across: Sym) -> tuple[list[Load], list[Load]]:
    """Loads of what the group does not compute: those that go along rows, and others."""
    targets = {m.target for m in group.members}
    found = [node for node in nodes if isinstance(node, Load) and node.tensor not in targets]
    turned = [load for load in found if _turned(load.index[0], along, across)]
    return turned, [load for load in found if load not in turned]


def _turned(index: Dim | int, along: Sym, across: Sym) -> bool:
    """Whether an index goes from one element to the next along a row, and by some step from row to row."""
    return not e.values_in(index) and coefficient(index, along) == 1 and coefficient(index, across) not in (None, 0)


class TurnedWriter(ColumnWriter):
    """Writes the loops of a group of short rows."""

    def __init__(self, group: Group, emitter: Emitter, target: Target) -> None:
        *outer, rows = group.pvars
        (self.along,) = group.rvars
        assert rows.extent is not None and isinstance(self.along.extent, int)
        self.length = self.along.extent
        size = max(m.target.dtype.size for m in stored_inside(group))
        self.widest = MANY if self.length * size * MANY <= ROOMY else FEWER
        number = Sym(rows.name + "b", extent=d.ceildiv(rows.extent, self.widest))
        self.column = Sym(rows.name, extent=self.widest)
        self.count = d.dmin(self.widest, rows.extent - d.dim(number) * self.widest)
        order = tuple(w for v in group.order for w in ((number, self.column) if v is rows else (v,)))
        group = rewrite(group, {rows: d.dim(number) * self.widest + d.dim(self.column)}, order)
        super().__init__(replace(group, pvars=(*outer, number, self.column)), emitter, target)

    def write(self) -> tuple[Dim | int, Dim | int]:
        """Emit everything; answer (total, grain)."""
        self.owned: set[str] = set()
        work = sum(cost(m.expr) + 2 for m in self.group.members)
        with ExitStack() as loops:
            total = self._open_outer(loops, self.group.pvars[:-1])
            self.emitter.define("0", "c0")
            self.emitter.define(self._width(), "c1")
            place = d.dim(self.along) * self.widest + d.dim(self.column)
            for load in _loads(self.group, _nodes(self.group.members), self.along, self.column)[0]:
                local = self.emitter.local(load.tensor, self.length * self.widest)
                self._clear(local)
                self._turn(load.tensor, load.index[0], local, inward=True)
                self.replaced[load] = Flat(local, (place,))
            self._write_turned(place)
        return total, grain_of(self.widest * self.length, work)

    def _write_turned(self, place: Dim | int) -> None:
        """The members, of which those that are stored take their places in local arrays first."""
        stored = stored_inside(self.group)
        rooms = [self.emitter.local(m.target, self.length * self.widest) for m in stored]
        members = [replace(m, position=place) if m in stored else m for m in self.group.members]
        self.group = replace(self.group, members=members)
        for m, room in zip(stored, rooms, strict=True):
            self.emitter.locals[m.target] = self.emitter.locals[room]
        self.write_members()
        for m, room in zip(stored, rooms, strict=True):
            del self.emitter.locals[m.target]
            self._turn(m.target, m.position, room, inward=False)

    def _width(self) -> str:
        """Rows that are computed: all of a block, or, beside numbers of rows, no more than make the vectors whole.

        What has such numbers is a classifier, and asked about one row as often as about many: with ten classes it takes 0.3 µs less then.
        Nothing but a softmax takes a fifth longer where the number is not known.
        """
        if all(m.kind == "map" and m.inner for m in self.group.members if m.stored):
            return str(self.widest)
        return f"{VECTOR} * (({self.emitter.dim(self.count)} + {VECTOR - 1}) // {VECTOR})"

    def _results(self) -> AbstractContextManager[None]:
        return self._columns(self.emitter.dim(self.count))

    def _clear(self, local: Tensor) -> None:
        """Put zeros where a block has no rows: a processor computes with what is there, and slowly with numbers that are not normal."""
        with self.emitter.block(f"if {self.emitter.dim(self.count)} < {self.widest}:"):
            self.emitter.line(f"memset({self.emitter.buffer(local)}, 0, {self.length * self.widest * local.dtype.size})")

    def _turn(self, tensor: Tensor, index: Dim | int, local: Tensor, inward: bool) -> None:
        """Move a block of rows to a local array, in which they run across, or back."""
        size, step = tensor.dtype.size, coefficient(index, self.column)
        assert step is not None
        first = d.substitute(index, {self.along: 0, self.column: 0})
        rows = f"{tensor.dtype.name}_at({self.emitter.buffer(tensor)}, {self.emitter.dim(first)}), {self.emitter.dim(step)}"
        columns = f"{self.emitter.buffer(local)}, {self.widest}"
        length, count = self.emitter.dim(self.length), self.emitter.dim(self.count)
        blocks = f"{columns}, {rows}, {length}, {count}" if inward else f"{rows}, {columns}, {count}, {length}"
        self.emitter.line(f"transpose_block({size}, {min(SQUARE, square_lanes(self.target, size))}, {blocks}, 0)")

    def _stream(self, members: Sequence[Member]) -> None:
        """Nothing: loops write to local arrays."""
