"""The loops of maps that read along one axis and write along another: both axes in blocks, which are transposed in registers.

A transposed matrix plus one becomes

    t0 = f32_local(4096)
    for p in range(lo, hi):                     # blocks of 16 x 256 elements of the result
        i1 = urem(p, s0)
        i0 = udiv(p, s0)
        q0 = min(16, s1 + i0 * -16)
        q1 = min(256, s2 + i1 * -256)
        transpose_block(4, 16, t0, q1, f32_at(x0, i1 * s4 + i0 * 16), s1, q0, q1, 0)
        for i2 in range(q0):
            b0 = i2 * q1
            b1 = i0 * s5 + i1 * 256 + i2 * s2
            for i3 in range(q1):
                streams()
                x1[b1 + i3] = (t0[b0 + i3] + f32(1.0))

A mere transposition needs no local array and no loops: its block goes straight to the result, unless that is so large that it had better go
around the caches. Then a wide block and a few elements more are transposed into scratch, and of each row all lines of the cache are written
that begin in the block, as a line that is written in parts would be read first::

    t0 = f32_scratch(ctx, 0)
    for p in range(lo, hi):
        ...
        if goes_around(ctx) and (s7 >= 1024 or urem(s7, 16) == 0):
            transpose_block(4, 16, t0, 288, f32_at(x0, i1 * s7 + i0 * s4), s6, q3, q4, 1)
            for r5 in range(q3):
                b6 = r5 * 288
                b7 = b10 + r5 * s3
                q8 = 0 if i1 == 0 else min(q4, to_line(x1, b7))
                q9 = min(q4, q2 + to_line(x1, b7 + q2))
                copy_around(4, f32_at(x1, b7 + q8), f32_at(t0, b6 + q8), q9 - q8)
        else:
            transpose_block(4, 16, f32_at(x1, i0 * s8 + i1 * s1), s3, f32_at(x0, i1 * s7 + i0 * s4), s6, q3, q2, 0)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from onnx_numba.codegen import keep
from onnx_numba.codegen.emitter import Emitter
from onnx_numba.codegen.rows import RowWriter, grain_of
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr, Flat, Load
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.plan import AROUND
from onnx_numba.native.transpose import LEAST, square_lanes
from onnx_numba.record import record
from onnx_numba.schedule.domain import coefficient, merge, mergeable, rewrite
from onnx_numba.schedule.expand import cost
from onnx_numba.schedule.steps import Group, Member
from onnx_numba.target import Target

LINE = 64
"""Bytes that a block reads of a row: a whole line of the cache, or else it would be fetched again for the next block."""
WIDE = 256
"""Elements of a block along the axis that is written: a quarter of the first-level cache for elements of 4 bytes. Blocks as wide as this go
through memory twice as fast as those that are walked in the order in which they are read."""
STRETCH, NARROWER = 1024, 64
"""The same two where rows are long, or may be, and nothing is done but move them. A Zen 4 that reads so much of a row at once takes 13 ms,
not 24, for 100 MB; to Sapphire Rapids all blocks from 16 x 16 to 512 x 512 are one. In short rows such blocks cost up to a seventh. Results
that go around the caches are as wide as others: fewer lines are written in two parts, 256 KiB a block are in the second cache."""
LONG = 1024
"""Elements from which on it does not matter that a row begins and ends in the middle of a line."""
SMALL = 1024
"""Elements up to which plain loops do, which compile faster."""
MOST = 4
"""Local arrays that a kernel has at most."""


def crossing(group: Group) -> Sym | None:
    """The loop along which elements lie side by side that the innermost loop, along which results do, reads with jumps."""
    if group.rvars or len(group.pvars) < 2 or any(m.kind != "map" for m in group.members):
        return None
    *others, last = group.pvars
    size = d.product(v.extent for v in group.pvars if v.extent is not None)
    if _below(size, SMALL) or _below(last.extent, LEAST):
        return None
    votes: Counter[Sym] = Counter()
    for load in _outside(group, [m.expr for m in group.members if m.stored]):
        votes.update(v for v in others if not _below(v.extent, LEAST) and _crosses(load, v, last))
    return max(votes, key=votes.__getitem__, default=None)


def side_by_side(group: Group) -> Group:
    """The group with a short loop inside the one around it, if results go along that and the short one's elements lie side by side.

    The colours of a picture, ``y[c, i] = x[i, c]``, become

        for i0 in range(lo, hi):
            for i1 in range(3):
                x1[i1 * s0 + i0] = x0[i0 * 3 + i1]

    of which LLVM makes vectors that hold all colours of some pixels, and then parts them; each colour on its own would be gathered, and the
    picture be read three times.
    """
    if group.rvars or len(group.pvars) < 2 or any(m.kind != "map" for m in group.members):
        return group
    *others, last = group.pvars
    for load in _outside(group, [m.expr for m in group.members if m.stored]):
        index = load.index[0]
        for v in others:
            few = isinstance(v.extent, int) and v.extent < LEAST and not _below(last.extent, LEAST)
            if few and coefficient(index, v) == 1 and coefficient(index, last) == v.extent:
                order = (*(w for w in others if w is not v), last, v)
                return replace(group, pvars=order, order=order)
    return group


def _below(extent: Dim | int | None, least: int) -> bool:
    return isinstance(extent, int) and extent < least


def _outside(group: Group, values: Iterable[Expr]) -> list[Load]:
    """Loads of what the group does not compute, which no condition guards."""
    targets = {m.target for m in group.members}
    return [node for node in keep.parts(values) if isinstance(node, Load) and node.tensor not in targets]


def _crosses(load: Load, across: Sym, last: Sym) -> bool:
    """Whether a load goes from one element to the next along ``across``, and by a step forward along ``last``."""
    index = load.index[0]
    step = coefficient(index, last)
    if step is None or step in (0, 1) or coefficient(index, across) != 1 or e.values_in(index):
        return False
    return d.at_least_zero(step) and not any(s.extent is not None for s in d.symbols(step))


def moves_across(group: Group, across: Sym) -> bool:
    """Whether a group does nothing but move rows that are long, or may be, across the direction in which it writes."""
    stored = [m for m in group.members if m.stored]
    shortest = 2 * STRETCH // max(m.target.dtype.size for m in stored)
    return not _below(across.extent, shortest) and all(_merely_moved(group, m, across) for m in stored)


@record
class Tiles:
    """A group with both axes in blocks.

    Attributes
    ----------
    group : Group
        Its ``pvars`` end with the two places in a block, before them the numbers of blocks of an axis that may have more than one.
    moves : bool
        Whether it does nothing but move rows that may be long, see `moves_across`.
    length, wide : Dim or int
        Elements of a whole block along the axis that is read, and along the one that is written.
    extent : Dim or int
        All elements along the latter.
    number : Sym or None
        Which of the blocks along it this is, if there may be several.
    """

    group: Group
    moves: bool
    length: Dim | int
    wide: Dim | int
    extent: Dim | int
    number: Sym | None


def in_tiles(group: Group, across: Sym, moves: bool, written: Dim | int) -> Tiles:
    """A group's axes ``across`` and the one of its results in blocks.

    Where results are narrow, blocks are so much longer the other way; where the group only moves rows, they are long in any case, and the
    wider the nearer the result's bytes, ``written``, come to those that go around the caches (they are 0 if none do).
    """
    last = group.pvars[-1]
    assert across.extent is not None and last.extent is not None
    loads = _outside(group, [m.expr for m in group.members if m.stored])
    element = max(load.tensor.dtype.size for load in loads if _crosses(load, across, last))
    line = LINE // element
    wide: Dim | int = WIDE
    width = d.dmin(WIDE, last.extent)
    shortest, narrowest = line, WIDE
    if moves:
        shortest, narrowest = STRETCH // element, NARROWER
        wide = d.dmin(WIDE, NARROWER * d.dmax(1, d.floordiv(written, AROUND * NARROWER // WIDE)))
    length = d.dmax(shortest, d.floordiv(line * WIDE, d.dmax(width, 1)))
    numbers: dict[Sym, Sym] = {}
    places, table = [], {}
    for variable, size, least in ((across, length, shortest), (last, wide, narrowest)):
        assert variable.extent is not None
        if isinstance(variable.extent, int) and variable.extent <= (size if isinstance(size, int) else least):
            places.append(variable)
            continue
        number = Sym(variable.name + "b", extent=d.ceildiv(variable.extent, size))
        place = Sym(variable.name, extent=d.dmin(size, variable.extent - d.dim(number) * size))
        table[variable] = d.dim(number) * size + d.dim(place)
        numbers[variable] = number
        places.append(place)
    order = (*(v for v in group.pvars if v not in (across, last)), *numbers.values(), *places)
    blocks = replace(rewrite(group, table, order), pvars=order, order=order)
    return Tiles(blocks, moves, length, wide, last.extent, numbers.get(last))


def _merely_moved(group: Group, m: Member, across: Sym) -> bool:
    """Whether all that a member does is to read from elsewhere, across the direction in which it writes."""
    load, last = m.expr, group.pvars[-1]
    return (
        isinstance(load, Load)
        and load in _outside(group, [load])
        and load.tensor.dtype is m.target.dtype
        and _crosses(load, across, last)
        and coefficient(m.position, last) == 1
        and coefficient(m.position, across) is not None
    )


class TileWriter(RowWriter):
    """Writes the loops of a group that `in_tiles` has made."""

    def __init__(self, tiles: Tiles, emitter: Emitter, target: Target) -> None:
        super().__init__(tiles.group, emitter, target)
        self.tiles = tiles
        *self.outer, self.across, self.last = tiles.group.pvars

    def write(self) -> tuple[Dim | int, Dim | int]:
        """Emit everything; answer (total, grain)."""
        stored = [m for m in self.group.members if m.stored]
        computed = [m for m in stored if not self.tiles.moves and not _merely_moved(self.group, m, self.across)]
        with ExitStack() as loops:
            total = self._open_outer(loops, self.outer)
            for m in stored:
                if m not in computed:
                    self._move(m)
            if computed:
                self._compute(computed)
        work = sum(cost(m.expr) + 2 for m in stored)
        return total, grain_of(self._largest_block(), work)

    def _largest_block(self) -> int:
        """Elements of a block that no border cuts off, as far as they are known before a run."""
        length, width = (d.bound(v.extent, upper=True) for v in (self.across, self.last) if v.extent is not None)
        if isinstance(length, int) and isinstance(width, int):
            return length * width
        return (STRETCH * NARROWER if self.tiles.moves else LINE * WIDE) // max(m.target.dtype.size for m in self.group.members if m.stored)

    def _move(self, m: Member) -> None:
        assert isinstance(m.expr, Load)
        pays = self._pays_around(m) if self.emitter.may_be_large else ""
        if pays == "":
            self._into_result(m, m.expr)
        elif pays is True and isinstance(self.emitter.written, int):
            self._around(m, m.expr)
        else:
            with self.emitter.block("if goes_around(ctx):" if pays is True else f"if goes_around(ctx) and ({pays}):"):
                self._around(m, m.expr)
            with self.emitter.block("else:"):
                self._into_result(m, m.expr)

    def _pays_around(self, m: Member) -> bool | str:
        """Whether nearly all lines that the rows of a result are in are theirs alone; else what the run has to ask, or nothing if not."""
        extent, pitch, line = self.tiles.extent, coefficient(m.position, self.across), LINE // m.target.dtype.size
        long, aligned = (isinstance(extent, int) and extent >= LONG), (isinstance(pitch, int) and pitch % line == 0)
        if long or aligned or self._is_whole(m):
            return True
        assert pitch is not None
        tests = [] if isinstance(extent, int) else [f"{self.emitter.dim(extent)} >= {LONG}"]
        tests += [] if isinstance(pitch, int) else [f"urem({self.emitter.dim(pitch)}, {line}) == 0"]
        return " or ".join(tests)

    def _is_whole(self, m: Member) -> bool:
        """Whether rows of the result follow one another without a gap, each of them in one block."""
        return self.tiles.number is None and coefficient(m.position, self.across) == self.tiles.extent

    def _into_result(self, m: Member, load: Load) -> None:
        pitch = coefficient(m.position, self.across)
        assert pitch is not None
        self._transpose(self._at(m.target, m.position), self.emitter.dim(pitch), load)

    def _around(self, m: Member, load: Load) -> None:
        """Transpose a block into scratch and write around the caches, of each row, the lines that begin in it."""
        emitter, tiles, length, line = self.emitter, self.tiles, self.across.extent, LINE // load.tensor.dtype.size
        assert length is not None and self.last.extent is not None
        at, pitch = d.substitute(m.position, {self.last: 0}), d.dmin(tiles.wide + line, tiles.extent)
        whole = self._is_whole(m)
        if not whole:
            pitch = pitch + line  # a power of two would let all rows meet in the same places of the first cache
        block = emitter.in_scratch(load.tensor, d.dmin(1, d.floordiv(emitter.written, AROUND)) * tiles.length * pitch)
        reach = tiles.extent if tiles.number is None else d.dmin(tiles.wide + line, tiles.extent - d.dim(tiles.number) * tiles.wide)
        self._transpose(emitter.buffer(block), emitter.dim(pitch), load, reach)
        if whole:
            self._write_around(m.target, d.substitute(at, {self.across: 0}), block, 0, pitch * length, pitch * length)
        else:
            with emitter.loop(self.across, emitter.fresh("r")):
                self._write_around(m.target, at, block, d.dim(self.across) * pitch, self.last.extent, reach)

    def _write_around(self, target: Tensor, at: Dim | int, block: Tensor, start: Dim | int, width: Dim | int, reach: Dim | int) -> None:
        """Copy a row: lines that begin in its first ``width`` elements, as far as ``reach``, and in the first block what is before them."""
        emitter, number, to, source = self.emitter, self.tiles.number, self.emitter.buffer(target), self.emitter.buffer(block)
        name, (begin, source_begin) = target.dtype.name, (emitter.fresh("b") for _ in range(2))
        emitter.line(f"{begin} = {emitter.dim(at)}")
        emitter.line(f"{source_begin} = {emitter.dim(start)}")
        first, count = "", emitter.dim(reach)
        if number is not None:
            skipped, stop, columns = emitter.fresh("q"), emitter.fresh("q"), emitter.dim(width)
            emitter.line(f"{skipped} = 0 if {emitter.dim(d.dim(number))} == 0 else min({count}, to_line({to}, {begin}))")
            emitter.line(f"{stop} = min({count}, {columns} + to_line({to}, {begin} + {columns}))")
            first, count = f" + {skipped}", f"{stop} - {skipped}"
        places = f"{name}_at({to}, {begin}{first}), {name}_at({source}, {source_begin}{first})"
        emitter.line(f"copy_around({target.dtype.size}, {places}, {count})")
        emitter.goes_around()

    def _compute(self, members: Sequence[Member]) -> None:
        loads = _outside(self.group, [self.resolved(m) for m in members])
        assert self.last.extent is not None
        pitch = self.last.extent
        for load in [x for x in loads if _crosses(x, self.across, self.last)][:MOST]:
            local = self.emitter.local(load.tensor, LINE // load.tensor.dtype.size * WIDE)
            self._transpose(self.emitter.buffer(local), self.emitter.dim(pitch), load)
            self.replaced[load] = Flat(local, (d.dim(self.across) * pitch + d.dim(self.last),))
        block = replace(self.group, members=[replace(m, expr=self.ready(m)) for m in members])
        if mergeable(block, self.across, self.last):
            # Rows of the result that follow one another, and may be short.
            block = merge(block, self.across, self.last)
        with ExitStack() as loops:
            for k in range(len(self.outer), len(block.pvars)):
                loops.enter_context(self.emitter.loop(block.pvars[k], f"i{k}"))
            self.emitter.count_uses([m.expr for m in block.members])
            if all(coefficient(m.position, block.pvars[-1]) == 1 for m in block.members):
                self.emitter.stream()
            for m in block.members:
                self.emitter.store(m.target, m.position, m.expr)

    def _transpose(self, to: str, pitch: str, load: Load, reach: Dim | int | None = None) -> None:
        """Transpose a block, to be written at once; or with a reach, into scratch."""
        size, step = load.tensor.dtype.size, coefficient(load.index[0], self.last)
        assert step is not None and self.across.extent is not None and self.last.extent is not None
        rows, columns = self.emitter.dim(self.across.extent), self.emitter.dim(self.last.extent if reach is None else reach)
        start = self._at(load.tensor, load.index[0])
        literals, as_read = f"{size}, {square_lanes(self.target, size)}", int(reach is not None)
        self.emitter.line(f"transpose_block({literals}, {to}, {pitch}, {start}, {self.emitter.dim(step)}, {rows}, {columns}, {as_read})")

    def _at(self, tensor: Tensor, index: Dim | int) -> str:
        """A tensor from the block's first element on."""
        first = d.substitute(index, {self.across: 0, self.last: 0})
        return f"{tensor.dtype.name}_at({self.emitter.buffer(tensor)}, {self.emitter.dim(first)})"
