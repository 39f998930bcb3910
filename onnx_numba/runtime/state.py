"""The memory of one compiled run, and the loop that goes back into the runner after everything Python can settle by itself.

All of it is allocated once and kept: a run of the same shapes as the last allocates nothing but outputs.
"""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnx_numba.ir.abi import (
    CTX_STRIDE,
    LEFT_END,
    LEFT_GROW,
    LEFT_POLL,
    LEFT_SCRATCH,
    LEFT_START,
    OP_EXTEND,
    S_ARGS,
    S_BLOCKS,
    S_BUDGET,
    S_BUFS,
    S_CANCEL,
    S_CAPS,
    S_CODE,
    S_CTX,
    S_DIMS,
    S_DONE,
    S_INDEX,
    S_KERNELS,
    S_OPERAND,
    S_PC,
    S_POOL,
    S_SCRATCH,
    S_SELF,
    S_SLOTS,
    S_STATUS,
    S_THREADS,
    STATE_WORDS,
)
from onnx_numba.ir.plan import CTX_CANCEL, CTX_SCRATCH, CTX_SCRATCH_BYTES, CTX_STATUS, CTX_WORKER, Plan
from onnx_numba.runtime.assembler import Assembly
from onnx_numba.runtime.outputs import aligned_block

if TYPE_CHECKING:
    from onnx_numba.runtime.engine import NativeCode
    from onnx_numba.runtime.threads import Pool

Array = np.ndarray[Any, Any]
Words = NDArray[np.int64]

_VISIT_SECONDS = 0.02
"""How long the runner may stay away before Python looks at signals, if its chunks are no longer than that."""
_FIRST_BUDGET = 64
_LARGEST_BUDGET = 1 << 20


def address_of(array: Array) -> int:
    """Where an array's elements lie."""
    return int(array.__array_interface__["data"][0])


def words(count: int) -> Words:
    """Zeroed int64 words that begin on a cache line."""
    block = aligned_block(8 * max(count, 1)).view(np.int64)
    block.fill(0)
    return block


