"""Random graphs against onnxruntime, compiled and as plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from random_graphs import random_model

from onnx_numba import backend

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime gives the expected values")
SEEDS = 12
"""Each graph costs about a second of compiling; `python tests/random_graphs_many.py FIRST LAST` runs as many as one likes."""


def check(seed: int, **options) -> None:
    model, feed = random_model(seed)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)
    kept = {name: value.copy() for name, value in feed.items()}
    got = backend.prepare(model, **options).run(feed)
    for name, value in feed.items():
        np.testing.assert_array_equal(value, kept[name])
    for port, a, b in zip(model.graph.output, got, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, port.name
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5, err_msg=f"seed {seed}, output {port.name}")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_graph(seed):
    check(seed)


@pytest.mark.parametrize("seed", range(SEEDS, SEEDS + 12))
def test_random_graph_as_plain_python(seed):
    check(seed, jit=False)
