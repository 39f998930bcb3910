"""The general path of a run, in Python: any inputs that can be made into what the plan takes, and the words for those that cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx_numba import frames
from onnx_numba.runtime.binding import conform, in_order
from onnx_numba.runtime.program import Program


class General:
    """Runs a program on whatever callers give; a fast entry calls it for what it does not take itself.

    It knows nothing of the entry and of the session, so that no cycle of references keeps their memory.

    Parameters
    ----------
    program : Program
        What to run.
    result : type
        The type of results, ``tuple`` or a class derived from it.
    library : object
        What keeps the kernels' code loaded.
    defaults : callable, optional
        Runs what gives values for inputs that are constants here, see `onnx_numba.runtime.defaults`.
    """

    def __init__(
        self, program: Program, result: type[tuple[Any, ...]], library: object,
        defaults: Callable[[Any], tuple[Any, ...] | None] | None = None,
    ) -> None:  # fmt: skip
        self._program, self._result, self._library, self._defaults = program, result, library, defaults

    def __call__(self, inputs: Any, **options: Any) -> tuple[Any, ...]:
        """Run; see `onnx_numba.backend.BackendRep.run`."""
        if options:
            raise TypeError(f"run() takes no options, got {sorted(options)}; options belong to prepare()")
        ports = self._program.plan.inputs
        if frames.is_frame(inputs):
            inputs = frames.feed_of(inputs, ports)
        elif self._defaults is not None and (results := self._defaults(inputs)) is not None:
            return results
        values = [conform(value, port) for value, port in zip(in_order(inputs, ports), ports, strict=True)]
        return tuple.__new__(self._result, self._program.run(values))
