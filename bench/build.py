"""Making ONNX models of a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21


def node(op: str, inputs: Sequence[str] | str, outputs: Sequence[str] | str, **attributes: Any) -> onnx.NodeProto:
    """A node; names are given as a list or as one string with spaces between."""
    takes, gives = (names.split() if isinstance(names, str) else list(names) for names in (inputs, outputs))
    return helper.make_node(op, takes, gives, **attributes)


def graph(
    nodes: Sequence[onnx.NodeProto], takes: Mapping[str, Any], gives: Mapping[str, Any], constants: Mapping[str, Any] | None = None
) -> onnx.GraphProto:
    """A graph.

    Parameters
    ----------
    nodes : sequence of NodeProto
        In order.
    takes, gives : mapping
        Name → dims of a float tensor, or (element type, dims).
    constants : mapping, optional
        Name → array.
    """
    initialisers = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    return helper.make_graph(list(nodes), "bench", _ports(takes), _ports(gives), initialisers)


def model(*parts: Any, ml: int | None = None, opset: int = OPSET) -> bytes:
    """A serialised model of the graph that ``graph(*parts)`` gives."""
    domains = [helper.make_opsetid("", opset)] + ([helper.make_opsetid("ai.onnx.ml", ml)] if ml else [])
    return helper.make_model(graph(*parts), opset_imports=domains, ir_version=10).SerializeToString()


def _ports(ports: Mapping[str, Any]) -> list[onnx.ValueInfoProto]:
    typed = {name: port if isinstance(port, tuple) else (TensorProto.FLOAT, port) for name, port in ports.items()}
    return [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in typed.items()]


def weight(name: str, *shape: int) -> np.ndarray:
    """Random weights, seeded by the name so that those of one shape differ, scaled so that deep products stay near one."""
    scale = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
    return (np.random.default_rng(sum(name.encode())).standard_normal(shape) * scale).astype(np.float32)


def normal(*shape: int) -> np.ndarray:
    """Random inputs."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)
