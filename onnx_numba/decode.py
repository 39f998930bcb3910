"""From the leaves of a protobuf to Python values: tensors (external data too), types and attributes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any, cast

import numpy as np
import onnx
from onnx import AttributeProto, SparseTensorProto, TensorProto, TypeProto, numpy_helper

from onnx_numba.errors import ModelError, UnsupportedError
from onnx_numba.ir.graph import AttributeRef
from onnx_numba.ir.types import BY_ONNX, DType, MapType, OptionalType, SequenceType, TensorType, ValueType

Array = np.ndarray[Any, Any]


class ExternalData:
    """Reads tensors that lie in files beside the model, each file mapped into memory once.

    Parameters
    ----------
    model : pathlib.Path or None
        The model's file, or None for a model that came from memory.
    directory : pathlib.Path or None
        Where the data files are, if not beside the file.
    """

    def __init__(self, model: Path | None = None, directory: Path | None = None) -> None:
        self._base = directory if directory is not None else model.parent if model is not None else None
        roots = {self._base.resolve()} if self._base is not None else set()
        if model is not None:
            # A download cache keeps links to its files: model and data then lie side by side where the links lead.
            roots.add(model.resolve().parent)
        self._roots = roots
        self._maps: dict[Path, Array] = {}
        self._names: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The files that were read, relative to where data is looked for."""
        return tuple(sorted(self._names))

    def read(self, proto: TensorProto, dtype: DType, shape: tuple[int, ...], what: str) -> Array:
        """The elements of one tensor, mapped and not copied."""
        entries = {entry.key: entry.value for entry in proto.external_data}
        location = entries.get("location", "")
        offset = _number(entries.get("offset", "0"), "offset", what)
        expected = _bytes(dtype, shape)
        length = _number(entries["length"], "length", what) if "length" in entries else expected
        if length != expected:
            raise ModelError(f"{what}: external data of {length} bytes, but {dtype} {list(shape)} takes {expected}")
        path = self._locate(location, what)
        self._names.add(location)
        size = path.stat().st_size
        if offset + length > size:
            raise ModelError(f"{what}: external data file {location!r} has {size} bytes, {offset + length} are needed")
        if length == 0:
            return np.empty(shape, dtype.numpy)
        if path not in self._maps:
            self._maps[path] = np.asarray(np.memmap(path, np.uint8, "r"))
        return _elements(self._maps[path][offset : offset + length], dtype, shape)

    def _locate(self, location: str, what: str) -> Path:
        """The data file, which must be a plain file of the model's own directory."""
        if self._base is None:
            hint = "pass the model's path, or load the data into it with onnx.load_external_data_for_model"
            raise ModelError(f"{what}: its data is in file {location!r}, but the model came from memory; {hint}")
        try:
            path = (self._base / location).resolve()
            inside = not _leaves(location) and any(path.is_relative_to(root) for root in self._roots)
            there = inside and path.is_file()
        except (OSError, ValueError) as error:
            raise ModelError(f"{what}: external data location {location[:99]!r} is no name of a file") from error
        if not inside:
            raise ModelError(f"{what}: external data location {location!r} is not inside the model's directory")
        if not there:
            raise ModelError(f"{what}: external data file {location!r} is missing in {self._base}")
        return path


def _leaves(location: str) -> bool:
    """Whether a location leads out of its directory as it is written, on any system."""
    parts = location.replace("\\", "/").split("/")
    return not location or parts[0] == "" or ".." in parts or bool(PureWindowsPath(location).drive)


