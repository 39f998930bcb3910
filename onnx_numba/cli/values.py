"""Values of a model's inputs and outputs in files: .npy, .npz, .pb and .csv; and random ones.

What an .npz cannot hold as one array is spread over several, so that no file needs pickles:

* strings: a unicode array;
* element types that NumPy does not have: raw bytes, which an input's declared type gives their meaning again;
* a map: ``NAME__map_keys`` and ``NAME__map_values``;
* a list of maps with the same keys (ZipMap): ``NAME__maps_keys`` [keys] and ``NAME__maps_values`` [maps, keys];
* a sequence: ``NAME__seq_len`` and ``NAME__seq0`` …
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from onnx_numba.errors import InputError, InputTypeError, OptionError
from onnx_numba.ir.formats import FORMATS
from onnx_numba.ir.plan import Port
from onnx_numba.ir.types import DTYPES, DType, MapType, OptionalType, SequenceType, TensorType, ValueType, dtype_of

Shape = tuple[int | str | None, ...] | None

RANDOM_EXTENT = 2
"""Extent of a random input's dims that the model leaves open."""


# Packing into, and unpacking from, the arrays of an .npz


def packed(name: str, value: Any) -> dict[str, np.ndarray]:
    """The arrays that stand for ``value``."""
    if isinstance(value, Mapping):
        return {f"{name}__map_keys": _plain(list(value)), f"{name}__map_values": _plain(list(value.values()))}
    if isinstance(value, list | tuple):
        if value and all(isinstance(item, Mapping) and list(item) == list(value[0]) for item in value):
            rows = [list(item.values()) for item in value]
            return {f"{name}__maps_keys": _plain(list(value[0])), f"{name}__maps_values": _plain(rows)}
        items = (packed(f"{name}__seq{number}", item) for number, item in enumerate(value))
        return {f"{name}__seq_len": np.asarray(len(value)), **{key: array for item in items for key, array in item.items()}}
    return {} if value is None else {name: _plain(value)}


def unpacked(arrays: Mapping[str, np.ndarray], name: str) -> Any:
    """The value that ``packed`` spread; None when there is none of this name."""
    if name in arrays:
        array = arrays[name]
        return array.astype(object) if array.dtype.kind == "U" else array
    if f"{name}__map_keys" in arrays:
        return dict(zip(arrays[f"{name}__map_keys"].tolist(), arrays[f"{name}__map_values"].tolist(), strict=True))
    if f"{name}__maps_keys" in arrays:
        keys = arrays[f"{name}__maps_keys"].tolist()
        return [dict(zip(keys, row, strict=True)) for row in arrays[f"{name}__maps_values"].tolist()]
    if f"{name}__seq_len" in arrays:
        return [unpacked(arrays, f"{name}__seq{number}") for number in range(int(arrays[f"{name}__seq_len"]))]
    return None


