"""Relocatable objects: what they need, and loading them without numba.

LLVM trusts what it loads: a truncated object ends the process, an unresolved symbol becomes an address that crashes at the call,
and a name that several objects define is any of them. So symbol tables are read here first, in bounds-checked Python, and every
undefined symbol is bound from a table of ours. Whatever does not fit raises `ObjectError`, which callers treat as a miss.
"""

from __future__ import annotations

import ctypes
import functools
import re
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from onnx_numba.errors import CompileError
from onnx_numba.record import record
from onnx_numba.target import Target, host_target


class ObjectError(CompileError):
    """An object is damaged, or needs what no process of ours provides."""


# Symbol tables


@record
class Symbols:
    """The external symbols of one object, without the platform's prefix."""

    defined: frozenset[str]
    undefined: frozenset[str]


def read_symbols(data: bytes) -> Symbols:
    """Read the symbol table of an ELF, Mach-O or COFF object for a 64-bit little-endian machine."""
    defined: set[str] = set()
    undefined: set[str] = set()
    try:
        for name, is_defined in _READERS[platform_of(data)[0]](data):
            (defined if is_defined else undefined).add(name)
    except (struct.error, IndexError, ValueError) as error:
        raise ObjectError(f"damaged object: {error}") from None
    return Symbols(frozenset(defined), frozenset(undefined))


def undefined_symbols(data: bytes) -> frozenset[str]:
    """Names that an object expects from elsewhere."""
    return read_symbols(data).undefined


def platform_of(data: bytes) -> tuple[str, str]:
    """System and architecture that an object is for, as `Target` names them."""
    for system, magic, position, architectures in _KINDS:
        arch = architectures.get(data[position : position + 2])
        if data.startswith(magic) and arch is not None:
            return system, arch
    raise ObjectError("not an object file of a known kind")


_KINDS: list[tuple[str, bytes, int, dict[bytes, str]]] = [
    ("linux", b"\x7fELF\x02\x01", 18, {b"\x3e\0": "x86_64", b"\xb7\0": "aarch64"}),
    ("macos", b"\xcf\xfa\xed\xfe", 4, {b"\x07\0": "x86_64", b"\x0c\0": "aarch64"}),
    ("windows", b"", 0, {b"\x64\x86": "x86_64", b"\x64\xaa": "aarch64"}),
]


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()


def _read_elf(data: bytes) -> Iterator[tuple[str, bool]]:
    (table,) = struct.unpack_from("<Q", data, 40)
    entry_size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * entry_size) for i in range(count)]
    for _, kind, _, _, offset, size, link, _, _, entry in sections:
        if offset + size > len(data) and kind != 8:  # 8: zero-filled, takes no room
            raise ObjectError("damaged object: a section lies outside the file")
        if kind != 2:  # the symbol table
            continue
        names = sections[link][4]
        for position in range(offset + entry, offset + size, entry):
            name, info, _, section, _, _ = struct.unpack_from("<IBBHQQ", data, position)
            if info >> 4:  # not local
                yield _text(data, names + name), section != 0


def _read_macho(data: bytes) -> Iterator[tuple[str, bool]]:
    (commands,) = struct.unpack_from("<I", data, 16)
    position = 32
    for _ in range(commands):
        command, size = struct.unpack_from("<II", data, position)
        if command == 2:  # LC_SYMTAB
            symbols, count, names, names_size = struct.unpack_from("<IIII", data, position + 8)
            if names + names_size > len(data):
                raise ObjectError("damaged object: names lie outside the file")
            for i in range(count):
                name, kind, _, _, _ = struct.unpack_from("<IBBHQ", data, symbols + 16 * i)
                if kind & 1 and not kind & 0xE0:  # external, not for a debugger
                    yield _text(data, names + name).removeprefix("_"), kind & 0x0E != 0
        position += size


def _read_coff(data: bytes) -> Iterator[tuple[str, bool]]:
    _, _, _, symbols, count = struct.unpack_from("<HHIII", data, 0)
    names = symbols + 18 * count
    (names_size,) = struct.unpack_from("<I", data, names)
    if names + names_size > len(data):
        raise ObjectError("damaged object: names lie outside the file")
    i = 0
    while i < count:
        short, _, section, _, storage, extra = struct.unpack_from("<8sIhHBB", data, symbols + 18 * i)
        if storage == 2:  # external
            zeroes, offset = struct.unpack("<II", short)
            yield short.rstrip(b"\0").decode() if zeroes else _text(data, names + offset), section != 0
        i += 1 + extra


_READERS = {"linux": _read_elf, "macos": _read_macho, "windows": _read_coff}


# What objects may need

