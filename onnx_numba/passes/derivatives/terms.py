"""Writing nodes as expressions: a `Term` is a value of the graph under construction, its operators add nodes to the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from onnx_numba import schemas
from onnx_numba.errors import DeferredError
from onnx_numba.ir.graph import Graph, Initializer, Node, Value
from onnx_numba.ir.types import F64, DType, OptionalType, SequenceType, TensorType, ValueType
from onnx_numba.ops.gradient import DOMAIN, adjoint_type
from onnx_numba.record import record

Array = np.ndarray[Any, Any]


class Known(Protocol):
    """What is known of the values of a graph."""

    def type_of(self, name: str) -> ValueType | None:
        """A value's type, None if it is not known."""

    def constant(self, name: str) -> Array | None:
        """What a value always is, None if it is not always the same, or not known."""

    def add(self, node: Node) -> None:
        """Take a node in."""

    def declare(self, name: str, kind: ValueType | None) -> None:
        """Say that there is a value that no node makes."""

    def inside(self, initializers: Sequence[Initializer]) -> Known:
        """What is known in a graph within this one, which has these constants."""


@record(eq=False)
class Term:
    """A value; arithmetic broadcasts as ONNX does, and numbers take the value's element type."""

    writer: Writer
    name: str

    def __add__(self, other: Operand) -> Term:
        """Add."""
        return self._with("Add", other)

    def __sub__(self, other: Operand) -> Term:
        """Sub."""
        return self._with("Sub", other)

    def __mul__(self, other: Operand) -> Term:
        """Mul."""
        return self._with("Mul", other)

    def __truediv__(self, other: Operand) -> Term:
        """Div."""
        return self._with("Div", other)

    def __rsub__(self, other: float) -> Term:
        """Sub from a number."""
        return self.writer("Sub", self.number(other), self)

    def __rtruediv__(self, other: float) -> Term:
        """Div of a number."""
        return self.writer("Div", self.number(other), self)

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Term:
        """Neg."""
        return self.writer("Neg", self)

    def __gt__(self, other: Operand) -> Term:
        """Greater."""
        return self._with("Greater", other)

    def __lt__(self, other: Operand) -> Term:
        """Less."""
        return self._with("Less", other)

    def plus(self, other: Term) -> Term:
        """The sum of two adjoints of one value; of sequences and optionals, that of what is in them."""
        return self.writer.add("SumInside", [self, other], domain=DOMAIN)[0] if self._is_container else self + other

    @property
    def _is_container(self) -> bool:
        return isinstance(self.writer.known.type_of(self.name), (SequenceType, OptionalType))

    def equals(self, other: Operand) -> Term:
        """Equal."""
        return self._with("Equal", other)

    def at(self, condition: Term) -> Term:
        """The value where a condition holds, elsewhere 0: a product would make NaN of infinities there."""
        return self.writer("Where", condition, self, self.number(0))

    def number(self, value: float) -> Term:
        """A number of this value's element type."""
        return self.writer("CastLike", np.array(value, np.float64), self)

    def root(self) -> Term:
        """The square root, constant at 0, where it has no derivative."""
        none = self.equals(0)
        return self.writer("Sqrt", self.writer("Where", none, self.number(1), self)).at(self.writer("Not", none))

    def cast_like(self, other: Term) -> Term:
        """The value in another's element type."""
        return self.writer("CastLike", self, other)

    def sum_to(self, other: Term) -> Term:
        """The value summed over the axes along which ``other`` was broadcast to its shape."""
        return self.writer.add("SumTo", (self, other), domain=DOMAIN)[0]

    @property
    def is_ranked(self) -> bool:
        """Whether it is known before the run how many axes there are."""
        kind = self.writer.known.type_of(self.name)
        return isinstance(kind, TensorType) and kind.shape is not None

    @property
    def shape(self) -> Term:
        """Shape."""
        return self.writer("Shape", self)

    @property
    def size(self) -> Term:
        """Size."""
        return self.writer("Size", self)

    def reshaped(self, shape: Term | Sequence[int]) -> Term:
        """The elements in another shape, whose zeros are extents."""
        return self.writer("Reshape", self, shape, allowzero=1)

    def filled(self, value: float) -> Term:
        """A tensor of this one's shape and adjoint type, full of a number; of a sequence or an optional, one with such tensors in it."""
        kind = self.writer.known.type_of(self.name)
        if self._is_container:
            return self.writer.add("FilledInside", [self], domain=DOMAIN, value=float(value))[0]
        number = self.number(value) if kind is None or adjoint_type(kind) == kind else self.writer.constant(np.array(value, np.float64))
        return self.writer("Expand", number, self.shape)

    def real(self) -> Term:
        """An integer, or a sequence of such, in the type of its adjoint."""
        return self.writer.each(Term.real, self) if self._is_container else self.writer("Cast", self, to=F64.onnx)

    @property
    def rank(self) -> int:
        """How many axes there are.

        Raises
        ------
        DeferredError
            Only a run knows.
        """
        shape = self._type().shape
        if shape is None:
            raise DeferredError(f"{self.writer.label}: the rank of {self.name!r} must be known; declare the shapes of the inputs")
        return len(shape)

    @property
    def dtype(self) -> DType:
        """The element type.

        Raises
        ------
        DeferredError
            Only a run knows.
        """
        return self._type().dtype

    def _type(self) -> TensorType:
        kind = self.writer.known.type_of(self.name)
        if not isinstance(kind, TensorType):
            raise DeferredError(f"{self.writer.label}: the type of {self.name!r} must be known; declare the types of the inputs")
        return kind

    def _with(self, op: str, other: Operand) -> Term:
        return self.writer(op, self, other if isinstance(other, Term) else self.number(other))


