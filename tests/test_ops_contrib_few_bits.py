"""MatMulNBits with rows that become bytes: against onnxruntime, and against the same in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operators import Case, check, feeds, model, onnxruntime_outputs

import onnx_numba.backend as backend

RNG = np.random.default_rng(31)
Array = np.ndarray[Any, Any]


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def packed(numbers: Array, bits: int) -> Array:
    """Numbers of few bits along the last axis in bytes, the first in the lowest bits."""
    share = 8 // bits
    padded = np.pad(numbers, [*[(0, 0)] * (numbers.ndim - 1), (0, -numbers.shape[-1] % share)])
    shifted = padded.reshape(*numbers.shape[:-1], -1, share) << np.arange(0, 8, bits)
    return shifted.sum(-1).astype(np.uint8)


class Product:
    """A product with a matrix of ``columns`` columns in blocks of ``size`` numbers of ``bits`` bits."""

    def __init__(self, x: Array, columns: int, size: int, bits: int, zeros: str = "") -> None:
        self.x, self.size, self.depth = x, size, x.shape[-1]
        count = -(-self.depth // size)
        self.numbers = RNG.integers(0, 1 << bits, (columns, count, size))
        self.scales = (RNG.random((columns, count)) / (1 << bits)).astype(np.float32)
        points = RNG.integers(0, 1 << bits, (columns, count))
        self.points = points if zeros else np.full((columns, count), 1 << (bits - 1))
        given = {"": None, "packed": packed(points, bits), "float": points.astype(np.float32)}[zeros]
        inputs = [x, packed(self.numbers, bits), self.scales, given]
        attributes = {"K": self.depth, "N": columns, "block_size": size, "bits": bits, "accuracy_level": 4}
        self.case = Case("MatMulNBits", 1, inputs, attributes, (1, 2, 3), 1, "com.microsoft")

    def __str__(self) -> str:
        return str(self.case)

    def of(self, x: Array) -> Array:
        """The product of rows in whole blocks."""
        matrix = (self.numbers - self.points[..., None]) * self.scales[..., None].astype(np.float64)
        return np.asarray(np.tensordot(x, matrix, ((-2, -1), (1, 2))))

    def blocks(self) -> Array:
        whole = np.pad(self.x, [*[(0, 0)] * (self.x.ndim - 1), (0, -self.depth % self.size)])
        return whole.reshape(*self.x.shape[:-1], -1, self.size)

    def rounded(self) -> Array:
        """The rows as they are once they have been bytes."""
        blocks = self.blocks()
        largest = np.maximum(np.abs(blocks).max(-1, keepdims=True), np.float32(1e-36))
        return np.rint(blocks * (np.float32(127) / largest)) * (largest / np.float32(127)).astype(np.float64)


PRODUCTS = [
    Product(f32(1, 64), 8, 32, 4),
    Product(f32(1, 256), 130, 32, 4, "packed"),
    Product(f32(2, 3, 40), 300, 16, 4, "packed"),
    Product(f32(70, 64), 5, 32, 4, "float"),
    Product(f32(5, 600), 17, 256, 4),
    Product(f32(3, 64), 140, 32, 8, "packed"),
    Product(f32(4, 300), 5, 128, 8),
    Product(f32(3, 64), 5, 16, 2, "packed"),
    Product(np.zeros((2, 64), np.float32), 5, 16, 4),
    Product(f32(3, 64) * np.float32(1e-38), 5, 16, 4),
]


@pytest.mark.parametrize("given", PRODUCTS, ids=str)
def test_product_of_rows_as_bytes(given: Product) -> None:
    largest = np.abs(given.x).max()
    check(given.case, [given.of(given.rounded()).astype(np.float32)], rtol=1e-4, atol=1e-4 * largest)
    error = np.abs(given.rounded() - given.blocks()).max()
    assert error <= largest / 253 or largest < 1e-30


@pytest.mark.parametrize("given", PRODUCTS[:3], ids=str)
def test_it_is_that_of_onnxruntime(given: Product) -> None:
    """It, too, has the rows as bytes; on other processors by other code, so that a step may be rounded otherwise."""
    check(given.case, onnxruntime_outputs(given.case), rtol=1e-2, atol=2e-2)


def test_of_strict_options_rows_stay_floats() -> None:
    given = PRODUCTS[2]
    rep = backend.prepare(model(given.case, False), accuracy="strict")
    (found,) = rep.run(feeds(given.case))
    np.testing.assert_allclose(found, given.of(given.blocks().astype(np.float64)), rtol=1e-5, atol=1e-5)


def test_what_is_not_finite_stays_in_its_row() -> None:
    x = f32(4, 64)
    x[1, 3], x[2, 40], x[2, 41] = np.nan, np.inf, -np.inf
    given = Product(x, 9, 32, 4)
    given.scales[:] = 1
    (found,) = backend.prepare(model(given.case, False)).run(feeds(given.case))
    assert np.isfinite(found[[0, 3]]).all()
    assert np.isnan(found[1]).all()
    signs = (given.numbers[:, 1, 8] - 8) - (given.numbers[:, 1, 9] - 8)
    assert (found[2][signs > 0] == np.inf).all()
    assert (found[2][signs < 0] == -np.inf).all()
    assert np.isnan(found[2][signs == 0]).all()
