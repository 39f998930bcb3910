"""Differentiation in reverse: from the adjoints of results to those of the values that they are made of.

The nodes are walked backwards, and each adds to the adjoints of its inputs what its rule (`onnx_numba.passes.derivatives`) makes of the
adjoints of its outputs. An operator without a rule is differentiated through the body that the standard gives for it.

What a node adds may take the ranks of the values that it reads, and a run alone may know them. The node is then put into a *Pullback*,
which is given these values, the node's results and their adjoints, and is replaced by what the node adds in the run that first reaches it
(`onnx_numba.segment`). So the rules need not be written for unknown ranks: nearly all would be longer and slower, and some there cannot be,
as no operator transposes the last two axes of a tensor of any rank. Each node is put off by itself rather than the whole of a Gradient,
since ranks of values inside a Loop or a branch are known there alone. Of ``y = MatMul(a, b)``, whose adjoint is ``g``::

    da, db = Pullback(y, g, a, b) <of = () => (z) { z = MatMul(a, b) }>

Griewank and Walther, *Evaluating Derivatives*, 2nd ed., chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from onnx_numba.errors import DeferredError, UnsupportedError
from onnx_numba.ir.graph import Graph, Node, Value, reads
from onnx_numba.ops.gradient import PULLBACK, inside
from onnx_numba.passes.derivatives import COMPOSED, CONSTANT, DOMAINS, EXAMPLES, RULES, Call, Term, Writer, control, integers
from onnx_numba.passes.derivatives.bodies import by_name
from onnx_numba.passes.inline import expand
from onnx_numba.passes.schema_functions import is_fixed, is_function


class Reverse:
    """Differentiates nodes in reverse.

    Parameters
    ----------
    writer : Writer
        Takes the nodes that compute the derivatives.
    """

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
        given = set(cuts)
        active, path = self.influence(nodes, wanted, given)
        found = dict(seeds)
        for node in reversed(path):
            adjoints = [found.get(name) if name in active and name not in given else None for name in node.outputs]
            if any(adjoints):
                for name, adjoint in self._pulled(node, adjoints, active):
                    found[name] = found[name].plus(adjoint) if name in found else adjoint
        return found

    def influence(self, nodes: Sequence[Node], wanted: Iterable[str], cuts: Iterable[str]) -> tuple[set[str], list[Node]]:
        """What changes smoothly with the ``wanted`` values, they included, and the nodes through which it does; see `adjoints`."""
        active, given = set(filter(self.smooth, wanted)), set(cuts)
        path = []
        for node in nodes:
            if active.intersection(_counted(node)):
                active.update(name for k, name in enumerate(node.outputs) if name not in given and self._passed_on(node, k, active))
                path.append(node)
        return active, path

    def smooth(self, name: str) -> bool:
        """Whether a value may have a derivative by its type: it has numbers in it, or nothing is known of it."""
        element = inside(self._writer.known.type_of(name)) if name else None
        return bool(name) and (element is None or element.dtype.kind in "fciu")

    def pulled_back(self, node: Node) -> list[Term]:
        """What a Pullback gives.

        Raises
        ------
        DeferredError
            The rank of a value is not yet known.
        """
        writer, of = self._writer, node.bodies["of"].nodes[0]
        count = len(of.outputs)
        terms = [Term(writer, name) if name else None for name in node.inputs]
        xs = [Term(writer, name) if name else None for name in of.inputs]
        wanted = [Term(writer, name) for name in node.inputs[2 * count :]]
        active = {x.name for x in wanted}
        call = Call(writer, replace(of, outputs=node.inputs[:count]), xs, terms[:count], terms[count : 2 * count], active)
        found = by_name(self._at_once(call))
        return [found[x.name] if x.name in found else x.filled(0) for x in wanted]

    def _passed_on(self, node: Node, output: int, active: set[str]) -> bool:
        """Whether an output may change smoothly with the ``active`` inputs."""
        name, known = node.outputs[output], self._writer.known
        whole = bool(name) and integers.is_whole(known.type_of(name))
        return self.smooth(name) and (not whole or integers.passes_on(node, output, active, known))

    def _pulled(self, node: Node, adjoints: Sequence[Term | None], active: set[str]) -> list[tuple[str, Term]]:
        """What a node adds to the adjoints of its inputs."""
        writer = self._writer
        real, ys = integers.with_reals(node, active, writer)
        xs = [Term(writer, name) if name else None for name in real.inputs]
        names = dict(zip(real.inputs, node.inputs, strict=True))
        counted = active.union(new for new, name in names.items() if name in active)
        return [(names.get(name, name), adjoint) for name, adjoint in self._by_operator(Call(writer, real, xs, ys, adjoints, counted))]

    def _by_operator(self, call: Call) -> list[tuple[str, Term]]:
        """What a node adds to the adjoints of its inputs, or a Pullback that gives it."""
        writer = self._writer
        try:
            with writer.undone():
                return self._at_once(call)
        except DeferredError:
            wanted = [Term(writer, name) for name in reads(call.node) if name in call.active & _counted(call.node)]
            if any(writer.known.type_of(x.name) is None for x in wanted):
                raise
        outputs = tuple(name and writer.fresh() for name in call.node.outputs)
        of = Graph((), tuple(Value(name) for name in outputs if name), (), (replace(call.node, outputs=outputs),))
        made = writer.add(PULLBACK[1], [*call.ys, *call.gs, *wanted], len(wanted), domain=PULLBACK[0], bodies={"of": of})
        # Of a rank that is known, so are the extents.
        return [(x.name, g.reshaped(x.shape) if x.is_ranked else g) for x, g in zip(wanted, made, strict=True)]

    def _at_once(self, call: Call) -> list[tuple[str, Term]]:
        """What a node adds to the adjoints of its inputs, by a rule or through its body."""
        node, adjoints, active = call.node, call.gs, call.active
        if node.bodies and node.domain == "" and node.op in control.RULES:
            return control.RULES[node.op](Reverse, call, active)
        since, rule = RULES.get(node.op, (0, None))
        if rule and node.domain in DOMAINS and node.since_version >= since:
            return self._by_rule(call, rule(call))
        body, outputs = self._body(call)
        pairs = list(zip_longest(outputs, adjoints, fillvalue=None))
        if any(adjoint and not name for name, adjoint in pairs):
            raise call.unsupported("only of its first output")
        inputs = reads(node)
        found = self.adjoints(body, by_name((name, adjoint) for name, adjoint in pairs if name), active.intersection(inputs), inputs)
        return [(name, found[name]) for name in inputs if name in active and name in found]

    def _by_rule(self, call: Call, made: Sequence[Term | None]) -> list[tuple[str, Term]]:
        """What a rule has made, which must be of every input that counts."""
        found = []
        for position, name in enumerate(call.node.inputs):
            adjoint = made[position] if position < len(made) else None
            if adjoint is not None and name in call.active:
                found.append((name, adjoint))
            elif name in call.active and not integers.is_whole(self._writer.known.type_of(name)) and not _is_example(call.node, position):
                raise call.unsupported(f"by its input {position}, {name!r}")
        return found

    def _body(self, call: Call) -> tuple[list[Node], list[str]]:
        """A node's results made anew of simpler operators: the nodes, which are added to the graph, and the names of the results."""
        writer, node = self._writer, call.node
        if (node.domain, node.op) == PULLBACK:
            with writer.recorded() as body:
                given = self.pulled_back(node)
            return body, [term.name for term in given]
        since, composed = COMPOSED.get(node.op, (0, None))
        if composed and node.domain in DOMAINS and node.since_version >= since:
            with writer.recorded() as body:
                outputs = composed(call)
            return body, ["" if term is None else term.name for term in outputs]
        fresh = replace(node, outputs=tuple(name and writer.fresh() for name in node.outputs))
        kinds = [writer.known.type_of(name) if name else None for name in node.inputs]
        graph = expand(fresh, kinds)
        if graph is None:
            error = DeferredError if is_function(node) and not all(map(is_fixed, kinds)) else UnsupportedError
            raise error(f"{writer.label}: no derivative is known of {node}")
        for each in graph.nodes:
            writer.emit(each)
        return list(graph.nodes), list(fresh.outputs)


def _counted(node: Node) -> set[str]:
    """What a node reads whose value counts, for a result that may change where that changes a little."""
    if node.domain in DOMAINS and node.op in CONSTANT:
        return set()
    return set(reads(replace(node, inputs=tuple(name for k, name in enumerate(node.inputs) if not _is_example(node, k)))))


def _is_example(node: Node, position: int) -> bool:
    """Whether only the type or the shape of an input counts."""
    return node.domain in DOMAINS and EXAMPLES.get(node.op) == position
