"""Quantisation to and from every type that the standard allows, beside its reference; operators on float8."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from error_checks import holds
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import onnx_numba.backend as backend
from onnx_numba.errors import ModelError, OnnxNumbaError, UnsupportedError
from onnx_numba.ir.formats import FORMATS
from onnx_numba.ir.types import DTYPES, DType

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)
X = (RNG.standard_normal((4, 6)) * 20).astype(np.float32)
QUANTISED = [
    t for t in DTYPES.values() if (t.is_int and t.bits <= 16) or (t.is_float and t.bits <= 8 and not FORMATS[t.name].is_scale)
]
FLOAT8 = [t for t in QUANTISED if t.is_float and t.bits == 8]


def model(op: str, inputs: list[Array], opset: int, **attributes: Any) -> onnx.ModelProto:
    names = [f"x{k}" for k in range(len(inputs))]
    ports = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in zip(names, inputs, strict=True)
    ]
    graph = helper.make_graph([helper.make_node(op, names, ["y"], **attributes)], "g", ports, [onnx.ValueInfoProto(name="y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def run(op: str, inputs: list[Array], opset: int = 28, **attributes: Any) -> Array:
    """One node, compiled and as plain Python, which give the same bits."""
    made = model(op, inputs, opset, **attributes)
    result, other = (backend.prepare(made, jit=jit).run(inputs)[0] for jit in (True, False))
    np.testing.assert_array_equal(result.reshape(-1).view(np.uint8), other.reshape(-1).view(np.uint8))
    return np.asarray(result)


def check(op: str, inputs: list[Array], opset: int = 28, **attributes: Any) -> None:
    """The bits are those of the standard's reference."""
    found = run(op, inputs, opset, **attributes)
    feed = {f"x{k}": x for k, x in enumerate(inputs)}
    (expected,) = ReferenceEvaluator(model(op, inputs, opset, **attributes)).run(None, feed)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found.reshape(-1).view(np.uint8), np.ascontiguousarray(expected).reshape(-1).view(np.uint8))


@pytest.mark.parametrize("dtype", QUANTISED, ids=str)
def test_quantised(dtype: DType) -> None:
    zero = np.zeros((), dtype.numpy)
    check("QuantizeLinear", [X, np.array(1.7, np.float32), zero])
    check("QuantizeLinear", [X * 100, np.array(1.7, np.float32)], output_dtype=dtype.onnx, saturate=0)
    check("QuantizeLinear", [X, np.array([0.5, 2, 1, 7], np.float32)], axis=0, output_dtype=dtype.onnx, precision=TensorProto.FLOAT16)
    for half in (np.float16, ml_dtypes.bfloat16):
        check("QuantizeLinear", [X.astype(half), np.array(1.3, half)], output_dtype=dtype.onnx)
    blocks = [(RNG.random((4, 3)) + 0.5).astype(np.float32), np.resize(np.arange(2), (4, 3)).astype(dtype.numpy)]
    given = blocks if dtype.is_int else blocks[:1]
    check("QuantizeLinear", [X, *given], axis=1, block_size=2, output_dtype=dtype.onnx)


@pytest.mark.parametrize("dtype", QUANTISED, ids=str)
def test_dequantised(dtype: DType) -> None:
    least, greatest = dtype.limits
    with np.errstate(all="ignore"):
        x = (RNG.integers(least, greatest + 1, (4, 6)) if dtype.is_int else X).astype(dtype.numpy)
    zero = np.array(1 if dtype.is_int else 0).astype(dtype.numpy)
    for half in (np.float32, np.float16, ml_dtypes.bfloat16):
        check("DequantizeLinear", [x, np.array(0.3, half), zero])
    check("DequantizeLinear", [x, (RNG.random((2, 6)) + 0.1).astype(np.float32)], axis=0, block_size=2, output_dtype=TensorProto.FLOAT16)
    powers = np.resize(np.exp2(np.arange(-3, 3)), (4, 3)).astype(ml_dtypes.float8_e8m0fnu)
    check("DequantizeLinear", [x, powers], axis=1, block_size=2, output_dtype=TensorProto.FLOAT)


@pytest.mark.parametrize("to", [TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1, TensorProto.INT8])
def test_scales_of_powers_of_two(to: int) -> None:
    check("QuantizeLinear", [X, np.array([1, 2, 4, 0.5], ml_dtypes.float8_e8m0fnu)], axis=0, output_dtype=to)


