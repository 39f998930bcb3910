"""Patches of convolutions: the part of the input that a block of columns sees, as the register tile reads it.

A patch holds, per channel and per tap of all axes but the first, the input as this tap sees it: with zeros for the padding, and
one element per position. Taps along the first axis see the same elements some rows further on, so they share them, one copy for
each remainder of positions by the stride. Where they are further apart than a unit is long, as with large dilations, each has a
copy of its own.

With *whole rows*, see `onnx_numba.templates.conv.Conv`, taps along the last axis share elements in the same way, one copy for each
remainder by that axis' stride: a row of the patch is as much longer than one of the output as these taps reach beyond its last position,
and tiles end where rows do. That pays where there are many such taps, or few output channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_numba.templates.block import indent

if TYPE_CHECKING:
    from onnx_numba.templates.conv import Conv

MOST_STRIDE = 8
"""Rows with larger strides are laid out element by element: of what vectors would load, too little is used. Such a stride is then a dim,
so that convolutions that differ in it alone, as those of a constant-Q transform, share code."""


def patch_offsets(conv: Conv) -> list[str]:
    """How a plane of the patch is made up of segments along the first axis, and the table of offsets.

    A segment holds positions from ``begins`` to ``ends``, counted from the unit's first column, at ``places`` in the plane. Taps whose
    numbers differ by a multiple of `Conv.phases` meet the same remainder.
    """
    kernel, stride, dilation, lanes = conv.kernel[0], conv.strides[0], conv.dilations[0], conv.tile.lanes
    names = ("begins", "ends", "places", "remainders", "taps")
    tables = [f"{name} = i64_at(offsets, {conv.patch_channels * conv.taps + n * kernel})" for n, name in enumerate(names)]
    row, columns = ("wide_row", "span") if conv.whole_rows else ("out_row", "unit_columns")
    return f"""\
{chr(10).join([*_wide_rows(conv), *tables])}
segments = 0
laid = 0
for phase in range({min(conv.phases(0), kernel)}):
    reach = -1
    for t in range(phase, {kernel}, {conv.phases(0)}):
        jump = udiv(t * {dilation}, {stride})
        start = jump * {row}
        if start > reach:
            laid = udiv(laid + {lanes - 1}, {lanes}) * {lanes}
            begins[segments] = start
            places[segments] = laid
            remainders[segments] = t * {dilation} - jump * {stride}
            segments += 1
            reach = start
        # Where this tap's copy overlaps the one before, only what is new is added.
        taps[t] = places[segments - 1] + start - begins[segments - 1]
        laid += start + {columns} - reach
        reach = start + {columns}
        ends[segments - 1] = reach
laid = udiv(laid + {lanes - 1}, {lanes}) * {lanes}
# An odd number of vectors, so that channels do not meet in the same places of the cache, the last for what rows write beyond their ends.
held = (udiv(laid * {conv.planes} + {lanes}, {2 * lanes}) * 2 + 1) * {lanes}
for c in range(min({conv.patch_channels}, channels)):
    for t in range({kernel}):
{indent(_plane_offsets(conv), 2)}""".splitlines()


def _wide_rows(conv: Conv) -> list[str]:
    """What whole rows have in the patch, and how much of it a unit sees at most.

    Of 39 taps along the last axis, and vectors of 16::

        wide = udiv(out1 + 53, 16) * 16
        wide_row = wide
        span = unit_columns + (wide - out1) * udiv(unit_columns + out1 - 2, out1) + 38
    """
    if not conv.whole_rows:
        return []
    last, lanes = conv.rank - 1, conv.tile.lanes
    return [
        f"wide = udiv(out{last} + {conv.reach + lanes - 1}, {lanes}) * {lanes}",
        f"wide_row = {' * '.join([*(f'out{d}' for d in range(1, last)), 'wide'])}",
        f"span = unit_columns + (wide - out{last}) * udiv(unit_columns + out{last} - 2, out{last}) + {conv.reach}",
    ]


def _plane_offsets(conv: Conv) -> list[str]:
    """Where the taps of all axes but the first, in channel c and for tap t of that, find the element of the unit's first column."""
    if not conv.whole_rows:
        return [f"for p in range({conv.planes}):", f"    offsets[c * {conv.taps} + t * {conv.planes} + p] = c * held + p * laid + taps[t]"]
    kernel, shared = conv.kernel[-1], min(conv.phases(-1), conv.kernel[-1])
    return [
        f"for p in range({conv.planes // shared}):",
        f"    for u in range({kernel}):",
        f"        jump = udiv(u * {conv.dilations[-1]}, {conv.strides[-1]})",
        f"        plane_at = (p * {shared} + urem(u, {conv.phases(-1)})) * laid",
        f"        offsets[c * {conv.taps} + (t * {conv.planes // shared} + p) * {kernel} + u] = c * held + plane_at + taps[t] + jump",
    ]


