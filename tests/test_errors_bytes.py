"""Files that end early, that are no model, and models with bytes changed: an error of ours in one line, or a model that runs."""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np
import pytest
from error_checks import HEAD, X, holds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import parser
from sample_models import SAMPLES

from onnx_numba import backend, errors, samples


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.2, 0.5, 0.8, 0.95, 0.999])
def test_truncated(share: float, tmp_path: Path) -> None:
    data = Path(samples.path()).read_bytes()
    cut = data[: int(len(data) * share)]
    with pytest.raises(errors.OnnxNumbaError) as raised:
        backend.prepare(cut)
    holds(raised)
    path = tmp_path / "cut.onnx"
    path.write_bytes(cut)
    with pytest.raises(errors.OnnxNumbaError) as raised:
        backend.prepare(path)
    holds(raised)


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"{}", b"PK\x03\x04", b"\x80\x04\x95", b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(range(256)), b"\xff" * 99]
)
def test_not_onnx(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(data)
    for form in (data, path, str(path)):
        with pytest.raises(errors.ModelError) as raised:
            backend.prepare(form)
        holds(raised, *(["x.bin"] if form is not data else []))


def test_what_is_no_model_at_all() -> None:
    for thing in (None, 3, [b"x"], object()):
        with pytest.raises(TypeError):
            backend.prepare(thing)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="absent"):
        backend.prepare("absent.onnx")


# Whatever bytes come

FUZZED = {
    "mlp": HEAD + "g (float[n,2] x) => (float[n,2] y) <float[2,2] w = {1.0, 2.0, 3.0, 4.0}> { a = MatMul(x, w) y = Relu(a) }",
    "shapes": HEAD + "g (float[n,6] x) => (float[n,3,2] y) <int64[3] s = {0, 3, -1}> "
    "{ t = Transpose(x) u = Transpose(t) y = Reshape(u, s) }",
    "branch": HEAD + SAMPLES["branches"].text,
}
BYTES = {name: parser.parse_model(text).SerializeToString(deterministic=True) for name, text in FUZZED.items()}
INPUTS = {"mlp": [X[:, :2].copy()], "shapes": [np.ones((2, 6), np.float32)], "branch": [np.array(True), X[0]]}


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(list(BYTES)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255), st.sampled_from(["set", "drop", "insert"])), min_size=1,
             max_size=4),
)  # fmt: skip
def test_mutated_bytes_run_or_raise_our_errors(name: str, changes: list[tuple[float, int, str]]) -> None:
    data = bytearray(BYTES[name])
    for place, byte, how in changes:
        at = int(place * len(data))
        data[at : at + (how != "insert")] = b"" if how == "drop" else bytes([byte])
    try:
        rep = backend.prepare(bytes(data), jit=False, cache=False)
        if sum(np.prod([d if isinstance(d, int) else 1 for d in port.declared or ()]) for port in rep.inputs) < 1e6:
            rep.run(INPUTS[name])
    except errors.OnnxNumbaError as error:
        assert "\n" not in str(error), str(error)
    except MemoryError:
        pass  # a model may ask for more than there is
    except BaseException:
        raise AssertionError(f"{name} {changes}: {traceback.format_exc()}") from None
