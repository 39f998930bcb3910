"""A plan made ready to run: its weights bound, its host steps resolved, its frames at hand.

The driver here is the Python half of a run. A frame executes instructions until it needs Python, for an output, a host step, or
an error; then it is taken up again where it stopped.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from onnx_numba.errors import BranchError, ExecutionError, ModelError, OnnxNumbaError, OutOfMemoryError
from onnx_numba.ir.abi import CACHE_LINE, LEFT_END, LEFT_ERROR, LEFT_OUT
from onnx_numba.ir.plan import OTHER_BRANCH, STATUS_TEXT, HostStep, Plan, Port
from onnx_numba.ir.types import MapType, SequenceType, TensorType
from onnx_numba.record import record
from onnx_numba.runtime.assembler import steps_of
from onnx_numba.runtime.binding import conform, readable
from onnx_numba.runtime.frame import Frame
from onnx_numba.runtime.host import Host, is_factory, objects_of
from onnx_numba.runtime.outputs import OutputPool, aligned_block

Array = np.ndarray[Any, Any]

REFUSED = NotImplemented
"""What a fast entry returns when the inputs are for the general path."""

HUGE = 1 << 24
"""Bytes of a weight from which on a second copy of it is worse than slow loads."""
MAX_IDLE_FRAMES = 16
"""Frames kept for later runs; only so many concurrent runs find their memory allocated already."""


@record
class Place:
    """Where a port's value lies in a frame, worked out once."""

    name: str
    buffer: int | None
    object: int
    dims: tuple[int, ...]
    dtype: np.dtype[Any] | None

    @classmethod
    def of(cls, port: Port) -> Place:
        """The place of a port."""
        dtype = port.type.dtype.numpy if port.buffer is not None and isinstance(port.type, TensorType) else None
        return cls(port.name, port.buffer, -1 if port.object is None else port.object, port.dims, dtype)


@record
class _Step:
    """A Python step, ready to be called."""

    function: Callable[..., tuple[Any, ...]]
    params: Any
    inputs: tuple[Place | None, ...]
    outputs: tuple[Place, ...]
    where: str


class FastEntry(Protocol):
    """A program's shortcut for inputs that need no care."""

    function: Callable[[Any], Any]
    call: Callable[..., Any]


