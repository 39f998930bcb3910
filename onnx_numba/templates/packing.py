"""Kernels that pack the right operand of a product into panels as wide as a register tile."""

from __future__ import annotations

from onnx_numba.ir.dims import ceildiv
from onnx_numba.native.dot import BYTES, FLIP
from onnx_numba.native.tile import Tile
from onnx_numba.templates.block import Extent, indent


def packed_size(n: Extent, k: Extent, tile: Tile, batch: Extent = 1) -> Extent:
    """Elements of packed B: ``batch * ceil(n / columns) * columns * k``; matrices, then panels, then k, then columns.

    Of bytes they are words, for each column one for four of K and, where bytes of A are flipped, one more.
    """
    depth = k if tile.dot is None else ceildiv(k, BYTES) + tile.dot.flips
    return batch * ((n + tile.columns - 1) // tile.columns) * tile.columns * depth


def pack_source(name: str, dtype: str, width: int, lanes: int, batch_rank: int = 0) -> str:
    """The kernel that packs matrices into panels of ``width`` columns, in each of which k is the outer index.

    Buffers: the matrix, its packed form. Dims: N, K, stride along K, stride along N, and for every batch dim its extent and
    stride. A work unit is one panel: there are ``batch * ceil(N / width)`` of them. What a panel holds beyond N is never used.
    """
    lines = [
        f"target = {dtype}_at(packed, unit * {width} * k)",
        f"pack_panel({width}, {lanes}, target, source, n - j0, b_col, b_row, k)",
    ]
    return packing_source(name, dtype, dtype, width, batch_rank, lines)


def packing_source(name: str, dtype: str, result: str, width: int, batch_rank: int, lines: list[str]) -> str:
    """A kernel as of `pack_source`, to elements of another type; ``lines`` pack the panel from ``source`` on, column j0 of its matrix."""
    locate = ["matrix = udiv(unit, panels)", f"j0 = (unit - matrix * panels) * {width}", "index = matrix", "start = j0 * b_col"]
    for d in reversed(range(batch_rank)):
        locate += [
            f"outer = udiv(index, dims[{4 + 2 * d}])",
            f"start += (index - outer * dims[{4 + 2 * d}]) * dims[{5 + 2 * d}]",
            "index = outer",
        ]
    lines = [*locate, f"source = {dtype}_at(b, start)", *lines]
    return f"""\
def {name}(ctx, bufs, dims, lo, hi):
    b = {dtype}_p(bufs, 0)
    packed = {result}_p(bufs, 1)
    n = dims[0]
    k = dims[1]
    b_row = dims[2]
    b_col = dims[3]
    panels = udiv(n + {width - 1}, {width})
    for unit in range(lo, hi):
{indent(lines, 2)}
    return 0
"""


def pack_b_source(name: str, dtype: str, tile: Tile, batch_rank: int = 0) -> str:
    """The kernel that packs B for `gemm_source`: `pack_source` with panels as wide as the tile, of elements or of words of bytes."""
    dot, width = tile.dot, tile.columns
    if dot is None:
        return pack_source(name, dtype, width, tile.lanes, batch_rank)
    lines = [
        f"words = udiv(k + {BYTES - 1}, {BYTES})",
        f"first = matrix * panels * {width} * (words + {int(dot.flips)})",
        "target = i32_at(packed, first + j0 * words)",
        f"pack_words({width}, {tile.lanes}, 0, target, source, n - j0, b_col, b_row, k)",
    ]
    if dot.flips:  # minus the products with zeros that have been flipped
        lines += [
            f"starts = i32_at(packed, first + panels * {width} * words + j0)",
            "zero = i32_local(1)",
            f"zero[0] = i32({FLIP})",
            f"gemm_tile({tile.literals(1)}, 0, zero, 0, 0, target, 0, {width}, starts, 0, 1, {width}, words)",
            f"for j in range({width}):",
            "    starts[j] = neg(starts[j])",
        ]
    return packing_source(name, dot.right, dtype, width, batch_rank, lines)
