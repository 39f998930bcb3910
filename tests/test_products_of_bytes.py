"""Products and convolutions of bytes through the whole pipeline: exact sums whatever the shapes, types and zero points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from onnx_numba.options import Options
from onnx_numba.prepare import prepare_model

Array = np.ndarray[Any, Any]
KINDS = {"u8": np.uint8, "i8": np.int8}
PAIRS = [(left, right) for left in KINDS for right in KINDS]


def some_bytes(shape: tuple[int, ...], kind: str, seed: int) -> Array:
    limits = np.iinfo(KINDS[kind])
    return np.random.default_rng([seed, *shape]).integers(limits.min, limits.max + 1, shape).astype(KINDS[kind])


def prepared(
    op: str, inputs: dict[str, Array], constant: str = "", symbolic: bool = False, attributes: Any = None, **options: Any
) -> tuple[Any, dict[str, Array]]:  # fmt: skip
    """One node, with those inputs constant whose names are in ``constant``; and what is to be fed."""
    given = {name: x for name, x in inputs.items() if name not in constant.split()}
    ports = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(x.dtype), [f"{name}{k}" for k in range(x.ndim)] if symbolic else x.shape
        )
        for name, x in given.items()
    ]
    held = [numpy_helper.from_array(x, name) for name, x in inputs.items() if name not in given]
    output = helper.make_tensor_value_info("o", helper.np_dtype_to_tensor_dtype(np.dtype(np.int32)), None)
    graph = helper.make_graph([helper.make_node(op, list(inputs), ["o"], **(attributes or {}))], "g", ports, [output], held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return prepare_model(made, options=Options(**{"num_threads": 1, **options})), given


def run(*args: Any, **options: Any) -> Array:
    session, given = prepared(*args, **options)
    return np.asarray(session.run(given)[0])


def expected(x: Array, y: Array, a: Array | None = None, c: Array | None = None) -> Array:
    left = x.astype(np.int64) - (0 if a is None else a.astype(np.int64).reshape(-1, 1) if a.ndim == 1 else a.astype(np.int64))
    right = y.astype(np.int64) - (0 if c is None else c.astype(np.int64))
    return np.matmul(left, right).astype(np.int32)


SHAPES = [
    ((37, 64), (64, 100)), ((1, 301), (301, 70)), ((70, 33), (33, 1)), ((5, 42), (42, 3)), ((40, 1100), (1100, 40)), ((2, 3), (3, 2)),
    ((3, 20, 31), (31, 50)), ((2, 3, 20, 30), (2, 3, 30, 17)), ((2, 1, 20, 30), (3, 30, 17)), ((20, 30), (4, 30, 17)),
    ((40,), (40, 90)), ((90, 40), (40,)), ((40,), (40,)), ((0, 40), (40, 90)), ((30, 0), (0, 90)), ((30, 40), (40, 0)), ((30, 1), (1, 90)),
]  # fmt: skip


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("number", range(len(SHAPES)), ids=lambda k: str(SHAPES[k]))
def test_shapes(number: int, symbolic: bool) -> None:
    left, right = PAIRS[(number + symbolic) % 4]  # kinds and constants take turns: every model is compiled
    x, y = some_bytes(SHAPES[number][0], left, 0), some_bytes(SHAPES[number][1], right, 1)
    a, c = np.array(7, KINDS[left]), np.array(99, KINDS[right])
    got = run("MatMulInteger", {"x": x, "y": y, "a": a, "c": c}, constant="y c" if number % 3 else "", symbolic=symbolic)
    want = expected(x, y, a, c)
    assert got.shape == want.shape
    assert (got == want).all()


@pytest.mark.parametrize(("left", "right", "constant"), [(*p, c) for p, c in zip(PAIRS, ["", "y", "y c", "y a c"], strict=True)])
def test_zero_points(left: str, right: str, constant: str) -> None:
    x, y = some_bytes((19, 70), left, 0), some_bytes((70, 45), right, 1)
    one, rows, columns = some_bytes((), left, 2), some_bytes((19,), left, 3), some_bytes((45,), right, 4)
    nothing = np.zeros((), KINDS[left]), np.zeros(45, KINDS[right])
    for a, c in [(one, some_bytes((), right, 5)), (rows, columns), (rows, nothing[1]), (nothing[0], columns)]:
        assert (run("MatMulInteger", {"x": x, "y": y, "a": a, "c": c}, constant=constant) == expected(x, y, a, c)).all()
    assert (run("MatMulInteger", {"x": x, "y": y}, constant=constant) == expected(x, y)).all()


def test_zero_points_of_a_stack() -> None:
    x, y = some_bytes((3, 19, 40), "u8", 0), some_bytes((3, 40, 25), "i8", 1)
    a, c = some_bytes((3, 19, 1), "u8", 2), some_bytes((3, 1, 25), "i8", 3)
    inputs = {"x": x, "y": y, "a": a, "c": c}
    assert (run("MatMulInteger", inputs) == expected(x, y, a, c)).all()


@pytest.mark.parametrize(("left", "right"), PAIRS)
@pytest.mark.parametrize("cpu", ["host", "generic"])
def test_extremes_do_not_saturate(left: str, right: str, cpu: str) -> None:
    for first in (np.iinfo(KINDS[left]).min, np.iinfo(KINDS[left]).max):
        for second in (np.iinfo(KINDS[right]).min, np.iinfo(KINDS[right]).max):
            x, y = np.full((20, 600), first, KINDS[left]), np.full((600, 40), second, KINDS[right])
            assert (run("MatMulInteger", {"x": x, "y": y}, cpu=cpu) == expected(x, y)).all()


def test_constants_are_packed_and_summed_before_the_run() -> None:
    x, y = some_bytes((50, 64), "i8", 0), some_bytes((64, 90), "i8", 1)
    inputs = {"x": x, "y": y, "a": np.array(3, np.int8), "c": np.array(0, np.int8)}
    session, given = prepared("MatMulInteger", inputs, "y a c")
    assert (np.asarray(session.run(given)[0]) == expected(x, y, inputs["a"])).all()
    assert len(session.session.plan.kernels) == 1


def test_plain_python_and_threads_give_the_same() -> None:
    x, y = some_bytes((61, 45), "u8", 0), some_bytes((45, 70), "u8", 1)
    inputs = {"x": x, "y": y, "a": np.array(3, np.uint8), "c": some_bytes((70,), "u8", 2)}
    want = expected(*inputs.values())
    for options in ({"jit": False}, {"num_threads": 2}):
        assert (run("MatMulInteger", inputs, "y", **options) == want).all()


def convolved(x: Array, w: Array, a: Array, c: Array, *, group: int = 1, pads: Any = None, strides: Any = None) -> Array:
    """A convolution by its definition, with zeros around the image less its zero point."""
    rank = x.ndim - 2
    pads, strides = pads or [0] * 2 * rank, strides or [1] * rank
    image = np.pad(x.astype(np.int64) - int(a), [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    filters = w.astype(np.int64) - c.astype(np.int64).reshape(-1, *[1] * (rank + 1))
    out = [(n - k) // s + 1 for n, k, s in zip(image.shape[2:], w.shape[2:], strides, strict=True)]
    result = np.zeros((x.shape[0], w.shape[0], *out), np.int64)
    channels, features = w.shape[1], w.shape[0] // group
    for g in range(group):
        for tap in np.ndindex(*w.shape[2:]):
            at = tuple(slice(t, t + (o - 1) * s + 1, s) for t, o, s in zip(tap, out, strides, strict=True))
            part = image[(slice(None), slice(g * channels, (g + 1) * channels), *at)]
            rows = slice(g * features, (g + 1) * features)
            result[:, rows] += np.einsum("nc...,fc->nf...", part, filters[(rows, slice(None), *tap)])
    return result.astype(np.int32)


CONVOLUTIONS: list[dict[str, Any]] = [
    dict(x=(2, 8, 9, 11), w=(20, 8, 3, 3), pads=[1, 1, 1, 1]),
    dict(x=(1, 5, 9, 11), w=(6, 5, 1, 1)),
    dict(x=(1, 3, 16, 17), w=(8, 3, 7, 7), pads=[3, 3, 3, 3], strides=[2, 2]),
    dict(x=(2, 12, 9, 8), w=(10, 6, 3, 3), group=2, pads=[1, 0, 0, 1], strides=[2, 1]),
    dict(x=(2, 6, 9, 8), w=(12, 1, 3, 3), group=6, pads=[1, 1, 1, 1]),
    dict(x=(1, 1, 20, 20), w=(3, 1, 17, 16)),
    dict(x=(2, 6, 30), w=(12, 6, 5), pads=[2, 2]),
    dict(x=(1, 4, 5, 6, 7), w=(8, 4, 3, 3, 3), pads=[1] * 6),
    dict(x=(0, 8, 9, 11), w=(5, 8, 3, 3)),
]  # fmt: skip


@pytest.mark.parametrize("turn", range(len(CONVOLUTIONS)), ids=lambda k: str(CONVOLUTIONS[k]))
@pytest.mark.parametrize("cpu", ["host", "generic"])
def test_convolutions(turn: int, cpu: str) -> None:
    case = CONVOLUTIONS[turn]
    attributes = {k: v for k, v in case.items() if k not in "xw"}
    for number in range(turn % 2, 4, 2):
        left, right = PAIRS[number]
        x, w = some_bytes(case["x"], left, 0), some_bytes(case["w"], right, 1)
        a, c = some_bytes((), left, 2), some_bytes((case["w"][0],) if number % 2 else (), right, 3)
        inputs = {"x": x, "w": w, "a": a, "c": c}
        got = run("ConvInteger", inputs, "w c" if number < 2 else "", symbolic=number == 1, cpu=cpu, attributes=attributes)
        want = convolved(x, w, a, np.broadcast_to(c, case["w"][:1]), **attributes)
        assert got.shape == want.shape
        assert (got == want).all()


def test_convolutions_without_zero_points_and_as_plain_python() -> None:
    for left, right in PAIRS:
        x, w = some_bytes((1, 5, 6, 7), left, 0), some_bytes((4, 5, 3, 3), right, 1)
        nothing = np.zeros((), KINDS[left]), np.zeros(4, KINDS[right])
        for options in ({}, {"jit": False}):
            got = run("ConvInteger", {"x": x, "w": w}, "w", attributes={"pads": [1, 1, 1, 1]}, **options)
            assert (got == convolved(x, w, *nothing, pads=[1, 1, 1, 1])).all()


def test_convolution_is_one_kernel_over_words_of_channels() -> None:
    x, w = some_bytes((1, 16, 9, 9), "u8", 0), some_bytes((8, 16, 3, 3), "i8", 1)
    inputs = {"x": x, "w": w, "a": np.array(100, np.uint8), "c": np.zeros(8, np.int8)}
    session, given = prepared("ConvInteger", inputs, "w a c", attributes={"pads": [1, 1, 1, 1]})
    assert (np.asarray(session.run(given)[0]) == convolved(x, w, inputs["a"], inputs["c"], pads=[1, 1, 1, 1])).all()
    assert len(session.session.plan.kernels) == 2, "words of the image, and everything else"


def test_zero_points_are_taken_off_in_the_kernel_of_the_product() -> None:
    """Not in that of the sums of rows, whose domain is the same where the matrix is square."""
    x, y = some_bytes((50, 64), "u8", 0), some_bytes((64, 64), "u8", 1)
    inputs = {"x": x, "y": y, "a": np.array(3, np.uint8), "c": np.array(5, np.uint8)}
    session, given = prepared("MatMulInteger", inputs, "y a c")
    assert (np.asarray(session.run(given)[0]) == expected(*inputs.values())).all()
    product = next(part for part in session.source.split("\ndef ") if "gemm_tile(" in part)
    assert "line[jj - j0] = i32(" in product
