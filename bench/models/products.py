"""Matrix products and convolutions, and whole networks of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from bench import build
from bench.case import Built, Case, Feed, Model
from bench.models import corpus, one_row

_LIGHT = ("squeezenet", "shufflenet", "resnet50", "densenet121")
_CORPUS = (
    "mnist_cntk8", "fastestdet", "ultraface_rfb320", "hifigan_small", "selfie_segmentation", "blazeface_front128", "yunet_n_dynamic",
    "teams_person_mask", "ppocr_cls_v2", "squeezenet_fp16", "unet_seg_qdq_u8",
)  # fmt: skip


def products() -> Iterator[Case]:
    """What multiply-adds bound."""
    for size in (512, 1024):
        yield Case(f"matmul_{size}", Model(f"matmul_{size}", partial(_matmul, size)), partial(_feed, size, size), flops=2.0 * size**3)
    widths = (256, 512, 512, 10)
    flops = 2.0 * 64 * sum(rows * columns for rows, columns in itertools.pairwise(widths))
    yield Case("mlp_64x256", Model("mlp_64x256", partial(one_row.mlp, widths, "Relu")), partial(_feed, 64, 256), flops=flops)
    yield Case("matmul_integer_512", Model("matmul_integer_512", partial(_integer, 512)), partial(_bytes, 512, 512))
    yield Case("qlinear_matmul_128x768", Model("qlinear_matmul_128x768", partial(_quantised, 768)), partial(_bytes, 128, 768))
    for rows in (1, 128):
        model = Model("dynamic_linear_768", partial(_dynamically_quantised, 768))
        yield Case(f"dynamic_linear_768@{rows}", model, partial(_feed, rows, 768), starts=rows == 1)
    for rows in (1, 64):
        model = Model("qdq_mlp_3x256", partial(_quantised_in_pairs, (256, 256, 256, 256)))
        # A sum beside the middle of two steps is rounded either way, which moves results by what one step of a hidden layer is worth.
        yield Case(f"qdq_mlp_3x256@{rows}", model, partial(_feed, rows, 256), starts=rows == 1, tolerance=1e-2)
    for heads, rows in ((12, 197), (12, 512), (6, 1500)):
        case = f"attention_{heads}x{rows}"
        feed = partial(_heads, heads, rows, 64)
        yield Case(case, Model(case, partial(_attention, heads, rows, 64)), feed, flops=4.0 * heads * rows * rows * 64)
    weight = Model("int8_weight_4096", partial(_dequantised, 4096))
    yield Case("int8_weight_4096@1", weight, partial(_feed, 1, 4096), tolerance=2e-2)  # onnxruntime rounds rows to 8 bits
    flops = 2.0 * 9 * 64 * 64 * 56 * 56
    yield Case("conv3x3_64_56", Model("conv3x3_64_56", _convolution), partial(_feed, 1, 64, 56, 56), flops=flops)
    for name, *filters in (("qlinear_conv3x3_64_56", 64, 64, 3), ("qlinear_conv1x1_64_56", 64, 256, 1)):
        yield Case(name, Model(name, partial(_quantised_convolution, *filters)), partial(_bytes, 1, 64, 56, 56))


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


def _bytes(*shape: int) -> Feed:
    return {"x": np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)}


def _byte_weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)


def _integer(size: int) -> Built:
    """A square MatMulInteger with a constant weight."""
    constants = {"w": _byte_weight(size, size), "a": np.array(120, np.uint8)}
    takes, gives = {"x": (TensorProto.UINT8, ["n", size])}, {"y": (TensorProto.INT32, ["n", size])}
    return Built(build.model([build.node("MatMulInteger", "x w a", "y")], takes, gives, constants))


def _heads(heads: int, rows: int, size: int) -> Feed:
    shape = (1, heads, rows, size)
    return {name: np.random.default_rng(k).standard_normal(shape).astype(np.float32) for k, name in enumerate("qkv")}


def _attention(heads: int, rows: int, size: int) -> Built:
    """Attention as exporters write it, of keys not yet turned."""
    nodes = [
        build.node("Transpose", "k", "turned", perm=[0, 1, 3, 2]),
        build.node("MatMul", "q turned", "scores"),
        build.node("Mul", "scores scale", "scaled"),
        build.node("Softmax", "scaled", "weights", axis=-1),
        build.node("MatMul", "weights v", "y"),
    ]
    dims = [1, heads, rows, size]
    return Built(build.model(nodes, dict.fromkeys("qkv", dims), {"y": dims}, {"scale": np.float32(size**-0.5)}))


def _dequantised(size: int) -> Built:
    """A MatMul whose weight is stored in 8 bits, with a scale for each column."""
    constants = {"w": _byte_weight(size, size), "s": np.abs(build.weight("s", size)) * 0.01 + np.float32(0.001)}
    nodes = [build.node("DequantizeLinear", "w s", "floats", axis=1), build.node("MatMul", "x floats", "y")]
    return Built(build.model(nodes, {"x": ["n", size]}, {"y": ["n", size]}, constants))


def _quantised(size: int) -> Built:
    """A QLinearMatMul with a constant weight."""
    constants = {"w": _byte_weight(size, size), "s": np.float32(0.02), "z": np.array(120, np.uint8), "none": np.array(0, np.int8),
                 "out": np.float32(2)}  # fmt: skip
    port = (TensorProto.UINT8, ["n", size])
    return Built(build.model([build.node("QLinearMatMul", "x s z w s none out z", "y")], {"x": port}, {"y": port}, constants))


def _dynamically_quantised(size: int) -> Built:
    """A linear layer as onnxruntime's dynamic quantisation leaves it."""
    constants = {"w": _byte_weight(size, size), "s": np.float32(0.01), "none": np.array(0, np.int8), "b": build.weight("b", size)}
    nodes = [
        build.node("DynamicQuantizeLinear", "x", "levels scale zero"),
        build.node("MatMulInteger", "levels w zero none", "sums"),
        build.node("Cast", "sums", "floats", to=TensorProto.FLOAT),
        build.node("Mul", "scale s", "both"),
        build.node("Mul", "floats both", "product"),
        build.node("Add", "product b", "y"),
    ]
    return Built(build.model(nodes, {"x": ["n", size]}, {"y": ["n", size]}, constants))