def test_integers_are_divided_exactly() -> None:
    x = np.array([100_000, -3, 17, 2**30, 33_554_433], np.int32)
    assert run("QuantizeLinear", [x, np.array(1000, np.int32)]).tolist() == [100, 0, 0, 255, 255]
    assert run("QuantizeLinear", [x, np.array(2.0**18, np.float32)]).tolist() == [0, 0, 0, 255, 128]


def test_types_that_contradict() -> None:
    scale = np.array(1, np.float32)
    with pytest.raises(ModelError, match="output_dtype is int4, but the zero point is int8"):
        run("QuantizeLinear", [X, scale, np.array(0, np.int8)], output_dtype=TensorProto.INT4)
    with pytest.raises(UnsupportedError, match="quantisation to float8e8m0"):
        run("QuantizeLinear", [X, scale], output_dtype=TensorProto.FLOAT8E8M0)
    with pytest.raises(ModelError, match="output_dtype must be a float of 16 bits or more, not float8e8m0"):
        run("DequantizeLinear", [X.astype(ml_dtypes.int4), np.array(1, ml_dtypes.float8_e8m0fnu)])


F32, U8 = np.float32, np.uint8
ONE = [((), F32), ((), U8)]
IMAGE, FILTERS = ((1, 2, 5, 5), U8), ((4, 2, 3, 3), U8)
MISFITS = [
    ("QuantizeLinear", "zero point", [((3, 4), F32), ((), F32), ((4,), U8)]),
    ("QuantizeLinear", "zero point", [((3, 4), F32), ((4,), F32), ((), U8)]),
    ("QuantizeLinear", "zero point", [((3, 4), F32), ((4,), F32), ((3,), U8)]),
    ("QuantizeLinear", "scale", [((3, 4), F32), ((3,), F32), ((3,), U8)]),
    ("QuantizeLinear", "scale", [((3, 1), F32), ((4,), F32), ((4,), U8)]),  # which would be broadcast to a larger result
    ("QuantizeLinear", "scale", [((3, 4), F32), ((1, 3, 4), F32)]),
    ("DequantizeLinear", "zero point", [((3, 4), U8), ((1,), F32), ((4,), U8)]),
    ("DequantizeLinear", "zero point", [((3, 4), U8), ((4,), F32), ((1,), U8)]),
    ("DequantizeLinear", "zero point", [((3, 4), U8), ((4,), F32), ((4, 1), U8)]),
    ("DequantizeLinear", "scale", [((3, 1), U8), ((4,), F32)]),
    ("MatMulInteger", "zero point of the first input", [((3, 2), U8), ((2, 4), U8), ((4,), U8)]),
    ("MatMulInteger", "zero point of the first input", [((3, 2), U8), ((2, 4), U8), ((1, 2), U8)]),
    ("MatMulInteger", "zero point of the first input", [((1, 2), U8), ((2, 4), U8), ((4, 1), U8)]),
    ("MatMulInteger", "zero point of the second input", [((3, 2), U8), ((2, 4), U8), ((), U8), ((3,), U8)]),
    ("MatMulInteger", "zero point of the second input", [((3, 2), U8), ((2, 4), U8), ((), U8), ((2, 1), U8)]),
    ("MatMulInteger", "zero point of the second input", [((3, 2), U8), ((2, 1), U8), ((), U8), ((4,), U8)]),
    *[
        ("QLinearMatMul", f"zero point of the {whose}", [((3, 2), U8), *left, ((2, 4), U8), *right, *out])
        for whose, left, right, out in [
            ("first input", [((3,), F32), ((), U8)], ONE, ONE),
            ("first input", [((2,), F32), ((2,), U8)], ONE, ONE),
            ("second input", ONE, [((3,), F32), ((3,), U8)], ONE),
            ("result", ONE, ONE, [((3,), F32), ((3,), U8)]),
        ]
    ],
    ("ConvInteger", "zero point of the image", [IMAGE, FILTERS, ((2,), U8)]),
    ("ConvInteger", "zero point of the filters", [IMAGE, FILTERS, ((), U8), ((3,), U8)]),
    ("ConvInteger", "zero point of the filters", [IMAGE, FILTERS, ((), U8), ((4, 1), U8)]),
    *[
        ("QLinearConv", what, [IMAGE, *image, FILTERS, *filters, *out, *bias])
        for what, image, filters, out, bias in [
            ("scale of the image", [((2,), F32), ((), U8)], ONE, ONE, []),
            ("scale of the filters", ONE, [((3,), F32), ((4,), U8)], ONE, []),
            ("scale of the result", ONE, ONE, [((4,), F32), ((), U8)], []),
            ("zero point of the result", ONE, ONE, [((), F32), ((4,), U8)], []),
            ("bias", ONE, ONE, ONE, [((1,), np.int32)]),
        ]
    ],
]  # fmt: skip


