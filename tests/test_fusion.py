"""Fusion by count, and the memory plan: what a person would expect one kernel to do, one kernel does."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper, parser

from onnx_numba import backend

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
RANDOM = np.random.default_rng(0)


def prepared(text: str, **options):
    return backend.prepare(parser.parse_model(HEAD + text), **options)


def calls(rep) -> list[str]:
    plan = rep._prepared.session.plan
    return [plan.kernels[item[1]].name for item in plan.code if item[0] == "call"]


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def check(rep, inputs, expected, rtol=2e-6):
    kept = [x.copy() for x in inputs]
    (got,) = rep.run(inputs)
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-6)
    for before, after in zip(kept, inputs, strict=True):
        np.testing.assert_array_equal(before, after)


def layer_norm(h, s, b):
    h = h.astype(np.float64)
    centred = h - h.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * s + b


def test_elementwise_chain_is_one_kernel():
    rep = prepared(
        "g (float[N,64] x, float[N,64] w) => (float[N,64] y) {"
        "a=Mul(x,w) b=Add(a,w) c=Sigmoid(b) d=Mul(c,x) e=Relu(d) y=Sub(e,w) }"
    )
    assert len(calls(rep)) == 1
    x, w = normal(5, 64), normal(5, 64)
    check(rep, [x, w], np.maximum(x / (1 + np.exp(-(x.astype(np.float64) * w + w))), 0) - w)


def test_softmax_is_one_kernel():
    rep = prepared("g (float[N,C] x) => (float[N,C] y) { y=Softmax<axis=-1>(x) }")
    assert len(calls(rep)) == 1
    x = normal(7, 33)
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    check(rep, [x], e / e.sum(-1, keepdims=True))


NORM = (
    "ax=Constant<value_ints=[-1]>() m=ReduceMean<keepdims=1>(h,ax) d=Sub(h,m) two=Constant<value_float=2.0>() p=Pow(d,two)"
    "v=ReduceMean<keepdims=1>(p,ax) eps=Constant<value_float=0.00001>() ve=Add(v,eps) sd=Sqrt(ve) q=Div(d,sd) t=Mul(q,s) y=Add(t,b)"
)


@pytest.mark.parametrize("norm", ["y=LayerNormalization<axis=-1>(h,s,b)", NORM], ids=["operator", "decomposed"])
def test_layer_norm_with_residual_is_one_kernel(norm):
    rep = prepared(
        "g (float[N,T,64] x, float[N,T,64] r, float[64] s, float[64] b) => (float[N,T,64] y) { h=Add(x,r) " + norm + " }"
    )
    assert len(calls(rep)) == 1
    x, r, s, b = normal(2, 5, 64), normal(2, 5, 64), normal(64), normal(64)
    check(rep, [x, r, s, b], layer_norm(x + r, s, b), 1e-5)


def test_reductions_of_the_same_rows_are_one_sweep():
    text = (
        "g (float[N,C] x) => (float y, float z, float v) {"
        "ax=Constant<value_ints=[1]>() y=ReduceMax(x,ax) z=ReduceMin(x,ax) n=Neg(x) v=ReduceSum(n,ax) }"
    )
    rep = prepared(text)
    assert len(calls(rep)) == 1
    x = normal(7, 50)
    for got, expected in zip(rep.run([x]), (x.max(1), x.min(1), -x.astype(np.float64).sum(1)), strict=True):
        np.testing.assert_allclose(got, expected[:, None], rtol=1e-5)
    assert len(calls(prepared(text.replace("value_ints=[1]", "value_ints=[0]")))) == 1
    # A tensor that few elements are made of is folded in blocks, all of them together.
    rep = prepared(text.replace("value_ints=[1]", "value_ints=[0,1]").replace("float[N,C]", "float[700,200]"))
    assert len(calls(rep)) == 2
    x = normal(700, 200)
    for got, expected in zip(rep.run([x]), (x.max(), x.min(), -x.astype(np.float64).sum()), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3)
    # What the second is made of is not known before the first is.
    rep = prepared("g (float[N,C] x) => (float y) { ax=Constant<value_ints=[1]>() m=ReduceMax(x,ax) t=Sub(x,m) y=ReduceSum(t,ax) }")
    x = normal(7, 50)
    check(rep, [x], (x - x.max(1, keepdims=True)).astype(np.float64).sum(1, keepdims=True), 1e-5)


def test_views_cost_nothing():
    rep = prepared(
        "g (float[N,3,4] x, float[N,12] b) => (float[N,12] y) {"
        "t=Transpose<perm=[0,2,1]>(x) s=Constant<value_ints=[0,-1]>() u=Reshape(t,s) y=Add(u,b) }"
    )
    assert len(calls(rep)) == 1
    body = rep.source.split("def ")[1].split("# The plan")[0]
    inner = [line for line in body.splitlines() if line.startswith("            ")]
    assert inner and not any("udiv" in line or "urem" in line for line in inner), body
    x, b = normal(2, 3, 4), normal(2, 12)
    check(rep, [x, b], x.transpose(0, 2, 1).reshape(2, 12) + b)


def test_reshape_of_an_input_copies_only_into_the_output():
    rep = prepared("g (float[N,6] x) => (float[N,2,3] y) { s=Constant<value_ints=[0,2,3]>() y=Reshape(x,s) }")
    assert calls(rep) == []
    x = normal(4, 6)
    (y,) = rep.run([x])
    np.testing.assert_array_equal(y, x.reshape(4, 2, 3))
    assert not np.shares_memory(x, y)


@pytest.mark.parametrize(
    ("stride", "dilation", "pad"), [(1, 1, 0), (1, 1, 1), (2, 1, 1), (1, 2, 2)], ids=["bare", "padded", "strided", "dilated"]
)
def test_convolution_with_batch_norm_and_relu_is_one_kernel(stride, dilation, pad):
    weights = {"s": normal(4), "c": normal(4), "m": normal(4), "v": np.abs(normal(4)) + 0.5}
    w = normal(4, 3, 3, 3)
    consts = " ".join(
        f"{name}=Constant<value=float[{','.join(map(str, a.shape))}] {{{','.join(map(repr, a.ravel().tolist()))}}}>()"
        for name, a in {**weights, "w": w}.items()
    )
    rep = prepared(
        f"g (float[1,3,9,9] x) => (float[1,4,H,W] y) {{ {consts} "
        f"a=Conv<pads=[{pad},{pad},{pad},{pad}],strides=[{stride},{stride}],dilations=[{dilation},{dilation}]>(x,w) "
        "b=BatchNormalization(a,s,c,m,v) y=Relu(b) }"
    )
    assert len(calls(rep)) == 1
    assert not any("BatchNormalization " in step for step in rep._prepared.session.plan.steps)
    x = normal(1, 3, 9, 9)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    reach = 2 * dilation + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (reach, reach), (2, 3))
    windows = windows[:, :, ::stride, ::stride, ::dilation, ::dilation]
    conv = np.einsum("nchwij,ocij->nohw", windows, w.astype(np.float64))
    per = {k: v.astype(np.float64).reshape(1, 4, 1, 1) for k, v in weights.items()}
    check(rep, [x], np.maximum((conv - per["m"]) / np.sqrt(per["v"] + 1e-5) * per["s"] + per["c"], 0), 1e-4)


def test_shape_arithmetic_costs_no_kernel():
    rep = prepared(
        "g (float[N,T,8] x) => (float[N,K] y) { s=Shape(x) i=Constant<value_ints=[0]>() n=Gather(s,i) m=Constant<value_ints=[-1]>() "
        "t=Concat<axis=0>(n,m) u=Reshape(x,t) y=Relu(u) }"
    )
    assert len(calls(rep)) == 1
    x = normal(3, 2, 8)
    check(rep, [x], np.maximum(x, 0).reshape(3, 16))


def test_blocks_are_shared_and_the_peak_is_what_the_plan_says():
    chain = "".join(f"s{k}=Softmax<axis=-1>(t{k}) t{k + 1}=Softmax<axis=0>(s{k}) " for k in range(6))
    text = "g (float[N,32] x) => (float[N,32] y) { t0=Relu(x) " + chain + " y=Relu(t6) }"
    sessions = [prepared(text, jit=jit)._prepared.session for jit in (True, False)]
    for session in sessions:
        session.run([normal(16, 32)])
    compiled, interpreted = sessions
    assert compiled.arena_bytes == interpreted.arena_bytes
    assert compiled.arena_bytes <= 4 * 16 * 32 * 4


def test_a_shared_block_is_allocated_once_for_its_largest_tenant():
    text = (
        "g (float[N,8] x) => (float[N,8] y) { a=Softmax<axis=0>(x) b=Concat<axis=0>(a,a,a) c=Softmax<axis=0>(b) d=Softmax<axis=1>(c)"
        "s=Constant<value_ints=[0]>() e=Constant<value_ints=[1]>() f=ReduceSum<keepdims=1>(d,s) g=Softmax<axis=1>(f) y=Add(x,g) }"
    )
    session = prepared(text)._prepared.session
    oracle = prepared(text, jit=False)._prepared.session
    x = normal(5, 8)
    np.testing.assert_allclose(session.run([x])[0], oracle.run([x])[0], rtol=1e-6)
    assert session.arena_bytes == oracle.arena_bytes


def test_weights_that_a_model_makes_of_a_number_are_made_once():
    rep = prepared(
        "g (float[1,3,9,9] x) => (float[1,4,7,7] y) { s=Constant<value_ints=[4,3,3,3]>() "
        "w=ConstantOfShape<value=float[1] {0.5}>(s) y=Conv(x,w) }"
    )
    assert len(calls(rep)) == 1
    x = normal(1, 3, 9, 9)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), (2, 3)).sum((1, 4, 5)) * 0.5
    check(rep, [x], np.broadcast_to(windows[:, None], (1, 4, 7, 7)), 1e-5)


def test_a_table_of_sines_is_made_once():
    rep = prepared(
        "g (float[N,64] x) => (float[N,64] y) { a=Constant<value_float=0.0>() b=Constant<value_float=64.0>() c=Constant<value_float=1.0>() "
        "r=Range(a,b,c) s=Sin(r) y=Mul(x,s) }"
    )
    assert "sin(" not in rep.source
    x = normal(3, 64)
    check(rep, [x], x * np.sin(np.arange(64.0)))


def test_several_sizes_gathered_from_a_shape_cost_no_kernel():
    rep = prepared(
        "g (float[N,T,8] x) => (float[N,T,8] y) { s=Shape(x) i=Constant<value_ints=[0,-2]>() n=Gather(s,i) m=Constant<value_ints=[8]>() "
        "t=Concat<axis=0>(n,m) u=Reshape(x,t) y=Relu(u) }"
    )
    assert len(calls(rep)) == 1
    x = normal(3, 2, 8)
    check(rep, [x], np.maximum(x, 0))


def test_loops_of_few_whole_vectors_say_so():
    """LLVM would write them out, and not see the vectors."""
    rep = prepared("g (float[N,3,16] x, float[N,1,16] z) => (float y) { y=Mul(x,z) }")
    assert "in_vectors()" in rep.source.rpartition("for ")[2]
    assert "in_vectors()" not in prepared("g (float[N,3,15] x, float[N,1,15] z) => (float y) { y=Mul(x,z) }").source
    x, z = normal(5, 3, 16), normal(5, 1, 16)
    check(rep, [x, z], x * z)


def test_loops_that_store_say_that_their_rounds_are_apart():
    """LLVM cannot compare where arrays lie whose places the loop reads, or whose rows go backwards, and would take single elements."""
    rep = prepared("g (float[N,9] x, int64[5] i) => (float y) { t=Gather<axis=1>(x,i) y=Exp(t) }")
    assert "apart()" in rep.source.rpartition("for ")[2]
    x, i = normal(3, 9), np.array([8, 0, 3, 3, 1])
    check(rep, [x, i], np.exp(x[:, i]))
    rep = prepared("g (float[N,40] x) => (float y) <int64[1] a={-1}, int64[1] b={-999}, int64[1] c={0}> { t=Slice(x,a,b,c,a) y=Neg(t) }")
    assert "apart()" in rep.source.rpartition("for ")[2]
    x = normal(5, 40)
    check(rep, [x], -x[::-1])
    assert "apart()" not in prepared("g (float[N,40] x) => (float y) { y=ReduceSum(x) }").source


def test_a_scale_in_front_of_a_softmax_is_no_epilogue():
    """The softmax waits for memory and multiplies meanwhile; a mask it would have to read twice."""
    rep = prepared("g (float[2,9,8] x, float[2,8,40] z) => (float y) <float c={0.125}> { p=MatMul(x,z) t=Mul(p,c) y=Softmax(t) }")
    assert "f32(0.125)" in rep.source.rpartition("def ")[2]
    x, z, m = normal(2, 9, 8), normal(2, 8, 40), normal(9, 40)
    e = np.exp((x @ z) * 0.125)
    check(rep, [x, z], e / e.sum(-1, keepdims=True))
    masked = "g (float[2,9,8] x, float[2,8,40] z, float[9,40] m) => (float y) <float c={0.125}> "
    rep = prepared(masked + "{ p=MatMul(x,z) t=Mul(p,c) u=Add(t,m) y=Softmax(u) }")
    assert "f32(0.125)" not in rep.source.rpartition("def ")[2]
    e = np.exp((x @ z) * 0.125 + m)
    check(rep, [x, z, m], e / e.sum(-1, keepdims=True))


def test_phases_are_put_together_without_division():
    """Transposed convolutions are convolutions by phase; a long loop over places does not ask each for its phase."""
    rep = prepared("g (float[1,3,9,10] x, float[3,1,2,2] w) => (float y) { t=ConvTranspose<strides=[2,2]>(x,w) y=Sigmoid(t) }")
    inner = rep.source.partition(" sigmoid(")[0].rpartition("for p in")[2]
    assert "range(2)" in inner
    assert "urem" not in inner.partition("for ")[2]
    assert rep.run([normal(1, 3, 9, 10), normal(3, 1, 2, 2)])[0].shape == (1, 1, 18, 20)
    # With a shift the short loop, which is unrolled, divides.
    rep = prepared("g (float[1,3,20] x, float[3,2,8] w) => (float y) { t=ConvTranspose<strides=[4],pads=[2,2]>(x,w) y=Sigmoid(t) }")
    inner = rep.source.partition(" sigmoid(")[0].rpartition("for p in")[2]
    assert "range(4)" in inner
    assert "urem" not in inner.partition("range(4)")[0].partition("for ")[2]
    x, w = normal(1, 3, 20), normal(3, 2, 8)
    whole = np.zeros((2, 84))
    for i in range(20):
        whole[:, 4 * i : 4 * i + 8] += np.einsum("c,cfk->fk", x[0, :, i].astype(np.float64), w)
    check(rep, [x, w], 1 / (1 + np.exp(-whole[None, :, 2:-2])))


def test_windows_of_an_image_are_read_without_division():
    rep = prepared(
        "g (float[N,28,28,8] x, float[16,1,49,8] b) => (float[M,49,8] y) {"
        "p=Constant<value_ints=[-1,4,7,4,7,8]>() a=Reshape(x,p) t=Transpose<perm=[0,1,3,2,4,5]>(a) q=Constant<value_ints=[-1,16,1,49,8]>() "
        "w=Reshape(t,q) v=Add(w,b) r=Constant<value_ints=[-1,49,8]>() y=Reshape(v,r) }"
    )
    assert len(calls(rep)) == 1
    kernel = rep.source.partition("def ")[2]
    inner = kernel[kernel.rindex("for ") :]
    assert "udiv" not in inner and "urem" not in inner
    x, bias = normal(2, 28, 28, 8), normal(16, 1, 49, 8)
    windows = x.reshape(2, 4, 7, 4, 7, 8).transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, 1, 49, 8) + bias
    check(rep, [x, bias], windows.reshape(-1, 49, 8))


def test_a_reduction_is_stored_in_the_order_in_which_it_is_read():
    rep = prepared(
        "g (float[A,B,K] x) => (float[B,A] y) { k=Constant<value_ints=[2]>() r=ReduceSum<keepdims=0>(x, k) t=Transpose(r) y=Exp(t) }"
    )
    assert len(calls(rep)) == 1
    x = normal(3, 5, 7)
    check(rep, [x], np.exp(x.astype(np.float64).sum(2).T), rtol=1e-5)


def test_a_reduction_whose_columns_lie_side_by_side_keeps_its_order():
    rep = prepared("g (float[K,A,B] x) => (float[B,A] y) { k=Constant<value_ints=[0]>() r=ReduceSum<keepdims=0>(x, k) y=Transpose(r) }")
    x = normal(7, 3, 5)
    check(rep, [x], x.astype(np.float64).sum(0).T, rtol=1e-5)


@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "interpreted"])
@pytest.mark.parametrize(("rows", "terms"), [(64, 3), (100, 20), (63, 20), (100, 129), (70, 1)])
def test_distances_to_the_rows_of_a_constant(jit, rows, terms):
    model = parser.parse_model(
        HEAD + f"""g (float[N,{terms}] x) => (float[N,{rows}] d, int64[N] nearest, float[{rows},{terms}] kept) {{
        same, y = Scan<num_scan_inputs=1, body = b (float[N,{terms}] all, float[{terms}] row) => (float[N,{terms}] all2, float[N] far) {{
            all2 = Identity(all) less = Sub(all, row) axis = Constant<value_ints=[1]>() far = ReduceSumSquare<keepdims=0>(less, axis)
        }}>(x, c) t = Transpose(y) d = Sqrt(t) nearest = ArgMin<axis=1, keepdims=0>(d) kept = Neg(c) }}"""
    )
    c = normal(rows, terms)
    model.graph.initializer.append(numpy_helper.from_array(c, "c"))
    rep = backend.prepare(model, jit=jit)
    for n in (0, 1, 5):
        x = normal(n, terms)
        expected = np.sqrt(((x[:, None].astype(np.float64) - c) ** 2).sum(-1))
        d, nearest, kept = rep.run([x])
        np.testing.assert_allclose(d, expected, rtol=2e-6)
        np.testing.assert_array_equal(nearest, expected.argmin(1))
        np.testing.assert_array_equal(kept, -c)
