"""Activations, normalisations, fused products and the quantised LSTM of onnxruntime's domain against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operators import Case, check, model, onnxruntime_outputs

import onnx_numba.backend as backend
from onnx_numba.errors import OnnxNumbaError

MS = "com.microsoft"
RNG = np.random.default_rng(5)
Array = np.ndarray[Any, Any]


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def f16(*shape: int) -> Array:
    return f32(*shape).astype(np.float16)


def ms(op: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Case:
    return Case(op, 1, inputs, attributes, outputs=outputs, domain=MS)


def i32(*values: Any) -> Array:
    return np.array(values, np.int32)


ACTIVATIONS = [
    ms("Gelu", f32(3, 5)), ms("BiasGelu", f32(2, 3, 5), f32(5)), ms("FastGelu", f32(2, 3, 5), f32(5)), ms("FastGelu", f32(7)),
    ms("QuickGelu", f32(3, 5)), ms("QuickGelu", f32(3, 5), alpha=0.5),
]  # fmt: skip

NORMS = [
    Case("LayerNormalization", 11, [f32(2, 3, 5), f32(5), f32(5)], {"epsilon": 1e-3}, outputs=3),
    Case("LayerNormalization", 16, [f32(2, 3, 5), f32(3, 5)], {"axis": 1}),
    Case("SimplifiedLayerNormalization", 11, [f32(2, 3, 5), f32(5)], {"epsilon": 1e-3}, outputs=2),
    Case("SimplifiedLayerNormalization", 21, [f32(2, 3, 5), f32(3, 5)], {"axis": -2}),
    ms("SkipLayerNormalization", f32(2, 3, 5), f32(2, 3, 5), f32(5), f32(5), f32(5), epsilon=1e-3),
    ms("SkipLayerNormalization", f32(2, 3, 5), f32(1, 3, 5), f32(5)),
    ms("SkipLayerNormalization", f32(2, 3, 5), f32(3, 5), f32(5), f32(5)),
    ms("SkipLayerNormalization", f32(4, 5), f32(4, 5), f32(5), f32(5)),
    ms("SkipSimplifiedLayerNormalization", f32(2, 3, 5), f32(2, 3, 5), f32(5), f32(5), epsilon=1e-3),
    ms("SkipSimplifiedLayerNormalization", f32(2, 3, 5), f32(3, 5), f32(5)),
]

WORDS, SEGMENTS = RNG.integers(0, 9, (2, 3), np.int32), RNG.integers(0, 2, (2, 3), np.int32)
TABLES = {"word": f32(9, 4), "place": f32(6, 4), "segment": f32(2, 4), "gamma": f32(4), "beta": f32(4)}


def embedded(segments: Any, mask: Any = None, places: Any = None, **attributes: Any) -> Case:
    t = TABLES
    inputs = [WORDS, segments, t["word"], t["place"], t["segment"] if segments is not None else None, t["gamma"], t["beta"], mask, places]
    return ms("EmbedLayerNormalization", *inputs, outputs=3, **attributes)


EMBEDDINGS = [
    embedded(SEGMENTS, i32([1, 1, 0], [1, 1, 1]), epsilon=1e-3),
    embedded(None),
    embedded(None, None, i32([2, 3, 4])),
    embedded(SEGMENTS, i32([0, 0, 0], [1, 0, 1]), i32([2, 3, 4], [0, 0, 5])),
]

PRODUCTS = [
    ms("FusedMatMul", f32(3, 4), f32(4, 5), alpha=0.5),
    ms("FusedMatMul", f32(2, 4, 3), f32(2, 5, 4), transA=1, transB=1),
    ms("FusedMatMul", f32(3, 2, 4), f32(2, 4, 5), transBatchA=1),
    ms("FusedMatMul", f32(4, 2, 3), f32(5, 2, 4), transA=1, transBatchA=1, transB=1, transBatchB=1),
    ms("FusedMatMul", f32(4), f32(4, 5), transA=1),
    ms("FusedGemm", f32(4, 3), f32(5, 4), f32(5), transA=1, transB=1, alpha=0.5, beta=2.0, activation="Relu"),
    ms("FusedGemm", f32(3, 4), f32(4, 5), activation="LeakyRelu", activation_alpha=0.3),
    ms("FusedGemm", f32(3, 4), f32(4, 5), f32(5), activation="HardSigmoid", activation_alpha=0.3, activation_beta=0.4),
    ms("FusedGemm", f32(3, 4), f32(4, 5), activation="Tanh"),
    ms("FusedConv", f32(1, 2, 5, 6), f32(3, 2, 3, 3), f32(3), activation="Relu", pads=[1, 1, 1, 1]),
    ms("FusedConv", f32(1, 2, 5, 6), f32(3, 2, 3, 3), f32(3), f32(1, 3, 3, 4), activation="Relu"),
    ms("FusedConv", f32(1, 2, 5, 6), f32(4, 1, 3, 3), activation="LeakyRelu", activation_params=[0.3], group=2, strides=[2, 1]),
    ms("FusedConv", f32(1, 2, 5, 6), f32(3, 2, 3, 3), activation="Clip", activation_params=[-0.5, 0.5]),
    ms("FusedConv", f32(1, 2, 5, 6), f32(3, 2, 3, 3), activation="HardSigmoid", activation_params=[0.3, 0.4], auto_pad="SAME_UPPER"),
    ms("FusedConv", f32(1, 2, 5, 6), f32(3, 2, 3, 3), f32(3)),
]


@pytest.mark.parametrize("case", [*ACTIVATIONS, *NORMS, *EMBEDDINGS, *PRODUCTS], ids=str)
def test_as_onnxruntime(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_outputs_besides(op: str) -> None:
    """The moments, which onnxruntime's CPU does not give, and the sum."""
    x, skip, gamma, bias = f32(2, 3, 5), f32(3, 5), f32(5), f32(5)
    simple = op == "SkipSimplifiedLayerNormalization"
    case = ms(op, x, skip, gamma, *([bias] if simple else [None, bias]), outputs=4, epsilon=1e-3)
    made = model(case, False)
    rep = backend.prepare(made if not simple else _without(made, "out1"))
    got = dict(zip([port.name for port in rep.outputs], rep.run([x, skip, gamma, bias]), strict=True))
    total = x + bias + skip
    mean = total.mean(-1, keepdims=True)
    np.testing.assert_allclose(got["out3"], total, 1e-6)
    spread = 1 / np.sqrt((total**2).mean(-1, keepdims=True) + 1e-3 if simple else total.var(-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(got["out2"], spread, 1e-4)
    if not simple:
        np.testing.assert_allclose(got["out1"], mean, 1e-4, 1e-6)


def _without(made: Any, name: str) -> Any:
    """The model without an output of its only node."""
    kept = [value for value in made.graph.output if value.name != name]
    del made.graph.output[:]
    made.graph.output.extend(kept)
    made.graph.node[0].output[list(made.graph.node[0].output).index(name)] = ""
    return made


@pytest.mark.parametrize(
    "case",
    [
        ms("SkipLayerNormalization", f16(2, 3, 8), f16(2, 3, 8), f16(8), f16(8), f16(8)),
        ms("SkipSimplifiedLayerNormalization", f16(2, 3, 8), f16(2, 3, 8), f16(8)),
        Case("LayerNormalization", 16, [f16(2, 3, 8), f16(8), f16(8)], {}),
        Case("SimplifiedLayerNormalization", 16, [f16(2, 3, 8), f16(8)], {}),
        ms("Gelu", f16(3, 5)),
        ms("FastGelu", f16(3, 5), f16(5)),
    ],
    ids=str,
)
def test_float16(case: Case) -> None:
    check(case, onnxruntime_outputs(case), rtol=4e-3, atol=4e-3)


def lstm(ways: int, per_column: bool, signed: bool, lengths: Any = None, units: int = 6, **attributes: Any) -> Case:
    """A quantised LSTM of 4 steps, 3 sequences and 5 features."""
    rng = np.random.default_rng(3)  # its own, since a rounding step may fall differently here and there
    kind = np.int8 if signed else np.uint8
    low, high = (-127, 128) if signed else (0, 256)
    shape = (ways, 4 * units) if per_column else (ways,)
    zero = np.zeros(shape, kind) if signed else np.full(shape, 121, kind)
    weights = [rng.integers(low, high, (ways, rows, 4 * units)).astype(kind) for rows in (5, units)]
    scales = [rng.uniform(0.005, 0.01, shape).astype(np.float32) for _ in range(2)]
    shapes = ((4, 3, 5), (ways, 8 * units), (ways, 3 * units), (ways, 3, units), (ways, 3, units))
    x, bias, peepholes, first, cell = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    inputs = [x, *weights, bias, lengths, first, cell, peepholes, scales[0], zero, scales[1], zero]
    return Case(
        "DynamicQuantizeLSTM", 1, inputs, {"hidden_size": units, **attributes}, constants=(1, 2, 8, 9, 10, 11), outputs=3, domain=MS
    )


@pytest.mark.parametrize(
    "case",
    [
        lstm(1, False, True),
        lstm(1, True, True, direction="reverse"),
        lstm(2, False, False, direction="bidirectional"),
        lstm(2, True, True, i32(4, 2, 3), direction="bidirectional"),
        lstm(1, False, False, i32(1, 2, 2), clip=0.7),
        lstm(1, False, True, input_forget=1, activations=["HardSigmoid", "Tanh", "Softsign"]),
    ],
    ids=str,
)
def test_quantised_lstm(case: Case) -> None:
    check(case, _one_thread(case), rtol=1e-4, atol=2e-5)


def test_quantised_lstm_of_many_units() -> None:
    """More products than are exact when added up as float32."""
    case = lstm(1, True, False, units=263)
    check(case, _one_thread(case), rtol=1e-4, atol=2e-5, interpreted=False)


def _one_thread(case: Case) -> list[Array]:
    """What onnxruntime gives with one thread: with more it quantises the state of parts of the batch."""
    return onnxruntime_outputs(case, threads=1)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        ms("BiasGelu", f32(2, 3, 5), f32(4)),
        ms("SkipLayerNormalization", f32(2, 3, 5), f32(2, 1, 5), f32(5)),
        ms("SkipLayerNormalization", f32(2, 3, 5), f32(3, 3, 5), f32(5)),
        ms("SkipSimplifiedLayerNormalization", f32(2, 3, 5), f32(2, 3, 5), f32(4)),
        embedded(SEGMENTS, None, i32([2, 3, 9])),
        embedded(SEGMENTS, None, i32([2, 3, -1])),
        ms("FusedGemm", f32(3, 4), f32(4, 5), activation="Sine"),
        ms("FusedConv", f32(1, 2, 5, 6), f32(3, 2, 3, 3), None, f32(1, 3, 3, 1)),
    ],
    ids=str,
)
def test_what_does_not_fit(case: Case, dynamic: bool) -> None:
    with pytest.raises(OnnxNumbaError, match=case.op):
        backend.prepare(model(case, dynamic)).run([x for x in case.inputs if x is not None])
