"""LoopIR: a typed program in which every tensor says what its elements are.

A `Tensor` has a *definition*:

* `Map`: element [i, j, …] is a scalar expression over loads of other tensors. Elementwise operators, views, gathers and pads are maps.
* `Reduce`: element [p …] folds an expression over reduction variables [r …]. Matmul, conv and pool are reductions too; a
  `Contraction` hint lets the CPU schedule choose a tuned kernel instead of the loops.
* `Reshape`: the same elements in row-major order under another shape.
* `Concat`: parts side by side along an axis, each written in place by its own loop, or by what makes it (`onnx_numba.schedule.place`).
* `Result`: output of a `TemplateCall` (an algorithm written as a Python kernel), of a `HostCall` (a step in Python), of a `LoopCall` or
  a `BranchCall` (bodies that are programs themselves).
* `Input`, `Weight`: given from outside.

Nothing here says what is stored and what is recomputed: that is the schedule's decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_numba.ir.dims import Dim, Sym, product
from onnx_numba.ir.expr import Expr, Load, as_index, values_in
from onnx_numba.ir.plan import Reason
from onnx_numba.ir.types import DType, ValueType
from onnx_numba.record import record

Shape = tuple[Dim | int, ...]


@record(eq=False)
class Input:
    """The graph's input number ``index``."""

    index: int


@record(eq=False)
class Weight:
    """Entry ``index`` of the program's weights."""

    index: int


@record(eq=False)
class Map:
    """Element at ``vars`` is ``expr``."""

    vars: tuple[Sym, ...]
    expr: Expr


@record(eq=False)
class Reshape:
    """The elements of ``source`` in row-major order."""

    source: Tensor


@record(eq=False)
class Contraction:
    """What a reduction computes when a tuned template could: ``kind`` is ``matmul`` or ``conv``; ``params`` its static attributes.

    Once `onnx_numba.schedule.tune` has chosen a template, ``kind`` is ``tuned`` and ``operands`` are what its kernel reads.
    """

    kind: str
    operands: tuple[Tensor, ...]
    params: dict[str, Any]

    @property
    def tuned(self) -> bool:
        """Whether a tuned kernel computes it, which reads its operands from memory."""
        return self.kind == "tuned"


@record(eq=False)
class Reduce:
    """Element at ``vars`` folds ``expr`` over ``rvars`` by ``kind``: sum prod max min and or argmax argmin argmax_last argmin_last.

    ``order`` lists all variables in the order of the axes that the reduced tensor has, outermost first. An arg-reduction has
    exactly one reduction variable and gives its position. An empty reduction gives the identity of ``kind``.
    """

    vars: tuple[Sym, ...]
    rvars: tuple[Sym, ...]
    order: tuple[Sym, ...]
    kind: str
    expr: Expr
    hint: Contraction | None = None


@record(eq=False)
class Concat:
    """``parts`` one after the other along ``axis``; ``offsets`` says where each begins."""

    parts: tuple[Tensor, ...]
    offsets: tuple[Dim | int, ...]
    axis: int


@record(eq=False)
class TemplateCall:
    """A kernel written as a Python function with the kernel signature; see `onnx_numba.ops.builder.Builder.template`.

    Its buffers are the inputs, then the outputs; its dims are ``dims``. ``types`` replaces type names in its source, ``constants``
    other names. ``inplace`` names an input whose block becomes output 0. With ``rounds`` it is called so many times over all its work,
    one after the other, each time with the round's number behind its dims.
    """

    body: Callable[..., int]
    inputs: tuple[Tensor, ...]
    dims: tuple[Dim | int, ...]
    total: Dim | int
    grain: Dim | int
    types: dict[str, DType]
    constants: dict[str, int | float | bool | str]
    scratch: Dim | int = 0
    inplace: int | None = None
    rounds: Dim | int | None = None


@record(eq=False)
class KernelCall:
    """A kernel given as text: ``source(name)`` is a function of that name with the kernel signature.

    Its buffers are the inputs, then the outputs; the rest is as in `TemplateCall`.
    """

    source: Callable[[str], str]
    label: str
    inputs: tuple[Tensor, ...]
    dims: tuple[Dim | int, ...]
    total: Dim | int
    grain: Dim | int = 1
    scratch: Dim | int = 0


@record(eq=False)
class HostCall:
    """A step in Python: ``function`` of `onnx_numba.runtime.host`, on tensors and objects (None where an optional input is absent)."""

    function: str
    inputs: tuple[Tensor | Object | None, ...]
    params: dict[str, Any]


@record(eq=False)
class LoopCall:
    """Iterations of a body: while ``going`` is not 0 and fewer than ``count`` (None: no such limit) are done.

    Inputs of the body are, where it is ``counted``, the number of the iteration and the condition; ``state`` values from the iteration
    before; ``rows`` slices of tensors, one an iteration; what it captures. ``inputs`` are the first state, the tensors that the rows
    are of, the captures. Its outputs are, where it is counted, the condition for another iteration; the next state; rows of the
    results. Results of the call are the last state and the stacked rows.
    """

    body: Program
    inputs: tuple[Tensor, ...]
    count: Dim | int | None
    going: Dim | int
    counted: bool
    state: int
    rows: int


@record(eq=False)
class BranchCall:
    """One of two bodies: the first unless ``condition`` is 0.

    ``inputs`` are what the first captures, ``split`` tensors, then what the second does; results are the outputs of the one that runs.
    """

    bodies: tuple[Program, Program]
    inputs: tuple[Tensor, ...]
    condition: Dim | int
    split: int


Call = TemplateCall | KernelCall | HostCall | LoopCall | BranchCall


