"""A kernel as text, with what the plan needs to call it."""

from __future__ import annotations

import hashlib
import re

from onnx_numba.ir.dims import Dim
from onnx_numba.ir.loop import Tensor
from onnx_numba.record import record


@record
class KernelSource:
    """One generated function.

    Attributes
    ----------
    name : str
        What its operators are called plus the start of its digest: ``add_relu_1a2b3c4d``.
    digest : str
        SHA-256 of the source under a neutral name: equal kernels of a model, or of two models, are one.
    source : str
        Python text of the function.
    buffers : tuple of Tensor
        What ``bufs`` points to, in order.
    dims : tuple of Dim or int
        The numbers in ``dims``.
    total, grain : Dim or int
        Work units, and how many of them make a chunk.
    scratch : Dim or int
        Bytes per worker.
    written : Dim or int
        Bytes of the largest result that may go around the caches, 0 if none may.
    rounds : Dim or int, optional
        How often it is called over all its work, with the round's number behind its dims.
    """

    name: str
    digest: str
    source: str
    buffers: tuple[Tensor, ...]
    dims: tuple[Dim | int, ...]
    total: Dim | int
    grain: Dim | int
    scratch: Dim | int = 0
    written: Dim | int = 0
    rounds: Dim | int | None = None


def named(origins: list[str], body: list[str], buffers: list[Tensor], dims: list[Dim | int], total: Dim | int, grain: Dim | int,
          scratch: Dim | int = 0, written: Dim | int = 0, rounds: Dim | int | None = None) -> KernelSource:  # fmt: skip
    """Put a head on a kernel's lines and name it by its content."""
    text = "\n".join(body) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    name = f"{label(origins)}_{digest[:8]}"
    source = f"def {name}(ctx, bufs, dims, lo, hi):\n{text}"
    return KernelSource(name, digest, source, tuple(buffers), tuple(dims), total, grain, scratch, written, rounds)


def label(origins: list[str]) -> str:
    """What a kernel's operators are called, as the start of a name."""
    words = [re.sub(r"\W", "", origin.split(" ")[0]).lower() for origin in origins]
    return "_".join(dict.fromkeys(w for w in words if w))[:40].strip("_") or "copy"
