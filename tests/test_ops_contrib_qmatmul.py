"""onnxruntime's products with quantised matrices against onnxruntime, with dims known and unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operators import Case, check, feeds, model, onnxruntime_outputs

import onnx_numba.backend as backend
from onnx_numba.errors import OnnxNumbaError

RNG = np.random.default_rng(29)
Array = np.ndarray[Any, Any]


def u8(*shape: int) -> Array:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def i8(*shape: int) -> Array:
    return RNG.integers(-128, 128, shape).astype(np.int8)


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def of(dtype: Any, *values: float) -> Array:
    return np.array(values[0] if len(values) == 1 else values, dtype)


def case(op: str, inputs: list[Any], constants: tuple[int, ...] = (), **attributes: Any) -> Case:
    return Case(op, 1, inputs, attributes, constants, 1, "com.microsoft")


FIRST, SECOND, SIGNED = u8(3, 8), u8(8, 4), i8(8, 4)
COLUMNS = f32(4) ** 2
SUMS = RNG.integers(-5000, 5000, 4).astype(np.int32)

INTEGERS = [
    case("MatMulIntegerToFloat", [FIRST, SECOND, of("f", 0.02), of("f", 0.03)]),
    case("MatMulIntegerToFloat", [FIRST, SIGNED, of("f", 0.02), COLUMNS, of("B", 128), of("b", 1, -2, 3, 4), f32(4)], (1, 3, 5, 6)),
    case("MatMulIntegerToFloat", [i8(2, 3, 8), i8(2, 8, 5), of("f", 0.02), of("f", 0.5), of("b", 9), of("b", -1), f32(5)]),
    case("DynamicQuantizeMatMul", [f32(3, 8), SIGNED, of("f", 0.03)]),
    case("DynamicQuantizeMatMul", [f32(2, 3, 8), SECOND, COLUMNS, of("B", 1, 2, 3, 255), f32(4)], (1, 2, 3, 4)),
    case("DynamicQuantizeMatMul", [np.zeros((2, 8), np.float32), SECOND, of("f", 0.5), of("B", 7)]),
    case(
        "QGemm",
        [FIRST, of("f", 0.02), of("B", 100), SIGNED, COLUMNS, of("b", 1, 2, -3, 4), SUMS, of("f", 0.7), of("B", 90)],
        (3, 4, 5),
        alpha=1.5,
    ),
    case(
        "QGemm",
        [i8(8, 3), of("f", 0.02), of("b", -10), SIGNED.T.copy(), of("f", 0.01), of("b", 3), None, of("f", 0.3), of("b", -3)],
        transA=1,
        transB=1,
    ),
    case(
        "QGemm",
        [FIRST, of("f", 0.02), of("B", 100), SECOND.T.copy(), COLUMNS, of("B", 1, 2, 3, 4), SUMS[:3].reshape(3, 1)],
        transB=1,
    ),
    case("MatMulInteger16", [RNG.integers(-999, 999, (2, 3, 4)).astype(np.int16), RNG.integers(-9, 9, (4, 5)).astype(np.int16)]),
]


@pytest.mark.parametrize("given", INTEGERS, ids=str)
def test_product_of_integers_is_that_of_onnxruntime(given: Case) -> None:
    check(given, onnxruntime_outputs(given))


def test_16_bit_products_wrap_in_unsigned_32_bits() -> None:
    """onnxruntime declares it for unsigned numbers and has no kernel for them."""
    a, b = of(np.uint16, 65535, 65535).reshape(1, 2), of(np.uint16, 65535, 65535).reshape(2, 1)
    check(case("MatMulInteger16", [a, b]), [a.astype(np.uint32) @ b.astype(np.uint32)])


def packed(numbers: Array, bits: int) -> Array:
    """Numbers of few bits along the last axis in bytes, the first in the lowest bits."""
    share = 8 // bits
    short = -numbers.shape[-1] % share
    padded = np.pad(numbers, [*[(0, 0)] * (numbers.ndim - 1), (0, short)]).reshape(*numbers.shape[:-1], -1, share)
    return np.asarray((padded.astype(np.uint16) << np.arange(0, 8, bits).astype(np.uint16)).sum(-1), np.uint8)


def blocks(rows: int, columns: int, size: int, bits: int, dtype: Any = np.float32) -> tuple[Array, Array, Array]:
    """A packed matrix of ``columns`` by ``rows``, its scales and its zero points."""
    count = -(-columns // size)
    numbers = RNG.integers(0, 1 << bits, (rows, count, size))
    scales = (RNG.random((rows, count)) / (1 << bits)).astype(dtype)
    return packed(numbers, bits), scales, RNG.integers(0, 1 << bits, (rows, count))


def few_bits(
    x: Array, columns: int, size: int, bits: int, zeros: str = "", bias: bool = False, constant: bool = True, groups: bool = False
) -> Case:
    depth = x.shape[-1]
    matrix, scales, points = blocks(columns, depth, size, bits, x.dtype)
    given = {"": None, "packed": packed(points, bits), "flat": packed(points, bits).reshape(-1), "float": points.astype(x.dtype)}[zeros]
    group = RNG.integers(0, scales.shape[1], depth).astype(np.int32) if groups else None
    inputs = [x, matrix, scales, given, group, f32(columns).astype(x.dtype) if bias else None]
    return case("MatMulNBits", inputs, (1, 2, 3, 4, 5) if constant else (), K=depth, N=columns, block_size=size, bits=bits)


NBITS = [
    few_bits(f32(3, 32), 5, 16, 4),
    few_bits(f32(2, 3, 40), 6, 16, 4, "packed", bias=True),
    few_bits(f32(1, 64), 8, 32, 4, "flat"),
    few_bits(f32(5, 32), 4, 32, 4, "float"),
    few_bits(f32(3, 64), 5, 32, 8, "packed", bias=True),
    few_bits(f32(3, 64), 5, 16, 8),
    few_bits(f32(3, 64), 5, 16, 2, "packed"),
    few_bits(f32(3, 48), 5, 32, 2),
    few_bits(f32(4, 32), 5, 16, 4, groups=True),
    few_bits(f32(4, 32), 5, 16, 4, "float", groups=True),
    few_bits(f32(4, 32), 5, 16, 4, "float", bias=True, constant=False),
    few_bits(f32(4, 40), 5, 16, 8, "packed", bias=True, constant=False),
]


@pytest.mark.parametrize("given", NBITS, ids=lambda c: f"{c}-{[None if i is None else i.dtype.char for i in c.inputs]}")
def test_product_with_a_matrix_of_few_bits_is_that_of_onnxruntime(given: Case) -> None:
    check(given, onnxruntime_outputs(given), rtol=1e-4, atol=1e-5)


def test_product_of_half_floats_with_a_matrix_of_few_bits() -> None:
    given = few_bits(f32(3, 64).astype(np.float16), 6, 32, 4, "packed", bias=True)
    check(given, onnxruntime_outputs(given), rtol=2e-3, atol=2e-3)


def test_a_matrix_of_few_bits_may_be_left_out() -> None:
    x, bias = f32(2, 3, 32), f32(5)
    inputs = [x, np.zeros((0, 2, 8), np.uint8), np.zeros((0, 2), np.float32), None, None, bias]
    check(case("MatMulNBits", inputs, (1, 2), K=32, N=5, block_size=16), [np.broadcast_to(bias, (2, 3, 5))])


def test_groups_have_packed_zero_points() -> None:
    """By the operator's description: onnxruntime 1.32 leaves packed zero points out where there are groups."""
    x, group = f32(2, 32), RNG.integers(0, 2, 32).astype(np.int32)
    numbers, points, scales = RNG.integers(0, 16, (5, 32)), RNG.integers(0, 16, (5, 2)), RNG.random((5, 2)).astype(np.float32)
    matrix = (numbers - points[:, group]) * scales[:, group]
    inputs = [x, packed(numbers, 4).reshape(5, 2, 8), scales, packed(points, 4), group]
    check(case("MatMulNBits", inputs, (1, 2, 3, 4), K=32, N=5, block_size=16), [(x @ matrix.T).astype(np.float32)], 1e-4, 1e-5)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("constants", [(), (1, 2)])
