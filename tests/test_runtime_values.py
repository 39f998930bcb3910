"""What goes in and what comes out: checks of inputs, ownership and recycling of outputs, options."""

from __future__ import annotations

import gc
import pickle
import threading

import ml_dtypes
import numpy as np
import pytest
import runtime_plans as plans
from runtime_plans import chain, values

from onnx_numba.errors import ExecutionError, InputError, InputTypeError, OptionError
from onnx_numba.ir.plan import Port
from onnx_numba.ir.types import BF16, BOOL, F16, F32, I8, I64, STRING, U8, MapType, OptionalType, SequenceType, TensorType
from onnx_numba.options import Options
from onnx_numba.runtime.binding import conform, in_order
from onnx_numba.runtime.outputs import LARGE, OutputPool
from onnx_numba.runtime.session import Session

compiled, make = plans.compiled, plans.make


def tensor(dtype=F32, rank=1, declared=None):
    return Port("x", TensorType(dtype, (1,) * rank), 0, tuple(range(rank)), declared=declared)


def test_arrays_are_taken_as_they_are():
    x = values(5)
    assert conform(x, tensor()) is x
    x.flags.writeable = False
    assert conform(x, tensor()) is x


@pytest.mark.parametrize("x", [values(10)[::2], values(10).astype(">f4"), np.frombuffer(bytes(21), np.uint8)[1:].view("f4")])
def test_arrays_that_kernels_cannot_read_are_copied(x):
    got = conform(x, tensor())
    assert got is not x and got.dtype == np.float32 and got.dtype.isnative and got.flags.c_contiguous and got.flags.aligned
    np.testing.assert_array_equal(got, x)


def test_fortran_order():
    x = np.asfortranarray(values(12).reshape(3, 4))
    got = conform(x, tensor(rank=2))
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, x)


@pytest.mark.parametrize(
    ("dtype", "array"),
    [
        (F16, np.ones(3, np.float16)),
        (BF16, np.ones(3, ml_dtypes.bfloat16)),
        (BOOL, np.ones(3, bool)),
        (U8, np.ones(3, np.uint8)),
    ],
)
def test_every_element_type(dtype, array):
    assert conform(array, tensor(dtype)) is array


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        (F32, np.ones(3), r"input 'x': expected float32 \(float\), got float64; convert it with .astype\(np.float32\)"),
        (I64, np.ones(3, np.int32), r"expected int64 \(int64\), got int32"),
        (BF16, np.ones(3, np.uint16), r"convert it with .astype\(ml_dtypes.bfloat16\)"),
        (F32, np.array(["a"]), "no ONNX element type|expected float32"),
        (F32, ["a"], "expected float numbers"),
        (F32, object(), "expected float numbers"),
        (I64, [1.5], "float64 values cannot become int64"),
        (I8, [300], "outside the range of int8, -128 to 127"),
        (U8, [-1], "outside the range of uint8, 0 to 255"),
        (F32, [[1], [2, 3]], "expected numbers of one shape"),
        (F32, np.ma.masked_array([1.0], [True]), "masked arrays"),
        (STRING, np.ones(2), "expected strings"),
        (STRING, [b"a", b"\xff"], r"expected strings, got bytes that are no UTF-8: b'\\xff'"),
    ],
)
def test_wrong_types(dtype, value, message):
    with pytest.raises(InputTypeError, match=message):
        conform(value, tensor(dtype))


def test_python_values_are_converted():
    assert conform([1, 2.5], tensor()).dtype == np.float32
    assert conform([], tensor(I64)).dtype == np.int64
    assert conform([True, False], tensor(I64)).tolist() == [1, 0]
    scalar = conform(3, tensor(I8, 0))
    assert scalar.dtype == np.int8 and scalar.shape == ()
    assert conform(np.float32(2), tensor(F32, 0)).shape == ()
    with pytest.raises(InputTypeError):
        conform(np.float64(2), tensor(F32, 0))


class Exporting:
    """An array of a library that has nothing but the exchange protocol."""

    def __init__(self, array, here=True):
        self._array, self._here = array, here

    def __dlpack__(self, **options):
        if not self._here:
            raise BufferError("it lies on a GPU")
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return (1, 0)


