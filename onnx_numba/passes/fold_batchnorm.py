"""Fold a BatchNormalization with constant parameters into the weights of the convolution before it.

    y = (conv(x, W) + c - mean) * a + bias      with a = scale / sqrt(variance + epsilon)
      = conv(x, W * a) + (c - mean) * a + bias
"""

from __future__ import annotations

from collections import Counter
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
        names = [*conv.inputs[1:], *norm.inputs[1:]]
        if any(name and name not in constants for name in names):
            continue
        arrays = {name: constants[name].array for name in names if name}
        # What does not fit is for the operators to complain about.
        if any(array.shape != arrays[names[0]].shape[:1] for name, array in arrays.items() if name != names[0]):
            continue
        weight, bias = _folded(conv, norm, arrays)
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


def _folded(conv: Node, norm: Node, arrays: dict[str, Array]) -> tuple[Array, Array]:
    """Weight and bias of the convolution that does both, computed in float64."""
    weight = arrays[conv.inputs[1]]
    scale, shift, mean, variance = (arrays[name].astype(np.float64) for name in norm.inputs[1:5])
    before = arrays[conv.inputs[2]].astype(np.float64) if len(conv.inputs) > 2 and conv.inputs[2] else 0.0
    factor = scale / np.sqrt(variance + float(norm.attributes.get("epsilon", 1e-5)))
    folded = weight.astype(np.float64) * factor.reshape(-1, *[1] * (weight.ndim - 1))
    return folded.astype(weight.dtype), ((before - mean) * factor + shift).astype(weight.dtype)
