"""The families of models and the goal of each, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench import figures
from bench.case import Case
from bench.models import corpus, memory, one_row, products, recurrent, tabular, tiny_nodes, transformers, trees

Result = dict[str, Any]
"""What was measured of a case, as in the JSON."""


@dataclass(frozen=True)
class Goal:
    """What a figure of a family's cases should be.

    Attributes
    ----------
    words : str
        The goal for people.
    figure : callable
        The figure of a case at a number of threads, None where there is none.
    bound : float
        What the figure should be at least, or at most.
    mean : bool
        Whether the geometric mean is looked at; else each case.
    at_most : bool
        Whether the figure should be small.
    where : callable
        Which cases it is for.
    threads : bool
        Whether the figure is another one at each number of threads.
    """

    words: str
    figure: Callable[[Result, str], float | None]
    bound: float
    mean: bool = False
    at_most: bool = False
    where: Callable[[Result], bool] = lambda result: True
    threads: bool = True


@dataclass(frozen=True)
class Family:
    """Models of a kind, and what is aimed at for them; a family without models of its own looks at the cases of all."""

    name: str
    words: str
    goals: tuple[Goal, ...] = ()
    cases: Callable[[], Iterator[Case]] | None = None


_ORT = figures.over("onnxruntime")
_BEST = figures.over("onnxruntime", "openvino")
_CHAIN = lambda result: result["nodes"] >= 3  # noqa: E731
_SINGLE = lambda result: result["nodes"] == 1  # noqa: E731
SMALL_SECONDS, LARGE_SECONDS = 1e-3, 5e-3
"""Runs up to the first gain nothing from threads and must not lose by them; runs over the second must gain."""

FAMILIES = (
    Family("one-row", "one row through small models, by rep.run", (
        Goal("5 times onnxruntime's speed, as a mean", _ORT, 5.0, mean=True),
        Goal("2 times onnxruntime's speed, each", _ORT, 2.0),
    ), one_row.cases),
    Family("trees", "tree ensembles", (
        Goal("2 times onnxruntime's speed, each", _ORT, 2.0),
        Goal("4 times onnxruntime's speed, each of at most 64 leaves and at least 1,000 rows", _ORT, 4.0,
             where=lambda result: (result["leaves"] or 65) <= 64 and result["rows"] >= 1000),
        Goal("TL2cgen's speed, each", figures.over("tl2cgen"), 1.0),
        Goal("lleaves' speed, each", figures.over("lleaves"), 1.0),
    ), trees.cases),
    Family("tabular", "other tabular pipelines", (
        Goal("2 times onnxruntime's speed, as a mean", _ORT, 2.0, mean=True),
    ), tabular.cases),
    Family("memory-bound", "elementwise chains, norms, softmax and casts on 1 to 100 MB", (
        Goal("3 times onnxruntime's speed, as a mean of the chains", _ORT, 3.0, mean=True, where=_CHAIN),
        Goal("onnxruntime's speed, each single node", _ORT, 1.0, where=_SINGLE),
        Goal("0.8 of the speed of copying as many bytes, each", figures.bandwidth, 0.8),
    ), memory.cases),
    Family("recurrent", "recurrent nets and speech", (
        Goal("2 times the better of onnxruntime and OpenVINO, as a mean", _BEST, 2.0, mean=True),
    ), recurrent.cases),
    Family("tiny-nodes", "graphs of many tiny nodes", (
        Goal("3 times the better of onnxruntime and OpenVINO, as a mean", _BEST, 3.0, mean=True),
    ), tiny_nodes.cases),
    Family("products", "matrix products and convolutions", (
        Goal("0.95 of onnxruntime's speed, MatMul of 1024³", _ORT, 0.95, where=lambda result: result["model"] == "matmul_1024"),
    ), products.products),
    Family("transformers", "encoders and decoders of sequences of any length", (), transformers.cases),
    Family("vision", "networks of convolutions", (), products.vision),
    Family("smallest", "one operator", (), products.one_operator),
    Family("threads", "all cores against one thread, over all cases", (
        Goal("1.8 times the speed of one thread, each run over 5 ms", figures.scaling(over=LARGE_SECONDS), 1.8),
        Goal("never under 0.9 of the speed of one thread, each run under 1 ms", figures.scaling(under=SMALL_SECONDS), 0.9),
    )),
    Family("memory", "peak memory of a run above the weights, over all cases of a process", (
        Goal("at most onnxruntime's, each where that is over 4 MB", figures.memory(over=4e6), 1.0, at_most=True, threads=False),
    )),
    Family("compile", "cold compile with an empty store, the import of numba apart", (
        Goal("one operator in 0.2 s", figures.cold, 0.2, at_most=True, where=lambda result: result["family"] == "smallest", threads=False),
        Goal("the corpus's largest in 10 s", figures.cold, 10.0, at_most=True,
             where=lambda result: result["model"] == corpus.largest(), threads=False),
        Goal("light_resnet50 in 15 s", figures.cold, 15.0, at_most=True,
             where=lambda result: result["model"] == "light_resnet50", threads=False),
    )),
)  # fmt: skip


def cases() -> Iterator[tuple[Family, Case]]:
    """All cases, by family."""
    for family in FAMILIES:
        if family.cases is not None:
            for case in family.cases():
                yield family, case
