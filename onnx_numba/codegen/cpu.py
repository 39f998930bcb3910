"""Groups as CPU kernels: loops over outer tiles, inner loops, and sweeps over reduced domains.

A softmax over rows becomes

    def softmax_1a2b3c4d(ctx, bufs, dims, lo, hi):
        x0 = f32_p(bufs, 0)
        x1 = f32_p(bufs, 1)
        s0 = dims[0]
        for i0 in range(lo, hi):
            b0 = i0 * s0
            a0 = f32(-inf)
            for r0 in range(s0):
                a0 = max_(a0, x0[b0 + r0])
            a1 = f32(0.0)
            for r0 in range(s0):
                a1 = acc_add(a1, exp((x0[b0 + r0] - a0)))
            for r0 in range(s0):
                x1[b0 + r0] = (exp((x0[b0 + r0] - a0)) / a1)
        return 0
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from onnx_numba.codegen.emitter import Emitter, Var, literal
from onnx_numba.codegen.kernel import KernelSource, named
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr, Load
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import BOOL, DTYPES, I64, DType
from onnx_numba.schedule.domain import normalise
from onnx_numba.schedule.expand import cost, loads
from onnx_numba.schedule.steps import Group, Member

TILE = 4096
"""Elements of a one-dimensional domain per work unit: 16 KiB of float32 per array, which the second-level cache holds for a dozen."""
CHUNK_WORK = 65536
"""Simple operations that a chunk should at least do: about 20 µs, against some 0.1 µs to claim it."""


def generate(group: Group) -> KernelSource:
    """The kernel of a group."""
    group = normalise(group)
    emitter = Emitter([])
    writer = GroupWriter(group, emitter)
    total, grain = writer.write()
    return named(group.origins, finish(emitter), emitter.buffers, emitter.dims, total, grain)


def finish(emitter: Emitter) -> list[str]:
    """The kernel's lines: pointers, dims, body, return."""
    head = [f"    x{k} = {t.dtype.name}_p(bufs, {k})" for k, t in enumerate(emitter.buffers)]
    head += [f"    s{k} = dims[{k}]" for k in range(len(emitter.dims))]
    (body,) = emitter.blocks
    return [*head, *body.lines, "    return 0"]


