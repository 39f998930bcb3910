"""Operators on floats that DequantizeLinear made of bytes: what they give is as exact as sums of integers are, whatever the form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnx_numba.backend as backend
from onnx_numba.errors import OnnxNumbaError

Array = np.ndarray[Any, Any]
KINDS = {"u8": np.uint8, "i8": np.int8}
PAIRS = [(left, right) for left in KINDS for right in KINDS]
CLOSE = 4 * 2.0**-24
"""Roundings of a float32: of the sum, of two scales and of their product with it."""


def some_bytes(shape: tuple[int, ...], kind: str, seed: int) -> Array:
    limits = np.iinfo(KINDS[kind])
    return np.random.default_rng([seed, *shape]).integers(limits.min, limits.max + 1, shape).astype(KINDS[kind])


def model_of(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Array], constants: Mapping[str, Array], symbolic: bool = False
) -> onnx.ModelProto:
    """The nodes as a graph whose output is ``y``."""
    ports = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(x.dtype), [f"{name}{k}" for k in range(x.ndim)] if symbolic else x.shape
        )
        for name, x in inputs.items()
    ]
    held = [numpy_helper.from_array(x, name) for name, x in constants.items()]
    graph = helper.make_graph(list(nodes), "g", ports, [onnx.ValueInfoProto(name="y")], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(model: onnx.ModelProto, inputs: Mapping[str, Array], **options: Any) -> Array:
    """The result compiled, which is that of plain Python and of two threads."""
    kept = {name: x.copy() for name, x in inputs.items()}
    first, *others = (
        backend.prepare(model, **{"jit": True, "num_threads": 1, **more, **options}).run(dict(inputs))[0]
        for more in ({}, {"num_threads": 2}, {"jit": False})
    )
    for other in others:
        np.testing.assert_array_equal(first.reshape(-1).view(np.uint8), other.reshape(-1).view(np.uint8))
    for name, x in inputs.items():
        np.testing.assert_array_equal(x, kept[name])
    return np.asarray(first)


def dequantised(name: str, axis: int | None = None) -> onnx.NodeProto:
    attributes = {} if axis is None else {"axis": axis}
    return helper.make_node("DequantizeLinear", [name, f"{name}_scale", f"{name}_zero"], [f"{name}_f"], **attributes)


def parameters(name: str, kind: str, count: int | None, seed: int) -> dict[str, Array]:
    """A scale and a zero point, or so many of them."""
    rng = np.random.default_rng([seed, count or 0])
    shape = () if count is None else (count,)
    zero = some_bytes(shape, kind, seed + 10)
    return {f"{name}_scale": np.float32(rng.uniform(0.001, 0.1, shape)), f"{name}_zero": zero}


def value(x: Array, given: Mapping[str, Array], name: str, axis: int = 0) -> Array:
    """What bytes stand for, in float64."""
    scale, zero = (given[f"{name}_{p}"].astype(np.float64) for p in ("scale", "zero"))
    if scale.ndim:
        scale, zero = (np.expand_dims(p, [k for k in range(x.ndim) if k != axis % x.ndim]) for p in (scale, zero))
    return (x.astype(np.float64) - zero) * scale


def reference(nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Array], constants: Mapping[str, Array]) -> Array:
    """The result of one node in float64, by the standard's own evaluator."""
    model = model_of(nodes, inputs, constants)
    return np.asarray(ReferenceEvaluator(model).run(None, dict(inputs))[0])


