"""float16 and bfloat16: every value there is, and rounding once from float32 and float64."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from native_loops import Loops, loop, same_bits, samples

DTYPES = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
CASES = [(half, wide) for half in DTYPES for wide in ("f32", "f64")]

LOOPS = Loops(
    {f"load_{half}": loop(f"x[i] = load_{half}(a, i)", a=half, x="f32") for half in DTYPES}
    | {f"store_{half}_{wide}": loop(f"store_{half}(x, i, a[i])", a=wide, x=half) for half, wide in CASES}
    | {f"round_{half}_{wide}": loop(f"x[i] = round_{half}(a[i])", a=wide, x="f32") for half, wide in CASES}
)


def all_halves() -> np.ndarray:
    return np.arange(1 << 16, dtype=np.uint16)


def ties_and_neighbours(half: str, wide: str) -> np.ndarray:
    """Values halfway between two halves, and just beside: where rounding twice would go wrong."""
    with np.errstate(all="ignore"):
        values = all_halves().view(DTYPES[half]).astype(np.float64)
        values = np.sort(values[np.isfinite(values)])
        middle = ((values[1:] + values[:-1]) / 2)[::7]
        scalar = {"f32": np.float32, "f64": np.float64}[wide]
        middle = middle.astype(scalar)
        above, below = np.nextafter(middle, scalar(np.inf)), np.nextafter(middle, scalar(-np.inf))
        return np.concatenate([middle, above, below, samples(wide)])


def nearest(values: np.ndarray, half: str) -> np.ndarray:
    """The nearest halves, found among all of them in float64, ties to even."""
    with np.errstate(all="ignore"):
        table = all_halves()[: (1 << 15)].view(DTYPES[half]).astype(np.float64)
    table = table[np.isfinite(table)]
    table = np.append(table, 2 * table[-1] - table[-2])  # what infinity stands for
    size = np.abs(values.astype(np.float64))
    above = np.clip(np.searchsorted(table, size), 1, table.size - 1)
    low, high = table[above - 1], table[above]
    up = (size - low > high - size) | ((size - low == high - size) & (above % 2 == 0)) | (size >= high)
    rounded = np.where(up, above, above - 1).astype(np.uint16)
    signed = rounded | (np.signbit(values).astype(np.uint16) << 15)
    nan = {"f16": 0x7E00, "bf16": 0x7FC0}[half]
    return np.where(np.isnan(values), nan | (np.signbit(values).astype(np.uint16) << 15), signed)


@pytest.mark.parametrize("half", DTYPES)
def test_every_half_is_loaded(half):
    bits = all_halves()
    loaded = np.zeros(bits.size, np.float32)
    LOOPS.run(f"load_{half}", [bits, loaded])
    with np.errstate(all="ignore"):
        assert same_bits(loaded, bits.view(DTYPES[half]).astype(np.float32)).all()
    LOOPS.check(f"load_{half}", bits[::13].copy())


@pytest.mark.parametrize(("half", "wide"), CASES)
def test_every_half_survives(half, wide):
    bits = all_halves()
    with np.errstate(all="ignore"):
        values = bits.view(DTYPES[half]).astype({"f32": np.float32, "f64": np.float64}[wide])
    stored = np.zeros_like(bits)
    LOOPS.run(f"store_{half}_{wide}", [values, stored])
    number = ~np.isnan(values)
    np.testing.assert_array_equal(stored[number], bits[number])
    assert np.isnan(stored[~number].view(DTYPES[half])).all()


@pytest.mark.parametrize(("half", "wide"), CASES)
def test_rounding_is_to_the_nearest_once(half, wide):
    values = ties_and_neighbours(half, wide)
    stored, rounded = np.zeros(values.size, np.uint16), np.zeros(values.size, np.float32)
    LOOPS.run(f"store_{half}_{wide}", [values, stored])
    LOOPS.run(f"round_{half}_{wide}", [values, rounded])
    np.testing.assert_array_equal(stored, nearest(values, half))
    with np.errstate(all="ignore"):
        assert same_bits(rounded, stored.view(DTYPES[half]).astype(np.float32)).all()
    some = np.concatenate([values[:: max(1, values.size // 1000)], samples(wide)])
    LOOPS.check(f"store_{half}_{wide}", some)
    LOOPS.check(f"round_{half}_{wide}", some)