def _quantised_in_pairs(widths: tuple[int, ...]) -> Built:
    """An MLP as static quantisation leaves it: floats between pairs of QuantizeLinear and DequantizeLinear."""
    constants: dict[str, np.ndarray] = {"none": np.array(0, np.int8), "ws": np.array(0.01, np.float32)}
    nodes = []
    value = "x"
    for k, (rows, columns) in enumerate(itertools.pairwise(widths)):
        constants |= {f"w{k}": _byte_weight(rows, columns), f"b{k}": build.weight(f"b{k}", columns)}
        constants |= {f"s{k}": np.array(0.05, np.float32), f"z{k}": np.array(120 if k == 0 else 0, np.uint8)}
        nodes += [
            build.node("QuantizeLinear", f"{value} s{k} z{k}", f"q{k}"),
            build.node("DequantizeLinear", f"q{k} s{k} z{k}", f"d{k}"),
            build.node("DequantizeLinear", f"w{k} ws none", f"v{k}"),
            build.node("Gemm", f"d{k} v{k} b{k}", f"g{k}"),
        ]
        value = f"g{k}" if k == len(widths) - 2 else f"r{k}"
        nodes += [build.node("Relu", f"g{k}", value)] if value == f"r{k}" else []
    return Built(build.model(nodes, {"x": ["n", widths[0]]}, {value: ["n", widths[-1]]}, constants))


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


def _quantised_convolution(channels: int, filters: int, kernel: int, extent: int = 56) -> Built:
    """A QLinearConv with constant filters and a bias."""
    constants = {"w": _byte_weight(filters, channels, kernel, kernel), "s": np.float32(0.02), "z": np.array(120, np.uint8),
                 "none": np.array(0, np.int8), "out": np.float32(2), "b": np.arange(filters, dtype=np.int32)}  # fmt: skip
    ports = [{name: (TensorProto.UINT8, ["n", count, extent, extent])} for name, count in (("x", channels), ("y", filters))]
    node = build.node("QLinearConv", "x s z w s none out z b", "y", pads=[kernel // 2] * 4)
    return Built(build.model([node], *ports, constants))
