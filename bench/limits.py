"""The machine's own limits: how fast it copies memory and how many multiply-adds it does."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

_CALL_BYTES = 20_000_000
"""What one call moves at least: then the start of its threads does not count."""
_ROUNDS = 200_000
"""Of a call: a millisecond or a few. A longer one is more often interrupted than a model's, and a limit would be below what a model did."""
_CHAINS = 12
"""Independent multiply-adds: more than latency times throughput of today's cores, and as many as AVX2's registers hold."""


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that each keep to a core of their own: where they are woken together, the system may put them on one."""
    if threads == 1 or not hasattr(os, "sched_setaffinity"):
        return ThreadPoolExecutor(threads)
    cores = iter(sorted(os.sched_getaffinity(0)))
    return ThreadPoolExecutor(threads, initializer=lambda: os.sched_setaffinity(0, {next(cores)}))


class Copy:
    """Copying memory from one block to another, by a number of threads.

    Parameters
    ----------
    moved : int
        Bytes read and written together.
    threads : int
        Each copies a part.
    """

    def __init__(self, moved: int, threads: int) -> None:
        size = max(moved // 2 // threads, 64)
        self.repeats = max(1, _CALL_BYTES // (2 * size * threads))
        self._pool = _pool(threads)
        self._parts = [(np.ones(size, np.uint8), np.zeros(size, np.uint8)) for _ in range(threads)]

    def __call__(self) -> None:
        """Copy ``repeats`` times."""
        list(self._pool.map(self._copy, self._parts))

    def _copy(self, part: tuple[np.ndarray, np.ndarray]) -> None:
        source, target = part
        for _ in range(self.repeats):
            np.copyto(target, source)


class MultiplyAdd:
    """Chains of multiply-adds in registers, by a number of threads, with vectors of a number of floats."""

    def __init__(self, lanes: int, threads: int) -> None:
        self.flops = 2.0 * lanes * _CHAINS * _ROUNDS * threads
        self._pool = _pool(threads)
        self._threads, self._run = threads, _compiled(lanes)

    def __call__(self) -> None:
        """Do ``flops`` floating-point operations."""
        list(self._pool.map(self._run, [_ROUNDS] * self._threads))


def multiply_adds(threads: int) -> dict[str, MultiplyAdd]:
    """One per width of vectors that the processor may have; the fastest is the limit."""
    return {f"multiply_add_{lanes}": MultiplyAdd(lanes, threads) for lanes in (4, 8, 16)}


@functools.cache
def _compiled(lanes: int) -> Callable[[int], float]:
    """A C function without the GIL: ``rounds`` times ``a[i] = fma(a[i], b, c)``; it gives a sum, so that nothing is left out."""
    from llvmlite import binding, ir

    vector, count = ir.VectorType(ir.FloatType(), lanes), ir.IntType(64)
    module = ir.Module("multiply_add")
    function = ir.Function(module, ir.FunctionType(ir.FloatType(), [count]), f"multiply_add_{lanes}")
    fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32")
    entry, loop, done = (function.append_basic_block(name) for name in ("entry", "loop", "done"))
    ir.IRBuilder(entry).branch(loop)
    builder = ir.IRBuilder(loop)
    index = builder.phi(count)
    values = [builder.phi(vector) for _ in range(_CHAINS)]
    factor, term = (ir.Constant(vector, [number] * lanes) for number in (0.5, 1.0))
    following = builder.add(index, ir.Constant(count, 1))
    results = [builder.call(fma, [value, factor, term]) for value in values]
    index.add_incoming(ir.Constant(count, 0), entry)
    index.add_incoming(following, loop)
    for number, (value, result) in enumerate(zip(values, results, strict=True)):
        value.add_incoming(ir.Constant(vector, [float(number)] * lanes), entry)
        value.add_incoming(result, loop)
    builder.cbranch(builder.icmp_signed("<", following, function.args[0]), loop, done)
    builder.position_at_end(done)
    builder.ret(builder.extract_element(functools.reduce(builder.fadd, results), ir.Constant(ir.IntType(32), 0)))
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    # On Intel's processors LLVM halves vectors of 512 bits unless told otherwise.
    features = f"{binding.get_host_cpu_features().flatten()},-prefer-256-bit"
    machine = binding.Target.from_default_triple().create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=2)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine)
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(engine.get_function_address(function.name))
    call.engine = engine  # type: ignore[attr-defined]  # the code lives as long as its engine
    return call