Operand = Term | float
Argument = Term | Array | Sequence[int] | None


class Writer:
    """Adds nodes, of the newest opset, to a graph.

    Parameters
    ----------
    emit : callable
        Takes every node that is made.
    known : Known
        What is known of values, of those that the nodes make as well.
    prefix, label : str
        What names begin with, and the node in whose place these stand, for messages.
    """

    def __init__(self, emit: Callable[[Node], None], known: Known, prefix: str, label: str) -> None:
        self._emit = emit
        self.known = known
        self.label = label
        self._prefix = prefix
        self._count = 0
        self._made: list[Node] = []

    def __call__(self, op: str, *inputs: Argument, **attributes: Any) -> Term:
        """The only output of a new node."""
        return self.add(op, inputs, 1, **attributes)[0]

    def add(
        self, op: str, inputs: Sequence[Argument], outputs: int = 1, *, domain: str = "", bodies: Mapping[str, Graph] | None = None,
        **attributes: Any,
    ) -> list[Term]:  # fmt: skip
        """All outputs of a new node; attributes that are None are left out."""
        given = {key: value for key, value in attributes.items() if value is not None}
        arguments = tuple(self._argument(value) for value in inputs)
        while arguments and not arguments[-1]:
            arguments = arguments[:-1]
        made = tuple(self.fresh() for _ in range(outputs))
        self._node(op, domain, arguments, made, given, bodies or {})
        return [Term(self, each) for each in made]

    def each(self, function: Callable[..., Term], *sequences: Term) -> Term:
        """The sequence of what a function makes of the elements of sequences."""
        body = Body(self)
        kinds = [self.known.type_of(sequence.name) for sequence in sequences]
        elements = [body.input(kind.element if isinstance(kind, SequenceType) else None) for kind in kinds]
        return self.add("SequenceMap", sequences, bodies={"body": body.graph(elements, [function(*elements)])})[0]

    def give(self, term: Term, name: str) -> None:
        """Give a value a name that others know."""
        self._node("Identity", "", (term.name,), (name,), {}, {})

    def _node(
        self, op: str, domain: str, inputs: tuple[str, ...], outputs: tuple[str, ...], attributes: dict[str, Any],
        bodies: Mapping[str, Graph],
    ) -> None:  # fmt: skip
        opset = schemas.newest_opset(domain) or 1
        schema = schemas.find(op, domain, opset)
        name = f"{self._prefix}/{op}#{self._count}"
        since = schema.since_version if schema else 1
        self.emit(Node(op, domain, since, opset, inputs, outputs, attributes, name, bodies=bodies))

    def emit(self, node: Node) -> None:
        """Add a node as it is."""
        self._emit(node)
        self._made.append(node)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Take back the nodes that are made in a block if it raises an error."""
        start = len(self._made)
        try:
            yield
        except Exception:
            del self._made[start:]
            raise

    @contextmanager
    def recorded(self) -> Iterator[list[Node]]:
        """The nodes that are made in a block, in a list that is complete at its end."""
        start = len(self._made)
        block: list[Node] = []
        yield block
        block += self._made[start:]

    def fresh(self) -> str:
        """A name that nothing else has."""
        self._count += 1
        return f"{self._prefix}»{self._count}"

    def constant(self, array: Array) -> Term:
        """A constant."""
        return self("Constant", value=array)

    def _argument(self, value: Argument) -> str:
        if value is None:
            return ""
        if isinstance(value, Term):
            return value.name
        return self.constant(np.asarray(value, None if isinstance(value, np.ndarray) else np.int64)).name


class Body(Writer):
    """Adds nodes to a graph within another's, such as the body of a Scan.

    It reads values of the outer graph by their names: `here` makes terms of them whose arithmetic adds nodes to this graph.

    Parameters
    ----------
    around : Writer
        Of the outer graph.
    initializers : sequence of Initializer
        Constants of the graph.
    """

    def __init__(self, around: Writer, initializers: Sequence[Initializer] = ()) -> None:
        known = around.known.inside(initializers)
        super().__init__(known.add, known, around.fresh(), around.label)
        self._initializers = tuple(initializers)

    def input(self, kind: ValueType | None, name: str = "") -> Term:
        """A value that the graph is given, with a name if the nodes that are to be added know it by one."""
        term = Term(self, name or self.fresh())
        self.known.declare(term.name, kind)
        return term

    def here(self, outer: Term) -> Term:
        """A value of the outer graph."""
        return Term(self, outer.name)

    def graph(self, inputs: Sequence[Term], outputs: Sequence[Term]) -> Graph:
        """The graph, with its inputs and outputs in order; these declare their element types, which onnx's body of SequenceMap needs."""
        kinds = [self.known.type_of(term.name) for term in outputs]
        declared = [TensorType(kind.dtype) if isinstance(kind, TensorType) else kind for kind in kinds]
        results = tuple(Value(term.name, kind) for term, kind in zip(outputs, declared, strict=True))
        return Graph(tuple(Value(term.name) for term in inputs), results, self._initializers, tuple(self._made))
