"""Recurrent operators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onnx_numba.coverage.case import Array, Case, Draft
from onnx_numba.coverage.recipes import recipe

STEPS, BATCH, WIDTH, HIDDEN = 3, 2, 2, 3
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_PLAIN = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
_ACTIVATIONS = (
    "Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"
)  # fmt: skip


@recipe("RNN", "GRU", "LSTM")
def recurrent(c: Draft) -> Iterator[Case]:
    op = c.schema.name
    count = 3 if op == "LSTM" else 2
    forward = _weights(c, 1)
    yield _made(c, forward, outputs=count)
    yield _made(c, forward[:3], "no bias", outputs=[False, *[True] * (count - 1)])
    if c.schema.min_output == 0:
        yield _made(c, forward, "Y alone", outputs=1)
    yield _made(c, forward, "reverse", outputs=count, direction="reverse")
    both = _weights(c, 2)
    yield _made(c, both, "bidirectional", outputs=count, direction="bidirectional")
    state = c.real(1, BATCH, HIDDEN)
    cells = [c.real(1, BATCH, HIDDEN)] if op == "LSTM" else []
    lengths = np.array([2, 3], np.int64)
    yield _made(c, [*forward, lengths, state, *cells], "lengths", outputs=count)
    yield _made(c, [*forward, lengths], "reverse,lengths", outputs=count, direction="reverse")
    yield _made(c, forward, "clip", outputs=count, clip=0.5)
    for name in _ACTIVATIONS:
        chosen = [name, *_PLAIN[op][1:]]
        yield _made(c, forward, name, outputs=count, activations=chosen, **_slopes(name))
    yield _made(c, both, "two sets", outputs=count, direction="bidirectional", activations=[*_PLAIN[op], *["Relu"] * len(_PLAIN[op])])
    if op == "LSTM":
        yield _made(c, [*forward, None, None, None, c.real(1, 3 * HIDDEN)], "peepholes", outputs=3)
        yield _made(c, forward, "input_forget", outputs=3, input_forget=1)
    if c.has("linear_before_reset"):
        yield _made(c, forward, "linear_before_reset", outputs=count, linear_before_reset=1)
    if c.has("layout"):
        turned = [np.swapaxes(both[0], 0, 1), *both[1:]]
        states = [np.swapaxes(c.real(2, BATCH, HIDDEN), 0, 1)] * (2 if op == "LSTM" else 1)
        yield _made(c, [*turned, None, *states], "layout=1", outputs=count, layout=1, direction="bidirectional")


def _weights(c: Draft, directions: int) -> list[Array]:
    rows = _GATES[c.schema.name] * HIDDEN
    return [
        c.real(STEPS, BATCH, WIDTH), c.real(directions, rows, WIDTH, low=-1, high=1), c.real(directions, rows, HIDDEN, low=-1, high=1),
        c.real(directions, 2 * rows, low=-1, high=1),
    ]  # fmt: skip


def _slopes(name: str) -> dict[str, list[float]]:
    """What an activation with parameters is given, where it has no defaults that all agree on."""
    alpha = {"Affine": [0.5], "ScaledTanh": [0.75], "LeakyRelu": [0.125], "ThresholdedRelu": [0.5], "HardSigmoid": [0.25], "Elu": [0.5]}
    beta = {"Affine": [0.25], "ScaledTanh": [0.5], "HardSigmoid": [0.5]}
    given = {"activation_alpha": alpha.get(name), "activation_beta": beta.get(name)}
    return {key: value for key, value in given.items() if value}


def _made(c: Draft, inputs: Any, name: str = "", **attributes: Any) -> Case:
    if c.has("output_sequence") and attributes["outputs"] != [False, True]:
        attributes.setdefault("output_sequence", 1)
    return c.make(*inputs, name=name, hidden_size=HIDDEN, **attributes)
