"""The table of derivatives: operator → rule, or → the same operator in terms of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from types import ModuleType
from typing import Any

from onnx_numba import schemas
from onnx_numba.errors import UnsupportedError
from onnx_numba.ir.graph import Node
from onnx_numba.ops.gradient import DOMAIN
from onnx_numba.passes.derivatives.terms import Term, Writer
from onnx_numba.record import record


@record
class Call:
    """A node to differentiate.

    Attributes
    ----------
    w : Writer
        Takes the nodes that compute the derivative.
    node : Node
        The node.
    xs, ys, gs : sequence of Term or None
        Its inputs, its outputs, and the adjoints of its outputs; None where absent. At least one adjoint is there.
    active : set of str
        The values that the derivative is by.
    """

    w: Writer
    node: Node
    xs: Sequence[Any]
    ys: Sequence[Any]
    gs: Sequence[Any]
    active: set[str] = field(default_factory=set)

    def x(self, position: int) -> Term | None:
        """An input; None if it is absent."""
        return self.xs[position] if position < len(self.xs) else None

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute as the node or else its schema states it."""
        if name in self.node.attributes:
            return self.node.attributes[name]
        schema = schemas.find(self.node.op, self.node.domain, self.node.opset)
        stated = schema.attributes[name].default if schema and name in schema.attributes else None
        return default if stated is None else stated

    def again(self, *inputs: Term | None, **attributes: Any) -> list[Term]:
        """All outputs of the same operator, in the same version, for other inputs; some attributes changed, or left out: None."""
        names = tuple("" if term is None else term.name for term in inputs)
        outputs = tuple(self.w.fresh() for _ in self.node.outputs)
        changed = {key: value for key, value in {**self.node.attributes, **attributes}.items() if value is not None}
        self.w.emit(replace(self.node, inputs=names, outputs=outputs, attributes=changed, name=f"{self.node.name}/again"))
        return [Term(self.w, name) for name in outputs]

    def unsupported(self, why: str) -> UnsupportedError:
        """An error that says what about the node has no derivative here."""
        return UnsupportedError(f"{self.w.label}: no derivative is known of {self.node}: {why}")


Rule = Callable[[Call], Sequence[Term | None]]
"""Answers the adjoint of every input; the sequence may be shorter than the inputs, and None stands for no derivative, which is an error
where one is asked for."""

Composed = Callable[[Call], Sequence[Term | None]]
"""Answers the node's outputs, made of operators that have derivatives; None for outputs without one."""

Found = tuple[int, Rule]
"""A rule or a composition with the first schema version that it is right for."""

CONSTANT = frozenset({
    "And", "ArgMax", "ArgMin", "Bernoulli", "Binarizer", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    "CategoryMapper", "Ceil", "Constant", "ConstantOfShape", "Equal", "EyeLike", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf",
    "IsNaN", "LabelEncoder", "Less", "LessOrEqual", "MelWeightMatrix", "Multinomial", "NonMaxSuppression", "NonZero", "Not",
    "OneHotEncoder", "Or", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "Round", "Shape", "Sign", "Size", "TfIdfVectorizer", "TreeEnsemble", "TreeEnsembleClassifier",
    "TreeEnsembleRegressor", "Xor",
})  # fmt: skip
"""Operators whose results do not change where their inputs change a little, or have no derivative at all."""

EXAMPLES: Mapping[str, int] = {"AffineGrid": 1, "CastLike": 1, "FilledInside": 0, "Forget": 0, "ResizeMatrix": 0, "Split": 1, "SumTo": 1}
"""Operators with an input that has no derivative since only its type or shape counts, or it states a shape, and its position."""


DOMAINS = ("", DOMAIN, "ai.onnx.ml", "ai.onnx.preview.training")
"""Those that the tables are of; no two of them have an operator of the same name."""

_MARK = "__derivative_of__"


def rule(*ops: str, since: int = 1) -> Callable[[Rule], Rule]:
    """Say that a function is the rule of operators from a schema version on."""
    return _mark("rule", ops, since)


def composed(*ops: str, since: int = 1) -> Callable[[Composed], Composed]:
    """Say that a function writes operators, from a schema version on, in terms of others."""
    return _mark("composed", ops, since)


def _mark(kind: str, ops: tuple[str, ...], since: int) -> Callable[[Rule], Rule]:
    def mark(function: Rule) -> Rule:
        setattr(function, _MARK, (kind, ops, since))
        return function

    return mark


def collected(kind: str, modules: Sequence[ModuleType]) -> dict[str, Found]:
    """The functions of modules that are marked as of a kind, by operator."""
    functions = [value for module in modules for value in vars(module).values()]
    marks = {function: getattr(function, _MARK) for function in functions if hasattr(function, _MARK)}
    return {op: (since, function) for function, (of, ops, since) in marks.items() if of == kind for op in ops}
