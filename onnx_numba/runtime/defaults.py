"""Runs that give values for inputs with defaults.

An initializer with the name of an input is that input's default. Exporters list all weights so, and nearly no run gives any: they are
constants of the plan. For a run that does give some a plan is prepared in which those are inputs, and kept, as in the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnx_numba.runtime.fork import on_fork

if TYPE_CHECKING:
    from onnx_numba.prepare import PreparedModel
    from onnx_numba.runtime.session import Session


class Defaults:
    """Finds the plan for inputs of which some have defaults.

    Parameters
    ----------
    names : sequence of str
        All inputs of the model, in order.
    needed : sequence of str
        Those that are inputs of the first plan.
    order : callable
        Prepares the model with some more inputs.
    """

    def __init__(self, names: Sequence[str], needed: Sequence[str], order: Callable[[frozenset[str]], PreparedModel]) -> None:
        self._names = tuple(names)
        self._constant = frozenset(names) - frozenset(needed)
        self._order = order
        self._made: dict[frozenset[str], PreparedModel] = {}
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """Make a lock that no thread holds."""
        self._lock = threading.RLock()

    def __call__(self, inputs: Any) -> tuple[Any, ...] | None:
        """The results of a run that gives a value for a default; None where it gives none."""
        if isinstance(inputs, list | tuple) and len(inputs) == len(self._names):
            inputs = dict(zip(self._names, inputs, strict=True))
        if not isinstance(inputs, Mapping):
            return None
        given = {name: value for name, value in inputs.items() if value is not None}
        replaced = self._constant.intersection(given)
        return self._prepared(replaced).run(given) if replaced else None

    def sessions(self) -> list[Session]:
        """What runs the plans that have been asked for."""
        return [model.session for model in list(self._made.values())]

    def _prepared(self, replaced: frozenset[str]) -> PreparedModel:
        with self._lock:
            if replaced not in self._made:
                self._made[replaced] = self._order(replaced)
            return self._made[replaced]
