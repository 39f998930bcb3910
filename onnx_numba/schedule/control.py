"""Loops and branches in the plan: the plans of bodies as part of the list of instructions.

A body is planned like any program, and its plan is *embedded*: its tables are appended to the surrounding plan's, its instructions are
written with the new numbers, and instead of asking Python for the memory of outputs they take blocks. What makes a loop of it, here of
one state ``h`` and one stacked result ``y``, is

    alias h, first              the state before the first iteration is where it was made
    move n, 0
    top:
    lt t, n, count; branch t, end
    point row, x, n * bytes     the row of this iteration, where it lies
    …                           the body, in which
      alloc h', bytes           stands for the output h' of the body
      extend y, (n + 1) * bytes; point y', y, n * bytes   and this for y': its kernel writes it where it is stacked
    swap h, h'                  the next iteration reads the new state, and writes over the old one
    add n, n, 1
    jump top
    end:

A new state that no kernel of the body has written for it (one that is captured, another state, a view of one) is copied before anything
is swapped. A branch is ``branch c, other; …; jump end; other: …; end:``, and its results point at what the body that ran has made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Sym
from onnx_numba.ir.loop import AxisSource, BranchCall, LoopCall, Result, Tensor
from onnx_numba.ir.plan import OPS, SHAPE_MISMATCH, Plan, Port, Reason
from onnx_numba.ir.types import TensorType

if TYPE_CHECKING:
    from onnx_numba.schedule.planner import Planner

Memory = Callable[[int, Port], None]
"""Writes the instructions that give a body's output, by its number and port, its memory."""


class Embedded:
    """A body's plan within another.

    Attributes
    ----------
    inputs, outputs : list of Port
        With the numbers that they have there.
    made : set of int
        The outputs whose memory the body asks for; others are inputs, constants or what else it has.
    """

    def __init__(self, planner: Planner, plan: Plan) -> None:
        self._planner, self._plan = planner, plan
        self._slots, self._buffers, self._objects = planner.slots, len(planner.buffer_types), len(planner.object_ids)
        planner.slots += plan.slots
        planner.slot_values.update({self._slots + slot: value for slot, value in plan.slot_values.items()})
        planner.buffer_types += [plan.buffer_types[buffer] for buffer in range(plan.buffers)]
        planner.constants.update({self._buffers + buffer: index for buffer, index in plan.constants.items()})
        for number in range(plan.objects):
            planner.object_ids[("embedded", self._objects + number)] = self._objects + number
        planner.object_constants.update({self._objects + number: value for number, value in plan.object_constants.items()})
        self._kernels = [planner.kernel(kernel) for kernel in plan.kernels]
        self._reasons = [planner.reasons.setdefault(reason, len(planner.reasons)) for reason in plan.reasons]
        self._steps, self._hosts = len(planner.steps), len(planner.hosts)
        planner.steps += plan.steps
        for host in plan.hosts:
            ports = tuple(None if port is None else self._port(port) for port in host.inputs)
            results = tuple(map(self._port, host.outputs))
            planner.hosts.append(replace(host, step=self._steps + host.step, inputs=ports, outputs=results))
        self.inputs = [self._port(port) for port in plan.inputs]
        self.outputs = [self._port(port) for port in plan.outputs]
        self.made = {instruction[1] for instruction in plan.code if instruction[0] == "out"}

    def _port(self, port: Port) -> Port:
        buffer = None if port.buffer is None else self._buffers + port.buffer
        number = None if port.object is None else self._objects + port.object
        return replace(port, buffer=buffer, object=number, dims=tuple(self._slots + slot for slot in port.dims))

    def write(self, memory: Memory) -> None:
        """Append the body's instructions to the code."""
        code = self._planner.code
        places: list[int] = []
        jumps: list[int] = []
        for operation, *operands in self._plan.code[:-1]:
            places.append(len(code))
            if operation == "out":
                memory(operands[0], self.outputs[operands[0]])
                continue
            if "j" in OPS[operation]:
                jumps.append(len(code))
            code.append((operation, *self._moved(operation, operands)))
        places.append(len(code))
        for number in jumps:
            *head, target = code[number]
            code[number] = (*head, places[target])

    def _moved(self, operation: str, operands: Sequence[Any]) -> list[Any]:
        """An instruction's operands with the numbers that they have in the surrounding plan."""
        if operation == "call":
            kernel, step, *numbers, buffers, dims = operands
            numbers, dims = [slot + self._slots for slot in numbers], tuple(slot + self._slots for slot in dims)
            return [self._kernels[kernel], step + self._steps, *numbers, tuple(b + self._buffers for b in buffers), dims]
        if operation == "host":
            return [operands[0] + self._hosts]
        if operation == "check":
            a, b, code, reason = operands
            return [a + self._slots, b + self._slots, code, self._reasons[reason]]
        shift = {"d": self._slots, "s": self._slots, "b": self._buffers}
        return [x if letter in "tj" else x + shift[letter] for letter, x in zip(OPS[operation], operands, strict=True)]


