"""What is measured: a model, and inputs for it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Feed = dict[str, Any]
"""Arrays by input name; strings are object arrays."""


@dataclass(frozen=True)
class Source:
    """What a peer that does not read ONNX computes the same with.

    Attributes
    ----------
    what : Any
        A fitted estimator or booster, a NumPy function of the feed, or a function that makes a torch module. It must pickle.
    output : int
        The model's output that the result is compared with.
    method : str
        The estimator's method.
    """

    what: Any
    output: int = 0
    method: str = "predict"


@dataclass(frozen=True)
class Built:
    """A model, serialised, and what the peers have instead of it."""

    onnx: bytes
    sources: Mapping[str, Source] = field(default_factory=dict)
    leaves: int | None = None
    """Leaves of the largest tree."""

    def write(self, folder: Path) -> None:
        """Write ``model.onnx`` and a ``PEER.pickle`` per source."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(self.onnx)
        for peer, source in self.sources.items():
            (folder / f"{peer}.pickle").write_bytes(pickle.dumps(source))


@dataclass(frozen=True)
class Model:
    """A model that is built when it is first needed.

    Attributes
    ----------
    name : str
        Unique among all.
    build : callable
        Makes it.
    needs : tuple of str
        Modules without which it cannot be built.
    """

    name: str
    build: Callable[[], Built]
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """The modules that are not installed."""
        return [module for module in self.needs if find_spec(module) is None]


@dataclass(frozen=True)
class Case:
    """A model with one set of inputs.

    Attributes
    ----------
    name : str
        Unique among all.
    model : Model
        Cases that differ in their inputs alone share it.
    feed : callable
        Makes the inputs.
    rows : int or None
        Rows of a tabular case.
    nodes : int or None
        Nodes of the graph where a goal asks for it.
    flops : float or None
        Floating-point operations of a run where multiply-adds bound it.
    streams : bool
        Whether a run is bounded by reading its inputs and writing its outputs.
    tolerance : float
        Largest difference of the outputs.
    starts : bool
        Whether whole processes are measured too: one case of each model.
    turns : callable or None
        Makes rows that calls of one row take in turn, where how long they take depends on the row: a processor soon foresees every branch
        that the same row takes.
    """

    name: str
    model: Model
    feed: Callable[[], Feed]
    rows: int | None = None
    nodes: int | None = None
    flops: float | None = None
    streams: bool = False
    tolerance: float = 1e-3
    starts: bool = True
    turns: Callable[[], Feed] | None = None


def of_rows(feed: Feed, rows: int) -> Feed:
    """As many rows of each input, repeated from the first again where there are fewer."""
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in feed.items()}


def sized(
    name: str, model: Model, feed: Callable[[int], Feed], sizes: tuple[int, ...], turns: int = 0, **facts: Any
) -> list[Case]:  # fmt: skip
    """A model with several numbers of rows; the first is the one whose processes are measured. Calls of one row take so many in turn."""
    return [
        Case(
            f"{name}@{rows}", model, partial(feed, rows), rows=rows, starts=rows == sizes[0],
            turns=partial(feed, turns) if turns and rows == 1 else None, **facts,
        )
        for rows in sizes
    ]  # fmt: skip
