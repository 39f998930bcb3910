"""onnx_numba, by ``rep.run`` as its users call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

MODULES = ("onnx_numba.backend",)


def applies(folder: Path) -> bool:
    return True


class _Runner:
    def __init__(self, rep: Any) -> None:
        self._rep = rep

    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        run, inputs = self._rep.run, next(iter(feed.values())) if len(feed) == 1 else feed
        return lambda: run(inputs)

    def outputs(self, result: Any) -> list[Any]:
        return list(result)


def load(folder: Path, threads: int) -> _Runner:
    from onnx_numba import backend

    return _Runner(backend.prepare(folder / "model.onnx", num_threads=threads))
