"""The kernels of slices as one, which calls none: the text of each, one after the other, in a loop over slices.

Of two kernels, each with its own names and dims, and a tensor between them, where the last slice of a matrix has fewer rows

    def matmul_tanh_matmul_1a2b3c4d(ctx, bufs, dims, lo, hi):
        blocks = dims[0]
        each = dims[1]
        for unit in range(lo, hi):
            matrix = udiv(unit, blocks)
            block = unit - matrix * blocks
            row = block * each
            shift = 8 if block == blocks - 1 else 6
            hi_0 = dims[0 + shift]
            a_0 = f32_at(f32_p(bufs, 0), matrix * dims[2] + row * dims[3])
            c_0 = f32_scratch(ctx, dims[4])
            for unit_0 in range(0, hi_0):
                ...
            hi_1 = dims[1 + shift]
            a_1 = f32_scratch(ctx, dims[5])
            for unit_1 in range(0, hi_1):
                ...
        return 0
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from onnx_numba.codegen.contraction import CHUNK_PRODUCTS
from onnx_numba.codegen.kernel import KernelSource, named
from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.loop import Tensor
from onnx_numba.schedule.domain import coefficient
from onnx_numba.schedule.steps import Slices
from onnx_numba.schedule.tune import Body

LINE = 64
"""Bytes to which what lies in scratch is aligned."""


def generate(step: Slices, parts: Sequence[KernelSource]) -> KernelSource:
    """The kernel whose work units are slices."""
    dims = _Numbers(step)
    buffers = _Buffers(step, parts, dims)
    blocks = d.ceildiv(step.rows, step.each)
    lines = [f"blocks = {dims(blocks)}", f"each = {dims(step.each)}", "for unit in range(lo, hi):"]
    slices = ["matrix = udiv(unit, blocks)", "block = unit - matrix * blocks", "row = block * each"]
    slices += [line for number, part in enumerate(parts) for line in _Part(number, part, dims, buffers).lines()]
    slices[3:3] = [*buffers.start(), *dims.start()]
    body = [*("    " + line for line in lines), *("        " + line for line in slices), "    return 0"]
    total = d.product(step.axes) * blocks
    return named(step.origins, body, buffers.outer, dims.values(), total, _grain(step, dims), buffers.scratch)


def _grain(step: Slices, dims: _Numbers) -> Dim | int:
    """Slices per chunk: one, where it is not as short as those of few rows, or of few columns, are."""
    bodies: list[Body] = [p.members[0].hint.params["body"] for p in step.parts if p.members[0].hint is not None]
    work = d.total(dims.largest(b.units * b.unit_work) for b in bodies)
    return d.dmax(d.floordiv(CHUNK_PRODUCTS, d.dmax(work, 1)), 1)


class _Numbers:
    """Dims of all parts, none of which the code knows to be another: so more models share it.

    Those that depend on how many rows a slice has are there twice, for the last slice of a matrix too.
    """

    def __init__(self, step: Slices) -> None:
        self.first = step.start
        self.full = {} if step.count is None else {step.count: step.each}
        self.last = {} if step.count is None else {step.count: step.rows - (d.ceildiv(step.rows, step.each) - 1) * step.each}
        self.alike: list[Dim | int] = []
        self.varying: list[Dim | int] = []

    def __call__(self, value: Dim | int) -> str:
        """What has this value in the kernel."""
        if self.first in d.symbols(value):
            times = coefficient(value, self.first)
            assert times is not None
            return f"({self(d.substitute(value, {self.first: 0}))} + row * {self(times)})"
        if d.symbols(value).isdisjoint(self.full):
            self.alike.append(value)
            return f"dims[{len(self.alike) - 1}]"
        self.varying.append(value)
        return f"dims[{len(self.varying) - 1} + shift]"

    def start(self) -> list[str]:
        """Where in dims those of this slice begin."""
        if not self.varying:
            return []
        full = len(self.alike)
        return [f"shift = {full + len(self.varying)} if block == blocks - 1 else {full}"]

    def values(self) -> list[Dim | int]:
        """All dims."""
        return [*self.alike, *(d.substitute(value, table) for table in (self.full, self.last) for value in self.varying)]

    def largest(self, value: Dim | int) -> Dim | int:
        """The most that it is for any slice."""
        return d.dmax(d.substitute(value, self.full), d.substitute(value, self.last))


class _Buffers:
    """Where tensors lie: in buffers at a slice's own place, or in scratch."""

    def __init__(self, step: Slices, parts: Sequence[KernelSource], dims: _Numbers) -> None:
        self.strides, self.dims = step.strides, dims
        self.axes = ["matrix"][: len(step.axes)] if len(step.axes) < 2 else [f"matrix{k}" for k in range(len(step.axes))]
        self.extents = step.axes
        self.outer: list[Tensor] = []
        self.places: dict[Tensor, Dim | int] = {}
        self.scratch: Dim | int = 0
        for part in parts:
            self.scratch = d.dmax(self.scratch, dims.largest(part.scratch))
        for tensor in step.own:
            self.places[tensor] = d.ceildiv(self.scratch, LINE) * LINE
            self.scratch = self.places[tensor] + dims.largest(tensor.size) * tensor.dtype.size

    def start(self) -> list[str]:
        """The position of a slice's matrix along each axis."""
        if len(self.axes) < 2:
            return []
        lines = ["left = matrix"]
        for k, name in enumerate(self.axes[:-1]):
            inner = self.dims(d.product(self.extents[k + 1 :]))
            lines += [f"{name} = udiv(left, {inner})", f"left = left - {name} * {inner}"]
        return [*lines, f"{self.axes[-1]} = left"]

    def text(self, kind: str, tensor: Tensor) -> str:
        """The pointer to what a slice has of a tensor."""
        if tensor in self.places:
            return f"{kind}_scratch(ctx, {self.dims(self.places[tensor])})"
        if tensor not in self.outer:
            self.outer.append(tensor)
        whole = f"{kind}_p(bufs, {self.outer.index(tensor)})"
        terms = [f"{name} * {self.dims(x)}" for name, x in zip((*self.axes, "row"), self.strides[tensor], strict=True) if x != 0]
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
            return _parsed(self.buffers.text(node.func.id.removesuffix("_p"), tensor))
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Dims."""
        if isinstance(node.value, ast.Name) and node.value.id == "dims":
            return _parsed(self.dims(self.source.dims[ast.literal_eval(node.slice)]))
        return self.generic_visit(node)


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