def check(
    op: str, x: Array, w: Array, right: dict[str, Array], kinds: tuple[str, str], axis: int, bias: Array | None = None,
    symbolic: bool = False, close: float = CLOSE, **attributes: Any,
) -> None:  # fmt: skip
    """An operator on two dequantised tensors, the second constant, is as exact as float32 can hold the result."""
    given = {**parameters("x", kinds[0], None, 3), **right, "w": w, **({} if bias is None else {"c": bias})}
    names = ["x_f", "w_f", *(["c"] if bias is not None else [])]
    nodes = [dequantised("x"), dequantised("w", axis), helper.make_node(op, names, ["y"], **attributes)]
    found = run(model_of(nodes, {"x": x}, given, symbolic), {"x": x})
    exact = {"x_f": value(x, given, "x"), "w_f": value(w, given, "w", axis), **({} if bias is None else {"c": bias.astype(np.float64)})}
    wanted = by_groups(nodes[2], exact, attributes.get("group", 1)) if op == "ConvTranspose" else reference(nodes[2:], exact, {})
    assert found.dtype == np.float32
    size = np.abs(wanted) if bias is None else np.abs(wanted) + 2 * np.abs(bias).max()
    assert (np.abs(found - wanted) <= close * size).all()


def by_groups(node: onnx.NodeProto, inputs: Mapping[str, Array], group: int) -> Array:
    """A transposed convolution group by group: the standard's evaluator knows but one."""
    kept = [helper.get_node_attr_value(node, a.name) if a.name != "group" else 1 for a in node.attribute]
    single = helper.make_node(node.op_type, node.input, node.output, **{a.name: v for a, v in zip(node.attribute, kept, strict=True)})
    images, filters = np.split(inputs["x_f"], group, 1), np.split(inputs["w_f"], group)
    return np.concatenate([reference([single], {"x_f": x, "w_f": w}, {}) for x, w in zip(images, filters, strict=True)], 1)


CONVS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 64, 9, 11), (24, 64, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((2, 6, 12, 10), (8, 3, 3, 2), {"group": 2, "strides": [2, 1], "pads": [1, 0, 0, 2], "dilations": [1, 2]}),
    ((1, 16, 9, 9), (16, 1, 3, 3), {"group": 16, "pads": [1, 1, 1, 1]}),
    ((1, 96, 7, 7), (33, 96, 1, 1), {}),
    ((2, 5, 30), (7, 5, 4), {"strides": [3]}),
    ((1, 3, 4, 5, 6), (4, 3, 2, 2, 2), {"auto_pad": "SAME_UPPER"}),
]


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("number", range(len(CONVS)), ids=lambda k: f"{CONVS[k][0]}-{CONVS[k][1]}")
def test_convolutions(number: int, symbolic: bool) -> None:
    shape, filters, attributes = CONVS[number]
    left, right = PAIRS[(number + symbolic) % 4]
    many = number % 2 == symbolic
    x, w = some_bytes(shape, left, 0), some_bytes(filters, right, 1)
    bias = np.random.default_rng(7).standard_normal(filters[0]).astype(np.float32) if symbolic else None
    check("Conv", x, w, parameters("w", right, filters[0] if many else None, 4), (left, right), 0, bias, symbolic, **attributes)


TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 32, 6, 7), (32, 10, 2, 2), {"strides": [2, 2]}),
    ((2, 6, 8, 7), (6, 4, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 0], "output_padding": [1, 0]}),
    ((1, 8, 9, 9), (8, 3, 4, 4), {"group": 2, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 4, 20), (4, 5, 3), {"strides": [5]}),
]


@pytest.mark.parametrize("number", range(len(TRANSPOSED)), ids=lambda k: f"{TRANSPOSED[k][0]}-{TRANSPOSED[k][1]}")
def test_transposed_convolutions(number: int) -> None:
    shape, filters, attributes = TRANSPOSED[number]
    left, right = PAIRS[number]
    for count in (None, filters[1]) if attributes.get("group", 1) == 1 else (None,):
        x, w = some_bytes(shape, left, 0), some_bytes(filters, right, 1)
        # Of few elements, or with gaps between windows, floats are multiplied.
        close = CLOSE if number < 2 else 1e-4
        check("ConvTranspose", x, w, parameters("w", right, count, 4), (left, right), 1, close=close, **attributes)


PRODUCTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((37, 64), (64, 100)), ((1, 301), (301, 70)), ((70, 33), (33, 1)), ((3, 20, 31), (31, 50)), ((2, 3, 20, 30), (2, 3, 30, 17)),
    ((40,), (40, 90)), ((9, 40), (40,)), ((40,), (40,)), ((30, 2000), (2000, 4)),
]  # fmt: skip


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("number", range(len(PRODUCTS)), ids=lambda k: f"{PRODUCTS[k][0]}-{PRODUCTS[k][1]}")
def test_products(number: int, symbolic: bool) -> None:
    first, second = PRODUCTS[number]
    left, right = PAIRS[(number + symbolic) % 4]
    many = len(second) > 1 and number % 2 == symbolic
    x, w = some_bytes(first, left, 0), some_bytes(second, right, 1)
    check("MatMul", x, w, parameters("w", right, second[-1] if many else None, 4), (left, right), -1, symbolic=symbolic)


@pytest.mark.parametrize("number", range(4))
def test_general_products(number: int) -> None:
    left, right = PAIRS[number]
    trans_a, trans_b = divmod(number, 2)
    x, w = some_bytes((50, 20) if trans_a else (20, 50), left, 0), some_bytes((30, 50) if trans_b else (50, 30), right, 1)
    bias = np.random.default_rng(7).standard_normal(30).astype(np.float32) if number else None
    more = {"alpha": 0.5, "beta": 2.0} if number == 3 else {}
    scales = parameters("w", right, 30 if number % 2 else None, 4)
    check("Gemm", x, w, scales, (left, right), 1 - trans_b, bias, transA=trans_a, transB=trans_b, **more)


WEIGHTS = [
    ("i8", 0, 3, None, False), ("i8", 0, 1, 300, True), ("u8", 128, 1, None, False), ("u8", 0, 5, 300, False), ("u8", 7, 2, 300, True),
    ("i8", 50, 50, None, False), ("i8", 50, 1, 300, False), ("u8", 255, 12, 300, True),
]  # fmt: skip
"""Of what kind, the first zero point (others, if there are any, are others), rows, scales, whether it is given transposed."""


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("kind", "zero", "rows", "count", "turned"), WEIGHTS)
def test_weights_stay_integers(kind: str, zero: int, rows: int, count: int | None, turned: bool, symbolic: bool) -> None:
    """A product of floats with a weight that was quantised reads it as it is in the model."""
    w = some_bytes((300, 256) if turned else (256, 300), kind, 1)
    given = {**parameters("w", kind, count, 4), "w": w}
    if zero == 0:
        given["w_zero"] = np.zeros_like(given["w_zero"])
    given["w_zero"][... if count is None else 0] = zero
    x = np.random.default_rng(5).standard_normal((rows, 256)).astype(np.float32)
    axis = 0 if turned else 1
    product = helper.make_node("Gemm", ["x", "w_f"], ["y"], transB=1) if turned else helper.make_node("MatMul", ["x", "w_f"], ["y"])
    model = model_of([dequantised("w", axis), product], {"x": x}, given, symbolic)
    found, weight = run(model, {"x": x}), value(w, given, "w", axis)
    weight = weight.T if turned else weight
    wanted = x.astype(np.float64) @ weight
    assert found.dtype == np.float32
    assert (np.abs(found - wanted) <= 2.0**-20 * (np.abs(x) @ np.abs(weight))).all()
    assert ("gemm_tile_" in backend.prepare(model).source) == (symbolic or rows < 40)


