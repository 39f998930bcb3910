"""The fast entry: what it takes, what it leaves to the general path, and that it neither leaks nor drops references."""

from __future__ import annotations

import collections
import gc
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest
import runtime_plans as plans
from runtime_plans import Builder, chain, values

from onnx_numba.errors import ExecutionError, InputError, InputTypeError
from onnx_numba.ir.abi import BUILD_ITEMS, BUILD_MAPS
from onnx_numba.ir.plan import Port
from onnx_numba.ir.types import F32, I64, STRING, MapType, SequenceType, TensorType
from onnx_numba.options import Options
from onnx_numba.runtime import entry, state
from onnx_numba.runtime.host import HOST, of_objects
from onnx_numba.runtime.outputs import LARGE
from onnx_numba.runtime.session import Session

compiled = plans.compiled
pytestmark = pytest.mark.skipif(not entry.usable(), reason="objects lie differently here")


def two_in_two_out():
    """y = 2 x and z = the elements of x that i names."""
    b = Builder()
    x, i = b.input("x", declared=("n",)), b.input("i", "i64", declared=(3,))
    y, z = b.output("y", dims=x.dims), b.output("z", dims=i.dims)
    b.emit("out", 0)
    b.call(plans.double, b.tiles(x.dims[0]), (x.buffer, y.buffer), (x.dims[0],))
    b.emit("out", 1)
    b.call(plans.take, i.dims[0], (x.buffer, i.buffer, z.buffer), (x.dims[0],))
    return b.plan()


@pytest.fixture(scope="module")
def session(compiled):
    return Session(two_in_two_out(), [], compiled, Options(num_threads=1))


@pytest.fixture(scope="module")
def single(compiled):
    return Session(chain(2), [], compiled, Options(num_threads=1))


INDICES = np.array([2, -1, 0])


@pytest.mark.parametrize("pack", [list, tuple, lambda pair: dict(zip("xi", pair, strict=True))])
def test_it_takes_plain_arrays(session, pack):
    x = values(100)
    result = session._entry.function(pack((x, INDICES)))
    assert type(result) is tuple
    np.testing.assert_array_equal(result[0], 2 * x)
    np.testing.assert_array_equal(result[1], x[INDICES])
    assert result[0].flags.owndata and result[0].flags.writeable


def test_a_single_input_may_stand_alone(single):
    np.testing.assert_array_equal(single._entry.function(values(9))[0], 2 * values(9) + 1)


class Sub(np.ndarray):
    pass


@pytest.mark.parametrize(
    "inputs",
    [
        [values(4), INDICES.tolist()],
        [values(4).astype("f8"), INDICES],
        [values(4).astype(">f4"), INDICES],
        [values(8)[::2], INDICES],
        [values(4).reshape(2, 2), INDICES],
        [values(4), INDICES[:2]],
        [values(4).view(Sub), INDICES],
        [np.frombuffer(bytes(17), np.uint8)[1:].view("f4"), INDICES],
        [values(4), None],
        [values(4)],
        values(4),
        {"x": values(4), "j": INDICES},
        {"x": values(4)},
        collections.OrderedDict(x=values(4), i=INDICES),
        np.float32(3),
        "text",
        None,
        [],
    ],
)
def test_it_leaves_the_rest_alone(session, inputs):
    assert session._entry.function(inputs) is entry.REFUSED


def test_the_general_path_takes_over(session):
    x = values(8)
    expected = [2 * x[::2], x[::2][INDICES]]
    for got, want in zip(session.run([x[::2], INDICES.tolist()]), expected, strict=True):
        np.testing.assert_array_equal(got, want)
    with pytest.raises(InputTypeError, match="got float64"):
        session.run([x.astype("f8"), INDICES])
    with pytest.raises(InputError, match="expected shape"):
        session.run([x, INDICES[:2]])


