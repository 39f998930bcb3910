"""Pointers, stack arrays, scratch, atomics, prefetches, calls through addresses, and how a kernel reports an error.

Compiled, a buffer is a typed pointer; in Python it is a 1-d NumPy array.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from onnx_numba.ir.plan import CTX_INDEX, CTX_SCRATCH, CTX_SCRATCH_BYTES, CTX_STATUS
from onnx_numba.ir.types import DTYPES
from onnx_numba.native.emit import index_value, is_int, is_pointer, numba_type, plain, prefetch
from onnx_numba.native.loops import apart
from onnx_numba.native.registry import Intrinsic, Record, function, intrinsic

ELEMENTS: Mapping[str, Any] = MappingProxyType({t.name: DTYPES[t.stored].numpy.type for t in DTYPES.values() if t.kind != "s"})
"""What elements of every storage type are in Python."""


LINE = 64
"""Bytes of a cache line."""
ASKED = 2048
"""Bytes that are worth asking for beforehand: after so many, the processor sees where a loop goes, and of 16 KiB those that were in
the second-level cache anyway take longer by a sixth."""
LONG = 4096
"""Bytes from which the C library's copy, a call, is faster than a loop: it need not read a line of the cache that it writes as a whole."""


def _pointer_type(name: str) -> Any:
    from numba import types

    return types.CPointer(numba_type(DTYPES[name].stored))


def _i64(builder: Any, value: int) -> Any:
    from llvmlite import ir

    return ir.Constant(ir.IntType(64), value)


def _element_pointer(builder: Any, signature: Any, args: Any) -> Any:
    return builder.gep(args[0], [index_value(builder, args[1], signature.args[1])])


# ---- pointers


def _buffer(name: str) -> Intrinsic:
    """``T_p(bufs, k)``: the elements of buffer k."""

    def twin(bufs: Any, k: Any) -> Any:
        return bufs[k].view(ELEMENTS[name])

    def typing(*args: Any) -> Any:
        from numba import types

        table = len(args) == 2 and (is_pointer(args[0]) or args[0] == types.voidptr) and is_int(args[1])
        return _pointer_type(name) if table else None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = context.get_value_type(signature.return_type)
        table = builder.bitcast(args[0], target.as_pointer())
        return builder.load(builder.gep(table, [index_value(builder, args[1], signature.args[1])]))

    return Intrinsic(f"{name}_p", twin, typing, emit)


def _at(name: str) -> Intrinsic:
    """``T_at(p, offset)``: the elements from an offset (not below 0) on, read as this type."""

    def twin(pointer: Any, offset: Any) -> Any:
        return pointer.view(ELEMENTS[name])[offset:]

    def typing(*args: Any) -> Any:
        return _pointer_type(name) if len(args) == 2 and is_pointer(args[0]) and is_int(args[1]) else None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base = builder.bitcast(args[0], context.get_value_type(signature.return_type))
        return builder.gep(base, [index_value(builder, args[1], signature.args[1])])

    return Intrinsic(f"{name}_at", twin, typing, emit)


def _local(name: str) -> Intrinsic:
    """``T_local(n)``: an array of n elements (a literal) on the stack, with undefined contents."""

    def twin(count: Any) -> Any:
        return np.empty(count, ELEMENTS[name])

    def typing(*args: Any) -> Any:
        from numba import types

        return _pointer_type(name) if len(args) == 1 and isinstance(args[0], types.IntegerLiteral) else None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir

        pointer = context.get_value_type(signature.return_type)
        with builder.goto_entry_block():  # numba's own helper would store zeros, one by one
            array = builder.alloca(ir.ArrayType(pointer.pointee, signature.args[0].literal_value))
        array.align = 64
        return builder.bitcast(array, pointer)

    return Intrinsic(f"{name}_local", twin, typing, emit)