BLOCKS = [
    ("int4", 1, 64, 16, False, False), ("uint4", 3, 96, 32, True, True), ("int4", 1, 70, 32, True, True),
    ("uint4", 50, 64, 32, False, True), ("int8", 1, 64, 64, False, True), ("uint8", 2, 37, 16, True, False),
    ("int2", 1, 50, 16, False, True), ("int4", 2, 64, 24, False, True),
]  # fmt: skip
"""Type, rows, depth, block, whether the weight is given transposed, and whether it has zero points."""


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("kind", "rows", "depth", "block", "turned", "zeros"), BLOCKS)
def test_weights_scaled_by_blocks(kind: str, rows: int, depth: int, block: int, turned: bool, zeros: bool, symbolic: bool) -> None:
    """They stay of few bits for few rows; blocks of other sizes, and many rows, are floats before the run."""
    dtype = np.dtype(getattr(ml_dtypes, kind, kind))
    limits, axis, count, rng = ml_dtypes.iinfo(dtype), int(turned), -(-depth // block), np.random.default_rng(depth)

    def integers(rows: int) -> Array:
        found = rng.integers(limits.min, limits.max + 1, (rows, 45))
        return (found.T if turned else found).astype(dtype)

    scale = rng.uniform(0.01, 0.1, (45, count) if turned else (count, 45)).astype(np.float32)
    given = {"w": integers(depth), "w_scale": scale, **({"w_zero": integers(count)} if zeros else {})}
    x = rng.standard_normal((rows, depth)).astype(np.float32)
    spread = {name: np.repeat(v.astype(np.float64), block, axis) for name, v in given.items() if name != "w"}
    spread = {name: v[:, :depth] if turned else v[:depth] for name, v in spread.items()}
    weight = (given["w"].astype(np.float64) - spread.get("w_zero", 0)) * spread["w_scale"]
    weight = weight.T if turned else weight
    nodes = [
        helper.make_node("DequantizeLinear", list(given), ["w_f"], axis=axis, block_size=block),
        helper.make_node("Gemm", ["x", "w_f"], ["y"], transB=1) if turned else helper.make_node("MatMul", ["x", "w_f"], ["y"]),
    ]
    model = model_of(nodes, {"x": x}, given, symbolic)
    model.opset_import[0].version = 25
    found = run(model, {"x": x})
    assert (np.abs(found - x.astype(np.float64) @ weight) <= 2.0**-20 * (np.abs(x) @ np.abs(weight))).all()
    source = backend.prepare(model).source
    assert ("word" in source) == ((symbolic or rows <= 40) and block != 24)
    assert "dequantizelinear" not in source


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=lambda dtype: np.dtype(dtype).name)
def test_weights_of_16_bits(dtype: Any) -> None:
    """They are read as they are, whether they are converted by a node or are of the type of the product."""
    w = np.random.default_rng(1).standard_normal((256, 300)).astype(dtype)
    x = np.random.default_rng(2).standard_normal((2, 256)).astype(dtype)
    wanted = x.astype(np.float64) @ w.astype(np.float64)
    size = np.abs(x.astype(np.float64)) @ np.abs(w.astype(np.float64))
    cast = [helper.make_node("Cast", ["w"], ["w_f"], to=onnx.TensorProto.FLOAT), helper.make_node("MatMul", ["x", "w_f"], ["y"])]
    for nodes, left, close in ((cast, x.astype(np.float32), 2.0**-20), (cast[1:], x, float(ml_dtypes.finfo(dtype).eps))):
        names = {"w_f": w} if len(nodes) == 1 else {"w": w}
        model = model_of(nodes, {"x": left}, names)
        assert (np.abs(run(model, {"x": left}).astype(np.float64) - wanted) <= close * size).all()
        assert f"gemm_tile_{'f16' if dtype is np.float16 else 'bf16'}(" in backend.prepare(model).source


TWICE = [("INT16", "INT8"), ("UINT8", "INT8"), ("INT8", "UINT8"), ("FLOAT16", "BFLOAT16"), ("INT16", "BOOL")]


@pytest.mark.parametrize(("first", "last"), TWICE)
def test_weights_that_are_converted_twice_lose_what_the_first_time_loses(first: str, last: str) -> None:
    """Integers that wrap, floats that are rounded, whatever is not 0."""
    types = [getattr(onnx.TensorProto, name) for name in (first, last, "FLOAT")]
    rng = np.random.default_rng(7)
    numbers = rng.integers(-300, 300, (512, 256)) if first.startswith("INT") else rng.random((512, 256)) * 250
    weight = numbers.astype(helper.tensor_dtype_to_np_dtype(types[0]))
    nodes = [helper.make_node("Cast", ["w"], ["a"], to=types[1]), helper.make_node("Cast", ["a"], ["b"], to=types[2])]
    nodes.append(helper.make_node("MatMul", ["x", "b"], ["y"]))
    x = rng.standard_normal((2, 512)).astype(np.float32)
    wanted = x.astype(np.float64) @ weight.astype(helper.tensor_dtype_to_np_dtype(types[1])).astype(np.float64)
    np.testing.assert_allclose(run(model_of(nodes, {"x": x}, {"w": weight}), {"x": x}), wanted, rtol=1e-5, atol=2e-2)


