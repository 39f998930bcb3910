"""Packing: operands of register tiles in panels, in which the summed axis is the outer one.

``pack_panel`` lays out elements, ``pack_words`` bytes as words of four along the summed axis, and ``spread_words`` makes two of a word, see
`onnx_numba.native.dot`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.native.dot import BYTES, FLIP, Dot, DotEmitter
from onnx_numba.native.registry import Intrinsic
from onnx_numba.native.vector import VectorEmitter, outlined, pointer_typing


def _pack_panel(width: int, lanes: int, target: Any, source: Any, valid: int, across: int, along: int, depth: int) -> None:
    """``target[q * width + r] = source[r * across + q * along]``; places from r = ``valid`` on repeat the last valid one."""
    for q in range(depth):
        for r in range(width):
            target[q * width + r] = source[min(r, valid - 1) * across + q * along]


def _pack_words(width: int, lanes: int, flips: int, target: Any, source: Any, valid: int, across: int, along: int, depth: int) -> None:
    """``target[q * width + r]`` is the word of ``source[r * across + (4 * q + t) * along]`` for t < 4, flipped if ``flips``.

    Bytes from ``depth`` on are 0; places from r = ``valid`` on repeat the last valid one.
    """
    for q in range(-(-depth // BYTES)):
        for r in range(width):
            word = np.zeros(BYTES, np.uint8)
            for t in range(min(BYTES, depth - q * BYTES)):
                word[t] = source[min(r, valid - 1) * across + (q * BYTES + t) * along].astype(np.uint8)
            target[q * width + r] = word.view(np.int32)[0] ^ (FLIP if flips else np.int32(0))


def _spread_words(signed: int, lanes: int, target: Any, source: Any, count: int) -> None:
    """``target[2 * q]`` are the even bytes of the word ``source[q]`` as two numbers of 16 bits, ``target[2 * q + 1]`` the odd ones.

    The source may be the second half of the target.
    """
    for q in range(count):
        numbers = source[q : q + 1].view(np.int8 if signed else np.uint8).astype(np.int16)
        target[2 * q : 2 * q + 2] = np.concatenate([numbers[::2], numbers[1::2]]).view(np.int32)


class _PackEmitter(VectorEmitter):
    """One panel: whole rows copied, or squares of vectors transposed in registers, or element by element."""

    def __init__(self, builder: Any, literals: list[int], args: Any) -> None:
        self.width, lanes = literals[:2]
        self.target, self.source, self.valid, self.across, self.along, self.depth = args
        super().__init__(builder, self.target.type.pointee, lanes)

    def emit(self, count: Any) -> None:
        """Pack so many elements of each line."""
        builder = self.builder
        whole = builder.icmp_signed(">=", self.valid, self.number(self.width))
        rows = builder.icmp_signed("==", self.across, self.number(1))
        with builder.if_else(rows) as (then, otherwise):
            with then, builder.if_else(whole) as (full, part):
                with full:
                    self.loop(self.number(0), count, 1, [], self._copy)
                with part:
                    self.loop(self.number(0), count, 1, [], self._copy_part)
            with otherwise:
                contiguous = builder.icmp_signed("==", self.along, self.number(1))
                stop = builder.select(contiguous, count, self.number(0))
                starts = [self.shift(self.source, self._row(self.number(r))) for r in range(self.width)]
                q, _ = self.loop(self.number(0), stop, self.lanes, [], lambda q, _: self._transpose(starts, q))
                self.loop(q, count, 1, [], self._gather)

    def _row(self, r: Any) -> Any:
        return self.builder.mul(self.smaller(r, self.builder.sub(self.valid, self.number(1))), self.across)

    def _to(self, q: Any) -> Any:
        return self.shift(self.target, self.builder.mul(q, self.number(self.width)))

    def one(self, start: Any, q: Any) -> Any:
        """Element q of a line."""
        return self.builder.load(self.shift(start, self.builder.mul(q, self.along)))

    def line(self, start: Any, q: Any) -> Any:
        """A vector of elements of a contiguous line from q on."""
        return self.load(self.shift(start, q))

    def row(self, q: Any, first: Any, count: int) -> Any:
        """Elements q of some lines where they lie side by side."""
        start = self.shift(self.source, self.builder.mul(q, self.along))
        return self.load(self.shift(start, first), self.ir.VectorType(self.element, count))

    def _copy(self, q: Any, values: list[Any]) -> list[Any]:
        self.store(self.row(q, self.number(0), self.width), self._to(q))
        return values

    def _copy_part(self, q: Any, values: list[Any]) -> list[Any]:
        """The last valid element everywhere, and over that those that are valid."""
        target = self._to(q)
        one = self.row(q, self.builder.sub(self.valid, self.number(1)), 1)
        self.store(self.shuffle(one, one, [0] * self.width), target)
        self.pieces(self.valid, lambda r, kind: self.store(self.row(q, r, kind.count), self.shift(target, r)))
        return values

    def _gather(self, q: Any, values: list[Any]) -> list[Any]:
        target = self._to(q)

        def put(r: Any, values: list[Any]) -> list[Any]:
            self.builder.store(self.one(self.shift(self.source, self._row(r)), q), self.shift(target, r))
            return values

        self.loop(self.number(0), self.number(self.width), 1, [], put)
        return values

    def _transpose(self, starts: list[Any], q: Any) -> list[Any]:
        if self.width == 1:
            self.store(self.line(starts[0], q), self._to(q))
            return []
        undefined = self.ir.Constant(self.vector, self.ir.Undefined)
        for first in range(0, self.width, self.lanes):
            group = [self.line(start, q) for start in starts[first : first + self.lanes]]
            count = len(group)
            square = self.transposed(group + [undefined] * (self.lanes - count))
            for s, vector in enumerate(square):
                target = self.shift(self._to(self.builder.add(q, self.number(s))), self.number(first))
                self.store(self.shuffle(vector, undefined, list(range(count))), target)
        return []


class _WordEmitter(_PackEmitter):
    """The same of words of bytes."""

    def __init__(self, builder: Any, literals: list[int], args: Any) -> None:
        super().__init__(builder, literals, args)
        self.flip = FLIP if literals[2] else 0

    def emit_words(self) -> None:
        """All words, the last of which may be of fewer bytes."""
        builder, bytes_ = self.builder, self.number(BYTES)
        count = builder.sdiv(self.depth, bytes_)
        self.emit(count)
        rest = builder.srem(self.depth, bytes_)
        with builder.if_then(builder.icmp_signed(">", rest, self.number(0))):
            self._last(count, rest)

    def one(self, start: Any, q: Any) -> Any:
        return self._flipped(self._joined([self.builder.load(p) for p in self._four(start, q)], self.element))

    def line(self, start: Any, q: Any) -> Any:
        place = self.shift(start, self.builder.mul(q, self.number(BYTES)))
        return self._flipped(self.builder.load(self.builder.bitcast(place, self.vector.as_pointer()), align=1))

    def row(self, q: Any, first: Any, count: int) -> Any:
        ir = self.ir
        narrow, wide = (ir.VectorType(kind, count) for kind in (ir.IntType(8), self.element))
        places = [self.shift(p, first) for p in self._four(self.source, q)]
        parts = [self.builder.load(self.builder.bitcast(p, narrow.as_pointer()), align=1) for p in places]
        return self._flipped(self._joined(parts, wide))

    def _four(self, start: Any, q: Any) -> list[Any]:
        """Where the bytes of word q of a line are."""
        first = self.shift(start, self.builder.mul(self.builder.mul(q, self.number(BYTES)), self.along))
        return [self.shift(first, self.builder.mul(self.along, self.number(t))) for t in range(BYTES)]

    def _constant(self, kind: Any, value: int) -> Any:
        return self.ir.Constant(kind, [value] * kind.count if isinstance(kind, self.ir.VectorType) else value)

    def _joined(self, parts: list[Any], kind: Any) -> Any:
        word = self.builder.zext(parts[0], kind)
        for t, part in enumerate(parts[1:], 1):
            word = self.builder.or_(word, self.builder.shl(self.builder.zext(part, kind), self._constant(kind, 8 * t)))
        return word

    def _flipped(self, words: Any) -> Any:
        return self.builder.xor(words, self._constant(words.type, int(self.flip)))

    def _last(self, q: Any, rest: Any) -> None:
        target, builder = self._to(q), self.builder

        def put(r: Any, values: list[Any]) -> list[Any]:
            start = self.shift(self.source, self._row(r))

            def join(t: Any, words: list[Any]) -> list[Any]:
                at = builder.mul(builder.add(builder.mul(q, self.number(BYTES)), t), self.along)
                part = builder.zext(builder.load(self.shift(start, at)), self.element)
                return [builder.or_(words[0], builder.shl(part, builder.trunc(builder.mul(t, self.number(8)), self.element)))]

            (word,) = self.loop(self.number(0), rest, 1, [self.element(0)], join)[1]
            builder.store(self._flipped(word), self.shift(target, r))
            return values

        self.loop(self.number(0), self.number(self.width), 1, [], put)


def _build_panel(builder: Any, literals: list[int], args: Any) -> None:
    emitter = _PackEmitter(builder, literals, args)
    emitter.emit(emitter.depth)


def _build_words(builder: Any, literals: list[int], args: Any) -> None:
    _WordEmitter(builder, literals, args).emit_words()


def _build_spread(builder: Any, literals: list[int], args: Any) -> None:
    signed, lanes = literals
    target, source, count = args
    reached = VectorEmitter(builder, target.type.pointee, lanes).number(0)
    for size in (lanes, 1):
        emitter = VectorEmitter(builder, target.type.pointee, size)
        dot = DotEmitter(emitter, Dot("pairs", "i8" if signed else "u8", "i8"))

        def step(q: Any, values: list[Any], emitter: VectorEmitter = emitter, dot: DotEmitter = dot) -> list[Any]:
            even, odd = (builder.bitcast(half, emitter.vector) for half in dot.left([emitter.load(emitter.shift(source, q))]))
            lanes = [lane for pair in zip(range(emitter.lanes), range(emitter.lanes, 2 * emitter.lanes), strict=True) for lane in pair]
            emitter.store(emitter.shuffle(even, odd, lanes), emitter.shift(target, builder.mul(q, emitter.number(2))))
            return values

        reached, _ = emitter.loop(reached, count, size, [], step)


def _word_typing(*args: Any) -> Any:
    """As `pack_panel`, from bytes to words."""
    from numba import types

    made = pointer_typing(3, (3,), None, 9)(*args)
    if made is None or not isinstance(args[4], types.CPointer):
        return None
    return made.replace(args=(*made.args[:4], args[4], *made.args[5:]))


pack_panel = Intrinsic("pack_panel", _pack_panel, pointer_typing(2, (2, 3), None, 8), outlined("pack_panel", 2, _build_panel))
pack_words = Intrinsic("pack_words", _pack_words, _word_typing, outlined("pack_words", 3, _build_words))
spread_words = Intrinsic("spread_words", _spread_words, pointer_typing(2, (2, 3), None, 5), outlined("spread_words", 2, _build_spread))

RECORDS = (pack_panel, pack_words, spread_words)
