"""Gradients of images read at computed places."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import check, drawing, ints
from operators import Case

RNG = np.random.default_rng(8)
f64 = drawing(8)

IMAGE = f64(2, 4, 6, 5)
GRID = RNG.uniform(-1.4, 1.4, (2, 3, 4, 2))
REGIONS = np.array([[0.3, 0.7, 3.2, 4.1], [-3.5, -2.2, 2.5, 6.3], [1.1, 2.0, 9.3, 4.6]])
WHOLE = np.array([[0.0, 1, 0, 3, 4], [1, -3.5, -2.2, 2.5, 6.3], [1, 1.1, 2, 9.3, 4.6], [0, 8, 8, 9, 9]])
CASES = [
    *(
        Case("GridSample", 20, [IMAGE, GRID], {"mode": mode, "padding_mode": padding, "align_corners": aligned})
        for mode in ("linear", "cubic", "nearest")
        for padding in ("zeros", "border", "reflection")
        for aligned in (0, 1)
    ),
    Case("GridSample", 22, [f64(1, 2, 3, 4, 3), RNG.uniform(-1.3, 1.3, (1, 2, 3, 2, 3))]),
    Case("GridSample", 16, [IMAGE, GRID], {"mode": "bicubic"}),
    Case("GridSample", 22, [IMAGE[:, :, :1], GRID], {"padding_mode": "reflection", "align_corners": 1}),
    Case("DeformConv", 19, [IMAGE, f64(6, 2, 2, 3), f64(2, 24, 3, 3) * 0.7, f64(6), f64(2, 12, 3, 3)],
         {"group": 2, "offset_group": 2, "strides": [2, 1], "pads": [0, 0, 1, 0]}),
    Case("DeformConv", 22, [IMAGE, f64(3, 4, 2, 2), f64(2, 8, 4, 4) * 0.7], {"dilations": [2, 1]}),
    Case("DeformConv", 22, [IMAGE[..., 0], f64(3, 4, 2), f64(2, 2, 5) * 0.7]),
    Case("RoiAlign", 16, [IMAGE, REGIONS, ints(0, 1, 1)], {"output_height": 2, "output_width": 3, "sampling_ratio": 2}),
    Case("RoiAlign", 10, [IMAGE, REGIONS, ints(0, 1, 1)],
         {"output_height": 2, "output_width": 1, "sampling_ratio": 3, "spatial_scale": 0.7}),
    Case("RoiAlign", 16, [IMAGE, REGIONS, ints(0, 1, 1)], {"output_height": 2, "output_width": 1, "spatial_scale": 0.9}),
    Case("RoiAlign", 16, [IMAGE, REGIONS, ints(0, 1, 1)], {"output_height": 3, "output_width": 2, "mode": "max", "spatial_scale": 0.9}),
    Case("RoiAlign", 10, [IMAGE - 3, REGIONS, ints(0, 1, 1)], {"output_width": 2, "mode": "max", "sampling_ratio": 2}),
    Case("MaxRoiPool", 22, [IMAGE, WHOLE], {"pooled_shape": [2, 3]}, (1,)),
    Case("MaxRoiPool", 1, [IMAGE, WHOLE], {"pooled_shape": [3, 1], "spatial_scale": 0.6}, (1,)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_differences_agree(case: Case, dynamic: bool) -> None:
    check(case, dynamic=dynamic)


@pytest.mark.parametrize("case", [CASES[0], CASES[8], CASES[-7]], ids=str)
def test_derivatives_have_derivatives(case: Case) -> None:
    check(case, second=True)
