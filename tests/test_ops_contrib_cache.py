"""GroupQueryAttention over caches that are quantised, or that keep a window of the sequence only, against onnxruntime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper
from operators import Case, check, model, onnxruntime_outputs

import onnx_numba.backend as backend
from onnx_numba.errors import OnnxNumbaError

MS = "com.microsoft"
Array = np.ndarray[Any, Any]
HEADS, SHARED, SIZE = 4, 2, 32
TENSOR = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR"}
CHANNEL = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
BOTH = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_CHANNEL"}


def attention(
    length: int, seqlens: tuple[int, ...], room: int, total: int = 0, bits: int = 0, kind: Any = np.float32, rotary: bool = False,
    bias: bool = False, valid: tuple[int, ...] = (), seed: int = 3, size: int = SIZE, cache: Any = None, **attributes: Any,
) -> Case:  # fmt: skip
    """A step of some queries over a cache with some room, 4 heads over 2; ``seqlens`` are one less than the keys there are after it."""
    random = np.random.default_rng(seed)

    def f32(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float32)

    batch, most = len(seqlens), total or max(seqlens) + 1
    inputs: list[Any] = [f32(batch, length, heads * size).astype(kind) for heads in (HEADS, SHARED, SHARED)]
    shape = (batch, SHARED, room, (size + 1) // 2 if bits == 4 else size)
    stored: Any = {0: np.float32, 4: np.uint8, 8: np.int8}[bits] if cache is None else cache
    for _ in range(2):
        past = random.integers(0, 256, shape).astype(np.uint8).view(stored) if stored in (np.int8, np.uint8) else f32(*shape).astype(stored)
        inputs.append(past if room else None)
    inputs += [np.array(seqlens, np.int32), np.array(most, np.int32)]
    angles = np.arange(40)[:, None] * (0.7 ** np.arange(size // 2))
    inputs += [np.cos(angles).astype(kind), np.sin(angles).astype(kind)] if rotary else [None, None]
    inputs += [None, f32(1, HEADS, length, most) if bias else None, None]
    step = {4: 0.4, 8: 0.02, 0: 0.0}[bits]
    for name in ("k_quant_type", "v_quant_type"):
        which = attributes.get(name, "NONE")
        scale = (1 + 0.5 * random.random((1, SHARED, 1, size) if which == "PER_CHANNEL" else 1).astype(np.float32)) * np.float32(step)
        inputs.append(None if which == "NONE" else scale)
    inputs += [None, None, np.array(valid, np.int32) if valid else None]
    while inputs[-1] is None:
        inputs.pop()
    attributes = {"num_heads": HEADS, "kv_num_heads": SHARED, **({"do_rotary": 1} if rotary else {}), **attributes}
    attributes |= {"kv_cache_bit_width": bits} if bits else {}
    return Case("GroupQueryAttention", 1, inputs, attributes, outputs=3, domain=MS)


def given(case: Case) -> list[Array]:
    return [x for x in case.inputs if x is not None]


@pytest.mark.parametrize(
    "case",
    [
        attention(3, (2, 2), 6, bits=8, **TENSOR),
        attention(3, (2, 2), 6, bits=8, **CHANNEL),
        attention(1, (4, 4), 4, bits=8, **TENSOR),
        attention(1, (4, 2), 8, bits=8, rotary=True, **CHANNEL),
        attention(3, (5,), 8, bits=8, rotary=True, bias=True, softcap=2.0, **TENSOR),
        attention(3, (2, 2), 6, bits=4, **TENSOR),
        attention(1, (4, 2), 8, bits=4, rotary=True, **CHANNEL),
        attention(3, (5,), 8, bits=4, local_window_size=2, **CHANNEL),
    ],
    ids=str,
)
def test_quantised(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=2e-4, atol=2e-5)


def test_one_scale_for_the_keys_and_many_for_the_values() -> None:
    """Not in onnxruntime: as many scales that are all the same."""
    case = attention(1, (4, 2), 8, bits=8, **BOTH)
    inputs = list(case.inputs)
    inputs[12] = np.broadcast_to(inputs[12], (1, SHARED, 1, SIZE)).copy()
    same = Case("GroupQueryAttention", 1, inputs, {**case.attributes, **CHANNEL}, outputs=3, domain=MS)
    check(case, onnxruntime_outputs(same), rtol=2e-4, atol=2e-5)


def test_the_numbers_in_the_cache() -> None:
    """They are rounded to even and limited; a scale of 0 counts as 1, and the second half of a byte without a number as 0."""
    case = attention(2, (1, 1), 0, bits=4, size=3, **CHANNEL)
    case.inputs[12][0, 0, 0] = [0, 0.01, 0.5]
    case.inputs[1][0, 0, :3] = [2.5, -1.0, 0.25]
    key = case.inputs[1].reshape(2, 2, SHARED, 3).transpose(0, 2, 1, 3)
    scale = case.inputs[12]
    numbers = np.clip(np.rint(key * (1 / np.where(scale == 0, 1, scale)).astype(np.float32)), -8, 7).astype(np.int64) + 8
    numbers = np.concatenate([numbers, np.full((2, SHARED, 2, 1), 8)], 3)
    np.testing.assert_array_equal(numbers[0, 0, 0], [10, 0, 8, 8])
    got = backend.prepare(model(case, True)).run(given(case))[1]
    np.testing.assert_array_equal(got, (numbers[..., 0::2] + 16 * numbers[..., 1::2]).astype(np.uint8))


def test_a_cache_of_small_floats() -> None:
    small = ml_dtypes.float8_e4m3fn
    case = attention(1, (4, 4), 6, bits=8, cache=small, **CHANNEL)
    plain = attention(1, (4, 4), 6)
    for k in (0, 1, 2):
        plain.inputs[k][...] = case.inputs[k]
    for k, s in ((1, 12), (2, 13)):
        heads = case.inputs[k].reshape(2, 1, SHARED, SIZE).transpose(0, 2, 1, 3)
        kept = (heads * (1 / case.inputs[s])).astype(small)
        plain.inputs[k][...] = (kept.astype(np.float32) * case.inputs[s]).transpose(0, 2, 1, 3).reshape(2, 1, -1)
        plain.inputs[k + 2][...] = case.inputs[k + 2].astype(np.float32) * case.inputs[s]
    expected = onnxruntime_outputs(plain)
    got = backend.prepare(model(case, True)).run(given(case))
    assert got[1].dtype == small
    np.testing.assert_allclose(got[0], expected[0], 2e-4, 2e-5)
    for k, s in ((1, 12), (2, 13)):
        np.testing.assert_allclose(got[k].astype(np.float32)[:, :, :5] * case.inputs[s], expected[k][:, :, :5], 1e-6)


def test_float16_over_a_quantised_cache() -> None:
    """No provider for CPU has it: as float32, rounded."""
    case = attention(3, (5,), 8, bits=8, kind=np.float16, **TENSOR)
    wide = attention(3, (5,), 8, bits=8, **TENSOR)
    for k in (0, 1, 2):
        wide.inputs[k][...] = case.inputs[k].astype(np.float32)
    expected = onnxruntime_outputs(wide)
    got = backend.prepare(model(case, True)).run(given(case))
    assert got[0].dtype == np.float16
    np.testing.assert_allclose(got[0], expected[0], 2e-3, 2e-3)
    np.testing.assert_array_equal(got[1], expected[1])


def resident(count: int, room: int, size: int) -> int:
    """How many positions a window's cache has, as the operator's documentation says."""
    together = room - size + 1
    return count if count <= room else count - together * -(-(count - room) // together)


WINDOWS = [
    attention(3, (2, 2), 4, sliding_window_cache=1, local_window_size=4, rotary=True),
    attention(1, (8, 3), 6, sliding_window_cache=1, local_window_size=4, rotary=True),
    attention(1, (13, 12), 6, sliding_window_cache=1, local_window_size=4, bias=True),
    attention(1, (11, 11), 5, sliding_window_cache=1, local_window_size=5),
    attention(9, (15,), 6, sliding_window_cache=1, local_window_size=3, rotary=True, bias=True),
    attention(4, (9, 12), 6, valid=(2, 4), sliding_window_cache=1, local_window_size=4, rotary=True),
    attention(1, (8, 3), 6, bits=8, sliding_window_cache=1, local_window_size=4, **CHANNEL),
    attention(3, (9,), 6, bits=4, sliding_window_cache=1, local_window_size=4, **TENSOR),
]


@pytest.mark.parametrize("case", WINDOWS, ids=str)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_windows(case: Case, dynamic: bool) -> None:
    """Results of queries that count, and the cache as far as it is filled."""
    expected, got = onnxruntime_outputs(case), backend.prepare(model(case, dynamic)).run(given(case))
    size, room = case.attributes["local_window_size"], case.inputs[3].shape[2]
    for n, last in enumerate(case.inputs[5]):
        valid = case.inputs[16][n] if len(case.inputs) > 16 else case.inputs[0].shape[1]
        np.testing.assert_allclose(got[0][n, :valid], expected[0][n, :valid], 2e-4, 2e-5)
        for k in (1, 2):
            assert got[k].shape == expected[k].shape and got[k].dtype == expected[k].dtype
            filled = resident(last + 1, room, size)
            np.testing.assert_allclose(got[k][n, :, :filled], expected[k][n, :, :filled], 1e-4, 1e-5)


@pytest.mark.parametrize("which", [1, 2])
def test_scores_over_a_window_are_those_over_the_whole_cache(which: int) -> None:
    """Onnxruntime does not run it."""
    found = []
    for room, window in ((9, {}), (6, {"sliding_window_cache": 1})):
        case = attention(9, (8, 5), room, local_window_size=4, qk_output=which, **window)
        made = model(case, False)
        made.graph.node[0].output.append("scores")
        made.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, None))
        found.append(backend.prepare(made, jit=False).run(given(case)).scores)
    own, key = np.arange(9)[:, None], np.arange(9)[None, :]
    for n, count in enumerate((9, 6)):
        seen = (key <= own) & (key > own - 4) & (own < count)
        assert found[1].shape == (2, HEADS, 9, 9) and found[1][n][:, seen].all()
        np.testing.assert_allclose(found[1][n][:, seen], found[0][n][:, seen], 1e-5, 1e-6)


def test_one_at_a_time_as_all_at_once() -> None:
    whole = attention(9, (8,), 6, sliding_window_cache=1, local_window_size=4)
    expected = backend.prepare(model(whole, True)).run(given(whole))
    step = attention(1, (8,), 6, sliding_window_cache=1, local_window_size=4)
    rep = backend.prepare(model(step, True))
    past = [whole.inputs[3], whole.inputs[4]]
    for t in range(9):
        new = [x[:, t : t + 1] for x in whole.inputs[:3]]
        output, *past = rep.run([*new, *past, np.array([t], np.int32), np.array(t + 1, np.int32)])
        np.testing.assert_allclose(output[:, 0], expected[0][:, t], 1e-4, 1e-5)
    filled = resident(9, 6, 4)
    for k in (0, 1):
        np.testing.assert_array_equal(past[k][:, :, :filled], expected[k + 1][:, :, :filled])


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (attention(1, (4,), 6, sliding_window_cache=1), "local_window_size of at least 1"),
        (attention(1, (4,), 0, sliding_window_cache=1, local_window_size=3), "needs past_key"),
        (attention(1, (4,), 6, sliding_window_cache=1, local_window_size=7), "must be at least local_window_size, 7"),
        (attention(1, (4,), 6, bits=8, **{**TENSOR, "k_quant_type": "BY_HEAD"}), "k_quant_type 'BY_HEAD' is unknown"),
        (attention(1, (4,), 6, bits=8, cache=np.uint8, **TENSOR), "uint8, int8 is expected"),
        (attention(1, (4,), 6, cache=np.int8), "int8, float is expected"),
        (attention(1, (4,), 6, k_quant_type="PER_TENSOR"), "kv_cache_bit_width must be 4 or 8"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_does_not_fit(case: Case, message: str) -> None:
    with pytest.raises(OnnxNumbaError, match="GroupQueryAttention") as caught:
        backend.prepare(model(case, False)).run(given(case))
    assert message in str(caught.value)
