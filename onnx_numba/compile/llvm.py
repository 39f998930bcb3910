"""LLVM as this package uses it: target machines, the clean-up and optimisation of one kernel's module, object emission.

Nothing here needs numba. A module comes in as numba left it, unoptimised, and is optimised once, for our own target.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from onnx_numba.target import Target, host_target

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
    """The LLVM target machine for ``target``.

    Code may be loaded anywhere in memory. Where `keeps_together` says that an object's constants stay close to its code, an instruction
    reads them relative to itself; elsewhere each has a 64-bit address that is loaded first, in loops time and again.

    LLVM vectorises for 256 bits on Intel's processors with AVX-512, to spare the clock of the first of them. On Sapphire Rapids loops of
    exp and tanh take three quarters of the time with 512.
    """
    import llvmlite.binding as llvm

    _initialise()
    wide = ",-prefer-256-bit" if target.lanes == 16 else ""
    loads = ",+prefer-no-gather" if target.zen else ""
    reloc, model = ("pic", "small") if keeps_together(target) else ("default", "jitdefault")
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features + wide + loads, opt=3, reloc=reloc, codemodel=model, jit=True
    )


def keeps_together(target: Target) -> bool:
    """Whether an object is loaded as one block of memory, and code for the target relies on that; see `loader`."""
    return target.arch == "x86_64" and target.system == "linux"


def loader() -> Any:
    """A fresh engine that loads objects into this process.

    llvmlite's own memory manager reserves one block for all sections of an object; LLVM's places them where it finds room.
    """
    import llvmlite.binding as llvm

    _initialise_native()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=3, jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine, use_lmm=keeps_together(host_target()) or None)


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


def _call_by_table(module: Any) -> None:
    """Have functions from elsewhere called through the object's table of addresses: the block has room for that, not for stubs."""
    import llvmlite.binding as llvm

    for function in module.functions:
        if function.is_declaration and not function.name.startswith("llvm."):
            function.add_function_attribute("nonlazybind")
    flag = '!llvm.module.flags = !{!0}\n!0 = !{i32 7, !"RtLibUseGOT", i32 1}'  # for those that LLVM calls of its own accord
    module.link_in(llvm.parse_assembly(flag))


def emit(module: Any, target: Target) -> bytes:
    """The relocatable object of a module."""
    if keeps_together(target):
        _call_by_table(module)
    return target_machine(target).emit_object(module)
