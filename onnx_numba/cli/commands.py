"""What each command does. A command takes the parsed arguments, prints to stdout, and raises on errors."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_numba import samples
from onnx_numba.cli import progress, timing, values
from onnx_numba.errors import OptionError

if TYPE_CHECKING:
    from onnx_numba.backend import BackendRep
    from onnx_numba.ir.plan import Port

Command = Callable[[argparse.Namespace], None]

DEMO_ROWS = ((-1.0, -2.0, 5.0, 6.0), (-1.0, -2.0, -3.0, -4.0), (-1.0, -2.0, 7.0, 8.0), (5.1, 3.5, 1.4, 0.2))


def demo(arguments: argparse.Namespace) -> None:
    """Run the iris sample."""
    rep, seconds = _prepare(arguments, samples.path())
    rows = np.array(DEMO_ROWS, np.float32)
    label, probabilities = rep.run(rows)
    print("logistic regression on the iris data")
    for row, number, chances in zip(rows, label, probabilities, strict=True):
        shares = ", ".join(f"{key}: {value:.3g}" for key, value in chances.items())
        print(f"  {[float(f'{x:.4g}') for x in row]} → label {number}, probabilities {{{shares}}}")
    print(_summary(rep, seconds))


def run(arguments: argparse.Namespace) -> None:
    """Run a model on files or on random inputs."""
    rep, _ = _prepare(arguments, arguments.model)
    outputs = rep.run(_inputs(arguments, rep.inputs))
    named = {port.name: value for port, value in zip(rep.outputs, outputs, strict=True)}
    if arguments.output:
        values.write_npz(arguments.output, named)
    for name, value in named.items():
        print(f"{name}: {_described(value)}" if arguments.output else f"{name}: {_described(value)}\n{value}")


def inspect(arguments: argparse.Namespace) -> None:
    """Show what a model consists of, or what all operators do."""
    if arguments.coverage:
        from onnx_numba.cli import coverage

        print("\n".join(coverage.lines()))
        return
    if arguments.model is None:
        raise OptionError("inspect: name a model, or ask for --coverage")
    rep, seconds = _prepare(arguments, arguments.model)
    if arguments.source:
        print(rep.source)
        return
    for title, ports in (("inputs", rep.inputs), ("outputs", rep.outputs)):
        print(title)
        _print_table([(port.name, str(port.type), _shape_text(port)) for port in ports])
    print("operators")
    served: dict[tuple[str, ...], int] = {}
    for _, op, domain, version, how in rep.served:
        key = (op, domain or "ai.onnx", f"version {version}", str(how))
        served[key] = served.get(key, 0) + 1
    _print_table([(f"{count} ×", *key) for key, count in sorted(served.items(), key=lambda item: item[0])])
    print(_summary(rep, seconds))


def compile(arguments: argparse.Namespace) -> None:
    """Compile a model into the store."""
    print(_summary(*_prepare(arguments, arguments.model)))


def bench(arguments: argparse.Namespace) -> None:
    """Measure the latency of a model, beside onnxruntime's where that is installed."""
    rep, _ = _prepare(arguments, arguments.model)
    feed = _inputs(arguments, rep.inputs)
    calls: dict[str, Callable[[], Any]] = {"onnx_numba": lambda: rep.run(feed)}
    if find_spec("onnxruntime") is not None:
        calls["onnxruntime"] = _onnxruntime(arguments, feed)
    medians = timing.alternate(calls, arguments.seconds, rest=0.05)
    _print_table([(name, timing.text(median)) for name, median in medians.items()])
    if "onnxruntime" in medians:
        print(f"onnxruntime / onnx_numba: {medians['onnxruntime'] / medians['onnx_numba']:.2f}")
    else:
        print("onnxruntime is not installed; `pip install onnxruntime` to compare")


def cache(arguments: argparse.Namespace) -> None:
    """Show or empty the store."""
    from onnx_numba.compile.store import Store

    store = Store()
    if arguments.action == "path":
        print(store.path)
        return
    entries = list(store.entries())
    if arguments.action == "clear":
        store.clear()
        print(f"removed {len(entries)} entries from {store.path}")
        return
    rows = [("path", str(store.path)), ("limit", f"{store.limit / 1e6:.0f} MB")]
    for kind in sorted({entry.kind for entry in entries}):
        sizes = [entry.size for entry in entries if entry.kind == kind]
        rows.append((kind, f"{len(sizes)} entries, {sum(sizes) / 1e6:.1f} MB"))
    _print_table([*rows, ("all", f"{len(entries)} entries, {sum(entry.size for entry in entries) / 1e6:.1f} MB")])


def _prepare(arguments: argparse.Namespace, model: str) -> tuple[BackendRep, float]:
    """The prepared model, and the seconds that took."""
    from onnx_numba.backend import BackendRep
    from onnx_numba.options import Options
    from onnx_numba.prepare import prepare_model

    started = time.perf_counter()
    options = Options(num_threads=arguments.threads, dims=_dims("fix", getattr(arguments, "fix", ())))
    prepared = prepare_model(model, arguments.device, options, progress.bar())
    return BackendRep(prepared), time.perf_counter() - started


def _inputs(arguments: argparse.Namespace, ports: tuple[Port, ...]) -> dict[str, Any]:
    if arguments.input:
        return values.read_inputs(arguments.input, ports)
    return values.random_inputs(ports, _dims("dim", arguments.dim), arguments.seed)


def _dims(option: str, specs: Sequence[str]) -> dict[str, int]:
    dims = {}
    for spec in specs:
        name, _, number = spec.rpartition("=")
        if not name or not number.isdigit():
            raise OptionError(f"--{option} {spec}: expected NAME=NUMBER, as in --{option} batch=4")
        dims[name] = int(number)
    return dims


def _onnxruntime(arguments: argparse.Namespace, feed: Mapping[str, Any]) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if arguments.threads:
        options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(str(Path(arguments.model)), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


def _summary(rep: BackendRep, seconds: float) -> str:
    kernels, compiled = rep.stats["kernels"], rep.stats["compiled"]
    if rep.stats["cached"]:
        how = "the whole model loaded from the store"
    else:
        how = f"{compiled} compiled in {timing.text(rep.stats['compile_s'])}, {kernels - compiled} loaded from the store"
    return f"prepared in {timing.text(seconds)}: {kernels} kernels, {how}"


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else type(value).__name__


def _shape_text(port: Port) -> str:
    shape = values.shape_of(port)
    return "" if shape is None else "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
