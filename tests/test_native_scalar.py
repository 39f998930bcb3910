"""Casts and arithmetic: compiled code and twins give the same bits, and those that are promised."""

from __future__ import annotations

import numpy as np
import pytest
from native_loops import NUMPY, Loops, loop, pairs, samples

SCALARS = ("bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64")
INTS = tuple(kind for kind in SCALARS if kind[0] in "iu")
FLOATS = ("f32", "f64")
NUMBERS = INTS + FLOATS
BINARY_INTS = ("idiv", "irem", "floordiv", "imod", "shl", "shr", "iadd", "isub", "imul", "iand", "ior", "ipow")
BINARY_FLOATS = ("copysign", "fmod_", "mod_")
UNARY_FLOATS = ("sqrt", "floor", "ceil", "trunc", "rint")


def _name(kind: str) -> str:
    return "bool_" if kind == "bool" else kind


def _binary(names: tuple[str, ...], kind: str):
    body = "\n".join(f"{name}_[i] = {name}(a[i], b[i])" for name in names)
    return loop(body, a=kind, b=kind, **{f"{name}_": kind for name in names})


def _rounding(kind: str):
    names = UNARY_FLOATS
    return loop("\n".join(f"o{n}[i] = {n}(a[i])" for n in names), a=kind, **{f"o{n}": kind for n in names})


def _casts(kind: str):
    return loop("\n".join(f"o{k}[i] = {_name(k)}(a[i])" for k in SCALARS), a=kind, **{f"o{k}": k for k in SCALARS})


LOOPS = Loops(
    {
        **{f"cast_{t}": _casts(t) for t in SCALARS},
        **{f"ints_{t}": _binary(BINARY_INTS, t) for t in INTS},
        **{f"extremes_{t}": _binary(("max_", "min_"), t) for t in SCALARS},
        **{f"floats_{t}": _binary(BINARY_FLOATS, t) for t in FLOATS},
        **{f"signs_{t}": loop("x[i] = abs_(a[i])\ny[i] = neg(a[i])", a=t, x=t, y=t) for t in NUMBERS},
        **{f"sums_{t}": loop("x[i] = acc_add(a[i], b[i])\ny[i] = acc_mul(a[i], b[i])", a=t, b=t, x=t, y=t) for t in FLOATS},
        **{f"rounding_{t}": _rounding(t) for t in FLOATS},
        **{f"tests_{t}": loop("x[i] = isnan_(a[i])\ny[i] = isinf_(a[i])", a=t, x="bool", y="bool") for t in FLOATS},
        **{f"fma_{t}": loop("x[i] = fma(a[i], b[i], c[i])", a=t, b=t, c=t, x=t) for t in FLOATS},
        **{f"select_{t}": loop("x[i] = select(bool_(a[i]), a[i], b[i])", a=t, b=t, x=t) for t in SCALARS},
        **{f"zeros_{t}": loop("x[i] = trailing_zeros(a[i])", a=t, x=t) for t in INTS},
        "bits": loop("x[i] = bits_of(a[i])\ny[i] = float_of(x[i])", a="f64", x="i64", y="f64"),
        "like": loop("x[i] = cast_like(1, a[i])", a="f64", x="f64"),
        "index": loop("x[i] = udiv(a[i], 7) + urem(a[i], b[i]) + udiv(a[i], b[i])", a="i64", b="i64", x="i64"),
    }
)  # fmt: skip


@pytest.mark.parametrize("kind", SCALARS)
def test_casts_agree(kind):
    x = samples(kind)
    results = dict(zip(SCALARS, LOOPS.check(f"cast_{kind}", x), strict=True))
    np.testing.assert_array_equal(results["bool"], x != 0)
    if kind not in FLOATS:
        for target in NUMBERS:
            np.testing.assert_array_equal(results[target], x.astype(NUMPY[target]))
        return
    exact = np.where(np.isnan(x), 0, x).astype(object)
    for target in INTS:
        limits = np.iinfo(NUMPY[target])
        expected = [limits.max if v >= limits.max else limits.min if v <= limits.min else int(v) for v in exact]
        np.testing.assert_array_equal(results[target], np.array(expected, NUMPY[target]))


