"""Operators that move elements or make them of shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from onnx_numba.coverage.case import Array, Case, Const, Draft, convert
from onnx_numba.coverage.recipes import recipe


def ints(*values: int) -> Const:
    """A constant list of integers."""
    return Const(np.array(values, np.int64))


@recipe("Identity")
def identity(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4))


@recipe("Concat")
def concat(c: Draft) -> Iterator[Case]:
    axis = None if c.version < 4 else 1
    yield c.make(c.real(2, 3), c.real(2, 2), axis=axis)
    if c.version < 4:
        yield c.make(c.real(2, 3), c.real(1, 3), name="axis=0", axis=0)
    yield c.make(c.real(2, 3), name="one", axis=1)
    if c.version >= 11:
        yield c.make(c.real(2, 3), c.real(2, 1), c.real(2, 3), name="axis=-1", axis=-1)


@recipe("Reshape")
def reshape(c: Draft) -> Iterator[Case]:
    if c.version < 5:
        yield c.make(c.real(2, 3, 4), shape=[0, -1])
        yield c.make(c.real(2, 3, 4), name="full", shape=[4, 6])
        return
    yield c.make(c.real(2, 3, 4), ints(0, -1))
    yield c.make(c.real(2, 3, 4), ints(4, 3, 2), name="full")
    yield c.make(c.real(2, 3, 4), np.array([6, -1], np.int64), name="shape of the run")
    if c.has("allowzero"):
        yield c.make(c.real(0, 3, 4), ints(3, 4, 0), name="allowzero", allowzero=1)


@recipe("Flatten")
def flatten(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3, 4))
    for axis in (0, 2, 3):
        yield c.make(c.real(2, 3, 4), name=f"axis={axis}", axis=axis)
    if c.version >= 11:
        yield c.make(c.real(2, 3, 4), name="axis=-1", axis=-1)


@recipe("Transpose")
def transpose(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3))
    yield c.make(c.real(2, 3, 4), name="perm", perm=[1, 2, 0])


@recipe("Squeeze")
def squeeze(c: Draft) -> Iterator[Case]:
    yield from _axes(c, c.real(3, 1, 2, 1), [1], [1, 3], [-1])
    yield c.make(c.real(1, 3, 1), name="all")


@recipe("Unsqueeze")
def unsqueeze(c: Draft) -> Iterator[Case]:
    yield from _axes(c, c.real(3, 2), [1], [0, 3], [-1])


def _axes(c: Draft, x: Array, plain: list[int], several: list[int], negative: list[int]) -> Iterator[Case]:
    """Axes as an attribute before version 13, as an input since."""
    for name, axes in (("", plain), ("several", several), ("negative", negative)):
        if c.version >= 13:
            yield c.make(x, ints(*axes), name=name)
        elif c.version >= 11 or name != "negative":
            yield c.make(x, name=name, axes=axes)


@recipe("Slice")
def slice_(c: Draft) -> Iterator[Case]:
    x = c.real(4, 5)
    if c.version < 10:
        yield c.make(x, starts=[1, 0], ends=[3, 4])
        yield c.make(x, name="axes", axes=[1], starts=[-3], ends=[1000])
        yield c.make(x, name="negative", axes=[0, 1], starts=[0, -4], ends=[-1, -2])
        yield c.make(x, name="past the start", axes=[0], starts=[-1000], ends=[2])
        return
    yield c.make(x, ints(1, 0), ints(3, 4))
    yield c.make(x, ints(-3), ints(1000), ints(1), name="axes")
    yield c.make(x, ints(3, 4), ints(0, -6), ints(0, 1), ints(-1, -2), name="backwards")
    yield c.make(x, ints(-1000), ints(2), ints(0), ints(2), name="clamped")
    yield c.make(x, *(np.array(v, np.int64) for v in ([1], [3], [1], [1])), name="of the run")
    if c.version >= 11:
        yield c.make(x, ints(1), ints(-1), ints(-1), name="axis=-1")


@recipe("Split")
def split(c: Draft) -> Iterator[Case]:
    x = c.real(2, 6)
    if c.version == 1:
        yield c.make(x, outputs=2, axis=1)
        yield c.make(x, outputs=2, name="split", axis=1, split=[2, 4])
        yield c.make(x, np.array([2.0, 4.0]), outputs=2, name="split of the run", axis=1)
        return
    count = {"num_outputs": 2} if c.version >= 18 else {}
    yield c.make(x, outputs=2, axis=1, **count)
    if c.version < 13:
        yield c.make(x, outputs=3, name="split", axis=1, split=[1, 2, 3])
    else:
        yield c.make(x, ints(1, 2, 3), outputs=3, name="split", axis=1)
        yield c.make(x, np.array([1, 5], np.int64), outputs=2, name="split of the run", axis=1)
        yield c.make(x, ints(1, 5), outputs=2, name="axis=-1", axis=-1)
    if count:
        yield c.make(c.real(7, 2), outputs=3, name="uneven", num_outputs=3)
        yield c.make(c.real(7, 2), outputs=4, name="uneven4", num_outputs=4)
    yield c.make(c.real(4), outputs=2, name="axis=0", **count)


@recipe("Tile")
def tile(c: Draft) -> Iterator[Case]:
    if c.version == 1:
        yield c.make(c.real(2, 3), np.array(2, np.int64), np.array(1, np.int64))
        return
    yield c.make(c.real(2, 3), ints(2, 2))
    yield c.make(c.real(2, 3), np.array([1, 2], np.int64), name="of the run")


@recipe("Expand")
def expand(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 1), ints(2, 3, 4))
    yield c.make(c.real(3, 4), ints(3, 1), name="smaller")
    yield c.make(c.real(3, 1), np.array([3, 2], np.int64), name="of the run")


@recipe("Pad")
def pad(c: Draft) -> Iterator[Case]:
    x, flat = c.real(3, 4), [1, 0, 0, 2]
    modes = ["reflect", "edge", *(["wrap"] if c.version >= 19 else [])]
    if c.version < 11:
        key = "paddings" if c.version < 2 else "pads"
        yield c.make(x, **{key: flat}, value=0.5)
        yield c.make(x, name="zero", **{key: flat})
        if c.version >= 2:
            yield c.make(x, name="negative", **{key: [-1, 0, 1, -2]})
        for mode in modes:
            yield c.make(x, name=mode, mode=mode, **{key: [1, 2, 2, 1]})
        return
    yield c.make(x, ints(*flat), np.array(0.5))
    yield c.make(x, ints(*flat), name="zero")
    yield c.make(x, ints(-1, 0, 1, -2), name="negative")
    yield c.make(x, np.array(flat, np.int64), np.array(1.0), name="of the run")
    for mode in modes:
        yield c.make(x, ints(1, 2, 2, 1), name=mode, mode=mode)
    if c.version >= 18:
        yield c.make(x, ints(1, 2), np.array(1.0), ints(1), name="axes")
        yield c.make(x, ints(1, 2), np.array(1.0), ints(-2), name="axes=-2")


@recipe("CenterCropPad")
def center_crop_pad(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 6), ints(5, 3))
    yield c.make(c.real(3, 6, 2), ints(4, 5), name="axes", axes=[1, -1])
    yield c.make(c.real(3, 6), np.array([5, 3], np.int64), name="of the run")


@recipe("DepthToSpace", "SpaceToDepth")
def depth_space(c: Draft) -> Iterator[Case]:
    deep = c.schema.name == "DepthToSpace"
    x = c.real(1, 8, 2, 3) if deep else c.real(1, 2, 4, 6)
    yield c.make(x, blocksize=2)
    for mode in ("DCR", "CRD") if c.has("mode") else ():
        yield c.make(x, name=mode, blocksize=2, mode=mode)


@recipe("Shape")
def shape(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(2, 3, 4))
    for start, end in ((1, None), (None, -1), (-2, 5), (2, 1)) if c.has("start") else ():
        yield c.make(c.real(2, 3, 4), name=f"{start}:{end}", start=start, end=end)


@recipe("Trilu")
def trilu(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4))
    yield c.make(c.real(3, 4), Const(np.array(-1)), name="lower,k=-1", upper=0)
    yield c.make(c.real(2, 3, 4), Const(np.array(1)), name="upper,k=1")
    yield c.make(c.real(3, 4), np.array(1), name="k of the run")


@recipe("EyeLike")
def eye_like(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 4), dtype=c.number("T2"))
    yield c.make(c.real(3, 4), name="k=1", k=1, types={"T2": c.types["T1"]})
    yield c.make(c.real(3, 4), name="k=-1", k=-1, types={"T2": c.types["T1"]})


@recipe("Constant")
def constant(c: Draft) -> Iterator[Case]:
    type_ = c.types["T"]
    yield c.make(value=numpy_helper.from_array(convert(c.real(2, 3), type_), "value"))
    if c.has("value_int"):
        given: dict[str, tuple[str, Any]] = {
            "value_int": ("int64", 7), "value_ints": ("int64", [1, -2]),
            "value_float": ("float", 0.5), "value_floats": ("float", [0.5, 2.0]),
            "value_string": ("string", "ab"), "value_strings": ("string", ["a", "b"]),
        }  # fmt: skip
        for key, (kind, value) in given.items():
            yield c.make(name=key, types={"T": f"tensor({kind})"}, **{key: value})
    if c.has("sparse_value"):
        values = numpy_helper.from_array(np.array([1.5, -2.0], np.float32), "values")
        indices = numpy_helper.from_array(np.array([1, 4], np.int64), "indices")
        sparse = helper.make_sparse_tensor(values, indices, [2, 3])
        yield c.make(name="sparse", types={"T": "tensor(float)"}, sparse_value=sparse)


@recipe("ConstantOfShape")
def constant_of_shape(c: Draft) -> Iterator[Case]:
    value = numpy_helper.from_array(convert(np.array([1.5]), c.types["T2"]), "value")
    yield c.make(ints(2, 3), value=value)
    yield c.make(ints(2, 3), name="default", types={"T2": "tensor(float)"})
    yield c.make(np.array([3], np.int64), name="of the run", value=value)


@recipe("OneHot")
def one_hot(c: Draft) -> Iterator[Case]:
    yield c.make(np.array([[0, 2], [1, 3]], np.int64), Const(np.array(4)), c.real(2))
    yield c.make(np.array([0, -1, 3], np.int64), Const(np.array([4])), c.real(2), name="axis=0", axis=0, types={"T1": "tensor(int64)"})
    yield c.make(np.array([0, 9, 3], np.int64), Const(np.array(4)), c.real(2), name="out of range")
    yield c.make(np.array([0, 1], np.int64), np.array(3), c.real(2), name="depth of the run")


@recipe("Range")
def range_(c: Draft) -> Iterator[Case]:
    yield c.make(*(Const(np.array(v, np.int64)) for v in (1, 9, 2)))
    yield c.make(*(np.array(v, np.int64) for v in (1, 9, 3)), name="of the run")
    yield c.make(*(np.array(v, np.int64) for v in (5, -4, -2)), name="down")
    yield c.make(*(np.array(v, np.int64) for v in (5, 6, -2)), name="empty")


@recipe("ReverseSequence")
def reverse_sequence(c: Draft) -> Iterator[Case]:
    lengths = np.array([1, 3, 2], np.int64)
    yield c.make(c.real(4, 3), lengths)
    yield c.make(c.real(3, 4, 2), lengths, name="batch_axis=0", batch_axis=0, time_axis=1)


@recipe("Upsample")
def upsample(c: Draft) -> Iterator[Case]:
    for mode in ("nearest", "bilinear" if c.version < 7 else "linear"):
        name = "" if mode == "nearest" else mode
        if c.version < 7:
            yield c.make(c.real(1, 1, 2, 3), name=name, mode=mode, height_scale=2.0, width_scale=3.0)
        elif c.version < 9:
            yield c.make(c.real(1, 1, 2, 3), name=name, mode=mode, scales=[1.0, 1.0, 2.0, 3.0])
            yield c.make(c.real(1, 1, 2, 3), name=f"{mode},broken", mode=mode, scales=[1.0, 1.0, 1.5, 2.5])
        else:
            scales = np.array([1, 1, 2, 3], np.float32)
            yield c.make(c.real(1, 1, 2, 3), Const(scales), name=name, mode=mode)
            yield c.make(c.real(1, 1, 2, 3), scales, name=f"{mode},of the run", mode=mode)


@recipe("RandomNormal", "RandomUniform")
def random(c: Draft) -> Iterator[Case]:
    yield c.make(shape=[8, 16], dtype=c.number("T"), seed=3.0)
    yield c.make(shape=[8, 16], name="default type", types={"T": "tensor(float)"})
    yield from _spread(c, shape=[8, 16], dtype=c.number("T"))


@recipe("RandomNormalLike", "RandomUniformLike")
def random_like(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(8, 16), dtype=c.number("T2"), seed=3.0)
    yield c.make(c.real(8, 16), name="like the input", types={"T1": "tensor(float)", "T2": "tensor(float)"})


def _spread(c: Draft, **attributes: Any) -> Iterator[Case]:
    given = {"mean": 5.0, "scale": 0.5} if c.has("mean") else {"low": 3.0, "high": 4.0}
    yield c.make(name=",".join(given), **given, **attributes)


@recipe("Multinomial")
def multinomial(c: Draft) -> Iterator[Case]:
    only = np.array([[-np.inf, 0.0, -np.inf], [0.0, -np.inf, -np.inf]])
    yield c.make(only, dtype=c.number("T2"), sample_size=5)
    yield c.make(np.log(np.array([[0.25, 0.75]])), name="samples", sample_size=64, dtype=c.number("T2"))
    yield c.make(only, name="default type", types={"T2": "tensor(int32)"})


