"""The operators, one module a family; see `onnx_numba.ops.registry` for what such a module looks like."""

FAMILIES: tuple[str, ...] = (
    "elementwise",
    "activation",
    "cast",
    "reduce",
    "norm",
    "shape",
    "index",
    "matmul",
    "conv",
    "pool",
    "resize",
    "control",
    "sequence",
    "text",
    "ml_linear",
    "ml_trees",
    "ml_encoders",
    "quant",
    "rnn",
    "sort",
    "random",
    "signal",
)
"""Modules of this package that hold operators."""
