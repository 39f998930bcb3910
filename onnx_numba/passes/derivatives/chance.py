"""Dropout, by the mask that it drew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_numba.ir.graph import Node
from onnx_numba.ir.types import BOOL
from onnx_numba.passes.derivatives.table import Call, composed
from onnx_numba.passes.derivatives.terms import Array, Term

RANDOM = frozenset({
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip
"""Operators that give something else when they are computed again; so does Dropout where it trains."""


def may_train(node: Node, constant: Callable[[str], Array | None]) -> bool:
    """Whether a node is a Dropout that may drop something, by what is known of its inputs."""
    if (node.domain, node.op) != ("", "Dropout") or 7 <= node.since_version < 12:
        return False
    if node.since_version < 7:
        return not node.attributes.get("is_test", 0)
    training = node.inputs[2] if len(node.inputs) > 2 else ""
    known = constant(training) if training else None
    return bool(training) and (known is None or bool(known.reshape(-1)[0]))


def dropped(c: Call, mask: Term) -> Term:
    """What a mask leaves of the input of a Dropout, scaled; all of it where the run says that the node does not train."""
    x, ratio, training = c.xs[0], c.x(1), c.x(2)
    if c.node.since_version < 12:
        share = x.number(c.attribute("ratio"))
    else:
        share = x.number(0.5) if ratio is None else ratio.cast_like(x)
    scaled = x / (1 - share)
    return (scaled if training is None else c.w("Where", training.reshaped([]), scaled, x)).at(mask)


@composed("Dropout")
def _dropout(c: Call) -> Sequence[Term | None]:
    """Where it may train, `onnx_numba.passes.draws` has seen to it that it gives its mask, which does not change."""
    if not may_train(c.node, c.w.known.constant):
        return [c.w("Identity", c.xs[0]), *c.ys[1:]]
    mask: Term = c.ys[1]
    return [dropped(c, mask if c.node.since_version > 6 else c.w("Cast", mask, to=BOOL.onnx)), mask]
