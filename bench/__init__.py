"""``python -m bench``: onnx_numba beside onnxruntime."""
