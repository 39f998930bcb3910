"""``python -m bench``: onnx_numba beside onnxruntime, as a table and as JSON.

``python -m bench --only iris matmul`` takes the cases whose names contain one of the words.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import models, report, starts, steady
from onnx_numba.cli import values


def main() -> int:
    """Measure, print, write; 1 if an output differs or a case fails."""
    arguments = _arguments()
    chosen = [case for case in models.cases() if not arguments.only or any(word in case.name for word in arguments.only)]
    if not chosen:
        raise SystemExit(f"no case has one of {', '.join(arguments.only)} in its name; --list shows the names")
    if arguments.list:
        print("\n".join(f"{case.group:8}{case.name}" for case in chosen))
        return 0
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="onnx_numba_bench_") as name:
        folder = Path(name)
        os.environ["ONNX_NUMBA_CACHE"] = str(folder / "steady")
        primed = folder / "primed"
        own = starts.prime(primed, folder) if arguments.starts else None
        for case in chosen:
            print(f"{case.name} …", file=sys.stderr, flush=True)
            results[case.name] = {"group": case.group, **_measure(case, arguments, folder, primed)}
    print(report.steady_table(results, arguments.threads))
    if own is not None:
        print(f"\nonnx_numba's own code, compiled once per machine: {own:.2f} s, apart from the import of numba")
        print(report.starts_table(results))
    print("", *report.goals(results), sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": _machine(), "own_code": own, "results": results}, indent=1) + "\n")
    return int(any(_is_bad(result, arguments.tolerance) for result in results.values()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="cases whose names contain one of these")
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="thread counts (default 1 2)")
    parser.add_argument("--seconds", type=float, default=1.0, help="per case, runtime and thread count (default %(default)s)")
    parser.add_argument("--no-starts", dest="starts", action="store_false", help="time per call only, no starts of processes")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="largest difference of outputs (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    return parser.parse_args()


def _measure(case: models.Case, arguments: argparse.Namespace, folder: Path, primed: Path) -> dict[str, Any]:
    path, feed_path = folder / f"{case.name}.onnx", folder / f"{case.name}.npz"
    case.write(path)
    feed = case.feed()
    values.write_npz(feed_path, feed)
    result: dict[str, Any] = {}
    if arguments.starts:
        result["starts"] = _or_error(lambda: starts.measure(path, feed_path, primed, folder))
    result["steady"] = {
        str(count): _or_error(lambda count=count: steady.measure(path, feed, count, arguments.seconds))  # type: ignore[misc]
        for count in arguments.threads
    }
    feed_path.unlink()
    return result


def _or_error(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A case that fails is a line of the table, and the others still run."""
    try:
        return measure()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def _is_bad(result: dict[str, Any], tolerance: float) -> bool:
    measured = [*result["steady"].values(), result.get("starts", {})]
    return any("error" in one or one.get("difference", 0.0) > tolerance for one in measured)


def _machine() -> dict[str, Any]:
    packages = {name: version(name) for name in ("onnx-numba", "onnxruntime", "numba", "llvmlite", "numpy", "onnx")}
    return {"machine": platform.machine(), "system": platform.platform(), "cores": os.cpu_count(), **packages}


if __name__ == "__main__":
    sys.exit(main())
