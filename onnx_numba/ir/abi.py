"""Where things lie in the native runner's memory: instruction words, state words, pool words, reasons to leave.

Everything is int64 words. The runner and the pool read them as compiled globals, the assembler and the session from Python, so
this file is the one place that both sides share. ``onnx_numba.ir.plan.ABI`` changes whenever anything here does.
"""

from __future__ import annotations

# Instruction words: the number of the operation, then its operands in the order of the plan's tuple. A ``call`` is
# (kernel, step, total, grain, written, number of buffers, number of dims, buffers…, dims…); types are numbers of LOAD_TYPES,
# instructions to go on at are words.
(
    OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_MOD, OP_MAX, OP_MIN, OP_EQ, OP_NE, OP_LT, OP_LE, OP_MOVE, OP_BCAST,
    OP_LOAD, OP_CHECK, OP_ALLOC, OP_EXTEND, OP_ALIAS, OP_POINT, OP_SWAP, OP_STORE, OP_JUMP, OP_BRANCH, OP_OUT, OP_COPY, OP_SCRATCH,
    OP_CALL, OP_HOST, OP_END,
) = range(29)  # fmt: skip
OPCODES = {
    "add": OP_ADD, "sub": OP_SUB, "mul": OP_MUL, "div": OP_DIV, "mod": OP_MOD, "max": OP_MAX, "min": OP_MIN,
    "eq": OP_EQ, "ne": OP_NE, "lt": OP_LT, "le": OP_LE, "move": OP_MOVE, "bcast": OP_BCAST, "load": OP_LOAD,
    "check": OP_CHECK, "alloc": OP_ALLOC, "extend": OP_EXTEND, "alias": OP_ALIAS, "point": OP_POINT, "swap": OP_SWAP,
    "store": OP_STORE, "jump": OP_JUMP, "branch": OP_BRANCH, "out": OP_OUT, "copy": OP_COPY, "scratch": OP_SCRATCH,
    "call": OP_CALL, "host": OP_HOST, "end": OP_END,
}  # fmt: skip

# Element types that ``load`` can read.
LOAD_U8, LOAD_I8, LOAD_U16, LOAD_I16, LOAD_U32, LOAD_I32, LOAD_I64 = range(7)
LOAD_TYPES = {
    "bool": LOAD_U8, "u8": LOAD_U8, "i8": LOAD_I8, "u16": LOAD_U16, "i16": LOAD_I16, "u32": LOAD_U32, "i32": LOAD_I32,
    "i64": LOAD_I64, "u64": LOAD_I64,
}  # fmt: skip

# Why the runner came back. The operand word says which output, buffer, host step, or how many bytes. START asks for the pool's
# threads, POLL only gives Python a chance to look at signals.
LEFT_END, LEFT_OUT, LEFT_GROW, LEFT_SCRATCH, LEFT_HOST, LEFT_ERROR, LEFT_START, LEFT_POLL = range(8)
SERVE_VALUE = 16
"""The fast entry asks its callback for the value of output k by the reason ``SERVE_VALUE + k``."""

# State words. Those that hold an address are marked with *.
(
    S_SELF,  # *this state
    S_CODE,  # *instruction words
    S_SLOTS,  # *slots
    S_BUFS,  # *address per buffer, as kernels see it
    S_BLOCKS,  # *address of the block owned by each buffer
    S_CAPS,  # *capacity of that block
    S_KERNELS,  # *kernel addresses
    S_ARGS,  # *room for the buffers of one call
    S_DIMS,  # *room for the dims of one call
    S_CTX,  # *one context per thread, CTX_STRIDE words apart
    S_POOL,  # *pool words, or 0
    S_PC,  # word at which to go on
    S_OPERAND,
    S_STATUS,  # status code of an error
    S_INDEX,  # the smallest failing work index, or -1
    S_CANCEL,  # set from any thread to stop the run
    S_BUDGET,  # chunks still to run before coming back to let Python look at signals
    S_DONE,  # chunks of the current call that have run already
    S_THREADS,  # threads this state has contexts for
    S_MODE,  # 1 if this run uses the pool
    S_CHUNKS,  # chunks of this run that the pool could share
    S_RUNS,  # runs so far
    S_RATE,  # time per chunk of runs without the pool, in sixteenths of nanoseconds, and in the next word of runs with it
    _S_RATE_SHARED,
    S_TRIED,  # nanoseconds of first trials without the pool, and in the next word of those with it
    _S_TRIED_SHARED,
    S_SCRATCH,  # bytes of scratch that every context has
    S_AROUND,  # 1 if the current call's results go around the caches
) = range(28)
STATE_WORDS = 32

