"""The plan: steps and kernels laid out as instructions over slots and buffers.

Dims are computed when they are first needed, tensors whose lifetimes do not overlap share a block, and an output's memory is asked
for right before the kernel that writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from onnx_numba.codegen.kernel import KernelSource
from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim, Opaque, Sym
from onnx_numba.ir.loop import (
    AxisSource,
    BranchCall,
    Check,
    Constant,
    DimSource,
    ElementSource,
    HostCall,
    Input,
    KernelCall,
    LoopCall,
    Object,
    Program,
    Reshape,
    Result,
    TemplateCall,
    Tensor,
    Weight,
)
from onnx_numba.ir.plan import BAD_VALUE, SHAPE_MISMATCH, HostStep, Kernel, Plan, Port, Reason
from onnx_numba.ir.types import U8, DType, Extent, TensorType, ValueType
from onnx_numba.schedule.control import Control
from onnx_numba.schedule.expand import view_checks
from onnx_numba.schedule.place import Places, wholes
from onnx_numba.schedule.steps import CallStep, Group, Slices, Work
from onnx_numba.schedule.uses import dim_tensors, updated

NEGATIVE = "a size of {a}"


def storage(tensor: Tensor) -> Tensor:
    """The tensor whose block holds this one's elements."""
    while True:
        definition = tensor.definition
        if isinstance(definition, Reshape):
            tensor = definition.source
        elif isinstance(definition, Result) and (taken := updated(definition)) is not None:
            tensor = taken
        else:
            return tensor


