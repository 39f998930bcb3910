"""Frozen dataclasses whose classes are made quickly.

``dataclasses.dataclass(frozen=True)`` compiles six methods for every class, which takes most of a millisecond; a process that compiles a
model makes a hundred of this package's classes, before it has looked at the model. `record` compiles ``__init__`` alone and shares the
rest. What it makes is a dataclass in all else: ``fields``, ``replace`` and type checkers see one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def record(cls: type[T]) -> type[T]: ...


@overload
def record(*, eq: bool = True) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[Any] | None = None, *, eq: bool = True) -> Any:
    """Make a class a frozen dataclass, compared and hashed by its fields, or by identity with ``eq=False``.

    Methods that the class defines itself stay; ``__post_init__`` is called as dataclasses do.

    Examples
    --------
    >>> @record
    ... class Extent:
    ...     size: int
    ...     step: int = 1
    >>> Extent(3), Extent(3) == Extent(3, 1)
    (Extent(size=3, step=1), True)
    """
    return (lambda made: _record(made, eq)) if cls is None else _record(cls, eq)


def _record(cls: type[Any], eq: bool) -> type[Any]:
    shared: dict[str, Any] = {"__repr__": _repr, "__setattr__": _refuse, "__delattr__": _refuse}
    dataclass(init=False, repr=False, eq=False)(cls)
    if eq:
        shared |= _comparison(_content([one.name for one in fields(cls)]))
    shared["__init__"] = _init(cls)
    for name, method in shared.items():
        if name not in cls.__dict__:
            setattr(cls, name, method)
    return cls


def _init(cls: type[Any]) -> Callable[..., None]:
    """Write and compile ``__init__``; of the class `Extent` above it is

    .. code-block:: python

        def __init__(self, size, step=_default_step):
            _set(self, "size", size)
            _set(self, "step", step)
    """
    space: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING}
    parameters, lines = ["self"], []
    for one in fields(cls):
        name, value = one.name, one.name
        if one.default_factory is not MISSING:
            space[f"_make_{name}"] = one.default_factory
            value = f"_make_{name}() if {name} is _missing else {name}"
        default = _default(one)
        if default is not None:
            space[f"_default_{name}"] = default[0]
        parameters.append(name if default is None else f"{name}=_default_{name}")
        lines.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines or [" pass"]), space)
    init: Callable[..., None] = space["__init__"]
    init.__annotations__ = {one.name: one.type for one in fields(cls)} | {"return": None}
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _default(one: Field[Any]) -> tuple[Any] | None:
    """What ``__init__`` takes where nothing is given, if that may be."""
    if one.default_factory is not MISSING:
        return (MISSING,)
    return None if one.default is MISSING else (one.default,)


def _content(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What gives the values of these fields as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda self: tuple(getattr(self, name) for name in names)


def _comparison(content: Callable[[Any], Any]) -> dict[str, Any]:
    def equal(self: Any, other: object) -> bool:
        return content(self) == content(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(content(self))

    return {"__eq__": equal, "__hash__": hashed}


def _repr(self: Any) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse(self: Any, name: str, *value: Any) -> None:
    raise FrozenInstanceError(f"cannot {'assign to' if value else 'delete'} field {name!r}")
