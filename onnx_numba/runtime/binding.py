"""Inputs as callers give them, made into arrays that kernels can read, or refused with a message that helps.

An array must have the declared element type exactly; Python lists, scalars and data frames have no ONNX type of their own and are
converted. Arrays that are not C-contiguous, aligned and in native byte order are copied. No input is ever written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_numba.errors import InputError, InputTypeError
from onnx_numba.ir.plan import Port
from onnx_numba.ir.types import DType, MapType, OptionalType, SequenceType, TensorType, ValueType, dtype_of

Array = np.ndarray[Any, Any]

_KIND_ORDER = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


def in_order(inputs: Any, ports: Sequence[Port]) -> list[Any]:
    """The values for each port, from a mapping by name, a list or tuple, or the one input; None where one is absent."""
    if isinstance(inputs, Mapping):
        return _by_name(inputs, ports)
    if not isinstance(inputs, list | tuple):
        inputs = [inputs]
    if len(inputs) != len(ports):
        raise InputError(f"expected {len(ports)} inputs ({_names(ports)}), got {len(inputs)}; a list holds one entry per input")
    _refuse_missing(inputs, ports)
    return list(inputs)


def _by_name(inputs: Mapping[str, Any], ports: Sequence[Port]) -> list[Any]:
    known = {port.name for port in ports}
    for name in inputs:
        if name not in known:
            raise InputError(f"unknown input {name!r}; this model's inputs are {_names(ports)}")
    values = [inputs.get(port.name) for port in ports]
    _refuse_missing(values, ports)
    return values


def _refuse_missing(values: Sequence[Any], ports: Sequence[Port]) -> None:
    for value, port in zip(values, ports, strict=True):
        if value is None and not isinstance(port.type, OptionalType):
            raise InputError(f"input {port.name!r} is missing; this model's inputs are {_names(ports)}")


def _names(ports: Sequence[Port]) -> str:
    return ", ".join(repr(port.name) for port in ports) or "none"


def conform(value: Any, port: Port) -> Any:
    """One input as the plan takes it: an array that kernels can read, or for an object port the Python value."""
    if value is None:
        return None
    result = _value(value, port.type, f"input {port.name!r}")
    if isinstance(port.type, TensorType):
        _check_shape(result, port)
    return result


def _value(value: Any, kind: ValueType, what: str) -> Any:
    if isinstance(kind, TensorType):
        return _tensor(value, kind.dtype, what)
    if isinstance(kind, OptionalType):
        return None if value is None else _value(value, kind.element, what)
    if isinstance(kind, SequenceType):
        if not isinstance(value, list | tuple):
            raise InputTypeError(f"{what}: expected a list for {kind}, got {type(value).__name__}")
        return [_value(item, kind.element, f"{what}[{number}]") for number, item in enumerate(value)]
    assert isinstance(kind, MapType)
    if not isinstance(value, Mapping):
        raise InputTypeError(f"{what}: expected a mapping for {kind}, got {type(value).__name__}")
    allowed: Any = str if kind.key.kind == "s" else (int, np.integer)
    wrong = next((key for key in value if not isinstance(key, allowed) or isinstance(key, bool)), None)
    if wrong is not None:
        raise InputTypeError(f"{what}: key {wrong!r} of a {kind} is no {kind.key.onnx_name}")
    return {key: _entry(item, kind.value, f"{what}[{key!r}]") for key, item in value.items()}


def _entry(value: Any, kind: ValueType, what: str) -> Any:
    """A value of a map; numbers have the types of Python or NumPy that callers happen to have."""
    if not isinstance(kind, TensorType):
        return _value(value, kind, what)
    if kind.dtype.kind == "s":
        array = _strings(np.asarray(value), what)
    else:
        array = _converted(value, kind.dtype, what)
    if array.ndim:
        raise InputTypeError(f"{what}: expected one {kind.dtype.onnx_name}, got an array of shape {list(array.shape)}")
    return array.item()


def _tensor(value: Any, dtype: DType, what: str) -> Array:
    if isinstance(value, np.ma.MaskedArray):
        raise InputTypeError(f"{what}: masked arrays have no meaning in ONNX; pass value.filled(...)")
    if isinstance(value, np.ndarray | np.generic) or (hasattr(value, "__array__") and not hasattr(value, "to_numpy")):
        array = np.asarray(value)
        return _strings(array, what) if dtype.kind == "s" else _exact(array, dtype, what)
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    elif hasattr(value, "__dlpack__"):
        return _exact(_exported(value, what), dtype, what)
    return _converted(value, dtype, what)


def _exported(value: Any, what: str) -> Array:
    """What another library's array exports, which has a type of its own as an array has."""
    try:
        return np.from_dlpack(value)
    except Exception as error:  # whatever the other library raises
        raise InputTypeError(f"{what}: NumPy cannot read this {type(value).__name__} ({error}); pass it as an array on the CPU") from error


