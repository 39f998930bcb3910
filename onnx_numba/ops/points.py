"""Images between their elements: sums of weighted elements, the same for all channels, wherever a point may lie."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Shape, Tensor
from onnx_numba.ir.types import I64, DType
from onnx_numba.ops.builder import Builder

Extent = Dim | int
Index = tuple[Dim, ...]
Tap = Callable[[int, Dim, Index], tuple[Expr, Expr]]
"""Of an axis, the number of an element along it that a point is made of and the point: where the element is, and what it weighs."""
_TABLED = 4
"""Elements of a point up to which each of them is looked up."""


class Points:
    """The elements of an image that points are made of, ``count`` along each axis.

    Of few, tables have the position and the weight of each, for which what an axis says of a point is computed several times over, but
    not for every channel. Of more there are tables for each axis, which are joined for every channel.

    Attributes
    ----------
    sides : list of tuple of int
        The numbers of a point's elements along the axes.

    Parameters
    ----------
    x : Tensor
        The image, of axes that come after two others.
    points : tuple of Dim or int
        How many points there are, along some axes.
    tap : callable
        See `Tap`. Where ``partial``, -1 stands for an element that does not count.
    kind : DType, optional
        The type of weights, if there are any.
    """

    def __init__(self, b: Builder, x: Tensor, points: Shape, count: int, tap: Tap, kind: DType | None, partial: bool) -> None:
        rank = x.rank - 2
        self.extents, self.partial, self.kind = x.shape[2:], partial, kind
        self.flat = b.reshape(x, (*x.shape[:2], d.product(self.extents)))
        self.sides = list(itertools.product(range(count), repeat=rank))
        self.whole = len(self.sides) <= _TABLED

        def place(*at: Dim) -> Expr:
            return self._joined([tap(k, at[k], at[rank:])[0] for k in range(rank)])

        def weight(*at: Dim) -> Expr:
            return functools.reduce(operator.mul, (tap(k, at[k], at[rank:])[1] for k in range(rank)))

        if self.whole:
            shape: Shape = (*(count,) * rank, *points)
            self.places = [b.compute(shape, place, I64)]
            self.weights = [] if kind is None else [b.compute(shape, weight, kind)]
        else:
            shape = (count, *points)
            self.places = [b.compute(shape, lambda r, *at, k=k: tap(k, r, at)[0], I64) for k in range(rank)]
            self.weights = [] if kind is None else [b.compute(shape, lambda r, *at, k=k: tap(k, r, at)[1], kind) for k in range(rank)]

    def _joined(self, places: list[Expr]) -> Expr:
        """The position in the image of an element at places on its axes, -1 if one of these is."""
        flat = functools.reduce(lambda v, k: v * e.dimval(self.extents[k]) + places[k], range(1, len(places)), places[0])
        return e.where(e.all_of(*(v >= 0 for v in places)), flat, -1) if self.partial else flat

    def _found(self, tables: list[Tensor], at: Sequence[Extent], side: Sequence[Extent]) -> list[Expr]:
        return [tables[0][(*side, *at)]] if self.whole else [table[(r, *at)] for table, r in zip(tables, side, strict=True)]

    def term(self, image: Sequence[Extent], at: Sequence[Extent], side: Sequence[Extent]) -> Expr:
        """An element of a point of one image, weighed; the image is named by an index of two axes."""
        found = self._found(self.places, at, side)
        place = found[0] if self.whole else self._joined(found)
        value = self.flat[(*image, place)]
        if self.partial:
            value = e.guard(place >= 0, value, 0)
        if self.kind is None:
            return value
        return functools.reduce(operator.mul, self._found(self.weights, at, side)) * e.cast(value, self.kind)

    def total(self, image: Sequence[Extent], at: Sequence[Extent]) -> Expr:
        """The sum of a point's elements."""
        return functools.reduce(operator.add, (self.term(image, at, side) for side in self.sides))
