"""Mathematical functions: within their stated bounds over wide ranges, right at the edges, and the same bits from the twins."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from native_loops import NUMPY, Loops, loop, samples

mpmath.mp.prec = 1400
FORMATS = ("f32", "f64")
INF, NAN = np.inf, np.nan


def _softplus(x: mpmath.mpf) -> mpmath.mpf:
    return mpmath.log1p(mpmath.exp(-abs(x))) + max(x, 0)


REFERENCES: dict[str, Callable[[mpmath.mpf], mpmath.mpf]] = {
    "exp": mpmath.exp, "exp_decay": mpmath.exp, "exp2": lambda x: mpmath.mpf(2) ** x, "expm1": mpmath.expm1,
    "sinh": mpmath.sinh, "cosh": mpmath.cosh, "tanh": mpmath.tanh, "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "log": mpmath.log, "log1p": mpmath.log1p, "softplus": _softplus,
    "asinh": mpmath.asinh, "acosh": mpmath.acosh, "atanh": mpmath.atanh,
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan,
    "asin": mpmath.asin, "acos": mpmath.acos, "atan": mpmath.atan, "erf": mpmath.erf,
}  # fmt: skip

# The bounds that the modules state, in units in the last place: float32, float64.
BOUNDS = {
    "exp": (1.25, 1.25), "exp_decay": (1.25, 1.25), "exp2": (1.25, 1.25), "expm1": (2.5, 2.5), "sinh": (2.5, 2.5),
    "cosh": (2, 2), "tanh": (2.5, 2.5), "sigmoid": (2.5, 2.5), "log": (1, 1), "log1p": (2, 2), "softplus": (2, 2),
    "asinh": (0.51, 2.5), "acosh": (0.51, 2.5), "atanh": (0.51, 2.5), "sin": (0.51, 1), "cos": (0.51, 1),
    "tan": (0.51, 2.5), "asin": (0.51, 2.5), "acos": (0.51, 2.5), "atan": (0.51, 2.5), "erf": (1.5, 1.5),
}  # fmt: skip

# Results that are exact, NaN, infinite or signed zeros, by argument.
EDGES: dict[str, list[tuple[float, float]]] = {
    "exp": [(0.0, 1), (-INF, 0), (INF, INF), (1e4, INF), (-1e4, 0)],
    "exp_decay": [(0.0, 1), (-0.0, 1), (-INF, 0), (-1e4, 0)],
    "exp2": [(0.0, 1), (-INF, 0), (INF, INF), (10, 1024), (-1, 0.5), (1e4, INF), (-1e4, 0), (127, 2.0**127), (-149, 2.0**-149)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (-INF, -1), (INF, INF), (-1e4, -1), (1e4, INF)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (1e4, INF)],
    "cosh": [(0.0, 1), (INF, INF), (-INF, INF), (-1e4, INF)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e30, 1)],
    "sigmoid": [(0.0, 0.5), (INF, 1), (-INF, 0), (1e4, 1), (-1e4, 0)],
    "log": [(1, 0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN), (-INF, NAN)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1, -INF), (INF, INF), (-2, NAN), (-INF, NAN)],
    "softplus": [(INF, INF), (-INF, 0), (1e30, 1e30), (-1e4, 0)],
    "asinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "acosh": [(1, 0), (0.5, NAN), (-2, NAN), (-INF, NAN), (INF, INF)],
    "atanh": [(0.0, 0.0), (-0.0, -0.0), (1, INF), (-1, -INF), (1.5, NAN), (-2, NAN), (INF, NAN)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "cos": [(0.0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "asin": [(0.0, 0.0), (-0.0, -0.0), (1.5, NAN), (-INF, NAN)],
    "acos": [(1, 0), (1.5, NAN), (-INF, NAN)],
    "atan": [(0.0, 0.0), (-0.0, -0.0)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e30, 1), (-1e30, -1)],
}

LOOPS = Loops(
    {f"{name}_{t}": loop(f"x[i] = {name}(a[i])", a=t, x=t) for name in REFERENCES for t in FORMATS}
    | {f"pow_{t}": loop("x[i] = pow_(a[i], b[i])", a=t, b=t, x=t) for t in FORMATS}
)


def spread(name: str, kind: str, count: int = 120) -> np.ndarray:
    """Arguments over the whole domain of a function: small, moderate, to the ends, and of every magnitude."""
    rng = np.random.default_rng(7)
    end = {"f32": 104.0, "f64": 746.0}[kind]
    magnitudes = np.exp(rng.uniform(-end * 0.85, end * 0.85, count)) * rng.choice([-1, 1], count)
    parts = [rng.uniform(-1, 1, count), rng.uniform(-8, 8, count), rng.uniform(-end, end, count), magnitudes]
    x = np.concatenate([*parts, np.exp(rng.uniform(-40, 3, count))])
    if name == "log":
        x = np.concatenate([np.abs(x), rng.uniform(0.7, 1.5, count)])
    elif name == "acosh":
        x = 1 + np.abs(x)
    elif name == "log1p":
        x = x[x > -0.999]
    elif name in ("asin", "acos", "atanh"):
        x = x[np.abs(x) < 0.9999]
    elif name == "exp_decay":
        x = -np.abs(x)
        x = x[x > {"f32": -87.0, "f64": -708.0}[kind]]
    with np.errstate(all="ignore"):
        x = x.astype(NUMPY[kind])
    return x[np.isfinite(x)]


def ulps(result: np.floating, exact: mpmath.mpf) -> float:
    """How many units in the last place a result is off; overflow counts as the number it stands for."""
    limits = np.finfo(type(result))
    if abs(exact) > float(limits.max):
        return 0.0 if np.isinf(result) or abs(result) == limits.max else np.inf
    if not np.isfinite(result):
        return 0.5 if abs(exact) > float(limits.max) * (1 - float(limits.eps)) else np.inf
    exponent = max(int(mpmath.frexp(exact)[1]) - 1, int(limits.minexp)) - int(limits.nmant)
    return float(mpmath.ldexp(abs(mpmath.mpf(float(result)) - exact), -exponent))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", REFERENCES)
def test_error_is_within_the_bound(name, kind):
    x = spread(name, kind)
    out = np.empty_like(x)
    LOOPS.run(f"{name}_{kind}", [x, out])
    errors = [ulps(result, REFERENCES[name](mpmath.mpf(float(argument)))) for argument, result in zip(x, out, strict=True)]
    worst = int(np.argmax(errors))
    assert errors[worst] <= BOUNDS[name][FORMATS.index(kind)], f"{name}({x[worst]!r}) = {out[worst]!r} is {errors[worst]} ulp off"


WIDE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp, "exp_decay": np.exp, "exp2": np.exp2, "expm1": np.expm1, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "log": np.log, "erf": np.vectorize(math.erf),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDE)
def test_error_over_all_of_float32(name):
    """Every 8,191st of all numbers there are, against float64."""
    x = np.arange(0, 1 << 32, 8191, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x) & ((x >= 0) | (name != "log")) & ((name != "exp_decay") | ((x <= 0) & (x > -87)))]
    out = np.empty_like(x)
    LOOPS.run(f"{name}_f32", [x, out])
    with np.errstate(all="ignore"):
        exact = WIDE[name](x.astype(np.float64))
        spacing = np.spacing(np.abs(exact.astype(np.float32))).astype(np.float64)
    beyond = np.abs(exact) > float(np.finfo(np.float32).max)
    assert (np.isinf(out) | (np.abs(out) == np.finfo(np.float32).max))[beyond].all()
    off = np.abs(out[~beyond] - exact[~beyond]) / spacing[~beyond]
    worst = int(np.argmax(off))
    assert off[worst] <= BOUNDS[name][0], f"{name}({x[~beyond][worst]!r}) = {out[~beyond][worst]!r} is {off[worst]} ulp off"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", REFERENCES)
def test_edges(name, kind):
    with np.errstate(over="ignore"):
        x, expected = np.array([*EDGES[name], (NAN, NAN)]).T.astype(NUMPY[kind], order="C")
    (out,) = LOOPS.check(f"{name}_{kind}", x)
    np.testing.assert_array_equal(out, expected)
    zero = expected == 0
    np.testing.assert_array_equal(np.signbit(out[zero]), np.signbit(expected[zero]))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", REFERENCES)
def test_twins_give_the_same_bits(name, kind):
    x = np.concatenate([samples(kind, 100), spread(name, kind, 20)])
    LOOPS.check(f"{name}_{kind}", -np.abs(x) if name == "exp_decay" else x)


@pytest.mark.parametrize("kind", FORMATS)
def test_powers_of_special_values(kind):
    with np.errstate(all="ignore"):
        special = np.array(
            [0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, -7, INF, -INF, NAN, 1e30, -1e30, 1e-40, 5e-324, 2.0**53, 2.0**53 + 2],
            NUMPY[kind],
        )
        base, exponent = (a.ravel() for a in np.meshgrid(special, special))
        expected = np.power(base, exponent)
    (out,) = LOOPS.check(f"pow_{kind}", base, exponent)
    np.testing.assert_allclose(out, expected, rtol=4 * np.finfo(NUMPY[kind]).eps, atol=np.finfo(NUMPY[kind]).smallest_subnormal)
    exact = (expected == 0) | np.isinf(expected)
    np.testing.assert_array_equal(np.signbit(out[exact]), np.signbit(expected[exact]))


@pytest.mark.parametrize(("kind", "bound", "end"), [("f32", 0.51, 86.0), ("f64", 2.0, 700.0)])
def test_error_of_powers(kind, bound, end):
    rng = np.random.default_rng(5)
    base = np.concatenate([rng.uniform(0.5, 2, 600), np.exp(rng.uniform(-20, 20, 600))]).astype(NUMPY[kind])
    exponent = (rng.uniform(-end, end, base.size) / np.log(base.astype(np.float64))).astype(NUMPY[kind])
    exponent[::3] = rng.uniform(-4, 4, exponent[::3].size)
    (out,) = LOOPS.check(f"pow_{kind}", base, exponent)
    exact = (mpmath.power(mpmath.mpf(float(b)), mpmath.mpf(float(e))) for b, e in zip(base, exponent, strict=True))
    assert max(ulps(result, value) for result, value in zip(out, exact, strict=True)) <= bound


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_arguments_next_to_multiples_of_a_quarter_turn(name, kind):
    """Where reduction cancels most, among them the worst doubles known."""
    scalar = NUMPY[kind]
    turns = np.concatenate([np.arange(1, 60), 2 ** np.arange(6, 40), 3 ** np.arange(4, 25)])
    x = np.array([float(mpmath.pi / 2 * int(n)) for n in turns], scalar)
    worst = [6381956970095103 * 2.0**797, 5.319372648326541e255, 1.6e300] if kind == "f64" else [2.0**120 * 1.2345, 1.6e38]
    x = np.concatenate([x, np.array(worst, scalar), np.array([2.0**28, 2.0**28 + 32], scalar)])
    out = np.empty_like(x)
    LOOPS.run(f"{name}_{kind}", [x, out])
    errors = [ulps(result, REFERENCES[name](mpmath.mpf(float(argument)))) for argument, result in zip(x, out, strict=True)]
    assert max(errors) <= BOUNDS[name][FORMATS.index(kind)]