class GroupWriter:
    """Writes the loops of one normalised group; ``RANGE`` is what the outer one runs over."""

    RANGE = "lo, hi"

    def __init__(self, group: Group, emitter: Emitter) -> None:
        self.group = group
        self.emitter = emitter
        self.values: dict[Tensor, Expr] = {}  # what the result of a reduction is called
        self.elements: dict[Member, Expr] = {}

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
        last = variables[-1]
        loops.enter_context(self.emitter.loop(last, f"i{len(variables) - 1}"))
        assert last.extent is not None
        return total, last.extent

    def _open_rows(self, loops: ExitStack) -> tuple[Dim | int, Dim | int]:
        total = self._open_outer(loops, self.group.pvars)
        return total, d.product(v.extent for v in self.group.rvars if v.extent is not None)

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
        members = self.group.members
        sweep_of = self._sweeps()
        for number in range(max(sweep_of.values(), default=-1) + 1):
            inside = [m for m in members if sweep_of.get(m) == number]
            reductions = [m for m in inside if m.kind != "map"]
            for m in reductions:
                self._start(m)
            if self.group.rvars:
                with self._reduced_loops():
                    self.emitter.count_uses([self.resolved(m) for m in inside])
                    for m in inside:
                        self._step(m)
            else:
                self.emitter.count_uses([self.resolved(m) for m in inside])
                for m in inside:
                    self._step(m)
            for m in reductions:
                self._finish(m)
        for m in members:
            if m.kind == "map" and not m.inner and m.stored and m not in sweep_of:
                self.emitter.store(m.target, m.position, self.resolved(m))

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

    @contextmanager
    def _reduced_loops(self) -> Iterator[None]:
        with ExitStack() as loops:
            for k, v in enumerate(self.group.rvars):
                loops.enter_context(self.emitter.loop(v, f"r{k}"))
            yield

    def resolved(self, member: Member) -> Expr:
        """The member's expression with other members' elements in place of loads from them."""
        if member not in self.elements:
            value = self._inside(member.expr)
            self.elements[member] = e.cast(value, member.tensor.dtype) if member.kind == "map" else value
        return self.elements[member]

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

    def _start(self, member: Member) -> None:
        name = self.emitter.fresh("a")
        dtype = member.expr.dtype if member.kind.startswith("arg") else DTYPES[member.tensor.dtype.compute]
        self.emitter.define(literal(identity(member.kind, dtype)), name)
        self.emitter.blocks[-1].owned.add(name)
        self.values[member.tensor] = Var(name, dtype)
        if member.kind.startswith("arg"):
            self.emitter.define("i64(0)", f"k{name}")
            self.emitter.blocks[-1].owned.add(f"k{name}")

    def _step(self, member: Member) -> None:
        value = self.resolved(member)
        if member.kind == "map":
            self.emitter.store(member.target, member.position, value)
            return
        accumulator = self.values[member.tensor]
        assert isinstance(accumulator, Var)
        name = accumulator.text
        if member.kind.startswith("arg"):
            self._arg_step(member, value, name)
            return
        text = self.emitter.value(value)
        self.emitter.line(f"{name} = {combine(member.kind, accumulator.dtype, name, text)}")

    def _arg_step(self, member: Member, value: Expr, name: str) -> None:
        text = self.emitter.value(value)
        if not text.isidentifier():
            held = self.emitter.fresh("v")
            self.emitter.line(f"{held} = {text}")
            text = held
        sign = ">" if member.kind.startswith("argmax") else "<"
        test = f"{text} {sign}{'=' if member.kind.endswith('last') else ''} {name}"
        if value.dtype.is_float:  # the first (or last) NaN is the extreme
            seen = f"{name} == {name}" if not member.kind.endswith("last") else "True"
            test = f"({test}) or ({text} != {text} and {seen})"
            test = f"({test}) and ({name} == {name} or {text} != {text})"
        with self.emitter.block(f"if {test}:"):
            self.emitter.line(f"{name} = {text}")
            self.emitter.line(f"k{name} = i64({self.emitter.names[self.group.rvars[0]] if self.group.rvars else 0})")

    def _finish(self, member: Member) -> None:
        accumulator = self.values[member.tensor]
        assert isinstance(accumulator, Var)
        if member.kind.startswith("arg"):
            self.values[member.tensor] = e.cast(Var(f"k{accumulator.text}", I64), member.tensor.dtype)
        if member.stored:
            self.emitter.store(member.target, member.position, self.values[member.tensor])


def identity(kind: str, dtype: DType) -> e.Lit:
    """What an empty reduction gives."""
    if kind in ("sum", "or"):
        return e.lit(False if dtype is BOOL else 0, dtype)
    if kind in ("prod", "and"):
        return e.lit(True if dtype is BOOL else 1, dtype)
    lowest = kind in ("max", "argmax", "argmax_last")
    if dtype.is_float:
        return e.lit(float("-inf") if lowest else float("inf"), dtype)
    if dtype is BOOL:
        return e.lit(not lowest, dtype)
    bits = 8 * dtype.size
    if dtype.kind == "u":
        return e.lit(0 if lowest else (1 << bits) - 1, dtype)
    return e.lit(-(1 << (bits - 1)) if lowest else (1 << (bits - 1)) - 1, dtype)


def combine(kind: str, dtype: DType, a: str, b: str) -> str:
    """One step of a fold."""
    if kind in ("max", "min"):
        return f"{kind}_({a}, {b})" if dtype is not BOOL else f"({a} {'|' if kind == 'max' else '&'} {b})"
    if kind in ("or", "and"):
        return f"({a} {'|' if kind == 'or' else '&'} {b})"
    if dtype.is_float:
        return f"acc_{'add' if kind == 'sum' else 'mul'}({a}, {b})"
    return f"{dtype.name}({a} {'+' if kind == 'sum' else '*'} {b})"


def grain_of(inner: Dim | int, work: int) -> Dim | int:
    """Work units per chunk, from the size of one alone, so that chunks are the same at every thread count."""
    each = inner * work
    if isinstance(each, int):
        return max(1, CHUNK_WORK // max(each, 1))
    return d.dmax(1, d.floordiv(CHUNK_WORK, d.dmax(each, 1)))

