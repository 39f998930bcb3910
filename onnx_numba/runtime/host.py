"""Steps of a plan that run in Python, by name.

Every module of this package whose name begins with ``hosts_`` offers a mapping ``HOSTS`` of name to function. A function is
called as ``f(params, *inputs)`` and gives a tuple with a value per output; tensors come as arrays that it must neither write nor
keep, absent inputs as None. Bodies of control flow stand in ``params`` as functions of their inputs that give a tuple of
outputs.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

Host = Callable[..., Any]
_FACTORY, _OBJECTS = "__host_factory__", "__host_objects__"


def factory(function: Host) -> Host:
    """Mark a host function that is called once with ``params``, when a model is prepared, and gives the step itself."""
    setattr(function, _FACTORY, True)
    return function


def is_factory(function: Host) -> bool:
    """Whether `factory` has marked a function."""
    return getattr(function, _FACTORY, False)


def of_objects(kind: int, objects: Callable[[Mapping[str, Any]], list[Any]]) -> Callable[[Host], Host]:
    """Mark a host function that compiled code can do: one whose output is made of a tensor and objects that ``params`` name.

    It does so where the output is one of the model's, see ``onnx_numba.native.build``. A step of the kind ``BUILD_TEXT`` makes numbers
    of an object instead.

    Parameters
    ----------
    kind : int
        ``layout.BUILD_MAPS``, ``BUILD_ITEMS`` or ``BUILD_TEXT``.
    objects : callable
        From ``params`` to the objects.
    """

    def mark(function: Host) -> Host:
        setattr(function, _OBJECTS, (kind, objects))
        return function

    return mark


def objects_of(function: Host, params: Mapping[str, Any]) -> tuple[int, list[Any]] | None:
    """Kind and objects, for a function that `of_objects` has marked."""
    kind, objects = getattr(function, _OBJECTS, (0, None))
    return (kind, objects(params)) if objects else None


@cache
def _functions() -> dict[str, Host]:
    import onnx_numba.runtime as package

    found: dict[str, Host] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__) if info.name.startswith("hosts_")):
        for name, function in importlib.import_module(f"{package.__name__}.{module}").HOSTS.items():
            if name in found:
                raise RuntimeError(f"host step {name!r} is defined twice, the second time in {module}")
            found[name] = function
    return found


class _Hosts(Mapping[str, Host]):
    """The modules' functions, imported when first asked for: most models have none."""

    def __getitem__(self, name: str) -> Host:
        return _functions()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_functions())

    def __len__(self) -> int:
        return len(_functions())


HOST: Mapping[str, Host] = _Hosts()
"""Every host step by name."""
