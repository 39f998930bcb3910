"""A model ready to run: what the public API and the onnx backend are thin layers over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnx_numba.ir.plan import Plan, Port
from onnx_numba.options import Options
from onnx_numba.runtime.defaults import Defaults
from onnx_numba.runtime.device import CPU, Device
from onnx_numba.runtime.general import General
from onnx_numba.runtime.host import HOST, Host
from onnx_numba.runtime.program import Engine, Program
from onnx_numba.runtime.segments import Segments, WithSegments

Array = np.ndarray[Any, Any]


class Session:
    """Runs a plan.

    Any number of Python threads may call `run` at once: each run has memory of its own, kept for later ones.

    Parameters
    ----------
    plan : Plan
        The scheduled model.
    weights : sequence of ndarray
        What the plan's constants index; may be read-only and memory-mapped.
    kernels : mapping
        From the digest of each of the plan's kernels to its address, or with ``Options(jit=False)`` to its Python function.
    options : Options
        How to run.
    hosts : mapping, optional
        Host steps by name.
    device : Device
        Where to run; ``kernels`` of another than the CPU are those of ``numba.cuda``.
    result : type, optional
        What `run` returns: ``tuple``, or a class derived from it that adds no construction of its own, such as a named tuple.
    library : object, optional
        What keeps the kernels' code loaded; it lives as long as the session.
    segments : Segments, optional
        What prepares the segments that the plan leaves to the run.
    defaults : Defaults, optional
        What runs the model where inputs are given that are constants of the plan.

    Attributes
    ----------
    call : callable
        What `run` calls, without its Python frame: a builtin function where there can be a fast entry.
    """

    def __init__(
        self,
        plan: Plan,
        weights: Sequence[Array],
        kernels: Mapping[str, Any],
        options: Options | None = None,
        hosts: Mapping[str, Host] = HOST,
        device: Device = CPU,
        result: type[tuple[Any, ...]] = tuple,
        library: object = None,
        segments: Segments | None = None,
        defaults: Defaults | None = None,
    ) -> None:
        self._segments = segments
        self._attached: list[Callable[[], list[Session]]] = [] if defaults is None else [defaults.sessions]
        self.plan = plan
        self.options = options or Options()
        engine = _engine(kernels, self.options, device)
        self._program = Program(plan, weights, engine, hosts if segments is None else WithSegments(hosts, segments))
        general = General(self._program, result, library, defaults)
        self._entry = engine.entry(self._program, result, general)
        self.call: Callable[..., tuple[Any, ...]] = general if self._entry is None else self._entry.call

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The model's inputs."""
        return self.plan.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The model's outputs."""
        return self.plan.outputs

    def run(self, inputs: Any) -> tuple[Any, ...]:
        """Run the model.

        Parameters
        ----------
        inputs : mapping, list, tuple, array or DataFrame
            Values by name; or in the order of `inputs`, absent optional ones as None; or the one input. A list or tuple is
            always one entry per input, or one per input of the model where some of those have defaults.

        Returns
        -------
        tuple
            Of the type given as ``result``, a value per output: arrays that the caller owns alone, lists for sequences, dicts
            for maps.
        """
        return self.call(inputs)

    def cancel(self) -> None:
        """Make the runs in progress, in whatever threads, end soon with an `ExecutionError`."""
        self._program.cancel()
        for session in self._inner():
            session.cancel()

    @property
    def arena_bytes(self) -> int:
        """Memory kept for intermediate tensors between runs, in bytes; grows by as much for every concurrent run."""
        return self._program.arena_bytes + sum(session.arena_bytes for session in self._inner())

    def trim(self) -> None:
        """Free the memory that is kept for later runs."""
        self._program.trim()
        for session in self._inner():
            session.trim()

    def attach(self, sessions: Callable[[], list[Session]]) -> None:
        """Let cancelling, trimming and the count of memory go for other sessions too."""
        self._attached.append(sessions)

    def _inner(self) -> list[Session]:
        own = [] if self._segments is None else self._segments.sessions()
        return [*own, *(session for sessions in self._attached for session in sessions())]


def _engine(kernels: Mapping[str, Any], options: Options, device: Device) -> Engine:
    if device.kind == "CUDA":
        from onnx_numba.runtime.cuda import CudaEngine

        return CudaEngine(kernels, device)
    if not options.jit:
        from onnx_numba.runtime.interpreter import PythonEngine

        return PythonEngine(kernels)
    from onnx_numba.runtime.engine import NativeEngine

    return NativeEngine(kernels, options)
