"""Random numbers, and Dropout, which needs them in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import BOOL, BY_ONNX, F32, I32, STRING, DType, TensorType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import shape_of, tensor_type
from onnx_numba.ops.registry import op


def _dtype(b: Builder, number: int | None, default: DType) -> DType:
    if number is None:
        return default
    if number not in BY_ONNX:
        b.unsupported(f"element type number {number} is not supported")
    return BY_ONNX[number]


def _like(b: Builder, number: int | None, x: Tensor | Object) -> DType:
    """The type that is asked for, else the input's, which strings do not have."""
    if number is None and isinstance(x, Object):
        if isinstance(x.type, TensorType) and x.type.dtype is not STRING:
            b.deferred_type("the rank of the input must be known before the run")
        b.fail(f"dtype is needed for an input of type {x.type}")
    return _dtype(b, number, BOOL if isinstance(x, Object) else x.dtype)


def _draw(b: Builder, step: str, inputs: list[Any], dtype: DType, shape: Any, **params: Any) -> Any:
    if any(isinstance(x, int) and x < 0 for x in shape or ()):
        b.fail(f"shape {list(shape)} has a negative dim")
    return b.host(step, inputs, [tensor_type(dtype, shape)], dtype=dtype.name, shape=shape if not inputs else None, **params)


@op("RandomNormal", since=1, reviewed=22)
def random_normal(
    b: Builder, *, dtype: int, mean: float, scale: float, shape: tuple[int, ...], seed: float | None = None
) -> Any:
    """Normally distributed numbers of a fixed shape."""
    return _draw(b, "random_normal", [], _dtype(b, dtype, F32), tuple(shape), mean=mean, scale=scale, seed=seed)


@op("RandomUniform", since=1, reviewed=22)
def random_uniform(
    b: Builder, *, dtype: int, high: float, low: float, shape: tuple[int, ...], seed: float | None = None
) -> Any:
    """Evenly distributed numbers of a fixed shape."""
    return _draw(b, "random_uniform", [], _dtype(b, dtype, F32), tuple(shape), low=low, high=high, seed=seed)


@op("RandomNormalLike", since=1, reviewed=22)
def random_normal_like(
    b: Builder, x: Tensor | Object, *, mean: float, scale: float, dtype: int | None = None, seed: float | None = None
) -> Any:
    """Normally distributed numbers of a tensor's shape."""
    return _draw(b, "random_normal", [x], _like(b, dtype, x), shape_of(x), mean=mean, scale=scale, seed=seed)


@op("RandomUniformLike", since=1, reviewed=22)
def random_uniform_like(
    b: Builder, x: Tensor | Object, *, high: float, low: float, dtype: int | None = None, seed: float | None = None
) -> Any:
    """Evenly distributed numbers of a tensor's shape."""
    return _draw(b, "random_uniform", [x], _like(b, dtype, x), shape_of(x), low=low, high=high, seed=seed)


@op("Bernoulli", since=15, reviewed=22)
def bernoulli(b: Builder, x: Tensor, *, dtype: int | None = None, seed: float | None = None) -> Any:
    """1 with given probabilities, else 0."""
    return _draw(b, "bernoulli", [x], _dtype(b, dtype, x.dtype), x.shape, seed=seed)


@op("Multinomial", since=7, reviewed=22)
def multinomial(b: Builder, x: Tensor, *, dtype: int, sample_size: int, seed: float | None = None) -> Any:
    """Classes drawn by unnormalised logarithms of probabilities."""
    if x.rank != 2:
        b.fail(f"scores of rank 2 are expected, of rank {x.rank} came")
    b.require_elements(x.shape[1], x.shape[0], "the axis of classes")
    return _draw(b, "multinomial", [x], _dtype(b, dtype, I32), (x.shape[0], sample_size), samples=sample_size, seed=seed)


# ---- dropout


@op("Dropout", since=12, reviewed=22)
def dropout(
    b: Builder, x: Tensor, ratio: Tensor | None = None, training_mode: Tensor | None = None, *, seed: int | None = None
) -> Any:
    """The input itself unless training, which only the run may know."""
    training, rate = b.constant(training_mode), b.constant(ratio)
    still = training is not None and not bool(training.reshape(-1)[0])
    if training_mode is None or still or (rate is not None and float(rate.reshape(-1)[0]) == 0):
        return x, b.full(x.shape, True, BOOL)
    types = [tensor_type(x.dtype, x.shape), tensor_type(BOOL, x.shape)]
    return b.host("dropout", [x, ratio, training_mode], types, seed=seed)


@op("Dropout", since=10)
def dropout_10(b: Builder, x: Tensor, *, ratio: float) -> Any:
    """Version 10: inference only."""
    return x, b.full(x.shape, True, BOOL)


@op("Dropout", since=1, reviewed=7)
def dropout_1(b: Builder, x: Tensor, *, ratio: float, is_test: int = 1, consumed_inputs: Any = None) -> Any:
    """Versions 1 to 7, whose mask has the input's type; before version 7 nodes train unless they say that they do not."""
    if not is_test and ratio > 0:
        rate, training = b.weight(np.array(ratio, np.float32)), b.weight(np.array(True))
        y, mask = b.host("dropout", [x, rate, training], [tensor_type(x.dtype, x.shape), tensor_type(BOOL, x.shape)], seed=None)
        return y, b.cast(mask, x.dtype)
    return x, b.full(x.shape, 1, x.dtype)
