"""onnx_numba with one thread, beside itself with more: what the others are worth."""

from __future__ import annotations

from pathlib import Path

from bench.peers import Runner, onnx_numba

MODULES = onnx_numba.MODULES
applies = onnx_numba.applies


def load(folder: Path, threads: int) -> Runner:
    return onnx_numba.load(folder, 1)
