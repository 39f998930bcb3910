"""What is measured: models with one set of inputs each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_numba import samples

CORPUS = Path(os.environ.get("ONNX_NUMBA_CORPUS", Path(__file__).resolve().parents[2] / "shared" / "corpus"))

# Of the corpus: one or two of a kind, small enough for every run of the bench.
CORPUS_MODELS = (
    "mlp_digits", "titanic_pipeline", "xgb_digits", "mnist_cntk8", "policy_go1_playground", "silero_vad_micro", "fastestdet",
    "ultraface_rfb320", "tinybert_tribuo", "hifigan_small", "swin_mini", "gnn_gat", "cntk_lstm_scan",
)  # fmt: skip
LIGHT_MODELS = ("squeezenet", "shufflenet", "resnet50", "densenet121")


@dataclass(frozen=True)
class Case:
    """A model's file, made on demand, and inputs for it."""

    name: str
    group: str
    write: Callable[[Path], None]
    feed: Callable[[], dict[str, Any]]


def cases() -> Iterator[Case]:
    """All cases, the ones with a goal first."""
    yield Case("iris_one_row", "goal", _copy(Path(samples.path())), lambda: {"X": np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)})
    yield Case("matmul_1024", "goal", _save(matmul(1024)), lambda: {"x": _normal(1024, 1024)})
    for name, operators in CHAINS.items():
        yield Case(f"{name}_10m", "goal", _save(chain(operators)), lambda: {"x": _normal(10_000_000)})
    yield Case("relu_1k", "small", _save(chain(("Relu",))), lambda: {"x": _normal(1000)})
    yield Case("mlp_64x256", "small", _save(mlp()), lambda: {"x": _normal(64, 256)})
    yield Case("softmax_1000x1000", "small", _save(chain(("Softmax",), rank=2)), lambda: {"x": _normal(1000, 1000)})
    yield Case("conv3x3_64_56", "small", _save(convolution()), lambda: {"x": _normal(1, 64, 56, 56)})
    yield from _light()
    yield from _corpus()


CHAINS = {
    "chain5": ("Mul", "Add", "Relu", "Neg", "Abs"),
    "chain6_sigmoid": ("Mul", "Add", "Sigmoid", "Mul", "Relu", "Sub"),
    "chain8_exp_tanh": ("Mul", "Add", "Tanh", "Mul", "Exp", "Sub", "Abs", "Add"),
}
"""Elementwise chains; operators of two inputs take a constant as the second."""


def chain(operators: tuple[str, ...], rank: int = 1) -> onnx.ModelProto:
    """A chain of operators on one float32 tensor."""
    nodes, constants = [], []
    for number, op in enumerate(operators):
        inputs = [f"v{number}" if number else "x"]
        if op in ("Add", "Sub", "Mul"):
            constants.append(numpy_helper.from_array(np.float32(0.5 + 0.25 * number), f"c{number}"))
            inputs.append(f"c{number}")
        nodes.append(helper.make_node(op, inputs, [f"v{number + 1}" if number + 1 < len(operators) else "y"]))
    dims = [f"d{axis}" for axis in range(rank)]
    return _model(nodes, dims, dims, constants)


def matmul(size: int) -> onnx.ModelProto:
    """A square MatMul with a constant weight."""
    return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], ["n", size], ["n", size], [_weight("w", size, size)])


def mlp(widths: tuple[int, ...] = (256, 512, 512, 10)) -> onnx.ModelProto:
    """Gemm and Relu, three times, and a Softmax."""
    nodes, weights, last = [], [], "x"
    for number, (rows, columns) in enumerate(itertools.pairwise(widths)):
        weights += [_weight(f"w{number}", rows, columns), _weight(f"b{number}", columns)]
        nodes.append(helper.make_node("Gemm", [last, f"w{number}", f"b{number}"], [f"g{number}"]))
        nodes.append(helper.make_node("Relu", [f"g{number}"], [f"r{number}"]))
        last = f"r{number}"
    nodes[-1] = helper.make_node("Softmax", [nodes[-2].output[0]], ["y"])
    return _model(nodes, ["n", widths[0]], ["n", widths[-1]], weights)


def convolution(channels: int = 64, extent: int = 56) -> onnx.ModelProto:
    """A 3×3 convolution, batch normalisation and Relu."""
    weights = [_weight("w", channels, channels, 3, 3), *(_weight(name, channels) for name in ("b", "scale", "mean"))]
    weights.append(numpy_helper.from_array(np.ones(channels, np.float32), "variance"))
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "b", "mean", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    dims = ["n", channels, extent, extent]
    return _model(nodes, dims, dims, weights)


def _model(nodes: list[Any], takes: list[Any], gives: list[Any], weights: list[Any]) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, takes)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, gives)
    graph = helper.make_graph(nodes, "bench", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _weight(name: str, *shape: int) -> onnx.TensorProto:
    # Seeded by the name, so that weights of one shape differ; scaled so that deep products stay near one.
    generator = np.random.default_rng(sum(name.encode()))
    scale = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
    return numpy_helper.from_array((generator.standard_normal(shape) * scale).astype(np.float32), name)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _save(model: onnx.ModelProto) -> Callable[[Path], None]:
    return lambda path: onnx.save(model, path)


def _copy(source: Path) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(source.read_bytes()) and None


def _light() -> Iterator[Case]:
    """Networks of the onnx package, whose weights are all alike: speed is theirs, answers are not."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for name in LIGHT_MODELS:
        path = folder / f"light_{name}.onnx"
        yield Case(f"light_{name}", "vision", _copy(path), lambda path=path: _light_feed(path))  # type: ignore[misc]


def _light_feed(path: Path) -> dict[str, Any]:
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    (port,) = [value for value in graph.input if value.name not in weights]
    shape = [dim.dim_value or 1 for dim in port.type.tensor_type.shape.dim]
    return {port.name: np.random.default_rng(0).random(shape, np.float32)}


def _corpus() -> Iterator[Case]:
    """Models of the corpus, when it is there."""
    if not (CORPUS / "MANIFEST.json").exists():
        return
    import importlib.util

    spec = importlib.util.spec_from_file_location("onnx_numba_corpus", CORPUS / "corpus.py")
    assert spec is not None
    assert spec.loader is not None
    corpus = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(corpus)
    records = {record["name"]: record for record in corpus.models()}
    for name in CORPUS_MODELS:
        record = records[name]
        feed = lambda record=record: next(iter(corpus.cases(record)))[0]  # noqa: E731 — bound to this record
        yield Case(name, "corpus", _copy(corpus.path(record)), feed)