@pytest.mark.parametrize("dims", ["known", "open", "no rank"])
@pytest.mark.parametrize(("op", "what", "given"), MISFITS)
def test_scales_and_zero_points_that_do_not_fit(op: str, what: str, given: list[tuple[tuple[int, ...], Any]], dims: str) -> None:
    inputs = [np.ones(shape, kind) for shape, kind in given]
    made = model(op, inputs, 21)
    for value in made.graph.input if dims != "known" else ():
        kind = value.type.tensor_type
        for dim in kind.shape.dim if dims == "open" else ():
            dim.Clear()
        if dims == "no rank":
            kind.ClearField("shape")
    with pytest.raises(OnnxNumbaError) as raised:
        backend.prepare(made, jit=False).run(inputs)
    holds(raised, op, f"the {what}", "expected", "rank" if "rank" in str(raised.value) else "got")


def test_scales_and_zero_points_that_fit() -> None:
    one, row, column = [np.full((), 2, U8), np.full(1, 2, U8)], np.array([1, 2, 3], U8), np.array([4, 3, 2, 1], U8)
    x, a, c = RNG.integers(0, 9, (3, 4)).astype(U8), np.full((3, 2), 7, U8), np.full((2, 4), 9, U8)
    for zero, scale in ((one[0], one[1]), (one[1], one[0])):
        np.testing.assert_array_equal(run("DequantizeLinear", [x, scale.astype(F32), zero]), (x.astype(F32) - 2) * 2)
    np.testing.assert_array_equal(run("DequantizeLinear", [x, row.astype(F32), row], axis=0), (x - row[:, None].astype(F32)) * row[:, None])
    blocks = run("DequantizeLinear", [x[0], column[:2].astype(F32), column[:2]], axis=0, block_size=2)
    np.testing.assert_array_equal(blocks, (x[0] - np.repeat(column[:2], 2).astype(F32)) * np.repeat(column[:2], 2))
    wanted = (a - row.astype(np.int32)[:, None]) @ (c - column.astype(np.int32))
    for left, right in ((row, column), (row[:, None], column[None])):
        np.testing.assert_array_equal(run("MatMulInteger", [a, c, left, right]), wanted)
    scales = [row / F32(8), column / F32(8), np.array(2, F32)]
    found = run("QLinearMatMul", [a, scales[0], row, c, scales[1], column, scales[2], np.array(1, U8)])
    np.testing.assert_array_equal(found, np.clip(np.rint(wanted * np.outer(scales[0], scales[1]) / 2) + 1, 0, 255))


@pytest.mark.parametrize("dtype", FLOAT8, ids=str)
def test_operators_on_float8(dtype: DType) -> None:
    every = np.arange(256).astype(np.uint8).view(dtype.numpy)
    check("IsNaN", [every], opset=20)
    check("IsInf", [every], opset=20)
    check("IsInf", [every], opset=20, detect_negative=0)
    a, b = X.astype(dtype.numpy), X.T.astype(dtype.numpy)
    zero, scales = np.zeros((), dtype.numpy), [np.array(v, np.float32) for v in (0.5, 0.25, 16.0)]
    found = run("QLinearMatMul", [a, scales[0], zero, b, scales[1], zero, scales[2], zero], opset=21)
    exact = a.astype(np.float32) @ b.astype(np.float32) / 128
    np.testing.assert_array_equal(found.view(np.uint8), exact.astype(dtype.numpy).view(np.uint8))


def test_what_is_fused_is_rounded() -> None:
    text = """<ir_version: 13, opset_import: ["" : 25]> g (float[7] x) => (float[7] a, int32[7] b, float[7] c) {
        s = Cast <to = 17> (x)  a = Cast <to = 1> (s)
        n = Cast <to = 6> (x)   i = Cast <to = 22> (n)  b = Cast <to = 6> (i)
        scale = Constant <value_float = 2.0> ()
        q = QuantizeLinear <output_dtype = 21> (x, scale)  c = DequantizeLinear (q, scale)
    }"""
    x = np.array([0.3, -0.3, 500.0, 9.0, -9.0, 17.0, 3.1], np.float32)
    a, b, c = backend.prepare(onnx.parser.parse_model(text)).run([x])
    assert a.tolist() == [0.3125, -0.3125, 448.0, 9.0, -9.0, 16.0, 3.0]
    assert b.tolist() == [0, 0, 4, -7, 7, 1, 3]
    assert c.tolist() == [0, 0, 30, 8, 0, 16, 4]
