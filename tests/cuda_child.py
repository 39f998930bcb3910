"""Runs `cuda_models` where numba.cuda has been set up in another way than the test process: ``simulate OUT`` or ``ptx OUT``."""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cuda_models
import numpy as np

import onnx_numba.backend as backend
from onnx_numba.errors import ExecutionError

CAPABILITIES = ((7, 5), (9, 0))


def simulate(name: str) -> Any:
    model, inputs = cuda_models.MODELS[name]()
    rep = backend.prepare(model, "CUDA", cache=False)
    rep.run(inputs)
    return tuple(rep.run(inputs))  # the second run finds the first one's memory


def failure() -> Any:
    """What an index out of range gives."""
    model, inputs = cuda_models.MODELS["gather"]()
    rep = backend.prepare(model, "CUDA", cache=False)
    try:
        rep.run([inputs[0], np.array([[0, 1], [-6, 5]])])
    except ExecutionError as error:
        return error.code, error.index, str(error), rep.run(inputs)[0].shape
    return None


def ptx(name: str) -> dict[str, list[str]]:
    """PTX of every kernel of a model, by its name."""
    from onnx_numba.artefact import plans
    from onnx_numba.compile.cuda import compile_ptx, load
    from onnx_numba.options import Options
    from onnx_numba.pipeline import Build
    from onnx_numba.runtime.device import Device
    from onnx_numba.target import Target

    model, _ = cuda_models.MODELS[name]()
    artefact, _ = Build(Target.named("host"), None, Options(cache=False), device=Device("CUDA")).artefact(model)
    scope, made = load(artefact.source), {}
    for plan in plans(artefact.plan):
        for instruction in plan.code:
            if instruction[0] == "call":
                kernel = plan.kernels[instruction[1]].name
                buffers = [plan.buffer_types[b] for b in instruction[6]]
                made[kernel] = [compile_ptx(scope[kernel], buffers, capability) for capability in CAPABILITIES]
    return made


def attempt(action: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return action(*arguments)
    except Exception:
        return traceback.format_exc()


def main(what: str, out: str) -> None:
    action = {"simulate": simulate, "ptx": ptx}[what]
    results = {name: attempt(action, name) for name in cuda_models.MODELS}
    if what == "simulate":
        results["failure"] = attempt(failure)
    Path(out).write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
