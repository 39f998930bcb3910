"""Copies to results that are too large for the caches, around them.

A processor reads a line of the cache before it writes to it, unless it is told to write whole lines around the cache, which saves a third
of what a copy moves. A line of which only a part is written still has to be read, and while that waits nothing else is written.

`onnx_numba.compile.streaming` does the same for loops that compute what they write.
"""

from __future__ import annotations

from typing import Any

from onnx_numba.ir.plan import CTX_AROUND
from onnx_numba.native.emit import is_int, is_pointer
from onnx_numba.native.memory import LINE, intrinsic_void, move
from onnx_numba.native.registry import Intrinsic, Record, function, intrinsic
from onnx_numba.native.vector import VectorEmitter, outlined, pointer_typing

FEW_LINES, MANY_LINES = 512, 16384
"""Bytes from which on copies around the caches pay if they are whole lines, and wherever they begin and end: a part of a line takes as long
as ten lines."""


def _to_line_typing(*args: Any) -> Any:
    from numba import types

    return types.int64 if len(args) == 2 and is_pointer(args[0]) and is_int(args[1]) else None


def _emit_to_line(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    pointer, i = args
    i64 = ir.IntType(64)
    place = builder.ptrtoint(builder.gep(pointer, [builder.sext(i, i64) if i.type.width < 64 else i]), i64)
    return builder.udiv(builder.and_(builder.neg(place), i64(LINE - 1)), i64(context.get_abi_sizeof(pointer.type.pointee)))


@intrinsic(_to_line_typing, _emit_to_line)
def to_line(pointer: Any, i: Any) -> Any:
    """How many elements from i on lie before the next line of the cache begins."""
    return int(-(pointer.ctypes.data + i * pointer.itemsize) % LINE // pointer.itemsize)


def _copy_around(size: int, target: Any, source: Any, count: int) -> None:
    """Copy ``count`` elements of ``size`` bytes between buffers that do not overlap, whole lines around the caches; then `settle` once."""
    target[:count] = source[:count]


def _build_copy(builder: Any, literals: list[int], args: Any) -> None:
    from llvmlite import ir

    emitter = VectorEmitter(builder, ir.IntType(8), LINE)
    number, (size, target, source, count) = emitter.number, args
    target, source = (builder.bitcast(p, emitter.element.as_pointer()) for p in (target, source))
    count = builder.mul(count, size)
    flag = builder.module.add_metadata([ir.IntType(32)(1)])

    def copy(start: Any, stop: Any) -> None:
        places = [emitter.shift(p, start) for p in (target, source)]
        intrinsic_void(builder, "llvm.memcpy.p0.p0.i64", [*places, builder.sub(stop, start), ir.IntType(1)(0)])

    def line(k: Any, values: list[Any]) -> list[Any]:
        to = builder.bitcast(emitter.shift(target, k), emitter.vector.as_pointer())
        builder.store(emitter.load(emitter.shift(source, k)), to, align=LINE).set_metadata("nontemporal", flag)
        return values

    past = builder.and_(builder.neg(builder.ptrtoint(target, emitter.i64)), number(LINE - 1))
    first = emitter.smaller(past, count)
    copy(number(0), first)
    reached, _ = emitter.loop(first, count, LINE, [], line)
    copy(reached, count)


copy_around = Intrinsic("copy_around", _copy_around, pointer_typing(0, (1, 2), None, 4), outlined("copy_around", 0, _build_copy))


def _none_typing(*args: Any) -> Any:
    from numba import types

    return None if args else types.none


def _emit_settle(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    if str(builder.module.triple).startswith("x86_64"):
        intrinsic_void(builder, "llvm.x86.sse.sfence", [])
    return context.get_dummy_value()


@intrinsic(_none_typing, _emit_settle)
def settle() -> None:
    """Let what went around the caches be seen before whatever is written afterwards."""


@function
def goes_around(ctx: Any) -> Any:
    """Whether the results of this call are so large that they had better go around the caches."""
    return ctx[CTX_AROUND] != 0


@function
def move_around(ctx: Any, size: Any, target: Any, source: Any, count: Any) -> None:
    """Copy a part of a result, around the caches if that is large and nearly all lines of the part are its alone."""
    whole = to_line(target, 0) + count * size % LINE == 0
    if goes_around(ctx) and count * size >= (FEW_LINES if whole else MANY_LINES):
        copy_around(size, target, source, count)
    else:
        move(size, target, source, count)


RECORDS: tuple[Record, ...] = (to_line, copy_around, settle, goes_around, move_around)
