"""The compiled side of `onnx_numba.native`: the same names, as kernels see them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np


@functools.cache
def jit_namespace() -> Mapping[str, Any]:
    """The names that kernels may use, as globals for code that is to be compiled.

    The values are the records of `onnx_numba.native` themselves: `onnx_numba.compile.numba_internals` types them by their class,
    wherever they turn up, in a kernel's globals as well as in those of a composite's Python function.
    """
    from onnx_numba.native import RECORDS

    return MappingProxyType(dict(RECORDS))


_MATH = (
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "copysign", "cos", "cosh", "erf", "exp", "expm1", "log", "log1p", "sin",
    "sinh", "sqrt", "tan", "tanh",
)  # fmt: skip
_NUMPY = {
    **{name: name for name in ("ceil", "copysign", "cos", "cosh", "exp", "expm1", "floor", "log", "log1p", "rint")},
    **{name: name for name in ("sin", "sinh", "sqrt", "tan", "tanh", "trunc")},
    **{f"arc{name}": f"a{name}" for name in ("cos", "cosh", "sin", "sinh", "tan", "tanh")},
    "maximum": "max_", "minimum": "min_", "fmod": "fmod_", "isnan": "isnan_", "isinf": "isinf_", "float32": "f32",
    "float64": "f64", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint8": "u8", "uint16": "u16",
    "uint32": "u32", "uint64": "u64",
}  # fmt: skip


@functools.cache
def python_names() -> Mapping[Any, Any]:
    """What functions of Python and NumPy are in kernels: vectorised code and defined results for users' own functions too."""
    records = jit_namespace()
    known: dict[Any, Any] = {int: records["i64"], float: records["f64"]}
    known |= {getattr(math, name): records[name] for name in _MATH if name in records}
    known |= {getattr(np, name): records[record] for name, record in _NUMPY.items() if record in records}
    return MappingProxyType(known)


def define(source: str, filename: str = "<kernels>", names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Execute a module's source with the names of kernels, or ``names``, as its globals.

    They are set again afterwards, so that a source which imports the twins for running it as plain Python can be compiled too.
    """
    names = jit_namespace() if names is None else names
    scope: dict[str, Any] = {"__name__": "onnx_numba.generated", **names}
    exec(compile(source, filename, "exec", dont_inherit=True), scope)
    scope.update(names)
    return scope
