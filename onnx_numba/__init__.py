"""onnx-numba: an ONNX backend that compiles models with Numba.

>>> import numpy as np
>>> from onnx_numba import backend, samples
>>> rep = backend.prepare(samples.path())
>>> label, probabilities = rep.run(np.array([[5.1, 3.5, 1.4, 0.2]], np.float32))
>>> label
array([0])

Importing this package loads nothing heavy; names below are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_numba import backend as backend
    from onnx_numba import errors as errors
    from onnx_numba import samples as samples
    from onnx_numba.backend import BackendRep as BackendRep
    from onnx_numba.backend import get_device as get_device
    from onnx_numba.backend import load_source as load_source
    from onnx_numba.options import Options as Options

__version__ = "0.1.0"

_MODULES = ("backend", "errors", "samples")
_HOME = {
    "BackendRep": "backend",
    "Options": "options",
    "get_device": "backend",
    "load_source": "backend",
}

__all__ = [*_MODULES, *_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"onnx_numba.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'onnx_numba' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"onnx_numba.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
