"""Template calls as kernels: the Python function's own source with its type names and constants filled in.

The body

    def clip(ctx, bufs, dims, lo, hi):
        x = X_p(bufs, 0)
        ...

called with ``types={"X": F32}`` becomes ``def clip_1a2b3c4d(ctx, bufs, dims, lo, hi): x = f32_p(bufs, 0) …``.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from onnx_numba.codegen.kernel import KernelSource, named
from onnx_numba.ir.loop import KernelCall, TemplateCall, Tensor
from onnx_numba.ir.types import DType
from onnx_numba.schedule.expand import root


@lru_cache(maxsize=256)
def _source(body: Callable[..., int]) -> tuple[str, ...]:
    """The lines of a function's body without its docstring."""
    text = textwrap.dedent(inspect.getsource(body))
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    statements = function.body[1:] if ast.get_docstring(function) is not None else function.body
    lines = text.splitlines()[statements[0].lineno - 1 : function.end_lineno]
    return tuple(textwrap.indent(textwrap.dedent("\n".join(lines)), "    ").splitlines())


def _replacement(word: str, types: dict[str, DType], constants: dict[str, int | float | bool | str]) -> str:
    if word in constants:
        value = constants[word]
        return value if isinstance(value, str) else repr(value)
    for name, dtype in types.items():
        if word == name:
            return "bool_" if dtype.kind == "b" else dtype.compute
        if word.startswith(f"{name}_"):
            return f"{dtype.name}_{word[len(name) + 1 :]}"
    return word


def body_lines(call: TemplateCall) -> list[str]:
    """The lines of a template's body with types and constants filled in, and without what these leave out."""

    def filled(found: re.Match[str]) -> str:
        return _replacement(found[0], call.types, call.constants)

    lines = [re.sub(r"\b[A-Za-z_]\w*\b", filled, line) for line in _source(call.body)]
    while (shorter := _decided(lines)) is not None:
        lines = shorter
    return lines


def _decided(lines: list[str]) -> list[str] | None:
    """The lines with the block that runs in place of the first ``if`` that constants decide; None if there is none.

    ::

        for j in range(n):                    for j in range(n):
            if True:                              y[j] = x[j]
                y[j] = x[j]
            else:
                y[j] = f32(0.0)
    """
    if not any(re.match(r"\s*(el)?if .*\b(True|False)\b", line) for line in lines):
        return None
    function = ast.parse("\n".join(["def body():", *lines])).body[0]
    for parent in ast.walk(function):
        blocks: list[Any] = [getattr(parent, name, None) for name in ("body", "orelse")]
        for block in (block for block in blocks if isinstance(block, list)):
            for node in block:
                holds = _constant(node.test) if isinstance(node, ast.If) else None
                if holds is not None:
                    return _with_block(lines, node, node.body if holds else node.orelse, alone=len(block) == 1)
    return None


def _constant(test: ast.expr) -> bool | None:
    """Whether a condition holds, if that is certain."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _constant(test.operand)
        return None if inner is None else not inner
    if isinstance(test, ast.BoolOp):
        decides = isinstance(test.op, ast.Or)
        sides = [_constant(side) for side in test.values]
        return decides if decides in sides else None if None in sides else not decides
    return None


def _with_block(lines: list[str], node: ast.If, kept: list[ast.stmt], alone: bool) -> list[str]:
    """The lines with one of the blocks of an ``if`` in its place, ``alone`` if nothing else is there; the parser's line 1 is above them."""
    assert node.end_lineno is not None
    start, end = node.lineno - 2, node.end_lineno - 1
    margin = " " * node.col_offset
    if not kept:
        inside = [f"{margin}pass"] if alone else []
    else:
        assert kept[-1].end_lineno is not None
        first, last = kept[0].lineno - 2, kept[-1].end_lineno - 1
        while lines[first - 1].lstrip().startswith("#"):
            first -= 1
        chained = re.match(r"\s*elif ", lines[first])
        inside = textwrap.indent(textwrap.dedent("\n".join(lines[first:last])), margin).splitlines()
        if chained:
            inside[0] = inside[0].replace("elif", "if", 1)
    if re.match(r"\s*elif ", lines[start]):
        inside = [f"{margin}else:", *(f"    {line}" for line in inside)] if kept else []
    return [*lines[:start], *inside, *lines[end:]]


def generate(call: TemplateCall, outputs: list[Tensor], origins: list[str]) -> KernelSource:
    """The kernel of a template call."""
    lines = body_lines(call)
    buffers = [*(root(t) for t in call.inputs), *outputs]
    label = origins[:1] or [call.body.__name__]
    return named(label, lines, buffers, list(call.dims), call.total, call.grain, call.scratch, rounds=call.rounds)


def given(call: KernelCall, outputs: list[Tensor], origins: list[str]) -> KernelSource:
    """The kernel of a call that comes with its text."""
    _, _, body = call.source("kernel").partition(":\n")
    buffers = [*(root(t) for t in call.inputs), *outputs]
    return named([call.label, *origins[:1]], body.rstrip().splitlines(), buffers, list(call.dims), call.total, call.grain, call.scratch)
