"""The importer: from a file, bytes or ``ModelProto`` to a `Model` whose graph later stages can take as it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from google.protobuf.message import DecodeError
from onnx import FunctionProto, ModelProto

from onnx_numba import schemas
from onnx_numba.convert import Context, convert_function, convert_graph, opset_versions
from onnx_numba.decode import ExternalData
from onnx_numba.errors import ModelError
from onnx_numba.ir.graph import Function, FunctionKey, Graph
from onnx_numba.ops.registry import Registry
from onnx_numba.passes.inline import inline
from onnx_numba.record import record

Source: TypeAlias = ModelProto | bytes | bytearray | memoryview | str | os.PathLike[str]


@record(eq=False)
class Model:
    """An imported model.

    Attributes
    ----------
    graph : Graph
        The graph, calls of model-local functions replaced by their bodies.
    opsets : mapping
        Version by domain; the standard's own domain is ``""``.
    ir_version : int
        Version of the file format.
    producer : str
        The program that wrote the model, with its version.
    doc : str
        The model's own description.
    metadata : mapping
        The model's own key-value pairs.
    notes : tuple of str
        Oddities that were tolerated, one line each.
    files : tuple of str
        Files with external data, relative to the model's directory.
    """

    graph: Graph
    opsets: Mapping[str, int]
    ir_version: int
    producer: str = ""
    doc: str = ""
    metadata: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def load(source: Source, directory: str | os.PathLike[str] | None = None, registry: Registry | None = None) -> Model:
    """Import a model.

    Parameters
    ----------
    source : onnx.ModelProto, bytes, str or os.PathLike
        The model, its serialised form, or its file.
    directory : str or os.PathLike, optional
        Where files with external data are; beside the model's file if not given.
    registry : Registry, optional
        Has the operators that onnx does not know; those that come with this package if not given.

    Raises
    ------
    ModelError
        It is not ONNX, is truncated, or contradicts itself.
    UnsupportedError
        It is valid but uses something that is not supported.
    """
    proto, path = read(source)
    files = ExternalData(path, Path(directory) if directory is not None else None)
    notes: dict[str, None] = {}
    opsets = _opsets(proto, notes)
    functions = _functions(proto)
    context = Context(opsets, functions, files, defaults=proto.ir_version >= 4, notes=notes, registry=registry)
    graph = convert_graph(proto.graph, context)
    _check_inputs(graph)
    graph = inline(graph, _called_functions(functions, context))
    producer = f"{proto.producer_name} {proto.producer_version}".strip()
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    return Model(graph, opsets, proto.ir_version, producer, proto.doc_string, metadata, tuple(notes), files.names)


def read(source: Source) -> tuple[ModelProto, Path | None]:
    """The protobuf of a model, and the file it came from if it came from one."""
    if isinstance(source, ModelProto):
        return _checked(source, "the model"), None
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _parse(bytes(source), "the given bytes"), None
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _parse(path.read_bytes(), str(path)), path
    raise TypeError(f"a model is an onnx.ModelProto, bytes or a path, not {type(source).__name__}")


def _parse(data: bytes, what: str) -> ModelProto:
    try:
        proto = ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(f"{what}: not an ONNX model, or a truncated one ({len(data)} bytes)") from error
    return _checked(proto, what)


def _checked(proto: ModelProto, what: str) -> ModelProto:
    """Refuse what parses by accident: protobuf takes many byte strings that were never a model."""
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError(f"{what}: not an ONNX model, or a truncated one: it has no graph")
    if not proto.opset_import and proto.ir_version >= 3:
        raise ModelError(f"{what}: the model imports no opset; it may be truncated")
    if not proto.graph.output:
        raise ModelError(f"{what}: the graph has no outputs")
    return proto


def _opsets(proto: ModelProto, notes: dict[str, None]) -> dict[str, int]:
    # Files before IR version 3 had no opset imports and meant the first.
    return opset_versions(proto.opset_import, notes) if proto.opset_import else {"": 1}


def _check_inputs(graph: Graph) -> None:
    for value in graph.inputs:
        if value.type is None and value.default is None:
            raise ModelError(f"input {value.name!r} has no type")


def _functions(proto: ModelProto) -> dict[FunctionKey, FunctionProto]:
    functions: dict[FunctionKey, FunctionProto] = {}
    for function in proto.functions:
        key = (schemas.normal_domain(function.domain), function.name, function.overload)
        if functions.setdefault(key, function) is not function:
            name = f"{function.domain}.{function.name}" + (f", overload {function.overload!r}," if function.overload else "")
            raise ModelError(f"function {name} is defined a second time")
    return functions


def _called_functions(protos: Mapping[FunctionKey, FunctionProto], model: Context) -> dict[FunctionKey, Function]:
    """The functions that the graph needs, directly or through others; what is never called need not even be valid."""
    functions: dict[FunctionKey, Function] = {}
    wanted = list(model.calls)
    while wanted:
        key = wanted.pop()
        if key in functions:
            continue
        opsets = {**model.opsets, **opset_versions(protos[key].opset_import, model.notes)}
        context = Context(opsets, protos, model.files, notes=model.notes, registry=model.registry)
        functions[key] = convert_function(protos[key], context)
        wanted.extend(context.calls)
    return functions
