"""Pools as the ends of convolutions: the bits of a pool of its own, in one kernel where that is no more work."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from onnx_numba import backend
from onnx_numba.native.vector import has_masks
from onnx_numba.target import host_target, level


def numbers(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def model(shape, filters, pool, attributes, kernel=(3, 3), group=1, relu=True, dtype=np.float32, both=False, bias=None, **more):
    """Conv, perhaps Relu, and a pool; with ``both`` the pool's input is an output too."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = {"w": numbers(filters, shape[1] // group, *kernel, dtype=dtype, seed=1), "b": numbers(filters, dtype=dtype, seed=2)}
    weights |= {} if bias is None else {"b": np.asarray(bias, dtype)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], group=group, pads=[k // 2 for k in kernel] * 2, **more)]
    nodes += [helper.make_node("Relu", ["c"], ["r"])] if relu else []
    last = nodes[-1].output[0]
    nodes.append(helper.make_node(pool, [last], ["y"], **attributes))
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in ("y", *([last] if both else []))]
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def kernels(rep) -> list[str]:
    plan = rep._prepared.session.plan
    return [plan.kernels[item[1]].name for item in plan.code if item[0] == "call"]


TWO = {"kernel_shape": [2, 2], "strides": [2, 2]}
WITHIN = [
    (("N", 8, 30, 41), 20, "MaxPool", TWO, {}),
    ((2, 3, 27, 60), 33, "MaxPool", {"kernel_shape": [3, 3], "strides": [3, 3]}, {"kernel": (5, 5)}),
    ((1, 6, 33, 34), 8, "MaxPool", {"kernel_shape": [2, 3], "strides": [4, 1]}, {"group": 2, "relu": False}),
    ((1, 6, 34, 34), 8, "MaxPool", {"kernel_shape": [2, 3], "strides": [4, 1]}, {}),  # the image ends before the last stride does
    ((1, 4, 24, 24), 5, "AveragePool", TWO, {}),
    ((3, 4, 25, 9), 9, "MaxPool", {**TWO, "dilations": [1, 2]}, {"dtype": np.float64}),
    ((1, 64, 20, 20), 40, "MaxPool", TWO, {"kernel": (1, 1)}),
    ((1, 3, 64, 64), 16, "MaxPool", TWO, {"kernel": (7, 7), "strides": [2, 2]}),
    ((1, 4, 33, 70), 6, "MaxPool", {"kernel_shape": [2, 2], "strides": [3, 3], "dilations": [2, 2]}, {}),
]
PADDED = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
OVERLAPPING = [
    ((2, 3, 111, 111), 64, "MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2]}, {}),
    ((1, 3, 64, 50), 20, "MaxPool", PADDED, {"kernel": (7, 7), "strides": [2, 2]}),
    ((1, 4, 21, 21), 8, "MaxPool", {**TWO, "pads": [0, 1, 0, 1]}, {}),
    ((1, 4, 21, 21), 8, "MaxPool", {**TWO, "ceil_mode": 1}, {}),
    ((1, 4, 21, 21), 8, "MaxPool", {"kernel_shape": [2, 2]}, {"group": 2}),
    ((1, 2, 200, 9), 40, "MaxPool", {"kernel_shape": [5, 2], "strides": [3, 1], "pads": [2, 0, 2, 1]}, {"dtype": np.float64}),
    ((3, 3, 40, 31), 9, "AveragePool", {**PADDED, "count_include_pad": 1}, {"relu": False}),
]
MASKS = has_masks(host_target())


@pytest.mark.parametrize("case", [*WITHIN, *(OVERLAPPING if MASKS else [])], ids=str)
def test_bits_of_a_pool_of_its_own(case):
    *arguments, more = case
    shape = tuple(3 if n == "N" else n for n in arguments[0])
    x = numbers(*shape, dtype=more.get("dtype", np.float32))
    x[0, 0, :3, 4] = np.nan, np.inf, -np.inf
    both = backend.prepare(model(*arguments, both=True, **more))
    expected = both.run([x])[0]
    one = backend.prepare(model(*arguments, **more))
    assert len(kernels(one)) == len(kernels(both)) - 1
    np.testing.assert_array_equal(one.run([x])[0], expected)
    threads = backend.prepare(model(*arguments, **more), num_threads=2)
    np.testing.assert_array_equal(threads.run([x])[0], expected)


@pytest.mark.skipif(not MASKS, reason="no masked loads")
def test_what_rises_with_a_sum_is_computed_of_the_greatest_one():
    case = ((1, 2, 30, 30), 3, "MaxPool", TWO)
    x = numbers(1, 2, 30, 30)
    x[0, :, ::7, ::5] = -np.inf
    for bias, first in [((0.5, -2, 0), True), ((np.inf, -np.inf, 0), False)]:
        one, both = (backend.prepare(model(*case, bias=bias, both=both, kernel=(1, 1))) for both in (False, True))
        (kernel,) = kernels(one)
        text = one._prepared.source.partition(f"def {kernel}(")[2]
        assert (text.index("fold_plane") < text.index("max_(")) == first
        np.testing.assert_array_equal(one.run([x])[0], both.run([x])[0])


def test_plain_python_agrees():
    case = model((1, 2, 6, 5), 3, "MaxPool", TWO)
    x = numbers(1, 2, 6, 5)
    (compiled,), (plain,) = backend.prepare(case).run([x]), backend.prepare(case, jit=False).run([x])
    np.testing.assert_allclose(plain, compiled, rtol=1e-5, atol=1e-6)


def test_other_targets_have_units_of_windows_that_lie_apart_in_the_image():
    for case, fused in [(WITHIN[0], True), *((case, False) for case in OVERLAPPING)]:
        *arguments, more = case
        assert (len(kernels(backend.prepare(model(*arguments, **more), cpu="generic"))) == 1) == fused


@pytest.mark.parametrize(
    "case",
    [((1, 64, 21, 21), 8, "MaxPool", PADDED), ((1, 4, 4, 4000), 64, "MaxPool", TWO), ((1, 4, 9, 2000), 64, "MaxPool", PADDED)],
    ids=["dear", "large", "large overlapping"],
)
def test_units_that_would_not_pay_stay_apart(case):
    assert len(kernels(backend.prepare(model(*case)))) == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool"])
def test_pools_agree_between_targets(pool, dtype):
    """Masked loads see nothing beyond an image, whatever lies there, and NaN and infinities as other code does."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for kernel, strides, pads, dilations, size in [
        ((3, 3), (2, 2), (0, 0, 0, 0), (1, 1), (27, 27)), ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (8, 40)),
        ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1), (7, 5)), ((5, 4), (1, 1), (2, 1, 2, 2), (1, 1), (9, 33)),
        ((2, 3), (3, 4), (0, 1, 1, 0), (2, 3), (20, 61)), ((13, 13), (1, 1), (6, 6, 6, 6), (1, 1), (13, 13)),
        ((1, 7), (1, 3), (0, 3, 0, 3), (1, 2), (3, 100)), ((4, 1), (4, 1), (3, 0, 3, 0), (1, 1), (2, 2)),
        ((3,), (2,), (1, 1), (1,), (70,)),
    ]:  # fmt: skip
        given = {"kernel_shape": kernel, "strides": strides, "pads": pads}
        given |= {"dilations": dilations} if pool == "MaxPool" else {"count_include_pad": 1}
        inputs, outputs = ([helper.make_tensor_value_info(name, kind, shape)] for name, shape in (("x", (2, 3, *size)), ("y", None)))
        graph = helper.make_graph([helper.make_node(pool, ["x"], ["y"], **given)], "g", inputs, outputs)
        pooled = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        x = numbers(2, 3, *size, dtype=dtype)
        x.reshape(-1)[::17] = np.nan
        x.reshape(-1)[::13] = -np.inf
        expected = backend.prepare(pooled, cpu="generic").run([x])[0]
        avx2 = [{"cpu": "x86-64-v3"}] if level("x86-64-v3").runs_on(host_target()) else []
        for options in ({}, {"num_threads": 2}, {"jit": False}, *avx2):
            np.testing.assert_allclose(backend.prepare(pooled, **options).run([x])[0], expected, rtol=1e-6)
