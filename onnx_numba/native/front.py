"""The fast entry: what ``run`` of a prepared model is, a builtin function made of compiled code.

It takes the inputs as Python objects, looks whether they are exactly what the plan wants (plain arrays of the declared type, rank
and fixed dims, contiguous and aligned, those of objects with nothing but strings, in an array, list, tuple or dict), runs the plan,
makes outputs through NumPy's C API, maps and strings through CPython's, and returns the tuple. Where an input is anything else it
has touched nothing; the general path in Python then does everything and finds the words for what is wrong. What the runner leaves for
(large outputs for which no block is free, growth, Python steps, errors) is served by Python through a callback, and the run goes on.

Objects are numbers here, their addresses. All words are described in ``onnx_numba.ir.abi``.
"""

from __future__ import annotations

from onnx_numba.ir.abi import (
    A_DATA,
    A_DIMS,
    A_DTYPE,
    CACHE_LINE,
    D_IDENTITY,
    F_ALLOC,
    F_BUSY,
    F_CALL,
    F_CLOCK,
    F_DECREF,
    F_DICT,
    F_DICT_GET,
    F_DICT_SIZE,
    F_DIMS,
    F_GENERAL,
    F_HEAVY,
    F_HELD,
    F_IN,
    F_INCREF,
    F_INPUTS,
    F_KEPT,
    F_LIST,
    F_LIST_GET,
    F_LIST_SET,
    F_LIST_SIZE,
    F_LONG,
    F_MADE,
    F_NDARRAY,
    F_NEW_ARRAY,
    F_NONE,
    F_OBJECTS,
    F_OUT,
    F_OUTPUTS,
    F_REFUSED,
    F_RESTORE,
    F_RESULT,
    F_RUN,
    F_SAVE,
    F_SERVE,
    F_SERVED,
    F_SET_BASE,
    F_SHAPE,
    F_STATE,
    F_TIME,
    F_TIME_ROOM,
    F_TUPLE,
    F_TUPLE_GET,
    F_TUPLE_NEW,
    F_TUPLE_SET,
    F_TUPLE_SIZE,
    F_VECTORCALL,
    HUGE_OUTPUT,
    IN_BUFFER,
    IN_DIMS,
    IN_FILLED,
    IN_NAME,
    IN_OBJECT,
    IN_RANK,
    IN_SIZE,
    IN_TYPE,
    IN_WORDS,
    LEFT_END,
    LEFT_HOST,
    LEFT_OUT,
    O_REFERENCES,
    O_TYPE,
    OUT_BUFFER,
    OUT_DIMS,
    OUT_RANK,
    OUT_SIZE,
    OUT_TYPE,
    OUT_WORDS,
    S_BUDGET,
    S_BUFS,
    S_CANCEL,
    S_CHUNKS,
    S_DONE,
    S_MODE,
    S_OPERAND,
    S_PC,
    S_POOL,
    S_SLOTS,
    SERVE_VALUE,
    SMALL_INPUT,
    SMALL_OUTPUT,
    WRITABLE,
)
from onnx_numba.native.address import call_c, halves_at, words_at
from onnx_numba.native.build import build
from onnx_numba.native.memory import POINTERS, atomic_load
from onnx_numba.native.mode import choose, judge
from onnx_numba.native.strings import all_strings, forget, readable

i64_p = next(record for record in POINTERS if record.name == "i64_p")
i64_at = next(record for record in POINTERS if record.name == "i64_at")

_BUDGET = 1 << 12


def call(self, args, count, names):  # type: ignore[no-untyped-def]
    """``METH_FASTCALL | METH_KEYWORDS`` function: `entry`, and where that refuses, the general path with the same arguments."""
    front = words_at(words_at(self + A_DATA)[0])
    if count == 1 and names == 0:
        result = entry(self, words_at(args)[0])
        if result != front[F_REFUSED]:
            return result
        call_c(front[F_DECREF], result)
    return call_c(front[F_VECTORCALL], front[F_GENERAL], args, count, names)


def entry(self, given):  # type: ignore[no-untyped-def]
    """``METH_O`` function: ``self`` is an array with the session's words, ``given`` the inputs; null for an error."""
    front = words_at(words_at(self + A_DATA)[0])
    if front[F_BUSY] != 0:
        return refuse(front)
    # Looking a name up in a dict may run Python, where somebody else's keys are odd.
    front[F_BUSY] = 1
    total = take(front, given)
    if total < 0:
        front[F_BUSY] = 0
        return refuse(front)
    held = i64_p(front, F_HELD)
    for k in range(front[F_INPUTS]):
        call_c(front[F_INCREF], atomic_load(held, k))
        show(front, k, atomic_load(held, k))
    heavy = 1 if front[F_HEAVY] != 0 or total > SMALL_INPUT else 0
    done = drive(front, heavy)
    result = finish(front) if done == 0 else drop(front)
    for k in range(front[F_INPUTS]):
        show(front, k, front[F_NONE])
        call_c(front[F_DECREF], atomic_load(held, k))
    forget(front)
    front[F_BUSY] = 0
    return result


