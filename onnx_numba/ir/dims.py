"""Symbolic integers: dims, sizes and index expressions in one normal form.

A `Dim` is a polynomial with integer coefficients over atoms. An atom is a symbol (`Sym`: a dim known at run time, or a loop variable
with an extent) or an opaque operation (`Opaque`: floor division, remainder, max …) over other dims. Constants are plain ``int``, so
code that is handed static shapes never sees a `Dim`. Equal polynomials are equal objects by value, which is what fusion compares.

>>> n = Sym("n"); i = Sym("i", extent=n); j = Sym("j", extent=4)
>>> floordiv(dim(i) * 4 + dim(j), 4)
i
>>> mod(dim(i) * 4 + dim(j), 4)
j
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

MULTIPLIED_OUT = 256
"""Terms up to which products of sums are multiplied out: the size of a tensor that is padded along n axes would have 3ⁿ."""


class Sym:
    """A symbol: a run-time dim (``extent`` None; at least 0 unless ``signed``) or a loop variable (0 ≤ it < ``extent``).

    Compared by identity.
    """

    __slots__ = ("extent", "key", "name", "signed", "source")

    def __init__(self, name: str, extent: Dim | int | None = None, source: Any = None, signed: bool = False) -> None:
        self.signed = signed
        self.name = name
        self.key = name
        self.extent = extent
        self.source = source  # where a run-time dim comes from; see onnx_numba.ir.loop

    def __repr__(self) -> str:
        return self.name


class Opaque:
    """An operation that the polynomial cannot see into; also a scalar expression used as an index (``op`` is then ``"value"``)."""

    __slots__ = ("_hash", "args", "depth", "holds_values", "key", "op")

    def __init__(self, op: str, args: tuple[Any, ...]) -> None:
        self.op = op
        self.args = args
        self._hash = hash((op, args))
        self.depth: int = 1 + max((a.depth for a in args if isinstance(a, Dim)), default=0)
        self.holds_values: bool = op == "value" or any(a.holds_values for a in args if isinstance(a, Dim))
        self.key = _digest(op, *(a.key if isinstance(a, Dim) else repr(a) if isinstance(a, int) else "value" for a in args))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Opaque) and self._hash == other._hash and self.op == other.op and self.args == other.args

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(map(repr, self.args))})"


Atom = Sym | Opaque
Monomial = tuple[Atom, ...]


def _digest(*parts: str) -> str:
    """A short name for a structure: deep dims share parts, so that spelling them out would take time exponential in their depth."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def _order(atom: Atom) -> tuple[str, int]:
    """An order of atoms that is the same in every process, but for distinct symbols of one name."""
    return (atom.key, id(atom) if isinstance(atom, Sym) else 0)


class Dim:
    """A polynomial that is not a constant; made by arithmetic on `dim(symbol)`."""

    __slots__ = ("_at_least_zero", "_hash", "_key", "_symbols", "depth", "holds_values", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = dict(terms)
        self._hash = hash(frozenset(self.terms.items()))
        self._key: str | None = None
        self._symbols: frozenset[Sym] | None = None
        self._at_least_zero: bool | None = None
        opaques = [a for m in self.terms for a in m if isinstance(a, Opaque)]
        self.depth: int = max((a.depth for a in opaques), default=0)
        self.holds_values: bool = any(a.holds_values for a in opaques)  # whether scalar expressions are among its atoms

    @property
    def key(self) -> str:
        """A short name for the structure."""
        if self._key is None:
            self._key = _digest(*sorted(f"{f}*{'*'.join(a.key for a in m)}" for m, f in self.terms.items()))
        return self._key

    @property
    def symbols(self) -> frozenset[Sym]:
        """See `symbols`."""
        if self._symbols is None:
            found: set[Sym] = set()
            for atom in {a for m in self.terms for a in m}:
                if isinstance(atom, Sym):
                    found.add(atom)
                elif atom.op != "value":
                    found.update(*(arg.symbols for arg in atom.args if isinstance(arg, Dim)))
            self._symbols = frozenset(found)
        return self._symbols

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Dim) and self._hash == other._hash and self.terms == other.terms)

    def __add__(self, other: Dim | int) -> Dim | int:
        terms = dict(self.terms)
        for monomial, factor in _terms(other).items():
            terms[monomial] = terms.get(monomial, 0) + factor
        return _make(terms)

    def __mul__(self, other: Dim | int) -> Dim | int:
        left, right = _terms(self), _terms(other)
        if len(left) * len(right) > MULTIPLIED_OUT:
            left, right = _terms(_whole(self)), _terms(_whole(other))
        terms: dict[Monomial, int] = {}
        for m1, f1 in left.items():
            for m2, f2 in right.items():
                monomial = tuple(sorted(m1 + m2, key=_order)) if m1 and m2 else m1 + m2
                terms[monomial] = terms.get(monomial, 0) + f1 * f2
        return _make(terms)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Dim | int:
        return self * -1

    def __sub__(self, other: Dim | int) -> Dim | int:
        return self + (-other)

    def __rsub__(self, other: Dim | int) -> Dim | int:
        return (-self) + other

    def __floordiv__(self, other: Dim | int) -> Dim | int:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Dim | int) -> Dim | int:
        return floordiv(other, self)

    def __mod__(self, other: Dim | int) -> Dim | int:
        return mod(self, other)

    def __rmod__(self, other: Dim | int) -> Dim | int:
        return mod(other, self)

    def __repr__(self) -> str:
        parts = []
        for monomial, factor in sorted(self.terms.items(), key=lambda t: (-len(t[0]), repr(t[0]))):
            names = "*".join(map(repr, monomial))
            parts.append(names if names and factor == 1 else f"{factor}*{names}" if names else str(factor))
        return " + ".join(parts)


