"""What the cases of `onnx_numba.coverage` should give, and from whom that is known.

Asked in this order: the rules written here (`schema_rules`), onnxruntime, onnx's reference evaluator. Where an operator is to compute
floats of 16 bits and fewer, the first two are asked for float32, whose results are then rounded: this is what the standard's text says, and
more exact than what either does with 16 bits.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import schema_rules
from onnx.reference import ReferenceEvaluator

from onnx_numba.coverage import cases
from onnx_numba.coverage.case import Case, convert, numpy_type

NARROW = frozenset({"tensor(float16)", "tensor(bfloat16)"})
EXACT = frozenset({"Cast", "CastLike", "BitCast", "QuantizeLinear", "EyeLike"})
"""Operators whose element types are what they are about: never asked for another one."""

TOLERANCES = {"float32": (1e-5, 1e-6), "float64": (1e-9, 1e-11), "float16": (2e-3, 1e-4), "bfloat16": (1.6e-2, 1e-3)}
"""Relative and absolute, by element type: some units in the last place."""


COMPOSITE = frozenset({"Attention", "FlexAttention", "LinearAttention"})
"""Operators that the standard defines by functions whose intermediate values have the narrow type, each rounded."""


@dataclass(frozen=True)
class Expected:
    """Outputs, and who said so: ``numpy``, ``onnxruntime``, ``reference`` or ``properties``, with ``/f32`` if for float32.

    ``tolerance`` names the element type whose tolerance holds for float64, if not its own.
    """

    outputs: list[Any]
    oracle: str
    tolerance: str = ""


class UnknownError(Exception):
    """No oracle knows the case."""


def expected(case: Case) -> Expected:
    """What the case should give."""
    oracles = [("numpy", schema_rules.outputs), ("onnxruntime", onnxruntime_outputs), ("reference", _reference)]
    if case.schema.name in schema_rules.REFERENCE_FIRST:
        oracles.insert(1, oracles.pop())
    reasons = []
    for name, oracle in oracles:
        if name != "numpy" and case.key in schema_rules.CHECKS:
            return Expected([], "properties")
        for asked, suffix in _asked(case):
            try:
                outputs = _quietly(oracle, asked if name == "numpy" else schema_rules.relabelled(asked))
                if outputs is not None:
                    kinds = [kind for kind in case.outputs if kind]
                    typed = [_typed(v, kind) for v, kind in zip(outputs, kinds, strict=True)]
                    return Expected(typed, name + suffix, "float32" if suffix and case.schema.name in schema_rules.AS_FLOAT else "")
            except Exception as error:
                reasons.append(f"{name}: {str(error).strip().splitlines()[0] if str(error) else type(error).__name__}"[:150])
    raise UnknownError("; ".join(reasons))


def _asked(case: Case) -> list[tuple[Case, str]]:
    """The cases to ask for, the best first."""
    wide = widened(case)
    return [*([(wide, "/f32")] if wide is not None else []), (case, "")]


def _quietly(oracle: Any, case: Case) -> list[Any] | None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        outputs: list[Any] | None = oracle(case)
    return outputs


def someone_elses(case: Case) -> list[Any]:
    """What onnxruntime, else the reference evaluator, makes of a case."""
    try:
        return onnxruntime_outputs(case)
    except Exception:
        return _reference(case)


def widened(case: Case) -> Case | None:
    """The case with float32 for narrower floats; None where it has none, or is about them."""
    if case.schema.name in EXACT:
        return None
    types = {name: _wide(type_) for name, type_ in case.types.items()}
    if case.schema.name in schema_rules.AS_FLOAT:
        types = {name: _FLOATS.get(case.schema.name, _as_float)(type_) for name, type_ in types.items()}
    if types == dict(case.types):
        return None
    wide = cases.again(case, types)
    return replace(wide, inputs=tuple(_exact(v, w) for v, w in zip(case.inputs, wide.inputs, strict=True)))


def _exact(own: Any, wide: Any) -> Any:
    """An input of the widened case: integers are those of the case itself, not other samples."""
    integral = isinstance(own, np.ndarray) and own.dtype.kind in "iu" and wide.dtype != own.dtype
    return own.astype(wide.dtype) if integral else wide


def _as_float(type_: str) -> str:
    return type_.replace("tensor(double)", "tensor(float)")


_FLOATS = dict.fromkeys(("LinearRegressor", "SVMRegressor", "TreeEnsembleRegressor"), lambda _: "tensor(float)")


def _wide(type_: str) -> str:
    for name in NARROW:
        type_ = type_.replace(name, "tensor(float)")
    return type_


def _typed(value: Any, kind: str) -> Any:
    """A value as the case has its type: rounded where a wider one was asked for."""
    if kind.startswith("optional(") and value is not None:
        return _typed(value, kind[len("optional(") : -1])
    if kind.startswith("seq(tensor("):
        return [_typed(v, kind[len("seq(") : -1]) for v in value]
    if not kind.startswith("tensor(") or value is None:
        return value
    array = np.asarray(value)
    if kind.startswith("tensor(float8") and array.dtype == np.uint8:  # onnxruntime hands out bits
        return array.view(numpy_type(kind))
    if kind == "tensor(float4e2m1)" and array.dtype == np.uint8:
        raise TypeError("bits of two elements in a byte, whose shape is lost")
    if kind in ("tensor(double)", "tensor(float)") and array.dtype in (np.float32, np.float64):
        return array.astype(numpy_type(kind))
    if kind.startswith(("tensor(int", "tensor(uint")) and array.dtype.kind in "iu":
        return array.astype(numpy_type(kind))
    if kind in NARROW and array.dtype in (np.float32, np.float64):
        return convert(array.astype(np.float32), kind)
    return array


def onnxruntime_outputs(case: Case) -> list[Any]:
    """What onnxruntime makes of a case, without its optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(case.model().SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, case.feed))


