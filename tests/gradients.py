"""Gradients of one node or of a graph in onnx's text form, and central differences to compare them with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from operators import Case

import onnx_numba.backend as backend
from onnx_numba.errors import UnsupportedError

Array = np.ndarray[Any, Any]
TRAINING = "ai.onnx.preview.training"


def drawing(seed: int) -> Callable[..., Array]:
    """A function of a shape that draws float64 numbers, the same whatever other modules draw."""
    random = np.random.default_rng(seed)
    return lambda *shape: random.standard_normal(shape)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def differentiable(case: Case) -> list[int]:
    """The inputs with a derivative; the statistics of a normalisation count as given."""
    found = [k for k, x in enumerate(case.inputs) if x is not None and x.dtype == np.float64 and k not in case.constants]
    skipped = {"CastLike": [1], "BatchNormalization": [3, 4]}.get(case.op, [])
    return [k for k in found if k not in skipped and not (case.op == "SoftmaxCrossEntropyLoss" and k)]


def case_model(case: Case, weights: Array, gradient: bool, dynamic: bool = False, second: bool = False) -> onnx.ModelProto:
    """The weighted first output of a node, or its gradient; with ``second`` the first input's derivative takes the output's place."""
    names = [f"x{k}" if x is not None else "" for k, x in enumerate(case.inputs)]
    nodes = [
        helper.make_node(case.op, names, [f"y{k}" for k in range(case.outputs)], name="it", **case.attributes),
        helper.make_node("Mul", ["y0", "w"], ["z"]),
    ]
    xs = [names[k] for k in differentiable(case)]
    y = "z"
    if second:
        # Squared before and after, since many an operator is linear.
        nodes[1:] = [helper.make_node("Mul", ["y0", "y0"], ["s"]), helper.make_node("Mul", ["s", "w"], ["z"])]
        nodes.append(helper.make_node("Gradient", xs, ["first"], domain=TRAINING, xs=xs, y="z"))
        nodes.append(helper.make_node("Mul", ["first", "first"], ["u"]))
        y = "u"
    results = [y]
    if gradient:
        results = [f"d{x}" for x in xs]
        nodes.append(helper.make_node("Gradient", xs, results, domain=TRAINING, xs=xs, y=y))
    inputs, constants = [], [numpy_helper.from_array(weights, "w")]
    for k, x in enumerate(case.inputs):
        if k in case.constants:
            constants.append(numpy_helper.from_array(x, names[k]))
        elif x is not None:
            free = dynamic and x.dtype == np.float64
            shape = [f"n{k}_{a}" for a in range(x.ndim)] if free else list(x.shape)
            inputs.append(helper.make_tensor_value_info(names[k], helper.np_dtype_to_tensor_dtype(x.dtype), shape))
    outputs = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in results]
    graph = helper.make_graph(nodes, "case", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid(TRAINING, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def slopes(forward: Any, feeds: dict[str, Array], name: str, directions: Array, step: float = 1e-6) -> list[float]:
    """Central differences of the sum of a prepared model's first output along some directions of one input."""

    def at(place: Array) -> float:
        return float(np.sum(forward.run({**feeds, name: place})[0]))

    x = feeds[name]
    return [(at(x + step * d) - at(x - step * d)) / (2 * step) for d in directions]


def check(case: Case, dynamic: bool = False, jit: bool = False, second: bool = False) -> None:
    feeds = {f"x{k}": x for k, x in enumerate(case.inputs) if x is not None and k not in case.constants}
    random = np.random.default_rng(1)
    weights = random.standard_normal(backend.prepare(case_model(case, np.array(1.0), False), jit=False).run(feeds)[0].shape)
    got = backend.prepare(case_model(case, weights, True, dynamic, second), jit=jit).run(feeds)
    forward = backend.prepare(case_model(case, weights, False, second=second), jit=False)
    for k, value in zip(differentiable(case), got, strict=True):
        x = feeds[f"x{k}"]
        assert value.shape == x.shape and value.dtype == x.dtype
        directions = random.standard_normal((3, *x.shape))
        expected = slopes(forward, feeds, f"x{k}", directions)
        np.testing.assert_allclose([np.sum(value * d) for d in directions], expected, rtol=2e-6, atol=1e-6)


HEAD = '<ir_version: 10, opset_import: ["" : 21, "ai.onnx.preview.training" : 1, "local" : 1]>\n'


def parsed(text: str, opset: int = 21) -> onnx.ModelProto:
    model = parser.parse_model(HEAD + text.replace("Gradient<", f"{TRAINING}.Gradient<"))
    model.opset_import[0].version = opset
    return model


def run(text: str, *inputs: Any, jit: bool = False) -> list[Array]:
    arrays = [np.asarray(x, np.float64) if isinstance(x, (float, list)) else x for x in inputs]
    return list(backend.prepare(parsed(text), jit=jit).run(arrays))


def refused(text: str, error: type[Exception] = UnsupportedError, opset: int = 21) -> str:
    with pytest.raises(error) as caught:
        backend.prepare(parsed(text, opset), jit=False)
    return str(caught.value)


def agrees(text: str, inputs: Sequence[Any], positions: Sequence[int], jit: bool = False, opset: int = 21) -> None:
    """The first output of a graph is what is differentiated by the inputs at some positions, the others are the gradients."""
    model = parsed(text, opset)
    names = [value.name for value in model.graph.input]
    feeds = dict(zip(names, map(np.asarray, inputs), strict=True))
    rep = backend.prepare(model, jit=jit)
    got = rep.run(feeds)[1:]
    random = np.random.default_rng(1)
    for position, value in zip(positions, got, strict=True):
        x = feeds[names[position]]
        assert value.shape == x.shape and value.dtype == x.dtype
        directions = random.standard_normal((3, *x.shape))
        expected = slopes(rep, feeds, names[position], directions)
        np.testing.assert_allclose([np.sum(value * d) for d in directions], expected, rtol=2e-6, atol=1e-6)
