"""Division by a number that many others are divided by: its reciprocal is computed once, and no bit differs from a division.

The product with the reciprocal is corrected by what it leaves of the dividend, which is exact in a fused multiply-add; that is the quotient
rounded to nearest (P. Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor", 1990, theorem 2). A division
of vectors takes as long as a dozen additions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.native.registry import Preferred, Record, function
from onnx_numba.native.scalar import abs_, fma, neg, select

_WHOLE = np.float32(1 << 24)


@function
def _divided(v: Any, s: Any, reciprocal: Any) -> Any:
    return v / s


@function
def _by_reciprocal(v: Any, s: Any, reciprocal: Any) -> Any:
    product = v * reciprocal
    corrected = fma(fma(neg(product), s, v), reciprocal, product)
    return select(abs_(product) < _WHOLE, corrected, product)  # of infinity the first would be NaN


quotient = Preferred("quotient", lambda target: target.has_fma, _by_reciprocal, _divided)
"""``quotient(v, s, 1 / s)``: v / s of float32 where that is below 2**24, and about as much beyond. Numbers are to be of such a size that
nothing but a result of 0 loses bits at the lower end, and a zero may have either sign."""

RECORDS: tuple[Record, ...] = (quotient,)
