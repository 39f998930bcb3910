"""Fourier transforms written as products with matrices of cosines and sines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnx_numba.ir.types import F64, I64, TensorType
from onnx_numba.passes.derivatives.shape import lines
from onnx_numba.passes.derivatives.table import Call, composed
from onnx_numba.passes.derivatives.terms import Term


@composed("DFT")
def _dft(c: Call) -> Sequence[Term | None]:
    w, x = c.w, c.xs[0]
    inverse, onesided = bool(c.attribute("inverse")), bool(c.attribute("onesided"))
    half = inverse and onesided
    parts = [lines(part, _axis(c), x.rank) for part in _parts(c, x)]
    before = w("Shape", parts[0], start=1, end=2)
    given = (before - 1) * 2 if half else before
    length = given if c.x(1) is None else w("Cast", c.xs[1], to=I64.onnx).reshaped([1])
    pads = w("Concat", np.zeros(5, np.int64), length - before, axis=0)
    parts = [w("Pad", w("Transpose", part, perm=[0, 2, 1]), pads) for part in parts]
    made = _transformed(_completed(parts, length), length, True, False)[:1] if half else _transformed(parts, length, inverse, onesided)
    result = w("Concat", *(w("Unsqueeze", w("Transpose", part, perm=[0, 2, 1]), [-1]) for part in made), axis=-1)
    return [(result / length.cast_like(x) if inverse else result).reshaped(c.ys[0].shape)]


def _completed(parts: Sequence[Term], length: Term) -> list[Term]:
    """The frequencies above the middle are those below it, conjugated."""
    w, size = parts[0].writer, length.reshaped([])
    places = w("Range", np.array(0), size, np.array(1))
    above = w("Greater", places, w("Div", size, np.array(2)))
    real, *imaginary = (w("Gather", part, w("Where", above, size - places, places), axis=-1) for part in parts)
    return [real, *(w("Where", above, -part, part) for part in imaginary)]


@composed("STFT")
def _stft(c: Call) -> Sequence[Term | None]:
    """The transforms of the frames, whose elements are gathered from the signal."""
    w, x, window = c.w, c.xs[0], c.x(2)
    step = w("Cast", c.xs[1], to=I64.onnx).reshaped([])
    given = c.x(3)
    if given is None:
        given = w("Shape", x, start=1, end=2) if window is None else window.shape
    length = w("Cast", given, to=I64.onnx).reshaped([1])
    one, zero, size = np.array(1), np.array(0), length.reshaped([])
    last = w("Shape", x, start=1, end=2).reshaped([]) - size
    starts = w("Range", zero, last + 1, step)
    places = w("Unsqueeze", starts, [1]) + w("Range", zero, size, one)
    frames = [w("Gather", part, places, axis=1) for part in _parts(c, x)]
    if window is not None:
        frames = [frame * window for frame in frames]
    results = _transformed(frames, length, False, bool(c.attribute("onesided")))
    return [w("Concat", *(w("Unsqueeze", part, [-1]) for part in results), axis=-1)]


def _axis(c: Call) -> Term:
    """The axis that is transformed, a row of one."""
    if c.x(2) is not None:
        return c.w("Cast", c.xs[2], to=I64.onnx).reshaped([1])
    return c.w.constant(np.array([c.attribute("axis", -2)]))


def _parts(c: Call, x: Term) -> list[Term]:
    """The real and, if there may be any, the imaginary parts along the last axis."""
    kind = c.w.known.type_of(x.name)
    count = kind.shape[-1] if isinstance(kind, TensorType) and kind.shape else None
    real, last = (c.w("Gather", x, np.array(k), axis=-1) for k in (0, -1))
    if isinstance(count, int):
        return [real, last][:count]
    return [real, last.at(c.w("Greater", c.w("Shape", x, start=-1), np.array([1])))]


def _transformed(parts: Sequence[Term], length: Term, inverse: bool, onesided: bool) -> tuple[Term, Term]:
    """The transforms along the last axis, not divided by its length: real and imaginary parts."""
    w, kind = parts[0].writer, parts[0]
    zero, one, size = np.array(0), np.array(1), length.reshaped([])
    places = w("Range", zero, size, one)
    kept = w("Range", zero, w("Div", size, np.array(2)) + 1, one) if onesided else places
    # Whole turns are taken away while the numbers are whole, so that angles stay exact.
    turns = w("Mod", w("Unsqueeze", places, [1]) * kept, size)
    angle = w("Cast", turns, to=F64.onnx) * (2 * math.pi) / w("Cast", size, to=F64.onnx)
    cosines, sines = w("Cos", angle).cast_like(kind), w("Sin", -angle if inverse else angle).cast_like(kind)
    real, imaginary = w("MatMul", parts[0], cosines), -w("MatMul", parts[0], sines)
    if len(parts) > 1:
        real, imaginary = real + w("MatMul", parts[1], sines), imaginary + w("MatMul", parts[1], cosines)
    return real, imaginary
