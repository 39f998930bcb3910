"""Gradient nodes replaced by what they mean: the nodes that compute the derivatives, found by differentiation in reverse.

The values that ``xs`` and ``zs`` name cut the graph: what lies between them and ``y`` is walked backwards
(`onnx_numba.passes.reverse`). The adjoint of ``y`` is 1 everywhere, so the gradient is that of the sum of its elements. Where other
values are fed than those named, the nodes in between are copied for them first.

The standard lets ``xs`` be tensors of any type, and gradients be float16, float32 and float64. Integers are numbers with real neighbours
(`onnx_numba.passes.derivatives.integers`), truth values and strings have none, so their gradients are 0. A complex tensor is differentiated
by its real part: the gradient is the real part of the complex derivative.

Gradient nodes are replaced in the order in which they stand, so one may differentiate what another has given. Nodes whose meaning hangs
on who reads them are written out on the way, since derivatives read other values than the graph did (`onnx_numba.passes.training`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from onnx_numba.errors import DeferredError
from onnx_numba.ir.graph import GRADIENT, Graph, Node, reads
from onnx_numba.ir.types import F32, TensorType
from onnx_numba.ops.gradient import DOMAIN, PULLBACK
from onnx_numba.options import Options
from onnx_numba.passes.dce import remove_dead_code
from onnx_numba.passes.derivatives import Term, Writer
from onnx_numba.passes.draws import with_draws
from onnx_numba.passes.gradient import has
from onnx_numba.passes.known import KnownValues
from onnx_numba.passes.rename import private, rename_node
from onnx_numba.passes.reverse import Reverse
from onnx_numba.passes.training import trains_for_readers, with_readers, write_training


def differentiated(graph: Graph, options: Options) -> Graph:
    """The graph with what the Gradient nodes of it and of its subgraphs mean."""
    return _Scope(graph, options).expanded()


class _Scope:
    """One graph under way; the nodes of outer graphs that stand before it are in reach as well."""

    def __init__(self, graph: Graph, options: Options, outer: _Scope | None = None) -> None:
        self._graph = graph
        self._options = options
        self._known: KnownValues = KnownValues(graph, options, outer._known if outer else None)
        self._before: list[Node] = outer._before + outer._meant if outer else []
        self._nodes: list[Node] = []
        # As they are differentiated.
        self._meant: list[Node] = []

    def expanded(self) -> Graph:
        live = {name for node in remove_dead_code(self._graph).nodes for name in node.outputs}
        differentiates = has(self._graph, GRADIENT)
        for node in self._graph.nodes:
            if (node.domain, node.op) == PULLBACK:
                self._pullback(node)
                continue
            bodies = {key: _Scope(body, self._options, self).expanded() for key, body in node.bodies.items()}
            node = replace(with_readers(node, live), bodies=bodies)
            if (node.domain, node.op) == GRADIENT:
                self._gradient(node)
            elif trains_for_readers(node):
                with self._writing(node) as writer:
                    write_training(node, writer)
            elif differentiates:
                for each, meant in with_draws(node, Writer(lambda _: None, self._known, f"{_named(node)}/drawn", str(node))):
                    self._add(each, meant)
            else:
                self._add(node)
        return self._graph.with_nodes(tuple(self._nodes))

    def _add(self, node: Node, meant: Node | None = None) -> None:
        self._nodes.append(node)
        self._meant.append(meant or node)
        self._known.add(node)

    @contextmanager
    def _writing(self, node: Node) -> Iterator[Writer]:
        """A writer whose nodes take a node's place at the end of a block."""
        writer = Writer(self._known.add, self._known, _named(node), str(node))
        with writer.recorded() as made:
            yield writer
        self._nodes += made
        self._meant += made

    def _pullback(self, node: Node) -> None:
        try:
            with self._writing(node) as writer:
                for term, name in zip(Reverse(writer).pulled_back(node), node.outputs, strict=True):
                    if name:
                        writer.give(term, name)
        except DeferredError:
            self._add(node)

    def _gradient(self, node: Node) -> None:
        with self._writing(node) as writer:
            self._differentiate(node, writer)

    def _differentiate(self, node: Node, writer: Writer) -> None:
        count = len(node.inputs) // 2
        fed, named, y = node.inputs[:count], node.inputs[count:-1], node.inputs[-1]
        between = _between([*self._before, *self._meant], named, y)
        if fed != named:
            # Copies, so that a value fed for one name is not taken for the value of another.
            values = {name: writer("Identity", Term(writer, value)).name for name, value in zip(named, fed, strict=True)}
            named, between, y = tuple(values[name] for name in named), _copied(between, values, writer), values.get(y, y)
        reverse = Reverse(writer)
        seed = {y: Term(writer, y).filled(1)} if reverse.smooth(y) else {}
        adjoints = reverse.adjoints(between, seed, named[: len(node.attributes["xs"])], named)
        for name, output in zip(named, node.outputs, strict=False):
            if output:
                adjoint = adjoints.get(name) or Term(writer, name).filled(0)
                writer.give(self._in_type(adjoint, name, y, output), output)

    def _in_type(self, adjoint: Term, x: str, y: str, output: str) -> Term:
        """A derivative in the type that the graph declares for it, else in that of the first of ``x`` and ``y`` that is one of floats."""
        declared = {value.name: value.type for value in self._graph.outputs}
        kinds = [declared.get(output), *map(self._known.type_of, (x, y))]
        if kinds[0] is None and not isinstance(kinds[1], TensorType):
            return adjoint
        found = next((kind.dtype for kind in kinds if isinstance(kind, TensorType) and kind.dtype.is_float), F32)
        w, given = adjoint.writer, self._known.type_of(adjoint.name)
        if isinstance(given, TensorType) and given.dtype is found:
            return adjoint
        if isinstance(given, TensorType) and given.dtype.kind == "c":
            adjoint = w.add("RealPart", [adjoint], domain=DOMAIN)[0]
        return w("Cast", adjoint, to=found.onnx)


def _named(node: Node) -> str:
    """A name that only this node has."""
    return next(filter(None, node.outputs), node.name)


def _between(nodes: Sequence[Node], cuts: Iterable[str], y: str) -> list[Node]:
    """The nodes that ``y`` needs, the values at ``cuts`` given."""
    given = set(cuts)
    needed = {y} - given
    found = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            found.append(node)
            needed.update(set(reads(node)) - given)
    return found[::-1]


def _copied(nodes: Sequence[Node], values: dict[str, str], writer: Writer) -> list[Node]:
    """The nodes, copies of those that depend on the names in ``values`` for what these are replaced by; adds what the copies make."""
    result = []
    for node in nodes:
        if not any(name in values for name in reads(node)):
            result.append(node)
            continue
        copy = rename_node(node, lambda name: values.get(name, name))
        bodies = {key: private(body, writer.fresh()) for key, body in copy.bodies.items()}
        copy = replace(copy, outputs=tuple(name and writer.fresh() for name in node.outputs), bodies=bodies)
        for name, new in zip(node.outputs, copy.outputs, strict=True):
            values.setdefault(name, new)
        writer.emit(copy)
        result.append(copy)
    return result
