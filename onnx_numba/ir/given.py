"""What is known of a model's inputs beyond what the model says; free of onnx, as a warm process asks the store with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import Any

import numpy as np

from onnx_numba.ir.types import ValueType
from onnx_numba.record import record


@record(eq=False)
class Given:
    """Narrower types of some inputs, and values of others.

    Attributes
    ----------
    types : mapping
        Type by input name.
    constants : mapping
        Value by input name; the compiled model has no such input.
    """

    types: Mapping[str, ValueType] = field(default_factory=dict)
    constants: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def digest(self) -> str:
        """What tells this from anything else that may be given for the same model."""
        digest = hashlib.sha256(repr(sorted((name, str(kind)) for name, kind in self.types.items())).encode())
        for name, array in sorted(self.constants.items()):
            digest.update(f"{name} {array.dtype.str} {array.dtype.name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()
