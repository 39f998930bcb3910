"""Gradient nodes replaced by what they mean: the nodes that compute the derivatives, found by differentiation in reverse.

The values that ``xs`` and ``zs`` name cut the graph: what lies between them and ``y`` is walked backwards, and each node adds to the
adjoints of its inputs what its rule (`onnx_numba.passes.derivatives`) makes of the adjoints of its outputs. The adjoint of ``y`` is 1
everywhere, so the gradient is that of the sum of its elements. An operator without a rule is differentiated through the body that the
standard gives for it. Where other values are fed than those named, the nodes in between are copied for them first.

Gradient nodes are replaced in the order in which they stand, so one may differentiate what another has given.

Griewank and Walther, *Evaluating Derivatives*, 2nd ed., chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from onnx_numba.errors import UnsupportedError
from onnx_numba.ir.graph import GRADIENT, Graph, Node, reads
from onnx_numba.ir.types import TensorType
from onnx_numba.ops.gradient import DOMAIN
from onnx_numba.options import Options
from onnx_numba.passes.derivatives import COMPOSED, CONSTANT, RULES, Call, Term, Writer
from onnx_numba.passes.inline import expand
from onnx_numba.passes.known import KnownValues
from onnx_numba.passes.rename import rename_node


def expand_gradients(graph: Graph, options: Options) -> Graph:
    """Replace the Gradient nodes of a graph and of its subgraphs.

    Raises
    ------
    UnsupportedError
        No derivative is known of a node between ``xs`` and ``y``.
    """
    return _Scope(graph, options).expanded() if _has_gradients(graph) else graph


def _has_gradients(graph: Graph) -> bool:
    return any((node.domain, node.op) == GRADIENT or any(map(_has_gradients, node.bodies.values())) for node in graph.nodes)


class _Scope:
    """One graph under way; the nodes of outer graphs that stand before it are in reach as well."""

    def __init__(self, graph: Graph, options: Options, outer: _Scope | None = None) -> None:
        self._graph = graph
        self._options = options
        self._known: KnownValues = KnownValues(graph, options, outer._known if outer else None)
        self._before: list[Node] = outer._before + outer._nodes if outer else []
        self._nodes: list[Node] = []

    def expanded(self) -> Graph:
        for node in self._graph.nodes:
            bodies = {key: _Scope(body, self._options, self).expanded() for key, body in node.bodies.items() if _has_gradients(body)}
            node = replace(node, bodies={**node.bodies, **bodies})
            if (node.domain, node.op) == GRADIENT:
                self._gradient(node)
            else:
                self._add(node)
        return self._graph.with_nodes(tuple(self._nodes))

    def _add(self, node: Node) -> None:
        self._nodes.append(node)
        self._known.add(node)

    def _gradient(self, node: Node) -> None:
        count = len(node.inputs) // 2
        fed, named, y = node.inputs[:count], node.inputs[count:-1], node.inputs[-1]
        between = _between([*self._before, *self._nodes], named, y)
        writer = Writer(self._add, self._known, next(filter(None, node.outputs), node.name), str(node))
        if fed != named:
            # Copies, so that a value fed for one name is not taken for the value of another.
            values = {name: writer("Identity", Term(writer, value)).name for name, value in zip(named, fed, strict=True)}
            named, between, y = tuple(values[name] for name in named), _copied(between, values, writer), values.get(y, y)
        seed = {y: Term(writer, y).filled(1)}
        adjoints = _Reverse(writer).adjoints(between, seed, named[: len(node.attributes["xs"])], named)
        for name, output in zip(named, node.outputs, strict=False):
            if output:
                writer.give(adjoints.get(name) or Term(writer, name).filled(0), output)


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
        copy = replace(copy, outputs=tuple(name and writer.fresh() for name in node.outputs))
        for name, new in zip(node.outputs, copy.outputs, strict=True):
            values.setdefault(name, new)
        writer.emit(copy)
        result.append(copy)
    return result


class _Reverse:
    """Differentiates nodes in reverse."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def adjoints(self, nodes: Sequence[Node], seeds: Mapping[str, Term], wanted: Iterable[str], cuts: Iterable[str]) -> dict[str, Term]:
        """The adjoints of the ``wanted`` values.

        Parameters
        ----------
        nodes : sequence of Node
            What the seeded values are made by, in order.
        seeds : mapping
            Adjoints of results by name.
        wanted : iterable of str
            The values in question.
        cuts : iterable of str
            Values that count as independent, whatever makes them.
        """
        active, given = set(wanted), set(cuts)
        path = []
        for node in nodes:
            if active.intersection(reads(node)) and (node.domain or node.op not in CONSTANT):
                active.update(name for name in node.outputs if name not in given and self._differentiable(name))
                path.append(node)
        found = dict(seeds)
        for node in reversed(path):
            adjoints = [found.get(name) if name and name not in given else None for name in node.outputs]
            if any(adjoints):
                for name, adjoint in self._pulled(node, adjoints, active):
                    found[name] = found[name] + adjoint if name in found else adjoint
        return found

    def _differentiable(self, name: str) -> bool:
        """Whether a value may have a derivative by its type."""
        kind = self._writer.known.type_of(name) if name else None
        return bool(name) and not (isinstance(kind, TensorType) and not kind.dtype.is_float)

    def _pulled(self, node: Node, adjoints: Sequence[Term | None], active: set[str]) -> list[tuple[str, Term]]:
        """What a node adds to the adjoints of its inputs."""
        writer = self._writer
        xs, ys = ([Term(writer, name) if name else None for name in names] for names in (node.inputs, node.outputs))
        call = Call(writer, node, xs, ys, adjoints)
        since, rule = RULES.get(node.op, (0, None))
        if rule and node.domain in ("", DOMAIN) and node.since_version >= since:
            made = zip(node.inputs, rule(call), strict=False)
            return [(name, adjoint) for name, adjoint in made if adjoint is not None and name in active]
        body, outputs = self._body(call)
        seeds = {name: adjoint for name, adjoint in zip(outputs, adjoints, strict=False) if name and adjoint}
        if len(seeds) < sum(adjoint is not None for adjoint in adjoints):
            raise call.unsupported("only of its first output")
        inputs = dict.fromkeys(name for name in node.inputs if name)  # each once: its adjoint is the sum over all its places
        found = self.adjoints(body, seeds, active.intersection(inputs), inputs)
        return [(name, found[name]) for name in inputs if name in active and name in found]

    def _body(self, call: Call) -> tuple[list[Node], list[str]]:
        """A node's results made anew of simpler operators: the nodes, which are added to the graph, and the names of the results."""
        writer, node = self._writer, call.node
        since, composed = COMPOSED.get(node.op, (0, None))
        if composed and node.domain == "" and node.since_version >= since:
            with writer.recorded() as body:
                outputs = composed(call)
            return body, ["" if term is None else term.name for term in outputs]
        fresh = replace(node, outputs=tuple(name and writer.fresh() for name in node.outputs))
        graph = expand(fresh, [writer.known.type_of(name) if name else None for name in node.inputs])
        if graph is None:
            raise UnsupportedError(f"{writer.label}: no derivative is known of {node}")
        for each in graph.nodes:
            writer.emit(each)
        return list(graph.nodes), list(fresh.outputs)
