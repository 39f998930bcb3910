"""Plans on a CUDA device: kernels are launched from Python, tensors stay in device memory, slots on the host.

Buffers are one-dimensional device arrays of the storage type (small floats as their bits). Inputs and what Python steps give are
copied to the device, outputs and what Python steps take back from it. Weights are uploaded once per prepared model.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda

from onnx_numba.compile.cuda import argument_types, parameters
from onnx_numba.ir.abi import LEFT_END, LEFT_OUT
from onnx_numba.ir.plan import BAD_VALUE, Plan
from onnx_numba.native.cuda import NO_FAILURE, failure
from onnx_numba.runtime.device import Device, is_simulated
from onnx_numba.runtime.interpreter import Interpreter, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = np.ndarray[Any, Any]
DeviceArray = Any

THREADS = 128
LEAST_BLOCKS, MOST_BLOCKS = 128, 8192
"""Threads take further work units once there are that many blocks; fewer than the least leave a device idle anyway."""
SCRATCH_THREADS = 32
"""Threads of a block where every thread has scratch of its own: 128 blocks have 4096 of them."""
_ALIGN = 64

_simulating = threading.Lock()  # the simulator runs one kernel at a time


class Launch:
    """A kernel ready to be launched on any amount of work.

    Parameters
    ----------
    kernel : numba.cuda dispatcher
        Its parameters' names say what it takes; see `onnx_numba.codegen.cuda`.
    """

    def __init__(self, kernel: Any) -> None:
        names = parameters(kernel)
        self.fails = "ctx" in names
        self.scratch = "scratch" in names
        self._kernel = kernel

    def compile(self, buffers: Sequence[str]) -> None:
        """Compile for buffers of these storage types."""
        self._kernel.compile(argument_types(self._kernel, buffers))

    def grid(self, total: int) -> tuple[int, int]:
        """Blocks, and threads of each, for so many work units."""
        if is_simulated():
            return 2, 1  # threads of a block share what the simulator replaces while one of them runs
        if self.scratch:
            return LEAST_BLOCKS, SCRATCH_THREADS
        return min(max(-(-total // THREADS), LEAST_BLOCKS), MOST_BLOCKS), THREADS

    def __call__(self, grid: tuple[int, int], arguments: Sequence[Any]) -> None:
        """Start it."""
        with _simulation() if is_simulated() else _NOTHING:
            self._kernel[grid](*arguments)


@contextmanager
def _simulation() -> Iterator[None]:
    # Simulated threads do not inherit NumPy's error state.
    with _simulating, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


_NOTHING: AbstractContextManager[None] = nullcontext()


class CudaEngine:
    """Executes plans on one device.

    Parameters
    ----------
    kernels : mapping
        ``numba.cuda`` kernel by digest.
    device : Device
        Where to run.
    """

    def __init__(self, kernels: Mapping[str, Any], device: Device) -> None:
        self.device = device
        self._launches = {digest: Launch(kernel) for digest, kernel in kernels.items()}
        self._weights: dict[tuple[int, int], tuple[Array, DeviceArray]] = {}
        self._lock = threading.Lock()

    def frames(self, plan: Plan) -> Callable[[], CudaFrame]:
        """A function that makes frames for a plan, whose kernels are compiled here."""
        launches = resolve(plan, self._launches)
        if not is_simulated():
            cuda.select_device(self.device.index)
            for operation, *operands in plan.code:
                if operation == "call":
                    kernel, *_, buffers, _ = operands
                    launches[kernel].compile([plan.buffer_types[buffer] for buffer in buffers])
        return lambda: CudaFrame(plan, launches, self)

    def entry(self, program: Any, result: type[tuple[Any, ...]], general: Any = None) -> None:
        """There is no fast way."""

    def weight(self, array: Array) -> DeviceArray:
        """An array that is never written, on the device; uploaded once, whatever number of frames and subgraphs read it."""
        place = array.__array_interface__["data"][0], array.nbytes
        with self._lock:
            if place not in self._weights:
                self._weights[place] = array, upload(array)
            return self._weights[place][1]


def upload(array: Array) -> DeviceArray:
    """A copy on the device, of at least one element, since there is no empty device memory."""
    made = cuda.device_array(max(array.size, 1), array.dtype)
    if array.size:
        made.copy_to_device(array)
    return made


class CudaFrame(Interpreter):
    """A frame whose buffers lie on the device; blocks are kept from run to run."""

    def __init__(self, plan: Plan, launches: Sequence[Any], engine: CudaEngine) -> None:
        self._engine = engine
        self._blocks: dict[int, DeviceArray] = {}
        self._results: list[tuple[Array, DeviceArray]] = []
        self._expected: int | None = None
        self._stride = 0
        self._scratch_memory: DeviceArray = None
        self._word: DeviceArray = None
        super().__init__(plan, launches)
        self._word = upload(np.array([NO_FAILURE], np.int64))

    def begin(self) -> None:
        """Fresh slots, buffers and objects, on the engine's device."""
        cuda.select_device(self._engine.device.index)
        super().begin()
        self._results = []
        self._expected = None

    @property
    def arena_bytes(self) -> int:
        """Device memory that the frame keeps: blocks of intermediate tensors, inputs and outputs."""
        return sum(block.nbytes for block in self._blocks.values())

    def bind(self, buffer: int, array: Array) -> None:
        """Copy an array to the device, or note where an output belongs in the end."""
        host = array.reshape(-1).view(self._types[buffer])
        block = self._block(buffer, host.size)
        if buffer == self._expected:
            self._results.append((host, block))
            self._expected = None
        elif host.size:
            block[: host.size].copy_to_device(host)
        self._buffers[buffer] = block

    def bind_constant(self, buffer: int, array: Array) -> None:
        """Point a buffer at a weight on the device."""
        weight = self._engine.weight(array.reshape(-1).view(self._types[buffer]))
        self._buffers[buffer] = self._constants[buffer] = weight

    def array(self, buffer: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The elements of a buffer, copied to the host."""
        count = int(np.prod(shape, dtype=np.int64))
        if not count:
            return np.empty(shape, dtype)
        source: DeviceArray = self._at(buffer)
        host: Array = source[:count].copy_to_host()
        return host.view(dtype).reshape(shape)

    def advance(self) -> int:
        """Execute instructions; at the end, outputs are copied to the host."""
        reason = super().advance()
        if reason == LEFT_OUT:
            self._expected = self._plan.outputs[self.operand].buffer
        elif reason == LEFT_END:
            for host, block in self._results:
                if host.size:
                    block[: host.size].copy_to_host(host)
        return reason

    def _block(self, buffer: int, count: int) -> DeviceArray:
        """A block that the frame owns, of at least so many elements."""
        block = self._blocks.get(buffer)
        if block is None or block.size < count:
            block = self._blocks[buffer] = cuda.device_array(max(count, 1), self._types[buffer])
        return block

    def _load(self, dst: int, buffer: int, index: int, kind: str) -> None:
        self._slots[dst] = int(self._at(buffer)[self._slots[index]])

    def _alloc(self, buffer: int, size: int) -> None:
        count = self._slots[size]
        if count < 0:
            self._error = (BAD_VALUE, None)
            return
        self._buffers[buffer] = self._block(buffer, -(-count // self._types[buffer].itemsize))

    def _extend(self, buffer: int, size: int) -> None:
        old = self._blocks.get(buffer)
        self._alloc(buffer, size)
        new = self._blocks.get(buffer)
        if old is not None and new is not None and new is not old:
            new[: old.size].copy_to_device(old)

    def _swap(self, a: int, b: int) -> None:
        super()._swap(a, b)
        owned = {k: block for k, block in ((b, self._blocks.pop(a, None)), (a, self._blocks.pop(b, None))) if block is not None}
        self._blocks.update(owned)

    def _copy(self, dst: int, src: int, size: int) -> None:
        count = self._slots[size]
        if count:
            target: DeviceArray = self._at(dst)
            target.view(np.uint8)[:count].copy_to_device(self._at(src).view(np.uint8)[:count])

    def _scratch(self, size: int) -> None:
        """What every thread of the next call has."""
        self._stride = -(-self._slots[size] // _ALIGN) * _ALIGN

    def _call(
        self, kernel: int, step: int, total: int, grain: int, written: int, buffers: Sequence[int], dims: Sequence[int]
    ) -> None:
        launch: Any = self._kernels[kernel]
        work = self._slots[total]
        if work <= 0:
            return
        grid = launch.grid(work)
        head: list[Any] = [self._word] if launch.fails else []
        if launch.scratch:
            head += [self._scratch_for(grid), self._stride]
        launch(grid, [*head, *(self._at(b) for b in buffers), *(self._slots[s] for s in dims), work])
        if launch.fails:
            self._look(int(self._word[0]))

    def _scratch_for(self, grid: tuple[int, int]) -> DeviceArray:
        need = max(grid[0] * grid[1] * self._stride, 1)
        if self._scratch_memory is None or self._scratch_memory.size < need:
            self._scratch_memory = cuda.device_array(need, np.uint8)
        return self._scratch_memory

    def _look(self, word: int) -> None:
        if word != NO_FAILURE:
            self._error = failure(word)
            self._word.copy_to_device(np.array([NO_FAILURE], np.int64))
