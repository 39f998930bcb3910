"""Recurrences written as a Scan along time: RNN, GRU and LSTM, running products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np

from onnx_numba.errors import ModelError
from onnx_numba.ir.types import BOOL, I64
from onnx_numba.ops.common import wide
from onnx_numba.ops.rnn import Activation, Cell, cell_of
from onnx_numba.passes.derivatives.shape import lines
from onnx_numba.passes.derivatives.table import Call, composed
from onnx_numba.passes.derivatives.terms import Argument, Body, Term
from onnx_numba.record import record

_ACTIVATIONS: dict[str, Callable[[Term, Activation], Term]] = {
    "relu": lambda x, f: x.writer("Relu", x),
    "tanh": lambda x, f: x.writer("Tanh", x),
    "sigmoid": lambda x, f: x.writer("Sigmoid", x),
    "softsign": lambda x, f: x.writer("Softsign", x),
    "softplus": lambda x, f: x.writer("Softplus", x),
    "affine": lambda x, f: x * f.alpha + f.beta,
    "leakyrelu": lambda x, f: x.writer("LeakyRelu", x, alpha=f.alpha),
    "thresholdedrelu": lambda x, f: x.writer("ThresholdedRelu", x, alpha=f.alpha),
    "scaledtanh": lambda x, f: x.writer("Tanh", x * f.beta) * f.alpha,
    "hardsigmoid": lambda x, f: x.writer("HardSigmoid", x, alpha=f.alpha, beta=f.beta),
    "elu": lambda x, f: x.writer("Elu", x, alpha=f.alpha),
}

Step = Callable[["_Direction", Term, Sequence[Term]], Sequence[Term]]
"""A step of a cell: from what the input contributes to the gates and the state before to the state after, h first."""


class _Direction:
    """The weights of one direction, and what a step needs besides them; the terms belong to the body of the Scan.

    ``weights`` is R transposed, ``bias`` that of R.
    """

    def __init__(self, cell: Cell, number: int, weights: Term, bias: Term | None, peepholes: Term | None) -> None:
        self.cell, self._functions = cell, cell.functions[number]
        self.weights, self.bias = weights, bias
        self.peepholes = None if peepholes is None else _parts(peepholes, 3)

    def activated(self, which: int, x: Term) -> Term:
        """The activation of a number done to the clipped value."""
        bound = self.cell.bound
        clipped = x if bound == math.inf else x.writer("Clip", x, x.number(-bound), x.number(bound))
        return self.unbounded(which, clipped)

    def unbounded(self, which: int, x: Term) -> Term:
        """The activation of a number."""
        return _ACTIVATIONS[self._functions[which].name](x, self._functions[which])


def _parts(x: Term, count: int) -> list[Term]:
    """Equal parts along the last axis."""
    return x.writer.add("Split", [x], count, axis=-1, num_outputs=count)


def _rnn(d: _Direction, given: Term, state: Sequence[Term]) -> Sequence[Term]:
    return [d.activated(0, given + given.writer("MatMul", state[0], d.weights))]


def _gru(linear: bool) -> Step:
    def step(d: _Direction, given: Term, state: Sequence[Term]) -> Sequence[Term]:
        w, h = given.writer, state[0]
        xs, weights = _parts(given, 3), _parts(d.weights, 3)
        update, reset = (d.activated(0, x + w("MatMul", h, r)) for x, r in zip(xs[:2], weights[:2], strict=True))
        candidate = w("MatMul", h if linear else reset * h, weights[2])
        if linear:
            candidate = reset * (candidate if d.bias is None else candidate + _parts(d.bias, 3)[2])
        return [(1 - update) * d.activated(1, xs[2] + candidate) + update * h]

    return step


def _lstm(coupled: bool) -> Step:
    def step(d: _Direction, given: Term, state: Sequence[Term]) -> Sequence[Term]:
        h, c = state
        enter, leave, keep, candidate = _parts(given + given.writer("MatMul", h, d.weights), 4)

        def gate(x: Term, which: int, cell: Term) -> Term:
            return d.activated(0, x if d.peepholes is None else x + d.peepholes[which] * cell)

        entered = gate(enter, 0, c)
        kept = 1 - entered if coupled else gate(keep, 2, c)
        after = kept * c + entered * d.activated(1, candidate)
        return [gate(leave, 1, after) * d.unbounded(2, after), after]

    return step


@composed("RNN")
def _of_rnn(c: Call) -> Sequence[Term | None]:
    return _recurrent(c, 1, ["Tanh"], _rnn, 1, 1)


@composed("GRU")
def _of_gru(c: Call) -> Sequence[Term | None]:
    linear = bool(c.attribute("linear_before_reset", 0))
    return _recurrent(c, 3, ["Sigmoid", "Tanh"], _gru(linear), 1, 2 if linear else 3)


@composed("LSTM")
def _of_lstm(c: Call) -> Sequence[Term | None]:
    return _recurrent(c, 4, ["Sigmoid", "Tanh", "Tanh"], _lstm(bool(c.attribute("input_forget", 0))), 2, 4)


def _recurrent(c: Call, gates: int, defaults: Sequence[str], step: Step, states: int, biased: int) -> Sequence[Term | None]:
    """All states h and the last of every state; R's bias counts with the input for the first ``biased`` gates."""
    names = ("direction", "activations", "activation_alpha", "activation_beta", "clip", "layout")

    def fail(why: str) -> NoReturn:
        raise ModelError.of(str(c.node), why)

    cell = cell_of(fail, gates, defaults, *(c.attribute(name) for name in names))
    inputs = _inputs(c, cell, states)
    made = [_along_time(inputs, cell, number, step, biased) for number in range(len(cell.backward))]
    *last, every = (c.w("Concat", *parts, axis=axis) for parts, axis in zip(zip(*made, strict=True), (*[0] * states, 1), strict=True))
    if cell.batch_first:
        every, last = c.w("Transpose", every, perm=[2, 0, 1, 3]), [_swapped(state) for state in last]
    return [result.cast_like(c.xs[0]) for result in (every, *last)]


