"""Results as Markdown: a table per family, starts of processes, goals met and missed, the worst ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench import figures, peers
from bench.families import FAMILIES, Family, Goal
from onnx_numba.cli.timing import text

Results = dict[str, dict[str, Any]]
_WORST = 5


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for row in [header, rule, *rows]:
        others = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append(f"| {' | '.join([f'{row[0]:<{widths[0]}}', *others])} |")
    return "\n".join(lines)


def whole(document: dict[str, Any]) -> str:
    """All of a run's JSON."""
    results, threads = document["results"], [str(count) for count in document["threads"]]
    parts = [machine(document), *(f"Left out: {line}" for line in document["left_out"])]
    parts += ["## Goals", goals(results, threads), "## The worst ratios", worst(results, threads)]
    for family in FAMILIES:
        chosen = {name: result for name, result in results.items() if result["family"] == family.name}
        if chosen:
            parts.append(f"## {family.name}: {family.words}")
            parts += [part for count in threads if (part := steady(chosen, count))]
    if any("warm" in result.get("starts", {}) for result in results.values()):
        parts += ["## Whole processes, one thread", starts(results, document["own_code"])]
    parts += failures(results)
    return "\n\n".join(part for part in parts if part) + "\n"


def machine(document: dict[str, Any]) -> str:
    """Where, when and with what."""
    found = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    limits = ", ".join(f"{_threads(count)}: {words}" for count, words in _limits(document["results"]).items())
    lines = [
        f"{document['date']}; {found['processor']}, {found['cores']} cores; {found['system']}.",
        f"{versions}.",
        f"Of this machine, measured beside the peers: {limits}." if limits else "",
        f"Command: `{document['command']}`, {document['seconds']} s per peer, case and number of threads.",
    ]
    return "  \n".join(line for line in lines if line)


def _threads(count: str) -> str:
    return f"{count} thread{'s' * (count != '1')}"


def _limits(results: Results) -> dict[str, str]:
    """The best that any case saw."""
    found: dict[str, dict[str, float]] = {}
    for result in results.values():
        for count, one in result["steady"].items():
            for name, value in one.get("limits", {}).items():
                best = found.setdefault(count, {})
                best[name] = max(best.get(name, 0.0), value)
    words = {"bytes_per_s": "{:.1f} GB/s copied (read and written)", "flops_per_s": "{:.0f} GFLOP/s of multiply-adds"}
    texts = {count: [form.format(one[name] / 1e9) for name, form in words.items() if name in one] for count, one in found.items()}
    return {count: " and ".join(one) for count, one in texts.items() if one}


def steady(results: Results, threads: str) -> str:
    """Time per call of the cases of a family; of the peers those that ran at least one of them."""
    shown = [name for name in peers.NAMES if name != peers.OURS and any(_cell(result, threads, name) for result in results.values())]
    bounds = any(_bound(result, threads) for result in results.values())
    header = [_threads(threads), peers.OURS, "spread", *shown, *(["of limit"] if bounds else []), "difference"]
    rows = []
    for name, result in results.items():
        found = result["steady"].get(threads, {}).get("peers", {}).get(peers.OURS, {})
        if not result["steady"].get(threads):
            continue
        spread = f"{(found['high'] - found['low']) / found['median']:.0%}" if "median" in found else "–"
        ours = text(found["median"]) if "median" in found else "failed"
        others = [_cell(result, threads, peer) or "–" for peer in shown]
        rows.append([name, ours, spread, *others, *([_bound(result, threads) or "–"] if bounds else []), _difference(found)])
    means = [figures.geometric_mean(_ratios(results, threads, peer)) for peer in shown]
    last = ["geometric mean", "", "", *("–" if math.isnan(mean) else f"×{mean:.2f}" for mean in means), *([""] if bounds else []), ""]
    return table(header, [*rows, last]) if rows else ""


def _cell(result: dict[str, Any], threads: str, peer: str) -> str:
    """A peer's time and how many times ours that is."""
    found = result["steady"].get(threads, {}).get("peers", {}).get(peer, {})
    if "median" not in found:
        return ""
    ratio = figures.ratio(result, threads, peer)
    wrong = not figures.is_right(found, result["tolerance"])
    return f"{text(found['median'])} {'differs' if wrong else '' if ratio is None else f'×{ratio:.2f}'}".strip()


def _bound(result: dict[str, Any], threads: str) -> str:
    values = [value for value in (figures.bandwidth(result, threads), figures.arithmetic(result, threads)) if value is not None]
    return "".join(f"{value:.2f}" for value in values)


def _difference(found: dict[str, Any]) -> str:
    return f"{found['difference']:.1e}" if "difference" in found else "–"


def _ratios(results: Results, threads: str, peer: str) -> list[float]:
    found = (figures.ratio(result, threads, peer) for result in results.values())
    return [ratio for ratio in found if ratio is not None]


