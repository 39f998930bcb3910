"""BatchNormalization as it was before version 14, where only who reads a node's outputs tells whether it trains.

Differentiation adds readers and takes others away, so it first says what a node does in the words of version 14.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from onnx_numba import schemas
from onnx_numba.ir.graph import Node
from onnx_numba.passes.derivatives import Term, Writer


def with_readers(node: Node, live: Container[str]) -> Node:
    """The node; one of these without those of its further outputs that are not among the ``live`` values."""
    if not _is_old(node):
        return node
    return replace(node, outputs=(node.outputs[0], *(name if name in live else "" for name in node.outputs[1:])))


def trains_for_readers(node: Node) -> bool:
    """Whether a node trains because more outputs than its first are used, where it names those alone that are."""
    return _is_old(node) and any(node.outputs[1:])


def _is_old(node: Node) -> bool:
    return (node.domain, node.op) == ("", "BatchNormalization") and node.since_version < 14


def write_training(node: Node, w: Writer) -> None:
    """Write such a node anew, whatever the rank of its input.

    ``y, mean, var, saved_mean = BatchNormalization(x, s, b, m, v)`` becomes

        y, mean, var = BatchNormalization<training_mode = 1>(x, s, b, m, v)
        _, saved_mean, _ = BatchNormalization<training_mode = 1, momentum = 0>(x, s, b, 0, 0)

    Where parameters are those of single activations (``spatial`` is 0), all are flattened first: a channel of its own for each.
    """
    schema = schemas.find(node.op, node.domain, node.opset)
    stated = {name: spec.default for name, spec in schema.attributes.items()} if schema else {}
    attributes = {"spatial": 1, **stated, **node.attributes}
    image, *given = (Term(w, name) for name in node.inputs)
    flat = attributes["spatial"] != 1
    x = w("Flatten", image, axis=1) if flat else image
    scale, bias, *olds = (w("Reshape", each, [-1]) for each in given) if flat else given

    def trained(olds: list[Term], momentum: float) -> list[Term]:
        inputs = (x, scale, bias, *olds)
        return w.add("BatchNormalization", inputs, 3, epsilon=attributes["epsilon"], momentum=momentum, training_mode=1)

    made = trained(olds, attributes["momentum"])
    if any(node.outputs[3:]):
        made += trained([old.filled(0) for old in olds], 0.0)[1:]
    for term, name, like in zip(made, node.outputs, (image, *given[2:], *given[2:]), strict=False):
        if name:
            w.give(term.reshaped(like.shape) if flat else term, name)
