"""Recurrent operators of onnxruntime's domain."""

from __future__ import annotations

from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, ceildiv
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import I32, U8
from onnx_numba.native.dot import BYTES
from onnx_numba.native.words import PANEL
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import MS
from onnx_numba.ops.quant import INTEGERS, dynamic_quantize_linear, matmul_integer
from onnx_numba.ops.registry import op
from onnx_numba.ops.rnn import (
    Floats,
    Inputs,
    Names,
    Result,
    cell_of,
    cell_state,
    direction_part,
    inputs_of,
    lstm_buffers,
    run_directions,
    stacked,
    summed_bias,
)
from onnx_numba.templates import rnn as kernels


@op("DynamicQuantizeLSTM", since=1, domain=MS)
def dynamic_quantize_lstm(
    b: Builder, x: Tensor, w: Tensor, r: Tensor, bias: Tensor | None, sequence_lens: Tensor | None, initial_h: Tensor | None,
    initial_c: Tensor | None, peepholes: Tensor | None, w_scale: Tensor, w_zero: Tensor, r_scale: Tensor, r_zero: Tensor, *,
    activation_alpha: Floats = None, activation_beta: Floats = None, activations: Names = None, clip: float | None = None,
    direction: str = "forward", hidden_size: int | None = None, input_forget: int = 0,
) -> Result:  # fmt: skip
    """An LSTM with 8-bit weights; x is quantised as a whole and h at every step, each to the range that it has."""
    cell = cell_of(b.fail, 4, ["Sigmoid", "Tanh", "Tanh"], direction, activations, activation_alpha, activation_beta, clip, 0)
    if w.rank != 3 or r.rank != 3:
        b.fail(f"W and R of rank 3 are expected, W of rank {w.rank} and R of rank {r.rank} came")
    upright = b.transpose(w, (0, 2, 1)), b.transpose(r, (0, 2, 1))
    inputs = inputs_of(b, cell, x, *upright, bias, sequence_lens, [initial_h, initial_c], hidden_size, peepholes)
    parameters = {"W_scale": w_scale, "W_zero_point": w_zero, "R_scale": r_scale, "R_zero_point": r_zero}
    for name, parameter in parameters.items():
        _check_parameter(b, name, parameter, (w.shape[0], w.shape[2]))
    levels, x_scale, x_zero = dynamic_quantize_linear(b, _reached(b, inputs))

    def given(d: int) -> Tensor:
        steps, batch, features = x.shape
        sums = matmul_integer(
            b, b.reshape(levels, (steps * batch, features)), direction_part(b, w, d), x_zero, direction_part(b, w_zero, d)
        )
        product = b.map(lambda v, s, t: e.cast(v, s.dtype) * (s * t), sums, x_scale, direction_part(b, w_scale, d), dtype=x.dtype)
        both = summed_bias(b, inputs, d, w.shape[2])
        return product if both is None else b.map(lambda v, c: v + c, product, both)

    def signed(t: Tensor, d: int) -> Tensor:
        """Weights or zero points with a sign: moved by 128 where they have none, both of them, their differences stay."""
        return b.map(lambda v: e.cast(v, I32) - (128 if t.dtype is U8 else 0), direction_part(b, t, d), dtype=I32)

    def extra(d: int) -> tuple[Tensor, ...]:
        scales, zeros = (b.expand(t, (r.shape[2],)) for t in (direction_part(b, r_scale, d), signed(r_zero, d)))
        totals = b.reduce("sum", b.map(lambda v, z: v - z, signed(r, d), zeros), [0])
        return (*cell_state(b, inputs, d), scales, zeros, totals)

    words = ceildiv(r.shape[1], BYTES) + ceildiv(r.shape[2], PANEL) * PANEL
    buffers = lstm_buffers(inputs, "SCALES", "ZEROS", "TOTALS")
    constants = {"COUPLED": bool(input_forget), "QUANTISED": True, "PANEL": PANEL, "WHOLE": INTEGERS, **buffers}
    return run_directions(
        b, cell, inputs, kernels.lstm, lambda ways: stacked(b, [given(d) for d in ways]),
        lambda d: _words(b, signed(r, d)), extra, constants, x.dtype, whole=words * BYTES,
    )  # fmt: skip


def _words(b: Builder, matrix: Tensor) -> Tensor:
    """A matrix of bytes as words in panels, see `onnx_numba.native.words`; what lies beyond it is 0."""
    depth, columns = matrix.shape

    def word(panel: Dim, q: Dim, j: Dim) -> Expr:
        column = panel * PANEL + j
        value: Expr = e.lit(0, I32)
        for t in range(BYTES):
            row = q * BYTES + t
            inside = e.all_of(e.dimval(row) < e.dimval(depth), e.dimval(column) < e.dimval(columns))
            value = value + (e.guard(inside, matrix[(row, column)], 0) & 255) * (1 << 8 * t)
        return value

    return b.compute((ceildiv(columns, PANEL), ceildiv(depth, BYTES), PANEL), word, I32)


def _check_parameter(b: Builder, name: str, parameter: Tensor, shape: tuple[Dim | int, ...]) -> None:
    """A scale or zero point: one number per direction, or one per column of the weights too."""
    if parameter.rank not in (1, 2):
        b.fail(f"{name} has rank {parameter.rank}, 1 or 2 is expected")
    for axis, (got, wanted) in enumerate(zip(parameter.shape, shape, strict=False)):
        b.require_equal(got, wanted, f"dim {axis} of {name}")


def _reached(b: Builder, inputs: Inputs) -> Tensor:
    """The input with 0 at steps that no sequence reaches, which 0 leaves out of the range."""
    longest = b.reduce("max", inputs.lengths, [0])
    return b.compute(
        inputs.x.shape, lambda *i: e.where(e.dimval(i[0]) < longest[()], inputs.x[i], e.lit(0.0, inputs.x.dtype)), inputs.x.dtype
    )
