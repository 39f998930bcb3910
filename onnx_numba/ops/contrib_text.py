"""onnxruntime's operators on text (domain com.microsoft): tokens and hashes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx_numba.ir import expr as e
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Object, Tensor
from onnx_numba.ir.types import I32, I64, STRING, U32, U64, TensorType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.characters import Text, hashes, text_of, with_text
from onnx_numba.ops.common import MS, is_string, shape_of, tensor, tensor_type
from onnx_numba.ops.cutting import pieces, tokens
from onnx_numba.ops.registry import op
from onnx_numba.ops.text import check_expression
from onnx_numba.runtime.hosts_tokens import END, START


@op("Tokenizer", since=1, domain=MS)
def tokenizer(
    b: Builder, x: Object, *, mark: int, mincharnum: int, pad_value: str, separators: Sequence[str] | None = None,
    tokenexp: str | None = None,
) -> Any:  # fmt: skip
    """Every string cut into tokens along a new last axis, which separators part or an expression describes."""
    if not is_string(x):
        b.fail("a tensor of strings is expected")
    if (separators is None) == (tokenexp is None) or separators == () or tokenexp == "":
        b.fail("one of separators and tokenexp must be given")
    for expression in separators or (tokenexp or "",):
        check_expression(b, expression)
    if mincharnum < 1:
        b.fail(f"mincharnum must be at least 1, not {mincharnum}")
    shape = shape_of(x)
    if shape is not None and len(shape) not in (1, 2):
        b.fail(f"the input must have one or two axes, not {len(shape)}")
    if shape is None or not (all(isinstance(extent, int) for extent in shape) or b.has_elements(x)):
        what = "whether there are any strings must be known before the run, for without one the result has an axis less"
        b.deferred_type(what, [TensorType(STRING)])
    result = (*shape[:-1], 0) if 0 in shape else (*shape, None)
    (made,) = b.host(
        "tokenize", [x], [tensor_type(STRING, result)],
        mark=bool(mark), least=mincharnum, pad=pad_value, separators=separators, expression=tokenexp,
    )  # fmt: skip
    cut = None if 0 in shape else tokens(b, separators, tokenexp, mincharnum)
    if cut is None:
        return made
    marks = (START, END) if mark else None

    def make() -> Text:
        text = text_of(b, x)
        return pieces(b, text, cut, cut.count(b, text), pad_value, marks)

    return with_text(b, made, make)


@op("MurmurHash3", since=1, domain=MS)
def murmur_hash3(b: Builder, x: Tensor | Object, *, positive: int = 1, seed: int = 0) -> Any:
    """The hash MurmurHash3_x86_32 of the bytes of every element, unsigned if ``positive``."""
    dtype = U32 if positive else I32
    if is_string(x):
        return hashes(b, x, seed & 0xFFFFFFFF, dtype)
    return b.map(lambda v: e.cast(_hash(_words(v), seed), dtype), tensor(b, x), dtype=dtype)


def _words(v: Expr) -> list[Expr]:
    """The bits of a number of 32 or 64 bits as words of 32, the lowest first."""
    if v.dtype.is_float:
        v = e.Op("bits_of", (v,), I64 if v.dtype.size == 8 else I32)
    if v.dtype.size == 4:
        return [e.cast(v, U32)]
    return [e.cast(v, U32), e.cast(e.binary("shr", e.cast(v, U64), 32), U32)]


def _hash(words: Sequence[Expr], seed: int) -> Expr:
    h: Expr = e.lit(seed, U32)
    for word in words:
        h = h ^ _turned(word * 0xCC9E2D51, 15) * 0x1B873593
        h = _turned(h, 13) * 5 + 0xE6546B64
    h = h ^ (4 * len(words))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ e.binary("shr", h, shift)) * factor
    return h ^ e.binary("shr", h, 16)


def _turned(v: Expr, bits: int) -> Expr:
    """A word with its bits rotated to the left."""
    return e.binary("shl", v, bits) | e.binary("shr", v, 32 - bits)
