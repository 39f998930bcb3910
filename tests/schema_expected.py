"""What the cases of `onnx_numba.coverage` should give, and from whom that is known.

Asked in this order: the rules written here (`schema_rules`), onnxruntime, onnx's reference evaluator. Where an operator is to compute
floats of 16 bits and fewer, the first two are asked for float32, whose results are then rounded: this is what the standard's text says, and
more exact than what either does with 16 bits.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import schema_rules
from onnx.reference import ReferenceEvaluator

from onnx_numba.coverage import cases
from onnx_numba.coverage.case import Case, convert

NARROW = frozenset({"tensor(float16)", "tensor(bfloat16)"})
EXACT = frozenset({"Cast", "CastLike", "BitCast", "QuantizeLinear", "EyeLike"})
"""Operators whose element types are what they are about: never asked for another one."""

TOLERANCES = {"float32": (1e-5, 1e-6), "float64": (1e-9, 1e-11), "float16": (2e-3, 1e-4), "bfloat16": (1.6e-2, 1e-3)}
"""Relative and absolute, by element type: some units in the last place."""


@dataclass(frozen=True)
class Expected:
    """Outputs, and who said so: ``numpy``, ``onnxruntime``, ``reference``, or their name with ``/f32``."""

    outputs: list[Any]
    oracle: str


class UnknownError(Exception):
    """No oracle knows the case."""


def expected(case: Case) -> Expected:
    """What the case should give."""
    reasons = []
    for name, oracle in (("numpy", schema_rules.outputs), ("onnxruntime", _onnxruntime), ("reference", _reference)):
        wide = None if name == "reference" else widened(case)
        for asked, suffix in ((wide, "/f32"), (case, "")) if wide is not None else ((case, ""),):
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")
                    outputs = oracle(asked)
                    if outputs is not None:
                        kinds = [kind for kind in case.outputs if kind]
                        return Expected([_typed(v, kind) for v, kind in zip(outputs, kinds, strict=True)], name + suffix)
            except Exception as error:
                reasons.append(f"{name}: {str(error).strip().splitlines()[0] if str(error) else type(error).__name__}"[:150])
    raise UnknownError("; ".join(reasons))


def widened(case: Case) -> Case | None:
    """The case with float32 for narrower floats; None where it has none, or is about them."""
    if case.schema.name in EXACT:
        return None
    types = {name: _wide(type_) for name, type_ in case.types.items()}
    return None if types == dict(case.types) else cases.again(case, types)


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
    if kind in NARROW and array.dtype in (np.float32, np.float64):
        return convert(array.astype(np.float32), kind)
    return array


def _onnxruntime(case: Case) -> list[Any]:
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


def difference(case: Case, got: list[Any], wanted: list[Any]) -> str | None:
    """What is wrong with outputs in one line; None when nothing is."""
    for k, (value, right, kind) in enumerate(zip(got, wanted, [o for o in case.outputs if o], strict=True)):
        wrong = _different(value, right, kind)
        if wrong:
            return f"output {k}: {wrong}"
    return None


def _different(value: Any, right: Any, kind: str) -> str | None:
    if right is None or value is None:
        return None if value is right else f"got {type(value).__name__}, expected {type(right).__name__}"
    if isinstance(right, list):
        if len(value) != len(right):
            return f"{len(value)} elements, expected {len(right)}"
        inner = kind[kind.index("(") + 1 : -1] if "(" in kind else kind
        return next((w for a, b in zip(value, right, strict=True) if (w := _different(a, b, inner))), None)
    if isinstance(right, dict):
        if list(value) != list(right):
            return f"keys {list(value)}, expected {list(right)}"
        return _different(np.array(list(value.values())), np.array(list(right.values())), kind)
    if value.dtype != right.dtype and not (value.dtype.kind in "OUT" and right.dtype.kind in "OUT"):
        return f"type {value.dtype}, expected {right.dtype}"
    if value.shape != right.shape:
        return f"shape {value.shape}, expected {right.shape}"
    return _unequal(value, right)


def _unequal(value: Any, right: Any) -> str | None:
    name = str(right.dtype)
    if right.dtype.kind in "OUTbiu" or name in ("int4", "uint4", "int2", "uint2"):
        same = value == right
    else:
        complex_ = right.dtype.kind == "c"
        a, b = (v.astype(np.complex128 if complex_ else np.float64) for v in (value, right))
        rtol, atol = TOLERANCES.get(name, TOLERANCES["float32"] if complex_ else (0.0, 0.0))
        same = np.isclose(a, b, rtol, atol, equal_nan=True)
    if np.all(same):
        return None
    at = tuple(int(i) for i in np.argwhere(~np.atleast_1d(same))[0])
    a, b = (np.atleast_1d(v)[at] for v in (value, right))
    return f"{int(np.sum(~np.asarray(same)))} of {right.size} differ, first at {list(at)}: {a!s}, expected {b!s}"
