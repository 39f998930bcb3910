"""From a plan's instruction tuples to the int64 words that the native runner executes.

Every instruction is one word for the operation (``onnx_numba.ir.abi.OPCODES``) followed by its operands as they stand in
the tuple, except that

* ``load`` and ``store`` name their element type by a number of ``LOAD_TYPES``;
* ``jump`` and ``branch`` name the instruction to go on at by its first word;
* ``call`` is (kernel, step, total, grain, written, number of buffers, number of dims, buffers…, dims…).

``("add", 4, 0, 3), ("end",)`` becomes ``0 4 0 3 28``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_numba.errors import ModelError
from onnx_numba.ir.abi import LOAD_TYPES, OPCODES
from onnx_numba.ir.plan import OPS, Plan
from onnx_numba.record import record


@record
class Assembly:
    """The words of a plan and how they map back to it.

    Attributes
    ----------
    words : ndarray of int64
        What the runner executes.
    starts : tuple of int
        The word at which each instruction begins.
    most_buffers, most_dims : int
        The longest lists of buffers and dims of one call.
    """

    words: NDArray[np.int64]
    starts: tuple[int, ...]
    most_buffers: int
    most_dims: int

    def instruction_at(self, word: int) -> int:
        """The number of the instruction that a word belongs to."""
        return bisect_right(self.starts, word) - 1


def assemble(plan: Plan) -> Assembly:
    """Encode a plan; refuses one whose operands do not fit its tables, since the runner trusts the words."""
    words: list[int] = []
    starts: list[int] = []
    targets: list[int] = []  # words that name instructions
    buffers = dims = 0
    for number, instruction in enumerate(plan.code):
        _check(plan, number)
        starts.append(len(words))
        operation = instruction[0]
        words.append(OPCODES[operation])
        if operation == "call":
            *numbers, bufs, shape = instruction[1:]
            words += [*numbers, len(bufs), len(shape), *bufs, *shape]
            buffers, dims = max(buffers, len(bufs)), max(dims, len(shape))
        elif operation in ("load", "store"):
            *operands, kind = instruction[1:]
            words += [*operands, LOAD_TYPES[kind]]
        elif operation in ("jump", "branch"):
            words += instruction[1:]
            targets.append(len(words) - 1)
        else:
            words += instruction[1:]
    if not plan.code or plan.code[-1][0] != "end":
        raise ModelError("plan: expected the last instruction to be 'end'")
    for word in targets:
        words[word] = starts[words[word]]
    return Assembly(np.array(words, np.int64), tuple(starts), buffers, dims)


def resolve(plan: Plan, kernels: Mapping[str, Any]) -> list[Any]:
    """The code of each of a plan's kernels, from a mapping by digest."""
    missing = [kernel.name for kernel in plan.kernels if kernel.digest not in kernels]
    if missing:
        raise ModelError(f"plan: no code was given for the kernels {', '.join(missing)}")
    return [kernels[kernel.digest] for kernel in plan.kernels]


def steps_of(plan: Plan) -> list[str | None]:
    """The text of the step that each instruction belongs to: its own, or that of the next one that has any."""
    texts: list[str | None] = []
    current: str | None = None
    for instruction in reversed(plan.code):
        current = _step(plan, instruction[0], instruction) or current
        texts.append(current)
    return texts[::-1]


def _step(plan: Plan, operation: str, instruction: tuple[Any, ...]) -> str | None:
    if operation == "call":
        return plan.steps[instruction[2]]
    if operation == "host":
        return plan.steps[plan.hosts[instruction[1]].step]
    return plan.reasons[instruction[4]].step if operation == "check" else None


def _check(plan: Plan, number: int) -> None:
    instruction = plan.code[number]
    operation = instruction[0]
    if operation not in OPS or len(instruction) != len(OPS[operation]) + 1:
        raise ModelError(f"plan: instruction {number} is not one of ours: {instruction!r}")
    limits = {"d": plan.slots, "s": plan.slots, "b": plan.buffers, "S": plan.slots, "B": plan.buffers, "j": len(plan.code)}
    for letter, operand in zip(OPS[operation], instruction[1:], strict=True):
        if letter == "t":
            fits = operand in LOAD_TYPES
        elif letter == "n":
            fits = operand >= 0
        else:
            ids = operand if letter in "SB" else (operand,)
            fits = all(0 <= i < limits[letter] for i in ids)
        if not fits:
            raise ModelError(f"plan: instruction {number} has an operand outside its table: {instruction!r}")
    tables = {"out": (1, len(plan.outputs)), "host": (1, len(plan.hosts)), "call": (1, len(plan.kernels)), "check": (4, len(plan.reasons))}
    place, limit = tables.get(operation, (0, 0))
    if place and instruction[place] >= limit:
        raise ModelError(f"plan: instruction {number} has an operand outside its table: {instruction!r}")
