"""Attention a slice at a time: against NumPy in float64, compiled and as plain Python, and what is left as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper, parser

from onnx_numba import backend

Array = np.ndarray[Any, Any]
HEAD = '<ir_version: 10, opset_import: ["" : 23]>\n'
RANDOM = np.random.default_rng(6)
BOTH = pytest.mark.parametrize("jit", [True, False], ids=["compiled", "interpreted"])


def prepared(text: str, weights: dict[str, Array] | None = None, **options: Any) -> Any:
    model = parser.parse_model(HEAD + text)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in (weights or {}).items())
    return backend.prepare(model, **options)


def normal(*shape: int, dtype: str = "float32") -> Array:
    return RANDOM.standard_normal(shape).astype(dtype)


def attention(q: Array, k: Array, v: Array, mask: Any = 0.0) -> Array:
    """Of ``k`` turned already."""
    scores = q.astype(np.float64) @ k.astype(np.float64) * 0.125 + mask
    with np.errstate(invalid="ignore"):
        terms = np.exp(scores - scores.max(-1, keepdims=True))
    return terms / terms.sum(-1, keepdims=True) @ v.astype(np.float64)


def text_of(lead: str, rows: int | str, size: int = 64, mask: str = "", kind: str = "float", outputs: str = "y") -> str:
    """A model of ``MatMul``, scale, perhaps a mask, ``Softmax`` and ``MatMul``."""
    inputs = f"{kind}[{lead},{rows},{size}] q, {kind}[{lead},{size},{rows}] k, {kind}[{lead},{rows},{size}] v"
    inputs += f", {kind}[{mask}] m" if mask else ""
    return (
        f"g ({inputs}) => ({', '.join(f'{kind} {name}' for name in outputs.split())}) {{ c0=Constant<value_float=0.125>() c=CastLike(c0,q) "
        f"p=MatMul(q,k) t=Mul(p,c) {'u=Add(t,m) w=Softmax(u)' if mask else 'w=Softmax(t)'} y=MatMul(w,v) }}"
    )


def is_sliced(rep: Any) -> bool:
    return "row = block * each" in rep.source


def check(rep: Any, inputs: list[Array], expected: Array, within: float = 1e-5) -> None:
    copies = [v.copy() for v in inputs]
    (got,) = rep.run(inputs)
    np.testing.assert_allclose(got, expected, rtol=within, atol=within)
    for value, copy in zip(inputs, copies, strict=True):
        np.testing.assert_array_equal(value, copy)


@BOTH
def test_whole_matrices_are_slices(jit: bool) -> None:
    rep = prepared(text_of("1,8", 160), jit=jit)
    assert is_sliced(rep)
    q, k, v = normal(1, 8, 160, 64), normal(1, 8, 64, 160), normal(1, 8, 160, 64)
    check(rep, [q, k, v], attention(q, k, v))


@pytest.mark.parametrize("rows", [601, 1024])
def test_rows_of_matrices_are_slices_of_which_the_last_may_be_shorter(rows: int) -> None:
    """None overlaps another: a product adds to what it has written, which another worker must not."""
    rep = prepared(text_of("3", rows, 16))
    assert is_sliced(rep)
    q, k, v = normal(3, rows, 16), normal(3, 16, rows), normal(3, rows, 16)
    check(rep, [q, k, v], attention(q, k, v))
    (expected,) = prepared(text_of("3", rows, 16), num_threads=1).run([q, k, v])
    for threads in (2, 3):
        rep = prepared(text_of("3", rows, 16), num_threads=threads)
        for _ in range(20):
            np.testing.assert_array_equal(rep.run([q, k, v])[0], expected)


@BOTH
def test_rows_that_only_the_run_counts(jit: bool) -> None:
    rep = prepared(text_of("N,4", "S", 16), jit=jit)
    assert is_sliced(rep)
    for count, rows in ((0, 5), (1, 0), (1, 1), (2, 7), (1, 160), *([(3, 33), (1, 601), (2, 1024), (1, 1025)] if jit else [])):
        q, k, v = normal(count, 4, rows, 16), normal(count, 4, 16, rows), normal(count, 4, rows, 16)
        check(rep, [q, k, v], attention(q, k, v) if count and rows else q)


def test_rows_that_only_the_run_counts_by_any_number_of_threads() -> None:
    inputs = [(normal(2, 3, rows, 16), normal(2, 3, 16, rows), normal(2, 3, rows, 16)) for rows in (40, 601, 1024)]
    one = prepared(text_of("N,3", "S", 16), num_threads=1)
    for threads in (2, 3):
        rep = prepared(text_of("N,3", "S", 16), num_threads=threads)
        for given in inputs:
            (expected,) = one.run([*given])
            for _ in range(10):
                np.testing.assert_array_equal(rep.run([*given])[0], expected)


def test_a_single_matrix() -> None:
    rep = prepared(text_of("1,1", 1500, 8))
    assert is_sliced(rep)
    q, k, v = normal(1, 1, 1500, 8), normal(1, 1, 8, 1500), normal(1, 1, 1500, 8)
    check(rep, [q, k, v], attention(q, k, v))


def test_matrices_that_only_the_run_counts() -> None:
    rep = prepared(text_of("N,8", 160))
    assert is_sliced(rep)
    for count in (0, 1, 3):
        q, k, v = normal(count, 8, 160, 64), normal(count, 8, 64, 160), normal(count, 8, 160, 64)
        check(rep, [q, k, v], attention(q, k, v) if count else q)


@pytest.mark.parametrize("mask", ["1,1,160,160", "1,8,160,160", "160", "2,8,160,160", "1,1,160,1", "2,1,1,160", "2,1,160,160", "2,8,1,1"])
def test_masks(mask: str) -> None:
    """Of each head or of a batch's heads, of each row or of a matrix's rows."""
    rep = prepared(text_of("2,8", 160, mask=mask))
    assert is_sliced(rep)
    q, k, v, m = normal(2, 8, 160, 64), normal(2, 8, 64, 160), normal(2, 8, 160, 64), normal(*map(int, mask.split(",")))
    check(rep, [q, k, v, m], attention(q, k, v, m))


@pytest.mark.parametrize("mask", ["N,1,1,S", "N,1,S,S", "1,1,S,S"])
def test_masks_of_batches_that_only_the_run_counts(mask: str) -> None:
    rep = prepared(text_of("N,4", "S", 16, mask=mask))
    assert is_sliced(rep)
    for count, rows in ((1, 7), (3, 160), (2, 650)):
        q, k, v = normal(count, 4, rows, 16), normal(count, 4, 16, rows), normal(count, 4, rows, 16)
        m = normal(*({"N": count, "S": rows, "1": 1}[c] for c in mask.split(",")))
        check(rep, [q, k, v, m], attention(q, k, v, m))


@pytest.mark.parametrize("size", ["160", "S"])
def test_keys_that_heads_share(size: str) -> None:
    """As grouped queries do: several heads read the same keys and values."""
    text = text_of("2,2,4", size, 16).replace(f"float[2,2,4,16,{size}] k", f"float[2,2,1,16,{size}] k")
    rep = prepared(text.replace(f"float[2,2,4,{size},16] v", f"float[2,2,1,{size},16] v"))
    assert is_sliced(rep)
    for rows in (160,) if size == "160" else (3, 160, 700):
        q, k, v = normal(2, 2, 4, rows, 16), normal(2, 2, 1, 16, rows), normal(2, 2, 1, rows, 16)
        check(rep, [q, k, v], attention(q, k, v))


def test_what_others_read_is_made_as_a_whole() -> None:
    for outputs in ("y p", "y w"):
        rep = prepared(text_of("1,8", 160, outputs=outputs))
        assert not is_sliced(rep)
        q, k, v = normal(1, 8, 160, 64), normal(1, 8, 64, 160), normal(1, 8, 160, 64)
        got, other = rep.run([q, k, v])
        np.testing.assert_allclose(got, attention(q, k, v), rtol=1e-5, atol=1e-5)
        assert other.shape == (1, 8, 160, 160)


def test_what_a_step_between_gives_out_and_nobody_reads() -> None:
    text = text_of("1,8", 160).replace("(float y)", "(float y, float r)")
    rep = prepared(text.replace("w=Softmax", "a=Constant<value_ints=[3]>() r=ReduceMax(t,a) w=Softmax"))
    assert not is_sliced(rep)
    q, k, v = normal(1, 8, 160, 64), normal(1, 8, 64, 160), normal(1, 8, 160, 64)
    got, top = rep.run([q, k, v])
    np.testing.assert_allclose(got, attention(q, k, v), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(top, (q @ k * 0.125).max(-1, keepdims=True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("between", ["Conv", "MatMul"])
def test_heads_that_are_mixed_by_another_product(between: str) -> None:
    """A convolution over the heads' scores, or a matrix of weights too large to be read for every slice."""
    weight = normal(8, 8, 1, 1) if between == "Conv" else normal(600, 600) * 0.04
    rows = len(weight) if between == "MatMul" else 160
    text = text_of("1,8", rows, 16).replace("w=Softmax(t)", f"z={between}(t,h) w=Softmax(z)")
    rep = prepared(text, {"h": weight})
    assert not is_sliced(rep)
    q, k, v = normal(1, 8, rows, 16), normal(1, 8, 16, rows), normal(1, 8, rows, 16)
    scores = q.astype(np.float64) @ k.astype(np.float64) * 0.125
    scores = np.einsum("oi,bimn->bomn", weight[:, :, 0, 0], scores) if between == "Conv" else scores @ weight
    terms = np.exp(scores - scores.max(-1, keepdims=True))
    check(rep, [q, k, v], terms / terms.sum(-1, keepdims=True) @ v.astype(np.float64), 1e-4)


