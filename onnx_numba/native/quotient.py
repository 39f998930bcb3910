"""Division by a number that many others are divided by: its reciprocal is computed once, and no bit differs from a division.

The product with the reciprocal is corrected by what it leaves of the dividend, which is exact in a fused multiply-add; that is the quotient
rounded to nearest (P. Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor", 1990, theorem 2). A division
of vectors takes as long as a dozen additions.
"""

from __future__ import annotations

from typing import Any

from onnx_numba.native.registry import Preferred, Record, function
from onnx_numba.native.scalar import fma, isinf_, neg, select


@function
def _divided(v: Any, s: Any, reciprocal: Any) -> Any:
    return v / s


@function
def _by_reciprocal(v: Any, s: Any, reciprocal: Any) -> Any:
    product = v * reciprocal
    # In this order a zero keeps its sign.
    corrected = fma(neg(fma(product, s, neg(v))), reciprocal, product)
    # Of infinity it would be NaN.
    return select(isinf_(product) | isinf_(s), product, corrected)


quotient = Preferred("quotient", lambda target: target.has_fma, _by_reciprocal, _divided)
"""``quotient(v, s, 1 / s)``: v / s, where s and its reciprocal are normal numbers or 0, infinite or NaN. Where s is negative a result of 0
may have either sign; one that is no normal number, or whose product with s is none, may be off by a unit in the last place."""

RECORDS: tuple[Record, ...] = (quotient,)
