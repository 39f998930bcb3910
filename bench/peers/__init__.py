"""What is measured against each other: a file per peer, which imports what it measures only when it is loaded.

A peer is a module with the attributes of ``Peer``. Its name on the command line and in results is the module's.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pickle
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

NAMES = (
    "onnx_numba", "onnx_numba_1", "onnxruntime", "openvino", "scikit_learn", "lightgbm", "xgboost", "tl2cgen", "lleaves", "treelite",
    "torch", "numpy",
)  # fmt: skip
"""All peers; the answers of ``REFERENCE`` are those the others are compared with, or of the first that ran."""

OURS, OURS_ON_ONE_THREAD, REFERENCE = "onnx_numba", "onnx_numba_1", "onnxruntime"
_ONNX = ("onnx_numba", "onnx_numba_1", "onnxruntime", "openvino")
STARTED = ("onnx_numba", "onnxruntime", "openvino")
"""The peers whose whole processes are measured."""


class Runner(Protocol):
    """A model that is ready to run."""

    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        """A call on these inputs; what a user of this peer converts once is converted here."""
        ...

    def outputs(self, result: Any) -> list[Any]:
        """What a call gave, in the order of the model's outputs, None for those that this peer does not give."""
        ...


class Peer(Protocol):
    """The common protocol of the modules in this package."""

    MODULES: tuple[str, ...]
    """What must be installed; the first is timed as the peer's import."""

    def applies(self, folder: Path) -> bool:
        """Whether the folder of a model holds what this peer can run."""
        ...

    def load(self, folder: Path, threads: int) -> Runner:
        """Make it ready."""
        ...


def get(name: str) -> Peer:
    """A peer by name."""
    return cast("Peer", importlib.import_module(f"bench.peers.{name}"))


def runs_onnx(name: str) -> bool:
    """Whether it reads the model itself, so that its outputs have the model's shapes and types."""
    return name in _ONNX


def missing(name: str) -> list[str]:
    """The modules that this peer needs and that are not installed."""
    return [module for module in get(name).MODULES if find_spec(module.partition(".")[0]) is None]


def version(name: str) -> str:
    """The version of an installed peer."""
    module = get(name).MODULES[0].partition(".")[0]
    return importlib.metadata.version(importlib.metadata.packages_distributions()[module][0])


def source(folder: Path, name: str) -> Any:
    """What ``Built.write`` kept for this peer."""
    return pickle.loads((folder / f"{name}.pickle").read_bytes())


def has_source(folder: Path, name: str) -> bool:
    """Whether it kept something."""
    return (folder / f"{name}.pickle").exists()


class OneOutput:
    """A runner of one function that gives one of the model's outputs."""

    def __init__(self, function: Callable[[Any], Any], output: int) -> None:
        self._function, self._output = function, output

    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        (only,) = feed.values()
        return lambda: self._function(only)

    def outputs(self, result: Any) -> list[Any]:
        return [*[None] * self._output, result]
