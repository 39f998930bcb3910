"""Scalar expressions: what one element of a tensor is, as a graph of typed operations over loads, dims and literals.

Operators build expressions with ordinary Python arithmetic; literals take the type of the other operand:

>>> v = Load(x, (i,))
>>> where(v < 0, alpha * v, v)

Every expression has a *compute* type (`onnx_numba.ir.types`): a load of float16 is float32. Integer arithmetic wraps, integer division
truncates, ``max``/``min`` propagate NaN. Whatever is known while the plan is made (literals, arithmetic on dims) is folded here, so
that evaluating a tensor's expression at each of its indices gives its content; see `onnx_numba.ops.builder`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.types import BOOL, C64, C128, DTYPES, F32, F64, I32, I64, U32, U64, DType

if TYPE_CHECKING:
    from onnx_numba.ir.loop import Tensor

Number = bool | int | float


class Expr:
    """A typed scalar expression; immutable, compared by structure."""

    __slots__ = ("_hash", "dtype")

    def __init__(self, dtype: DType, key: tuple[Any, ...]) -> None:
        self.dtype = dtype
        self._hash = hash((type(self).__name__, dtype.name, key))

    def __hash__(self) -> int:
        return self._hash

    # Arithmetic. `==` compares structure; for elementwise equality use `eq` and `ne`.
    def __add__(self, o: Scalar) -> Expr:
        return binary("add", self, o)

    def __radd__(self, o: Scalar) -> Expr:
        return binary("add", o, self)

    def __sub__(self, o: Scalar) -> Expr:
        return binary("sub", self, o)

    def __rsub__(self, o: Scalar) -> Expr:
        return binary("sub", o, self)

    def __mul__(self, o: Scalar) -> Expr:
        return binary("mul", self, o)

    def __rmul__(self, o: Scalar) -> Expr:
        return binary("mul", o, self)

    def __truediv__(self, o: Scalar) -> Expr:
        return binary("div", self, o)

    def __rtruediv__(self, o: Scalar) -> Expr:
        return binary("div", o, self)

    def __neg__(self) -> Expr:
        return unary("neg", self)

    def __lt__(self, o: Scalar) -> Expr:
        return compare("lt", self, o)

    def __le__(self, o: Scalar) -> Expr:
        return compare("le", self, o)

    def __gt__(self, o: Scalar) -> Expr:
        return compare("gt", self, o)

    def __ge__(self, o: Scalar) -> Expr:
        return compare("ge", self, o)

    def __and__(self, o: Scalar) -> Expr:
        return binary("and", self, o)

    def __or__(self, o: Scalar) -> Expr:
        return binary("or", self, o)

    def __xor__(self, o: Scalar) -> Expr:
        return binary("xor", self, o)

    def __invert__(self) -> Expr:
        return unary("not", self)


class Lit(Expr):
    """A literal."""

    __slots__ = ("value",)

    def __init__(self, value: Number, dtype: DType) -> None:
        self.value = value
        super().__init__(dtype, (repr(value),))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lit) and self.dtype is other.dtype and repr(self.value) == repr(other.value)

    __hash__ = Expr.__hash__

    def __repr__(self) -> str:
        return f"{self.dtype.name}({self.value})"


class DimVal(Expr):
    """An integer made of dims and loop variables."""

    __slots__ = ("value",)

    def __init__(self, value: Dim, dtype: DType) -> None:
        self.value = value
        super().__init__(dtype, (value,))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DimVal) and self.dtype is other.dtype and self.value == other.value

    __hash__ = Expr.__hash__

    def __repr__(self) -> str:
        return f"{self.dtype.name}<{self.value}>"


class Load(Expr):
    """One element of a tensor."""

    __slots__ = ("index", "tensor")

    def __init__(self, tensor: Tensor, index: tuple[Dim | int, ...]) -> None:
        self.tensor = tensor
        self.index = index
        super().__init__(DTYPES[tensor.dtype.compute], (id(tensor), index))

    def at(self, index: tuple[Dim | int, ...]) -> Load:
        """The same kind of load elsewhere."""
        return type(self)(self.tensor, index)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Load) and self.tensor is other.tensor and self.index == other.index)

    __hash__ = Expr.__hash__

    def __repr__(self) -> str:
        return f"{self.tensor.name}[{', '.join(map(repr, self.index))}]"


class Flat(Load):
    """A load by row-major position: what the schedule turns loads of stored tensors into."""

    __slots__ = ()


class Op(Expr):
    """An operation; ``name`` is one of the names of `onnx_numba.codegen.expr`."""

    __slots__ = ("args", "name")

    def __init__(self, name: str, args: tuple[Expr, ...], dtype: DType) -> None:
        self.name = name
        self.args = args
        super().__init__(dtype, (name, *(a._hash for a in args)))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Op)
            and self._hash == other._hash
            and self.name == other.name
            and self.dtype is other.dtype
            and self.args == other.args
        )

    __hash__ = Expr.__hash__

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.args))})"


Scalar = Expr | Number


def lit(value: Number, dtype: DType) -> Lit:
    """A literal of the compute type of ``dtype``; integers wrap, floats are rounded to it, complex ones are real."""
    dtype = DTYPES[dtype.compute]
    if dtype.kind == "c":
        return Lit(float(value), dtype)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return Lit(float(dtype.numpy.type(value)), dtype)
    if dtype.kind == "b":
        return Lit(bool(value), dtype)
    return Lit(_wrap(int(value), dtype), dtype)


def _wrap(value: int, dtype: DType) -> int:
    bits = 8 * dtype.size
    value &= (1 << bits) - 1
    return value - (1 << bits) if dtype.kind == "i" and value >> (bits - 1) else value


def dimval(value: Dim | int, dtype: DType = I64) -> Expr:
    """A dim as a scalar."""
    return lit(value, dtype) if isinstance(value, int) else DimVal(value, dtype)


def as_dim(e: Expr) -> Dim | int | None:
    """The dim that an integer expression is, or None when it depends on data."""
    if isinstance(e, DimVal):
        return e.value
    if isinstance(e, Lit) and e.dtype.kind in "iub":
        return int(e.value)
    return None


def as_index(e: Expr | Dim | int) -> Dim | int:
    """An index: dims stay dims, data-dependent values become opaque atoms."""
    if not isinstance(e, Expr):
        return e
    known = as_dim(e)
    return d.dim(d.Opaque("value", (cast(e, I64),))) if known is None else known


def _pair(a: Scalar, b: Scalar) -> tuple[Expr, Expr]:
    if isinstance(a, Expr):
        if not isinstance(b, Expr):
            return a, lit(b, a.dtype)
        if a.dtype is not b.dtype:
            raise TypeError(f"scalar operands have types {a.dtype} and {b.dtype}; cast one of them")
        return a, b
    assert isinstance(b, Expr)
    return lit(a, b.dtype), b


_DIM_ARITHMETIC: dict[str, Callable[[Any, Any], Dim | int]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "max": d.dmax, "min": d.dmin,
}  # fmt: skip


def binary(name: str, a: Scalar, b: Scalar) -> Expr:
    """``add sub mul div max min and or xor shl shr mod fmod pow atan2 …`` of two scalars of one type."""
    x, y = _pair(a, b)
    dx, dy = as_dim(x), as_dim(y)
    if x.dtype.is_int and dx is not None and dy is not None:
        folded = _fold_ints(name, dx, dy)
        if folded is not None:
            return dimval(folded, x.dtype)
    if isinstance(x, Lit) and isinstance(y, Lit) and x.dtype.kind == "b" and name in ("and", "or", "xor"):
        return lit({"and": x.value and y.value, "or": x.value or y.value, "xor": x.value != y.value}[name], BOOL)
    if isinstance(x, Lit) and isinstance(y, Lit) and x.dtype.is_float and name in ("add", "sub", "mul", "div"):
        kind = x.dtype.numpy.type
        with np.errstate(all="ignore"):
            return lit(getattr(operator, "truediv" if name == "div" else name)(kind(x.value), kind(y.value)), x.dtype)
    return Op(name, (x, y), x.dtype)


def _fold_ints(name: str, a: Dim | int, b: Dim | int) -> Dim | int | None:
    if name in _DIM_ARITHMETIC:
        return _DIM_ARITHMETIC[name](a, b)
    if name == "check_index":
        return a % b if isinstance(a, int) and isinstance(b, int) and -b <= a < b else None
    if isinstance(a, int) and isinstance(b, int) and b:
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        return {"div": quotient, "mod": a % b, "fmod": a - quotient * b}.get(name)
    if name == "mod" and isinstance(b, int) and b > 0:
        return d.mod(a, b)
    if name in ("div", "fmod") and b != 0 and d.at_least_zero(b):
        whole = d.truncdiv(a, b)
        return whole if name == "div" else a - whole * b
    return None


def unary(name: str, a: Expr) -> Expr:
    """``neg abs not sqrt exp floor isnan …`` of a scalar."""
    known = as_dim(a)
    if known is not None and a.dtype.is_int and name == "neg":
        return dimval(-known, a.dtype)
    if isinstance(a, Lit):
        if name == "not" and a.dtype.kind == "b":
            return lit(not a.value, BOOL)
        if name in ("neg", "abs") and a.dtype.kind in "if":
            return lit(-a.value if name == "neg" else abs(a.value), a.dtype)
    return Op(name, (a,), BOOL if name in ("isnan", "isinf") else a.dtype)


def order(a: Expr, name: str = "order") -> Expr:
    """An integer that compares with others as a float32 or float64 does with others; `onnx_numba.native.order` says by which names."""
    return Op(f"{name}_of", (a,), I64 if a.dtype is F64 else I32)


def of_order(place: Expr, name: str = "order") -> Expr:
    """The float of an `order`."""
    kind = F64 if place.dtype is I64 else F32
    return Op(f"{kind.name}_of_{name}", (place,), kind)


def part(name: str, a: Expr) -> Expr:
    """``real`` or ``imag`` of a complex scalar."""
    return Op(name, (a,), F64 if a.dtype is C128 else F32)


def complex_of(real: Expr, imag: Expr) -> Expr:
    """The complex scalar of two floats."""
    return Op("complex_", (real, imag), C128 if real.dtype is F64 else C64)


def compare(name: str, a: Scalar, b: Scalar) -> Expr:
    """``lt le gt ge eq ne``; false with NaN, but for ``ne``."""
    x, y = _pair(a, b)
    if name in ("gt", "ge"):
        return compare({"gt": "lt", "ge": "le"}[name], y, x)
    if x.dtype.is_int:
        dx, dy = as_dim(x), as_dim(y)
        if dx is not None and dy is not None:
            known = _decide(name, dx, dy)
            if known is not None:
                return lit(known, BOOL)
    if isinstance(x, Lit) and isinstance(y, Lit):
        return lit(getattr(operator, name)(x.value, y.value), BOOL)
    return Op(name, (x, y), BOOL)


def _decide(name: str, a: Dim | int, b: Dim | int) -> bool | None:
    if isinstance(a, int) and isinstance(b, int):
        return bool(getattr(operator, name)(a, b))
    if a == b:
        return name in ("le", "eq")
    if name in ("lt", "le"):
        low, high = d.bound(b - a, False), d.bound(b - a, True)
        least = 1 if name == "lt" else 0
        if low is not None and d.nonnegative(low - least, b - a):
            return True
        if high is not None and d.nonnegative(-high + (least - 1), b - a):
            return False
    return None


def eq(a: Scalar, b: Scalar) -> Expr:
    """Elementwise equality."""
    return compare("eq", a, b)


def ne(a: Scalar, b: Scalar) -> Expr:
    """Elementwise inequality."""
    return compare("ne", a, b)


def where(condition: Expr, a: Scalar, b: Scalar) -> Expr:
    """``a`` where the condition holds, else ``b``; both are evaluated."""
    if isinstance(condition, Lit):
        chosen, other = (a, b) if condition.value else (b, a)
        if isinstance(chosen, Expr):
            return chosen
        return _pair(chosen, other)[0] if isinstance(other, Expr) else lit(chosen, F32)
    x, y = _pair(a, b)
    return x if x == y else Op("select", (condition, x, y), x.dtype)


def guard(condition: Expr, value: Expr, default: Scalar) -> Expr:
    """``value`` where the condition holds, else ``default``; ``value`` (its loads, that is) is evaluated only where it holds."""
    if isinstance(condition, Lit):
        return value if condition.value else _pair(default, value)[0]
    return Op("guard", (condition, value, _pair(value, default)[1]), value.dtype)


def all_of(*conditions: Expr) -> Expr:
    """The conjunction, true when there are none."""
    result: Expr = lit(True, BOOL)
    for condition in conditions:
        if isinstance(result, Lit):
            result = condition if result.value else result
        elif not (isinstance(condition, Lit) and condition.value):
            result = result & condition
    return result


def any_of(*conditions: Expr) -> Expr:
    """The disjunction, false when there are none."""
    result: Expr = lit(False, BOOL)
    for condition in conditions:
        if isinstance(result, Lit):
            result = result if result.value else condition
        elif not (isinstance(condition, Lit) and not condition.value):
            result = result | condition
    return result


def cast(a: Scalar, dtype: DType) -> Expr:
    """Conversion to the compute type of ``dtype``: integers wrap, floats truncate and saturate, NaN becomes 0."""
    target = DTYPES[dtype.compute]
    if not isinstance(a, Expr):
        return lit(a, target)
    if a.dtype is target:
        return a
    if isinstance(a, Lit) and (target.kind in "fb" or a.dtype.kind in "iub"):
        return lit(a.value, target)
    # Extents fit every type; a difference may be negative, which wraps where a type has no sign.
    fits = isinstance(a, DimVal) and ("u" not in (a.dtype.kind, target.kind) or d.at_least_zero(a.value))
    if isinstance(a, DimVal) and fits and target.is_int and target.size >= 4:
        return DimVal(a.value, target)
    if target.kind == "b":
        return ne(a, 0)
    return Op("cast", (a,), target)


def round_to(a: Expr, dtype: DType, mode: str = "") -> Expr:
    """Rounding, once, to the values that a storage type has, staying in its compute type; ``mode`` is for powers of two."""
    kind = DTYPES[dtype.compute]
    if kind is dtype:
        return cast(a, dtype)
    if kind.is_float:
        return Op(f"round_{dtype.name}{mode}", (wide_float(a),), kind)
    # Floats wrap too where they fit 32 bits, as the standard's tests have it.
    return Op(f"round_{dtype.name}", (cast(cast(a, I32) if a.dtype.is_float else a, kind),), kind)


def wide_float(a: Expr) -> Expr:
    """A scalar as a float that rounds to 16 bits and fewer as the scalar itself would."""
    if a.dtype in (I64, U64):
        return Op("odd_f64", (a,), F64)
    return cast(a, F64) if a.dtype in (I32, U32, F64) else cast(a, F32)


def children(e: Expr) -> tuple[Expr, ...]:
    """Sub-expressions, those used as indices included."""
    if isinstance(e, Op):
        return e.args
    if isinstance(e, Load):
        return tuple(v for i in e.index for v in values_in(i))
    return tuple(values_in(e.value)) if isinstance(e, DimVal) else ()


def values_in(value: Dim | int) -> list[Expr]:
    """Scalar expressions that a dim or index is made of."""
    found: list[Expr] = []
    for atom in d.atoms(value):
        if isinstance(atom, d.Opaque) and atom.holds_values:
            for arg in atom.args:
                found += [arg] if isinstance(arg, Expr) else values_in(arg)
    return found


def walk(*roots: Expr) -> Iterator[Expr]:
    """Every sub-expression once, those used as indices included."""
    seen: set[Expr] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack.extend(children(node))


def rewrite(e: Expr, leaf: Callable[[Expr, Callable[[Expr], Expr]], Expr | None], memo: dict[Expr, Expr]) -> Expr:
    """Rebuild an expression bottom-up, folding again; ``leaf(e, again)`` may answer for any node, else its parts are rebuilt."""

    def again(node: Expr) -> Expr:
        done = memo.get(node)
        if done is None:
            done = leaf(node, again)
            if done is None:
                done = rebuild(node, tuple(map(again, node.args))) if isinstance(node, Op) else node
            memo[node] = done
        return done

    return again(e)


def rebuild(node: Op, args: tuple[Expr, ...]) -> Expr:
    """The same operation on other arguments, folded anew."""
    if all(x is y for x, y in zip(args, node.args, strict=True)):
        return node
    if node.name == "select":
        return where(*args)
    if node.name == "guard":
        return guard(*args)
    if node.name == "cast":
        return cast(args[0], node.dtype)
    if node.name in ("lt", "le", "eq", "ne"):
        return compare(node.name, *args)
    if len(args) == 2 and args[0].dtype is args[1].dtype is node.dtype:
        return binary(node.name, *args)
    if len(args) == 1 and node.name in ("neg", "abs", "not"):
        return unary(node.name, args[0])
    return Op(node.name, args, node.dtype)


def substitute(e: Expr, table: Mapping[Sym, Dim | int], memo: dict[Expr, Expr] | None = None) -> Expr:
    """Replace loop variables."""

    def leaf(node: Expr, again: Callable[[Expr], Expr]) -> Expr | None:
        if isinstance(node, DimVal):
            return dimval(resolve(d.substitute(node.value, table, again)), node.dtype)
        if isinstance(node, Load):
            return node.at(tuple(resolve(d.substitute(i, table, again)) for i in node.index))
        return None

    return rewrite(e, leaf, {} if memo is None else memo)


def resolve(value: Dim | int) -> Dim | int:
    """Replace value atoms whose expression has become a dim."""
    if isinstance(value, int) or not any(isinstance(a, d.Opaque) and a.op == "value" for a in d.atoms(value)):
        return value
    result: Dim | int = 0
    for monomial, factor in value.terms.items():
        term: Dim | int = factor
        for atom in monomial:
            term = term * (as_index(atom.args[0]) if isinstance(atom, d.Opaque) and atom.op == "value" else d.dim(atom))
        result = result + term
    return result
