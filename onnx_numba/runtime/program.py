"""A plan made ready to run: its weights bound, its host steps resolved, its frames at hand.

The driver here is the Python half of a run. A frame executes instructions until it needs Python, for an output, a host step, or
an error; then it is taken up again where it stopped.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from onnx_numba.errors import ExecutionError, ModelError, OnnxNumbaError
from onnx_numba.ir.plan import STATUS_TEXT, HostStep, Plan, Port
from onnx_numba.ir.types import TensorType
from onnx_numba.native.layout import LEFT_END, LEFT_ERROR, LEFT_OUT
from onnx_numba.runtime.assembler import steps_of
from onnx_numba.runtime.binding import conform, readable
from onnx_numba.runtime.frame import Frame
from onnx_numba.runtime.host import Host
from onnx_numba.runtime.outputs import OutputPool

Array = np.ndarray[Any, Any]

REFUSED = NotImplemented
"""What a fast entry returns when the inputs are for the general path."""

MAX_IDLE_FRAMES = 16
"""Frames kept for later runs; only so many concurrent runs find their memory allocated already."""


class FastEntry(Protocol):
    """A program's shortcut for inputs that need no care."""

    function: Callable[[Any], Any]


class Engine(Protocol):
    """How plans are executed: by compiled code or by Python."""

    def frames(self, plan: Plan) -> Callable[[], Frame]:
        """A function that makes frames for a plan."""

    def entry(self, program: Program, result: type[tuple[Any, ...]]) -> FastEntry | None:
        """A fast entry of a program, if it can have one."""


def refuse(inputs: Any) -> Any:
    """In place of a fast entry where there is none."""
    return REFUSED


