"""Floats of 16 bits and fewer and integers of 4 and 2 bits: every value there is, and rounding once from float32 and float64."""

from __future__ import annotations

import ml_dtypes  # noqa: F401  (its types come by name)
import numpy as np
import pytest
from native_loops import Loops, loop, same_bits, samples

from onnx_numba.ir.formats import FORMATS
from onnx_numba.ir.types import DTYPES
from onnx_numba.target import Target

FLOATS = {name: DTYPES[name] for name in FORMATS}
SCALES = [name for name, form in FORMATS.items() if form.is_scale]
NUMBERS = [name for name in FLOATS if name not in SCALES]
INTEGERS = {name: dtype for name, dtype in DTYPES.items() if dtype.is_int and dtype.bits < 8}
WIDE = {"f32": np.float32, "f64": np.float64}
CASES = [(name, wide) for name in NUMBERS for wide in WIDE]
MODES = {"up": "_up", "down": "_down", "nearest": ""}

LOOPS = Loops(
    {f"from_{name}": loop(f"x[i] = from_{name}(a[i])", a=name, x=t.compute) for name, t in (FLOATS | INTEGERS).items()}
    | {f"to_{name}_{wide}": loop(f"x[i] = to_{name}(a[i])", a=wide, x=name) for name in FLOATS for wide in WIDE}
    | {f"round_{name}_{wide}": loop(f"x[i] = round_{name}(a[i])", a=wide, x="f32") for name in FLOATS for wide in WIDE}
    | {
        f"round_{name}{mode}_{wide}": loop(f"x[i] = round_{name}{mode}(a[i])", a=wide, x="f32")
        for name in SCALES for mode in MODES.values() for wide in WIDE
    }
    | {f"to_{name}": loop(f"x[i] = to_{name}(a[i])", a=t.compute, x=name) for name, t in INTEGERS.items()}
    | {f"round_{name}": loop(f"x[i] = round_{name}(a[i])", a=t.compute, x=t.compute) for name, t in INTEGERS.items()}
    | {f"odd_{name}": loop("x[i] = odd_f64(a[i])", a=name, x="f64") for name in ("i64", "u64")}
)  # fmt: skip


def codes(name: str) -> np.ndarray:
    """Everything that an element can be, in the type that kernels see."""
    return np.arange(1 << DTYPES[name].bits).astype(DTYPES[DTYPES[name].stored].numpy)


def values(name: str) -> np.ndarray:
    """The same as float64, as ml_dtypes has it."""
    with np.errstate(all="ignore"):
        return codes(name).view(DTYPES[name].numpy).astype(np.float64)


def ties_and_neighbours(name: str, wide: str) -> np.ndarray:
    """Values halfway between two of a format, and just beside: where rounding twice would go wrong."""
    scalar = WIDE[wide]
    with np.errstate(all="ignore"):
        table = values(name)
        table = np.unique(table[np.isfinite(table)])
        beyond = np.array([2 * table[-1] - table[-2], 2 * table[0] - table[1]])
        table = np.sort(np.concatenate([table, beyond]))
        middle = ((table[1:] + table[:-1]) / 2)[:: 7 if table.size > 1000 else 1]
        near = np.concatenate([middle, table[:: 7 if table.size > 1000 else 1]]).astype(scalar)
        above, below = np.nextafter(near, scalar(np.inf)), np.nextafter(near, scalar(-np.inf))
        return np.concatenate([near, above, below, samples(wide)])


def nearest(given: np.ndarray, name: str) -> np.ndarray:
    """The codes of the nearest values, found among all of them in float64, ties to even."""
    form = FORMATS[name]
    table = values(name)[: form.top + 1]
    table = np.append(table, 2 * table[-1] - table[-2])  # what lies beyond
    size = np.abs(given.astype(np.float64))
    above = np.clip(np.searchsorted(table, size), 1, table.size - 1)
    low, high = table[above - 1], table[above]
    up = (size - low > high - size) | ((size - low == high - size) & (above % 2 == 0)) | (size >= high)
    rounded = np.where(up, above, above - 1)
    rounded = np.where(rounded > form.top, form.overflow, rounded)
    sign = np.where(np.signbit(given), form.sign, 0)
    if form.special == "fnuz":
        sign = np.where(rounded == 0, 0, sign)
    return np.where(np.isnan(given), form.nan, rounded) | sign


