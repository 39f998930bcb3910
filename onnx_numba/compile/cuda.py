"""Generated modules as kernels of ``numba.cuda``, and what the names in them are there.

In the simulator everything is Python, and the twins of `onnx_numba.native` do; else `onnx_numba.compile.cuda_device` translates
the same records.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from numba import cuda

from onnx_numba.compile.bridge import define
from onnx_numba.native.cuda import ELEMENTS, FAILURE_CODES, VALUES
from onnx_numba.runtime.device import is_simulated


@functools.cache
def namespace() -> Mapping[str, Any]:
    """The globals of generated CUDA modules: ``cuda``, ``inf``, ``nan`` and `onnx_numba.native.cuda.NAMES`."""
    base = {"cuda": cuda, "inf": math.inf, "nan": math.nan}
    if is_simulated():
        from onnx_numba.native import twins

        known = twins()
        device = cuda.jit(device=True)
        return MappingProxyType(base | {name: known[name] for name in VALUES} | _memory(device) | {"device": device})
    from onnx_numba.compile.cuda_device import DeviceFunction, translate

    values = {name: translate(record) for name, record in VALUES.items()}
    return MappingProxyType(base | values | _memory(DeviceFunction) | {"device": DeviceFunction})


def load(source: str) -> dict[str, Any]:
    """Execute a generated module: its functions by name, kernels to be compiled when first launched."""
    return define(source, names=namespace())


def compile_ptx(kernel: Any, arguments: tuple[Any, ...], capability: tuple[int, int]) -> str:
    """PTX of a loaded kernel for numba types of its arguments; needs NVVM, but no GPU."""
    text, _ = cuda.compile_ptx(kernel.py_func, arguments, cc=capability)
    return str(text)


def _memory(device: Callable[[Any], Any]) -> dict[str, Any]:
    report = device(fail)

    def check_index(ctx: Any, i: Any, n: Any, work: Any, code: Any) -> Any:
        wrapped = i + n if i < 0 else i
        if wrapped < 0 or wrapped >= n:
            report(ctx, work, code)
            return n * 0
        return wrapped

    names: dict[str, Any] = {"fail": report, "check_index": device(check_index)}
    for name, element in ELEMENTS.items():
        names[f"{name}_at"] = device(_at(element))
        names[f"{name}_scratch"] = device(_scratch(element))
    return names


def fail(ctx: Any, index: Any, code: Any) -> None:
    """Report an error at a work index; of several, the one with the smallest index stays."""
    cuda.atomic.min(ctx, 0, index * FAILURE_CODES + code)


def _at(element: Any) -> Any:
    def at(array: Any, offset: Any) -> Any:
        return array.view(element)[offset:]

    return at


def _scratch(element: Any) -> Any:
    def scratch(block: Any, byte_offset: Any) -> Any:
        return block[byte_offset:].view(element)

    return scratch
