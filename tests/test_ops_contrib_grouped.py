"""Rotary embeddings and attention with shared heads and a cache, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operators import Case, check, model, onnxruntime_outputs

import onnx_numba.backend as backend
from onnx_numba.errors import OnnxNumbaError

MS = "com.microsoft"
RNG = np.random.default_rng(13)
Array = np.ndarray[Any, Any]


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def i32(*values: Any) -> Array:
    return np.array(values, np.int32)


def i64(*values: Any) -> Array:
    return np.array(values, np.int64)


def caches(rows: int, columns: int) -> tuple[Array, Array]:
    angles = np.arange(rows)[:, None] * (0.5 ** np.arange(columns))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotary(x: Array, ids: Array, columns: int, **attributes: Any) -> Case:
    return Case("RotaryEmbedding", 1, [x, ids, *(t.astype(x.dtype) for t in caches(10, columns))], attributes, domain=MS)


ROTARY = [
    rotary(f32(2, 3, 8), i64([0, 1, 2], [4, 9, 0]), 2),
    rotary(f32(2, 3, 8), i64(3), 2, interleaved=1),
    rotary(f32(2, 2, 3, 4), i64([0, 1, 2], [4, 5, 6]), 2, interleaved=1),
    rotary(f32(2, 2, 3, 6), i64([0, 1, 2], [4, 5, 6]), 2, num_heads=2, rotary_embedding_dim=4),
    rotary(f32(2, 3, 12), i64([0, 1, 2], [4, 5, 6]), 2, num_heads=2, rotary_embedding_dim=4, interleaved=1),
    rotary(f32(2, 3, 8), i64(0), 2, scale=2.0),
]


@pytest.mark.parametrize("case", ROTARY, ids=str)
def test_rotary(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=1e-5, atol=1e-6)


def grouped(
    length: int, seqlens: tuple[int, ...], total: int, past: int = 0, packed: bool = False, more: dict[int, Any] | None = None,
    rotary: bool = False, dtype: Any = np.float32, **attributes: Any,
) -> Case:  # fmt: skip
    """Four heads of queries of 16 elements over two heads of keys; ``more`` has further inputs by position."""
    batch = len(seqlens)
    query, keys, values = f32(batch, length, 64), f32(batch, length, 32), f32(batch, length, 32)
    inputs: list[Any] = [np.concatenate([query, keys, values], 2), None, None] if packed else [query, keys, values]
    inputs += [f32(batch, 2, past, 16), f32(batch, 2, past, 16)] if past else [None, None]
    inputs += [i32(*seqlens), np.array(total, np.int32)]
    extra = dict(more or {})
    if rotary:
        extra |= dict(zip((7, 8), caches(12, 8), strict=True))
    inputs += [extra.get(k) for k in range(7, max(extra) + 1)] if extra else []
    given = [x.astype(dtype) if x is not None and x.dtype == np.float32 else x for x in inputs]
    attributes = {"num_heads": 4, "kv_num_heads": 2, **({"do_rotary": 1} if rotary else {}), **attributes}
    return Case("GroupQueryAttention", 1, given, attributes, outputs=3, domain=MS)


GROUPED = [
    grouped(3, (2, 2), 3),
    grouped(3, (2, 2), 3, packed=True, rotary=True),
    grouped(3, (2, 2), 3, rotary=True, rotary_interleaved=1, scale=0.2),
    grouped(1, (4, 4), 5, past=4),
    grouped(1, (4, 2), 5, past=8, packed=True, rotary=True),
    grouped(3, (5,), 6, past=3, rotary=True),
    grouped(1, (4, 2), 5, past=8, softcap=1.5, smooth_softmax=1),
    grouped(5, (4, 4), 5, local_window_size=2),
    grouped(1, (6, 6), 7, past=8, local_window_size=3, rotary=True),
    grouped(3, (2, 2), 3, more={11: f32(4)}),
    grouped(3, (2, 2), 3, more={10: f32(1, 4, 3, 3)}, softcap=2.0),
    grouped(1, (4, 4), 5, past=4, more={10: f32(2, 1, 1, 5)}),
    grouped(1, (4, 4), 5, past=4, more={9: i64([3], [4])}, rotary=True),
    grouped(3, (2, 2), 3, causal=0),
    grouped(3, (2, 2), 3, past=6),
]


@pytest.mark.parametrize("case", GROUPED, ids=str)
def test_grouped(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=1e-4, atol=1e-5)


def with_scores(case: Case) -> Any:
    """The case as a model that gives the scores too."""
    made = model(case, False)
    made.graph.node[0].output.append("scores")
    made.graph.output.add(name="scores").type.tensor_type.elem_type = 1
    return made


def run_in_onnxruntime(made: Any, inputs: list[Array]) -> list[Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip((i.name for i in session.get_inputs()), inputs, strict=True)))


def given(case: Case) -> list[Array]:
    return [x for x in case.inputs if x is not None]


@pytest.mark.parametrize("which", [1, 2])
def test_scores(which: int) -> None:
    case = grouped(3, (2, 2), 3, qk_output=which, softcap=2.0)
    made = with_scores(case)
    wanted = run_in_onnxruntime(made, given(case))[3]
    got = backend.prepare(made).run(given(case))[3]
    later = np.triu(np.ones((3, 3), bool), 1)  # those say nothing before the softmax
    np.testing.assert_allclose(np.where(later, 0, got), np.where(later, 0, wanted), 1e-4, 1e-5)


@pytest.mark.parametrize(
    "case",
    [
        grouped(4, (1, 3), 4, rotary=True),
        grouped(4, (4, 6), 8, past=8, more={16: i32(2, 3)}, rotary=True),
        grouped(1, (4, 6), 8, past=8, more={16: i32(1, 0)}),
    ],
    ids=str,
)
def test_padded_queries(case: Case) -> None:
    """Results of queries that count, and the cache as far as it is filled."""
    wanted, got = onnxruntime_outputs(case), backend.prepare(model(case, True)).run(given(case))
    keys = case.inputs[5] + 1
    valid = case.inputs[16] if len(case.inputs) > 16 else np.minimum(keys, 4)
    for n in range(2):
        np.testing.assert_allclose(got[0][n, : valid[n]], wanted[0][n, : valid[n]], 1e-4, 1e-5)
        for k in (1, 2):
            np.testing.assert_allclose(got[k][n, :, : keys[n]], wanted[k][n, :, : keys[n]], 1e-4, 1e-5)


@pytest.mark.parametrize(
    "case",
    [
        grouped(1, (4, 2), 5, past=8, rotary=True, dtype=np.float16),
        grouped(3, (2, 2), 3, packed=True, dtype=np.float16, softcap=2.0),
        rotary(f32(2, 3, 8).astype(np.float16), i64([0, 1, 2], [4, 9, 0]), 2),
    ],
    ids=str,
)
def test_float16(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=4e-3, atol=4e-3)


def test_norms_of_queries_and_keys() -> None:
    """They are applied head by head, as if the queries and keys had come normalised."""
    weights = f32(16), f32(16)
    case = grouped(3, (2, 2), 3, more={14: weights[0], 15: weights[1]}, qk_norm_epsilon=1e-3)
    plain = list(case.inputs[:7])
    for k, weight in enumerate(weights):
        heads = plain[k].reshape(2, 3, -1, 16)
        normal = heads / np.sqrt((heads**2).mean(-1, keepdims=True) + np.float32(1e-3)) * weight
        plain[k] = normal.reshape(plain[k].shape).astype(np.float32)
    expected = onnxruntime_outputs(Case("GroupQueryAttention", 1, plain, {"num_heads": 4, "kv_num_heads": 2}, outputs=3, domain=MS))
    check(case, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        grouped(3, (3, 2), 3),
        grouped(3, (-1, 2), 3),
        grouped(1, (5, 5), 6, past=4),
        grouped(1, (4, 4), 5, past=4, more={16: i32(2, 1)}),
        grouped(3, (2, 2), 3, more={11: f32(3)}),
        grouped(3, (2, 2), 3, num_heads=8),
        grouped(1, (13, 13), 14, past=16, rotary=True),
        grouped(3, (2, 2), 3, do_rotary=1),
        rotary(f32(2, 3, 8), i64([0, 1, 2], [4, 10, 0]), 2),
        rotary(f32(2, 3, 8), i64([0, 1, 2], [4, -1, 0]), 2),
        rotary(f32(2, 2, 3, 4), i64([0, 1, 2]), 2),
    ],
    ids=str,
)
def test_what_does_not_fit(case: Case, dynamic: bool) -> None:
    with pytest.raises(OnnxNumbaError, match=case.op):
        backend.prepare(model(case, dynamic)).run(given(case))
