"""What compiled code depends on, as named entries of store keys. Imports none of the packages whose versions it names."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from importlib import metadata
from pathlib import Path

from onnx_numba.ir.plan import ABI
from onnx_numba.target import Target

_FLAGS = "error_model=numpy nrt=0 fastmath=0 opt=3"
_ENVIRONMENT = (
    "NUMBA_OPT", "NUMBA_DEBUGINFO", "NUMBA_BOUNDSCHECK", "NUMBA_ENABLE_SSA", "NUMBA_USE_LEGACY_TYPE_SYSTEM", "NUMBA_CPU_NAME",
    "NUMBA_CPU_FEATURES",
)  # fmt: skip

_ROOT = Path(__file__).resolve().parent.parent
_COMPILER = ("native", "compile", "target.py", "ir/abi.py", "ir/plan.py")
"""The parts of this package that decide what object a given kernel source becomes."""


@functools.cache
def version(package: str) -> str:
    """The installed version of a package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


@functools.cache
def source_digest(parts: tuple[str, ...] = ("",)) -> str:
    """The digest of this package's Python files, or of those below some of its parts."""
    digest = hashlib.sha256()
    for part in parts:
        path = _ROOT / part
        for file in [path] if path.suffix == ".py" else sorted(path.rglob("*.py")):
            digest.update(file.relative_to(_ROOT).as_posix().encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()


def base_entries(target: Target) -> dict[str, str]:
    """What every object depends on, except its source and that of this package."""
    return {
        "abi": str(ABI),
        "package": version("onnx-numba"),
        "python": f"{sys.implementation.cache_tag} {sys.version_info.major}.{sys.version_info.minor}",
        "numba": version("numba"),
        "llvmlite": version("llvmlite"),
        "flags": _FLAGS,
        "environment": " ".join(f"{name}={os.environ[name]}" for name in _ENVIRONMENT if name in os.environ),
        **target.describe(),
    }


def kernel_entries(target: Target, digest: str, signature: str) -> dict[str, str]:
    """The key of one kernel's object; ``digest`` stands for its source."""
    return {**base_entries(target), "source": source_digest(_COMPILER), "kernel": digest, "signature": signature}


def model_entries(target: Target, model: str, options: str) -> dict[str, str]:
    """The key of a whole compiled model; ``model`` is a digest of its content and of its external data."""
    versions = {"onnx": version("onnx"), "numpy": version("numpy")}
    return {**base_entries(target), **versions, "source": source_digest(), "model": model, "options": options}
