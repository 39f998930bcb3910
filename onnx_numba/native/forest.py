"""Ways down decision trees, and what their leaves add to: the steps of `onnx_numba.templates.trees`, which says how all of it lies.

Arrays of rows hold one column after the other, `LANES` rows each, or where few rows are left, one row after the other. ``at`` is the node,
then the leaf, of so many rows in one tree, or of one row in so many trees.
"""

from __future__ import annotations

from math import inf
from typing import Any

from onnx_numba.native.integer import iadd, iand, ior, shl, trailing_zeros
from onnx_numba.native.loops import through_indices
from onnx_numba.native.registry import Record, function
from onnx_numba.native.scalar import cast_like, select

LANES = 64
"""Rows side by side."""
GROUP = 4
"""Tests that are made in one pass over the rows."""


@function
def lay_row(block: Any, place: Any, step: Any, x: Any, row: Any, columns: Any, count: Any) -> None:
    """Put the numbers of a row ``step`` elements apart: column k is feature ``columns[k] >> 1``, NaN in it -inf if the last bit says so."""
    for c in range(count):
        column = columns[c]
        v = x[row + (column >> 1)]
        if v != v and column & 1 == 1:
            v = cast_like(-inf, v)
        block[place] = v
        place += step


@function
def code_of(v: Any, members: Any, begin: Any, end: Any, one: Any) -> Any:
    """A bit, shifted from ``one``, for each member that equals v; NaN equals the last one if that is NaN."""
    none, last = cast_like(0, one), members[end - 1]
    code = none
    for k in range(begin, end):
        code = ior(code, select(v == members[k], shl(one, cast_like(k - begin, one)), none))
    return shl(one, cast_like(end - 1 - begin, one)) if last != last and v != v else code


@function
def code_rows(codes: Any, held: Any, members: Any, begin: Any, end: Any, one: Any) -> None:
    """`code_of` for each of ``held``."""
    none, last = cast_like(0, one), members[end - 1]
    for j in range(LANES):
        codes[j] = select(last != last and held[j] != held[j], shl(one, cast_like(end - 1 - begin, one)), none)
    for k in range(begin, end):
        member = members[k]
        bit = shl(one, cast_like(k - begin, one))
        for j in range(LANES):
            codes[j] = select(held[j] == member, ior(codes[j], bit), codes[j])


@function
def all_alive(alive: Any, count: Any) -> None:
    """Set all bits of so many words of every row: no leaf is ruled out."""
    for k in range(LANES * count):
        alive[k] = cast_like(-1, alive[k])


@function
def narrow_by_numbers(
    alive: Any, word_places: Any, values: Any, places: Any, thresholds: Any, keeps: Any, first: Any, last: Any
) -> None:  # fmt: skip
    """Clear the bits of leaves that groups of tests ``v <= t`` rule out: those that a test does not keep where it does not hold."""
    for g in range(first, last):
        word, test = word_places[g], GROUP * g
        p0, p1, p2, p3 = places[test], places[test + 1], places[test + 2], places[test + 3]
        t0, t1, t2, t3 = thresholds[test], thresholds[test + 1], thresholds[test + 2], thresholds[test + 3]
        keep0, keep1, keep2, keep3 = keeps[test], keeps[test + 1], keeps[test + 2], keeps[test + 3]
        for j in range(LANES):
            bits = alive[word + j]
            bits = select(values[p0 + j] <= t0, bits, iand(bits, keep0))
            bits = select(values[p1 + j] <= t1, bits, iand(bits, keep1))
            bits = select(values[p2 + j] <= t2, bits, iand(bits, keep2))
            alive[word + j] = select(values[p3 + j] <= t3, bits, iand(bits, keep3))


@function
def narrow_by_sets(alive: Any, word_places: Any, codes: Any, places: Any, masks: Any, keeps: Any, first: Any, last: Any) -> None:
    """The same for groups of tests ``code & mask == 0``."""
    none = cast_like(0, masks[0])
    for g in range(first, last):
        word, test = word_places[g], GROUP * g
        p0, p1, p2, p3 = places[test], places[test + 1], places[test + 2], places[test + 3]
        mask0, mask1, mask2, mask3 = masks[test], masks[test + 1], masks[test + 2], masks[test + 3]
        keep0, keep1, keep2, keep3 = keeps[test], keeps[test + 1], keeps[test + 2], keeps[test + 3]
        for j in range(LANES):
            bits = alive[word + j]
            bits = select(iand(codes[p0 + j], mask0) == none, bits, iand(bits, keep0))
            bits = select(iand(codes[p1 + j], mask1) == none, bits, iand(bits, keep1))
            bits = select(iand(codes[p2 + j], mask2) == none, bits, iand(bits, keep2))
            alive[word + j] = select(iand(codes[p3 + j], mask3) == none, bits, iand(bits, keep3))


@function
def first_alive(at: Any, alive: Any, count: Any, leaf: Any, bits: Any) -> None:
    """The first leaf that is not ruled out, of those from ``leaf`` on, so many ``bits`` in each of ``count`` words."""
    for k in range(count - 1, -1, -1):
        base = cast_like(leaf + k * bits, at[0])
        for j in range(LANES):
            word = alive[LANES * k + j]
            at[j] = select(word != cast_like(0, word), iadd(base, cast_like(trailing_zeros(word), base)), at[j])


@function
def step_down(
    at: Any, lanes: Any, values: Any, codes: Any, nodes: Any, words: Any, column_bits: Any, numbers: Any, sets: Any, pitch: Any, step: Any,
    most: Any,
) -> None:  # fmt: skip
    """Walk to leaves, at most so many steps; column k of what walk j tests lies at ``k * pitch + j * step``.

    Node k is ``nodes[2 * k]``, the threshold, or in place of it a mask for columns from ``numbers`` on if there are ``sets``, and
    ``words[2 * k + 1]``: the column, and above its bits how far away the children lie.
    """
    moved, steps, column_mask = at[0], 0, (1 << column_bits) - 1
    moved = cast_like(1, moved)
    while moved != 0 and steps < most:
        moved = cast_like(0, moved)
        steps += 1
        for j in range(lanes):
            node = at[j]
            place = 2 * cast_like(node, most)
            word = words[place + 1]
            column = word & column_mask
            holds = values[column * pitch + j * step] <= nodes[place]
            if sets:
                mask = words[place]
                member = iand(cast_like(codes[column * pitch + j * step], mask), mask) != cast_like(0, mask)
                holds = select(column < numbers, holds, member)
            jump = cast_like((word >> column_bits) + holds, node)
            at[j] = iadd(node, jump)
            moved = ior(moved, jump)
            through_indices()


@function
def fold_weight(total: Any, weight: Any, is_first: Any, aggregate: Any) -> Any:
    """What a target has after one more weight: the sum, or if ``aggregate`` is 1 or 2 the lesser or greater, of the first the weight."""
    if aggregate == 0:
        return cast_like(total + weight, total)
    better = weight < total if aggregate == 1 else weight > total
    return weight if better or is_first else total


RECORDS: tuple[Record, ...] = (
    lay_row, code_of, code_rows, all_alive, narrow_by_numbers, narrow_by_sets, first_alive, step_down, fold_weight,
)  # fmt: skip
