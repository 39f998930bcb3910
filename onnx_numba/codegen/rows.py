"""The loops of a group, one row at a time: the parallel domain outside, sweeps over the reduced domain inside.

A softmax over rows becomes

    for i0 in range(lo, hi):
        fetch(4, x0, s0 + i0 * s0, s0)
        a0 = f32(-inf)
        b0 = i0 * s0
        for r0 in range(s0):
            a0 = acc_max(a0, x0[b0 + r0])
        a1 = f32(0.0)
        for r0 in range(s0):
            v0 = exp((x0[b0 + r0] - a0))
            a1 = acc_add(a1, v0)
            x1[b0 + r0] = v0
        v1 = (f32(1.0) / a1)
        for r0 in range(s0):
            x1[b0 + r0] = (x1[b0 + r0] * v1)

What two sweeps need and is costly waits in the output's own row (`onnx_numba.codegen.keep`). If the output may be too large for the caches
it waits in an array of the kernel's own, should the row be short enough: what goes around the caches had better be written once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from onnx_numba.codegen import keep, rests
from onnx_numba.codegen.emitter import LITERAL_LIMIT, Emitter, Var, literal
from onnx_numba.codegen.folds import ORDERED, better, combine, identity
from onnx_numba.codegen.pieces import Stretch, reads_before, stretch
from onnx_numba.codegen.positions import position_type
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr, Flat, Load
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import BOOL, DTYPES, F32, I32, DType
from onnx_numba.native.memory import LONG
from onnx_numba.schedule.domain import coefficient
from onnx_numba.schedule.expand import cost, loads
from onnx_numba.schedule.steps import Group, Member
from onnx_numba.target import Target

TILE = 4096
"""Elements of a one-dimensional domain per work unit: 16 KiB of float32 per array, which the second-level cache holds for a dozen."""
ROOM = 1 << 14
"""Bytes of a row that may wait in an array of the kernel's own: half of the first-level cache, the other half for what is read."""
LONG_LOOP = 10
"""Simple operations of a loop from which LLVM no longer takes two vectors at a time of itself."""
WRITTEN_OUT = 16
"""Iterations of a loop up to which LLVM writes it out before it makes vectors."""
WAITS = 512
"""Elements of a row up to which the end of a fold, where vectors are folded in themselves, takes a large part of it."""
SHORT = 128
"""Elements of a row, of which some at a time are a work unit."""
CHUNK_WORK, CHUNK_LENGTH = 65536, 16384
"""A chunk does so many simple operations or walks along so many elements at least, in 5 to 20 µs, against some 0.1 µs to claim it. Shorter
stretches of memory are left before the processor reads ahead of them."""