def starts(results: Results, own: float | None) -> str:
    """Cold compile, warm prepare, a process's first result, and memory."""
    shown = [name for name in peers.STARTED if any(figures.started(result, name) for result in results.values())]
    columns = (("prepare", "prepare"), ("first_result", "first result"))
    header = ["model", "cold compile", *(f"{words} {name}" for _, words in columns for name in shown), *(f"MB {name}" for name in shown)]
    rows = []
    for name, result in results.items():
        if "warm" in result.get("starts", {}):
            found = [figures.started(result, peer) for peer in shown]
            times = [text(one[key]) if one else "–" for key, _ in columns for one in found]
            memory = [figures.run_bytes(result, peer) for peer in shown]
            rows.append([name, text(result["starts"]["cold"]), *times, *("–" if one is None else f"{one / 1e6:.1f}" for one in memory)])
    words = "Cold compile leaves out the import of numba and onnx, prepare that of the peer; first result is of the whole process; MB is"
    words += " the peak of a run above what the process held before preparing and above the weights."
    code = f" What belongs to no model is compiled once per machine: {own:.2f} s." if own is not None else ""
    return f"{words}{code}\n\n{table(header, rows)}"


def goals(results: Results, threads: Sequence[str]) -> str:
    """A line per goal and number of threads: met or missed, by how much, and where."""
    rows = []
    for family in FAMILIES:
        for goal in family.goals:
            for count in threads if goal.threads else [""]:
                values = goal_values(family, goal, results, count)
                if values:
                    rows.append([family.name, goal.words, count or "–", *_verdict(goal, values)])
    header = ["family", "goal", "threads", "result", "", "worst", "cases that meet it"]
    return table(header, rows) if rows else "No case of a goal was measured."


def goal_values(family: Family, goal: Goal, results: Results, threads: str) -> dict[str, float]:
    """The figures that a goal looks at, by case."""
    chosen = {name: one for name, one in results.items() if family.cases is None or one["family"] == family.name}
    found = {name: goal.figure(one, threads) for name, one in chosen.items() if goal.where(one)}
    return {name: value for name, value in found.items() if value is not None}


def _verdict(goal: Goal, values: dict[str, float]) -> list[str]:
    def meets(value: float) -> bool:
        return value <= goal.bound if goal.at_most else value >= goal.bound

    worst = (max if goal.at_most else min)(values, key=values.__getitem__)
    looked_at = figures.geometric_mean(values.values()) if goal.mean else values[worst]
    count = sum(meets(value) for value in values.values())
    return [f"{looked_at:.2f}", "met" if meets(looked_at) else "MISSED", f"{worst} {values[worst]:.2f}", f"{count} of {len(values)}"]


def worst(results: Results, threads: Sequence[str]) -> str:
    """Of each family the cases with the least ratio over the better of the other runtimes."""
    over = figures.over("onnxruntime", "openvino")
    rows = []
    for family in FAMILIES:
        for count in threads:
            found = {name: over(one, count) for name, one in results.items() if one["family"] == family.name}
            lowest = sorted((value, name) for name, value in found.items() if value is not None)[:_WORST]
            if lowest:
                rows.append([family.name, count, ", ".join(f"{name} {value:.2f}" for value, name in lowest)])
    return table(["family", "threads", "over the better of onnxruntime and OpenVINO"], rows)


def failures(results: Results) -> list[str]:
    """What went wrong: first what is ours; a line per peer and reason, with the cases."""
    ours: dict[str, list[str]] = {}
    theirs: dict[str, list[str]] = {}
    for name, result in results.items():
        for count, one in {**result["steady"], "starts": result.get("starts", {})}.items():
            where = name if count == "1" else f"{name} ({count if count == 'starts' else _threads(count)})"
            if "error" in one:
                ours.setdefault(one["error"], []).append(where)
            for peer, found in one.get("peers", {}).items():
                if reason := _wrong(found, result["tolerance"]):
                    into = ours if peer in (peers.OURS, peers.OURS_ON_ONE_THREAD) else theirs
                    into.setdefault(f"{peer}: {reason}", []).append(where)
    sections = (("## What onnx_numba fails at", ours), ("## What the others cannot run, or answer otherwise", theirs))
    return [
        f"{title}\n\n" + "\n".join(f"- {why} — {', '.join(where)}" for why, where in found.items()) for title, found in sections if found
    ]


def _wrong(found: dict[str, Any], tolerance: float) -> str:
    if "error" in found:
        return found["error"]
    return "" if figures.is_right(found, tolerance) else f"off by {found['difference']:.2g} from {found['reference']}"


def is_bad(result: dict[str, Any]) -> bool:
    """Whether ours failed or gave another answer."""
    ours = (one.get("peers", {}).get(name, {}) for one in result["steady"].values() for name in (peers.OURS, peers.OURS_ON_ONE_THREAD))
    broken = any("error" in one for one in [*result["steady"].values(), result.get("starts", {})])
    return broken or any("error" in one or not figures.is_right(one, result["tolerance"]) for one in ours)
