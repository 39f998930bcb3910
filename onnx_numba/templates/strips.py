"""Strips of a convolution's columns: as many at a time as a tile has, fewer where a unit, or with whole rows a row, ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_numba.native.tile import Tile
from onnx_numba.templates.block import indent

if TYPE_CHECKING:
    from onnx_numba.templates.conv import Conv


def begin_strip(conv: Conv) -> list[str]:
    """The beginning of the loop over the unit's columns, as many at a time as a tile has.

    With whole rows no tile goes beyond the end of one; with what `end_strip` adds::

        j = 0
        at = 0
        left = urem(first_column, out1)
        while j < columns:
            rest = min(out1 - left, columns - j)
            strip = f32_at(source, at)
            ...
            taken = min(rest, 32)
            j += taken
            at += taken
            left += taken
            if left == out1:
                left = 0
                at += wide - out1
    """
    if not conv.whole_rows:
        return [f"for j in range(0, columns, {conv.tile.columns}):", f"    strip = {conv.dtype}_at(source, j)"]
    row = f"out{conv.rank - 1}"
    return f"""\
j = 0
at = 0
left = urem(first_column, {row})
while j < columns:
    rest = min({row} - left, columns - j)
    strip = {conv.dtype}_at(source, at)""".splitlines()


def end_strip(conv: Conv) -> list[str]:
    """On to the next columns: with whole rows those of a row, or of the next row."""
    if not conv.whole_rows:
        return []
    row = f"out{conv.rank - 1}"
    return f"""\
taken = min(rest, {conv.tile.columns})
j += taken
at += taken
left += taken
if left == {row}:
    left = 0
    at += wide - {row}""".splitlines()


def multiply_strip(conv: Conv) -> list[str]:
    """Multiply a panel of filters by columns from j on, in the narrowest tiles that take what is left of them.

    ::

        rest = columns - j
        if rest <= 8:
            gemm_tile_at(13, 1, 8, 1, 1, keep, panel, 1, 13, strip, table, place, pitch, rows - i, rest, depth)
        elif rest <= 16:
            gemm_tile_at(13, 1, 16, 1, 1, keep, panel, 1, 13, strip, table, place, pitch, rows - i, rest, depth)
        elif rest <= 24:
            gemm_tile_at(13, 1, 16, 1, 1, keep, panel, 1, 13, strip, table, place, pitch, rows - i, rest, depth)
            gemm_tile_at(13, 1, 8, 1, 1, keep, panel, 1, 13, f32_at(strip, 16), table, f32_at(place, 16), pitch, rows - i, rest - 16, depth)
        else:
            gemm_tile_at(13, 2, 16, 1, 1, keep, panel, 1, 13, strip, table, place, pitch, rows - i, rest, depth)

    Where the input is read as it is, a tile fetches a vector of the next strip, the first tile the first one, and so on::

        ahead = min(32 + udiv(i - r0, 13) * 16, 48)
        ...
            gemm_tile_along(13, 2, 16, 1, 1, keep, panel, 1, 13, strip, table, place, pitch, rows - i, rest, depth, ahead)
    """

    def call(tile: Tile, at: int = 0) -> str:
        strip, place, rest = "strip", "place", "rest"
        if at:
            strip, place, rest = f"{conv.dtype}_at(strip, {at})", f"{conv.dtype}_at(place, {at})", f"rest - {at}"
        name, more = ("along", ", ahead") if conv.plain else ("at", "")
        given = f"{tile.literals()}, keep, panel, 1, {conv.tile.rows}, {strip}, table, {place}, pitch, rows - i, {rest}, depth{more}"
        return f"gemm_tile_{name}({given})"

    tile = conv.tile
    lines: list[str] = []
    for tiles in conv.parts:
        columns = sum(tile.columns for tile in tiles)
        calls = [call(tile, sum(before.columns for before in tiles[:n])) for n, tile in enumerate(tiles)]
        lines += [f"{'elif' if lines else 'if'} rest <= {columns}:", *indent(calls, 1).splitlines()]
    lines += ["else:", f"    {call(conv.tile)}"] if lines else [call(conv.tile)]
    lines = lines if conv.whole_rows else ["rest = columns - j", *lines]
    ahead = f"ahead = min({tile.columns} + udiv(i - r0, {tile.rows}) * {tile.lanes}, {2 * tile.columns - tile.lanes})"
    return [ahead, *lines] if conv.plain else lines
