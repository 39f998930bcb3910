"""CUDA kernels: what they compute, in numba's simulator, and that they compile to PTX. No GPU is needed."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cuda_models
import numpy as np
import pytest

import onnx_numba.backend as backend
from onnx_numba.codegen import cuda
from onnx_numba.errors import UnsupportedError
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Sym, dim
from onnx_numba.ir.loop import Input, TemplateCall, Tensor
from onnx_numba.ir.plan import INDEX_RANGE
from onnx_numba.ir.types import F32
from onnx_numba.schedule.steps import Group, Member

CHILD = Path(__file__).with_name("cuda_child.py")
needs_numba_cuda = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")


def child(what: str, out: Path, simulated: bool) -> dict[str, Any]:
    """Results of `cuda_child` by model; the simulator and the compiler cannot be in one process."""
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1" if simulated else "0"}
    subprocess.run([sys.executable, CHILD, what, out], check=True, env=environment)
    results: dict[str, Any] = pickle.loads(out.read_bytes())
    broken = {name: text for name, text in results.items() if isinstance(text, str)}
    assert not broken, "\n".join(f"{name}: {text}" for name, text in broken.items())
    return results


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return child("simulate", tmp_path_factory.mktemp("cuda") / "results", simulated=True)


def check(found: Any, expected: Any) -> None:
    if isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    small = isinstance(expected, np.ndarray) and expected.dtype.itemsize == 1
    if small:
        np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8))
    elif isinstance(expected, np.ndarray) and expected.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, np.ndarray) and expected.dtype.kind == "c":
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    elif isinstance(expected, np.ndarray):
        wide = np.float64
        tolerance = 2 * float(np.finfo(expected.dtype).eps) if expected.dtype.kind == "f" else 2**-7
        np.testing.assert_allclose(found.astype(wide), expected.astype(wide), rtol=4 * tolerance, atol=tolerance)
    elif isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, rel=1e-6)


@needs_numba_cuda
def test_the_simulator_gives_what_the_cpu_gives(simulated: dict[str, Any]) -> None:
    for name, make in cuda_models.MODELS.items():
        model, inputs = make()
        for found, expected in zip(simulated[name], backend.prepare(model).run(inputs), strict=True):
            try:
                check(found, expected)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error


@needs_numba_cuda
def test_an_index_out_of_range_is_an_error_of_the_first_one(simulated: dict[str, Any]) -> None:
    code, index, message, shape_after = simulated["failure"]
    assert (code, index) == (INDEX_RANGE, 6)  # elements 6, 7, 8 and 9 10 11 of the result have an index outside
    assert "Gather" in message
    assert shape_after == (2, 2, 3)


@needs_numba_cuda
def test_every_kind_of_kernel_compiles_to_ptx(tmp_path: Path) -> None:
    made = child("ptx", tmp_path / "ptx", simulated=False)
    for kernels in made.values():
        for name, (turing, hopper) in kernels.items():
            assert ".target sm_75" in turing and ".target sm_90" in hopper
            for text in (turing, hopper):
                assert len(re.findall(r"^\.visible \.entry", text, re.MULTILINE)) == 1, name
                assert ".extern .func" not in text, name


def relu(count: Any) -> Group:
    i = Sym("i", extent=count)
    x = Tensor("x", F32, (count,), Input(0))
    y = Tensor("y", F32, (count,), Input(1))
    value = e.binary("max", e.Load(x, (dim(i),)), 0.0)
    return Group((i,), (), (i,), [Member(y, "map", value, dim(i), y, False)], origins=["Relu 'r'"])


def test_a_map_has_a_thread_per_element() -> None:
    made = cuda.generate(relu(Sym("n")))
    assert made.source == (
        f"@cuda.jit\ndef {made.name}(x0, x1, total):\n"
        "    for i0 in range(cuda.grid(1), total, cuda.gridsize(1)):\n"
        "        x1[i0] = max_(x0[i0], f32(0.0))\n"
    )


def counting(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    atomic_add(i64_p(bufs, 0), 0, i64(hi - lo))  # type: ignore[name-defined]  # noqa: F821
    return 0


def test_a_template_of_the_cpu_alone_is_refused() -> None:
    x = Tensor("x", F32, (4,), Input(0))
    call = TemplateCall(counting, (x,), (), 4, 1, {}, {})
    with pytest.raises(UnsupportedError, match="Count 'c': there is no CUDA form yet of its kernel, which uses atomic_add"):
        cuda.generate_template(call, [x], ["Count 'c'"])


def test_a_template_is_a_device_function_called_per_work_unit() -> None:
    from onnx_numba.templates.rnn import rnn

    shape = (2, 3)
    tensors = tuple(Tensor(f"t{k}", F32, shape, Input(k)) for k in range(4))
    constants = {"REVERSE": False, "CLIP": 1.0, "F": "act_tanh", "FA": 0.0, "FB": 0.0}
    call = TemplateCall(rnn, tensors, (2, 3, 5), 3, 1, {"X": F32}, constants, 64, rounds=2)
    made = cuda.generate_template(call, [Tensor("y", F32, shape, Input(4))] * 3, ["RNN 'r'"])
    head = f"def {made.name}(scratch, stride, x0, x1, x2, x3, x4, x5, x6, s0, s1, s2, turn, total):"
    assert head in made.source
    assert f"{made.name}_unit(scratch, x0, x1, x2, x3, x4, x5, x6, dims, p, p + 1)" in made.source
    assert "dims = (s0, s1, s2, turn, )" in made.source
    assert "f32_scratch(scratch, 0)" in made.source
    assert "i64_at(buffer3, 0)" in made.source  # a buffer read as another type than its own
