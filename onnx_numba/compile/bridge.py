"""The compiled side of `onnx_numba.native`: the same names, as kernels see them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


@functools.cache
def jit_namespace() -> Mapping[str, Any]:
    """The names that kernels may use, as globals for code that is to be compiled.

    The values are the records of `onnx_numba.native` themselves: `onnx_numba.compile.numba_internals` types them by their class,
    wherever they turn up, in a kernel's globals as well as in those of a composite's Python function.
    """
    from onnx_numba.native import RECORDS

    return MappingProxyType(dict(RECORDS))


def define(source: str, filename: str = "<kernels>", names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Execute a module's source with the names of kernels, or ``names``, as its globals.

    They are set again afterwards, so that a source which imports the twins for running it as plain Python can be compiled too.
    """
    names = jit_namespace() if names is None else names
    scope: dict[str, Any] = {"__name__": "onnx_numba.generated", **names}
    exec(compile(source, filename, "exec", dont_inherit=True), scope)
    scope.update(names)
    return scope
