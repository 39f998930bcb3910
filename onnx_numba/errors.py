"""Every error this package raises on purpose.

Messages are one line and say what was expected, what came, and what to do. Each class also derives from the built-in exception
that a caller would think of first, so that code which knows nothing of this package can catch it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self


class OnnxNumbaError(Exception):
    """Base of all errors of this package.

    Attributes
    ----------
    node : str or None
        The node of the model that is to blame, where there is one.
    """

    node: str | None = None

    @classmethod
    def of(cls, node: str, reason: str) -> Self:
        """An error of one node, which its message names."""
        error = cls(f"{node}: {reason}")
        error.node = node
        return error


class ModelError(OnnxNumbaError, ValueError):
    """The model is not valid ONNX, or contradicts itself."""


class UnsupportedError(OnnxNumbaError, NotImplementedError):
    """The model is valid but asks for something this package does not do."""


class DeferredError(UnsupportedError):
    """A node needs to know more of its inputs than the model says; it is compiled when a run has them."""


class DeferredTypeError(DeferredError):
    """Likewise, and the ranks of its inputs and whether they are empty will do.

    Attributes
    ----------
    results : sequence of ValueType
        Types of the outputs, where onnx cannot tell.
    """

    results: Sequence[Any] = ()


class OptionError(OnnxNumbaError, ValueError):
    """An option is unknown or has a value that is not allowed."""


class InputError(OnnxNumbaError, ValueError):
    """An input does not fit the model: its name, its shape, or the number of inputs."""


class InputTypeError(InputError, TypeError):
    """An input has the wrong element type, or is no tensor at all."""


class DeviceError(OnnxNumbaError, RuntimeError):
    """A device is unknown or cannot be used here."""


class PickleError(OnnxNumbaError, TypeError):
    """A prepared model is asked for in a form that another process could read."""


class CompileError(OnnxNumbaError, RuntimeError):
    """Machine code could not be made or loaded."""


class ExecutionError(OnnxNumbaError, RuntimeError):
    """A run failed.

    Attributes
    ----------
    code : int
        Status code, one of those in ``onnx_numba.ir.plan``; 0 for a failed Python step.
    index : int or None
        The smallest failing work index of the kernel, the same at any thread count.
    step : str or None
        The nodes that the failing step came from.
    """

    code: int = 0
    index: int | None = None
    step: str | None = None

    @classmethod
    def at(cls, step: str | None, reason: str, *, code: int = 0, index: int | None = None) -> ExecutionError:
        """An error of one step, with its message built from the parts."""
        place = f"{step}: " if step else ""
        where = f" (work item {index})" if index is not None else ""
        error = cls(f"{place}{reason}{where}")
        error.code, error.index, error.step = code, index, step
        return error


class BranchError(ExecutionError):
    """A branch is taken that the plan was not made for; the run begins anew with another plan.

    Attributes
    ----------
    decision : int
        Which of the plan's decisions is wrong.
    """

    decision: int = 0


class OutOfMemoryError(ExecutionError, MemoryError):
    """A run needs more memory than there is."""
