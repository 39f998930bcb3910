"""Work that memory bounds: elementwise chains, norms, softmax, casts, on 1 to 100 MB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from onnx import TensorProto

from bench import build
from bench.case import Built, Case, Feed, Model, Source

CHAIN_MEGABYTES = (1, 10, 100)
SINGLE_MEGABYTES = (1, 100)
WIDTH = 512
"""Elements of a row that norms and softmax reduce over."""

CHAINS = {
    "chain5": "Mul Add Relu Neg Abs",
    "chain6_sigmoid": "Mul Add Sigmoid Mul Relu Sub",
    "chain8_exp_tanh": "Mul Add Tanh Mul Exp Sub Abs Add",
}
"""Elementwise chains; operators of two inputs take a constant as the second."""


def cases() -> Iterator[Case]:
    """Chains of three or more nodes, then single ones."""
    for name, operators in CHAINS.items():
        yield from _sized(name, partial(chain, operators), 1, CHAIN_MEGABYTES)
    for name, (make, takes) in _COMPOSED.items():
        yield from _sized(name, make, takes, CHAIN_MEGABYTES)
    for name, (make, takes) in _SINGLE.items():
        yield from _sized(name, make, takes, SINGLE_MEGABYTES, nodes=1)


def _sized(name: str, make: Callable[[], Built], takes: int, sizes: tuple[int, ...], nodes: int = 3) -> Iterator[Case]:
    model = Model(name, make)
    half = name == "casts_f16"
    for size in sizes:
        feed = partial(_feed, takes, size, np.float16 if half else np.float32)
        tolerance = 2e-3 if half else 1e-3
        yield Case(f"{name}@{size}MB", model, feed, nodes=nodes, streams=True, starts=size == sizes[-1], tolerance=tolerance)


def _feed(takes: int, megabytes: int, dtype: type) -> Feed:
    """The first input has the size that is said; the others are as large, or one row."""
    rows = megabytes * 1_000_000 // (WIDTH * np.dtype(dtype).itemsize)
    generator = np.random.default_rng(0)
    return {f"x{number}": generator.standard_normal((rows, WIDTH), np.float32).astype(dtype) for number in range(takes)}


def chain(operators: str) -> Built:
    """Operators in a row on one tensor."""
    nodes, constants, last = [], {}, "x0"
    names = operators.split()
    for number, op in enumerate(names):
        inputs, last = [last], f"v{number}" if number + 1 < len(names) else "y"
        if op in ("Add", "Sub", "Mul"):
            constants[f"c{number}"] = np.float32(0.5 + 0.25 * number)
            inputs.append(f"c{number}")
        nodes.append(build.node(op, inputs, last))
    return _built(nodes, 1, constants, partial(_numpy_chain, names), partial(_torch_chain, names))


def _numpy_chain(names: list[str], feed: Feed) -> list[np.ndarray]:
    value = feed["x0"]
    for number, op in enumerate(names):
        value = _NUMPY[op](value, np.float32(0.5 + 0.25 * number))
    return [value]


_NUMPY: dict[str, Callable[[Any, Any], Any]] = {
    "Mul": np.multiply,
    "Add": np.add,
    "Sub": np.subtract,
    "Neg": lambda x, _: -x,
    "Abs": lambda x, _: np.abs(x),
    "Exp": lambda x, _: np.exp(x),
    "Tanh": lambda x, _: np.tanh(x),
    "Relu": lambda x, _: np.maximum(x, np.float32(0)),
    "Sigmoid": lambda x, _: 1 / (1 + np.exp(-x)),
}


def _torch_chain(names: list[str]) -> Callable[..., Any]:
    import torch

    two = {"Mul": torch.mul, "Add": torch.add, "Sub": torch.sub}

    def run(value: Any) -> Any:
        for number, op in enumerate(names):
            value = two[op](value, 0.5 + 0.25 * number) if op in two else getattr(torch, op.lower())(value)
        return value

    return run


def _residual_norm() -> Built:
    nodes = [
        build.node("Add", "x0 x1", "s"),
        build.node("LayerNormalization", "s scale bias", "n", axis=-1, epsilon=1e-5),
        build.node("Mul", "n gain", "y"),
    ]
    constants = {"scale": build.weight("scale", WIDTH), "bias": build.weight("bias", WIDTH), "gain": np.array(0.5, np.float32)}
    return _built(nodes, 2, constants, partial(_numpy_norm, constants), partial(_torch_norm, constants))


def _numpy_norm(constants: dict[str, np.ndarray], feed: Feed) -> list[np.ndarray]:
    total = feed["x0"] + feed["x1"]
    centred = total - total.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(1e-5))
    return [(centred * scale * constants["scale"] + constants["bias"]) * constants["gain"]]


def _torch_norm(constants: dict[str, np.ndarray]) -> Callable[..., Any]:
    import torch

    scale, bias = (torch.from_numpy(constants[name]) for name in ("scale", "bias"))
    return lambda x, y: torch.nn.functional.layer_norm(x + y, (WIDTH,), scale, bias, 1e-5) * 0.5


def _masked_softmax() -> Built:
    """Scores of attention: scaled, masked by one row, softmax."""
    mask = np.where(np.arange(WIDTH) % 5 == 4, np.float32(-1e4), np.float32(0))
    nodes = [build.node("Mul", "x0 scale", "s"), build.node("Add", "s mask", "m"), build.node("Softmax", "m", "y", axis=-1)]
    return _built(nodes, 1, {"scale": np.float32(0.125), "mask": mask}, partial(_numpy_masked, mask), partial(_torch_masked, mask))


def _numpy_masked(mask: np.ndarray, feed: Feed) -> list[np.ndarray]:
    return _numpy_softmax({"x0": feed["x0"] * np.float32(0.125) + mask})


def _torch_masked(mask: np.ndarray) -> Callable[..., Any]:
    import torch

    kept = torch.from_numpy(mask)
    return lambda x: torch.softmax(x * 0.125 + kept, -1)


def _casts() -> Built:
    """float16 in and out, float32 between: what exports to float16 are full of."""
    nodes = [
        build.node("Cast", "x0", "w", to=TensorProto.FLOAT),
        build.node("Mul", "w scale", "m"),
        build.node("Add", "m shift", "a"),
        build.node("Cast", "a", "y", to=TensorProto.FLOAT16),
    ]
    constants = {"scale": build.weight("scale", WIDTH), "shift": build.weight("bias", WIDTH)}
    port = (TensorProto.FLOAT16, ["n", WIDTH])
    numpy = partial(_numpy_casts, constants)
    return Built(build.model(nodes, {"x0": port}, {"y": port}, constants), {"numpy": Source(numpy)})


def _numpy_casts(constants: dict[str, np.ndarray], feed: Feed) -> list[np.ndarray]:
    return [(feed["x0"].astype(np.float32) * constants["scale"] + constants["shift"]).astype(np.float16)]


def _gelu() -> Built:
    """GELU as exporters write it out."""
    nodes = [
        build.node("Div", "x0 root", "d"),
        build.node("Erf", "d", "e"),
        build.node("Add", "e one", "a"),
        build.node("Mul", "x0 a", "m"),
        build.node("Mul", "m half", "y"),
    ]
    constants = {"root": np.float32(np.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5)}
    return _built(nodes, 1, constants, None, _torch_gelu)


def _torch_gelu() -> Callable[..., Any]:
    import torch

    return torch.nn.functional.gelu


_COMPOSED: dict[str, tuple[Callable[[], Built], int]] = {
    "residual_norm": (_residual_norm, 2),
    "masked_softmax": (_masked_softmax, 1),
    "casts_f16": (_casts, 1),
    "gelu_erf": (_gelu, 1),
}


def _single(op: str, takes: int, numpy: Callable[[Feed], list[np.ndarray]], **attributes: Any) -> Built:
    return _built([build.node(op, [f"x{number}" for number in range(takes)], "y", **attributes)], takes, {}, numpy, None)


def _numpy_relu(feed: Feed) -> list[np.ndarray]:
    return [np.maximum(feed["x0"], np.float32(0))]


def _numpy_add(feed: Feed) -> list[np.ndarray]:
    return [feed["x0"] + feed["x1"]]


def _numpy_softmax(feed: Feed) -> list[np.ndarray]:
    powers = np.exp(feed["x0"] - feed["x0"].max(-1, keepdims=True))
    return [powers / powers.sum(-1, keepdims=True)]


def _numpy_sigmoid(feed: Feed) -> list[np.ndarray]:
    return [1 / (1 + np.exp(-feed["x0"]))]


def _numpy_transpose(feed: Feed) -> list[np.ndarray]:
    return [np.ascontiguousarray(feed["x0"].T)]


def _transpose() -> Built:
    nodes = [build.node("Transpose", "x0", "y", perm=[1, 0])]
    return Built(build.model(nodes, {"x0": ["n", WIDTH]}, {"y": [WIDTH, "n"]}), {"numpy": Source(_numpy_transpose)})


_SINGLE: dict[str, tuple[Callable[[], Built], int]] = {
    "relu": (partial(_single, "Relu", 1, _numpy_relu), 1),
    "add": (partial(_single, "Add", 2, _numpy_add), 2),
    "sigmoid": (partial(_single, "Sigmoid", 1, _numpy_sigmoid), 1),
    "softmax": (partial(_single, "Softmax", 1, _numpy_softmax, axis=-1), 1),
    "transpose": (_transpose, 1),
}


def _built(nodes: list[Any], takes: int, constants: dict[str, Any], numpy: Any, torch: Any) -> Built:
    dims = ["n", WIDTH]
    data = build.model(nodes, {f"x{number}": dims for number in range(takes)}, {"y": dims}, constants)
    sources = {"numpy": numpy, "torch": torch}
    return Built(data, {name: Source(what) for name, what in sources.items() if what is not None})
