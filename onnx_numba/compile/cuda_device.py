"""Records of `onnx_numba.native` as what ``numba.cuda`` can call; the one file that touches its internals.

An `Intrinsic` becomes an intrinsic with the same emitter, a `Function` a device function of the same Python code with the records
among its globals translated too, an `Overloaded` a choice between two device functions. Where an emitter uses what NVVM's old
LLVM has not, there is another one here.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

import numpy as np
from numba import from_dtype
from numba.core import types as numba_types
from numba.core.typing import signature
from numba.cuda import get_current_device
from numba.cuda.compiler import compile_cuda
from numba.cuda.core.targetconfig import ConfigStack
from numba.cuda.dispatcher import CUDADispatcher
from numba.cuda.extending import intrinsic
from numba.cuda.np.arrayobj import make_array, populate_array

from onnx_numba.native.emit import call, index_value, is_float, is_int, is_signed, plain
from onnx_numba.native.registry import Function, Intrinsic, Overloaded, Preferred, Record
from onnx_numba.native.scalar import cast_value, saturating

types: Any = numba_types
Types = tuple[Any, ...]


class DeviceFunction(CUDADispatcher):
    """A device function that is compiled for the same compute capability as its caller, so that no GPU is needed for PTX."""

    def __init__(self, python: FunctionType) -> None:
        super().__init__(python, targetoptions={"device": True, "opt": True})

    def compile_device(self, args: Types, return_type: Any = None) -> Any:
        """Compile for argument types, unless that has been done."""
        if args not in self.overloads:
            caller = ConfigStack().top_or_none()
            capability = caller.compute_capability if caller is not None else get_current_device().compute_capability
            with self._compiling_counter:
                made = compile_cuda(self.py_func, return_type, args, nvvm_options={"opt": 3, "fastmath": False}, cc=capability)
            self.overloads[args] = made
            made.target_context.insert_user_function(made.entry_point, made.fndesc, [made.library])
        return self.overloads[args]


class _Choice(DeviceFunction):
    """A device function chosen by the types of the arguments."""

    def __init__(self, name: str, choose: Callable[..., DeviceFunction | None]) -> None:
        super().__init__(_named(name))
        self._choose = choose

    def _chosen(self, args: Types) -> DeviceFunction:
        chosen = self._choose(*map(plain, args))
        if chosen is None:
            raise TypeError(f"{self.py_func.__name__} does not take ({', '.join(map(str, args))})")
        return chosen

    def get_call_template(self, args: Types, kws: Any) -> Any:
        """Typing of a call, as the chosen function has it."""
        return self._chosen(args).get_call_template(args, kws)

    def get_overload(self, sig: Any) -> Any:
        """The chosen function's code for a signature."""
        return self._chosen(sig if isinstance(sig, tuple) else sig.args).get_overload(sig)


def _named(name: str) -> Any:
    def chosen() -> None:
        """Stand in for the functions to choose from."""

    chosen.__name__ = chosen.__qualname__ = name
    return chosen


@functools.cache
def translate(record: Record) -> Any:
    """A record as something that kernels of ``numba.cuda`` can call; the same thing for the same record."""
    if isinstance(record, Overloaded):
        variants = {name: translate(variant) for name, variant in record.variants.items()}
        by_type = {types.float32: variants["f32"], types.float64: variants["f64"]}
        return _Choice(record.name, lambda first, *_: by_type.get(first))
    if isinstance(record, Preferred):
        return translate(record.portable)
    if isinstance(record, Function):
        return DeviceFunction(_rebound(record.python))
    if record.name in _OWN:
        return _OWN[record.name](record)
    return _intrinsic(record, _EMITTERS.get(record.name, record.emit))


def _rebound(python: FunctionType) -> FunctionType:
    """The same code over translated records, both in globals and in what it closes over."""
    names = {name: _translated(python.__globals__[name]) for name in python.__code__.co_names if name in python.__globals__}
    cells = tuple(CellType(_translated(cell.cell_contents)) for cell in python.__closure__ or ())
    return FunctionType(python.__code__, {"__name__": python.__module__, **names}, python.__name__, python.__defaults__, cells)


def _translated(value: Any) -> Any:
    return translate(value) if isinstance(value, Record) else value