def test_two_results_multiply() -> None:
    """Attention: both sides come from a run, and are moved and reshaped before."""
    x, w = some_bytes((2, 5, 24), "u8", 0), some_bytes((2, 5, 24), "i8", 1)
    given = {**parameters("x", "u8", None, 3), **parameters("w", "i8", None, 4), "heads": np.array([2, 5, 3, 8])}
    nodes = [dequantised("x"), dequantised("w")]
    for name, order in (("x", [0, 2, 1, 3]), ("w", [0, 2, 3, 1])):
        nodes.append(helper.make_node("Reshape", [f"{name}_f", "heads"], [f"{name}_r"]))
        nodes.append(helper.make_node("Transpose", [f"{name}_r"], [f"{name}_t"], perm=order))
    nodes.append(helper.make_node("MatMul", ["x_t", "w_t"], ["y"]))
    inputs = {"x": x, "w": w}
    left, right = (value(v, given, n).reshape(2, 5, 3, 8).transpose(0, 2, 1, 3) for n, v in inputs.items())
    wanted = left @ right.transpose(0, 1, 3, 2)
    for symbolic in (False, True):
        found = run(model_of(nodes, inputs, given, symbolic), inputs)
        assert (np.abs(found - wanted) <= CLOSE * np.abs(wanted)).all()


def test_a_reshape_still_demands_its_size() -> None:
    given = {**parameters("x", "u8", None, 3), **parameters("w", "i8", None, 4), "w": some_bytes((8, 4), "i8", 1)}
    given["shape"] = np.array([3, 8])
    turned = helper.make_node("Reshape", ["x_f", "shape"], ["x_r"])
    nodes = [dequantised("x"), dequantised("w"), turned, helper.make_node("MatMul", ["x_r", "w_f"], ["y"])]
    x = some_bytes((24,), "u8", 0)
    rep = backend.prepare(model_of(nodes, {"x": x}, given, symbolic=True))
    assert rep.run([x])[0].shape == (3, 4)
    with pytest.raises(OnnxNumbaError, match="reshape"):
        rep.run([x[:20]])


def test_sums_beyond_32_bits() -> None:
    depth = 33100  # 255 * 255 * 33100 > 2**31
    x, w = np.full((2, depth), 255, np.uint8), np.full((depth, 3), 255, np.uint8)
    one = {"scale": np.float32(1), "zero": np.uint8(0)}
    given = {**{f"{n}_{k}": np.asarray(v) for n in "xw" for k, v in one.items()}, "w": w}
    nodes = [dequantised("x"), dequantised("w"), helper.make_node("MatMul", ["x_f", "w_f"], ["y"])]
    np.testing.assert_allclose(run(model_of(nodes, {"x": x}, given), {"x": x}), 255.0 * 255 * depth, rtol=1e-5)


