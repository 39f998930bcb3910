"""Inputs that a model has values for.

Exporters list every weight as an input that callers could replace, though few ever do: these are constants of the plan, folded and packed
like others. A run that is given one is made by another plan of the same model, to which they are inputs; it is prepared then, and kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from onnx_numba.runtime.fork import on_fork

if TYPE_CHECKING:
    from onnx_numba.prepare import PreparedModel
    from onnx_numba.runtime.session import Session


class Defaults:
    """Runs a model by the plan that has the inputs that are given.

    Parameters
    ----------
    first : PreparedModel
        The plan to which inputs with defaults are constants.
    names : iterable of str
        These inputs.
    order : callable
        Prepares the model with them.
    """

    def __init__(self, first: PreparedModel, names: Iterable[str], order: Callable[[], PreparedModel]) -> None:
        self._run = first.run
        self._count = len(first.inputs)
        self._names = frozenset(names)
        self._order = order
        self._opened: PreparedModel | None = None
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """Make a lock that no thread holds."""
        self._lock = threading.RLock()

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Run the model."""
        if isinstance(inputs, Mapping):
            replaced = not self._names.isdisjoint(inputs)
        else:
            replaced = isinstance(inputs, list | tuple) and len(inputs) > self._count
        return self._with_inputs().run(inputs, **kwargs) if replaced else self._run(inputs, **kwargs)

    def sessions(self) -> list[Session]:
        """What runs the other plan, if there is one by now."""
        return [] if self._opened is None else [self._opened.session]

    def _with_inputs(self) -> PreparedModel:
        with self._lock:
            if self._opened is None:
                self._opened = self._order()
            return self._opened
