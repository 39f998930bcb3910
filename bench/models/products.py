"""Matrix products and convolutions, and whole networks of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from bench import build
from bench.case import Built, Case, Feed, Model
from bench.models import corpus, one_row

_LIGHT = ("squeezenet", "shufflenet", "resnet50", "densenet121")
_CORPUS = ("mnist_cntk8", "fastestdet", "ultraface_rfb320", "hifigan_small", "selfie_segmentation", "blazeface_front128", "yunet_n_dynamic")


def products() -> Iterator[Case]:
    """What multiply-adds bound."""
    for size in (512, 1024):
        yield Case(f"matmul_{size}", Model(f"matmul_{size}", partial(_matmul, size)), partial(_feed, size, size), flops=2.0 * size**3)
    widths = (256, 512, 512, 10)
    flops = 2.0 * 64 * sum(rows * columns for rows, columns in itertools.pairwise(widths))
    yield Case("mlp_64x256", Model("mlp_64x256", partial(one_row.mlp, widths, "Relu")), partial(_feed, 64, 256), flops=flops)
    flops = 2.0 * 9 * 64 * 64 * 56 * 56
    yield Case("conv3x3_64_56", Model("conv3x3_64_56", _convolution), partial(_feed, 1, 64, 56, 56), flops=flops)


def vision() -> Iterator[Case]:
    """Networks of the onnx package, whose weights are all alike: speed is theirs, answers are not; then those of the corpus."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for name in _LIGHT:
        path = folder / f"light_{name}.onnx"
        yield Case(f"light_{name}", Model(f"light_{name}", partial(_file, path)), partial(_light_feed, path))
    yield from corpus.cases(*_CORPUS)


def one_operator() -> Iterator[Case]:
    """The smallest of models."""
    data = build.model([build.node("Relu", "x", "y")], {"x": ["n"]}, {"y": ["n"]})
    yield Case("relu_1k", Model("relu_1k", lambda: Built(data)), partial(_feed, 1000))


def _feed(*shape: int) -> Feed:
    return {"x": build.normal(*shape)}


def _file(path: Path) -> Built:
    return Built(path.read_bytes())


def _light_feed(path: Path) -> Feed:
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    (port,) = [value for value in graph.input if value.name not in weights]
    shape = [dim.dim_value or 1 for dim in port.type.tensor_type.shape.dim]
    return {port.name: np.random.default_rng(0).random(shape, np.float32)}


def _matmul(size: int) -> Built:
    """A square MatMul with a constant weight."""
    constants = {"w": build.weight("w", size, size)}
    return Built(build.model([build.node("MatMul", "x w", "y")], {"x": ["n", size]}, {"y": ["n", size]}, constants))


def _convolution(channels: int = 64, extent: int = 56) -> Built:
    """A 3×3 convolution, batch normalisation and Relu."""
    constants = {"w": build.weight("w", channels, channels, 3, 3), "variance": np.ones(channels, np.float32)}
    constants |= {name: build.weight(name, channels) for name in ("b", "scale", "mean")}
    nodes = [
        build.node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
        build.node("BatchNormalization", "c scale b mean variance", "n"),
        build.node("Relu", "n", "y"),
    ]
    dims = ["n", channels, extent, extent]
    return Built(build.model(nodes, {"x": dims}, {"y": dims}, constants))
