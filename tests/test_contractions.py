"""Matrix products and convolutions through the whole pipeline: values, fusion, layout of operands, and equal bits."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_numba.options import Options
from onnx_numba.prepare import prepare_model

KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}


def model(nodes, inputs, weights=None, shapes=None):
    """A model whose outputs are those of its last node; ``shapes`` overrides declared input shapes."""
    declared = [
        helper.make_tensor_value_info(name, KINDS[x.dtype], (shapes or {}).get(name, x.shape)) for name, x in inputs.items()
    ]
    kind = KINDS[next(iter(inputs.values())).dtype]
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in nodes[-1].output]
    held = [numpy_helper.from_array(w, name) for name, w in (weights or {}).items()]
    graph = helper.make_graph(nodes, "contraction", declared, outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(made, inputs, **options):
    prepared = prepare_model(made, options=Options(**{"num_threads": 1, **options}))
    return np.asarray(prepared.run(inputs)[0]), prepared


def close(got, expected, depth):
    bound = np.finfo(got.dtype).eps * 4 * np.sqrt(depth + 1) * (1 + np.abs(expected).max(initial=0))
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


def random(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


MATRICES = [
    ((37, 64), (64, 100)), ((1, 300), (300, 70)), ((70, 300), (300, 1)), ((5, 40), (40, 3)), ((200, 600), (600, 40)),
    ((3, 20, 30), (30, 50)), ((2, 3, 20, 30), (2, 3, 30, 17)), ((2, 1, 20, 30), (3, 30, 17)), ((20, 30), (4, 30, 17)),
    ((2, 3, 20, 30), (1, 1, 30, 17)), ((40,), (40, 90)), ((90, 40), (40,)), ((0, 40), (40, 90)), ((30, 0), (0, 90)), ((30, 40), (40, 0)),
]  # fmt: skip


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("shapes", MATRICES, ids=str)
def test_matmul(shapes, constant, symbolic):
    x, y = random(*shapes[0]), random(*shapes[1], seed=1)
    inputs, weights = ({"x": x}, {"y": y}) if constant else ({"x": x, "y": y}, {})
    free = {k: [f"{k}{i}" for i in range(v.ndim)] for k, v in inputs.items()} if symbolic else None
    made = model([helper.make_node("MatMul", ["x", "y"], ["o"])], inputs, weights, free)
    got, _ = run(made, inputs)
    close(got, np.matmul(x.astype(np.float64), y), shapes[0][-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm(trans_a, trans_b, dtype):
    x, y, c = random(45, 70, dtype=dtype), random(70, 33, dtype=dtype), random(33, dtype=dtype)
    x, y = (x.T.copy() if trans_a else x), (y.T.copy() if trans_b else y)
    node = helper.make_node("Gemm", ["x", "y", "c"], ["o"], transA=trans_a, transB=trans_b, alpha=0.5, beta=2.0)
    got, prepared = run(model([node], {"x": x}, {"y": y, "c": c}), {"x": x})
    left, right = (x.T if trans_a else x), (y.T if trans_b else y)
    close(got, 0.5 * (left.astype(np.float64) @ right) + 2.0 * c, 70)
    assert len(prepared.session.plan.kernels) == 1, "packed at prepare, scaled in the product's kernel"


def test_attention_reads_transposed_heads_in_place():
    q, k, v = (random(2, 9, 4 * 16, seed=s) for s in range(3))
    heads = {n: helper.make_node("Reshape", [n, "split"], [f"{n}r"]) for n in "qkv"}
    turned = [helper.make_node("Transpose", [f"{n}r"], [f"{n}t"], perm=[0, 2, 3, 1] if n == "k" else [0, 2, 1, 3]) for n in "qkv"]
    nodes = [
        *heads.values(), *turned, helper.make_node("MatMul", ["qt", "kt"], ["s"]), helper.make_node("Softmax", ["s"], ["p"]),
        helper.make_node("MatMul", ["p", "vt"], ["a"]), helper.make_node("Transpose", ["a"], ["o"], perm=[0, 2, 1, 3]),
    ]  # fmt: skip
    inputs = {"q": q, "k": k, "v": v}
    free = {n: ["batch", "time", 64] for n in inputs}
    got, prepared = run(model(nodes, inputs, {"split": np.array([0, 0, 4, 16])}, free), inputs)
    split = [x.astype(np.float64).reshape(2, 9, 4, 16).transpose(0, 2, 1, 3) for x in (q, k, v)]
    scores = split[0] @ split[1].swapaxes(-1, -2)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    close(got, ((weights / weights.sum(-1, keepdims=True)) @ split[2]).transpose(0, 2, 1, 3), 64)
    assert sum(c[0] == "call" for c in prepared.session.plan.code) <= 6, "two packs, two products, a softmax, the last transpose"


def test_epilogue_is_one_kernel():
    x, w, b, r = random(50, 64), random(64, 90), random(90), random(50, 90)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["n"]),
        helper.make_node("Tanh", ["n"], ["t"]), helper.make_node("Mul", ["t", "n"], ["u"]), helper.make_node("Add", ["u", "r"], ["o"]),
    ]  # fmt: skip
    inputs = {"x": x, "r": r}
    got, prepared = run(model(nodes, inputs, {"w": w, "b": b}, {"x": ["n", 64], "r": ["n", 90]}), inputs)
    n = x.astype(np.float64) @ w + b
    close(got, np.tanh(n) * n + r, 64)
    assert len(prepared.session.plan.kernels) == 1


def test_few_rows_times_a_scaled_matrix():
    x, w, scale = random(2, 64), random(64, 32), np.array(0.5, np.float32)
    nodes = [helper.make_node("Mul", ["w", "s"], ["v"]), helper.make_node("MatMul", ["x", "v"], ["o"])]
    got, _ = run(model(nodes, {"x": x, "w": w, "s": scale}), {"x": x, "w": w, "s": scale})
    close(got, x.astype(np.float64) @ (w * scale), 64)


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("lies", ["by rows", "by columns"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_only_the_run_counts_times_what_it_makes(lies, dtype, jit):
    """Of few rows the right operand is read where it is, of more packed, with any number of both, NaN and infinities among them."""
    turned = lies == "by columns"
    nodes = [*([helper.make_node("Transpose", ["y"], ["t"], perm=[0, 2, 1])] if turned else [])]
    nodes.append(helper.make_node("MatMul", ["x", "t" if turned else "y"], ["p"]))
    nodes.append(helper.make_node("Neg", ["p"], ["o"]))  # in each block of the product
    free = {"x": ["b", "m", "k"], "y": ["b", "n", "k"] if turned else ["b", "k", 64]}
    wide = [(2, m, k, n) for m in range(6) for k, n in ((0, 64), (1, 64), (70, 64), (300, 64))]
    sizes = [(2, m, k, n) for m in (1, 3, 4) for k, n in ((7, 1), (64, 33), (300, 600))] if turned else wide
    first = {"x": random(2, 3, 5, dtype=dtype), "y": random(*((2, 64, 5) if turned else (2, 5, 64)), dtype=dtype)}
    _, prepared = run(model(nodes, first, shapes=free), first, jit=jit)
    assert "own = " in prepared.source
    for batch, m, k, n in (*sizes, (0, 2, 5, 64), (1, 40, 33, 64)) if jit else sizes[::3]:
        x, y = random(batch, m, k, dtype=dtype), random(*((batch, n, k) if turned else (batch, k, n)), dtype=dtype, seed=1)
        copies = x.copy(), y.copy()
        expected = -(x.astype(np.float64) @ (y.swapaxes(1, 2) if turned else y))
        got = np.asarray(prepared.run({"x": x, "y": y})[0])
        close(got, expected, k)
        np.testing.assert_array_equal(x, copies[0])
        np.testing.assert_array_equal(y, copies[1])
    x, y = random(1, 2, 8, dtype=dtype), random(*((1, 64, 8) if turned else (1, 8, 64)), dtype=dtype, seed=1)
    x[0, 0, 3], x[0, 1, 5] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        expected = -(x @ (y.swapaxes(1, 2) if turned else y))
    np.testing.assert_allclose(np.asarray(prepared.run({"x": x, "y": y})[0]), expected, rtol=1e-5)


def test_product_seen_twice_is_stored_once():
    x, w = random(2, 25, 64), random(64, 90)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Sigmoid", ["m"], ["s"]),
        helper.make_node("Concat", ["m", "s"], ["o"], axis=1),
    ]  # fmt: skip
    got, _ = run(model(nodes, {"x": x}, {"w": w}), {"x": x})
    m = x.astype(np.float64) @ w
    close(got, np.concatenate([m, 1 / (1 + np.exp(-m))], 1), 64)


CONVOLUTIONS = [
    dict(x=(2, 8, 14, 15), w=(20, 8, 3, 3), pads=[1, 1, 1, 1]),
    dict(x=(1, 8, 14, 15), w=(20, 8, 1, 1)),
    dict(x=(1, 8, 14, 15), w=(20, 8, 3, 3)),
    dict(x=(1, 3, 30, 31), w=(16, 3, 7, 7), pads=[3, 3, 3, 3], strides=[2, 2]),
    dict(x=(2, 8, 14, 15), w=(20, 8, 1, 1), strides=[2, 2]),
    dict(x=(2, 8, 14, 15), w=(20, 4, 3, 3), group=2, pads=[1, 0, 0, 1], strides=[2, 1]),
    dict(x=(2, 8, 14, 15), w=(8, 1, 3, 3), group=8, pads=[1, 1, 1, 1]),
    dict(x=(2, 8, 14, 15), w=(16, 1, 5, 5), group=8, pads=[2, 2, 2, 2], strides=[2, 2]),
    dict(x=(1, 8, 14, 15), w=(20, 8, 3, 3), dilations=[2, 3], pads=[2, 3, 2, 3]),
    dict(x=(1, 8, 14, 15), w=(20, 8, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    dict(x=(2, 6, 50), w=(12, 6, 5), pads=[2, 2]),
    dict(x=(2, 6, 50), w=(6, 1, 5), group=6, pads=[2, 2]),
    dict(x=(1, 4, 6, 7, 8), w=(8, 4, 3, 3, 3), pads=[1] * 6),
    dict(x=(1, 8, 1, 1), w=(300, 8, 1, 1)),
    dict(x=(0, 8, 14, 15), w=(20, 8, 3, 3)),
]  # fmt: skip


def reference(x, w, bias, *, strides=None, pads=None, dilations=None, group=1, auto_pad="NOTSET"):
    """Convolution by its definition, in float64."""
    rank = x.ndim - 2
    strides, dilations, pads = strides or [1] * rank, dilations or [1] * rank, pads or [0] * 2 * rank
    reach = [(k - 1) * g + 1 for k, g in zip(w.shape[2:], dilations, strict=True)]
    if auto_pad == "SAME_UPPER":
        total = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(x.shape[2:], strides, reach, strict=True)]
        pads = [*(t // 2 for t in total), *(t - t // 2 for t in total)]
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    out = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True)]
    result = np.zeros((x.shape[0], w.shape[0], *out))
    channels, filters = w.shape[1], w.shape[0] // group
    for g in range(group):
        for tap in np.ndindex(*w.shape[2:]):
            at = tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilations, out, strides, strict=True))
            part = x[(slice(None), slice(g * channels, (g + 1) * channels), *at)]
            rows = slice(g * filters, (g + 1) * filters)
            result[:, rows] += np.einsum("nc...,fc->nf...", part, w[(rows, slice(None), *tap)].astype(np.float64))
    return result + bias.reshape(-1, *[1] * rank)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_conv(case, symbolic):
    attributes = {k: v for k, v in case.items() if k not in "xw"}
    x, w, bias = random(*case["x"]), random(*case["w"]), random(case["w"][0])
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], **attributes), helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["o"]),
    ]  # fmt: skip
    free = {"x": ["n", x.shape[1], *(f"d{k}" for k in range(x.ndim - 2))]} if symbolic else None
    got, prepared = run(model(nodes, {"x": x}, {"w": w, "b": bias}, free), {"x": x})
    expected = reference(x, w, bias, **attributes)
    close(got, expected / (1 + np.exp(-expected)), w[0].size)
    assert sum(c[0] == "call" for c in prepared.session.plan.code) <= 2, "laying out the image, and everything else"


def test_residual_joins_the_convolution():
    x, w1, w2 = random(1, 16, 20, 21), random(16, 16, 3, 3), random(16, 16, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["c"]), helper.make_node("Add", ["c", "x"], ["s"]), helper.make_node("Relu", ["s"], ["o"]),
    ]  # fmt: skip
    got, prepared = run(model(nodes, {"x": x}, {"w1": w1, "w2": w2}, {"x": ["n", 16, "h", "w"]}), {"x": x})
    zero = np.zeros(16)
    inner = np.maximum(reference(x, w1, zero, pads=[1, 1, 1, 1]), 0)
    close(got, np.maximum(reference(inner, w2, zero) + x, 0), 160)
    assert sum(c[0] == "call" for c in prepared.session.plan.code) == 2


@pytest.mark.parametrize("filters", [20, 200])
def test_filters_of_one_element_see_all_axes_as_one(filters):
    """So images of any rank share a kernel, whose rows are long."""
    x, w, zero = random(2, 70, 4, 5, 7), random(filters, 70, 1, 1, 1), np.zeros(filters)
    found = []
    for size in [(4, 5, 7), (20, 7), (140,)]:
        image, taps = x.reshape(2, 70, *size), w.reshape(filters, 70, *(1 for _ in size))
        got, prepared = run(model([helper.make_node("Conv", ["x", "w"], ["o"])], {"x": image}, {"w": taps}), {"x": image})
        close(got, reference(image, taps, zero), 70)
        found.append(prepared.session.plan.kernels)
    assert found[0] == found[1] == found[2]


def test_equal_channels_have_equal_bits():
    x = random(1, 40, 30, 33)
    w = np.repeat(random(1, 40, 3, 3), 67, 0)
    made = model([helper.make_node("Conv", ["x", "w"], ["o"], pads=[1, 1, 1, 1], strides=[2, 2])], {"x": x}, {"w": w})
    got, _ = run(made, {"x": x})
    assert (got == got[:, :1]).all()
    y = np.repeat(random(300, 1), 67, 1)
    a = random(50, 300)
    got, _ = run(model([helper.make_node("MatMul", ["a", "y"], ["o"])], {"a": a}, {"y": y}), {"a": a})
    assert (got == got[:, :1]).all()


def test_bits_depend_on_neither_threads_nor_other_rows():
    x, w = random(301, 530), random(530, 700)
    made = model([helper.make_node("MatMul", ["x", "w"], ["o"])], {"x": x}, {"w": w}, {"x": ["n", 530]})
    whole, prepared = run(made, {"x": x})
    threaded, _ = run(made, {"x": x}, num_threads=2)
    assert (whole == threaded).all()
    parts = [prepared.run({"x": x[a:b].copy()})[0] for a, b in ((0, 1), (1, 5), (5, 130), (130, 301))]
    assert (np.concatenate(parts) == whole).all()


def test_plain_python_gives_the_same():
    x, w, b, k = random(1, 6, 9, 8), random(8, 6, 3, 3), random(8), random(8, 11)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MatMul", ["r", "k"], ["m"]), helper.make_node("Relu", ["m"], ["o"]),
    ]  # fmt: skip
    made = model(nodes, {"x": x}, {"w": w, "b": b, "k": k})
    compiled, _ = run(made, {"x": x})
    python, _ = run(made, {"x": x}, jit=False)
    close(python, compiled.astype(np.float64), 54)
