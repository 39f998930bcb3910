"""Steps that draw random numbers.

A step with a seed gives the same numbers in every run, from NumPy's legacy generator, whose streams never change; without one, other
numbers in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnx_numba.ir.types import DTYPES

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]

FEW_ROWS = 16
"""Rows of which each is searched on its own by Multinomial, which takes a microsecond; all together take some forty, and less for each."""


def _generator(params: Params) -> np.random.RandomState | np.random.Generator:
    seed = params.get("seed")
    return np.random.Generator(np.random.SFC64()) if seed is None else np.random.RandomState(int(seed) & 0xFFFFFFFF)


def _fractions(params: Params, shape: tuple[int, ...]) -> Array:
    """Numbers from 0 up to 1, evenly distributed."""
    generator = _generator(params)
    draw = generator.random_sample if isinstance(generator, np.random.RandomState) else generator.random
    return np.asarray(draw(shape))


def _as(values: Any, params: Params) -> Array:
    return np.asarray(values).astype(DTYPES[params["dtype"]].numpy, copy=False)


def random_normal(params: Params, like: Array | None = None) -> tuple[Array]:
    """Normally distributed numbers."""
    shape = params["shape"] if like is None else like.shape
    generator, mean, scale = _generator(params), params["mean"], params["scale"]
    if isinstance(generator, np.random.RandomState) or DTYPES[params["dtype"]].compute == "f64":  # the legacy one draws no float32
        return (_as(generator.normal(mean, scale, shape), params),)
    return (_moved(generator.standard_normal(shape, np.float32), mean, scale, params),)


def random_uniform(params: Params, like: Array | None = None) -> tuple[Array]:
    """Evenly distributed numbers."""
    shape = params["shape"] if like is None else like.shape
    generator, low, high = _generator(params), params["low"], params["high"]
    far = high - low > float(np.finfo(np.float32).max)
    if far or isinstance(generator, np.random.RandomState) or DTYPES[params["dtype"]].compute == "f64":
        return (_as(generator.uniform(low, high, shape), params),)
    return (_moved(generator.random(shape, np.float32), low, high - low, params),)


def _moved(drawn: Any, offset: float, factor: float, params: Params) -> Array:
    values = np.asarray(drawn)
    values *= np.float32(factor)
    values += np.float32(offset)
    return _as(values, params)


def bernoulli(params: Params, probability: Array) -> tuple[Array]:
    """1 with the given probabilities, else 0."""
    return (_as(_fractions(params, probability.shape) < probability.astype(np.float64), params),)


def multinomial(params: Params, scores: Array) -> tuple[Array]:
    """Classes drawn with probabilities of which the rows hold logarithms, up to a constant."""
    weights = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True).astype(np.float64))
    bounds = np.cumsum(weights, axis=1)
    draws = _fractions(params, (len(scores), params["samples"])) * bounds[:, -1:]
    if len(scores) <= FEW_ROWS:
        passed = [row.searchsorted(values, "right") for row, values in zip(bounds, draws, strict=True)]
        return (_as(np.minimum(np.array(passed, np.int64).reshape(draws.shape), scores.shape[1] - 1), params),)
    return (_as(np.minimum(_passed(bounds, draws), scores.shape[1] - 1), params),)


def _passed(bounds: Array, draws: Array) -> Array:
    """How many of a row's bounds, which ascend, each of its draws has reached.

    Examples
    --------
    >>> _passed(np.array([[1.0, 3.0, 4.0]]), np.array([[0.5, 1.0, 3.9, 4.0]])).tolist()
    [[0, 1, 2, 3]]
    """
    count = bounds.shape[1]
    rows, passed = np.arange(len(bounds))[:, None], np.zeros(draws.shape, np.int64)
    for bit in reversed(range(count.bit_length())):
        further = passed + (1 << bit)
        reached = (further <= count) & (bounds[rows, np.minimum(further, count) - 1] <= draws)
        passed = np.where(reached, further, passed)
    return passed


def dropout(params: Params, x: Array, ratio: Array | None, training: Array | None) -> tuple[Array, Array]:
    """Elements set to zero with a probability of ``ratio`` and scaled up otherwise, if training; and which were kept."""
    rate = 0.5 if ratio is None else float(ratio.reshape(-1)[0])
    if training is None or not bool(training.reshape(-1)[0]) or rate == 0:
        return x.copy(), np.ones(x.shape, np.bool_)
    kept = _fractions(params, x.shape) >= rate
    scale = 1 / (1 - rate) if rate < 1 else 0.0
    return (kept * x.astype(np.float64) * scale).astype(x.dtype), kept


_STEPS = (random_normal, random_uniform, bernoulli, multinomial, dropout)
HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {function.__name__: function for function in _STEPS}
"""The steps of this module by name."""
