"""Lowering: from the graph to LoopIR, node by node, types and shapes coming out on the way.

A node is served by its implementation in `onnx_numba.ops`, else by the function body that the standard gives for it, whose nodes are
lowered in its place. A subgraph becomes a `Program` of its own whose inputs are its formal ones and then its captures. Nodes that need
to know more than the model says become a `Segment`, compiled when a run first reaches it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice, product
from typing import Any

import numpy as np

from onnx_numba.complaints import mistyped, refused
from onnx_numba.errors import DeferredError, DeferredTypeError, ModelError, OnnxNumbaError, UnsupportedError
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.graph import Graph, Initializer, Node, reads
from onnx_numba.ir.loop import Constant, Object, Program, Tensor, Weight
from onnx_numba.ir.types import STRING, TensorType, ValueType, alike, dtype_of
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.registry import Registry, builtin
from onnx_numba.options import Options
from onnx_numba.passes.inline import expand
from onnx_numba.passes.schema_functions import is_fixed, is_function
from onnx_numba.record import record
from onnx_numba.schemas import newest_opset
from onnx_numba.segment import EMBEDDED, Segment, unranked

Value = Tensor | Object
Array = np.ndarray[Any, Any]


ATTEMPTS = 8
"""Times that a graph is lowered for another choice of branches before all of them are left to the run."""


ASSUMED = (2, 3, 1, 4, 0)
"""Ranks that are tried in turn to learn which element types a node gives where onnx cannot tell: these do not depend on ranks."""

ASSUMPTIONS = 300
"""Most sets of them, one for each input, that are tried."""


class Choice:
    """Which way the branches go that shapes decide and whose results differ in rank; see `onnx_numba.runtime.variants`.

    Attributes
    ----------
    taken : list of bool
        What has been chosen, in order: what was asked for, then the first branch of each.
    """

    def __init__(self, asked: tuple[bool, ...]) -> None:
        self._asked = asked
        self.taken: list[bool] = []

    def next(self) -> tuple[int, bool]:
        """The number of the next decision, and which way it goes."""
        number = len(self.taken)
        self.taken.append(self._asked[number] if number < len(self._asked) else True)
        return number, self.taken[-1]

    def other(self) -> tuple[bool, ...] | None:
        """What to ask for if the last choice that was free does not do; None if there is nothing left."""
        free = [k for k in range(len(self._asked), len(self.taken)) if self.taken[k]]
        return (*self.taken[: free[-1]], False) if free else None


def lower(
    graph: Graph, options: Options, registry: Registry | None = None, *, segment: bool = False, decisions: tuple[bool, ...] | None = ()
) -> Program:
    """The program of a model's graph; ``segment`` says that it is a segment, for what a run knows of its inputs.

    ``decisions`` say which way the first branches go that only a run decides and that are better decided before, if it is not None.

    Raises
    ------
    ModelError
        The graph contradicts the standard.
    UnsupportedError
        A node is not served.
    DeferredError
        The only node of a segment needs to know still more of its inputs.
    """
    registry = registry or builtin()
    for _ in range(ATTEMPTS):
        if decisions is None:
            break
        choice = Choice(decisions)
        try:
            return _both(graph, options, registry, segment, choice)
        except OnnxNumbaError:
            if not choice.taken:
                raise
            decisions = choice.other()
    return _both(graph, options, registry, segment, None)


def _both(graph: Graph, options: Options, registry: Registry, segment: bool, choice: Choice | None) -> Program:
    """The program of a graph, and where that takes inputs of strings to have elements, the one for when they have none."""
    program = _lowered(graph, Program(), options, registry, segment, choice, filled=True)
    if program.filled and not segment:
        same = None if choice is None else Choice(program.decisions)
        program.otherwise = _lowered(graph, Program(weights=program.weights), options, registry, segment, same, filled=False)
    return program


def _lowered(
    graph: Graph, program: Program, options: Options, registry: Registry, segment: bool, choice: Choice | None, filled: bool
) -> Program:
    """The program of a graph; ``filled`` allows that inputs of strings are taken to have elements."""
    lowering = Lowering(program, options, registry, choice=choice)
    # Each segment within a segment has fewer nodes, so this comes to an end.
    lowering.deferring = not (segment and len(graph.nodes) == 1)
    # Of a segment's inputs the shape would be given if they had none, see `onnx_numba.runtime.segments`.
    lowering.builder.filling = filled
    for value in graph.inputs:
        if value.type is None:
            raise ModelError(f"input {value.name!r} has no type; give it one in the model")
        lowering.env[value.name] = lowering.builder.input(value.name, value.type, lowering.dims)
    lowering.graph(graph)
    lowering.program.outputs = [(v.name, lowering.value(v.name)) for v in graph.outputs]
    for declared, (name, result) in zip(graph.outputs, lowering.program.outputs, strict=True):
        if declared.type is not None and not alike(declared.type, type_of(result)):
            raise ModelError(f"output {name!r} is declared as {declared.type}, but is {type_of(result)}")
    lowering.program.decisions = () if choice is None else tuple(choice.taken)
    return lowering.program


@record
class LoweredBody:
    """A subgraph as a program.

    Attributes
    ----------
    program : Program
        Its inputs are the formal inputs, then ``captures``.
    captures : tuple of Tensor or Object
        Outer values to be handed in, in order.
    outputs : tuple of ValueType
        What it gives; dims that the call decides are None.
    """

    program: Program
    captures: tuple[Value, ...]
    outputs: tuple[ValueType, ...]


class Lowering:
    """Lowers the nodes of one scope into one program.

    Attributes
    ----------
    env : dict
        Values by name, as far as they are lowered.
    constants : dict
        Initializers by name, whether or not they are used.
    uses : Counter
        By name, how many nodes outside the open segment and graph outputs read a value.
    segment : Segment or None
        The open segment: the next nodes may join it.
    deferring : bool
        Whether nodes may be left to the run.
    choice : Choice or None
        Which way branches go; None where the run decides.
    """

    def __init__(
        self, program: Program, options: Options, registry: Registry, outer: Builder | None = None, choice: Choice | None = None
    ) -> None:
        self.choice = choice
        self.program = program
        self.options = options
        self.registry = registry
        self.env: dict[str, Value] = {}
        self.dims: dict[str, Sym] = {}
        self.constants: dict[str, Initializer] = {}
        self.builder = Builder(program, options, self, outer)
        self.uses: Counter[str] = Counter()
        self.segment: Segment | None = None
        self.deferring = True

    def value(self, name: str) -> Value:
        """The value of a name; initializers become weights when they are first used."""
        if self.segment is not None and name in self.segment.made:
            self._close()
        if name not in self.env:
            if name not in self.constants:
                raise ModelError(f"value {name!r} is used but nothing defines it")
            self.env[name] = self._constant(self.constants[name])
        return self.env[name]

    def _constant(self, initializer: Initializer) -> Value:
        if initializer.dtype is STRING:
            return self.builder.object_constant(initializer.array, TensorType(STRING, initializer.array.shape), initializer.name)
        return self.builder.weight(initializer.array, initializer.name)

    def graph(self, graph: Graph) -> None:
        """Lower a graph's initializers and nodes into this scope."""
        for initializer in graph.initializers:
            self.constants[initializer.name] = initializer
        self.uses.update(value.name for value in graph.outputs)
        for node in graph.nodes:
            self.uses.update(reads(node))
        for node in graph.nodes:
            self.node(node)

    def node(self, node: Node, function: bool = False) -> None:
        """Lower one node; ``function`` says that it comes from the body of another's operator."""
        try:
            how = self._lowered(node)
        except OnnxNumbaError as error:
            if function or not error.node or error.node == str(node) or node.bodies:
                raise
            raise type(error).of(str(node), str(error)) from None  # of a node in the operator's body
        if not function:
            self.program.served.append((node.name, node.op, node.domain, node.since_version, how))

    def _lowered(self, node: Node) -> str:
        """Lower a node in one of the ways there are, and say in which."""
        implementation = self.registry.find(node)
        if self.segment is not None and self.segment.continues(node):
            return self._deferred(node)
        inputs = [self.value(name) if name else None for name in node.inputs]
        unknown = any(v is not None and unranked(type_of(v)) for v in inputs)
        types = [None if v is None else type_of(v) for v in inputs]
        wrong = mistyped(node, types)
        if wrong is not None:
            raise ModelError.of(str(node), wrong)
        if implementation is None:
            return self._deferred(node) if unknown and self.deferring and is_function(node) else self._expanded(node, inputs)
        try:
            with self.builder.at_node(str(node), _label(node), tuple(map(bool, node.outputs)), node.opset):
                results = self._results(node, implementation.call(self.builder, node, inputs))
        except ModelError as error:
            raise _named(error, node) from None
        except DeferredError as error:
            if not self.deferring:
                raise
            if isinstance(error, DeferredTypeError):
                return self._deferred(node, results=error.results)
            return self._deferred(node, last=True)
        except RecursionError:
            raise
        except Exception as error:
            # Without a rank an implementation fails in any way; with it, it works or says what is wrong.
            if unknown and self.deferring:
                return self._deferred(node)
            if isinstance(error, OnnxNumbaError):
                raise _named(error, node) from None
            reason = refused(node, types)
            if reason is not None:
                raise ModelError.of(str(node), f"{reason}; its inputs are {_types(inputs)}") from error
            shown = f"inputs {_types(inputs)} are not supported ({type(error).__name__}: {error})"
            raise UnsupportedError.of(str(node), shown) from error
        self.env.update(results)
        return _how(list(results.values()))

    def _results(self, node: Node, result: Any) -> dict[str, Value]:
        results = result if isinstance(result, tuple) else (result,)
        if len(results) < len([o for o in node.outputs if o]):
            raise UnsupportedError.of(str(node), f"{len(node.outputs)} outputs are asked for, {len(results)} are supported")
        named = {name: value for name, value in zip(node.outputs, results, strict=False) if name}
        missing = [name for name, value in named.items() if value is None]
        if missing:
            raise UnsupportedError.of(str(node), f"its output {missing[0]!r} is not supported")
        return named

    def _expanded(self, node: Node, inputs: Sequence[Value | None]) -> str:
        types = [None if v is None else type_of(v) for v in inputs]
        body = expand(node, types)
        if body is None and is_function(node) and not all(map(is_fixed, types)):
            if self.deferring:
                return self._deferred(node, last=True)
            raise DeferredError.of(str(node), "the body that the standard gives for it is for shapes that only the run knows")
        if body is None:
            raise UnsupportedError(f"{node} is not supported: {self._missing(node)}")
        for initializer in body.initializers:
            self.constants[initializer.name] = initializer
        self.uses.subtract(reads(node))
        for inner in body.nodes:
            self.uses.update(reads(inner))
        before, self.deferring = self.deferring, True
        for inner in body.nodes:
            self.node(inner, function=True)
        self.deferring = before
        return "function"

    def _missing(self, node: Node) -> str:
        """Why a node has neither an implementation nor a body."""
        if newest_opset(node.domain) is not None:
            return "no implementation, and the standard gives no function body for it"
        near = self.registry.nearest(node.domain, node.op)
        return "there is no such operator among those known of its domain" + (f"; did you mean {near!r}?" if near else "")

    def _deferred(self, node: Node, last: bool = False, results: Sequence[ValueType] = ()) -> str:
        """Put a node into the open segment, or a new one; ``last`` says that types alone may not do for it: what follows stays apart.

        ``results`` are types of its outputs that onnx cannot tell.
        """
        if self.segment is not None and last:
            self._close()
        segment = self.segment or Segment(self._assumed)
        outside = [name for name in reads(node) if name not in segment.made]
        constants = {name: array for name in outside if (array := self._embedded(name)) is not None}
        segment.add(node, {name: type_of(self.value(name)) for name in outside if name not in constants}, constants, results)
        self.uses.subtract(reads(node))
        self.segment = segment
        if last:
            self._close()
        return "deferred"

    def _assumed(self, node: Node, inputs: Mapping[str, ValueType], constants: Mapping[str, Array]) -> dict[str, ValueType]:
        """Types of a node's outputs but for their dims, none if it cannot be lowered with some of `ASSUMED` for the unknown ranks."""
        unknown = [name for name, kind in inputs.items() if unranked(kind) and name not in constants]
        for ranks in islice(_assumptions(len(unknown)), ASSUMPTIONS):
            ranked = dict(zip(unknown, ranks, strict=True))
            inner = Lowering(Program(), self.options, self.registry)
            inner.deferring = False
            for name, kind in inputs.items():
                if name in constants:
                    inner.env[name] = inner._constant(Initializer(name, dtype_of(constants[name].dtype) or STRING, constants[name]))
                else:
                    inner.env[name] = inner.builder.input(name, _of_rank(kind, ranked.get(name)), inner.dims)
            try:
                inner.node(node)
            except Exception:  # it fails in any way for a rank that is not one of its own, as in `_lowered`
                continue
            found = {name: type_of(inner.env[name]) for name in node.outputs if name}
            return {name: TensorType(kind.dtype) if isinstance(kind, TensorType) else kind for name, kind in found.items()}
        return {}

    def _embedded(self, name: str) -> Array | None:
        """A small constant."""
        if name not in self.env and name in self.constants:
            array: Array | None = self.constants[name].array
        else:
            array = self.builder.constant(self.value(name))
        return array if isinstance(array, np.ndarray) and array.nbytes <= EMBEDDED else None

    def _close(self) -> None:
        """Make the open segment a step whose results are the values that others read."""
        segment, self.segment = self.segment, None
        if segment is None:
            return
        names = [name for name in segment.made if self.uses[name] > 0]
        if names:
            with self.builder.at_node(str(segment), str(segment), (True,) * len(names)):
                inputs = [self.value(name) for name in segment.inputs]
                values = self.builder.host("deferred", inputs, [segment.made[name] for name in names], **segment.step(names))
            self.env.update(zip(names, values, strict=True))

    def body(self, graph: Graph, inputs: Sequence[ValueType]) -> LoweredBody:
        """Lower a subgraph for inputs of the given types."""
        # A loop's iterations may go one way and the other.
        choice = None if graph.inputs else self.choice
        inner = Lowering(Program(weights=self.program.weights), self.options, self.registry, self.builder, choice)
        for value, type_ in zip(graph.inputs, inputs, strict=True):
            inner.env[value.name] = inner.builder.input(value.name, type_, inner.dims)
        captures = []
        for name in graph.captures:
            outer = self.value(name)
            constant = inner.constant_like(outer)
            if constant is None:
                captures.append(outer)
                constant = inner.builder.input(name, type_of(outer), inner.dims)
            inner.env[name] = constant
        inner.graph(graph)
        inner.program.outputs = [(v.name, inner.value(v.name)) for v in graph.outputs]
        outputs = tuple(_open(type_of(value)) for _, value in inner.program.outputs)
        return LoweredBody(inner.program, tuple(captures), outputs)

    def inline(self, graph: Graph) -> list[Value]:
        """Lower a subgraph without inputs into this scope; answers its outputs."""
        self.graph(graph)
        return [self.value(v.name) for v in graph.outputs]

    def constant_like(self, outer: Value) -> Value | None:
        """An outer value that the model fixes, as a constant of this scope; None if it is not fixed."""
        definition = outer.definition
        if isinstance(outer, Object):
            if isinstance(definition, Constant):
                return self.builder.object_constant(definition.value, outer.type, outer.name)
            return None
        if isinstance(definition, Weight):
            return self.builder.weight(self.program.weights[definition.index], outer.name)
        if outer.content is not None and all(isinstance(c, e.Lit) for c in outer.content):
            values = [c.value for c in outer.content if isinstance(c, e.Lit)]
            shape = tuple(int(x) for x in outer.shape if isinstance(x, int))
            return self.builder.weight(np.array(values, outer.dtype.numpy).reshape(shape), outer.name)
        return None