class GroupWriter:
    """Writes the loops of one normalised group; ``RANGE`` is what the outer one runs over."""

    RANGE = "lo, hi"
    KEEPS = False
    """Whether a costly value that two sweeps need waits in memory rather than being computed again."""

    def __init__(self, group: Group, emitter: Emitter) -> None:
        self.group = group
        self.emitter = emitter
        self.values: dict[Tensor, Expr] = {}  # what the result of a reduction is called
        self.folds: dict[Member, Var] = {}  # what the steps of a reduction change
        self.positions: dict[Member, Var] = {}  # where an arg-reduction has found its extreme
        self.elements: dict[Member, Expr] = {}
        self.replaced: dict[Expr, Expr] = {}  # values computed already, and where they are
        self.host: Member | None = None  # the member of the last sweep in whose memory values may wait
        self.room: Flat | None = None  # where they do, if any do

    def write(self) -> tuple[Dim | int, Dim | int]:
        """Emit everything; answer (total, grain)."""
        maps = not self.group.rvars and all(m.kind == "map" for m in self.group.members)
        with ExitStack() as loops:
            total, inner = self._open_maps(loops) if maps else self._open_rows(loops)
            self.write_members()
        work = sum(cost(m.expr) + 2 for m in self.group.members)
        return total, grain_of(inner, work)

    # -- outer loops -------------------------------------------------------------------------------------------------

    def _open_maps(self, loops: ExitStack) -> tuple[Dim | int, Dim | int]:
        variables = self.group.pvars
        if not variables:
            loops.enter_context(self.emitter.block(f"for p in range({self.RANGE}):"))
            self.emitter.work = "p"
            return 1, 1
        if len(variables) == 1:
            (v,) = variables
            assert v.extent is not None
            extent = self.emitter.parameter(v.extent)
            loops.enter_context(self.emitter.block(f"for p in range({self.RANGE}):"))
            self.emitter.work = "p"
            loops.enter_context(self.emitter.loop(v, "i0", f"p * {TILE}", f"min({extent}, p * {TILE} + {TILE})"))
            return d.ceildiv(v.extent, TILE), TILE
        total = self._open_outer(loops, variables[:-1])
        return total, self._open_last(loops, variables[-1], len(variables) - 1)

    def _open_last(self, loops: ExitStack, variable: Sym, number: int) -> Dim | int:
        """The innermost loop of maps; answers its length."""
        loops.enter_context(self._along_row(variable, f"i{number}", [m for m in self.group.members if m.stored]))
        assert variable.extent is not None
        return variable.extent

    def _open_rows(self, loops: ExitStack) -> tuple[Dim | int, Dim | int]:
        total = self._open_outer(loops, self.group.pvars)
        return total, walked(self.group)

    def _open_outer(self, loops: ExitStack, variables: Sequence[Sym]) -> Dim | int:
        """One loop over [lo, hi), from whose number the variables are decoded."""
        extents = [v.extent for v in variables if v.extent is not None]
        if len(variables) == 1:
            self.emitter.names[variables[0]] = "i0"
            loops.enter_context(self.emitter.block(f"for i0 in range({self.RANGE}):", variables))
            self.emitter.work = "i0"
            return extents[0]
        loops.enter_context(self.emitter.block(f"for p in range({self.RANGE}):"))
        self.emitter.work = "p"
        rest = "p"
        for k in range(len(variables) - 1, -1, -1):
            name = f"i{k}"
            self.emitter.names[variables[k]] = name
            if k == 0:
                self.emitter.define(rest, name, (variables[k],))
            else:
                extent = self.emitter.parameter(extents[k])
                self.emitter.define(f"urem({rest}, {extent})", name, (variables[k],))
                quotient = self.emitter.fresh("q")
                self.emitter.define(f"udiv({rest}, {extent})", quotient)
                rest = quotient
        return d.product(extents)

    # -- members -----------------------------------------------------------------------------------------------------

    def write_members(self) -> None:
        """Sweeps in the order in which reductions need each other, then what belongs to the row."""
        sweep_of = self._sweeps()
        for m in self.group.members:
            if m.kind != "map":
                self._declare(m)
        sweeps = [[m for m in self.group.members if sweep_of.get(m) == n] for n in range(max(sweep_of.values(), default=-1) + 1)]
        self.host = keep.host_of(sweeps, self.innermost) if self.KEEPS and self.group.rvars else None
        kept: Expr | None = None
        for number, inside in enumerate(sweeps):
            found = self._worth_keeping(sweeps[number:], self.host, kept) if self.host else None
            if self.host and found:
                self.room = self.room or self._room(self.host)
            self._sweep(inside, found)
            if self.room and found:
                if kept is not None:
                    self.replaced.pop(kept, None)
                self.replaced[found], kept = self.room, found
        after = [m for m in self.group.members if m.kind == "map" and not m.inner and m.stored and m not in sweep_of]
        if after:
            with self._results():
                for m in after:
                    self.emitter.store(m.target, m.position, self.ready(m))

    def _worth_keeping(self, sweeps: Sequence[Sequence[Member]], host: Member, kept: Expr | None) -> Expr | None:
        """What the first of these sweeps should leave for those after it."""
        now, later = ([self.resolved(m) for inside in some for m in inside] for some in (sweeps[:1], sweeps[1:]))
        inner = {*self.group.rvars}
        return keep.worth_keeping(now, later, host, lambda v: keep.depends(v, inner), cost(kept) if kept else 0)

    def _room(self, host: Member) -> Flat:
        """Where values of a row wait."""
        return keep.waiting(host)

    def _sweep(self, inside: Sequence[Member], kept: Expr | None) -> None:
        """One walk over the reduced domain; ``kept`` is left in the room when all else has been computed."""
        reductions = [m for m in inside if m.kind != "map"]
        if reductions:
            with self._row():
                for m in reductions:
                    self._start(m)
        self._prepare([self.ready(m) for m in inside])
        with self._reduced_loops(inside), self._row():
            waits = [keep.replace(kept, self.replaced)] if kept else []
            self.emitter.count_uses([*(self.ready(m) for m in inside), *waits])
            self._side_by_side(inside, bool(waits))
            if not waits and not any(self.room and self.room.tensor is m.target for m in inside):
                self._stream(inside)
            for m in sorted(inside, key=lambda m: m is self.host):
                self._step(m)
            for value in waits:
                assert self.room is not None
                self.emitter.store(self.room.tensor, self.room.index[0], value)
        finished = [m for m in reductions if m.stored]
        if finished:
            with self._results():
                for m in finished:
                    self.emitter.store(m.target, m.position, self.values[m.tensor])

    def _side_by_side(self, members: Sequence[Member], waits: bool) -> None:
        """Say in the innermost loop, which also stores a value that ``waits``, that iterations may go on side by side, if they may."""

    def _stream(self, members: Sequence[Member]) -> None:
        """Say in the innermost loop that what it stores, which nothing here reads, may go around the caches."""

    def _sweeps(self) -> dict[Member, int]:
        """The sweep in which each reduction, and each map over the reduced domain that is stored, runs."""
        ready: dict[Tensor, int] = {}  # the first sweep in which a member's value may be used
        sweeps: dict[Member, int] = {}
        by_target = {m.target: m for m in self.group.members if m.kind != "map" or m.target is m.tensor}
        for m in self.group.members:
            needs = 0
            for load in loads(m.expr):
                if load.tensor in by_target:
                    needs = max(needs, ready.get(by_target[load.tensor].tensor, 0))
            if m.kind != "map":
                sweeps[m] = needs
                ready[m.tensor] = needs + 1
            else:
                ready[m.tensor] = needs
                if m.stored and (m.inner or not self.group.rvars):
                    sweeps[m] = needs
        return sweeps

    @property
    def innermost(self) -> Sym:
        """The variable of the innermost loop, of which there is one."""
        return (*self.group.pvars, *self.group.rvars)[-1]

    def _row(self) -> AbstractContextManager[None]:
        """Where what belongs to a row is written."""
        return nullcontext()

    def _results(self) -> AbstractContextManager[None]:
        """Where what has been computed of a row is stored."""
        return self._row()

    def _prepare(self, values: Sequence[Expr]) -> None:
        """Compute what a sweep needs of a row before it begins; in a row's own block that comes about by itself."""

    @contextmanager
    def _reduced_loops(self, members: Sequence[Member]) -> Iterator[None]:
        with ExitStack() as loops:
            for k, v in enumerate(self.group.rvars):
                loop = self._along_row(v, f"r{k}", members) if v is self.innermost else self.emitter.loop(v, f"r{k}")
                loops.enter_context(loop)
            yield

    def _along_row(self, variable: Sym, name: str, members: Sequence[Member]) -> AbstractContextManager[None]:
        """The innermost loop, in which these members are computed."""
        return self.emitter.loop(variable, name)

    def resolved(self, member: Member) -> Expr:
        """The member's expression with other members' elements in place of loads from them."""
        if member not in self.elements:
            value = self._inside(member.expr)
            self.elements[member] = e.cast(value, member.tensor.dtype) if member.kind == "map" else value
        return self.elements[member]

    def ready(self, member: Member) -> Expr:
        """`resolved`, with what has been stored or computed before in place of its value, and what has been computed of that likewise."""
        value = self.resolved(member)
        while (found := keep.replace(value, self.replaced)) != value:
            value = found
        return value

    def _inside(self, value: Expr) -> Expr:
        members = {m.target: m for m in self.group.members if m.target is m.tensor}

        def leaf(node: Expr, again: Callable[[Expr], Expr]) -> Expr | None:
            if isinstance(node, Load):
                member = members.get(node.tensor)
                if member is None:
                    index = tuple(e.resolve(d.substitute(i, {}, again)) for i in node.index)
                    return node.at(index)
                if member.kind != "map":
                    return self.values[node.tensor]
                return e.cast(again(member.expr), member.tensor.dtype)
            if isinstance(node, e.DimVal):
                return e.dimval(e.resolve(d.substitute(node.value, {}, again)), node.dtype)
            return None

        return e.rewrite(value, leaf, {})

    # -- reductions --------------------------------------------------------------------------------------------------

    def _declare(self, member: Member) -> None:
        name = self.emitter.fresh("a")
        positional = member.kind.startswith("arg")
        dtype = member.expr.dtype if positional else DTYPES[member.tensor.dtype.compute]
        ordered = member.kind in ORDERED and dtype is F32 and self._by_order()
        self.folds[member] = self._accumulator(name, I32 if ordered else dtype)
        self.values[member.tensor] = e.of_order(self.folds[member], ORDERED[member.kind]) if ordered else self.folds[member]
        if positional:
            self.positions[member] = self._accumulator(f"k{name}", position_type(member.expr.dtype, self.group.rvars))
            self.values[member.tensor] = e.cast(self.positions[member], member.tensor.dtype)

    def _start(self, member: Member) -> None:
        fold = self.folds[member]
        self.emitter.line(f"{fold.text} = {literal(identity(member.kind, fold.dtype))}")
        if member in self.positions:
            self.emitter.line(f"{self.positions[member].text} = {self.positions[member].dtype.name}(0)")

    def _by_order(self) -> bool:
        """Whether extremes of float32 are those of integers that stand for them."""
        return False

    def _accumulator(self, name: str, dtype: DType) -> Var:
        """A place that a reduction's steps change."""
        self.emitter.blocks[-1].owned.add(name)
        return Var(name, dtype)

    def _step(self, member: Member) -> None:
        value = self.ready(member)
        if member.kind == "map":
            self.emitter.store(member.target, member.position, value)
            return
        fold = self.folds[member]
        if member in self.positions:
            self._arg_step(member, self._named(value))
        else:
            if fold.dtype.is_int and value.dtype.is_float:
                value = e.order(value, ORDERED[member.kind])
            self.emitter.line(f"{fold.text} = {self._combine(member.kind, fold, self.emitter.value(value))}")

    def _combine(self, kind: str, accumulator: Var, text: str) -> str:
        return combine(kind, accumulator.dtype, accumulator.text, text)

    def _named(self, value: Expr) -> str:
        text = self.emitter.value(value)
        if not text.isidentifier():
            held = self.emitter.fresh("v")
            self.emitter.line(f"{held} = {text}")
            text = held
        return text

    def _arg_step(self, member: Member, value: str) -> None:
        best = self.folds[member]
        with self.emitter.block(f"if {better(member.kind, best, value)}:"):
            self.emitter.line(f"{best.text} = {value}")
            self.emitter.line(f"{self.positions[member].text} = {self._position(member)}")

    def _position(self, member: Member) -> str:
        return f"{self.positions[member].dtype.name}({self.emitter.names[self.group.rvars[0]] if self.group.rvars else 0})"


