"""Reading symbol tables, and loading what they allow."""

from __future__ import annotations

import ctypes
import gc
import threading

import pytest
from llvmlite import binding

from onnx_numba.compile import llvm
from onnx_numba.compile.objects import ALLOWED, Library, ObjectError, address_of, check_symbols, platform_of, read_symbols
from onnx_numba.errors import CompileError
from onnx_numba.target import TARGETS, Target, host_target

CALLS = """
declare double @pow(double, double)
declare void @stranger()
@table = internal constant [2 x i64] [i64 3, i64 4]
define internal double @hidden(double %x) noinline {{
  %r = call double @pow(double %x, double 3.0)
  ret double %r
}}
define double @{symbol}(double %x) {{
  %r = call double @hidden(double %x)
  ret double %r
}}
"""
STRANGER = "declare i32 @stranger()\ndefine i32 @k() {\n %r = call i32 @stranger()\n ret i32 %r\n}\n"
CONSTANT = "define i32 @{symbol}() {{\n ret i32 {value}\n}}\n"


def emit(text: str, target: Target | None = None) -> bytes:
    return llvm.emit(binding.parse_assembly(text), target or host_target())


def constant(symbol: str, value: int, target: Target | None = None) -> bytes:
    return emit(CONSTANT.format(symbol=symbol, value=value), target)


def call(library: Library, symbol: str) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int)(library.address(symbol))()


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_symbols_of_every_kind_of_object(target):
    data = emit(CALLS.format(symbol="a_rather_long_name_for_a_symbol"), target)
    found = read_symbols(data)
    assert found.defined - {"__real@4008000000000000"} == {"a_rather_long_name_for_a_symbol"}
    assert found.undefined - {"_fltused"} == {"pow"}
    assert platform_of(data) == (target.system, target.arch)
    check_symbols(data, target, "a_rather_long_name_for_a_symbol")


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_strangers_are_refused(target):
    with pytest.raises(ObjectError, match="stranger"):
        check_symbols(emit(STRANGER, target), target, "k")


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_truncated_objects_are_errors_or_read_the_same(target):
    data = emit(CALLS.format(symbol="k"), target)
    whole = read_symbols(data)
    for length in range(len(data)):
        try:
            found = read_symbols(data[:length])
        except ObjectError:
            continue
        assert found.undefined <= whole.undefined


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF", b"MZ", bytes(1000), b"\x7fELF\x02\x01" + bytes(1000), b"\x64\x86" + b"\xff" * 100]
)
def test_garbage_is_an_error(data):
    with pytest.raises(ObjectError):
        read_symbols(data)
    with pytest.raises(CompileError):
        Library({"k": data})


def test_half_conversion_calls_are_not_allowed():
    half = "define float @k(half %x) {\n %r = fpext half %x to float\n ret float %r\n}\n"
    target = TARGETS["x86-64"]
    with pytest.raises(ObjectError, match="hf"):
        check_symbols(emit(half, target), target, "k")


def test_everything_allowed_here_has_an_address():
    missing = set()
    for name in ALLOWED[host_target().system]:
        try:
            assert address_of(name)
        except ObjectError:
            missing.add(name)
    assert missing <= {"roundeven", "roundevenf"}  # C23, not in every C library yet
    with pytest.raises(ObjectError):
        address_of("system")


def test_undefined_symbols_are_bound():
    library = Library({"one": emit(CALLS.format(symbol="one"))})
    library.add({"two": emit(CALLS.format(symbol="two"))})
    for symbol in ("one", "two"):
        assert ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(library.address(symbol))(2.0) == 8.0


def test_a_library_grows():
    library = Library()
    for i in range(20):
        library.add({f"f{i}": constant(f"f{i}", i)})
        assert call(library, f"f{i}") == i
    library.add({"f3": constant("f3", 99)})  # equal symbols are equal code: what is there stays
    assert [call(library, f"f{i}") for i in range(20)] == list(range(20))
    assert "f3" in library
    assert "g" not in library
    with pytest.raises(KeyError):
        library.address("g")


def test_all_or_nothing():
    library = Library()
    with pytest.raises(ObjectError):
        library.add({"good": constant("good", 1), "k": emit(STRANGER)})
    assert "good" not in library
    library.add({"good": constant("good", 1)})
    assert call(library, "good") == 1


def test_the_symbol_must_be_the_expected_one():
    with pytest.raises(ObjectError, match="expected k"):
        Library({"k": constant("other", 1)})


def test_equal_symbols_of_two_libraries_are_two():
    one, two = Library({"k": constant("k", 1)}), Library({"k": constant("k", 2)})
    assert (call(one, "k"), call(two, "k")) == (1, 2)


def test_code_stays_while_its_library_does():
    library = Library({"k": constant("k", 5)})
    address = library.address("k")
    for i in range(10):
        Library({"k": constant("k", i)})
    gc.collect()
    assert ctypes.CFUNCTYPE(ctypes.c_int)(address)() == 5
    assert "k" in library


def test_threads_add_at_the_same_time():
    library = Library()
    objects = [{f"f{i}": constant(f"f{i}", i)} for i in range(16)]
    threads = [threading.Thread(target=library.add, args=(each,)) for each in objects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [call(library, f"f{i}") for i in range(16)] == list(range(16))


def test_loading_does_not_make_symbols_public():
    library = Library({"one": emit(CALLS.format(symbol="one"))})
    assert "one" in library
    assert binding.address_of_symbol("one") is None
