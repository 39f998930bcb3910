"""Derivatives of operators, by family."""

from onnx_numba.passes.derivatives import (
    chance,
    elementwise,
    learned,
    linear,
    machines,
    optimisers,
    points,
    pooling,
    recurrent,
    reduce,
    sampling,
    sequence,
    shape,
    spectral,
)
from onnx_numba.passes.derivatives.table import CONSTANT, DOMAINS, EXAMPLES, Call, collected
from onnx_numba.passes.derivatives.terms import Term, Writer

_FAMILIES = (
    chance, elementwise, learned, linear, machines, optimisers, points, pooling, recurrent, reduce, sampling, sequence, shape, spectral,
)  # fmt: skip
RULES = {op: (1, function) for op, function in elementwise.UNARY.items()} | collected("rule", _FAMILIES)
COMPOSED = collected("composed", _FAMILIES)

__all__ = ["COMPOSED", "CONSTANT", "DOMAINS", "EXAMPLES", "RULES", "Call", "Term", "Writer"]
