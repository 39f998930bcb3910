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
from onnx_numba.ir.plan import OPS, Plan
from onnx_numba.ir.types import TensorType
from onnx_numba.native.layout import (
    A_DATA,
    A_DIMS,
    A_DTYPE,
    A_FLAGS,
    A_RANK,
    F_ALLOC,
    F_CALL,
    F_CLOCK,
    F_DECREF,
    F_DICT,
    F_DICT_GET,
    F_DICT_SIZE,
    F_DIMS,
    F_HEAVY,
    F_HELD,
    F_IN,
    F_INCREF,
    F_INPUTS,
    F_LIST,
    F_LIST_GET,
    F_LIST_SIZE,
    F_LONG,
    F_MADE,
    F_NDARRAY,
    F_NEW_ARRAY,
    F_OUT,
    F_OUTPUTS,
    F_REFUSED,
    F_RESTORE,
    F_RESULT,
    F_RUN,
    F_SAVE,
    F_SERVE,
    F_SHAPE,
    F_STATE,
    F_TIME,
    F_TIME_ROOM,
    F_TUPLE,
    F_TUPLE_GET,
    F_TUPLE_NEW,
    F_TUPLE_SET,
    F_TUPLE_SIZE,
    FRONT_WORDS,
    LEFT_END,
    LEFT_ERROR,
    LEFT_HOST,
    LEFT_OUT,
    O_TYPE,
    OUT_WORDS,
    SERVE_VALUE,
)
from onnx_numba.runtime.program import REFUSED, Program
from onnx_numba.runtime.state import State, address_of, words

if TYPE_CHECKING:
    from onnx_numba.runtime.engine import NativeCode

_HEAVY_WEIGHTS = 64 * 1024
_HEAVY_WORDS = 4000
_NEW_FROM_DESCR = 94
"""Place of ``PyArray_NewFromDescr`` in NumPy's table of functions; such places never change."""

_CPYTHON = {
    F_ALLOC: "PyType_GenericAlloc", F_TUPLE_NEW: "PyTuple_New", F_TUPLE_SET: "PyTuple_SetItem", F_TUPLE_GET: "PyTuple_GetItem",
    F_LIST_GET: "PyList_GetItem", F_DICT_GET: "PyDict_GetItem", F_TUPLE_SIZE: "PyTuple_Size", F_LIST_SIZE: "PyList_Size",
    F_DICT_SIZE: "PyDict_Size", F_CALL: "PyObject_CallOneArg", F_LONG: "PyLong_FromLong", F_INCREF: "Py_IncRef",
    F_DECREF: "Py_DecRef", F_SAVE: "PyEval_SaveThread", F_RESTORE: "PyEval_RestoreThread",
}  # fmt: skip


class MethodDef(ctypes.Structure):
    """CPython's ``PyMethodDef``; it must outlive every function made from it."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def method(name: bytes, address: int) -> MethodDef:
    """The definition of a builtin function of one argument."""
    return MethodDef(name, address, 0x8, None)  # METH_O


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
    return True


def _read(kind: Any, address: int) -> Any:
    return kind.from_address(address).value


def fits(plan: Plan) -> bool:
    """Whether the entry can run a plan: its inputs are tensors of known rank, no output is made twice, constants stay."""
    outs = [instruction[1] for instruction in plan.code if instruction[0] == "out"]
    plain = all(port.buffer is not None and isinstance(port.type, TensorType) for port in plan.inputs)
    written = {
        operand for instruction in plan.code for letter, operand in zip(OPS[instruction[0]], instruction[1:], strict=True) if letter == "d"
    }
    return plain and len(outs) == len(set(outs)) and not written & set(plan.slot_values)


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
    """

    def __init__(self, program: Program, code: NativeCode, result: type[tuple[Any, ...]]) -> None:
        state = program.new_frame()
        assert isinstance(state, State)
        server = _Server(program, state)
        state.begin()
        plan = program.plan
        ranks = [len(port.dims) for port in plan.outputs]
        inputs, outputs, dims = self._ports(plan)
        tables = {
            F_IN: inputs, F_OUT: outputs, F_DIMS: dims, F_HELD: words(len(plan.inputs)), F_MADE: words(len(plan.outputs)),
            F_SHAPE: words(max(ranks, default=0)), F_TIME_ROOM: words(2),
        }  # fmt: skip
        objects = {
            F_RESULT: result, F_REFUSED: REFUSED, F_SERVE: server.serve, F_NDARRAY: np.ndarray, F_LIST: list, F_TUPLE: tuple,
            F_DICT: dict,
        }  # fmt: skip
        front = words(FRONT_WORDS)
        for word, table in tables.items():
            front[word] = address_of(table)
        for word, value in objects.items():
            front[word] = id(value)
        for word, address in _functions().items():
            front[word] = address
        front[F_STATE], front[F_RUN] = state.address, code.run_address
        front[F_INPUTS], front[F_OUTPUTS] = len(plan.inputs), len(plan.outputs)
        front[F_HEAVY] = program.weight_bytes > _HEAVY_WEIGHTS or len(plan.code) > _HEAVY_WORDS
        front[F_TIME] = getattr(time, "CLOCK_MONOTONIC", 0)
        self._kept = (tables, objects, code, [port.name for port in plan.inputs])
        make = ctypes.pythonapi.PyCFunction_NewEx
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
        self.function: Callable[[Any], Any] = make(ctypes.addressof(code.entry), front, None)

    def _ports(self, plan: Plan) -> tuple[Any, Any, Any]:
        """The tables of inputs, outputs and dims; element types are kept, for the tables hold only their addresses."""
        dims: list[int] = []
        inputs: list[int] = []
        outputs: list[int] = []
        self._types = []
        for port in plan.inputs:
            assert isinstance(port.type, TensorType) and port.buffer is not None
            dtype = port.type.dtype.numpy
            self._types.append(dtype)
            inputs += [id(dtype), len(port.dims), port.buffer, id(port.name), dtype.itemsize, len(dims)]
            declared = port.declared or (None,) * len(port.dims)
            for slot, extent in zip(port.dims, declared, strict=True):
                dims += [slot, extent if isinstance(extent, int) else -1]
        for port in plan.outputs:
            if port.buffer is None or not isinstance(port.type, TensorType):
                outputs += [0] * OUT_WORDS  # no ``out`` makes it
                continue
            dtype = port.type.dtype.numpy
            self._types.append(dtype)
            outputs += [id(dtype), len(port.dims), port.buffer, dtype.itemsize, len(dims)]
            dims += port.dims
        return tuple(_table(numbers) for numbers in (inputs, outputs, dims))


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
    table = (ctypes.c_void_p * 128).from_address(get(capsule, None))
    found = {F_NEW_ARRAY: table[_NEW_FROM_DESCR] or 0}
    for word, name in _CPYTHON.items():
        found[word] = _address(getattr(ctypes.pythonapi, name))
    found[F_CLOCK] = _address(ctypes.CDLL(None).clock_gettime) if os.name == "posix" else 0
    return found


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
