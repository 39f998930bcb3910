"""PyTorch, compiled by Inductor for the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import peers

MODULES = ("torch",)


def applies(folder: Path) -> bool:
    return peers.has_source(folder, "torch")


class _Runner:
    def __init__(self, function: Any) -> None:
        self._function = function

    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        import torch

        tensors = [torch.from_numpy(array) for array in feed.values()]

        def call() -> Any:
            with torch.inference_mode():
                return self._function(*tensors)

        return call

    def outputs(self, result: Any) -> list[Any]:
        results = result if isinstance(result, tuple) else (result,)
        return [value.numpy() for value in results]


def load(folder: Path, threads: int) -> _Runner:
    import torch

    torch.set_num_threads(threads)
    return _Runner(torch.compile(peers.source(folder, "torch").what()))
