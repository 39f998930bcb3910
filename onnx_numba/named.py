"""The type of results: a tuple whose items have names."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from typing import Any


def namedtupledict(typename: str, field_names: Sequence[str]) -> type[tuple[Any, ...]]:
    """Make a tuple type whose items are also found by attribute and by name, as ``onnx.backend.base.namedtupledict`` does.

    Names that are no Python identifiers are renamed by position for attribute access, and still work as keys.
    """
    positions = {name: position for position, name in enumerate(field_names)}
    base = namedtuple(typename, field_names, rename=True)  # type: ignore[misc]  # names are known only here
    get = tuple.__getitem__

    def getitem(self: tuple[Any, ...], key: Any) -> Any:
        return get(self, positions[key] if isinstance(key, str) else key)

    base.__getitem__ = getitem  # type: ignore[method-assign]
    return base