@record
class _Inputs:
    """The inputs in the type that is computed in, time first; ``state`` has the axis of directions."""

    x: Term
    weights: Term
    recurrence: Term
    bias: Term | None
    lengths: Term | None
    peepholes: Term | None
    state: Sequence[Term]


def _inputs(c: Call, cell: Cell, states: int) -> _Inputs:
    w, kind = c.w, wide(c.xs[0].dtype).onnx
    x, weights, recurrence, bias, peepholes, *given = (
        term and w("Cast", term, to=kind) for term in (*c.xs[:3], c.x(3), c.x(7), *map(c.x, range(5, 5 + states)))
    )
    if cell.batch_first:
        x, given = _swapped(x), [state and _swapped(state) for state in given]
    extents: list[Argument] = [np.array([len(cell.backward)]), w("Shape", x, start=1, end=2), w("Shape", recurrence, start=2)]
    state = [w("Expand", x.number(0), w("Concat", *extents, axis=0)) if each is None else each for each in given]
    return _Inputs(x, weights, recurrence, bias, c.x(4), peepholes, state)


def _swapped(x: Term) -> Term:
    """Batch and time, or batch and direction, exchanged."""
    return x.writer("Transpose", x, perm=[1, 0, 2])


def _along_time(inputs: _Inputs, cell: Cell, number: int, step: Step, biased: int) -> list[Term]:
    """The last of every state and all states h of a direction, with an axis for it."""
    w = inputs.x.writer

    def part(term: Term) -> Term:
        """What belongs to the direction."""
        return w("Gather", term, np.array(number))

    given = w("MatMul", inputs.x, w("Transpose", part(inputs.weights), perm=[1, 0]))
    bias = None
    if inputs.bias is not None:
        outer, bias = _parts(part(inputs.bias), 2)
        given = given + outer + _first(bias, biased, cell.gates)
    weights = w("Transpose", part(inputs.recurrence), perm=[1, 0])

    body = Body(w)
    own = _Direction(
        cell, number, body.here(weights), bias and body.here(bias), inputs.peepholes and body.here(part(inputs.peepholes))
    )
    before, row = [body.input(None) for _ in inputs.state], body.input(None)
    after = list(step(own, row, before))
    shown, rows, formal = after[0], [given], [*before, row]
    if inputs.lengths is not None:
        # A sequence that has ended, or, backward, not begun, keeps its state and gives zeros.
        rows.append(w("Range", np.array(0), w("Shape", inputs.x, end=1).reshaped([]), np.array(1)))
        formal.append(body.input(None))
        going = body("Less", formal[-1], body("Unsqueeze", body("Cast", body.here(inputs.lengths), to=I64.onnx), [1]))
        after = [body("Where", going, new, old) for new, old in zip(after, before, strict=True)]
        shown = shown.at(going)
    toward = int(cell.backward[number])
    *last, every = w.add(
        "Scan", [*map(part, inputs.state), *rows], len(before) + 1, bodies={"body": body.graph(formal, [*after, shown])},
        num_scan_inputs=len(rows), scan_input_directions=[toward] * len(rows), scan_output_directions=[toward],
    )  # fmt: skip
    return [*(w("Unsqueeze", state, [0]) for state in last), w("Unsqueeze", every, [1])]


