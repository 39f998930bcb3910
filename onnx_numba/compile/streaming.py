"""Results too large for the caches: stores of a kernel that go around them when the runner says so.

A processor reads a line of the cache before it writes to it, and of a result that no cache holds each line goes out again before anybody
looks at it. Stores that go around the caches save the reading, a third of what a copy moves. Kernels mark the loops of which this may be
true (`onnx_numba.native.loops.streams`), LLVM vectorises them, and only then do stores that follow one another become a choice:

    %a0 = ptrtoint ptr %p0 to i64
    %b0 = and i64 %a0, 63
    %c0 = or i64 %streaming.off, %b0                      ; which the context has said at the beginning
    %fits = icmp eq i64 %c0, 0
    br i1 %fits, label %around, label %cache
    around:
      store <16 x float> %v0, ptr %p0, align 64, !nontemporal !4
    cache:
      store <16 x float> %v0, ptr %p0, align 4

LLVM's own vectoriser wants to be promised, before there are vectors, that each element is aligned as a vector has to be. Here the place
decides, for such a store traps where it does not fit. A second version of the whole kernel would save short runs the choice, which takes
them a hundredth of their time or none, but takes LLVM as long again as the first (17 to 33 ms, not 5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
_STORE = re.compile(r"\s*store <(\d+) x (\w+)> (.+), ptr (%[^,]+), align (\d+)")
_METADATA = re.compile(r"^!(\d+) = ", re.MULTILINE)
_OFF = "%streaming.off"
_ASK = f"""
  %streaming.place = getelementptr i64, ptr {{ctx}}, i64 {CTX_AROUND}
  %streaming.word = load i64, ptr %streaming.place, align 8
  {_OFF} = xor i64 %streaming.word, 1"""
_END = """
define internal void @streaming.end(i64 %off) alwaysinline nounwind {
  %on = icmp eq i64 %off, 0
  br i1 %on, label %fence, label %leave
fence:
  call void @llvm.x86.sse.sfence()
  br label %leave
leave:
  ret void
}"""
_FENCE = "declare void @llvm.x86.sse.sfence()"
_Kind = tuple[int, str, int]
"""Elements of a stored vector, their type, and the alignment that is known of its place."""


def is_marked(text: str) -> bool:
    """Whether a module has marked stores."""
    return _TAG in text


def with_streaming(module: Any, symbol: str, target: Target) -> Any:
    """An optimised kernel whose marked vector stores go around the caches if the context says so.

    Parameters
    ----------
    module : llvmlite.binding.ModuleRef
        Defines ``symbol``, a kernel.
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
    # Its first block has no label: it is that of `onnx_numba.compile.llvm.wrapper_text`.
    kernel = re.search(rf"^define [^@]*@{symbol}\([^%]*(%[^,]+),.*?^}}$", text, re.MULTILINE | re.DOTALL)
    assert kernel is not None, f"{symbol} is not defined as expected"
    mark = f", !mmra !{number[1]}"
    kinds: dict[tuple[_Kind, ...], str] = {}
    body = _with_choices(kernel[0], mark, kinds)
    if not kinds:
        return module
    head, rest = body.split("\n", 1)
    head = head.replace("readnone ", "")  # the context is read now
    rest = re.sub(r"^  ret ", f"  call void @streaming.end(i64 {_OFF})\n  ret ", rest, flags=re.MULTILINE)
    text = text.replace(kernel[0], "\n".join([head, _ASK.format(ctx=kernel[1]), rest]))
    flag = f"!{1 + max(int(found[1]) for found in _METADATA.finditer(text))}"
    added = [*(_stores(name, kind, flag) for kind, name in kinds.items()), _END, f"{flag} = !{{i32 1}}"]
    if _FENCE not in text:  # of `onnx_numba.native.around.settle`
        added.append(_FENCE)
    return _inlined(re.sub(rf"{mark}\b", "", "\n".join([text, *added])), target)


def _with_choices(function: str, mark: str, kinds: dict[tuple[_Kind, ...], str]) -> str:
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
            arguments = ", ".join([f"i64 {_OFF}"] + [f"<{f[1]} x {f[2]}> {f[3]}, ptr {f[4]}" for f in waiting])
            lines.append(f"  call void @{name}({arguments})")
            waiting = []
        lines.append(line)
    return "\n".join(lines)


def _stores(name: str, kinds: Sequence[_Kind], flag: str) -> str:
    """Stores around the caches where all places allow them; a vector longer than a line is several."""
    vectors = [f"<{lanes} x {element}>" for lanes, element, _ in kinds]
    whole = [min(_LINE, lanes * _BITS[element] // 8) for lanes, element, _ in kinds]
    count = range(len(kinds))
    parameters = ", ".join(f"{vectors[k]} %v{k}, ptr %p{k}" for k in count)
    tests = [f"  %a{k} = ptrtoint ptr %p{k} to i64\n  %b{k} = and i64 %a{k}, {whole[k] - 1}" for k in count]
    joined = [f"  %c{k} = or i64 {f'%c{k - 1}' if k else '%off'}, %b{k}" for k in count]
    around = [f"  store {vectors[k]} %v{k}, ptr %p{k}, align {whole[k]}, !nontemporal {flag}" for k in count]
    cached = [f"  store {vectors[k]} %v{k}, ptr %p{k}, align {kinds[k][2]}" for k in count]
    return "\n".join([
        f"define internal void @{name}(i64 %off, {parameters}) alwaysinline nounwind {{",
        *tests, *joined,
        f"  %fits = icmp eq i64 %c{count[-1]}, 0",
        "  br i1 %fits, label %around, label %cache",
        "around:", *around, "  ret void",
        "cache:", *cached, "  ret void",
        "}",
    ])  # fmt: skip


def _inlined(text: str, target: Target) -> Any:
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.run(module, llvm.create_pass_builder(target_machine(target), llvm.create_pipeline_tuning_options()))
    return module
