"""A case: one small model of one operator, in one version and with one assignment of element types."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes  # noqa: F401 - registers its types with NumPy
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_numba.record import record

Array = np.ndarray[Any, Any]
IR_VERSION = 10
"""One file format for all: it says nothing about what an operator means."""


@record
class Const:
    """An input that is an initializer of the model: axes, shapes and the like."""

    value: Any


@record(eq=False)
class Case:
    """A model of one node and the values of its inputs.

    Attributes
    ----------
    schema : onnx.defs.OpSchema
    types : mapping
        The type string of every type constraint.
    variant : str
        What is special about it; empty for the plain one, which is made for all types.
    inputs : tuple
        Values: arrays, lists of them (sequences), dicts (maps), None where absent.
    constants : frozenset
        Which inputs are initializers.
    outputs : tuple of str
        Type strings of the outputs, ``""`` for those left out.
    outer : mapping
        What subgraphs capture: a value and its type string by name; inputs of the model that the node itself does not read.
    before : tuple of NodeProto
        Nodes that come first.
    everywhere : bool
        Whether a variant is made for all types as the plain case is.
    """

    schema: Any
    types: Mapping[str, str]
    variant: str
    inputs: tuple[Any, ...]
    input_types: tuple[str, ...]
    constants: frozenset[int]
    attributes: Mapping[str, Any]
    outputs: tuple[str, ...]
    outer: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    before: tuple[onnx.NodeProto, ...] = ()
    everywhere: bool = False

    @property
    def key(self) -> str:
        """The operator's name with its domain."""
        return f"{self.schema.domain}.{self.schema.name}" if self.schema.domain else str(self.schema.name)

    @property
    def assignment(self) -> str:
        """The types in one word, as ``T=float,Tind=int64``."""
        return ",".join(f"{name}={short(type_)}" for name, type_ in self.types.items()) or "-"

    def __str__(self) -> str:
        return "/".join(filter(None, (f"{self.key}-{self.schema.since_version}", self.variant, self.assignment)))

    @property
    def feed(self) -> dict[str, Any]:
        """The values that callers give, by name."""
        own = {f"in{k}": v for k, v in enumerate(self.inputs) if v is not None and k not in self.constants}
        return {**own, **{name: value for name, (value, _) in self.outer.items()}}

    def model(self) -> onnx.ModelProto:
        """The case as a model."""
        schema = self.schema
        names = [f"in{k}" if v is not None else "" for k, v in enumerate(self.inputs)]
        while names and not names[-1]:
            names.pop()
        outputs = [f"out{k}" if type_ else "" for k, type_ in enumerate(self.outputs)]
        node = helper.make_node(schema.name, names, outputs, domain=schema.domain, **self.attributes)
        given, constants = [], []
        for k, (value, type_) in enumerate(zip(self.inputs, self.input_types, strict=True)):
            if k in self.constants:
                constants.append(numpy_helper.from_array(value, names[k]))
            elif value is not None:
                given.append(_info(names[k], value, type_))
        given += [_info(name, value, type_) for name, (value, type_) in self.outer.items()]
        results = [helper.make_value_info(f"out{k}", type_proto(type_)) for k, type_ in enumerate(self.outputs) if type_]
        graph = helper.make_graph([*self.before, node], "case", given, results, constants)
        imports = {"": schema.since_version} if not schema.domain else {"": 18, schema.domain: schema.since_version}
        opsets = [helper.make_opsetid(domain, version) for domain, version in imports.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _info(name: str, value: Any, type_: str) -> onnx.ValueInfoProto:
    return helper.make_value_info(name, type_proto(type_, value.shape if isinstance(value, np.ndarray) else None))


@dataclass
class Draft:
    """What a recipe makes cases of: the schema, the types, and values that are the same for every type and version."""

    schema: Any
    types: Mapping[str, str]
    _drawn: int = field(default=0)

    @property
    def version(self) -> int:
        """The schema's version."""
        return int(self.schema.since_version)

    def has(self, attribute: str) -> bool:
        """Whether this version has the attribute."""
        return attribute in self.schema.attributes

    def number(self, constraint: str) -> int:
        """The ``TensorProto.DataType`` of a constraint's type."""
        return int(onnx_type(self.types[constraint]))

    def real(self, *shape: int, low: float = -2.0, high: float = 2.0) -> Array:
        """Multiples of 1/8 that every float of 8 bits or more of range holds; `convert` makes integers, strings … of them."""
        self._drawn += 1
        rng = np.random.default_rng(zlib.crc32(f"{self.schema.name} {self._drawn} {shape}".encode()))
        return rng.integers(int(low * 8), int(high * 8) + 1, shape).astype(np.float64) / 8

    def make(
        self, *inputs: Any, name: str = "", outputs: int | Sequence[bool] = 0, types: Mapping[str, str] | None = None, **attributes: Any
    ) -> Case:
        """A case; inputs are converted to the types that the schema and the assignment say.

        Parameters
        ----------
        *inputs
            float64 arrays are samples (see `convert`), other arrays exact; None where absent.
        name : str
            The variant's name.
        outputs : int or sequence of bool
            How many outputs are asked for, or which; the required ones by default.
        types : mapping, optional
            Types that differ from the assignment.
        **attributes
            None for one that is left out.
        """
        chosen = {**self.types, **(types or {})}
        declared = list(self.schema.inputs)
        kinds = [chosen.get(t, t) for t in _repeated(declared, len(inputs))]
        plain = [v.value if isinstance(v, Const) else v for v in inputs]
        values = tuple(None if v is None else convert(v, kind) for v, kind in zip(plain, kinds, strict=True))
        flags = [True] * (outputs or max(self.schema.min_output, 1)) if isinstance(outputs, int) else list(outputs)
        results = [chosen.get(t, t) for t in _repeated(list(self.schema.outputs), len(flags))]
        constants = frozenset(k for k, v in enumerate(inputs) if isinstance(v, Const))
        kept = {key: value for key, value in attributes.items() if value is not None}
        return Case(
            self.schema, chosen, name, values, tuple(kinds), constants, kept,
            tuple(t if wanted else "" for t, wanted in zip(results, flags, strict=True)),
        )  # fmt: skip


Recipe = Callable[[Draft], Iterator[Case]]


def _repeated(formal: Sequence[Any], count: int) -> list[str]:
    """Type strings of ``count`` actual parameters, the last formal one repeated where it is variadic."""
    return [formal[min(k, len(formal) - 1)].type_str for k in range(count)]


# ---- types


def short(type_: str) -> str:
    """A type string without what all of them share."""
    return type_.replace("tensor(", "").replace("(", "_").replace(")", "").replace(", ", "_") if "tensor" in type_ else type_


def element(type_: str) -> str:
    """What a sequence or an optional is of."""
    return type_[type_.index("(") + 1 : -1]


def onnx_type(type_: str) -> int:
    """``TensorProto.DataType`` of a tensor type."""
    name = element(type_)
    return int(getattr(TensorProto, {"float8e8m0": "FLOAT8E8M0"}.get(name, name.upper())))


def numpy_type(type_: str) -> np.dtype[Any]:
    """The NumPy dtype of a tensor type."""
    return np.dtype(object) if element(type_) == "string" else np.dtype(helper.tensor_dtype_to_np_dtype(onnx_type(type_)))


def type_proto(type_: str, shape: Sequence[int] | None = None) -> onnx.TypeProto:
    """The protobuf of a type string."""
    if type_.startswith("tensor("):
        return helper.make_tensor_type_proto(onnx_type(type_), shape)
    if type_.startswith("seq("):
        return helper.make_sequence_type_proto(type_proto(element(type_)))
    if type_.startswith("optional("):
        return helper.make_optional_type_proto(type_proto(element(type_)))
    key, _, value = element(type_).partition(",")
    value = value.strip()
    return helper.make_map_type_proto(onnx_type(f"tensor({key})"), type_proto(value if "(" in value else f"tensor({value})", ()))


# ---- values


def convert(value: Any, type_: str) -> Any:
    """A value as a type has it.

    float64 arrays are samples: floats take them as they are, integers four times them (made positive and small where the type is
    unsigned or narrow), bool their sign, strings a letter and a number. Arrays of other types are taken exactly.
    """
    if type_.startswith("optional("):
        return convert(value, element(type_))
    if type_.startswith("seq("):
        parts = value if isinstance(value, list) else [value, value[:1]]
        return [convert(part, element(type_)) for part in parts]
    if not type_.startswith("tensor("):
        return value
    array = np.asarray(value)
    kind = element(type_)
    if kind == "string":
        return _strings(array)
    dtype = numpy_type(type_)
    if array.dtype != np.float64:
        return array.astype(dtype)
    if kind == "bool":
        return np.asarray(array > 0)
    if kind.startswith("complex"):
        return (array + 0.5j * np.flip(array)).astype(dtype)
    if kind == "float8e8m0":
        return np.exp2(np.floor(np.abs(array))).astype(dtype)
    if "int" in kind:
        return _integers(array, kind).astype(dtype)
    return array.astype(dtype)


def _strings(array: Array) -> Array:
    if array.dtype.kind in "OU":
        return array.astype(object)
    return np.array([f"{'abcd'[int(4 * v) % 4]}{int(abs(4 * v))}" for v in array.reshape(-1)], object).reshape(array.shape)


def _integers(array: Array, kind: str) -> Array:
    numbers = np.rint(4 * array).astype(np.int64)
    if kind.startswith("uint"):
        numbers = np.abs(numbers)
    if kind.endswith("int2"):
        return numbers % 4 if kind == "uint2" else np.clip(numbers, -2, 1)
    return np.clip(numbers, -8, 7) if kind == "int4" else numbers
