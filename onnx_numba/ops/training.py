"""Steps of optimisers from ai.onnx.preview.training, for any number of tensors at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr, where
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.registry import op
from onnx_numba.record import record

TRAINING = "ai.onnx.preview.training"
T = TypeVar("T")
Step = Callable[..., Any]
"""A function of the learning rate, the count of updates, a tensor, its gradient and its states."""


@record
class Functions:
    """What formulas need besides arithmetic, of expressions or of values of a graph.

    Attributes
    ----------
    root : callable
        The square root.
    power : callable
        A number to the power of a value.
    either : callable
        Of two values or numbers the first where a condition holds.
    """

    root: Callable[[Any], Any]
    power: Callable[[float, Any], Any]
    either: Callable[[Any, Any, Any], Any]


def adagrad_steps(f: Functions, decay_factor: float, epsilon: float, norm_coefficient: float) -> tuple[Step, ...]:
    """Of Adagrad: the new tensor, and its sum of squared gradients."""

    def squares(r: Any, t: Any, x: Any, g: Any, h: Any) -> Any:
        slope = norm_coefficient * x + g
        return h + slope * slope

    def new(r: Any, t: Any, x: Any, g: Any, h: Any) -> Any:
        step = r / (1.0 + t * decay_factor)
        return x - step * (norm_coefficient * x + g) / (f.root(squares(r, t, x, g, h)) + epsilon)

    return new, squares


def momentum_steps(f: Functions, alpha: float, beta: float, mode: str, norm_coefficient: float) -> tuple[Step, ...]:
    """Of Momentum: the new tensor, and its averaged gradient."""

    def speed(r: Any, t: Any, x: Any, g: Any, v: Any) -> Any:
        return alpha * v + f.either(t > 0.0, beta, 1.0) * (norm_coefficient * x + g)

    def new(r: Any, t: Any, x: Any, g: Any, v: Any) -> Any:
        ahead = speed(r, t, x, g, v)
        return x - r * (ahead if mode == "standard" else norm_coefficient * x + g + alpha * ahead)

    return new, speed


def adam_steps(
    f: Functions, alpha: float, beta: float, epsilon: float, norm_coefficient: float, norm_coefficient_post: float
) -> tuple[Step, ...]:
    """Of Adam: the new tensor, its averaged gradient and its averaged squared gradient."""

    def first(r: Any, t: Any, x: Any, g: Any, v: Any, h: Any) -> Any:
        return alpha * v + (1 - alpha) * (norm_coefficient * x + g)

    def second(r: Any, t: Any, x: Any, g: Any, v: Any, h: Any) -> Any:
        slope = norm_coefficient * x + g
        return beta * h + (1 - beta) * slope * slope

    def new(r: Any, t: Any, x: Any, g: Any, v: Any, h: Any) -> Any:
        later = f.either(t > 0.0, t, 1.0)  # what is not chosen must be a number too, for its derivative
        young = f.root(1.0 - f.power(beta, later)) / (1.0 - f.power(alpha, later))
        step = f.either(t > 0.0, r * young, r)
        moved = x - step * first(r, t, x, g, v, h) / (f.root(second(r, t, x, g, v, h)) + epsilon)
        return (1 - norm_coefficient_post) * moved

    return new, first, second


STEPS: Mapping[str, Callable[..., tuple[Step, ...]]] = {"Adagrad": adagrad_steps, "Momentum": momentum_steps, "Adam": adam_steps}
"""The formulas of each operator: of the new tensor, then of its new states."""


def groups(tensors: Sequence[T], size: int) -> list[Sequence[T]]:
    """What belongs to each optimised tensor: they come as all tensors, then all gradients, then all states."""
    count = len(tensors) // size
    return [tensors[k::count] for k in range(count)]


_EXPRESSIONS = Functions(
    lambda x: e.unary("sqrt", x),
    lambda base, x: e.binary("pow", base, x),
    lambda condition, a, b: where(condition, e.cast(a, F64), e.cast(b, F64)),
)


def _update(b: Builder, rate: Tensor, time: Tensor, tensors: tuple[Tensor, ...], steps: tuple[Step, ...]) -> tuple[Tensor, ...]:
    """What the steps make of every group, in float64."""
    size = 1 + len(steps)
    if len(tensors) % size:
        b.fail(f"{len(tensors)} tensors are not {size} for each that is optimised")

    def element(step: Step) -> Callable[..., Expr]:
        return lambda *values: step(*(e.cast(v, F64) for v in values))

    return tuple(b.map(element(step), rate, time, *group, dtype=group[0].dtype) for step in steps for group in groups(tensors, size))


@op("Adagrad", since=1, domain=TRAINING)
def adagrad(
    b: Builder, rate: Tensor, time: Tensor, *tensors: Tensor, decay_factor: float, epsilon: float, norm_coefficient: float
) -> tuple[Tensor, ...]:
    """Gradients divided by the root of the sum of all squared gradients so far."""
    return _update(b, rate, time, tensors, adagrad_steps(_EXPRESSIONS, decay_factor, epsilon, norm_coefficient))


@op("Momentum", since=1, domain=TRAINING)
def momentum(
    b: Builder, rate: Tensor, time: Tensor, *tensors: Tensor, alpha: float, beta: float, mode: str, norm_coefficient: float
) -> tuple[Tensor, ...]:
    """Gradients averaged over time, looked ahead by one step in Nesterov's mode."""
    if mode not in ("standard", "nesterov"):
        b.fail(f"mode must be standard or nesterov, not {mode!r}")
    return _update(b, rate, time, tensors, momentum_steps(_EXPRESSIONS, alpha, beta, mode, norm_coefficient))


@op("Adam", since=1, domain=TRAINING)
def adam(
    b: Builder, rate: Tensor, time: Tensor, *tensors: Tensor, alpha: float, beta: float, epsilon: float, norm_coefficient: float,
    norm_coefficient_post: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Averaged gradients divided by the root of averaged squared gradients."""
    steps = adam_steps(_EXPRESSIONS, alpha, beta, epsilon, norm_coefficient, norm_coefficient_post)
    return _update(b, rate, time, tensors, steps)
