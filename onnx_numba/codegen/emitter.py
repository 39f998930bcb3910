"""Scalar expressions and dims as text, each sub-expression computed once, in the outermost loop in which it can be.

An `Emitter` holds the lines of one kernel and the loops that are open at the moment. For

    mul(sub(Load(x, i*n + j), m), f32(2))      with loops over i (outer) and j (inner)

it writes ``b0 = i * s0`` in the loop over i and answers ``((x0[b0 + j] - a0) * f32(2.0))`` for the loop over j.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir import plan
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import DType

LITERAL_LIMIT = 16
"""Static dims up to this are written into the code (filter sizes, strides); greater ones are parameters, so that layers share kernels."""
FAR = 1 << 20
"""Bytes of a result from which on what a loop reads may come from beyond the second cache."""
MODERATE = 100
"""Powers of two, and those of its reciprocal, of a divisor by which no number of usual size loses bits, in any type."""

_INFIX = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^"}
_COMPARE = {"lt": "<", "le": "<=", "eq": "==", "ne": "!="}
_FLOAT_NAMES = {
    "max": "max_", "min": "min_", "mod": "mod_", "fmod": "fmod_", "pow": "pow_", "abs": "abs_", "isnan": "isnan_", "isinf": "isinf_",
}  # fmt: skip
_INT_NAMES = {"max": "max_", "min": "min_", "div": "idiv", "mod": "imod", "fmod": "irem", "abs": "abs_"}


class Var(Expr):
    """A name defined by the kernel itself, such as an accumulator."""

    __slots__ = ("text",)

    def __init__(self, text: str, dtype: DType) -> None:
        self.text = text
        super().__init__(dtype, (text,))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Var) and self.text == other.text and self.dtype is other.dtype

    __hash__ = Expr.__hash__


class Block:
    """An open loop or branch."""

    def __init__(self, indent: int, variables: Iterable[Sym], head: str = "") -> None:
        self.indent = indent
        self.head = head  # written when the block closes, so that what is hoisted out of it comes before it
        self.variables = set(variables)
        self.lines: list[str] = []
        self.names: dict[object, str] = {}
        self.owned: set[str] = set()  # Var texts that exist from here inward


class Emitter:
    """Writes one kernel.

    Attributes
    ----------
    buffers : list of Tensor
        In the order in which the kernel takes them.
    dims : list of Dim or int
        Likewise.
    locals : dict of Tensor to str
        Tensors in arrays of the kernel's own.
    deepest : int
        How many loops have been open at once.
    written : Dim or int
        Bytes of the kernel's largest result, 0 where there is no point in going around the caches.
    streams : bool
        Whether loops say that their results may.
    settles : bool
        Whether calls may have written around the caches, so that the kernel ends by `settle`.
    scratch : Dim or int
        Bytes that the kernel needs of every worker.
    """

    def __init__(self, buffers: list[Tensor], written: Dim | int = 0) -> None:
        self.buffers = buffers
        self.written = written
        self.streams = self.settles = False
        self.scratch: Dim | int = 0
        self.dims: list[Dim | int] = []
        self.locals: dict[Tensor, str] = {}
        self.names: dict[Sym, str] = {}
        self.blocks: list[Block] = [Block(1, ())]
        self.uses: Counter[Expr] = Counter()
        self.work = "lo"
        self.deepest = 0
        self._count = 0

    # -- structure ---------------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """A statement in the innermost open block."""
        block = self.blocks[-1]
        block.lines.append("    " * block.indent + text)

    def fresh(self, prefix: str) -> str:
        """A name not used before."""
        self._count += 1
        return f"{prefix}{self._count - 1}"

    @contextmanager
    def block(self, head: str, variables: Iterable[Sym] = ()) -> Iterator[Block]:
        """An indented block below ``head``, in which ``variables`` are defined."""
        inner = Block(self.blocks[-1].indent + 1, variables, head)
        self.blocks.append(inner)
        self.deepest = max(self.deepest, sum(block.head.startswith("for ") for block in self.blocks))
        yield inner
        self.blocks.pop()
        self.again(head, inner.lines)

    def again(self, head: str, lines: Iterable[str]) -> None:
        """A block's lines, which are indented already, below ``head``."""
        block = self.blocks[-1]
        block.lines += ["    " * block.indent + head, *lines]

    @contextmanager
    def branch(self, test: str) -> Iterator[None]:
        """A block that runs where ``test`` holds; what is computed for it does not move out of it."""
        with self.block(f"if {test}:"):
            self.blocks[-1].owned = {"guard"}
            yield

    @contextmanager
    def loop(self, variable: Sym, name: str, start: str = "", stop: str = "") -> Iterator[None]:
        """A loop of a variable over its extent, or from ``start`` to ``stop``."""
        assert variable.extent is not None
        limit = stop or self.dim(variable.extent)
        self.names[variable] = name
        with self.block(f"for {name} in range({start + ', ' if start else ''}{limit}):", (variable,)):
            yield

    def stream(self) -> None:
        """Say of the innermost loop that its results may go around the caches, where they may be large enough for that."""
        if self.may_be_large:
            self.line("streams()")
            self.streams = True

    def fetch(self) -> None:
        """Say of the innermost loop that it reads what may come from beyond the second cache, if a result may be too large for that."""
        if not isinstance(self.written, int) or self.written >= FAR:
            self.line("fetches()")

    def move(self, size: int, to: str, source: str, count: Dim | int) -> None:
        """Copy so many elements of ``size`` bytes between places, around the caches if they are part of so large a result."""
        around = self.may_be_large
        if around:
            self.goes_around()
        self.line(f"{'move_around(ctx, ' if around else 'move('}{size}, {to}, {source}, {self.dim(count)})")

    def goes_around(self) -> None:
        """Say that what is written by calls may go around the caches."""
        self.streams = self.settles = True

    @property
    def may_be_large(self) -> bool:
        """Whether results may be so large that they had better go around the caches."""
        return not isinstance(self.written, int) or self.written >= plan.AROUND

    def local(self, like: Tensor, count: int) -> Tensor:
        """An array of the kernel's own, for elements like another tensor's."""
        return self._own(like, count, f"{like.dtype.name}_local({count})")

    def in_scratch(self, like: Tensor, count: Dim | int) -> Tensor:
        """The same in the worker's scratch, for more elements than may be on a stack; there is one at a time."""
        self.scratch = d.dmax(self.scratch, count * like.dtype.size)
        return self._own(like, count, f"{like.dtype.name}_scratch(ctx, 0)")

    def _own(self, like: Tensor, count: Dim | int, text: str) -> Tensor:
        name, top = self.fresh("t"), self.blocks[0]
        top.lines.append("    " * top.indent + f"{name} = {text}")
        local = Tensor(name, like.dtype, (count,), like.definition)
        self.locals[local] = name
        return local

    def define(self, text: str, name: str, variables: Iterable[Sym] = ()) -> None:
        """``name = text`` in the innermost block, which then owns ``variables``."""
        self.line(f"{name} = {text}")
        self.blocks[-1].variables.update(variables)

    def count_uses(self, values: Iterable[Expr]) -> None:
        """Learn which sub-expressions several others share in what is written next."""
        roots = list(values)
        self.uses = Counter(roots)
        for node in e.walk(*roots):
            self.uses.update(e.children(node))

    # -- dims --------------------------------------------------------------------------------------------------------

    def parameter(self, value: Dim | int) -> str:
        """A number known when the kernel is called."""
        return str(value) if isinstance(value, int) and abs(value) <= LITERAL_LIMIT else self.number(value)

    def number(self, value: Dim | int) -> str:
        """The same, which the code does not know however small it is."""
        if value not in self.dims:
            self.dims.append(value)
        return f"s{self.dims.index(value)}"

    def dim(self, value: Dim | int) -> str:
        """Text of a dim or index expression, its outer parts computed in outer loops."""
        if isinstance(value, int) or self._constant(value):
            return self.parameter(value)
        here = self._depth_of_dim(value)
        parts: dict[int, list[Dim | int]] = {}
        for monomial, factor in value.terms.items():
            term = d._make({monomial: factor})
            parts.setdefault(self._depth_of_dim(term), []).append(term)
        texts = self._terms(d.total(parts.pop(here)))
        outer = d.total(term for part in parts.values() for term in part)
        if outer != 0:
            texts.insert(0, self._named_dim(outer))
        return " + ".join(texts) if len(texts) > 1 else texts[0]

    def _named_dim(self, value: Dim | int) -> str:
        if isinstance(value, int) or self._constant(value):
            return self.parameter(value)
        text = self.dim(value)
        return text if text.isidentifier() else self._hold(value, text, self._depth_of_dim(value), "b")

    def _constant(self, value: Dim) -> bool:
        return not any(s.extent is not None for s in d.symbols(value)) and not e.values_in(value)

    def _terms(self, value: Dim | int) -> list[str]:
        """Terms of one depth: products of loop atoms with coefficients that are parameters."""
        by_atoms: dict[tuple[d.Atom, ...], list[Dim | int]] = {}
        for monomial, times in d._terms(value).items():
            varying = tuple(a for a in monomial if not self._constant(d.dim(a)))
            rest = tuple(a for a in monomial if self._constant(d.dim(a)))
            by_atoms.setdefault(varying, []).append(d._make({rest: times}))
        texts = []
        for varying, factors in by_atoms.items():
            factor = d.total(factors)
            words = [self._atom(a) for a in varying]
            if not words or factor != 1:
                words.append(self.parameter(factor))
            texts.append(" * ".join(words))
        return texts

    def _atom(self, atom: d.Atom) -> str:
        if isinstance(atom, Sym):
            return self.names[atom]
        if atom.op == "value":
            return self.value(atom.args[0])
        a, b = (self.dim(x) for x in atom.args)
        nonneg = d.at_least_zero(atom.args[0])
        text = {
            "div": f"udiv({a}, {b})" if nonneg else f"floordiv({a}, {b})",
            "mod": f"urem({a}, {b})" if nonneg else f"imod({a}, {b})",
            "max": f"max({a}, {b})",
            "min": f"min({a}, {b})",
            "bcast": f"max({a}, {b})",
        }.get(atom.op) or f"i64(({a}) {_COMPARE[atom.op]} ({b}))"
        return self._hold(atom, text, self._depth_of_dim(d.dim(atom)), "q")

    def _hold(self, key: object, text: str, depth: int, prefix: str) -> str:
        """Keep a text under a name in the block of its depth, but never outside the branch that guards what it reads."""
        depth = max(depth, self._guard_depth())
        for block in self.blocks[: depth + 1]:
            if key in block.names:
                return block.names[key]
        name = self.fresh(prefix)
        block = self.blocks[depth]
        block.lines.append("    " * block.indent + f"{name} = {text}")
        block.names[key] = name
        return name

    def _depth_of_dim(self, value: Dim | int) -> int:
        depth = 0
        for symbol in d.symbols(value):
            depth = max(depth, self._depth_of_symbol(symbol))
        for inner in e.values_in(value):
            depth = max(depth, self._depth(inner))
        return depth

    def _depth_of_symbol(self, symbol: Sym) -> int:
        for k, block in enumerate(self.blocks):
            if symbol in block.variables:
                return k
        return 0

    def _depth(self, value: Expr) -> int:
        depth = 0
        for node in e.walk(value):
            if isinstance(node, Var):
                depth = max(depth, next((k for k, b in enumerate(self.blocks) if node.text in b.owned), 0))
            for index in [node.value] if isinstance(node, e.DimVal) else node.index if isinstance(node, e.Load) else ():
                for symbol in d.symbols(index):
                    depth = max(depth, self._depth_of_symbol(symbol))
            if isinstance(node, e.Op) and node.name == "check_index":
                depth = max(depth, 1)
            if isinstance(node, e.Op) and node.name == "guard":  # its branch is written where it is needed first
                depth = len(self.blocks) - 1
        return depth

    # -- scalars -----------------------------------------------------------------------------------------------------

    def value(self, node: Expr) -> str:
        """Text of a scalar; shared and loop-invariant ones get a name."""
        if isinstance(node, Var):
            return node.text
        if isinstance(node, e.Lit):
            return literal(node)
        for block in self.blocks:
            if node in block.names:
                return block.names[node]
        here, guarded = len(self.blocks) - 1, self._guard_depth()
        depth = max(self._depth(node), guarded)
        if isinstance(node, e.Op) and node.name == "guard":
            return self._guard(node)
        text = self._text(node)
        if depth == here and self.uses[node] <= 1 and len(text) < 160:
            return text
        if isinstance(node, e.DimVal) and text.isidentifier():
            return text
        return self._hold(node, text, depth, "v")

    def _guard_depth(self) -> int:
        """The innermost branch: what is computed for it must not move out of it."""
        return max((k for k, b in enumerate(self.blocks) if b.owned == {"guard"}), default=0)

    def _guard(self, node: e.Op) -> str:
        condition, value, default = node.args
        test = self.value(condition)
        name = self.fresh("g")
        self.line(f"{name} = {self.value(default)}")
        with self.branch(test):
            self.line(f"{name} = {self.value(value)}")
        self.blocks[-1].names[node] = name
        return name

    def _text(self, node: Expr) -> str:
        if isinstance(node, e.DimVal):
            return f"{node.dtype.name}({self.dim(node.value)})"
        if isinstance(node, e.Load):
            name, index = self.buffer(node.tensor), self.dim(node.index[0])
            storage = node.tensor.dtype
            return f"{name}[{index}]" if storage.compute == storage.name else f"from_{storage.name}({name}[{index}])"
        assert isinstance(node, e.Op), node
        if node.name == "check_index":
            return f"check_index(ctx, {self.value(node.args[0])}, {self.value(node.args[1])}, {self.work}, {plan.INDEX_RANGE})"
        if node.name == "div" and node.dtype.is_float and self._divides_many(*node.args):
            return self._quotient(*node.args)
        return operation(node, [self.value(a) for a in node.args])

    def _divides_many(self, dividend: Expr, divisor: Expr) -> bool:
        """Whether a divisor stays the same in the innermost loop, unlike what it divides, and is such that its reciprocal loses nothing."""
        if isinstance(divisor, e.Lit):
            fraction, power = math.frexp(float(divisor.value))
            return abs(fraction) not in (0.0, 0.5) and math.isfinite(fraction) and abs(power) < MODERATE
        root = isinstance(divisor, e.Op) and divisor.name == "sqrt"
        return root and self._depth(divisor) < self._depth(dividend) == len(self.blocks) - 1

    def _quotient(self, dividend: Expr, divisor: Expr) -> str:
        """``(x0[i] / f32(-3.0))`` by the reciprocal: ``(-quotient(x0[i], f32(3.0), f32(0.3333333432674408)))``."""
        negative = isinstance(divisor, e.Lit) and float(divisor.value) < 0
        divisor = e.unary("neg", divisor) if negative else divisor
        text = f"quotient({self.value(dividend)}, {self.value(divisor)}, {self.value(1.0 / divisor)})"
        return f"(-{text})" if negative else text

    def buffer(self, tensor: Tensor) -> str:
        """The name of a tensor's pointer."""
        if tensor in self.locals:
            return self.locals[tensor]
        if tensor not in self.buffers:
            self.buffers.append(tensor)
        return f"x{self.buffers.index(tensor)}"

    def store(self, tensor: Tensor, position: Dim | int, value: Expr) -> None:
        """Write an element."""
        text = self.value(value)
        name, index = self.buffer(tensor), self.dim(position)
        storage = tensor.dtype
        self.line(f"{name}[{index}] = {text if storage.compute == storage.name else f'to_{storage.name}({text})'}")


