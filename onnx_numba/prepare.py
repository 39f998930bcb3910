"""From a model to something that runs. A model that the store knows is loaded without importing onnx or numba."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_numba.artefact import Artefact, decode, encode
from onnx_numba.compile.keys import model_entries
from onnx_numba.compile.store import Store, key
from onnx_numba.errors import ModelError, OptionError
from onnx_numba.ir.given import Given
from onnx_numba.ir.plan import Port
from onnx_numba.named import namedtupledict
from onnx_numba.options import Options
from onnx_numba.runtime.code import kernel_code
from onnx_numba.runtime.defaults import Defaults
from onnx_numba.runtime.device import CPU, Device, is_simulated, parse, require
from onnx_numba.runtime.segments import Segments
from onnx_numba.runtime.session import Session
from onnx_numba.runtime.variants import Decisions, Variants
from onnx_numba.target import Target

if TYPE_CHECKING:
    from onnx_numba.pipeline import Progress


class PreparedModel:
    """A model ready to run.

    Attributes
    ----------
    options : Options
        How it was prepared.
    source : str
        The generated module.
    served : tuple
        Per node its name, operator, domain, schema version and how it is served.
    stats : dict
        ``cached`` (the store had the whole model), ``kernels``, ``compiled`` among them; of a model that was built also
        ``import_s`` and ``compile_s``, seconds.
    session : Session
        What runs it.
    decisions : tuple of bool
        Which way branches go that it was made for.
    variants : Variants or None
        What runs it where there are such branches: this plan or another.

    Parameters
    ----------
    other : callable, optional
        Prepares the model for other decisions.
    opened : callable, optional
        Prepares it so that inputs with defaults may be given.
    """

    def __init__(
        self,
        artefact: Artefact,
        options: Options,
        stats: dict[str, Any],
        device: Device = CPU,
        other: Callable[[Decisions], PreparedModel] | None = None,
        opened: Callable[[], PreparedModel] | None = None,
    ) -> None:
        self.options = options
        self.source = artefact.source
        self.served = artefact.served
        self.stats = stats
        library, kernels = kernel_code(artefact, options, device)
        names = [port.name for port in artefact.plan.outputs]
        result = namedtupledict("Outputs", names)
        segments = Segments(lambda model, given: _Order(model, options, device, given))
        self.session = Session(
            artefact.plan, artefact.weights, kernels, options, device=device, result=result, library=library, segments=segments
        )
        self.decisions = artefact.decisions
        self.variants = Variants(self, other) if other is not None and artefact.decisions else None
        self.run: Callable[..., Any] = self.session.call if self.variants is None else self.variants
        if self.variants is not None:
            self.session.attach(self.variants.sessions)
        if opened is not None and artefact.defaults:
            self.run = Defaults(self, artefact.defaults, opened)
            self.session.attach(self.run.sessions)

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
    order = _Order(model, options, _usable(device, options))
    return order.stored() or order.built(progress)


class _Order:
    """A model to be prepared in one way, and its place in the store."""

    def __init__(
        self, model: Any, options: Options, device: Device, given: Given | None = None, decisions: Decisions = (), opened: bool = False
    ) -> None:
        self.model, self.options, self.device, self.given, self.decisions, self.opened = model, options, device, given, decisions, opened
        self.target = Target.named(options.cpu)
        self.store = None if options.cache is False else Store(options.cache)
        self.content = _content_digest(model) if self.store is not None else None

    def stored(self) -> PreparedModel | None:
        """The model as the store has it."""
        if self.store is None or self.content is None:
            return None
        listed = self.store.get("files", key({"model": self.content}))
        entries = self._entries(json.loads(bytes(listed["names"])) if listed is not None else ())
        found = self.store.get("model", key(entries)) if entries is not None else None
        if found is None:
            return None
        artefact = decode(found)
        stats = {"cached": True, "kernels": len(artefact.objects), "compiled": 0}
        return self._ready(artefact, stats)

    def built(self, progress: Progress | None = None) -> PreparedModel:
        """The model built from its source, and stored."""
        from onnx_numba.pipeline import Build

        build = Build(self.target, self.store, self.options, progress, self.device, self.given, self.decisions, self.opened)
        artefact, stats = build.artefact(self.model)
        entries = self._entries(stats["files"]) if self.content is not None else None
        if self.store is not None and entries is not None and self.options.jit:
            if stats["files"]:
                named = {"model": str(self.content)}
                self.store.put("files", key(named), {"names": json.dumps(stats["files"]).encode()}, named)
            self.store.put("model", key(entries), encode(artefact), entries)
        return self._ready(artefact, stats)

    def _ready(self, artefact: Artefact, stats: dict[str, Any]) -> PreparedModel:
        return PreparedModel(artefact, self.options, stats, self.device, self.decided, self.with_inputs)

    def decided(self, decisions: Decisions) -> PreparedModel:
        """The same model for other decisions."""
        return self._again(_Order(self.model, self.options, self.device, self.given, decisions, self.opened), "takes a branch")

    def with_inputs(self) -> PreparedModel:
        """The same model with inputs for what it has defaults for."""
        return self._again(_Order(self.model, self.options, self.device, self.given, opened=True), "is given an input")

    def _again(self, order: _Order, why: str) -> PreparedModel:
        if order.content != self.content:
            raise ModelError(f"the model has changed since it was prepared, and a run {why} that it was not prepared for")
        return order.stored() or order.built()

    def _entries(self, files: Sequence[str]) -> dict[str, str] | None:
        """What the compiled model depends on, the content of its data files included; None when one cannot be read."""
        digest = hashlib.sha256(str(self.content).encode())
        try:
            for name in files:
                with (Path(self.model).parent / name).open("rb") as data:
                    digest.update(hashlib.file_digest(data, "sha256").digest())
        except (OSError, TypeError):
            return None
        options, device, given = self.options, self.device, self.given
        choices = {**options.key(), "device": device.kind, **({} if given is None else {"given": given.digest()})}
        choices |= {"decisions": repr(self.decisions)} if self.decisions != () else {}
        choices |= {"opened": "True"} if self.opened else {}
        return model_entries(self.target, digest.hexdigest(), repr(sorted(choices.items())))


def load_source(path: str | os.PathLike[str], model: Any, device: str = "CPU", options: Options | None = None) -> PreparedModel:
    """Prepare a model with the kernels of an edited copy of its generated module."""
    from onnx_numba.pipeline import Build

    options = options or Options()
    where = _usable(device, options)
    build = Build(Target.named(options.cpu), _store(options), options, device=where)
    artefact, stats = build.artefact(model, Path(path).read_text())
    return PreparedModel(artefact, options, stats, where, _Order(model, options, where).decided)


def _usable(name: str, options: Options) -> Device:
    """The device of a name, if it can run a model prepared like this."""
    device = parse(name)
    require(device)
    if device.kind == "CUDA" and not options.jit and not is_simulated():
        raise OptionError("jit: False runs kernels as Python, which for CUDA only the simulator does; set NUMBA_ENABLE_CUDASIM=1")
    return device


def _store(options: Options) -> Store | None:
    return None if options.cache is False else Store(options.cache)


def _content_digest(model: Any) -> str | None:
    """A digest of the model itself, data files left out; None when it cannot be had (the importer will say why)."""
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
