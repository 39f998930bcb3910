"""The Python half of the fast entry: whether it can be used here, its description of a session, and the callback that serves it.

See ``onnx_numba.native.front`` for what the compiled half does.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import sys
import sysconfig
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_numba.errors import OutOfMemoryError
from onnx_numba.ir.abi import (
    A_DATA,
    A_DIMS,
    A_DTYPE,
    A_FLAGS,
    A_RANK,
    B_BUFFER,
    B_CASE,
    B_COUNT,
    B_DATA,
    B_DIMS,
    B_KIND,
    B_MAP,
    B_OBJECT,
    B_OUTPUT,
    B_RANK,
    B_TABLE,
    BUILD_MAPS,
    BUILD_TEXT,
    BUILD_WORDS,
    D_IDENTITY,
    F_ALLOC,
    F_BLOCKS,
    F_BUILDS,
    F_BYTE,
    F_CALL,
    F_CLEAR,
    F_CLOCK,
    F_DECREF,
    F_DICT,
    F_DICT_COPY,
    F_DICT_GET,
    F_DICT_SET,
    F_DICT_SIZE,
    F_DIMS,
    F_FLOAT,
    F_GENERAL,
    F_HEAVY,
    F_HELD,
    F_IN,
    F_INCREF,
    F_INPUTS,
    F_KEPT,
    F_LENGTH,
    F_LIST,
    F_LIST_GET,
    F_LIST_NEW,
    F_LIST_SET,
    F_LIST_SIZE,
    F_LONG,
    F_MADE,
    F_NDARRAY,
    F_NEW_ARRAY,
    F_NONE,
    F_OBJECT,
    F_OBJECTS,
    F_OUT,
    F_OUTPUTS,
    F_REFUSED,
    F_RESTORE,
    F_RESULT,
    F_RUN,
    F_SAVE,
    F_SERVE,
    F_SET_BASE,
    F_SHAPE,
    F_STATE,
    F_STEPS,
    F_STR,
    F_TIME,
    F_TIME_ROOM,
    F_TUPLE,
    F_TUPLE_GET,
    F_TUPLE_NEW,
    F_TUPLE_SET,
    F_TUPLE_SIZE,
    F_UTF8,
    F_VECTORCALL,
    FRONT_WORDS,
    LEFT_END,
    LEFT_ERROR,
    LEFT_HOST,
    LEFT_OUT,
    O_REFERENCES,
    O_TYPE,
    OUT_WORDS,
    SERVE_VALUE,
    U_LENGTH,
)
from onnx_numba.ir.plan import OPS, HostStep, Plan, Port
from onnx_numba.ir.types import F32, I64, TensorType
from onnx_numba.runtime.program import REFUSED, Program, lone_objects
from onnx_numba.runtime.state import State, address_of, words

if TYPE_CHECKING:
    from onnx_numba.runtime.engine import NativeCode

_HEAVY_WEIGHTS = 64 * 1024
_HEAVY_WORDS = 4000
_NEW_FROM_DESCR, _SET_BASE_OBJECT = 94, 282
"""Places of ``PyArray_NewFromDescr`` and ``PyArray_SetBaseObject`` in NumPy's table of functions; such places never change."""

_CPYTHON = {
    F_ALLOC: "PyType_GenericAlloc", F_TUPLE_NEW: "PyTuple_New", F_TUPLE_SET: "PyTuple_SetItem", F_TUPLE_GET: "PyTuple_GetItem",
    F_LIST_GET: "PyList_GetItem", F_DICT_GET: "PyDict_GetItem", F_TUPLE_SIZE: "PyTuple_Size", F_LIST_SIZE: "PyList_Size",
    F_DICT_SIZE: "PyDict_Size", F_CALL: "PyObject_CallOneArg", F_LONG: "PyLong_FromLong", F_INCREF: "Py_IncRef",
    F_DECREF: "Py_DecRef", F_SAVE: "PyEval_SaveThread", F_RESTORE: "PyEval_RestoreThread", F_VECTORCALL: "PyObject_Vectorcall",
    F_DICT_COPY: "PyDict_Copy", F_DICT_SET: "PyDict_SetItem", F_LIST_NEW: "PyList_New", F_LIST_SET: "PyList_SetItem",
    F_FLOAT: "PyFloat_FromDouble", F_UTF8: "PyUnicode_AsUTF8AndSize", F_CLEAR: "PyErr_Clear",
}  # fmt: skip


