"""The onnx backend API: ``prepare(model)`` gives a ``BackendRep``, whose ``run(inputs)`` calls the compiled model.

The classes have the shape of ``onnx.backend.base`` without deriving from it, as a warm ``prepare`` must not import onnx.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

from onnx_numba.errors import DeviceError, OnnxNumbaError, PickleError
from onnx_numba.named import namedtupledict as namedtupledict
from onnx_numba.options import Options
from onnx_numba.prepare import load_source as _load_source
from onnx_numba.prepare import prepare_model as _prepare_model
from onnx_numba.runtime import device as _device

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from onnx_numba.ir.plan import Port
    from onnx_numba.prepare import PreparedModel

    ModelLike: TypeAlias = ModelProto | bytes | str | PathLike[str]

_TEST_RUNNER_OPTIONS = ("rtol", "atol")
"""Options of onnx's test runner that it hands to ``prepare`` although they concern only its own comparison."""


class BackendRep:
    """A prepared model.

    Attributes
    ----------
    inputs, outputs : tuple of Port
        What the model takes and gives: names, types and declared dims.
    source : str
        The generated module.
    options : Options
        The options that it was prepared with.
    stats : dict
        What was compiled or loaded and how long that took.
    served : tuple
        (node name, operator, domain, version, how it is served) per node.
    """

    def __init__(self, prepared: PreparedModel) -> None:
        """Wrap what ``onnx_numba.prepare`` made."""
        self._prepared = prepared
        if type(self).run is BackendRep.run:
            # In most processes a builtin function: one row takes less time than the frames of two Python functions.
            self.__dict__["run"] = prepared.run

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the model.

        Parameters
        ----------
        inputs : array, list, tuple, dict or DataFrame
            One array for a model with one input, a list or tuple in the order of ``inputs``, a dict by name, or a DataFrame where
            the model has one 2-d tensor input or one column per input. Inputs that the model has values for (since IR version 4) may
            be given too: by name, or in a longer list, in the order of the graph.
        **kwargs
            None is known; onnx's interface has it.

        Returns
        -------
        namedtupledict
            The outputs in graph order, also by name: arrays, lists for sequences, dicts for maps, object arrays for strings.
        """
        return self._prepared.run(inputs, **kwargs)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The model's inputs, without those that it has values for."""
        return self._prepared.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The model's outputs."""
        return self._prepared.outputs

    @property
    def source(self) -> str:
        """The generated module: what was compiled, to read, change and run again with ``onnx_numba.load_source``."""
        return self._prepared.source

    @property
    def options(self) -> Options:
        """The options that the model was prepared with."""
        return self._prepared.options

    @property
    def stats(self) -> dict[str, Any]:
        """What was compiled or loaded, and how long that took."""
        return self._prepared.stats

    @property
    def served(self) -> tuple[tuple[str, str, str, int, str], ...]:
        """(node name, operator, domain, version, how) for every node of the model."""
        return self._prepared.served

    def __copy__(self) -> BackendRep:
        """Itself: a prepared model never changes."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> BackendRep:
        """Itself likewise."""
        return self

    def __reduce__(self) -> Any:
        """Refuse to be pickled.

        Raises
        ------
        PickleError
            Always: it holds addresses of this process, and not the model.
        """
        raise PickleError("a prepared model holds code of this process and cannot be pickled; send the model and prepare it there")

    def __repr__(self) -> str:
        """Inputs and outputs with their types."""
        inputs, outputs = (", ".join(f"{p.name}: {p.type}" for p in ports) for ports in (self.inputs, self.outputs))
        return f"<onnx_numba.BackendRep ({inputs}) → ({outputs})>"


class Backend:
    """The onnx backend; its class methods are also functions of this module."""

    @classmethod
    def prepare(cls, model: ModelLike | BackendRep, device: str = "CPU", **options: Any) -> BackendRep:
        """Compile a model, or load it from the store when it is known there.

        Parameters
        ----------
        model : ModelProto, bytes, str, os.PathLike or BackendRep
            The model, its serialised form, the path of its file (external data is found beside it), or what an earlier call gave.
        device : str
            ``CPU`` or ``CUDA``, with an optional index as in ``CUDA:0``.
        **options
            Fields of ``onnx_numba.Options``.
        """
        if isinstance(model, BackendRep):
            return model
        known = {name: value for name, value in options.items() if name not in _TEST_RUNNER_OPTIONS}
        return BackendRep(_prepare_model(model, device, Options.parse(known)))

    @classmethod
    def run_model(cls, model: ModelLike | BackendRep, inputs: Any, device: str = "CPU", **options: Any) -> tuple[Any, ...]:
        """Prepare a model and run it once."""
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **options: Any,
    ) -> tuple[Any, ...]:
        """Run one node.

        Parameters
        ----------
        node : NodeProto
            The node.
        inputs : array, list, tuple or dict
            Its inputs: in the order of the node's input names, None where a name is empty or these left out; or by name.
        device : str
            As for ``prepare``.
        outputs_info : sequence of (dtype, shape), optional
            Types of the outputs, where they do not follow from the inputs.
        **options
            ``opset_version`` of the node's domain (the newest that onnx knows if not given), and what ``prepare`` takes.
        """
        from onnx_numba.node_model import feed_of, node_model

        feed = feed_of(node, inputs)
        model = node_model(node, feed, outputs_info, options.pop("opset_version", None))
        return cls.run_model(model, feed, device, **options)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether ``prepare`` can work for this device here; False too for a name that is no device."""
        try:
            return _device.is_available(_device.parse(device))
        except DeviceError:
            return False

    @classmethod
    def is_opset_supported(cls, model: ModelProto) -> tuple[bool, str]:
        """Whether every opset that the model imports is known, and if not, which one is not."""
        from onnx_numba import schemas

        for entry in model.opset_import:
            domain = schemas.normal_domain(entry.domain)
            newest = schemas.newest_opset(domain)
            if newest is not None and entry.version > newest:
                what = f"opset {entry.version} of {domain or 'ai.onnx'}"
                return False, f"{what} is newer than {newest}, the newest that is known"
        return True, ""

    @classmethod
    def is_compatible(cls, model: ModelLike, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the device is there and every node of the model can be translated; nothing is compiled for the answer."""
        from onnx_numba.importer import load
        from onnx_numba.lower import lower

        if not cls.supports_device(device):
            return False
        try:
            lower(load(model).graph, Options())
        except OnnxNumbaError:
            return False
        return True


def get_device() -> str:
    """The device that ``prepare`` uses when none is named."""
    return "CPU"


def load_source(path: str | PathLike[str], model: ModelLike, device: str = "CPU", **options: Any) -> BackendRep:
    """Prepare a model with a generated module, ``rep.source``, that was written to a file and edited.

    Parameters
    ----------
    path : str or os.PathLike
        The Python file.
    model : ModelProto, bytes, str or os.PathLike
        The model that the module was generated from; it holds the weights.
    device : str
        As for ``prepare``.
    **options
        As for ``prepare``; those that shape the module must be the ones that it was generated with.
    """
    return BackendRep(_load_source(path, model, device, Options.parse(options)))


prepare = Backend.prepare
run = run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
is_compatible = Backend.is_compatible
is_opset_supported = Backend.is_opset_supported
