"""onnxruntime's CPU provider, with its default graph optimisations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

MODULES = ("onnxruntime",)


def applies(folder: Path) -> bool:
    return True


class _Runner:
    def __init__(self, session: Any) -> None:
        self._session = session

    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        run = self._session.run
        return lambda: run(None, feed)

    def outputs(self, result: Any) -> list[Any]:
        return list(result)


def load(folder: Path, threads: int) -> _Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return _Runner(onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]))
