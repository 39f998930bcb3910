"""Regular expressions in RE2's syntax, as the standard and onnxruntime take them: by RE2 itself, the package google-re2.

Python's own expressions have another syntax (``\\pL`` and ``\\C`` are unknown to it, look-around and back-references to RE2), and may take
exponential time.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from onnx_numba.errors import UnsupportedError


def compiled(expression: str, longest: bool = False) -> Any:
    """An expression ready to be matched with the methods of Python's patterns; ``longest`` prefers longer matches to earlier alternatives.

    Raises
    ------
    UnsupportedError
        google-re2 is not installed.
    ValueError
        It is no regular expression of RE2.
    """
    if find_spec("re2") is None:
        raise UnsupportedError("regular expressions are those of RE2, which is not installed; pip install 'onnx-numba[text]'")
    import re2

    options = re2.Options()
    options.log_errors = False
    options.longest_match = longest
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"{expression!r} is no regular expression of RE2: {reason}") from error
