"""What whole vectors leave of a row: computed under masks, on processors whose instructions may leave out elements of a vector.

LLVM takes 64 elements at a time, in four vectors, and what they leave one by one, so that a softmax of 255 takes twice as long as one of
256. Of a sum of exponentials over 197 elements

    a0 = f32(0.0)
    for r0 in range(64 * s0, s1):
        masked(16)
        a0 = acc_add(a0, exp(x0[b0 + r0]))
    c0 = a0
    a0 = f32(0.0)
    for r0 in range(64 * s0):
        a0 = acc_add(a0, exp(x0[b0 + r0]))
    a0 = acc_add(a0, c0)

the rest comes first and is summed up apart, so that its vectors need not wait for the others'. What folds nothing has it last: a processor
does not forward what it has stored under a mask to a load that follows, and the next row needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from onnx_numba.codegen import keep
from onnx_numba.codegen.emitter import Emitter
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr
from onnx_numba.record import record
from onnx_numba.schedule.domain import coefficient
from onnx_numba.schedule.expand import loads
from onnx_numba.schedule.steps import Member

LONG = 4096
"""Elements of a row beside which those of less than four vectors take next to no time."""
VECTORS = 4
"""Vectors that LLVM takes at a time, at most."""
_SCALAR = ("guard", "check_index", "mod", "fmod", "ipow")
"""What no vector can do, or only by its elements one by one, which under masks takes a branch for each."""


@record
class Fold:
    """What the steps of a reduction change: its name, what it begins with, and its step by another's result, as text."""

    name: str
    start: str
    step: Callable[[str], str]


def width(members: Sequence[tuple[Member, Expr]], variable: Sym, lanes: int) -> int:
    """Elements of a vector in the loop over a variable in which members, given with their values, are computed; 0 where there is none.

    ``lanes`` are those of float32. LLVM chooses by the largest type that is read, written or folded.
    """
    extent = variable.extent
    if extent is None or (isinstance(extent, int) and extent > LONG):
        return 0
    if e.values_in(extent) or any(symbol.extent is not None for symbol in d.symbols(extent)):
        return 0  # rows of different lengths
    places = [load.index[0] for _, value in members for load in loads(value)] + [m.position for m, _ in members if m.kind == "map"]
    types = {load.tensor.dtype for _, value in members for load in loads(value)} | {
        m.target.dtype if m.kind == "map" else m.tensor.dtype for m, _ in members
    }
    if any(m.kind == "prod" for m, _ in members):
        return 0  # of few numbers, too large for their product but for a 0 at the end, the order says whether that is 0 or NaN
    if not all(_beside(place, variable) for place in places) or any(t.kind not in "biuf" for t in types):
        return 0
    if any(_is_scalar(node, variable) for _, value in members for node in e.walk(value)):
        return 0
    return 4 * lanes // max((t.size for t in types), default=4)


def _beside(place: Dim | int, variable: Sym) -> bool:
    """Whether elements lie side by side, or it is the same one."""
    return coefficient(place, variable) in (0, 1) and not any(keep.depends(v, {variable}) for v in e.values_in(place))


def _is_scalar(node: Expr, variable: Sym) -> bool:
    if isinstance(node, e.DimVal):
        return coefficient(node.value, variable) is None
    return isinstance(node, e.Op) and (node.name in _SCALAR or (node.name == "div" and node.dtype.is_int))


def is_whole(variable: Sym, lanes: int) -> bool:
    """Whether nothing is left of a row."""
    assert variable.extent is not None
    return d.mod(variable.extent, lanes * VECTORS) == 0


@contextmanager
def in_parts(emitter: Emitter, variable: Sym, name: str, lanes: int, folds: Sequence[Fold]) -> Iterator[None]:
    """A loop of a variable over its extent, in which ``folds`` are stepped: whole blocks of vectors, and their rest under masks."""
    extent, block = variable.extent, lanes * VECTORS
    assert extent is not None
    whole = d.floordiv(extent, block)
    first = f"{block} * {emitter.number(whole)}" if whole != 0 else "0"
    rest, main = (f"for {name} in range({text}):" for text in (f"{first}, {emitter.dim(extent)}", first))
    emitter.names[variable] = name
    with emitter.block(rest if folds or whole == 0 else main, (variable,)) as body:
        yield
    mask = "    " * body.indent + f"masked({lanes})"
    if not folds and whole != 0:
        emitter.again(rest, [mask, *body.lines])
        return
    emitter.blocks[-1].lines.insert(-len(body.lines), mask)
    if whole != 0:
        results = [emitter.fresh("c") for _ in folds]
        for result, fold in zip(results, folds, strict=True):
            emitter.line(f"{result} = {fold.name}")
            emitter.line(f"{fold.name} = {fold.start}")
        emitter.again(main, body.lines)
        for result, fold in zip(results, folds, strict=True):
            emitter.line(f"{fold.name} = {fold.step(result)}")
