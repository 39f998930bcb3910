"""The operators, one module a family; see `onnx_numba.ops.registry` for what such a module looks like."""