def _intrinsic(record: Intrinsic, emit: Any) -> Any:
    def typed(*args: Any) -> Any:
        result = record.typing(*args)
        return None if result is None else (signature(result, *args), emit)

    # numba takes no *args for the number of arguments that a call has.
    by_count: dict[int, Any] = {
        0: lambda context: typed(),
        1: lambda context, a: typed(a),
        2: lambda context, a, b: typed(a, b),
        3: lambda context, a, b, c: typed(a, b, c),
    }
    definition = by_count[len(inspect.signature(record.twin).parameters)]
    definition.__name__ = record.name
    return intrinsic(definition)


def view(element: Any, scale: int) -> Any:
    """``f(array, offset)``: what lies in an array from ``offset * scale`` bytes on, as an array of another element type."""
    kind = types.Array(from_dtype(np.dtype(element)), 1, "C")
    size = np.dtype(element).itemsize

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir

        i64, i8 = ir.IntType(64), ir.IntType(8)
        source = make_array(signature.args[0])(context, builder, args[0])
        offset = builder.mul(index_value(builder, args[1], signature.args[1]), i64(scale))
        place = builder.gep(builder.bitcast(source.data, i8.as_pointer()), [offset])
        data = builder.bitcast(place, context.get_data_type(kind.dtype).as_pointer())
        count = builder.sdiv(builder.sub(builder.mul(source.nitems, source.itemsize), offset), i64(size))
        made = make_array(kind)(context, builder)
        populate_array(made, data, [count], [i64(size)], i64(size), source.meminfo, source.parent)
        return made._getvalue()

    @intrinsic
    def viewed(context: Any, array: Any, offset: Any) -> Any:
        return signature(kind, array, offset), emit

    return viewed


# ---- what NVVM has not: saturating conversions, IEEE minimum and maximum, integer minimum, maximum and magnitude


def _emit_cast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    source, target = plain(signature.args[0]), signature.return_type
    if is_float(source) and is_int(target):
        return saturating(builder, args[0], is_signed(target), context.get_value_type(target))
    return cast_value(context, builder, args[0], source, target)


def _emit_extreme(greatest: bool) -> Any:
    sign = ">" if greatest else "<"

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b = args
        if not is_float(signature.return_type):
            compare = builder.icmp_signed if is_signed(signature.return_type) else builder.icmp_unsigned
            return builder.select(compare(sign, a, b), a, b)
        from llvmlite import ir

        whole = ir.IntType(32 if str(a.type) == "float" else 64)
        x, y = builder.bitcast(a, whole), builder.bitcast(b, whole)
        # Equal floats differ in the sign of zero at most: the bits of both hold it if either has it.
        zero = builder.bitcast(builder.and_(x, y) if greatest else builder.or_(x, y), a.type)
        one = builder.select(builder.fcmp_ordered(sign, a, b), a, b)
        either = builder.select(builder.fcmp_ordered("==", a, b), zero, one)
        return builder.select(builder.fcmp_unordered("uno", a, b), builder.fadd(a, b), either)

    return emit


def _libdevice(name: str) -> Any:
    """Emitter of a function of NVIDIA's mathematical library, whose float32 forms end in f."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        return call(builder, f"__nv_{name}{'f' if str(kind) == 'float' else ''}", kind, list(args))

    return emit


def _emit_abs(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    (x,) = args
    if is_float(signature.return_type):
        return _libdevice("fabs")(context, builder, signature, args)
    if not is_signed(signature.return_type):
        return x
    return builder.select(builder.icmp_signed("<", x, x.type(0)), builder.neg(x), x)


def _emit_neg(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    (x,) = args
    return builder.fsub(x.type(-0.0), x) if is_float(signature.return_type) else builder.neg(x)


def _emit_isinf(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    (x,) = args
    high, low = (builder.fcmp_ordered("==", x, x.type(limit)) for limit in (math.inf, -math.inf))
    return builder.or_(high, low)


_INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
_EMITTERS: dict[str, Any] = {
    **dict.fromkeys((*_INTEGERS, "cast_like"), _emit_cast),
    "max_": _emit_extreme(True), "min_": _emit_extreme(False), "acc_max": _emit_extreme(True), "acc_min": _emit_extreme(False),
    "abs_": _emit_abs, "neg": _emit_neg, "isinf_": _emit_isinf,
    "rint": _libdevice("rint"), "fmod_": _libdevice("fmod"),
}  # fmt: skip


def _constants(record: Intrinsic) -> DeviceFunction:
    """A table, whose twin reads an array that becomes constant memory."""
    return DeviceFunction(record.twin)  # type: ignore[arg-type]


_OWN: dict[str, Callable[[Intrinsic], Any]] = {"two_over_pi": _constants}
