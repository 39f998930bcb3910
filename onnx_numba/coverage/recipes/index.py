"""Gathers, scatters and what they are close to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_numba.coverage.case import Case, Const, Draft
from onnx_numba.coverage.recipes import recipe


@recipe("Gather")
def gather(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4), np.array([[0, 2], [1, 1]], np.int64))
    yield c.make(c.real(3, 4), np.array([3, 0], np.int64), name="axis=1", axis=1)
    if c.version >= 11:
        yield c.make(c.real(3, 4), np.array([-1, 0], np.int64), name="negative", axis=-1)


@recipe("GatherElements")
def gather_elements(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 3), np.array([[0, 2, 1], [1, 1, -1]], np.int64))
    yield c.make(c.real(3, 3), np.array([[0, 2], [1, 1], [0, -3]], np.int64), name="axis=1", axis=1)


@recipe("GatherND")
def gather_nd(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3, 4), np.array([[0, 2], [1, -1]], np.int64))
    yield c.make(c.real(2, 3, 4), np.array([[[0]], [[1]]], np.int64), name="partial")
    if c.has("batch_dims"):
        yield c.make(c.real(2, 3, 4), np.array([[2], [0]], np.int64), name="batch_dims=1", batch_dims=1)


@recipe("Scatter", "ScatterElements")
def scatter_elements(c: Draft) -> Iterator[Case]:
    indices = np.array([[0, 2, 1], [1, 1, 0]], np.int64)
    yield c.make(c.real(3, 3), indices, c.real(2, 3))
    yield c.make(c.real(2, 5), np.array([[1, 4], [-1 if c.version >= 11 else 3, 0]], np.int64), c.real(2, 2), name="axis=1", axis=1)
    for reduction in _reductions(c):
        yield c.make(c.real(3, 3), indices, c.real(2, 3), name=reduction, reduction=reduction)
        yield c.make(c.real(3, 3), np.zeros((2, 3), np.int64), c.real(2, 3), name=f"{reduction} twice", reduction=reduction)


@recipe("ScatterND")
def scatter_nd(c: Draft) -> Iterator[Case]:
    indices = np.array([[2], [0]], np.int64)
    yield c.make(c.real(3, 4), indices, c.real(2, 4))
    yield c.make(c.real(3, 4), np.array([[2, 1], [0, -1]], np.int64), c.real(2), name="elements")
    for reduction in _reductions(c):
        yield c.make(c.real(3, 4), np.array([[2], [2]], np.int64), c.real(2, 4), name=reduction, reduction=reduction)


def _reductions(c: Draft) -> tuple[str, ...]:
    if not c.has("reduction"):
        return ()
    return ("none", "add", "mul", "max", "min")[1 : 5 if c.version >= 18 else 3]


@recipe("TensorScatter")
def tensor_scatter(c: Draft) -> Iterator[Case]:
    past, update = c.real(2, 2, 4, 3), c.real(2, 2, 2, 3)
    yield c.make(past, update, np.array([1, 2], np.int64))
    yield c.make(past, update, name="at the start")
    yield c.make(past, update, np.array([3, 0], np.int64), name="circular", mode="circular")
    yield c.make(c.real(2, 4, 3), c.real(2, 1, 3), np.array([3, 0], np.int64), name="axis=1", axis=1)


@recipe("Compress")
def compress(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4), np.array([1.0, -1.0, 1.0]), axis=0)
    yield c.make(c.real(3, 4), np.array([-1.0, 1.0, 1.0]), name="axis=1", axis=1)
    yield c.make(c.real(2, 3), np.array([1.0, -1.0, 1.0, 1.0]), name="flat")
    if c.version >= 11:
        yield c.make(c.real(3, 4), np.array([-1.0, 1.0, 1.0]), name="axis=-1", axis=-1)


@recipe("Einsum")
def einsum(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3), c.real(3, 4), equation="ij,jk->ik")
    yield c.make(c.real(2, 3), name="sum", equation="ij->i")
    yield c.make(c.real(2, 3, 3), name="diagonal", equation="...ii->...i")
    yield c.make(c.real(2, 3), c.real(3, 4), name="implicit", equation="ij, jk")
    yield c.make(c.real(2, 3), c.real(3, 4), c.real(4), name="three", equation="ij,jk,k->i")


@recipe("NonMaxSuppression")
def non_max_suppression(c: Draft) -> Iterator[Case]:
    corners = np.array([[[0, 0, 1, 1], [0, 0.125, 1, 1.125], [0, 10, 1, 11], [0, 10.125, 1, 11.125], [0, 100, 1, 101]]])
    centers = np.array([[[0.5, 0.5, 1, 1], [0.5, 0.625, 1, 1], [0.5, 10.5, 1, 1], [0.5, 10.625, 1, 1], [0.5, 100.5, 1, 1]]])
    scores = np.array([[[0.875, 0.75, 0.625, 1.0, 0.25]]])
    limits = [Const(np.array([3], np.int64)), Const(np.array([0.5])), Const(np.array([0.5]))]
    yield c.make(corners, scores, *limits)
    yield c.make(centers, scores, *limits, name="centers", center_point_box=1)
    yield c.make(corners, scores, name="none asked for")
    yield c.make(corners, scores, np.array([2], np.int64), name="of the run")
