"""All cases: for every version of every operator, models in which every type that it allows occurs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import onnx.defs

from onnx_numba.coverage import recipes
from onnx_numba.coverage.case import Case, Draft, element, numpy_type

_EVERY_PAIR = frozenset({"Cast", "CastLike", "BitCast"})

Types = Mapping[str, str]


def _other(types: Types) -> Types:
    """Numbers for strings and strings for numbers."""
    return {"T2": "tensor(int64)" if types["T1"] == "tensor(string)" else "tensor(string)"}


_LINKS: dict[str, Callable[[Types], Types]] = {
    "SequenceAt": lambda t: {"T": element(t["S"])},
    "SequenceInsert": lambda t: {"T": element(t["S"])},
    "SequenceConstruct": lambda t: {"S": f"seq({t['T']})"},
    "ConcatFromSequence": lambda t: {"T": element(t["S"])},
    "SplitToSequence": lambda t: {"S": f"seq({t['T']})"},
    "Optional": lambda t: {"O": f"optional({t['V']})"},
    "OptionalGetElement": lambda t: {"V": element(t["O"]) if t["O"].startswith("optional(") else t["O"]},
    "CategoryMapper": _other,
    "LabelEncoder-1": _other,
    "DictVectorizer": lambda t: {"T2": f"tensor({t['T1'][4:-1].partition(', ')[2]})"},
}
"""Operator, or operator and version → what its types have to do with each other, which the schemas do not say."""


@lru_cache(maxsize=1)
def schemas() -> tuple[Any, ...]:
    """Every version of every operator, by domain, name and version."""
    every = onnx.defs.get_all_schemas_with_history()
    return tuple(sorted(every, key=lambda s: (s.domain, s.name, s.since_version)))


def cases(schema: Any) -> Iterator[Case]:
    """The cases of one version: the plain model for every assignment of types, its variants for one."""
    make = _recipe(schema)
    every = list(assignments(schema))
    shown = next((k for k, types in enumerate(every) if list(types.values())[:1] == ["tensor(float)"]), 0)
    for k, types in enumerate(every):
        for number, case in enumerate(make(Draft(schema, types))):
            if number == 0 or k == shown or case.everywhere:
                yield case


def plain(schema: Any) -> Iterator[Case]:
    """The plain cases alone, and of casts not every pair."""
    make = _recipe(schema)
    for types in _rotated(schema):
        yield next(make(Draft(schema, types)))


def again(case: Case, types: Types) -> Case:
    """The same variant for other types."""
    make = _recipe(case.schema)
    return next(c for c in make(Draft(case.schema, types)) if c.variant == case.variant)


def _recipe(schema: Any) -> recipes.Recipe:
    return recipes.table().get(f"{schema.domain}.{schema.name}" if schema.domain else schema.name, recipes.matrices)


def assignments(schema: Any) -> Iterator[dict[str, str]]:
    """Types for the type constraints such that every allowed one occurs; for casts all pairs."""
    if schema.name not in _EVERY_PAIR:
        yield from _rotated(schema)
        return
    names = [c.type_param_str for c in schema.type_constraints]
    for pair in itertools.product(*(sorted(c.allowed_type_strs) for c in schema.type_constraints)):
        if schema.name != "BitCast" or _bits(pair[0]) == _bits(pair[1]):
            yield dict(zip(names, pair, strict=True))


def _rotated(schema: Any) -> Iterator[dict[str, str]]:
    """Every constraint goes through its types, over and over until the longest has been through."""
    names = [c.type_param_str for c in schema.type_constraints]
    allowed = [sorted(c.allowed_type_strs) for c in schema.type_constraints]
    link = _LINKS.get(schema.name) or _LINKS.get(f"{schema.name}-{schema.since_version}", lambda _: {})
    for k in range(max(map(len, allowed), default=1)):
        types = {name: choices[k % len(choices)] for name, choices in zip(names, allowed, strict=True)}
        yield {**types, **link(types)}


_NARROW = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2, "float4e2m1": 4, "float6e2m3": 6, "float6e3m2": 6}


def _bits(type_: str) -> int:
    return _NARROW.get(element(type_), 8 * numpy_type(type_).itemsize)
