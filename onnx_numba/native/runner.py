"""The plan runner: executes instruction words until Python is needed.

``run(state)`` goes on at the word ``S_PC`` and returns why it stopped, one of ``LEFT_…``; ``S_OPERAND`` says with what, and the
same call resumes. It is compiled by numba; the words are described in ``onnx_numba.ir.abi`` and
``onnx_numba.runtime.assembler``.
"""

from __future__ import annotations

from onnx_numba.ir.abi import (
    CTX_STRIDE,
    LARGEST_PRODUCT,
    LEFT_END,
    LEFT_ERROR,
    LEFT_GROW,
    LEFT_HOST,
    LEFT_OUT,
    LEFT_POLL,
    LEFT_SCRATCH,
    LEFT_START,
    LOAD_I8,
    LOAD_I16,
    LOAD_I32,
    LOAD_U8,
    LOAD_U16,
    LOAD_U32,
    OP_ADD,
    OP_ALIAS,
    OP_ALLOC,
    OP_BCAST,
    OP_BRANCH,
    OP_CALL,
    OP_CHECK,
    OP_COPY,
    OP_DIV,
    OP_EQ,
    OP_EXTEND,
    OP_HOST,
    OP_JUMP,
    OP_LE,
    OP_LOAD,
    OP_LT,
    OP_MAX,
    OP_MIN,
    OP_MOVE,
    OP_MUL,
    OP_NE,
    OP_OUT,
    OP_POINT,
    OP_SCRATCH,
    OP_STORE,
    OP_SUB,
    OP_SWAP,
    P_STARTED,
    S_ARGS,
    S_AROUND,
    S_BLOCKS,
    S_BUDGET,
    S_BUFS,
    S_CANCEL,
    S_CAPS,
    S_CHUNKS,
    S_CODE,
    S_CTX,
    S_DIMS,
    S_DONE,
    S_INDEX,
    S_KERNELS,
    S_MODE,
    S_OPERAND,
    S_PC,
    S_POOL,
    S_SCRATCH,
    S_SLOTS,
    S_STATUS,
    S_THREADS,
    SHARE_BITS,
)
from onnx_numba.ir.plan import (
    AROUND,
    BAD_VALUE,
    BROADCAST,
    CANCELLED,
    CTX_AROUND,
    CTX_INDEX,
    CTX_STATUS,
    DIVISION_BY_ZERO,
    OVERFLOW,
)
from onnx_numba.native.memory import POINTERS, atomic_load, call_kernel, memcpy
from onnx_numba.native.pool import region

_pointers = {record.name: record for record in POINTERS}
i8_p, i16_p, i32_p, i64_p = (_pointers[name] for name in ("i8_p", "i16_p", "i32_p", "i64_p"))
u8_p, u16_p, u32_p = (_pointers[name] for name in ("u8_p", "u16_p", "u32_p"))
i64_at = _pointers["i64_at"]

_GO_ON = -1
_EVEN = 4
"""Two to this power are chunks enough that one more or less for a thread makes little difference."""


