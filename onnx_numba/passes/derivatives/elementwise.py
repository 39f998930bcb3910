"""Derivatives of operators that work element by element, with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from onnx_numba.ir.types import DTYPES, F64, TensorType
from onnx_numba.passes.derivatives.table import Call, Rule, composed, rule
from onnx_numba.passes.derivatives.terms import Term

# An adjoint times the derivative, from the adjoint g, the input x and the result y.
_UNARY: dict[str, Callable[[Term, Term, Term], Term]] = {
    "Abs": lambda g, x, y: g * _f("Sign", x),
    "Acos": lambda g, x, y: -g / _f("Sqrt", 1 - x * x),
    "Acosh": lambda g, x, y: g / _f("Sqrt", x * x - 1),
    "Asin": lambda g, x, y: g / _f("Sqrt", 1 - x * x),
    "Asinh": lambda g, x, y: g / _f("Sqrt", x * x + 1),
    "Atan": lambda g, x, y: g / (x * x + 1),
    "Atanh": lambda g, x, y: g / (1 - x * x),
    "Cos": lambda g, x, y: -g * _f("Sin", x),
    "Cosh": lambda g, x, y: g * _f("Sinh", x),
    "Erf": lambda g, x, y: g * _f("Exp", -x * x) * (2 / math.sqrt(math.pi)),
    "Exp": lambda g, x, y: g * y,
    "Log": lambda g, x, y: g / x,
    "Neg": lambda g, x, y: -g,
    "Reciprocal": lambda g, x, y: -g * y * y,
    "Relu": lambda g, x, y: g.at(x > 0),
    "Sigmoid": lambda g, x, y: g * y * (1 - y),
    "Sin": lambda g, x, y: g * _f("Cos", x),
    "Sinh": lambda g, x, y: g * _f("Cosh", x),
    "Softplus": lambda g, x, y: g * _f("Sigmoid", x),
    "Softsign": lambda g, x, y: g / _square(_f("Abs", x) + 1),
    "Sqrt": lambda g, x, y: g / (y * 2),
    "Tan": lambda g, x, y: g * (y * y + 1),
    "Tanh": lambda g, x, y: g * (1 - y * y),
    "Identity": lambda g, x, y: g,
}


def _f(op: str, x: Term) -> Term:
    return x.writer(op, x)


def _square(x: Term) -> Term:
    return x * x


def _unary(function: Callable[[Term, Term, Term], Term]) -> Rule:
    return lambda c: [function(c.gs[0], c.xs[0], c.ys[0])]


UNARY: dict[str, Rule] = {op: _unary(function) for op, function in _UNARY.items()}


def _broadcast(function: Rule) -> Rule:
    """A rule of an operator that broadcasts: adjoints in the shape of the result become those of the inputs."""

    def summed(c: Call) -> Sequence[Term | None]:
        return [g and g.sum_to(x) for g, x in zip(function(c), c.xs, strict=False)]

    return summed


@rule("Add", since=7)
@_broadcast
def _add(c: Call) -> Sequence[Term | None]:
    return c.gs[0], c.gs[0]


@rule("Sub", since=7)
@_broadcast
def _sub(c: Call) -> Sequence[Term | None]:
    return c.gs[0], -c.gs[0]


@rule("Mul", since=7)
@_broadcast
def _mul(c: Call) -> Sequence[Term | None]:
    return c.gs[0] * c.xs[1], c.gs[0] * c.xs[0]


@rule("Div", since=7)
@_broadcast
def _div(c: Call) -> Sequence[Term | None]:
    return c.gs[0] / c.xs[1], -c.gs[0] * c.ys[0] / c.xs[1]


@rule("Pow", since=7)
@_broadcast
def _pow(c: Call) -> Sequence[Term | None]:
    g, y, x = c.gs[0], c.ys[0], c.xs[0]
    n = c.xs[1].cast_like(x)
    base = n * c.w("Pow", x, n - 1)
    # x ** 0 is 1 also at 0, and 0 ** n is 0 also for n near 0.
    exponent = y * _f("Log", x)
    return g * c.w("Where", n.equals(0), n.number(0), base), (g * c.w("Where", x.equals(0), x.number(0), exponent)).cast_like(c.xs[1])


@composed("Add", "Sub", "Mul", "Div", "Pow")
def _aligned(c: Call) -> Sequence[Term | None]:
    """Until opset 6 an attribute says where the second shape begins in the first, and the axes after it are broadcast."""
    x, y = c.xs
    axis = c.attribute("axis") if c.attribute("broadcast") else None
    if axis is not None:
        y = c.w("Unsqueeze", y, range(y.rank, x.rank - axis % max(x.rank, 1)))
    return [c.w(c.node.op, x, y)]


@rule("Mod", since=10)
@_broadcast
def _mod(c: Call) -> Sequence[Term | None]:
    # What is left of a after taking away b a whole number of times, which is constant almost everywhere.
    times = _f("Round", (c.xs[0] - c.ys[0]) / c.xs[1])
    return c.gs[0], -c.gs[0] * times


@rule("Sum")
@_broadcast
def _sum(c: Call) -> Sequence[Term | None]:
    return [c.gs[0]] * len(c.xs)


@rule("Mean")
@_broadcast
def _mean(c: Call) -> Sequence[Term | None]:
    return [c.gs[0] / len(c.xs)] * len(c.xs)


@rule("Max", "Min")
@_broadcast
def _extreme(c: Call) -> Sequence[Term | None]:
    """Inputs that share the extreme share its adjoint in equal parts."""
    hits = [x.equals(c.ys[0]) for x in c.xs]
    count = c.w("Sum", *(hit.cast_like(c.ys[0]) for hit in hits))
    return [(c.gs[0] / count).at(hit) for hit in hits]


@rule("Where")
@_broadcast
def _where(c: Call) -> Sequence[Term | None]:
    condition, g = c.xs[0], c.gs[0]
    return None, g.at(condition), c.w("Where", condition, g.number(0), g)


@rule("Clip")
def _clip(c: Call) -> Sequence[Term | None]:
    g, x, y, low, high = c.gs[0], c.xs[0], c.ys[0], c.x(1), c.x(2)
    # The upper limit holds for the lower one too.
    raised = x if low is None else c.w("Max", x, low)
    limits = [
        limit and g.at(c.w("And", y.equals(limit), beyond)).sum_to(limit)
        for limit, beyond in ((low, low and x < low), (high, high and raised > high))
    ]
    return g.at(x.equals(y)), *limits


@rule("LeakyRelu")
def _leaky_relu(c: Call) -> Sequence[Term | None]:
    return [c.w("Where", c.xs[0] < 0, c.gs[0] * c.attribute("alpha"), c.gs[0])]


@rule("PRelu", since=7)
@_broadcast
def _prelu(c: Call) -> Sequence[Term | None]:
    x, slope, g = *c.xs, c.gs[0]
    return c.w("Where", x < 0, g * slope, g), (g * x).at(x < 0)


@composed("PRelu")
def _prelu_1(c: Call) -> Sequence[Term | None]:
    """Until opset 6 the slope is one for all, or one for each channel."""
    x, slope = c.xs
    single = c.w.known.type_of(slope.name) == TensorType(slope.dtype, (1,))
    return [c.w("PRelu", x, c.w("Unsqueeze", slope, range(1, x.rank - 1)) if slope.rank == 1 < x.rank and not single else slope)]


@rule("ThresholdedRelu")
def _thresholded_relu(c: Call) -> Sequence[Term | None]:
    return [c.gs[0].at(c.xs[0] > c.attribute("alpha"))]


@rule("HardSigmoid")
def _hard_sigmoid(c: Call) -> Sequence[Term | None]:
    return [(c.gs[0] * c.attribute("alpha")).at(c.w("And", c.ys[0] > 0, c.ys[0] < 1))]


def _below(x: Term) -> Term:
    """exp(x) where x is negative, 1 elsewhere: never infinite."""
    return _f("Exp", x.writer("Min", x, x.number(0)))


@rule("Elu")
def _elu(c: Call) -> Sequence[Term | None]:
    x, g = c.xs[0], c.gs[0]
    return [c.w("Where", x > 0, g, g * _below(x) * c.attribute("alpha"))]


@rule("Celu")
def _celu(c: Call) -> Sequence[Term | None]:
    x, g = c.xs[0], c.gs[0]
    return [c.w("Where", x > 0, g, g * _below(x / c.attribute("alpha")))]


@rule("Selu")
def _selu(c: Call) -> Sequence[Term | None]:
    x, g = c.xs[0], c.gs[0] * c.attribute("gamma")
    return [c.w("Where", x > 0, g, g * _below(x) * c.attribute("alpha"))]


@rule("Cast", "CastLike")
def _cast(c: Call) -> Sequence[Term | None]:
    return [c.gs[0].cast_like(c.xs[0])]


@rule("BitCast")
def _bit_cast(c: Call) -> Sequence[Term | None]:
    """Bits that are numbers of one kind in both types change in proportion from each number to the next; others have nothing near."""
    (x,), (y,), (g,) = c.xs, c.ys, c.gs
    if x.dtype is y.dtype or (x.dtype.is_int and y.dtype.is_int):
        return [g]
    if not (x.dtype.is_float and y.dtype.is_float):
        return [x.filled(0)]
    w, bits = c.w, DTYPES[f"u{x.dtype.bits}"]
    number = w("BitCast", x, to=bits.onnx)

    def slope(bit: int) -> Term:
        """By the number whose bits differ in a low one, which has the same sign and mostly the same exponent."""
        near = w("BitwiseXor", number, np.array(bit, bits.numpy))
        rise, run = (w("Cast", w("BitCast", near, to=v.dtype.onnx), to=F64.onnx) - w("Cast", v, to=F64.onnx) for v in (y, x))
        return rise / run

    first, second = slope(1), slope(2)
    found = w("Where", w("IsNaN", first), second.at(w("Not", w("IsNaN", second))), first)
    return [(w("Cast", g, to=F64.onnx) * found).cast_like(x)]


@composed("DequantizeLinear")
def _dequantize_linear(c: Call) -> Sequence[Term | None]:
    """What is stored less the zero point, times the scale."""
    x = c.xs[0].cast_like(c.ys[0])
    zero = c.x(2)
    levels = x if zero is None else x - _parameter(c, zero.cast_like(x))
    return [levels * _parameter(c, c.xs[1].cast_like(x))]


def _parameter(c: Call, p: Term) -> Term:
    """A scale or zero point for broadcasting: one for all, for each position along an axis, or for blocks of these."""
    rank, x = c.xs[0].rank, c.xs[0]
    if p.rank == 0 or rank == 0:
        return p.reshaped([])
    axis, block = c.attribute("axis", 1) % rank, c.attribute("block_size", 0)
    if block:
        places = c.w("Range", np.array(0), c.w("Gather", x.shape, np.array(axis)), np.array(1))
        return c.w("Gather", p, c.w("Div", places, np.array(block)), axis=axis)
    return p if rank == 1 else c.w("Unsqueeze", p, [k for k in range(rank) if k != axis])


@rule("SumTo")
def _sum_to(c: Call) -> Sequence[Term | None]:
    return [c.w("Expand", c.gs[0], c.xs[0].shape)]
