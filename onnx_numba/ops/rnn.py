"""Recurrent operators: the inputs of all steps in one matrix product, then a template along time for all directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, ceildiv, compare, dmax, dmin
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import DTYPES, I64
from onnx_numba.native.product import BLOCK
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import require_shape
from onnx_numba.ops.product import product
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import natural_index
from onnx_numba.record import record
from onnx_numba.templates import rnn as kernels

Extent = Dim | int
Floats = Sequence[float] | None
Names = Sequence[str] | None
Result = tuple[Tensor, ...]

_DEFAULTS: dict[str, tuple[float | None, float | None]] = {
    "relu": (None, None), "tanh": (None, None), "sigmoid": (None, None), "softsign": (None, None), "softplus": (None, None),
    "affine": (1.0, 0.0), "leakyrelu": (0.01, None), "thresholdedrelu": (1.0, None), "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5), "elu": (1.0, None),
}  # fmt: skip
"""Activations with the defaults of the parameters that they take."""

PANEL = 128
"""Units of a state whose columns of R lie together, where there are enough for two panels: what is done for each of fewer would count."""
SHARED_WORK = 1 << 17
"""Multiply-adds of a step from which on threads share it: some 3 µs and more, while they wait for one another for about 1 µs."""


@record
class Activation:
    """One of the standard's activations, by its name in small letters; parameters that it does not take are 0."""

    name: str
    alpha: float
    beta: float


@record
class Cell:
    """What the attributes of a recurrent operator say.

    ``gates`` is how many rows of weights there are per unit, ``bound`` the clip; ``functions`` are the activations per direction.
    """

    gates: int
    backward: tuple[bool, ...]
    functions: tuple[tuple[Activation, ...], ...]
    bound: float
    batch_first: bool

    def constants(self, d: int) -> dict[str, Any]:
        """The activations of a direction as constants of a template."""
        table: dict[str, Any] = {}
        for letter, function in zip("FGH", self.functions[d], strict=False):
            table |= {letter: f"act_{function.name}", f"{letter}A": function.alpha, f"{letter}B": function.beta}
        return table