def _exact(array: Array, dtype: DType, what: str) -> Array:
    expected = dtype.numpy
    if array.dtype == expected:
        return readable(array)
    if array.dtype.newbyteorder("=") == expected:
        return array.astype(expected, order="C")
    raise InputTypeError(f"{what}: expected {expected.name} ({dtype.onnx_name}), got {array.dtype.name}; {_hint(array, dtype)}")


def _hint(array: Array, dtype: DType) -> str:
    if dtype_of(array.dtype) is None and array.dtype.kind not in "biufc":
        return "that type has no ONNX element type"
    return f"convert it with .astype({dtype.package}.{dtype.numpy.name})"


def readable(array: Array) -> Array:
    """The array itself if kernels can read it where it lies, else a copy."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned and array.dtype.isnative:
        return array
    return array.astype(array.dtype.newbyteorder("="), order="C", copy=True)


def _converted(value: Any, dtype: DType, what: str) -> Array:
    """Python numbers, lists of them and data frames in the declared type, where that loses no more than precision."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputTypeError(f"{what}: expected numbers of one shape, got {type(value).__name__} ({error})") from error
    if dtype.kind == "s":
        return _strings(array, what)
    if array.dtype.kind not in _KIND_ORDER:
        raise InputTypeError(f"{what}: expected {dtype.onnx_name} numbers, got {type(value).__name__} of {array.dtype.name}")
    if array.size and _KIND_ORDER[array.dtype.kind] > _KIND_ORDER[dtype.kind]:
        raise InputTypeError(f"{what}: {array.dtype.name} values cannot become {dtype.onnx_name}; convert them before the call")
    if dtype.is_int and array.size:
        least, greatest = dtype.limits
        if int(array.min()) < least or int(array.max()) > greatest:
            raise InputTypeError(f"{what}: a value is outside the range of {dtype.onnx_name}, {least} to {greatest}")
    return array.astype(dtype.numpy, order="C")


def _strings(array: Array, what: str) -> Array:
    if array.dtype.kind in "UT":
        return array.astype(object)
    if array.dtype.kind == "S" or (array.dtype.kind == "O" and any(isinstance(item, bytes) for item in array.flat)):
        decode = np.frompyfunc(lambda item: item.decode() if isinstance(item, bytes) else item, 1, 1)
        try:
            array = np.asarray(decode(array.astype(object)), object)
        except UnicodeDecodeError as error:
            raise InputTypeError(f"{what}: expected strings, got bytes that are no UTF-8: {error.object[:40]!r}") from error
    if array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat):
        return array
    if array.size == 0:
        return array.astype(object)
    raise InputTypeError(f"{what}: expected strings, got {array.dtype.name}; convert it with .astype(str)")


def _check_shape(array: Array, port: Port) -> None:
    declared = port.declared
    rank = len(port.dims) if port.buffer is not None else None if declared is None else len(declared)
    if rank is not None and array.ndim != rank:
        shape = f" {_shape_text(declared)}" if declared else ""
        raise InputError(f"input {port.name!r}: expected rank {rank}{shape}, got rank {array.ndim} {_shape_text(array.shape)}; reshape it")
    for axis, (want, got) in enumerate(zip(declared or (), array.shape, strict=False)):
        if isinstance(want, int) and want != got:
            raise InputError(
                f"input {port.name!r}: expected shape {_shape_text(declared)}, got {_shape_text(array.shape)} "
                f"(axis {axis} is fixed in the model)"
            )


def _shape_text(shape: Sequence[int | str | None] | None) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape or ()) + "]"
