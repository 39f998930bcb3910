"""erf, branch-free.

Near zero an odd polynomial; away from it ``1 - erfc(x)``, where float32 takes the square root of erfc as a polynomial in ``x - 1`` and
float64 ``erfc(x) = exp(-x**2) p(u) / (1 + 2 x)`` with ``u = (x - 2) / (x + 2)``. A root falls so much more slowly than erfc that a
polynomial follows it, and where erfc is greatest ``x - 1`` is small: little but the last rounding is left of the polynomial's errors.

The tests hold it to 1.5 units in the last place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.native.exponential import EXPONENTIALS
from onnx_numba.native.polynomial import F32, F64, polynomial, signing
from onnx_numba.native.registry import Record, function, overloaded
from onnx_numba.native.scalar import abs_, fma, select

_signed_f32, _signed_f64 = signing(F32), signing(F64)

_BORDER_F32, _END_F32, _ONE_F32 = np.float32(0.925), np.float32(3.92), np.float32(1)
# erf(x) / x - 1 in x**2, 2**-25 of it
_near_f32 = polynomial(np.float32, 0.12837915, -0.37612495, 0.11281803, -0.026765572, 0.004990983, -0.00059768936)
# sqrt(erfc(x)) in x - 1, which puts erf within 2**-25.8
_far_f32 = polynomial(
    np.float32, 0.39660963, -0.5233194, 0.17806569, 0.060425173, -0.046816278, -0.0038591337, 0.009717084, -0.002406837, -0.0001449009,
    0.00013877885, -1.578038e-05,
)  # fmt: skip

# Below 0, and down to where erfc is an eighth of an epsilon, exp is a normal number.
_exp_f64 = EXPONENTIALS["f64"]["exp_near"]
_END_F64, _ONE, _TWO = np.float64(6), np.float64(1), np.float64(2)
# erf(x) / x - 1 in x**2, 2**-57 of it
_near_f64 = polynomial(
    np.float64, 0.12837916709551256, -0.3761263890318355, 0.11283791670945253, -0.02686617064327622, 0.005223977607423468,
    -0.0008548325989696758, 0.00012055295320494294, -1.4924744663335489e-05, 1.6447517677871873e-06, -1.6209175911748696e-07,
    1.3722976265924504e-08, -7.801188874097751e-10,
)  # fmt: skip
# exp(x**2) erfc(x) (1 + 2 x) in u, 2**-62 of it
_far_f64 = polynomial(
    np.float64, 1.2769783815525286, -0.09276382658574601, -0.16603039761528934, 0.16405128003344227, -0.054220000992042806,
    -0.008034015082329392, 0.00872265387602647, 0.0012713389579775336, -0.001456813951989252, -0.00045434056947088686,
    0.0002063670929328929, 0.00015103477380703768, -1.5045259232452928e-06, -3.63838326899381e-05, -1.3568155627926115e-05,
    3.5435753751989604e-06, 5.706097441069096e-06, 1.629414590583742e-06, -1.914708161031945e-06,
)  # fmt: skip


@function
def _erf_f32(x: Any) -> Any:
    size = abs_(x)
    a = select(size > _END_F32, _END_F32, size)
    near = fma(size, _near_f32(x * x), size)
    root = _far_f32(a - _ONE_F32)
    far = fma(-root, root, _ONE_F32)
    return _signed_f32(select(size < _BORDER_F32, near, far), x)


@function
def _erf_f64(x: Any) -> Any:
    size = abs_(x)
    a = select(size > _END_F64, _END_F64, size)
    near = fma(size, _near_f64(x * x), size)
    far = _ONE - _exp_f64(-a * a) * _far_f64((a - _TWO) / (a + _TWO)) / (_ONE + _TWO * a)
    return _signed_f64(select(size < _ONE, near, far), x)


RECORDS: tuple[Record, ...] = (overloaded("erf", _erf_f32, _erf_f64),)