@pytest.mark.parametrize("scales", [(np.inf, 1), (np.nan, 1), (0, 1), (1e-30, 1e-20), (1e30, 1e20), (-0.5, 0.25), (1e-38, 1e38)])
def test_extreme_scales(scales: tuple[float, float]) -> None:
    """What overflows, vanishes or is NaN as floats is so still."""
    x, w = np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(8, dtype=np.uint8).reshape(4, 2)
    given = {"x_scale": np.float32(scales[0]), "w_scale": np.float32(scales[1]), "x_zero": np.uint8(3), "w_zero": np.uint8(0), "w": w}
    nodes = [dequantised("x"), dequantised("w"), helper.make_node("MatMul", ["x_f", "w_f"], ["y"])]
    constants = {k: np.asarray(v) for k, v in given.items()}
    with np.errstate(all="ignore"):
        wanted = reference(nodes, {"x": x}, constants)
    np.testing.assert_allclose(run(model_of(nodes, {"x": x}, constants), {"x": x}), wanted, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_products_in_16_bits(dtype: Any) -> None:
    """Only the result is rounded; what 16 bits cannot hold is infinite still."""
    x, w = some_bytes((5, 40), "u8", 0), some_bytes((40, 3), "i8", 1)
    for scale in (0.125, 300.0):
        given = {"x_scale": np.asarray(dtype(scale)), "w_scale": np.asarray(dtype(2.0**-6)), "w": w}
        given |= {"x_zero": np.asarray(np.uint8(3)), "w_zero": np.asarray(np.int8(0))}
        nodes = [dequantised("x"), dequantised("w"), helper.make_node("MatMul", ["x_f", "w_f"], ["y"])]
        found = run(model_of(nodes, {"x": x}, given), {"x": x}).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            left, right = (value(v, given, n).astype(dtype).astype(np.float64) for n, v in (("x", x), ("w", w)))
            wanted = left @ right
        close = 2.0**-8 if dtype is not np.float16 else 2.0**-11
        tops = np.abs(wanted) > float(ml_dtypes.finfo(dtype).max)
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted) & ~tops)
        finite = np.isfinite(found)
        assert (np.abs(found - wanted)[finite] <= 3 * close * (np.abs(left) @ np.abs(right))[finite]).all()


def test_strict_rounds_as_floats_do() -> None:
    x, w = some_bytes((5, 3), "u8", 0), some_bytes((3, 4), "i8", 1)
    given = {**parameters("x", "u8", None, 3), **parameters("w", "i8", None, 4), "w": w}
    nodes = [dequantised("x"), dequantised("w"), helper.make_node("MatMul", ["x_f", "w_f"], ["y"])]
    strict = run(model_of(nodes, {"x": x}, given), {"x": x}, accuracy="strict")
    left, right = (value(v, given, n).astype(np.float32) for n, v in (("x", x), ("w", w)))
    wanted = left[:, 0:1] * right[0:1]
    for k in (1, 2):  # with one rounding for each product and sum, or for both at once
        wanted = wanted.astype(np.float64) + left[:, k : k + 1].astype(np.float64) * right[k : k + 1]
        wanted = wanted.astype(np.float32)
    np.testing.assert_allclose(strict, wanted, rtol=2.0**-22)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("zero", [0, 100])
def test_greatest_of_windows(kind: str, zero: int) -> None:
    x = some_bytes((2, 3, 9, 8), kind, 0)
    for scale in (0.25, -0.25):
        given = {"x_scale": np.asarray(np.float32(scale)), "x_zero": np.asarray(KINDS[kind](zero))}
        for attributes in ({"kernel_shape": [2, 2]}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}):
            nodes = [dequantised("x"), helper.make_node("MaxPool", ["x_f"], ["y"], strides=[2, 2], **attributes)]
            found = run(model_of(nodes, {"x": x}, given), {"x": x})
            np.testing.assert_array_equal(found, reference(nodes, {"x": x}, given))


def test_windows_in_the_padding_alone() -> None:
    x = some_bytes((1, 1, 4), "u8", 0)
    given = {"x_scale": np.asarray(np.float32(0.5)), "x_zero": np.asarray(np.uint8(7))}
    nodes = [dequantised("x"), helper.make_node("MaxPool", ["x_f"], ["y"], kernel_shape=[2], pads=[2, 0], strides=[2])]
    found = run(model_of(nodes, {"x": x}, given), {"x": x})
    assert found[0, 0, 0] == -np.inf
    np.testing.assert_array_equal(found[0, 0, 1:], value(x, given, "x").reshape(2, 2).max(1))


