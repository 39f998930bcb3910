"""What callers may rely on: light imports, inputs that stay as they are, outputs of their own, the same bits from any thread count."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from sample_models import SAMPLES, iris

import onnx_numba
from onnx_numba import backend, samples

README = Path(__file__).resolve().parents[1] / "README.md"
HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
X = np.arange(12, dtype=np.float32).reshape(4, 3) - 5
MODES = pytest.mark.parametrize("jit", [True, False], ids=["compiled", "python"])


def prepared(text: str, **options: Any) -> backend.BackendRep:
    return backend.prepare(parser.parse_model(HEAD + text), **options)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def arrays(outputs: Any) -> list[np.ndarray]:
    """The arrays among outputs, those in lists too."""
    return [x for o in outputs for x in (o if isinstance(o, list) else [o]) if isinstance(x, np.ndarray)]


# Imports


def test_importing_the_package_imports_nothing_heavy_and_takes_no_time() -> None:
    code = "import sys, time; t = time.perf_counter(); import onnx_numba; t = time.perf_counter() - t; print(t, *sys.modules)"
    runs = [python(code).split() for _ in range(3)]
    seconds, modules = min(float(first) for first, *_ in runs), set(runs[0][1:])
    assert not {"numpy", "numba", "llvmlite", "onnx", "google"} & modules
    assert seconds < 0.2


def test_using_the_backend_s_names_imports_neither_onnx_nor_numba() -> None:
    code = """
