"""Results too large for the caches: a second version of a kernel, whose stores go around them.

A processor reads a line of the cache before it writes to it, and of a result that no cache holds each line goes out again before anybody
looks at it. Stores that go around the caches save the reading, a third of what a copy moves. Kernels mark the loops of which this may be
true (`onnx_numba.native.loops.streams`), LLVM vectorises them, and only then is the optimised function written a second time:

    define i32 @kernel(ptr %ctx, ptr %bufs, ptr %dims, i64 %lo, i64 %hi) {
      %place = getelementptr i64, ptr %ctx, i64 6
      %word = load i64, ptr %place, align 8
      %cached = icmp eq i64 %word, 0
      br i1 %cached, label %cache, label %around
    cache:
      %a = tail call i32 @kernel.cached(ptr %ctx, ptr %bufs, ptr %dims, i64 %lo, i64 %hi)
      ret i32 %a
    around:
      %b = call i32 @kernel.around(ptr %ctx, ptr %bufs, ptr %dims, i64 %lo, i64 %hi)
      call void @llvm.x86.sse.sfence()
      ret i32 %b
    }

That costs no second optimisation, and short runs nothing: LLVM's own vectoriser wants to be promised, before there are vectors, that each
element is aligned as a vector has to be. Here every store looks for itself whether its place is, for it traps elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from onnx_numba.compile.llvm import target_machine
from onnx_numba.ir.plan import CTX_AROUND
from onnx_numba.native.loops import MARK
from onnx_numba.target import Target

_TAG = f'!{{!"{MARK[0]}", !"{MARK[1]}"}}'
_LINE = 64
_LEAST = 16
"""Bytes of the smallest store that can go around the caches."""
_BITS = {"i8": 8, "i16": 16, "half": 16, "bfloat": 16, "i32": 32, "float": 32, "i64": 64, "double": 64}
_FUNCTION = re.compile(r"^define [^@]*@([^(]+)\(.*?^}$", re.MULTILINE | re.DOTALL)
_STORE = re.compile(r"\s*store <(\d+) x (\w+)> (.+), ptr (%[^,]+), align (\d+)")
_METADATA = re.compile(r"^!(\d+) = ", re.MULTILINE)
_PARAMETERS = "ptr %ctx, ptr %bufs, ptr %dims, i64 %lo, i64 %hi"


def is_marked(text: str) -> bool:
    """Whether a module has marked stores."""
    return _TAG in text


def with_streaming(module: Any, symbol: str, target: Target) -> Any:
    """An optimised kernel with a second version that writes around the caches, where it has marked vector stores.

    Parameters
    ----------
    module : llvmlite.binding.ModuleRef
        Defines ``symbol``, a kernel, and functions that it alone calls.
    symbol : str
        The kernel.
    target : Target
        What it has been optimised for.

    Returns
    -------
    llvmlite.binding.ModuleRef
        The same module if there are no such stores.
    """
    text = str(module)
    number = re.search(rf"^!(\d+) = {re.escape(_TAG)}$", text, re.MULTILINE)
    if number is None:
        return module
    mark = f", !mmra !{number[1]}"
    functions = {found[1]: found[0] for found in _FUNCTION.finditer(text)}
    kinds: dict[tuple[_Kind, ...], str] = {}
    copies = [_renamed(_around(function, mark, kinds), functions, "around") for function in functions.values()]
    if not kinds:
        return module
    for function in functions.values():
        text = text.replace(function, _renamed(function, functions, "cached"))
    flag = f"!{1 + max(int(found[1]) for found in _METADATA.finditer(text))}"
    added = [*copies, *(_stores(name, kind, flag) for kind, name in kinds.items()), _chooser(symbol), f"{flag} = !{{i32 1}}"]
    return _inlined(re.sub(rf"{mark}\b", "", "\n".join([text, *added])), target)


_Kind = tuple[int, str, int]
"""Elements of a stored vector, their type, and the alignment that is known of its place."""


def _around(function: str, mark: str, kinds: dict[tuple[_Kind, ...], str]) -> str:
    """A function with calls in place of marked stores, one for all that follow one another; ``kinds`` learns what is called.

    With a decision for each of them, LLVM would compute each vector when it is stored, after the one before, and not side by side.
    """
    lines: list[str] = []
    waiting: list[re.Match[str]] = []
    for line in function.splitlines():
        found = _STORE.match(line) if re.search(rf"{mark}\b", line) else None
        if found and int(found[1]) * _BITS.get(found[2], 0) >= 8 * _LEAST:
            waiting.append(found)
            continue
        if waiting and " = getelementptr " not in line:
            kind = tuple((int(f[1]), f[2], int(f[5])) for f in waiting)
            name = kinds.setdefault(kind, f"streaming.stores.{len(kinds)}")
            arguments = ", ".join(f"<{f[1]} x {f[2]}> {f[3]}, ptr {f[4]}" for f in waiting)
            lines.append(f"  call void @{name}({arguments})")
            waiting = []
        lines.append(line)
    return "\n".join(lines)


def _renamed(function: str, names: Iterable[str], version: str) -> str:
    """A function, and the functions of its module that it calls, under the names of a version of theirs."""
    for name in names:
        function = function.replace(f"@{name}(", f"@{name}.{version}(")
    return re.sub(r"^define (internal )?", "define internal ", function)


def _stores(name: str, kinds: Sequence[_Kind], flag: str) -> str:
    """Stores around the caches where all places allow them; a vector longer than a line is several."""
    vectors = [f"<{lanes} x {element}>" for lanes, element, _ in kinds]
    whole = [min(_LINE, lanes * _BITS[element] // 8) for lanes, element, _ in kinds]
    count = range(len(kinds))
    parameters = ", ".join(f"{vectors[k]} %v{k}, ptr %p{k}" for k in count)
    tests = [f"  %a{k} = ptrtoint ptr %p{k} to i64\n  %b{k} = and i64 %a{k}, {whole[k] - 1}" for k in count]
    joined = [f"  %c{k} = or i64 {f'%c{k - 1}' if k else '0'}, %b{k}" for k in count]
    around = [f"  store {vectors[k]} %v{k}, ptr %p{k}, align {whole[k]}, !nontemporal {flag}" for k in count]
    cached = [f"  store {vectors[k]} %v{k}, ptr %p{k}, align {kinds[k][2]}" for k in count]
    return "\n".join([
        f"define internal void @{name}({parameters}) alwaysinline nounwind {{",
        *tests, *joined,
        f"  %fits = icmp eq i64 %c{count[-1]}, 0",
        "  br i1 %fits, label %around, label %cache",
        "around:", *around, "  ret void",
        "cache:", *cached, "  ret void",
        "}",
    ])  # fmt: skip


def _chooser(symbol: str) -> str:
    """The kernel itself, which asks the context."""
    return f"""
define i32 @{symbol}({_PARAMETERS}) nounwind {{
  %place = getelementptr i64, ptr %ctx, i64 {CTX_AROUND}
  %word = load i64, ptr %place, align 8
  %cached = icmp eq i64 %word, 0
  br i1 %cached, label %cache, label %around
cache:
  %a = tail call i32 @{symbol}.cached({_PARAMETERS})
  ret i32 %a
around:
  %b = call i32 @{symbol}.around({_PARAMETERS})
  call void @llvm.x86.sse.sfence()
  ret i32 %b
}}
declare void @llvm.x86.sse.sfence()"""


def _inlined(text: str, target: Target) -> Any:
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.run(module, llvm.create_pass_builder(target_machine(target), llvm.create_pipeline_tuning_options()))
    return module
