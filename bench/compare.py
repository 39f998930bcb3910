"""What a change did: a run beside an older one."""

from __future__ import annotations

import math
from typing import Any

from bench import figures, peers
from bench.report import table
from onnx_numba.cli.timing import text


def changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Markdown: our times then and now, how the ratio over onnxruntime changed, and the geometric mean of that per family.

    The ratio says more than the times: both of its times were measured together, so that a slower machine is not a slower program.
    """
    parts = [f"## Compared with {old['date']}"]
    for threads in (str(count) for count in new["threads"]):
        rows: list[list[str]] = []
        means: dict[str, list[float]] = {}
        for name, result in new["results"].items():
            before = old["results"].get(name)
            row = before and _row(before, result, threads)
            if row:
                rows.append([name, *row[0]])
                means.setdefault(result["family"], []).append(row[1])
        if rows:
            header = [f"{threads} thread{'s' * (threads != '1')}", "then", "now", "ratio then", "ratio now", "faster"]
            rows += [[f"mean of {family}", "", "", "", "", _times(figures.geometric_mean(values))] for family, values in means.items()]
            parts.append(table(header, rows))
    return "\n\n".join(parts) + "\n"


def _row(before: dict[str, Any], after: dict[str, Any], threads: str) -> tuple[list[str], float] | None:
    then, now = (figures.measured(one, threads, peers.OURS) for one in (before, after))
    if not then or not now:
        return None
    ratios = [figures.ratio(one, threads, peers.REFERENCE) for one in (before, after)]
    faster = ratios[1] / ratios[0] if ratios[0] and ratios[1] else then["median"] / now["median"]
    cells = [text(then["median"]), text(now["median"]), *("–" if one is None else f"{one:.2f}" for one in ratios), _times(faster)]
    return cells, faster


def _times(ratio: float) -> str:
    return "–" if math.isnan(ratio) else f"×{ratio:.2f}"
