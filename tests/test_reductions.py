"""Reductions and what is fused with them: against NumPy in float64, at one thread and at two, compiled and as plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from onnx_numba import backend
from onnx_numba.options import Options
from onnx_numba.pipeline import Build
from onnx_numba.target import LEVELS, TARGETS, Target, host_target, level

Array = np.ndarray[Any, Any]
HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
RANDOM = np.random.default_rng(3)


def prepared(text: str, **options: Any) -> Any:
    return backend.prepare(parser.parse_model(HEAD + text), **options)


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def reduction(op: str, rank: int, axes: tuple[int, ...]) -> str:
    dims = ",".join("ABCD"[:rank])
    listed = ",".join(map(str, axes))
    return f"g (float[{dims}] x) => (float y) {{ axes=Constant<value_ints=[{listed}]>() y={op}<keepdims=0>(x,axes) }}"


def over_axis(op: str, rank: int, axis: int) -> str:
    return f"g (float[{','.join('ABCD'[:rank])}] x) => (y) {{ y={op}<axis={axis}>(x) }}"


def exponentials(x: Array, axis: int) -> Array:
    return np.exp(x - x.max(axis, keepdims=True))


REDUCTIONS = {
    "ReduceSum": lambda x, a: x.sum(a),
    "ReduceMean": lambda x, a: x.mean(a),
    "ReduceMax": lambda x, a: x.max(a),
    "ReduceMin": lambda x, a: x.min(a),
    "ReduceProd": lambda x, a: x.prod(a),
    "ReduceL1": lambda x, a: np.abs(x).sum(a),
    "ReduceL2": lambda x, a: np.sqrt((x * x).sum(a)),
    "ReduceLogSumExp": lambda x, a: np.log(np.exp(x).sum(a)),
}
AXES = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
SHAPES = st.tuples(*[st.sampled_from([1, 2, 7, 33, 70])] * 3)


@pytest.mark.parametrize("op", REDUCTIONS)
@settings(max_examples=6, deadline=None)
@given(shape=SHAPES, axes=st.sampled_from(AXES))
def test_any_axes(op: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = normal(*shape) if op != "ReduceProd" else (1 + normal(*shape) / 50)
    (got,) = prepared(reduction(op, 3, axes)).run([x])
    np.testing.assert_allclose(got, REDUCTIONS[op](x.astype(np.float64), axes), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_over_any_axis(axis: int) -> None:
    text, x = over_axis("Softmax", 3, axis), normal(5, 21, 67) * 30  # differences are rounded to float32, worth 4e-6 of their exponential
    x[0, 0, :3] = -np.inf
    (got,) = prepared(text).run([x])
    e = exponentials(x.astype(np.float64), axis)
    np.testing.assert_allclose(got, e / e.sum(axis, keepdims=True), rtol=1e-5, atol=1e-37)
    (plain,) = prepared(text, jit=False).run([x])
    np.testing.assert_allclose(got, plain, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_of_nan_and_infinity_is_nan_in_that_row_alone(axis: int) -> None:
    x = normal(3, 40)
    x[0, 5], x[1, 6], x[2, 7] = np.nan, np.inf, -np.inf
    x = x if axis else np.ascontiguousarray(x.T)
    (got,) = prepared(over_axis("Softmax", 2, axis)).run([x])
    rows = got if axis else got.T
    assert np.isnan(rows[:2]).all()
    assert rows[2, 7] == 0
    np.testing.assert_allclose(rows[2].sum(), 1, rtol=1e-6)


def test_rows_of_no_weight_are_nan() -> None:
    (got,) = prepared(over_axis("Softmax", 2, 1)).run([np.full((2, 20), -np.inf, np.float32)])
    assert np.isnan(got).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_normalisation_across_memory(axis: int) -> None:
    text = (
        "g (float[A,B] x) => (float[A,B] y) {" + f"axes=Constant<value_ints=[{axis}]>()"
        "m=ReduceMean<keepdims=1>(x,axes) c=Sub(x,m) q=Mul(c,c) v=ReduceMean<keepdims=1>(q,axes) s=Sqrt(v) d=Div(c,s) y=Tanh(d) }"
    )
    x = normal(37, 300) * 5 + 2
    (got,) = prepared(text).run([x])
    wide = x.astype(np.float64)
    expected = np.tanh((wide - wide.mean(axis, keepdims=True)) / wide.std(axis, keepdims=True))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    (plain,) = prepared(text, jit=False).run([x])
    np.testing.assert_allclose(got, plain, rtol=1e-4, atol=1e-5)


def test_a_costly_value_is_computed_once_though_three_sweeps_and_another_output_need_it() -> None:
    text = (
        "g (float[A,B] x) => (float[A,B] y, float[A,B] z) { ten=Constant<value_float=10.0>()"
        "t=Tanh(x) u=Mul(t,ten) s=Softmax<axis=-1>(u) y=Mul(s,t) z=Sub(s,t) }"
    )
    x = normal(6, 75)
    y, z = prepared(text).run([x])
    t = np.tanh(x.astype(np.float64))
    e = exponentials(10 * t, -1)
    s = e / e.sum(-1, keepdims=True)
    np.testing.assert_allclose(y, s * t, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(z, s - t, rtol=1e-5, atol=1e-6)


def test_softmax_computes_its_exponentials_once() -> None:
    for axis in (0, 1):
        source = prepared(over_axis("Softmax", 2, axis), jit=False, cpu="generic").source  # where no loop is written twice
        assert source.count("exp_decay(") == 1, source


def test_the_loop_across_columns_is_as_long_as_there_are_columns() -> None:
    """Not as there are rows, of which three would make no vector."""
    text = "g (float[3,500] x) => (float[3,500] y) { p=Softmax<axis=0>(x) t=Tanh(x) y=Mul(p,t) }"
    source = prepared(text, jit=False).source
    assert [line.strip() for line in source.splitlines() if "interleave(" in line] == ["interleave(500)"]


@pytest.mark.parametrize("columns", [8, 16, 17, 63, 64, 65])
def test_columns_are_summed_in_order_however_few(columns: int) -> None:
    x = normal(5, 33, columns)
    text = f"g (float[5,33,{columns}] x) => (float y) {{ axes=Constant<value_ints=[1]>() y=ReduceSum<keepdims=0>(x,axes) }}"
    expected = np.zeros((5, columns), np.float32)
    for row in range(33):
        expected += x[:, row]
    for threads in (1, 2):
        np.testing.assert_array_equal(prepared(text, num_threads=threads).run({"x": x})[0], expected)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceSum"])
@pytest.mark.parametrize(("kind", "dtype"), [("int32", np.int32), ("int8", np.int8), ("int64", np.int64), ("float", np.float32)])
def test_few_columns_are_the_loop_of_vectors(op: str, kind: str, dtype: Any) -> None:
    """Of integers, and extremes of floats, whatever their number; of sums of floats where LLVM would write whole vectors out."""
    if op == "ReduceSum" and kind == "int8":
        pytest.skip("not a type of ReduceSum")
    for columns in (5, 16, 33, 40, 64):
        text = f"g ({kind}[6,9,{columns}] x) => (y) {{ axes=Constant<value_ints=[1]>() y={op}<keepdims=0>(x,axes) }}"
        x = RANDOM.integers(-9, 9, (6, 9, columns)).astype(dtype)
        np.testing.assert_array_equal(prepared(text).run([x])[0], x.max(1) if op == "ReduceMax" else x.sum(1, dtype=dtype))
        made = Build(Target("x86_64-unknown-linux-gnu", "x86-64-v4", LEVELS["x86-64-v4"]), None, Options(cache=False))
        source = made.artefact(parser.parse_model(HEAD + text))[0].source
        assert source.count("in_vectors()") == (columns == 16 if (op, kind) == ("ReduceSum", "float") else 16 <= columns < 64)


def test_a_row_that_is_swept_again_has_the_next_come_from_memory() -> None:
    def source(text: str, cpu: str = "sapphirerapids") -> str:
        target = Target(TARGETS["x86-64"].triple, cpu, LEVELS["x86-64-v4"])
        return Build(target, None, Options(cache=False)).artefact(parser.parse_model(HEAD + text))[0].source

    assert "fetch(4, x0, s0 + i0 * s0, s0)" in source(over_axis("Softmax", 2, 1))
    assert "fetch(" not in source(over_axis("Softmax", 2, 1), "znver4")
    assert "fetch(" not in source(over_axis("Softmax", 2, 0))
    assert "fetch(" not in source(reduction("ReduceSum", 2, (1,)))
    assert "fetch(" not in source("g (float[A,4] x) => (float[A,4] y) { y=Softmax<axis=1>(x) }")


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_positions_with_ties_and_nan(op: str, axis: int, last: int) -> None:
    text = f"g (float[A,B] x) => (int64[A,B] y) {{ y={op}<axis={axis},keepdims=0,select_last_index={last}>(x) }}"
    x = np.round(normal(40, 300))
    x[3, 4] = x[7, 4] = x[30, 9] = np.nan
    x[:, 5], x[6, :] = -np.inf, np.inf
    turned = np.flip(x, axis) if last else x
    expected = turned.argmax(axis) if op == "ArgMax" else turned.argmin(axis)
    expected = x.shape[axis] - 1 - expected if last else expected
    for options in ({}, {"jit": False}):
        np.testing.assert_array_equal(prepared(text, **options).run([x])[0], expected)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("kind", ["float", "float16", "double"])
@pytest.mark.parametrize("known", [True, False])
def test_extremes_with_nan_of_both_signs_infinities_and_zeros(op: str, kind: str, known: bool) -> None:
    """Of rows and of columns, few and many: some folds are of integers in the order of floats."""
    dtype = {"float": np.float32, "float16": np.float16, "double": np.float64}[kind]
    fold = np.max if op == "ReduceMax" else np.min
    cpus = ["host", *(name for name in ("x86-64-v3",) if host_target().arch == "x86_64" and level(name).runs_on(host_target()))]
    for shape, axis in [((9, n), 1) for n in (1, 10, 17, 97, 100, 700)] + [((n, 9), 0) for n in (10, 33)] + [((33, 300), 0)]:
        x = RANDOM.standard_normal(shape).astype(dtype)
        rows = x if axis else x.T
        rows[1], rows[2], rows[3] = -np.inf, np.inf, np.where(np.arange(rows.shape[1]) % 2, -0.0, 0.0)
        rows[6, 0], rows[7], rows[8] = np.inf, -np.abs(rows[7]), np.abs(rows[8])
        rows[4, 0] = rows[5, 0] = np.inf if op == "ReduceMax" else -np.inf
        rows[4, -1], rows[5, rows.shape[1] // 2] = np.nan, np.copysign(dtype(np.nan), dtype(-1))
        dims = ",".join(map(str, shape)) if known else "A,B"
        text = f"g ({kind}[{dims}] x) => ({kind} y) {{ axes=Constant<value_ints=[{axis}]>() y={op}<keepdims=0>(x,axes) }}"
        expected = fold(x, axis=axis)
        assert np.isnan(expected[[4, 5]]).all()
        for options in (*({"cpu": cpu} for cpu in cpus), {"jit": False}):
            np.testing.assert_array_equal(prepared(text, **options).run([x])[0], expected, err_msg=f"{shape} {options}")


def test_extremes_of_float32_are_of_integers_where_that_takes_less() -> None:
    def source(text: str, target: str) -> str:
        triple = TARGETS["x86-64" if target in LEVELS else target].triple
        chosen = Target(triple, target, LEVELS[target]) if target in LEVELS else TARGETS[target]
        return Build(chosen, None, Options(cache=False)).artefact(parser.parse_model(HEAD + text))[0].source

    def rows(columns: object, kind: str = "float", op: str = "ReduceMax") -> str:
        return f"g ({kind}[A,{columns}] x) => (y) {{ axes=Constant<value_ints=[1]>() y={op}<keepdims=0>(x,axes) }}"

    v4, v3 = "x86-64-v4", "x86-64-v3"
    assert "a0 = acc_max(a0, height_of(" in source(rows(100), v4)
    assert "a0 = acc_min(a0, depth_of(" in source(rows(100, op="ReduceMin"), v3)
    assert all("height_of" in source(rows(columns), v3) for columns in (10, 1000, "B"))
    assert [columns for columns in (10, 17, 512, 513, "B") if "height_of" in source(rows(columns), v4)] == [17, 512, "B"]
    assert "height_of(from_f16(" in source(rows(100, "float16"), v4)
    assert "height_of" not in source(rows(100, "double"), v4)
    assert "height_of" not in source(rows(100), "x86-64") + source(rows(100), "aarch64-linux")
    across = "g (float[A,B,32] x) => (y) { axes=Constant<value_ints=[1]>() y=ReduceMax<keepdims=0>(x,axes) }"
    assert "height_of" in source(across, v4)
    assert "height_of" not in source(across.replace("32", "1000"), v4)


@pytest.mark.parametrize("n", [0, 1, 16384, 16385, 300_001])
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceMean"])
def test_a_large_reduction_goes_by_blocks(op: str, n: int) -> None:
    x = normal(n) + np.float32(1)
    (got,) = prepared(reduction(op, 1, (0,))).run([x])
    if n == 0:
        expected = {"ReduceSum": 0.0, "ReduceMax": -np.inf, "ReduceMean": np.nan}[op]
    else:
        expected = REDUCTIONS[op](x.astype(np.float64), 0)
    np.testing.assert_allclose(got, expected, rtol=2e-6)


def test_blocks_of_several_loops_and_rows() -> None:
    x = normal(50, 4, 60, 30)
    rep = prepared("g (float[A,4,C,D] x) => (float[4] y) { axes=Constant<value_ints=[0,2,3]>() y=ReduceL2<keepdims=0>(x,axes) }")
    (got,) = rep.run([x])
    np.testing.assert_allclose(got, np.sqrt((x.astype(np.float64) ** 2).sum((0, 2, 3))), rtol=2e-6)
    assert len([step for step in rep._prepared.session.plan.code if step[0] == "call"]) == 2


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (reduction("ReduceSum", 2, (0, 1)), (700, 800)),
        (reduction("ReduceMean", 2, (0,)), (500, 3000)),
        (reduction("ReduceSum", 2, (1,)), (3000, 500)),
        (over_axis("Softmax", 3, 1), (9, 60, 900)),
    ],
    ids=["all", "columns", "rows", "softmax"],
)
def test_threads_make_no_difference(text: str, shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    one, two = (prepared(text, num_threads=k).run([x])[0] for k in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("axis", [0, 1])
def test_half_precision_is_summed_in_single(axis: int) -> None:
    text = f"g (float16[A,B] x) => (float16 y) {{ axes=Constant<value_ints=[{axis}]>() y=ReduceSum<keepdims=0>(x,axes) }}"
    x = normal(300, 310).astype(np.float16)
    (got,) = prepared(text).run([x])
    np.testing.assert_allclose(got, x.astype(np.float64).sum(axis), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1])
def test_integers_wrap(axis: int) -> None:
    text = f"g (int32[A,B] x) => (int32 y) {{ axes=Constant<value_ints=[{axis}]>() y=ReduceSum<keepdims=0>(x,axes) }}"
    x = RANDOM.integers(-(2**31), 2**31 - 1, (64, 70)).astype(np.int32)
    np.testing.assert_array_equal(prepared(text).run([x])[0], x.sum(axis, dtype=np.int32))


@pytest.mark.parametrize("axis", [0, 1])
def test_an_empty_axis_gives_the_identity(axis: int) -> None:
    x = np.zeros((0, 9) if axis == 0 else (9, 0), np.float32)
    (got,) = prepared(reduction("ReduceMax", 2, (axis,))).run([x])
    np.testing.assert_array_equal(got, np.full(9, -np.inf, np.float32))


@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "interpreted"])
def test_a_sum_in_parts_of_a_product_with_a_row_of_unknown_extent(jit: bool) -> None:
    """The parts differ in length, and what they read lies across memory."""
    text = "g (double[a,b] x, double[c] w) => (double y) { p = Mul(x, w) q = Sin(p) y = ReduceSum<keepdims=0>(q) }"
    rep = prepared(text, jit=jit)
    for rows in (2, 500):
        x, w = np.random.default_rng(1).random((rows, 33)), np.random.default_rng(2).random(33)
        np.testing.assert_allclose(rep.run([x, w])[0], np.sin(x * w).sum(), rtol=1e-12)


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_a_sum_of_no_known_size_that_is_known_to_be_small(rows):
    rep = prepared(
        "g (float[3,2] w, float[N,2] x) => (y) { z=Constant<value_ints=[0]>() o=Constant<value_ints=[1]>() "
        "v=Slice(x,z,o) u=Concat<axis=0>(w,v) y=ReduceSum<keepdims=0>(u) }"
    )
    w, x = normal(3, 2), normal(rows, 2)
    np.testing.assert_allclose(rep.run([w, x])[0], w.sum() + x[:1].sum(), rtol=1e-5)
