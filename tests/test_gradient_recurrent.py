"""Gradients through RNN, GRU and LSTM, and through products along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradients import agrees, check, drawing, ints, parsed
from operators import Case

import onnx_numba.backend as backend

f64 = drawing(7)

STEPS, BATCH, FEATURES, SIZE = 3, 2, 2, 3


def recurrent(op: str, given: str = "", peepholes: bool = False, **attributes: Any) -> Case:
    """A recurrent node; ``given`` says which of the bias, the sequence lengths and the initial states there are, by letters."""
    gates, states = {"RNN": (1, 1), "GRU": (3, 1), "LSTM": (4, 2)}[op]
    ways = 2 if attributes.get("direction") == "bidirectional" else 1
    swap = (lambda x: x.swapaxes(0, 1).copy()) if attributes.get("layout") else (lambda x: x)
    inputs = [swap(f64(STEPS, BATCH, FEATURES)), f64(ways, gates * SIZE, FEATURES), f64(ways, gates * SIZE, SIZE)]
    inputs.append(f64(ways, 2 * gates * SIZE) if "B" in given else None)
    inputs.append(np.array([STEPS, STEPS - 1], np.int32) if "S" in given else None)
    inputs += [swap(f64(ways, BATCH, SIZE)) if "H" in given else None for _ in range(states)]
    if peepholes:
        inputs.append(f64(ways, 3 * SIZE))
    while inputs[-1] is None:
        inputs.pop()
    return Case(op, 22, inputs, {"hidden_size": SIZE, **attributes})


BOTH = {"direction": "bidirectional"}
RECURRENT = [
    recurrent("RNN"),
    recurrent("RNN", "BSH", **BOTH),
    recurrent("RNN", "BSH", direction="reverse", layout=1, activations=["Affine"], activation_alpha=[0.5], activation_beta=[0.1]),
    recurrent("GRU", "B"),
    recurrent("GRU", "BSH", linear_before_reset=1, clip=0.6, **BOTH),
    recurrent("GRU", "H", direction="reverse", linear_before_reset=1),
    recurrent("LSTM"),
    recurrent("LSTM", "BSH", peepholes=True, **BOTH),
    recurrent("LSTM", "BH", direction="reverse", input_forget=1, layout=1),
]
ACTIVATIONS = [
    ("Relu", [], []), ("LeakyRelu", [0.2], []), ("ThresholdedRelu", [0.3], []), ("ScaledTanh", [1.5], [0.7]), ("HardSigmoid", [0.3], [0.4]),
    ("Elu", [0.8], []), ("Softsign", [], []), ("Softplus", [], []), ("Sigmoid", [], []),
]  # fmt: skip


@pytest.mark.parametrize("case", RECURRENT, ids=str)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_recurrences(case: Case, dynamic: bool) -> None:
    check(case, dynamic=dynamic)


@pytest.mark.parametrize(("name", "alpha", "beta"), ACTIVATIONS)
def test_activations(name: str, alpha: list[float], beta: list[float]) -> None:
    given = {"activation_alpha": alpha} if alpha else {}
    check(recurrent("RNN", "BH", activations=[name], **given, **({"activation_beta": beta} if beta else {})))


def test_a_recurrence_twice() -> None:
    check(RECURRENT[3], second=True)


def test_a_compiled_recurrence() -> None:
    check(RECURRENT[6], jit=True)


def test_every_result_of_a_recurrence() -> None:
    text = """g (double[3,2,2] x, double[2,12,2] w, double[2,12,3] r, double[2,2,3] h, double[2,2,3] c)
        => (double y, double[3,2,2] dx, double[2,12,2] dw, double[2,12,3] dr, double[2,2,3] dh, double[2,2,3] dc) {
        a, b, e = LSTM<hidden_size=3, direction="bidirectional">(x, w, r, , , h, c)
        p = Mul(a, a) q = ReduceSum<keepdims=0>(p) s = Mul(b, e) t = Exp(s) u = ReduceSum<keepdims=0>(t) y = Mul(q, u)
        dx, dw, dr, dh, dc = Gradient<xs=["x", "w", "r", "h", "c"], y="y">(x, w, r, h, c) }"""
    agrees(text, [f64(3, 2, 2), f64(2, 12, 2), f64(2, 12, 3), f64(2, 2, 3), f64(2, 2, 3)], range(5))


def test_the_last_state_alone() -> None:
    text = """g (double[3,2,2] x, double[1,9,2] w, double[1,9,3] r) => (double[1,2,3] y, double[3,2,2] dx, double[1,9,3] dr) {
        , y = GRU<hidden_size=3>(x, w, r) dx, dr = Gradient<xs=["x", "r"], zs=["w"], y="y">(x, r, w) }"""
    agrees(text, [f64(3, 2, 2), f64(1, 9, 2), f64(1, 9, 3)], [0, 2])


X = f64(2, 3, 4)
HOLES = X * np.array([0.0, 1, 1, 0]) * np.array([[[1.0], [1], [0]]])
PRODUCTS = [
    Case("ReduceProd", 18, [HOLES, ints(0, -1)], {"keepdims": 0}, (1,)),
    Case("ReduceProd", 13, [X], {"axes": [1]}),
    Case("ReduceProd", 18, [X * np.array([0.0, 1, 1, 1])]),
    Case("ReduceProd", 18, [X], {"noop_with_empty_axes": 1}),
    Case("CumProd", 26, [HOLES, np.array(-1)], {"reverse": 1}, (1,)),
    Case("CumProd", 26, [HOLES, np.array(1)], {"exclusive": 1}, (1,)),
]


@pytest.mark.parametrize("case", PRODUCTS, ids=str)
@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
def test_products_with_zeros(case: Case, second: bool) -> None:
    check(case, second=second)


def test_training_through_time_lowers_the_loss() -> None:
    text = """g (float[3,n,1] x, float[n,1] t, float[1,16,1] w, float[1,16,4] r, float[4,1] o)
        => (float loss, float[1,16,1] dw, float[1,16,4] dr, float[4,1] do) {
        , h = LSTM<hidden_size=4>(x, w, r) z = Constant<value=int64[1] {0}>() s = Squeeze(h, z) p = MatMul(s, o) e = Sub(p, t)
        q = Mul(e, e) loss = ReduceMean<keepdims=0>(q)
        dw, dr, do = Gradient<xs=["w", "r", "o"], zs=["x", "t"], y="loss">(w, r, o, x, t) }"""
    rep = backend.prepare(parsed(text), jit=False)
    random = np.random.default_rng(0)
    x = random.standard_normal((3, 4, 1)).astype(np.float32)
    weights = [random.standard_normal(shape).astype(np.float32) * np.float32(0.3) for shape in ((1, 16, 1), (1, 16, 4), (4, 1))]
    losses = []
    for _ in range(25):
        loss, *slopes = rep.run([x, x.mean(0), *weights])
        weights = [w - np.float32(2) * s for w, s in zip(weights, slopes, strict=True)]
        losses.append(float(loss))
    assert losses[-1] < 0.2 * losses[0]
