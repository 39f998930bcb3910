"""What the standard's text says, in NumPy, where neither onnxruntime nor the reference evaluator knows it or does it right.

`RULES` give outputs, `CHECKS` what random results must hold, `RELABELLED` the newer version in which a case means the same,
`AS_FLOAT` the operators whose double or integer results only float32 arithmetic of others is there to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx.defs

from onnx_numba.coverage.case import Case, element, numpy_type

Array = np.ndarray[Any, Any]
ML = "ai.onnx.ml."


def outputs(case: Case) -> list[Any] | None:
    """The outputs of a case; None where there is no rule for it."""
    rule = RULES.get(case.key)
    return rule(case) if rule else None


def attribute(case: Case, name: str, default: Any = None) -> Any:
    """An attribute of the case, else the schema's default."""
    if name in case.attributes:
        return case.attributes[name]
    declared = case.schema.attributes[name].default_value if name in case.schema.attributes else None
    if declared is None or not declared.type:
        return default
    value = onnx.helper.get_attribute_value(declared)
    return value.decode() if isinstance(value, bytes) else value


def _unary(function: Callable[..., Array]) -> Callable[[Case], list[Array]]:
    """A rule that goes element by element, in float64."""

    def rule(case: Case) -> list[Array]:
        x = case.inputs[0]
        with np.errstate(all="ignore"):
            return [np.asarray(function(case, x.astype(np.float64))).astype(x.dtype)]

    return rule


def _gelu(case: Case, x: Array) -> Array:
    if attribute(case, "approximate", "none") == "tanh":
        return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x * 0.5 * (1 + _erf(x / math.sqrt(2)))


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _selu(case: Case, x: Array) -> Array:
    alpha, gamma = (np.float64(np.float32(attribute(case, name))) for name in ("alpha", "gamma"))
    return gamma * np.where(x > 0, x, alpha * np.exp(x) - alpha)