class RowWriter(GroupWriter):
    """For a processor whose caches make a load cheaper than an exponential, and whose C library copies memory."""

    KEEPS = True

    def __init__(self, group: Group, emitter: Emitter, target: Target) -> None:
        super().__init__(group, emitter)
        self.target = target

    def write(self) -> tuple[Dim | int, Dim | int]:
        """Emit everything; answer (total, grain)."""
        if moves_rows(self.group):
            return self._write_moves()
        found = self._stretch()
        return self._write_pieces(found) if found else super().write()

    def _open_maps(self, loops: ExitStack) -> tuple[Dim | int, Dim | int]:
        if len(self.group.pvars) < 3 or not _short(self.group.pvars[-1]):
            return super()._open_maps(loops)
        # The loop around one that is unrolled takes its place, in pieces, so that threads find something to do.
        *outer, along, last = self.group.pvars
        assert along.extent is not None
        piece = TILE // LITERAL_LIMIT
        block = Sym("block", extent=d.ceildiv(along.extent, piece))
        total = self._open_outer(loops, [*outer, block] if block.extent != 1 else outer)
        bounds = ("", "")
        if block.extent != 1:
            first = self.emitter.dim(d.dim(block) * piece)
            bounds = first, f"min({first} + {piece}, {self.emitter.parameter(along.extent)})"
        loops.enter_context(self.emitter.loop(along, f"j{len(outer)}", *bounds))
        return total, d.dmin(piece, along.extent) * self._open_last(loops, last, len(outer) + 1)

    def _open_rows(self, loops: ExitStack) -> tuple[Dim | int, Dim | int]:
        opened = super()._open_rows(loops)
        if max(self._sweeps().values(), default=0) > 0 and not self.target.zen:
            self._fetch_next()
        return opened

    def _fetch_next(self) -> None:
        """Have the next row come from memory while this one, once it is in the cache, is swept again.

        Zen 4 does that of itself: what is asked for keeps it from loads, and a norm of 100 MB takes three halves of the time.
        """
        if len(self.group.rvars) != 1 or not self.group.pvars:
            return
        (along,), across = self.group.rvars, self.group.pvars[-1]
        if along.extent is None or _unrolled(along):
            return  # or many of them one vector
        own = {t for m in self.group.members for t in (m.tensor, m.target)}
        for load in dict.fromkeys(load for m in self.group.members for load in loads(m.expr)):
            index = load.index[0]
            step = coefficient(index, across)
            if load.tensor not in own and not e.values_in(index) and coefficient(index, along) == 1 and step not in (None, 0):
                place = self.emitter.dim(d.substitute(index, {along: 0}) + step)
                size, length = load.tensor.dtype.size, self.emitter.dim(along.extent)
                self.emitter.line(f"fetch({size}, {self.emitter.buffer(load.tensor)}, {place}, {length})")

    def _room(self, host: Member) -> Flat:
        *others, along = self.group.rvars
        extent, size = along.extent, host.target.dtype.size
        if others or along is not self.innermost or not isinstance(extent, int) or extent * size > ROOM or not self.emitter.may_be_large:
            return super()._room(host)
        return Flat(self.emitter.local(host.target, extent), (d.dim(along),))

    def _along_row(self, variable: Sym, name: str, members: Sequence[Member]) -> AbstractContextManager[None]:
        lanes = 0
        if self.target.masks and not _unrolled(variable) and not any(m in self.positions for m in members):
            lanes = rests.width([(m, self.ready(m)) for m in members], variable, self.target.lanes)
        if not lanes or rests.is_whole(variable, lanes):
            return super()._along_row(variable, name, members)
        return rests.in_parts(self.emitter, variable, name, lanes, [self._fold(m) for m in members if m.kind != "map"])

    def _fold(self, member: Member) -> rests.Fold:
        fold = self.folds[member]
        return rests.Fold(fold.text, literal(identity(member.kind, fold.dtype)), functools.partial(self._combine, member.kind, fold))

    def _by_order(self) -> bool:
        if not self.target.orders or not self.group.rvars:
            return False
        extent = self.innermost.extent
        # With masks a maximum of floats takes an instruction less, which counts where no step waits for another.
        return not self.target.masks or not isinstance(extent, int) or LITERAL_LIMIT < extent <= WAITS

    def _side_by_side(self, members: Sequence[Member], waits: bool) -> None:
        if not self.group.pvars and not self.group.rvars:
            return
        maps = all(m.kind == "map" for m in members)
        if maps and sum(cost(self.ready(m)) for m in members) >= LONG_LOOP:
            extent, flat = self.innermost.extent, len(self.group.pvars) == 1 and not self.group.rvars
            self.emitter.line(f"interleave({extent if isinstance(extent, int) else TILE if flat else 0})")
        extent, lanes = self.innermost.extent, self.target.lanes
        if maps and isinstance(extent, int) and lanes <= extent <= WRITTEN_OUT and extent % lanes == 0:
            self.emitter.line("in_vectors()")
        if waits or any(m.kind == "map" for m in members):
            self.emitter.line("apart()")  # every element of a result is written once, and nothing but itself is read of a result

    def _stream(self, members: Sequence[Member]) -> None:
        maps = [m for m in members if m.kind == "map"]
        if maps and (self.group.pvars or self.group.rvars) and all(coefficient(m.position, self.innermost) == 1 for m in maps):
            self.emitter.stream()
            if self.target.fetches and not _unrolled(self.innermost) and self._reads_on(maps):
                self.emitter.fetch()

    def _reads_on(self, members: Sequence[Member]) -> bool:
        """Whether the innermost loop reads elements side by side that the kernel has not made itself."""
        own = {*self.emitter.locals, *(t for m in self.group.members for t in (m.tensor, m.target))}
        found = [load for m in members for load in loads(self.ready(m)) if load.tensor not in own]
        return any(coefficient(load.index[0], self.innermost) == 1 for load in found)

    def _stretch(self) -> Stretch | None:
        """Where on a row of maps what they are chosen by holds, if that is one stretch of it."""
        if self.group.rvars or not self.group.pvars or _unrolled(self.group.pvars[-1]) or any(m.kind != "map" for m in self.group.members):
            return None
        return stretch([self.resolved(m) for m in self.group.members if m.stored], self.group.pvars[-1])

    def _write_pieces(self, found: Stretch) -> tuple[Dim | int, Dim | int]:
        """A loop for each piece of a row."""
        outer, start, length = self._units()
        last = self.group.pvars[-1]
        with ExitStack() as loops:
            total = self._open_outer(loops, outer)
            begin, end = self.emitter.dim(start), self.emitter.dim(start + length)
            first, stop = self._bounds(found, start, end)
            guarded = reads_before([self.resolved(m) for m in self.group.members if m.stored], found, last)
            for holds, low, high in ((False, begin, first), (True, first, stop), (False, stop, end)):
                if low != high:
                    self.replaced = {found.condition: e.lit(holds, BOOL)}
                    branch = self.emitter.branch(f"{low} < {high}") if holds and guarded else nullcontext()
                    with branch, self.emitter.loop(last, f"i{len(outer)}", low, high):
                        self.write_members()
        return total, grain_of(self._along(), sum(cost(m.expr) + 2 for m in self.group.members))

    def _bounds(self, found: Stretch, start: Dim | int, end: str) -> tuple[str, str]:
        """Between two places, where the condition begins to hold and where it ends to."""
        first, stop = self.emitter.dim(start), end
        if found.lows:
            first = f"min({self.emitter.dim(functools.reduce(d.dmax, found.lows, start))}, {end})"
        if not isinstance(found.elsewhere, e.Lit):
            first = f"{first} if {self.emitter.value(found.elsewhere)} else {end}"
        if not first.isidentifier() and first != "0":
            first = self._defined(first)
        if found.highs:
            stop = self._defined(f"max(min({self.emitter.dim(functools.reduce(d.dmin, found.highs))}, {end}), {first})")
        return first, stop

    def _defined(self, text: str) -> str:
        name = self.emitter.fresh("q")
        self.emitter.define(text, name)
        return name

    def _units(self) -> tuple[list[Sym], Dim | int, Dim | int]:
        """Outer variables, and where along the innermost one a work unit begins and how far it goes."""
        *outer, last = self.group.pvars
        assert last.extent is not None
        if outer:
            return outer, 0, last.extent
        block = Sym("block", extent=d.ceildiv(last.extent, TILE))
        return [block], d.dim(block) * TILE, d.dmin(TILE, last.extent - d.dim(block) * TILE)

    def _write_moves(self) -> tuple[Dim | int, Dim | int]:
        outer, start, length = self._units()
        begin = {self.group.pvars[-1]: start}
        with ExitStack() as loops:
            total = self._open_outer(loops, outer)
            for m in self.group.members:
                assert isinstance(m.expr, Load)
                places = [(m.target, m.position), (m.expr.tensor, m.expr.index[0])]
                to, source = (f"{t.dtype.name}_at({self.emitter.buffer(t)}, {self.emitter.dim(d.substitute(i, begin))})" for t, i in places)
                self.emitter.move(m.target.dtype.size, to, source, length)
        return total, grain_of(self._along(), 2 * len(self.group.members))

    def _along(self) -> Dim | int:
        """Elements of a whole work unit."""
        extent = self.group.pvars[-1].extent
        assert extent is not None
        return extent if self.group.pvars[1:] else TILE


