"""Shape, slicing, indexing and scattering operators against onnxruntime, in old and new versions, with dims known and unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operators import Case, check, onnxruntime_outputs

RNG = np.random.default_rng(7)
INF = np.iinfo(np.int64).max


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*values: Any) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def scalar(value: Any, dtype: Any = np.int64) -> np.ndarray[Any, Any]:
    return np.array(value, dtype)


def known_and_not(op: str, opset: int, inputs: list[Any], attributes: dict[str, Any] | None = None, outputs: int = 1) -> list[Case]:
    """The case with its later inputs constant, and with all of them given at run time."""
    later = tuple(range(1, len(inputs)))
    return [Case(op, opset, inputs, attributes or {}, constants, outputs) for constants in (later, ())]


CASES = [
    *known_and_not("Reshape", 13, [f32(2, 3, 4), i64(4, -1)]),
    *known_and_not("Reshape", 13, [f32(2, 3, 4), i64(0, 2, -1)]),
    *known_and_not("Reshape", 14, [f32(0, 3), i64(3, 0)], {"allowzero": 1}),
    *known_and_not("Reshape", 13, [f32(1), np.zeros(0, np.int64)]),
    Case("Flatten", 9, [f32(2, 3, 4)], {"axis": 0}),
    Case("Flatten", 13, [f32(2, 3, 4)], {"axis": -1}),
    Case("Flatten", 13, [f32(2, 3, 4)], {"axis": 3}),
    Case("Squeeze", 11, [f32(1, 3, 1, 2)], {"axes": [0, -2]}),
    *known_and_not("Squeeze", 13, [f32(1, 3, 1, 2), i64(0, -2)]),
    Case("Unsqueeze", 11, [f32(3, 2)], {"axes": [0, -1]}),
    *known_and_not("Unsqueeze", 13, [f32(3, 2), i64(-1, 1)]),
    *known_and_not("Unsqueeze", 13, [scalar(3.0, np.float32), i64(0)]),
    Case("Transpose", 13, [f32(2, 3, 4)]),
    Case("Transpose", 13, [f32(2, 3, 4)], {"perm": [1, 2, 0]}),
    *known_and_not("Expand", 13, [f32(3, 1), i64(2, 1, 4)]),
    Case("Concat", 13, [f32(2, 3), f32(2, 1), f32(2, 0)], {"axis": -1}),
    Case("Split", 11, [f32(7, 2)], {"split": [3, 4]}, outputs=2),
    *known_and_not("Split", 13, [f32(2, 7), i64(3, 0, 4)], {"axis": -1}, outputs=3),
    Case("Split", 18, [f32(7, 2)], {"num_outputs": 3}, outputs=3),
    *known_and_not("Slice", 10, [f32(5, 6), i64(1, -4), i64(9, INF)]),
    *known_and_not("Slice", 13, [f32(5, 6), i64(-1), i64(-INF), i64(-1), i64(-2)]),
    *known_and_not("Slice", 13, [f32(5, 6), i64(4, 0), i64(1, 3), i64(0, 1), i64(1, 2)]),
    *known_and_not("Slice", 13, [f32(5, 6), i64(-100), i64(100), i64(1), i64(3)]),
    *known_and_not("Tile", 13, [f32(2, 3), i64(2, 3)]),
    *known_and_not("Tile", 13, [f32(2, 3), i64(0, 1)]),
    Case("Pad", 10, [f32(2, 3)], {"pads": [1, 0, 2, -1], "value": 0.5}),
    *known_and_not("Pad", 13, [f32(2, 3), i64(0, 1, 1, 2), scalar(7, np.float32)]),
    *known_and_not("Pad", 13, [f32(3, 4), i64(2, 1, 1, 3)], {"mode": "reflect"}),
    *known_and_not("Pad", 13, [f32(3, 4), i64(2, 1, 5, 3)], {"mode": "edge"}),
    *known_and_not("Pad", 19, [f32(3, 4), i64(2, 1, 1, 3)], {"mode": "wrap"}),
    *known_and_not("Pad", 18, [f32(3, 4), i64(2, 1), None, i64(-1)]),
    Case("Shape", 15, [f32(2, 3, 4)], {"start": -2, "end": 10}),
    Case("Size", 13, [f32(2, 3, 4)]),
    *known_and_not("Range", 11, [scalar(2), scalar(-7), scalar(-2)]),
    *known_and_not("Range", 11, [scalar(1.5, np.float32), scalar(4.0, np.float32), scalar(0.5, np.float32)]),
    *known_and_not("Range", 11, [scalar(5), scalar(1), scalar(1)]),
    Case("ConstantOfShape", 9, [i64(2, 0)]),
    Case("EyeLike", 9, [f32(3, 4)], {"k": -1}),
    *known_and_not("Trilu", 14, [f32(2, 3, 4), scalar(1)], {"upper": 0}),
    *known_and_not("OneHot", 11, [i64(1, -1, 5), scalar(3), np.array([0.5, 2.0], np.float32)], {"axis": 0}),
    Case("Gather", 13, [f32(5, 3), i64([0, -1], [2, 4])], {"axis": 0}),
    Case("Gather", 1, [f32(5, 3), scalar(-2)], {"axis": 1}, constants=(1,)),
    Case("GatherElements", 13, [f32(3, 3), i64([1, -1, 0], [2, 0, 0])], {"axis": 0}),
    Case("GatherND", 12, [f32(2, 3, 4), i64([[1], [0]], [[2], [-1]])], {"batch_dims": 1}),
    Case("ScatterElements", 11, [f32(4, 3), i64([0, 1, -1], [0, 2, 1]), f32(2, 3)], {"axis": 0}),
    Case("ScatterElements", 18, [f32(1, 5), i64([1, 1, 3]), f32(1, 3)], {"axis": 1, "reduction": "max"}),
    Case("ScatterND", 18, [f32(4, 3), i64([0], [3], [0]), f32(3, 3)], {"reduction": "add"}),
    Case("ScatterND", 13, [f32(4, 3), i64([0, 1], [-1, -1]), f32(2)]),
    Case("NonZero", 13, [np.array([[0, 1, 2], [0, 0, 3]], np.int32)]),
    Case("NonZero", 13, [np.zeros((2, 0), np.float32)]),
    Case("NonZero", 13, [np.arange(60).reshape(3, 4, 5) % 7 % 2]),
    Case("NonZero", 13, [np.arange(24).reshape(1, 6, 1, 4, 1) % 5 > 2]),
    Case("NonZero", 13, [np.array([[[True]]])]),
    Case("Compress", 11, [f32(4, 3), np.array([True, False, True])], {"axis": 0}),
    Case("Compress", 11, [f32(4, 3), np.array([True, False, True])]),
    Case("DepthToSpace", 13, [f32(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    Case("DepthToSpace", 1, [f32(1, 8, 2, 3)], {"blocksize": 2}),
    Case("SpaceToDepth", 13, [f32(2, 2, 4, 6)], {"blocksize": 2}),
    Case("ReverseSequence", 10, [f32(4, 3), i64(1, 4, 2)], {"time_axis": 0, "batch_axis": 1}),
    Case("Transpose", 13, [np.array([["a", "b"], ["c", "d"]], object)]),
    Case("Concat", 13, [np.array(["a", "b"], object), np.array(["c"], object)], {"axis": 0}),
    Case("Gather", 13, [np.array(["a", "b"], object), i64(1, 1, -2)]),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_onnxruntime(case: Case) -> None:
    check(case, onnxruntime_outputs(case))


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "u8", "f2", "f8"])
def test_every_size_of_element_moves_unchanged(dtype: str) -> None:
    x = (RNG.random((3, 4)) * 5).astype(dtype)
    check(Case("Slice", 13, [x, i64(-1), i64(-INF), i64(0), i64(-1)]), [x[::-1]])
    check(Case("Pad", 13, [x, i64(0, 1, 0, 0)]), [np.pad(x, ((0, 0), (1, 0)))])
    updates = x[:1]
    expected = x.copy()
    expected[2] = updates[0]
    check(Case("ScatterND", 13, [x, i64([2]), updates]), [expected])


def test_sums_of_half_precision_updates_are_rounded_once() -> None:
    data, updates = np.array([2048], np.float16), np.ones(4, np.float16)
    check(Case("ScatterElements", 16, [data, i64(0, 0, 0, 0), updates], {"reduction": "add"}), [np.array([2052], np.float16)])


@pytest.mark.parametrize("index", [5, -6])
def test_an_index_out_of_range_is_an_error(index: int) -> None:
    case = Case("Gather", 13, [f32(5, 3), i64(0, index)])
    with pytest.raises(Exception, match="range"):
        check(case, [f32(2, 3)])


@pytest.mark.parametrize("axis", [0, 2])
def test_pad_1_and_concat_1_and_split_1(axis: int) -> None:
    x = f32(2, 2, 4)
    check(Case("Concat", 1, [x, x], {"axis": axis}), [np.concatenate([x, x], axis)])
    check(Case("Split", 1, [x], {"axis": axis, "split": [1, x.shape[axis] - 1]}, outputs=2), np.split(x, [1], axis))
    pads = [0] * 6
    pads[axis] = 1
    width = [(int(k == axis), 0) for k in range(3)]
    check(Case("Pad", 1, [x], {"paddings": pads, "value": 2.0}), [np.pad(x, width, constant_values=2)])


def test_tensor_scatter_wraps_around_a_circular_cache() -> None:
    past, update = f32(2, 4, 3), f32(2, 2, 3)
    expected = past.copy()
    expected[0, [3, 0]] = update[0]
    expected[1, [1, 2]] = update[1]
    check(Case("TensorScatter", 24, [past, update, i64(3, 1)], {"mode": "circular"}), [expected])