def _lrn(case: Case) -> list[Array]:
    x = case.inputs[0].astype(np.float64)
    size, alpha, beta, bias = (attribute(case, name) for name in ("size", "alpha", "beta", "bias"))
    channels, squares = x.shape[1], np.zeros_like(x)
    for c in range(channels):
        first, last = max(0, c - (size - 1) // 2), min(channels - 1, c + math.ceil((size - 1) / 2))
        squares[:, c] = (x[:, first : last + 1] ** 2).sum(axis=1)
    return [(x / (bias + alpha / size * squares) ** beta).astype(case.inputs[0].dtype)]


def _hardmax(case: Case) -> list[Array] | None:
    if case.schema.since_version >= 13:
        return None
    x, axis = case.inputs[0], attribute(case, "axis")
    rows = x.reshape(int(np.prod(x.shape[: axis % x.ndim])), -1)
    result = np.zeros_like(rows)
    result[np.arange(len(rows)), rows.argmax(axis=1)] = 1
    return [result.reshape(x.shape)]


def _batch_normalization(case: Case) -> list[Array] | None:
    if case.schema.since_version >= 14:
        return None
    x, scale, bias, mean, variance = (v.astype(np.float64) for v in case.inputs)
    momentum, epsilon = attribute(case, "momentum"), attribute(case, "epsilon")
    spatial = attribute(case, "spatial", 1)
    channels = (1, -1, *[1] * (x.ndim - 2)) if spatial else (1, *x.shape[1:])
    used, given = (mean, variance), []
    if len(case.outputs) > 1:
        axes = (0, *range(2, x.ndim)) if spatial else (0,)
        used = x.mean(axis=axes), x.var(axis=axes)
        given = [old * momentum + new * (1 - momentum) for old, new in zip((mean, variance), used, strict=True)] + list(used)
    scale, bias, mean, variance = (v.reshape(channels) for v in (scale, bias, *used))
    y = (x - mean) / np.sqrt(variance + epsilon) * scale + bias
    return [v.astype(case.inputs[0].dtype) for v in (y, *given)]


def _average_pool(case: Case) -> list[Array] | None:
    """Version 1, whose padding is not counted, as version 7 says what it had left open: ``count_include_pad`` is 0 by default."""
    if case.schema.since_version > 1 or not case.variant:
        return None
    newer = replace(case, schema=onnx.defs.get_schema("AveragePool", 7, ""))
    import schema_expected

    return schema_expected.onnxruntime_outputs(newer)


def _dropout(case: Case) -> list[Array] | None:
    """Inference: a copy, and nothing is dropped."""
    x = case.inputs[0]
    if case.schema.since_version < 7 and not attribute(case, "is_test"):
        return None
    training = case.inputs[2] if len(case.inputs) > 2 else None
    if training is not None and bool(training) and float(case.inputs[1] if case.inputs[1] is not None else 0.5) > 0:
        return None
    mask = np.ones(x.shape, bool)
    return [x, mask.astype(x.dtype) if case.schema.since_version < 10 else mask][: len(case.outputs)]


def _one_hot(case: Case) -> list[Array]:
    indices, depth, values = case.inputs
    count, axis = int(np.asarray(depth).reshape(-1)[0]), attribute(case, "axis")
    whole = indices.astype(np.int64)
    whole = np.where(whole < 0, whole + count, whole)
    hot = whole[..., None] == np.arange(count)
    return [np.moveaxis(np.where(hot, values[1], values[0]).astype(values.dtype), -1, axis)]


def _loop(case: Case) -> list[Any]:
    value = case.inputs[2]
    if not case.variant:
        return [value]
    count = {"scan": 3, "no trips": 0, "stopped": 0, "stops": 1, "while": 1}[case.variant]
    steps = []
    for _ in range(count):
        value = value + value
        steps.append(value)
    return [value, np.stack(steps) if steps else np.zeros((0, *value.shape), value.dtype)]


def _scan(case: Case) -> list[Any] | None:
    """The plain model hands state and elements through."""
    return None if case.variant else [case.inputs[-2], case.inputs[-1]]


def _optional(case: Case) -> list[Any]:
    return [case.inputs[0] if case.inputs else None]


def _constant(case: Case) -> list[Any] | None:
    return [np.array([[0, 1.5, 0], [0, -2, 0]], np.float32)] if case.variant == "sparse" else None


def _integral_log(case: Case) -> list[Array] | None:
    """Sums of unsigned integers, of which the reference evaluator has none."""
    x = case.inputs[0]
    if x.dtype.kind != "u":
        return None
    values = x.astype(np.float64)
    total = (np.exp(values) if case.schema.name == "ReduceLogSumExp" else values).sum(axis=1, keepdims=True)
    return [np.log(total).astype(x.dtype)]


def _erf_rule(case: Case) -> list[Array]:
    x = case.inputs[0]
    return [np.trunc(_erf(x.astype(np.float64))).astype(x.dtype) if x.dtype.kind in "iu" else _erf(x.astype(np.float64)).astype(x.dtype)]


def _bernoulli(case: Case) -> list[Array] | None:
    if case.variant:
        return None
    return [case.inputs[0].astype(numpy_type(case.outputs[0]))]


def _tile_1(case: Case) -> list[Array] | None:
    if case.schema.since_version > 1:
        return None
    x, tiles, axis = case.inputs
    return [np.concatenate([x] * int(tiles), axis=int(axis))]


def _cast_map(case: Case) -> list[Array]:
    keys = case.inputs[0]
    dense = case.attributes["map_form"] == "DENSE"
    values = [keys[k] for k in sorted(keys)] if dense else [keys.get(k, 0) for k in range(case.attributes["max_map"])]
    kind = {"TO_FLOAT": np.float32, "TO_INT64": np.int64, "TO_STRING": object}[case.attributes["cast_to"]]
    made = [str(v) if kind is object else kind(float(v)) for v in values]
    return [np.array([made], kind)]


def _dict_vectorizer(case: Case) -> list[Array]:
    words = case.attributes.get("string_vocabulary") or case.attributes["int64_vocabulary"]
    dtype = numpy_type(case.types["T2"])
    return [np.array([[case.inputs[0].get(word, "" if dtype.kind == "O" else 0) for word in words]], dtype)]


def _gradient(case: Case) -> list[Array]:
    """Of squares: 2 x, of complex numbers the real part; truth values and strings have nothing near to them, so nothing changes."""
    x = case.inputs[0]
    slope = 2 * x.real if x.dtype.kind in "fiuc" else np.zeros(x.shape)
    return [slope.astype(numpy_type(case.types["T2"]))]


def _col2im(case: Case) -> list[Array] | None:
    """Strings, whose blocks must not overlap: blocks side by side."""
    x, image, block = case.inputs
    if x.dtype != object:
        return None
    parts = x.reshape(len(x), -1, *block, *(image // block))
    return [parts.transpose(0, 1, 4, 2, 5, 3).reshape(len(x), -1, *image)]


def _image(case: Case) -> list[Array]:
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 255], [0, 0, 0], [128, 128, 128]]], np.uint8)
    kind = case.attributes["pixel_format"]
    if kind == "Grayscale":
        return [np.rint(rgb @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]]
    return [rgb[..., ::-1] if kind == "BGR" else rgb]


