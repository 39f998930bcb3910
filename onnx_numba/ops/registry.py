"""The operators: which function lowers which operator, in which versions.

An operator is one function of a *family* module::

    @op("LeakyRelu", since=6, reviewed=16)
    def leaky_relu(b, x, *, alpha):
        return b.map(lambda v: where(v < 0, alpha * v, v), x)

``since`` is the first schema version that the function is right for, ``reviewed`` the newest one that somebody has read and found
it right for: a schema newer than that is an error, never a guess. The function takes the builder, then the inputs in order (None
for those left out, ``*xs`` for a variadic operator). Keyword-only parameters are the attributes that it uses; they are filled
from the node, then from the schema's default, then from the parameter's own default, else with None. A node that sets an
attribute which the function does not take is an error, unless it sets it to its default. The keyword ``node`` gives the node
itself, for those who need to know how many outputs are asked for.

An operator that onnx does not know has the schema that its function's signature states (`onnx_numba.ops.signature`)::

    @op("Bend", since=1, domain="com.acme")
    def bend(b, x, bias=None, *, strength: float, kind: str = "soft"):
        ...
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any, TypeVar

from onnx_numba import schemas
from onnx_numba.errors import UnsupportedError
from onnx_numba.ir.graph import Node
from onnx_numba.ops.signature import schema_of
from onnx_numba.record import record
from onnx_numba.schemas import Schema

Lowering = TypeVar("Lowering", bound=Callable[..., Any])
_MARK = "__onnx_operators__"


@record
class Implementation:
    """A function that lowers an operator, in schema versions from ``since`` to ``reviewed``."""

    op: str
    domain: str
    since: int
    reviewed: int
    function: Callable[..., Any]

    @cached_property
    def schema(self) -> Schema:
        """The operator's schema as the function's signature states it."""
        return schema_of(self.function, self.op, self.domain, self.since)

    @cached_property
    def _parameters(self) -> tuple[int, bool, Mapping[str, Any]]:
        """How many inputs it takes by position, whether more may follow, and its keywords with their defaults."""
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        keywords = {p.name: None if p.default is p.empty else p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        return len(positional), variadic, keywords

    def attributes(self, node: Node) -> dict[str, Any]:
        """The keyword arguments for a node.

        Raises
        ------
        UnsupportedError
            The node sets an attribute that the function does not take.
        """
        _, _, keywords = self._parameters
        schema = schemas.find(node.op, node.domain, node.opset)
        specs = schema.attributes if schema else {}
        for name, value in node.attributes.items():
            if name in schemas.HINTS or name in keywords:
                continue
            if not (name in specs and schemas.same(value, specs[name].default)):
                raise UnsupportedError(f"{node}: attribute {name!r} = {_short(value)} is not supported")
        for name in node.bodies:
            if name not in keywords:
                raise UnsupportedError(f"{node}: subgraph {name!r} is not supported")
        filled: dict[str, Any] = {}
        for name, default in keywords.items():
            if name == "node":
                filled[name] = node
            elif name in node.attributes or name in node.bodies:
                filled[name] = node.attributes[name] if name in node.attributes else node.bodies[name]
            else:
                stated = specs[name].default if name in specs else None
                filled[name] = default if stated is None else stated
        return filled

    def call(self, builder: Any, node: Node, inputs: Sequence[Any]) -> Any:
        """Lower a node: call the function with the node's inputs (None where absent) and attributes."""
        count, variadic, _ = self._parameters
        if len(inputs) > count and not variadic:
            raise UnsupportedError(f"{node} has {len(inputs)} inputs, only {count} are supported")
        padded = (*inputs, *[None] * (count - len(inputs)))
        return self.function(builder, *padded, **self.attributes(node))


def op(name: str, *, since: int, reviewed: int | None = None, domain: str = "") -> Callable[[Lowering], Lowering]:
    """Say that a function lowers an operator; can be stacked for several operators or versions.

    Parameters
    ----------
    name : str
        The operator.
    since : int
        First version of its schema that the function is right for.
    reviewed : int, optional
        Newest version of its schema that the function is known to be right for; ``since`` if not given.
    domain : str
        The operator's domain.
    """
    newest = since if reviewed is None else reviewed
    if newest < since:
        raise ValueError(f"{name}: reviewed={newest} is before since={since}")

    def mark(function: Lowering) -> Lowering:
        record = Implementation(name, schemas.normal_domain(domain), since, newest, function)
        setattr(function, _MARK, (*getattr(function, _MARK, ()), record))
        return function

    return mark


