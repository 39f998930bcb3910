"""What tests of errors share: small inputs, models from their text, and what holds of every error of ours."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from onnx_numba import backend, errors

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
X = np.arange(6, dtype=np.float32).reshape(2, 3)
MODES = pytest.mark.parametrize("jit", [True, False], ids=["compiled", "python"])


def prepared(text: str, jit: bool = True) -> backend.BackendRep:
    return backend.prepare(parser.parse_model(HEAD + text), jit=jit)


def holds(raised: pytest.ExceptionInfo[BaseException], *words: str) -> None:
    """The error is ours, one line, and has these words."""
    error = raised.value
    assert isinstance(error, errors.OnnxNumbaError), repr(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 600
    missing = [word for word in words if word not in str(error)]
    assert not missing, f"{missing} not in: {error}"
