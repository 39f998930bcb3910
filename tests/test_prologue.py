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


STORED = {
    "given": ("float[N,K,H,W] y, float[N,C,H,W] c) { " + NORMALISED + "y=Conv(c,w) }", 2),
    "read by another": ("float[N,K,H,W] y, float[N,C,H,W] z) { " + NORMALISED + "y=Conv(c,w) z=Softmax<axis=3>(c) }", 2),
    "read by the end of the convolution": ("float[N,K,H,W] y) { " + NORMALISED + "d=Conv(c,w) e=Add(c,d) y=Relu(e) }", 2),
    "padded": ("float[N,K,H,W] y) { " + NORMALISED + "y=Conv<pads=[1,1,1,1]>(c,v) }", 2),
    "exchanged axes": ("float[N,K,H,W] y) { a=Transpose<perm=[0,1,3,2]>(x) c=Mul(a,x) y=Conv(c,w) }", 2),
    "costly": ("float[N,K,H,W] y) { p=Mul(x,x) q=Sin(p) r=Cos(q) o=Sin(r) c=Mul(o,x) y=Conv(c,w) }", 2),
    "depends on the place": ("float[N,K,H,W] y) { a=Trilu(x) c=Mul(a,s) y=Conv(c,w) }", 2),
    "a number per element": ("float[N,K,H,W] y) { a=Mul(x,plane) c=Relu(a) y=Conv(c,w) }", 2),
    "a number per image": ("float[N,K,H,W] y) { p=GlobalAveragePool(x) q=Sigmoid(p) c=Mul(x,q) y=Conv(c,w) }", 2),
    "its own element": ("float[N,K,H,W] y) { p=Gather<axis=3>(x,first) c=Sub(x,p) y=Conv(c,w) }", 2),
    "looked up": ("float[N,K,H,W] y) { p=Cast<to=7>(x) q=Clip(p,low,high) r=Gather(table,q) c=Mul(x,r) y=Conv(c,w) }", 2),
    "whole numbers": ("float[N,K,H,W] y) { p=Cast<to=7>(x) q=Div(p,high) r=Cast<to=1>(q) c=Mul(x,r) y=Conv(c,w) }", 2),
    "other channels": ("float[N,K,H,W] y) { a=Reshape(x,halves) b=Mul(a,half) c=Reshape(b,whole) y=Conv(c,w) }", 2),
    "of a matrix": ("float[N,C,H,K] y) { a=Neg(x) y=MatMul(a,rows) }", 2),
    "a part": ("float[N,K,H,W] y) { d=Conv(x,w) e=Relu(x) c=Concat<axis=1>(d,e) y=Conv(c,u) }", 3),
}


@pytest.mark.parametrize("size", [(14, 14), (7, 7)])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("body", "calls"), STORED.values(), ids=STORED)
def test_what_is_not_the_convolutions_alone_is_stored(body, calls, batch, size):
    made, x = model(32, 32, size, body, batch)
    constants = {
        "v": RANDOM.standard_normal((32, 32, 3, 3)).astype(np.float32), "u": RANDOM.standard_normal((32, 64, 1, 1)).astype(np.float32),
        "rows": RANDOM.standard_normal((size[1], 32)).astype(np.float32), "plane": RANDOM.standard_normal(size).astype(np.float32),
        "first": np.array([0]), "low": np.array(0), "high": np.array(3),
        "table": np.array([0.5, 2, -1, 3], np.float32), "half": RANDOM.standard_normal((1, 16, 1)).astype(np.float32),
        "halves": np.array([0, 16, -1]), "whole": np.array([-1, 32, *size]),
    }  # fmt: skip
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    rep = backend.prepare(made)
    assert kernels(rep) >= calls
    for got, wanted in zip(rep.run([x]), ReferenceEvaluator(made).run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [(14, 14), (7, 7)])
def test_numbers_that_the_run_computes_may_change_it(size):
    made, x = model(32, 64, size, "float[N,K,H,W] y) { p=ReduceMean(x,axes) c=Mul(x,p) d=Conv(c,w) y=Mul(d,d) }")
    made.graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3]), "axes"))
    check(made, x, 2, num_threads=2)


def test_the_end_of_the_convolution_may_read_what_the_map_is_made_of():
    made, x = model(128, 128, (28, 28), f"float[N,K,H,W] y) {{ {NORMALISED} d=Conv(c,w) y=Add(d,x) }}")
    check(made, x, 1, num_threads=2)


def test_what_is_no_number_stays_so():
    made, x = model(24, 128, (14, 14), f"float[1,128,14,14] y) {{ {NORMALISED} y=Conv(c,w) }}")
    x[0, 3, 2, 5], x[0, 4, 7, 7] = np.nan, np.inf
    (got,) = backend.prepare(made).run([x])
    (wanted,) = ReferenceEvaluator(made).run(None, {"x": x})
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(wanted))
