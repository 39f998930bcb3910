"""Strings cut into pieces by compiled code, along a new last axis, and matched with expressions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from onnx_numba.ir import dims as d
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import where
from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import BOOL, I64
from onnx_numba.native.characters import ASCII
from onnx_numba.ops.automaton import Automaton, automaton, one_character
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.characters import Text, encoded
from onnx_numba.record import record
from onnx_numba.templates.characters import match_text
from onnx_numba.templates.cutting import cut_at_spaces, cut_at_text, cut_by_automaton, cut_characters

Array = np.ndarray[Any, Any]

GRAIN = 64
"""Strings that a chunk takes."""


@record
class Cut:
    """A way to cut strings: a kernel of `onnx_numba.templates.cutting`, with what it needs of its own."""

    kernel: Callable[..., int]
    tables: tuple[Tensor, ...] = ()
    dims: tuple[int, ...] = ()
    constants: dict[str, bool] = field(default_factory=dict)

    def count(self, b: Builder, text: Text) -> Tensor:
        """How many pieces each string has."""
        return self._called(b, text, (0, 0, 0, 0), text.shape, False)

    def spans(self, b: Builder, text: Text, width: Dim | int, marked: bool, padding: tuple[Dim | int, Dim | int]) -> Tensor:
        """Where the pieces lie, in rows of ``width``, with a mark before and behind them, and padding behind that."""
        return self._called(b, text, (width, int(marked), *padding), (*text.shape, width, 2), True)

    def _called(self, b: Builder, text: Text, dims: Sequence[Dim | int], shape: Sequence[Dim | int], fill: bool) -> Tensor:
        (made,) = b.template(
            self.kernel, [text.spans, text.data, *self.tables], [(I64, tuple(shape))], total=d.product(text.shape),
            dims=(*dims, *self.dims), grain=GRAIN, constants={**self.constants, "FILL": fill},
        )  # fmt: skip
        return made


def split_like_python(b: Builder, separator: str | None, most: int | None) -> Cut:
    """As ``text.split(separator, most)`` of Python does."""
    limit = -1 if most is None else most
    if not separator:
        return Cut(cut_at_spaces, (), (limit,))
    _, data = encoded([separator])
    return Cut(cut_at_text, (b.weight(data),), (limit, len(data)))


def tokens(b: Builder, separators: Sequence[str] | None, expression: str | None, least: int) -> Cut | None:
    """What an expression matches or separators part, pieces of fewer characters than ``least`` left out; None if RE2 has to do it."""
    if expression == "." or (separators is not None and list(separators) == [""]):
        return Cut(cut_characters)
    if separators is not None and len(separators) > 1 and not all(map(one_character, separators)):
        return None  # each cuts what the ones before it have left
    expressions = (expression or "",) if separators is None else separators
    machine = automaton(expressions)
    if machine is None or machine.accepting[0]:
        return None  # what is empty matches everywhere
    tables = tuple(map(b.weight, _tables(machine)))
    return Cut(cut_by_automaton, tables, (len(machine.bounds), least), {"APART": separators is not None})


def whole_match(b: Builder, text: Text, expression: str) -> Tensor | None:
    """Whether an expression matches all of a string; None if RE2 has to say."""
    machine = automaton([expression])
    if machine is None:
        return None
    (made,) = b.template(
        match_text, [text.spans, text.data, *map(b.weight, _tables(machine))], [(BOOL, text.shape)], total=d.product(text.shape),
        dims=(len(machine.bounds), int(machine.accepting[0])), grain=GRAIN,
    )  # fmt: skip
    return made


def _tables(machine: Automaton) -> list[Array]:
    """Steps, bounds and classes as `onnx_numba.native.characters.longest_match` reads them."""
    columns = [machine.classes[bisect_right(machine.bounds, code) - 1] for code in range(ASCII)]
    columns += range(len(machine.steps[0]))
    steps = [[_step(machine, row[column], len(columns)) for column in columns] for row in machine.steps]
    return [np.array(table, np.int64) for table in (steps, machine.bounds, machine.classes)]


def _step(machine: Automaton, state: int, width: int) -> int:
    return -2 if state < 0 else 2 * state * width + machine.accepting[state]


def pieces(b: Builder, text: Text, cut: Cut, counts: Tensor, padding: str = "", marks: tuple[str, str] | None = None) -> Text:
    """The pieces of every string, of which there are so many, along a new last axis."""
    widest = b.reduce("max", b.reshape(counts, (d.product(text.shape),)), [0])
    extra = 0 if marks is None else 2
    (width,) = b.dims(b.map(lambda n: where(n > 0, n + extra, 0), widest))
    if not padding and marks is None:
        return Text(cut.spans(b, text, width, False, (0, 0)), text.data)
    _, added = encoded([padding, *(marks or ())])
    begin, length = text.data.size, len(padding.encode("utf-8", "surrogatepass"))
    spans = cut.spans(b, text, width, marks is not None, (begin, begin + length))
    return Text(spans, b.concat([text.data, b.weight(added)], 0))