class Planner:
    """Collects the tables of a `Plan`."""

    def __init__(
        self, program: Program, steps: Sequence[Work], kernels: Mapping[int, Sequence[KernelSource]],
        bodies: Mapping[int, Sequence[Plan]], places: Places, embedded: bool,
    ) -> None:  # fmt: skip
        self.program = program
        self.schedule = steps
        self.sources = kernels  # by id of the step
        self.bodies = bodies  # likewise: plans of subgraphs
        self.places = places  # of tensors that lie in the blocks of others
        self.embedded = embedded  # whether the plan becomes part of another, which takes its outputs where they are
        self.code: list[tuple[Any, ...]] = []
        self.slot_values: dict[int, int] = {}
        self.slots = 0
        self.buffer_types: list[str] = []
        self.constants: dict[int, int] = {}
        self.object_ids: dict[object, int] = {}
        self.object_constants: dict[int, Any] = {}
        self.kernels: dict[str, int] = {}
        self.kernel_list: list[Kernel] = []
        self.hosts: list[HostStep] = []
        self.steps: list[str] = []
        self._numbers: dict[int, int] = {}
        self._symbols: dict[object, int] = {}
        self._dims: dict[object, int] = {}
        self._buffers: dict[Tensor, int] = {}
        self._tenants: dict[int, list[Tensor]] = {}  # tensors by the buffer they share, in order
        self._covered: set[Tensor] = set()  # tensors whose block is large enough already
        self._outputs: dict[Tensor, int] = {}
        self._allocated: set[Tensor] = set()
        self._ready: set[Tensor] = set()
        self._checked: set[tuple[Dim | int, Dim | int]] = set()
        self.reasons: dict[Reason, int] = {}

    # -- slots -------------------------------------------------------------------------------------------------------

    def slot(self) -> int:
        """A new slot."""
        self.slots += 1
        return self.slots - 1

    def number(self, value: int) -> int:
        """The slot that holds a constant."""
        if value not in self._numbers:
            self._numbers[value] = self.slot()
            self.slot_values[self._numbers[value]] = value
        return self._numbers[value]

    def emit(self, op: str, *operands: Any) -> int:
        """An instruction that writes a new slot."""
        slot = self.slot()
        self.code.append((op, slot, *operands))
        return slot

    def dim(self, value: Dim | int) -> int:
        """The slot that holds a dim, computed now unless it has been."""
        if isinstance(value, int):
            return self.number(value)
        if value in self._dims:
            return self._dims[value]
        self._compute_names(value)
        total: int | None = None
        for monomial, factor in value.terms.items():
            slots = [self._atom(a) for a in monomial]
            if factor != 1 or not slots:
                slots.append(self.number(factor))
            term = slots[0]
            for other in slots[1:]:
                term = self.emit("mul", term, other)
            total = term if total is None else self.emit("add", total, term)
        assert total is not None
        self._dims[value] = total
        return total

    def _compute_names(self, value: Dim) -> None:
        """The dims that have names of their own in a dim, and in those: one after the other, for there may be a long chain of them."""
        stack = [s for s in value.symbols if isinstance(s.source, DimSource) and s not in self._symbols]
        while stack:
            named = stack[-1].source.value
            missing = [s for s in named.symbols if isinstance(s.source, DimSource) and s not in self._symbols]
            if missing:
                stack += missing
            else:
                self._symbols[stack[-1]] = self.dim(named)
                stack.pop()

    def _atom(self, atom: Sym | Opaque) -> int:
        if atom not in self._symbols:
            if isinstance(atom, Opaque):
                a, b = (self.dim(x) for x in atom.args)
                self._symbols[atom] = self.emit(atom.op, a, b)
            else:
                assert isinstance(atom.source, ElementSource), f"dim {atom} is not known here"
                tensor = atom.source.tensor
                key = (storage(tensor), atom.source.index)
                if key not in self._symbols:
                    slot = self.emit("load", self.buffer(tensor), self.number(atom.source.index), tensor.dtype.name)
                    self._symbols[key] = slot
                self._symbols[atom] = slot = self._symbols[key]
                if not atom.signed and (tensor.dtype.kind == "i" or tensor.dtype.size == 8):
                    self.demand(slot, self.emit("max", slot, self.number(0)), BAD_VALUE, Reason(atom.source.origin, NEGATIVE))
        return self._symbols[atom]

    def demand(self, a: int, b: int, code: int, reason: Reason) -> None:
        """Slots that must be equal."""
        self.code.append(("check", a, b, code, self.reasons.setdefault(reason, len(self.reasons))))

    # -- buffers -----------------------------------------------------------------------------------------------------

    def new_buffer(self, kind: str) -> int:
        """A buffer of a storage type."""
        self.buffer_types.append(kind)
        return len(self.buffer_types) - 1

    def place(self, tensor: Tensor, buffer: int) -> None:
        """Say in which buffer a tensor lies."""
        self._buffers[tensor] = buffer

    def define(self, symbol: Sym, slot: int) -> None:
        """Say which slot holds a dim that only the run knows."""
        self._symbols[symbol] = slot

    def kernel(self, kernel: Kernel) -> int:
        """The number of a kernel."""
        if kernel.digest not in self.kernels:
            self.kernels[kernel.digest] = len(self.kernel_list)
            self.kernel_list.append(kernel)
        return self.kernels[kernel.digest]

    def buffer(self, tensor: Tensor) -> int:
        """The buffer that holds a tensor's elements."""
        base = storage(tensor)
        if base not in self._buffers:
            if isinstance(base.definition, Weight):
                buffer = self.new_buffer(base.dtype.name)
                self.constants[buffer] = base.definition.index
            else:
                buffer = self.new_buffer(base.dtype.name)
            self._buffers[base] = buffer
        return self._buffers[base]

    def _block(self, tensor: Tensor) -> Tensor:
        """The tensor that has the block in which a tensor lies."""
        base = storage(tensor)
        *_, last = base, *wholes([base], self.places)
        return last

    def _fitting(self, tensor: Tensor, vacant: list[int]) -> int:
        """Take from vacant buffers the one that grows least for a tensor, or else has least to spare; the last where sizes are unknown."""
        need, found = tensor.size, vacant[-1]
        held = {buffer: [t.size for t in self._tenants[buffer]] for buffer in reversed(vacant)}
        if isinstance(need, int) and all(isinstance(size, int) for sizes in held.values() for size in sizes):
            spare = {buffer: max(size for size in sizes if isinstance(size, int)) - need for buffer, sizes in held.items()}
            found = min(spare, key=lambda buffer: (spare[buffer] < 0, abs(spare[buffer])))
        vacant.remove(found)
        return found

    def _share_blocks(self) -> None:
        """Give tensors buffers; one that is written after another's last use takes over its buffer."""
        last = self._lifetimes()
        free: dict[str, list[int]] = {}
        for position, step in enumerate(self.schedule):
            for tensor in self._writes(step):
                block = self._block(tensor)
                if block not in self._buffers:
                    vacant = free.get(block.dtype.name) if block not in self._outputs else None
                    self._buffers[block] = self._fitting(block, vacant) if vacant else self.new_buffer(block.dtype.name)
                    self._tenants.setdefault(self._buffers[block], []).append(block)
                for part in (tensor, *wholes([tensor], self.places)):
                    if part not in self._buffers:
                        self._buffers[part] = self.new_buffer(part.dtype.name)
            for tensor in last.get(position, ()):
                if tensor not in self._outputs and self._tenants.get(self._buffers.get(tensor, -1)):
                    free.setdefault(tensor.dtype.name, []).append(self._buffers[tensor])

    def object(self, value: Object) -> int:
        """The id of a Python value."""
        if id(value) not in self.object_ids:
            self.object_ids[id(value)] = len(self.object_ids)
            if isinstance(value.definition, Constant):
                self.object_constants[self.object_ids[id(value)]] = value.definition.value
        return self.object_ids[id(value)]

    # -- the whole ---------------------------------------------------------------------------------------------------

    def build(self) -> Plan:
        """The finished plan."""
        inputs = tuple(self._input(k) for k in range(len(self.program.inputs)))
        self._check(self.program.checks)
        self._choose_outputs()
        self._share_blocks()
        for step in self.schedule:
            self._step(step)
            self._ready.update(self._writes(step))
            if isinstance(step, CallStep):
                self._ready.update(t for t in step.outputs if isinstance(t, Tensor))
        outputs = tuple(self._output(number, name, value) for number, (name, value) in enumerate(self.program.outputs))
        self.code.append(("end",))
        return Plan(
            inputs, outputs, self.slots, self.slot_values, len(self.buffer_types), dict(enumerate(self.buffer_types)), self.constants,
            len(self.object_ids), self.object_constants, tuple(self.kernel_list), tuple(self.hosts), tuple(self.steps), tuple(self.code),
            tuple(self.reasons),
        )  # fmt: skip

    def _input(self, index: int) -> Port:
        name, value, declared = self.program.inputs[index]
        if isinstance(value, Object):
            shape = value.type.shape if isinstance(value.type, TensorType) else None
            slots = self._input_dims(name, shape or ())
            return Port(name, _named(value.type), object=self.object(value), dims=slots, declared=declared)
        slots = self._input_dims(name, value.shape)
        buffer = self.new_buffer(value.dtype.name)
        self._buffers[value] = buffer
        self._ready.add(value)
        return Port(name, _tensor_type(value.dtype, value.shape), buffer, slots, declared=declared)

    def _input_dims(self, name: str, shape: Sequence[Extent]) -> tuple[int, ...]:
        """A slot for each extent of an input; those of one name must be equal."""
        slots = []
        for extent in shape:
            slot = self.slot()
            if isinstance(extent, Dim):
                ((symbol,),) = extent.terms
                if symbol in self._symbols:
                    reason = Reason(f"input {name!r}", f"dim {symbol!r} is {{a}} here, {{b}} elsewhere")
                    self.demand(slot, self._symbols[symbol], SHAPE_MISMATCH, reason)
                else:
                    self._symbols[symbol] = slot
            slots.append(slot)
        return tuple(slots)

    def _choose_outputs(self) -> None:
        """Let kernels write outputs directly where the output is one kernel's whole result and its dims are known by then."""
        written = {self._block(t) for step in self.schedule for t in self._writes(step)}
        for number, (_, value) in enumerate(self.program.outputs):
            if not isinstance(value, Tensor):
                continue
            base = storage(value)
            known = dim_tensors([*value.shape, *(x for check in view_checks(value) for x in (check.a, check.b))])
            early = all(isinstance(t.definition, (Input, Weight)) for t in known)
            if base in written and base not in self._outputs and (early or value is base):
                self._outputs[base] = number

    def _writes(self, step: Work) -> list[Tensor]:
        if isinstance(step, (Group, Slices)):
            return step.writes
        if isinstance(step.call, (TemplateCall, KernelCall)):
            return [t for t in step.outputs if isinstance(t, Tensor) and storage(t) is t]
        return []

    def _reads(self, step: Work) -> Iterable[Tensor]:
        if isinstance(step, CallStep):
            for t in (*step.call.inputs, *step.outputs):
                if isinstance(t, Tensor):
                    yield t
                    yield from dim_tensors(t.shape)
        for source in self.sources.get(id(step), ()):
            yield from source.buffers
            yield from dim_tensors([*source.dims, source.total, source.grain, source.scratch, source.rounds or 1])
        yield from dim_tensors(x for c in step.checks for x in (c.a, c.b))
        for tensor in self._writes(step):
            yield tensor
            yield from dim_tensors(tensor.shape)

    def _lifetimes(self) -> dict[int, list[Tensor]]:
        """Tensors by the step after which nobody needs them."""
        last: dict[Tensor, int] = {}
        for position, step in enumerate(self.schedule):
            for tensor in self._reads(step):
                last[self._block(tensor)] = position
        for _, value in self.program.outputs:
            if isinstance(value, Tensor):
                last.pop(self._block(value), None)
                for tensor in dim_tensors(value.shape):
                    last.pop(self._block(tensor), None)
        self._keep_with_results(last)
        done: dict[int, list[Tensor]] = {}
        for tensor, position in last.items():
            if not isinstance(tensor.definition, (Input, Weight)):
                done.setdefault(position, []).append(tensor)
        return done

    def _keep_with_results(self, last: dict[Tensor, int]) -> None:
        """Let what a loop or branch is given live as long as its results, which may lie where that does."""
        for step in reversed(self.schedule):
            if not isinstance(step, CallStep) or not isinstance(step.call, (LoopCall, BranchCall)):
                continue
            results = [t for t in step.outputs if isinstance(t, Tensor)]
            for tensor in map(self._block, step.call.inputs):
                if any(t not in last for t in results):
                    last.pop(tensor, None)
                elif tensor in last:
                    last[tensor] = max(last[tensor], *(last[t] for t in results))

    def _check(self, checks: Iterable[Check]) -> None:
        """Demand what has not been demanded before."""
        for check in checks:
            if (check.a, check.b) not in self._checked:
                self._checked.add((check.a, check.b))
                self.demand(self.dim(check.a), self.dim(check.b), check.code, check.reason)

    def _check_view(self, value: Tensor | Object | None) -> None:
        """Demand what a view needs before it is taken for what its shape says; no kernel does, for none computes it."""
        if isinstance(value, Tensor):
            self._check(view_checks(value))

    def _step(self, step: Work) -> None:
        self._check(step.checks)
        if isinstance(step, CallStep):
            for value in step.call.inputs:
                self._check_view(value)
        self.steps.append("; ".join(step.origins) or "copy")
        number = len(self.steps) - 1
        if isinstance(step, CallStep) and isinstance(step.call, HostCall):
            self._host(step, step.call, number)
            return
        if isinstance(step, CallStep) and isinstance(step.call, (LoopCall, BranchCall)):
            self._control(step, step.call)
            return
        for tensor in self._writes(step):
            self._allocate(tensor)
        for source in self.sources[id(step)]:
            self._call(source, number)

    def _allocate(self, tensor: Tensor) -> None:
        if tensor in self._allocated:
            return
        self._allocated.add(tensor)
        if tensor in self.places:
            place = self.places[tensor]
            self._allocate(place.whole)
            at = self.dim(place.offset * tensor.dtype.size)
            self.code.append(("point", self.buffer(tensor), self.buffer(place.whole), at))
        elif tensor in self._outputs:
            output = self._outputs[tensor]
            value = self.program.outputs[output][1]
            assert isinstance(value, Tensor)
            self._check_view(value)
            for extent in value.shape:
                self.dim(extent)
            self.buffer(tensor)
            self.code.append(("out", output))
        else:
            self._allocate_block(tensor)

    def _allocate_block(self, tensor: Tensor) -> None:
        """A block for all tensors that will share it, as far as their sizes are known by now: it need not grow then."""
        if tensor in self._covered:
            return
        buffer = self.buffer(tensor)
        size: Dim | int = 0
        sizes: dict[Dim | int, None] = {}
        for other in self._tenants[buffer]:
            if other is tensor or (other not in self._allocated and dim_tensors(other.shape) <= self._ready):
                sizes[other.size] = None
                self._covered.add(other)
        for each in sizes:
            size = d.dmax(size, each)
        self.code.append(("alloc", buffer, self.dim(size * tensor.dtype.size)))

    def _call(self, source: KernelSource, step: int) -> None:
        kernel = self.kernel(Kernel(source.name, source.digest))
        if source.scratch != 0:
            self.code.append(("scratch", self.dim(source.scratch)))
        numbers = [self.dim(x) for x in (source.total, source.grain, source.written)]
        dims = tuple(self.dim(x) for x in source.dims)
        buffers = tuple(self.buffer(t) for t in source.buffers)
        if source.rounds is None:
            self.code.append(("call", kernel, step, *numbers, buffers, dims))
        elif source.rounds == 1:
            self.code.append(("call", kernel, step, *numbers, buffers, (*dims, self.number(0))))
        else:
            Control(self).rounds(
                self.dim(source.rounds), lambda turn: self.code.append(("call", kernel, step, *numbers, buffers, (*dims, turn)))
            )

    def _host(self, step: CallStep, call: HostCall, number: int) -> None:
        inputs = tuple(None if x is None else self._port("", x) for x in call.inputs)
        outputs = []
        checks: list[tuple[int, Dim | int]] = []
        by_index: dict[int, Tensor | Object] = {}
        for value in step.outputs:
            assert isinstance(value, (Tensor, Object)) and isinstance(value.definition, Result)
            by_index[value.definition.index] = value
        for index in range(max(by_index, default=-1) + 1):
            made = by_index.get(index)
            if made is None or isinstance(made, Object):
                kind = _named(made.type) if made is not None else TensorType(U8)
                target = self.object(made) if made is not None else self.object(Object("unused", kind, Constant(None)))
                outputs.append(Port("", kind, object=target))
                continue
            slots = []
            for axis, extent in enumerate(made.shape):
                slot = self.slot()
                own = next((s for s in d.symbols(extent) if s.source == (made, AxisSource(axis))), None)
                if own is not None:
                    self._symbols[own] = slot
                else:
                    checks.append((slot, extent))
                slots.append(slot)
            outputs.append(Port(made.name, _tensor_type(made.dtype, made.shape), self.buffer(made), tuple(slots)))
        self.hosts.append(HostStep(call.function, number, inputs, tuple(outputs), call.params))
        self.code.append(("host", len(self.hosts) - 1))
        for slot, extent in checks:
            self.demand(slot, self.dim(extent), SHAPE_MISMATCH, Reason(self.steps[number], "a dim of its result is {a}, expected {b}"))

    def _control(self, step: CallStep, call: LoopCall | BranchCall) -> None:
        plans, text = self.bodies[id(step)], self.steps[-1]
        if isinstance(call, LoopCall):
            Control(self).loop(call, plans[0], step.outputs, text)
        else:
            Control(self).branch(call, plans, step.outputs)

    def _port(self, name: str, value: Tensor | Object) -> Port:
        if isinstance(value, Object):
            return Port(name or value.name, _named(value.type), object=self.object(value))
        return Port(name or value.name, _tensor_type(value.dtype, value.shape), self.buffer(value), tuple(self.dim(x) for x in value.shape))

    def _output(self, number: int, name: str, value: Tensor | Object) -> Port:
        """An output's port; what no kernel writes into the caller's memory is copied there."""
        self._check_view(value)
        port = self._port(name, value)
        if self.embedded or isinstance(value, Object) or self._outputs.get(storage(value)) == number:
            return port
        size, buffer = self.dim(value.size * value.dtype.size), self.new_buffer(value.dtype.name)
        self.code += [("out", number), ("copy", buffer, self.buffer(value), size)]
        return replace(port, buffer=buffer)


def _named(kind: ValueType) -> ValueType:
    """The type of an object with names in place of dims, which are no part of a plan."""
    return _tensor_type(kind.dtype, kind.shape) if isinstance(kind, TensorType) and kind.shape is not None else kind


def _tensor_type(dtype: DType, shape: Sequence[Extent]) -> TensorType:
    return TensorType(dtype, tuple(x if isinstance(x, int) or x is None else str(x) for x in shape))