class MethodDef(ctypes.Structure):
    """CPython's ``PyMethodDef``; it must outlive every function made from it."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


ONE_ARGUMENT, ANY_ARGUMENTS = 0x8, 0x82
"""How C functions are called: ``METH_O``, and ``METH_FASTCALL | METH_KEYWORDS``."""

RUN_TEXT = b"run($self, inputs)\n--\n\nRun the model; see onnx_numba.backend.BackendRep.run."


def method(name: bytes, address: int, flags: int, text: bytes | None = None) -> MethodDef:
    """The definition of a builtin function; its ``text`` is signature and docstring."""
    return MethodDef(name, address, flags, text)


@functools.cache
def usable() -> bool:
    """Whether objects lie in memory as the entry takes for granted: looked up in some, not inferred from versions."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    for array in (np.zeros((2, 3, 5), np.float32), np.zeros((4, 6), np.int64).T, np.zeros(7, np.uint8)[::2], np.zeros(())):
        at, expected = id(array), array.__array_interface__
        shape = _read(ctypes.c_void_p, at + A_DIMS)
        dims = tuple(_read(ctypes.c_int64, shape + 8 * axis) for axis in range(array.ndim)) if array.ndim else ()
        found = (
            _read(ctypes.c_void_p, at + O_TYPE), _read(ctypes.c_void_p, at + A_DATA), _read(ctypes.c_int, at + A_RANK),
            _read(ctypes.c_void_p, at + A_DTYPE), _read(ctypes.c_int, at + A_FLAGS), dims,
        )  # fmt: skip
        if found != (id(np.ndarray), expected["data"][0], array.ndim, id(array.dtype), array.flags.num, array.shape):
            return False
    if any(_read(ctypes.c_int64, id(text) + U_LENGTH) != len(text) for text in ("", "string", "für", "ŝnuro", "🙂")):
        return False
    block = np.empty(1)
    for held in range(3):
        others = [block] * held
        if _read(ctypes.c_int32, id(block) + O_REFERENCES) != 1 + len(others):
            return False
    return all(_identity_found(np.dtype(name)) for name in ("f4", ">f4", "i8", "?", "O"))


def _identity_found(dtype: np.dtype[Any]) -> bool:
    data = ctypes.string_at(id(dtype) + D_IDENTITY, 8)
    return data[:3] == f"{dtype.kind}{dtype.char}{dtype.byteorder}".encode() and int.from_bytes(data[4:], sys.byteorder) == dtype.num


def _read(kind: Any, address: int) -> Any:
    return kind.from_address(address).value


def fits(plan: Plan) -> bool:
    """Whether the entry can run a plan: its inputs are tensors of known rank, no output is made twice, constants stay."""
    outs = [instruction[1] for instruction in plan.code if instruction[0] == "out"]
    plain = all(isinstance(port.type, TensorType) and port.type.shape is not None for port in plan.inputs)
    written = {
        operand for instruction in plan.code for letter, operand in zip(OPS[instruction[0]], instruction[1:], strict=True) if letter == "d"
    }
    return plain and len(outs) == len(set(outs)) and not written & set(plan.slot_values)


def _loops(plan: Plan) -> bool:
    """Whether a run may take any time, whatever its inputs."""
    return any(instruction[0] == "jump" and instruction[1] <= number for number, instruction in enumerate(plan.code))


