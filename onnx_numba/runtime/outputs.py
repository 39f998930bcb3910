"""Memory for outputs.

A large array fresh from the system costs a page fault for every page that is written, about as much as the work of a fused
elementwise kernel. So large outputs come from blocks that a session keeps, and a block is used again once its caller has dropped
the array and every view of it: NumPy makes the block the ``base`` of all of them, so its reference count tells.

The fast entry looks through the same list (`onnx_numba.native.front`), which takes it a twentieth of the time.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np

from onnx_numba.errors import OutOfMemoryError
from onnx_numba.ir.abi import CACHE_LINE, SMALL_OUTPUT
from onnx_numba.runtime.fork import on_fork

Array = np.ndarray[Any, Any]

LARGE = SMALL_OUTPUT
"""Outputs of at least so many bytes are recycled."""


def _bytes(size: int) -> Array:
    try:
        return np.empty(size, np.uint8)
    except (MemoryError, ValueError) as error:  # the latter where the size is beyond what the address space has
        raise OutOfMemoryError(f"{size:,} bytes are needed, which cannot be had") from error


def aligned_block(size: int) -> Array:
    """An uninitialised byte array that begins on a cache line."""
    block = _bytes(size + CACHE_LINE)
    begin = -block.__array_interface__["data"][0] % CACHE_LINE
    return block[begin : begin + size]


def _held(blocks: list[Array], index: int) -> tuple[Array, int]:
    """A block, and how many references it has.

    One of them is the caller's own before they are counted: the fast entry, which another thread may run at any time, takes no block
    that somebody holds.
    """
    block = blocks[index]
    return block, sys.getrefcount(block)


def _idle_references() -> int:
    """What `_held` counts of a block that only its list knows: it depends on the interpreter, so ask it."""
    return _held([np.empty(1, np.uint8)], 0)[1]


class OutputPool:
    """Recycles the memory of large outputs.

    Parameters
    ----------
    keep : int
        Blocks remembered at most, handed out or not. One that is forgotten lives on as long as its array.

    Attributes
    ----------
    blocks : list of ndarray
        Those that are remembered; always the same list.
    """

    def __init__(self, keep: int = 16) -> None:
        self._keep = keep
        self.blocks: list[Array] = []
        self._lock = threading.Lock()
        on_fork(self)
        self._idle = _idle_references()
        # Without the GIL a reference count read from outside is not exact.
        self._recycle = getattr(sys, "_is_gil_enabled", lambda: True)()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An uninitialised array that nobody else can reach."""
        size = dtype.itemsize
        for dim in shape:
            size *= dim
        if size < LARGE or dtype.hasobject:
            try:
                return np.empty(shape, dtype)
            except ValueError as error:  # nothing in it, but other dims are beyond what NumPy counts
                raise OutOfMemoryError(f"an array of shape {list(shape)} cannot be had") from error
        if not self._recycle:
            return _bytes(size).view(dtype).reshape(shape)
        with self._lock:
            block = self._take(size)
            # The view is made under the lock: it is what marks the block as taken.
            return np.ndarray(shape, dtype, buffer=block, offset=-block.__array_interface__["data"][0] % CACHE_LINE)

    def trim(self) -> None:
        """Forget every block; those in callers' hands live on with their arrays."""
        with self._lock:
            self.blocks.clear()

    def after_fork(self) -> None:
        """Replace the lock, which a thread that is gone in the child may have held."""
        self._lock = threading.Lock()

    def _take(self, size: int) -> Array:
        """A block that is free and neither too small nor more than twice too large, else a new one."""
        blocks = self.blocks
        need = size + CACHE_LINE
        for index in range(len(blocks)):
            block, references = _held(blocks, index)
            if need <= block.size <= 2 * need and references == self._idle:
                return block
        if len(blocks) >= self._keep:
            free = [index for index in range(len(blocks)) if _held(blocks, index)[1] == self._idle]
            del blocks[free[0] if free else 0]
        blocks.append(_bytes(need))
        return blocks[-1]