def _number(text: str, key: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ModelError(f"{what}: external data {key} {text[:99]!r} is not a number of bytes")
    return int(text)


def element_type(number: int, what: str) -> DType:
    """The element type of a ``TensorProto.DataType`` number."""
    if number in BY_ONNX:
        return BY_ONNX[number]
    names = {value: name for name, value in TensorProto.DataType.items()}
    if number == TensorProto.UNDEFINED or number not in names:
        raise ModelError(f"{what}: {number} is no element type")
    raise UnsupportedError(f"{what}: element type {names[number].lower()} is not supported yet")


def tensor(proto: TensorProto, files: ExternalData | None, what: str) -> tuple[DType, Array]:
    """Element type and elements of a tensor, read-only.

    Parameters
    ----------
    proto : onnx.TensorProto
        The tensor.
    files : ExternalData or None
        Where external data is; None where there cannot be any.
    what : str
        Names the tensor in messages.
    """
    dtype = element_type(proto.data_type, what)
    shape = tuple(proto.dims)
    if any(extent < 0 for extent in shape) or proto.HasField("segment"):
        raise ModelError(f"{what}: bad shape {list(shape)}" if shape else f"{what}: segmented tensors are not part of ONNX")
    if proto.data_location == TensorProto.EXTERNAL:
        array = (files or ExternalData()).read(proto, dtype, shape, what)
    elif dtype.kind == "s":
        array = _string_array(proto, shape, what)
    else:
        array = _numbers(proto, dtype, shape, what)
    array.setflags(write=False)
    return dtype, array


def _numbers(proto: TensorProto, dtype: DType, shape: tuple[int, ...], what: str) -> Array:
    try:
        if proto.HasField("raw_data"):
            return _elements(np.frombuffer(proto.raw_data, np.uint8), dtype, shape)
        if dtype.bits % 8:
            return _elements(np.array(proto.int32_data, np.int32).astype(np.uint8), dtype, shape)
        array = numpy_helper.to_array(proto)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{what}: the data does not fit {dtype} {list(shape)} ({error})") from error
    return array.astype(dtype.numpy, copy=False)


def _bytes(dtype: DType, shape: tuple[int, ...]) -> int:
    """How many bytes the elements take in a file, where those of less than a byte lie side by side."""
    return int((dtype.bits * np.prod(shape, dtype=object) + 7) // 8)


def _elements(raw: Array, dtype: DType, shape: tuple[int, ...]) -> Array:
    """The elements that little-endian bytes hold, a view of them where that can be."""
    if dtype.bits % 8 == 0:
        # Types that are not NumPy's own know no byte order.
        stored = dtype.numpy.newbyteorder("<") if dtype.package == "np" else dtype.numpy
        return raw.view(stored).astype(dtype.numpy, copy=False).reshape(shape)
    if raw.size != _bytes(dtype, shape):
        raise ValueError(f"{raw.size} bytes, {_bytes(dtype, shape)} are expected")
    count = int(np.prod(shape, dtype=object))
    bits = np.unpackbits(raw, count=count * dtype.bits, bitorder="little").reshape(count, dtype.bits)
    return np.packbits(bits, axis=1, bitorder="little").view(dtype.numpy).reshape(shape)


def _string_array(proto: TensorProto, shape: tuple[int, ...], what: str) -> Array:
    count = int(np.prod(shape, dtype=object))
    if len(proto.string_data) != count:
        raise ModelError(f"{what}: {len(proto.string_data)} strings, but shape {list(shape)} takes {count}")
    array = np.empty(count, object)
    array[:] = [text(item) for item in proto.string_data]
    return array.reshape(shape)


def sparse(proto: SparseTensorProto, files: ExternalData | None, what: str) -> tuple[DType, Array]:
    """A sparse tensor made dense."""
    dtype, values = tensor(proto.values, files, what)
    shape = tuple(proto.dims)
    if not shape or min(shape) < 0 or values.ndim != 1:
        raise ModelError(f"{what}: a sparse tensor of shape {list(shape)} with values of shape {list(values.shape)}")
    try:
        dense = np.zeros(shape, dtype.numpy) if dtype.kind != "s" else np.full(shape, "", object)
    except (MemoryError, ValueError) as error:
        raise UnsupportedError(f"{what}: a sparse tensor of shape {list(shape)} is more than memory holds as a dense one") from error
    dense.reshape(-1)[_places(tensor(proto.indices, files, f"{what} (indices)")[1], shape, len(values), what)] = values
    dense.setflags(write=False)
    return dtype, dense


def _places(indices: Array, shape: tuple[int, ...], count: int, what: str) -> Array:
    """Places of a sparse tensor's values among all elements in order: given as such, or as a row of coordinates for each."""
    if indices.dtype != np.int64 or indices.shape not in ((count,), (count, len(shape))):
        came = f"{indices.dtype} {list(indices.shape)}"
        raise ModelError(f"{what}: sparse indices of {came}, int64 [{count}] or [{count}, {len(shape)}] is expected")
    extents = np.array(shape if indices.ndim == 2 else [np.prod(shape, dtype=np.int64)])
    if ((indices < 0) | (indices >= extents)).any():
        raise ModelError(f"{what}: a sparse index is out of the range of shape {list(shape)}")
    places = np.ravel_multi_index(tuple(indices.T), shape) if indices.ndim == 2 and count else indices.reshape(-1)
    if (np.diff(places) <= 0).any():
        raise ModelError(f"{what}: sparse indices do not ascend")
    return places


def name(raw: str | bytes, what: str) -> str:
    """A name; protobuf hands over bytes where a file has something that is not UTF-8."""
    if isinstance(raw, str):
        return raw
    raise ModelError(f"{what}: the name {raw!r} is not UTF-8")


def text(raw: bytes) -> str | bytes:
    """Bytes as a string, or as they are where they are not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def value_type(proto: TypeProto, what: str) -> ValueType | None:
    """The type that a protobuf states; None where it states none."""
    kind = proto.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        inner = getattr(proto, kind)
        if not inner.elem_type:
            return None
        dims = tuple(_dim(dim, what) for dim in inner.shape.dim) if inner.HasField("shape") else None
        # Names and None stand in for dims until they are bound to symbols.
        return TensorType(element_type(inner.elem_type, what), cast(Any, dims))
    if kind == "map_type":
        value = value_type(proto.map_type.value_type, what)
        return MapType(element_type(proto.map_type.key_type, what), value) if value else None
    if kind in ("sequence_type", "optional_type"):
        element = value_type(getattr(proto, kind).elem_type, what)
        if element is None:
            return None
        return SequenceType(element) if kind == "sequence_type" else OptionalType(element)
    return None


def _dim(proto: onnx.TensorShapeProto.Dimension, what: str) -> int | str | None:
    if proto.HasField("dim_value"):
        return proto.dim_value if proto.dim_value >= 0 else None
    return name(proto.dim_param, what) or None


A = AttributeProto
_DECODERS: dict[int, Callable[[AttributeProto, ExternalData | None, str], Any]] = {
    A.FLOAT: lambda a, _f, _w: a.f,
    A.INT: lambda a, _f, _w: a.i,
    A.STRING: lambda a, _f, _w: text(a.s),
    A.FLOATS: lambda a, _f, _w: tuple(a.floats),
    A.INTS: lambda a, _f, _w: tuple(a.ints),
    A.STRINGS: lambda a, _f, _w: tuple(map(text, a.strings)),
    A.TENSOR: lambda a, f, w: tensor(a.t, f, w)[1],
    A.TENSORS: lambda a, f, w: tuple(tensor(t, f, w)[1] for t in a.tensors),
    A.SPARSE_TENSOR: lambda a, f, w: sparse(a.sparse_tensor, f, w)[1],
    A.SPARSE_TENSORS: lambda a, f, w: tuple(sparse(t, f, w)[1] for t in a.sparse_tensors),
    A.TYPE_PROTO: lambda a, _f, w: value_type(a.tp, w),
    A.TYPE_PROTOS: lambda a, _f, w: tuple(value_type(t, w) for t in a.type_protos),
}
_FIELDS = {
    A.FLOAT: "f", A.INT: "i", A.STRING: "s", A.TENSOR: "t", A.GRAPH: "g", A.SPARSE_TENSOR: "sparse_tensor", A.TYPE_PROTO: "tp",
    A.FLOATS: "floats", A.INTS: "ints", A.STRINGS: "strings", A.TENSORS: "tensors", A.GRAPHS: "graphs",
    A.SPARSE_TENSORS: "sparse_tensors", A.TYPE_PROTOS: "type_protos",
}  # fmt: skip


def attribute_type(proto: AttributeProto, declared: int | None, what: str) -> int:
    """The type to read an attribute as: its own, or the schema's where it states none, as files before IR version 2 do."""
    if proto.type:
        return proto.type
    if declared is not None:
        return declared
    present = [kind for kind, name in _FIELDS.items() if _has(proto, name)]
    if len(present) != 1:
        raise ModelError(f"{what}: the attribute has no type")
    return present[0]


def _has(proto: AttributeProto, field: str) -> bool:
    value = getattr(proto, field)
    return len(value) > 0 if field.endswith("s") and field != "s" else proto.HasField(field)


def plain_attribute(proto: AttributeProto, files: ExternalData | None, declared: int | None = None, what: str = "") -> Any:
    """The value of an attribute that is not a graph, read by the type its schema declares.

    An integer where the schema wants a float is taken as one; any other disagreement is an error.
    """
    what = what or f"attribute {proto.name!r}"
    if proto.ref_attr_name:
        return AttributeRef(proto.ref_attr_name)
    kind = attribute_type(proto, declared, what)
    if declared is not None and kind != declared:
        if (kind, declared) == (A.INT, A.FLOAT):
            return float(proto.i)
        if (kind, declared) == (A.INTS, A.FLOATS):
            return tuple(map(float, proto.ints))
        names = {number: name for name, number in A.AttributeType.items()}
        raise ModelError(f"{what} is of type {names.get(kind, kind)}, {names[declared]} is expected")
    if kind not in _DECODERS:
        raise UnsupportedError(f"{what}: attributes of type {kind} are not supported")
    return _DECODERS[kind](proto, files, what)