def _terms(value: Dim | int) -> Mapping[Monomial, int]:
    return value.terms if isinstance(value, Dim) else {(): int(value)}


def _make(terms: dict[Monomial, int]) -> Dim | int:
    terms = {m: f for m, f in terms.items() if f}
    if not terms:
        return 0
    if len(terms) == 1 and () in terms:
        return terms[()]
    return Dim(terms)


def dim(atom: Atom) -> Dim:
    """The polynomial that is just one atom."""
    return Dim({(atom,): 1})


def _whole(value: Dim | int) -> Dim | int:
    """A sum as one atom, its division by 1; what loops and elements decide stays in sight, as strides are read from it."""
    if isinstance(value, int) or len(value.terms) == 1 or value.holds_values or any(s.extent is not None for s in value.symbols):
        return value
    return dim(Opaque("div", (value, 1)))


def product(values: Iterable[Dim | int]) -> Dim | int:
    """The product, 1 when there are none."""
    result: Dim | int = 1
    for value in values:
        result = result * value
    return result


def total(values: Iterable[Dim | int]) -> Dim | int:
    """The sum, 0 when there are none; made at once, since partial sums of many terms would take time quadratic in their number."""
    terms: dict[Monomial, int] = {}
    for value in values:
        for monomial, factor in _terms(value).items():
            terms[monomial] = terms.get(monomial, 0) + factor
    return _make(terms)


def atoms(value: Dim | int) -> set[Atom]:
    """The atoms of a polynomial, not those inside opaque ones."""
    return {a for m in _terms(value) for a in m}


def symbols(value: Dim | int) -> frozenset[Sym]:
    """All symbols that the value depends on through dims, those inside opaque operations included."""
    return value.symbols if isinstance(value, Dim) else frozenset()


def floordiv(a: Dim | int, c: Dim | int) -> Dim | int:
    """Floor division by a positive ``c``, taking out of ``a`` what ``c`` divides exactly and what is provably below ``c``."""
    if isinstance(a, int) and isinstance(c, int):
        return a // c if c else 0
    if c == 1 or c == 0:  # nothing is divided by 0 but what nobody reads
        return a if c else 0
    quotient, rest = _divide(a, c)
    if rest == 0 or (at_least_zero(rest, c) and _below(rest, c)):
        return quotient
    shorter = _shortened(rest, c)
    return quotient + (dim(Opaque("div", (rest, c))) if shorter is None else floordiv(shorter.dividend, shorter.divisor))


def truncdiv(a: Dim | int, c: Dim | int) -> Dim | int:
    """Division by a positive ``c`` rounded towards zero."""
    if at_least_zero(a):
        return floordiv(a, c)
    return dmax(floordiv(a, c), 0) + dmin(ceildiv(a, c), 0)


def mod(a: Dim | int, c: Dim | int) -> Dim | int:
    """The remainder of `floordiv`, of the sign of ``c``."""
    if isinstance(a, int) and isinstance(c, int):
        return a % c if c else 0
    if c == 1 or c == 0:
        return 0
    _, rest = _divide(a, c)
    if rest == 0 or (at_least_zero(rest, c) and _below(rest, c)):
        return rest
    if isinstance(rest, int) and isinstance(c, int):
        return rest % c
    shorter = _shortened(rest, c)
    if shorter is None:
        return dim(Opaque("mod", (rest, c)))
    return mod(shorter.dividend, shorter.divisor) * shorter.factor + shorter.rest


def ceildiv(a: Dim | int, c: Dim | int) -> Dim | int:
    """Division rounded up."""
    return floordiv(a + (c - 1), c)


