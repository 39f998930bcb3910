"""OpenVINO's CPU plugin, in float32: by default it computes in bfloat16 where the processor can, which is another answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

MODULES = ("openvino",)


def applies(folder: Path) -> bool:
    return True


class _Runner:
    def __init__(self, compiled: Any) -> None:
        self._compiled, self._request = compiled, compiled.create_infer_request()

    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        infer = self._request.infer
        # Shared inputs are read where they lie; its outputs are copied, for the others' belong to the caller too.
        return lambda: infer(feed, share_inputs=True, share_outputs=False)

    def outputs(self, result: Any) -> list[Any]:
        return [result[port] for port in self._compiled.outputs]


def load(folder: Path, threads: int) -> _Runner:
    import openvino

    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    return _Runner(openvino.Core().compile_model(str(folder / "model.onnx"), "CPU", config))
