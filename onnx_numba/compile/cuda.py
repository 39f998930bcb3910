"""Generated modules as kernels of ``numba.cuda``, and what the names in them are there.

In the simulator everything is Python, and the twins of `onnx_numba.native` do; else `onnx_numba.compile.cuda_device` translates
the same records.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numba import cuda, from_dtype
from numba.core import types as numba_types

from onnx_numba.compile.bridge import define
from onnx_numba.native.cuda import ELEMENTS, FAILURE_CODES, VALUES
from onnx_numba.runtime.device import is_simulated

types: Any = numba_types  # most of its names are made at run time


@functools.cache
def namespace() -> Mapping[str, Any]:
    """The globals of generated CUDA modules: ``cuda``, ``np``, ``inf``, ``nan``, ``device`` and `onnx_numba.native.cuda.NAMES`."""
    translate, view, device = _simulated() if is_simulated() else _compiled()
    names: dict[str, Any] = {"cuda": cuda, "np": np, "inf": math.inf, "nan": math.nan, "device": device}
    names |= {name: translate(record) for name, record in VALUES.items()}
    for name, element in ELEMENTS.items():
        names[f"{name}_at"] = view(element, np.dtype(element).itemsize)
        names[f"{name}_scratch"] = view(element, 1)
    names["fail"] = device(fail)
    names["check_index"] = device(_check_index(names["fail"]))
    return MappingProxyType(names)


def _compiled() -> tuple[Any, Any, Any]:
    from onnx_numba.compile.cuda_device import DeviceFunction, translate, view

    return translate, view, DeviceFunction


def _simulated() -> tuple[Any, Any, Any]:
    from onnx_numba.native import twin

    def view(element: Any, scale: int) -> Any:
        def viewed(array: Any, offset: Any) -> Any:
            return array.view(np.uint8)[offset * scale :].view(element)

        return viewed

    return twin, view, cuda.jit(device=True)


def load(source: str) -> dict[str, Any]:
    """Execute a generated module: its functions by name, kernels to be compiled when first launched."""
    return define(source, names=namespace())


def parameters(kernel: Any) -> list[str]:
    """The names of a kernel's parameters, which say what it takes; see `onnx_numba.codegen.cuda`."""
    return list(inspect.signature(kernel.py_func).parameters)


def argument_types(kernel: Any, buffers: Sequence[str]) -> tuple[Any, ...]:
    """numba types of the arguments that a kernel takes over buffers of these storage types."""
    known: dict[str, Any] = {"ctx": types.int64[::1], "scratch": types.uint8[::1]}
    known |= {f"x{k}": from_dtype(np.dtype(ELEMENTS[name]))[::1] for k, name in enumerate(buffers)}
    return tuple(known.get(name, types.int64) for name in parameters(kernel))


def compile_ptx(kernel: Any, buffers: Sequence[str], capability: tuple[int, int]) -> str:
    """PTX of a loaded kernel over buffers of these storage types; needs NVVM, but no GPU."""
    text, _ = cuda.compile_ptx(kernel.py_func, argument_types(kernel, buffers), cc=capability)
    return str(text)


def fail(ctx: Any, index: Any, code: Any) -> None:
    """Report an error at a work index; of several, the one with the smallest index stays."""
    cuda.atomic.min(ctx, 0, index * FAILURE_CODES + code)


def _check_index(report: Any) -> Any:
    def check_index(ctx: Any, i: Any, n: Any, work: Any, code: Any) -> Any:
        wrapped = i + n if i < 0 else i
        if wrapped < 0 or wrapped >= n:
            report(ctx, work, code)
            return n * 0
        return wrapped

    return check_index