def run(state):  # type: ignore[no-untyped-def]
    """Execute instructions from ``S_PC`` on; why it stopped."""
    code = i64_p(state, S_CODE)
    slots = i64_p(state, S_SLOTS)
    buffers = i64_p(state, S_BUFS)
    blocks = i64_p(state, S_BLOCKS)
    capacities = i64_p(state, S_CAPS)
    pc = state[S_PC]
    while True:
        operation = code[pc]
        if operation == OP_CALL:
            left = call(state, code, slots, buffers, pc)
            if left != _GO_ON:
                state[S_PC] = pc
                return left
            pc += 8 + code[pc + 6] + code[pc + 7]
            if state[S_BUDGET] <= 0:
                return leave(state, pc, LEFT_POLL)
        elif operation <= OP_LE:
            left = arithmetic(slots, operation, code[pc + 1], slots[code[pc + 2]], slots[code[pc + 3]])
            if left != 0:
                return error(state, pc, left)
            pc += 4
        elif OP_ALLOC <= operation <= OP_EXTEND:
            buffer = code[pc + 1]
            if slots[code[pc + 2]] > capacities[buffer] or slots[code[pc + 2]] < 0:
                if slots[code[pc + 2]] < 0:
                    return error(state, pc, BAD_VALUE)
                state[S_OPERAND] = buffer
                return leave(state, pc, LEFT_GROW)
            buffers[buffer] = blocks[buffer]
            pc += 3
        elif operation == OP_MOVE:
            slots[code[pc + 1]] = slots[code[pc + 2]]
            pc += 3
        elif operation == OP_BCAST:
            a = slots[code[pc + 2]]
            b = slots[code[pc + 3]]
            if a != b and a != 1 and b != 1:
                return error(state, pc, BROADCAST)
            slots[code[pc + 1]] = b if a == 1 else a
            pc += 4
        elif operation == OP_LOAD:
            slots[code[pc + 1]] = load(buffers, code[pc + 2], slots[code[pc + 3]], code[pc + 4])
            pc += 5
        elif operation == OP_CHECK:
            if slots[code[pc + 1]] != slots[code[pc + 2]]:
                return error(state, pc, code[pc + 3])
            pc += 5
        elif operation == OP_ALIAS:
            buffers[code[pc + 1]] = buffers[code[pc + 2]]
            pc += 3
        elif operation == OP_BRANCH:
            pc = code[pc + 2] if slots[code[pc + 1]] == 0 else pc + 3
        elif operation == OP_JUMP:
            target = code[pc + 1]
            if target < pc:
                # An iteration counts as a chunk: it may be all that a long run consists of.
                if atomic_load(state, S_CANCEL) != 0:
                    return error(state, pc, CANCELLED)
                state[S_BUDGET] -= 1
                if state[S_BUDGET] <= 0:
                    return leave(state, target, LEFT_POLL)
            pc = target
        elif operation == OP_POINT:
            buffers[code[pc + 1]] = buffers[code[pc + 2]] + slots[code[pc + 3]]
            pc += 4
        elif operation == OP_SWAP:
            exchange(buffers, code[pc + 1], code[pc + 2])
            exchange(blocks, code[pc + 1], code[pc + 2])
            exchange(capacities, code[pc + 1], code[pc + 2])
            pc += 3
        elif operation == OP_STORE:
            store(buffers, code[pc + 1], slots[code[pc + 2]], code[pc + 3])
            pc += 4
        elif operation == OP_COPY:
            memcpy(u8_p(buffers, code[pc + 1]), u8_p(buffers, code[pc + 2]), slots[code[pc + 3]])
            pc += 4
        elif operation == OP_SCRATCH:
            if slots[code[pc + 1]] > state[S_SCRATCH]:
                state[S_OPERAND] = slots[code[pc + 1]]
                return leave(state, pc, LEFT_SCRATCH)
            pc += 2
        elif operation == OP_OUT:
            state[S_OPERAND] = code[pc + 1]
            return leave(state, pc + 2, LEFT_OUT)
        elif operation == OP_HOST:
            state[S_OPERAND] = code[pc + 1]
            return leave(state, pc + 2, LEFT_HOST)
        else:
            return leave(state, pc, LEFT_END)


def leave(state, pc, reason):  # type: ignore[no-untyped-def]
    """Remember where to go on."""
    state[S_PC] = pc
    return reason


def error(state, pc, status):  # type: ignore[no-untyped-def]
    """Stop with a status that no work index belongs to."""
    state[S_PC] = pc
    state[S_STATUS] = status
    state[S_INDEX] = -1
    return LEFT_ERROR


def arithmetic(slots, operation, dst, a, b):  # type: ignore[no-untyped-def]
    """One of ``add`` to ``le``; a status."""
    if operation == OP_ADD:
        slots[dst] = a + b
    elif operation == OP_SUB:
        slots[dst] = a - b
    elif operation == OP_MUL:
        # A product that wraps would give a block smaller than the loops that fill it.
        if abs(float(a) * float(b)) >= LARGEST_PRODUCT:
            return OVERFLOW
        slots[dst] = a * b
    elif operation == OP_MAX:
        slots[dst] = max(a, b)
    elif operation == OP_MIN:
        slots[dst] = min(a, b)
    elif operation == OP_EQ:
        slots[dst] = 1 if a == b else 0
    elif operation == OP_NE:
        slots[dst] = 1 if a != b else 0
    elif operation == OP_LT:
        slots[dst] = 1 if a < b else 0
    elif operation == OP_LE:
        slots[dst] = 1 if a <= b else 0
    elif b == 0:
        return DIVISION_BY_ZERO
    elif operation == OP_DIV:
        slots[dst] = a // b
    else:
        slots[dst] = a % b
    return 0


def exchange(table, a, b):  # type: ignore[no-untyped-def]
    """Exchange two words of a table."""
    kept = table[a]
    table[a] = table[b]
    table[b] = kept


def store(buffers, buffer, value, kind):  # type: ignore[no-untyped-def]
    """Write the first element of a buffer."""
    if kind == LOAD_U8:
        u8_p(buffers, buffer)[0] = value
    else:
        i64_p(buffers, buffer)[0] = value


