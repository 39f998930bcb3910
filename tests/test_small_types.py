"""Element types of a byte and less, as users see them: casts, weights, the operators that take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from native_loops import same_bits
from onnx import TensorProto, helper, numpy_helper
from operators import Case, check, model

import onnx_numba.backend as backend
from onnx_numba.errors import InputTypeError, ModelError
from onnx_numba.importer import load
from onnx_numba.ir.formats import FORMATS
from onnx_numba.ir.types import DTYPES, DType

Array = np.ndarray[Any, Any]

SMALL = {name: dtype for name, dtype in DTYPES.items() if dtype.package == "ml_dtypes" and dtype.bits <= 8}
FLOATS = {name: dtype for name, dtype in SMALL.items() if dtype.is_float and not FORMATS[name].is_scale}
FLOAT8 = {name: dtype for name, dtype in FLOATS.items() if dtype.bits == 8}
INTEGERS = {name: dtype for name, dtype in SMALL.items() if dtype.is_int}
PACKED = {name: dtype for name, dtype in SMALL.items() if dtype.bits < 8}
SOURCES = ["f16", "bf16", "f32", "f64", "i8", "u8", "i16", "i32", "u32", "i64", "u64", "bool"]
INF, NAN = float("inf"), float("nan")


def every(dtype: DType) -> Array:
    """All values of a type."""
    return np.arange(1 << dtype.bits).astype(np.uint8).view(dtype.numpy)


def numbers(dtype: DType) -> Array:
    """Numbers near and beyond the limits of small types, as far as a type has them."""
    if dtype.kind == "b":
        return np.array([True, False])
    if dtype.is_int:
        low, high = dtype.limits
        wanted = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 200, 448, 464, 465, 57344, 61439, 61440, 1 << 40, -1, -2, -3, -8, -9, -449]
        return np.array([v for v in (*wanted, low, high) if low <= v <= high], dtype.numpy)
    wanted_floats = [0.0, 0.25, 0.26, 0.75, 1.75, 2.5, 5.0, 7.0, 7.75, 30.0, 240.0, 248.0, 448.0, 464.0, 465.0, 57344.0, 61440.0,
                     1e-3, 2e-3, 2.0**-10, 3 * 2.0**-11, 1e30, INF, NAN]  # fmt: skip
    with np.errstate(all="ignore"):
        return np.array([*wanted_floats, *np.negative(wanted_floats)]).astype(dtype.numpy)


def run(op: str, inputs: list[Array], opset: int = 25, **attributes: Any) -> Array:
    """One node, compiled; what plain Python makes of it is the same."""
    made = model(Case(op, opset, inputs, attributes), dynamic=False)
    (result,) = backend.prepare(made).run(inputs)
    (other,) = backend.prepare(made, jit=False).run(inputs)
    assert result.dtype == other.dtype
    if result.dtype == object:
        assert result.tolist() == other.tolist()
    else:
        np.testing.assert_array_equal(_bits(result), _bits(other))
    return result


def _bits(x: Array) -> Array:
    return x.view(f"u{x.dtype.itemsize}")


def cast(x: Array, dtype: DType, **attributes: Any) -> Array:
    result = run("Cast", [x], to=dtype.onnx, **attributes)
    assert result.dtype == dtype.numpy
    return result


@pytest.mark.parametrize("name", SMALL)
def test_every_value_is_cast_exactly(name: str) -> None:
    x = every(SMALL[name])
    for wide in (np.float32, np.float64, np.float16) if SMALL[name].is_float else (np.float32, np.float16, np.int8, np.int64, np.uint8):
        with np.errstate(all="ignore"):
            expected = x.astype(np.float32 if SMALL[name].is_float else np.int32).astype(wide)
        result = run("Cast", [x], to=helper.np_dtype_to_tensor_dtype(np.dtype(wide)))
        assert same_bits(result, expected).all(), wide


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", FLOATS)
def test_casts_to_floats_without_saturation(name: str, source: str) -> None:
    x, form = numbers(DTYPES[source]), FORMATS[name]
    with np.errstate(all="ignore"):
        exact = x.astype(np.float64)
        expected = exact.astype(np.float32).astype(FLOATS[name].numpy)
    result = cast(x, FLOATS[name], saturate=0)
    nan = np.isnan(exact)
    np.testing.assert_array_equal(_bits(result)[~nan], _bits(expected)[~nan])
    assert (result.astype(np.float32)[nan] == 0).all() if form.special == "finite" else np.isnan(result.astype(np.float32)[nan]).all()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", FLOAT8)
def test_casts_to_float8_saturate(name: str, source: str) -> None:
    x, greatest = numbers(DTYPES[source]), FORMATS[name].greatest
    with np.errstate(all="ignore"):
        exact = x.astype(np.float64)
        expected = np.clip(exact, -greatest, greatest).astype(np.float32).astype(FLOAT8[name].numpy)
    result = cast(x, FLOAT8[name])
    nan = np.isnan(exact)
    np.testing.assert_array_equal(_bits(result)[~nan], _bits(expected)[~nan])
    assert np.isnan(result.astype(np.float32)[nan]).all()


@pytest.mark.parametrize(
    ("to", "zeros", "outside", "least"),
    [
        ("f8e4m3fn", [0x00, 0x80], [0x7F, 0xFF, 0x7F, 0xFF], 0x7E),
        ("f8e4m3fnuz", [0x00, 0x00], [0x80, 0x80, 0x80, 0x80], 0x7F),
        ("f8e5m2", [0x00, 0x80], [0x7C, 0xFC, 0x7C, 0xFC], 0x7B),
        ("f8e5m2fnuz", [0x00, 0x00], [0x80, 0x80, 0x80, 0x80], 0x7F),
    ],
)
def test_the_tables_of_the_standard(to: str, zeros: list[int], outside: list[int], least: int) -> None:
    zero, beyond = np.array([0.0, -0.0], np.float32), np.array([INF, -INF, 1e30, -1e30], np.float32)
    for saturate in (0, 1):
        assert cast(zero, DTYPES[to], saturate=saturate).view(np.uint8).tolist() == zeros
    assert cast(beyond, DTYPES[to], saturate=0).view(np.uint8).tolist() == outside
    assert cast(beyond, DTYPES[to]).view(np.uint8).tolist() == [least, least | 0x80] * 2


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("source", SOURCES)
def test_casts_to_integers_discard_higher_bits(name: str, source: str) -> None:
    x = numbers(DTYPES[source])
    if DTYPES[source].is_float:
        x = x[np.abs(x.astype(np.float32)) < 2.0**31]
    with np.errstate(all="ignore"):
        whole = np.trunc(x.astype(np.float64)).astype(np.int64) if DTYPES[source].is_float else x.astype(np.int64)
    assert cast(x, INTEGERS[name]).astype(np.int64).tolist() == whole.astype(np.int8).astype(INTEGERS[name].numpy).astype(np.int64).tolist()


LEAST = 2.0**-127


@pytest.mark.parametrize(
    ("mode", "saturate", "expected"),
    [
        ("up", 1, [0, 0, 0, 1, 1, 127, 128, 128, 254, 254, 254, 255]),
        ("down", 1, [0, 0, 0, 0, 0, 127, 127, 127, 254, 254, 254, 255]),
        ("nearest", 1, [0, 0, 0, 0, 1, 127, 127, 128, 254, 254, 254, 255]),
        ("up", 0, [255, 255, 0, 1, 1, 127, 128, 128, 254, 255, 255, 255]),
        ("nearest", 0, [255, 255, 0, 0, 1, 127, 127, 128, 254, 255, 255, 255]),
    ],
)
def test_powers_of_two(mode: str, saturate: int, expected: list[int]) -> None:
    values = [0.0, LEAST / 2, LEAST, 1.25 * LEAST, 1.5 * LEAST, 1.0, 1.25, 1.5, 2.0**127, 1.25 * 2.0**127, INF, NAN]
    for kind in (np.float32, np.float64):
        x = np.array(values, kind)
        assert cast(x, DTYPES["f8e8m0"], saturate=saturate, round_mode=mode).view(np.uint8).tolist() == expected
    with pytest.raises(ModelError, match="round_mode"):
        cast(np.ones(2, np.float32), DTYPES["f8e8m0"], round_mode="away")


def test_integers_of_64_bits_are_rounded_once() -> None:
    x = np.array([(1 << 60) + 1, (1 << 60) + (1 << 52), (1 << 60) + (1 << 52) + 1, (1 << 60) + (1 << 52) - 1, (1 << 53) + 1], np.int64)
    assert cast(x, DTYPES["f8e8m0"]).view(np.uint8).tolist() == [188, 188, 188, 188, 181]
    expected = [2.0**60, 2.0**60, 2.0**60 + 2.0**53, 2.0**60, 2.0**53]
    assert cast(x, DTYPES["bf16"]).astype(np.float64).tolist() == expected
    assert cast(np.negative(x), DTYPES["bf16"]).astype(np.float64).tolist() == [-v for v in expected]
    assert cast(x.astype(np.uint64) * np.uint64(8), DTYPES["bf16"]).astype(np.float64)[2] == 2.0**63 + 2.0**56


@pytest.mark.parametrize("name", SMALL)
def test_strings(name: str) -> None:
    dtype = SMALL[name]
    text = cast(np.array(["2", "1"], object), dtype)
    assert text.astype(np.float32).tolist() == ([2, 1] if dtype.limits[1] >= 2 or dtype.is_float else [-2, 1])
    back = run("Cast", [np.ones(2, np.float32).astype(dtype.numpy)], to=TensorProto.STRING)
    assert back.tolist() == ["1.0" if dtype.is_float else "1"] * 2


def test_strings_saturate_as_numbers_do() -> None:
    text = np.array(["1e9", "INF", "nan", "3.5"], object)
    assert cast(text, DTYPES["f8e4m3fn"]).view(np.uint8).tolist() == [0x7E, 0x7E, 0x7F, 0x46]
    assert cast(text, DTYPES["f8e5m2"], saturate=0).view(np.uint8).tolist() == [0x7C, 0x7C, 0x7E, 0x43]


def test_cast_like_takes_the_attributes_of_cast() -> None:
    x, like = np.array([1e9, 1.25], np.float32), np.ones(1, ml_dtypes.float8_e8m0fnu)
    assert run("CastLike", [x, like], round_mode="down").view(np.uint8).tolist() == [156, 127]
    assert run("CastLike", [x, np.ones(1, ml_dtypes.float8_e5m2)], saturate=0).view(np.uint8).tolist() == [0x7C, 0x3D]


@pytest.mark.parametrize(("one", "other"), [("i4", "u4"), ("u4", "f4e2m1"), ("i2", "u2"), ("f8e8m0", "f8e5m2"), ("u8", "f8e4m3fnuz")])
def test_bits_are_kept(one: str, other: str) -> None:
    x = every(DTYPES[one])
    result = run("BitCast", [x], opset=26, to=DTYPES[other].onnx)
    assert result.dtype == DTYPES[other].numpy
    np.testing.assert_array_equal(result.view(np.uint8), x.view(np.uint8))
    back = run("BitCast", [result], opset=26, to=DTYPES[one].onnx)
    np.testing.assert_array_equal(back.view(np.uint8), x.view(np.uint8))


def test_bits_of_another_number_of_bits() -> None:
    with pytest.raises(ModelError, match="differ in size"):
        run("BitCast", [every(DTYPES["i4"])], opset=26, to=TensorProto.UINT8)


# ---- weights and inputs


def constant_model(tensor: TensorProto) -> onnx.ModelProto:
    """A model whose output is a weight."""
    output = helper.make_tensor_value_info("y", tensor.data_type, list(tensor.dims))
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)])


@pytest.mark.parametrize("name", SMALL)
def test_weights(name: str, tmp_path: Path) -> None:
    array = every(SMALL[name])[: 1 << SMALL[name].bits][-5:]  # an odd number: the last byte of packed ones is not full
    raw = numpy_helper.from_array(array, "w")
    listed = TensorProto(name="w", data_type=SMALL[name].onnx, dims=array.shape, int32_data=list(raw.raw_data))
    outside = TensorProto(name="w", data_type=SMALL[name].onnx, dims=array.shape, data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="weights.bin")
    (tmp_path / "weights.bin").write_bytes(raw.raw_data)
    for tensor in (raw, listed, outside):
        path = tmp_path / "model.onnx"
        path.write_bytes(constant_model(tensor).SerializeToString())
        (initializer,) = load(path).graph.initializers
        assert initializer.array.dtype == array.dtype
        (result,) = backend.prepare(path).run([])
        assert result.dtype == array.dtype
        np.testing.assert_array_equal(result.view(np.uint8), array.view(np.uint8))


@pytest.mark.parametrize("name", PACKED)
def test_weights_of_another_length(name: str, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 7)
    for count in (0, 2, 7):
        entries = [onnx.StringStringEntryProto(key=k, value=v) for k, v in {"location": "weights.bin", "length": str(count)}.items()]
        for data in ({"raw_data": b"\0" * count}, {"int32_data": [0] * count}, {"external_data": entries, "data_location": 1}):
            tensor = TensorProto(name="w", data_type=PACKED[name].onnx, dims=[13], **data)
            if count == (13 * PACKED[name].bits + 7) // 8:
                continue
            with pytest.raises(ModelError, match="'w'"):
                load(constant_model(tensor), directory=tmp_path)


def test_python_numbers_become_the_declared_type() -> None:
    made = model(Case("Cast", 25, [every(DTYPES["i4"])], {"to": TensorProto.INT8}), dynamic=True)
    rep = backend.prepare(made)
    assert rep.run([[-8, 7, 1]])[0].tolist() == [-8, 7, 1]
    with pytest.raises(InputTypeError, match="outside the range of int4, -8 to 7"):
        rep.run([[8]])
    with pytest.raises(InputTypeError, match=r"ml_dtypes\.int4"):
        rep.run([np.zeros(3, np.int8)])


# ---- operators that move elements


def part(dtype: DType, *shape: int) -> Array:
    count = int(np.prod(shape))
    if dtype.kind == "c":
        return (np.arange(count) - 2 + 1j * (np.arange(count) % 3)).astype(dtype.numpy).reshape(shape)
    return np.resize(every(dtype)[: 1 << min(dtype.bits, 6)], shape)


def same(found: Any, expected: Array) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.view(np.uint8), np.ascontiguousarray(expected).view(np.uint8))


@pytest.mark.parametrize("name", [*SMALL, "c64", "c128"])
def test_elements_are_moved(name: str) -> None:
    dtype = DTYPES[name]
    x = part(dtype, 2, 3)
    kind = dtype.onnx_name
    text = f"""<ir_version: 13, opset_import: ["" : 25]>
        g ({kind}[2,3] x, int64[2] n, bool c) => ({kind}[3,2] t, {kind}[6] r, {kind}[1,2,3] u,
          {kind}[2,4] p, {kind}[2,3] chosen, {kind}[2,2,3] each, {kind}[2,3] scanned, int64 size)
        <int64[1] six = {{6}}, int64[1] zero = {{0}}, int64[4] pads = {{0, 1, 0, 0}}, int64 two = {{2}}> {{
            t = Transpose <perm = [1, 0]> (x)
            r = Reshape (x, six)
            u = Unsqueeze (x, zero)
            first = Squeeze (u, zero)
            p = Pad <mode = "edge"> (first, pads)
            chosen = If (c) <then_branch = a () => ({kind}[2,3] a) {{ a = Identity (x) }},
                             else_branch = b () => ({kind}[2,3] b) {{ f = Flatten (x) b = Identity (f) }}>
            kept, each = Loop (two, , x) <body = l (int64 i, bool go, {kind}[2,3] v)
                => (bool on, {kind}[2,3] w, {kind}[2,3] s) {{ on = Identity (go) w = Identity (v) s = Identity (v) }}>
            scanned = Scan <num_scan_inputs = 1, body = s ({kind}[3] row) => ({kind}[3] out)
                {{ out = Identity (row) }}> (x)
            size = Size (x)
        }}"""
    made = onnx.parser.parse_model(text)
    for jit in (True, False):
        found = backend.prepare(made, jit=jit).run([x, np.array([2, 3]), np.array(False)])
        for output, expected in zip(found, (x.T, x.ravel(), x[None], x[:, [0, 0, 1, 2]], x, np.stack([x, x]), x), strict=False):
            same(output, expected)
        assert found[-1] == 6


@pytest.mark.parametrize("name", SMALL)
def test_constants(name: str) -> None:
    value = every(SMALL[name])[1:2]
    same(run("ConstantOfShape", [np.array([2, 3])], value=numpy_helper.from_array(value)), np.resize(value, (2, 3)))
    node = helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(every(SMALL[name])))
    graph = helper.make_graph([node], "g", [], [onnx.ValueInfoProto(name="y")])
    made = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)]))
    same(backend.prepare(made).run([])[0], every(SMALL[name]))


Z = (np.arange(24) - 2 + 1j * (np.arange(24) % 5)).reshape(2, 3, 4)
IMAGE, GRID = Z.reshape(1, 1, 6, 4), np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 3, 2, 2)
MASK = np.array([True, False, True, False])
COMPLEX: list[tuple[Case, Array]] = [
    (Case("Concat", 13, [Z, Z], {"axis": 1}), np.concatenate([Z, Z], 1)),
    (Case("Slice", 13, [Z, np.array([0, 1]), np.array([2, 3])], constants=(1, 2)), Z[:2, 1:3]),
    (Case("Gather", 13, [Z, np.array([1, 0])], {"axis": 1}), Z[:, [1, 0]]),
    (Case("GatherND", 13, [Z, np.array([[0, 1], [1, 2]])]), Z[[0, 1], [1, 2]]),
    (Case("Tile", 13, [Z, np.array([1, 2, 1])], constants=(1,)), np.tile(Z, (1, 2, 1))),
    (Case("Expand", 13, [Z[:1], np.array([2, 3, 4])], constants=(1,)), np.broadcast_to(Z[:1], (2, 3, 4))),
    (Case("Where", 16, [MASK, Z, -Z]), np.where(MASK, Z, -Z)),
    (Case("Trilu", 14, [Z]), np.triu(Z)),
    (Case("Compress", 11, [Z, MASK], {"axis": 2}), Z[..., MASK]),
    (Case("NonZero", 13, [Z]), np.array(np.nonzero(Z))),
    (Case("ScatterElements", 18, [Z, np.zeros((2, 3, 4), np.int64), Z], {"reduction": "add"}),
     np.stack([2 * Z[0] + Z[1], Z[1]])),
    (Case("ScatterElements", 18, [Z, np.zeros((2, 3, 4), np.int64), Z], {"reduction": "mul"}),
     np.stack([Z[0] * Z[0] * Z[1], Z[1]])),
    (Case("OneHot", 11, [np.array([1, 2]), np.array(3), Z[0, 0, 1:3]], constants=(1,)),
     np.where(np.arange(3) == np.array([[1], [2]]), Z[0, 0, 2], Z[0, 0, 1])),
    (Case("SpaceToDepth", 13, [Z.reshape(1, 1, 6, 4)], {"blocksize": 2}),
     Z.reshape(1, 3, 2, 2, 2).transpose(0, 2, 4, 1, 3).reshape(1, 4, 3, 2)),
    (Case("Pad", 21, [Z[0], np.array([1, 0, 0, 1]), np.array(1 + 2j)], constants=(1,)),
     np.pad(Z[0], [(1, 0), (0, 1)], constant_values=1 + 2j)),
    (Case("Col2Im", 18, [Z.ravel()[:16].reshape(1, 4, 4), np.array([3, 3]), np.array([2, 2])], constants=(1, 2)),
     sum(np.pad(Z.ravel()[4 * k : 4 * k + 4].reshape(2, 2), [(k // 2, 1 - k // 2), (k % 2, 1 - k % 2)]) for k in range(4))[None, None]),
]  # fmt: skip


def _with(case: Case, change: Any) -> Case:
    return Case(case.op, case.opset, [change(x) if x.dtype.kind == "c" else x for x in case.inputs], case.attributes, case.constants)


@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
@pytest.mark.parametrize(("case", "expected"), COMPLEX, ids=[str(c) for c, _ in COMPLEX])
def test_complex_numbers(case: Case, expected: Array, kind: type) -> None:
    check(_with(case, lambda x: x.astype(kind)), [np.asarray(expected, kind if np.iscomplexobj(expected) else expected.dtype)])


INTERPOLATIONS = [
    Case("Resize", 19, [IMAGE, None, np.array([1, 1, 2, 1.5], np.float32)], {"mode": "linear"}, (2,)),
    Case("Resize", 19, [IMAGE, None, np.array([1, 1, 2, 1.5], np.float32)], {"mode": "nearest"}, (2,)),
    Case("GridSample", 20, [IMAGE, GRID], {"mode": "linear"}),
    Case("GridSample", 20, [IMAGE, GRID], {"mode": "nearest"}),
]


@pytest.mark.parametrize("case", INTERPOLATIONS, ids=lambda c: f"{c.op}-{c.attributes['mode']}")
def test_parts_of_complex_numbers_are_interpolated(case: Case) -> None:
    def result(image: Array) -> Array:
        one = Case(case.op, case.opset, [image, *case.inputs[1:]], case.attributes, case.constants)
        given = [x for k, x in enumerate(one.inputs) if x is not None and k not in one.constants]
        found: Array = backend.prepare(model(one, dynamic=False)).run(given)[0]
        return found

    image = IMAGE.astype(np.complex64)
    expected = result(image.real.copy()) + 1j * result(image.imag.copy())
    found = result(image)
    assert found.dtype == np.complex64
    np.testing.assert_array_equal(found, expected)


def test_complex_numbers_have_no_order() -> None:
    with pytest.raises(ModelError, match="no order"):
        run("ScatterElements", [Z, np.zeros((2, 3, 4), np.int64), Z], opset=18, reduction="max")
