"""From a model to something that runs: the pipeline, end to end.

    source → importer → lowering → schedule → module → objects → session

A model that the store knows skips all but the last step, and imports neither onnx nor numba.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_numba.compile.compiler import compile_module, symbol_of
from onnx_numba.compile.keys import model_entries
from onnx_numba.compile.store import Store, key
from onnx_numba.errors import ModelError
from onnx_numba.ir.plan import Plan, Port
from onnx_numba.options import Options
from onnx_numba.runtime.device import parse, require
from onnx_numba.runtime.session import Session
from onnx_numba.target import Target

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_numba.codegen.kernel import KernelSource

Model = "ModelProto | bytes | str | os.PathLike[str]"
Progress = Callable[[int, int], None]
Array = np.ndarray[Any, Any]
Served = tuple[tuple[str, str, str, int, str], ...]


@dataclass(frozen=True)
class Artefact:
    """A compiled model: all that a session needs, and what describes it."""

    plan: Plan
    weights: tuple[Array, ...]
    source: str
    served: Served
    objects: Mapping[str, bytes]


class PreparedModel:
    """A model ready to run.

    Attributes
    ----------
    source : str
        The generated module.
    served : tuple
        Per node its name, operator, domain, schema version and how it is served.
    stats : dict
        ``kernels`` of the model, ``compiled`` among them, ``import_s``, ``compile_s`` in seconds, ``cached`` (the whole model was).
    """

    def __init__(self, artefact: Artefact, options: Options, stats: dict[str, Any]) -> None:
        self.options = options
        self.source = artefact.source
        self.served = artefact.served
        self.stats = stats
        self.library, kernels = _kernels(artefact, options)
        self.session = Session(artefact.plan, artefact.weights, kernels, options)
        self.run = self.session.run

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The model's inputs."""
        return self.session.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The model's outputs."""
        return self.session.outputs


def prepare_model(model: Any, device: str = "CPU", options: Options | None = None, progress: Progress | None = None) -> PreparedModel:
    """Compile a model, or load it compiled.

    Parameters
    ----------
    model : onnx.ModelProto, bytes, str or os.PathLike
    device : str
        ``CPU``, ``CUDA`` or one of them with an index.
    options : Options, optional
    progress : callable, optional
        Called as ``progress(done, total)`` while kernels are compiled.
    """
    options = options or Options()
    require(parse(device))
    target = Target.named(options.cpu)
    store = None if options.cache is False else Store(options.cache)
    identity = model_identity(model)
    entries = None
    if store is not None and identity is not None and options.jit:
        entries = model_entries(target, identity, repr(sorted(options.key().items())))
        found = store.get("model", key(entries))
        if found is not None:
            artefact = _decode(found)
            stats = {"cached": True, "kernels": len(artefact.plan.kernels), "compiled": 0}
            return PreparedModel(artefact, options, stats)
    artefact, stats, external = build(model, target, store, options, progress)
    if store is not None and entries is not None and not external:
        store.put("model", key(entries), _encode(artefact), entries)
    return PreparedModel(artefact, options, stats)


def model_identity(model: Any) -> str | None:
    """A digest of the model's content; None when it cannot be had (the importer will say why)."""
    try:
        if isinstance(model, (str, os.PathLike)):
            data = Path(model).read_bytes()
        elif isinstance(model, (bytes, bytearray, memoryview)):
            data = bytes(model)
        else:
            data = model.SerializeToString(deterministic=True)
    except (OSError, AttributeError, ValueError):
        return None
    return hashlib.sha256(data).hexdigest()


def build(
    model: Any, target: Target, store: Store | None, options: Options, progress: Progress | None = None, edited: str | None = None
) -> tuple[Artefact, dict[str, Any], bool]:
    """Import, lower, schedule and compile; ``edited`` is a changed module to take the kernels from."""
    from onnx_numba.codegen.module import module_source
    from onnx_numba.importer import load
    from onnx_numba.lower import lower
    from onnx_numba.passes.dce import remove_dead_code
    from onnx_numba.passes.defaults import freeze_defaults
    from onnx_numba.schedule.schedule import schedule

    started = time.perf_counter()
    imported = load(model)
    program = lower(remove_dead_code(freeze_defaults(imported.graph)), options)
    scheduled = schedule(program, target)
    name = repr(str(model)) if isinstance(model, (str, os.PathLike)) else repr(imported.graph.name or "a model")
    source = module_source(name, scheduled.kernels, scheduled.plan)
    planned = time.perf_counter()
    compiled = [0]

    def count(done: int, total: int) -> None:
        compiled[0] = done
        if progress is not None:
            progress(done, total)

    objects: Mapping[str, bytes] = {}
    if options.jit:
        digests = _digests([kernel for kernel, _ in scheduled.kernels], source, edited)
        by_digest = compile_module(edited or source, digests, target, store, count)
        objects = {kernel.digest: by_digest[digests[kernel.name]] for kernel, _ in scheduled.kernels if kernel.name in digests}
    finished = time.perf_counter()
    stats = {
        "cached": False, "kernels": len(objects), "compiled": compiled[0], "import_s": planned - started, "compile_s": finished - planned,
    }  # fmt: skip
    artefact = Artefact(scheduled.plan, tuple(program.weights), edited or source, tuple(program.served), objects)
    return artefact, stats, _has_external(program.weights)


