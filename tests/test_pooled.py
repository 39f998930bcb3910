"""Pools as the ends of convolutions: the bits of a pool of its own, in one kernel where windows lie apart and in the image."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from onnx_numba import backend


def numbers(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def model(shape, filters, pool, attributes, kernel=(3, 3), group=1, relu=True, dtype=np.float32, both=False, **more):
    """Conv, perhaps Relu, and a pool; with ``both`` the pool's input is an output too."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = {"w": numbers(filters, shape[1] // group, *kernel, dtype=dtype, seed=1), "b": numbers(filters, dtype=dtype, seed=2)}
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
]


@pytest.mark.parametrize("case", WITHIN, ids=str)
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


def test_plain_python_agrees():
    case = model((1, 2, 6, 5), 3, "MaxPool", TWO)
    x = numbers(1, 2, 6, 5)
    (compiled,), (plain,) = backend.prepare(case).run([x]), backend.prepare(case, jit=False).run([x])
    np.testing.assert_allclose(plain, compiled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "attributes",
    [{**TWO, "pads": [0, 1, 0, 1]}, {"kernel_shape": [3, 3], "strides": [2, 2]}, {**TWO, "ceil_mode": 1}, {"kernel_shape": [2, 2]}],
    ids=["padded", "overlapping", "beyond", "neighbours"],
)
def test_windows_that_units_do_not_have_stay_apart(attributes):
    rep = backend.prepare(model((1, 4, 21, 21), 8, "MaxPool", attributes))
    assert len(kernels(rep)) == 2


def test_units_that_would_be_too_large_stay_apart():
    assert len(kernels(backend.prepare(model((1, 4, 4, 4000), 64, "MaxPool", TWO)))) == 2
