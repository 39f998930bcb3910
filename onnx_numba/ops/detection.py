"""Object detection."""

from __future__ import annotations

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import F32, I64
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.registry import op
from onnx_numba.templates.detection import offsets, select_boxes, write_boxes

_TOGETHER = 16
"""Chosen boxes that one is compared with at once."""


def _threshold(b: Builder, value: Tensor | None) -> Tensor:
    return b.full((1,), 0.0, F32) if value is None else b.reshape(value, (1,))


@op("NonMaxSuppression", since=10, reviewed=11)
def non_max_suppression(
    b: Builder, boxes: Tensor, scores: Tensor, most: Tensor | None = None, overlap: Tensor | None = None,
    least: Tensor | None = None, *, center_point_box: int,
) -> Tensor:  # fmt: skip
    """Boxes of every image and class, best first, without those that overlap a better one too much."""
    if boxes.rank != 3 or scores.rank != 3:
        b.fail(f"boxes and scores of rank 3 are expected, of rank {boxes.rank} and {scores.rank} came")
    images, count, numbers = boxes.shape
    b.require_equal(numbers, 4, "numbers of a box")
    classes = scores.shape[1]
    b.require_equal(scores.shape[0], images, "images of the scores")
    b.require_equal(scores.shape[2], count, "boxes of the scores")
    units = images * classes
    limit: Dim | int = 0
    if most is not None:
        (given,) = b.dims(b.reshape(most, (1,)), signed=[0])
        limit = d.dmin(d.dmax(given, 0), count)
    chosen, counts, _heap = b.template(
        select_boxes, [boxes, scores, _threshold(b, overlap), _threshold(b, least)],
        [(I64, (units, limit)), (I64, (units,)), (I64, (units, count))],
        total=units, dims=(count, classes, limit), scratch=5 * (limit + _TOGETHER) * F32.size,
        constants={"CENTRES": bool(center_point_box), "FLOOR": least is not None, "TOGETHER": _TOGETHER},
    )  # fmt: skip
    (first,) = b.template(offsets, [counts], [(I64, (units + 1,))], dims=(units,))
    (total,) = b.dims(b.compute((1,), lambda _: first[(units,)], I64))
    (rows,) = b.template(write_boxes, [chosen, first], [(I64, (total, 3))], total=units, dims=(classes, limit))
    return rows