CTX_STRIDE = 16
"""Words from one thread's context to the next: two cache lines, since adjacent lines are fetched in pairs."""

# Pool words. Words written by different threads are kept apart.
P_REGION = 16  # the number of the region whose chunks were shared out last
P_FINISHED = 32  # chunks of the current region that are done
P_FAILED = 48  # the smallest failing chunk, or NOT_FAILED
P_BUSY = 64  # 1 while a region is in progress
P_SLEEPING = 80  # workers that wait for their lock
P_STOP = 96  # 1: workers leave
P_STARTED = 112  # 1: there are workers
P_WORKERS = 113  # how many, the caller not counted
P_SPIN = 114  # rounds a worker looks for work before it sleeps
P_ACQUIRE = 115  # *PyThread_acquire_lock
P_RELEASE = 116  # *PyThread_release_lock
P_PROCESSOR = 117  # *sched_getcpu, or 0
P_PLACE = 118  # *sched_setaffinity
P_MASK = 119  # *bits of the processors that workers may use
P_MASK_WORDS = 120  # in so many words
# The current region; read only by who has claimed one of its chunks.
P_KERNEL = 128
P_CTX = 129
P_ARGS = 130
P_DIMS = 131
P_TOTAL = 132
P_GRAIN = 133
P_CHUNKS = 134
P_STATE = 135
# Per thread, the caller first, SEAT_STRIDE words: its share of the region's chunks; then, in another line and of workers alone, *lock,
# 1 while the worker sleeps, the system's number of the thread, the processor it avoids.
P_SEATS = 160
SEAT_SHARE, SEAT_LOCK, SEAT_ASLEEP, SEAT_THREAD, SEAT_AVOIDED, SEAT_STRIDE = 0, 16, 17, 18, 19, 32
# A share is the first chunk that is left and the one after the last, SHARE_BITS each, and above them low bits of the region's number, so
# that a claim made for one region does not succeed in another.
SHARE_BITS = 22
NOT_FAILED = 1 << 62