def quantised(name: str, scale: str, zero: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("QuantizeLinear", [name, scale, zero], ["y"], **attributes)


EVERY = {"u8": np.arange(256).astype(np.uint8), "i8": np.arange(-128, 128).astype(np.int8)}
SCALES = st.floats(2.0**-149, 2.0**119, width=32)


@settings(max_examples=40, deadline=None)
@given(SCALES, st.integers(0, 127), st.sampled_from(list(KINDS)))
def test_there_and_back(scale: float, zero: int, kind: str) -> None:
    """Quantising by the same scale and zero point brings every byte back, whatever the scale."""
    given = {"x_scale": np.asarray(np.float32(scale)), "x_zero": np.asarray(KINDS[kind](zero))}
    nodes = [dequantised("x"), quantised("x_f", "x_scale", "x_zero")]
    inputs = {"x": EVERY[kind]}
    found = backend.prepare(model_of(nodes, inputs, given), jit=False).run(inputs)[0]
    np.testing.assert_array_equal(found, EVERY[kind])
    np.testing.assert_array_equal(reference(nodes, inputs, given), EVERY[kind])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 0.0123, 300.0, 6e-8])
def test_there_and_back_in_16_bits(dtype: Any, scale: float) -> None:
    """As the standard's reference: bfloat16 does not hold every product."""
    given = {"x_scale": np.asarray(dtype(scale)), "x_zero": np.asarray(np.uint8(3))}
    nodes = [dequantised("x"), quantised("x_f", "x_scale", "x_zero")]
    inputs = {"x": EVERY["u8"]}
    found = run(model_of(nodes, inputs, given), inputs, accuracy="strict")
    with np.errstate(over="ignore"):
        products = ((np.arange(256) - 3).astype(np.float32) * np.float32(given["x_scale"])).astype(dtype).astype(np.float32)
    quotients = (products / np.float32(given["x_scale"])).astype(dtype).astype(np.float32)
    wanted = np.clip(np.rint(np.where(np.isnan(quotients), -np.inf, quotients)) + 3, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(found, wanted)


def test_there_and_back_through_a_type_that_does_not_hold_the_products() -> None:
    """Products of a float32 scale that are small numbers of float16 lose steps."""
    scale = np.float32(1e-8)
    given = {"x_scale": np.asarray(scale), "x_zero": np.asarray(np.uint8(0))}
    first = helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["x_f"], output_dtype=onnx.TensorProto.FLOAT16)
    model = model_of([first, quantised("x_f", "x_scale", "x_zero")], {"x": EVERY["u8"]}, given)
    model.opset_import[0].version = 25
    found = run(model, {"x": EVERY["u8"]}, accuracy="strict")
    products = (np.arange(256).astype(np.float32) * scale).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(found, np.clip(np.rint(products / scale), 0, 255))


def test_there_and_back_by_other_parameters() -> None:
    x = some_bytes((4, 6), "u8", 0)
    first = {"x_scale": np.array([0.5, 0.25, 2, 1], np.float32), "x_zero": np.array([1, 2, 3, 4], np.uint8)}
    for second, axis in (
        ({"s": first["x_scale"], "z": first["x_zero"]}, 0),
        ({"s": first["x_scale"][::-1].copy(), "z": first["x_zero"]}, 0),
        ({"s": first["x_scale"], "z": first["x_zero"][::-1].copy()}, 0),
        ({"s": first["x_scale"][0], "z": first["x_zero"].astype(np.int8)[0]}, 0),
        ({"s": first["x_scale"][[0, 1, 2, 3, 0, 1]], "z": first["x_zero"][[0, 1, 2, 3, 0, 1]]}, 1),
    ):
        given = {**first, **{k: np.asarray(v) for k, v in second.items()}}
        nodes = [dequantised("x", 0), quantised("x_f", "s", "z", axis=axis)]
        np.testing.assert_array_equal(run(model_of(nodes, {"x": x}, given), {"x": x}), reference(nodes, {"x": x}, given))


def test_constants_stay_known() -> None:
    """A number that was quantised too is known before the run, as what follows from it is then."""
    given = {"x_scale": np.array(0.5, np.float32), "x_zero": np.array(2, np.uint8), "x": np.array(12, np.uint8)}
    nodes = [dequantised("x"), helper.make_node("Pow", ["a", "x_f"], ["y"])]
    inputs = {"a": np.array([1, 2, 3], np.float32)}
    model = model_of(nodes, inputs, given)
    np.testing.assert_array_equal(run(model, inputs), inputs["a"] ** 5)
    assert "f32(5.0)" in backend.prepare(model).source