def type_of(value: Value) -> ValueType:
    """A value's type; dims that are not numbers are named by what they are, so that equal ones stay equal in a subgraph."""
    if isinstance(value, Object):
        return value.type
    return TensorType(value.dtype, tuple(x if isinstance(x, int) else repr(x) for x in value.shape))


def _assumptions(count: int) -> Iterator[tuple[int, ...]]:
    """Ranks for so many inputs: first the same for all, then two that differ, then three, and so on."""
    for different in range(1, len(ASSUMED) + 1):
        for some in combinations(ASSUMED, different):
            yield from (ranks for ranks in product(some, repeat=count) if len(set(ranks)) == different)


def _of_rank(type_: ValueType, rank: int | None) -> ValueType:
    """The type, with a rank where that of a tensor is unknown."""
    return type_ if rank is None or not isinstance(type_, TensorType) else TensorType(type_.dtype, (None,) * rank)


def _named(error: OnnxNumbaError, node: Node) -> OnnxNumbaError:
    """An error that names a node."""
    return error if error.node else type(error).of(str(node), str(error))


def _label(node: Node) -> str:
    return f"{node.op} {node.name!r}" if node.name else node.op


def _open(type_: ValueType) -> ValueType:
    """The type without names of dims, which mean nothing outside."""
    if isinstance(type_, TensorType) and type_.shape is not None:
        return TensorType(type_.dtype, tuple(x if isinstance(x, (int, Dim)) else None for x in type_.shape))
    return type_


def _types(values: Sequence[Value | None]) -> str:
    return ", ".join("absent" if v is None else str(type_of(v)) for v in values) or "none"


def _how(results: Sequence[Any]) -> str:
    """How a node is served, by the definition of its first result."""
    first = next((r for r in results if r is not None), None)
    definition = getattr(first, "definition", None)
    name = type(getattr(definition, "call", definition)).__name__
    kinds = {
        "HostCall": "host", "TemplateCall": "template", "LoopCall": "loop", "BranchCall": "branch", "Reduce": "reduce",
        "Constant": "constant", "Weight": "constant",
    }  # fmt: skip
    return kinds.get(name, "map")
