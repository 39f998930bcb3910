"""What kernels that finish blocks of a result have in common: how an epilogue sees a block, and their text."""

from __future__ import annotations

from collections.abc import Callable

from onnx_numba.ir.dims import Dim
from onnx_numba.record import record

Extent = Dim | int

ELEMENT_BYTES = {"f32": 4, "f64": 8, "i32": 4}


@record
class Block:
    """Names of the variables that an epilogue may use: the element (i, j) of C is ``block[(i - i0) * pitch + (j - j0)]``.

    ``batch`` is the flat index of the matrix, rows are ``i0 <= i < i1`` and columns ``j0 <= j < j1`` of it. For a convolution
    it counts images, rows are output channels of all groups and columns are flat positions of the output.
    """

    batch: str = "batch"
    i0: str = "i0"
    i1: str = "i1"
    j0: str = "j0"
    j1: str = "j1"
    block: str = "block"
    pitch: str = "pitch"


Epilogue = Callable[[Block], list[str]]


def no_epilogue(block: Block) -> list[str]:
    """Nothing is done to a finished block."""
    return []


def indent(lines: list[str], by: int) -> str:
    """Lines of code as text at a depth of indentation."""
    return "\n".join("    " * by + line if line else line for line in lines)
