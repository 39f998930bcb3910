"""Derivatives of the steps of optimisers, by the formulas that compute them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnx_numba import schemas
from onnx_numba.ir.types import F64
from onnx_numba.ops.training import STEPS, Functions, groups
from onnx_numba.passes.derivatives.table import Call, composed
from onnx_numba.passes.derivatives.terms import Term, Writer


@composed("Adagrad", "Adam", "Momentum")
def _steps(c: Call) -> Sequence[Term | None]:
    schema = schemas.find(c.node.op, c.node.domain, c.node.opset)
    steps = STEPS[c.node.op](_functions(c.w), **{name: c.attribute(name) for name in (schema.attributes if schema else ())})
    rate, time, *tensors = (c.w("Cast", x, to=F64.onnx) for x in c.xs)
    every = groups(tensors, 1 + len(steps))
    return [step(rate, time, *group).cast_like(like) for step in steps for group, like in zip(every, c.xs[2:], strict=False)]


def _functions(w: Writer) -> Functions:
    return Functions(
        # Constant at 0: as long as there were no gradients, the tensors' derivatives are finite.
        lambda x: x.root(),
        lambda base, x: w("Pow", x.number(base), x),
        lambda condition, a, b: w("Where", condition, _number(w, a), _number(w, b)),
    )


def _number(w: Writer, value: Any) -> Term:
    return value if isinstance(value, Term) else w.constant(np.array(value, np.float64))
