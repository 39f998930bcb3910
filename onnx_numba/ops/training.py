"""Steps of optimisers from ai.onnx.preview.training, for any number of tensors at once."""

from __future__ import annotations

from collections.abc import Callable

from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr, where
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.registry import op

TRAINING = "ai.onnx.preview.training"
Step = Callable[..., Expr]


def _groups(b: Builder, tensors: tuple[Tensor, ...], size: int) -> list[tuple[Tensor, ...]]:
    """What belongs to each optimised tensor: they come as all tensors, then all gradients, then all states."""
    count = len(tensors) // size
    if count * size != len(tensors):
        b.fail(f"{len(tensors)} tensors are not {size} for each that is optimised")
    return [tensors[k::count] for k in range(count)]


def _update(
    b: Builder, rate: Tensor, time: Tensor, tensors: tuple[Tensor, ...], new: Step, states: tuple[Step, ...]
) -> tuple[Tensor, ...]:
    """New tensors, then new states of each kind; steps are functions of rate, time, tensor, gradient and states in float64."""

    def element(step: Step) -> Callable[..., Expr]:
        return lambda r, t, *values: step(e.cast(r, F64), e.cast(t, F64), *(e.cast(v, F64) for v in values))

    groups = _groups(b, tensors, 2 + len(states))
    return tuple(
        b.map(element(step), rate, time, *group, dtype=group[0].dtype) for step in (new, *states) for group in groups
    )


@op("Adagrad", since=1, domain=TRAINING)
def adagrad(
    b: Builder, rate: Tensor, time: Tensor, *tensors: Tensor, decay_factor: float, epsilon: float, norm_coefficient: float
) -> tuple[Tensor, ...]:
    """Gradients divided by the root of the sum of all squared gradients so far."""

    def squares(r: Expr, t: Expr, x: Expr, g: Expr, h: Expr) -> Expr:
        slope = norm_coefficient * x + g
        return h + slope * slope

    def new(r: Expr, t: Expr, x: Expr, g: Expr, h: Expr) -> Expr:
        step = r / (1.0 + t * decay_factor)
        return x - step * (norm_coefficient * x + g) / (e.unary("sqrt", squares(r, t, x, g, h)) + epsilon)

    return _update(b, rate, time, tensors, new, (squares,))


@op("Momentum", since=1, domain=TRAINING)
def momentum(
    b: Builder, rate: Tensor, time: Tensor, *tensors: Tensor, alpha: float, beta: float, mode: str, norm_coefficient: float
) -> tuple[Tensor, ...]:
    """Gradients averaged over time, looked ahead by one step in Nesterov's mode."""
    if mode not in ("standard", "nesterov"):
        b.fail(f"mode must be standard or nesterov, not {mode!r}")

    def speed(r: Expr, t: Expr, x: Expr, g: Expr, v: Expr) -> Expr:
        return alpha * v + where(t > 0.0, beta, e.lit(1.0, F64)) * (norm_coefficient * x + g)

    def new(r: Expr, t: Expr, x: Expr, g: Expr, v: Expr) -> Expr:
        ahead = speed(r, t, x, g, v)
        return x - r * (ahead if mode == "standard" else norm_coefficient * x + g + alpha * ahead)

    return _update(b, rate, time, tensors, new, (speed,))


@op("Adam", since=1, domain=TRAINING)
def adam(
    b: Builder, rate: Tensor, time: Tensor, *tensors: Tensor, alpha: float, beta: float, epsilon: float, norm_coefficient: float,
    norm_coefficient_post: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Averaged gradients divided by the root of averaged squared gradients."""

    def first(r: Expr, t: Expr, x: Expr, g: Expr, v: Expr, h: Expr) -> Expr:
        return alpha * v + (1 - alpha) * (norm_coefficient * x + g)

    def second(r: Expr, t: Expr, x: Expr, g: Expr, v: Expr, h: Expr) -> Expr:
        slope = norm_coefficient * x + g
        return beta * h + (1 - beta) * slope * slope

    def new(r: Expr, t: Expr, x: Expr, g: Expr, v: Expr, h: Expr) -> Expr:
        young = e.unary("sqrt", 1.0 - e.binary("pow", beta, t)) / (1.0 - e.binary("pow", alpha, t))
        step = where(t > 0.0, r * young, r)
        moved = x - step * first(r, t, x, g, v, h) / (e.unary("sqrt", second(r, t, x, g, v, h)) + epsilon)
        return (1 - norm_coefficient_post) * moved

    return _update(b, rate, time, tensors, new, (first, second))