_LIBM = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "copysign", "cos", "cosh", "erf", "erfc", "exp",
    "exp2", "expm1", "fabs", "floor", "fma", "fmax", "fmin", "fmod", "frexp", "ldexp", "log", "log10", "log1p", "log2",
    "nearbyint", "pow", "rint", "round", "roundeven", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
]  # fmt: skip
_COMMON = frozenset([*_LIBM, *(f"{name}f" for name in _LIBM), "memcpy", "memmove", "memset", "memcmp"])
_APPLE = ["bzero", "__bzero", "memset_pattern4", "memset_pattern8", "memset_pattern16", "__sincos_stret", "__sincosf_stret"]
ALLOWED: dict[str, frozenset[str]] = {
    "linux": _COMMON | {"sincos", "sincosf"},
    "macos": _COMMON.union(_APPLE),
    "windows": _COMMON | {"__chkstk", "_fltused"},
}
"""Names that an object may leave undefined, by system: the C library's, never a compiler's run-time library."""


_CONSTANT = re.compile(r"__(real|[xyz]mm)@[0-9a-f]+$")
"""Floating-point constants of Windows objects: named by content, so that it does not matter which of several is taken."""


def check_symbols(data: bytes, target: Target, symbol: str) -> None:
    """Raise `ObjectError` unless the object fits the platform, defines ``symbol`` alone and needs only what is allowed."""
    found = read_symbols(data)
    if platform_of(data) != (target.system, target.arch):
        raise ObjectError(f"object of {symbol} is for {' '.join(platform_of(data))}")
    defined = {name for name in found.defined if not _CONSTANT.match(name)}
    if defined != {symbol}:
        raise ObjectError(f"object defines {sorted(defined)}, expected {symbol}")
    foreign = found.undefined - ALLOWED[target.system]
    if foreign:
        raise ObjectError(f"object of {symbol} needs {', '.join(sorted(foreign))}")


@functools.cache
def _libraries() -> tuple[Any, ...]:
    if sys.platform == "win32":
        return tuple(ctypes.CDLL(name) for name in ("ucrtbase", "vcruntime140", "ntdll"))
    names = (None, "libm.so.6") if sys.platform.startswith("linux") else (None,)
    return tuple(ctypes.CDLL(name) for name in names)


_FLOATS_USED = ctypes.c_int(0x9875)
"""What ``_fltused`` refers to: a mark that Windows objects with floating-point code carry, never read."""


@functools.cache
def address_of(name: str) -> int:
    """The address of an allowed symbol in this process."""
    if name not in ALLOWED[host_target().system]:
        raise ObjectError(f"{name} is not among the symbols that objects may need")
    if name == "_fltused":
        return ctypes.addressof(_FLOATS_USED)
    for library in _libraries():
        found = getattr(library, name, None)
        if found is not None:
            return ctypes.cast(found, ctypes.c_void_p).value or 0
    raise ObjectError(f"this system has no {name}")


# Loading


class Library:
    """Machine code of this process: objects in one engine, found by symbol.

    Addresses are valid as long as the library lives. Needs LLVM, not numba.

    Parameters
    ----------
    objects : mapping
        Object by the symbol it defines. The bytes must come from the compiler or from `onnx_numba.compile.store`, which has
        checked their digest.
    """

    def __init__(self, objects: Mapping[str, bytes] | None = None) -> None:
        import llvmlite.binding as llvm

        from onnx_numba.compile.llvm import loader

        self._llvm = llvm
        self._engine = loader()
        self._lock = threading.Lock()
        self._bound: set[str] = set()
        self._loaded: set[str] = set()
        if objects:
            self.add(objects)

    def add(self, objects: Mapping[str, bytes]) -> None:
        """Load more objects, except those whose symbol is there already: either all or, with `ObjectError`, none."""
        with self._lock:
            fresh = {symbol: data for symbol, data in objects.items() if symbol not in self._loaded}
            needed: set[str] = set()
            for symbol, data in fresh.items():
                check_symbols(data, host_target(), symbol)
                needed |= undefined_symbols(data)
            self._bind({name: address_of(name) for name in sorted(needed - self._bound)})
            for symbol, data in fresh.items():
                self._engine.add_object_file(self._llvm.ObjectFileRef.from_data(bytes(data)))
                self._loaded.add(symbol)
            if fresh:
                self._engine.finalize_object()

    def _bind(self, addresses: Mapping[str, int]) -> None:
        if not addresses:
            return
        module = self._llvm.parse_assembly("\n".join(f'declare void @"{name}"()' for name in addresses))
        self._engine.add_module(module)
        for name, address in addresses.items():
            self._engine.add_global_mapping(module.get_function(name), address)
        self._bound.update(addresses)

    def address(self, symbol: str) -> int:
        """The address of a loaded symbol."""
        if symbol not in self._loaded:
            raise KeyError(symbol)
        return self._engine.get_function_address(symbol)

    def __contains__(self, symbol: object) -> bool:
        """Whether a symbol is loaded."""
        return symbol in self._loaded