class _Server:
    """What the compiled half calls; apart from `Entry`, so that no cycle of references keeps a session's memory."""

    def __init__(self, program: Program, state: State) -> None:
        self._program, self._state = program, state

    def serve(self, reason: int) -> Any:
        """Called by the compiled half, with the GIL: an output, or None once what the runner left for is done."""
        try:
            return self._served(reason)
        except OutOfMemoryError as error:
            self._state.release()
            raise self._program.located(error, self._state) from None

    def _served(self, reason: int) -> Any:
        if reason == LEFT_OUT:
            return self._program.new_output(self._state, self._state.left_with())
        if reason >= SERVE_VALUE:
            return self._program.output(self._state, reason - SERVE_VALUE)
        if reason == LEFT_HOST:
            self._program.host(self._state, self._state.left_with())
            return None
        if reason == LEFT_ERROR:
            error = self._program.error(self._state)
            self._state.release()
            raise error
        if reason == LEFT_END:
            self._state.release()
        else:
            self._state.settle(reason)
        return None


class Entry:
    """The fast entry of one session.

    Attributes
    ----------
    function : callable
        Takes the inputs and gives the result, or ``REFUSED`` when the general path has to do it.
    call : callable
        The same, and it calls the general path itself. Both keep alive all they need.
    """

    def __init__(self, program: Program, code: NativeCode, result: type[tuple[Any, ...]], general: Callable[..., Any]) -> None:
        state = program.new_frame()
        assert isinstance(state, State)
        server = _Server(program, state)
        state.begin()
        plan = program.plan
        ports = _Ports(program)
        tables = {
            F_IN: _table(ports.inputs), F_OUT: _table(ports.outputs), F_BUILDS: _table(ports.builds), F_DIMS: _table(ports.dims),
            F_HELD: words(len(plan.inputs)), F_MADE: words(len(plan.outputs)), F_SHAPE: words(ports.rank),
            F_TIME_ROOM: words(2), F_LENGTH: words(1),
        }  # fmt: skip
        objects = {
            F_RESULT: result, F_REFUSED: REFUSED, F_SERVE: server.serve, F_NDARRAY: np.ndarray, F_LIST: list, F_TUPLE: tuple,
            F_DICT: dict, F_GENERAL: general, F_OBJECT: np.dtype(object), F_NONE: None, F_STR: str, F_BYTE: np.dtype(np.uint8),
            F_OBJECTS: state.objects, F_BLOCKS: [None] * len(plan.hosts), F_KEPT: program.outputs.blocks,
        }  # fmt: skip
        front = words(FRONT_WORDS).view(_Front)
        for word, table in tables.items():
            front[word] = address_of(table)
        for word, value in objects.items():
            front[word] = id(value)
        for word, address in _functions().items():
            front[word] = address
        front[F_STATE], front[F_RUN] = state.address, code.run_address
        front[F_INPUTS], front[F_OUTPUTS], front[F_STEPS] = len(plan.inputs), len(plan.outputs), len(plan.hosts)
        front[F_HEAVY] = program.weight_bytes > _HEAVY_WEIGHTS or len(plan.code) > _HEAVY_WORDS or _loops(plan)
        front[F_TIME] = getattr(time, "CLOCK_MONOTONIC", 0)
        front.kept = (program, state, tables, objects, code, ports)
        make = ctypes.pythonapi.PyCFunction_NewEx
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
        self.function: Callable[[Any], Any] = make(ctypes.addressof(code.entry), front, None)
        self.call: Callable[..., Any] = make(ctypes.addressof(code.call), front, None)


class _Front(np.ndarray[Any, Any]):
    """The words of an entry, with all that their addresses point at: a function that somebody kept outlives its session."""

    kept: tuple[Any, ...]