class Control:
    """Writes calls of bodies into a planner's code."""

    def __init__(self, planner: Planner) -> None:
        self._p = planner

    def branch(self, call: BranchCall, plans: Sequence[Plan], results: Sequence[object]) -> None:
        """One of two bodies."""
        made = _by_number(results)
        places = {number: self._place(tensor) for number, tensor in made.items()}
        captures = [call.inputs[: call.split], call.inputs[call.split :]]
        bodies = [Embedded(self._p, plan) for plan in plans]
        arguments = [[self._value(t) for t in part] for part in captures]  # dims that both need are computed before either
        other = self._branch(self._p.dim(call.condition))
        end = -1
        for body, given in zip(bodies, arguments, strict=True):
            for port, value in zip(body.inputs, given, strict=True):
                self._alias(port, value)
            body.write(self._block)
            for number, (buffer, dims) in places.items():
                self._p.code.append(("alias", buffer, _buffer(body.outputs[number])))
                self._moves(dims, body.outputs[number].dims)
            if body is bodies[0]:
                end = self._jump()
                self._land(other)
        self._land(end)
        for number, tensor in made.items():
            self._known(tensor, places[number])

    def loop(self, call: LoopCall, plan: Plan, results: Sequence[object], step: str) -> None:
        """Iterations of a body."""
        _Loop(self._p, call, plan, _by_number(results), step).write()

    def rounds(self, count: int, write: Callable[[int], None]) -> None:
        """What is written, so many times (a slot); it is told the slot of the round's number.

        Of a call it is ``move n, 0; top: lt t, n, count; branch t, end; call …, (…, n); add n, n, 1; jump top; end:``.
        """
        p, turn = self._p, self._p.slot()
        p.code.append(("move", turn, p.number(0)))
        top = len(p.code)
        end = self._branch(p.emit("lt", turn, count))
        write(turn)
        p.code += [("add", turn, turn, p.number(1)), ("jump", top)]
        self._land(end)

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _value(self, tensor: Tensor) -> tuple[int, tuple[int, ...]]:
        """Buffer and dims of a tensor of the surrounding program."""
        return self._p.buffer(tensor), tuple(self._p.dim(x) for x in tensor.shape)

    def _place(self, tensor: Tensor) -> tuple[int, tuple[int, ...]]:
        """A buffer and slots for dims of a result."""
        return self._p.buffer(tensor), tuple(self._p.slot() for _ in tensor.shape)

    def _known(self, tensor: Tensor, place: tuple[int, tuple[int, ...]]) -> None:
        """Let a result's dims be those in the slots of its place."""
        for axis, slot in enumerate(place[1]):
            own = _own(tensor, axis)
            if own is not None:
                self._p.define(own, slot)

    def _alias(self, port: Port, value: tuple[int, tuple[int, ...]]) -> None:
        self._p.code.append(("alias", _buffer(port), value[0]))
        self._moves(port.dims, value[1])

    def _moves(self, targets: Sequence[int], sources: Sequence[int]) -> None:
        self._p.code += [("move", a, b) for a, b in zip(targets, sources, strict=True) if a != b]

    def _block(self, number: int, port: Port) -> None:
        """A block for a body's output."""
        self._p.code.append(("alloc", _buffer(port), self._bytes(port)))

    def _bytes(self, port: Port) -> int:
        """The slot with the size of a port's tensor."""
        assert isinstance(port.type, TensorType)
        size = port.type.dtype.size
        known = [self._p.slot_values.get(slot) for slot in port.dims]
        for extent in known:
            size *= 1 if extent is None else extent
        total = self._p.number(size)
        for slot, extent in zip(port.dims, known, strict=True):
            if extent is None:
                total = self._p.emit("mul", total, slot)
        return total

    def _branch(self, slot: int) -> int:
        """A branch whose target is not known yet."""
        self._p.code.append(("branch", slot, -1))
        return len(self._p.code) - 1

    def _jump(self) -> int:
        self._p.code.append(("jump", -1))
        return len(self._p.code) - 1

    def _land(self, jump: int) -> None:
        """Let a branch or jump lead to the next instruction."""
        self._p.code[jump] = (*self._p.code[jump][:-1], len(self._p.code))