class Registry:
    """A table of implementations; made from functions that `op` has marked, and never changed."""

    def __init__(self, functions: Iterable[Callable[..., Any]] = ()) -> None:
        table: dict[tuple[str, str], list[Implementation]] = {}
        for function in functions:
            for mark in getattr(function, _MARK, ()):
                versions = table.setdefault((mark.domain, mark.op), [])
                if any(other.since == mark.since for other in versions):
                    raise ValueError(f"{mark.domain or 'ai.onnx'}.{mark.op} since {mark.since} is implemented twice")
                versions.append(mark)
        self._table = {key: sorted(versions, key=lambda r: r.since) for key, versions in table.items()}

    def lookup(self, domain: str, name: str, since_version: int) -> Implementation | None:
        """The implementation for a schema version: the one with the greatest ``since`` not above it; None if there is none.

        Raises
        ------
        UnsupportedError
            Nobody has reviewed that implementation for so new a schema.
        """
        found = self._greatest(domain, name, since_version)
        if found is not None and since_version > found.reviewed:
            raise UnsupportedError(
                f"operator {name} of domain {domain or 'ai.onnx'} in version {since_version}: "
                f"this package knows it up to version {found.reviewed}"
            )
        return found

    def schema(self, domain: str, name: str, opset: int) -> Schema | None:
        """The schema of an operator that onnx does not have in an opset, from the implementation with the greatest ``since`` not above.

        Such a domain is known up to the newest version that one of its operators was reviewed for.
        """
        newest = max((record.reviewed for record in self if record.domain == domain), default=0)
        found = self._greatest(domain, name, opset) if opset <= newest else None
        return None if found is None else found.schema

    def nearest(self, domain: str, name: str) -> str | None:
        """The operator of a domain whose name is most like this one."""
        known = [record.op for record in self if record.domain == domain]
        return next(iter(difflib.get_close_matches(name, known, n=1)), None)

    def _greatest(self, domain: str, name: str, version: int) -> Implementation | None:
        fitting = [record for record in self._table.get((domain, name), ()) if record.since <= version]
        return fitting[-1] if fitting else None

    def find(self, node: Node) -> Implementation | None:
        """`lookup` for a node, whose name errors then give."""
        try:
            return self.lookup(node.domain, node.op, node.since_version)
        except UnsupportedError as error:
            raise UnsupportedError(f"{node}: {error}") from None

    def extended(self, functions: Iterable[Callable[..., Any]]) -> Registry:
        """This table and a user's operators, which go before those of the same name and version."""
        added = Registry(functions)
        merged = Registry()
        merged._table = dict(self._table)
        for key, records in added._table.items():
            own = {record.since for record in records}
            kept = [record for record in self._table.get(key, ()) if record.since not in own]
            merged._table[key] = sorted([*kept, *records], key=lambda r: r.since)
        return merged

    def __iter__(self) -> Iterator[Implementation]:
        for records in self._table.values():
            yield from records


def marked(module: ModuleType) -> list[Callable[..., Any]]:
    """The functions of a module that `op` has marked, in the order of its text."""
    return [value for value in vars(module).values() if inspect.isfunction(value) and hasattr(value, _MARK)]


@lru_cache(maxsize=1)
def builtin() -> Registry:
    """The operators that come with this package; imports all families on first use."""
    import onnx_numba.ops as package

    names = sorted(f"{package.__name__}.{info.name}" for info in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(name) for name in names]
    # One family may import a function of another, which is then found twice.
    return Registry(dict.fromkeys(function for module in modules for function in marked(module)))


def lookup(domain: str, name: str, since_version: int) -> Implementation | None:
    """`Registry.lookup` among the operators that come with this package."""
    return builtin().lookup(domain, name, since_version)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
