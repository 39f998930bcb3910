"""The loops of a group whose rows run across memory: a block of columns at a time, the columns in the innermost loop.

The mean over axis 0 of a matrix becomes

    a0 = f32_local(4096)
    for i0 in range(lo, hi):                    # blocks of columns
        c0 = i0 * s2
        c1 = min(s0, c0 + s2)
        for j in range(c0, c1):
            a0[j - c0] = f32(0.0)
        for r0 in range(s1):
            b0 = r0 * s0
            for j in range(c0, c1):
                a0[j - c0] = a0[j - c0] + x0[b0 + j]
        for j in range(c0, c1):
            x1[j] = (a0[j - c0] / v0)

What belongs to a column (here one sum) is in local arrays. Every column is folded in order, whatever the block. Where columns are few
``c0 = 0`` and ``c1 = 8``, say: of a number that stands in the code LLVM keeps the sums in registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from onnx_numba.codegen import keep
from onnx_numba.codegen.emitter import LITERAL_LIMIT, Var
from onnx_numba.codegen.folds import better, combine
from onnx_numba.codegen.rows import WRITTEN_OUT, RowWriter, grain_of, walked
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.types import DType
from onnx_numba.schedule.domain import coefficient
from onnx_numba.schedule.expand import cost, loads
from onnx_numba.schedule.steps import Group, Member

WIDEST = 4096
"""Columns for which there is room in a local array."""
LEAST, LEAST_COSTLY = 1024, 256
"""Columns that a block has at least. Bursts of a kilobyte from every row are half as fast as whole rows (float32 means over the channels
of 56 x 56 images: 2.3 ms in blocks of 256 columns, 0.8 ms in one), which costly functions hide."""
COSTLY = 10
FEW = 64
"""So few columns are a number in the code, and what belongs to them stays in registers: sums over 32 rows of 32 float32 take 45 ns in place
of 110, of 8 they take 19 in place of 270. Costly functions gain little, and LLVM may take them in vectors that are too short."""
BLOCKS = 8
"""Blocks that there should be, so that threads can share them, if that does not make them too narrow."""
NARROW = 8
"""Fewer columns than this are no inner loop."""


def by_columns(group: Group) -> bool:
    """Whether fewer accesses jump from element to element when the innermost loop is over columns rather than along a row."""
    if not group.rvars or not group.pvars or all(m.kind == "map" for m in group.members):
        return False
    row, column = group.rvars[-1], group.pvars[-1]
    if isinstance(column.extent, int) and column.extent < NARROW:
        return False
    if any(column in d.symbols(v.extent) for v in group.rvars if v.extent is not None):
        return False  # columns of different lengths, as where a sum is made in parts, have no loop over rows in common
    places = set(_walked(group))
    return _jumps(places, row) > _jumps(places, column)


def _walked(group: Group) -> Iterator[Dim | int]:
    """Positions that the inner loops access."""
    inner = set(group.rvars)
    targets = {m.target for m in group.members if m.target is m.tensor}
    for m in group.members:
        if m.kind == "map" and m.inner and m.stored:
            yield m.position
        for load in loads(m.expr):
            if load.tensor not in targets and d.symbols(load.index[0]) & inner:
                yield load.index[0]


def _jumps(places: Iterable[Dim | int], variable: Sym) -> int:
    return sum(coefficient(place, variable) not in (0, 1) for place in places)


class ColumnWriter(RowWriter):
    """Writes the loops of one normalised group by blocks of columns."""

    widest = WIDEST
    """Columns that there is room for in a local array."""

    def write(self) -> tuple[Dim | int, Dim | int]:
        """Emit everything; answer (total, grain)."""
        *outer, self.column = self.group.pvars
        self.owned: set[str] = set()
        extent = self.column.extent
        assert extent is not None
        work = sum(cost(m.expr) + 2 for m in self.group.members)
        rows = d.product(v.extent for v in outer if v.extent is not None)
        width = d.dmax(LEAST_COSTLY if work > COSTLY else LEAST, d.dmin(WIDEST, d.ceildiv(rows * extent, BLOCKS)))
        with ExitStack() as loops:
            if outer and isinstance(extent, int) and extent <= (LITERAL_LIMIT if work > COSTLY else FEW):
                total = self._open_outer(loops, outer)
                self.emitter.define("0", "c0")
                self.emitter.define(str(extent), "c1")
            else:
                number = Sym("block", extent=d.ceildiv(extent, width))
                total = self._open_outer(loops, (*outer, number))
                step = self.emitter.parameter(width)
                self.emitter.define(f"{self.emitter.names[number]} * {step}", "c0")
                self.emitter.define(f"min({self.emitter.parameter(extent)}, c0 + {step})", "c1")
            self.write_members()
        inner = d.dmin(extent, width) * walked(self.group)
        return total, grain_of(inner, work)

    @property
    def innermost(self) -> Sym:
        """The variable of the innermost loop."""
        return self.column

    def _row(self) -> AbstractContextManager[None]:
        return self._columns("c1")

    @contextmanager
    def _columns(self, stop: str) -> Iterator[None]:
        """A loop over the columns of a block from the first to ``stop``."""
        with self.emitter.loop(self.column, "j", "c0", stop):
            self.emitter.blocks[-1].owned |= self.owned
            yield

    def _prepare(self, values: Sequence[Expr]) -> None:
        """Fill local arrays with what differs from column to column, but not within one, and is not a mere load."""
        found = [v for v in self._column_values(values) if v not in self.replaced]
        if not found:
            return
        with self._row():
            self.emitter.count_uses(found)
            for value in found:
                local = self._accumulator(self.emitter.fresh("p"), value.dtype)
                self.emitter.line(f"{local.text} = {self.emitter.value(value)}")
                self.replaced[value] = local

    def _column_values(self, values: Sequence[Expr]) -> list[Expr]:
        reduced, column = set(self.group.rvars), {self.column}
        found: dict[Expr, None] = {}
        stack, seen = list(values), set()
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if isinstance(node, e.Op) and not keep.depends(node, reduced):
                if cost(node) and (keep.depends(node, column) or any(isinstance(p, Var) for p in keep.parts([node]))):
                    found[node] = None
                continue
            stack.extend(keep.in_any_case(node))
        return list(found)

    def _accumulator(self, name: str, dtype: DType) -> Var:
        top = self.emitter.blocks[0]
        top.lines.append("    " * top.indent + f"{name} = {dtype.name}_local({self.widest})")
        text = f"{name}[j - c0]"
        self.owned.add(text)
        return Var(text, dtype)

    def _side_by_side(self, members: Sequence[Member], waits: bool) -> None:
        super()._side_by_side(members, waits)
        if any(m.kind == "map" for m in members):
            return
        extent, lanes = self.column.extent, self.target.lanes
        # Rows of integers may be folded in any order. LLVM would write the columns out to have vectors of rows, which are far apart.
        free = all(self.folds[m].dtype.is_int for m in members)
        short = isinstance(extent, int) and (lanes <= extent < FEW if free else extent % lanes == 0 and lanes <= extent <= WRITTEN_OUT)
        if short:
            self.emitter.line("in_vectors()")

    def _stream(self, members: Sequence[Member]) -> None:
        if all(m.kind == "map" for m in members):  # else the loop writes to local arrays too
            super()._stream(members)

    def _by_order(self) -> bool:
        extent = self.column.extent  # where there are many, no step waits for another
        return self.target.orders and isinstance(extent, int) and extent <= FEW

    def _combine(self, kind: str, accumulator: Var, text: str) -> str:
        if kind == "sum" and accumulator.dtype.is_float:  # in order: the vectors lie across
            return f"{accumulator.text} + {text}"
        return combine(kind, accumulator.dtype, accumulator.text, text)

    def _arg_step(self, member: Member, value: str) -> None:
        best, position = self.folds[member], self.positions[member].text
        test = self.emitter.fresh("t")
        self.emitter.line(f"{test} = " + better(member.kind, best, value, "&", "|"))
        self.emitter.line(f"{position} = select({test}, {self._position(member)}, {position})")
        self.emitter.line(f"{best.text} = select({test}, {value}, {best.text})")