class _Ports:
    """The tables of inputs, outputs, dims and Python steps that compiled code can do.

    The tables hold only addresses of element types, names and labels; ``kept`` keeps these. ``rank`` is the greatest of an array that
    compiled code makes, of tensors of numbers or of objects.
    """

    def __init__(self, program: Program) -> None:
        plan = program.plan
        self.dims: list[int] = []
        self.kept: list[Any] = []
        self.rank = 1
        self.inputs = [word for number, port in enumerate(plan.inputs) for word in self._input(port, number in plan.filled)]
        self.outputs = [word for port in plan.outputs for word in self._output(port)]
        alone = lone_objects(plan)
        objects = [port.object for port in plan.outputs]
        self.builds: list[int] = []
        for step, made_of in zip(plan.hosts, program.objects, strict=True):
            found: dict[int, int] = {}
            if made_of is not None and made_of[0] == BUILD_TEXT:
                found = self._text(step)
            elif made_of is not None and len(step.outputs) == 1 and step.outputs[0].object in alone:
                found = self._build(step, objects.index(step.outputs[0].object), *made_of)
            self.builds += [found.get(word, 0) for word in range(BUILD_WORDS)]

    def _input(self, port: Port, filled: bool) -> list[int]:
        assert isinstance(port.type, TensorType)
        dtype, first = port.type.dtype.numpy, len(self.dims)
        self.kept += [dtype, port.name]
        declared = port.declared or (None,) * len(port.dims)
        for slot, extent in zip(port.dims, declared, strict=True):
            self.dims += [slot, extent if isinstance(extent, int) else -1]
        places = [-1 if place is None else place for place in (port.buffer, port.object)]
        return [id(dtype), len(port.dims), places[0], id(port.name), dtype.itemsize, first, places[1], int(filled)]

    def _output(self, port: Port) -> list[int]:
        if port.buffer is None or not isinstance(port.type, TensorType):
            return [0] * OUT_WORDS  # no ``out`` makes it
        dtype = port.type.dtype.numpy
        self.kept.append(dtype)
        return [id(dtype), len(port.dims), port.buffer, dtype.itemsize, self._place(port)]

    def _place(self, port: Port) -> int:
        """Put the dims of something that is made into the table; where they begin."""
        self.dims += port.dims
        self.rank = max(self.rank, len(port.dims))
        return len(self.dims) - len(port.dims)

    def _text(self, step: HostStep) -> dict[int, int]:
        """How compiled code makes numbers of strings; nothing if it cannot."""
        (port,), (spans, *data) = step.inputs, step.outputs
        if port is None or port.object is None or spans.buffer is None:
            return {}
        place = self._place(spans)
        found = {B_KIND: BUILD_TEXT, B_BUFFER: spans.buffer, B_RANK: len(spans.dims) - 1, B_OBJECT: port.object, B_DATA: -1}
        for port in data:
            assert port.buffer is not None
            self._place(port)
            found[B_DATA] = port.buffer
        return found | {B_DIMS: place, B_CASE: {None: 0, "LOWER": ord("A"), "UPPER": ord("a")}[step.params.get("change")]}

    def _build(self, step: HostStep, output: int, kind: int, objects: list[Any]) -> dict[int, int]:
        """How compiled code makes an output of a Python step; nothing if the step's tensor is none that it takes."""
        (port,) = step.inputs
        if port is None or port.buffer is None or not isinstance(port.type, TensorType):
            return {}
        rank = len(port.dims)
        taken = port.type.dtype == F32 and rank in (1, 2) if kind == BUILD_MAPS else port.type.dtype == I64
        if not taken or not set(step.outputs[0].dims) <= set(port.dims):
            return {}
        table, template = _table([id(item) for item in objects]), dict.fromkeys(objects if kind == BUILD_MAPS else ())
        self.kept += [objects, table, template]
        return {
            B_KIND: kind, B_BUFFER: port.buffer, B_RANK: rank, B_DIMS: self._place(port), B_OUTPUT: output,
            B_TABLE: address_of(table), B_COUNT: len(objects), B_MAP: id(template),
        }  # fmt: skip


def _table(numbers: list[int]) -> Any:
    table = words(len(numbers))
    table[: len(numbers)] = numbers
    return table


@functools.cache
def _functions() -> dict[int, int]:
    """Addresses of the C functions that the entry calls."""
    capsule = importlib.import_module("numpy._core._multiarray_umath")._ARRAY_API
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = (ctypes.c_void_p * (_SET_BASE_OBJECT + 1)).from_address(get(capsule, None))
    found = {F_NEW_ARRAY: table[_NEW_FROM_DESCR] or 0, F_SET_BASE: table[_SET_BASE_OBJECT] or 0}
    for word, name in _CPYTHON.items():
        found[word] = _address(getattr(ctypes.pythonapi, name))
    found[F_CLOCK] = _address(ctypes.CDLL(None).clock_gettime) if os.name == "posix" else 0
    return found


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
