"""Objects as compiled code sees them: numbers, their addresses, read through pointers and handed to C functions."""

from __future__ import annotations

from typing import Any

from onnx_numba.native.emit import is_int, numba_type, plain
from onnx_numba.native.registry import Intrinsic, intrinsic


def _pointer(name: str, element: str) -> Intrinsic:
    """``name(address)``: a pointer to elements at an address."""

    def typing(*args: Any) -> Any:
        from numba import types

        fits = len(args) == 1 and is_int(args[0]) and plain(args[0]).bitwidth == 64
        return types.CPointer(numba_type(element)) if fits else None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    def twin(address: Any) -> Any:
        raise NotImplementedError("addresses mean nothing to Python")

    return Intrinsic(name, twin, typing, emit)


words_at, halves_at, bytes_at = _pointer("words_at", "i64"), _pointer("halves_at", "i32"), _pointer("bytes_at", "u8")


def _call_typing(*args: Any) -> Any:
    return numba_type("i64") if args and all(is_int(a) and plain(a).bitwidth == 64 for a in args) else None


def _emit_call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    kind = ir.FunctionType(ir.IntType(64), [a.type for a in args[1:]])
    return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])


@intrinsic(_call_typing, _emit_call)
def call_c(address: Any, *args: Any) -> Any:
    """Call a C function whose parameters are all integers or pointers.

    Narrower integers are passed in 64-bit registers or slots by every calling convention there is; of a narrower result the upper
    half is undefined.
    """
    return address(*args)


def _real_typing(*args: Any) -> Any:
    from numba import types

    fits = len(args) == 2 and is_int(args[0]) and plain(args[0]).bitwidth == 64 and isinstance(args[1], types.Float)
    return numba_type("i64") if fits else None


def _emit_real(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    from llvmlite import ir

    real = args[1] if isinstance(args[1].type, ir.DoubleType) else builder.fpext(args[1], ir.DoubleType())
    kind = ir.FunctionType(ir.IntType(64), [ir.DoubleType()])
    return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [real])


@intrinsic(_real_typing, _emit_real)
def call_real(address: Any, value: Any) -> Any:
    """Call a C function of one ``double`` that gives an integer or a pointer."""
    return address(value)
