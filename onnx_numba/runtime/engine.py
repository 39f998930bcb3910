"""The compiled runtime: runner, thread pool and fast entry as machine code, from the store or compiled into it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_numba.ir.plan import Plan
from onnx_numba.options import Options
from onnx_numba.record import record
from onnx_numba.runtime.assembler import assemble, resolve
from onnx_numba.runtime.entry import ANY_ARGUMENTS, ONE_ARGUMENT, RUN_TEXT, Entry, MethodDef, fits, method, usable
from onnx_numba.runtime.program import refuse
from onnx_numba.runtime.state import State
from onnx_numba.runtime.threads import Pool, pool_for, thread_count

if TYPE_CHECKING:
    from onnx_numba.compile.objects import Library
    from onnx_numba.compile.store import Store
    from onnx_numba.runtime.program import Program
    from onnx_numba.target import Target

_NATIVE = Path(__file__).resolve().parent.parent / "native"
_FUNCTIONS = {
    "runner": {"run": "int32(int64*)"},
    "front": {"entry": "int64(int64, int64)", "call": "int64(int64, int64, int64, int64)"},
    "mode": {"choose": "int32(int64*)", "judge": "int32(int64*, int64)"},
    "pool": {"worker": "int32(int64*, int64)", "spin": "int32(int64)"},
}
"""Functions of each module of ``onnx_numba.native`` that are called from outside, with their C signatures."""


@record
class NativeCode:
    """The runtime's machine code, callable from Python without the GIL; the library keeps it loaded."""

    library: Library
    run: Callable[[int], int]
    worker: Callable[[int, int], int]
    spin: Callable[[int], int]
    choose: Callable[[int], int]
    judge: Callable[[int, int], int]
    run_address: int
    entry: MethodDef
    call: MethodDef


class NativeEngine:
    """Executes plans by compiled code.

    Parameters
    ----------
    kernels : mapping
        Address by digest.
    options : Options
        For the target, the store and the number of threads.
    """

    def __init__(self, kernels: Mapping[str, int], options: Options) -> None:
        self._kernels = kernels
        self.code = native_code(options.cpu, options.cache)
        threads = thread_count(options.num_threads)
        self.pool: Pool | None = None if threads == 1 else pool_for(threads, self.code)

    def frames(self, plan: Plan) -> Callable[[], State]:
        """A function that makes frames for a plan."""
        assembly = assemble(plan)
        addresses = np.array([*resolve(plan, self._kernels), 0], np.int64)
        return lambda: State(plan, assembly, addresses, self.code, self.pool)

    def entry(self, program: Program, result: type[tuple[Any, ...]], general: Callable[..., Any] = refuse) -> Entry | None:
        """The fast entry of a program, where this process and its plan allow one."""
        return Entry(program, self.code, result, general) if usable() and fits(program.plan) else None


@functools.cache
def native_code(cpu: str, cache: Path | str | bool | None) -> NativeCode:
    """The runtime's machine code for a processor, loaded once per process."""
    from onnx_numba.compile.objects import Library
    from onnx_numba.compile.store import Store
    from onnx_numba.target import Target

    target, store = Target.named(cpu), None if cache is False else Store(None if cache is None else str(cache))
    library = Library()
    addresses: dict[str, int] = {}
    for module in _FUNCTIONS:
        addresses |= _load(module, target, store, library)
    return NativeCode(
        library,
        ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(addresses["run"]),
        ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)(addresses["worker"]),
        ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64)(addresses["spin"]),
        ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(addresses["choose"]),
        ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)(addresses["judge"]),
        addresses["run"],
        method(b"run", addresses["entry"], ONE_ARGUMENT),
        method(b"run", addresses["call"], ANY_ARGUMENTS, RUN_TEXT),
    )


def _load(module: str, target: Target, store: Store | None, library: Library) -> dict[str, int]:
    from onnx_numba.compile.compiler import compile_module, symbol_of

    source, signatures = (_NATIVE / f"{module}.py").read_text(), _FUNCTIONS[module]
    digests = {name: hashlib.sha256(f"{name}\n{source}".encode()).hexdigest() for name in signatures}
    objects = compile_module(source, digests, target, store, signatures=signatures)
    library.add({symbol_of(digest): data for digest, data in objects.items()})
    return {name: library.address(symbol_of(digest)) for name, digest in digests.items()}
