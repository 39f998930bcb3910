"""Recurrent nets and speech: LSTM, GRU, voice activity with If, streaming enhancement, STFT front ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from onnx import TensorProto

from bench import build
from bench.case import Built, Case, Feed, Model, Source
from bench.models import corpus

_CORPUS = (
    "silero_vad_v5", "silero_vad_micro", "gtcrn_stream_simple", "dtln_part1", "nnsplit_en_bidi_v0", "cntk_lstm_scan",
    "lstm_classifier_dyn_int8", "voicevox_duration", "basic_pitch_nmp", "dnsmos_p808",
)  # fmt: skip
_GATES = {"LSTM": ((0, 2, 3, 1), 4), "GRU": ((1, 0, 2), 3)}
"""Operator → (where torch's gates are among ONNX's, their number)."""
_SAMPLES, _WINDOW, _HOP, _MELS = 16_000, 400, 160, 80


def cases() -> Iterator[Case]:
    """Generated nets, then those of the corpus."""
    for name, op, steps, batch, width, hidden in (
        ("lstm_128_100_steps", "LSTM", 100, 1, 64, 128),
        ("lstm_256_50_steps_batch8", "LSTM", 50, 8, 256, 256),
        ("lstm_128_one_step", "LSTM", 1, 1, 64, 128),
        ("gru_128_100_steps", "GRU", 100, 1, 64, 128),
        ("gru_64_one_step", "GRU", 1, 1, 64, 64),
    ):
        feed = partial(_sequence, steps, batch, width)
        yield Case(name, Model(name, partial(recurrent, op, width, hidden)), feed)
    yield Case("stft_log_mel_1s", Model("stft_log_mel_1s", _log_mel), lambda: {"audio": 0.1 * build.normal(1, _SAMPLES)})
    flag = lambda: {"audio": build.normal(1, 512), "state": np.zeros((1, 1, 64), np.float32), "rate": np.array(16000, np.int64)}  # noqa: E731
    yield Case("voice_activity_if", Model("voice_activity_if", _voice_activity), flag)
    yield from corpus.cases(*_CORPUS)


def _sequence(steps: int, batch: int, width: int) -> Feed:
    return {"x": build.normal(steps, batch, width)}


def recurrent(op: str, width: int, hidden: int) -> Built:
    """One layer, from zero."""
    order, gates = _GATES[op]
    # Each gate's matrix scaled to a spectral radius of about one: above it a state is chaotic, and rounding grows until no two agree.
    scale = np.float32(np.sqrt(gates))
    w, r = (build.weight(name, gates * hidden, columns) * scale for name, columns in (("w", width), ("r", hidden)))
    b = build.weight("b", 2 * gates * hidden)
    attributes = {"linear_before_reset": 1} if op == "GRU" else {}
    nodes = [
        build.node(op, "x w r b", "h", hidden_size=hidden, **attributes),
        build.node("Squeeze", "h axis", "y"),
    ]
    constants = {"w": w[None], "r": r[None], "b": b[None], "axis": np.array([1])}
    data = build.model(nodes, {"x": ["t", "n", width]}, {"y": ["t", "n", hidden]}, constants)
    torch = partial(_torch_recurrent, op, [_regated(part, order) for part in (w, r, *np.split(b, 2))], width, hidden)
    return Built(data, {"torch": Source(torch)})


def _regated(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    parts = np.split(array, len(order))
    return np.concatenate([parts[gate] for gate in order])


def _torch_recurrent(op: str, weights: list[np.ndarray], width: int, hidden: int) -> Callable[..., Any]:
    import torch

    layer = getattr(torch.nn, op)(width, hidden)
    for parameter, array in zip(layer.all_weights[0], weights, strict=True):
        parameter.data = torch.from_numpy(array)
    return lambda x: layer(x)[0]


def _log_mel() -> Built:
    """A second of sound as 80 log mel bands, the front end of most speech nets."""
    bins = _WINDOW // 2 + 1
    bank = np.maximum(0, 1 - np.abs(np.arange(bins)[:, None] - np.linspace(2, bins - 3, _MELS)[None, :]) / 4).astype(np.float32)
    constants = {"hop": np.array(_HOP), "window": np.hanning(_WINDOW).astype(np.float32), "length": np.array(_WINDOW), "bank": bank,
                 "floor": np.float32(1e-6), "last": np.array([-1]), "column": np.array([-1])}  # fmt: skip
    nodes = [
        build.node("Unsqueeze", "audio column", "signal"),
        build.node("STFT", "signal hop window length", "spectrum", onesided=1),
        build.node("ReduceSumSquare", "spectrum last", "power", keepdims=0),
        build.node("MatMul", "power bank", "mel"),
        build.node("Add", "mel floor", "shifted"),
        build.node("Log", "shifted", "y"),
    ]
    return Built(build.model(nodes, {"audio": [1, _SAMPLES]}, {"y": [1, None, _MELS]}, constants))


def _voice_activity() -> Built:
    """As silero's: an If by the sampling rate around a convolution front end, then an LSTM step on a state that is passed on."""
    constants = {
        "f16": build.weight("f16", 32, 1, 64), "f8": build.weight("f8", 32, 1, 32), "high": np.array(16000),
        "w": build.weight("w", 256, 32)[None] * 2, "r": build.weight("r", 256, 64)[None] * 2, "b": build.weight("b", 512)[None],
        "last": np.array([-1]), "first": np.array([0]), "one": np.array([1]), "head": build.weight("head", 64, 1),
    }  # fmt: skip

    def branch(filters: str, stride: int) -> Any:
        nodes = [build.node("Conv", ["signal", filters], "c", strides=[stride]), build.node("Relu", "c", "front")]
        return build.graph(nodes, {}, {"front": [1, 32, None]})

    nodes = [
        build.node("Unsqueeze", "audio one", "signal"),
        build.node("Equal", "rate high", "is_high"),
        build.node("If", "is_high", "features", then_branch=branch("f16", 32), else_branch=branch("f8", 16)),
        build.node("ReduceMean", "features last", "pooled", keepdims=0),
        build.node("Unsqueeze", "pooled first", "step"),
        build.node("LSTM", ["step", "w", "r", "b", "", "state"], ["", "next"], hidden_size=64),
        build.node("Squeeze", "next first", "hidden"),
        build.node("MatMul", "hidden head", "logit"),
        build.node("Sigmoid", "logit", "probability"),
    ]
    takes: dict[str, Any] = {"audio": [1, 512], "state": [1, 1, 64], "rate": (TensorProto.INT64, [])}
    return Built(build.model(nodes, takes, {"probability": [1, 1], "next": [1, 1, 64]}, constants))
