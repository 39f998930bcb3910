"""Gradients of operators as they once were, and of what only the run says of axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from gradients import agrees, check, drawing, ints
from operators import Case

f64 = drawing(13)

X = f64(2, 3, 4)
HOLES = X * np.array([0.0, 1.0, 1.0, 1.0])
IMAGE = f64(1, 2, 6, 5)
POOL: Mapping[str, Any] = {"kernel_shape": [2, 2], "p": 3.0}
OLD = [
    Case("Upsample", 1, [IMAGE], {"height_scale": 2.0, "width_scale": 1.5, "mode": "bilinear"}),
    Case("PRelu", 6, [X, f64(3)]),
    Case("PRelu", 1, [X, f64(1)]),
    Case("Concat", 1, [X, f64(2, 1, 4)]),
    Case("Split", 1, [X], {"axis": 2, "split": [1, 3]}, (), 2),
    Case("Split", 1, [X, np.array([1.0, 2.0])], {"axis": 1}, (1,), 2),
    Case("Split", 1, [X], {}, (), 2),
    Case("Pad", 1, [X], {"paddings": [1, 0, 2, 0, 1, 0]}),
    Case("GlobalLpPool", 1, [IMAGE], {"p": 3.0}),
    Case("LpPool", 1, [IMAGE], POOL),
    Case("InstanceNormalization", 1, [IMAGE, f64(2), f64(2)]),
]
MOVED = [
    Case("CenterCropPad", 18, [X, np.array([3, 2], np.int32)], {"axes": [0, 2]}, (1,)),
    Case("AffineGrid", 20, [f64(2, 2, 3), ints(2, 1, 3, 2)], {}, (1,)),
    Case("AffineGrid", 20, [f64(1, 3, 4), ints(1, 1, 3, 2, 2)], {"align_corners": 1}),
    Case("Tile", 1, [X, np.array(2.0), np.array(1.0)], {}, (1, 2)),
    Case("Clip", 13, [X, np.array(0.5), np.array(-0.3)]),
]
AXES = [
    Case("DFT", 20, [f64(2, 3, 2), None, np.array(-3)], {"inverse": 1}),
    Case("DFT", 20, [f64(2, 4, 1), np.array(7), np.array(1)], {"onesided": 1}),
    Case("CumProd", 26, [HOLES, np.array(-1, np.int32)], {"exclusive": 1, "reverse": 1}),
    Case("ReduceProd", 18, [HOLES, ints(0, -1)], {"keepdims": 0}),
    Case("ReduceProd", 18, [HOLES, ints()]),
    Case("ReduceProd", 18, [HOLES, ints()], {"noop_with_empty_axes": 1}),
    Case("ReduceProd", 18, [HOLES[:, :0], ints(1)], {"keepdims": 0}),
]


@pytest.mark.parametrize("case", [*OLD, *MOVED, *AXES], ids=str)
def test_differences_agree(case: Case) -> None:
    check(case)


def test_the_second_part_of_a_split_that_the_run_sizes() -> None:
    """The adjoint of the parts is put together in memory whose extent only the run knows."""
    text = """g (double[2,6] x, int64[2] s, double[2,5] w) => (double[2,5] y, double[2,6] d) { a, b = Split<axis=1>(x, s) y = Mul(b, w)
        d = Gradient<xs=["x"], y="y">(x) }"""
    agrees(text, [f64(2, 6), ints(1, 5), f64(2, 5)], [0])


@pytest.mark.parametrize("case", [OLD[0], OLD[1], *MOVED, *AXES[:2]], ids=str)
def test_shapes_known_to_the_run_alone(case: Case) -> None:
    check(case, dynamic=True)


def test_a_product_in_a_rank_that_the_run_says() -> None:
    text = """g (double[6] x, int64[k] t, double[3] w) => (double y, double[6] d, double[3] e) { h = Reshape(x, t) p = Mul(h, w) q = Sin(p)
        y = ReduceSum<keepdims=0>(q) d, e = Gradient<xs=["x", "w"], y="y">(x, w) }"""
    agrees(text, [f64(6), ints(2, 3), f64(3)], [0, 2])


def test_a_resize_whose_scales_the_run_counts() -> None:
    text = """g (double[1,1,4,4] x, float[k] s, double[m] w) => (double[a,b,c,e] y, double[1,1,4,4] d, double[m] f) {
        h = Resize<mode="linear">(x, , s) y = Mul(h, w) d, f = Gradient<xs=["x", "w"], y="y">(x, w) }"""
    agrees(text, [f64(1, 1, 4, 4), np.array([1, 1, 1.5, 2], np.float32), f64(8)], [0, 2])
