"""Bytes looked up in a table of 256, many at a time: what any function of one byte is, however costly.

With AVX-512's VBMI an instruction looks 64 bytes up in two registers by their low seven bits; two of them, and a choice by the highest
bit, are all. Elsewhere it goes byte by byte.
"""

from __future__ import annotations

from typing import Any

from onnx_numba.native.emit import call
from onnx_numba.native.registry import Intrinsic, Preferred, Record, function
from onnx_numba.native.vector import VectorEmitter, outlined
from onnx_numba.target import Target

LANES = 64
"""Bytes of a vector."""


def looks_up(target: Target) -> bool:
    """Whether a target looks up many bytes at a time."""
    return {"avx512f", "avx512bw", "avx512vbmi"} <= target.enabled


@function
def _one_by_one(results: Any, source: Any, table: Any, count: Any) -> None:
    for i in range(count):
        results[i] = table[source[i]]


def _typing(*args: Any) -> Any:
    from numba import types
    from numba.core.typing import signature

    bytes_ = types.CPointer(types.uint8)
    return signature(types.void, bytes_, bytes_, bytes_, types.int64) if len(args) == 4 and args[:3] == (bytes_,) * 3 else None


def _build(builder: Any, literals: list[int], args: Any) -> None:
    from llvmlite import ir

    results, source, table, count = args
    outer, single = (VectorEmitter(builder, ir.IntType(8), lanes) for lanes in (LANES, 1))
    number, kind = outer.number, outer.vector
    quarters = [outer.load(outer.shift(table, number(k * LANES))) for k in range(4)]
    zero = ir.Constant(kind, [ir.Constant(ir.IntType(8), 0)] * LANES)

    def vector(i: Any, values: list[Any]) -> list[Any]:
        found = outer.load(outer.shift(source, i))
        low, high = (
            call(builder, "llvm.x86.avx512.vpermi2var.qi.512", kind, [first, found, second])
            for first, second in (quarters[:2], quarters[2:])
        )
        outer.store(builder.select(builder.icmp_signed("<", found, zero), high, low), outer.shift(results, i))
        return values

    def one(i: Any, values: list[Any]) -> list[Any]:
        place = builder.zext(builder.load(outer.shift(source, i)), outer.i64)
        builder.store(builder.load(outer.shift(table, place)), outer.shift(results, i))
        return values

    done, _ = outer.loop(number(0), count, LANES, [], vector)
    single.loop(done, count, 1, [], one)


translate = Preferred(
    "translate", looks_up, Intrinsic("translate", _one_by_one.python, _typing, outlined("translate", 0, _build)), _one_by_one
)
"""``translate(results, source, table, count)``: ``results[i] = table[source[i]]`` for bytes without a sign."""

RECORDS: tuple[Record, ...] = (translate,)