class Program:
    """A plan with everything it needs.

    Parameters
    ----------
    plan : Plan
        The scheduled graph.
    weights : sequence of ndarray
        What ``plan.constants`` indexes; kept, never written.
    engine : Engine
        Makes frames, and fast entries where it can.
    hosts : mapping
        Host steps by name.
    """

    def __init__(
        self,
        plan: Plan,
        weights: Sequence[Array],
        engine: Engine,
        hosts: Mapping[str, Host],
    ) -> None:
        self.plan = plan
        self.outputs = OutputPool()
        self._constants = {buffer: readable(weights[index]) for buffer, index in plan.constants.items()}
        self.weight_bytes = sum(array.nbytes for array in self._constants.values())
        self._make = engine.frames(plan)
        self._idle: deque[Frame] = deque(maxlen=MAX_IDLE_FRAMES)
        self._frames: weakref.WeakSet[Frame] = weakref.WeakSet()
        self._steps = steps_of(plan)
        self._output_types = [port.type.dtype.numpy if isinstance(port.type, TensorType) else None for port in plan.outputs]
        bodies = _Bodies(weights, engine, hosts)
        self._hosts = [_resolve(step, hosts, bodies) for step in plan.hosts]

    def run(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Run on one value per input port, already made to conform to it, and give one per output port."""
        frame = self.borrow()
        try:
            frame.begin()
            for port, value in zip(self.plan.inputs, values, strict=True):
                self._enter(frame, port, value)
            return self._drive(frame)
        finally:
            frame.finish()
            self.give_back(frame)

    def borrow(self) -> Frame:
        """An idle frame, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.new_frame()

    def give_back(self, frame: Frame) -> None:
        """Return a frame; beyond ``MAX_IDLE_FRAMES`` the one idle for longest is freed."""
        self._idle.append(frame)

    def cancel(self) -> None:
        """Make all runs in progress end soon; a run that begins later is not affected."""
        for frame in list(self._frames):
            frame.cancel()
        for _, body in self._hosts:
            _each_body(body, Body.cancel)

    def trim(self) -> None:
        """Free the memory of idle frames and of outputs that no caller holds."""
        self._idle.clear()
        self.outputs.trim()
        for _, body in self._hosts:
            _each_body(body, Body.trim)

    def new_frame(self) -> Frame:
        """A frame with the constants bound."""
        frame = self._make()
        self._frames.add(frame)
        for buffer, array in self._constants.items():
            frame.bind_constant(buffer, array)
        return frame

    def _enter(self, frame: Frame, port: Port, value: Any) -> None:
        """Hand a value to the plan: a graph input, or what a host step gave."""
        if port.buffer is None:
            assert port.object is not None
            frame.objects[port.object] = value
            shape = getattr(value, "shape", ())
        else:
            if value is None:
                if port.buffer not in self._constants:
                    return
                value = self._constants[port.buffer]
            frame.bind(port.buffer, value)
            shape = value.shape
        for slot, extent in zip(port.dims, shape, strict=False):
            frame.set_slot(slot, extent)

    def _drive(self, frame: Frame) -> tuple[Any, ...]:
        results: list[Any] = [None] * len(self.plan.outputs)
        made = [False] * len(results)
        while (reason := frame.advance()) != LEFT_END:
            if reason == LEFT_OUT:
                results[frame.operand], made[frame.operand] = self._allocate(frame, frame.operand), True
            elif reason == LEFT_ERROR:
                raise self.error(frame)
            else:
                self.host(frame, frame.operand)
        for number, port in enumerate(self.plan.outputs):
            if not made[number]:
                results[number] = self.fetch(frame, port, copy=True)
        return tuple(results)

    def _allocate(self, frame: Frame, number: int) -> Array:
        array = self.new_output(frame, number)
        buffer = self.plan.outputs[number].buffer
        assert buffer is not None
        frame.bind(buffer, array)
        return array

    def new_output(self, frame: Frame, number: int) -> Array:
        """Memory for an output whose dims are in slots by now."""
        port, dtype = self.plan.outputs[number], self._output_types[number]
        assert dtype is not None
        shape = tuple([frame.slot(slot) for slot in port.dims])
        if shape and min(shape) < 0:
            raise ExecutionError.at(None, f"output {port.name!r} would have the shape {list(shape)}")
        return self.outputs.empty(shape, dtype)

    def fetch(self, frame: Frame, port: Port, *, copy: bool) -> Any:
        """The value of a port as Python sees it; a copy is the caller's alone."""
        if port.buffer is None:
            assert port.object is not None
            value = frame.objects[port.object]
            return _own(value) if copy else value
        assert isinstance(port.type, TensorType)
        shape = tuple([frame.slot(slot) for slot in port.dims])
        array = frame.array(port.buffer, shape, port.type.dtype.numpy)
        return array.copy() if copy else array

    def host(self, frame: Frame, number: int) -> None:
        """Run a Python step."""
        step = self.plan.hosts[number]
        function, params = self._hosts[number]
        inputs = [None if port is None else self.fetch(frame, port, copy=False) for port in step.inputs]
        where = self.plan.steps[step.step]
        try:
            results = function(params, *inputs)
        except OnnxNumbaError:
            raise
        except Exception as error:
            raise ExecutionError.at(where, f"{type(error).__name__}: {error}") from error
        if len(results) < len(step.outputs):  # trailing outputs that nobody uses have no port
            raise ExecutionError.at(where, f"{step.function} gave {len(results)} values, expected {len(step.outputs)}")
        for port, value in zip(step.outputs, results, strict=False):
            self._enter(frame, port, _host_value(port, value, where))

    def error(self, frame: Frame) -> ExecutionError:
        """What made a frame stop, for people."""
        code, index, instruction = frame.failure()
        return ExecutionError.at(self._steps[instruction], STATUS_TEXT.get(code, f"status {code}"), code=code, index=index)


class Body:
    """A subgraph's plan as a function of its inputs, for host steps."""

    def __init__(self, program: Program, engine: Engine) -> None:
        self._program = program
        self._entry = engine.entry(program, tuple)
        self._fast = refuse if self._entry is None else self._entry.function

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Run the subgraph."""
        result = self._fast(inputs)
        if result is not REFUSED:
            return result
        ports = self._program.plan.inputs
        return self._program.run([conform(value, port) for value, port in zip(inputs, ports, strict=True)])

    def cancel(self) -> None:
        """End runs in progress."""
        self._program.cancel()

    def trim(self) -> None:
        """Free idle memory."""
        self._program.trim()


class _Bodies:
    """Makes bodies out of the plans among a host step's parameters."""

    def __init__(self, weights: Sequence[Array], engine: Engine, hosts: Mapping[str, Host]) -> None:
        self._weights, self._engine, self._hosts = weights, engine, hosts

    def replace(self, value: Any) -> Any:
        if isinstance(value, Plan):
            return Body(Program(value, self._weights, self._engine, self._hosts), self._engine)
        if isinstance(value, list | tuple):
            return type(value)([self.replace(item) for item in value])
        if isinstance(value, dict):
            return {key: self.replace(item) for key, item in value.items()}
        return value


def _each_body(value: Any, action: Callable[[Body], None]) -> None:
    if isinstance(value, Body):
        action(value)
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            _each_body(item, action)


def _resolve(step: HostStep, hosts: Mapping[str, Host], bodies: _Bodies) -> tuple[Host, dict[str, Any]]:
    if step.function not in hosts:
        raise ModelError(f"plan: there is no host step {step.function!r}")
    return hosts[step.function], bodies.replace(step.params)


def _host_value(port: Port, value: Any, where: str) -> Any:
    """What a host step gave, as kernels can read it."""
    if port.buffer is None or value is None:
        return value
    assert isinstance(port.type, TensorType)
    array, dtype = np.asarray(value), port.type.dtype.numpy
    if array.dtype != dtype or array.ndim != len(port.dims):
        raise ExecutionError.at(
            where, f"{port.name!r} should be {dtype.name} of rank {len(port.dims)}, got {array.dtype.name} of rank {array.ndim}"
        )
    return readable(array)


def _own(value: Any) -> Any:
    """A value that shares no memory with anything: arrays and lists copied, maps and strings as they are."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [_own(item) for item in value]
    return value
