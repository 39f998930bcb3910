"""Matrix products against float64, those of bytes against int32, at every kind of edge, stride and split."""

from __future__ import annotations

import numpy as np
import pytest
from template_kernels import check_guards, guarded, run, splits

from onnx_numba.ir.dims import Sym
from onnx_numba.ir.types import DTYPES
from onnx_numba.native.dot import Dot
from onnx_numba.native.tile import NARROW, Tile, byte_tile, tile_shape
from onnx_numba.target import LEVELS, TARGETS, Target, host_target, level
from onnx_numba.templates.gemm import Gemm, gemm_source
from onnx_numba.templates.packing import pack_b_source, packed_size

TYPES = {"f32": (np.float32, 2e-5), "f64": (np.float64, 1e-13)}
SMALL = {"block_depth": 16, "row_tiles": 2, "column_panels": 2}


def relu(b):
    return [
        f"for i in range({b.i1} - {b.i0}):",
        f"    for j in range({b.j1} - {b.j0}):",
        f"        {b.block}[i * {b.pitch} + j] = max_({b.block}[i * {b.pitch} + j], f32(0.0))",
    ]


def to_other_buffer(b):
    """Twice the value, as float64, into a buffer of its own, whose row length is the epilogue's first dim."""
    return [
        "other = f64_p(bufs, 2)",
        f"for i in range({b.i0}, {b.i1}):",
        f"    for j in range({b.j0}, {b.j1}):",
        f"        value = {b.block}[(i - {b.i0}) * {b.pitch} + j - {b.j0}]",
        f"        other[({b.batch} * m + i) * dims[6] + j] = f64(value) * 2.0",
    ]


