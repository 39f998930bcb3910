"""Maps that read along one axis and write along another: blocks transposed in registers, alone and with work on the elements."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper, parser
from template_kernels import check_guards, guarded, run

from onnx_numba import backend
from onnx_numba.codegen import tiles
from onnx_numba.ir import plan
from onnx_numba.ir.plan import AROUND
from onnx_numba.runtime import interpreter
from onnx_numba.target import TARGETS, Target

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
RANDOM = np.random.default_rng(5)
TYPES = {"u8": np.uint8, "u16": np.uint16, "f32": np.float32, "f64": np.float64, "c128": np.complex128}
EXTENTS = (0, 1, 3, 4, 5, 7, 8, 15, 16, 17, 40, 100, 257, 300)
PERMUTATIONS = [(1, 0), (0, 2, 1), (2, 0, 1), (2, 1, 0), (0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1, 3), (3, 2, 1, 0), (1, 3, 0, 4, 2)]


def block_source(kind: str, size: int, lanes: int, as_read: int = 0) -> str:
    return f"""\
def kernel(ctx, bufs, dims, lo, hi):
    for p in range(lo, hi):
        transpose_block({size}, {lanes}, {kind}_p(bufs, 1), dims[0], {kind}_p(bufs, 0), dims[1], dims[2], dims[3], {as_read})
    return 0
