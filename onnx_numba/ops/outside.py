"""What the dims of a body are outside of it.

A body is lowered for inputs whose dims are symbols of its own. Where one of these always stands for the same dim of the surrounding
graph, results of the body have shapes that are known there, and no check and no load is needed for them:

    body      x: [n'], y = Concat(x, x): [2*n']
    outside   n' is n, so that y is [2*n]
"""

from __future__ import annotations

from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.loop import DimSource, ElementSource, Shape

Table = dict[Sym, Dim | int]


class UnknownOutside(Exception):
    """A dim, or a value, that means nothing outside of its body."""


class Outside:
    """The dims of a body as those of the surrounding graph."""

    def __init__(self) -> None:
        self._dims: Table = {}

    def same(self, inner: Shape, outer: Shape) -> None:
        """Say that an input of the body with the shape ``inner`` is a value with the shape ``outer`` in every iteration."""
        for extent, known in zip(inner, outer, strict=True):
            if isinstance(extent, Dim):
                ((symbol,),) = extent.terms
                assert isinstance(symbol, Sym)
                self._dims.setdefault(symbol, known)

    def dim(self, value: Dim | int) -> Dim | int:
        """A dim outside.

        Raises
        ------
        UnknownOutside
            It differs from iteration to iteration, or nobody can say.
        """
        return d.substitute(value, self.table(value, {}))

    def shape(self, shape: Shape) -> tuple[Dim | int | None, ...]:
        """A shape outside; None for dims that are not known there."""
        return tuple(map(self._dim_if_known, shape))

    def table(self, value: Dim | int, variables: Table) -> Table:
        """What the symbols of a dim, but for loop variables, are outside."""
        return {symbol: self._symbol(symbol) for symbol in d.symbols(value) if symbol not in variables}

    def element(self, source: ElementSource) -> ElementSource:
        """The same element outside."""
        raise UnknownOutside

    def _dim_if_known(self, value: Dim | int) -> Dim | int | None:
        try:
            return self.dim(value)
        except UnknownOutside:
            return None

    def _symbol(self, symbol: Sym) -> Dim | int:
        if symbol not in self._dims:
            source: Any = symbol.source
            if isinstance(source, DimSource):
                self._dims[symbol] = self.dim(source.value)
            elif isinstance(source, ElementSource):
                self._dims[symbol] = d.dim(Sym(symbol.name, source=self.element(source), signed=symbol.signed))
            else:
                raise UnknownOutside
        return self._dims[symbol]