class _Loop(Control):
    """Writes one loop."""

    def __init__(self, planner: Planner, call: LoopCall, plan: Plan, made: dict[int, Tensor], step: str) -> None:
        super().__init__(planner)
        self._call, self._made, self._step = call, made, step
        self._body = Embedded(planner, plan)
        head, skip = (2, 1) if call.counted else (0, 0)
        inputs, outputs = self._body.inputs, self._body.outputs
        self._head, self._state = inputs[:head], inputs[head : head + call.state]
        self._rows, self._captures = inputs[head + call.state :][: call.rows], inputs[head + call.state + call.rows :]
        self._next, self._items = range(skip, skip + call.state), range(skip + call.state, len(outputs))
        self._outputs = outputs
        self._number = planner.slot()
        wanted = [k for k in self._items if call.state + k - self._items.start in made]
        self._stacks = {k: planner.new_buffer(_kind(outputs[k])) for k in wanted}
        self._dims = {k: tuple(planner.slot() for _ in outputs[k].dims) for k in wanted}  # of their items

    def write(self) -> None:
        """The whole loop."""
        p, call = self._p, self._call
        zero, one = p.number(0), p.number(1)
        state, rows = call.inputs[: call.state], call.inputs[call.state :][: call.rows]
        for port, tensor in zip((*self._state, *self._captures), (*state, *call.inputs[call.state + call.rows :]), strict=True):
            self._alias(port, self._value(tensor))
        sources = [self._value(tensor) for tensor in rows]
        for port, (_, dims) in zip(self._rows, sources, strict=True):
            self._moves(port.dims, dims[1:])
        steps = [self._bytes(port) for port in self._rows]
        for port in self._head:
            p.code.append(("alloc", _buffer(port), p.number(8)))
        for k, buffer in self._stacks.items():
            p.code.append(("alloc", buffer, zero))
            self._moves(self._dims[k], [self._first(k, axis) for axis in range(len(self._dims[k]))])
        limit = None if call.count is None else p.dim(call.count)
        going = p.slot()
        p.code += [("move", going, p.dim(call.going)), ("move", self._number, zero)]
        top = len(p.code)
        exits = [self._branch(going)]
        if limit is not None:
            exits.append(self._branch(p.emit("lt", self._number, limit)))
        for port, slot in zip(self._head, (self._number, going), strict=False):
            p.code.append(("store", _buffer(port), slot, _kind(port)))
        for port, (buffer, _), size in zip(self._rows, sources, steps, strict=True):
            p.code.append(("point", _buffer(port), buffer, p.emit("mul", self._number, size)))
        self._body.write(self._memory)
        if call.counted:
            p.code.append(("load", going, _buffer(self._outputs[0]), zero, _kind(self._outputs[0])))
        self._stack()
        self._carry()
        p.code += [("add", self._number, self._number, one), ("jump", top)]
        for number in exits:
            self._land(number)
        self._give()

    def _first(self, k: int, axis: int) -> int:
        """A dim of a stack's items before there are any; 0 where only an iteration could tell."""
        known = self._p.slot_values.get(self._outputs[k].dims[axis])
        stack = self._made[self._call.state + k - self._items.start]
        if known is None and _own(stack, axis + 1) is None:
            return self._p.dim(stack.shape[axis + 1])
        return self._p.number(known or 0)

    def _memory(self, number: int, port: Port) -> None:
        """Memory of an output of the body: an item's lies in its stack."""
        if number in self._stacks:
            self._item(number, _buffer(port))
        else:
            self._block(number, port)

    def _item(self, k: int, target: int) -> None:
        """Point a buffer at the place of this iteration's item of a stack."""
        p, size = self._p, self._bytes(self._outputs[k])
        at = p.emit("mul", self._number, size)
        p.code += [("extend", self._stacks[k], p.emit("add", at, size)), ("point", target, self._stacks[k], at)]

    def _stack(self) -> None:
        """Copy the items that no kernel has written to their places; all items have the dims of the first."""
        p = self._p
        for k in self._stacks:
            port = self._outputs[k]
            if k not in self._body.made:
                place = p.new_buffer(_kind(port))
                self._item(k, place)
                p.code.append(("copy", place, _buffer(port), self._bytes(port)))
        open_ = [(a, b) for k in self._stacks for a, b in zip(self._dims[k], self._outputs[k].dims, strict=True) if b not in p.slot_values]
        if not open_:
            return
        first = self._branch(self._number)
        for a, b in open_:
            p.demand(b, a, SHAPE_MISMATCH, Reason(self._step, "a dim of what one iteration adds to a stacked output is {a}, {b} before"))
        past = self._jump()
        self._land(first)
        p.code += [("move", a, b) for a, b in open_]
        self._land(past)

    def _carry(self) -> None:
        """Make the new state that of the next iteration."""
        p = self._p
        swaps, dims = [], []
        for port, k in zip(self._state, self._next, strict=True):
            new = self._outputs[k]
            old, buffer = _buffer(port), _buffer(new)
            dims += [(a, b) for a, b in zip(port.dims, new.dims, strict=True) if a != b]
            if buffer == old:
                continue
            if k not in self._body.made:
                buffer = p.new_buffer(_kind(new))
                size = self._bytes(new)
                p.code += [("alloc", buffer, size), ("copy", buffer, _buffer(new), size)]
            swaps.append(("swap", old, buffer))
        p.code += swaps
        changed = {a for a, _ in dims}
        kept = {b: p.emit("move", b) for _, b in dims if b in changed}
        p.code += [("move", a, kept.get(b, b)) for a, b in dims]

    def _give(self) -> None:
        """Let results be the last state and the stacks."""
        for number, tensor in self._made.items():
            if number < self._call.state:
                port = self._state[number]
                place = _buffer(port), port.dims
            else:
                k = self._items[number - self._call.state]
                place = self._stacks[k], (self._number, *self._dims[k])
            self._p.place(tensor, place[0])
            self._known(tensor, place)


def _own(tensor: Tensor, axis: int) -> Sym | None:
    """The symbol for a dim that only the run of the call that makes a tensor tells."""
    return next((s for s in d.symbols(tensor.shape[axis]) if s.source == (tensor, AxisSource(axis))), None)


def _by_number(results: Sequence[object]) -> dict[int, Tensor]:
    return {r.definition.index: r for r in results if isinstance(r, Tensor) and isinstance(r.definition, Result)}


def _buffer(port: Port) -> int:
    assert port.buffer is not None
    return port.buffer


def _kind(port: Port) -> str:
    assert isinstance(port.type, TensorType)
    return port.type.dtype.name