def test_parts_side_by_side() -> None:
    inputs = {"a": some_bytes((2, 3, 4), "u8", 0), "b": some_bytes((2, 5, 4), "u8", 1)}
    given = {
        "a_scale": np.float32(0.5), "a_zero": np.uint8(3), "b_scale": np.float32(0.3), "b_zero": np.uint8(200), "s": np.float32(0.5),
        "z": np.uint8(3),
    }  # fmt: skip
    constants = {k: np.asarray(v) for k, v in given.items()}
    nodes = [dequantised("a"), dequantised("b"), helper.make_node("Concat", ["a_f", "b_f"], ["c"], axis=1), quantised("c", "s", "z")]
    wanted = reference(nodes, inputs, constants)
    np.testing.assert_array_equal(run(model_of(nodes, inputs, constants), inputs), wanted)
    rep = backend.prepare(model_of(nodes, inputs, constants, symbolic=True))
    np.testing.assert_array_equal(rep.run(inputs)[0], wanted)
    with pytest.raises(OnnxNumbaError, match="dim 0"):
        rep.run({**inputs, "b": inputs["b"][:1]})


def test_a_network_quantised_by_pairs() -> None:
    """Convolution, pool, transposed convolution, concatenation, head: all of bytes, and within one step of the floats."""
    rng = np.random.default_rng(3)
    constants: dict[str, Array] = {}
    nodes: list[onnx.NodeProto] = []

    def pair(name: str, scale: float, zero: int) -> str:
        constants[f"{name}_s"], constants[f"{name}_z"] = np.asarray(np.float32(scale)), np.asarray(np.uint8(zero))
        nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}_s", f"{name}_z"], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_d"]))
        return f"{name}_d"

    def weight(name: str, shape: tuple[int, ...], axis: int) -> str:
        constants[name] = rng.integers(-127, 128, shape).astype(np.int8)
        constants[f"{name}_scale"] = np.float32(rng.uniform(0.001, 0.01, shape[axis]))
        constants[f"{name}_zero"] = np.zeros(shape[axis], np.int8)
        nodes.append(dequantised(name, axis))
        return f"{name}_f"

    first = pair("x", 0.02, 120)
    nodes.append(helper.make_node("Conv", [first, weight("w1", (8, 3, 3, 3), 0)], ["c1"], pads=[1] * 4))
    skip = pair("c1", 0.05, 128)
    nodes.append(helper.make_node("MaxPool", [skip], ["p"], kernel_shape=[2, 2], strides=[2, 2]))
    constants["p_s"], constants["p_z"] = constants["c1_s"], constants["c1_z"]
    nodes.append(helper.make_node("QuantizeLinear", ["p", "p_s", "p_z"], ["p_q"]))
    nodes.append(helper.make_node("DequantizeLinear", ["p_q", "p_s", "p_z"], ["p_d"]))
    nodes.append(helper.make_node("ConvTranspose", ["p_d", weight("w2", (8, 8, 2, 2), 1)], ["c2"], strides=[2, 2]))
    nodes.append(helper.make_node("Concat", [pair("c2", 0.05, 128), skip], ["c3"], axis=1))
    nodes.append(helper.make_node("Conv", [pair("c3", 0.06, 120), weight("w4", (4, 16, 1, 1), 0)], ["c4"]))
    nodes.append(helper.make_node("Identity", [pair("c4", 0.1, 128)], ["y"]))
    x = (rng.standard_normal((1, 3, 12, 10)) * 2).astype(np.float32)
    wanted = reference(nodes, {"x": x}, constants)
    for symbolic in (False, True):
        found = run(model_of(nodes, {"x": x}, constants, symbolic), {"x": x})
        steps = np.abs(found - wanted) / 0.1
        assert steps.max() < 1.5  # a sum beside the middle of two steps
        assert (steps > 0.5).mean() < 0.01