def _reference(case: Case) -> list[Any]:
    return list(ReferenceEvaluator(case.model()).run(None, case.feed))


# ---- comparison


def difference(case: Case, got: list[Any], wanted: Expected) -> str | None:
    """What is wrong with outputs in one line; None when nothing is."""
    kinds = [kind for kind in case.outputs if kind]
    if wanted.oracle == "properties":
        return schema_rules.CHECKS[case.key](case, got)
    composite = case.schema.name in COMPOSITE
    ours, theirs = (schema_rules.canonical(case, v) for v in (got, wanted.outputs))
    for k, (value, right, kind) in enumerate(zip(ours, theirs, kinds, strict=True)):
        wrong = _different(value, right, kind, Limit(wanted.tolerance, composite))
        if wrong:
            return f"output {k}: {wrong}"
    return None


@dataclass(frozen=True)
class Limit:
    """What differences are allowed: those of an element type, some times over for operators of many steps."""

    type_: str
    composite: bool

    def of(self, right: Any) -> tuple[float, float]:
        """Relative and absolute, for an array."""
        if right.dtype.kind == "c":
            return TOLERANCES["float32"]
        name = str(right.dtype)
        rtol, atol = TOLERANCES.get(self.type_ if name == "float64" and self.type_ else name, (0.0, 0.0))
        return (4 * rtol, 4 * atol) if self.composite else (rtol, atol)


def _different(value: Any, right: Any, kind: str, limit: Limit) -> str | None:
    if right is None or value is None:
        return None if value is right else f"got {type(value).__name__}, expected {type(right).__name__}"
    if isinstance(right, list):
        if len(value) != len(right):
            return f"{len(value)} elements, expected {len(right)}"
        inner = kind[kind.index("(") + 1 : -1] if "(" in kind else kind
        return next((w for a, b in zip(value, right, strict=True) if (w := _different(a, b, inner, limit))), None)
    if isinstance(right, dict):
        if list(value) != list(right):
            return f"keys {list(value)}, expected {list(right)}"
        return _different(np.array(list(value.values())), np.array(list(right.values())), kind, limit)
    if value.dtype != right.dtype and not (value.dtype.kind in "OUT" and right.dtype.kind in "OUT"):
        return f"type {value.dtype}, expected {right.dtype}"
    if value.shape != right.shape:
        return f"shape {value.shape}, expected {right.shape}"
    return _unequal(value, right, limit)


def _unequal(value: Any, right: Any, limit: Limit) -> str | None:
    name = str(right.dtype)
    if right.dtype.kind in "OUTbiu" or name in ("int4", "uint4", "int2", "uint2"):
        same = value == right
    else:
        a, b = (v.astype(np.complex128 if right.dtype.kind == "c" else np.float64) for v in (value, right))
        same = np.isclose(a, b, *limit.of(right), equal_nan=True)
    if np.all(same):
        return None
    at = tuple(int(i) for i in np.argwhere(~np.atleast_1d(same))[0])
    a, b = (np.atleast_1d(v)[at] for v in (value, right))
    return f"{int(np.sum(~np.asarray(same)))} of {right.size} differ, first at {list(at)}: {a!s}, expected {b!s}"