class Engine(Protocol):
    """How plans are executed: by compiled code or by Python."""

    def frames(self, plan: Plan) -> Callable[[], Frame]:
        """A function that makes frames for a plan."""

    def entry(self, program: Program, result: type[tuple[Any, ...]], general: Callable[..., Any] = ...) -> FastEntry | None:
        """A fast entry of a program, if it can have one; ``general`` is what its ``call`` falls back on."""


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

    Attributes
    ----------
    objects : list
        Per host step what `onnx_numba.runtime.host.objects_of` says of it.
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
        self._constants = {buffer: _aligned(readable(weights[index])) for buffer, index in plan.constants.items()}
        self.weight_bytes = sum(array.nbytes for array in self._constants.values())
        self._make = engine.frames(plan)
        self._idle: deque[Frame] = deque(maxlen=MAX_IDLE_FRAMES)
        self._frames: weakref.WeakSet[Frame] = weakref.WeakSet()
        self._steps = steps_of(plan)
        self._inputs = [Place.of(port) for port in plan.inputs]
        self._outputs = [Place.of(port) for port in plan.outputs]
        self._fresh = _fresh_objects(plan)
        bodies = _Bodies(weights, engine, hosts)
        self._hosts = [_resolve(step, plan.steps[step.step], hosts, bodies) for step in plan.hosts]
        self._otherwise = None if plan.otherwise is None else Program(plan.otherwise, weights, engine, hosts)
        self.objects = [objects_of(hosts[step.function], step.params) for step in plan.hosts]

    def run(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Run on one value per input port, already made to conform to it, and give one per output port."""
        if self._otherwise is not None and any(values[number].size == 0 for number in self.plan.filled):
            return self._otherwise.run(values)
        frame = self.borrow()
        try:
            frame.begin()
            for place, value in zip(self._inputs, values, strict=True):
                self._enter(frame, place, value)
            return self._drive(frame)
        except OutOfMemoryError as error:
            raise self.located(error, frame) from None
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
        for step in self._hosts:
            _each_body(step.params, Body.cancel)
        if self._otherwise is not None:
            self._otherwise.cancel()

    @property
    def arena_bytes(self) -> int:
        """Memory that runs keep for intermediate tensors, those of subgraphs left out."""
        other = 0 if self._otherwise is None else self._otherwise.arena_bytes
        return other + sum(frame.arena_bytes for frame in list(self._frames))

    def trim(self) -> None:
        """Free the memory of idle frames and of outputs that no caller holds."""
        self._idle.clear()
        self.outputs.trim()
        for step in self._hosts:
            _each_body(step.params, Body.trim)
        if self._otherwise is not None:
            self._otherwise.trim()

    def new_frame(self) -> Frame:
        """A frame with the constants bound."""
        frame = self._make()
        self._frames.add(frame)
        for buffer, array in self._constants.items():
            frame.bind_constant(buffer, array)
        return frame

    def _enter(self, frame: Frame, place: Place, value: Any) -> None:
        """Hand a value to the plan: a graph input, or what a host step gave."""
        buffer = place.buffer
        if buffer is None:
            frame.objects[place.object] = value
            if not place.dims:
                return
            shape = getattr(value, "shape", ())
        else:
            if value is None:
                return
            frame.bind(buffer, value)
            shape = value.shape
        for slot, extent in zip(place.dims, shape, strict=False):
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
        for number in range(len(results)):
            if not made[number]:
                results[number] = self.output(frame, number)
        return tuple(results)

    def _allocate(self, frame: Frame, number: int) -> Array:
        array = self.new_output(frame, number)
        buffer = self._outputs[number].buffer
        assert buffer is not None
        frame.bind(buffer, array)
        return array

    def new_output(self, frame: Frame, number: int) -> Array:
        """Memory for an output whose dims are in slots by now."""
        place = self._outputs[number]
        assert place.dtype is not None
        shape = tuple([frame.slot(slot) for slot in place.dims])
        if shape and min(shape) < 0:
            raise ExecutionError.at(None, f"output {place.name!r} would have the shape {list(shape)}")
        return self.outputs.empty(shape, place.dtype)

    def output(self, frame: Frame, number: int) -> Any:
        """An output that no ``out`` has made, for the caller alone."""
        place = self._outputs[number]
        return frame.objects[place.object] if place.object in self._fresh else _own(_fetch(frame, place))

    def host(self, frame: Frame, number: int) -> None:
        """Run a Python step."""
        step = self._hosts[number]
        try:
            results = step.function(*[None if place is None else _fetch(frame, place) for place in step.inputs])
        except OnnxNumbaError:
            raise
        except Exception as error:
            raise ExecutionError.at(step.where, f"{type(error).__name__}: {error}") from error
        if len(results) < len(step.outputs):  # trailing outputs that nobody uses have no port
            name = self.plan.hosts[number].function
            raise ExecutionError.at(step.where, f"{name} gave {len(results)} values, expected {len(step.outputs)}")
        for place, value in zip(step.outputs, results, strict=False):
            self._enter(frame, place, value if place.dtype is None or value is None else _tensor(place, value, step.where))

    def located(self, error: OutOfMemoryError, frame: Frame) -> ExecutionError:
        """A lack of memory with the step at which it arose."""
        return error if error.step else OutOfMemoryError.at(self._steps[frame.failure()[2]], str(error))

    def error(self, frame: Frame) -> ExecutionError:
        """What made a frame stop, for people."""
        code, index, instruction = frame.failure()
        text = STATUS_TEXT.get(code, f"status {code}")
        words = self.plan.code[instruction]
        if words[0] == "bcast":
            text += f": one axis is {frame.slot(words[2])} in one and {frame.slot(words[3])} in another"
        if words[0] == "check":
            reason = self.plan.reasons[words[4]]
            text += f": {reason.text.replace('{a}', str(frame.slot(words[1]))).replace('{b}', str(frame.slot(words[2])))}"
            if code == OTHER_BRANCH:
                branch = BranchError(f"{reason.step}: {text}")
                branch.decision = reason.decision
                return branch
        return ExecutionError.at(self._steps[instruction], text, code=code, index=index)


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


def _resolve(step: HostStep, where: str, hosts: Mapping[str, Host], bodies: _Bodies) -> _Step:
    if step.function not in hosts:
        raise ModelError(f"plan: there is no host step {step.function!r}")
    inputs = tuple(None if port is None else Place.of(port) for port in step.inputs)
    function, params = hosts[step.function], bodies.replace(step.params)
    ready = function(params) if is_factory(function) else partial(function, params)
    return _Step(ready, params, inputs, tuple(map(Place.of, step.outputs)), where)


def _fetch(frame: Frame, place: Place) -> Any:
    """A value as host steps see it: where it lies, for as long as the step runs."""
    if place.buffer is None:
        return frame.objects[place.object]
    assert place.dtype is not None
    return frame.array(place.buffer, tuple([frame.slot(slot) for slot in place.dims]), place.dtype)


def _aligned(weight: Array) -> Array:
    """A weight, copied if it begins inside a cache line and is not huge: every vector load from there would touch two.

    Those of a stored model are mapped if they are large, and begin on a cache line as they are.
    """
    if not weight.nbytes or weight.nbytes > HUGE or weight.dtype.hasobject or not weight.ctypes.data % CACHE_LINE:
        return weight
    copy = aligned_block(weight.nbytes).view(weight.dtype).reshape(weight.shape)
    copy[...] = weight
    copy.flags.writeable = False
    return copy


def _tensor(place: Place, value: Any, where: str) -> Array:
    """What a host step gave, as kernels can read it."""
    array, dtype, rank = np.asarray(value), place.dtype, len(place.dims)
    assert dtype is not None
    if array.dtype != dtype or array.ndim != rank:
        got = f"{array.dtype.name} of rank {array.ndim}"
        raise ExecutionError.at(where, f"{place.name!r} should be {dtype.name} of rank {rank}, got {got}")
    return readable(array)


def _fresh_objects(plan: Plan) -> frozenset[int]:
    """Objects that a step makes for one output alone, of maps and numbers: handed out as they are."""
    maps = [port.object for port in plan.outputs if isinstance(port.type, SequenceType) and isinstance(port.type.element, MapType)]
    return lone_objects(plan) & {number for number in maps if number is not None}


def lone_objects(plan: Plan) -> frozenset[int]:
    """Objects that one step makes for one output, and that nothing else reads."""
    made = [port.object for step in plan.hosts for port in step.outputs]
    read = {port.object for step in plan.hosts for port in step.inputs if port is not None} | {port.object for port in plan.inputs}
    given = [port.object for port in plan.outputs]
    return frozenset(n for n in given if n is not None and n not in read and given.count(n) == made.count(n) == 1)


def _own(value: Any) -> Any:
    """A value that shares no memory with anything: arrays and lists copied, maps and strings as they are."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [_own(item) if isinstance(item, np.ndarray | list) else item for item in value]
    return value