def show(front, number, value):  # type: ignore[no-untyped-def]
    """Put an object where Python steps find an input, if it is one that has no buffer."""
    port = i64_at(i64_p(front, F_IN), number * IN_WORDS)
    if port[IN_OBJECT] >= 0:
        call_c(front[F_INCREF], value)
        call_c(front[F_LIST_SET], front[F_OBJECTS], port[IN_OBJECT], value)


def refuse(front):  # type: ignore[no-untyped-def]
    """A new reference to the mark that sends the caller on the general path."""
    call_c(front[F_INCREF], front[F_REFUSED])
    return front[F_REFUSED]


def take(front, given):  # type: ignore[no-untyped-def]
    """Put every input's address and dims into the state; bytes of all of them, or -1 if one is not as it should be."""
    count = front[F_INPUTS]
    kind = words_at(given + O_TYPE)[0]
    held = i64_p(front, F_HELD)
    if kind == front[F_NDARRAY]:
        if count != 1:
            return -1
    elif kind == front[F_LIST]:
        if call_c(front[F_LIST_SIZE], given) != count:
            return -1
    elif kind == front[F_TUPLE]:
        if call_c(front[F_TUPLE_SIZE], given) != count:
            return -1
    elif kind != front[F_DICT] or call_c(front[F_DICT_SIZE], given) != count:
        return -1
    total = 0
    for k in range(count):
        port = i64_at(i64_p(front, F_IN), k * IN_WORDS)
        array = given
        if kind == front[F_LIST]:
            array = call_c(front[F_LIST_GET], given, k)
        elif kind == front[F_TUPLE]:
            array = call_c(front[F_TUPLE_GET], given, k)
        elif kind == front[F_DICT]:
            array = call_c(front[F_DICT_GET], given, port[IN_NAME])
        size = bind(front, port, array)
        if size < 0:
            return -1
        held[k] = array
        total += size
    return total


