"""The plan: what the schedule hands to the runtime, as plain data.

A plan is a flat instruction list over four tables:

* *slots*, int64 numbers: dims, sizes, counts;
* *buffers*, pointers to the elements of tensors;
* *objects*, Python values (strings, sequences, maps, tensors of unknown rank);
* *kernels*, compiled functions ``int32 kernel(ctx, bufs, dims, lo, hi)``.

The native runner executes it without the GIL; an instruction that needs Python (``out``, ``grow``, ``host``) leaves the runner with
the program counter, and Python resumes there. The same instructions are executed by a Python interpreter when the JIT is off.

Instructions are tuples whose first item is the operation (``OPS`` gives the operands of each):

==============================  ==================================================================================
``("add", dst, a, b)``          slots[dst] = slots[a] + slots[b]; likewise sub, mul, div (floor), mod (sign of b),
                                max, min, eq, ne, lt, le (0 or 1)
``("move", dst, a)``            slots[dst] = slots[a]
``("bcast", dst, a, b)``        slots[dst] = the common extent of two broadcast dims; status BROADCAST if there is none
``("load", dst, buf, index, type)``  slots[dst] = the integer element ``index`` (a slot) of a buffer; type names its storage
``("check", a, b, code, reason)``  status ``code`` unless slots[a] == slots[b]; ``reasons[reason]`` says what that means
``("alloc", buf, bytes)``       buffers[buf] points to a block of at least slots[bytes] bytes; kept from run to run
``("extend", buf, bytes)``      the same, and what the block holds stays in it
``("alias", dst, src)``         buffers[dst] = buffers[src]
``("point", dst, src, at)``     buffers[dst] = buffers[src] and slots[at] bytes on, a whole number of elements
``("swap", a, b)``              buffers a and b exchange their blocks and what they point to
``("store", buf, a, type)``     the first element of a buffer = slots[a], as an i64 or a bool
``("out", k)``                  leave: allocate output k, whose dims are in slots by now, and point its buffer at it
``("copy", dst, src, bytes)``   memcpy of slots[bytes] bytes
``("scratch", bytes)``          every worker's scratch has at least slots[bytes] bytes
``("call", kernel, step, total, grain, written, bufs, dims)``  kernel over [0, slots[total]) in chunks of slots[grain] units (at
                                least 1), each chunk whole on one thread; bufs and dims are tuples of buffer and slot ids; a
                                result of slots[written] bytes may be too large for the caches (0: none is)
``("host", h)``                 leave: run ``hosts[h]`` in Python, which sets its output buffers, dims and objects
``("jump", to)``                go on at instruction ``to``; further back only from the end of a loop, where a run can be cancelled
``("branch", a, to)``           the same if slots[a] is 0
``("end",)``                    done
==============================  ==================================================================================

A loop is a jump back: its body is part of the list; see `onnx_numba.schedule.control`.

Example: a relu over an input of shape [n]::

    slots   0: n (input dim)  1: 4096  2: tiles  3: 4095  4: scratch number  5: 4 (grain and bytes of an element)  6: bytes
    ("add", 4, 0, 3), ("div", 2, 4, 1), ("mul", 6, 0, 5), ("out", 0), ("call", 0, 0, 2, 5, 6, (0, 1), (0,)), ("end",)
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

from onnx_numba.ir.types import ValueType
from onnx_numba.record import record

ABI = 5
"""Version of instruction encoding, kernel signature and context layout; part of every store key."""

OPS: dict[str, str] = {
    # operand letters: d slot written, s slot read, b buffer, n literal number, j instruction, t type name, S tuple of slots, B of buffers
    "add": "dss", "sub": "dss", "mul": "dss", "div": "dss", "mod": "dss", "max": "dss", "min": "dss",
    "eq": "dss", "ne": "dss", "lt": "dss", "le": "dss", "move": "ds", "bcast": "dss",
    "load": "dbst", "check": "ssnn", "alloc": "bs", "alias": "bb", "out": "n", "copy": "bbs", "scratch": "s",
    "extend": "bs", "point": "bbs", "swap": "bb", "store": "bst", "jump": "j", "branch": "sj",
    "call": "nnsssBS", "host": "n", "end": "",
}  # fmt: skip

# Status codes of kernels and of the runner. 0 is success; a kernel reports one with the work index at which it arose.
OK, INDEX_RANGE, BROADCAST, SHAPE_MISMATCH, DIVISION_BY_ZERO, BAD_VALUE, CANCELLED, OVERFLOW, OTHER_BRANCH = range(9)
STATUS_TEXT = {
    INDEX_RANGE: "an index is out of range",
    BROADCAST: "shapes cannot be broadcast together",
    SHAPE_MISMATCH: "shapes do not fit each other",
    DIVISION_BY_ZERO: "integer division by zero",
    BAD_VALUE: "an input value is not allowed here",
    CANCELLED: "the run was cancelled",
    OVERFLOW: "a size is beyond what 64 bits can count",
    OTHER_BRANCH: "a branch is taken that this plan was not made for",
}

# What a kernel's ctx points to: int64 words.
CTX_STATUS, CTX_INDEX, CTX_CANCEL, CTX_SCRATCH, CTX_SCRATCH_BYTES, CTX_WORKER, CTX_AROUND = range(7)
CTX_WORDS = 8
AROUND = 1 << 24
"""Bytes from which a result goes around the caches: half of what a core finds in the last of them, as a rule, so that nobody would find the
result's beginning there."""


@record
class Port:
    """A graph input or output, or a host step's.

    ``buffer`` is set for numeric tensors of known rank, with one slot per dim in ``dims``; otherwise ``object`` is set.
    ``declared`` holds, per dim, the number that callers must match, or a name or None where any extent will do.
    """

    name: str
    type: ValueType
    buffer: int | None = None
    dims: tuple[int, ...] = ()
    object: int | None = None
    declared: tuple[int | str | None, ...] | None = None


@record
class HostStep:
    """A Python step: ``function`` names an entry of ``onnx_numba.runtime.host``, called as f(params, *inputs) → tuple of outputs.

    Tensors come as NumPy arrays that the function must not write or keep, absent optional inputs as None. ``bodies`` are
    plans of subgraphs (If, Loop, Scan).
    """

    function: str
    step: int
    inputs: tuple[Port | None, ...]
    outputs: tuple[Port, ...]
    params: dict[str, Any] = field(default_factory=dict)


@record
class Kernel:
    """One compiled function of the generated module: its name there and the digest of its canonical source."""

    name: str
    digest: str


@record
class Reason:
    """What a check demands, for people: of which nodes, and in words, among which ``{a}`` and ``{b}`` stand for what was compared.

    A check that a branch is the one that the plan was made for has the number of that ``decision``.
    """

    step: str
    text: str
    decision: int = 0


@record
class Plan:
    """A scheduled model; see the module's docstring.

    Where one of the inputs that ``filled`` names by number has no elements, ``otherwise`` is the plan to be run, of the same ports.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    slots: int
    slot_values: dict[int, int]  # constants
    buffers: int
    buffer_types: dict[int, str]  # storage type name of every buffer
    constants: dict[int, int]  # buffer → index into the weights
    objects: int
    object_constants: dict[int, Any]  # object id → strings and the like
    kernels: tuple[Kernel, ...]
    hosts: tuple[HostStep, ...]
    steps: tuple[str, ...]  # step id → the nodes it came from, for messages
    code: tuple[tuple[Any, ...], ...]
    reasons: tuple[Reason, ...]
    filled: tuple[int, ...] = ()
    otherwise: Plan | None = None