def call_dims(call: Call) -> list[Dim | int]:
    """The dims that a call needs, those of its tensors left out."""
    if isinstance(call, (TemplateCall, KernelCall)):
        rounds = call.rounds if isinstance(call, TemplateCall) else None
        return [*call.dims, call.total, call.scratch, *(() if rounds is None else (rounds,))]
    if isinstance(call, LoopCall):
        return [call.going, *(() if call.count is None else (call.count,))]
    return [call.condition] if isinstance(call, BranchCall) else []


def bodies_of(call: Call) -> tuple[Program, ...]:
    """The programs that a call runs in the plan."""
    if isinstance(call, LoopCall):
        return (call.body,)
    return call.bodies if isinstance(call, BranchCall) else ()


@record(eq=False)
class Result:
    """Output ``index`` of a call."""

    call: Call
    index: int


Definition = Input | Weight | Map | Reshape | Reduce | Concat | Result


@record
class ElementSource:
    """A run-time dim read from element ``index`` of an integer tensor, for the nodes that ``origin`` names."""

    tensor: Tensor
    index: int
    origin: str


@record
class AxisSource:
    """A run-time dim that is the extent of an axis of an input or of a host step's result."""

    axis: int


@record
class DimSource:
    """A run-time dim that is computed from others; a short name for a long expression."""

    value: Dim


@record
class Check:
    """A condition on dims that only the run can decide: ``a == b``, else status ``code``, for the reason given."""

    a: Dim | int
    b: Dim | int
    code: int
    reason: Reason


@record(eq=False)
class Dequantised:
    """What DequantizeLinear made a tensor of type ``dtype`` of: its elements are ``(integers - zero) * scale``.

    Scale and zero point are numbers for the positions of ``axis``, each perhaps one for all; where it is None, both are. Where ``block`` is
    not 0 they have as many axes as the integers, and so many positions of ``axis`` share one.
    """

    integers: Tensor
    scale: Tensor
    zero: Tensor | None
    axis: int | None
    dtype: DType
    block: int = 0


class Tensor:
    """A numeric tensor of known rank.

    Attributes
    ----------
    dtype : DType
        Storage type.
    shape : tuple of Dim or int
    content : tuple of Expr or None
        The elements in row-major order where all are known while planning (literals and dims).
    checks : tuple of Check
        What must hold before it is computed.
    origin : str
        The node it came from, for comments and messages.
    dequantised : Dequantised or None
        The bytes that it was made of, where it was made of bytes.
    """

    __slots__ = ("checks", "content", "definition", "dequantised", "dtype", "name", "origin", "shape")

    def __init__(
        self,
        name: str,
        dtype: DType,
        shape: Shape,
        definition: Definition,
        origin: str = "",
        content: tuple[Expr, ...] | None = None,
        checks: tuple[Check, ...] = (),
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = tuple(shape)
        self.definition = definition
        self.origin = origin
        self.content = content
        self.checks = checks
        self.dequantised: Dequantised | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Dim | int:
        """Number of elements."""
        return product(self.shape)

    def __getitem__(self, index: tuple[Expr | Dim | int, ...]) -> Expr:
        """The element at ``index`` (one entry per axis, each in range), folded where the content is known."""
        where = tuple(as_index(i) for i in index)
        if len(where) != self.rank:
            raise IndexError(f"{self.name} has {self.rank} axes, {len(where)} indices came")
        if self.content:  # where there are no elements, an index stands for one that nothing reads
            position = 0
            for i, extent in zip(where, self.shape, strict=True):
                if not isinstance(i, int) or not isinstance(extent, int):
                    break
                position = position * extent + i
            else:
                return self.content[position]
            if len(self.content) == 1 and not any(map(values_in, where)):  # an index from data may have to be refused
                return self.content[0]
        return Load(self, where)

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


class Object:
    """A value that lives in Python: strings, a sequence, a map, an optional, a tensor of unknown rank.

    Attributes
    ----------
    filled : bool
        Whether it is a tensor that is known to have elements.
    text : callable or None
        Makes the same strings as numbers, see `onnx_numba.ops.characters`; None where a step has to.
    """

    __slots__ = ("definition", "filled", "name", "origin", "text", "type")

    def __init__(self, name: str, type_: ValueType, definition: Input | Result | Constant, origin: str = "") -> None:
        self.name = name
        self.type = type_
        self.definition = definition
        self.origin = origin
        self.filled = False
        self.text: Callable[[], Any] | None = None

    def __repr__(self) -> str:
        return f"{self.name}: {self.type}"


@record(eq=False)
class Constant:
    """A Python value known from the model: an array of strings, an empty sequence."""

    value: Any


@dataclass
class Program:
    """A lowered graph: inputs and outputs by name, weights, and tensors in an order in which each comes after what it uses.

    ``filled`` are the numbers of inputs that are taken to have elements, ``otherwise`` is the same graph for when they have none.
    """

    inputs: list[tuple[str, Tensor | Object, tuple[int | str | None, ...] | None]] = field(default_factory=list)
    outputs: list[tuple[str, Tensor | Object]] = field(default_factory=list)
    values: list[Tensor | Object] = field(default_factory=list)
    weights: list[np.ndarray[Any, Any]] = field(default_factory=list)
    served: list[tuple[str, str, str, int, str]] = field(default_factory=list)
    filled: set[int] = field(default_factory=set)
    otherwise: Program | None = None
    decisions: tuple[bool, ...] = ()  # which way branches go that the program has been made for
    checks: list[Check] = field(default_factory=list)  # on dims of inputs, made before anything else
