"""The plan executed by Python: what compiled runs are checked against, and what a person can step through.

Buffers are 1-d NumPy arrays of the storage type (small floats as their bits), slots are Python ints, kernels are the generated
Python functions over the twins of ``onnx_numba.native``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnx_numba.ir.abi import LARGEST_PRODUCT, LEFT_END, LEFT_ERROR, LEFT_HOST, LEFT_OUT
from onnx_numba.ir.plan import (
    AROUND,
    BAD_VALUE,
    BROADCAST,
    CANCELLED,
    CTX_AROUND,
    CTX_CANCEL,
    CTX_INDEX,
    CTX_SCRATCH,
    CTX_SCRATCH_BYTES,
    CTX_STATUS,
    CTX_WORDS,
    DIVISION_BY_ZERO,
    OVERFLOW,
    Plan,
)  # fmt: skip
from onnx_numba.ir.types import DTYPES
from onnx_numba.native.runner import chunk_length
from onnx_numba.runtime.assembler import resolve
from onnx_numba.runtime.outputs import aligned_block

Array = np.ndarray[Any, Any]
Kernel = Callable[..., int]

_POISON = 0xA5
_BINARY: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "max": max,
    "min": min,
    "eq": lambda a, b: int(a == b),
    "ne": lambda a, b: int(a != b),
    "lt": lambda a, b: int(a < b),
    "le": lambda a, b: int(a <= b),
}
_DIVISION: dict[str, Callable[[int, int], int]] = {"div": lambda a, b: a // b, "mod": lambda a, b: a % b}


def storage(name: str) -> np.dtype[Any]:
    """The NumPy type that kernels see for an element type."""
    return DTYPES[DTYPES[name].stored].numpy


class PythonEngine:
    """Executes plans by Python.

    Parameters
    ----------
    kernels : mapping
        Python function by digest.
    """

    def __init__(self, kernels: Mapping[str, Kernel]) -> None:
        self._kernels = kernels

    def frames(self, plan: Plan) -> Callable[[], Interpreter]:
        """A function that makes frames for a plan."""
        functions = resolve(plan, self._kernels)
        return lambda: Interpreter(plan, functions)

    def entry(self, program: Any, result: type[tuple[Any, ...]], general: Any = None) -> None:
        """There is no fast way."""


class Interpreter:
    """A frame that Python executes; see `onnx_numba.runtime.frame.Frame` for its methods."""

    def __init__(self, plan: Plan, kernels: Sequence[Kernel]) -> None:
        self._plan = plan
        self._kernels = kernels
        self._types = [storage(plan.buffer_types.get(buffer, "u8")) for buffer in range(plan.buffers)]
        self._constants: dict[int, Array] = {}
        self._ctx = np.zeros(CTX_WORDS, np.int64)
        self._scratch_block = aligned_block(0)
        self._sizes: dict[int, int] = {}
        self.operand = 0
        self.objects: list[Any] = []
        self.begin()

    def begin(self) -> None:
        """Fresh slots, buffers and objects: nothing of an earlier run can be seen."""
        plan = self._plan
        self._slots = [plan.slot_values.get(slot, 0) for slot in range(plan.slots)]
        self._buffers: list[Array | None] = [self._constants.get(buffer) for buffer in range(plan.buffers)]
        self.objects = [plan.object_constants.get(number) for number in range(plan.objects)]
        self._pc = 0
        self._error: tuple[int, int | None] = (0, None)
        self._ctx[[CTX_STATUS, CTX_INDEX, CTX_CANCEL]] = 0

    def finish(self) -> None:
        """Let go of arrays and objects."""
        self.begin()

    def slot(self, index: int) -> int:
        """The number in a slot."""
        return self._slots[index]

    def set_slot(self, index: int, value: int) -> None:
        """Put a number into a slot."""
        self._slots[index] = value

    def bind(self, buffer: int, array: Array) -> None:
        """Point a buffer at the elements of a C-contiguous array."""
        self._buffers[buffer] = array.reshape(-1).view(self._types[buffer])

    def bind_constant(self, buffer: int, array: Array) -> None:
        """Point a buffer at an array in this and every later run."""
        self.bind(buffer, array)
        bound = self._buffers[buffer]
        assert bound is not None
        self._constants[buffer] = bound

    def array(self, buffer: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The elements of a buffer in their shape, read-only."""
        count = int(np.prod(shape, dtype=np.int64))
        array = self._at(buffer)[:count].view(dtype).reshape(shape)
        array.flags.writeable = False
        return array

    @property
    def arena_bytes(self) -> int:
        """Memory of the blocks that the plan asked for: of each the largest size, in whole cache lines."""
        return sum(self._sizes.values())

    def failure(self) -> tuple[int, int | None, int]:
        """Status code, work index and instruction of the error."""
        code, index = self._error
        return code, index, self._pc

    def cancel(self) -> None:
        """Stop before the next instruction."""
        self._ctx[CTX_CANCEL] = 1

    def advance(self) -> int:
        """Execute instructions until one needs the driver."""
        code = self._plan.code
        while True:
            operation, *operands = code[self._pc]
            if operation == "end":
                return LEFT_END
            if operation in ("jump", "branch") and not self._ctx[CTX_CANCEL]:
                *condition, target = operands
                self._pc = target if not condition or not self._slots[condition[0]] else self._pc + 1
                continue
            if operation in ("out", "host"):
                self._pc += 1
                self.operand = operands[0]
                return LEFT_OUT if operation == "out" else LEFT_HOST
            if self._ctx[CTX_CANCEL]:
                self._error = (CANCELLED, None)
            else:
                self._execute(operation, operands)
            if self._error[0]:
                return LEFT_ERROR
            self._pc += 1

    def _execute(self, operation: str, operands: list[Any]) -> None:
        slots = self._slots
        if operation in _BINARY:
            dst, a, b = operands
            slots[dst] = _BINARY[operation](slots[a], slots[b])
            if operation == "mul" and abs(slots[dst]) >= LARGEST_PRODUCT:
                self._error = (OVERFLOW, None)
        elif operation in _DIVISION:
            dst, a, b = operands
            if slots[b] == 0:
                self._error = (DIVISION_BY_ZERO, None)
            else:
                slots[dst] = _DIVISION[operation](slots[a], slots[b])
        else:
            getattr(self, f"_{operation}")(*operands)

    def _move(self, dst: int, a: int) -> None:
        self._slots[dst] = self._slots[a]

    def _bcast(self, dst: int, a: int, b: int) -> None:
        left, right = self._slots[a], self._slots[b]
        if left != right and left != 1 and right != 1:
            self._error = (BROADCAST, None)
        self._slots[dst] = right if left == 1 else left

    def _load(self, dst: int, buffer: int, index: int, kind: str) -> None:
        self._slots[dst] = int(self._at(buffer).view(storage(kind))[self._slots[index]])

    def _check(self, a: int, b: int, code: int, reason: int) -> None:
        if self._slots[a] != self._slots[b]:
            self._error = (code, None)

    def _alloc(self, buffer: int, size: int) -> None:
        """A block filled with rubbish, so that a kernel which reads what nobody wrote is found out."""
        count = self._slots[size]
        if count < 0:
            self._error = (BAD_VALUE, None)
            return
        self._sizes[buffer] = max(self._sizes.get(buffer, 0), -(-count // 64) * 64)
        kind = self._types[buffer]
        block = aligned_block(-(-count // kind.itemsize) * kind.itemsize)
        block.fill(_POISON)
        self._buffers[buffer] = block.view(kind)

    def _extend(self, buffer: int, size: int) -> None:
        """A block of the new size with what the old one held."""
        old = self._buffers[buffer]
        self._alloc(buffer, size)
        new = self._buffers[buffer]
        if old is not None and new is not None and not self._error[0]:
            count = min(old.size, new.size)
            new[:count] = old[:count]

    def _alias(self, dst: int, src: int) -> None:
        self._buffers[dst] = self._at(src).view(self._types[dst])

    def _point(self, dst: int, src: int, at: int) -> None:
        self._buffers[dst] = self._at(src)[self._slots[at] // self._types[src].itemsize :]

    def _swap(self, a: int, b: int) -> None:
        self._buffers[a], self._buffers[b] = self._buffers[b], self._buffers[a]

    def _store(self, buffer: int, a: int, kind: str) -> None:
        self._at(buffer)[0] = self._slots[a]

    def _copy(self, dst: int, src: int, size: int) -> None:
        count = self._slots[size]
        self._at(dst).view(np.uint8)[:count] = self._at(src).view(np.uint8)[:count]

    def _at(self, buffer: int) -> Array:
        array = self._buffers[buffer]
        if array is None:
            raise RuntimeError(f"plan: buffer {buffer} is used before anything points it somewhere")
        return array

    def _call(
        self, kernel: int, step: int, total: int, grain: int, written: int, buffers: Sequence[int], dims: Sequence[int]
    ) -> None:
        function = self._kernels[kernel]
        ctx = self._ctx
        pointers = [self._at(buffer) for buffer in buffers]
        extents = [self._slots[slot] for slot in dims]
        end = self._slots[total]
        grain = chunk_length(end, max(1, self._slots[grain]))
        ctx[CTX_AROUND] = self._slots[written] >= AROUND
        with np.errstate(all="ignore"):
            for low in range(0, end, grain):
                status = function(ctx, pointers, extents, low, min(low + grain, end))
                if ctx[CTX_STATUS] or status:
                    recorded = int(ctx[CTX_STATUS])
                    self._error = (recorded, int(ctx[CTX_INDEX])) if recorded else (int(status), low)
                    return
                if ctx[CTX_CANCEL]:
                    self._error = (CANCELLED, None)
                    return

    def _scratch(self, size: int) -> None:
        if self._ctx[CTX_SCRATCH_BYTES] < self._slots[size]:
            self._scratch_block = aligned_block(self._slots[size])
            self._ctx[CTX_SCRATCH] = self._scratch_block.__array_interface__["data"][0]
            self._ctx[CTX_SCRATCH_BYTES] = self._scratch_block.size