def test_small_matrices_and_products_alone_are_left_as_they_are() -> None:
    assert not is_sliced(prepared(text_of("1,8", 32)))
    text = "g (float[4096,64] x) => (float y) { p=MatMul(x,a) r=Relu(p) y=MatMul(r,b) }"
    assert not is_sliced(prepared(text, {"a": normal(64, 128), "b": normal(128, 64)}))


@BOTH
@pytest.mark.parametrize(("heads", "rows", "size"), [(8, 160, 160), (2, 700, 700), (2, 0, "S"), (2, 40, "S"), (2, 700, "S")])
def test_positions_of_rows_are_those_of_the_matrix(heads: int, rows: int, size: Any, jit: bool) -> None:
    """A causal mask compares positions."""
    shape = f"float[1,{heads},{size},16]"
    rep = prepared(f"g ({shape} q, {shape} k, {shape} v) => (float y) {{ y=Attention<is_causal=1,scale=0.125>(q,k,v) }}", jit=jit)
    assert is_sliced(rep)
    q, k, v = (normal(1, heads, rows, 16) for _ in range(3))
    check(rep, [q, k, v], attention(q, k.swapaxes(2, 3), v, np.where(np.tri(rows, dtype=bool), 0.0, -np.inf)) if rows else q)


@BOTH
def test_caches(jit: bool) -> None:
    """One row or some look at all that the caches have; few of them read keys and values unpacked."""
    lengths = {"q": "S", "k": "S", "v": "S", "keys": "P", "values": "P"}
    inputs = ", ".join(f"float[N,4,{rows},64] {name}" for name, rows in lengths.items())
    rep = prepared(
        f"g ({inputs}) => (float y) <float c={{0.125}}> {{ a=Concat<axis=2>(keys,k) b=Concat<axis=2>(values,v) "
        "t=Transpose<perm=[0,1,3,2]>(a) p=MatMul(q,t) s=Mul(p,c) w=Softmax(s) y=MatMul(w,b) }", jit=jit
    )  # fmt: skip
    assert is_sliced(rep) and all(f"own_{part} = " in rep.source for part in (0, 2))
    long = [(2, 1, 700), (1, 2, 300), (1, 150, 20), (1, 700, 1)] if jit else []
    for count, rows, past in ((1, 1, 0), (2, 1, 40), (1, 3, 11), (1, 4, 11), *long):
        q, k, v = (normal(count, 4, rows, 64) for _ in range(3))
        keys, values = normal(count, 4, past, 64), normal(count, 4, past, 64)
        expected = attention(q, np.concatenate([keys, k], 2).swapaxes(2, 3), np.concatenate([values, v], 2))
        check(rep, [q, k, v, keys, values], expected)


