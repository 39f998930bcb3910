"""Quotients by a reciprocal: the bits of a division, as QuantizeLinear needs them, by numbers and by roots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper, parser

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


ENDS = [0.0, -0.0, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-30, -1e-30]


def division(kind: str, value: float, **options: Any) -> Any:
    text = f'<ir_version: 10, opset_import: ["" : 21]> g ({kind}[N] x, {kind}[1] s) => ({kind}[N] y) {{ y=Div(x,s) }}'
    model = parser.parse_model(text)
    del model.graph.input[1]
    model.graph.initializer.append(numpy_helper.from_array(np.array([value], np.float32 if kind == "float" else np.float64), "s"))
    return backend.prepare(model, **options)


def assert_same_bits(got: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(np.signbit(got) & ~np.isnan(got), np.signbit(wanted) & ~np.isnan(wanted))
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("value", [255.0, 6.0, np.sqrt(2), 0.1, -3.0, 1.9999999, 1.1754944 * 2.0**90, -0.7 * 2.0**-90])
def test_every_fraction_divided_by_a_number(value: float) -> None:
    fractions = (np.arange(1 << 23, dtype=np.int32) + np.float32(1).view(np.int32)).view(np.float32)
    x = np.concatenate([fractions, np.float32(ENDS)])
    rep = division("float", value)
    assert "quotient(" in rep.source
    with np.errstate(all="ignore"):
        assert_same_bits(rep.run([x])[0], x / np.float32(value))


@pytest.mark.parametrize("options", [{}, {"cpu": "generic"}, {"jit": False}], ids=["host", "generic", "interpreted"])
@pytest.mark.parametrize("value", [255.0, -np.sqrt(2), 1 / 3, 1e20])
def test_the_same_in_double(value: float, options: dict[str, Any]) -> None:
    x = np.concatenate([RANDOM.standard_normal(2000) * 10.0 ** RANDOM.integers(-200, 200, 2000), np.float64(ENDS)])
    with np.errstate(all="ignore"):
        assert_same_bits(division("double", value, **options).run([x])[0], x / value)


@pytest.mark.parametrize("value", [0.25, -1.0, 0.0, np.inf, np.nan, 1e-40, 1e38])
def test_numbers_whose_reciprocals_are_exact_or_lose_bits_divide(value: float) -> None:
    rep = division("float", value)
    assert "quotient(" not in rep.source
    x = np.concatenate([RANDOM.standard_normal(500), ENDS]).astype(np.float32)
    with np.errstate(all="ignore"):
        assert_same_bits(rep.run([x])[0], x / np.float32(value))


@pytest.mark.parametrize("options", [{}, {"cpu": "generic"}, {"jit": False}], ids=["host", "generic", "interpreted"])
def test_rows_divided_by_roots(options: dict[str, Any]) -> None:
    """As a normalisation that was exported in pieces, whose roots may be 0, infinite or NaN too."""
    text = """<ir_version: 10, opset_import: ["" : 21]> g (float[N,M] x, float[N,M] d) => (float[N,M] y, float[N,1] s) {
        one=Constant<value_ints=[1]>() v=ReduceMean(x,one) s=Sqrt(v) y=Div(d,s) }"""
    rep = backend.prepare(parser.parse_model(text), **options)
    assert "quotient(" in rep.source
    means = np.float32([2.0, 0.3, 1e-38, 3e38, 0.0, np.inf, np.nan, -1.0, 1e-45, *(10.0 ** RANDOM.uniform(-30, 30, 50))])
    x = np.repeat(means[:, None], 37, 1)
    d = np.repeat(np.concatenate([RANDOM.standard_normal(37 - len(ENDS)), ENDS]).astype(np.float32)[None], len(means), 0)
    with np.errstate(all="ignore"):
        y, s = rep.run([x, d])
        assert_same_bits(y, d / s)
