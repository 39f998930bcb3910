"""Iterations that do not depend on one another, all at once: the tensors of a body with one more axis, that of the iterations.

A Scan over the rows of x whose body is ``sum((s - row) ** 2)``, s being the same in every iteration,

    y[i] = sum over k of (s[i, k] - row[k]) ** 2

becomes, with t counting the iterations,

    y[t, i] = sum over k of (s[i, k] - x[t, k]) ** 2

and then fuses and runs like any other tensor. What does not depend on the iteration stays as it is and is computed once. Bodies whose
state changes, or with algorithms that have no index for the iteration (templates, tuned products, steps in Python), are not lifted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Check, Concat, Definition, ElementSource, Input, Map, Object, Program, Reduce, Reshape, Tensor, Weight
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.outside import Outside, Table, UnknownOutside
from onnx_numba.record import record


@record
class Lifted:
    """A tensor of the body outside of it; where it ``varies``, its first axis counts the iterations."""

    tensor: Tensor
    varies: bool


def lift(b: Builder, body: Program, given: Sequence[Lifted | Object], count: Dim | int) -> list[Lifted | None]:
    """The outputs of all iterations of a body; None for those that cannot be had at once.

    Parameters
    ----------
    b : Builder
        Makes the tensors.
    body : Program
        The body.
    given : sequence of Lifted or Object
        Its inputs.
    count : Dim or int
        The number of iterations.
    """
    lifter = _Lifter(b, body, given, count)
    for value in body.values:
        lifter.add(value)
    return [lifter.made.get(value) if isinstance(value, Tensor) else None for _, value in body.outputs]


class _Lifter(Outside):
    """Lifts the values of a body in their order."""

    def __init__(self, b: Builder, body: Program, given: Sequence[Lifted | Object], count: Dim | int) -> None:
        super().__init__()
        self._b, self._count, self._given = b, count, given
        self.made: dict[Tensor, Lifted] = {}
        for (_, value, _), outer in zip(body.inputs, given, strict=True):
            if isinstance(value, Tensor) and isinstance(outer, Lifted):
                self.same(value.shape, outer.tensor.shape[outer.varies :])

    def add(self, value: Tensor | Object) -> None:
        """Lift a value, if it can be."""
        if not isinstance(value, Tensor):
            return
        before = len(self._b.program.values)
        try:
            lifted = self._lifted(value)
            checks = tuple(map(self._check, value.checks))
        except UnknownOutside:
            return
        if len(self._b.program.values) > before:
            lifted.tensor.checks = tuple(dict.fromkeys((*lifted.tensor.checks, *checks)))
            lifted.tensor.origin = value.origin or lifted.tensor.origin
        self.made[value] = lifted

    def _lifted(self, value: Tensor) -> Lifted:
        definition = value.definition
        if isinstance(definition, Input):
            given = self._given[definition.index]
            if isinstance(given, Object):
                raise UnknownOutside
            return given
        if isinstance(definition, Weight):
            return Lifted(self._b.define(value.dtype, value.shape, definition, value.content, value.name), False)
        if isinstance(definition, Map):
            return self._map(value, definition)
        if isinstance(definition, Reduce) and definition.hint is None:
            return self._reduce(value, definition)
        if isinstance(definition, Reshape):
            source = self._outer(definition.source)
            return self._new(value, Reshape(source.tensor), source.varies)
        if isinstance(definition, Concat):
            return self._concat(value, definition)
        raise UnknownOutside

    def _outer(self, tensor: Tensor) -> Lifted:
        if tensor not in self.made:
            raise UnknownOutside
        return self.made[tensor]

    def _map(self, value: Tensor, definition: Map) -> Lifted:
        varies = self._varies(definition.expr)
        names = tuple(f"i{k}" for k in range(value.rank))
        variables = tuple(Sym(name, extent=self.dim(x)) for name, x in zip(names, value.shape, strict=True))
        iteration = (Sym("t", extent=self._count),) if varies else ()
        element = self._rewritten(definition.expr, definition.vars, variables, iteration)
        return self._new(value, Map((*iteration, *variables), element), varies)

    def _reduce(self, value: Tensor, definition: Reduce) -> Lifted:
        varies = self._varies(definition.expr)
        old = definition.order
        table = {v: Sym(v.name, extent=self.dim(v.extent)) for v in old if v.extent is not None}
        iteration = (Sym("t", extent=self._count),) if varies else ()
        element = self._rewritten(definition.expr, old, tuple(table[v] for v in old), iteration)
        kept, gone = tuple(table[v] for v in definition.vars), tuple(table[v] for v in definition.rvars)
        order = (*iteration, *(table[v] for v in old))
        return self._new(value, Reduce((*iteration, *kept), gone, order, definition.kind, element), varies)

    def _concat(self, value: Tensor, definition: Concat) -> Lifted:
        parts = [self._outer(part) for part in definition.parts]
        varies = any(part.varies for part in parts)
        tensors = [
            part.tensor if part.varies == varies else self._b.expand(part.tensor, (self._count, *part.tensor.shape)) for part in parts
        ]
        return self._new(value, Concat(tuple(tensors), tuple(map(self.dim, definition.offsets)), definition.axis + varies), varies)

    def _new(self, value: Tensor, definition: Definition, varies: bool) -> Lifted:
        """A tensor of the body by its definition outside."""
        shape = (*((self._count,) if varies else ()), *map(self.dim, value.shape))
        return Lifted(self._b.define(value.dtype, shape, definition), varies)

    def _varies(self, value: Expr) -> bool:
        return any(self._outer(node.tensor).varies for node in e.walk(value) if isinstance(node, e.Load))

    def _rewritten(self, value: Expr, old: Sequence[Sym], new: Sequence[Sym], iteration: Sequence[Sym]) -> Expr:
        """An expression of the body over tensors and dims outside of it."""
        table: Table = {v: d.dim(w) for v, w in zip(old, new, strict=True)}
        at = tuple(map(d.dim, iteration))

        def inside(x: Dim | int, again: Callable[[Expr], Expr]) -> Dim | int:
            return e.resolve(d.substitute(x, {**self.table(x, table), **table}, again))

        def leaf(node: Expr, again: Callable[[Expr], Expr]) -> Expr | None:
            if isinstance(node, e.DimVal):
                return e.dimval(inside(node.value, again), node.dtype)
            if isinstance(node, e.Load):
                outer = self._outer(node.tensor)
                index = tuple(inside(i, again) for i in node.index)
                return outer.tensor[(*at, *index) if outer.varies else index]
            return None

        return e.rewrite(value, leaf, {})

    def element(self, source: ElementSource) -> ElementSource:
        """The same element outside, if it is the same in every iteration."""
        outer = self._outer(source.tensor)
        if outer.varies:
            raise UnknownOutside
        return ElementSource(outer.tensor, source.index, source.origin)

    def _check(self, check: Check) -> Check:
        """The demand outside of the body, where nothing is demanded if there are no iterations."""
        any_iteration = 1 if isinstance(self._count, int) and self._count > 0 else d.dmin(self._count, 1)
        return Check(self.dim(check.a) * any_iteration, self.dim(check.b) * any_iteration, check.code, check.reason)
