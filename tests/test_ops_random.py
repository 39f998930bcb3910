"""Random operators: distribution, seeds, dtype and shape, all that a test can say of them; and a case that onnx cannot compare."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from node_cases import CASES, value
from onnx import TensorProto, helper, parser

from onnx_numba import backend
from onnx_numba.runtime import hosts_random
from onnx_numba.runtime.hosts_random import _passed

N = 20_000


def bernoulli(dtype: int | None = None, element: int = TensorProto.FLOAT, **attributes):
    node = helper.make_node("Bernoulli", ["p"], ["y"], **({} if dtype is None else {"dtype": dtype}), **attributes)
    given = helper.make_tensor_value_info("p", element, ["n"])
    out = helper.make_tensor_value_info("y", element if dtype is None else dtype, ["n"])
    graph = helper.make_graph([node], "draws", [given], [out])
    return backend.prepare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10))


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_bernoulli_draws_with_the_given_probability(p: float) -> None:
    drawn = bernoulli().run(np.full(N, p, np.float32)).y
    assert set(np.unique(drawn)) <= {0.0, 1.0}
    # Six standard deviations of the mean of N draws.
    assert abs(drawn.mean() - p) <= 6 * (p * (1 - p) / N) ** 0.5


def test_bernoulli_takes_each_elements_own_probability() -> None:
    p = np.zeros(N, np.float32)
    p[::2] = 1
    np.testing.assert_array_equal(bernoulli().run(p).y, p)


@pytest.mark.parametrize("number", [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.BOOL, TensorProto.UINT8])
def test_bernoulli_gives_the_type_asked_for(number: int) -> None:
    drawn = bernoulli(number).run(np.full(100, 0.5, np.float32)).y
    assert (drawn.dtype, drawn.shape) == (helper.tensor_dtype_to_np_dtype(number), (100,))


def test_bernoulli_keeps_the_type_of_its_input() -> None:
    assert bernoulli(element=TensorProto.DOUBLE).run(np.full(10, 0.5)).y.dtype == np.float64


def test_a_seed_repeats_and_no_seed_does_not() -> None:
    p = np.full(1000, 0.5, np.float32)
    seeded, other, free = bernoulli(seed=3.0), bernoulli(seed=4.0), bernoulli()
    np.testing.assert_array_equal(seeded.run(p).y, bernoulli(seed=3.0).run(p).y)
    assert (seeded.run(p).y != other.run(p).y).any()
    assert (free.run(p).y != free.run(p).y).any()


@pytest.mark.parametrize("kind", ["float", "double", "float16"])
@pytest.mark.parametrize("op", ["RandomNormal<shape = [20000], mean = 2.0, scale = 3.0, D>()", "RandomUniform<shape = [20000], D>()"])
def test_moments(op: str, kind: str) -> None:
    number = {"float": TensorProto.FLOAT, "double": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16}[kind]
    text = f'<ir_version: 10, opset_import: ["" : 22]> r () => ({kind}[n] y) {{ y = {op.replace("D", f"dtype = {number}")} }}'
    drawn = backend.prepare(parser.parse_model(text)).run([]).y
    assert drawn.dtype == helper.tensor_dtype_to_np_dtype(number)
    drawn = drawn.astype(np.float64)
    mean, deviation = (2.0, 3.0) if "Normal" in op else (0.5, 12**-0.5)
    assert abs(drawn.mean() - mean) <= 6 * deviation / N**0.5
    assert drawn.std() == pytest.approx(deviation, rel=0.05)


def test_loop16_seq_none() -> None:
    """A sequence that grows in a loop; onnx's own comparison fails on its elements, which have no axes."""
    case = CASES["test_loop16_seq_none"]
    for inputs, outputs in case.data_sets:
        (got,) = backend.prepare(case.model).run([value(given) for given in inputs])
        wanted = value(outputs[0])
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert isinstance(one, np.ndarray)
            assert (one.dtype, one.shape) == (np.asarray(other).dtype, np.asarray(other).shape)
            np.testing.assert_array_equal(one, other)
    assert isinstance(case.model, onnx.ModelProto)


def test_a_range_may_be_wider_than_a_float() -> None:
    text = '<ir_version: 10, opset_import: ["" : 22]> r () => (float[n] y) { y = RandomUniform<shape = [99], low = -3e38, high = 3e38>() }'
    assert np.isfinite(backend.prepare(parser.parse_model(text)).run([]).y).all()


@pytest.mark.parametrize("seed", ["", ", seed = 3.0"])
def test_multinomial_draws_classes_by_their_probabilities(seed, monkeypatch):
    text = f"""<ir_version: 10, opset_import: ["" : 22]>
        draws (float[2, 5] x) => (int32[2, N] y) {{ y = Multinomial<sample_size = {N}{seed}>(x) }}"""
    chances = np.array([[0.1, 0.0, 0.2, 0.7, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0]], np.float32)
    with np.errstate(divide="ignore"):
        scores = np.log(chances) + np.float32([[3], [-80]])
    rep = backend.prepare(parser.parse_model(text))
    (first,), (second,) = rep.run([scores]), rep.run([scores])
    assert first.shape == (2, N) and first.dtype == np.int32
    monkeypatch.setattr(hosts_random, "FEW_ROWS", 0)
    assert not seed or (rep.run([scores])[0] == first).all()
    assert (first == second).all() == bool(seed)
    for row, wanted in zip(first, chances, strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=5) / N, wanted, atol=0.02)
        assert not np.isin(row, np.flatnonzero(wanted == 0)).any()


def test_multinomial_counts_the_bounds_that_a_draw_has_reached():
    random = np.random.default_rng(0)
    for rows, classes, samples in [(3, 1, 5), (4, 7, 100), (2, 1000, 50), (5, 64, 9), (0, 3, 2), (3, 5, 0)]:
        bounds = np.cumsum(random.random((rows, classes)), axis=1)
        draws = random.random((rows, samples)) * bounds[:, -1:] * 1.01
        assert (_passed(bounds, draws) == (draws[:, :, None] >= bounds[:, None, :]).sum(axis=2)).all()
