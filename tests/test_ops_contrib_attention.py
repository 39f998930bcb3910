"""Attention of onnxruntime's domain against onnxruntime, with dims known and unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from operators import Case, check, model, onnxruntime_outputs

import onnx_numba.backend as backend
from onnx_numba.errors import OnnxNumbaError

MS = "com.microsoft"
RNG = np.random.default_rng(7)
Array = np.ndarray[Any, Any]


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def i32(*values: Any) -> Array:
    return np.array(values, np.int32)


def attention(*inputs: Any, outputs: int = 1, **attributes: Any) -> Case:
    """Two heads over an input of 2 x 3 x 8."""
    given = [f32(2, 3, 8), f32(8, 24), f32(24), *inputs]
    return Case("Attention", 1, given, {"num_heads": 2, **attributes}, outputs=outputs, domain=MS)


def multi_head(*inputs: Any, outputs: int = 1, **attributes: Any) -> Case:
    return Case("MultiHeadAttention", 1, inputs, {"num_heads": 2, **attributes}, outputs=outputs, domain=MS)


ATTENTION = [
    attention(),
    attention(unidirectional=1, scale=0.3),
    attention(i32(2, 3)),
    attention(i32(2, 3, 1, 0)),
    attention(i32(2, 3, 0, 3, 6, 0, 3, 6)),
    attention(i32([1, 1, 0], [1, 0, 1])),
    attention(i32([0, 1, 0], [0, 1, 1]), unidirectional=1),
    attention(i32([0, 0, 0], [0, 1, 1]), unidirectional=1, mask_filter_value=-3.4028234663852886e38),
    attention(i32([[1, 1, 0], [1, 0, 1], [0, 0, 1]], [[1, 1, 1], [1, 1, 1], [0, 1, 1]])),
    attention(None, f32(2, 2, 2, 4, 4), outputs=2),
    attention(i32([0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]), f32(2, 2, 2, 4, 4), outputs=2, unidirectional=1),
    attention(None, f32(2, 2, 2, 0, 4), outputs=2, unidirectional=1),
    attention(None, None, f32(1, 2, 3, 3), outputs=2),
    attention(i32(1, 3), None, f32(2, 1, 3, 3), unidirectional=1),
    Case("Attention", 1, [f32(2, 3, 8), f32(8, 22), f32(22)], {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 6]}, domain=MS),
    Case("Attention", 1, [f32(1, 1, 6), f32(6, 24)], {"num_heads": 4, "unidirectional": 1}, domain=MS),
]

MULTI_HEAD = [
    multi_head(f32(2, 3, 8), f32(2, 5, 8), f32(2, 5, 6)),
    multi_head(f32(2, 3, 8), f32(2, 5, 8), f32(2, 5, 6), f32(22), scale=0.2),
    multi_head(f32(2, 3, 8), f32(2, 5, 8), f32(2, 5, 6), None, i32(5, 2)),
    multi_head(f32(2, 3, 8), f32(2, 5, 8), f32(2, 5, 6), None, i32([1, 1, 1, 0, 1], [1, 0, 1, 1, 1]), f32(2, 1, 3, 5)),
    multi_head(f32(2, 3, 8), f32(2, 3, 8), f32(2, 3, 8), None, None, f32(1, 2, 3, 3), unidirectional=1),
    multi_head(f32(2, 3, 8), f32(2, 2, 5, 4), f32(2, 2, 5, 4)),
    multi_head(f32(2, 3, 8), f32(2, 3, 8), f32(2, 3, 8), f32(24), None, None, f32(2, 2, 4, 4), f32(2, 2, 4, 4), outputs=3),
    multi_head(
        f32(2, 3, 8), f32(2, 3, 8), f32(2, 3, 8), None, i32([0, 1, 1, 1, 1], [1, 1, 1, 1, 1]), None, f32(2, 2, 2, 4), f32(2, 2, 2, 4),
        outputs=3, unidirectional=1,
    ),
]  # fmt: skip


def quantised(x: Any, weights: Any, *inputs: Any, scales: Any = 0.01, outputs: int = 1, **attributes: Any) -> Case:
    """Two heads over quantised rows, for which onnxruntime wants all but these and the mask as constants."""
    given = [x, weights, f32(weights.shape[1]), np.float32(0.03), np.asarray(scales, np.float32), *inputs]
    return Case("QAttention", 1, given, {"num_heads": 2, **attributes}, (1, 2, 3, 4, 6, 7), outputs, MS)


def steps(dtype: Any, *shape: int) -> Array:
    return RNG.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


QUANTISED = [
    quantised(steps(np.uint8, 2, 3, 8), steps(np.int8, 8, 24)),
    quantised(steps(np.uint8, 2, 3, 8), steps(np.int8, 8, 24), None, np.uint8(128), np.int8(3), unidirectional=1),
    quantised(steps(np.uint8, 2, 3, 8), steps(np.uint8, 8, 24), i32(2, 3), np.uint8(100), np.uint8(130)),
    quantised(steps(np.uint8, 2, 3, 8), steps(np.int8, 8, 24), i32([1, 1, 0], [1, 0, 1]), np.uint8(3), np.int8(0)),
    quantised(
        steps(np.uint8, 2, 3, 8), steps(np.int8, 8, 24), None, np.uint8(7), steps(np.int8, 24), scales=np.abs(f32(24)) / 50 + 1e-3
    ),
    quantised(
        steps(np.uint8, 2, 3, 8), steps(np.int8, 8, 24), None, np.uint8(128), np.int8(0), f32(2, 2, 2, 4, 4), outputs=2, unidirectional=1
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", [*ATTENTION, *MULTI_HEAD, *QUANTISED], ids=str)
def test_as_onnxruntime(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=1e-4, atol=1e-5)


def test_rows_of_bytes_with_a_sign() -> None:
    """onnxruntime has them on other devices only; they are those without one, all moved by 128."""
    x, weights, zero = steps(np.uint8, 2, 3, 8), steps(np.int8, 8, 24), 100
    plain = quantised(x, weights, None, np.uint8(zero))
    moved = [(x.astype(np.int32) - 128).astype(np.int8), *plain.inputs[1:6], np.int8(zero - 128)]
    check(Case("QAttention", 1, moved, {"num_heads": 2}, (1, 2, 3, 4, 6), 1, MS), onnxruntime_outputs(plain), rtol=1e-4, atol=1e-5)


def test_packed_inputs() -> None:
    """Queries, keys and values in one tensor, or keys and values, which onnxruntime runs on other devices only."""
    q, k, v = (f32(2, 3, 2, 4) for _ in range(3))
    bias = f32(24)
    flat = [t.reshape(2, 3, 8) for t in (q, k, v)]
    expected = onnxruntime_outputs(multi_head(*flat, bias))
    check(multi_head(np.stack([q, k, v], 3), None, None, bias), expected, rtol=1e-4, atol=1e-5)
    check(multi_head(flat[0], np.stack([k, v], 3), None, bias), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", [None, i32([1, 1, 0], [1, 0, 1])], ids=["free", "masked"])
def test_scores(mask: Any) -> None:
    """The last output: the scores before the softmax."""
    case = multi_head(f32(2, 3, 8), f32(2, 3, 8), f32(2, 3, 8), None, mask, f32(1, 2, 3, 3), outputs=4)
    made = model(case, False)
    made.graph.output[3].type.tensor_type.elem_type = 1
    given = [x for x in case.inputs if x is not None]
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, dict(zip((i.name for i in session.get_inputs()), given, strict=True)))
    for mine, theirs in zip(backend.prepare(made).run(given), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, 1e-4, 1e-5)


def test_float16() -> None:
    case = attention(i32([1, 1, 0], [1, 0, 1]), unidirectional=1)
    halves = [x.astype(np.float16) if x.dtype == np.float32 else x for x in case.inputs]
    wide = [x.astype(np.float32) if x.dtype == np.float16 else x for x in halves]
    expected = onnxruntime_outputs(Case("Attention", 1, wide, case.attributes, domain=MS))
    check(Case("Attention", 1, halves, case.attributes, domain=MS), [x.astype(np.float16) for x in expected], rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        attention(i32([1, 1], [1, 0])),
        attention(i32(1, 2, 3)),
        attention(None, f32(2, 2, 2, 4, 3)),
        attention(None, None, f32(1, 3, 3, 3)),
        multi_head(f32(2, 3, 8), f32(2, 5, 8), f32(2, 4, 6)),
        multi_head(f32(2, 3, 8), f32(2, 5, 6), f32(2, 5, 6)),
        multi_head(f32(2, 3, 8), f32(2, 5, 8), f32(2, 5, 6), f32(21)),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit(case: Case, dynamic: bool) -> None:
    with pytest.raises(OnnxNumbaError, match=case.op):
        backend.prepare(model(case, dynamic)).run([x for x in case.inputs if x is not None])