def load_source(path: str | os.PathLike[str], model: Any, device: str = "CPU", options: Options | None = None) -> PreparedModel:
    """Prepare a model with the kernels of an edited copy of its generated module."""
    options = options or Options()
    require(parse(device))
    target = Target.named(options.cpu)
    store = None if options.cache is False else Store(options.cache)
    artefact, stats, _ = build(model, target, store, options, edited=Path(path).read_text())
    return PreparedModel(artefact, options, stats)


def _digests(kernels: Sequence[KernelSource], source: str, edited: str | None) -> dict[str, str]:
    """Digest by function name; of an edited module, the digest of the text that its function has there."""
    if edited is None:
        first: dict[str, str] = {}
        for kernel in kernels:
            first.setdefault(kernel.digest, kernel.name)
        return {name: digest for digest, name in first.items()}
    import ast

    found = {}
    for node in ast.parse(edited).body:
        if isinstance(node, ast.FunctionDef):
            text = ast.get_source_segment(edited, node) or ""
            found[node.name] = hashlib.sha256(text.encode()).hexdigest()
    missing = sorted({k.name for k in kernels} - set(found))
    if missing:
        raise ModelError(f"the edited module lacks the function {missing[0]!r} that the model's plan calls")
    return {k.name: found[k.name] for k in kernels}


def _kernels(artefact: Artefact, options: Options) -> tuple[Any, dict[str, Any]]:
    """The code of each kernel by digest: its address, or its Python function."""
    if not options.jit:
        scope: dict[str, Any] = {"__name__": "onnx_numba.generated"}
        exec(compile(artefact.source, "<generated>", "exec", dont_inherit=True), scope)
        return None, {kernel.digest: scope[kernel.name] for kernel in _all_kernels(artefact.plan)}
    from onnx_numba.compile.objects import Library

    library = Library({_symbol(data, digest): data for digest, data in artefact.objects.items()})
    return library, {digest: library.address(_symbol(data, digest)) for digest, data in artefact.objects.items()}


def _symbol(data: bytes, digest: str) -> str:
    from onnx_numba.compile.objects import read_symbols

    symbols = read_symbols(data)
    wanted = symbol_of(digest)
    return wanted if wanted in symbols.defined else next(iter(sorted(symbols.defined)))


def _all_kernels(value: Any) -> list[Any]:
    if isinstance(value, Plan):
        return [*value.kernels, *(k for host in value.hosts for k in _all_kernels(host.params))]
    if isinstance(value, dict):
        return [k for item in value.values() for k in _all_kernels(item)]
    if isinstance(value, (list, tuple)):
        return [k for item in value for k in _all_kernels(item)]
    return []


def _has_external(weights: Sequence[Array]) -> bool:
    """Whether a weight lies in a file of its own: then the model's bytes do not identify it."""

    def mapped(array: Any) -> bool:
        while array is not None:
            if isinstance(array, np.memmap):
                return True
            array = getattr(array, "base", None)
        return False

    return any(mapped(w) for w in weights)


def _encode(artefact: Artefact) -> dict[str, bytes]:
    # The store holds machine code and is private to its user, so a pickle in it adds no way in.
    head = pickle.dumps((artefact.plan, artefact.source, artefact.served, list(artefact.objects)), protocol=5)
    buffers: list[pickle.PickleBuffer] = []
    weights = pickle.dumps(artefact.weights, protocol=5, buffer_callback=buffers.append)
    raw = [b.raw() for b in buffers]
    sizes = np.array([r.nbytes for r in raw], np.int64)
    blob = bytearray()
    for r in raw:
        blob += b"\0" * (-len(blob) % 64)
        blob += r
    return {
        "head": head, "weights": weights, "sizes": sizes.tobytes(), "blob": bytes(blob),
        "lengths": np.array([len(o) for o in artefact.objects.values()], np.int64).tobytes(), "objects": b"".join(artefact.objects.values()),
    }  # fmt: skip


def _decode(files: Mapping[str, Any]) -> Artefact:
    plan, source, served, digests = pickle.loads(files["head"])
    view = memoryview(files["blob"]).toreadonly()
    buffers, at = [], 0
    for size in np.frombuffer(files["sizes"], np.int64).tolist():
        at += -at % 64
        buffers.append(view[at : at + size])
        at += size
    weights = pickle.loads(files["weights"], buffers=buffers)
    objects, start, code = {}, 0, files["objects"]
    for digest, length in zip(digests, np.frombuffer(files["lengths"], np.int64).tolist(), strict=True):
        objects[digest] = bytes(code[start : start + length])
        start += length
    return Artefact(plan, weights, source, served, objects)
