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
        for verb in ("load", "store"):
            if word == f"{verb}_{name}":
                return f"{verb}_{dtype.name}"
    return word


def body_lines(call: TemplateCall) -> list[str]:
    """The lines of a template's body with types and constants filled in."""
    return [re.sub(r"\b[A-Za-z_]\w*\b", lambda m: _replacement(m.group(), call.types, call.constants), line) for line in _source(call.body)]


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