# Fast entry: words of one session's description. Marked * as above; "object" is the address of a Python object.
(
    F_BUSY,  # 1 while a run is in progress
    F_STATE,  # *state words of the entry's own frame
    F_RUN,  # *the runner
    F_INPUTS,  # number of inputs
    F_OUTPUTS,  # number of outputs
    F_IN,  # *IN_WORDS words per input
    F_OUT,  # *OUT_WORDS words per output
    F_DIMS,  # *slots of the dims of all inputs and outputs, and for inputs the extents they must have, or -1
    F_HELD,  # *room for the objects of the inputs
    F_MADE,  # *room for the objects of the outputs
    F_SHAPE,  # *room for the dims of one output
    F_HEAVY,  # 1 if runs are worth the pool and letting other Python threads go on meanwhile, whatever the inputs
    F_SERVED,  # 1 after Python has served the current run
    F_CLOCK,  # *clock_gettime, or 0
    F_TIME,  # which clock
    F_TIME_ROOM,  # *room for what it says: seconds, nanoseconds
    F_RESULT,  # object: the type of results, a tuple
    F_REFUSED,  # object: what is returned instead of a result when the general path must do it
    F_SERVE,  # object: called with the reason when the runner has left
    F_NDARRAY,
    F_LIST,
    F_TUPLE,
    F_DICT,  # object: types of inputs
    F_NEW_ARRAY,  # *functions of the C APIs of NumPy and CPython
    F_ALLOC,
    F_TUPLE_NEW,
    F_TUPLE_SET,
    F_TUPLE_GET,
    F_LIST_GET,
    F_DICT_GET,
    F_TUPLE_SIZE,
    F_LIST_SIZE,
    F_DICT_SIZE,
    F_CALL,
    F_LONG,
    F_INCREF,
    F_DECREF,
    F_SAVE,
    F_RESTORE,
    F_VECTORCALL,
    F_DICT_COPY,
    F_DICT_SET,
    F_LIST_NEW,
    F_LIST_SET,
    F_FLOAT,
    F_GENERAL,  # object: the general path, called like the entry itself
    F_OBJECT,  # object: the element type of arrays of objects
    F_BUILDS,  # *BUILD_WORDS words per Python step: how compiled code does it
    F_STEPS,  # number of Python steps
    F_OBJECTS,  # object: the list of the frame's objects
    F_BLOCKS,  # object: a list with the memory of each Python step that makes bytes of strings
    F_LOOSE,  # 1 while that list holds memory that no later run should find
    F_LENGTH,  # *room for the length of a string
    F_NONE,
    F_STR,  # object: the type of strings
    F_BYTE,  # object: the element type of bytes
    F_UTF8,
    F_CLEAR,
    F_KEPT,  # object: the list of blocks that large outputs lie in
    F_SET_BASE,
) = range(60)
FRONT_WORDS = 64
# An input of strings has the number of an object in place of a buffer; the other is -1. IN_FILLED is 1 if it must have elements.
IN_TYPE, IN_RANK, IN_BUFFER, IN_NAME, IN_SIZE, IN_DIMS, IN_OBJECT, IN_FILLED, IN_WORDS = range(9)
OUT_TYPE, OUT_RANK, OUT_BUFFER, OUT_SIZE, OUT_DIMS, OUT_WORDS = range(6)

# A Python step whose output compiled code can make from a tensor and a table of objects: its kind, the tensor's buffer, rank and
# place of its dims, the number of the output, *the objects and how many, and for maps a dict that has them as keys.
# One that makes numbers of strings has the buffer and dims of the spans, the number of the object and, if somebody wants the bytes, their
# buffer, else -1; the slot of their number follows those of the dims. It has the first of the 26 letters that change case, or 0.
B_KIND, B_BUFFER, B_RANK, B_DIMS, B_OUTPUT, B_TABLE, B_COUNT, B_MAP, B_OBJECT, B_DATA, B_ROOM, B_CASE, BUILD_WORDS = range(13)
BUILD_MAPS = 1
"""A list with a map for every row of float32: the objects are the keys of its elements."""
BUILD_ITEMS = 2
"""An array of objects: those at the int64 positions."""
BUILD_TEXT = 3
"""The other way round: spans and bytes of the strings in an array of objects."""

# Byte offsets in CPython's and NumPy's objects; `onnx_numba.runtime.entry` looks whether this process has them.
O_REFERENCES, O_TYPE, A_DATA, A_RANK, A_DIMS, A_DTYPE, A_FLAGS = 0, 8, 16, 24, 32, 56, 64
U_LENGTH = 16
"""In a string: how many characters it has."""
D_IDENTITY = 24
"""In an element type: kind, character, byte order and number, eight bytes that are the same in every copy of a plain type."""
READABLE = 0x0101
"""Flags of an array that is C-contiguous and aligned."""
WRITABLE = 0x0501
"""The same of one that may be written too."""
CACHE_LINE = 64
"""Bytes on a multiple of which large outputs begin."""

SMALL_OUTPUT = 64 * 1024
"""Larger outputs come from the recycling pool."""
HUGE_OUTPUT = 1 << 31
"""Outputs of so many bytes are left to Python: the product of two numbers below fits 64 bits."""
SMALL_INPUT = 16 * 1024
"""Inputs of so many bytes in all make a run worth letting other Python threads go on."""

LARGEST_PRODUCT = 9.2e18
"""What a product of dims must stay below in magnitude: a little less than 2**63, so that float64 can tell."""
