"""The same model compiled and as plain Python, step by step counted.

Compiled code and the twins may differ where arithmetic may: in the last bits of a function, and in sums and products whose terms
vectors take in another order. So integers, booleans and strings are equal, and floats within 2 units in the last place (ulp); within
2 ulp per operation that is written down, taken at the size of the tensor's largest value, once a kernel accumulates: a sum may cancel,
and what is left has the error of what went into it.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from onnx_numba.compile.store import Store
from onnx_numba.ir.types import dtype_of
from onnx_numba.options import Options
from onnx_numba.pipeline import Build
from onnx_numba.prepare import PreparedModel
from onnx_numba.target import host_target

LIMIT = 1_000_000
"""Inner steps up to which a model is run as plain Python."""

Array = np.ndarray[Any, Any]


class TooLong(BaseException):
    """A run passed the limit; not an Exception, so that no step takes it for an error of its own."""


class Meter:
    """Counts the iterations of the loops of a generated module."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.steps = 0

    def step(self) -> None:
        """One more iteration."""
        self.steps += 1
        if self.steps > self.limit:
            raise TooLong


def metered(source: str) -> str:
    """A generated module whose loops call ``METER.step()``."""

    class Insert(ast.NodeTransformer):
        def visit_For(self, node: ast.For) -> ast.For:
            self.generic_visit(node)
            node.body.insert(0, ast.parse("METER.step()").body[0])
            return node

        def visit_While(self, node: ast.While) -> ast.While:
            self.generic_visit(node)
            node.body.insert(0, ast.parse("METER.step()").body[0])
            return node

    tree = Insert().visit(ast.parse(source))
    tree.body.insert(1, ast.parse("from oracle import METER").body[0])
    return ast.unparse(ast.fix_missing_locations(tree))


METER = Meter()
"""What modules made by `metered` count with."""


def operations(source: str) -> int:
    """Arithmetic that a generated module has written down."""
    return sum(isinstance(node, ast.BinOp | ast.Call | ast.UnaryOp) for node in ast.walk(ast.parse(source)))


def accumulates(source: str) -> bool:
    """Whether the order of additions or multiplications is left to the compiler."""
    return "acc_add(" in source or "acc_mul(" in source


@dataclass(frozen=True)
class Pair:
    """A model, compiled and as plain Python."""

    compiled: PreparedModel
    interpreted: PreparedModel

    @classmethod
    def of(cls, model: Any) -> Pair:
        """Build a model once for both."""
        options = Options()
        artefact, stats = Build(host_target(), Store(options.cache), options).artefact(model)
        plain = replace(artefact, source=metered(artefact.source))
        return cls(PreparedModel(artefact, options, stats), PreparedModel(plain, replace(options, jit=False), stats))

    def check(self, inputs: Sequence[Any]) -> int:
        """Run both and compare; answers the inner steps taken.

        Raises
        ------
        TooLong
            Plain Python would need more than `LIMIT` steps.
        """
        METER.steps = 0
        expected = self.interpreted.run(inputs)
        source = self.compiled.source
        bound = 2 * operations(source) if accumulates(source) else 2
        for port, got, wanted in zip(self.compiled.outputs, self.compiled.run(inputs), expected, strict=True):
            check(got, wanted, bound, accumulates(source), f"output {port.name!r}")
        return METER.steps


def check(got: Any, wanted: Any, bound: float, of_largest: bool, what: str) -> None:
    """Compare two outputs of any type."""
    assert type(got) is type(wanted), what
    if isinstance(wanted, list | tuple):
        assert len(got) == len(wanted), what
        for number, (one, other) in enumerate(zip(got, wanted, strict=True)):
            check(one, other, bound, of_largest, f"{what}[{number}]")
    elif isinstance(wanted, dict):
        assert list(got) == list(wanted), what
        for key, other in wanted.items():
            check(np.float32(got[key]), np.float32(other), bound, of_largest, f"{what}[{key!r}]")
    elif isinstance(wanted, np.ndarray | np.generic):
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape), what
        if (dtype := dtype_of(got.dtype)) is not None and dtype.is_float:
            _check_floats(np.asarray(got), np.asarray(wanted), bound, of_largest, what)
        else:
            np.testing.assert_array_equal(got, wanted, what)
    else:
        assert got == wanted, what


def _check_floats(got: Array, wanted: Array, bound: float, of_largest: bool, what: str) -> None:
    unit = ml_dtypes.finfo(wanted.dtype)
    one, other = got.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(other)
    np.testing.assert_array_equal(one[~finite], other[~finite], what)
    one, other = one[finite], other[finite]
    size = np.maximum(np.abs(one), np.abs(other))
    if of_largest:
        size = np.full_like(size, size.max(initial=0))
    else:
        np.testing.assert_array_equal(np.signbit(one[other == 0]), np.signbit(other[other == 0]), what)
    ulp = np.exp2(np.floor(np.log2(np.maximum(size, float(unit.smallest_normal))))) * float(unit.eps)
    worst = (np.abs(one - other) / ulp).max(initial=0)
    assert worst <= bound, f"{what}: {worst:.0f} ulp apart, {bound} are allowed"
