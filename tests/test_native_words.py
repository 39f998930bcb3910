"""Products of words of bytes inside other kernels: exact on every target, whatever it multiplies them by."""

from __future__ import annotations

import numpy as np
import pytest
from template_kernels import check_guards, guarded, run

from onnx_numba.native.words import PANEL
from onnx_numba.target import TARGETS, Target

SOURCE = """
def kernel(ctx, bufs, dims, lo, hi):
    word_product(i32_p(bufs, 0), i32_p(bufs, 1), dims[0], i32_p(bufs, 2), dims[1], dims[2], dims[3])
    return 0
"""


def in_panels(matrix):
    """A matrix of bytes with a sign, as `word_product` takes it."""
    depth, columns = matrix.shape
    whole = np.zeros((-(-depth // 4) * 4, -(-columns // PANEL) * PANEL), np.int8)
    whole[:depth, :columns] = matrix
    words = np.ascontiguousarray(whole.reshape(-1, 4, whole.shape[1] // PANEL, PANEL).transpose(2, 0, 3, 1))
    return words.view(np.int32).reshape(-1)


@pytest.mark.parametrize("cpu", ["host", "generic", "python"])
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 4, 128), (9, 30, 200), (4, 13, 5), (0, 8, 8), (3, 0, 8)])
def test_product(cpu, rows, depth, columns):
    random = np.random.default_rng([rows, depth, columns])
    left = random.choice([0, 1, 127, 128, 255], (rows, depth)).astype(np.uint8)
    right = random.choice([-128, -127, -1, 0, 127], (depth, columns)).astype(np.int8)
    pitch = -(-columns // PANEL) * PANEL
    padded = np.pad(left, ((0, 0), (0, -depth % 4 + 4)))  # a row is longer than what is read of it
    memory, sums = guarded((rows, pitch), np.int32)
    dims = [padded.shape[1] // 4, rows, -(-depth // 4), columns]
    python, target = cpu == "python", Target.named("host" if cpu == "python" else cpu)
    run(SOURCE, [sums, padded.view(np.int32), in_panels(right)], dims, [(0, 1)], python=python, target=target)
    check_guards(memory)
    assert (sums[:, :columns] == left.astype(np.int32) @ right.astype(np.int32)).all()


@pytest.mark.parametrize("name", TARGETS)
def test_compiles_for_every_target(name):
    from onnx_numba.compile.numba_internals import compile_each

    assert set(dict(compile_each(SOURCE, ["kernel"], {"kernel": "k1"}, TARGETS[name]))) == {"kernel"}
