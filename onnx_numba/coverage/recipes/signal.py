"""Signals and windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_numba.coverage.case import Case, Const, Draft
from onnx_numba.coverage.recipes import recipe


@recipe("BlackmanWindow", "HammingWindow", "HannWindow")
def window(c: Draft) -> Iterator[Case]:
    yield c.make(Const(np.array(8)), output_datatype=c.number("T2"))
    yield c.make(Const(np.array(8)), name="symmetric", periodic=0, types={"T2": "tensor(float)"})
    yield c.make(np.array(7), name="of the run", types={"T2": "tensor(float)"})


@recipe("MelWeightMatrix")
def mel(c: Draft) -> Iterator[Case]:
    whole = "int" in c.types["T3"]
    counts = [Const(np.array(v)) for v in (4, 16, 64)]
    edges = [Const(np.array(v, np.int64)) for v in (0, 32)]
    yield c.make(*counts, *edges, output_datatype=c.number("T3"))
    if not whole:
        yield c.make(*(v.value for v in (*counts, *edges)), name="of the run", types={"T3": "tensor(float)"})


@recipe("DFT")
def dft(c: Draft) -> Iterator[Case]:
    def axis(value: int) -> tuple[list[Const | None], dict[str, int]]:
        return ([None, Const(np.array(value, np.int64))], {}) if c.version >= 20 else ([], {"axis": value})

    inputs, attributes = axis(1)
    yield c.make(c.real(1, 8, 1), *inputs, **attributes)
    yield c.make(c.real(2, 6, 2), *inputs, name="complex", **attributes)
    yield c.make(c.real(2, 6, 2), *inputs, name="inverse", inverse=1, **attributes)
    yield c.make(c.real(2, 7, 1), *inputs, name="onesided", onesided=1, **attributes)
    yield c.make(c.real(1, 4, 2), Const(np.array(6)), *inputs[1:], name="longer", **attributes)
    yield c.make(c.real(1, 6, 2), Const(np.array(4)), *inputs[1:], name="shorter", **attributes)
    inputs, attributes = axis(2)
    yield c.make(c.real(1, 3, 4, 1), *inputs, name="axis=2", **attributes)
    if c.version >= 20:
        yield c.make(c.real(1, 3, 4, 2), name="default axis")
        yield c.make(c.real(1, 5, 2), name="onesided,inverse", onesided=1, inverse=1)


@recipe("STFT")
def stft(c: Draft) -> Iterator[Case]:
    signal, step, length = c.real(1, 16, 1), Const(np.array(4)), Const(np.array(8))
    yield c.make(signal, step, c.real(8, low=0.25), length)
    yield c.make(signal, step, None, length, name="no window")
    yield c.make(signal, step, c.real(8, low=0.25), name="no length")
    yield c.make(c.real(1, 16, 2), step, None, length, name="complex", onesided=0)


@recipe("Det")
def det(c: Draft) -> Iterator[Case]:
    yield c.make(c.real(3, 3))
    yield c.make(c.real(2, 2, 2), name="batch")