@pytest.mark.parametrize("kind", INTS)
def test_integer_arithmetic_agrees(kind):
    LOOPS.check(f"ints_{kind}", *pairs(samples(kind)))


def _run(name: str, column: str, *values: object) -> np.ndarray:
    kind = name.rpartition("_")[2]
    names = [buffer.rstrip("_") for buffer, _ in LOOPS.loops[name].buffers[len(values) :]]
    return LOOPS.check(name, *(np.array(v, NUMPY[kind]) for v in values))[names.index(column)]


def test_integer_edges():
    low = np.iinfo(np.int32).min
    a, b = [low, 7, -7, 7, -7, low, 5, 0], [-1, 0, 0, -2, 2, 0, 3, 0]
    assert _run("ints_i32", "idiv", a, b).tolist() == [low, 0, 0, -3, -3, 0, 1, 0]
    assert _run("ints_i32", "irem", a, b).tolist() == [0, 0, 0, 1, -1, 0, 2, 0]
    assert _run("ints_i32", "floordiv", a, b).tolist() == [low, 0, 0, -4, -4, 0, 1, 0]
    assert _run("ints_i32", "imod", a, b).tolist() == [0, 0, 0, -1, 1, 0, 2, 0]


@pytest.mark.parametrize("kind", [t for t in INTS if NUMPY[t]().itemsize <= 4])
def test_quotients_beside_integers(kind):
    """Dividends beside multiples, whose quotients are as near to integers as any, and the greatest of all."""
    limits, random = np.iinfo(NUMPY[kind]), np.random.default_rng(0)
    b = random.integers(1, limits.max, 200) >> random.integers(0, limits.bits - 1, 200)
    b = np.maximum(b, 1) * (random.choice([-1, 1], 200) if limits.min < 0 else 1)
    a = (limits.max // np.abs(b) * np.abs(b)) * random.choice([-1, 1] if limits.min < 0 else [1], 200)
    a, b = (np.concatenate(v) for v in ((a, a - 1, a + 1, np.full(200, limits.max), np.full(200, limits.min)), (b, b, b, b, b)))
    a = np.clip(a, limits.min, limits.max)
    keep = ~((a == limits.min) & (b == -1))
    a, b = a[keep], b[keep]
    toward_zero = np.abs(a) // np.abs(b) * np.sign(a) * np.sign(b)
    np.testing.assert_array_equal(_run(f"ints_{kind}", "idiv", a, b), toward_zero)
    np.testing.assert_array_equal(_run(f"ints_{kind}", "irem", a, b), a - toward_zero * b)
    np.testing.assert_array_equal(_run(f"ints_{kind}", "floordiv", a, b), a // b)
    np.testing.assert_array_equal(_run(f"ints_{kind}", "imod", a, b), a % b)


@pytest.mark.parametrize("kind", FLOATS)
def test_remainders_beside_multiples(kind):
    """Quotients of every size, above and below what a float counts exactly, of dividends that are multiples or just beside."""
    scalar, random = NUMPY[kind], np.random.default_rng(0)
    limits = np.finfo(scalar)
    b = np.ldexp(random.uniform(0.5, 1, 3000), random.integers(limits.minexp, limits.maxexp, 3000)).astype(scalar)
    with np.errstate(all="ignore"):
        a = (b * random.integers(0, 1 << 30, 3000) * np.exp2(random.integers(-29, 40, 3000))).astype(scalar)
    a = np.nextafter(a, random.choice([0, a[0], np.inf], 3000).astype(scalar)) * random.choice([-1, 1], 3000).astype(scalar)
    a, b = (np.concatenate(v) for v in ((a, b, [0.0, -0.0, 5, -5, 1e-45, np.inf]), (-b, a, [3, 3, np.inf, 5, 1e30, 2])))
    got = _run(f"floats_{kind}", "fmod", a, b)
    with np.errstate(all="ignore"):
        expected = np.fmod(a.astype(scalar), b.astype(scalar))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got[expected == 0]), np.signbit(expected[expected == 0]))


