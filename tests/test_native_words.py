"""Products of words of bytes inside other kernels: exact on every target, whatever it multiplies them by."""

from __future__ import annotations

import numpy as np
import pytest
from template_kernels import check_guards, guarded, run

from onnx_numba.native.words import EITHER, PANEL, SIGNED
from onnx_numba.target import TARGETS, Target

SOURCE = """
def kernel(ctx, bufs, dims, lo, hi):
    word_product(LEFT, RIGHT, i32_p(bufs, 0), i32_p(bufs, 1), dims[0], i32_p(bufs, 2), dims[1], dims[2], dims[3])
    return 0
"""


KINDS = {
    (0, SIGNED): (0, 255, -128, 127), (SIGNED, 0): (-128, 127, 0, 255), (SIGNED, EITHER): (-128, 127, 0, 127), (0, 0): (0, 255, 0, 255),
}  # fmt: skip
"""Kinds of both operands and the bounds of their bytes."""


def source(left, right):
    return SOURCE.replace("LEFT", str(left)).replace("RIGHT", str(right))


def in_panels(matrix):
    """A matrix of bytes, as `word_product` takes it."""
    depth, columns = matrix.shape
    whole = np.zeros((-(-depth // 4) * 4, -(-columns // PANEL) * PANEL), matrix.dtype)
    whole[:depth, :columns] = matrix
    words = np.ascontiguousarray(whole.reshape(-1, 4, whole.shape[1] // PANEL, PANEL).transpose(2, 0, 3, 1))
    return words.view(np.int32).reshape(-1)


@pytest.mark.parametrize("cpu", ["host", "generic", "python"])
@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 4, 128), (9, 30, 200), (4, 13, 5), (0, 8, 8), (3, 0, 8)])
def test_product(cpu, rows, depth, columns, kinds):
    random = np.random.default_rng([rows, depth, columns])
    least, most, least_right, most_right = KINDS[kinds]
    left = random.choice([least, least + 1, 0, 1, most], (rows, depth)).astype(np.int8 if least else np.uint8)
    right = random.choice([least_right, 1, most_right], (depth, columns)).astype(np.int8 if least_right else np.uint8)
    pitch = -(-columns // PANEL) * PANEL
    padded = np.pad(left, ((0, 0), (0, -depth % 4 + 4)))  # a row is longer than what is read of it
    memory, sums = guarded((rows, pitch), np.int32)
    dims = [padded.shape[1] // 4, rows, -(-depth // 4), columns]
    python, target = cpu == "python", Target.named("host" if cpu == "python" else cpu)
    run(source(*kinds), [sums, padded.view(np.int32), in_panels(right)], dims, [(0, 1)], python=python, target=target)
    check_guards(memory)
    assert (sums[:, :columns] == left.astype(np.int32) @ right.astype(np.int32)).all()


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("name", TARGETS)
def test_compiles_for_every_target(name, kinds):
    from onnx_numba.compile.numba_internals import compile_each

    assert set(dict(compile_each(source(*kinds), ["kernel"], {"kernel": "k1"}, TARGETS[name]))) == {"kernel"}