def numbers(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def element_strides(array):
    return [s // array.itemsize for s in array.strides]


def pack(gemm, b, python=False):
    """Pack the matrices of B, an array of rank 2 + n with any strides; gives the buffer."""
    *batch, k, n = b.shape
    count = int(np.prod(batch))
    memory, packed = guarded((packed_size(n, k, gemm.tile, count),), np.int32 if gemm.tile.dot else b.dtype)
    *outer, row, col = element_strides(b)
    dims = [n, k, row, col, *(x for pair in zip(batch, outer, strict=True) for x in pair)]
    source = pack_b_source("kernel", gemm.right, gemm.tile, len(batch))
    run(source, [b, packed], dims, splits(count * -(-n // gemm.tile.columns)), python=python)
    check_guards(memory)
    return packed


def multiply(gemm, a, b, bias=None, epilogue=None, ranges=None, python=False, extra=(), extra_dims=()):
    """C from A and B, arrays whose batch dims broadcast."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    packed = pack(gemm, b, python)
    memory, c = guarded((*batch, m, n), np.int32 if gemm.tile.dot else a.dtype)
    *a_batch, a_row, a_col = element_strides(np.broadcast_to(a, (*batch, m, k)))
    stored = np.arange(int(np.prod(b.shape[:-2]))).reshape(b.shape[:-2])
    b_batch = element_strides(np.broadcast_to(stored, batch))
    dims = gemm.dims(m, n, k, a_row, a_col, list(zip(batch, a_batch, b_batch, strict=True)))
    buffers = [a, packed, *([] if gemm.in_scratch else [c]), *([] if bias is None else [bias]), *extra]
    source = gemm_source("kernel", gemm, *([epilogue] if epilogue else []))
    units = gemm.work_units(dims)
    run(source, buffers, [*dims, *extra_dims], ranges or [(0, units)], gemm.scratch_bytes(dims), python)
    check_guards(memory)
    return c


def exact(a, b):
    return a.astype(np.float64) @ b.astype(np.float64)


def close(found, a, b, tolerance, plus=0.0):
    scale = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)) + np.abs(plus) + 1e-30
    np.testing.assert_array_less(np.abs(found - (exact(a, b) + plus)) / scale, tolerance)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("blocks", [{}, SMALL], ids=["blocks", "small_blocks"])
def test_odd_sizes(dtype, blocks):
    kind, tolerance = TYPES[dtype]
    gemm = Gemm(dtype, tile_shape(host_target(), dtype), **blocks)
    random = np.random.default_rng(1)
    sizes = [(i, j, k) for i, j, k in random.integers(1, 41, (60, 3)).tolist()]
    for m, n, k in [
        *sizes,
        *((i, 33, 17) for i in range(1, 41)),
        *((15, j, 17) for j in range(1, 41)),
        (150, 300, 300),
        (57, 1100, 70),
    ]:
        a, b = numbers((m, k), kind), numbers((k, n), kind, 1)
        close(multiply(gemm, a, b), a, b, tolerance)


def test_nothing_to_sum_or_to_write():
    gemm = Gemm("f32", tile_shape(host_target(), "f32"))
    assert (multiply(gemm, np.ones((5, 0), "f4"), np.ones((0, 7), "f4")) == 0).all()
    assert multiply(gemm, np.ones((0, 3), "f4"), np.ones((3, 7), "f4")).shape == (0, 7)
    assert multiply(gemm, np.ones((3, 3), "f4"), np.ones((3, 0), "f4")).shape == (3, 0)
    assert gemm.work_units(gemm.dims(0, 7, 3, 3, 1)) == gemm.work_units(gemm.dims(7, 0, 3, 3, 1)) == 0
    bias = numbers(7, np.float32)
    biased = Gemm("f32", gemm.tile, bias=True)
    assert (multiply(biased, np.ones((5, 0), "f4"), np.ones((0, 7), "f4"), bias) == bias).all()


@pytest.mark.parametrize("blocks", [{}, SMALL], ids=["blocks", "small_blocks"])
def test_bias_and_epilogue(blocks):
    gemm = Gemm("f32", tile_shape(host_target(), "f32"), bias=True, **blocks)
    for m, n, k in [(1, 256, 256), (30, 45, 60), (100, 130, 40)]:
        a, b, bias = numbers((m, k), "f4"), numbers((k, n), "f4", 1), numbers(n, "f4", 2)
        plain = multiply(gemm, a, b, bias)
        close(plain, a, b, 2e-5, bias)
        assert (multiply(gemm, a, b, bias, relu) == np.maximum(plain, 0)).all()


@pytest.mark.parametrize("blocks", [{}, SMALL], ids=["blocks", "small_blocks"])
def test_epilogue_from_scratch(blocks):
    gemm = Gemm("f32", tile_shape(host_target(), "f32"), in_scratch=True, **blocks)
    direct = Gemm("f32", gemm.tile, **blocks)
    for m, n, k in [(1, 5, 3), (30, 45, 60), (130, 600, 40)]:
        a, b = numbers((m, k), "f4"), numbers((k, n), "f4", 1)
        memory, other = guarded((m, n), np.float64)
        multiply(gemm, a, b, epilogue=to_other_buffer, extra=[other], extra_dims=[n])
        check_guards(memory)
        assert (other == multiply(direct, a, b).astype(np.float64) * 2).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_strides_and_transposes(dtype):
    kind, tolerance = TYPES[dtype]
    gemm = Gemm(dtype, tile_shape(host_target(), dtype), **SMALL)
    for m, n, k in [(31, 70, 45), (3, 5, 20), (14, 32, 33)]:
        left = [numbers((m, k), kind), numbers((k, m), kind).T, numbers((2 * m, 3 * k), kind)[::2, ::3]]
        right = [numbers((k, n), kind, 1), numbers((n, k), kind, 1).T, numbers((3 * k, 2 * n), kind, 1)[::3, ::2]]
        for a in left:
            for b in right:
                found = multiply(gemm, a, b)
                close(found, a, b, tolerance)
                assert (found == multiply(gemm, a.copy(), b.copy())).all()


def test_units_of_few_rows_share_columns():
    gemm = Gemm("f32", tile_shape(host_target(), "f32"))
    a, b = numbers((gemm.few_rows + 1, 3000), "f4"), numbers((3000, 700), "f4", 1)
    whole, few = multiply(gemm, a, b), a[: gemm.few_rows]
    units = gemm.work_units(gemm.dims(len(few), 700, 3000, 3000, 1))
    assert 1 < units <= 700 // gemm.fewest_columns
    assert (multiply(gemm, few, b, ranges=[(u, u + 1) for u in range(units)]) == whole[: len(few)]).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_in_place_and_known_columns(dtype):
    """The same bits whether A is packed or not, and however wide tiles are; of rows in place none beyond A are read."""
    kind, _ = TYPES[dtype]
    packs = Gemm(dtype, tile_shape(host_target(), dtype), **SMALL)
    for m, n, k in [(1, 1, 1), (7, 49, 17), (14, 32, 16), (27, 45, 40), (49, 17, 33), (30, 77, 40), (45, 16, 20)]:
        b, wide = numbers((k, n), kind, 1), numbers((m, 1024), kind)
        reads = Gemm(dtype, tile_shape(host_target(), dtype, n), in_place=True, columns=n, **SMALL)
        for a in (wide[:, :k].copy(), wide[:, :k], numbers((k, m), kind).T):
            memory, held = guarded(a.shape, kind)
            held[:] = a
            assert (multiply(reads, held, b) == multiply(packs, a, b)).all()
            assert (multiply(reads, a, b) == multiply(packs, a, b)).all()
            check_guards(memory)


NARROW_TILES = [tile_shape(host_target(), "f32"), Tile(6, 2, 8), Tile(8, 2, 4), Tile(4, 2, 4, False)]


@pytest.mark.parametrize("name", NARROW)
def test_right_operand_of_fewer_bits(name):
    """The bits are those of the product with the same numbers in float32, of few rows and of many."""
    kind = DTYPES[name].numpy
    for tile in NARROW_TILES:
        plain = Gemm("f32", tile, **SMALL)
        for m, n, k in [(1, 1, 1), (1, 200, 40), (3, 33, 17), (10, 70, 33), (17, 45, 20), (29, 64, 37), (70, 130, 40)]:
            narrow = plain.with_narrow(name, m) if m < 20 else plain.with_narrow(name, Sym("m"))
            assert narrow.few == (4 * m <= 3 * tile.rows)
            a, b = numbers((m, k), "f4"), (numbers((k, n), "f4", 1) * 40).astype(kind)
            if DTYPES[name].is_float:
                b[0, 0], b[-1, -1] = np.inf, np.nan
            wide, wanted = b.astype(np.float32), None
            for right in (b, b.T.copy().T):
                stored = right.view(f"u{kind.itemsize}") if DTYPES[name].is_float else right
                found = multiply(narrow, a, stored)
                wanted = multiply(plain, a, wide) if wanted is None else wanted
                np.testing.assert_array_equal(found, wanted)
    tile = Tile(3, 2, 2)
    a, b = numbers((11, 21), "f4"), np.arange(21 * 7).reshape(21, 7).astype(kind)
    stored = b.view(f"u{kind.itemsize}") if DTYPES[name].is_float else b
    python = multiply(Gemm("f32", tile, **SMALL).with_narrow(name, 11), a, stored, python=True)
    close(python, a, b.astype(np.float32), 2e-5)


def test_batches_broadcast():
    gemm = Gemm("f32", tile_shape(host_target(), "f32"), batch_rank=2, **SMALL)
    shapes = [((2, 3), (2, 3)), ((1, 3), (2, 1)), ((2, 1), (1, 1)), ((1, 1), (2, 3)), ((0, 3), (1, 3))]
    for left, right in shapes:
        a, b = numbers((*left, 17, 20), "f4"), numbers((*right, 20, 37), "f4", 1)
        close(multiply(gemm, a, b), a, b, 2e-5)
    heads = numbers((2, 17, 3, 20), "f4").transpose(0, 2, 1, 3)  # as attention has them
    keys = numbers((2, 29, 3, 20), "f4", 1).transpose(0, 2, 3, 1)
    close(multiply(gemm, heads, keys), heads, keys, 2e-5)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("blocks", [{}, SMALL], ids=["blocks", "small_blocks"])
def test_equal_data_gives_equal_bits_everywhere(dtype, blocks):
    """Rows and columns that hold the same numbers: all elements of C are the same, in tiles, edges and single rows."""
    kind, _ = TYPES[dtype]
    gemm = Gemm(dtype, tile_shape(host_target(), dtype), **blocks)
    for k in (1, 5, 16, 100, 300, 700):
        row, column = numbers(k, kind) * 1e5, numbers(k, kind, 1)
        bits = set()
        for m, n in [(1, 1), (1, 300), (13, 47), (14, 32), (33, 150), (120, 530)]:
            c = multiply(gemm, np.tile(row, (m, 1)), np.tile(column[:, None], (1, n)))
            bits |= set(np.unique(c).tolist())
        assert len(bits) == 1


def test_any_split_gives_the_same_bits():
    gemm = Gemm("f32", tile_shape(host_target(), "f32"), batch_rank=1, **SMALL)
    a, b = numbers((3, 61, 50), "f4"), numbers((1, 50, 170), "f4", 1)
    whole = multiply(gemm, a, b)
    units = gemm.work_units(gemm.dims(61, 170, 50, 50, 1, [(3, 61 * 50, 0)]))
    for seed in range(5):
        assert (multiply(gemm, a, b, ranges=splits(units, seed)) == whole).all()
    assert (multiply(gemm, a, b, ranges=[(u, u + 1) for u in range(units)]) == whole).all()


def test_plain_python_agrees():
    for tile in (Tile(3, 2, 2), tile_shape(host_target(), "f32")):
        gemm = Gemm("f32", tile, bias=True, batch_rank=1, **SMALL)
        a, b, bias = numbers((2, 23, 21), "f4"), numbers((1, 21, 37), "f4", 1), numbers(37, "f4", 2)
        python = multiply(gemm, a, b, bias, relu, python=True)
        np.testing.assert_allclose(python, multiply(gemm, a, b, bias, relu), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "tile", [Tile(6, 2, 8), Tile(8, 2, 4), Tile(4, 2, 4, False), Tile(14, 1, 16), Tile(5, 3, 4), Tile(1, 4, 8)], ids=str
)
def test_tiles_of_other_targets(tile):
    gemm = Gemm("f32", tile, **SMALL)
    for m, n, k in [(1, 1, 1), (7, 19, 33), (40, 100, 20), (29, 64, 37)]:
        a, b = numbers((m, k), "f4"), numbers((k, n), "f4", 1)
        close(multiply(gemm, a, b), a, b, 2e-5)


def test_tile_shapes():
    generic, arm = TARGETS["x86-64"], TARGETS["aarch64-linux"]
    assert tile_shape(generic, "f32") == Tile(4, 2, 4, False)
    assert tile_shape(arm, "f64") == Tile(8, 2, 2, True, registers=32)
    assert tile_shape(arm, "f32", columns=3).columns == 4


@pytest.mark.parametrize("target", [*TARGETS.values(), level("x86-64-v3"), level("x86-64-v4")], ids=lambda target: target.cpu)
def test_sums_of_every_tile_fit_the_registers(target):
    for tile in (tile_shape(target, "f32"), tile_shape(target, "f64"), tile_shape(target, "f32", columns=1), byte_tile(target, "u8", "i8")):
        shapes = [(tile.rows, tile.vectors), *((rows, panels * tile.vectors) for rows, panels in tile.low)]
        assert [rows for rows, _ in shapes][-1] == 1
        assert all(tile.fits(rows, vectors) for rows, vectors in shapes), shapes


BYTES = {"u8": np.uint8, "i8": np.int8}
PAIRS = [(left, right) for left in BYTES for right in BYTES]


def byte_tiles(left, right):
    """The host's own tile, and those of targets without an instruction for bytes, which run anywhere."""
    yield byte_tile(host_target(), left, right)
    for vectors, lanes in ((2, 4), (2, 8), (1, 16)):
        for kind in ("pairs", "halves"):
            yield Tile(4, vectors, lanes, dot=Dot(kind, left, right))


def some_bytes(shape, kind, seed=0):
    """Bytes of which every third is the least or the greatest."""
    random, limits = np.random.default_rng(seed), np.iinfo(BYTES[kind])
    numbers = random.integers(limits.min, limits.max + 1, shape)
    return np.where(random.integers(0, 3, shape) == 0, random.choice([limits.min, limits.max], shape), numbers).astype(BYTES[kind])


def exact_bytes(a, b):
    return np.matmul(a.astype(np.int64), b.astype(np.int64)).astype(np.int32)


@pytest.mark.parametrize(("left", "right"), PAIRS)
@pytest.mark.parametrize("blocks", [{}, SMALL], ids=["blocks", "small_blocks"])
def test_bytes(left, right, blocks):
    random = np.random.default_rng(1)
    sizes = [tuple(s) for s in random.integers(1, 41, (20, 3)).tolist()]
    for tile in byte_tiles(left, right):
        gemm = Gemm("i32", tile, **blocks)
        for m, n, k in [*sizes, *((i, 33, 17) for i in range(1, 16)), *((5, 7, i) for i in range(10)), (130, 70, 300), (17, 70, 2100)]:
            a, b = some_bytes((m, k), left), some_bytes((k, n), right, 1)
            assert (multiply(gemm, a, b) == exact_bytes(a, b)).all()


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_bytes_at_any_strides(left, right):
    for tile in byte_tiles(left, right):
        gemm = Gemm("i32", tile, **SMALL)
        m, n, k = 31, 70, 45
        lefts = [some_bytes((k, m), left).T, some_bytes((2 * m, 3 * k), left)[::2, ::3], some_bytes((m, k + 3), left)[:, 3:]]
        rights = [some_bytes((n, k), right, 1).T, some_bytes((3 * k, 2 * n), right, 1)[::3, ::2], some_bytes((k, n + 5), right, 1)[:, 5:]]
        for a in lefts:
            for b in rights:
                assert (multiply(gemm, a, b) == exact_bytes(a, b)).all()
        stacks = Gemm("i32", tile, batch_rank=2, **SMALL)
        for first, second in (((2, 3), (2, 3)), ((1, 3), (2, 1)), ((2, 1), (1, 1)), ((0, 3), (1, 3))):
            a, b = some_bytes((*first, 17, 22), left), some_bytes((*second, 22, 37), right, 1)
            assert (multiply(stacks, a, b) == exact_bytes(a, b)).all()


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_sums_of_bytes_start_from_numbers_and_wrap(left, right):
    gemm = Gemm("i32", byte_tile(host_target(), left, right), bias=True)
    a, b = some_bytes((20, 50), left), some_bytes((50, 40), right, 1)
    bias = np.random.default_rng(2).integers(2**31 - 1000, 2**31, 40).astype(np.int32)
    assert (multiply(gemm, a, b, bias) == exact_bytes(a, b) + bias).all()


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_plain_python_gives_the_same_sums_of_bytes(left, right):
    for tile in byte_tiles(left, right):
        gemm = Gemm("i32", tile, batch_rank=1, **SMALL)
        a, b = some_bytes((2, 11, 21), left), some_bytes((1, 21, 37), right, 1)
        assert (multiply(gemm, a, b, python=True) == exact_bytes(a, b)).all()


def test_any_split_gives_the_same_sums_of_bytes():
    gemm = Gemm("i32", byte_tile(host_target(), "i8", "i8"), batch_rank=1, **SMALL)
    a, b = some_bytes((3, 61, 50), "i8"), some_bytes((1, 50, 170), "i8", 1)
    units = gemm.work_units(gemm.dims(61, 170, 50, 50, 1, [(3, 61 * 50, 0)]))
    for seed in range(3):
        assert (multiply(gemm, a, b, ranges=splits(units, seed)) == exact_bytes(a, b)).all()


def test_long_work_is_units_of_fewer_rows():
    gemm = Gemm("f32", tile_shape(host_target(), "f32"))
    rows = gemm.tile.rows
    for m, n, k in [(5 * rows, 512, 2048), (60 * rows + 3, 40, 3000), (3 * rows + 1, 1000, 1 << 20)]:
        units = gemm.work_units(gemm.dims(m, n, k, k, 1))
        columns = -(-n // gemm.block_columns)
        assert columns * -(-m // gemm.block_rows) <= units <= columns * -(-m // (3 * rows))
    a, b = numbers((5 * rows - 2, 2100), "f4"), numbers((2100, 500), "f4", 1)
    assert gemm.work_units(gemm.dims(*a.shape[:1], 500, 2100, 2100, 1)) == 2
    close(multiply(gemm, a, b), a, b, 1e-6)


def test_rows_that_displace_each_other_are_multiplied_where_they_are_in_high_blocks():
    tile = tile_shape(host_target(), "f32")
    wide = Gemm("f32", tile, in_place=True)
    high = wide.for_rows(128, 1024, 1)
    assert high.block_rows == 2 * wide.block_rows
    assert high.block_columns == wide.fewest_columns
    assert high == wide.for_rows(Sym("m"), 4096, 1)
    for other in [(128, 1000, 1), (128, Sym("k"), 1), (128, 1024, 1024), (tile.rows - 1, 1024, 1)]:
        assert wide.for_rows(*other) is wide
    assert Gemm("f32", tile).for_rows(128, 1024, 1) == Gemm("f32", tile)
    for m in (tile.rows, 5 * tile.rows + 3, 20 * tile.rows - 1):
        a, b = numbers((m, 1024), "f4"), numbers((1024, 7 * tile.columns - 5), "f4", 1)
        found = multiply(high, a, b)
        close(found, a, b, 1e-6)
        assert (found == multiply(wide, a, b)).all()
        units = high.work_units(high.dims(m, b.shape[1], 1024, 1024, 1))
        assert units == 2 * -(-m // high.unit_rows(b.shape[1], 1024))
        for seed in range(2):
            assert (multiply(high, a, b, ranges=splits(units, seed)) == found).all()


INSTRUCTIONS = {
    "vpdpbusd.512": Target("x86_64-unknown-linux-gnu", "x86-64-v4", f"{LEVELS['x86-64-v4']},+avx512vnni"),
    "vpdpbusd.256": Target("x86_64-unknown-linux-gnu", "x86-64-v3", f"{LEVELS['x86-64-v3']},+avxvnni"),
    "sdot": Target("aarch64-unknown-linux-gnu", "generic", "+dotprod"),
    "pmaddwd": Target("x86_64-unknown-linux-gnu", "x86-64"),
    "addp": Target("aarch64-unknown-linux-gnu", "generic"),
}


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
@pytest.mark.parametrize("left", BYTES)
def test_targets_multiply_bytes_by_their_own_instruction(instruction, left):
    text = assembly_of(INSTRUCTIONS[instruction], left)
    assert instruction.partition(".")[0] in text
    assert ("zmm" in text) == (instruction == "vpdpbusd.512")
    assert "maddubs" not in text, "that saturates"


def test_bytes_of_both_kinds_have_an_instruction_on_newer_arm_processors():
    target = Target("aarch64-unknown-linux-gnu", "generic", "+dotprod,+i8mm")
    assert "usdot" in assembly_of(target, "u8") and "\tsdot" in assembly_of(target, "i8")


def assembly_of(target, left):
    """The assembly of a product of bytes, of which those on the right have a sign."""
    import llvmlite.binding as llvm

    from onnx_numba.compile.bridge import define
    from onnx_numba.compile.llvm import KERNEL_SIGNATURE, isolate, optimise, target_machine
    from onnx_numba.compile.numba_internals import compile_ir

    source = gemm_source("kernel", Gemm("i32", byte_tile(target, left, "i8")))
    module, inner = compile_ir(define(source)["kernel"], KERNEL_SIGNATURE, target)
    module = llvm.parse_assembly(str(module))
    isolate(module, inner)
    optimise(module, target)
    return target_machine(target).emit_assembly(module)


@pytest.mark.parametrize("name", TARGETS)
def test_compiles_for_every_target(name):
    from onnx_numba.compile.numba_internals import compile_each

    target = TARGETS[name]
    tile = tile_shape(target, "f32")
    source = gemm_source("kernel", Gemm("f32", tile)) + pack_b_source("pack", "f32", tile)
    assert set(dict(compile_each(source, ["kernel", "pack"], {"kernel": "k1", "pack": "k2"}, target))) == {"kernel", "pack"}
    tile = byte_tile(target, "u8", "i8")
    source = gemm_source("kernel", Gemm("i32", tile)) + pack_b_source("pack", "i32", tile)
    assert set(dict(compile_each(source, ["kernel", "pack"], {"kernel": "k1", "pack": "k2"}, target))) == {"kernel", "pack"}
