"""What must be put right in a forked child: locks that a thread of the parent may have held, and threads that are gone."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something with threads or locks."""

    def after_fork(self) -> None:
        """Called in the child, which has one thread."""


class _Registry:
    """Everything that asked to be told, as long as it lives."""

    def __init__(self) -> None:
        self._members: weakref.WeakSet[Forkable] = weakref.WeakSet()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._tell)

    def add(self, member: Forkable) -> None:
        self._members.add(member)

    def _tell(self) -> None:
        for member in list(self._members):
            member.after_fork()


_REGISTRY = _Registry()


def on_fork(member: Forkable) -> None:
    """Call ``member.after_fork()`` in every child that is forked while it lives."""
    _REGISTRY.add(member)
