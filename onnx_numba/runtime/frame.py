"""What executes a plan, seen from the driver: one run's slots, buffers and program counter.

There are two: ``state.State``, run by compiled code, and ``interpreter.Interpreter``, run by Python. The driver
(``program.Program``) makes no difference between them.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


class Frame(Protocol):
    """One run's memory. It is used by one run at a time and again by later ones."""

    objects: list[Any]
    operand: int

    @property
    def arena_bytes(self) -> int:
        """Memory that the frame keeps between runs."""

    def begin(self) -> None:
        """Get ready for a run from the first instruction."""

    def advance(self) -> int:
        """Execute until Python is needed; gives one of ``layout.LEFT_END``, ``_OUT``, ``_HOST``, ``_ERROR``."""

    def slot(self, index: int) -> int:
        """The number in a slot."""

    def set_slot(self, index: int, value: int) -> None:
        """Put a number into a slot."""

    def bind(self, buffer: int, array: Array) -> None:
        """Point a buffer at an array and keep that alive until the run is over."""

    def bind_constant(self, buffer: int, array: Array) -> None:
        """Point a buffer at an array that outlives the frame."""

    def array(self, buffer: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The elements of a buffer as an array that lies where they are."""

    def failure(self) -> tuple[int, int | None, int]:
        """After an error: status code, smallest failing work index, number of the instruction."""

    def cancel(self) -> None:
        """Make the run stop soon; callable from any thread."""

    def finish(self) -> None:
        """Let go of everything that belonged to the run."""
