"""Quantisation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_numba.coverage.case import Case, Draft
from onnx_numba.coverage.recipes import recipe


@recipe("QuantizeLinear")
def quantize(c: Draft) -> Iterator[Case]:
    x = np.array([[0.25, -0.75, 1.25, 2.5], [0.5, -1.75, 40.0, -90.0]])
    output = "T3" if c.version >= 23 else "T2"
    zero = np.array(0.0 if "float" in c.types[output] else 0)
    positive = c.types.get("T2", "") == "tensor(float8e8m0)"
    scale = np.array(1.0 if positive else 0.5)
    yield c.make(x, scale, zero)
    if c.version >= 13:
        yield c.make(x, np.array([0.5, 0.25]), np.array([1, 3], np.int64), name="axis=0", axis=0, types={output: "tensor(uint8)"})
        yield c.make(x, np.array([0.5, 0.25, 1, 2]), name="axis=-1", axis=-1, types={output: "tensor(uint8)"})
    yield c.make(x, np.array(0.5), name="no zero point", types={output: "tensor(uint8)"})
    if c.has("block_size"):
        yield c.make(x, np.array([[0.5, 0.25], [1, 2]]), name="blocks", axis=1, block_size=2, types={output: "tensor(uint8)"})
    if c.has("output_dtype"):
        yield c.make(x, np.array(0.5), name="output_dtype", output_dtype=5, types={output: "tensor(int16)"})


@recipe("DequantizeLinear")
def dequantize(c: Draft) -> Iterator[Case]:
    x, kind = c.real(2, 4), next(iter(c.types.values()))
    zero = np.array(0.0) if "float" in kind or kind == "tensor(int32)" else np.array(1)
    result = {"output_dtype": c.number("T3")} if c.has("output_dtype") else {}
    scale = np.array(0.5)
    yield c.make(x, scale, zero.astype(np.int64), **result)
    first = next(iter(c.types))
    plain = {first: "tensor(int8)", **({"T2": "tensor(float)"} if "T2" in c.types else {}), **({"T3": "tensor(float)"} if result else {})}
    if c.version >= 13:
        yield c.make(x, np.array([0.5, 0.25]), np.array([1, 3], np.int64), name="axis=0", axis=0, types=plain)
        yield c.make(x, np.array([0.5, 0.25, 1, 2]), name="axis=-1", axis=-1, types=plain)
    yield c.make(x, np.array(0.5), name="no zero point", types=plain)
    if c.has("block_size"):
        yield c.make(x, np.array([[0.5, 0.25], [1, 2]]), name="blocks", axis=1, block_size=2, types=plain)


@recipe("DynamicQuantizeLinear")
def dynamic_quantize(c: Draft) -> Iterator[Case]:
    yield c.make(np.array([0.0, 2.0, -3.0, -2.5, 1.34, 0.5]), outputs=3)
    yield c.make(np.array([1.0, 2.1, 1.3, 2.5]), outputs=3, name="positive")