def literal(node: e.Lit) -> str:
    """A typed literal: ``f32(0.5)``, ``i8(-1)``, ``True``."""
    if node.dtype.kind == "b":
        return str(bool(node.value))
    if node.dtype.kind in "fc":
        value = float(node.value)
        text = "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf") if math.isinf(value) else repr(value)
        return f"{node.dtype.name}({text})"
    return f"{node.dtype.name}({int(node.value)})"


def infix(name: str, dtype: DType, a: str, b: str) -> str:
    """One of Python's operators: ``(a + b)``, ``i32(a + b)``.

    Numba computes integers in 64 bits and has LLVM take for granted that those with a sign do not overflow, so that ``a + 1 < a`` is
    false: in that width sums and products are functions, ``iadd(a, b)``, which wrap.
    """
    if dtype.name == "i64" and name in ("add", "sub", "mul"):
        return f"i{name}({a}, {b})"
    text = f"{a} {_INFIX[name]} {b}"
    return f"{dtype.name}({text})" if dtype.is_int else f"({text})"


def operation(node: e.Op, args: list[str]) -> str:
    """An operation on texts, with ONNX's typing: integer results are cast back to their type."""
    name, dtype = node.name, node.dtype
    operand = node.args[0].dtype
    if name in _COMPARE:
        return f"({args[0]} {_COMPARE[name]} {args[1]})"
    if name in _INFIX:
        return infix(name, dtype, *args)
    if name == "div" and dtype.is_float:
        return f"({args[0]} / {args[1]})"
    if name == "neg":
        return f"{dtype.name}(-{args[0]})" if dtype.is_int else f"(-{args[0]})"
    if name == "not":
        return f"(not {args[0]})" if dtype.kind == "b" else f"{dtype.name}(~{args[0]})"
    if name in ("real", "imag"):
        return f"{args[0]}.{name}"
    if name == "cast":
        return f"{'bool_' if dtype.kind == 'b' else dtype.name}({args[0]})"
    table = _FLOAT_NAMES if operand.is_float else _INT_NAMES
    return f"{table.get(name, name)}({', '.join(args)})"
