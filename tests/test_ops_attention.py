"""Attention and rotary embeddings of the standard against the body that it gives for them, run by onnx's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, TypeProto, helper
from onnx.reference import ReferenceEvaluator

import onnx_numba.backend as backend

RNG = np.random.default_rng(7)
BATCH, HEADS, QUERIES, KEYS, SIZE, VALUE, PAST = 2, 4, 5, 6, 8, 6, 3
NAMES = ("q", "k", "v", "mask", "past_k", "past_v", "valid")
RESULTS = ("y", "present_k", "present_v", "shown")
Array = np.ndarray[Any, Any]


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def given(shared: int, rank: int, mask: Array | None, past: bool, valid: list[int] | None) -> dict[str, Array]:
    found = {"q": f32(BATCH, HEADS, QUERIES, SIZE), "k": f32(BATCH, shared, KEYS, SIZE), "v": f32(BATCH, shared, KEYS, VALUE)}
    if rank == 3:
        found = {name: x.transpose(0, 2, 1, 3).reshape(BATCH, x.shape[2], -1) for name, x in found.items()}
    if mask is not None:
        found["mask"] = mask
    if past:
        found |= {"past_k": f32(BATCH, shared, PAST, SIZE), "past_v": f32(BATCH, shared, PAST, VALUE)}
    if valid is not None:
        found["valid"] = np.array(valid)
    return found


Feeds = dict[str, Array]


def body_of(operator: str, opset: int, node: Any, kinds: list[TypeProto]) -> tuple[list[Any], list[str], list[str]]:
    """The nodes that the standard says the operator is, and their names for its inputs and outputs; the node itself where it says none."""
    schema = onnx.defs.get_schema(operator, opset, "")
    if not schema.has_context_dependent_function:
        return [node], list(node.input), list(node.output)
    text = schema.get_context_dependent_function(node.SerializeToString(), [kind.SerializeToString() for kind in kinds])
    body = onnx.FunctionProto.FromString(text)
    return list(body.node), list(body.input), list(body.output)


def compare(operator: str, opset: int, feeds: Feeds, names: tuple[str, ...], results: list[str], attributes: dict[str, Any]) -> None:
    inputs = [name if name in feeds else "" for name in names]
    while not inputs[-1]:
        inputs.pop()
    node = helper.make_node(operator, inputs, results, **attributes)
    types = {name: helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for name, x in feeds.items()}

    def model(nodes: list[Any], ins: list[str], outs: list[str]) -> Any:
        values = [helper.make_value_info(n, types[name]) for n, name in zip(ins, inputs, strict=False) if name]
        shown = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n, name in zip(outs, results, strict=False) if name]
        graph = helper.make_graph(nodes, "g", values, shown)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)

    nodes, ins, outs = body_of(operator, opset, node, [types.get(name, TypeProto()) for name in inputs])
    with np.errstate(all="ignore"):
        evaluator = ReferenceEvaluator(model(nodes, ins, outs))
        wanted = evaluator.run(None, {n: feeds[name] for n, name in zip(ins, inputs, strict=False) if name})
    own = model([node], inputs, results)
    for jit in (True, False):
        got = backend.prepare(own, jit=jit, num_threads=1).run(feeds)
        for x, y in zip(got, wanted, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def booleans(*shape: int) -> Array:
    found = RNG.random(shape) > 0.4
    found[..., 1, :] = False  # a query that sees nothing
    return found


FORMS: list[tuple[int, dict[str, Any], dict[str, Any]]] = [
    (23, {}, {}),
    (23, {"shared": 2, "rank": 3, "past": True}, {"is_causal": 1}),
    (23, {"mask": f32(1, KEYS)}, {"qk_matmul_output_mode": 2, "scale": 0.7}),
    (23, {"mask": f32(QUERIES, 1)}, {"softcap": 2.0, "qk_matmul_output_mode": 1}),
    (24, {"mask": booleans(QUERIES, KEYS)}, {"qk_matmul_output_mode": 3}),
    (24, {"mask": booleans(HEADS, QUERIES, KEYS + PAST), "past": True, "shared": 1}, {"is_causal": 1}),
    (24, {"mask": f32(BATCH, 1, QUERIES, KEYS - 2)}, {"is_causal": 1, "softmax_precision": TensorProto.DOUBLE}),
    (24, {"valid": [4, 6]}, {"is_causal": 1, "qk_matmul_output_mode": 2}),
    (24, {"valid": [2, 6], "mask": f32(BATCH, 1, 1, KEYS)}, {"qk_matmul_output_mode": 3}),
    (25, {"past": True}, {"left_window_size": 2, "right_window_size": 1}),
    (25, {"valid": [3, 6]}, {"left_window_size": 1, "is_causal": 1}),
    (25, {"rank": 3, "shared": 2}, {"right_window_size": 1}),
]


@pytest.mark.parametrize(("opset", "form", "attributes"), FORMS, ids=range(len(FORMS)))
def test_attention(opset: int, form: dict[str, Any], attributes: dict[str, Any]) -> None:
    form = {"shared": HEADS, "rank": 4, "mask": None, "past": False, "valid": None, **form}
    feeds = given(**form)
    if form["rank"] == 3:
        attributes = {"q_num_heads": HEADS, "kv_num_heads": form["shared"], **attributes}
    results = [name if form["valid"] is None or name in ("y", "shown") else "" for name in RESULTS]
    compare("Attention", opset, feeds, NAMES, results, attributes)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("size", [8, 6])
def test_rotary(interleaved: int, rank: int, positions: bool, size: int) -> None:
    """Whole heads and their beginnings; negative positions count from the end of the cache."""
    x, half = f32(BATCH, HEADS, QUERIES, 8), size // 2
    if rank == 3:
        x = x.transpose(0, 2, 1, 3).reshape(BATCH, QUERIES, -1)
    feeds = {"x": x, "cos": f32(10, half), "sin": f32(10, half), "ids": RNG.integers(-3, 10, (BATCH, QUERIES))}
    if not positions:
        feeds = {"x": x, "cos": f32(BATCH, QUERIES, half), "sin": f32(BATCH, QUERIES, half)}
    attributes: dict[str, Any] = {"interleaved": interleaved}
    if rank == 3:
        attributes["num_heads"] = HEADS
    if size != 8:
        attributes["rotary_embedding_dim"] = size
    compare("RotaryEmbedding", 23, feeds, ("x", "cos", "sin", "ids"), ["y"], attributes)