def test_arrays_of_other_libraries():
    assert conform(Exporting(values(3)), tensor()).tolist() == values(3).tolist()
    assert conform(Exporting(values(6)[::2]), tensor()).flags.c_contiguous
    with pytest.raises(InputTypeError, match=r"expected float32 \(float\), got float64"):
        conform(Exporting(np.ones(3)), tensor())
    with pytest.raises(InputTypeError, match=r"input 'x': NumPy cannot read this Exporting \(it lies on a GPU\)"):
        conform(Exporting(values(3), here=False), tensor())


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3, 4]})
    got = conform(frame, tensor(rank=2))
    assert got.dtype == np.float32 and got.tolist() == [[1, 3], [2, 4]] and got.flags.c_contiguous


@pytest.mark.parametrize("value", [["a", "b"], np.array(["a", "b"]), np.array(["a", "b"], object), np.array([b"a", b"b"])])
def test_strings(value):
    got = conform(value, Port("x", TensorType(STRING, (2,)), object=0))
    assert got.dtype == object and got.tolist() == ["a", "b"]


def test_values_that_are_no_tensors():
    numbers = TensorType(F32, (1,))
    sequence = Port("x", SequenceType(numbers), object=0)
    assert [a.tolist() for a in conform([values(1), [2]], sequence)][1] == [2]
    with pytest.raises(InputTypeError, match=r"x'\[1\]"):
        conform([values(1), np.ones(1)], sequence)
    with pytest.raises(InputTypeError, match="expected a list"):
        conform(values(1), sequence)
    assert conform(None, Port("x", OptionalType(numbers), object=0)) is None
    assert conform({"a": 1}, Port("x", MapType(STRING, numbers), object=0)) == {"a": 1}
    with pytest.raises(InputTypeError, match="expected a mapping"):
        conform(3, Port("x", MapType(STRING, numbers), object=0))


@pytest.mark.parametrize(
    ("key", "dtype", "value"),
    [
        (I64, F32, {"a": 1.0}), (I64, F32, {True: 1.0}), (STRING, F32, {1: 1.0}), (STRING, I64, {"a": 1.5}), (STRING, I64, {"a": 1 << 70}),
        (STRING, F32, {"a": None}), (STRING, F32, {"a": "1"}), (STRING, STRING, {"a": 1}), (STRING, F32, {"a": [1.0, 2.0]}),
    ],
)  # fmt: skip
def test_maps_of_other_types(key, dtype, value):
    with pytest.raises(InputTypeError, match=r"'x'"):
        conform(value, Port("x", MapType(key, TensorType(dtype, ())), object=0))


def test_numbers_in_maps():
    got = conform({np.int64(3): np.array(2), 4: np.float16(0.5), 5: 0.1}, Port("x", MapType(I64, TensorType(F32, ())), object=0))
    assert got == {3: 2.0, 4: 0.5, 5: float(np.float32(0.1))}


def test_shapes():
    port = tensor(rank=2, declared=("batch", 3))
    assert conform(np.zeros((7, 3), "f4"), port).shape == (7, 3)
    with pytest.raises(InputError, match=r"expected shape \[batch, 3\], got \[7, 4\] \(axis 1 is fixed"):
        conform(np.zeros((7, 4), "f4"), port)
    with pytest.raises(InputError, match=r"expected rank 2 \[batch, 3\], got rank 1 \[3\]"):
        conform(np.zeros(3, "f4"), port)


def test_order_and_names():
    a, b = tensor(), Port("b", OptionalType(TensorType(F32, (1,))), object=1)
    assert in_order({"x": 1}, [a, b]) == [1, None]
    assert in_order([1, 2], [a, b]) == [1, 2]
    assert in_order((1, None), [a, b]) == [1, None]
    assert in_order(5, [a]) == [5]
    with pytest.raises(InputError, match="unknown input 'y'; this model's inputs are 'x', 'b'"):
        in_order({"y": 1}, [a, b])
    with pytest.raises(InputError, match="input 'x' is missing"):
        in_order({"b": 1}, [a, b])
    with pytest.raises(InputError, match=r"expected 2 inputs \('x', 'b'\), got 3"):
        in_order([1, 2, 3], [a, b])
    with pytest.raises(InputError, match="expected 1 inputs"):
        in_order([], [a])


