"""What the bench ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")


def described() -> dict[str, Any]:
    """Processor, cores that this process may use, system."""
    return {"processor": _processor(), "cores": cores(), "system": platform.platform(), "python": platform.python_version()}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Of what our own speed depends on."""
    return {name: version(name) for name in ("onnx-numba", "numba", "llvmlite", "numpy", "onnx")}


def _processor() -> str:
    """The processor's name; many with one name in virtual machines are told apart by family and model."""
    if not _CPUINFO.exists():
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in _CPUINFO.read_text().split("\n\n")[0].splitlines() if ":" in line)
    found = {name.strip(): value.strip() for name, value in fields.items()}
    name = found.get("model name", platform.machine())
    return f"{name} (family {found['cpu family']}, model {found['model']})" if "cpu family" in found and "model" in found else name
