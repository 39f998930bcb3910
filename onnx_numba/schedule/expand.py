"""Inlining: rewrite an expression until it loads stored tensors only, each at one row-major position.

>>> # t = Transpose(x) with x of shape [3, n] stored; y[i, j] = t[i, j] + 1
>>> expand(y.expr, stored={x})
add(x[j*n + i], 1)          # the load's single index is the element's position in memory
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Opaque
from onnx_numba.ir.expr import Expr, Flat, Load
from onnx_numba.ir.loop import Check, Map, Reshape, Shape, Tensor


def linear(index: Sequence[Dim | int], shape: Shape) -> Dim | int:
    """Row-major position of an index."""
    position: Dim | int = 0
    for i, extent in zip(index, shape, strict=True):
        position = position * extent + i
    return position


def unravel(position: Dim | int, shape: Shape) -> tuple[Dim | int, ...]:
    """The index at a row-major position."""
    index: list[Dim | int] = []
    for axis in range(len(shape)):
        below = d.product(shape[axis + 1 :])
        index.append(d.floordiv(position, below))
        position = d.mod(position, below)
    return tuple(index)


def root(tensor: Tensor) -> Tensor:
    """The tensor whose elements a chain of reshapes shows."""
    while isinstance(tensor.definition, Reshape):
        tensor = tensor.definition.source
    return tensor


def view_checks(tensor: Tensor) -> tuple[Check, ...]:
    """What a chain of reshapes demands before its elements may be read."""
    checks: list[Check] = []
    while isinstance(tensor.definition, Reshape):
        checks += tensor.checks
        tensor = tensor.definition.source
    return tuple(checks)


class Expander:
    """Expands expressions against a fixed set of stored tensors, collecting the run-time checks of what it inlines."""

    def __init__(self, stored: Callable[[Tensor], bool]) -> None:
        self.stored = stored
        self.checks: list[Check] = []
        self.origins: list[str] = []
        self._memo: dict[Expr, Expr] = {}

    def __call__(self, value: Expr) -> Expr:
        """The expression over stored tensors."""
        return e.rewrite(value, self._leaf, self._memo)

    def _leaf(self, node: Expr, again: Callable[[Expr], Expr]) -> Expr | None:
        if isinstance(node, e.DimVal):
            return e.dimval(self._index(node.value, again), node.dtype)
        if isinstance(node, Flat):
            return node
        if isinstance(node, Load):
            return self._load(node.tensor, tuple(self._index(i, again) for i in node.index), again)
        return None

    def _index(self, value: Dim | int, again: Callable[[Expr], Expr]) -> Dim | int:
        if isinstance(value, int) or not any(isinstance(a, Opaque) for a in d.atoms(value)):
            return value
        return e.resolve(d.substitute(value, {}, again))

    def _load(self, tensor: Tensor, index: tuple[Dim | int, ...], again: Callable[[Expr], Expr]) -> Expr:
        if tensor.content is not None and len(tensor.content) == 1 and not any(map(e.values_in, index)):
            return tensor.content[0]
        base = root(tensor)
        if self.stored(base):
            self._inlined(tensor)
            # Nothing reads an element where there are none, but a position that no loop changes would be read before the loop.
            return e.lit(0, base.dtype) if base.size == 0 else Flat(base, (linear(index, tensor.shape),))
        self._inlined(tensor)
        if isinstance(tensor.definition, Reshape):
            return again(Load(base, unravel(linear(index, tensor.shape), base.shape)))
        assert isinstance(tensor.definition, Map), tensor
        return again(e.substitute(tensor.definition.expr, dict(zip(tensor.definition.vars, index, strict=True))))

    def _inlined(self, tensor: Tensor) -> None:
        for check in tensor.checks:
            if check not in self.checks:
                self.checks.append(check)
        if tensor.origin and not self.stored(tensor) and tensor.origin not in self.origins:
            self.origins.append(tensor.origin)


def loads(value: Expr) -> list[Load]:
    """All loads of an expression, each once."""
    return [node for node in e.walk(value) if isinstance(node, Load)]


def nesting(value: Expr, below: Mapping[Tensor, int]) -> int:
    """How deep operations lie within each other; ``below`` says it of what is loaded."""
    found: dict[Expr, int] = {}
    stack = [value]
    while stack:
        node = stack[-1]
        inner = e.children(node)
        missing = [c for c in inner if c not in found]
        if missing and node not in found:
            stack += missing
            continue
        stack.pop()
        own = below.get(node.tensor, 0) if isinstance(node, Load) else int(isinstance(node, e.Op))
        found[node] = own + max((found[c] for c in inner), default=0)
    return found[value]


def cost(value: Expr) -> int:
    """Rough cost of one evaluation in simple operations; loads and sums and products of indices are free."""
    nodes = list(e.walk(value))
    remainders = _opaque(node.value for node in nodes if isinstance(node, e.DimVal))
    operations = sum(HEAVY.get(node.name, 1) for node in nodes if isinstance(node, e.Op))
    return operations + sum(HEAVY["mod"] if atom.op in ("div", "mod") else 2 for atom in remainders)


def _opaque(values: Iterable[Dim | int]) -> set[Opaque]:
    """Divisions, remainders, extremes and comparisons in dims, those within others included."""
    found: set[Opaque] = set()
    stack = list(values)
    while stack:
        new = {a for a in d.atoms(stack.pop()) if isinstance(a, Opaque) and a.op != "value"} - found
        found |= new
        stack += [argument for atom in new for argument in atom.args]
    return found


HEAVY = {
    "exp": 10, "exp_decay": 8, "log": 12, "log1p": 14, "expm1": 14, "sin": 16, "cos": 16, "tan": 20, "asin": 16, "acos": 16, "atan": 16,
    "sinh": 16, "cosh": 16, "tanh": 14, "asinh": 20, "acosh": 20, "atanh": 20, "erf": 16, "sigmoid": 12, "softplus": 24, "pow": 30,
    "div": 4, "sqrt": 4, "mod": 8, "fmod": 8, "ipow": 20, "round_f16": 0, "round_bf16": 0, "cast": 0,
}  # fmt: skip
