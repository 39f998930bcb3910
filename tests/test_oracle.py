"""The generated module as plain Python is the oracle of the compiled one, for onnx's node tests; and an edited module runs.

A run takes a tenth of the cases, another one every day of the year. ``ONNX_NUMBA_ORACLE=all`` takes all of them, a number from 0 to 9
the tenth that it names.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from node_cases import CASES, due, value
from onnx import parser
from oracle import LIMIT, METER, Pair, TooLong, metered

import onnx_numba
from onnx_numba import backend, errors


@pytest.mark.parametrize("name", due("ONNX_NUMBA_ORACLE"))
def test_compiled_agrees_with_python(name: str) -> None:
    case = CASES[name]
    pair = Pair.of(case.model)
    for inputs, _ in case.data_sets:
        try:
            pair.check([value(given) for given in inputs])
        except TooLong:
            pytest.skip(f"more than {LIMIT} inner steps")


# What is compared with what


SUM = """
<ir_version: 10, opset_import: ["" : 21]>
total (float[n] x) => (float[] y) { y = ReduceSum<keepdims = 0>(x) }
"""


def test_steps_are_counted() -> None:
    pair = Pair.of(parser.parse_model(SUM))
    assert 1000 <= pair.check([np.ones(1000, np.float32)]) <= 1010
    with pytest.raises(TooLong):
        pair.check([np.ones(LIMIT + 1, np.float32)])
    assert METER.steps == LIMIT + 1


def test_metered_module_is_the_module_with_a_call_per_loop() -> None:
    source = backend.prepare(parser.parse_model(SUM)).source
    counted = metered(source)
    assert counted.count("METER.step()") == len(re.findall(r"^ +(for|while) ", source, re.M))


# Modules that a person has changed


SCALE = """
<ir_version: 10, opset_import: ["" : 21]>
scale (float[n] x) => (float[n] y) { two = Constant<value = float {2}>() d = Mul(x, two) y = Exp(d) }
"""
X = np.linspace(-1, 1, 9, dtype=np.float32)


@pytest.fixture
def edited(tmp_path: Path) -> tuple[Path, onnx.ModelProto]:
    """The module of `SCALE` with another factor, and the model."""
    model = parser.parse_model(SCALE)
    source = backend.prepare(model).source
    assert source.count("2.0") == 1
    path = tmp_path / "scale.py"
    path.write_text(source.replace("2.0", "3.0"))
    return path, model


@pytest.mark.parametrize("jit", [True, False])
def test_an_edited_module_runs(edited: tuple[Path, onnx.ModelProto], jit: bool) -> None:
    path, model = edited
    rep = onnx_numba.load_source(path, model, jit=jit)
    np.testing.assert_allclose(rep.run(X).y, np.exp(3 * X), rtol=1e-6)
    assert rep.source == path.read_text()
    # The model itself, and its place in the store, are as before.
    np.testing.assert_allclose(backend.prepare(model).run(X).y, np.exp(2 * X), rtol=1e-6)


def test_helpers_and_imports_can_be_added(edited: tuple[Path, onnx.ModelProto]) -> None:
    path, model = edited
    text = re.sub(r"exp\((.*)\)$", r"twice(exp(\1))", path.read_text(), flags=re.M)
    head, _, tail = text.partition("globals().update(twins())\n")
    path.write_text(head + "globals().update(twins())\n\n\ndef twice(v):\n    return v + v\n" + tail)
    for jit in (True, False):
        np.testing.assert_allclose(onnx_numba.load_source(path, model, jit=jit).run(X).y, 2 * np.exp(3 * X), rtol=1e-6)


@pytest.mark.parametrize("jit", [True, False])
def test_a_missing_function_is_named(edited: tuple[Path, onnx.ModelProto], jit: bool) -> None:
    path, model = edited
    name = re.search(r"def (\w+)\(", path.read_text())[1]  # type: ignore[index]
    path.write_text(path.read_text().replace(f"def {name}(", "def something_else("))
    with pytest.raises(errors.ModelError, match=f"lacks the function '{name}'"):
        onnx_numba.load_source(path, model, jit=jit)


@pytest.mark.parametrize("jit", [True, False])
def test_a_module_that_is_no_python_is_one_error(edited: tuple[Path, onnx.ModelProto], jit: bool) -> None:
    path, model = edited
    path.write_text(path.read_text() + "\ndef broken(:\n")
    with pytest.raises(errors.ModelError, match=r"not Python: .*line \d+"):
        onnx_numba.load_source(path, model, jit=jit)


def test_a_module_that_does_not_compile_says_where(edited: tuple[Path, onnx.ModelProto]) -> None:
    path, model = edited
    path.write_text(path.read_text().replace("exp(", "no_such_name("))
    with pytest.raises(errors.OnnxNumbaError, match="no_such_name") as caught:
        onnx_numba.load_source(path, model)
    assert "\n" not in str(caught.value)
