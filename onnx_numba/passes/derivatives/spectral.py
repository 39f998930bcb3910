"""Fourier transforms written as products with matrices of cosines and sines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnx_numba.ir.types import F64, I64, TensorType
from onnx_numba.passes.derivatives.table import Call, composed
from onnx_numba.passes.derivatives.terms import Term


@composed("DFT")
def _dft(c: Call) -> Sequence[Term | None]:
    w, x = c.w, c.xs[0]
    inverse, onesided = bool(c.attribute("inverse")), bool(c.attribute("onesided"))
    half = inverse and onesided
    axis = _axis(c) % x.rank
    before = w("Shape", x, start=axis, end=axis + 1)
    given = (before - 1) * 2 if half else before
    length = given if c.x(1) is None else w("Cast", c.xs[1], to=I64.onnx).reshaped([1])
    order = [k for k in range(x.rank - 1) if k != axis] + [axis]
    none = np.zeros(x.rank - 2, np.int64)
    pads = w("Concat", none, np.array([0]), none, length - before, axis=0)
    parts = [w("Pad", w("Transpose", part, perm=order), pads) for part in _parts(c, x)]
    back = [int(k) for k in np.argsort(order)]
    made = _transformed(_completed(parts, length), length, True, False)[:1] if half else _transformed(parts, length, inverse, onesided)
    results = [w("Transpose", part, perm=back) for part in made]
    result = w("Concat", *(w("Unsqueeze", part, [-1]) for part in results), axis=-1)
    return [result / length.cast_like(x) if inverse else result]


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


def _axis(c: Call) -> int:
    """The axis that is transformed."""
    if c.node.since_version < 20:
        return int(c.attribute("axis"))
    if c.x(2) is None:
        return -2
    known = c.w.known.constant(c.xs[2].name)
    if known is None:
        raise c.unsupported("the axis must be known before the run")
    return int(known.reshape(-1)[0])


def _parts(c: Call, x: Term) -> list[Term]:
    """The real and, if there are any, the imaginary parts along the last axis."""
    kind = c.w.known.type_of(x.name)
    count = kind.shape[-1] if isinstance(kind, TensorType) and kind.shape else None
    if not isinstance(count, int) or count not in (1, 2):
        raise c.unsupported("whether its input is complex must be known before the run; declare its last dim")
    return [c.w("Gather", x, np.array(k), axis=-1) for k in range(count)]


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
