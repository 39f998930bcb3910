"""The pipeline from a model to its compiled form; each step is one call of one module.

    model → importer → passes → lowering → schedule → module → objects
"""

from __future__ import annotations

import ast
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnx_numba.artefact import Artefact, used_weights
from onnx_numba.codegen.cuda import PREAMBLE as CUDA_PREAMBLE
from onnx_numba.codegen.kernel import KernelSource
from onnx_numba.codegen.module import PREAMBLE, module_source
from onnx_numba.compile.compiler import compile_module, symbol_of
from onnx_numba.compile.store import Store
from onnx_numba.errors import CompileError, ModelError, OnnxNumbaError, UnsupportedError
from onnx_numba.importer import load
from onnx_numba.ir.given import Given
from onnx_numba.ir.loop import Program
from onnx_numba.lower import lower
from onnx_numba.options import Options
from onnx_numba.passes.dce import remove_dead_code
from onnx_numba.passes.defaults import freeze_defaults
from onnx_numba.passes.fold_batchnorm import fold_batchnorm
from onnx_numba.passes.gradient import expand_gradients
from onnx_numba.passes.specialise import specialise, with_dims
from onnx_numba.runtime.code import kernel_code
from onnx_numba.runtime.device import CPU, Device
from onnx_numba.runtime.session import Session
from onnx_numba.runtime.variants import Decisions
from onnx_numba.schedule.schedule import Scheduled, schedule
from onnx_numba.target import Target

Array = np.ndarray[Any, Any]
Progress = Callable[[int, int], None]

INTERPRETED = 4096
"""Steps up to which the constant part of a model is run by Python: compiling a kernel takes longer."""


@dataclass
class Build:
    """How to build, and what it took.

    Attributes
    ----------
    target, store, options, progress
        What to compile for, where to keep objects, and whom to tell.
    device : Device
        Where the model will run.
    given : Given, optional
        What is known of the inputs of a segment.
    decisions : tuple of bool, optional
        Which way branches go, see `onnx_numba.runtime.variants`.
    replaced : frozenset of str, optional
        Inputs with defaults that runs give, see `onnx_numba.runtime.defaults`.
    compiled : int
        Kernels that were not in the store.
    """

    target: Target
    store: Store | None
    options: Options
    progress: Progress | None = None
    device: Device = CPU
    given: Given | None = None
    decisions: Decisions = ()
    replaced: frozenset[str] = frozenset()
    compiled: int = 0

    def artefact(self, model: Any, edited: str | None = None) -> tuple[Artefact, dict[str, Any]]:
        """Build a model, with the kernels of an edited copy of its module if one is given; also answers statistics."""
        started = time.perf_counter()
        imported = load(model)
        graph = with_dims(imported.graph, dict(self.options.dims)) if self.given is None else specialise(imported.graph, self.given)
        names = tuple(value.name for value in graph.inputs)
        name = repr(os.fspath(model)) if isinstance(model, (str, os.PathLike)) else repr(imported.graph.name or "a model")
        try:
            graph = expand_gradients(freeze_defaults(graph, self.replaced), self.options)
            graph = fold_batchnorm(remove_dead_code(graph))
            program = lower(graph, self.options, segment=self.given is not None, decisions=self.decisions)
            scheduled = schedule(program, self.target, self.evaluate, device=self.device.kind)
        except RecursionError as error:
            raise UnsupportedError(f"model {name}: a chain of operators is too long for one kernel; split the model there") from error
        native = self.device.kind == "CPU"
        source = module_source(name, scheduled.kernels, scheduled.plan, PREAMBLE if native else CUDA_PREAMBLE)
        if edited is not None:
            _require_functions(_digests([kernel for kernel, _ in scheduled.kernels]), edited)
        planned = time.perf_counter()
        objects = self.objects(scheduled, source, edited) if self.options.jit and native else {}
        finished = time.perf_counter()
        weights = used_weights(scheduled.plan, program.weights)
        stats = {
            "cached": False, "kernels": len({k.digest for k, _ in scheduled.kernels}), "compiled": self.compiled,
            "import_s": planned - started, "compile_s": finished - planned, "files": imported.files,
        }  # fmt: skip
        return Artefact(scheduled.plan, weights, edited or source, tuple(program.served), objects, program.decisions, names), stats

    def objects(self, scheduled: Scheduled, source: str, edited: str | None = None) -> dict[str, tuple[str, bytes]]:
        """The kernels' objects, by the digests that the plan knows them by."""
        kernels = [kernel for kernel, _ in scheduled.kernels]
        digests = _digests(kernels) if edited is None else _edited_digests(kernels, edited)
        before = self.compiled

        def count(done: int, total: int) -> None:
            self.compiled = before + done
            if self.progress is not None:
                self.progress(done, total)

        try:
            made = compile_module(edited or source, digests, self.target, self.store, count)
        except Exception as error:
            if isinstance(error, OnnxNumbaError):
                raise
            lines = [line for line in str(error).splitlines() if line.strip()]
            what = "a kernel of the model" if edited is None else "the edited module"
            # numba's first line names its own pass, the next one the reason.
            raise CompileError(f"{what} does not compile: {' '.join(lines[:2])}") from error
        return {k.digest: (symbol_of(digests[k.name]), made[digests[k.name]]) for k in kernels if k.name in digests}

    def evaluate(self, program: Program, work: int) -> Sequence[Array]:
        """Run the constant part of a model."""
        options = replace(self.options, jit=work > INTERPRETED, num_threads=1)
        scheduled = schedule(program, self.target, self.evaluate, constant=True)
        source = module_source("constants", scheduled.kernels, scheduled.plan)
        objects = self.objects(scheduled, source) if options.jit else {}
        artefact = Artefact(scheduled.plan, tuple(program.weights), source, (), objects)
        library, kernels = kernel_code(artefact, options)
        return Session(scheduled.plan, artefact.weights, kernels, options, library=library).run([])


def _digests(kernels: Sequence[KernelSource]) -> dict[str, str]:
    """Digest by function name, one name for each."""
    names = {kernel.digest: kernel.name for kernel in reversed(kernels)}
    return {name: digest for digest, name in names.items()}


def _edited_digests(kernels: Sequence[KernelSource], edited: str) -> dict[str, str]:
    """Digest by function name of the functions of an edited module: of all its text, for any part of it may be used."""
    whole = hashlib.sha256(edited.encode()).hexdigest()
    return {name: hashlib.sha256(f"{name} {whole}".encode()).hexdigest() for name in _digests(kernels)}


def _require_functions(names: Iterable[str], edited: str) -> None:
    """Refuse an edited module that is no Python, or lacks a function that the plan calls."""
    try:
        found = {node.name for node in ast.parse(edited).body if isinstance(node, ast.FunctionDef)}
    except SyntaxError as error:
        raise ModelError(f"the edited module is not Python: {error}") from error
    missing = sorted(set(names) - found)
    if missing:
        raise ModelError(f"the edited module lacks the function {missing[0]!r} that the model's plan calls")