class State:
    """A frame that compiled code executes; see `onnx_numba.runtime.frame.Frame` for its methods.

    Parameters
    ----------
    plan : Plan
        The plan, for its constants.
    assembly : Assembly
        Its words.
    kernels : array of int64
        Address per kernel.
    code : NativeCode
        The compiled runner.
    pool : Pool or None
        Threads for parallel regions.
    """

    def __init__(self, plan: Plan, assembly: Assembly, kernels: Words, code: NativeCode, pool: Pool | None) -> None:
        self._plan, self._assembly, self._kernels, self._code, self._pool = plan, assembly, kernels, code, pool
        self._constant_objects = [plan.object_constants.get(number) for number in range(plan.objects)]
        self.objects = list(self._constant_objects)
        self.operand = 0
        threads = 1 if pool is None else pool.threads
        self._initial = np.zeros(max(plan.slots, 1), np.int64)
        for slot, value in plan.slot_values.items():
            self._initial[slot] = value
        self._slots, self._buffers = words(plan.slots), words(plan.buffers)
        self._blocks, self._capacities = words(plan.buffers), words(plan.buffers)
        self._args, self._dims = words(assembly.most_buffers), words(assembly.most_dims)
        self._ctx = words(threads * CTX_STRIDE)
        self._ctx[CTX_WORKER::CTX_STRIDE] = range(threads)
        self._memory: dict[int, Array] = {}  # blocks by address: which buffer has which may change under way
        self._scratch: list[Array] = []
        self._views: dict[int, tuple[int, Array]] = {}
        self._bound: dict[int, Array] = {}
        self._outgrown: list[Array] = []
        self._constants: list[Array] = []
        self._state = words(STATE_WORDS)
        tables = {
            S_SELF: self._state, S_CODE: assembly.words, S_SLOTS: self._slots, S_BUFS: self._buffers, S_BLOCKS: self._blocks,
            S_CAPS: self._capacities, S_KERNELS: kernels, S_ARGS: self._args, S_DIMS: self._dims, S_CTX: self._ctx,
        }  # fmt: skip
        for word, table in tables.items():
            self._state[word] = address_of(table)
        self._state[S_POOL] = 0 if pool is None else pool.address
        self._state[S_THREADS] = threads
        # Python reads and writes single words through these, at a third of what an array's items cost.
        self._numbers, self._addresses = self._slots.data, self._buffers.data
        self._status = self._state.data
        self._budget = _FIRST_BUDGET
        self._begun, self._visited = 0, 0.0
        self.address = address_of(self._state)

    def begin(self) -> None:
        """Constants into slots, program counter to the first word."""
        self._slots[:] = self._initial
        state = self._state
        state[S_PC] = state[S_DONE] = state[S_CANCEL] = 0
        self._ctx[CTX_CANCEL::CTX_STRIDE] = 0
        if self._pool is not None:
            self._code.choose(self.address)
            self._begun = time.perf_counter_ns()

    def finish(self) -> None:
        """Let go of arrays and objects that belonged to the run."""
        self.release()

    def release(self) -> None:
        """Drop the references that the run needed."""
        self._bound.clear()
        self._outgrown.clear()
        self.objects[:] = self._constant_objects

    def left_with(self) -> int:
        """What the runner last left for: an output, a buffer …"""
        return self._status[S_OPERAND]

    def slot(self, index: int) -> int:
        """The number in a slot."""
        return self._numbers[index]

    def set_slot(self, index: int, value: int) -> None:
        """Put a number into a slot."""
        self._numbers[index] = value

    def bind(self, buffer: int, array: Array) -> None:
        """Point a buffer at a C-contiguous array until the run is over, or until it is bound again, as in a loop."""
        self._bound[buffer] = array
        self._addresses[buffer] = address_of(array)

    def bind_constant(self, buffer: int, array: Array) -> None:
        """Point a buffer at an array for good."""
        self._constants.append(array)
        self._addresses[buffer] = address_of(array)

    def array(self, buffer: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The elements of a buffer where they lie, read-only; valid until the run is over."""
        address = self._addresses[buffer]
        known = self._views.get(buffer)
        if known is not None and known[0] == address and known[1].shape == shape and known[1].dtype == dtype:
            return known[1]
        size = dtype.itemsize
        for dim in shape:
            size *= dim
        if size == 0:
            return np.empty(shape, dtype)
        memory = memoryview((ctypes.c_char * size).from_address(address)).toreadonly()
        array: Array = np.ndarray(shape, dtype, buffer=memory)
        self._views[buffer] = (address, array)
        return array

    def failure(self) -> tuple[int, int | None, int]:
        """Status code, work index and instruction of the error."""
        code, index, pc = (int(self._state[word]) for word in (S_STATUS, S_INDEX, S_PC))
        return code, None if index < 0 else index, self._assembly.instruction_at(pc)

    def cancel(self) -> None:
        """Stop the run at its next chunk."""
        self._ctx[CTX_CANCEL::CTX_STRIDE] = 1
        self._state[S_CANCEL] = 1

    def advance(self) -> int:
        """Execute until an output, a host step, an error or the end."""
        state = self._state
        state[S_BUDGET] = self._budget
        self._visited = time.perf_counter()
        while self.settle(reason := self._code.run(self.address)):
            pass
        if reason == LEFT_END and self._pool is not None:
            self._code.judge(self.address, time.perf_counter_ns() - self._begun)
        self.operand = self.left_with()
        return reason

    def settle(self, reason: int) -> bool:
        """Do what the runner left for, if it concerns nobody but this frame; whether it did."""
        state = self._state
        if reason == LEFT_GROW:
            self._grow(int(state[S_OPERAND]))
        elif reason == LEFT_SCRATCH:
            self._grow_scratch(int(state[S_OPERAND]))
        elif reason == LEFT_START:
            assert self._pool is not None
            self._pool.start()
        elif reason == LEFT_POLL:
            # Being back in the interpreter is what lets a KeyboardInterrupt be raised.
            now = time.perf_counter()
            self._adapt(now - self._visited)
            self._visited = now
            state[S_BUDGET] = self._budget
        else:
            return False
        return True

    def _adapt(self, seconds: float) -> None:
        """Bring the number of chunks per visit nearer to ``_VISIT_SECONDS``."""
        if seconds < _VISIT_SECONDS / 2:
            self._budget = min(2 * self._budget, _LARGEST_BUDGET)
        elif seconds > _VISIT_SECONDS:
            self._budget = max(self._budget // 2, 1)

    @property
    def arena_bytes(self) -> int:
        """Memory of the blocks that hold intermediate tensors."""
        return int(self._capacities.sum())

    def _grow(self, buffer: int) -> None:
        """Give a buffer a block of the size that is asked for; more if it had one before, as it may grow again."""
        operation, _, wanted = self._assembly.words[int(self._state[S_PC]) :][:3]
        size, keeps = int(self._slots[wanted]), operation == OP_EXTEND
        old = self._memory.pop(int(self._blocks[buffer]), None)
        if old is not None:
            size += size if keeps else size // 4
            self._outgrown.append(old)  # an alias may still point into it
        block = aligned_block(-(-size // 64) * 64)
        if old is not None and keeps:
            block[: old.size] = old
        address = address_of(block)
        self._memory[address], self._blocks[buffer], self._capacities[buffer] = block, address, block.size

    def _grow_scratch(self, size: int) -> None:
        self._scratch = [aligned_block(size) for _ in range(self._ctx.size // CTX_STRIDE)]
        self._ctx[CTX_SCRATCH::CTX_STRIDE] = [address_of(block) for block in self._scratch]
        self._ctx[CTX_SCRATCH_BYTES::CTX_STRIDE] = size
        self._ctx[CTX_STATUS::CTX_STRIDE] = 0
        self._state[S_SCRATCH] = size