@pytest.mark.parametrize("n", [0, 1, LARGE // 4 - 1, LARGE // 4, LARGE])
def test_outputs_of_every_size(single, n):
    for _ in range(3):
        np.testing.assert_array_equal(single._entry.function([values(n)])[0], 2 * values(n) + 1)


def test_large_outputs_are_recycled(single):
    def address():
        return single._entry.function([values(LARGE)])[0].__array_interface__["data"][0]

    assert address() == address()
    held = single._entry.function([values(LARGE)])[0]
    other = single._entry.function([values(LARGE, 1)])[0]
    assert not np.shares_memory(held, other)
    np.testing.assert_array_equal(held, 2 * values(LARGE) + 1)


def test_large_outputs_are_recycled_without_python(single, monkeypatch):
    x, run = values(LARGE), single._entry.function
    run([x])
    pool = single._program.outputs
    blocks = list(map(id, pool.blocks))
    monkeypatch.setattr(type(pool), "empty", None)  # a call would raise
    output = run([x])[0]
    assert id(output.base) in blocks
    assert output.flags.carray and output.__array_interface__["data"][0] % 64 == 0
    view = output[5:7]
    del output
    monkeypatch.undo()
    later = run([values(LARGE, 1)])[0]
    assert not np.shares_memory(view, later)
    np.testing.assert_array_equal(view, 2 * x[5:7] + 1)
    del view
    assert run([x[: LARGE // 4]])[0].base.nbytes <= 2 * (LARGE + 64)  # none that is more than twice too large


def test_python_and_the_entry_share_the_pool(single):
    pool, run, x, wrong = single._program.outputs, single._entry.function, values(LARGE), []
    size = run([x])[0].nbytes

    def by_python(mark):
        for _ in range(2000):
            array = pool.empty((size,), np.dtype("u1"))
            array[:64] = mark
            if not (array[:64] == mark).all():
                wrong.append(mark)

    threads = [threading.Thread(target=by_python, args=(mark,)) for mark in (1, 2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        result = run([x])
        if result is not entry.REFUSED and not (result[0][:16] == 2 * x[:16] + 1).all():
            wrong.append(0)
    assert not wrong


def test_errors_come_through(session):
    for _ in range(3):
        with pytest.raises(ExecutionError, match=r"take node: an index is out of range \(work item 1\)") as caught:
            session._entry.function([values(4), np.array([0, 4, 9])])
        assert caught.value.index == 1
        assert session._entry.function([values(4), INDICES]) is not entry.REFUSED


def test_negative_extents_are_an_error(compiled):
    b = Builder()
    x = b.input("x")
    b.output("y", dims=(b.op("sub", b.slot(1), x.dims[0]),))
    b.emit("out", 0)
    session = Session(b.plan(), [], compiled, Options(num_threads=1))
    assert session._entry.function([values(1)])[0].shape == (0,)
    with pytest.raises(ExecutionError, match=r"output 'y' would have the shape \[-1\]"):
        session._entry.function([values(2)])


def test_references_are_kept_in_balance(session, single):
    x, big = values(16), values(LARGE)
    kept = [x, big, INDICES, x.dtype, INDICES.dtype, np.ndarray, tuple, entry.REFUSED]

    def go():
        for _ in range(50):
            session._entry.function([x, INDICES])
            session._entry.function({"x": x, "i": INDICES})
            session._entry.function((x, None))
            single._entry.function(big)
            with pytest.raises(ExecutionError):
                session._entry.function([x, np.array([99, 0, 0])])

    go()
    gc.collect()
    before, blocks = [sys.getrefcount(item) for item in kept], sys.getallocatedblocks()
    go()
    gc.collect()
    after = [sys.getrefcount(item) for item in kept]
    assert all(abs(new - old) < 20 for new, old in zip(after, before, strict=True)), (before, after)
    assert abs(sys.getallocatedblocks() - blocks) < 200
    result, fresh = session._entry.function([x, INDICES]), (np.empty(1), np.empty(1))
    # The tuple's reference and the argument's, as for any item of a new tuple.
    assert sys.getrefcount(result[0]) == sys.getrefcount(result[1]) == sys.getrefcount(fresh[0])


def test_named_results(compiled):
    kind = collections.namedtuple("Outputs", ["y", "z"])
    session = Session(two_in_two_out(), [], compiled, Options(num_threads=1), result=kind)
    for inputs in ([values(4), INDICES], [values(4), INDICES.tolist()]):
        result = session.run(inputs)
        assert type(result) is kind
        np.testing.assert_array_equal(result.z, values(4)[INDICES])
    del result
    gc.collect()


def test_zero_dims(compiled):
    b = Builder()
    x = b.input("x", rank=0)
    y = b.output("y", rank=0, dims=())
    n = b.slot(1)
    b.emit("out", 0)
    b.call(plans.double, n, (x.buffer, y.buffer), (n,))
    session = Session(b.plan(), [], compiled, Options(num_threads=1))
    (result,) = session._entry.function([np.array(3, np.float32)])
    assert isinstance(result, np.ndarray) and result.shape == () and result == 6


def test_it_is_safe_to_share(compiled):
    session = Session(chain(3, grain=1), [], compiled, Options(num_threads=2))
    wrong = []

    def work(seed):
        for number in range(200):
            x = values(10 + 97 * number, seed)
            if not np.array_equal(session.run([x])[0], 2 * x + 1 + 1):
                wrong.append((seed, number))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_long_runs_leave_other_threads_the_interpreter(compiled):
    session = Session(chain(200, grain=64), [], compiled, Options(num_threads=1))
    x = values(400_000)
    session.run([x[:10]])
    worker = threading.Thread(target=session.run, args=([x],))
    worker.start()
    ticks = 0
    while worker.is_alive():
        ticks += 1
    worker.join()
    assert ticks > 100


def test_python_steps_are_served(compiled):
    b = Builder()
    b.object_count = 1
    x = b.input("x")
    y, rows = b.output("y"), Port("rows", SequenceType(TensorType(F32, ())), object=0)
    b.outputs.append(rows)
    b.host("split", (x,), (y, rows))

    def split(params, x):
        assert not x.flags.writeable
        return x, list(x)

    session = Session(b.plan(), [], compiled, Options(num_threads=1), {"split": split})
    for n in (3, 3, 5):
        given = values(n)
        got, items = session._entry.function(given)
        np.testing.assert_array_equal(got, given)
        assert items == given.tolist() and not np.shares_memory(got, given)


def test_an_input_of_unknown_rank_is_for_the_general_path(compiled):
    b = Builder()
    b.object_count = 1
    x = Port("x", TensorType(F32, None), object=0)
    b.inputs.append(x)
    y = b.output("y")
    b.host("same", (x,), (y,))
    session = Session(b.plan(), [], compiled, Options(num_threads=1), {"same": lambda params, value: (value,)})
    assert session._entry is None
    np.testing.assert_array_equal(session.run([values(3)])[0], values(3))


def test_elsewhere_there_is_the_general_path(compiled, monkeypatch):
    monkeypatch.setattr("onnx_numba.runtime.engine.usable", lambda: False)
    session = Session(chain(), [], compiled, Options(num_threads=1))
    assert session._entry is None
    np.testing.assert_array_equal(session.run([values(3)])[0], 2 * values(3))


def test_unpickled_arrays_are_plain(single, session):
    x, i = pickle.loads(pickle.dumps([values(9), INDICES]))
    assert x.dtype is not values(9).dtype
    np.testing.assert_array_equal(single._entry.function(x)[0], 2 * values(9) + 1)
    np.testing.assert_array_equal(session._entry.function([x, i])[1], x[INDICES])
    swapped = values(9).astype(">f4").view(pickle.loads(pickle.dumps(np.dtype(">f4"))))
    assert single._entry.function(swapped) is entry.REFUSED
    np.testing.assert_array_equal(single.call(swapped)[0], 2 * values(9) + 1)


def test_calls_of_every_form(single):
    x = values(9)
    for result in (single.call(x), single.call([x.tolist()]), single.call(inputs=x), single.call(inputs={"x": x}), single.run(x)):
        np.testing.assert_array_equal(result[0], 2 * x + 1)
    with pytest.raises(TypeError, match=r"no options, got \['fast'\]"):
        single.call(x, fast=True)
    with pytest.raises(TypeError):
        single.call()
    with pytest.raises(TypeError):
        single.call(x, x)


def test_the_function_outlives_its_session(compiled):
    call = Session(chain(2), [], compiled, Options(num_threads=1)).call
    gc.collect()
    np.testing.assert_array_equal(call(values(5))[0], 2 * values(5) + 1)
    np.testing.assert_array_equal(call([values(5).tolist()])[0], 2 * values(5) + 1)


def test_a_session_that_is_dropped_is_freed_at_once(compiled):
    session = Session(named_scores(), [], compiled, Options(num_threads=1))
    session.call([SCORES, INDICES[2:]])
    call, program = session.call, weakref.ref(session._program)
    gc.disable()
    try:
        del session
        assert call([SCORES, INDICES[2:]])[1].tolist() == NAMES[:1]
        del call
        assert program() is None
    finally:
        gc.enable()


def test_a_name_that_runs_the_model_while_it_is_looked_up(session):
    class Name:
        def __hash__(self):
            return hash("x")

        def __eq__(self, other):
            session.call([values(7, 1), INDICES])
            return other == "x"

    result = session._entry.function({Name(): values(4), "i": INDICES})
    np.testing.assert_array_equal(result[0], 2 * values(4))
    np.testing.assert_array_equal(result[1], values(4)[INDICES])


# Maps and strings

SCORES = np.array([[0.5, -0.0], [np.inf, 1e-45], [0.25, 3.0]], np.float32)
KEYS = [10**6, 10**6 + 1]
NAMES = ["a long name of its own", "né"]


def named_scores(**scores):
    """A map of the scores per row, and the names at positions."""
    b = Builder()
    b.object_count = 2
    x, i = b.input("x", rank=scores.get("rank", 2)), b.input("i", "i64")
    maps = Port("maps", SequenceType(MapType(I64, TensorType(F32, ()))), object=0)
    names = Port("names", TensorType(STRING, (1,)), object=1, dims=i.dims)
    b.outputs += [maps, names]
    b.host("zipmap", (x,), (maps,), labels=list(KEYS))
    b.host("ml_labels", (i,), (names,), labels=np.array(NAMES, object))
    return b.plan()


def never(params, *inputs):
    raise AssertionError("Python was called")


NEVER = {
    "zipmap": of_objects(BUILD_MAPS, lambda params: params["labels"])(lambda *inputs: never(*inputs)),
    "ml_labels": of_objects(BUILD_ITEMS, lambda params: params["labels"].tolist())(lambda *inputs: never(*inputs)),
}


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_compiled_code_makes_maps_and_strings(compiled, rows):
    session = Session(named_scores(), [], compiled, Options(num_threads=1), NEVER)
    maps, names = session.call([SCORES[:rows], np.arange(rows) % 2])
    assert maps == [dict(zip(KEYS, row, strict=True)) for row in SCORES[:rows].tolist()]
    assert all(type(value) is float for item in maps for value in item.values())
    assert [np.signbit(value) for item in maps for value in item.values()] == np.signbit(SCORES[:rows]).reshape(-1).tolist()
    assert names.tolist() == [NAMES[k % 2] for k in range(rows)]
    assert names.dtype == object and names.flags.owndata and names.flags.writeable


def test_names_of_many_axes_write_into_nothing_but_their_array(compiled, monkeypatch):
    blocks = []

    def walled(size):
        block = np.full(size + 192, 0x77, np.uint8)
        begin = 64 + -block.ctypes.data % 64
        blocks.append((block, begin, begin + size))
        return block[begin : begin + size]

    monkeypatch.setattr(state, "aligned_block", walled)
    b = Builder()
    b.object_count = 1
    i = b.input("i", "i64", rank=8)
    names = Port("names", TensorType(STRING, (None,) * 8), object=0)
    b.outputs.append(names)
    b.host("ml_labels", (i,), (names,), labels=np.array(NAMES, object))
    session = Session(b.plan(), [], compiled, Options(num_threads=1), NEVER)
    positions = np.arange(12).reshape(1, 2, 1, 3, 1, 2, 1, 1) % 2
    assert session.call([positions])[0].tolist() == np.array(NAMES, object)[positions].tolist()
    for block, begin, end in blocks:
        assert (block[:begin] == 0x77).all() and (block[end:] == 0x77).all()


def test_one_map_for_a_single_row_of_scores(compiled):
    session = Session(named_scores(rank=1), [], compiled, Options(num_threads=1), NEVER)
    assert session.call([SCORES[0], INDICES[:0]])[0] == [dict(zip(KEYS, SCORES[0].tolist(), strict=True))]


def test_maps_belong_to_the_caller(compiled):
    session = Session(named_scores(), [], compiled, Options(num_threads=1), NEVER)
    first, _ = session.call([SCORES, INDICES[2:]])
    first[0].clear()
    first[1]["new"] = 1
    second, names = session.call([SCORES, INDICES[2:]])
    assert list(second[0]) == list(second[1]) == KEYS and first[2] == second[2] and first[2] is not second[2]
    names[:] = None
    assert session.call([SCORES, INDICES[2:]])[1].tolist() == NAMES[:1]


def test_what_is_odd_about_them_is_left_to_python(compiled):
    session = Session(named_scores(), [], compiled, Options(num_threads=1), HOST)
    assert session.call([SCORES, np.array([-1, 0])])[1].tolist() == NAMES[::-1]
    with pytest.raises(ExecutionError, match="ml_labels node: IndexError"):
        session.call([SCORES, np.array([2])])
    with pytest.raises(ExecutionError, match="zipmap node: ValueError"):
        session.call([SCORES[:, :1].copy(), INDICES[2:]])
    assert session.call([SCORES[:1], INDICES[2:]])[0] == [dict(zip(KEYS, SCORES[0].tolist(), strict=True))]


def test_without_an_entry_they_are_the_same(compiled, monkeypatch):
    fast = Session(named_scores(), [], compiled, Options(num_threads=1))
    monkeypatch.setattr("onnx_numba.runtime.engine.usable", lambda: False)
    portable = Session(named_scores(), [], compiled, Options(num_threads=1))
    assert portable._entry is None and fast._entry is not None
    got, want = fast.call([SCORES, INDICES % 2]), portable.call([SCORES, INDICES % 2])
    assert got[0] == want[0] and got[1].tolist() == want[1].tolist() and got[1].dtype == want[1].dtype


def test_an_object_that_a_step_reads_is_left_to_python(compiled):
    b = Builder()
    b.object_count = 2
    i = b.input("i", "i64")
    names, again = (Port(name, TensorType(STRING, (1,)), object=k, dims=i.dims) for k, name in enumerate(["names", "again"]))
    b.outputs += [names, again]
    b.host("ml_labels", (i,), (names,), labels=np.array(NAMES, object))
    b.host("upper", (names,), (again,))
    upper = lambda params, names: (np.array([name.upper() for name in names], object),)  # noqa: E731
    session = Session(b.plan(), [], compiled, Options(num_threads=1), {**HOST, "upper": upper})
    got = session.call(np.array([1, 0]))
    assert got[0].tolist() == NAMES[::-1] and got[1].tolist() == [name.upper() for name in NAMES[::-1]]


def test_references_of_maps_and_strings_are_kept_in_balance(compiled):
    session = Session(named_scores(), [], compiled, Options(num_threads=1))
    x, i = SCORES.copy(), np.array([0, 1, 1])
    wrong = np.array([5])
    (kept,) = session.call([x, i])[:1]
    held = [*KEYS, *NAMES, x, i, np.dtype(object), None, entry.REFUSED, *kept]

    def go():
        for _ in range(500):
            session.call([x, i])
            session.call({"x": x, "i": i})
        for _ in range(20):
            with pytest.raises(ExecutionError):
                session.call([x, wrong])

    go()
    gc.collect()
    before, blocks = [sys.getrefcount(item) for item in held], sys.getallocatedblocks()
    go()
    gc.collect()
    after = [sys.getrefcount(item) for item in held]
    assert all(abs(new - old) < 20 for new, old in zip(after, before, strict=True)), (before, after)
    assert abs(sys.getallocatedblocks() - blocks) < 200
