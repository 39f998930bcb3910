"""Quotients by a reciprocal: the bits of a division, as QuantizeLinear needs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnx_numba import backend

RANDOM = np.random.default_rng(6)


def quantizer(scale: float, axis: str = "", shape: str = "N", **options: Any) -> Any:
    numbers = f"value_float={np.float32(scale)!s}" if not axis else "value_floats=[0.3,0.007,41.5]"
    text = f"""<ir_version: 10, opset_import: ["" : 21]> g (float[{shape}] x) => (y) {{
        s=Constant<{numbers}>() z=Constant<value=int16 {{0}}>() zs=Constant<value=int16[3] {{0,0,0}}>()
        y=QuantizeLinear{f"<axis={axis}>(x,s,zs)" if axis else "(x,s,z)"} }}"""
    return backend.prepare(parser.parse_model(text), **options)


def expected(x: Any, scale: Any) -> Any:
    return np.clip(np.rint(x / np.float32(scale)), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("options", [{}, {"cpu": "generic"}, {"jit": False}], ids=["host", "generic", "interpreted"])
@pytest.mark.parametrize("scale", [1.0, 0.1, 0.02, 1 / 3, 1.9999999, 3.7e-5, 1e9, 2.0**-40])
def test_no_bit_differs(scale: float, options: dict[str, Any]) -> None:
    """Halves and their neighbours, where one bit more or less would be another integer, and numbers beyond all limits."""
    rep = quantizer(scale, **options)
    count = 300 if "jit" in options else 40_000
    halves = ((RANDOM.integers(-33000, 33000, count) + 0.5) * np.float64(np.float32(scale))).astype(np.float32)
    near = [halves, np.nextafter(halves, np.float32(np.inf)), np.nextafter(halves, np.float32(-np.inf))]
    ends = np.float32([0.0, -0.0, np.inf, -np.inf, 3e38, -3e38, 1e-45, -1e-45, 1e-38])
    x = np.concatenate([*near, ends]).astype(np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(rep.run([x])[0], expected(x, scale))


@pytest.mark.parametrize(("axis", "shape", "by_reciprocal"), [("0", "3,N", True), ("1", "N,3", False)])
def test_scales_of_rows_and_of_columns(axis: str, shape: str, by_reciprocal: bool) -> None:
    rep = quantizer(1.0, axis, shape)
    assert ("quotient(" in rep.source) is by_reciprocal
    scales = np.float32([0.3, 0.007, 41.5])
    x = RANDOM.standard_normal((3, 500)).astype(np.float32) * 90
    x, scales = (x, scales[:, None]) if axis == "0" else (x.T.copy(), scales)
    np.testing.assert_array_equal(rep.run([x])[0], expected(x, scales))


def test_scales_that_lose_bits_or_that_only_the_run_knows_divide() -> None:
    assert "quotient(" in quantizer(0.1).source
    assert "quotient(" not in quantizer(1e-30).source
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[N] x, float s) => (y) { y=QuantizeLinear(x,s) }'
    assert "quotient(" not in backend.prepare(parser.parse_model(text)).source
