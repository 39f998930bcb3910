"""The kernels of slices as one, which calls none: the text of each, one after the other, in a loop over slices.

Of two kernels, each with its own names and dims, and a tensor between them

    def matmul_tanh_matmul_1a2b3c4d(ctx, bufs, dims, lo, hi):
        blocks = dims[0]
        each = dims[1]
        for unit in range(lo, hi):
            matrix = udiv(unit, blocks)
            row = (unit - matrix * blocks) * each
            hi_0 = dims[2]
            a_0 = f32_at(f32_p(bufs, 0), matrix * dims[3] + row * dims[4])
            c_0 = f32_scratch(ctx, dims[5])
            for unit_0 in range(0, hi_0):
                ...
            hi_1 = dims[6]
            a_1 = f32_scratch(ctx, dims[7])
            for unit_1 in range(0, hi_1):
                ...
        return 0
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from onnx_numba.codegen.kernel import KernelSource, named
from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.loop import Tensor
from onnx_numba.schedule.steps import Slices

LINE = 64
"""Bytes to which what lies in scratch is aligned."""


def generate(step: Slices, parts: Sequence[KernelSource]) -> KernelSource:
    """The kernel whose work units are slices."""
    dims, buffers = _Numbers(), _Buffers(step, parts)
    body = [f"    {name} = {dims(value)}" for name, value in {"blocks": step.blocks, "each": step.each}.items()]
    body += ["    for unit in range(lo, hi):", "        matrix = udiv(unit, blocks)"]
    body += ["        row = (unit - matrix * blocks) * each"]
    for number, part in enumerate(parts):
        body += ["        " + line for line in _Part(number, part, dims, buffers).lines()]
    lines = [*body, "    return 0"]
    total = step.matrices * step.blocks
    return named(step.origins, lines, buffers.outer, dims.values, total, 1, buffers.scratch)


class _Numbers:
    """Dims of all parts, none of which the code knows to be another: so more models share it."""

    def __init__(self) -> None:
        self.values: list[Dim | int] = []

    def __call__(self, value: Dim | int) -> str:
        self.values.append(value)
        return f"dims[{len(self.values) - 1}]"


class _Buffers:
    """Where tensors lie: in buffers at a slice's own place, or in scratch."""

    def __init__(self, step: Slices, parts: Sequence[KernelSource]) -> None:
        self.strides = step.strides
        self.outer: list[Tensor] = []
        self.places: dict[Tensor, Dim | int] = {}
        self.scratch: Dim | int = 0
        for part in parts:
            self.scratch = d.dmax(self.scratch, part.scratch)
        for tensor in step.own:
            self.places[tensor] = d.ceildiv(self.scratch, LINE) * LINE
            self.scratch = self.places[tensor] + tensor.size * tensor.dtype.size

    def text(self, kind: str, tensor: Tensor, dims: _Numbers) -> str:
        """The pointer to what a slice has of a tensor."""
        if tensor in self.places:
            return f"{kind}_scratch(ctx, {dims(self.places[tensor])})"
        if tensor not in self.outer:
            self.outer.append(tensor)
        whole = f"{kind}_p(bufs, {self.outer.index(tensor)})"
        terms = [f"{name} * {dims(x)}" for name, x in zip(("matrix", "row"), self.strides[tensor], strict=True) if x != 0]
        return f"{kind}_at({whole}, {' + '.join(terms)})" if terms else whole


class _Part(ast.NodeTransformer):
    """A kernel's statements with names of its own, over all its work."""

    def __init__(self, number: int, source: KernelSource, dims: _Numbers, buffers: _Buffers) -> None:
        self.source, self.dims, self.buffers = source, dims, buffers
        (function,) = ast.parse(source.source).body
        assert isinstance(function, ast.FunctionDef)
        self.body = function.body[:-1]  # without the return
        assigned = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self.names = {name: f"{name}_{number}" for name in (*assigned, "hi")}

    def lines(self) -> list[str]:
        """The statements as text."""
        start = f"{self.names['hi']} = {self.dims(self.source.total)}"
        return [start, *(line for statement in self.body for line in ast.unparse(self.visit(statement)).splitlines())]

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Names of the kernel's own; it begins at its first unit."""
        if node.id == "lo":
            return ast.Constant(0)
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Pointers to buffers."""
        if isinstance(node.func, ast.Name) and node.func.id.endswith("_p"):
            tensor = self.source.buffers[ast.literal_eval(node.args[1])]
            return _parsed(self.buffers.text(node.func.id.removesuffix("_p"), tensor, self.dims))
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Dims."""
        if isinstance(node.value, ast.Name) and node.value.id == "dims":
            return _parsed(self.dims(self.source.dims[ast.literal_eval(node.slice)]))
        return self.generic_visit(node)


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
