"""Copies of rows: by the C library where they are long, by a loop where they are short, whatever the bits mean."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser
from template_kernels import check_guards, guarded, run

from onnx_numba import backend
from onnx_numba.native.memory import LONG

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
RANDOM = np.random.default_rng(3)
KERNEL = """\
def kernel(ctx, bufs, dims, lo, hi):
    for p in range(lo, hi):
        move({size}, {kind}_at({kind}_p(bufs, 1), 2), {kind}_at({kind}_p(bufs, 0), 1), dims[0])
    return 0
"""


@pytest.mark.parametrize("python", [False, True], ids=["compiled", "python"])
@pytest.mark.parametrize(("kind", "size"), [("u8", 1), ("f32", 4), ("c128", 16)])
@pytest.mark.parametrize("length", [0, 1, 37, LONG // 4, LONG + 5])
def test_as_many_elements_are_moved_as_are_said(kind, size, length, python):
    x = RANDOM.integers(0, 100, length + 2).astype({"u8": np.uint8, "f32": np.float32, "c128": np.complex128}[kind])
    memory, out = guarded((length + 4,), x.dtype)
    out[:] = 7
    run(KERNEL.format(size=size, kind=kind), [x, out], [length], [(0, 1)], python=python)
    np.testing.assert_array_equal(out[2 : 2 + length], x[1 : 1 + length])
    assert (out[:2] == 7).all() and (out[2 + length :] == 7).all()
    check_guards(memory)


@pytest.mark.parametrize("width", [0, 3, 700, 5000])
def test_parts_of_rows_are_moved(width):
    text = "g (float16[N,A] a, float16[N,B] b) => (float16[N,C] y) { y=Concat<axis=1>(a,b) }"
    a, b = (RANDOM.integers(0, 1 << 16, (5, n)).astype(np.uint16) for n in (width, 9))
    rep = backend.prepare(parser.parse_model(HEAD + text))
    (y,) = rep.run([a.view(np.float16), b.view(np.float16)])
    np.testing.assert_array_equal(y.view(np.uint16), np.concatenate([a, b], 1))
    assert "move_around(ctx, 2, " in rep.source


def test_rows_that_an_index_names_are_moved_and_the_index_is_checked():
    rep = backend.prepare(parser.parse_model(HEAD + "g (float[N,M] x, int64[K] i) => (float[K,M] y) { y=Gather(x,i) }"))
    assert "move_around(ctx, 4, " in rep.source
    for width in (3, 3000):
        x, i = RANDOM.standard_normal((6, width)).astype(np.float32), np.array([5, -6, 0, -1])
        np.testing.assert_array_equal(rep.run([x, i])[0], x[i])
        with pytest.raises(Exception, match="Gather"):
            rep.run([x, np.array([0, 6])])


def test_a_single_axis_is_moved_in_pieces():
    rep = backend.prepare(parser.parse_model(HEAD + "g (float[N] x, int64[1] a, int64[1] b) => (float[M] y) { y=Slice(x,a,b) }"))
    x = RANDOM.standard_normal(30_000).astype(np.float32)
    for start, stop in ((0, 30_000), (1, 9000), (17, 17), (5, 25_001)):
        np.testing.assert_array_equal(rep.run([x, np.array([start]), np.array([stop])])[0], x[start:stop])


@pytest.mark.parametrize("kind", ["float", "uint8", "double"])
@pytest.mark.parametrize("colours", [2, 3])
@pytest.mark.parametrize("pictures", [1, 2])
def test_colours_are_parted_pixel_by_pixel(kind, colours, pictures):
    text = f"g ({kind}[{pictures},H,W,{colours}] x) => ({kind}[N,C,H,W] y) {{ y=Transpose<perm=[0,3,1,2]>(x) }}"
    rep = backend.prepare(parser.parse_model(HEAD + text))
    assert f"in range({colours}):" in rep.source
    for height, width in ((1, 1), (5, 7), (40, 33), (0, 4)):
        shape = pictures, height, width, colours
        x = RANDOM.integers(0, 255, shape).astype({"float": "f4", "uint8": "u1", "double": "f8"}[kind])
        np.testing.assert_array_equal(rep.run([x])[0], x.transpose(0, 3, 1, 2))


def test_colours_are_parted_while_they_are_scaled():
    text = """g (uint8[1,H,W,3] x, float[3] mean, float[3] scale) => (float[1,3,H,W] y)
        { f=Cast<to=1>(x) c=Sub(f,mean) s=Div(c,scale) y=Transpose<perm=[0,3,1,2]>(s) }"""
    rep = backend.prepare(parser.parse_model(HEAD + text))
    x, mean = RANDOM.integers(0, 255, (1, 30, 21, 3)).astype(np.uint8), np.array([1, 2, 3], np.float32)
    (y,) = rep.run([x, mean, mean * 2])
    np.testing.assert_array_equal(y, ((x.astype(np.float32) - mean) / (mean * 2)).transpose(0, 3, 1, 2))
    assert rep.source.count("def ") == 1 and "in range(3):" in rep.source
