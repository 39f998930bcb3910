"""Recurrences whose steps threads share: the same numbers as of sequences that run through all steps on one thread each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import onnx_numba.backend as backend
from tests.operators import Array, Case, feeds, model, onnxruntime_outputs

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
SIZE = 260
"""Units of the state: two whole panels and four units of a third."""


def recurrence(op: str, batch: int, steps: int, lengths: Any = None, ways: int = 1, **attributes: Any) -> Case:
    """Constant weights, inputs that callers give: x, lengths if there are any, the first state."""
    random = np.random.default_rng(batch)

    def numbers(*shape: int) -> Array:
        return random.uniform(-0.3, 0.3, shape).astype(np.float32)

    rows = GATES[op] * SIZE
    given = None if lengths is None else np.array(lengths, np.int32)
    weights = [numbers(ways, rows, 3), numbers(ways, rows, SIZE), numbers(ways, 2 * rows)]
    state = [numbers(ways, batch, SIZE) for _ in range(2 if op == "LSTM" else 1)]
    attributes |= {"hidden_size": SIZE, "direction": "bidirectional"} if ways == 2 else {"hidden_size": SIZE}
    return Case(op, 14, [numbers(steps, batch, 3), *weights, given, *state], attributes, (1, 2, 3), len(state) + 1)


def loops(rep: Any) -> bool:
    """Whether the plan goes back anywhere: what is shared in every step does."""
    code = rep._prepared.session.plan.code
    return any(operation == "jump" and operands[-1] < number for number, (operation, *operands) in enumerate(code))


SHARED = [
    recurrence("LSTM", 1, 3),
    recurrence("LSTM", 4, 3, [3, 1, 2, 3]),
    recurrence("LSTM", 3, 4, [2, 4, 1], direction="reverse", clip=0.4),
    recurrence("LSTM", 2, 3, input_forget=1),
    recurrence("GRU", 4, 3, [3, 1, 2, 3]),
    recurrence("GRU", 2, 3, [2, 3], direction="reverse"),
    recurrence("GRU", 3, 3, [1, 3, 2], linear_before_reset=1),
    recurrence("RNN", 4, 3, [3, 2, 1, 1], direction="reverse"),
    recurrence("RNN", 3, 3, None, 2, activations=["Relu", "Tanh"]),  # one call for each direction
]


@pytest.mark.parametrize("case", SHARED, ids=str)
@pytest.mark.parametrize("dynamic", [False, True])
def test_steps_that_are_shared(case: Case, dynamic: bool) -> None:
    alone, shared = (backend.prepare(model(case, dynamic), num_threads=threads) for threads in (1, 3))
    assert loops(alone)
    results = alone.run(feeds(case))
    for got, same, wanted in zip(results, shared.run(feeds(case)), onnxruntime_outputs(case), strict=True):
        np.testing.assert_array_equal(got, same)
        np.testing.assert_allclose(got, wanted, 1e-4, 2e-5)


@pytest.mark.parametrize("case", [recurrence("GRU", 13, 4), recurrence("RNN", 4, 4, direction="reverse")], ids=str)
def test_a_sequence_alone_has_the_same_bits(case: Case) -> None:
    """Of GRU the steps of one sequence are shared and not those of many, of RNN those of four and not of one."""
    rep = backend.prepare(model(case, True))
    x, state = feeds(case)
    together = rep.run([x, state])
    for b in range(x.shape[1]):
        part = slice(b, b + 1)
        every, last = rep.run([x[:, part].copy(), state[:, part].copy()])
        np.testing.assert_array_equal(every, together[0][:, :, part])
        np.testing.assert_array_equal(last, together[1][:, part])


@pytest.mark.parametrize("case", [recurrence("LSTM", 1, 2), recurrence("GRU", 2, 2)], ids=str)
def test_shared_steps_in_plain_python(case: Case) -> None:
    compiled, plain = (backend.prepare(model(case, False), jit=jit).run(feeds(case)) for jit in (True, False))
    for got, wanted in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(got, wanted, 1e-5, 1e-6)


def test_no_steps_leave_the_state_as_it_is() -> None:
    case = recurrence("LSTM", 2, 0)
    every, hidden, cell = backend.prepare(model(case, True), num_threads=2).run(feeds(case))
    assert every.shape == (0, 1, 2, SIZE)
    np.testing.assert_array_equal(hidden, case.inputs[5])
    np.testing.assert_array_equal(cell, case.inputs[6])


@pytest.mark.parametrize("op", GATES)
def test_a_sequence_of_no_steps_has_the_state_that_it_began_with(op: str) -> None:
    case = recurrence(op, 4, 2, [2, 0, 1, 0])
    every, *last = backend.prepare(model(case, False)).run(feeds(case))
    assert not every[:, :, [1, 3]].any() and not every[1, :, 2].any()
    for state, first in zip(last, case.inputs[5:], strict=True):
        np.testing.assert_array_equal(state[:, [1, 3]], first[:, [1, 3]])


@pytest.mark.parametrize("case", [recurrence("RNN", 1, 2), recurrence("GRU", 13, 2)], ids=str)
def test_steps_of_little_work_and_of_many_sequences_are_not_shared(case: Case) -> None:
    rep = backend.prepare(model(case, False))
    assert not loops(rep)
    for got, wanted in zip(rep.run(feeds(case)), onnxruntime_outputs(case), strict=True):
        np.testing.assert_allclose(got, wanted, 1e-4, 2e-5)


def test_an_infinite_cell_needs_no_peepholes() -> None:
    x, w = np.ones((1, 1, 1), np.float32), np.ones((1, 4, 1), np.float32)
    cell = np.full((1, 1, 1), np.inf, np.float32)
    case = Case("LSTM", 14, [x, w, w, None, None, None, cell], {"hidden_size": 1}, outputs=3)
    for jit in (True, False):
        _, _, last = backend.prepare(model(case, False), jit=jit).run(feeds(case))
        assert last == np.inf
