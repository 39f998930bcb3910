"""Maps that convolutions compute of what they lay out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from onnx_numba import backend

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
RANDOM = np.random.default_rng(0)
NORMALISED = "a=Mul(x,s) b=Add(a,t) c=Relu(b) "


def model(channels: int, filters: int, size: tuple[int, int], body: str, batch=1, groups=1, taps=1, kind="float"):
    dtype = {"float": np.float32, "double": np.float64}[kind]
    shapes = {"s": (1, channels, 1, 1), "t": (channels, 1, 1), "w": (filters, channels // groups, taps, taps)}
    made = parser.parse_model(HEAD + f"g ({kind}[{batch},{channels},{size[0]},{size[1]}] x) => ({body}")
    made.graph.initializer.extend(numpy_helper.from_array(RANDOM.standard_normal(v).astype(dtype), k) for k, v in shapes.items())
    return made, RANDOM.standard_normal((batch, channels, *size)).astype(dtype)


def kernels(rep) -> int:
    return [item[0] for item in rep._prepared.session.plan.code].count("call")


def check(made: onnx.ModelProto, x: np.ndarray, calls: int, **options) -> list[np.ndarray]:
    rep = backend.prepare(made, **options)
    assert kernels(rep) == calls
    results = rep.run([x])
    for got, wanted in zip(results, ReferenceEvaluator(made).run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    return results


@pytest.mark.parametrize("kind", ["float", "double"])
@pytest.mark.parametrize("size", [(28, 28), (14, 14), (7, 7), (9, 13), (1, 30)])
@pytest.mark.parametrize(("channels", "filters", "groups", "batch"), [(70, 128, 1, 1), (310, 160, 1, 1), (40, 288, 2, 2)])
def test_a_normalisation_before_a_convolution_is_no_kernel(kind, size, channels, filters, groups, batch):
    text = f"{kind}[N,K,H,W] y) {{ {NORMALISED} d=Conv<group={groups}>(c,w) y=Relu(d) }}"
    made, x = model(channels, filters, size, text, batch, groups, kind=kind)
    one = check(made, x, 1, num_threads=1)
    two = check(made, x, 1, num_threads=2)
    assert one[0].tobytes() == two[0].tobytes()


@pytest.mark.parametrize("size", [(14, 14), (5, 7)])
def test_python_changes_the_same(size):
    made, x = model(20, 128, size, f"float[1,128,H,W] y) {{ {NORMALISED} y=Conv(c,w) }}")
    check(made, x, 1, jit=False)


def test_a_pool_may_end_what_a_map_begins():
    pool = "AveragePool<kernel_shape=[2,2],strides=[2,2]>(d)"
    made, x = model(64, 128, (28, 28), f"float[1,128,14,14] y) {{ {NORMALISED} d=Conv(c,w) y={pool} }}")
    check(made, x, 1, num_threads=2)


@pytest.mark.parametrize(
    ("body", "taps", "calls"),
    [
        ("float[N,K,H,W] y, float[N,C,H,W] c) { " + NORMALISED + "y=Conv(c,w) }", 1, 2),
        ("float[N,K,H,W] y, float[N,C,H,W] z) { " + NORMALISED + "y=Conv(c,w) z=Softmax<axis=3>(c) }", 1, 2),
        ("float[N,K,H,W] y) { " + NORMALISED + "y=Conv<pads=[1,1,1,1]>(c,w) }", 3, 2),
        ("float[N,K,H,W] y) { a=Transpose<perm=[0,1,3,2]>(x) c=Mul(a,x) y=Conv(c,w) }", 1, 2),
        ("float[N,K,H,W] y) { p=Mul(x,x) q=Sin(p) r=Cos(q) v=Sin(r) c=Mul(v,x) y=Conv(c,w) }", 1, 2),
    ],
    ids=["given", "read", "taps", "across", "costly"],
)
def test_what_others_read_or_costs_more_is_stored(body, taps, calls):
    made, x = model(32, 128, (14, 14), body, taps=taps)
    rep = backend.prepare(made)
    assert kernels(rep) >= calls
    for got, wanted in zip(rep.run([x]), ReferenceEvaluator(made).run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


def test_what_is_no_number_stays_so():
    made, x = model(24, 128, (14, 14), f"float[1,128,14,14] y) {{ {NORMALISED} y=Conv(c,w) }}")
    x[0, 3, 2, 5], x[0, 4, 7, 7] = np.nan, np.inf
    (got,) = backend.prepare(made).run([x])
    (wanted,) = ReferenceEvaluator(made).run(None, {"x": x})
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(wanted))