"""


@pytest.mark.parametrize("python", [False, True], ids=["compiled", "python"])
@pytest.mark.parametrize("as_read", [0, 1])
@pytest.mark.parametrize("lanes", [16, 8, 4, 2, 1])
@pytest.mark.parametrize("kind", TYPES)
def test_blocks_are_transposed_and_nothing_beside_them_is_written(kind, lanes, as_read, python):
    size = np.dtype(TYPES[kind]).itemsize
    source = block_source(kind, size, lanes, as_read)
    for rows, columns in itertools.product((0, 1, 3, 5, 16, 18, 33), (0, 1, 2, 3, 4, 7, 16, 35)):
        x = RANDOM.integers(0, 256, (columns, rows + 3)).astype(TYPES[kind])
        memory, out = guarded((rows, columns + 2), TYPES[kind])
        out[:] = 7
        run(source, [x, out], [columns + 2, rows + 3, rows, columns], [(0, 1)], python=python)
        np.testing.assert_array_equal(out[:, :columns], x.T[:rows])
        assert (out[:, columns:] == 7).all()
        check_guards(memory)


@pytest.mark.parametrize("python", [False, True], ids=["compiled", "python"])
def test_a_row_that_is_read_again_and_again(python):
    """As one that is broadcast."""
    x, out = RANDOM.random(40, np.float32), np.zeros((40, 7), np.float32)
    run(block_source("f32", 4, 8), [x, out], [7, 0, 40, 7], [(0, 1)], python=python)
    np.testing.assert_array_equal(out, np.repeat(x[:, None], 7, axis=1))


def transposed(rank: int, order: tuple[int, ...], element: int, then: str = "", shape: tuple[int, ...] | None = None, **options):
    nodes = [helper.make_node("Transpose", ["x"], ["t" if then else "y"], perm=order)]
    if then:
        nodes.append(helper.make_node(then, ["t"], ["y"]))
    extents = {"x": shape or [None] * rank, "y": [None] * rank}
    ports = [helper.make_tensor_value_info(name, element, extents[name]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    return backend.prepare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), **options)


def shapes(rank: int):
    for _ in range(4):
        shape = tuple(int(n) for n in RANDOM.choice(EXTENTS, rank))
        if np.prod(shape) < 2e6:
            yield shape
    yield (33,) * min(rank, 4) + (2,) * (rank - 4)


@pytest.mark.parametrize("order", PERMUTATIONS, ids=lambda order: "".join(map(str, order)))
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.UINT8, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL])
def test_every_permutation_of_any_extents(order, element):
    rep = transposed(len(order), order, element)
    for shape in shapes(len(order)):
        x = RANDOM.integers(-50, 50, shape).astype(helper.tensor_dtype_to_np_dtype(element))
        np.testing.assert_array_equal(rep.run([x])[0], x.transpose(order), err_msg=str(shape))


@pytest.mark.parametrize("order", PERMUTATIONS, ids=lambda order: "".join(map(str, order)))
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_every_permutation_with_work_on_the_elements(order, element):
    rep = transposed(len(order), order, element, "Neg")
    for shape in shapes(len(order)):
        x = RANDOM.integers(-50, 50, shape).astype(helper.tensor_dtype_to_np_dtype(element))
        np.testing.assert_array_equal(rep.run([x])[0], -x.transpose(order), err_msg=str(shape))


@pytest.mark.parametrize("then", ["", "Neg"])
@pytest.mark.parametrize("shape", [(2, 900), (3, 40, 2, 30), (2, 5000), (257, 300), (5, 2, 300)], ids=str)
def test_extents_that_are_known(shape, then):
    order = tuple(range(len(shape)))[::-1] if len(shape) < 4 else (0, 1, 3, 2)
    x = RANDOM.integers(-50, 50, shape).astype(np.float32)
    y = transposed(len(shape), order, TensorProto.FLOAT, then, shape).run([x])[0]
    np.testing.assert_array_equal(y, -x.transpose(order) if then else x.transpose(order))


LARGE = [
    ((2053, 2053), (1, 0), TensorProto.FLOAT, False),
    ((70_001, 63), (1, 0), TensorProto.FLOAT, False),
    ((63, 70_001), (1, 0), TensorProto.FLOAT, True),
    ((1031, 2057), (1, 0), TensorProto.INT64, False),
    ((4099, 4111), (1, 0), TensorProto.UINT8, False),
    ((1000, 9001), (1, 0), TensorProto.FLOAT16, True),
    ((1, 50, 301, 303), (0, 2, 3, 1), TensorProto.FLOAT, True),
    ((2, 301, 303, 50), (0, 3, 1, 2), TensorProto.FLOAT, False),
    ((5, 1024, 16, 64), (0, 2, 3, 1), TensorProto.FLOAT, True),
    ((1, 20, 512, 512), (0, 2, 3, 1), TensorProto.FLOAT, True),
    ((1, 20, 512, 512), (0, 2, 3, 1), TensorProto.FLOAT, False),
    ((1, 100, 501, 401), (0, 2, 3, 1), TensorProto.FLOAT, False),
    ((1, 300, 201, 401), (0, 2, 3, 1), TensorProto.FLOAT, True),
    ((1, 3, 1201, 1203), (0, 2, 3, 1), TensorProto.FLOAT, True),
    ((20, 512, 7, 61), (1, 3, 0, 2), TensorProto.FLOAT, True),
]


@pytest.mark.parametrize(("shape", "order", "element", "known"), LARGE, ids=str)
def test_results_that_go_around_the_caches(shape, order, element, known):
    x = RANDOM.integers(0, 256, shape).astype(helper.tensor_dtype_to_np_dtype(element))
    assert x.nbytes >= AROUND
    for threads in (1, 3):
        rep = transposed(len(shape), order, element, shape=shape if known else None, num_threads=threads)
        np.testing.assert_array_equal(rep.run([x])[0], x.transpose(order))


@pytest.mark.parametrize("python", [False, True], ids=["compiled", "python"])
@pytest.mark.parametrize("shape", [(70, 1), (300, 5), (33, 700), (257, 300), (1000, 20), (1050, 70), (1040, 33)], ids=str)
@pytest.mark.parametrize("known", [False, True])
def test_blocks_of_any_size_around_the_caches(monkeypatch, shape, known, python):
    """As if caches held no more than 4 KiB. Compiled, the runner does not know, but code for a size that is known has no other way."""
    for module in (tiles, plan, interpreter):
        monkeypatch.setattr(module, "AROUND", 4096)
    x = RANDOM.standard_normal(shape).astype(np.float32)
    rep = transposed(2, (1, 0), TensorProto.FLOAT, shape=shape if known else None, jit=not python, cache=False)
    np.testing.assert_array_equal(rep.run([x])[0], x.T)


def test_bits_of_moved_numbers_stay():
    """Signalling NaNs of 16 bits too, which a conversion would quiet."""
    x = RANDOM.integers(0, 1 << 16, (70, 90)).astype(np.uint16)
    x[3, 5], x[4, 6] = 0x7C01, 0x8000
    (y,) = transposed(2, (1, 0), TensorProto.FLOAT16).run([x.view(np.float16)])
    np.testing.assert_array_equal(y.view(np.uint16), x.T)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        (
            "g (float[N,40,H,W] x, float[40] b) => (float[N,M,40] y) <int64[3] to = {0, -1, 40}> "
            "{ t=Transpose<perm=[0,2,3,1]>(x) r=Reshape(t,to) y=Add(r,b) }",
            lambda x, b: x.transpose(0, 2, 3, 1).reshape(x.shape[0], -1, 40) + b,
        ),
        (
            "g (float[N,C,H,W] x, float[C] b) => (float[N,H,W,C] y, float[N,H,W,C] z) "
            "{ y=Transpose<perm=[0,2,3,1]>(x) z=Mul(y,b) }",
            lambda x, b: (x.transpose(0, 2, 3, 1), x.transpose(0, 2, 3, 1) * b),
        ),
        (
            "g (float[N,C,H,W] x, float[C] b) => (float[W,H,C,N] y) { s=Transpose(x) r=Relu(s) y=Add(r,s) }",
            lambda x, b: np.maximum(x.transpose(), 0) + x.transpose(),
        ),
    ],
    ids=["reshape_add", "both_are_outputs", "read_twice"],
)  # fmt: skip
def test_fused_with_its_neighbours(text, reference):
    rep = backend.prepare(parser.parse_model(HEAD + text))
    plan = rep._prepared.session.plan
    assert sum(item[0] == "call" for item in plan.code) == 1
    assert "transpose_block" in rep.source
    x, b = RANDOM.standard_normal((2, 40, 19, 21)).astype(np.float32), RANDOM.standard_normal(40).astype(np.float32)
    wanted = reference(x, b)
    for got, expected in zip(rep.run([x, b]), wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("kind", "dtype"), [("float", np.float32), ("double", np.float64), ("int8", np.int8)])
@pytest.mark.parametrize("columns", [7, 9, 16, 17, 40, 64, 65])
def test_few_columns_of_rows_without_a_number(kind, dtype, columns):
    """Blocks were as long as up to 64 columns, however many rows they had: too long for the local array that they are laid out in."""
    text = f"g ({kind}[N,{columns}] x, {kind}[{columns}] b) => ({kind}[{columns},N] y) {{ s=Add(x,b) y=Transpose(s) }}"
    rep = backend.prepare(parser.parse_model(HEAD + text), jit=False)
    b = np.arange(columns).astype(dtype)
    for rows in (1, 60, 256, 700):
        x = RANDOM.integers(-50, 50, (rows, columns)).astype(dtype)
        np.testing.assert_array_equal(rep.run([x, b])[0], (x + b).T)


def test_what_a_condition_guards_is_not_read_ahead():
    text = "g (float[N,M] x) => (float[P,Q] y) <int64[4] pads = {3, 5, 2, 1}> { t=Transpose(x) y=Pad(t,pads) }"
    rep = backend.prepare(parser.parse_model(HEAD + text))
    x = RANDOM.standard_normal((70, 90)).astype(np.float32)
    np.testing.assert_array_equal(rep.run([x])[0], np.pad(x.T, ((3, 2), (5, 1))))


def test_a_target_gives_the_size_of_squares():
    from onnx_numba.native.transpose import square_lanes

    assert [square_lanes(TARGETS["x86-64"], size) for size in (1, 2, 4, 8, 16)] == [16, 8, 4, 2, 1]
    wide = Target(TARGETS["x86-64"].triple, "x86-64-v4", "+avx512f,+avx512vl")
    assert [square_lanes(wide, size) for size in (1, 2, 4, 8, 16)] == [16, 16, 16, 8, 1]