def _first(bias: Term, count: int, gates: int) -> Term:
    """The bias of the first gates, zeros for the others."""
    if count == gates:
        return bias
    parts = _parts(bias, gates)
    return bias.writer("Concat", *(part if k < count else part.filled(0) for k, part in enumerate(parts)), axis=-1)


@composed("CumProd")
def _cumprod(c: Call) -> Sequence[Term | None]:
    x, axis = c.xs[0], c.w("Cast", c.xs[1], to=I64.onnx).reshaped([1])
    running = _products(lines(x, axis, x.rank), 1, bool(c.attribute("reverse")), bool(c.attribute("exclusive")))
    return [running[1].reshaped(x.shape)]


@composed("ReduceProd")
def _product(c: Call) -> Sequence[Term | None]:
    """The last of the running products of all elements that come together, so that a zero among them does no harm."""
    x, rank, given = c.xs[0], c.xs[0].rank, c.x(1)
    known = c.attribute("axes") if given is None else c.w.known.constant(given.name)
    if known is None and given is not None:
        return [_product_along(c, given).reshaped(c.ys[0].shape)]
    axes = [] if known is None else [int(axis) for axis in np.ravel(known)]
    if not axes and not c.attribute("noop_with_empty_axes", 0):
        axes = [*range(rank)]
    gone = sorted(axis % rank for axis in axes)
    kept = [k for k in range(rank) if k not in gone]
    turned = c.w("Transpose", x, perm=[*gone, *kept])
    count = c.w("ReduceProd", c.w("Gather", x.shape, np.array(gone, np.int64)))
    rows = turned.reshaped(c.w("Concat", count, c.w("Gather", x.shape, np.array(kept, np.int64)), axis=0))
    return [_products(rows, 0)[0].reshaped(c.ys[0].shape)]


def _product_along(c: Call, axes: Term) -> Term:
    """The product along axes that the run names: axis after axis, with a 1 in front, the last running product or all that is there."""
    w, x, rank = c.w, c.xs[0], c.xs[0].rank
    places = w("Where", axes < 0, axes + rank, axes)
    every = w("Not", w("Cast", axes.size, to=BOOL.onnx)) if not c.attribute("noop_with_empty_axes", 0) else None
    for k in range(rank):
        found = w("Concat", w("Cast", places.equals(k), to=I64.onnx), np.array([0]), axis=0)
        named = w("Cast", w("ReduceMax", found, keepdims=1), to=BOOL.onnx)
        named = named if every is None else w("Or", named, every)
        begins = [int(axis == k) for axis in range(rank)]
        longer = w("Pad", x, [*begins, *[0] * rank], x.number(1))
        end = w("Shape", longer, start=k, end=k + 1)
        x = w("Slice", w("Where", named, _products(longer, k)[1], longer), w("Where", named, end - 1, np.array([1])), end, [k])
    return x


def _products(x: Term, axis: int, backward: bool = False, exclusive: bool = False) -> list[Term]:
    """The product along an axis, and the products of an element and all before it."""
    w = x.writer
    others = np.array([k for k in range(x.rank) if k != axis], np.int64)
    ones = w("Expand", x.number(1), w("Gather", x.shape, others))
    body = Body(w)
    before, row = body.input(None), body.input(None)
    after = before * row
    return w.add(
        "Scan", [ones, x], 2, bodies={"body": body.graph([before, row], [after, before if exclusive else after])}, num_scan_inputs=1,
        scan_input_axes=[axis], scan_output_axes=[axis], scan_input_directions=[int(backward)], scan_output_directions=[int(backward)],
    )  # fmt: skip
