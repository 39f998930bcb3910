"""What the derivatives of nodes with graphs inside them have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from onnx_numba.ir.graph import Graph, Node
from onnx_numba.ir.types import TensorType, ValueType
from onnx_numba.passes.derivatives.table import Call
from onnx_numba.passes.derivatives.terms import Body, Term, Writer
from onnx_numba.passes.rename import private


class Differentiation(Protocol):
    """What `onnx_numba.passes.reverse.Reverse` does for the nodes of a graph."""

    def adjoints(self, nodes: Sequence[Node], seeds: Mapping[str, Term], wanted: Iterable[str], cuts: Iterable[str]) -> dict[str, Term]:
        """The adjoints of the ``wanted`` values from those of results."""

    def influence(self, nodes: Sequence[Node], wanted: Iterable[str], cuts: Iterable[str]) -> tuple[set[str], list[Node]]:
        """What changes with the ``wanted`` values, and the nodes through which it does."""


Differentiate = Callable[[Writer], Differentiation]
Adjoints = list[tuple[str, Term]]
"""Names of values that a node reads, and what it adds to their adjoints."""


def again(call: Call, body: Graph) -> Graph:
    """A copy of a graph; it gives the same when it is computed once more, since `onnx_numba.passes.draws` has taken its draws out."""
    return private(body, call.w.fresh() + "»")


def opened(call: Call, body: Graph, kinds: Sequence[ValueType | None]) -> tuple[Body, Graph]:
    """A new graph that begins with the nodes of a copy of another, whose inputs are of the given types."""
    copy = again(call, body)
    inner = Body(call.w, copy.initializers)
    for value, kind in zip(copy.inputs, kinds, strict=True):
        inner.input(kind, value.name)
    for node in copy.nodes:
        inner.emit(node)
    return inner, copy


def by_name(pairs: Iterable[tuple[str, Term | None]]) -> dict[str, Term]:
    """Adjoints by name; a name may stand for several results."""
    seeds: dict[str, Term] = {}
    for name, adjoint in pairs:
        if adjoint is not None:
            seeds[name] = seeds[name].plus(adjoint) if name in seeds else adjoint
    return seeds


def shaped(g: Term, result: Term) -> Term:
    """An adjoint in the shape of its value if its rank is not known, as where that of a branch's result is known in the branch alone."""
    kind = g.writer.known.type_of(g.name)
    return g.reshaped(result.shape) if isinstance(kind, TensorType) and kind.shape is None else g


def or_zeros(g: Term | None, value: Term) -> Term:
    """The adjoint of a value; zeros where there is none."""
    return value.filled(0) if g is None else shaped(g, value)
