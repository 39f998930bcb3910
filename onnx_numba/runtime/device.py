"""Devices: their names, and whether they can be used here."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from functools import cache

from onnx_numba.errors import DeviceError
from onnx_numba.record import record

_LIBRARIES = {"win32": "nvcuda.dll", "darwin": None}


@record
class Device:
    """A device: its kind, ``CPU`` or ``CUDA``, and its index among those of the kind."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        return f"{self.kind}:{self.index}"


CPU = Device("CPU")


def parse(text: str) -> Device:
    """Read ``CPU``, ``CPU:0``, ``CUDA``, ``CUDA:1`` …; what is written otherwise is a `DeviceError`."""
    match = re.fullmatch(r"(CPU|CUDA)(?::(\d+))?", text) if isinstance(text, str) else None
    if match is None:
        raise DeviceError(f"device: expected 'CPU' or 'CUDA', with an optional index as in 'CUDA:0', got {text!r}")
    device = Device(match[1], int(match[2] or 0))
    if device.kind == "CPU" and device.index:
        raise DeviceError(f"device: there is only one CPU, 'CPU:0', got {text!r}")
    return device


def require(device: Device) -> None:
    """Raise a `DeviceError` that says why, unless the device can be used here."""
    reason = _missing(device)
    if reason is not None:
        raise DeviceError(f"{device} cannot run here: {reason}")


def is_available(device: Device) -> bool:
    """Whether the device can be used here."""
    return _missing(device) is None


def is_simulated() -> bool:
    """Whether numba runs CUDA kernels in its simulator."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


def _missing(device: Device) -> str | None:
    if device.kind == "CPU":
        return None
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed; `pip install onnx-numba[cuda]` brings it"
    if is_simulated():
        return None if device.index == 0 else "the simulator has one device, CUDA:0"
    count = _cuda_devices()
    if isinstance(count, str):
        return count
    return None if device.index < count else f"there are {count} CUDA devices"


@cache
def _cuda_devices() -> int | str:
    """The number of CUDA devices by the driver, or why there are none; asked once, as the answer stays for a process."""
    library = _LIBRARIES.get(sys.platform, "libcuda.so.1")
    try:
        driver = ctypes.CDLL(library) if library else None
    except OSError:
        driver = None
    if driver is None:
        return "there is no NVIDIA driver; CPU works, and NUMBA_ENABLE_CUDASIM=1 simulates a device"
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return f"the NVIDIA driver finds no device (status {status})"
    return count.value
