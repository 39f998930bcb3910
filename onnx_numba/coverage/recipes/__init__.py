"""How to make a small valid model of each operator: one function per operator, each yielding variants.

A recipe takes a `onnx_numba.coverage.case.Draft`. Its first case is made for every type that the operator allows, the others, which
carry a name, for one. Operators without a recipe are elementwise: every input is a matrix.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import lru_cache

from onnx_numba.coverage.case import Case, Draft, Recipe

_MARK = "__recipe_of__"


def recipe(*names: str) -> Callable[[Recipe], Recipe]:
    """Say which operators a function makes cases of; those of other domains as ``domain.name``."""

    def mark(function: Recipe) -> Recipe:
        setattr(function, _MARK, (*getattr(function, _MARK, ()), *names))
        return function

    return mark


@lru_cache(maxsize=1)
def table() -> dict[str, Recipe]:
    """Operator → recipe."""
    found: dict[str, Recipe] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for function in vars(module).values():
            for name in getattr(function, _MARK, ()):
                found[name] = function
    return found


def matrices(c: Draft) -> Iterator[Case]:
    """Every input a matrix."""
    yield c.make(*(c.real(3, 4) for _ in c.schema.inputs))