import sys
import onnx_numba.backend as backend
from onnx_numba import Options, errors, get_device, samples
backend.supports_device("CPU"), backend.supports_device("CUDA"), get_device(), samples.path(), Options(num_threads=2)
print(*sorted({"onnx", "numba", "llvmlite", "pandas"} & set(sys.modules)))
"""
    assert python(code).split() == []


# README


def test_the_first_example_of_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.S)[1]  # type: ignore[index]
    scope: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec", dont_inherit=True), scope)
    assert capsys.readouterr().out.startswith("[0] [{0: 0.9")
    x = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
    assert scope["changed"].run(x)[1] == scope["rep"].run(x)[1]


def test_options_and_names_that_readme_lists_exist() -> None:
    text = README.read_text()
    listed = re.search(r"fields of `onnx_numba\.Options`: (.*?)\.", text, re.S)[1]  # type: ignore[index]
    assert set(re.findall(r"`(\w+)`", listed)) == set(onnx_numba.Options.__dataclass_fields__)
    for name in re.findall(r"`(run_\w+|supports_device|is_\w+)`", text):
        assert callable(getattr(backend, name))


# Inputs


ROUTES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda x: x,
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "fortran": lambda x: x.copy(order="F"),
    "strided": lambda x: np.repeat(x, 2, 0)[::2] if x.ndim else x,
    "backwards": lambda x: x[..., ::-1].copy()[..., ::-1] if x.ndim else x,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")) if x.dtype.kind in "iuf" else x,
    "misaligned": lambda x: _misaligned(x),
}


def _misaligned(x: np.ndarray) -> np.ndarray:
    block = np.zeros(x.nbytes + 1, np.uint8)
    view = block[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _numeric(name: str) -> list[np.ndarray]:
    return [np.asarray(x) for x in SAMPLES[name].feed()]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", ["scatter", "shapes", "mlp", "reductions", "integers", "branches", "quantised"])
def test_inputs_of_every_layout_give_the_same_and_stay_as_they_are(name: str, route: str) -> None:
    rep = backend.prepare(SAMPLES[name].model())
    feed = _numeric(name)
    expected = rep.run(feed)
    given = [ROUTES[route](x) for x in feed]
    before = [(x.tobytes(), x.strides, x.dtype, x.flags.writeable) for x in given]
    outputs = rep.run(given)
    assert [(x.tobytes(), x.strides, x.dtype, x.flags.writeable) for x in given] == before
    for port, one, other in zip(rep.outputs, outputs, expected, strict=True):
        np.testing.assert_array_equal(one, other, port.name)
        assert one.dtype.isnative


IN_PLACE = {
    "ScatterElements": "g (float[n,m] x, int64[1,m] i) => (float[n,m] y) { u = Cast<to=1>(i) y = ScatterElements(x, i, u) }",
    "ScatterND": "g (float[n,m] x, int64[1,m] i) => (float[n,m] y) "
    "{ z = Constant<value=int64[1,1] {1}>() u = Cast<to=1>(i) y = ScatterND(x, z, u) }",
    "twice": "g (float[n,m] x, int64[1,m] i) => (float[n,m] y, float[n,m] z) "
    "{ u = Cast<to=1>(i) y = ScatterElements(x, i, u) z = Neg(x) }",
    "Identity": "g (float[n,m] x, int64[1,m] i) => (float[n,m] y) { y = Identity(x) }",
    "Dropout": "g (float[n,m] x, int64[1,m] i) => (float[n,m] y) { y = Dropout(x) }",
}


@MODES
@pytest.mark.parametrize("name", IN_PLACE)
def test_what_works_in_place_works_on_memory_of_its_own(name: str, jit: bool) -> None:
    rep = prepared(IN_PLACE[name], jit=jit)
    x, index = X.copy(), np.array([[0, 1, 2]])
    first = rep.run([x, index])
    np.testing.assert_array_equal(x, X)
    kept = [o.copy() for o in first]
    for output in first:
        output.fill(-99)
    np.testing.assert_array_equal(x, X)
    for one, other in zip(rep.run([x, index]), kept, strict=True):
        np.testing.assert_array_equal(one, other)


# Outputs

ALIASES = {
    "identity": "g (float[n,m] x) => (float[n,m] y) { y = Identity(x) }",
    "identities": "g (float[n,m] x) => (float[n,m] y, float[n,m] z) { y = Identity(x) z = Identity(y) }",
    "reshape": "g (float[n,m] x) => (float[k] y, float[1,n,m] z) { s = Constant<value_ints=[-1]>() y = Reshape(x, s) "
    "a = Constant<value_ints=[0]>() z = Unsqueeze(x, a) }",
    "views of one": "g (float[n,m] x) => (float[n,m] r, float[k] y) "
    "{ r = Relu(x) s = Constant<value_ints=[-1]>() y = Reshape(r, s) }",
    "split": "g (float[n,3] x) => (float[n,1] a, float[n,1] b, float[n,1] c) { a, b, c = Split<axis=1, num_outputs=3>(x) }",
    "split rows": "g (float[4,m] x) => (float[2,m] a, float[2,m] b) { a, b = Split<axis=0, num_outputs=2>(x) }",
    "constant": "g (float[n,m] x) => (float[2] c, float[n,m] y) { c = Constant<value_floats=[1.0,2.0]>() y = Neg(x) }",
    "weight": "g (float[n,m] x) => (float[2] c, float[2] e, float[n,m] y) "
    "<float[2] w = {1.0, 2.0}> { c = Identity(w) e = Identity(w) y = Neg(x) }",
    "concat of one": "g (float[n,m] x) => (float[n,m] y) { y = Concat<axis=0>(x) }",
    "slice of all": "g (float[n,m] x) => (float[n,m] y) "
    "{ a = Constant<value_ints=[0]>() b = Constant<value_ints=[99]>() y = Slice(x, a, b) }",
    "branch": "g (float[n,m] x) => (float[n,m] y) "
    "{ c = Constant<value=bool {1}>() y = If(c) <then_branch = t () => (float[n,m] a) { a = Identity(x) },"
    " else_branch = e () => (float[n,m] b) { b = Neg(x) }> }",
    "loop": "g (float[n,m] x) => (float[n,m] y) "
    "{ k = Constant<value_int=0>() y = Loop(k, , x) <body = b (int64 i, bool c, float[n,m] h) => "
    "(bool d, float[n,m] o) { d = Identity(c) o = Neg(h) }> }",
    "sequence": "g (float[n,m] x) => (seq(float[n,m]) y, float[n,m] z) "
    "{ y = SequenceConstruct(x, x) i = Constant<value_int=0>() z = SequenceAt(y, i) }",
    "optional": "g (float[n,m] x) => (float[n,m] y) { o = Optional(x) y = OptionalGetElement(o) }",
}


@MODES
@pytest.mark.parametrize("name", ALIASES)
def test_outputs_are_the_caller_s_alone(name: str, jit: bool) -> None:
    rep = prepared(ALIASES[name], jit=jit)
    x = X.copy()
    first, second = arrays(rep.run(x)), arrays(rep.run(x))
    for one, other in itertools.combinations([x, *first, *second], 2):
        assert not np.shares_memory(one, other)
    kept = [output.copy() for output in second]
    for output in first:
        assert output.flags.writeable
        assert output.flags.c_contiguous
        output.fill(77)
    np.testing.assert_array_equal(x, X)
    for one, other, again in zip(second, kept, arrays(rep.run(x)), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(again, other)


def test_weights_cannot_be_changed_through_outputs_or_the_model() -> None:
    model = SAMPLES["mlp"].model()
    rep = backend.prepare(model)
    feed = SAMPLES["mlp"].feed()
    before = rep.run(feed)[0].copy()
    for tensor in model.graph.initializer:
        tensor.raw_data = bytes(len(tensor.raw_data))
    np.testing.assert_array_equal(rep.run(feed)[0], before)


def test_large_outputs_that_are_kept_are_not_used_again() -> None:
    rep = prepared("g (float[n] x) => (float[n] y) { y = Neg(x) }")
    kept = [rep.run(np.full(100_000, k, np.float32)).y for k in range(20)]
    views = [rep.run(np.full(100_000, k, np.float32)).y[::7] for k in range(20)]
    for k, (whole, view) in enumerate(zip(kept, views, strict=True)):
        assert (whole == -k).all()
        assert (view == -k).all()


def test_reps_outlive_what_they_were_made_from() -> None:
    outputs = prepared("g (float[n,m] x) => (float[n,m] y) { y = Exp(x) }").run(X)
    run = prepared("g (float[n,m] x) => (float[n,m] y) { y = Exp(x) }").run
    np.testing.assert_array_equal(run(X).y, outputs.y)


# Threads


LARGE: dict[str, tuple[str, list[Any]]] = {
    "elementwise": (
        "g (float[n] x) => (float[n] y) { a = Exp(x) b = Mul(a, x) y = Tanh(b) }",
        [np.linspace(-1, 1, 300_001, dtype=np.float32)],
    ),
    "reduce rows": (
        "g (float[n,m] x) => (float[n,m] y) { y = Softmax<axis=-1>(x) }",
        [np.random.default_rng(0).standard_normal((700, 333)).astype(np.float32)],
    ),
    "reduce all": (
        "g (float[n,m] x) => (float s, float[m] c, float p) { s = ReduceSum<keepdims=0>(x) a = Constant<value_ints=[0]>() "
        "c = ReduceMean<keepdims=0>(x, a) p = ReduceLogSumExp<keepdims=0>(x) }",
        [np.random.default_rng(1).standard_normal((1000, 500)).astype(np.float32)],
    ),
    "matmul": (
        "g (float[n,k] x, float[k,m] w) => (float[n,m] y) { p = MatMul(x, w) y = Relu(p) }",
        [np.random.default_rng(k).standard_normal((257, 257)).astype(np.float32) for k in (2, 3)],
    ),
    "convolution": (
        "g (float[b,8,h,w] x, float[16,8,3,3] k) => (float[b,16,g,v] y) { y = Conv<pads=[1,1,1,1]>(x, k) }",
        [np.random.default_rng(4).standard_normal(s).astype(np.float32) for s in ((2, 8, 60, 61), (16, 8, 3, 3))],
    ),
    "scatter": (
        'g (float[n] x, int64[k] i, float[k] u) => (float[n] y) { y = ScatterElements<reduction="add">(x, i, u) }',
        [np.zeros(1000, np.float32), np.random.default_rng(5).integers(0, 1000, 100_000),
         np.random.default_rng(6).standard_normal(100_000).astype(np.float32)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_the_same_bits_from_any_number_of_threads(name: str) -> None:
    text, feed = LARGE[name]
    results = [prepared(text, num_threads=count).run(feed) for count in (1, 2, 3)]
    again = prepared(text, num_threads=3).run(feed)
    for other in (*results[1:], again):
        for port, one, two in zip(results[0]._fields, results[0], other, strict=True):
            assert one.tobytes() == two.tobytes(), port


@pytest.mark.parametrize("name", ["mlp", "branches", "loop", "scatter", "detection", "recurrent", "forest"])
def test_concurrent_runs_agree(name: str) -> None:
    rep = backend.prepare(SAMPLES[name].model())
    feeds = [SAMPLES[name].feed(seed) for seed in range(4)]
    expected = [[o.tobytes() for o in rep.run(feed)] for feed in feeds]
    wrong: list[Any] = []
    barrier = threading.Barrier(4)

    def work(k: int) -> None:
        try:
            barrier.wait()
            until = time.perf_counter() + 0.3
            while time.perf_counter() < until:
                got = [o.tobytes() for o in rep.run(feeds[k])]
                if got != expected[k]:
                    wrong.append(k)
                    return
        except Exception as error:  # a thread's error would be lost
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_concurrent_preparation_agrees() -> None:
    text = "g (float[n] x) => (float[n] y) { a = Cos(x) b = Erf(a) y = Sub(b, x) }"
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(prepared(text).run(X[0]).y.tobytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(set(results)) == 1


# Forms of a model


def test_every_form_of_a_model_is_the_same_model(tmp_path: Path) -> None:
    model = iris()
    x = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
    path = tmp_path / "iris.onnx"
    onnx.save(model, path)
    data = path.read_bytes()
    forms: list[Any] = [model, data, path, str(path), samples.path()]
    outputs = [backend.prepare(form).run(x) for form in forms]
    assert all(label == outputs[0][0] and scores == outputs[0][1] for label, scores in outputs)
    assert model.SerializeToString() == onnx.load(path).SerializeToString()


def test_preparing_does_not_change_the_model() -> None:
    for name in ("convolutions", "branches", "scatter"):
        model = SAMPLES[name].model()
        before = model.SerializeToString(deterministic=True)
        backend.prepare(model)
        assert model.SerializeToString(deterministic=True) == before