def opaque(op: str, a: Dim | int, b: Dim | int, fold: Callable[[int, int], int]) -> Dim | int:
    """``op`` of two dims, computed now when both are numbers."""
    if isinstance(a, int) and isinstance(b, int):
        return int(fold(a, b))
    return dim(Opaque(op, (a, b)))


def dmax(a: Dim | int, b: Dim | int) -> Dim | int:
    """The greater of two."""
    return a if a == b or (b == 0 and at_least_zero(a)) else b if a == 0 and at_least_zero(b) else opaque("max", a, b, max)


def dmin(a: Dim | int, b: Dim | int) -> Dim | int:
    """The lesser of two."""
    return a if a == b else opaque("min", a, b, min)


def compare(op: str, a: Dim | int, b: Dim | int) -> Dim | int:
    """1 or 0 for ``eq``, ``ne``, ``lt``, ``le``."""
    if a == b:
        return int(op in ("eq", "le"))
    tests: dict[str, Callable[[int, int], bool]] = {
        "eq": lambda x, y: x == y, "ne": lambda x, y: x != y, "lt": lambda x, y: x < y, "le": lambda x, y: x <= y,
    }  # fmt: skip
    return opaque(op, a, b, lambda x, y: int(tests[op](x, y)))


def broadcast(a: Dim | int, b: Dim | int) -> Dim | int | None:
    """The common extent of two dims by NumPy's rule; None when two numbers do not fit."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a, int) and isinstance(b, int):
        return None
    return dim(Opaque("bcast", (a, b)))


def substitute(value: Dim | int, table: Mapping[Sym, Dim | int], inner: Callable[[Any], Any] | None = None) -> Dim | int:
    """Replace symbols; ``inner`` rewrites scalar expressions held by ``value`` atoms."""
    if isinstance(value, int) or (inner is None and value.symbols.isdisjoint(table)):
        return value
    if value.symbols.isdisjoint(table) and not value.holds_values:
        return value
    # Each atom once: sums kept whole hold others, which are in all of their terms.
    replaced = {atom: _substitute_atom(atom, table, inner) for atom in dict.fromkeys(a for m in value.terms for a in m)}
    return total(product([factor, *(replaced[atom] for atom in monomial)]) for monomial, factor in value.terms.items())


def _substitute_atom(atom: Atom, table: Mapping[Sym, Dim | int], inner: Callable[[Any], Any] | None) -> Dim | int:
    if isinstance(atom, Sym):
        return table[atom] if atom in table else dim(atom)
    if atom.op == "value":
        return dim(Opaque("value", (inner(atom.args[0]),))) if inner else dim(atom)
    args = [substitute(a, table, inner) for a in atom.args]
    rebuild = {"div": floordiv, "mod": mod, "max": dmax, "min": dmin}.get(atom.op)
    if rebuild:
        return rebuild(args[0], args[1])
    if atom.op == "bcast":
        common = broadcast(args[0], args[1])
        return dim(atom) if common is None else common
    return compare(atom.op, args[0], args[1])


def _divide(a: Dim | int, c: Dim | int) -> tuple[Dim | int, Dim | int]:
    """Split ``a`` into ``quotient * c + rest``; the quotient takes every term that ``c`` (one term) divides."""
    divisor = _terms(c)
    if len(divisor) != 1:
        return (1, 0) if a == c else (0, a)
    ((wanted, number),) = divisor.items()
    quotient: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, factor in _terms(a).items():
        left = _without(monomial, wanted)
        if left is None:
            rest[monomial] = factor
        elif not wanted and left == ():
            quotient[()], rest[()] = divmod(factor, number)
        elif factor % number == 0:
            quotient[left] = quotient.get(left, 0) + factor // number
        else:
            rest[monomial] = factor
    return _make(quotient), _make(rest)


class _Shorter(NamedTuple):
    """A dividend ``dividend * factor + rest`` and a divisor ``divisor * factor``, where ``rest`` is at least 0 and below ``factor``."""

    dividend: Dim | int
    divisor: Dim | int
    rest: Dim | int
    factor: Dim | int


def _shortened(a: Dim | int, c: Dim | int) -> _Shorter | None:
    """A division without a factor of both sides: that of ``48 * i + j`` by 336, where j runs to 48, is that of ``i`` by 7."""
    for monomial, times in _terms(a).items():
        number, common = times, list(monomial)
        for other, factor in _terms(c).items():
            number = math.gcd(number, factor)
            common = [atom for atom in dict.fromkeys(common) if atom in other]
        k = _make({tuple(common): number}) if common or number != 1 else 1
        if k in (1, c):
            continue
        u, r = _divide(a, k)
        if r == 0 or (at_least_zero(r, k) and _below(r, k)):
            return _Shorter(u, _divide(c, k)[0], r, k)
    return None


def _without(monomial: Monomial, wanted: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in wanted:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def _below(value: Dim | int, divisor: Dim | int) -> bool:
    """Whether value < divisor provably holds inside the loops that its variables belong to, where the divisor is at least 1."""
    top = bound(value, upper=True)
    return top is not None and nonnegative(divisor - 1 - top, value, divisor)


def at_least_zero(value: Dim | int, divisor: Dim | int = 1) -> bool:
    """Whether value ≥ 0 provably holds inside the loops that its variables belong to, where the divisor is at least 1."""
    if isinstance(value, int):
        return value >= 0
    if divisor != 1:
        low = bound(value, upper=False)
        return low is not None and nonnegative(low, value, divisor)
    if value._at_least_zero is None:
        low = bound(value, upper=False)
        value._at_least_zero = low is not None and nonnegative(low, value)
    return value._at_least_zero


def nonnegative(value: Dim | int, inside: Dim | int = 1, divisor: Dim | int = 1) -> bool:
    """Whether a polynomial over dims is ≥ 0 where the loops of the variables of ``inside`` run and ``divisor`` is at least 1.

    A dim is known to be at least 1 where it is a factor of one of these extents, or of the divisor; else it may be 0.
    """
    if isinstance(value, int):
        return value >= 0
    if any(_may_be_negative(a) for a in atoms(value)):
        return False
    if all(f >= 0 for f in value.terms.values()):
        return True
    positive = _factors(divisor)
    for symbol in _loops(inside):
        positive |= _factors(symbol.extent)
    shifted = total(
        product([factor, *(dim(atom) + int(atom in positive) for atom in monomial)]) for monomial, factor in value.terms.items()
    )
    return all(f >= 0 for f in _terms(shifted).values())


def _may_be_negative(atom: Atom) -> bool:
    """Whether an atom is a number that the run knows of no sign, or a sum of such."""
    if isinstance(atom, Sym):
        return atom.signed
    return atom.op == "div" and not at_least_zero(atom.args[0])


def _loops(value: Dim | int) -> set[Sym]:
    """The loop variables that a value depends on, and those that their extents do."""
    found: set[Sym] = set()
    stack = [s for s in symbols(value) if s.extent is not None]
    while stack:
        symbol = stack.pop()
        if symbol not in found:
            found.add(symbol)
            stack += [s for s in symbols(symbol.extent or 0) if s.extent is not None]
    return found


def _factors(value: Dim | int | None) -> set[Atom]:
    """The run-time dims that a product is made of; none for a sum."""
    terms = list(_terms(value or 1))
    return {a for a in terms[0] if isinstance(a, Sym) and a.extent is None} if len(terms) == 1 else set()


def bound(value: Dim | int, upper: bool) -> Dim | int | None:
    """An upper or lower bound without loop variables, or None when none is known."""
    if isinstance(value, int) or (not value.depth and all(s.extent is None for s in value.symbols)):
        return value
    terms: list[Dim | int] = []
    for monomial, factor in _terms(value).items():
        term: Dim | int = factor
        for atom in monomial:
            limit = _atom_bound(atom, upper == (factor > 0))
            if limit is None:
                return None
            term = term * limit
        terms.append(term)
    return total(terms)


def _atom_bound(atom: Atom, upper: bool) -> Dim | int | None:
    if isinstance(atom, Sym):
        if atom.extent is None:
            return dim(atom)
        return bound(atom.extent - 1, True) if upper else 0
    if atom.op == "div" and at_least_zero(atom.args[0]):
        if not upper:
            return 0
        if not atom.holds_values and not any(s.extent is not None for s in symbols(dim(atom))):
            return dim(atom)
        top = bound(atom.args[0], True)
        return None if top is None else floordiv(top, atom.args[1])
    if atom.op == "mod":
        return atom.args[1] - 1 if upper else 0
    if atom.op in ("eq", "ne", "lt", "le"):
        return int(upper)
    if upper and atom.op == "min":
        tops = [top for a in atom.args if (top := bound(a, True)) is not None]
        return min((top for top in tops if isinstance(top, int)), default=tops[0] if tops else None)
    if not upper and atom.op in ("max", "bcast", "min"):
        return 0 if any(at_least_zero(a) for a in atom.args) and (atom.op == "max" or all(map(at_least_zero, atom.args))) else None
    return dim(atom) if atom.op in ("max", "min", "bcast") and not any(s.extent is not None for s in symbols(dim(atom))) else None
