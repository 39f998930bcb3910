"""One-node models: run with dims known and unknown, compiled and as plain Python, and compared with a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onnx_numba.backend as backend

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A node: operator, opset, inputs (None where absent), attributes, and which inputs are constants of the model."""

    op: str
    opset: int
    inputs: Sequence[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: tuple[int, ...] = ()
    outputs: int = 1
    domain: str = ""

    def __str__(self) -> str:
        shapes = "_".join("x".join(map(str, i.shape)) or "scalar" for i in self.inputs if i is not None)
        given = "_".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op}-{self.opset}-{shapes}-{given}".replace(" ", "")[:120]


def _onnx_type(array: Array) -> int:
    return TensorProto.STRING if array.dtype.kind == "O" else helper.np_dtype_to_tensor_dtype(array.dtype)


def _opsets(case: Case) -> list[Any]:
    if not case.domain:
        return [helper.make_opsetid("", case.opset)]
    return [helper.make_opsetid("", 18), helper.make_opsetid(case.domain, case.opset)]


def model(case: Case, dynamic: bool) -> onnx.ModelProto:
    """The case as a model; with ``dynamic`` all dims of its inputs are unknown."""
    names = [f"in{k}" if x is not None else "" for k, x in enumerate(case.inputs)]
    outputs = [f"out{k}" for k in range(case.outputs)]
    node = helper.make_node(case.op, names, outputs, domain=case.domain, **case.attributes)
    inputs, initializers = [], []
    for k, array in enumerate(case.inputs):
        if array is None:
            continue
        if k in case.constants:
            initializers.append(numpy_helper.from_array(array, names[k]))
            continue
        shape: list[Any] = [f"d{k}_{a}" for a in range(array.ndim)] if dynamic else list(array.shape)
        if (k and array.ndim == 1) or (array.dtype == np.int64 and (array.ndim == 1 or (k and shape))):
            shape[-1] = array.shape[-1]  # the number of axes, or of numbers in an index, which decides ranks
        inputs.append(helper.make_tensor_value_info(names[k], _onnx_type(array), shape))
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph([node], "case", inputs, results, initializers)
    made = helper.make_model(graph, opset_imports=_opsets(case))
    made.ir_version = 8
    inferred = onnx.shape_inference.infer_shapes(made)
    for value in inferred.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    return inferred


def feeds(case: Case) -> list[Array]:
    """The inputs that callers give."""
    return [x for k, x in enumerate(case.inputs) if x is not None and k not in case.constants]


def onnxruntime_outputs(case: Case, threads: int = 0) -> list[Array]:
    """What onnxruntime makes of the case, with as many threads as there are cores or with so many."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, threads
    options.add_session_config_entry("session.x64quantprecision", "1")  # or constants of bytes saturate where there is no VNNI
    session = onnxruntime.InferenceSession(model(case, False).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip((i.name for i in session.get_inputs()), feeds(case), strict=True)))


def reference_outputs(case: Case) -> list[Array]:
    """What onnx's interpreter makes of the case."""
    from onnx.reference import ReferenceEvaluator

    made = model(case, False)
    outputs: list[Array] = ReferenceEvaluator(made).run(None, dict(zip((i.name for i in made.graph.input), feeds(case), strict=True)))
    return outputs


def check(case: Case, expected: Sequence[Array], rtol: float = 1e-5, atol: float = 1e-6, interpreted: bool = True) -> None:
    """Run the case every way and compare."""
    for dynamic in (False, True):
        made = model(case, dynamic)
        for jit in (True, False) if interpreted else (True,):
            got = backend.prepare(made, jit=jit).run(feeds(case))
            for wanted, value in zip(expected, got, strict=True):
                assert value.dtype == wanted.dtype and value.shape == wanted.shape, (dynamic, jit, value.shape, wanted.shape)
                if wanted.dtype.kind in "fV":
                    np.testing.assert_allclose(value.astype(np.float64), wanted.astype(np.float64), rtol, atol)
                else:
                    np.testing.assert_array_equal(value, wanted)