def _scratch(name: str) -> Intrinsic:
    """``T_scratch(ctx, byte_offset)``: this worker's scratch from an offset on."""

    def twin(ctx: Any, byte_offset: Any) -> Any:
        element = np.dtype(ELEMENTS[name])
        size = int(ctx[CTX_SCRATCH_BYTES]) - int(byte_offset)
        memory: Any = (ctypes.c_char * size).from_address(int(ctx[CTX_SCRATCH]) + int(byte_offset))
        return np.frombuffer(memory, element, size // element.itemsize)

    def typing(*args: Any) -> Any:
        return _pointer_type(name) if len(args) == 2 and is_pointer(args[0]) and is_int(args[1]) else None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = builder.load(builder.gep(args[0], [_i64(builder, CTX_SCRATCH)]))
        address = builder.add(address, index_value(builder, args[1], signature.args[1]))
        return builder.inttoptr(address, context.get_value_type(signature.return_type))

    return Intrinsic(f"{name}_scratch", twin, typing, emit)


POINTERS = tuple(make(name) for name in ELEMENTS for make in (_buffer, _at, _local, _scratch))


# ---- atomics on int64, sequentially consistent


def _atomic_typing(operands: int, result: str | None) -> Any:
    def typing(*args: Any) -> Any:
        from numba import types

        fits = (
            len(args) == 2 + operands
            and is_pointer(args[0])
            and args[0].dtype == types.int64
            and all(is_int(a) and plain(a).bitwidth == 64 for a in args[2:])
            and is_int(args[1])
        )
        if not fits:
            return None
        return numba_type(result) if result else types.none

    return typing


def _emit_add(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.atomic_rmw("add", _element_pointer(builder, signature, args), args[2], "seq_cst")


@intrinsic(_atomic_typing(1, "i64"), _emit_add)
def atomic_add(pointer: Any, i: Any, value: Any) -> Any:
    """Add to element i; the value from before."""
    before = int(pointer[i])
    pointer[i] = before + value
    return before


def _emit_load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.load_atomic(_element_pointer(builder, signature, args), "seq_cst", 8)


@intrinsic(_atomic_typing(0, "i64"), _emit_load)
def atomic_load(pointer: Any, i: Any) -> Any:
    """Element i."""
    return int(pointer[i])


def _emit_store(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    builder.store_atomic(args[2], _element_pointer(builder, signature, args), "seq_cst", 8)
    return context.get_dummy_value()


@intrinsic(_atomic_typing(1, None), _emit_store)
def atomic_store(pointer: Any, i: Any, value: Any) -> None:
    """Set element i."""
    pointer[i] = value


def _emit_cas(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    pair = builder.cmpxchg(_element_pointer(builder, signature, args), args[2], args[3], "seq_cst", "seq_cst")
    return builder.extract_value(pair, 1)


@intrinsic(_atomic_typing(2, "bool"), _emit_cas)
def cas(pointer: Any, i: Any, expected: Any, new: Any) -> Any:
    """Set element i to ``new`` if it is as expected; whether it was."""
    if pointer[i] != expected:
        return False
    pointer[i] = new
    return True


def _emit_pause(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    # Not inline assembly: LLVM has a parser for that only for the machine it runs on.
    triple, i32 = builder.module.triple, ir.IntType(32)
    if triple.startswith(("x86_64", "i686")):
        intrinsic_void(builder, "llvm.x86.sse2.pause", [])
    elif triple.startswith(("aarch64", "arm64")):
        intrinsic_void(builder, "llvm.aarch64.hint", [ir.Constant(i32, 1)])  # yield
    return context.get_dummy_value()


def _none_typing(*args: Any) -> Any:
    from numba import types

    return None if args else types.none


@intrinsic(_none_typing, _emit_pause)
def pause() -> None:
    """Tell the processor that this is a loop that waits."""


def _line_typing(*args: Any) -> Any:
    from numba import types

    return types.none if len(args) == 2 and is_pointer(args[0]) and is_int(args[1]) else None


def _emit_line(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    prefetch(builder, _element_pointer(builder, signature, args))
    return context.get_dummy_value()


@intrinsic(_line_typing, _emit_line)
def fetch_line(pointer: Any, i: Any) -> None:
    """Begin to load the cache line that element i, which need not exist, would lie in."""


@function
def fetch(size: Any, pointer: Any, start: Any, count: Any) -> None:
    """Begin to load so many elements of ``size`` bytes, which need not exist, or the first of them if that is a lot."""
    for i in range(0, min(count, ASKED // size), LINE // size):
        fetch_line(pointer, start + i)


# ---- calls


def _call_typing(*args: Any) -> Any:
    pointers = len(args) == 6 and all(_is_address(a) for a in args[1:4])
    return numba_type("i32") if pointers and all(is_int(args[k]) for k in (0, 4, 5)) else None


def _is_address(kind: Any) -> bool:
    from numba import types

    return is_pointer(kind) or kind == types.voidptr


def _emit_call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    i64, pointers = ir.IntType(64), [a.type for a in args[1:4]]
    kind = ir.FunctionType(ir.IntType(32), [*pointers, i64, i64])
    target = builder.inttoptr(args[0], kind.as_pointer())
    bounds = [index_value(builder, args[k], signature.args[k]) for k in (4, 5)]
    return builder.call(target, [*args[1:4], *bounds])


@intrinsic(_call_typing, _emit_call)
def call_kernel(address: Any, ctx: Any, bufs: Any, dims: Any, lo: Any, hi: Any) -> Any:
    """Call the kernel at an address (in Python: a function); its status."""
    return address(ctx, bufs, dims, lo, hi)


def _copy_typing(*args: Any) -> Any:
    from numba import types

    fits = len(args) == 3 and _is_address(args[0]) and (_is_address(args[1]) or is_int(args[1])) and is_int(args[2])
    return types.none if fits else None


def _emit_memcpy(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    target, source, count = _bytes(builder, args[0]), _bytes(builder, args[1]), index_value(builder, args[2], signature.args[2])
    intrinsic_void(builder, "llvm.memcpy.p0.p0.i64", [target, source, count, ir.Constant(ir.IntType(1), 0)])
    return context.get_dummy_value()


def _emit_memset(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    target, count = _bytes(builder, args[0]), index_value(builder, args[2], signature.args[2])
    value = args[1] if args[1].type.width == 8 else builder.trunc(args[1], ir.IntType(8))
    intrinsic_void(builder, "llvm.memset.p0.i64", [target, value, count, ir.Constant(ir.IntType(1), 0)])
    return context.get_dummy_value()


def _bytes(builder: Any, pointer: Any) -> Any:
    from llvmlite import ir

    return builder.bitcast(pointer, ir.IntType(8).as_pointer())


def intrinsic_void(builder: Any, name: str, args: list[Any]) -> None:
    """Call one of LLVM's intrinsics that gives nothing."""
    from llvmlite import ir
    from numba.core import cgutils

    kind = ir.FunctionType(ir.VoidType(), [a.type for a in args])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@intrinsic(_copy_typing, _emit_memcpy)
def memcpy(target: Any, source: Any, count: Any) -> None:
    """Copy that many bytes between buffers that do not overlap."""
    target.view(np.uint8)[:count] = source.view(np.uint8)[:count]


@intrinsic(_copy_typing, _emit_memset)
def memset(target: Any, value: Any, count: Any) -> None:
    """Set that many bytes to a value."""
    target.view(np.uint8)[:count] = int(value) & 0xFF


@function
def move(size: Any, target: Any, source: Any, count: Any) -> None:
    """Copy ``count`` elements of ``size`` bytes between buffers that do not overlap."""
    if count * size >= LONG:
        memcpy(target, source, count * size)
    else:
        for i in range(count):
            apart()
            target[i] = source[i]


# ---- errors


@function
def fail(ctx: Any, index: Any, code: Any) -> None:
    """Report an error at a work index; of several, the one with the smallest index stays."""
    if ctx[CTX_STATUS] == 0 or index < ctx[CTX_INDEX]:
        ctx[CTX_STATUS] = code
        ctx[CTX_INDEX] = index


@function
def check_index(ctx: Any, i: Any, n: Any, work: Any, code: Any) -> Any:
    """``i``, or ``i + n`` if it is negative; when that is out of range, `fail` is called and the index is 0."""
    wrapped = i + n if i < 0 else i
    if wrapped < 0 or wrapped >= n:
        fail(ctx, work, code)
        return n * 0
    return wrapped


RECORDS: tuple[Record, ...] = (
    *POINTERS, atomic_add, atomic_load, atomic_store, cas, pause, fetch_line, fetch, call_kernel, memcpy, memset, move, fail,
    check_index,
)  # fmt: skip
