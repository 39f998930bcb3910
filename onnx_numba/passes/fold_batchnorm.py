"""Fold a BatchNormalization with constant parameters into the weights of the convolution before it.

    y = (conv(x, W) + c - mean) * a + bias      with a = scale / sqrt(variance + epsilon)
      = conv(x, W * a) + (c - mean) * a + bias
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_numba.ir.graph import Graph, Initializer, Node, reads
from onnx_numba.ir.types import dtype_of

Array = np.ndarray[Any, Any]


def fold_batchnorm(graph: Graph) -> Graph:
    """The graph without those batch normalisations that a convolution can take up."""
    constants = {c.name: c for c in graph.initializers}
    for node in graph.nodes:
        value = node.attributes.get("value") if node.op == "Constant" and not node.domain else None
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            dtype = dtype_of(value.dtype)
            if dtype is not None:
                constants[node.outputs[0]] = Initializer(node.outputs[0], dtype, value)
    uses = Counter(name for node in graph.nodes for name in reads(node))
    uses.update(value.name for value in graph.outputs)
    makers = {name: node for node in graph.nodes for name in node.outputs}
    replaced: dict[Node, Node | None] = {}
    added: list[Initializer] = []
    for norm in graph.nodes:
        conv = makers.get(norm.inputs[0]) if _is_inference_norm(norm) else None
        if conv is None or conv.op != "Conv" or conv.domain or uses[conv.outputs[0]] != 1 or conv in replaced:
            continue
        bias_name = conv.inputs[2] if len(conv.inputs) > 2 else ""
        names = [conv.inputs[1], *norm.inputs[1:5], *([bias_name] if bias_name else [])]
        if any(name not in constants for name in names):
            continue
        weight, *vectors = (constants[name].array for name in names)
        # What does not fit is for the operators to complain about.
        if any(vector.shape != weight.shape[:1] for vector in vectors):
            continue
        weight, bias = _folded(weight, vectors, float(norm.attributes.get("epsilon", 1e-5)))
        kind = constants[conv.inputs[1]].dtype
        extra = [Initializer(f"{norm.outputs[0]}»{part}", kind, array) for part, array in (("weight", weight), ("bias", bias))]
        added += extra
        replaced[conv] = None
        inputs = (conv.inputs[0], extra[0].name, extra[1].name)
        replaced[norm] = replace(conv, inputs=inputs, outputs=norm.outputs[:1], name=f"{conv.name}+{norm.name}")
    if not replaced:
        return graph
    nodes = tuple(new for node in graph.nodes if (new := replaced.get(node, node)) is not None)
    return replace(graph, nodes=nodes, initializers=(*graph.initializers, *added))


def _is_inference_norm(node: Node) -> bool:
    return (
        node.op == "BatchNormalization" and not node.domain and not any(node.outputs[1:]) and not node.attributes.get("training_mode")
        and node.attributes.get("spatial", 1) == 1
    )  # fmt: skip


def _folded(weight: Array, vectors: Sequence[Array], epsilon: float) -> tuple[Array, Array]:
    """Weight and bias of the convolution that does both, of scale, shift, mean, variance and perhaps a bias, computed in float64."""
    scale, shift, mean, variance, *before = (vector.astype(np.float64) for vector in vectors)
    factor = scale / np.sqrt(variance + epsilon)
    folded = weight.astype(np.float64) * factor.reshape(-1, *[1] * (weight.ndim - 1))
    centred = before[0] - mean if before else -mean
    return folded.astype(weight.dtype), (centred * factor + shift).astype(weight.dtype)
