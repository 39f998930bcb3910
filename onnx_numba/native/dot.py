"""Sums of products of bytes, four at a time: what the tiles of integer products have in place of a multiply-add.

Bytes that are multiplied lie in words of 32 bits, four along the summed axis each, the first in the lowest bits. `Dot` says how a
target multiplies two words, and of which bytes:

* ``vnni``: x86's vpdpbusd, of bytes one of which has a sign and the other has not;
* ``neon``: AArch64's sdot and udot, of bytes both of which have a sign or have none; newer processors have usdot for others;
* ``pairs``: on all other targets. The even and the odd bytes of both words become 16-bit numbers, of which two neighbouring products
  are added up in 32 bits (pmaddwd on x86; what LLVM has elsewhere). That is exact; pmaddubsw, which saturates, is not.
* ``halves``: the same of left operands that have been spread before: each word is two, of the 16-bit numbers. A tile takes a word apart for
  every row of it and every panel; `onnx_numba.native.pack.spread_words` does it once.

Where an instruction does not take the two kinds of bytes, the left ones have their highest bits *flipped*: that adds 128 to bytes with a
sign, which then have none, and takes 128 from others. A sum is then too large by what flipped zeros give, which depends on the right
operand alone. So ``[-3, 5] @ [7, -2] == -31`` is ``[125, 133] @ [7, -2] - [128, 128] @ [7, -2] == 609 - 640``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from onnx_numba.native.emit import call
from onnx_numba.native.vector import VectorEmitter
from onnx_numba.record import record
from onnx_numba.target import Target

BYTES = 4
"""Bytes of a word."""
FLIP = np.int32(-0x7F7F7F80)
"""The highest bits of the bytes of a word."""
KINDS = ("pairs", "vnni", "neon", "halves")
_OTHER = {"u8": "i8", "i8": "u8"}
FIRST_NUMBER = 2
"""Smaller numbers say how floats are multiplied and added."""


@record
class Dot:
    """How words are multiplied.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    left, right : str
        The bytes of the operands: ``i8`` or ``u8``.
    flips : bool
        Whether those on the left have been flipped before, and ``left`` is what they are then.
    """

    kind: str
    left: str
    right: str
    flips: bool = False

    @property
    def source(self) -> str:
        """The bytes on the left before they are flipped."""
        return _OTHER[self.left] if self.flips else self.left

    @property
    def spreads(self) -> bool:
        """Whether words on the left are spread."""
        return self.kind == "halves"

    @property
    def number(self) -> int:
        """The kind and the bytes as a literal for kernels."""
        return FIRST_NUMBER + 4 * KINDS.index(self.kind) + 2 * (self.left == "i8") + (self.right == "i8")

    def on(self, target: Target, lanes: int) -> Dot:
        """The same for vectors of so many words where the target has an instruction for it, else in pairs.

        Code may be compiled for another target than it was written for, and LLVM ends the process at an instruction that is not there.
        """
        same = self.left == self.right or self.kind == "vnni" or "i8mm" in target.enabled
        there = self.kind == _kind(target) and lanes == target.lanes and same
        return self if self.kind in ("pairs", "halves") or there else replace(self, kind="pairs")

    @classmethod
    def numbered(cls, number: int) -> Dot:
        """What a literal stands for."""
        kind, bits = divmod(number - FIRST_NUMBER, 4)
        return cls(KINDS[kind], "i8" if bits & 2 else "u8", "i8" if bits & 1 else "u8")


def dot_for(target: Target, left: str, right: str) -> Dot:
    """How a target multiplies bytes.

    Examples
    --------
    >>> dot_for(Target("x86_64-unknown-linux-gnu", "x86-64-v3", "+avx2,+avxvnni,+fma"), "i8", "i8")
    Dot(kind='vnni', left='u8', right='i8', flips=True)
    """
    kind = _kind(target)
    flips = not {"pairs": True, "vnni": left != right, "neon": left == right or "i8mm" in target.enabled}[kind]
    return Dot(kind, _OTHER[left] if flips else left, right, flips)


def plain_dot_for(target: Target, left: str, right: str) -> Dot:
    """How a target multiplies bytes of which none are to be flipped."""
    dot = dot_for(target, left, right)
    return Dot("pairs", left, right) if dot.flips else dot


def _kind(target: Target) -> str:
    if target.arch == "aarch64":  # every such machine of Apple's has the instructions
        return "neon" if "dotprod" in target.enabled or target.system == "macos" else "pairs"
    needed = {16: "avx512vnni", 8: "avxvnni"}.get(target.lanes)
    return "vnni" if needed in target.enabled else "pairs"


def dot_add(dot: Dot, left: Any, right: Any, sums: Any) -> Any:
    """``sums + left · right`` of arrays of words that broadcast, wrapped to 32 bits."""
    kinds = {"i8": np.int8, "u8": np.uint8}
    a, b = (np.ascontiguousarray(x)[..., None].view(kinds[k]).astype(np.int32) for x, k in ((left, dot.left), (right, dot.right)))
    return sums + (a * b).sum(-1, dtype=np.int32)


def joined(even: Any, odd: Any) -> Any:
    """The word that has been spread to two."""
    return (even & np.int32(0xFF00FF)) | (odd & np.int32(0xFF00FF)) << np.int32(8)


class DotEmitter:
    """LLVM of `dot_add` over vectors of words."""

    def __init__(self, vectors: VectorEmitter, dot: Dot) -> None:
        self.vectors, self.builder, self.dot = vectors, vectors.builder, dot
        ir = vectors.ir
        self.halves = ir.VectorType(ir.IntType(16), 2 * vectors.lanes)
        self.bytes = ir.VectorType(ir.IntType(8), 4 * vectors.lanes)

    def left(self, words: list[Any]) -> Any:
        """A left operand, of one word or of two, in the form in which it is multiplied."""
        if self.dot.spreads:
            return tuple(self.builder.bitcast(word, self.halves) for word in words)
        (word,) = words
        return self._factor(word, self.dot.left)

    def right(self, words: Any) -> Any:
        """A right operand likewise."""
        return self._factor(words, self.dot.right)

    def add(self, left: Any, right: Any, sums: Any) -> Any:
        """``sums + left · right`` of two such forms."""
        vector, lanes, dot = self.vectors.vector, self.vectors.lanes, self.dot
        if dot.kind == "vnni":
            first, second = (left, right) if dot.left == "u8" else (right, left)
            return call(self.builder, f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", vector, [sums, first, second])
        if dot.kind == "neon":
            name = {("i8", "i8"): "sdot", ("u8", "u8"): "udot"}.get((dot.left, dot.right), "usdot")
            order = (right, left) if (dot.left, dot.right) == ("i8", "u8") else (left, right)
            operands = [self.builder.bitcast(x, self.bytes) for x in order]
            return call(self.builder, f"llvm.aarch64.neon.{name}.v{lanes}i32.v{4 * lanes}i8", vector, [sums, *operands])
        for a, b in zip(left, right, strict=True):
            sums = self.builder.add(sums, self._paired(a, b))
        return sums

    def _factor(self, words: Any, kind: str) -> Any:
        """For pairs the even and the odd bytes, as numbers of 16 bits."""
        if self.dot.kind not in ("pairs", "halves"):
            return words
        builder, eight = self.builder, self.vectors.ir.Constant(self.halves, [8] * self.halves.count)
        halves = builder.bitcast(words, self.halves)
        low = builder.shl(halves, eight)
        if kind == "i8":
            return builder.ashr(low, eight), builder.ashr(halves, eight)
        return builder.lshr(low, eight), builder.lshr(halves, eight)

    def _paired(self, a: Any, b: Any) -> Any:
        """Sums of two neighbouring products each: LLVM knows x86's instruction by this. AArch64's has to be named, lest the sums come in
        another order, of which LLVM knows none."""
        builder, vectors, lanes = self.builder, self.vectors, self.vectors.lanes
        wide = vectors.ir.VectorType(vectors.ir.IntType(32), 2 * lanes)
        products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
        if builder.module.triple.startswith("aarch64") and lanes == 4:
            halves = [vectors.shuffle(products, products, list(range(k, k + lanes))) for k in (0, lanes)]
            return call(builder, "llvm.aarch64.neon.addp.v4i32", vectors.vector, halves)
        even, odd = (vectors.shuffle(products, products, list(range(k, 2 * lanes, 2))) for k in (0, 1))
        return builder.add(even, odd)
