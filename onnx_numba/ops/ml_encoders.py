"""Encoders and feature operators of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr, where
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import DTYPES, F32, F64, I64, STRING, MapType, SequenceType, TensorType, dtype_of
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.characters import lookup, strings_at
from onnx_numba.ops.common import is_string, tensor, tensor_type
from onnx_numba.ops.ml_linear import ML
from onnx_numba.ops.registry import op
from onnx_numba.ops.settle import natural_index, strings_too
from onnx_numba.templates.lookup import lookup_sorted

Array = np.ndarray[Any, Any]


@op("ZipMap", since=1, domain=ML)
def zipmap(
    b: Builder, x: Tensor, *, classlabels_int64s: Sequence[int] | None = None, classlabels_strings: Sequence[str] | None = None
) -> Any:
    """A map from class to score for every row."""
    labels: Sequence[Any] = classlabels_strings or classlabels_int64s or ()
    if not labels:
        b.fail("there are no class labels")
    b.require_equal(x.shape[-1], len(labels), "the number of scores in a row")
    key = STRING if classlabels_strings else I64
    return b.host("zipmap", [x], [SequenceType(MapType(key, TensorType(F32, ())))], labels=list(labels))


@op("Binarizer", since=1, domain=ML)
def binarizer(b: Builder, x: Tensor, *, threshold: float) -> Tensor:
    """1 above the threshold, else 0."""
    kind = F64 if x.dtype in (F64, I64) else F32
    return b.map(lambda v: where(e.cast(v, kind) > threshold, e.lit(1, x.dtype), 0), x)


@op("Imputer", since=1, domain=ML)
def imputer(
    b: Builder, x: Tensor, *, imputed_value_floats: Sequence[float] | None = None,
    imputed_value_int64s: Sequence[int] | None = None, replaced_value_float: float, replaced_value_int64: int,
) -> Tensor:  # fmt: skip
    """A given value (NaN, it may be) replaced by one number, or by one for each feature."""
    given: Sequence[float] | None = imputed_value_floats if x.dtype.is_float else imputed_value_int64s
    if not given:
        b.fail(f"there are no values to put into an input of type {x.dtype.onnx_name}")
    if len(given) != 1:
        b.require_equal(len(given), x.shape[-1] if x.rank else 1, "imputed values")
    replaced = replaced_value_float if x.dtype.is_float else replaced_value_int64
    if not x.dtype.is_float:
        least, greatest = x.dtype.limits
        if min(given) < least or max(given) > greatest:
            b.fail(f"imputed values {list(given)} are not all of type {x.dtype.onnx_name}")
        if not least <= replaced <= greatest:
            return b.copy(x)
    values = b.weight(np.array(given, x.dtype.numpy))

    def element(v: Expr, w: Expr) -> Expr:
        missing = e.unary("isnan", v) if replaced != replaced else e.eq(v, replaced)
        return where(missing, w, v)

    return b.map(element, x, values)


@op("FeatureVectorizer", since=1, domain=ML)
def feature_vectorizer(b: Builder, *xs: Tensor, inputdimensions: Sequence[int] | None = None) -> Tensor:
    """Features side by side as float32, each input cut or filled up with zeros to the width stated for it."""
    if inputdimensions and (len(inputdimensions) != len(xs) or min(inputdimensions) < 0):
        b.fail(f"inputdimensions {inputdimensions} for {len(xs)} inputs")
    if any(x.rank == 0 for x in xs):
        b.fail("an input is a scalar, a row of features is expected")
    parts = []
    for k, x in enumerate(xs):
        table = b.reshape(x, (1, *x.shape)) if x.rank == 1 else b.reshape(x, (x.shape[0], d.product(x.shape[1:])))
        width = inputdimensions[k] if inputdimensions else table.shape[1]
        parts.append(_resized(b, b.cast(table, F32), width))
    return b.concat(parts, 1)


def _resized(b: Builder, table: Tensor, width: Dim | int) -> Tensor:
    have = table.shape[1]
    if have == width:
        return table

    def element(i: Dim, j: Dim) -> Expr:
        return e.guard(e.compare("lt", e.dimval(j), e.dimval(have)), table[(i, j)], 0.0)

    return b.compute((table.shape[0], width), element, F32)


@op("ArrayFeatureExtractor", since=1, domain=ML)
@strings_too
def array_feature_extractor(b: Builder, x: Tensor, places: Tensor) -> Tensor:
    """Elements of the last axis at the given places."""
    table = tensor(b, x)
    if table.rank == 0:
        b.fail("a scalar has no features")
    b.require_elements(table.shape[-1], places.size, "the last axis")
    if table.rank == 1:
        table = b.reshape(table, (1, *table.shape))
    columns = b.reshape(places, (places.size,))

    def element(*i: Dim) -> Expr:
        column = natural_index(b, columns[(i[-1],)], table.shape[-1])
        return table[(*i[:-1], column)]

    return b.compute((*table.shape[:-1], columns.size), element, table.dtype)


@op("OneHotEncoder", since=1, domain=ML)
def one_hot_encoder(
    b: Builder, x: Tensor | Object, *, cats_int64s: Sequence[int] | None = None, cats_strings: Sequence[str] | None = None,
    zeros: int,
) -> Any:  # fmt: skip
    """1 at the place of each element's category along a new last axis, the last one if it is there twice.

    Without ``zeros`` an unknown category is an error.
    """
    categories: Sequence[Any] | None = cats_strings if is_string(x) else cats_int64s
    if not categories:
        kind = x.type if isinstance(x, Object) else f"tensor({x.dtype.onnx_name})"
        b.fail(f"{'cats_strings' if is_string(x) else 'cats_int64s'} is needed for an input of type {kind}")
    last = {category: place for place, category in enumerate(categories)}
    count = len(categories)
    if is_string(x):
        places = lookup(b, x, list(last))
        if len(last) < count:
            table = b.weight(np.array([*last.values(), count], np.int64))
            places = b.map(lambda p: table[(p,)], places, dtype=I64)
        return _one_hot(b, places, count, bool(zeros))
    keys = b.cast(tensor(b, x), I64)
    column = b.weight(np.array(categories, np.int64))
    if zeros and len(last) == count:
        return b.compute((*keys.shape, count), lambda *i: _flag(e.eq(keys[i[:-1]], column[(i[-1],)])), F32)

    def place(p: tuple[Dim, ...], r: tuple[Dim, ...]) -> Expr:
        return where(e.eq(keys[p], column[(r[0],)]), e.dimval(r[0]), -1)

    found = b.reduction("max", keys.shape, (count,), place, I64)
    return _one_hot(b, b.map(lambda p: where(p < 0, e.lit(count, I64), p), found), count, bool(zeros))


def _one_hot(b: Builder, places: Tensor, count: int, zeros: bool) -> Tensor:
    """1 at each place along a new last axis; ``count`` is the place of what is in no category."""

    def element(*i: Dim) -> Expr:
        place = places[i[:-1]]
        known = place if zeros else e.Op("check_index", (place, e.lit(count, I64)), I64)
        return _flag(e.eq(known, e.dimval(i[-1])))

    return b.compute((*places.shape, count), element, F32)


def _flag(condition: Expr) -> Expr:
    return where(condition, e.lit(1, F32), 0)


# ---- label encoder


@op("LabelEncoder", since=2, reviewed=4, domain=ML)
def label_encoder(
    b: Builder, x: Tensor | Object, *, keys_tensor: Array | None = None, values_tensor: Array | None = None,
    default_tensor: Array | None = None, keys_strings: Sequence[str] | None = None, keys_int64s: Sequence[int] | None = None,
    keys_floats: Sequence[float] | None = None, values_strings: Sequence[str] | None = None,
    values_int64s: Sequence[int] | None = None, values_floats: Sequence[float] | None = None, default_string: str = "_Unused",
    default_int64: int = -1, default_float: float = -0.0,
) -> Any:  # fmt: skip
    """Elements replaced by what a table has for them, else by a default; NaN is a key like others."""
    keys = _column(b, "keys", keys_tensor, keys_strings, keys_int64s, keys_floats)
    values = _column(b, "values", values_tensor, values_strings, values_int64s, values_floats)
    if len(keys) != len(values):
        b.fail(f"{len(keys)} keys and {len(values)} values are given, as many of the ones as of the others are expected")
    given, taken = dtype_of(keys.dtype), STRING if is_string(x) else tensor(b, x).dtype
    if given is not taken:
        b.fail(f"the keys are of type {given and given.onnx_name}, the input is a tensor({taken.onnx_name})")
    dtype = dtype_of(values.dtype)
    assert dtype is not None
    default: Any = {"s": default_string, "f": default_float}.get(dtype.kind, default_int64)
    if default_tensor is not None and default_tensor.size:
        if default_tensor.dtype != values.dtype:
            b.fail(f"default_tensor is of {default_tensor.dtype}, the values are of {values.dtype}")
        default = default_tensor.reshape(-1)[0]
    places, column = _places(b, x, keys, values, default)
    if dtype is STRING:
        return strings_at(b, places, np.array(column, object))
    table = b.weight(np.array(column, dtype.numpy))
    return b.map(lambda p: table[(p,)], places, dtype=dtype)


def _column(b: Builder, what: str, table: Array | None, *columns: Sequence[Any] | None) -> Array:
    """The one column that is given of a table in several types."""
    types: tuple[Any, ...] = (object, np.int64, np.float32)
    given = [np.array(c, t) for c, t in zip(columns, types, strict=True) if c]
    given += [table.reshape(-1)] if table is not None and table.size else []
    if len(given) != 1:
        b.fail(f"{what} are given in {len(given)} attributes, one of {what}_* is expected")
    return given[0]


def _places(b: Builder, x: Tensor | Object, keys: Array, values: Array, default: Any) -> tuple[Tensor, list[Any]]:
    """For each element the place of its value in a column: the values of distinct keys, of NaN among numbers, and the default."""
    pairs = list(zip(keys.tolist(), values.tolist(), strict=True))
    table: dict[Any, Any] = {key: value for key, value in reversed(pairs) if key == key}
    if is_string(x):
        return lookup(b, x, list(table)), [*table.values(), default]
    numbers = tensor(b, x)
    order = sorted(table)
    nan = next((value for key, value in pairs if key != key), default)
    inputs = [numbers, b.weight(np.array(order, numbers.dtype.numpy))]
    (places,) = b.template(
        lookup_sorted, inputs, [(I64, numbers.shape)],
        total=numbers.size, dims=(len(order),), grain=1024, types={"X": numbers.dtype},
    )  # fmt: skip
    return places, [*(table[key] for key in order), nan, default]


@op("LabelEncoder", since=1, domain=ML)
def label_encoder_1(b: Builder, x: Tensor | Object, *, classes_strings: Sequence[str], default_int64: int, default_string: str) -> Any:
    """Version 1: names to their numbers, or numbers to names."""
    if is_string(x):
        return label_encoder(b, x, keys_strings=classes_strings, values_int64s=range(len(classes_strings)), default_int64=default_int64)
    return label_encoder(b, x, keys_int64s=range(len(classes_strings)), values_strings=classes_strings, default_string=default_string)


@op("CategoryMapper", since=1, domain=ML)
def category_mapper(
    b: Builder, x: Tensor | Object, *, cats_int64s: Sequence[int], cats_strings: Sequence[str], default_int64: int,
    default_string: str,
) -> Any:  # fmt: skip
    """Names to numbers or back."""
    if is_string(x):
        return label_encoder(b, x, keys_strings=cats_strings, values_int64s=cats_int64s, default_int64=default_int64)
    return label_encoder(b, x, keys_int64s=cats_int64s, values_strings=cats_strings, default_string=default_string)


# ---- maps


@op("CastMap", since=1, domain=ML)
def cast_map(b: Builder, x: Object, *, cast_to: str, map_form: str, max_map: int) -> Any:
    """A map from int64 to a row of numbers or strings."""
    if not isinstance(x.type, MapType) or not isinstance(x.type.value, TensorType):
        b.fail(f"the input must be a map to numbers or strings, not {x.type}")
    kinds = {"TO_FLOAT": "f32", "TO_STRING": "string", "TO_INT64": "i64"}
    if cast_to not in kinds or map_form not in ("DENSE", "SPARSE") or (map_form == "SPARSE" and max_map < 1):
        b.fail(f"cast_to {cast_to!r} with map_form {map_form!r} and max_map {max_map} is not allowed")
    dtype = DTYPES[kinds[cast_to]]
    dense = map_form == "DENSE"
    fill: Any = "" if dtype is STRING else 0
    return b.host(
        "cast_map", [x], [tensor_type(dtype, (1, None if dense else max_map))],
        dense=dense, size=max_map, fill=fill, dtype=dtype.name, given=x.type.value.dtype.name,
    )  # fmt: skip


@op("DictVectorizer", since=1, domain=ML)
def dict_vectorizer(
    b: Builder, x: Object, *, int64_vocabulary: Sequence[int] | None = None, string_vocabulary: Sequence[str] | None = None
) -> Any:
    """A map to a row of its values in the order of a vocabulary."""
    vocabulary: Sequence[Any] = string_vocabulary or int64_vocabulary or ()
    if not isinstance(x.type, MapType) or not isinstance(x.type.value, TensorType):
        b.fail(f"the input must be a map, not {x.type}")
    dtype, key = x.type.value.dtype, x.type.key
    if not vocabulary or bool(string_vocabulary) != (key is STRING):
        b.fail(f"the input's keys are of type {key.onnx_name}, and there is no vocabulary of it")
    shape = (1, len(vocabulary))
    return b.host("dict_vectorizer", [x], [tensor_type(dtype, shape)], vocabulary=list(vocabulary), dtype=dtype.name)
