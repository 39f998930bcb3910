"""The fast entry: what it takes, what it leaves to the general path, and that it neither leaks nor drops references."""

from __future__ import annotations

import collections
import gc
import sys
import threading

import numpy as np
import pytest
import runtime_plans as plans
from runtime_plans import Builder, chain, values

from onnx_numba.errors import ExecutionError, InputError, InputTypeError
from onnx_numba.ir.plan import Port
from onnx_numba.ir.types import F32, SequenceType, TensorType
from onnx_numba.options import Options
from onnx_numba.runtime import entry
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