def _moved(case: Case) -> list[Array] | None:
    """Nearest neighbours and fills of any type: where a tensor of positions, counted from 1, says they come from; 0 is the fill."""
    import schema_expected

    name, kind = next(iter(case.types.items()))
    if kind == "tensor(float)" or case.variant:
        return None
    x = case.inputs[0]
    spots = np.arange(1, x.size + 1, dtype=np.float32).reshape(x.shape)
    moved = replace(
        case, types={**case.types, name: "tensor(float)"}, inputs=(spots, *case.inputs[1:]), outputs=("tensor(float)",),
        input_types=("tensor(float)", *case.input_types[1:]),
    )  # fmt: skip
    (positions,) = schema_expected.someone_elses(relabelled(moved))
    fill = np.array([""], object) if x.dtype == object else np.zeros(1, x.dtype)
    return [np.concatenate([fill, x.reshape(-1)])[positions.astype(np.int64)]]


def _grid_sample(case: Case) -> list[Array] | None:
    """Integers and booleans: interpolated as reals, then cast."""
    x = case.inputs[0]
    if x.dtype == object:
        return _moved(case)
    if x.dtype.kind not in "iub":
        return None
    import schema_expected

    types = {**case.types, "T1": "tensor(float)", "T2": "tensor(float)"}
    values = (x.astype(np.float32), case.inputs[1].astype(np.float32))
    real = replace(case, types=types, inputs=values, input_types=("tensor(float)",) * 2, outputs=("tensor(float)",))
    (found,) = schema_expected.someone_elses(relabelled(real))
    return [found != 0 if x.dtype.kind == "b" else np.trunc(found).astype(x.dtype)]


def _matmul_integer(case: Case) -> list[Array]:
    a, b, *zeros = (v.astype(np.int32) for v in case.inputs)
    rows, columns = (*zeros, *[np.int32(0)] * 2)[:2]
    return [(a - (rows[:, None] if np.ndim(rows) else rows)) @ (b - columns)]


def _qlinear_matmul(case: Case) -> list[Array] | None:
    """By rows, and floats of 8 bits, to which the scaled sum is rounded, beyond their range to the end of it."""
    dtype = case.inputs[7].dtype
    floats = dtype.kind not in "iu"
    if not case.variant and not floats:
        return None
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (v.astype(np.float64) for v in case.inputs)
    column = (slice(None), None) if a_scale.ndim else ()
    product = ((a - a_zero[column]) * a_scale[column]) @ ((b - b_zero) * b_scale)
    scaled = product / y_scale + y_zero if floats else np.rint(product / y_scale) + y_zero
    limits = ml_dtypes.finfo(dtype) if floats else np.iinfo(dtype)
    return [np.clip(scaled, float(limits.min), float(limits.max)).astype(dtype)]


def _cast(case: Case) -> list[Array] | None:
    """From and to strings: floats are written plainly, with a point, as onnx's own tests have it; text is the number that it writes."""
    x, source, target = case.inputs[0], case.types["T1"], case.types["T2"]
    if source != target and _few_bits(source) and _few_bits(target) and target != "tensor(float8e8m0)":
        return [_wrapped(x.astype(np.float64), target)]
    if source == target or "tensor(string)" not in (source, target):
        return None
    if target == "tensor(string)":
        if x.dtype.kind in "iu" or "int" in source or source == "tensor(bool)":
            texts = [str(int(v)) for v in x.reshape(-1)]
        elif x.dtype.kind == "c":
            return None
        else:
            texts = [str(float(v)) for v in x.reshape(-1)]
        return [np.array(texts, object).reshape(x.shape)]
    if "complex" in target:
        return None
    numbers = np.array([float(v) for v in x.reshape(-1)]).reshape(x.shape)
    return [numbers != 0 if target == "tensor(bool)" else numbers.astype(numpy_type(target))]


def _few_bits(type_: str) -> bool:
    return element(type_) in ("float8e8m0", "float4e2m1", "float6e2m3", "float6e3m2", "int4", "uint4", "int2", "uint2")


def _wrapped(numbers: Array, target: str) -> Array:
    """Numbers as a type of few bits; integers lose their higher bits."""
    name = element(target)
    if "int" not in name:
        return numbers.astype(numpy_type(target))
    size = 2 ** int(name[-1])
    low = 0 if name.startswith("u") else -size // 2
    return ((numbers.astype(np.int64) - low) % size + low).astype(numpy_type(target))


