"""What is too large for the caches: stores of a kernel that go around them when the runner says so, and loads that are asked for ahead.

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

A loop that computes has a dozen vectors in the making, too few to hide a memory, and Intel's processors read ahead to the end of a page
only. So marked vector loads (`onnx_numba.native.loops.fetches`) ask for what lies a page further on, even where nothing does:

    %v0 = load <16 x float>, ptr %p0, align 4
    %ahead0 = getelementptr i8, ptr %p0, i64 4096
    call void @llvm.prefetch.p0(ptr %ahead0, i32 0, i32 3, i32 1)

With 100 MB a sigmoid takes 7.3 ms instead of 12.0 on an Emerald Rapids, a copy as long as before; with 1 MB neither gains nor loses. LLVM
vectorises no loop in which something is asked for, so that this too has to wait until there are vectors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from onnx_numba.compile.llvm import target_machine
from onnx_numba.ir.plan import CTX_AROUND
from onnx_numba.native.loops import DOMAIN, FETCHED, STREAMED
from onnx_numba.target import Target

_LINE = 64
_AHEAD = 4096
"""Bytes that a loop is ahead of itself. 2 to 8 KiB are the same on an Emerald Rapids, where a sigmoid passes a line in 4 ns."""
_PARTS = (16, 32)
"""Bytes of stores of less than a line that can go around the caches."""
_BITS = {"i8": 8, "i16": 16, "half": 16, "bfloat": 16, "i32": 32, "float": 32, "i64": 64, "double": 64}
_HALVES = {"half", "bfloat"}
"""Stores of vectors of these LLVM 22 has go into the caches, whatever they are told; so it must not see that the bits are such vectors,
none of which may then be longer than a register."""
_STORE = re.compile(r"\s*store <(\d+) x (\w+)> (.+), ptr (%[^,]+), align (\d+)")
_LOAD = re.compile(r"\s*%\S+ = load <(\d+) x (\w+)>, ptr (%[^,]+), align \d+")
_JUMP = re.compile(r"  (br|ret|switch|indirectbr|unreachable)\b")
_FURTHER = re.compile(r"\s*(%\S+) = getelementptr (?:inbounds )?(?:nuw )?i8, ptr (%[^,]+), i64 (\d+)$")
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
_PREFETCH = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
_Kind = tuple[int, str, int]
"""Elements of a stored vector, their type, and the alignment that is known of its place."""


def is_marked(text: str) -> bool:
    """Whether a module has marked loads or stores."""
    return f'!{{!"{DOMAIN}"}}' in text


def with_streaming(module: Any, symbol: str, target: Target) -> Any:
    """An optimised kernel whose marked vector loads ask for more, and whose marked vector stores go around the caches where they should.

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
        The same module if there are none.
    """
    import llvmlite.binding as llvm

    before = str(module)
    text = _fetching(before)
    streaming = _streaming(text, symbol, 4 * target.lanes)
    if streaming is not None:
        return _inlined(streaming, target)
    return module if text == before else llvm.parse_assembly(text)


def _mark_of(text: str, name: str) -> re.Pattern[str] | None:
    """What instructions carry that are in a scope of ours, alone or with scopes that LLVM has found; None if none are."""
    scope = re.search(rf'^!(\d+) = !{{!"{name}", !\d+}}$', text, re.MULTILINE)
    if scope is None:
        return None
    lists = re.findall(rf"^!(\d+) = !{{(?:![^}}]*, )?!{scope[1]}\b[^}}]*}}$", text, re.MULTILINE)
    return re.compile(rf", !alias\.scope !(?:{'|'.join(lists)})\b")


def _fetching(text: str) -> str:
    """A module whose marked vector loads ask for what comes later, at the end of their block and each line of the cache once.

    LLVM moves no load past a request: with each behind its load, all of eight vectors came before the first was used, which an erf of them
    took half as long again for.
    """
    mark = _mark_of(text, FETCHED)
    if mark is None:
        return text
    lines: list[str] = []
    places: dict[str, tuple[str, int]] = {}  # of what is a known distance behind something else
    wanted: dict[tuple[str, int], tuple[str, int]] = {}  # lines that are read in this block
    count = 0
    for line in text.splitlines():
        if further := _FURTHER.match(line):
            places[further[1]] = further[2], int(further[3])
        elif wanted and _JUMP.match(line):
            for place, distance in wanted.values():
                lines.append(f"  %fetched.{count} = getelementptr i8, ptr {place}, i64 {_AHEAD + distance}")
                lines.append(f"  call void @llvm.prefetch.p0(ptr %fetched.{count}, i32 0, i32 3, i32 1)")
                count += 1
            wanted = {}
        load = _LOAD.match(line) if mark.search(line) else None
        if load:
            base, start = places.get(load[3], (load[3], 0))
            for offset in range(0, int(load[1]) * _BITS.get(load[2], 8) // 8, _LINE):
                wanted.setdefault((base, (start + offset) // _LINE), (load[3], offset))
        lines.append(line)
    return _declared("\n".join(lines), _PREFETCH)


def _streaming(text: str, symbol: str, register: int) -> str | None:
    """A module whose marked vector stores go around the caches if the context says so, in functions that are to be inlined."""
    mark = _mark_of(text, STREAMED)
    if mark is None:
        return None
    # Its first block has no label: it is that of `onnx_numba.compile.llvm.wrapper_text`.
    kernel = re.search(rf"^define [^@]*@{symbol}\([^%]*(%[^,]+),.*?^}}$", text, re.MULTILINE | re.DOTALL)
    assert kernel is not None, f"{symbol} is not defined as expected"
    kinds: dict[tuple[_Kind, ...], str] = {}
    body = _with_choices(kernel[0], mark, kinds, register)
    if not kinds:
        return None
    head, rest = body.split("\n", 1)
    head = head.replace("readnone ", "")  # the context is read now
    rest = re.sub(r"^  ret ", f"  call void @streaming.end(i64 {_OFF})\n  ret ", rest, flags=re.MULTILINE)
    text = text.replace(kernel[0], "\n".join([head, _ASK.format(ctx=kernel[1]), rest]))
    flag = f"!{1 + max(int(found[1]) for found in _METADATA.finditer(text))}"
    added = [*(_stores(name, kind, flag) for kind, name in kinds.items()), _END, f"{flag} = !{{i32 1}}"]
    return _declared("\n".join([text, *added]), _FENCE)


def _declared(text: str, declaration: str) -> str:
    """A module that declares a function, unless it does so already."""
    name = re.search(r"@[\w.]+", declaration)
    assert name is not None
    return text if re.search(rf"^declare .*{re.escape(name[0])}\(", text, re.MULTILINE) else f"{text}\n{declaration}"


def _with_choices(function: str, mark: re.Pattern[str], kinds: dict[tuple[_Kind, ...], str], register: int) -> str:
    """A function with calls in place of marked stores, one for all that follow one another; ``kinds`` learns what is called.

    With a decision for each of them, LLVM would compute each vector when it is stored, after the one before, and not side by side.
    """
    lines: list[str] = []
    waiting: list[re.Match[str]] = []
    for line in function.splitlines():
        found = _STORE.match(line) if mark.search(line) else None
        if found and _fits(int(found[1]) * _BITS.get(found[2], 0) // 8, register if found[2] in _HALVES else None):
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


def _fits(size: int, most: int | None) -> bool:
    """Whether a vector of so many bytes, ``most`` if that is given, is whole lines or parts of one that stores around the caches write."""
    return 0 < size <= (most or size) and (size % _LINE == 0 or size in _PARTS)


def _stores(name: str, kinds: Sequence[_Kind], flag: str) -> str:
    """Stores around the caches where all places allow them; a vector longer than a line is several."""
    vectors = [f"<{lanes} x {element}>" for lanes, element, _ in kinds]
    whole = [min(_LINE, lanes * _BITS[element] // 8) for lanes, element, _ in kinds]
    count = range(len(kinds))
    parameters = ", ".join(f"{vectors[k]} %v{k}, ptr %p{k}" for k in count)
    tests = [f"  %a{k} = ptrtoint ptr %p{k} to i64\n  %b{k} = and i64 %a{k}, {whole[k] - 1}" for k in count]
    joined = [f"  %c{k} = or i64 {f'%c{k - 1}' if k else '%off'}, %b{k}" for k in count]
    around: list[str] = []
    for k, (lanes, element, _) in enumerate(kinds):
        value = f"{vectors[k]} %v{k}"
        if element in _HALVES:
            bits = f"<{lanes} x i16>"
            around += [f"  %i{k} = bitcast {value} to {bits}", f'  %h{k} = call {bits} asm "", "=x,0"({bits} %i{k})']
            value = f"{bits} %h{k}"
        around.append(f"  store {value}, ptr %p{k}, align {whole[k]}, !nontemporal {flag}")
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
