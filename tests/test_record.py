"""Records are dataclasses in all that users of a dataclass see."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, is_dataclass, replace
from functools import cached_property

import pytest

from onnx_numba.record import record


@record
class Extent:
    """What `Plain` is too."""

    size: int
    step: int = 1
    names: list[str] = field(default_factory=list, repr=False)

    @cached_property
    def last(self) -> int:
        """The last position."""
        return (self.size - 1) * self.step


@dataclass(frozen=True)
class Plain:
    """The same by the standard library."""

    size: int
    step: int = 1
    names: list[str] = field(default_factory=list, repr=False)


@record
class Hashed:
    """With fields that can be hashed."""

    size: int
    name: str = "n"


@record
class Alone:
    """With one field."""

    value: float


@record
class Empty:
    """With none."""


@record(eq=False)
class Named:
    """Compared by identity, with text of its own."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("negative")

    def __str__(self) -> str:
        return f"<{self.size}>"


def test_as_dataclasses() -> None:
    assert is_dataclass(Extent)
    assert [one.name for one in fields(Extent)] == [one.name for one in fields(Plain)]
    assert repr(Extent(3)) == repr(Plain(3)).replace("Plain", "Extent")
    ours, theirs = inspect.signature(Extent.__init__).parameters, inspect.signature(Plain.__init__).parameters
    assert [(p.name, p.annotation, p.kind) for p in ours.values()][1:] == [(p.name, p.annotation, p.kind) for p in theirs.values()][1:]
    with pytest.raises(TypeError, match="size"):
        Extent()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="pace"):
        Extent(1, pace=3)  # type: ignore[call-arg]


def test_comparison() -> None:
    assert Extent(3, 2) == Extent(step=2, size=3)
    assert Extent(3) != Extent(4)
    assert Extent(3) != Plain(3)
    assert hash(Hashed(3)) == hash(Hashed(3, "n"))
    assert len({Hashed(3), Hashed(3), Hashed(4)}) == 2
    one = Named(3)
    assert one == one
    assert one != Named(3)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Extent(3))


def test_few_fields() -> None:
    nan = float("nan")
    assert Alone(nan) == Alone(nan)  # as in tuples, what is the same object is equal
    assert Alone(1.0) != Alone(2.0)
    assert hash(Alone(1.0)) == hash(Alone(1.0))
    assert Empty() == Empty()
    assert repr(Empty()) == "Empty()"


def test_frozen() -> None:
    extent = Extent(3)
    with pytest.raises(FrozenInstanceError, match="'size'"):
        extent.size = 4  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="'size'"):
        del extent.size
    assert extent.last == 2
    assert extent.last == 2


def test_defaults_are_made_anew() -> None:
    one, other = Extent(1), Extent(2)
    one.names.append("a")
    assert other.names == []
    assert Extent(1, names=["b"]).names == ["b"]


def test_replace_and_pickle() -> None:
    extent = Extent(3, names=["a"])
    assert replace(extent, step=5) == Extent(3, 5, ["a"])
    assert pickle.loads(pickle.dumps(extent)) == extent


def test_own_methods_stay() -> None:
    assert str(Named(3)) == "<3>"
    assert repr(Named(3)) == "Named(size=3)"
    with pytest.raises(ValueError, match="negative"):
        Named(-1)
