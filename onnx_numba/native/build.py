"""Outputs that are Python objects, made by compiled code: maps from class to score, and strings.

They are made of a tensor and a table of objects, as the words ``B_…`` of ``onnx_numba.ir.abi`` say. What is odd (a position
outside the table, say) is left to the step's Python function, which has words for it.
"""

from __future__ import annotations

from onnx_numba.ir.abi import (
    A_DATA,
    B_BUFFER,
    B_COUNT,
    B_DIMS,
    B_KIND,
    B_MAP,
    B_OUTPUT,
    B_RANK,
    B_TABLE,
    BUILD_ITEMS,
    BUILD_MAPS,
    BUILD_TEXT,
    BUILD_WORDS,
    F_BUILDS,
    F_DECREF,
    F_DICT_COPY,
    F_DICT_SET,
    F_DIMS,
    F_FLOAT,
    F_INCREF,
    F_LIST_NEW,
    F_LIST_SET,
    F_MADE,
    F_NDARRAY,
    F_NEW_ARRAY,
    F_OBJECT,
    F_SHAPE,
    S_BUFS,
    S_SLOTS,
)
from onnx_numba.native.address import call_c, call_real, words_at
from onnx_numba.native.memory import POINTERS, atomic_load
from onnx_numba.native.strings import text

_pointers = {record.name: record for record in POINTERS}
i64_p, i64_at, f32_p, f32_at = (_pointers[name] for name in ("i64_p", "i64_at", "f32_p", "f32_at"))


def build(front, state, number):  # type: ignore[no-untyped-def]
    """Do a Python step: 1, 0 if Python has to, or -1 if there was an exception."""
    step = i64_at(i64_p(front, F_BUILDS), number * BUILD_WORDS)
    made = 0
    if step[B_KIND] == BUILD_TEXT:
        return text(front, state, step, number)
    if step[B_KIND] == BUILD_MAPS:
        made += maps(front, state, step)
    elif step[B_KIND] == BUILD_ITEMS:
        made += items(front, state, step)
    if made <= 0:
        return made
    i64_p(front, F_MADE)[step[B_OUTPUT]] = made
    return 1


def maps(front, state, step):  # type: ignore[no-untyped-def]
    """A list with a map per row; its address, 0 or -1 as for `build`."""
    slots, dims = i64_p(state, S_SLOTS), i64_at(i64_p(front, F_DIMS), step[B_DIMS])
    count, rows = step[B_COUNT], 1
    if step[B_RANK] == 2:
        rows = slots[dims[0]]
    if rows < 0 or slots[dims[step[B_RANK] - 1]] != count:
        return 0
    scores = f32_p(i64_p(state, S_BUFS), step[B_BUFFER])
    result = call_c(front[F_LIST_NEW], rows)
    if result == 0:
        return -1
    for row in range(rows):
        item = one_map(front, step, f32_at(scores, row * count))
        if item == 0:
            call_c(front[F_DECREF], result)
            return -1
        call_c(front[F_LIST_SET], result, row, item)
    return result


def one_map(front, step, scores):  # type: ignore[no-untyped-def]
    """A copy of the step's dict, which has the keys and room for them already, with a row's scores; 0 for an exception."""
    made = call_c(front[F_DICT_COPY], step[B_MAP])
    if made == 0:
        return 0
    keys = i64_p(step, B_TABLE)
    for k in range(step[B_COUNT]):
        score = call_real(front[F_FLOAT], scores[k])
        failed = 1
        if score != 0:
            failed = call_c(front[F_DICT_SET], made, atomic_load(keys, k), score) & 0xFFFFFFFF
            call_c(front[F_DECREF], score)
        if failed != 0:
            call_c(front[F_DECREF], made)
            return 0
    return made


def items(front, state, step):  # type: ignore[no-untyped-def]
    """An array of the table's objects at positions; its address, 0 or -1 as for `build`."""
    slots, dims = i64_p(state, S_SLOTS), i64_at(i64_p(front, F_DIMS), step[B_DIMS])
    shape = i64_p(front, F_SHAPE)
    size = 1
    for axis in range(step[B_RANK]):
        shape[axis] = slots[atomic_load(dims, axis)]
        if shape[axis] < 0:
            return 0
        size *= shape[axis]
    positions, table = i64_p(i64_p(state, S_BUFS), step[B_BUFFER]), i64_p(step, B_TABLE)
    for k in range(size):
        if positions[k] < 0 or positions[k] >= step[B_COUNT]:
            return 0
    call_c(front[F_INCREF], front[F_OBJECT])
    array = call_c(front[F_NEW_ARRAY], front[F_NDARRAY], front[F_OBJECT], step[B_RANK], front[F_SHAPE], 0, 0, 0, 0)
    if array == 0:
        return -1
    places = words_at(words_at(array + A_DATA)[0])
    for k in range(size):
        item = atomic_load(table, positions[k])
        call_c(front[F_INCREF], item)
        places[k] = item
    return array