def test_shifts_beyond_the_width():
    a, b = [-5, -5, 5, 1, 1], [32, 40, 33, 31, 100]
    assert _run("ints_i32", "shr", a, b).tolist() == [-1, -1, 0, 0, 0]
    assert _run("ints_i32", "shl", a, b).tolist() == [0, 0, 0, -(1 << 31), 0]
    assert _run("ints_u8", "shr", [200, 200, 200], [1, 8, 255]).tolist() == [100, 0, 0]
    assert _run("ints_u64", "shl", [1, 1], [63, 64]).tolist() == [1 << 63, 0]


def test_powers_of_integers():
    a, b = [2, -3, 2, 1, -1, -1, 0, 0, 3], [10, 3, -1, -5, -5, -4, 0, -1, 0]
    assert _run("ints_i64", "ipow", a, b).tolist() == [1024, -27, 0, 1, -1, 1, 1, 0, 1]


def test_indices_divide():
    LOOPS.check("index", np.arange(100), np.arange(100) % 7)


@pytest.mark.parametrize("kind", SCALARS)
def test_extremes_agree(kind):
    LOOPS.check(f"extremes_{kind}", *pairs(samples(kind)))


@pytest.mark.parametrize("kind", FLOATS)
def test_extremes_order_zeros_and_keep_nan(kind):
    a, b = [-0.0, 0.0, np.nan, 1, np.inf], [0.0, -0.0, 1, np.nan, -np.inf]
    greatest, least = _run(f"extremes_{kind}", "max", a, b), _run(f"extremes_{kind}", "min", a, b)
    assert np.signbit(greatest[:2]).tolist() == [False, False]
    assert np.signbit(least[:2]).tolist() == [True, True]
    np.testing.assert_array_equal(greatest[2:], [np.nan, np.nan, np.inf])
    np.testing.assert_array_equal(least[2:], [np.nan, np.nan, -np.inf])


@pytest.mark.parametrize("kind", FLOATS)
def test_float_arithmetic_agrees(kind):
    a, b = pairs(samples(kind), 3000)
    copied, remainder, modulo = LOOPS.check(f"floats_{kind}", a, b)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(copied, np.copysign(a, b))
        np.testing.assert_array_equal(remainder, np.fmod(a, b))
        np.testing.assert_array_equal(modulo, np.mod(a, b))
    LOOPS.check(f"sums_{kind}", a, b)


@pytest.mark.parametrize("kind", NUMBERS)
def test_signs_agree(kind):
    LOOPS.check(f"signs_{kind}", samples(kind))


@pytest.mark.parametrize("kind", FLOATS)
def test_rounding_and_tests_agree(kind):
    x = samples(kind)
    for name, result in zip(UNARY_FLOATS, LOOPS.check(f"rounding_{kind}", x), strict=True):
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(result, getattr(np, name)(x))
    nan, infinite = LOOPS.check(f"tests_{kind}", x)
    np.testing.assert_array_equal(nan, np.isnan(x))
    np.testing.assert_array_equal(infinite, np.isinf(x))


@pytest.mark.parametrize("kind", FLOATS)
def test_fma_rounds_once(kind):
    rng = np.random.default_rng(3)
    a, b = pairs(samples(kind), 4000)
    with np.errstate(all="ignore"):
        near = (-(a * b) * (1 + rng.integers(-2, 3, a.size) * np.finfo(NUMPY[kind]).eps)).astype(NUMPY[kind])
    for c in (samples(kind)[rng.integers(0, 300, a.size)], near):
        LOOPS.check(f"fma_{kind}", a, b, c)


@pytest.mark.parametrize("kind", SCALARS)
def test_select_agrees(kind):
    LOOPS.check(f"select_{kind}", *pairs(samples(kind)))


@pytest.mark.parametrize("kind", INTS)
def test_trailing_zeros_agree(kind):
    x = samples(kind)
    (zeros,) = LOOPS.check(f"zeros_{kind}", x)
    width = np.iinfo(NUMPY[kind]).bits
    text = [f"{int(v) % 2**width:0{width}b}" for v in x]
    np.testing.assert_array_equal(zeros, [width - len(t.rstrip("0")) for t in text])


def test_bits_go_there_and_back():
    bits, back = LOOPS.check("bits", samples("f64"))
    np.testing.assert_array_equal(bits, samples("f64").view(np.int64))
    np.testing.assert_array_equal(back.view(np.int64), bits)
    (ones,) = LOOPS.check("like", samples("f64"))
    assert (ones == 1).all()
