"""The edges of the domain: scalars and empty tensors, negative axes, extreme numbers, and whatever ranks come."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, defs, helper, parser
from operators import Case, check, onnxruntime_outputs

from onnx_numba import backend, errors
from onnx_numba.ir.types import BY_ONNX_NAME

Array = np.ndarray[Any, Any]
HEAD = '<ir_version: 10, opset_import: ["" : 21]>\ng '
BOTH = pytest.mark.parametrize("jit", [True, False], ids=["compiled", "python"])


def f32(*shape: int) -> Array:
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def prepared(text: str, jit: bool = True) -> backend.BackendRep:
    return backend.prepare(parser.parse_model(HEAD + text), jit=jit)


# Beside onnxruntime

CASES = [
    Case("Add", 14, [f32(), f32(0, 2)]),
    Case("Add", 14, [f32(1, 1), f32()]),
    Case("Softmax", 13, [f32(2, 0)], {"axis": -1}),
    Case("Softmax", 13, [f32(2, 3)], {"axis": -2}),
    Case("LogSoftmax", 13, [f32(0, 3)], {"axis": -2}),
    Case("ReduceSum", 13, [f32(2, 0), i64(-1)], {"keepdims": 0}, (1,)),
    Case("ReduceSum", 13, [f32(0, 3), i64(0)], {"keepdims": 1}, (1,)),
    Case("ReduceProd", 18, [f32(2, 0), i64(1)], {"keepdims": 0}, (1,)),
    Case("ReduceSum", 13, [f32()], {"keepdims": 0}),
    Case("ArgMax", 13, [f32(0, 3)], {"axis": -1, "keepdims": 0}),
    Case("CumSum", 14, [f32(2, 0), i64(-1)[0]], {}, (1,)),
    Case("CumSum", 14, [f32(2, 3), i64(-2)[0]], {"reverse": 1, "exclusive": 1}, (1,)),
    Case("Concat", 13, [f32(2, 0), f32(2, 3), f32(2, 0)], {"axis": -1}),
    Case("Concat", 13, [f32(0), f32(0)], {"axis": 0}),
    Case("Split", 13, [f32(2, 4), i64(0, 4)], {"axis": -1}, (1,), 2),
    Case("Gather", 13, [f32(2, 3), i64(-1)[0]], {"axis": -1}, (1,)),
    Case("Gather", 13, [f32(2, 3), np.zeros((0, 2), np.int64)], {"axis": 1}),
    Case("Gather", 13, [f32(0, 3), i64()], {"axis": 0}),
    Case("GatherElements", 13, [f32(2, 3), i64(-1, -3).reshape(2, 1)], {"axis": -1}),
    Case("GatherND", 13, [f32(2, 3), np.zeros((0, 2), np.int64)]),
    Case("GatherND", 13, [f32(2, 3), i64(-1, -1)]),
    Case("ScatterND", 16, [f32(3), i64(-1).reshape(1, 1), f32(1)]),
    Case("ScatterND", 16, [f32(3), np.zeros((0, 1), np.int64), f32(0)]),
    Case("ScatterElements", 16, [f32(2, 3), np.zeros((0, 3), np.int64), f32(0, 3)], {"axis": 0}),
    Case("Slice", 13, [f32(3, 4), i64(-1, 9), i64(-9, -9), i64(-2, -1), i64(-1, -2)]),
    Case("Slice", 13, [f32(0, 4), i64(0, 5), i64(9, 9), i64(0, 1)]),
    Case("Transpose", 13, [f32(2, 0, 3)], {"perm": [2, 0, 1]}),
    Case("Transpose", 13, [f32()]),
    Case("Squeeze", 13, [f32(1, 0, 1), i64(-1, 0)], {}, (1,)),
    Case("Unsqueeze", 13, [f32(), i64(-1, 0)], {}, (1,)),
    Case("Expand", 13, [f32(), i64(0, 2)], {}, (1,)),
    Case("Tile", 13, [f32(2, 3), i64(0, 2)], {}, (1,)),
    Case("Reshape", 14, [f32(0, 3), i64(3, 0)], {"allowzero": 1}, (1,)),
    Case("Flatten", 13, [f32(2, 0, 3)], {"axis": -1}),
    Case("MatMul", 13, [f32(2, 0), f32(0, 3)]),
    Case("MatMul", 13, [f32(0, 2), f32(2, 3)]),
    Case("MatMul", 13, [f32(2, 0, 3), f32(3)]),
    Case("Gemm", 13, [f32(2, 0), f32(0, 3), f32(3)]),
    Case("TopK", 11, [f32(2, 3), i64(0)], {"axis": -1}, (1,), 2),
    Case("TopK", 11, [f32(0, 3), i64(2)], {"axis": -1}, (1,), 2),
    Case("NonZero", 13, [f32(0, 3)]),
    Case("NonZero", 13, [np.zeros((2, 3), np.float32)]),
    Case("Compress", 11, [f32(2, 3), np.zeros(3, bool)], {"axis": -1}),
    Case("OneHot", 11, [i64(-1, 5, -6), i64(3)[0], f32(2)], {"axis": 0}, (1,)),
    Case("Pad", 13, [f32(0, 2), i64(1, 0, 1, 0)], {}, (1,)),
    Case("Pad", 13, [f32(3, 4), i64(-1, -1, 0, 1)], {}, (1,)),
    Case("Conv", 11, [f32(0, 1, 4, 4), f32(2, 1, 3, 3)]),
    Case("MaxPool", 12, [f32(0, 1, 4)], {"kernel_shape": [2]}),
    Case("GlobalAveragePool", 1, [f32(0, 1, 4, 4)]),
    Case("Where", 16, [np.zeros((0, 1), bool), f32(), f32(1, 3)]),
    Case("Range", 11, [i64(5)[0], i64(-4)[0], i64(-3)[0]], {}, (0, 1, 2)),
    Case("Range", 11, [f32()[()], np.float32(1), np.float32(0.5)]),
    Case("Size", 13, [f32(2, 0)]),
    Case("Shape", 15, [f32()]),
    Case("Trilu", 14, [f32(2, 3), i64(-9)[0]], {"upper": 0}, (1,)),
    Case("EyeLike", 9, [f32(3, 2)], {"k": -7}),
    Case("LayerNormalization", 17, [f32(0, 3), f32(3)], {"axis": -1}),
    Case("Einsum", 12, [f32(2, 0), f32(0, 3)], {"equation": "ij,jk->ik"}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_beside_onnxruntime(case: Case) -> None:
    inputs = [None if x is None else np.asarray(x) for x in case.inputs]
    case = Case(case.op, case.opset, inputs, case.attributes, case.constants, case.outputs)
    check(case, onnxruntime_outputs(case))


# Numbers

INTEGERS = {
    kind: np.array([np.iinfo(kind).min, np.iinfo(kind).min + 1, -7, -1, 0, 1, 3, 7, np.iinfo(kind).max], kind)
    for kind in ("int8", "int32", "int64")
}


@BOTH
@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_wrap_and_divide_by_their_signs(kind: str, jit: bool) -> None:
    every = INTEGERS[kind]
    x, y = (a.reshape(-1) for a in np.meshgrid(every, every[every != 0]))
    rep = prepared(
        f"({kind}[n] x, {kind}[n] y) => ({kind}[n] a, {kind}[n] s, {kind}[n] m, {kind}[n] q, {kind}[n] r, {kind}[n] f, {kind}[n] n) "
        "{ a = Add(x, y) s = Sub(x, y) m = Mul(x, y) q = Div(x, y) r = Mod(x, y) f = Mod<fmod = 1>(x, y) n = Neg(x) }",
        jit,
    )
    got = rep.run([x, y])
    with np.errstate(over="ignore"):
        quotients = [abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1) for p, q in zip(x.tolist(), y.tolist(), strict=True)]
        half = 1 << 8 * x.itemsize - 1
        wrapped = np.array([(v + half) % (2 * half) - half for v in quotients], kind)
        expected = [x + y, x - y, x * y, wrapped, np.mod(x, y), np.fmod(x, y), -x]
    for name, value, wanted in zip("asmqrfn", got, expected, strict=True):
        np.testing.assert_array_equal(value, wanted, name)


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 3.4e38, -3.4e38], np.float32)


@BOTH
def test_special_floats_in_comparisons_and_extremes(jit: bool) -> None:
    x, y = (a.reshape(-1) for a in np.meshgrid(SPECIAL, SPECIAL))
    rep = prepared(
        "(float[n] x, float[n] y) => (bool[n] l, bool[n] g, bool[n] le, bool[n] ge, bool[n] e, float[n] mi, float[n] ma, float[n] c) "
        "{ l = Less(x, y) g = Greater(x, y) le = LessOrEqual(x, y) ge = GreaterOrEqual(x, y) e = Equal(x, y) "
        "mi = Min(x, y) ma = Max(x, y) k = Constant<value_float = 1.0>() c = Clip(x, , k) }",
        jit,
    )
    expected = [x < y, x > y, x <= y, x >= y, x == y, np.minimum(x, y), np.maximum(x, y), np.minimum(x, np.float32(1))]
    for value, wanted in zip(rep.run([x, y]), expected, strict=True):
        np.testing.assert_array_equal(value, wanted)


@BOTH
def test_special_floats_in_reductions(jit: bool) -> None:
    rows = np.array([[1, np.nan, 2], [np.inf, 1, -np.inf], [-np.inf, -np.inf, -np.inf], [1e-45, 1e-45, 0], [3.4e38, 3.4e38, 0]], np.float32)
    rep = prepared(
        "(float[n,m] x) => (float[n] s, float[n] p, float[n] a, float[n] i, float[n] l, float[n] e) { k = Constant<value_ints = [1]>() "
        "s = ReduceSum<keepdims = 0>(x, k) p = ReduceProd<keepdims = 0>(x, k) a = ReduceMax<keepdims = 0>(x, k) "
        "i = ReduceMin<keepdims = 0>(x, k) l = ReduceL1<keepdims = 0>(x, k) e = ReduceLogSumExp<keepdims = 0>(x, k) }",
        jit,
    )
    with np.errstate(all="ignore"):
        wide = rows.astype(np.float64)
        expected = [
            rows.sum(1), rows.prod(1), rows.max(1), rows.min(1), np.abs(rows).sum(1), np.logaddexp.reduce(wide, 1).astype(np.float32),
        ]  # fmt: skip
    for value, wanted in zip(rep.run([rows]), expected, strict=True):
        np.testing.assert_allclose(value, wanted, 1e-6)


@BOTH
@pytest.mark.parametrize(
    ("op", "empty"), [("ReduceSum", 0), ("ReduceProd", 1), ("ReduceMax", -np.inf), ("ReduceMin", np.inf), ("ReduceMean", np.nan)]
)
def test_reductions_of_nothing(op: str, empty: float, jit: bool) -> None:
    rep = prepared(f"(float[n,m] x) => (float[n] y) {{ k = Constant<value_ints = [-1]>() y = {op}<keepdims = 0>(x, k) }}", jit)
    np.testing.assert_array_equal(rep.run(f32(2, 0)).y, np.full(2, empty, np.float32))
    assert rep.run(f32(0, 3)).y.shape == (0,)


@BOTH
def test_special_floats_in_casts(jit: bool) -> None:
    rep = prepared(
        "(float[n] x) => (double[n] d, float16[n] h, bool[n] b, int32[n] i) "
        "{ d = Cast<to = 11>(x) h = Cast<to = 10>(x) b = Cast<to = 9>(x) i = Cast<to = 6>(x) }",
        jit,
    )
    x = np.concatenate([SPECIAL, np.array([65504, 65520, 6e-8, 2.9e-8, 1e9], np.float32)])
    with np.errstate(all="ignore"):
        expected = [x.astype(np.float64), x.astype(np.float16), x.astype(bool)]
    got = rep.run(x)
    for value, wanted in zip(got[:3], expected, strict=True):
        np.testing.assert_array_equal(value, wanted)
        np.testing.assert_array_equal(np.signbit(value), np.signbit(wanted)) if value.dtype.kind == "f" else None
    inside = np.abs(x) < 2**31
    np.testing.assert_array_equal(got.i[inside], x[inside].astype(np.int32))


@BOTH
def test_denormals_are_kept(jit: bool) -> None:
    tiny = np.array([1e-45, 3e-45, 1.1e-38, -1e-45], np.float32)
    got = prepared("(float[n] x) => (float[n] y, float[n] z) { y = Add(x, x) h = Mul(x, x) z = Sub(x, h) }", jit).run(tiny)
    np.testing.assert_array_equal(got.y, tiny + tiny)
    np.testing.assert_array_equal(got.z, tiny)


@BOTH
def test_indices_beyond_32_bits(jit: bool) -> None:
    """No element but those asked for is computed."""
    rep = prepared(
        "(int64 n, int64[k] i) => (int64[k] y, int64[q] z) { a = Constant<value_int = 0>() d = Constant<value_int = 1>() "
        "r = Range(a, n, d) c = Constant<value_int = 2>() t = Mul(r, c) y = Gather(t, i) "
        "s = Constant<value_ints = [-2]>() e = Constant<value_ints = [99999999999999]>() z = Slice(t, s, e) }",
        jit,
    )
    n = 2**40
    got = rep.run([np.int64(n), i64(2**31, 2**32 + 5, -1, -n)])
    np.testing.assert_array_equal(got.y, [2**32, 2**33 + 10, 2 * (n - 1), 0])
    np.testing.assert_array_equal(got.z, [2 * (n - 2), 2 * (n - 1)])
    with pytest.raises(errors.ExecutionError, match="Gather"):
        rep.run([np.int64(n), i64(n)])


# Beside NumPy, for whatever numbers a run brings

def test_a_result_known_to_be_empty_reads_nothing() -> None:
    rep = prepared(
        "(float[4] x) => (float[3,0] y) <int64[1] far={9}, int64[1] end={20}, int64 depth={3}, float[2] off={0,1}> "
        "{ v = Slice(x, far, end)  k = Cast<to=7>(v)  y = OneHot<axis=0>(k, depth, off) }"
    )
    assert rep.run(np.ones(4, np.float32))[0].shape == (3, 0)
    assert rep.source.count("f32_p(") == 1  # the result


SLICE = "(float[n,m] x, int64[2] a, int64[2] b, int64[2] k, int64[2] st) => (float[p,q] y) { y = Slice(x, a, b, k, st) }"
PAD = "(float[n,m] x, int64[4] p) => (float[a,b] y, float[c,d] z) { y = Pad(x, p) z = Pad<mode = \"edge\">(x, p) }"
GATHER = "(float[n,m] x, int64[k] i) => (float[k,m] y) { y = Gather(x, i) }"
EDGES = st.sampled_from([-(2**63), -5, -3, -1, 0, 1, 2, 4, 2**31 - 1, 2**63 - 1])
SOME = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
SHAPE = st.tuples(st.integers(0, 3), st.integers(0, 3))


@pytest.fixture(scope="module")
def reps() -> dict[str, list[backend.BackendRep]]:
    return {text: [prepared(text, jit) for jit in (True, False)] for text in (SLICE, PAD, GATHER)}


def agree(both: list[backend.BackendRep], inputs: list[Any], expected: list[Array] | None) -> None:
    for rep in both:
        if expected is None:
            with pytest.raises(errors.ExecutionError):
                rep.run(inputs)
        else:
            for value, wanted in zip(rep.run(inputs), expected, strict=True):
                np.testing.assert_array_equal(value, wanted)


@SOME
@given(
    shape=SHAPE,
    bounds=st.lists(EDGES, min_size=4, max_size=4),
    steps=st.tuples(EDGES, EDGES),
    axes=st.sampled_from([(0, 1), (1, 0), (-1, 0)]),
)
def test_slices(reps: Any, shape: Any, bounds: list[int], steps: tuple[int, int], axes: tuple[int, int]) -> None:
    x = f32(*shape)
    expected: list[Array] | None = None
    if 0 not in steps:
        index = [slice(None)] * 2
        for axis, start, stop, step in zip(axes, bounds[:2], bounds[2:], steps, strict=True):
            # When stepping back the standard clamps the start to 0, and the end to -1, which Python's own slices spell None.
            back = step < 0
            index[axis] = slice(max(start, -x.shape[axis]) if back else start, None if back and stop < -x.shape[axis] else stop, step)
        expected = [x[tuple(index)]]
    agree(reps[SLICE], [x, i64(*bounds[:2]), i64(*bounds[2:]), i64(*axes), i64(*steps)], expected)


@SOME
@given(shape=SHAPE, pads=st.lists(st.integers(-4, 3), min_size=4, max_size=4))
def test_pads(reps: Any, shape: Any, pads: list[int]) -> None:
    x = f32(*shape)
    axes = list(zip(shape, pads[:2], pads[2:], strict=True))
    result = [n + p + q for n, p, q in axes]
    # What negative pads leave, of which the edges are repeated.
    rest = [(max(-p, 0), n + min(q, 0)) for n, p, q in axes]
    expected: list[Array] | None = None
    if min(result) >= 0 and not any(m and start >= stop for m, (start, stop) in zip(result, rest, strict=True)):
        places = [np.arange(m) - p for m, p in zip(result, pads[:2], strict=True)]
        near = x[np.ix_(*(np.clip(k, start, max(stop - 1, start)) for k, (start, stop) in zip(places, rest, strict=True)))]
        inside = np.logical_and.outer(*((k >= 0) & (k < n) for k, n in zip(places, shape, strict=True)))
        expected = [np.where(inside, near, np.float32(0)), near]
    agree(reps[PAD], [x, i64(*pads)], expected)


@SOME
@given(shape=SHAPE, indices=st.lists(EDGES, max_size=3))
def test_gathers(reps: Any, shape: Any, indices: list[int]) -> None:
    x = f32(*shape)
    fits = all(-shape[0] <= k < shape[0] for k in indices)
    if shape[1] == 0 and not fits:
        return  # nothing is read: neither an error nor its absence is wrong
    agree(reps[GATHER], [x, i64(*indices)], [x[indices] if indices else x[:0]] if fits else None)


# Whatever ranks, sizes and types come

PREFERRED = ["float", "int64", "bool", "uint8", "int32", "string", "float16", "double"]
RANKS = [(), (0,), (1,), (2,), (3,), (2, 3), (2, 0), (1, 2, 3), (1, 2, 3, 3), (0, 2, 3, 3), (2, 2)]
NEEDED = {"INT": 1, "FLOAT": 1.0, "STRING": "x", "INTS": [1, 1], "FLOATS": [1.0], "STRINGS": ["a"]}
SPECIFIC = {"Cast": {"to": 7}, "BitCast": {"to": 7}, "Einsum": {"equation": "ij,jk->ik"}}


def _arbitrary(schema: Any, trial: int) -> tuple[onnx.ModelProto, list[Array]] | None:
    """A node of arbitrary inputs of allowed types; None for operators of graphs, maps and the like."""
    random = np.random.RandomState(trial)
    attributes = {a.name: NEEDED.get(a.type.name) for a in schema.attributes.values() if a.required} | SPECIFIC.get(schema.name, {})
    allowed = {c.type_param_str: [t[7:-1] for t in c.allowed_type_strs if t.startswith("tensor(")] for c in schema.type_constraints}
    kinds = {name: next((p for p in PREFERRED[trial % 2 :] + PREFERRED if p in types), None) for name, types in allowed.items()}
    count = min(max(schema.min_input, min(len(schema.inputs), schema.min_input + trial % 3)), 8)
    first = RANKS[random.randint(len(RANKS))]
    arrays: list[Array] = []
    for k in range(count if schema.inputs else 0):
        formal = schema.inputs[min(k, len(schema.inputs) - 1)].type_str
        kind = kinds.get(formal, formal[7:-1] if formal.startswith("tensor(") else None)
        if kind is None:
            return None
        shape = first if random.rand() < 0.6 else RANKS[random.randint(len(RANKS))]
        dtype = BY_ONNX_NAME[kind].numpy
        arrays.append(np.full(shape, "a", object) if kind == "string" else np.asarray(random.randint(0, 3, shape)).astype(dtype))
    if any(value is None for value in attributes.values()):
        return None
    node = helper.make_node(schema.name, [f"i{k}" for k in range(len(arrays))], [f"o{k}" for k in range(max(schema.min_output, 1))],
                            name="the_node", domain=schema.domain, **attributes)  # fmt: skip
    inputs = []
    for k, array in enumerate(arrays):
        kind_number = TensorProto.STRING if array.dtype == object else helper.np_dtype_to_tensor_dtype(array.dtype)
        dims: list[Any] = [f"d{k}_{axis}" for axis in range(array.ndim)] if trial % 2 else list(array.shape)
        inputs.append(helper.make_tensor_value_info(f"i{k}", kind_number, dims))
    graph = helper.make_graph([node], "any", inputs, [onnx.ValueInfoProto(name=name) for name in node.output])
    imports = [helper.make_opsetid("", 26), helper.make_opsetid("ai.onnx.ml", 5)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10), arrays


OPERATORS = [s for s in defs.get_all_schemas() if s.domain in ("", "ai.onnx.ml") and not s.deprecated]


@pytest.mark.parametrize("part", range(8))
def test_whatever_ranks_come_run_or_are_refused_by_name(part: int) -> None:
    """As plain Python, where a read beyond the end of a tensor is an error of Python's."""
    warnings.simplefilter("ignore")
    for schema in OPERATORS[part::8]:
        for trial in range(4):
            made = _arbitrary(schema, trial)
            if made is None:
                continue
            model, arrays = made
            what = f"{schema.name} of {[f'{a.dtype}{list(a.shape)}' for a in arrays]}"
            try:
                backend.prepare(model, jit=False).run(arrays)
            except errors.OnnxNumbaError as error:
                assert "the_node" in str(error), f"{what}: {error}"
                assert "are not supported (" not in str(error), f"{what}: {error}"
            except BaseException as error:
                raise AssertionError(what) from error
