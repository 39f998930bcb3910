"""Graphs of many tiny nodes, where what counts is the time between the nodes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto

from bench import build
from bench.case import Built, Case, Model
from bench.models import corpus

_CORPUS = ("bert_mrpc_tf_tiny", "tinybert_tribuo", "gnn_gat", "swin_mini", "magika_standard_v1", "greedy_loop", "yolov8_nms_post")


def cases() -> Iterator[Case]:
    """Generated graphs, then those of the corpus."""
    yield Case("matmul_200", Model("matmul_200", _products), lambda: {"x": build.normal(1, 32)}, nodes=400)
    yield Case("shapes_1600", Model("shapes_1600", _shapes), lambda: {"x": build.normal(2, 8, 16)}, nodes=1600)
    start = {"token": np.array([1]), "state": np.zeros((1, 48), np.float32), "steps": np.array(40)}
    yield Case("loop_decoder", Model("loop_decoder", _decoder), lambda: start)
    yield from corpus.cases(*_CORPUS)


def _products(count: int = 200, width: int = 32) -> Built:
    """MatMul and Tanh in turn."""
    nodes = []
    for number in range(count):
        nodes.append(build.node("MatMul", [f"v{number}" if number else "x", f"w{number}"], f"m{number}"))
        nodes.append(build.node("Tanh", f"m{number}", f"v{number + 1}" if number + 1 < count else "y"))
    constants = {f"w{number}": build.weight(f"w{number}", width, width) for number in range(count)}
    return Built(build.model(nodes, {"x": ["n", width]}, {"y": ["n", width]}, constants))


def _shapes(layers: int = 100) -> Built:
    """What exports of old converters are full of: each layer takes its shape apart, puts it together again and reshapes by it."""
    constants = {"zero": np.array(0), "one": np.array(1), "rest": np.array([-1]), "axis": np.array([0]), "width": np.array([16]),
                 "scale": build.weight("scale", 16), "half": np.float32(0.5), "w": build.weight("w", 16, 16)}  # fmt: skip
    nodes, last = [], "x"
    for number in range(layers):
        following = f"x{number}" if number + 1 < layers else "y"
        name = lambda part, number=number: f"{part}_{number}"  # noqa: E731
        nodes += [
            build.node("Shape", last, name("shape")),
            build.node("Gather", [name("shape"), "zero"], name("n")),
            build.node("Gather", [name("shape"), "one"], name("t")),
            build.node("Unsqueeze", [name("n"), "axis"], name("n1")),
            build.node("Unsqueeze", [name("t"), "axis"], name("t1")),
            build.node("Concat", ["rest", "width"], name("flat"), axis=0),
            build.node("Reshape", [last, name("flat")], name("rows")),
            build.node("MatMul", [name("rows"), "w"], name("product")),
            build.node("Add", [name("product"), "scale"], name("shifted")),
            build.node("Tanh", name("shifted"), name("active")),
            build.node("Concat", [name("n1"), name("t1"), "width"], name("back"), axis=0),
            build.node("Reshape", [name("active"), name("back")], name("cube")),
            build.node("Mul", [name("cube"), "half"], name("halved")),
            build.node("Cast", name("halved"), name("cast"), to=TensorProto.FLOAT),
            build.node("Identity", name("cast"), name("same")),
            build.node("Add", [name("same"), last], following),
        ]
    return Built(build.model(nodes, {"x": ["n", "t", 16]}, {"y": ["n", "t", 16]}, constants))


def _decoder(vocabulary: int = 64, width: int = 48) -> Built:
    """A Loop that embeds a token, updates a state, takes the likeliest next token and collects it."""
    constants = {"table": build.weight("table", vocabulary, width) * 6, "w": build.weight("w", width, width),
                 "u": build.weight("u", width, width), "head": build.weight("head", width, vocabulary), "go": np.array(True)}  # fmt: skip
    body = build.graph(
        [
            build.node("Gather", "table previous", "embedded"),
            build.node("MatMul", "embedded w", "from_token"),
            build.node("MatMul", "before u", "from_state"),
            build.node("Add", "from_token from_state", "sum"),
            build.node("Tanh", "sum", "after"),
            build.node("MatMul", "after head", "logits"),
            build.node("ArgMax", "logits", "chosen", axis=1, keepdims=0),
            build.node("Identity", "go_on", "goes_on"),
            build.node("Identity", "chosen", "collected"),
        ],
        {"number": (TensorProto.INT64, []), "go_on": (TensorProto.BOOL, []), "previous": (TensorProto.INT64, [1]), "before": [1, width]},
        {"goes_on": (TensorProto.BOOL, []), "chosen": (TensorProto.INT64, [1]), "after": [1, width], "collected": (TensorProto.INT64, [1])},
    )
    nodes = [build.node("Loop", "steps go token state", "last final tokens", body=body)]
    takes = {"token": (TensorProto.INT64, [1]), "state": [1, width], "steps": (TensorProto.INT64, [])}
    return Built(build.model(nodes, takes, {"final": [1, width], "tokens": (TensorProto.INT64, [None, 1])}, constants))