def lay_out(conv: Conv) -> list[str]:
    """Where the unit's columns find a block of channels: in the input, or in the patch, which is laid out now."""
    if conv.plain:
        return [f"source = {conv.dtype}_at(x, (outer * channels + c0) * plane + first_column)"]
    lines, start, rest, counts = ["source = patch"], "first_column", "p", list(conv.kernel)
    if conv.whole_rows:
        row, start, counts[-1] = f"out{conv.rank - 1}", "wide_start", min(conv.phases(-1), conv.kernel[-1])
        lines.append(f"wide_start = udiv(first_column, {row}) * wide + urem(first_column, {row})")
    lines.append(f"for p in range({conv.planes}):")
    for d in reversed(range(1, conv.rank)):
        place = f"t{d} * {conv.dilations[d]}"
        if conv.whole_rows and d == conv.rank - 1:
            place = f"urem({place}, {conv.strides[d]})"
        lines += [f"    t{d} = urem({rest}, {counts[d]})", f"    shift{d} = {place} - pad{d}"]
        rest = f"udiv({rest}, {counts[d]})"
    lines += [
        "    for s in range(segments):",
        "        shift0 = remainders[s] - pad0",
        f"        v = {start} + begins[s]",
        f"        end = {start} + ends[s]",
        "        at = p * laid + places[s]",
        "        while v < end:",
    ]
    lines += ["            " + line for line in _run(conv)]
    return lines


def _run(conv: Conv) -> list[str]:
    """Lay out the part of a segment that lies in one row, in all channels."""
    t, last, rest = conv.dtype, conv.rank - 1, "v"
    lines: list[str] = []
    row = "wide" if conv.whole_rows else f"out{last}"
    for d in range(last):
        below = " * ".join([*(f"out{e}" for e in range(d + 1, last)), row])
        lines += [f"y{d} = udiv({rest}, {below})", f"rest{d} = {rest} - y{d} * {below}"]
        lines += [f"row{d} = y{d} * {conv.strides[d]} + shift{d}"]
        rest = f"rest{d}"
    stride, short = ("stride", "stride - 1") if conv.far else (conv.strides[last], conv.strides[last] - 1)
    lines += [
        f"length = {f'min(end - v, {row} - {rest})' if last else 'end - v'}",
        f"start = {rest} * {stride} + shift{last}",
        f"first = min(max(floordiv({short} - start, {stride}), 0), length)",
        f"stop = max(first, min(floordiv(size{last} + {short} - start, {stride}), length))",
    ]
    inside = " and ".join(f"0 <= row{d} < size{d}" for d in range(last))
    if last:
        lines += [f"if not ({inside}):", "    stop = first"]
    place = "(outer * channels + c0) * plane"
    for d in range(last):
        place += f" + row{d} * " + " * ".join(f"size{e}" for e in range(d + 1, conv.rank))
    lines += [
        "begin = 0",
        "if first < stop:",
        f"    begin = {place} + start + first * {stride}",
        f"line = {t}_at(x, begin)",
        f"target = {t}_at(patch, at)",
    ]
    masked = conv.masks and conv.strides[last] <= MOST_STRIDE
    lines += padded_copy(masked, stride, conv.tile.lanes, "first", "stop", "length", "fill")
    return [*lines, "v += length", "at += length"]


def padded_copy(masked: bool, stride: int | str, lanes: int, first: str, stop: str, length: str, fill: str) -> list[str]:
    """A row of a patch in ``count`` channels: elements of ``line``, a stride apart, from ``first`` to ``stop``, around them ``fill``."""
    if masked:
        return [f"padded_rows({stride}, {lanes}, target, held, line, plane, {first}, {stop}, {length}, count, {fill})"]
    return f"""\
for c in range(count):
    for y in range({first}):
        target[c * held + y] = {fill}
    for y in range({first}, {stop}):
        target[c * held + y] = line[c * plane + (y - {first}) * {stride}]
    for y in range({stop}, {length}):
        target[c * held + y] = {fill}""".splitlines()
