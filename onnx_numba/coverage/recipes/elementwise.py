"""Operators that go element by element."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onnx_numba.coverage.case import Array, Case, Const, Draft
from onnx_numba.coverage.recipes import matrices, recipe


@recipe("Log", "Sqrt", "Reciprocal")
def positive(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4, low=0.25))


@recipe("Acos", "Asin", "Atanh")
def within_one(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4, low=-0.875, high=0.875))


@recipe("Acosh")
def above_one(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4, low=1))


@recipe("Add", "Sub", "Mul", "And", "Or", "Xor", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
@recipe("BitwiseAnd", "BitwiseOr", "BitwiseXor", "StringConcat", "SwiGLU")
def binary(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4), c.real(3, 4))
    yield from _broadcasts(c)


def _broadcasts(c: Draft, **second: Any) -> Iterator[Case]:
    """Shapes that fit each other, as the version has it."""
    if c.schema.name == "SwiGLU":
        yield c.make(c.real(3, 4), c.real(3, 4), name="alpha", alpha=1.5)
    elif c.has("broadcast"):
        yield c.make(c.real(2, 3, 4), c.real(4, **second), name="suffix", broadcast=1)
        yield c.make(c.real(2, 3, 4), c.real(3, 4, **second), name="suffix2", broadcast=1)
        yield c.make(c.real(2, 3, 4), c.real(3, **second), name="axis=1", broadcast=1, axis=1)
        yield c.make(c.real(2, 3, 4), c.real(2, 3, **second), name="axis=0", broadcast=1, axis=0)
        yield c.make(c.real(2, 3, 4), c.real(2, **second), name="axis=-3", broadcast=1, axis=-3)
        yield c.make(c.real(2, 3, 4), c.real(3, 1, **second), name="ones", broadcast=1, axis=1)
        yield c.make(c.real(2, 3), c.real(**second), name="scalar", broadcast=1)
    else:
        yield c.make(c.real(2, 3, 4), c.real(3, 1, **second), name="broadcast")
        yield c.make(c.real(4, **second), c.real(2, 3, 1, **second), name="both")


@recipe("Div", "Mod")
def divided(c: Draft) -> Iterator[Case]:
    is_float = "float" in c.types["T"] or "double" in c.types["T"]
    fmod = 1 if c.schema.name == "Mod" and is_float else None
    yield c.make(c.real(3, 4), c.real(3, 4, low=0.25), fmod=fmod)
    if c.schema.name == "Mod":
        signs = np.array([-7, 7, -7, 7, 6, -6], np.int64), np.array([3, 3, -3, -3, 4, 4], np.int64)
        for given in (0, 1):
            yield c.make(*signs, name=f"signs,fmod={given}", types={"T": "tensor(int32)"}, fmod=given)
        if c.version >= 28:
            yield c.make(c.real(12), c.real(12, low=0.25), name="float,fmod=0", types={"T": "tensor(float)"})
    else:
        yield c.make(*(np.array(v, np.int64) for v in ([-7, 7, -7], [2, -2, -2])), name="truncates", types={"T": c.types["T"]})
        yield from _broadcasts(c, low=0.25)


@recipe("Pow")
def power(c: Draft) -> Iterator[Case]:
    exponents = np.array([[2, 1, 0, 3], [3, 2, 1, 2], [1, 0, 2, 3]], np.int64)
    yield c.make(c.real(3, 4, low=0.25), exponents)
    yield from _broadcasts(c, low=0, high=2)


@recipe("BitShift")
def shift(c: Draft) -> Iterator[Case]:
    counts = np.array([[0, 1, 2, 3], [7, 1, 0, 2], [1, 1, 2, 5]], np.int64)
    for direction in ("LEFT", "RIGHT"):
        yield c.make(c.real(3, 4), counts, name="" if direction == "LEFT" else direction, direction=direction)


@recipe("Max", "Min", "Sum", "Mean")
def variadic(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4), c.real(3, 4))
    yield c.make(c.real(3, 4), name="one")
    yield c.make(c.real(3, 4), c.real(3, 4), c.real(3, 4), c.real(3, 4), name="four")
    if c.version >= 8:
        yield c.make(c.real(2, 3, 4), c.real(3, 1), c.real(4), name="broadcast")


@recipe("Where")
def where(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4), c.real(3, 4), c.real(3, 4))
    yield c.make(c.real(3, 1), c.real(4), c.real(2, 1, 4), name="broadcast")


@recipe("Clip")
def clip(c: Draft) -> Iterator[Case]:
    if c.version < 11:
        yield c.make(c.real(3, 4), min=-0.5, max=0.75)
        yield c.make(c.real(3, 4), name="max", max=0.75)
        yield c.make(c.real(3, 4), name="none")
        return
    yield c.make(c.real(3, 4), *_bounds(0.25, 1.0))
    yield c.make(c.real(3, 4), None, _bounds(0.5)[0], name="max")
    yield c.make(c.real(3, 4), name="none")
    yield c.make(c.real(3, 4), *_bounds(1.0, -1.0), name="crossed")


def _bounds(*values: float) -> list[Array]:
    return [np.array(v, np.float64) for v in values]


@recipe("IsInf", "IsNaN")
def special(c: Draft) -> Iterator[Case]:
    values = np.array([0.0, np.inf, -np.inf, np.nan, 1.0, -2.0])
    yield c.make(values)
    if c.schema.name == "IsInf":
        yield c.make(values, name="negative", detect_positive=0)
        yield c.make(values, name="positive", detect_negative=0)
        yield c.make(values, name="neither", detect_negative=0, detect_positive=0)


@recipe("Round")
def rounded(c: Draft) -> Iterator[Case]:
    yield c.make(np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.25, 1.75, -0.0]))


@recipe("PRelu")
def prelu(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3, 4), c.real(3, 1) if c.version >= 7 else c.real(3))
    yield c.make(c.real(2, 3, 4), c.real(1), name="shared")


@recipe("Celu", "Elu", "LeakyRelu", "ThresholdedRelu", "Swish")
def alpha(c: Draft) -> Iterator[Case]:
    yield from matrices(c)
    yield c.make(c.real(3, 4), name="alpha", alpha=0.75)


@recipe("HardSigmoid")
def hard_sigmoid(c: Draft) -> Iterator[Case]:
    yield from matrices(c)
    yield c.make(c.real(3, 4), name="alpha,beta", alpha=0.5, beta=0.25)


@recipe("Selu")
def selu(c: Draft) -> Iterator[Case]:
    yield from matrices(c)
    yield c.make(c.real(3, 4), name="alpha,gamma", alpha=2.0, gamma=0.5)


@recipe("Shrink")
def shrink(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4))
    yield c.make(c.real(3, 4), name="bias", bias=0.5, lambd=1.0)


@recipe("Gelu")
def gelu(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4))
    yield c.make(c.real(3, 4), name="tanh", approximate="tanh")


@recipe("Cast")
def cast(c: Draft) -> Iterator[Case]:
    number = c.number("T2")
    name = next(key for key, value in _names().items() if value == number)
    options: list[dict[str, Any]] = [{}, {"saturate": 0}] if c.has("saturate") else [{}]
    for given in options:
        variant = ",".join(f"{k}={v}" for k, v in given.items())
        yield c.make(_castable(c), name=variant, to=name if c.version < 6 else number, **given)


@recipe("CastLike")
def cast_like(c: Draft) -> Iterator[Case]:
    yield c.make(_castable(c), c.real(1))


def _castable(c: Draft) -> Array:
    """Values of the first type; strings are the text of numbers."""
    values = np.array([[0.0, 1.0, 2.0, 0.5], [1.75, 3.0, 0.25, 1.5]])
    source, target = c.types["T1"], c.types["T2"]
    if source == "tensor(string)" and target != source:
        integral = "int" in target
        if target in ("tensor(int2)", "tensor(float8e8m0)"):
            values = np.clip(values, 0.0 if integral else 1.0, 1.0 if integral else 3.0)
        return np.array([[f"{int(v)}" if integral else f"{v}" for v in row] for row in values], object)
    if target == "tensor(int2)":
        values = np.minimum(values, 1.0)  # what lies beyond is undefined
    if source == "tensor(float8e8m0)":  # powers of two that the target has
        values = np.minimum(values, {"tensor(int2)": 0.0, "tensor(uint2)": 1.0}.get(target, 2.0))
    if "uint" not in source and not any(name in target for name in ("uint", "e8m0", "int2")):
        values = values * np.array([1, -1, 1, -1])
    return values


def _names() -> dict[str, int]:
    from onnx import TensorProto

    return dict(TensorProto.DataType.items())


@recipe("BitCast")
def bit_cast(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4), to=c.number("T2"))


@recipe("CumSum", "CumProd")
def cumulative(c: Draft) -> Iterator[Case]:
    axis = Const(np.array(1))
    yield c.make(c.real(3, 4), axis)
    for exclusive, reverse in ((1, 0), (0, 1), (1, 1)):
        yield c.make(c.real(3, 4), axis, name=f"exclusive={exclusive},reverse={reverse}", exclusive=exclusive, reverse=reverse)
    yield c.make(c.real(2, 3, 4), Const(np.array(-3)), name="axis=-3")
    yield c.make(c.real(3, 4), np.array(0), name="axis of the run")


@recipe("Bernoulli")
def bernoulli(c: Draft) -> Iterator[Case]:
    yield c.make(np.array([0.0, 1.0, 1.0, 0.0]), dtype=c.number("T2"))
    yield c.make(np.full(64, 0.5), name="like the input", types={"T2": c.types["T1"]})


@recipe("Dropout")
def dropout(c: Draft) -> Iterator[Case]:
    x = c.real(3, 4)
    if c.version < 12:
        testing = {"is_test": 1} if c.has("is_test") else {}
        yield c.make(x, ratio=0.25, **testing)
        yield c.make(x, name="mask", outputs=2, **testing)
        if testing:
            yield c.make(c.real(64), name="training", outputs=2, ratio=0.5)
        return
    yield c.make(x, np.array(0.25))
    yield c.make(x, name="mask", outputs=2)
    yield c.make(x, np.array(0.25), Const(np.array(False)), name="mask,ratio", outputs=2)
    yield c.make(c.real(64), np.array(0.5), Const(np.array(True)), name="training", outputs=2)
    yield c.make(x, np.array(0.0), Const(np.array(True)), name="training,ratio=0", outputs=2)
    yield c.make(c.real(64), None, Const(np.array(True)), name="training,default ratio", outputs=2)
    yield c.make(c.real(64), np.array(0.5), np.array(True), name="training of the run", outputs=2, seed=7)
