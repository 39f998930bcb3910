"""Conditions that shapes decide, as dims: 1 where they hold, 0 where they do not."""

from __future__ import annotations

from typing import Any

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import DimSource, Map, Reshape, Tensor


def by_shapes(tensor: Tensor) -> Dim | int | None:
    """The single element of a tensor, if the dims of the program's inputs alone decide it."""
    found = _dim(tensor[(0,) * tensor.rank])
    return found if found is not None and all(map(_given, d.symbols(found))) else None


def _given(symbol: Sym) -> bool:
    source: Any = symbol.source
    if isinstance(source, DimSource):
        return all(map(_given, d.symbols(source.value)))
    return isinstance(source, tuple) and isinstance(source[0], int)


def _dim(value: Expr) -> Dim | int | None:
    known = e.as_dim(value)
    if known is not None:
        return known
    if isinstance(value, e.Load):
        return _loaded(value)
    if not isinstance(value, e.Op) or not all(a.dtype.kind in "iub" for a in value.args):
        return None
    args = [_dim(a) for a in value.args]
    if any(a is None for a in args):
        return None
    a, b = (*args, 0)[:2]
    assert a is not None and b is not None
    if value.name in ("eq", "ne", "lt", "le"):
        return d.compare(value.name, a, b)
    if value.name == "cast" and value.dtype.kind in "iub":
        return a
    logical = value.dtype.kind == "b"
    ways = {"not": 1 - a, "and": a * b, "or": a + b - a * b, "xor": a + b - 2 * a * b}
    return ways.get(value.name) if logical else None


def _loaded(load: e.Load) -> Dim | int | None:
    definition = load.tensor.definition
    if isinstance(definition, Map):
        return _dim(e.substitute(definition.expr, dict(zip(definition.vars, load.index, strict=True))))
    if isinstance(definition, Reshape) and definition.source.size == 1:
        return _dim(definition.source[(0,) * definition.source.rank])
    return None