def test_inputs_are_never_written(make):
    session = make(chain(3))
    x = values(1000)
    x.flags.writeable = False
    before = x.copy()
    session.run([x])
    session.run({"x": x})
    session.run(x)
    np.testing.assert_array_equal(x, before)


def test_a_dropped_output_is_used_again():
    pool = OutputPool()
    first = pool.empty((LARGE,), np.dtype("u1"))
    address = first.__array_interface__["data"][0]
    assert address % 64 == 0
    view = first[10:20]
    other = pool.empty((LARGE,), np.dtype("u1"))
    assert not np.shares_memory(first, other)
    del first
    assert not np.shares_memory(view, pool.empty((LARGE,), np.dtype("u1")))
    del view
    gc.collect()
    assert pool.empty((LARGE // 4,), np.dtype("f4")).__array_interface__["data"][0] == address


def test_the_pool_is_bounded_and_exact():
    pool = OutputPool(keep=4)
    held = [pool.empty((LARGE + n,), np.dtype("u1")) for n in range(20)]
    for number, array in enumerate(held):
        array.fill(number)
    assert len(pool.blocks) == 4
    assert [int(array[0]) for array in held] == list(range(20))
    exported = memoryview(pool.empty((LARGE,), np.dtype("u1")))
    assert not np.shares_memory(np.asarray(exported), pool.empty((LARGE,), np.dtype("u1")))
    pool.trim()
    assert not pool.blocks


def test_small_outputs_and_zero_dims():
    pool = OutputPool()
    assert pool.empty((), np.dtype("f4")).shape == ()
    assert pool.empty((0, 10**6), np.dtype("f4")).shape == (0, 10**6)
    assert not pool.blocks


def test_the_pool_is_thread_safe():
    pool, wrong = OutputPool(), []

    def work(mark):
        for _ in range(300):
            array = pool.empty((LARGE,), np.dtype("u1"))
            array[:64] = mark
            array[-64:] = mark
            if not (array[:64] == mark).all() or not (array[-64:] == mark).all():
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_options():
    assert Options.parse() == Options()
    assert Options.parse({"num_threads": 3}, jit=False) == Options(num_threads=3, jit=False)
    assert Options.parse(Options(cpu="generic"), accuracy="strict") == Options(cpu="generic", accuracy="strict")
    assert Options().key() == {"cpu": "host", "accuracy": "fast", "dims": "()"}
    assert Options(dims={"n": 2, "m": 1}) == Options(dims=(("m", 1), ("n", 2)))
    assert Options(dims={"n": 2}).key() != Options().key()
    with pytest.raises(OptionError, match="unknown option 'num_thread'; did you mean 'num_threads'"):
        Options.parse(num_thread=1)
    with pytest.raises(OptionError, match="known options are"):
        Options.parse({"zzz": 1})
    for wrong in ({"num_threads": 0}, {"num_threads": True}, {"cpu": ""}, {"accuracy": "exact"}, {"jit": 1}, {"cache": 3}, {"cache": ""}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            Options.parse(wrong)
    with pytest.raises(OptionError, match="expected Options or a mapping"):
        Options.parse(3)


def test_errors_survive_pickling():
    error = ExecutionError.at("Log 'l'", "bad", code=5, index=7)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "Log 'l': bad (work item 7)" and (again.code, again.index, again.step) == (5, 7, "Log 'l'")


def test_input_errors_reach_the_caller():
    session = Session(chain(), [], {k.__name__: k for k in plans.KERNELS}, Options(jit=False))
    with pytest.raises(InputTypeError):
        session.run([np.ones(3)])


@pytest.mark.parametrize("jit", [True, False])
def test_a_size_that_64_bits_cannot_count_is_an_error(jit):
    from onnx import parser

    from onnx_numba import backend, errors

    model = parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]>\n'
        "g (float[1] x, int64[2] s) => (float[N,M] y) { a=Expand(x,s) b=Softmax<axis=0>(a) y=Softmax<axis=1>(b) }"
    )
    rep = backend.prepare(model, jit=jit)
    with pytest.raises(errors.ExecutionError, match="64 bits"):
        rep.run([np.ones(1, np.float32), np.array([3, 6148914691236517206])])
    assert rep.run([np.ones(1, np.float32), np.array([3, 2])]).y.shape == (3, 2)
