"""Plans of one model that differ in which way its branches go.

Where the branches of an If have results of different ranks and shapes alone decide between them, as exporters write a squeeze of an axis
that may not be 1, a plan is made for one of them and checks that it is the one. A run for which it is not begins anew with the plan
for the other, which is prepared then and kept, as in the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from onnx_numba.errors import BranchError
from onnx_numba.runtime.fork import on_fork

if TYPE_CHECKING:
    from onnx_numba.prepare import PreparedModel
    from onnx_numba.runtime.session import Session

Decisions = tuple[bool, ...] | None
"""Which way branches go, in the order of lowering; those that follow are for the lowering to choose. None: every run decides all."""


class Variants:
    """Runs a model by the plan that fits.

    Parameters
    ----------
    first : PreparedModel
        The plan to begin with.
    order : callable
        Prepares the model for other decisions.
    """

    def __init__(self, first: PreparedModel, order: Callable[[Decisions], PreparedModel]) -> None:
        self._order = order
        self._made: dict[Decisions, tuple[Callable[..., Any], Decisions]] = {(): (first.session.call, first.decisions)}
        self._models: list[PreparedModel] = []
        self._latest: Decisions = ()
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """Make a lock that no thread holds."""
        self._lock = threading.RLock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        asked, tried = self._latest, set()
        while True:
            run, decisions = self._made.get(asked) or self._prepared(asked)
            try:
                result = run(*args, **kwargs)
            except BranchError as error:
                tried.add(asked)
                asked = _flipped(decisions, error.decision)
                asked = None if asked in tried else asked
            else:
                self._latest = asked
                return result

    def models(self) -> list[PreparedModel]:
        """The plans that runs have asked for."""
        return list(self._models)

    def sessions(self) -> list[Session]:
        """What runs those."""
        return [model.session for model in self.models()]

    def _prepared(self, asked: Decisions) -> tuple[Callable[..., Any], Decisions]:
        with self._lock:
            if asked not in self._made:
                model = self._order(asked)
                self._models.append(model)
                self._made[asked] = (model.session.call, model.decisions)
            return self._made[asked]


def _flipped(decisions: Decisions, number: int) -> Decisions:
    """The decisions up to one, and that the other way; None if it is none of them."""
    return (*decisions[:number], not decisions[number]) if decisions is not None and number < len(decisions) else None
