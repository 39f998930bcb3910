"""What emitters and typing functions of this package share; numba and llvmlite are imported once something is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NUMBA_NAMES = {
    "bool": "boolean", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64", "f32": "float32", "f64": "float64",
    "c64": "complex64", "c128": "complex128",
}  # fmt: skip
"""Numba's name of every scalar type that expressions have."""


def numba_type(name: str) -> Any:
    """Numba's type for one of our short names."""
    from numba import types

    return getattr(types, NUMBA_NAMES[name])


def plain(numba_type: Any) -> Any:
    """The type without a literal value."""
    return getattr(numba_type, "literal_type", numba_type)


def is_float(numba_type: Any) -> bool:
    """Whether it is float32 or float64."""
    from numba import types

    return isinstance(numba_type, types.Float)


def is_int(numba_type: Any) -> bool:
    """Whether it is an integer; booleans are not."""
    from numba import types

    return isinstance(plain(numba_type), types.Integer)


def is_bool(numba_type: Any) -> bool:
    """Whether it is a boolean."""
    from numba import types

    return isinstance(plain(numba_type), types.Boolean)


def is_signed(numba_type: Any) -> bool:
    """Whether it is a signed integer."""
    return is_int(numba_type) and plain(numba_type).signed


def is_complex(numba_type: Any) -> bool:
    """Whether it is a complex number."""
    from numba import types

    return isinstance(numba_type, types.Complex)


def is_scalar(numba_type: Any) -> bool:
    """Whether it is a real number or a boolean."""
    return is_float(numba_type) or is_int(numba_type) or is_bool(numba_type)


def is_pointer(numba_type: Any) -> bool:
    """Whether it is a typed pointer."""
    from numba import types

    return isinstance(numba_type, types.CPointer)


def same(accepts: Callable[[Any], bool], count: int) -> Callable[..., Any]:
    """Typing of an operation on ``count`` operands of one accepted type, whose result has that type."""

    def typing(*args: Any) -> Any:
        kinds = [plain(a) for a in args]
        fits = len(kinds) == count and all(k == kinds[0] for k in kinds) and accepts(kinds[0])
        return kinds[0] if fits else None

    return typing


def tested(accepts: Callable[[Any], bool]) -> Callable[..., Any]:
    """Typing of a predicate on one operand."""

    def typing(*args: Any) -> Any:
        return numba_type("bool") if len(args) == 1 and accepts(args[0]) else None

    return typing


def call(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    """Call an LLVM intrinsic or C function by name."""
    from llvmlite import ir
    from numba.core import cgutils

    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def prefetch(builder: Any, pointer: Any) -> None:
    """Begin to load the cache line that a pointer points into, even where there is no memory."""
    from llvmlite import ir

    i32 = ir.IntType(32)
    reads, into_all_levels, data = i32(0), i32(3), i32(1)
    place = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    call(builder, "llvm.prefetch.p0", ir.VoidType(), [place, reads, into_all_levels, data])


def suffix(llvm_type: Any) -> str:
    """How LLVM names a scalar type at the end of an intrinsic's name: ``f32``, ``i64`` …"""
    return {"float": "f32", "double": "f64"}.get(str(llvm_type), str(llvm_type))


def llvm_intrinsic(name: str) -> Callable[..., Any]:
    """Emitter of ``llvm.<name>`` over operands and a result of one type."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        return call(builder, f"llvm.{name}.{suffix(kind)}", kind, list(args))

    return emit


def index_value(builder: Any, value: Any, numba_type: Any) -> Any:
    """An integer argument of any width as i64."""
    from llvmlite import ir

    i64 = ir.IntType(64)
    if value.type.width == 64:
        return value
    return builder.sext(value, i64) if is_signed(numba_type) else builder.zext(value, i64)
