"""Plans run by compiled code and by Python: the same results, the same errors."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import runtime_plans as plans
from runtime_plans import Builder, chain, values

from onnx_numba.errors import ExecutionError, ModelError
from onnx_numba.ir.plan import AROUND, BAD_VALUE, BROADCAST, DIVISION_BY_ZERO, INDEX_RANGE, SHAPE_MISMATCH, Port
from onnx_numba.ir.types import F32, TensorType
from onnx_numba.options import Options
from onnx_numba.runtime.assembler import assemble
from onnx_numba.runtime.session import Session

compiled, make = plans.compiled, plans.make


def test_one_step(make):
    session = make(chain())
    for n in (0, 1, 63, 64, 65, 1000, 100_000):
        x = values(n)
        (y,) = session.run([x])
        assert y.dtype == np.float32 and y.shape == (n,)
        np.testing.assert_array_equal(y, 2 * x)


def test_temporaries_grow_and_stay(make):
    session = make(chain(5))
    for n in (10, 1000, 10, 5000, 4999):
        np.testing.assert_array_equal(session.run([values(n)])[0], 2 * values(n) + 1 + 1 + 1 + 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_learn_whether_what_they_write_goes_around_the_caches(compiled, threads):
    b = Builder()
    sizes = [0, AROUND - 1, AROUND, 1 << 40, 0]
    for number, size in enumerate(sizes):
        y = b.output(f"y{number}", "i64", dims=(b.slot(500),))
        b.emit("out", number)
        b.call(plans.told_to_go_around, y.dims[0], (y.buffer,), (), grain=1, written=size)
    session = Session(b.plan(), [], compiled, Options(num_threads=threads))
    for _ in range(3):
        for size, told in zip(sizes, session.run([]), strict=True):
            assert (told == (size >= AROUND)).all()


def test_slot_arithmetic(make):
    b = Builder()
    expected = {
        "add": lambda a, c: a + c, "sub": lambda a, c: a - c, "mul": lambda a, c: a * c, "div": lambda a, c: a // c,
        "mod": lambda a, c: a % c, "max": max, "min": min, "eq": lambda a, c: a == c, "ne": lambda a, c: a != c,
        "lt": lambda a, c: a < c, "le": lambda a, c: a <= c,
    }  # fmt: skip
    for left, right in [(7, 2), (-7, 2), (7, -2), (-7, -2), (6, 3), (0, 5), (-1, 4), (-8, 4), (2**40, 3)]:
        for name, function in expected.items():
            b.check(b.op(name, b.slot(left), b.slot(right)), b.slot(int(function(left, right))))
    for left, right, common in [(1, 5, 5), (5, 1, 5), (3, 3, 3), (0, 1, 0), (1, 0, 0)]:
        b.check(b.op("bcast", b.slot(left), b.slot(right)), b.slot(common))
    b.check(b.op("move", b.slot(42)), b.slot(42))
    assert make(b.plan()).run([]) == ()


@pytest.mark.parametrize(
    ("instruction", "code"),
    [("div", DIVISION_BY_ZERO), ("mod", DIVISION_BY_ZERO), ("bcast", BROADCAST), ("check", SHAPE_MISMATCH), ("alloc", BAD_VALUE)],
)
def test_errors_of_the_plan_name_the_next_step(make, instruction, code):
    b = Builder()
    x = b.input("x")
    zero, six = b.slot(0), b.slot(6)
    if instruction == "check":
        b.check(zero, six, code, "Reshape 'r'")
    elif instruction == "alloc":
        b.emit("alloc", b.buffer(), b.slot(-8))
    else:
        b.op(instruction, six, zero)
    b.call(plans.refuse_negative, b.slot(1), (x.buffer,), (x.dims[0],), step="Reshape 'r'")
    with pytest.raises(ExecutionError, match=r"^Reshape 'r': ") as caught:
        make(b.plan()).run([values(3)])
    assert caught.value.code == code and caught.value.index is None and caught.value.step == "Reshape 'r'"


@pytest.mark.parametrize("kind", ["bool", "u8", "i8", "u16", "i16", "u32", "i32", "i64"])
def test_load_reads_every_integer_type(make, kind):
    b = Builder()
    x = b.input("x", kind)
    extremes = {"bool": 1, "u8": 200, "i8": -100, "u16": 60_000, "i16": -30_000, "u32": 2**31, "i32": -(2**31)}
    wanted = extremes.get(kind, -(2**60))
    got = b.slot()
    b.emit("load", got, x.buffer, b.slot(2), kind)
    b.check(got, b.slot(wanted))
    array = np.zeros(3, x.type.dtype.numpy)
    array[2] = wanted
    make(b.plan()).run([array])


def test_data_dependent_shape(make):
    session = make(plans.positives())
    for x in (values(1000), -np.ones(5, np.float32), np.ones(70_000, np.float32), values(0)):
        np.testing.assert_array_equal(session.run([x])[0], x[x > 0])


def test_alias_and_copy(make):
    b = Builder()
    x = b.input("x")
    n, size = x.dims[0], b.op("mul", x.dims[0], b.slot(4))
    view = b.buffer()
    b.emit("alias", view, x.buffer)
    y = b.output("y", dims=(n,))
    b.emit("out", 0)
    b.emit("copy", y.buffer, view, size)
    given = values(50)
    (result,) = make(b.plan()).run([given])
    np.testing.assert_array_equal(result, given)
    assert not np.shares_memory(result, given)


def test_a_loop_swaps_extends_and_stores(make):
    """y: twice x, and twice that, n times over; rows: what each iteration made; last: the number of the last."""
    b = Builder()
    x, n = b.input("x"), b.input("n", "i64", rank=0)
    zero, one, number, going = b.slot(0), b.slot(1), b.slot(), b.slot()
    count, item = b.op("mul", x.dims[0], b.slot(4)), b.slot()
    limit, current, following, stack, row = b.slot(), b.buffer(), b.buffer(), b.buffer(), b.buffer()
    b.emit("load", limit, n.buffer, zero, "i64")
    b.emit("alias", current, x.buffer)
    b.emit("alloc", stack, zero)
    b.emit("move", number, zero)
    top = len(b.code)
    b.emit("lt", going, number, limit)
    exit_ = len(b.code)
    b.emit("branch", going, -1)
    b.emit("alloc", following, count)
    b.call(plans.double, b.tiles(x.dims[0]), (current, following), (x.dims[0],))
    b.emit("mul", item, number, count)
    b.emit("extend", stack, b.op("add", item, count))
    b.emit("point", row, stack, item)
    b.emit("copy", row, following, count)
    b.emit("swap", current, following)
    b.emit("add", number, number, one)
    b.emit("jump", top)
    b.code[exit_] = ("branch", going, len(b.code))
    y, rows, last = b.output("y", dims=(x.dims[0],)), b.output("rows", dims=(number, x.dims[0])), b.output("last", "i64", rank=0)
    for k, (port, source, size) in enumerate(((y, current, count), (rows, stack, b.op("mul", number, count)))):
        b.emit("out", k)
        b.emit("copy", port.buffer, source, size)
    b.emit("out", 2)
    b.emit("store", last.buffer, number, "i64")
    session = make(b.plan())
    given = values(50)
    for trips in (0, 1, 5, 40, 3):
        result, made, number_made = session.run([given, np.array(trips)])
        np.testing.assert_array_equal(result, given * np.float32(2.0**trips))
        np.testing.assert_array_equal(made, [given * np.float32(2.0 ** (k + 1)) for k in range(trips)] or np.empty((0, 50)))
        assert number_made == trips


def test_a_jump_out_of_the_plan_is_refused():
    b = Builder()
    b.input("x")
    b.emit("jump", 2)
    with pytest.raises(ModelError, match="operand outside its table"):
        assemble(b.plan())


def test_scratch(make):
    b = Builder()
    x = b.input("x", "i64")
    n, size = x.dims[0], b.op("mul", x.dims[0], b.slot(8))
    y = b.output("y", "i64", dims=(n,))
    b.emit("out", 0)
    b.emit("scratch", size)
    b.call(plans.reverse_by_scratch, b.slot(1), (x.buffer, y.buffer), (n,), 1)
    session = make(b.plan())
    for count in (5, 3, 1000):
        np.testing.assert_array_equal(session.run([np.arange(count)])[0], np.arange(count)[::-1])


@pytest.mark.parametrize("grain", [1, 3, 1000])
def test_a_failing_kernel_reports_the_smallest_index(make, grain):
    b = Builder()
    x = b.input("x")
    b.call(plans.refuse_negative, b.tiles(x.dims[0]), (x.buffer,), (x.dims[0],), grain, step="Log 'l'")
    session = make(b.plan())
    array = np.ones(100_000, np.float32)
    for index in (0, 777, 40_000, 99_999):
        array[index:] = -1
        with pytest.raises(ExecutionError, match=rf"^Log 'l': .* \(work item {index}\)$") as caught:
            session.run([array])
        assert (caught.value.code, caught.value.index) == (BAD_VALUE, index)
        array[:] = 1
    assert session.run([array]) == ()


def test_index_out_of_range(make):
    b = Builder()
    x, i = b.input("x"), b.input("i", "i64")
    y = b.output("y", dims=i.dims)
    b.emit("out", 0)
    b.call(plans.take, i.dims[0], (x.buffer, i.buffer, y.buffer), (x.dims[0],), 2)
    session = make(b.plan())
    np.testing.assert_array_equal(session.run([np.arange(4, dtype="f4"), np.array([3, -4, -1])])[0], [3, 0, 3])
    with pytest.raises(ExecutionError) as caught:
        session.run([np.arange(4, dtype="f4"), np.array([0, 1, 2, 4, -5])])
    assert (caught.value.code, caught.value.index) == (INDEX_RANGE, 3)


def test_weights_are_read_where_they_lie(make, tmp_path):
    path = tmp_path / "weights"
    values(300).tofile(path)
    b = Builder()
    w = b.buffer()
    b.constants[w] = 1
    n = b.slot(300)
    y = b.output("y", dims=(n,))
    b.emit("out", 0)
    b.call(plans.double, b.tiles(n), (w, y.buffer), (n,))
    mapped = np.memmap(path, np.float32, "r")
    session = make(b.plan(), [np.zeros(1, "f4"), mapped])
    np.testing.assert_array_equal(session.run({})[0], 2 * values(300))


def swap(params, x, missing):
    assert missing is None
    return (x[::-1] * np.float32(params["factor"]),)


def host_plan():
    b = Builder()
    x = b.input("x")
    middle = b.port("middle")
    b.host("swap", (x, None), (middle,), factor=3)
    y = b.output("y", dims=middle.dims)
    b.emit("out", 0)
    b.call(plans.double, b.tiles(middle.dims[0]), (middle.buffer, y.buffer), (middle.dims[0],))
    b.outputs.append(middle)
    return b.plan()


def test_host_step(make):
    session = make(host_plan(), hosts={"swap": swap})
    y, middle = session.run([values(100)])
    np.testing.assert_array_equal(middle, 3 * values(100)[::-1])
    np.testing.assert_array_equal(y, 6 * values(100)[::-1])
    again = session.run([values(100)])[1]
    assert not np.shares_memory(middle, again) and middle.flags.owndata


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda params, x, missing: 1 / 0, "swap node: ZeroDivisionError: division by zero"),
        (lambda params, x, missing: (), "swap node: swap gave 0 values, expected 1"),
        (lambda params, x, missing: (x.astype("f8"),), "swap node: 'middle' should be float32 of rank 1, got float64 of rank 1"),
        (lambda params, x, missing: (x[0],), "swap node: 'middle' should be float32 of rank 1, got float32 of rank 0"),
    ],
)
def test_host_errors(make, function, message):
    with pytest.raises(ExecutionError) as caught:
        make(host_plan(), hosts={"swap": function}).run([values(4)])
    assert str(caught.value) == message


def test_unknown_host_step(make):
    with pytest.raises(ModelError, match="no host step 'swap'"):
        make(host_plan())


def test_bodies_are_functions(make):
    def repeat(params, x):
        for _ in range(params["times"]):
            (x,) = params["body"](x)
        return (x,)

    b = Builder()
    x = b.input("x")
    y = b.output("y")
    b.host("repeat", (x,), (y,), times=5, body=chain(2))
    session = make(b.plan(), hosts={"repeat": repeat})
    body = np.float32(1)
    for _ in range(5):
        body = 2 * body + 1
    np.testing.assert_array_equal(session.run([np.ones(3, "f4")])[0], np.full(3, body))
    session.trim()
    np.testing.assert_array_equal(session.run([np.ones(3, "f4")])[0], np.full(3, body))


def test_objects_pass_through(make):
    b = Builder()
    b.object_count = 2
    x = Port("x", TensorType(F32, None), object=0)
    y = Port("y", TensorType(F32, None), object=1)
    b.inputs.append(x)
    b.outputs.append(y)
    b.host("same", (x,), (y,))
    session = make(b.plan(), hosts={"same": lambda params, value: (value,)})
    for shape in ((), (2, 3)):
        given = np.ones(shape, np.float32)
        (result,) = session.run([given])
        assert result.shape == shape and not np.shares_memory(result, given)


def test_results_are_the_callers_alone(make):
    session = make(chain())
    for n in (10, 100_000):
        first, second = session.run([values(n)])[0], session.run([values(n, 1)])[0]
        np.testing.assert_array_equal(first, 2 * values(n))
        np.testing.assert_array_equal(second, 2 * values(n, 1))


def test_an_error_leaves_the_session_usable(make):
    b = Builder()
    x = b.input("x")
    b.call(plans.refuse_negative, b.tiles(x.dims[0]), (x.buffer,), (x.dims[0],))
    y = b.output("y", dims=x.dims)
    b.emit("out", 0)
    b.call(plans.double, b.tiles(x.dims[0]), (x.buffer, y.buffer), (x.dims[0],))
    session = make(b.plan())
    for _ in range(3):
        with pytest.raises(ExecutionError):
            session.run([-np.ones(5, "f4")])
        np.testing.assert_array_equal(session.run([np.ones(5, "f4")])[0], 2)


def test_concurrent_runs(make):
    session = make(chain(4))
    wrong = []

    def work(seed):
        for number in range(30):
            x = values(1000 + 777 * number, seed)
            if not np.array_equal(session.run([x])[0], 2 * x + 1 + 1 + 1):
                wrong.append((seed, number))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "code",
    [
        (("nonsense", 1),),
        (("add", 0, 0, 99), ("end",)),
        (("alloc", 5, 0), ("end",)),
        (("load", 0, 0, 0, "f32"), ("end",)),
        (("out", 3), ("end",)),
        (("call", 1, 0, 0, 0, 0, (), ()), ("end",)),
        (("call", 0, 0, 0, 0, 0, (9,), ()), ("end",)),
        (("add", 0, 0),),
        (("move", 0, 0),),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(code):
    from dataclasses import replace

    from onnx_numba.runtime.assembler import assemble

    with pytest.raises(ModelError, match=r"^plan: "):
        assemble(replace(chain(), code=code))


def test_missing_kernel():
    with pytest.raises(ModelError, match="no code was given for the kernels double"):
        Session(chain(), [], {}, Options(jit=False))