def test_heads_that_lie_between_others() -> None:
    """As they do between a projection's reshape and transpose: nothing is copied for it."""
    shape, lead = "float[1,200,512]", "a=Constant<value_ints=[0,0,8,64]>() b=Constant<value_ints=[0,0,512]>()"
    rep = prepared(
        f"g ({shape} x, {shape} y, {shape} z) => (float o) <float c={{0.125}}> {{ {lead} q0=Reshape(x,a) k0=Reshape(y,a) v0=Reshape(z,a) "
        "q=Transpose<perm=[0,2,1,3]>(q0) k=Transpose<perm=[0,2,3,1]>(k0) v=Transpose<perm=[0,2,1,3]>(v0) "
        "p=MatMul(q,k) t=Mul(p,c) w=Softmax(t) r=MatMul(w,v) s=Transpose<perm=[0,2,1,3]>(r) o=Reshape(s,b) }"
    )
    assert is_sliced(rep)
    x, y, z = (normal(1, 200, 512) for _ in range(3))
    q, k, v = (m.reshape(1, 200, 8, 64).swapaxes(1, 2) for m in (x, y, z))
    check(rep, [x, y, z], attention(q, k.swapaxes(2, 3), v).swapaxes(1, 2).reshape(1, 200, 512))


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_every_type_of_float(kind: str) -> None:
    rep = prepared(text_of("1,8", 200, 32, kind=kind))
    assert is_sliced(rep)
    q, k, v = (normal(*shape, dtype={"double": "float64"}.get(kind, kind)) for shape in ((1, 8, 200, 32), (1, 8, 32, 200), (1, 8, 200, 32)))
    check(rep, [q, k, v], attention(q, k, v), 1e-12 if kind == "double" else 5e-3)


def test_nan_stays_in_its_row() -> None:
    q, k, v = normal(1, 8, 160, 64), normal(1, 8, 64, 160), normal(1, 8, 160, 64)
    q[0, 3, 7, 0], q[0, 5, 9, 1] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        check(prepared(text_of("1,8", 160)), [q, k, v], attention(q, k, v))


def test_other_targets_do_so_too() -> None:
    rep = prepared(text_of("1,8", 160), cpu="generic")
    assert is_sliced(rep)
    q, k, v = normal(1, 8, 160, 64), normal(1, 8, 64, 160), normal(1, 8, 160, 64)
    check(rep, [q, k, v], attention(q, k, v))