def bind(front, port, array):  # type: ignore[no-untyped-def]
    """Point an input's buffer at an array and set its dims; its bytes, or -1 if it is not as it should be."""
    if array == 0 or words_at(array + O_TYPE)[0] != front[F_NDARRAY]:
        return -1
    dtype = words_at(array + A_DTYPE)[0]
    # Arrays that were unpickled have element types of their own.
    if dtype != port[IN_TYPE] and words_at(dtype + D_IDENTITY)[0] != words_at(port[IN_TYPE] + D_IDENTITY)[0]:
        return -1
    rank = port[IN_RANK]
    if not readable(array, rank):
        return -1
    state = i64_p(front, F_STATE)
    slots = i64_p(state, S_SLOTS)
    shape = words_at(words_at(array + A_DIMS)[0])
    wanted = i64_at(i64_p(front, F_DIMS), port[IN_DIMS])
    size = port[IN_SIZE]
    for axis in range(rank):
        extent = atomic_load(shape, axis)
        if wanted[2 * axis + 1] >= 0 and extent != wanted[2 * axis + 1]:
            return -1
        slots[wanted[2 * axis]] = extent
        size *= extent
    if port[IN_FILLED] != 0 and size == 0:
        return -1
    if port[IN_OBJECT] >= 0:
        return size if all_strings(front, array, size // port[IN_SIZE]) else -1
    i64_p(state, S_BUFS)[port[IN_BUFFER]] = words_at(array + A_DATA)[0]
    return size


def drive(front, heavy):  # type: ignore[no-untyped-def]
    """Run the plan to its end; 0, or 1 if Python raised."""
    state = i64_p(front, F_STATE)
    state[S_PC] = 0
    state[S_DONE] = 0
    state[S_CANCEL] = 0
    state[S_BUDGET] = _BUDGET
    front[F_SERVED] = 0
    timed = heavy != 0 and state[S_POOL] != 0 and front[F_CLOCK] != 0
    begun = now(front) if timed else 0
    if heavy != 0:
        choose(state)
    else:
        state[S_MODE] = 0
        state[S_CHUNKS] = 0
    while True:
        if heavy != 0:
            thread = call_c(front[F_SAVE])
            reason = call_c(front[F_RUN], front[F_STATE]) & 0xFF
            call_c(front[F_RESTORE], thread)
        else:
            reason = call_c(front[F_RUN], front[F_STATE]) & 0xFF
        if reason == LEFT_END:
            if timed:
                judge(state, now(front) - begun)
            if state[S_CHUNKS] > 0:
                # Small inputs can make large tensors; now it is known that these do.
                front[F_HEAVY] = 1
            return 0
        made = 0
        if reason == LEFT_OUT:
            made += make_output(front, state, state[S_OPERAND])
        elif reason == LEFT_HOST:
            made += build(front, state, state[S_OPERAND])
        if made < 0:
            return 1
        if made == 0:
            front[F_SERVED] = 1
            served = serve(front, reason)
            if served == 0:
                return 1
            if reason == LEFT_OUT:
                give_output(front, state, state[S_OPERAND], served)
            else:
                call_c(front[F_DECREF], served)


def now(front):  # type: ignore[no-untyped-def]
    """Nanoseconds of the monotonic clock."""
    call_c(front[F_CLOCK], front[F_TIME], front[F_TIME_ROOM])
    time = i64_p(front, F_TIME_ROOM)
    return time[0] * 1_000_000_000 + time[1]


def make_output(front, state, number):  # type: ignore[no-untyped-def]
    """Make an output that is small or that a block is free for: 1, 0 if Python has to, or -1 if there was an exception."""
    port = i64_at(i64_p(front, F_OUT), number * OUT_WORDS)
    slots = i64_p(state, S_SLOTS)
    shape = i64_p(front, F_SHAPE)
    dims = i64_at(i64_p(front, F_DIMS), port[OUT_DIMS])
    size = port[OUT_SIZE]
    for axis in range(port[OUT_RANK]):
        extent = slots[atomic_load(dims, axis)]
        if extent < 0 or extent >= HUGE_OUTPUT:
            return 0
        shape[axis] = extent
        size *= extent
        if size >= HUGE_OUTPUT:
            return 0
    block = 0
    if size >= SMALL_OUTPUT:
        block = free_block(front, size + CACHE_LINE)
        if block == 0:
            return 0
    array = new_array(front, port, block)
    if array == 0:
        return -1
    give_output(front, state, number, array)
    return 1


def free_block(front, need):  # type: ignore[no-untyped-def]
    """A block of `onnx_numba.runtime.outputs.OutputPool` that only its list refers to and whose size fits; 0 if there is none.

    As nothing lets other Python threads go on, it is free until an array refers to it.
    """
    blocks = front[F_KEPT]
    for k in range(call_c(front[F_LIST_SIZE], blocks)):
        block = call_c(front[F_LIST_GET], blocks, k)
        size = words_at(words_at(block + A_DIMS)[0])[0]
        if need <= size and size <= 2 * need and halves_at(block + O_REFERENCES)[0] == 1:
            return block
    return 0


def new_array(front, port, block):  # type: ignore[no-untyped-def]
    """An uninitialised array of an output's type and the dims in F_SHAPE, in a block unless that is 0; 0 if there was an exception."""
    data = words_at(block + A_DATA)[0] if block != 0 else 0
    data += -data & (CACHE_LINE - 1)
    call_c(front[F_INCREF], port[OUT_TYPE])
    flags = WRITABLE if block != 0 else 0
    array = call_c(front[F_NEW_ARRAY], front[F_NDARRAY], port[OUT_TYPE], port[OUT_RANK], front[F_SHAPE], 0, data, flags, 0)
    if array != 0 and block != 0:
        call_c(front[F_INCREF], block)
        if call_c(front[F_SET_BASE], array, block) & 0xFFFFFFFF != 0:
            call_c(front[F_DECREF], array)
            return 0
    return array


def give_output(front, state, number, array):  # type: ignore[no-untyped-def]
    """Keep an output and point its buffer at it."""
    port = i64_at(i64_p(front, F_OUT), number * OUT_WORDS)
    i64_p(front, F_MADE)[number] = array
    i64_p(state, S_BUFS)[port[OUT_BUFFER]] = words_at(array + A_DATA)[0]


def serve(front, reason):  # type: ignore[no-untyped-def]
    """Have Python deal with it; what it returned, or 0 if it raised."""
    number = call_c(front[F_LONG], reason)
    if number == 0:
        return 0
    served = call_c(front[F_CALL], front[F_SERVE], number)
    call_c(front[F_DECREF], number)
    return served


def finish(front):  # type: ignore[no-untyped-def]
    """The outputs as a tuple; Python has those that no ``out`` made."""
    count = front[F_OUTPUTS]
    made = i64_p(front, F_MADE)
    for k in range(count):
        if atomic_load(made, k) == 0:
            made[k] = serve(front, SERVE_VALUE + k)
            if made[k] == 0:
                return drop(front)
    if front[F_SERVED] != 0:
        served = serve(front, LEFT_END)
        if served == 0:
            return drop(front)
        call_c(front[F_DECREF], served)
    if front[F_RESULT] == front[F_TUPLE]:
        result = call_c(front[F_TUPLE_NEW], count)
    else:
        result = call_c(front[F_ALLOC], front[F_RESULT], count)
    if result == 0:
        return drop(front)
    for k in range(count):
        # The tuple takes over the reference.
        call_c(front[F_TUPLE_SET], result, k, atomic_load(made, k))
        made[k] = 0
    return result


def drop(front):  # type: ignore[no-untyped-def]
    """Drop the outputs made so far; the exception is set."""
    made = i64_p(front, F_MADE)
    for k in range(front[F_OUTPUTS]):
        if atomic_load(made, k) != 0:
            call_c(front[F_DECREF], made[k])
            made[k] = 0
    return 0
