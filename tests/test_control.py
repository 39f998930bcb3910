"""If, Loop and Scan: in the plan, at once, or as steps in Python; the same answers each way."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

import onnx_numba.backend as backend
from onnx_numba.errors import ExecutionError, ModelError, OnnxNumbaError

Array = np.ndarray[Any, Any]

X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
WAYS = pytest.mark.parametrize("jit", [True, False], ids=["compiled", "interpreted"])


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}')


def prepared(text: str, **options: Any) -> backend.BackendRep:
    return backend.prepare(model(text), **options)


def how(rep: backend.BackendRep) -> list[str]:
    return [way for _, operator, _, _, way in rep.served if operator in ("If", "Loop", "Scan")]


def steps_in_python(rep: backend.BackendRep) -> list[str]:
    return [host.function for host in rep._prepared.session.plan.hosts]


def check(rep: backend.BackendRep, inputs: Sequence[Any], *expected: Any) -> None:
    """Run twice, the second time in blocks that have grown, and look that inputs stay and outputs are the caller's own."""
    given = [np.array(value) for value in inputs]
    before = [value.copy() for value in given]
    first = rep.run(given)
    second = rep.run(given)
    for value, kept in zip(given, before, strict=True):
        np.testing.assert_array_equal(value, kept)
    for results in (first, second):
        assert len(results) == len(expected)
        for actual, wanted in zip(results, expected, strict=True):
            wanted = np.asarray(wanted)
            assert (actual.dtype, actual.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(actual, wanted, rtol=1e-6)
            assert not any(np.shares_memory(actual, other) for other in given)


COUNTED = """g (float[n,3] x, int64 trips, bool start) => (float[n,3] last, float[k,3] sums) {
    last, sums = Loop (trips, start, x) <body = b (int64 i, bool go, float[n,3] h) => (bool again, float[n,3] next, float[3] sum) {
        f = Cast<to = 1>(i)  next = Add(h, f)
        axis = Constant<value_ints = [0]>()  sum = ReduceSum<keepdims = 0>(next, axis)
        limit = Constant<value_float = 20.0>()  top = ReduceMax<keepdims = 0>(next)  again = Less(top, limit)
    }> }"""


def counted(x: Array, trips: int, start: bool) -> tuple[Array, Array]:
    h, sums, i, go = x, [], 0, start
    while go and i < trips:
        h = h + np.float32(i)
        sums.append(h.sum(0))
        go, i = bool(h.max() < 20), i + 1
    return h, np.array(sums, np.float32).reshape(-1, 3)


@WAYS
def test_a_loop_counts_stops_early_and_may_not_run_at_all(jit: bool) -> None:
    rep = prepared(COUNTED, jit=jit)
    assert how(rep) == ["loop"]
    assert steps_in_python(rep) == []
    for trips, start in ((0, True), (-3, True), (5, False), (1, True), (4, True), (50, True), (3, True)):
        check(rep, [X, np.int64(trips), np.bool_(start)], *counted(X, trips, start))
    wide = np.ones((5, 3), np.float32)
    check(rep, [wide, np.int64(9), np.bool_(True)], *counted(wide, 9, True))


@pytest.mark.parametrize("extents", ["n,3", "n,m", ""])
def test_scan_outputs_of_no_iterations_have_their_rank(extents: str) -> None:
    """With as many dims as the body declares where nothing else tells of them."""
    rep = prepared(f"""g (float[{extents}] x, int64 trips) => (float[{extents}] last, float[a,b,c] rows) {{
        start = Constant<value = bool {{1}}>()
        last, rows = Loop (trips, start, x) <body = b (int64 i, bool go, float[p,q] h) => (bool again, float[p,q] next, float[p,q] row) {{
            again = Identity(go)  next = Identity(h)  row = Mul(h, h) }}>
    }}""")
    last, rows = rep.run([X, np.array(0)])
    np.testing.assert_array_equal(last, X)
    assert rows.ndim == 3 and rows.shape[0] == 0
    assert rep.run([X, np.array(2)])[1].shape == (2, 2, 3)


@WAYS
@pytest.mark.parametrize("given", ["trips, ", ", start"])
def test_a_loop_of_only_a_count_or_only_a_condition(jit: bool, given: str) -> None:
    rep = prepared(COUNTED.replace("Loop (trips, start", f"Loop ({given}"), jit=jit)
    check(rep, [X, np.int64(4), np.bool_(True)], *(counted(X, 4 if given == "trips, " else 1000, True)))


@WAYS
def test_the_state_may_grow(jit: bool) -> None:
    rep = prepared(
        """g (int64 trips, float[n] x) => (float[k] y, int64 size) {
        y = Loop (trips, , x) <body = b (int64 i, bool go, float[m] h) => (bool again, float[j] next) {
            again = Identity(go)  doubled = Add(h, h)  next = Concat<axis = 0>(h, x)
        }>
        size = Size(y) }""",
        jit=jit,
    )
    assert how(rep) == ["loop"]
    x = np.array([1, 2], np.float32)
    for trips in (0, 1, 7, 100, 2):
        check(rep, [np.int64(trips), x], np.tile(x, trips + 1), np.int64(2 * trips + 2))


@WAYS
def test_state_that_comes_back_as_another_input_or_a_constant_is_kept_apart(jit: bool) -> None:
    rep = prepared(
        """g (int64 trips, float[n] a, float[n] b) => (float[n] p, float[n] q, float[n] r, float[n] s) {
        p, q, r, s = Loop (trips, , a, b, b, b) <body = body (int64 i, bool go, float[n] u, float[n] v, float[n] w, float[n] z)
            => (bool again, float[n] v2, float[n] t, float[n] a2, float[n] w2) {
            again = Identity(go)  t = Add(u, v)  v2 = Identity(v)  a2 = Identity(a)  w2 = Identity(w)
        }> }""",
        jit=jit,
    )
    a, b = np.array([1, 2], np.float32), np.array([3, 5], np.float32)
    for trips in (0, 1, 2, 9):
        u, v, w, z = a, b, b, b
        for _ in range(trips):
            u, v, w, z = v, u + v, a, w
        check(rep, [np.int64(trips), a, b], u, v, w, z)


@WAYS
def test_a_loop_in_a_branch_in_a_scan_reads_values_of_every_scope(jit: bool) -> None:
    rep = prepared(
        """g (float[n,m] x, float[m] c, int64 trips) => (float[m] total, float[n,m] all) {
        zero = Constant<value_float = 0.0>()  start = Mul(c, zero)
        total, all = Scan <num_scan_inputs = 1, body = s (float[m] t, float[m] row) => (float[m] t2, float[m] out) {
            axes = Constant<value_ints = [0]>()  sum = ReduceSum<keepdims = 0>(row, axes)  up = Greater(sum, zero)
            out = If (up) <
                then_branch = a () => (float[m] y) {
                    y = Loop (trips, , row) <body = l (int64 i, bool go, float[m] h) => (bool again, float[m] h2) {
                        again = Identity(go)  sized = Mul(h, c)  h2 = Add(sized, t)
                    }>
                },
                else_branch = e () => (float[m] z) { z = Identity(row) }>
            t2 = Add(t, out)
        }> (start, x) }""",
        jit=jit,
    )
    assert how(rep) == ["loop"]
    assert steps_in_python(rep) == []
    x = np.array([[1, 2], [-1, -3], [2, -1], [0, 1]], np.float32)
    c = np.array([0.5, 2], np.float32)
    for trips in (0, 1, 3):
        t, rows = np.zeros(2, np.float32), []
        for row in x:
            h = row
            for _ in range(trips if row.sum() > 0 else 0):
                h = h * c + t
            t = t + h
            rows.append(h)
        check(rep, [x, c, np.int64(trips)], t, np.array(rows))


@WAYS
@pytest.mark.parametrize("way", [0, 1])
def test_axes_and_directions_of_a_scan(jit: bool, way: int) -> None:
    state = "o = Add(s, v)" if way else "o = Identity(s)"
    rep = prepared(
        f"""g (float[n,k] x, float[n] s0) => (float[n] last, float[n,k] y) {{
        last, y = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1], scan_output_axes = [1],
            scan_output_directions = [1], body = b (float[n] s, float[n] v) => (float[n] o, float[n] p) {{ {state} p = Mul(o, v) }}> (s0, x)
        }}""",
        jit=jit,
    )
    assert how(rep) == [("map", "loop")[way]]
    s = np.array([1, -1], np.float32)
    y = np.empty_like(X)
    last = s
    for k in reversed(range(3)):
        last = last + X[:, k] if way else s
        y[:, k] = last * X[:, k]
    check(rep, [X, s], last, y)


@WAYS
def test_iterations_without_state_are_an_axis(jit: bool) -> None:
    rep = prepared(
        """g (float[n,k] x, float[m,k] y, float[k] bias) => (float[n,m] d, float[n,k,2] pairs, float[n,1,k] shifted) {
        same, d, pairs, shifted = Scan <num_scan_inputs = 1, body = b (float[m,k] all, float[k] row)
            => (float[m,k] kept, float[m] far, float[k,2] pair, float[1,k] moved) {
            kept = Identity(all)  less = Sub(all, row)  axis = Constant<value_ints = [1]>()
            far = ReduceSumSquare<keepdims = 0>(less, axis)
            flat = Shape(row)  one = Constant<value_ints = [1]>()  wide = Concat<axis = 0>(flat, one)
            column = Reshape(row, wide)  other = Reshape(bias, wide)  pair = Concat<axis = 1>(column, other)
            zero = Constant<value_ints = [0]>()  ahead = Unsqueeze(row, zero)  moved = Add(ahead, bias)
        }> (y, x) }""",
        jit=jit,
    )
    assert how(rep) == ["reduce"]
    bias = np.array([1, 2, 3], np.float32)
    for n in (0, 1, 4):
        x = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
        far = ((X[None] - x[:, None]) ** 2).sum(-1)
        pairs = np.stack([x, np.broadcast_to(bias, x.shape)], -1)
        check(rep, [x, X, bias], far, pairs, (x + bias)[:, None])


@WAYS
def test_a_loop_without_state_is_an_axis_of_its_numbers(jit: bool) -> None:
    rep = prepared(
        """g (int64 trips, bool start, float[n] x) => (float[k,n] y) {
        y = Loop (trips, start) <body = b (int64 i, bool go) => (bool again, float[n] row) {
            again = Identity(go)  f = Cast<to = 1>(i)  row = Mul(x, f)
        }> }""",
        jit=jit,
    )
    assert how(rep) == ["map"]
    x = np.array([1, 2], np.float32)
    for trips, start in ((0, True), (3, True), (-2, True), (3, False)):
        count = max(trips, 0) if start else 0
        check(rep, [np.int64(trips), np.bool_(start), x], np.arange(count, dtype=np.float32)[:, None] * x)


@pytest.mark.parametrize("given", ["trips, ", "trips", ", ", ", start"])
def test_a_loop_without_state_and_condition(given: str) -> None:
    rep = prepared(
        f"""g (int64 trips, bool start) => (int64[k] y) {{
        y = Loop ({given}) <body = b (int64 i, bool go) => (bool again, int64 row) {{
            two = Constant<value_int = 2>()  again = Less(i, two)  row = Add(i, two)
        }}> }}"""
    )
    count = 2 if "trips" in given else 3
    check(rep, [np.int64(2), np.bool_(True)], np.arange(2, 2 + count))


@WAYS
def test_a_demand_of_a_body_is_none_where_it_never_runs(jit: bool) -> None:
    rep = prepared(
        """g (float[n,k] x, float[m] c) => (float[n,j] y) {
        y = Scan <num_scan_inputs = 1, body = b (float[k] row) => (float[j] out) {
            two = Constant<value_ints = [2, -1]>()  half = Reshape(c, two)  axis = Constant<value_ints = [0]>()
            sum = ReduceSum<keepdims = 0>(half, axis)  first = Constant<value_int = 0>()  v = Gather(row, first)  out = Mul(sum, v)
        }> (x) }""",
        jit=jit,
    )
    odd = np.ones(3, np.float32)
    assert rep.run([np.zeros((0, 2), np.float32), odd])[0].shape[0] == 0
    with pytest.raises(ExecutionError, match="Reshape"):
        rep.run([np.zeros((1, 2), np.float32), odd])


@WAYS
def test_results_of_branches_may_be_captured_values_of_other_shapes(jit: bool) -> None:
    rep = prepared(
        """g (bool c, float[n] a, float[m] b) => (float[k] y, float[k] z) {
        both = Add(a, a)
        y = If (c) <then_branch = t () => (float[n] p) { p = Identity(both) }, else_branch = e () => (float[m] q) { q = Identity(b) }>
        z = Relu(y) }""",
        jit=jit,
    )
    assert how(rep) == ["branch"]
    assert steps_in_python(rep) == []
    a, b = np.array([1, -2, 3], np.float32), np.array([4, -5], np.float32)
    for c, y in ((True, a + a), (False, b), (True, a + a)):
        check(rep, [np.bool_(c), a, b], y, np.maximum(y, 0))


@WAYS
def test_blocks_of_values_that_results_may_lie_in_are_not_used_again(jit: bool) -> None:
    rep = prepared(
        """g (bool c, int64 trips, float[n] x) => (float[n] y) {
        kept = Sin(x)
        r = If (c) <then_branch = t () => (float[n] p) { p = Identity(kept) }, else_branch = e () => (float[n] q) { q = Neg(kept) }>
        s = Loop (trips, , r) <body = b (int64 i, bool go, float[n] h) => (bool again, float[n] h2)
            { again = Identity(go)  h2 = Add(h, x) }>
        u = Exp(x)  axis = Constant<value_int = 0>()  v = CumSum(u, axis)  w = CumSum(v, axis)  o = Add(w, s)  y = CumSum(o, axis) }""",
        jit=jit,
    )
    x = np.linspace(-1, 1, 9, dtype=np.float32)
    for c in (True, False):
        for trips in (0, 2):
            s = (np.sin(x) if c else -np.sin(x)) + trips * x
            wanted = np.cumsum(np.cumsum(np.cumsum(np.exp(x))) + s)
            np.testing.assert_allclose(rep.run([np.bool_(c), np.int64(trips), x])[0], wanted, rtol=1e-5)


@WAYS
def test_steps_in_python_inside_a_body_of_the_plan(jit: bool) -> None:
    rep = prepared(
        """g (int64 trips, float[n] x) => (float[n] y, int64[k] sizes) {
        y, sizes = Loop (trips, , x) <body = b (int64 i, bool go, float[n] h) => (bool again, float[n] h2, int64 size) {
            again = Identity(go)  pair = SequenceConstruct(h, x)  one = Constant<value_int = 1>()  zero = Constant<value_int = 0>()
            p = SequenceAt(pair, zero)  q = SequenceAt(pair, one)  h2 = Add(p, q)  size = SequenceLength(pair)
        }> }""",
        jit=jit,
    )
    assert how(rep) == ["loop"]
    x = np.array([1, 2], np.float32)
    for trips in (0, 1, 40):
        check(rep, [np.int64(trips), x], x * (trips + 1), np.full(trips, 2, np.int64))


@WAYS
def test_sequences_as_state_are_left_to_python(jit: bool) -> None:
    rep = prepared(
        """g (int64 trips, float[n] x) => (float[k] y) {
        empty = SequenceEmpty<dtype = 1>()
        s = Loop (trips, , empty) <body = b (int64 i, bool go, seq(float[n]) h) => (bool again, seq(float[n]) h2) {
            again = Identity(go)  h2 = SequenceInsert(h, x)
        }>
        y = ConcatFromSequence<axis = 0>(s) }""",
        jit=jit,
    )
    assert how(rep) == ["host"]
    x = np.array([1, 2], np.float32)
    check(rep, [np.int64(3), x], np.tile(x, 3))


@WAYS
def test_an_error_in_a_body_names_the_node_in_it(jit: bool) -> None:
    rep = prepared(
        """g (int64 trips, float[n] x, int64[m] places) => (float[k] y) {
        y = Loop (trips, , x) <body = b (int64 i, bool go, float[j] h) => (bool again, float[m] h2) {
            again = Identity(go)  [picked] h2 = Gather(h, places)
        }> }""",
        jit=jit,
    )
    x, places = np.array([1, 2, 3], np.float32), np.array([2, 0])
    check(rep, [np.int64(1), x, places], x[places])
    with pytest.raises(ExecutionError, match=r"picked.*index is out of range"):
        rep.run([np.int64(2), x, places])
    check(rep, [np.int64(1), x, places], x[places])


@WAYS
def test_rows_of_different_shapes_cannot_be_stacked(jit: bool) -> None:
    rep = prepared(
        """g (int64 trips, float[n] x) => (float[n] y, float[k,j] rows) {
        y, rows = Loop (trips, , x) <body = b (int64 i, bool go, float[n] h) => (bool again, float[n] h2, float[j] row) {
            again = Identity(go)  h2 = Neg(h)  axis = Constant<value_ints = [0]>()  two = Constant<value_int = 2>()
            m = Min(i, two)  end = Unsqueeze(m, axis)  start = Constant<value_ints = [0]>()  row = Slice(x, start, end)
        }> }""",
        jit=jit,
    )
    x = np.array([1, 2], np.float32)
    check(rep, [np.int64(1), x], -x, np.zeros((1, 0), np.float32))
    with pytest.raises(ExecutionError, match="stacked output"):
        rep.run([np.int64(2), x])


def test_a_long_loop_can_be_cancelled() -> None:
    rep = prepared(
        """g (float x) => (float y) {
        y = Loop ( , , x) <body = b (int64 i, bool go, float h) => (bool again, float h2) { again = Identity(go)  h2 = Neg(h) }> }"""
    )
    timer = threading.Timer(0.2, rep._prepared.session.cancel)
    timer.start()
    with pytest.raises(ExecutionError, match="cancelled"):
        rep.run([np.float32(1)])
    timer.join()


def test_threads_leave_the_bits_of_a_loop_alone() -> None:
    text = """g (int64 trips, float[n] x) => (float[n] y, float[k] sums) {
        y, sums = Loop (trips, , x) <body = b (int64 i, bool go, float[n] h) => (bool again, float[n] h2, float sum) {
            again = Identity(go)  s = Sin(h)  h2 = Add(s, x)  sum = ReduceSum<keepdims = 0>(h2)
        }> }"""
    x = np.linspace(-3, 3, 300_000, dtype=np.float32)
    one, two = (prepared(text, num_threads=n).run([np.int64(5), x]) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


SQUEEZED = """g (float[n,3] x) => (float[] y) {
    s = Shape(x)  zero = Constant<value_ints = [0]>()  n = Gather(s, zero)  one = Constant<value_ints = [1]>()
    is = Equal(n, one)  not = Not(is)  c = Not(not)
    r = If (c) <then_branch = t () => (float[3] p) { p = Squeeze(x, zero) }, else_branch = e () => (float[n,3] q) { q = Identity(x) }>
    """


@WAYS
def test_a_branch_that_changes_the_rank_is_chosen_before_the_run_and_checked_by_it(jit: bool) -> None:
    rep = prepared(SQUEEZED + "e = Exp(r)  y = ReduceSum<keepdims = 0>(e, zero) }", jit=jit)
    assert rep._prepared.decisions == (True,)
    assert steps_in_python(rep) == []
    session = rep._prepared.session
    before = session.arena_bytes
    for n in (1, 4, 4, 1, 0, 1):
        x = np.arange(3 * n, dtype=np.float32).reshape(n, 3) / 8
        check(rep, [x], np.exp(x[0] if n == 1 else x).sum(0))
    assert session.arena_bytes >= before
    session.trim()
    check(rep, [X], np.exp(X).sum(0))


@WAYS
def test_a_branch_after_which_the_graph_makes_no_sense_is_not_chosen(jit: bool) -> None:
    rep = prepared(SQUEEZED + "y = Transpose<perm = [1, 0]>(r) }", jit=jit)
    assert rep._prepared.decisions == (False,)
    for _ in range(2):
        check(rep, [X], X.T)
        with pytest.raises(OnnxNumbaError, match="Transpose"):
            rep.run([X[:1]])


def test_the_plan_for_the_other_branch_is_in_the_store(tmp_path: Path) -> None:
    text = SQUEEZED + "e = Exp(r)  y = ReduceSum<keepdims = 0>(e, zero) }"
    for known in (False, True):
        rep = prepared(text, cache=str(tmp_path))
        check(rep, [X], np.exp(X).sum(0))
        assert rep.stats["cached"] is known
        (other,) = rep._prepared.variants.models()
        assert other.stats["cached"] is known
        assert other.decisions == (False,)


@WAYS
def test_a_demand_on_sizes_leaves_what_is_made_of_weights_alone_to_prepare(jit: bool) -> None:
    rep = prepared(
        """g (float[s,n,2] x, float[1,m,2] h) => (float[s,1,n,2] y) {
        w = Constant<value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]>()
        shape = Constant<value_ints = [1, 8, 2]>()  weights = Reshape(w, shape)  less = Constant<value_float = 0.1>()
        r = Mul(weights, less)
        y = LSTM<hidden_size = 2>(x, r, r, , , h) }""",
        jit=jit,
    )
    plan = rep._prepared.session.plan
    turned = [array for array in rep._prepared.session._program._constants.values() if array.shape[-2:] == (2, 8)]
    assert turned, plan.constants
    with pytest.raises(ExecutionError, match="initial state"):
        rep.run([np.ones((1, 2, 2), np.float32), np.ones((1, 3, 2), np.float32)])


@WAYS
def test_a_scan_over_strings_takes_them_one_by_one(jit: bool) -> None:
    scan = """g (string s, string[n] x) => (string last, string[n] all) { last, all = Scan (s, x) <num_scan_inputs = 1,
        scan_input_directions = [1], body = b (string h, string e) => (string next, string o) {
            next = StringConcat(h, e)  o = Identity(next) }> }"""
    last, every = prepared(scan, jit=jit).run([np.array("a", object), np.array(["b", "c"], object)])
    assert (last.item(), every.tolist()) == ("acb", ["ac", "acb"])


SCAN_8 = """g (int64[b] lengths, float[b,2] s, float[b,n,2] x) => (float[b,2] last, float[b,n,2] sums) {
    last, sums = Scan (lengths, s, x) <num_scan_inputs = 1, body = b (float[2] h, float[2] e) => (float[2] next, float[2] o) {
        next = Add(h, e)  o = Neg(next) }> }"""


def test_the_first_scan_with_nothing_to_go_over() -> None:
    proto = model(SCAN_8)
    proto.opset_import[0].version = 8
    rep = backend.prepare(proto, jit=False)
    x, zeros = np.ones((2, 3, 2), np.float32), np.zeros((2, 2), np.float32)
    rows = -np.arange(1, 4, dtype=np.float32)[:, None] * np.ones(2, np.float32)
    check(rep, [np.array([0, 3]), zeros, x], np.array([[0, 0], [3, 3]], np.float32), np.stack([rows * 0, rows]))
    check(rep, [np.array([0, 0]), zeros, x], zeros, np.zeros_like(x))
    check(rep, [np.array([0, 0]), zeros, x[:, :0]], zeros, x[:, :0])
    check(rep, [np.array([], np.int64), zeros[:0], x[:0]], zeros[:0], x[:0])
    for lengths, state in (([4, 3], zeros), ([-1, 3], zeros), ([3, 3], np.zeros((3, 2), np.float32))):
        with pytest.raises(OnnxNumbaError):
            rep.run([np.array(lengths), state, x])


ANY_CONDITION = """g (bool[n] c, float[2] x) => (float[2] y) {
    y = If (c) <then_branch = t () => (float[2] a) { a = Neg(x) }, else_branch = e () => (float[2] b) { b = Exp(x) }> }"""


@pytest.mark.parametrize("count", [0, 2])
def test_a_condition_that_is_not_one(count: int) -> None:
    with pytest.raises(ExecutionError, match=f"If.*the condition has {count} elements, one is expected"):
        prepared(ANY_CONDITION, jit=False).run([np.ones(count, bool), np.ones(2, np.float32)])


BODY = "b (int64 i, bool go, float[2] h) => (bool again, float[2] next) { again = Identity(go)  next = Neg(h) }"
SCANNED = "b (float[2] h) => (float[2] o) { o = Neg(h) }"
IF = "y = If (c) <then_branch = t () => (float[2] a) { a = Neg(x) }, else_branch = e (%s) => (%s) { b = Neg(x) k = Neg(x) }>"


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (IF % ("", "float[2] b, float[2] k"), "then_branch has 1 outputs, else_branch 2"),
        (IF % ("float[2] i", "float[2] b"), "else_branch has 1 inputs, 0 are expected"),
        (f"y = Loop (m, c) <body = {BODY}>", "the body has 3 inputs, 2 are expected"),
        (f"y = Loop (m, c, x) <body = {BODY.replace(', float[2] next', '')}>", "the body has 1 outputs, at least 2"),
        (f"y = Loop (m, c, x) <body = {BODY.replace('bool again', 'float[2] again').replace('(go)', '(h)')}>", "bool. is expected"),
        (f"y = Loop (m, c, x) <body = {BODY.replace('Identity(go)', 'Less(h, h)')}>", "the condition that the body gives has 2 elements"),
        (f"y = Loop (i, c, x) <body = {BODY}>", "the trip count has 2 elements"),
        (f"y = Scan (x) <num_scan_inputs = 0, body = {SCANNED}>", "num_scan_inputs is 0"),
        (f"y = Scan (x) <num_scan_inputs = 2, body = {SCANNED}>", "num_scan_inputs is 2, of 1 inputs"),
        (f"y = Scan (x) <num_scan_inputs = 1, scan_input_axes = [1], body = {SCANNED}>", "scan_input_axes 1 is out of range"),
        (f"y = Scan (z) <num_scan_inputs = 1, scan_output_axes = [-3], body = {SCANNED}>", "scan_output_axes -3 is out of range"),
        (f"y = Scan (z) <num_scan_inputs = 1, scan_input_directions = [2], body = {SCANNED}>", "each must be 0 or 1"),
        (f"y = Scan (z) <num_scan_inputs = 1, scan_output_directions = [0, 1], body = {SCANNED}>", "has 2 entries, 1 are expected"),
        (f"y = Scan (m) <num_scan_inputs = 1, body = {SCANNED}>", "a value of rank 0"),
    ],
)
def test_malformed_nodes_say_what_is_wrong_with_them(node: str, reason: str) -> None:
    with pytest.raises(ModelError, match=f"node '(If|Loop|Scan)#0'.*{reason}"):
        prepared(f"g (bool c, int64 m, int64[2] i, float[2] x, float[1,2] z) => (float[n] y) {{ {node} }}", jit=False)