def cell_of(
    fail: Callable[[str], NoReturn], gates: int, defaults: Sequence[str], direction: str, names: Names, alpha: Floats, beta: Floats,
    clip: float | None, layout: int,
) -> Cell:  # fmt: skip
    """The attributes, checked and with their defaults; ``fail`` is told what is wrong with them."""
    # Version 1 of GRU has its default misspelt.
    kinds = {"forward": (False,), "foward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if direction not in kinds:
        fail(f"direction {direction!r} is unknown")
    backward = kinds[direction]
    wanted = [name.lower() for name in (names or list(defaults) * len(backward))][: len(defaults) * len(backward)]
    if len(wanted) < len(defaults) * len(backward):
        fail(f"{len(wanted)} activations, {len(defaults) * len(backward)} are needed")
    alphas, betas = list(alpha or ()), list(beta or ())
    functions = []
    for name in wanted:
        if name not in _DEFAULTS:
            fail(f"activation {name!r} is unknown")
        first, second = (
            0.0 if default is None else given.pop(0) if given else default
            for default, given in zip(_DEFAULTS[name], (alphas, betas), strict=True)
        )
        functions.append(Activation(name, first, second))
    each = tuple(tuple(functions[k : k + len(defaults)]) for k in range(0, len(functions), len(defaults)))
    return Cell(gates, backward, each, clip if clip else math.inf, bool(layout))


@record
class Inputs:
    """The tensors of a recurrent operator in the type that it computes in, time first."""

    x: Tensor
    w: Tensor
    r: Tensor
    bias: Tensor | None
    lengths: Tensor
    state: tuple[Tensor, ...]
    peepholes: Tensor | None = None


def inputs_of(
    b: Builder, cell: Cell, x: Tensor, w: Tensor, r: Tensor, bias: Tensor | None, lengths: Tensor | None,
    states: Sequence[Tensor | None], hidden_size: int | None, peepholes: Tensor | None = None,
) -> Inputs:  # fmt: skip
    """The tensors, their shapes checked and states that are absent filled with zeros."""
    if x.rank != 3 or r.rank != 3:
        b.fail(f"X and R must have rank 3, they have rank {x.rank} and {r.rank}")
    if hidden_size is not None:
        b.require_equal(r.shape[-1], hidden_size, "dim 2 of R, which is hidden_size")
    kind = DTYPES[x.dtype.compute]
    ways = len(cell.backward)
    size = r.shape[-1]
    if cell.batch_first:
        x = b.transpose(x, (1, 0, 2))
        states = [None if s is None else b.transpose(s, (1, 0, 2)) for s in states]
    steps, batch = x.shape[:2]
    _require(b, "W", w, (ways, size * cell.gates, x.shape[2]))
    _require(b, "R", r, (ways, size * cell.gates, size))
    _require(b, "B", bias, (ways, size * cell.gates * 2))
    _require(b, "sequence_lens", lengths, (batch,))
    _require(b, "P", peepholes, (ways, size * 3))
    for number, state in enumerate(states):
        _require(b, f"initial state {number}", state, (ways, batch, size))
    begin = tuple(b.full((ways, batch, size), 0.0, kind) if s is None else b.cast(s, kind) for s in states)
    if lengths is None:
        given = b.compute((batch,), lambda _: e.dimval(steps), I64)
    else:
        given = b.compute((batch,), lambda i: natural_index(b, lengths[(i,)], steps + 1), I64)
    wide = (None if t is None else b.cast(t, kind) for t in (bias, peepholes))
    return Inputs(b.cast(x, kind), b.cast(w, kind), b.cast(r, kind), next(wide), given, begin, next(wide))


def _require(b: Builder, name: str, tensor: Tensor | None, shape: Sequence[Extent]) -> None:
    """Demand an input's shape: the templates index by those of the others."""
    if tensor is not None:
        require_shape(b, tensor, tuple(shape), name)


def direction_part(b: Builder, tensor: Tensor, d: int) -> Tensor:
    """What belongs to one direction."""
    if tensor.shape[0] == 1:
        return b.reshape(tensor, tensor.shape[1:])
    return b.compute(tensor.shape[1:], lambda *i: tensor[(d, *i)], tensor.dtype)


def directions_part(b: Builder, tensor: Tensor, ways: Sequence[int]) -> Tensor:
    """What belongs to one direction or to all, which keep their axis."""
    if len(ways) == 1:
        part = direction_part(b, tensor, ways[0])
        return b.reshape(part, (1, *part.shape))
    return tensor


def stacked(b: Builder, parts: Sequence[Tensor]) -> Tensor:
    """What belongs to some directions, one after the other in a leading axis."""
    return b.concat([b.reshape(t, (1, *t.shape)) for t in parts], 0)


def projected(b: Builder, inputs: Inputs, ways: Sequence[int], bias: Callable[[int], Tensor | None]) -> Tensor:
    """What the inputs of all steps contribute to all gates of some directions, ``[ways, steps * batch, gates * size]``."""
    steps, batch, features = inputs.x.shape
    flat = b.reshape(inputs.x, (steps * batch, features))
    result = product(b, flat, b.transpose(directions_part(b, inputs.w, ways), (0, 2, 1)))
    if inputs.bias is None:
        return result
    biases = stacked(b, [part for d in ways if (part := bias(d)) is not None])
    return b.map(lambda v, c: v + c, result, b.reshape(biases, (len(ways), 1, biases.shape[1])))


def summed_bias(b: Builder, inputs: Inputs, d: int, rows: Extent, kept: Extent | None = None) -> Tensor | None:
    """The biases of W and R together; those of R only for the first ``kept`` rows, if given."""
    if inputs.bias is None:
        return None
    both = direction_part(b, inputs.bias, d)

    def element(j: Dim) -> e.Expr:
        if kept is None:
            return both[(j,)] + both[(j + rows,)]
        return both[(j,)] + e.where(e.dimval(j) < e.dimval(kept), both[(j + rows,)], e.lit(0.0, both.dtype))

    return b.compute((rows,), element, both.dtype)


def panel_width(size: Extent) -> Extent:
    """Units of a panel: of few units there is one panel of all, as of any number that only the run knows."""
    return PANEL if isinstance(size, int) and size >= 2 * PANEL else size


def panelled(b: Builder, matrix: Tensor, gates: int) -> Tensor:
    """R of one direction, ``[gates * size, size]``, as what each term of the sums adds to the gates of a panel's units, side by side.

    Its shape is ``[panels, size, gates * width]``, without the first axis where there is one panel; beyond the last unit is 0.
    """
    size = matrix.shape[1]
    width = panel_width(size)
    if width == size:
        return b.transpose(matrix, (1, 0))
    panels = ceildiv(size, width)

    def element(panel: Dim, k: Dim, gate: Dim, j: Dim) -> e.Expr:
        unit = panel * width + j
        return e.guard(e.dimval(unit) < e.dimval(size), matrix[(gate * size + unit, k)], 0.0)

    return b.reshape(b.compute((panels, size, gates, width), element, matrix.dtype), (panels, size, gates * width))


def _given(b: Builder, inputs: Inputs, bias: Callable[[int], Tensor | None]) -> Callable[[Sequence[int]], Tensor]:
    return lambda ways: projected(b, inputs, ways, bias)


def _weights(b: Builder, cell: Cell, inputs: Inputs) -> Callable[[int], Tensor]:
    return lambda d: panelled(b, direction_part(b, inputs.r, d), cell.gates)


def run_directions(
    b: Builder, cell: Cell, inputs: Inputs, body: Callable[..., int], given: Callable[[Sequence[int]], Tensor],
    weights: Callable[[int], Tensor], extra: Callable[[int], Sequence[Tensor]], constants: dict[str, Any], out: Any, *,
    parts: int = 1, kept: int = 0, whole: Extent = 0,
) -> Result:  # fmt: skip
    """The template of all directions, or of each where their activations differ; all hidden states, then the last of each state.

    A work unit takes up to `BLOCK` sequences of a direction through all steps. Where that would be the only unit, and a step is much work,
    threads share every step instead: it is as many rounds of the call as it has ``parts``, and a unit is a panel of the state.

    ``given`` is what the inputs contribute, ``weights`` are those of the state, ``extra`` tensors follow the lengths. Between the parts of
    a step, ``kept`` states more lie behind the two that there are. With ``whole`` the sequences of a batch are one work unit, which has
    that many bytes of scratch more for each.
    """
    steps, batch = inputs.x.shape[:2]
    size = inputs.r.shape[-1]
    width = size if whole else panel_width(size)
    panels = ceildiv(size, width)
    kind = inputs.x.dtype
    every_way = range(len(cell.backward))
    sequences: list[Tensor] = []
    finals: list[list[Tensor]] = [[] for _ in inputs.state]
    for ways in [every_way] if len(set(cell.functions)) == 1 else [every_way[d : d + 1] for d in every_way]:
        held = stacked(b, [weights(d) for d in ways])
        more = [stacked(b, each) for each in zip(*map(extra, ways), strict=True)]
        rows, blocks = (batch, 1) if whole else (dmin(batch, BLOCK), ceildiv(batch, BLOCK))
        work = batch * (cell.gates * size * size)
        shared = 0 if panels == 1 or len(ways) > 1 else compare("le", batch, BLOCK) * compare("le", SHARED_WORK, work)

        def chosen(alone: Extent, together: Extent, shared: Extent = shared) -> Extent:
            return alone + (together - alone) * shared

        groups = chosen(1, panels)
        state = (len(ways), batch, size)
        made = b.template(
            body,
            [given(ways), held, directions_part(b, inputs.state[0], ways), inputs.lengths, *more],
            [(kind, (steps, *state)), *((kind, state) for _ in inputs.state), (kind, (2 + kept, *state))],
            total=len(ways) * blocks * groups, rounds=chosen(1, dmax(steps, 1) * parts),
            dims=(steps, batch, size, rows, len(ways), blocks, groups, width, chosen(panels, 1), chosen(steps, 1)),
            types={"X": kind, "W": held.dtype}, scratch=rows * (cell.gates * width * kind.size + whole),
            constants={**cell.constants(ways[0]), **constants, "REVERSE": cell.backward[ways[0]], "CLIP": cell.bound},
        )  # fmt: skip
        sequences.append(made[0])
        for k, last in enumerate(made[1 : 1 + len(finals)]):
            finals[k].append(last)
    every = b.concat(sequences, 1)
    results = [b.concat(states, 0) for states in finals]
    if cell.batch_first:
        every = b.transpose(every, (2, 0, 1, 3))
        results = [b.transpose(state, (1, 0, 2)) for state in results]
    return tuple(b.cast(t, out) for t in (every, *results))


@op("RNN", since=1, reviewed=22)
def rnn(
    b: Builder, x: Tensor, w: Tensor, r: Tensor, bias: Tensor | None = None, sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None, *, activation_alpha: Floats = None, activation_beta: Floats = None,
    activations: Names = None, clip: float | None = None, direction: str = "forward", hidden_size: int | None = None,
    layout: int = 0, output_sequence: int = 0,
) -> Result:  # fmt: skip
    """``h = f(x W + h R + b)``."""
    cell = cell_of(b.fail, 1, ["Tanh"], direction, activations, activation_alpha, activation_beta, clip, layout)
    inputs = inputs_of(b, cell, x, w, r, bias, sequence_lens, [initial_h], hidden_size)
    size = r.shape[-1]
    given, weights = _given(b, inputs, lambda d: summed_bias(b, inputs, d, size)), _weights(b, cell, inputs)
    return run_directions(b, cell, inputs, kernels.rnn, given, weights, lambda d: (), {}, x.dtype)


@op("GRU", since=1, reviewed=22)
def gru(
    b: Builder, x: Tensor, w: Tensor, r: Tensor, bias: Tensor | None = None, sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None, *, activation_alpha: Floats = None, activation_beta: Floats = None,
    activations: Names = None, clip: float | None = None, direction: str = "forward", hidden_size: int | None = None,
    layout: int = 0, linear_before_reset: int = 0, output_sequence: int = 0,
) -> Result:  # fmt: skip
    """A gated recurrent unit."""
    cell = cell_of(b.fail, 3, ["Sigmoid", "Tanh"], direction, activations, activation_alpha, activation_beta, clip, layout)
    inputs = inputs_of(b, cell, x, w, r, bias, sequence_lens, [initial_h], hidden_size)
    size = r.shape[-1]
    kind = inputs.x.dtype

    has_inner = inputs.bias is not None and bool(linear_before_reset)

    def inner(d: int) -> Sequence[Tensor]:
        """R's bias of the candidate, where the reset gate multiplies it."""
        if inputs.bias is None or not has_inner:
            return ()
        both = direction_part(b, inputs.bias, d)
        return (b.compute((size,), lambda j: both[(j + size * 5,)], kind),)

    def bias_of(d: int) -> Tensor | None:
        return summed_bias(b, inputs, d, size * 3, size * 2 if linear_before_reset else None)

    given, weights = _given(b, inputs, bias_of), _weights(b, cell, inputs)
    numbers = buffer_numbers(4, *["INNERS"][:has_inner], "EVERY", "LAST", "STATES")
    constants = {"LINEAR": bool(linear_before_reset), "INNER": has_inner, **numbers}
    parts = 1 if linear_before_reset else 2
    return run_directions(b, cell, inputs, kernels.gru, given, weights, inner, constants, x.dtype, parts=parts, kept=2)


@op("LSTM", since=1, reviewed=22)
def lstm(
    b: Builder, x: Tensor, w: Tensor, r: Tensor, bias: Tensor | None = None, sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None, initial_c: Tensor | None = None, peepholes: Tensor | None = None, *,
    activation_alpha: Floats = None, activation_beta: Floats = None, activations: Names = None, clip: float | None = None,
    direction: str = "forward", hidden_size: int | None = None, input_forget: int = 0, layout: int = 0, output_sequence: int = 0,
) -> Result:  # fmt: skip
    """A long short-term memory."""
    cell = cell_of(b.fail, 4, ["Sigmoid", "Tanh", "Tanh"], direction, activations, activation_alpha, activation_beta, clip, layout)
    inputs = inputs_of(b, cell, x, w, r, bias, sequence_lens, [initial_h, initial_c], hidden_size, peepholes)
    given, weights = _given(b, inputs, lambda d: summed_bias(b, inputs, d, r.shape[-1] * 4)), _weights(b, cell, inputs)
    constants = {"COUPLED": bool(input_forget), "QUANTISED": False, **lstm_buffers(inputs)}
    return run_directions(
        b, cell, inputs, kernels.lstm, given, weights, lambda d: cell_state(b, inputs, d), constants, x.dtype
    )  # fmt: skip


def buffer_numbers(first: int, *names: str) -> dict[str, int]:
    """The numbers of a template's buffers from the first on that not every call has."""
    return {name: number for number, name in enumerate(names, first)}


def lstm_buffers(inputs: Inputs, *more: str) -> dict[str, int | bool]:
    """Whether an LSTM has peepholes, and the numbers of its buffers from there on; there are ``more`` before the results."""
    has_peepholes = inputs.peepholes is not None
    numbers = buffer_numbers(5, *["PEEPS"][:has_peepholes], *more, "EVERY", "LAST", "LAST_CELL", "STATES")
    return {"PEEPHOLES": has_peepholes, **numbers}


def cell_state(b: Builder, inputs: Inputs, d: int) -> tuple[Tensor, ...]:
    """The first cell of a direction, and its peepholes if there are any."""
    peepholes = () if inputs.peepholes is None else (direction_part(b, inputs.peepholes, d),)
    return (direction_part(b, inputs.state[1], d), *peepholes)
