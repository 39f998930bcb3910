"""Reductions over a few elements, which are written out as maps of as many terms."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from onnx_numba import backend

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
AXIS = "<int64[1] axes = {%d}>"


def calls(rep) -> list[str]:
    plan = rep._prepared.session.plan
    return [plan.kernels[item[1]].name for item in plan.code if item[0] == "call"]


def check(text: str, *inputs: np.ndarray, rtol: float = 2e-6, atol: float = 1e-6, kernels: int | None = None):
    model = parser.parse_model(HEAD + text)
    one, two = (backend.prepare(model, num_threads=n) for n in (1, 2))
    names = [i.name for i in model.graph.input]
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    got = one.run(list(inputs))
    for ours, theirs, other in zip(got, expected, two.run(list(inputs)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours.astype(np.float64), np.asarray(theirs, np.float64), rtol=rtol, atol=atol)
        np.testing.assert_array_equal(ours, other)
    if kernels is not None:
        assert len(calls(one)) == kernels, calls(one)
    return got


def normal(*shape: int, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def test_magnitudes_are_one_kernel():
    text = "g (float[N,T,F,2] x, float[F,1] w) => (float[N,T,F] y) " + AXIS % -1 + (
        " { a=Mul(x,w) b=Mul(a,a) s=ReduceSum<keepdims=0>(b,axes) y=Sqrt(s) }"
    )
    for shape in ((1, 5, 309), (3, 7, 1), (2, 1, 33), (0, 4, 4)):
        check(text, normal(*shape, 2), normal(shape[2], 1), kernels=1)


def test_read_in_another_order():
    text = "g (float[N,T,F,2] x) => (float[N,F,T] y) " + AXIS % 3 + (
        " { b=Mul(x,x) s=ReduceSum<keepdims=0>(b,axes) t=Transpose<perm=[0,2,1]>(s) y=Log(t) }"
    )
    check(text, normal(2, 40, 70, 2), kernels=1)


FOLDS = ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"]
OF_FLOATS = [*FOLDS, "ReduceMean", "ReduceL2", "ReduceLogSumExp"]
KINDS = [(kind, "int32") for kind in FOLDS] + [(kind, dtype) for kind in OF_FLOATS for dtype in ("float", "double", "float16")]


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_kinds_and_types(kind, dtype):
    numpy_type = {"float": np.float32, "double": np.float64, "float16": np.float16, "int32": np.int32}[dtype]
    x = (4 * normal(3, 2, 50, 3)).astype(numpy_type)
    for axes in ("1", "3", "1, 3"):
        count = len(axes.split(","))
        text = f"g ({dtype}[N,2,M,3] x) => ({dtype}{'[N,M,K]' if count == 1 else '[N,M]'} y) <int64[{count}] axes = {{{axes}}}>"
        text = text.replace("[N,M,K]", "[N,M,3]" if axes == "1" else "[N,2,M]")
        atol = 1e-2 if dtype == "float16" else 1e-6  # the reference rounds each partial sum
        check(text + f" {{ s={kind}<keepdims=0>(x,axes) y=Neg(s) }}", x, atol=atol, rtol=4e-3 if dtype == "float16" else 2e-6)


def test_given_and_read_twice():
    text = "g (float[N,M,4] x) => (float[N,M] s, float[N,M] y) " + AXIS % -1 + (
        " { s=ReduceSum<keepdims=0>(x,axes) t=Relu(s) u=Exp(s) y=Add(t,u) }"
    )
    check(text, normal(5, 1000, 4))


def test_odd_numbers():
    text = "g (float[N,2] x) => (float[N] y, float[N] z) " + AXIS % -1 + (
        " { y=ReduceSum<keepdims=0>(x,axes) z=ReduceMax<keepdims=0>(x,axes) }"
    )
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, 3e38, 1e-45], np.float32)
    x = np.stack(np.meshgrid(odd, odd), -1).reshape(-1, 2)
    total, greatest = check(text, x)
    assert not np.signbit(total[(x == 0).all(1)]).any()
    np.testing.assert_array_equal(np.isnan(greatest), np.isnan(x).any(1))


def test_rows_that_are_read_again_stay_one_kernel():
    for node in ("Softmax<axis=-1>(x)", "LogSoftmax<axis=-1>(x)"):
        check(f"g (float[N,2] x) => (float[N,2] y) {{ y={node} }}", normal(300, 2), kernels=1)
    text = "g (float[N,3] x) => (float[N,3] y) " + AXIS % -1 + (
        " { m=ReduceMean<keepdims=1>(x,axes) c=Sub(x,m) q=Mul(c,c) v=ReduceMean<keepdims=1>(q,axes) d=Sqrt(v) y=Div(c,d) }"
    )
    check(text, normal(200, 3), kernels=1, rtol=1e-4)


def test_products_of_little_depth():
    check("g (float[N,M,3] x, float[3,70] w) => (float[N,M,70] y) { y=MatMul(x,w) }", normal(2, 9, 3), normal(3, 70), rtol=1e-5)
    check("g (float[N,M,2] x) => (float[N,M,1] y) <float[2,1] w = {1.5,-2.0}> { y=MatMul(x,w) }", normal(2, 9, 2), rtol=1e-5)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_distances_of_points(depth):
    text = f"g (float[N,1,{depth}] x, float[1,M,{depth}] z) => (float[N,M] y) " + AXIS % -1 + (
        " { a=Sub(x,z) b=Mul(a,a) s=ReduceSum<keepdims=0>(b,axes) y=Sqrt(s) }"
    )
    check(text, normal(30, 1, depth), normal(1, 70, depth)[:, ::-1].copy(), kernels=1)


def test_a_result_that_is_read_in_many_ways():
    """Each gate doubles the ways from the sum to the end, of which none is gone twice."""
    gates = " ".join(f"s{k}=Sigmoid(v{k}) v{k + 1}=Mul(v{k},s{k})" for k in range(24))
    text = f"g (float[N,2] x) => (float[N] v24) {AXIS % -1} {{ v0=ReduceSum<keepdims=0>(x,axes) {gates} }}"
    check(text, normal(5, 2))