def load(buffers, buffer, index, kind):  # type: ignore[no-untyped-def]
    """An integer element of a buffer."""
    value = 0
    if kind == LOAD_U8:
        value += u8_p(buffers, buffer)[index]
    elif kind == LOAD_I8:
        value += i8_p(buffers, buffer)[index]
    elif kind == LOAD_U16:
        value += u16_p(buffers, buffer)[index]
    elif kind == LOAD_I16:
        value += i16_p(buffers, buffer)[index]
    elif kind == LOAD_U32:
        value += u32_p(buffers, buffer)[index]
    elif kind == LOAD_I32:
        value += i32_p(buffers, buffer)[index]
    else:
        value += i64_p(buffers, buffer)[index]
    return value


def call(state, code, slots, buffers, pc):  # type: ignore[no-untyped-def]
    """Gather a kernel's buffers and dims and run it."""
    args = i64_p(state, S_ARGS)
    dims = i64_p(state, S_DIMS)
    at = pc + 8
    # The atomic load costs no more than a plain one here and keeps LLVM from vectorising loops of two or three rounds.
    for k in range(code[pc + 6]):
        args[k] = buffers[atomic_load(code, at + k)]
    at += code[pc + 6]
    for k in range(code[pc + 7]):
        dims[k] = slots[atomic_load(code, at + k)]
    kernel = i64_p(state, S_KERNELS)[code[pc + 1]]
    total = slots[code[pc + 3]]
    grain = chunk_length(total, max(1, slots[code[pc + 4]]))
    state[S_AROUND] = 1 if slots[code[pc + 5]] >= AROUND else 0
    if total > grain and state[S_DONE] == 0:
        chunks = (total + grain - 1) // grain
        if state[S_MODE] != 0:
            pool = i64_p(state, S_POOL)
            if atomic_load(pool, P_STARTED) == 0:
                return LEFT_START
            bad = region(pool, state, kernel, total, grain)
            if bad >= 0:
                state[S_CHUNKS] += chunks
                state[S_BUDGET] -= chunks
                return failure(state) if bad else _GO_ON
        state[S_CHUNKS] += chunks
    return serial(state, kernel, total, grain)


def chunk_length(total, grain):  # type: ignore[no-untyped-def]
    """Work units per chunk where a kernel asks for ``grain``, from sizes alone.

    Few chunks are made alike, and an even number of them, so that as many threads end together: of 64 units in chunks of 52 two of 32,
    in chunks of 13 six of 11. Chunks are longer than that only where a region could not count them.
    """
    if total <= grain:  # no division for short work
        return grain
    if total < grain << _EVEN:
        chunks = ((total - 1) // grain + 2) & ~1
        return (total - 1) // chunks + 1
    if total < grain << (SHARE_BITS - 1):
        return grain
    return grain * (1 + ((total // grain) >> (SHARE_BITS - 1)))


def serial(state, kernel, total, grain):  # type: ignore[no-untyped-def]
    """The same chunks in order on this thread, from where an earlier visit stopped."""
    ctx = i64_p(state, S_CTX)
    low = state[S_DONE] * grain
    ctx[CTX_AROUND] = state[S_AROUND]
    while low < total:
        status = call_kernel(kernel, ctx, i64_p(state, S_ARGS), i64_p(state, S_DIMS), low, min(total, low + grain))
        if status != 0 and ctx[CTX_STATUS] == 0:
            ctx[CTX_STATUS] = status
            ctx[CTX_INDEX] = low
        if ctx[CTX_STATUS] != 0 or atomic_load(state, S_CANCEL) != 0:
            return failure(state)
        low += grain
        state[S_BUDGET] -= 1
        if state[S_BUDGET] <= 0 and low < total:
            state[S_DONE] = low // grain
            return LEFT_POLL
    state[S_DONE] = 0
    return _GO_ON


def failure(state):  # type: ignore[no-untyped-def]
    """Collect the smallest failing index of all threads, and make their contexts clean for the next run."""
    state[S_STATUS] = CANCELLED
    state[S_INDEX] = -1
    for thread in range(state[S_THREADS]):
        ctx = i64_at(i64_p(state, S_CTX), thread * CTX_STRIDE)
        if ctx[CTX_STATUS] != 0 and (state[S_INDEX] < 0 or ctx[CTX_INDEX] < state[S_INDEX]):
            state[S_STATUS] = ctx[CTX_STATUS]
            state[S_INDEX] = ctx[CTX_INDEX]
        ctx[CTX_STATUS] = 0
    return LEFT_ERROR
