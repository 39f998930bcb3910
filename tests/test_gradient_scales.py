"""Gradients by the scales of Resize and Upsample, and by the region that is resized."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradients import Array, drawing, parsed

import onnx_numba.backend as backend

f64 = drawing(12)
IMAGE = f64(4, 5)
ROI = [0.13, 0.27, 0.77, 0.93]
UP, DOWN, MIXED = [1.37, 2.41], [0.57, 0.63], [1.43, 0.67]


def refined(rep: Any, feeds: dict[str, Array], name: str, step: float = 2.0**-10) -> Array:
    """Derivatives of the sum of the first output by float32 numbers, of which differences are far from small: Richardson's of two."""
    x = feeds[name]

    def difference(place: int, step: float) -> float:
        ends = [x + np.float32(sign * step) * (np.arange(x.size) == place).astype(np.float32) for sign in (1, -1)]
        high, low = (float(np.sum(rep.run({**feeds, name: end})[0])) for end in ends)
        return (high - low) / float(np.float64(ends[0][place]) - np.float64(ends[1][place]))

    return np.array([(4 * difference(k, step / 2) - difference(k, step)) / 3 for k in range(x.size)])


def check(node: str, image: str = "double[n,m]", opset: int = 21, roi: list[float] = ROI, scales: list[float] = UP, **given: Any) -> None:
    """Compare the gradients of the sum of a node's squares by its image, region and scales with differences."""
    text = f"""g ({image} x, float[4] roi, float[2] s, int64[2] k) => (double y, {image} d, float[4] e, float[2] f) {{
        p = {node} y = ReduceSumSquare<keepdims=0>(p) d, e, f = Gradient<xs=["x", "roi", "s"], y="y">(x, roi, s) }}"""
    rep = backend.prepare(parsed(text, opset), jit=False)
    feeds = {"x": IMAGE, "roi": np.array(roi, np.float32), "s": np.array(scales, np.float32), "k": np.array([6, 3]), **given}
    _, d, e, f = rep.run(feeds)
    assert e.dtype == f.dtype == np.float32
    np.testing.assert_allclose(e, refined(rep, feeds, "roi"), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(f, refined(rep, feeds, "s"), rtol=1e-5, atol=1e-6)
    ahead, back = (rep.run({**feeds, "x": IMAGE * (1 + step)})[0] for step in (1e-6, -1e-6))
    np.testing.assert_allclose(np.sum(d * IMAGE), (ahead - back) / 2e-6, rtol=1e-6)


COORDINATES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric", "tf_crop_and_resize")


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
def test_scales(mode: str, coordinates: str) -> None:
    node = f'Resize<mode="{mode}", coordinate_transformation_mode="{coordinates}">(x, roi, s)'
    for scales in (UP, MIXED):
        check(node, scales=scales)


@pytest.mark.parametrize("coordinates", ["half_pixel", "tf_crop_and_resize"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_an_image_made_smaller_smoothly(mode: str, coordinates: str) -> None:
    check(f'Resize<mode="{mode}", antialias=1, coordinate_transformation_mode="{coordinates}">(x, roi, s)', scales=DOWN)


def test_neighbours_outside_left_out() -> None:
    check('Resize<mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5>(x, roi, s)', scales=MIXED)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_a_region_that_reaches_outside(policy: str) -> None:
    attributes = f'coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=3.5, keep_aspect_ratio_policy="{policy}"'
    check(f'Resize<mode="linear", {attributes}>(x, roi, , k)', roi=[-0.2, 0.1, 1.1, 0.8])


@pytest.mark.parametrize(("node", "opset"), [
    ('Resize<mode="linear", coordinate_transformation_mode="tf_half_pixel_for_nn">(x, roi, s)', 11),
    ('Resize<mode="linear">(x, s)', 10),
    ('Resize<mode="nearest">(x, s)', 10),
    ('Upsample<mode="linear">(x, s)', 9),
    ('Upsample<mode="nearest">(x, s)', 9),
])  # fmt: skip
def test_versions(node: str, opset: int) -> None:
    check(node, opset=opset, scales=UP if "Upsample" in node else MIXED)


def test_an_image_of_unknown_rank() -> None:
    check('Resize<mode="cubic", coordinate_transformation_mode="tf_crop_and_resize">(x, roi, s)', "double[]")


def test_a_scale_of_1_that_is_a_constant() -> None:
    """Cubic interpolation is smooth there; the extents are the same only for larger scales."""
    node = 'p = Resize<mode="cubic">(x, , s)'
    text = f"""g (double[n,m] x) => (float[2] f) <float[2] s = {{1.0, 1.3}}> {{ {node} y = Mul(p, p)
        f = Gradient<xs=["s"], zs=["x"], y="y">(s, x) }}"""
    (found,) = backend.prepare(parsed(text), jit=False).run([IMAGE])
    plain = f"g (double[n,m] x, float[2] s) => (double y) {{ {node} y = ReduceSumSquare<keepdims=0>(p) }}"
    forward = backend.prepare(parsed(plain), jit=False)
    low, high = (float(forward.run([IMAGE, np.array([scale, 1.3], np.float32)])[0]) for scale in (1, 1 + 2.0**-12))
    assert abs(found[0]) > 0.1
    np.testing.assert_allclose(found[0], (high - low) * 2**12, rtol=1e-2)


def test_a_second_derivative() -> None:
    """What is differentiated is of the fourth degree in the image, so that two differences make an exact derivative."""
    text = """g (double[4,5] x, float[2] s) => (double y, double[4,5] d) { p = Resize<mode="cubic">(x, , s) q = Mul(p, p)
        f = Gradient<xs=["s"], zs=["x"], y="q">(s, x) h = Cast<to=11>(f) y = ReduceSumSquare<keepdims=0>(h)
        d = Gradient<xs=["x"], zs=["s"], y="y">(x, s) }"""
    rep = backend.prepare(parsed(text), jit=False)
    scales, direction = np.array(UP, np.float32), f64(4, 5)

    def difference(step: float) -> float:
        ahead, back = (float(rep.run([IMAGE + sign * step * direction, scales])[0]) for sign in (1, -1))
        return (ahead - back) / (2 * step)

    found = np.sum(rep.run([IMAGE, scales])[1] * direction)
    np.testing.assert_allclose(found, (4 * difference(0.125) - difference(0.25)) / 3, rtol=1e-5)
