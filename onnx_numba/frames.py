"""DataFrames as model inputs, by duck typing: pandas, polars and their like are not dependencies."""

from __future__ import annotations

from typing import Any

from onnx_numba.errors import InputError
from onnx_numba.ir.plan import Port
from onnx_numba.ir.types import TensorType


def is_frame(value: Any) -> bool:
    """Whether ``value`` looks like a DataFrame: named columns and a way to NumPy."""
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def feed_of(frame: Any, ports: tuple[Port, ...]) -> dict[str, Any]:
    """Turn a DataFrame into the inputs of a model; binding converts them to the declared types.

    Parameters
    ----------
    frame : DataFrame
        Its columns carry the names of the model's inputs, or the model has one 2-d tensor input, which the whole frame then is.
    ports : tuple of Port
        The model's inputs.

    Returns
    -------
    dict
        The frame, or a column, for each input: as a matrix of one column where the model wants two dims.
    """
    names = [str(column) for column in frame.columns]
    wanted = [port.name for port in ports]
    if len(ports) == 1 and names != wanted and _rank(ports[0]) in (None, 2):
        return {wanted[0]: frame}
    unknown = [name for name in names if name not in wanted]
    missing = [port.name for port in ports if port.name not in names]
    if unknown or missing:
        problem = f"has no column for {missing}" if missing else f"has columns {unknown} that are no inputs"
        raise InputError(f"the DataFrame {problem}; the model's inputs are {wanted}, the columns {names}")
    columns = dict(zip(names, frame.columns, strict=True))
    return {port.name: frame[columns[port.name] if _rank(port) == 1 else [columns[port.name]]] for port in ports}


def _rank(port: Port) -> int | None:
    if port.declared is not None:
        return len(port.declared)
    shape = port.type.shape if isinstance(port.type, TensorType) else None
    return None if shape is None else len(shape)
