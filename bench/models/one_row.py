"""One row through small models: what a service or a control loop calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import build
from bench.case import Built, Case, Feed, Model, Source
from bench.models import corpus, learned
from onnx_numba import samples

_CORPUS = (
    "iris_random_forest_go", "rf_iris_string_labels", "scaler_pca_iris", "mlp_digits", "policy_go1_playground",
    "hand_gesture_mlp", "hand_gesture_lstm", "wakeword_alfred",
)  # fmt: skip


def cases() -> Iterator[Case]:
    """Models of a microsecond or a few."""
    row = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
    yield Case("iris_zipmap", Model("iris_zipmap", lambda: Built(Path(samples.path()).read_bytes())), lambda: {"X": row}, rows=1)
    for name, build_model, features in (
        ("scaler_linear", learned.scaler_linear, 10),
        ("forest20_regressor", partial(learned.forest, 20, 6), 10),
        ("forest20_classifier", partial(learned.forest_classifier, 20, 6), 30),
    ):
        model = Model(name, build_model, ("sklearn", "skl2onnx"))
        yield Case(name, model, lambda features=features: {"X": build.normal(1, features)}, rows=1)  # type: ignore[misc]
    for hidden in (64, 128, 256):
        yield Case(f"policy_3x{hidden}", Model(f"policy_3x{hidden}", partial(mlp, (48, hidden, hidden, hidden, 12))),
                   lambda: {"x": build.normal(1, 48)}, rows=1)  # fmt: skip
    yield from corpus.cases(*_CORPUS)


def mlp(widths: tuple[int, ...], activation: str = "Tanh") -> Built:
    """Gemm and an activation, as often as there are hidden layers, and a last Gemm."""
    nodes: list[Any] = []
    constants: dict[str, np.ndarray] = {}
    last = "x"
    for number in range(len(widths) - 1):
        constants |= {f"w{number}": build.weight(f"w{number}", *widths[number : number + 2])}
        constants |= {f"b{number}": build.weight(f"b{number}", widths[number + 1])}
        final = number == len(widths) - 2
        nodes.append(build.node("Gemm", [last, f"w{number}", f"b{number}"], "y" if final else f"g{number}"))
        if not final:
            nodes.append(build.node(activation, f"g{number}", f"a{number}"))
        last = f"a{number}"
    data = build.model(nodes, {"x": ["n", widths[0]]}, {"y": ["n", widths[-1]]}, constants)
    layers = [(constants[f"w{number}"], constants[f"b{number}"]) for number in range(len(widths) - 1)]
    return Built(data, {"numpy": Source(partial(_numpy_mlp, layers, activation)), "torch": Source(partial(_torch_mlp, layers, activation))})


def _numpy_mlp(layers: list[tuple[np.ndarray, np.ndarray]], activation: str, feed: Feed) -> list[np.ndarray]:
    value = feed["x"]
    for number, (weights, bias) in enumerate(layers):
        value = value @ weights + bias
        if number + 1 < len(layers):
            value = np.tanh(value) if activation == "Tanh" else np.maximum(value, np.float32(0))
    return [value]


def _torch_mlp(layers: list[tuple[np.ndarray, np.ndarray]], activation: str) -> Callable[..., Any]:
    import torch

    modules: list[torch.nn.Module] = []
    for weights, bias in layers:
        linear = torch.nn.Linear(*weights.shape)
        linear.weight.data, linear.bias.data = torch.from_numpy(weights.T.copy()), torch.from_numpy(bias)
        modules += [linear, getattr(torch.nn, {"Tanh": "Tanh", "Relu": "ReLU"}[activation])()]
    return torch.nn.Sequential(*modules[:-1])
