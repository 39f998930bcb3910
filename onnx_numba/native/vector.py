"""What hand-written vector code shares: loops, loads and stores, multiply-add, functions of their own.

numba and llvmlite are imported inside, when something is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnx_numba.native.emit import call, suffix
from onnx_numba.target import Target


def multiply_add(a: Any, b: Any, c: Any) -> Any:
    """a * b + c of arrays; for float32 formed in float64 and rounded once more."""
    if c.dtype == np.float32:
        return (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(np.float32)
    return a * b + c


def pointer_typing(literals: int, floats: tuple[int, ...], offsets: int | None, count: int) -> Callable[..., Any]:
    """Typing with ``literals`` leading literals, ``floats`` pointers to one floating type, and int64 for the rest."""

    def typing(*args: Any) -> Any:
        from numba import types
        from numba.core.typing import signature

        if len(args) != count or not all(isinstance(arg, types.IntegerLiteral) for arg in args[:literals]):
            return None
        wanted = [types.int64] * count
        wanted[:literals] = args[:literals]
        for position in floats:
            wanted[position] = args[floats[0]]
        if offsets is not None:
            wanted[offsets] = types.CPointer(types.int64)
        return signature(types.void, *wanted)

    return typing


def has_masks(target: Target) -> bool:
    """Whether the target loads vectors under a mask."""
    return target.arch == "x86_64" and target.lanes >= 8


class VectorEmitter:
    """LLVM of loops over vectors.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where instructions go.
    element : llvmlite.ir.Type
        ``float``, ``double`` or an integer.
    lanes : int
        Elements of a vector.
    fused : bool
        Whether the target has a fused multiply-add.
    """

    def __init__(self, builder: Any, element: Any, lanes: int, fused: bool = True) -> None:
        from llvmlite import ir

        self.ir, self.builder = ir, builder
        self.element, self.lanes, self.fused = element, lanes, fused
        self.vector = ir.VectorType(element, lanes)
        self.i64 = ir.IntType(64)
        self.align = element.width // 8 if isinstance(element, ir.IntType) else 4 if isinstance(element, ir.FloatType) else 8

    def number(self, n: int) -> Any:
        """A constant of 64 bits."""
        return self.ir.Constant(self.i64, n)

    def shift(self, pointer: Any, offset: Any) -> Any:
        """The pointer some elements further."""
        return self.builder.gep(pointer, [offset])

    def load(self, pointer: Any, kind: Any = None) -> Any:
        """Load a vector from anywhere."""
        kind = kind or self.vector
        return self.builder.load(self.builder.bitcast(pointer, kind.as_pointer()), align=self.align)

    def store(self, value: Any, pointer: Any) -> None:
        """Store a vector anywhere."""
        self.builder.store(value, self.builder.bitcast(pointer, value.type.as_pointer()), align=self.align)

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        """Lanes of a and b, counted through both."""
        return self.builder.shuffle_vector(a, b, self.ir.Constant(self.ir.VectorType(self.ir.IntType(32), len(lanes)), lanes))

    def transposed(self, vectors: list[Any]) -> list[Any]:
        """A square of vectors transposed in log2(lanes) rounds, which exchange blocks of ``s`` lanes between vectors."""
        n, s = len(vectors), 1
        while s < n:
            low = [n + j - s if j & s else j for j in range(n)]
            high = [n + j if j & s else j + s for j in range(n)]
            new = list(vectors)
            for i in range(n):
                if not i & s:
                    new[i] = self.shuffle(vectors[i], vectors[i + s], low)
                    new[i + s] = self.shuffle(vectors[i], vectors[i + s], high)
            vectors, s = new, 2 * s
        return vectors

    def splat(self, value: Any) -> Any:
        """A vector of one number."""
        undefined = self.ir.Constant(self.vector, self.ir.Undefined)
        one = self.builder.insert_element(undefined, value, self.ir.Constant(self.ir.IntType(32), 0))
        return self.shuffle(one, undefined, [0] * self.lanes)

    def smaller(self, a: Any, b: Any) -> Any:
        """The smaller of two numbers of 64 bits."""
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, rounded once if the target does so in one instruction."""
        if not self.fused:
            return self.builder.fadd(self.builder.fmul(a, b), c)
        return call(self.builder, f"llvm.fma.v{self.lanes}f{8 * self.align}", self.vector, [a, b, c])

    def loop(
        self, start: Any, stop: Any, step: int, values: list[Any], body: Callable[[Any, list[Any]], list[Any]]
    ) -> tuple[Any, list[Any]]:
        """Rounds of ``step`` while as many are left: the count reached and the values carried from round to round.

        LLVM is told to leave the loop as it is: it would vectorise and unroll copies of a few elements at a great cost of
        compile time.
        """
        builder = self.builder
        before = builder.block
        head, inside, after = (builder.append_basic_block(name) for name in ("tile.head", "tile.body", "tile.after"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(self.i64)
        k.add_incoming(start, before)
        phis = [builder.phi(value.type) for value in values]
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, before)
        following = builder.add(k, self.number(step), flags=["nsw"])
        builder.cbranch(builder.icmp_signed("<=", following, stop), inside, after)
        builder.position_at_end(inside)
        for phi, value in zip(phis, body(k, list(phis)), strict=True):
            phi.add_incoming(value, builder.block)
        k.add_incoming(following, builder.block)
        builder.branch(head).set_metadata("llvm.loop", self._unchanged())
        builder.position_at_end(after)
        return k, phis

    def positions(self, start: Any, count: int) -> Any:
        """The vector start, start + 1, … of 32-bit numbers."""
        ir = self.ir
        kind = ir.VectorType(ir.IntType(32), count)
        first = self.builder.trunc(start, ir.IntType(32))
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), first, ir.Constant(ir.IntType(32), 0))
        return self.builder.add(
            self.shuffle(one, ir.Constant(kind, ir.Undefined), [0] * count), ir.Constant(kind, list(range(count)))
        )

    def below(self, positions: Any, stop: Any) -> Any:
        """Which positions are at least 0 and below a number."""
        count = positions.type.count
        limit = self.positions(stop, count)
        limit = self.builder.sub(limit, self.ir.Constant(limit.type, list(range(count))))
        return self.builder.icmp_unsigned("<", positions, limit)

    def load_masked(self, pointer: Any, mask: Any, fill: Any = None) -> Any:
        """A vector with ``fill``, by default 0, where the mask is not set."""
        ir, count = self.ir, mask.type.count
        kind = ir.VectorType(self.element, count)
        others = ir.Constant(kind, None)
        if fill is not None:
            others = self.shuffle(self.builder.insert_element(others, fill, ir.Constant(ir.IntType(32), 0)), others, [0] * count)
        place = self.builder.bitcast(pointer, kind.as_pointer())
        align = ir.Constant(ir.IntType(32), self.align)
        name = f"llvm.masked.load.v{count}{suffix(self.element)}.p0"
        return call(self.builder, name, kind, [place, align, mask, others])

    def store_masked(self, value: Any, pointer: Any, mask: Any) -> None:
        """Store the elements of a vector for which the mask is set."""
        ir, count = self.ir, mask.type.count
        place = self.builder.bitcast(pointer, value.type.as_pointer())
        align = ir.Constant(ir.IntType(32), self.align)
        name = f"llvm.masked.store.v{count}{suffix(self.element)}.p0"
        call(self.builder, name, ir.VoidType(), [value, place, align, mask])

    def pieces(self, count: Any, visit: Callable[[Any, Any], None]) -> None:
        """``visit(start, type)`` for so many elements: whole vectors, then for each binary digit of what is left one of so many."""
        builder = self.builder

        def visit_vector(j: Any, values: list[Any]) -> list[Any]:
            visit(j, self.vector)
            return values

        self.loop(self.number(0), count, self.lanes, [], visit_vector)
        size = self.lanes // 2
        while size:
            with builder.if_then(builder.icmp_signed("!=", builder.and_(count, self.number(size)), self.number(0))):
                visit(builder.and_(count, self.number(-2 * size)), self.ir.VectorType(self.element, size))
            size //= 2

    def _unchanged(self) -> Any:
        ir, module = self.ir, self.builder.module
        flags = [
            module.add_metadata([ir.MetaDataString(module, "llvm.loop.vectorize.enable"), ir.Constant(ir.IntType(1), 0)]),
            module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")]),
        ]
        loop = ir.MDValue(module, flags, str(len(module.metadata)))
        loop.operands = (loop, *flags)  # LLVM reads what is said of a loop only from a node that names itself first
        return loop


def outlined(name: str, literals: int, build: Callable[[Any, Any, Any], None]) -> Callable[..., Any]:
    """Emitter of a call to an internal function of its own, which ``build(builder, literal values, arguments)`` fills.

    Inlined, the loops around a tile would be unswitched on its conditions and the tile be compiled several times over.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir

        values, rest = [t.literal_value for t in signature.args[:literals]], args[literals:]
        element = next(arg.type.pointee for arg in rest if isinstance(arg.type, ir.PointerType))
        full = ".".join([name, *map(str, values), str(element)])
        function = builder.module.globals.get(full)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [arg.type for arg in rest]), full)
            function.linkage = "internal"
            function.attributes.add("noinline")
            inner = ir.IRBuilder(function.append_basic_block("entry"))
            build(inner, values, function.args)
            inner.ret_void()
        builder.call(function, rest)
        return context.get_dummy_value()

    return emit
