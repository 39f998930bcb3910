"""Concatenations whose parts are written where they belong."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from onnx_numba import backend
from onnx_numba.errors import ExecutionError

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
RANDOM = np.random.default_rng(0)


def model(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    made = parser.parse_model(HEAD + text)
    made.graph.initializer.extend(numpy_helper.from_array(w, name) for name, w in weights.items())
    return made


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def plan(rep):
    return rep._prepared.session.plan


def kernels(rep) -> list[str]:
    return [plan(rep).kernels[item[1]].name for item in plan(rep).code if item[0] == "call"]


def copies(rep) -> list[str]:
    return [name for name in kernels(rep) if name.startswith("concat")]


def check(made: onnx.ModelProto, inputs: list[np.ndarray], jit: bool, threads: int = 1):
    rep = backend.prepare(made, jit=jit, num_threads=threads)
    expected = ReferenceEvaluator(made).run(None, dict(zip((i.name for i in made.graph.input), inputs, strict=True)))
    for _ in range(2):  # blocks of the first run are those of the second
        for got, wanted in zip(rep.run(inputs), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    return rep


BLOCK = "a=Conv<pads=[1,1,1,1]>(x,v) b=Concat<axis=1>(x1,a) c=Relu(b) d=Conv<pads=[1,1,1,1]>(c,w) e=Concat<axis=1>(b,d) "


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize(("batch", "copied"), [(1, 0), (2, 1)])
def test_a_dense_block_copies_nothing(jit, batch, copied):
    text = f"g (float[{batch},3,9,7] x) => (float[{batch},12,9,7] y) {{ x1=Softmax<axis=2>(x) {BLOCK} y=Softmax<axis=3>(e) }}"
    made = model(text, v=normal(4, 3, 3, 3), w=normal(5, 7, 3, 3))
    rep = check(made, [normal(batch, 3, 9, 7)], jit, threads=2)
    assert len(copies(rep)) == copied


@pytest.mark.parametrize("jit", [True, False])
def test_what_the_caller_is_given_takes_its_parts_in_place(jit):
    text = f"g (float[1,3,9,7] x) => (float[1,12,9,7] e) {{ x1=Softmax<axis=2>(x) {BLOCK} }}"
    rep = check(model(text, v=normal(4, 3, 3, 3), w=normal(5, 7, 3, 3)), [normal(1, 3, 9, 7)], jit)
    assert not copies(rep)
    assert [item[0] for item in plan(rep).code].count("alloc") == 1  # what the second convolution reads


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("pair", ["Concat<axis=1>(p,p)", "Concat<axis=1>(p,q)", "Concat<axis=-3>(q,p)"])
def test_a_value_that_lies_in_two_places_is_copied_to_one(jit, pair):
    text = (
        "g (float[1,3,8,8] x) => (float[1,6,4,4] z, float[1,6,4,4] y) {"
        f"p=MaxPool<kernel_shape=[2,2],strides=[2,2]>(x) q=Softmax<axis=3>(p) a={pair} z=Relu(a) "
        "b=Concat<axis=1>(q,p) y=Softmax<axis=2>(b) }"
    )
    check(model(text), [normal(1, 3, 8, 8)], jit)


@pytest.mark.parametrize("jit", [True, False])
def test_what_the_caller_is_given_has_memory_of_its_own(jit):
    text = (
        "g (float[1,3,8] x) => (float[1,3,8] p, float[1,6,8] z) {"
        "p=Softmax<axis=2>(x) q=Softmax<axis=1>(p) a=Concat<axis=1>(p,q) z=Relu(a) }"
    )
    check(model(text), [normal(1, 3, 8)], jit)


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_sizes_that_inputs_tell(jit, rows):
    text = (
        "g (float[1,N,6] x, float[1,M,6] w) => (float[1,K,6] y) {"
        "p=Softmax<axis=2>(x) q=Softmax<axis=2>(w) a=Concat<axis=1>(p,q) b=Softmax<axis=2>(a) c=Concat<axis=1>(b,a) y=Softmax<axis=2>(c) }"
    )
    rep = check(model(text), [normal(1, rows, 6), normal(1, 4, 6)], jit)
    assert not copies(rep)


@pytest.mark.parametrize("jit", [True, False])
def test_parts_that_do_not_fit_are_refused_before_they_are_written(jit):
    text = (
        "g (float[1,2,N] x, float[1,3,M] w) => (float[1,5,N] y) {"
        "p=Softmax<axis=1>(x) q=Softmax<axis=1>(w) a=Concat<axis=1>(p,q) y=Softmax<axis=1>(a) }"
    )
    rep = check(model(text), [normal(1, 2, 4), normal(1, 3, 4)], jit)
    with pytest.raises(ExecutionError):
        rep.run([normal(1, 2, 4), normal(1, 3, 4000)])


@pytest.mark.parametrize("jit", [True, False])
def test_a_whole_is_not_read_by_the_kernel_that_writes_a_part(jit):
    text = (
        "g (float[1,4,8] x) => (float[1,4,8] y) { p=Softmax<axis=2>(x) q=Softmax<axis=1>(x) a=Concat<axis=1>(p,q)"
        "s=Constant<value_ints=[4]>() e=Constant<value_ints=[8]>() o=Constant<value_ints=[1]>() h=Slice(a,s,e,o) y=Add(p,h) }"
    )
    check(model(text), [normal(1, 4, 8)], jit)


@pytest.mark.parametrize("jit", [True, False])
def test_the_body_of_a_loop_puts_parts_together(jit):
    text = """g (float[1,3,8] h, float[5,1,2,8] x) => (float[1,3,8] last, float[5,1,5,8] all) {
        last, all = Scan <num_scan_inputs=1, body = b (float[1,3,8] s, float[1,2,8] r) => (float[1,3,8] t, float[1,5,8] u) {
            p=Softmax<axis=2>(s) q=Softmax<axis=1>(r) u=Concat<axis=1>(p,q)
            k=Constant<value_ints=[1]>() e=Constant<value_ints=[4]>() o=Constant<value_ints=[1]>() t=Slice(u,k,e,o) }> (h, x) }"""
    check(model(text), [normal(1, 3, 8), normal(5, 1, 2, 8)], jit)