RULES: Mapping[str, Callable[[Case], list[Any] | None]] = {
    "Cast": _cast,
    "CastLike": _cast,
    "Erf": _erf_rule,
    "Gelu": _unary(_gelu),
    "HardSwish": _unary(lambda case, x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "Selu": _unary(_selu),
    "LRN": _lrn,
    "Hardmax": _hardmax,
    "BatchNormalization": _batch_normalization,
    "AveragePool": _average_pool,
    "Dropout": _dropout,
    "OneHot": _one_hot,
    "Loop": _loop,
    "Scan": _scan,
    "Optional": _optional,
    "Constant": _constant,
    "ReduceLogSum": _integral_log,
    "ReduceLogSumExp": _integral_log,
    "Bernoulli": _bernoulli,
    "Tile": _tile_1,
    ML + "CastMap": _cast_map,
    ML + "DictVectorizer": _dict_vectorizer,
    "ai.onnx.preview.training.Gradient": _gradient,
    "Col2Im": _col2im,
    "ImageDecoder": _image,
    "Resize": _moved,
    "Upsample": _moved,
    "Trilu": _moved,
    "CenterCropPad": _moved,
    "GridSample": _grid_sample,
    "MatMulInteger": _matmul_integer,
    "QLinearMatMul": _qlinear_matmul,
}


# ---- what random results must hold


def _checked_dropout(case: Case, got: list[Any]) -> str | None:
    if outputs(case) is not None:
        return None
    x, (y, mask) = case.inputs[0].astype(np.float64), got
    ratio = np.float64(case.inputs[1]) if len(case.inputs) > 1 and case.inputs[1] is not None else attribute(case, "ratio", 0.5)
    kept = mask.astype(bool)
    if not np.allclose(y.astype(np.float64), np.where(kept, x / (1 - ratio), 0), 1e-2):
        return "the output is not the scaled input where the mask is set"
    return _about(kept.mean(), 1 - ratio, math.sqrt(ratio * (1 - ratio) / x.size), "share kept")


def _about(found: float, wanted: float, sigma: float, what: str) -> str | None:
    return None if abs(found - wanted) <= 6 * sigma + 1e-3 else f"{what} {found:.3g}, expected about {wanted:.3g}"


def _checked_random(case: Case, got: list[Any]) -> str | None:
    values = got[0].astype(np.float64)
    if values.shape != (8, 16):
        return f"shape {values.shape}"
    if "Normal" in case.schema.name:
        mean, spread = attribute(case, "mean"), attribute(case, "scale")
    else:
        low, high = attribute(case, "low"), attribute(case, "high")
        mean, spread = (low + high) / 2, (high - low) / math.sqrt(12)
        if values.min() < low or values.max() > high:
            return f"values from {values.min()} to {values.max()}"
    return _about(values.mean(), mean, spread / math.sqrt(values.size), "mean") or (
        f"spread {values.std()}" if not 0.6 * spread < values.std() < 1.5 * spread else None
    )


def _checked_bernoulli(case: Case, got: list[Any]) -> str | None:
    return _about(float(got[0].astype(np.float64).mean()), 0.5, 0.5 / 8, "share of ones")


def _checked_multinomial(case: Case, got: list[Any]) -> str | None:
    if case.variant == "samples":
        return _about(float(got[0].mean()), 0.75, 0.5 / 8, "share of the likelier class")
    wanted = np.repeat([[1], [0]], case.attributes.get("sample_size", 1), axis=1)
    return None if np.array_equal(got[0], wanted) else f"got {got[0].tolist()}"


CHECKS: Mapping[str, Callable[[Case, list[Any]], str | None]] = {
    "Dropout": _checked_dropout,
    "RandomNormal": _checked_random,
    "RandomUniform": _checked_random,
    "RandomNormalLike": _checked_random,
    "RandomUniformLike": _checked_random,
    "Bernoulli": _checked_bernoulli,
    "Multinomial": _checked_multinomial,
}


def canonical(case: Case, values: list[Any]) -> list[Any]:
    """Outputs in an order of our own where the standard leaves it open."""
    if case.schema.name == "TopK" and case.attributes.get("sorted") == 0:
        order = np.argsort(values[1], axis=-1)
        return [np.take_along_axis(v, order, -1) for v in values]
    return values


# ---- the same meaning in a newer version


def relabelled(case: Case) -> Case:
    """The case in the version that others implement; itself where they implement its own."""
    version, change = RELABELLED.get((case.key, case.schema.since_version), (0, None))
    if not version or change is None:
        return case
    changed = change(case)
    name = {"Scatter": "ScatterElements"}.get(case.schema.name, case.schema.name)
    return replace(changed, schema=onnx.defs.get_schema(name, version, case.schema.domain))


def _without(*names: str) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        return replace(case, attributes={k: v for k, v in case.attributes.items() if k not in names})

    return change


def _legacy_broadcast(case: Case) -> Case:
    x, y = case.inputs
    axis = case.attributes.get("axis")
    if axis is not None:
        y = y.reshape(*y.shape, *[1] * (x.ndim - axis % x.ndim - y.ndim))
    return replace(_without("axis", "broadcast")(case), inputs=(x, y))


def _split_1(case: Case) -> Case:
    if len(case.inputs) < 2:
        return case
    given = {**case.attributes, "split": case.inputs[1].astype(int).tolist()}
    return replace(case, inputs=case.inputs[:1], input_types=case.input_types[:1], attributes=given)


def _upsample(case: Case) -> Case:
    given = dict(case.attributes)
    if "scales" in given:
        scales = given.pop("scales")
    elif len(case.inputs) > 1:
        scales = case.inputs[1]
    else:
        scales = [1.0, 1.0, given.pop("height_scale"), given.pop("width_scale")]
    given["mode"] = {"bilinear": "linear"}.get(given["mode"], given["mode"])
    return replace(
        case, inputs=(case.inputs[0], np.array(scales, np.float32)), input_types=(case.input_types[0], "tensor(float)"),
        constants=frozenset({1}), attributes=given,
    )  # fmt: skip


def _grid_names(case: Case) -> Case:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(case.attributes.get("mode", ""), case.attributes.get("mode"))
    given = {**case.attributes, **({"mode": mode} if mode else {})}
    return case if case.inputs[0].ndim > 4 else replace(case, attributes=given)


def _axis_of_concat(case: Case) -> Case:
    return replace(case, attributes={"axis": 1, **case.attributes})


def _whole_power(case: Case) -> Case:
    return replace(case, attributes={k: int(v) for k, v in case.attributes.items()})


def _numbered_type(case: Case) -> Case:
    return replace(case, attributes={"to": int(onnx.TensorProto.DataType.Value(case.attributes["to"]))})


_SAME = _without()
RELABELLED: Mapping[tuple[str, int], tuple[int, Callable[[Case], Case]]] = {
    **{(op, v): (7, _legacy_broadcast) for op in ("Add", "Sub", "Mul", "Div") for v in (1, 6)},
    **{(op, 1): (7, _legacy_broadcast) for op in ("And", "Or", "Xor", "Equal", "Greater", "Less", "Pow")},
    **{("Gemm", v): (7, _without("broadcast")) for v in (1, 6)},
    **{(op, v): (7, _without("output_sequence")) for op in ("RNN", "GRU", "LSTM") for v in (1, 3)},
    ("Cast", 1): (6, _numbered_type), ("Clip", 1): (6, _SAME), ("Split", 1): (2, _split_1),
    ("Concat", 1): (4, _axis_of_concat), ("Dropout", 1): (7, _without("is_test")),
    ("GlobalLpPool", 1): (2, _whole_power), ("GlobalLpPool", 22): (2, _SAME), ("MaxRoiPool", 22): (1, _SAME),
    **{("Upsample", v): (9, _upsample) for v in (1, 7, 10)}, ("Scatter", 9): (11, _SAME), ("Scatter", 11): (11, _SAME),
    **{(ML + op, 5): (3, _SAME) for op in ("TreeEnsembleClassifier", "TreeEnsembleRegressor")},
    ("GridSample", 22): (16, _grid_names), ("GridSample", 20): (16, _grid_names),
}  # fmt: skip

AS_FLOAT = frozenset({
    "Attention", "GroupNormalization", "MeanVarianceNormalization", "MaxRoiPool", "GlobalLpPool", "BlackmanWindow", "HammingWindow",
    "HannWindow", "GridSample", "LinearRegressor", "SVMRegressor", "TreeEnsembleRegressor",
})  # fmt: skip
"""Operators that others know in float32 alone, or of which float64 loses digits there: compared with float32 and its tolerance."""

REFERENCE_FIRST = frozenset({"MaxUnpool", "Gather", "Resize"})
"""onnxruntime reads the indices of MaxUnpool by the shape asked for, loses strings in Gather, and rounds extents of Resize early:
onnx's own tests say otherwise."""
