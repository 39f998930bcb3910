"""The command line, in this process and as a program."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper, parser

from onnx_numba import cli, samples
from onnx_numba.cli import progress, timing, values
from onnx_numba.errors import InputError, InputTypeError
from onnx_numba.ir.plan import Port
from onnx_numba.ir.types import BF16, BOOL, DTYPES, F32, I64, STRING, MapType, OptionalType, SequenceType, TensorType

MODEL = """
<ir_version: 10, opset_import: ["" : 21]>
both (float[n, 3] x, float[m] bias) => (float[n, 3] y) { y = Add(x, bias) }
"""
X = np.arange(6, dtype=np.float32).reshape(2, 3)
BIAS = np.array([10, 20, 30], np.float32)


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "both.onnx"
    path.write_bytes(parser.parse_model(MODEL).SerializeToString())
    return str(path)


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(arguments)
    return status, *capsys.readouterr()


# Commands


def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = _run(capsys, "demo")
    assert (status, err) == (0, "")
    assert "[-1.0, -2.0, 5.0, 6.0] → label 2" in out
    assert "[5.1, 3.5, 1.4, 0.2] → label 0, probabilities {0: 0.98" in out
    assert "prepared in" in out


@pytest.mark.parametrize("suffix", ["npy", "npz", "pb", "csv"])
def test_run_on_files(suffix: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    specs = []
    for name, array in {"x": X, "bias": BIAS}.items():
        path = tmp_path / f"{name}_file.{suffix}"
        if suffix == "npy":
            np.save(path, array)
        elif suffix == "npz":
            np.savez(path, **{name: array})
        elif suffix == "pb":
            path.write_bytes(numpy_helper.from_array(array).SerializeToString())
        else:
            np.savetxt(path, array, delimiter=",")
        specs += ["--input", f"{name}={path}"]
    output = tmp_path / "out"
    status, out, err = _run(capsys, "run", model, *specs, "--output", str(output))
    assert (status, out, err) == (0, "y: float32 [2, 3]\n", "")
    np.testing.assert_array_equal(np.load(output)["y"], X + BIAS)


def test_run_on_one_npz(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "in.npz", x=X, bias=BIAS)
    status, out, _ = _run(capsys, "run", model, "--input", str(tmp_path / "in.npz"))
    assert status == 0
    assert str(X + BIAS) in out


def test_run_on_random_inputs(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = _run(capsys, "run", model, "--dim", "n=5", "--dim", "m=3")
    assert status == 0
    assert out.startswith("y: float32 [5, 3]\n")
    assert _run(capsys, "run", model, "--dim", "n=5", "--dim", "m=3")[1] == out
    assert _run(capsys, "run", model, "--dim", "n=5", "--dim", "m=3", "--seed", "1")[1] != out


def test_run_writes_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.npz"
    assert _run(capsys, "run", samples.path(), "--output", str(output))[0] == 0
    with np.load(output) as arrays:
        (label,) = {key for key in arrays if "__" not in key}
        maps = values.unpacked(arrays, "output_probability")
        assert len(maps) == len(arrays[label]) == values.RANDOM_EXTENT
        assert list(maps[0]) == [0, 1, 2]


def test_inspect(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = _run(capsys, "inspect", model)
    assert status == 0
    assert "x     tensor(float)" in out
    assert "[n, 3]" in out
    assert "Add  ai.onnx  version 14" in out
    status, out, _ = _run(capsys, "inspect", model, "--source")
    assert status == 0
    compile(out, "source", "exec")
    assert "Add" in out


def test_compile_then_load(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(capsys, "compile", model)[0] == 0
    assert "prepared in" in _run(capsys, "compile", model)[1]


def test_bench(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = _run(capsys, "bench", model, "--seconds", "0.01", "--dim", "m=3", "--threads", "1")
    assert status == 0
    assert "onnx_numba" in out
    assert "onnxruntime / onnx_numba: " in out


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ONNX_NUMBA_CACHE", str(tmp_path / "store"))
    assert _run(capsys, "cache", "path")[1].strip().startswith(str(tmp_path / "store"))
    assert _run(capsys, "demo")[0] == 0
    assert "entries" in _run(capsys, "cache", "info")[1]
    assert "all    0 entries" not in _run(capsys, "cache", "info")[1]
    assert "removed" in _run(capsys, "cache", "clear")[1]
    assert "all    0 entries" in _run(capsys, "cache", "info")[1]


# Errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "absent.onnx"], "absent.onnx"),
        (["run", "MODEL", "--input", "z=file.npy"], "no input 'z'; it has ['x', 'bias']"),
        (["run", "MODEL", "--input", "x=file.txt"], "file.txt is none of .npy, .npz, .pb, .csv"),
        (["run", "MODEL", "--input", "file.npy"], "--input name=file.npy"),
        (["run", "MODEL", "--dim", "n"], "expected NAME=NUMBER"),
        (["run", "MODEL", "--dim", "k=3"], "--dim k: no input has a dim of that name; the names are ['n', 'm']"),
        (["run", "MODEL", "--seed", "-1"], "--seed -1: expected a number of at least 0"),
        (["run", "MODEL", "--device", "TPU"], "'TPU'"),
    ],
)
def test_errors_are_one_line(arguments: list[str], says: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = _run(capsys, *[model if argument == "MODEL" else argument for argument in arguments])
    assert (status, out) == (1, "")
    assert err.startswith("onnx-numba: ")
    assert err.count("\n") == 1
    assert says in err


def test_debug_shows_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = _run(capsys, "run", "absent.onnx", "--debug")
    assert status == 1
    assert err.startswith("Traceback")


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["fly"])
    assert left.value.code == 2


@pytest.mark.parametrize("command", [[sys.executable, "-m", "onnx_numba"], [str(Path(sys.executable).with_name("onnx-numba"))]])
def test_as_a_program(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("onnx-numba ")
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    done = subprocess.run([*command, "run", str(tmp_path / "bad.onnx")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("onnx-numba: ")
    assert done.stderr.count("\n") == 1


# Values


@pytest.mark.parametrize(
    "value",
    [
        np.float32([1, 2]),
        np.array(["a", "bc"], object),
        {"a": 1.0, "b": 2.0},
        [{1: 0.5, 2: 0.5}, {1: 0.25, 2: 0.75}],
        [np.int64([1]), np.int64([2, 3])],
        [],
    ],
    ids=["array", "strings", "map", "maps", "sequence", "empty"],
)
def test_values_survive_an_npz(value: object, tmp_path: Path) -> None:
    values.write_npz(tmp_path / "v", {"v": value, "absent": None})
    with np.load(tmp_path / "v") as archive:
        assert values.unpacked(archive, "absent") is None
        np.testing.assert_equal(values.unpacked(archive, "v"), value)


def _port(kind, *declared: int | str | None) -> Port:
    return Port("p", kind, declared=declared or None)


@pytest.mark.parametrize("name", ["bf16", "f8e5m2", "f8e8m0", "i4"])
def test_types_that_numpy_does_not_have(name: str, tmp_path: Path) -> None:
    dtype = DTYPES[name]
    array = np.array([1, 2, 4]).astype(dtype.numpy)
    port = Port("v", TensorType(dtype), declared=(None,))
    values.write_npz(tmp_path / "v.npz", {"v": array})
    np.save(tmp_path / "v.npy", values.packed("v", array)["v"])
    (tmp_path / "v.csv").write_text("1\n2\n4\n")
    (tmp_path / "v.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
    for suffix in ("npz", "npy", "csv", "pb"):
        read = values.read_inputs([f"v={tmp_path / 'v'}.{suffix}"], (port,))["v"]
        assert read.dtype == dtype.numpy
        np.testing.assert_array_equal(read, array)
    assert values.read_inputs([str(tmp_path / "v.npz")], (port,))["v"].dtype == dtype.numpy
    made = values.random_inputs((port,), {})["v"]
    assert made.dtype == dtype.numpy
    assert np.isfinite(made.astype(np.float32)).all()


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2.5\n3,4\n")
    port = _port(TensorType(F32, ("n", 2)), "n", 2)  # type: ignore[arg-type]
    read = values.read_inputs([str(path)], (port,))["p"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, [[1, 2.5], [3, 4]])
    with pytest.raises(InputTypeError, match="'p'"):
        values.read_inputs([str(path)], (_port(TensorType(I64), None, 2),))
    ports = (Port("b", TensorType(STRING), declared=(None,)), Port("a", TensorType(BF16), declared=(None, 1)))
    columns = values.read_inputs([str(path)], ports)
    assert columns["b"].tolist() == ["2.5", "4"]
    assert columns["a"].dtype.name == "bfloat16"
    assert columns["a"].shape == (2, 1)
    path.write_text("True\nfalse\n1\n")
    assert values.read_inputs([f"p={path}"], (_port(TensorType(BOOL), None),))["p"].tolist() == [True, False, True]
    path.write_text("1,2\n3\n")
    with pytest.raises(InputError, match="different lengths"):
        values.read_inputs([f"p={path}"], (_port(TensorType(F32), None, 2),))


def test_npz_with_something_unknown(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", q=X)
    ports = (Port("a", TensorType(F32)), Port("b", TensorType(F32)))
    with pytest.raises(InputError, match=r"holds \['q'\].*\['a', 'b'\]"):
        values.read_inputs([str(tmp_path / "in.npz")], ports)


@pytest.mark.parametrize("spec", ["{}", "a={}"])
@pytest.mark.parametrize("data", [b"", b"nope", b"PK nope"])
def test_npz_that_is_none(spec: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"in\.npz is no \.npz that can be read"):
        values.read_inputs([spec.format(path)], (Port("a", TensorType(F32)), Port("b", TensorType(F32))))


def test_one_input_from_two_files(tmp_path: Path) -> None:
    """The last one was taken without a word."""
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match=r"input 'a' was given before"):
        values.read_inputs([str(tmp_path / "x.npy")] * 2, (Port("a", TensorType(F32)),))


def test_random_values() -> None:
    ports = (
        Port("floats", TensorType(F32), declared=(None, 3)),
        Port("words", TensorType(STRING), declared=("n",)),
        Port("numbers", TensorType(I64), declared=()),
        Port("maps", SequenceType(MapType(I64, TensorType(F32)))),
        Port("maybe", OptionalType(TensorType(F32))),
    )
    made = values.random_inputs(ports, {"n": 4})
    assert made["floats"].shape == (values.RANDOM_EXTENT, 3)
    assert made["words"].shape == (4,)
    assert all(isinstance(word, str) for word in made["words"])
    assert made["numbers"].shape == ()
    assert made["numbers"].dtype == np.int64
    assert [list(item) for item in made["maps"]] == [[0, 1], [0, 1]]
    assert "maybe" not in made


# Progress and timing


def test_progress_is_for_terminals() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert progress.bar(io.StringIO()) is None
    terminal = Terminal()
    draw = progress.bar(terminal)
    assert draw is not None
    draw(1, 2)
    draw(2, 2)
    assert "1/2 kernels" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_timing_alternates() -> None:
    called: list[str] = []
    medians = timing.alternate({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 0.01)
    assert set(medians) == {"a", "b"}
    assert all(0 < median < 1e-3 for median in medians.values())
    changes = sum(one != two for one, two in itertools.pairwise(called))
    assert changes >= 5


@pytest.mark.parametrize(("seconds", "text"), [(2.0, "2 s"), (1.5e-3, "1.5 ms"), (2e-6, "2 µs"), (3e-8, "30 ns")])
def test_durations(seconds: float, text: str) -> None:
    assert timing.text(seconds) == text