def write_npz(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write named values to an .npz."""
    arrays = {key: array for name, value in values.items() for key, array in packed(name, value).items()}
    # A file object: np.savez would add ".npz" to another name.
    with Path(path).open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its second parameter has the type of a flag


def _plain(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind in "OST":
        return array.astype(str)
    dtype = dtype_of(array.dtype)
    return array if dtype is None or dtype.package == "np" else array.view(f"V{dtype.size}")


# Reading inputs


def read_inputs(specs: Iterable[str], ports: tuple[Port, ...]) -> dict[str, Any]:
    """The inputs that ``--input`` options give.

    Parameters
    ----------
    specs : iterable of str
        ``name=file`` for one input, or a file alone: an .npz with several inputs, a .csv whose header names them, or any file
        for a model with one input.
    ports : tuple of Port
        The model's inputs.
    """
    by_name = {port.name: port for port in ports}
    feed: dict[str, Any] = {}
    for spec in specs:
        name, _, file = spec.rpartition("=")
        if name and name not in by_name:
            raise InputError(f"--input {spec}: the model has no input {name!r}; it has {list(by_name)}")
        found = {name: _read_one(Path(file), by_name[name])} if name else _read_all(Path(file), by_name)
        if twice := [each for each in found if each in feed]:
            raise InputError(f"--input {spec}: input {twice[0]!r} was given before")
        feed.update(found)
    return feed


def _read_one(path: Path, port: Port) -> Any:
    readers = {".npy": _read_npy, ".npz": _read_npz, ".pb": _read_pb, ".csv": _read_matrix}
    if path.suffix not in readers:
        raise InputError(f"input {port.name!r}: {path} is none of {', '.join(readers)}")
    try:
        return _typed(readers[path.suffix](path, port), port)
    except (EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"input {port.name!r}: {path} cannot be read: {error}") from error


def _read_all(path: Path, ports: Mapping[str, Port]) -> dict[str, Any]:
    if path.suffix == ".npz":
        arrays = _archived(path)
        values = {name: unpacked(arrays, name) for name in ports}
        known = {key for name, value in values.items() for key in packed(name, value)}
        if unknown := sorted(set(arrays) - known):
            raise InputError(f"{path} holds {unknown}, which the model does not take; its inputs are {list(ports)}")
        return {name: _typed(value, ports[name]) for name, value in values.items() if value is not None}
    if len(ports) == 1:
        return {port.name: _read_one(path, port) for port in ports.values()}
    if path.suffix == ".csv":
        return _read_columns(path, ports)
    raise InputError(f"{path}: the model has {len(ports)} inputs, so write --input name={path}")


def _typed(value: Any, port: Port) -> Any:
    """Raw bytes as what the input is declared to be."""
    raw = isinstance(value, np.ndarray) and value.dtype.kind == "V" and dtype_of(value.dtype) is None
    if raw and isinstance(port.type, TensorType) and port.type.dtype.package != "np" and port.type.dtype.size == value.dtype.itemsize:
        return value.view(port.type.dtype.numpy)
    return value


def _read_npy(path: Path, port: Port) -> np.ndarray:
    array = np.load(path)
    return array.astype(object) if array.dtype.kind == "U" else array


def _read_npz(path: Path, port: Port) -> Any:
    arrays = _archived(path)
    value = unpacked(arrays, port.name)
    if value is None and len(arrays) == 1:
        (value,) = arrays.values()
    if value is None:
        raise InputError(f"input {port.name!r}: {path} holds {sorted(arrays)}, none of that name")
    return value


def _archived(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as archive:
            return dict(archive)
    except (AttributeError, BadZipFile, EOFError, TypeError, ValueError) as error:  # what it raises for files that are no archives
        raise InputError(f"{path} is no .npz that can be read: {error}") from error


def _read_pb(path: Path, port: Port) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    proto = onnx.SequenceProto() if isinstance(port.type, SequenceType) else onnx.TensorProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InputError(f"input {port.name!r}: {path} holds no {type(proto).__name__}: {error}") from error
    if isinstance(proto, onnx.SequenceProto):
        return onnx.numpy_helper.to_list(proto)
    array = onnx.numpy_helper.to_array(proto)
    return np.vectorize(_decoded, otypes=[object])(array) if array.dtype == object and array.size else array


def _decoded(text: Any) -> Any:
    return text.decode() if isinstance(text, bytes) else text


def _read_matrix(path: Path, port: Port) -> np.ndarray:
    """A .csv as one matrix; a first line that is not of the input's type is a header."""
    rows = _rows(path)
    dtype = _element_type(port)
    if len(rows) > 1 and dtype.kind != "s" and not _converts(rows[0], dtype):
        rows = rows[1:]
    matrix = _converted(rows, dtype, port)
    return matrix[:, 0] if _rank(port) == 1 and matrix.shape[1] == 1 else matrix


def _read_columns(path: Path, ports: Mapping[str, Port]) -> dict[str, np.ndarray]:
    """A .csv with a header: one column per input."""
    header, *rows = _rows(path)
    if unknown := [name for name in header if name not in ports]:
        raise InputError(f"{path} has columns {unknown}, which are no inputs of the model; its inputs are {list(ports)}")
    feed = {}
    for position, name in enumerate(header):
        column = _converted([[row[position]] for row in rows], _element_type(ports[name]), ports[name])
        feed[name] = column[:, 0] if _rank(ports[name]) == 1 else column
    return feed


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise InputError(f"{path} has no rows, or rows of different lengths")
    return rows


def _converts(row: list[str], dtype: DType) -> bool:
    try:
        np.asarray(row).astype(DTYPES[dtype.compute].numpy)
    except ValueError:
        return False
    return True


def _converted(rows: list[list[str]], dtype: DType, port: Port) -> np.ndarray:
    text = np.asarray(rows)
    if dtype.kind == "b":
        return np.isin(np.char.lower(text), ("1", "true"))
    try:
        # What is computed in another type has no parser of its own.
        return text.astype(DTYPES[dtype.compute].numpy).astype(dtype.numpy)
    except ValueError as error:
        raise InputTypeError(f"input {port.name!r}: expected {port.type}: {error}") from error


# What ports say


def _element_type(port: Port) -> DType:
    if not isinstance(port.type, TensorType):
        raise InputTypeError(f"input {port.name!r} is {port.type}, which such a file cannot hold")
    return port.type.dtype


def shape_of(port: Port) -> Shape:
    """The declared dims of a tensor, None if even the rank is open."""
    return shape_of_type(port.type) if port.declared is None else port.declared


def shape_of_type(kind: ValueType) -> Shape:
    """The dims that a type has of itself."""
    shape = kind.shape if isinstance(kind, TensorType) else None
    return None if shape is None else tuple(dim if isinstance(dim, int) else str(dim) for dim in shape)


def _rank(port: Port) -> int | None:
    shape = shape_of(port)
    return None if shape is None else len(shape)


# Random inputs


def random_inputs(ports: tuple[Port, ...], dims: Mapping[str, int], seed: int = 0) -> dict[str, Any]:
    """Inputs of the declared types, the same for the same seed.

    Parameters
    ----------
    ports : tuple of Port
        The model's inputs; optional ones are left out.
    dims : mapping
        Extents of named dims; other open dims become ``RANDOM_EXTENT``.
    seed : int
        Seed of the generator.
    """
    named = dict.fromkeys(name for port in ports for name in _named_dims(port.type, shape_of(port)))
    if unknown := [name for name in dims if name not in named]:
        raise OptionError(f"--dim {unknown[0]}: no input has a dim of that name; the names are {list(named)}")
    if seed < 0:
        raise OptionError(f"--seed {seed}: expected a number of at least 0")
    generator = np.random.default_rng(seed)
    needed = [port for port in ports if not isinstance(port.type, OptionalType)]
    return {port.name: _random(port.name, port.type, shape_of(port), dims, generator) for port in needed}


def _named_dims(kind: ValueType, shape: Shape) -> list[str]:
    if isinstance(kind, SequenceType):
        return _named_dims(kind.element, shape_of_type(kind.element))
    return [dim for dim in shape or () if isinstance(dim, str)]


def _random(name: str, kind: ValueType, shape: Shape, dims: Mapping[str, int], generator: np.random.Generator) -> Any:
    if isinstance(kind, TensorType):
        extents = tuple(dim if isinstance(dim, int) else dims.get(dim or "", RANDOM_EXTENT) for dim in shape or ())
        return _random_array(kind.dtype, extents, generator)
    if isinstance(kind, SequenceType):
        element = shape_of_type(kind.element)
        return [_random(name, kind.element, element, dims, generator) for _ in range(2)]
    if isinstance(kind, MapType):
        keys: list[Any] = ["a", "b"] if kind.key.kind == "s" else [0, 1]
        return {key: float(generator.random()) for key in keys}
    raise InputTypeError(f"input {name!r}: there are no random values for {kind}; give it with --input")


def _random_array(dtype: DType, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    if dtype.kind == "s":
        return generator.choice(np.array(["a", "b", "c"], object), shape)
    if dtype.kind in "biu":
        # Integers are often indices or counts: 0 and 1 are the ones most models take.
        return np.asarray(generator.integers(0, 2, shape)).astype(dtype.numpy)
    values = np.asarray(generator.standard_normal(shape))
    form = FORMATS.get(dtype.name)
    return (np.abs(values) if form is not None and form.is_scale else values).astype(dtype.numpy)