def _unrolled(variable: Sym) -> bool:
    """Whether LLVM is told how long a loop is, and that is so short that it unrolls it."""
    return isinstance(variable.extent, int) and variable.extent <= LITERAL_LIMIT


def _short(variable: Sym) -> bool:
    """Whether a loop is so short that it takes less than to find out where it begins, which takes divisions."""
    return isinstance(variable.extent, int) and variable.extent <= SHORT


def moves_rows(group: Group) -> bool:
    """Whether a group does nothing but copy, and the innermost loop runs over elements side by side, not known to be few."""
    if group.rvars or not group.pvars:
        return False
    last = group.pvars[-1]
    targets = {m.target for m in group.members}
    return all(
        m.kind == "map"
        and m.stored
        and isinstance(m.expr, Load)
        and m.expr.tensor not in targets
        and m.expr.tensor.dtype is m.target.dtype
        and not (isinstance(last.extent, int) and last.extent * m.target.dtype.size < LONG)
        and coefficient(m.position, last) == 1
        and coefficient(m.expr.index[0], last) == 1
        and not any(keep.depends(v, {last}) for v in e.values_in(m.expr.index[0]))
        for m in group.members
    )


def walked(group: Group) -> Dim | int:
    """Elements of the reduced domain; the most that there are where a loop's length changes from block to block."""
    extents = (v.extent for v in group.rvars if v.extent is not None)
    return d.product(x if (top := d.bound(x, upper=True)) is None else top for x in extents)


def largest(group: Group) -> Dim | int:
    """Bytes of the largest result that a normalised group has for each element of its domain."""
    elements = d.product(v.extent for v in group.pvars if v.extent is not None) * walked(group)
    return elements * max((m.target.dtype.size for m in group.members if m.kind == "map" and m.stored), default=0)


def grain_of(inner: Dim | int, work: int) -> Dim | int:
    """Work units per chunk, from what one walks along alone, so that chunks are the same at every thread count."""
    each = inner * min(work, CHUNK_WORK // CHUNK_LENGTH)
    if isinstance(each, int):
        return max(1, CHUNK_WORK // max(each, 1))
    return d.dmax(1, d.floordiv(CHUNK_WORK, d.dmax(each, 1)))