@pytest.mark.parametrize("name", [*FLOATS, *INTEGERS])
def test_every_value_is_loaded(name):
    every, wide = codes(name), DTYPES[DTYPES[name].compute].numpy
    loaded = np.zeros(every.size, wide)
    LOOPS.run(f"from_{name}", [every, loaded])
    with np.errstate(all="ignore"):
        assert same_bits(loaded, every.view(DTYPES[name].numpy).astype(wide)).all()
    LOOPS.check(f"from_{name}", every[:: max(1, every.size // 5000)].copy())


@pytest.mark.parametrize("name", [name for name, t in DTYPES.items() if 0 < t.bits < 8])
def test_bits_that_no_element_has_are_not_read(name):
    every = codes(name)
    other = every | np.uint8(0x100 - every.size)
    plain, odd = (np.zeros(every.size, DTYPES[DTYPES[name].compute].numpy) for _ in range(2))
    LOOPS.run(f"from_{name}", [every, plain])
    LOOPS.run(f"from_{name}", [other, odd])
    assert same_bits(plain, odd).all()


@pytest.mark.parametrize(("name", "wide"), [(name, wide) for name in FLOATS for wide in WIDE])
def test_every_value_survives(name, wide):
    every = codes(name)
    given = values(name).astype(WIDE[wide])
    stored = np.zeros_like(every)
    LOOPS.run(f"to_{name}_{wide}", [given, stored])
    number = ~np.isnan(given)
    np.testing.assert_array_equal(stored[number], every[number])
    assert np.isnan(stored[~number].view(DTYPES[name].numpy).astype(np.float32)).all()


@pytest.mark.parametrize(("name", "wide"), CASES)
def test_rounding_is_to_the_nearest_once(name, wide):
    given = ties_and_neighbours(name, wide)
    stored, rounded = np.zeros(given.size, codes(name).dtype), np.zeros(given.size, np.float32)
    LOOPS.run(f"to_{name}_{wide}", [given, stored])
    LOOPS.run(f"round_{name}_{wide}", [given, rounded])
    np.testing.assert_array_equal(stored, nearest(given, name))
    with np.errstate(all="ignore"):
        assert same_bits(rounded, stored.view(DTYPES[name].numpy).astype(np.float32)).all()
    some = np.concatenate([given[:: max(1, given.size // 1000)], samples(wide)])
    LOOPS.check(f"to_{name}_{wide}", some)
    LOOPS.check(f"round_{name}_{wide}", some)


@pytest.mark.parametrize("name", NUMBERS)
def test_ml_dtypes_rounds_float32_alike(name):
    given = ties_and_neighbours(name, "f32")
    given = given[~np.isnan(given)]
    stored = np.zeros(given.size, codes(name).dtype)
    LOOPS.run(f"to_{name}_f32", [given, stored])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(stored, given.astype(DTYPES[name].numpy).view(stored.dtype))


@pytest.mark.parametrize("wide", WIDE)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SCALES)
def test_powers_of_two(name, mode, wide):
    given, form = ties_and_neighbours(name, wide), FORMATS[name]
    rounded = np.zeros(given.size, np.float32)
    LOOPS.run(f"round_{name}{MODES[mode]}_{wide}", [given, rounded])
    inside = (given >= form.lowest) & (given <= form.greatest)
    assert np.isnan(rounded[~inside]).all()
    exact = given[inside].astype(np.float64)
    below = np.exp2(np.floor(np.log2(exact)))
    below = np.where(below > exact, below / 2, below)
    below = np.where(2 * below <= exact, 2 * below, below)
    up = {"up": exact > below, "down": exact < below, "nearest": exact >= 1.5 * below}[mode]
    np.testing.assert_array_equal(rounded[inside].astype(np.float64), np.where(up, 2 * below, below))
    LOOPS.check(f"round_{name}{MODES[mode]}_{wide}", given[:: max(1, given.size // 1000)].copy())


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_wrap(name):
    dtype = INTEGERS[name]
    given = np.arange(-128, 128).astype(np.int8).view(DTYPES[dtype.compute].numpy)
    (stored,) = LOOPS.check(f"to_{name}", given)
    np.testing.assert_array_equal(stored, given.view(np.uint8) & (1 << dtype.bits) - 1)
    (rounded,) = LOOPS.check(f"round_{name}", given)
    np.testing.assert_array_equal(rounded, stored.view(dtype.numpy).astype(rounded.dtype))


@pytest.mark.parametrize("name", ["i64", "u64"])
def test_integers_are_rounded_to_odd(name):
    around = [(1 << k) + offset for k in (52, 53, 54, 55, 60, 62) for offset in (-1025, -1024, -1023, -3, -1, 0, 1, 2, 511, 1024, 1025)]
    given = np.concatenate([np.array(around, DTYPES[name].numpy), samples(name)])
    given = np.concatenate([given, np.negative(given)])
    (odd,) = LOOPS.check(f"odd_{name}", given)
    for value, got in zip(given.tolist(), odd.tolist(), strict=True):
        if abs(value) < 1 << 53:
            assert got == value
        else:
            low = value >> 11 << 11
            assert int(got) == value if low == value else int(got) in (low, low + 2048) and int(got) >> 11 & 1


@pytest.mark.parametrize("wide", WIDE)
def test_float16_is_the_same_without_the_processors_conversions(wide):
    """NaN included, whose payload's upper bits stay."""
    given = np.concatenate([ties_and_neighbours("f16", wide), -ties_and_neighbours("f16", wide)])
    whole = {"f32": np.uint32, "f64": np.uint64}[wide]
    quiet = np.array([np.nan], WIDE[wide]).view(whole)[0]
    payloads = (quiet | (np.arange(64, dtype=whole) << whole({"f32": 10, "f64": 39}[wide]))).view(WIDE[wide])
    given = np.concatenate([given, payloads, -payloads])
    portable = Loops({name: LOOPS.loops[name] for name in ("from_f16", f"to_f16_{wide}")}, Target.generic())
    bits, expected = np.zeros((2, given.size), np.uint16)
    LOOPS.run(f"to_f16_{wide}", [given, bits])
    portable.run(f"to_f16_{wide}", [given, expected])
    np.testing.assert_array_equal(bits, expected)
    values, expected = np.zeros((2, codes("f16").size), np.float32)
    LOOPS.run("from_f16", [codes("f16"), values])
    portable.run("from_f16", [codes("f16"), expected])
    np.testing.assert_array_equal(values.view(np.uint32), expected.view(np.uint32))
