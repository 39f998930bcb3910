"""The builder: what a lowering function composes an operator from.

A lowering receives typed tensors and returns typed tensors. Types, shapes and the content of small tensors come out of the same
expressions that the kernels are made of: a small integer tensor's expression is evaluated at each of its indices while planning, so
``Shape → Gather → Concat → Reshape`` is arithmetic on dims and costs nothing at run time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from onnx_numba.errors import DeferredError, DeferredTypeError, ModelError, UnsupportedError
from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir import plan
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import (
    AxisSource,
    Call,
    Check,
    Concat,
    Constant,
    Contraction,
    DimSource,
    ElementSource,
    HostCall,
    Input,
    Map,
    Object,
    Program,
    Reduce,
    Reshape,
    Result,
    Shape,
    TemplateCall,
    Tensor,
    Weight,
)
from onnx_numba.ir.plan import Reason
from onnx_numba.ir.types import I64, STRING, DType, TensorType, ValueType, dtype_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx_numba.options import Options

CONTENT_LIMIT = 64
"""Most elements a tensor may have for its content to be followed while planning."""

DEPTH_LIMIT = 3
"""Dims of more nested divisions, maxima and the like than this get a name of their own."""

TERMS_LIMIT = 24
"""And those that are sums of more terms."""

CONTENT_DEPTH_LIMIT = 8
"""Likewise the numbers in a tensor, whose expressions are worth more: what is divided may be multiplied again."""

Array = np.ndarray[Any, Any]


class Builder:
    """Makes the values of one `Program`.

    Attributes
    ----------
    program : Program
    options : Options
    node : str
        Label of the node being lowered, as error messages name it.
    wanted : tuple of bool
        Which outputs of that node are used.
    scope : Lowering
        Lowers subgraphs; see `onnx_numba.lower`.
    filling : bool
        Whether inputs of strings may be taken to have elements.

    Parameters
    ----------
    outer : Builder, optional
        That of the scope around this one.
    """

    def __init__(self, program: Program, options: Options, scope: Any = None, outer: Builder | None = None) -> None:
        self.program = program
        self.options = options
        self.node = ""
        self.label = ""
        self.wanted: tuple[bool, ...] = ()
        self.scope = scope
        self.opset = 0
        self.filling = False
        self._checks: list[Check] = []
        self._attached = 0
        # Names of dims mean one thing in a scope and in those around it, where a body compares them.
        self._count: int = 0 if outer is None else outer._count
        self._names: dict[Dim, Dim] = {}
        self._read: dict[tuple[Tensor, int, bool], Dim] = {}

    @contextmanager
    def at_node(self, node: str, label: str, wanted: tuple[bool, ...], opset: int = 0) -> Iterator[None]:
        """Name the node whose values are being made. What it demands is demanded by all that it makes from then on."""
        before = self.node, self.label, self.wanted, self.opset
        outer, attached = self._checks, self._attached
        self._checks, self._attached = list(outer), 0
        self.node, self.label, self.wanted, self.opset = node, label, wanted, opset
        try:
            yield
        except Exception:
            self._checks = outer
            raise
        else:
            # A node that made nothing after a demand leaves it to the next one.
            self._checks = [*(outer if before[0] else ()), *self._checks[self._attached :]]
        finally:
            self._attached = attached if before[0] else 0
            self.node, self.label, self.wanted, self.opset = before

    # -- errors ------------------------------------------------------------------------------------------------------

    def fail(self, message: str) -> NoReturn:
        """Refuse the node: its inputs or attributes break the standard."""
        raise ModelError.of(self.node, message)

    def unsupported(self, message: str) -> NoReturn:
        """Refuse the node: the standard allows it, this version does not run it."""
        raise UnsupportedError.of(self.node, message)

    def deferred(self, message: str) -> NoReturn:
        """Leave the node to the run: its inputs' types, shapes or values there will say what is missing here."""
        raise DeferredError.of(self.node, message)

    def deferred_type(self, message: str, results: Sequence[ValueType] = ()) -> NoReturn:
        """Likewise where the ranks of the inputs will do; ``results`` are types of the outputs where onnx cannot tell."""
        error = DeferredTypeError.of(self.node, message)
        error.results = results
        raise error

    def require_equal(self, a: Dim | int, b: Dim | int, what: str) -> None:
        """Demand that two dims are equal: now if both are numbers, else when the next tensor made here is computed."""
        if a == b:
            return
        if isinstance(a, int) and isinstance(b, int):
            self.fail(f"{what}: expected {b}, got {a}")
        self._checks.append(Check(a, b, plan.SHAPE_MISMATCH, Reason(self.label, f"{what}: expected {{b}}, got {{a}}")))

    def require(self, holds: Dim | int, what: str) -> None:
        """Demand that a dim that is 0 or 1 is 1, likewise; ``what`` says what is wrong where it is not."""
        if holds == 1:
            return
        if isinstance(holds, int):
            self.fail(what)
        self._checks.append(Check(holds, 1, plan.BAD_VALUE, Reason(self.label, what)))

    def require_as(self, *tensors: Tensor) -> None:
        """Demand what tensors demand in whose place others are about to be made."""
        self._checks += dict.fromkeys(check for t in tensors for check in t.checks if check not in self._checks)

    def require_branch(self, condition: Dim | int, taken: bool, decision: int) -> None:
        """Demand, before anything is computed, that a condition is as the plan's ``decision`` has it."""
        reason = Reason(self.label, "its condition is {a}, not {b}", decision)
        self.program.checks.append(Check(condition, int(taken), plan.OTHER_BRANCH, reason))

    def require_elements(self, extent: Dim | int, readers: Dim | int, what: str = "the input") -> None:
        """Demand that an axis is not empty if there is something that reads it at clamped or given positions."""
        if not isinstance(extent, int) or extent < 1:
            self.require(d.compare("le", d.dmin(readers, 1), extent), f"{what} has no elements to read from")

    # -- leaves ------------------------------------------------------------------------------------------------------

    def define(self, dtype: DType, shape: Shape, definition: Any, content: tuple[Expr, ...] | None = None, name: str = "") -> Tensor:
        """A tensor by its definition."""
        self._count += 1
        for extent in shape:
            if not d.at_least_zero(extent):
                self.require(d.compare("le", 0, extent), f"a result of shape [{', '.join(map(_spelled, shape))}] would have a negative dim")
        checks: tuple[Check, ...] = ()
        if not isinstance(definition, (Input, Weight)):  # those are not computed, so that nothing would be checked
            checks, self._attached = tuple(self._checks), len(self._checks)
        shape = tuple(self.short(extent) for extent in shape)
        tensor = Tensor(name or f"t{self._count}", dtype, shape, definition, self.label, content, checks)
        self.program.values.append(tensor)
        return tensor

    def short(self, value: Dim | int, limit: int = DEPTH_LIMIT) -> Dim | int:
        """A name for a dim whose expression has grown deep or long: reshapes of reshapes would make it grow without end."""
        if isinstance(value, int) or (value.depth <= limit and len(value.terms) <= TERMS_LIMIT):
            return value
        if value not in self._names:
            self._count += 1
            self._names[value] = d.dim(Sym(f"d{self._count}", source=DimSource(value), signed=not d.at_least_zero(value)))
        return self._names[value]

    def input(self, name: str, type_: ValueType, dims: dict[str, Sym]) -> Tensor | Object:
        """The next graph input; equal names of dims are one symbol."""
        index = len(self.program.inputs)
        value: Tensor | Object
        declared: tuple[int | str | None, ...] | None = None
        if isinstance(type_, TensorType) and type_.shape is not None:
            declared = tuple(map(_declared, type_.shape))
            shape = self._input_shape(name, index, declared, dims)
            if type_.dtype is STRING:
                value = self._object(name, TensorType(STRING, shape), Input(index))
            else:
                value = self.define(type_.dtype, shape, Input(index), name=name)
        else:
            value = self._object(name, type_, Input(index))
        self.program.inputs.append((name, value, declared))
        return value

    def _input_shape(self, name: str, index: int, declared: Sequence[int | str | None], dims: dict[str, Sym]) -> Shape:
        shape: list[Dim | int] = []
        for axis, extent in enumerate(declared):
            if isinstance(extent, int):
                shape.append(extent)
                continue
            symbol = dims.get(extent) if extent else None
            if symbol is None:
                symbol = Sym(extent or f"{name}[{axis}]")
                symbol.source = (index, axis)
                if extent:
                    dims[extent] = symbol
            shape.append(d.dim(symbol))
        return tuple(shape)

    def weight(self, array: Array, name: str = "") -> Tensor:
        """A constant array of the model; small integer tensors and single elements also have their content known."""
        dtype = dtype_of(array.dtype)
        if dtype is None or dtype is STRING:
            self.fail(f"a constant of type {array.dtype} is not a numeric tensor")
        content: tuple[Expr, ...] | None = None
        if array.size <= (CONTENT_LIMIT if dtype.kind in "iub" else 1) and dtype.kind in "iubf":
            content = tuple(e.lit(float(v) if dtype.is_float else int(v), dtype) for v in array.reshape(-1))
        self.program.weights.append(array)
        return self.define(dtype, array.shape, Weight(len(self.program.weights) - 1), content, name)

    def as_data(self, tensor: Tensor) -> Tensor:
        """A tensor that kernels read even where the model fixes its elements: those that differ in these alone are one kernel."""
        known = self.constant(tensor)
        if known is None:
            return tensor
        self.program.weights.append(known)
        return self.define(tensor.dtype, tensor.shape, Weight(len(self.program.weights) - 1))

    def full(self, shape: Shape, value: bool | int | float, dtype: DType) -> Tensor:
        """A tensor of one value."""
        return self.compute(shape, lambda *_: e.lit(value, dtype), dtype)

    def object_constant(self, value: Any, type_: ValueType, name: str = "") -> Object:
        """A Python value known from the model."""
        return self._object(name, type_, Constant(value))

    def _object(self, name: str, type_: ValueType, definition: Any) -> Object:
        self._count += 1
        made = Object(name or f"o{self._count}", type_, definition, self.label)
        self.program.values.append(made)
        return made

    def has_elements(self, x: Object) -> bool:
        """Whether a tensor of strings is known to have elements; of an input it is taken for granted, and noted."""
        if not x.filled and self.filling and isinstance(x.definition, Input):
            self.program.filled.add(x.definition.index)
            return True
        return x.filled

    # -- what is known while planning --------------------------------------------------------------------------------

    def constant(self, tensor: Tensor | Object | None) -> Array | None:
        """The tensor's elements if the model fixes them, else None."""
        if tensor is None:
            return None
        if isinstance(tensor, Object):
            return tensor.definition.value if isinstance(tensor.definition, Constant) else None
        if isinstance(tensor.definition, Weight):
            return self.program.weights[tensor.definition.index]
        if isinstance(tensor.definition, Reshape) and (inner := self.constant(tensor.definition.source)) is not None:
            return inner.reshape(tensor.shape)
        if tensor.content is not None and all(isinstance(c, e.Lit) for c in tensor.content):
            return np.array([c.value for c in tensor.content], tensor.dtype.numpy).reshape(tensor.shape)  # type: ignore[attr-defined]
        return None

    def ints(self, tensor: Tensor, what: str) -> list[int]:
        """The numbers in an integer tensor that must be known while planning (axes, for one)."""
        known = self.constant(tensor)
        if known is None:
            self.deferred(f"{what} must be known before the run")
        return [int(v) for v in known.reshape(-1)]

    def dims(self, tensor: Tensor, signed: Collection[int] = ()) -> list[Dim | int]:
        """The elements of an integer tensor of known size as dims; those that only the run knows are read from it there.

        They are sizes, of which the run refuses negative ones, but for those at the positions in ``signed``.
        """
        if not isinstance(tensor.size, int):
            self.deferred(f"the number of elements of {tensor.name} must be known before the run")
        result: list[Dim | int] = []
        for k in range(tensor.size):
            known = e.as_dim(tensor.content[k]) if tensor.content is not None else None
            result.append(known if known is not None else self.read_dim(tensor, k, k in signed))
        return result

    def read_dim(self, tensor: Tensor, position: int, signed: bool = False) -> Dim:
        """An element of an integer tensor as a dim that the run reads, the same for all; a size, never negative, unless ``signed``."""
        if (tensor, position, signed) not in self._read:
            source = ElementSource(tensor, position, self.label)
            self._read[tensor, position, signed] = d.dim(Sym(f"{tensor.name}_{position}", source=source, signed=signed))
        return self._read[tensor, position, signed]

    def from_dims(self, values: Sequence[Dim | int], dtype: DType = I64) -> Tensor:
        """A 1-d integer tensor of dims."""
        content = [e.dimval(v, dtype) for v in values]

        def element(i: Dim) -> Expr:
            result = content[-1]
            for k in range(len(content) - 2, -1, -1):
                result = e.where(e.eq(e.dimval(i), k), content[k], result)
            return result

        return self.compute((len(content),), element if content else lambda i: e.lit(0, dtype), dtype)

    # -- maps --------------------------------------------------------------------------------------------------------

    def compute(self, shape: Shape, element: Callable[..., Expr], dtype: DType) -> Tensor:
        """The tensor whose element at (i, j, …) is ``element(i, j, …)``, cast to ``dtype``."""
        indices = tuple(Sym(f"i{k}", extent=extent) for k, extent in enumerate(shape))
        value = e.cast(element(*map(d.dim, indices)), dtype)
        if 0 in shape:  # there is no element, and what it would be made of may be read before a loop
            value = e.cast(e.lit(0, I64), dtype)
        if self.options.accuracy == "strict":
            value = e.round_to(value, dtype)
        return self.define(dtype, shape, Map(indices, value), self._content(shape, indices, value, dtype))

    def _content(self, shape: Shape, indices: tuple[Sym, ...], value: Expr, dtype: DType) -> tuple[Expr, ...] | None:
        extents = [s for s in shape if isinstance(s, int)]
        limit = CONTENT_LIMIT if dtype.kind in "iub" else 1
        if len(extents) < len(shape) or min(extents, default=0) < 0 or math.prod(extents) > limit or dtype.kind not in "iubf":
            return None
        content = []
        for position in np.ndindex(*extents):
            element = e.substitute(_through_loads(value), dict(zip(indices, position, strict=True)))
            element = _through_loads(element)
            if not isinstance(element, (e.Lit, e.DimVal)) or (isinstance(element, e.DimVal) and _depends_on_values(element)):
                return None
            content.append(self._short_element(element))
        return tuple(content)

    def _short_element(self, element: Expr) -> Expr:
        return e.dimval(self.short(element.value, CONTENT_DEPTH_LIMIT), element.dtype) if isinstance(element, e.DimVal) else element

    def map(self, function: Callable[..., Expr], *tensors: Tensor, dtype: DType | None = None) -> Tensor:
        """Elementwise ``function`` over broadcast tensors; the result has ``dtype`` (default: that of the first)."""
        shape = self.broadcast_shapes(*(t.shape for t in tensors))
        return self.compute(shape, lambda *i: function(*(self.broadcast_load(t, i, shape) for t in tensors)), dtype or tensors[0].dtype)

    def broadcast_shapes(self, *shapes: Shape) -> Shape:
        """NumPy's broadcast of shapes; dims that only the run can compare are checked there."""
        rank = max((len(s) for s in shapes), default=0)
        result: list[Dim | int] = [1] * rank
        for shape in shapes:
            for axis, extent in enumerate(shape, rank - len(shape)):
                common = d.broadcast(result[axis], extent)
                if common is None:
                    self.fail(f"shapes {' and '.join(str(list(s)) for s in shapes)} cannot be broadcast together")
                result[axis] = common
        return tuple(result)

    def broadcast_load(self, tensor: Tensor, index: Sequence[Dim | int], shape: Shape) -> Expr:
        """The element of ``tensor`` that broadcasting puts at ``index`` of ``shape``."""
        lead = len(shape) - tensor.rank
        at: list[Dim | int] = []
        for extent, i, full in zip(tensor.shape, index[lead:], shape[lead:], strict=True):
            if extent == full:
                at.append(i)
            elif extent == 1:
                at.append(0)
            else:  # may turn out to be 1: then its only element serves all
                at.append(i * d.compare("ne", extent, 1))
        return tensor[tuple(at)]

    def cast(self, tensor: Tensor, dtype: DType) -> Tensor:
        """Another element type; the tensor itself when it has it already."""
        if tensor.dtype is dtype:
            return tensor
        return self.map(lambda v: e.round_to(v, dtype), tensor, dtype=dtype)

    def copy(self, tensor: Tensor) -> Tensor:
        """The same elements as a tensor of its own."""
        return self.compute(tensor.shape, lambda *i: tensor[i], tensor.dtype)

    # -- views -------------------------------------------------------------------------------------------------------

    def reshape(self, tensor: Tensor, shape: Sequence[Dim | int]) -> Tensor:
        """The same elements in row-major order."""
        new = tuple(shape)
        if new == tensor.shape:
            return tensor
        self.require_equal(tensor.size, d.product(new), f"cannot reshape {list(tensor.shape)} to {list(new)}")
        source = tensor
        while isinstance(source.definition, Reshape) and not source.checks:
            source = source.definition.source
        return self.define(tensor.dtype, new, Reshape(source), tensor.content)

    def transpose(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        """Axes permuted: axis k of the result is axis ``order[k]``."""
        if list(order) == list(range(tensor.rank)):
            return tensor
        inverse = [list(order).index(a) for a in range(tensor.rank)]
        return self.compute(tuple(tensor.shape[a] for a in order), lambda *i: tensor[tuple(i[a] for a in inverse)], tensor.dtype)

    def expand(self, tensor: Tensor, shape: Shape) -> Tensor:
        """Broadcast to ``shape``, which the tensor's must fit."""
        return self.compute(tuple(shape), lambda *i: self.broadcast_load(tensor, i, tuple(shape)), tensor.dtype)

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        """Side by side along an axis."""
        first = tensors[0]
        if len(tensors) == 1:
            return first
        offsets: list[Dim | int] = [0]
        for t in tensors:
            for k in range(first.rank):
                if k != axis:
                    self.require_equal(t.shape[k], first.shape[k], f"dim {k} of {t.name}")
            offsets.append(offsets[-1] + t.shape[axis])
        shape = (*first.shape[:axis], offsets[-1], *first.shape[axis + 1 :])
        content = None
        if first.rank == 1 and all(t.content is not None for t in tensors):
            content = tuple(c for t in tensors for c in t.content or ())
            content = content if len(content) <= CONTENT_LIMIT else None
        parts = tuple(t for t in tensors if t.shape[axis] != 0)
        starts = tuple(o for t, o in zip(tensors, offsets, strict=False) if t.shape[axis] != 0)
        if not parts:
            return first
        return self.define(first.dtype, shape, Concat(parts, starts, axis), content)

    # -- reductions --------------------------------------------------------------------------------------------------

    def reduce(
        self, kind: str, tensor: Tensor, axes: Sequence[int], keepdims: bool = False, dtype: DType | None = None,
        function: Callable[[Expr], Expr] | None = None,
    ) -> Tensor:  # fmt: skip
        """Fold ``function(element)`` over axes. ``dtype`` is the result's (default: the tensor's; I64 for arg kinds)."""
        axes = sorted({a % tensor.rank if tensor.rank else a for a in axes})
        dtype = dtype or (I64 if kind.startswith("arg") else tensor.dtype)
        every = tuple(Sym(f"i{k}", extent=extent) for k, extent in enumerate(tensor.shape))
        value = tensor[tuple(map(d.dim, every))]
        value = function(value) if function else value
        if not kind.startswith("arg"):
            value = e.cast(value, dtype)
        kept = tuple(v for k, v in enumerate(every) if k not in axes)
        gone = tuple(v for k, v in enumerate(every) if k in axes)
        result = self._reduced(Reduce(kept, gone, every, kind, value), dtype)
        if keepdims:
            result = self.reshape(result, [1 if k in axes else s for k, s in enumerate(tensor.shape)])
        return result

    def reduction(
        self, kind: str, shape: Shape, extents: Shape, element: Callable[[tuple[Dim, ...], tuple[Dim, ...]], Expr], dtype: DType,
        hint: Contraction | None = None,
    ) -> Tensor:  # fmt: skip
        """Fold ``element(p, r)`` over ``r`` within ``extents`` for each ``p`` within ``shape``."""
        kept = tuple(Sym(f"i{k}", extent=extent) for k, extent in enumerate(shape))
        gone = tuple(Sym(f"r{k}", extent=extent) for k, extent in enumerate(extents))
        value = e.cast(element(tuple(map(d.dim, kept)), tuple(map(d.dim, gone))), dtype)
        return self._reduced(Reduce(kept, gone, kept + gone, kind, value, hint), dtype)

    def _reduced(self, reduce: Reduce, dtype: DType) -> Tensor:
        """The result of a reduction; over extents of 1 it is the element itself."""
        shape = tuple(v.extent for v in reduce.vars if v.extent is not None)
        if all(v.extent == 1 for v in reduce.rvars):
            only = e.substitute(reduce.expr, dict.fromkeys(reduce.rvars, 0))
            value = e.lit(0, dtype) if reduce.kind.startswith("arg") else only
            return self.compute(shape, lambda *i: e.substitute(value, dict(zip(reduce.vars, i, strict=True))), dtype)
        result = self.define(dtype, shape, reduce)
        result.content = self._reduced_content(result, reduce)
        return result

    def _reduced_content(self, result: Tensor, reduce: Reduce) -> tuple[Expr, ...] | None:
        extents = [v.extent for v in (*reduce.vars, *reduce.rvars)]
        if reduce.kind not in ("sum", "prod", "max", "min") or not result.dtype.is_int or reduce.hint:
            return None
        if not all(isinstance(x, int) for x in extents) or d.product(x for x in extents if x is not None) > CONTENT_LIMIT:  # type: ignore[operator]
            return None
        if d.product(v.extent for v in reduce.rvars if v.extent is not None) == 0 and reduce.kind in ("max", "min"):
            return None
        combine = {"sum": "add", "prod": "mul"}.get(reduce.kind, reduce.kind)
        content = []
        for at in np.ndindex(*(int(v.extent) for v in reduce.vars)):  # type: ignore[arg-type]
            total: Expr | None = None
            for over in np.ndindex(*(int(v.extent) for v in reduce.rvars)):  # type: ignore[arg-type]
                table: dict[Sym, Dim | int] = dict(zip((*reduce.vars, *reduce.rvars), (*at, *over), strict=True))
                item = _through_loads(e.substitute(reduce.expr, table))
                if e.as_dim(item) is None:
                    return None
                total = item if total is None else e.binary(combine, total, item)
            content.append(self._short_element(total) if total is not None else e.lit(int(reduce.kind == "prod"), result.dtype))
        return tuple(content)

    # -- calls -------------------------------------------------------------------------------------------------------

    def template(
        self,
        body: Callable[..., int],
        inputs: Sequence[Tensor],
        outputs: Sequence[tuple[DType, Shape]],
        *,
        total: Dim | int = 1,
        dims: Sequence[Dim | int] = (),
        grain: Dim | int = 1,
        types: dict[str, DType] | None = None,
        constants: Mapping[str, int | float | bool | str] | None = None,
        scratch: Dim | int = 0,
        inplace: int | None = None,
        rounds: Dim | int | None = None,
    ) -> tuple[Tensor, ...]:
        """Run a kernel written as a Python function ``body(ctx, bufs, dims, lo, hi)`` over native names.

        ``bufs`` are the inputs (contiguous), then the outputs. In its source a name ``X_p`` stands for the pointer function of type
        ``types["X"]`` (``X`` and ``X_at`` likewise); names in ``constants`` become literals (a string: a
        name). It is called over [0, total) in chunks of ``grain`` units that may run on different threads, with ``scratch`` bytes
        per thread. With ``rounds`` all of that is done so many times, one after the other, and the last of its dims is the round's number.
        """
        given = tuple(self.copy(t) if k == inplace else t for k, t in enumerate(inputs))
        call = TemplateCall(body, given, tuple(dims), total, grain, types or {}, dict(constants or {}), scratch, inplace, rounds)
        return tuple(self.define(dtype, shape, Result(call, k)) for k, (dtype, shape) in enumerate(outputs))

    def host(self, function: str, inputs: Sequence[Tensor | Object | None], outputs: Sequence[ValueType], **params: Any) -> tuple[Any, ...]:
        """A step in Python on objects; a tensor output's dims given as None are whatever the step returns."""
        return self.results(HostCall(function, tuple(inputs), params), outputs)

    def results(self, call: Call, outputs: Sequence[ValueType]) -> tuple[Any, ...]:
        """The values that a call makes; dims of tensors that are None are known once it has run."""
        made: list[Tensor | Object] = []
        for index, type_ in enumerate(outputs):
            if isinstance(type_, TensorType) and type_.shape is not None and type_.dtype is not STRING:
                self._count += 1
                shape = tuple(
                    x if isinstance(x, (int, Dim)) else d.dim(Sym(f"h{self._count}_{axis}")) for axis, x in enumerate(type_.shape)
                )
                tensor = self.define(type_.dtype, shape, Result(call, index))
                for axis, x in enumerate(type_.shape):
                    if not isinstance(x, (int, Dim)):
                        (symbol,) = d.symbols(shape[axis])
                        symbol.source = (tensor, AxisSource(axis))
                made.append(tensor)
            else:
                made.append(self._object("", type_, Result(call, index)))
        return tuple(made)


def _through_loads(value: Expr) -> Expr:
    """Look elements up in tensors whose content is known, and through maps and reshapes of single elements."""

    def leaf(node: Expr, again: Callable[[Expr], Expr]) -> Expr | None:
        if isinstance(node, e.Load):
            index = tuple(e.resolve(d.substitute(i, {}, again)) for i in node.index)
            return node.tensor[index] if node.tensor.content is not None else e.Load(node.tensor, index)
        if isinstance(node, e.DimVal):
            return e.dimval(e.resolve(d.substitute(node.value, {}, again)), node.dtype)
        return None

    return e.rewrite(value, leaf, {})


def _depends_on_values(value: e.DimVal) -> bool:
    return bool(e.children(value)) or any(s.extent is not None for s in d.symbols(value.value))


def _declared(extent: object) -> int | str | None:
    """What a declared dim demands of callers; exporters also write -1 and ``?`` where they mean nothing."""
    if isinstance(extent, str):
        return extent if any(c.isalnum() for c in extent) else None
    return extent if isinstance(extent, int) and extent >= 0 else None


def _spelled(extent: Dim | int) -> str:
    """A dim in a message: spelled out, a deep one would take time exponential in its depth."""
    return repr(extent) if isinstance(extent, int) or (extent.depth <= 1 and len(extent.terms) <= TERMS_LIMIT) else "…"
