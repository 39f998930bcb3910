"""``python -m bench``: onnx_numba beside other runtimes, as tables, as JSON and as a picture.

``--list`` shows families and cases; ``--family``, ``--model``, ``--peer`` and ``--threads`` choose. Every case runs in a process of
its own, pinned to as many cores as it has threads, where the peers alternate. The status is 1 if onnx_numba fails or gives another answer.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import compare, families, machine, peers, picture, processes, report
from bench.case import Built, Case
from onnx_numba.cli import values


def main() -> int:
    """Measure, print, write."""
    arguments = _arguments()
    if arguments.list:
        print("\n".join(f"{family.name:16}{case.name}" for family, case in _chosen(arguments)))
        return 0
    # Read before anything is written: it may be the file of --json.
    old = json.loads(arguments.compare.read_text()) if arguments.compare else None
    document = json.loads(arguments.show.read_text()) if arguments.show else _run(arguments)
    text = report.whole(document) + (f"\n{compare.changes(old, document)}" if old else "")
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(f"{arguments.note}\n\n{text}" if arguments.note else text)
    if arguments.picture:
        picture.draw(document, str(document["threads"][0]), arguments.picture)
    return int(any(report.is_bad(result) for result in document["results"].values()))


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All that is measured, described."""
    names, left_out = _peers(arguments.peer)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    document = {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "machine": machine.described(),
        "versions": {**machine.versions(), **{name: peers.version(name) for name in names if not name.startswith(peers.OURS)}},
        "threads": arguments.threads,
        "seconds": arguments.seconds,
        "left_out": left_out,
        "own_code": None,
        "results": {},
    }
    if arguments.resume and arguments.json and arguments.json.exists():
        document["results"] = json.loads(arguments.json.read_text())["results"]
    with tempfile.TemporaryDirectory(prefix="onnx_numba_bench_") as folder:
        _measure(_chosen(arguments), names, arguments, Path(folder), document)
    return document


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [family.name for family in families.FAMILIES if family.cases is not None]
    parser.add_argument("--family", nargs="+", metavar="NAME", choices=names, help=f"of {', '.join(names)}")
    parser.add_argument("--model", nargs="+", metavar="WORD", help="cases whose names contain one of these")
    parser.add_argument("--peer", nargs="+", metavar="NAME", choices=peers.NAMES, help=f"beside onnx_numba, of {', '.join(peers.NAMES)}")
    parser.add_argument("--threads", nargs="+", type=int, metavar="N", help="thread counts, each on as many cores (default: 1 and all)")
    parser.add_argument("--seconds", type=float, default=0.5, help="per case, peer and thread count (default %(default)s)")
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    parser.add_argument("--no-starts", dest="starts", action="store_false", help="time per call only, no starts of processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, after every case")
    parser.add_argument("--resume", action="store_true", help="keep what the file of --json already has, and measure the rest")
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing; the tables and the picture of that JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument("--note", metavar="TEXT", help="words at the head of the Markdown file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the ratios at the first thread count: .svg, .png or .pdf")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an older JSON: say what changed")
    arguments = parser.parse_args()
    arguments.threads = arguments.threads or sorted({1, machine.cores()})
    return arguments


def _chosen(arguments: argparse.Namespace) -> list[tuple[families.Family, Case]]:
    """The cases that the options leave."""
    found = [
        (family, case)
        for family, case in families.cases()
        if (arguments.family is None or family.name in arguments.family)
        and (arguments.model is None or any(word in case.name for word in arguments.model))
    ]
    if not found:
        raise SystemExit("no case has such a name and family; --list shows them")
    return found


def _peers(chosen: list[str] | None) -> tuple[list[str], list[str]]:
    """The peers that are installed, in order, and a line for each that is not."""
    wanted = [name for name in peers.NAMES if chosen is None or name in (peers.OURS, peers.OURS_ON_ONE_THREAD, *chosen)]
    missing = {name: peers.missing(name) for name in wanted}
    lines = [f"{name}, since {' and '.join(modules)} is not installed" for name, modules in missing.items() if modules]
    return [name for name in wanted if not missing[name]], lines


def _measure(chosen: list[Any], names: list[str], arguments: argparse.Namespace, folder: Path, document: dict[str, Any]) -> None:
    place, small = folder / "case", folder / "small"
    if arguments.starts:
        document["own_code"] = processes.prime(folder / "primed", small)
    made: tuple[str, Built] | None = None
    for family, case in chosen:
        if case.name in document["results"]:
            continue
        if missing := case.model.missing():
            document["left_out"].append(f"{case.name}, which {' and '.join(missing)} makes")
            continue
        print(f"{family.name}: {case.name} …", file=sys.stderr, flush=True)
        if made is None or made[0] != case.model.name:
            shutil.rmtree(place, ignore_errors=True)
            made = case.model.name, case.model.build()
            made[1].write(place)
        values.write_npz(place / "feed.npz", case.feed())
        values.write_npz(place / "turns.npz", case.turns() if case.turns else {})
        document["results"][case.name] = {**_facts(family, case, made[1]), **_timed(case, names, arguments, place, small)}
        if arguments.json:
            arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def _facts(family: families.Family, case: Case, built: Built) -> dict[str, Any]:
    """What goals and tables ask of a case."""
    asked = {name: getattr(case, name) for name in ("rows", "nodes", "flops", "tolerance")}
    return {"family": family.name, "model": case.model.name, "leaves": built.leaves, **asked}


def _timed(case: Case, names: list[str], arguments: argparse.Namespace, place: Path, small: Path) -> dict[str, Any]:
    """The case at every number of threads, and its processes."""

    def steady(threads: int) -> dict[str, Any]:
        return _or_error(lambda: processes.steady(case, place, threads, names, arguments.seconds))

    result: dict[str, Any] = {"steady": {str(threads): steady(threads) for threads in arguments.threads}}
    if arguments.starts and case.starts:
        result["starts"] = _or_error(lambda: processes.starts(place, place.parent / "store", place.parent / "primed", small, names))
    return result


def _or_error(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A case that fails is a line of the report, and the others still run."""
    try:
        return measure()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


if __name__ == "__main__":
    sys.exit(main())
