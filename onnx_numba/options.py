"""What a caller can choose when preparing a model."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from onnx_numba.errors import OptionError
from onnx_numba.record import record

_ACCURACIES = ("fast", "strict")


@record
class Options:
    """Options of a prepared model.

    Attributes
    ----------
    num_threads : int or None
        Threads that one run may use, the calling one included. None takes what affinity and cgroup quota allow.
    cpu : str
        ``host``, ``generic`` (runs on every processor of this architecture) or, on x86-64, one of its levels: ``x86-64-v2``, ``-v3``,
        ``-v4``.
    accuracy : str
        ``fast`` keeps float16 and bfloat16 values in float32 inside a fused kernel, multiplies the bytes that DequantizeLinear was given
        rather than what it makes of them, and rows as bytes where MatMulNBits has ``accuracy_level=4``; ``strict`` rounds after every
        operator.
    jit : bool
        False runs the generated source as plain Python, for reading, debugging and checking.
    cache : path, None or False
        Where machine code is kept: a directory, None for the user's cache directory, False for nowhere.
    dims : mapping of str to int, optional
        Extents that named dims of inputs will always have, as in ``{"batch": 1}``: known extents make faster kernels. Kept as a tuple of
        pairs.
    """

    num_threads: int | None = None
    cpu: str = "host"
    accuracy: Literal["fast", "strict"] = "fast"
    jit: bool = True
    cache: Path | str | Literal[False] | None = None
    dims: Mapping[str, int] | tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        threads = self.num_threads
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise OptionError(f"num_threads: expected None or an int of at least 1, got {threads!r}")
        if not isinstance(self.cpu, str) or not self.cpu:
            raise OptionError(f"cpu: expected 'host', 'generic' or a level such as 'x86-64-v3', got {self.cpu!r}")
        if self.accuracy not in _ACCURACIES:
            raise OptionError(f"accuracy: expected 'fast' or 'strict', got {self.accuracy!r}")
        if not isinstance(self.jit, bool):
            raise OptionError(f"jit: expected True or False, got {self.jit!r}")
        if not (self.cache is None or self.cache is False or isinstance(self.cache, str | os.PathLike)) or self.cache == "":
            raise OptionError(f"cache: expected a directory, None (the default one) or False (no cache), got {self.cache!r}")
        object.__setattr__(self, "dims", _pairs(self.dims))

    @classmethod
    def parse(cls, options: Options | Mapping[str, Any] | None = None, **more: Any) -> Options:
        """Options from an ``Options``, a mapping, keywords, or a mix of them; keywords win.

        Raises
        ------
        OptionError
            For an unknown name, with the nearest known ones, or a value that is not allowed.
        """
        known = [field.name for field in fields(cls)]
        if isinstance(options, Options):
            given = {name: getattr(options, name) for name in known}
        elif options is None or isinstance(options, Mapping):
            given = dict(options or {})
        else:
            raise OptionError(f"options: expected Options or a mapping, got {type(options).__name__}")
        given.update(more)
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known options are {', '.join(known)}"
                raise OptionError(f"unknown option {name!r}; {hint}")
        return cls(**given)

    def key(self) -> dict[str, str]:
        """The entries that change the generated code, by name; the others never make a cached model stale."""
        return {"cpu": self.cpu, "accuracy": self.accuracy, "dims": repr(self.dims)}


def _pairs(dims: Any) -> tuple[tuple[str, int], ...]:
    """Names of dims with their extents, in order."""
    items = [*dims.items()] if isinstance(dims, Mapping) else [*dims] if isinstance(dims, tuple) else [dims]
    for item in items:
        name, extent = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        if not isinstance(name, str) or not name or isinstance(extent, bool) or not isinstance(extent, int) or extent < 0:
            raise OptionError(f"dims: expected names of dims with extents of at least 0, as {{'batch': 1}}, got {dims!r}")
    return tuple(sorted(dict(items).items()))