def test_product_with_a_matrix_of_4_bit_floats_is_that_of_onnxruntime(kind: int, constants: tuple[int, ...]) -> None:
    inputs = [f32(2, 3, 24), u8(5 * 24 // 2), f32(8) ** 2]
    given = case("MatMulBnb4", inputs, constants, K=24, N=5, block_size=16, quant_type=kind)
    check(given, onnxruntime_outputs(given), 1e-5, 1e-5)


def test_a_matrix_of_4_bit_floats_may_be_taken_as_it_is_stored() -> None:
    """onnxruntime's kernel multiplies by the transposed matrix whatever the attribute says."""
    x, matrix, greatest = f32(2, 4), u8(4 * 16 // 2), f32(4) ** 2
    (columns,) = onnxruntime_outputs(
        case("MatMulBnb4", [np.eye(16, dtype=np.float32), matrix, greatest], K=16, N=4, block_size=16, quant_type=1)
    )
    check(case("MatMulBnb4", [x, matrix, greatest], K=16, N=4, block_size=16, quant_type=1, transB=0), [x @ columns.T], 1e-5, 1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gathered_slices_are_those_of_onnxruntime(bits: int, dtype: Any) -> None:
    for points, indices in ((True, RNG.integers(-6, 6, (2, 3))), (False, np.array([1, 5], np.int32))):
        numbers = packed(RNG.integers(0, 1 << bits, (6, 2, 40)), bits)
        zeros = packed(RNG.integers(0, 1 << bits, (6, 2, 3)), bits) if points else None
        inputs = [numbers, indices, RNG.random((6, 2, 3)).astype(dtype), zeros]
        given = case("GatherBlockQuantized", inputs, (0, 2, 3), bits=bits, block_size=16, quantize_axis=-1)
        check(given, onnxruntime_outputs(given), 2e-3, 1e-4)


def test_no_slice_is_zeros() -> None:
    inputs = [u8(4, 16), np.array([1, 4, -5, 0], np.int64), f32(4, 2)]
    given = case("GatherBlockQuantized", inputs, (0,), block_size=16)
    check(given, onnxruntime_outputs(given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (case("MatMulNBits", [f32(2, 32), u8(5, 2, 4), f32(5, 2)], K=32, N=5, block_size=16), "dim 2 of B"),
        (case("MatMulNBits", [f32(2, 32), u8(5, 2, 8), f32(5, 1)], K=32, N=5, block_size=16), "reshape"),
        (case("MatMulNBits", [f32(2, 31), u8(5, 2, 8), f32(5, 2)], K=32, N=5, block_size=16), "columns of A"),
        (case("MatMulNBits", [f32(2, 32), u8(5, 2, 8), f32(5, 2)], K=32, N=5, block_size=24), "power of two"),
        (
            case("MatMulNBits", [f32(2, 32), u8(5, 2, 8), f32(5, 2), None, np.full(32, 2, np.int32)], K=32, N=5, block_size=16),
            "out of range",
        ),
        (case("GatherBlockQuantized", [u8(4, 16), np.array([1]), f32(4, 2), u8(4, 2)], block_size=16), "zero_points"),
        (case("QLinearAdd", [u8(3), of("f", 1, 2), of("B", 1), u8(3), of("f", 1), of("B", 1), of("f", 1)]), "elements of the scale"),
    ],
    ids=str,
)
def test_bad_input_is_refused(given: Case, message: str) -> None:
    with pytest.raises(OnnxNumbaError, match=message):
        backend.prepare(model(given, False)).run(feeds(given))
