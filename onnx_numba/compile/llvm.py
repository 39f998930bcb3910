"""LLVM as this package uses it: target machines, the clean-up and optimisation of one kernel's module, object emission.

Nothing here needs numba. A module comes in as numba left it, unoptimised, and is optimised once, for our own target.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from onnx_numba.target import Target

KERNEL_SIGNATURE = "int32(int64*, void**, int64*, int64, int64)"
"""The kernel ABI: context, buffers, dims, and the range of work."""

_SIGNATURE = re.compile(r"\s*(\w+)\s*\((.*)\)\s*$")
_LLVM_TYPES = {
    "void": "void", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint8": "i8", "uint32": "i32", "uint64": "i64",
    "float32": "float", "float64": "double",
}  # fmt: skip


def parse_signature(text: str) -> tuple[str, tuple[str, ...]]:
    """Split ``"int32(int64*, void**)"`` into result and argument type names."""
    match = _SIGNATURE.match(text)
    if match is None:
        raise ValueError(f"not a signature: {text!r}")
    result, arguments = match.groups()
    return result, tuple(re.sub(r"\s", "", name) for name in arguments.split(",") if name.strip())


def _llvm_type(name: str) -> str:
    return "i8*" if name.endswith("*") else _LLVM_TYPES[name]


@functools.cache
def _initialise() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@functools.cache
def _initialise_native() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@functools.cache
def target_machine(target: Target) -> Any:
    """The LLVM target machine for ``target``: code to be loaded anywhere in memory, hence without assumptions on distances.

    LLVM vectorises for 256 bits on Intel's processors with AVX-512, to spare the clock of the first of them. On Sapphire Rapids loops of
    exp and tanh take three quarters of the time with 512.
    """
    import llvmlite.binding as llvm

    _initialise()
    wide = ",-prefer-256-bit" if target.lanes == 16 else ""
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features + wide, opt=3, reloc="default", codemodel="jitdefault", jit=True
    )


def native_machine() -> Any:
    """A fresh machine for loading objects into this process."""
    import llvmlite.binding as llvm

    _initialise_native()
    return llvm.Target.from_default_triple().create_target_machine(opt=3, jit=True)


def wrapper_text(symbol: str, inner: str, signature: str) -> str:
    """LLVM text of the function with a clean C signature around ``inner``, which returns its value through a pointer."""
    result, arguments = parse_signature(signature)
    kinds = [_llvm_type(name) for name in arguments]
    parameters = ", ".join(f"{kind} %a{i}" for i, kind in enumerate(kinds))
    slot = "i8*" if result == "void" else _LLVM_TYPES[result]
    values = ", ".join([f"{slot}* %slot", *(f"{kind} %a{i}" for i, kind in enumerate(kinds))])
    leave = "ret void" if result == "void" else f"%r = load {slot}, {slot}* %slot\n  ret {slot} %r"
    return (
        f'define {_LLVM_TYPES[result]} @"{symbol}"({parameters}) nounwind {{\n'
        f"  %slot = alloca {slot}\n"
        f'  %s = call i32 @"{inner}"({values}) alwaysinline\n'
        f"  {leave}\n}}\n"
    )


def isolate(module: Any, symbol: str) -> None:
    """Make ``symbol`` the only visible definition and name the rest by position, so that no name depends on the process."""
    for position, value in enumerate([*module.functions, *module.global_variables]):
        if value.is_declaration or value.name == symbol:
            continue
        value.linkage = "internal"
        value.name = f"local.{position}"


def optimise(module: Any, target: Target) -> None:
    """Run LLVM's full pipeline for the target, once."""
    import llvmlite.binding as llvm

    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = options.loop_unrolling = True
    builder = llvm.create_pass_builder(target_machine(target), options)
    builder.getModulePassManager().run(module, builder)


def emit(module: Any, target: Target) -> bytes:
    """The relocatable object of a module."""
    return target_machine(target).emit_object(module)
