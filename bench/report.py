"""Results as a table, and against the goals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from onnx_numba.cli.timing import text

GOALS = {
    "iris_one_row": ("steady", 5.0, "one row of iris, ZipMap included: at most a fifth of onnxruntime's time"),
    "matmul_1024": ("steady", 0.95, "MatMul 1024³ with a constant weight: at least 95 % of onnxruntime's rate"),
    "chain5_10m": ("steady", 2.0, "five elementwise operators on 10 M elements: at least twice onnxruntime's speed"),
    "chain6_sigmoid_10m": ("steady", 2.0, "six with a sigmoid: the same"),
    "chain8_exp_tanh_10m": ("steady", 2.0, "eight with exp and tanh: the same"),
    "relu_1k": ("cold", 0.3, "cold compile of one operator: under 0.3 s"),
    "light_resnet50": ("cold", 15.0, "cold compile of light_resnet50: under 15 s"),
}
"""Case → (what is looked at, the bound, the goal in words)."""


_START_TIMES = ("cold_prepare", "warm_prepare", "theirs_prepare", "warm_first_result", "theirs_first_result")


def geometric_mean(ratios: Iterable[float]) -> float:
    """The mean of ratios; nan of none."""
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, ["-" * width for width in widths], *rows]:
        others = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join([f"{row[0]:<{widths[0]}}", *others]))
    return "\n".join(lines)


def steady_table(results: dict[str, Any], threads: Sequence[int]) -> str:
    """Time per call of every case that ran."""
    header = [
        "model",
        *(f"{what} {count}t" for count in threads for what in ("onnx_numba", "onnxruntime", "ratio")),
        "difference",
    ]
    rows = []
    for name, result in results.items():
        measured = [result["steady"].get(str(count)) for count in threads]
        if any(one is None or "error" in one for one in measured):
            rows.append([name, *["–"] * (3 * len(threads)), _first_error(measured)])
            continue
        cells = [cell for one in measured for cell in (text(one["ours"]), text(one["theirs"]), f"{one['ratio']:.2f}")]
        rows.append([name, *cells, f"{max(one['difference'] for one in measured):.1e}"])
    means = []
    for count in threads:
        means += ["", "", f"{geometric_mean(_ratios(results, count)):.2f}"]
    return table(header, [*rows, ["geometric mean", *means, ""]])


def starts_table(results: dict[str, Any]) -> str:
    """Starts of every case that ran."""
    header = ["model", "cold compile", "warm prepare", "session", "first result", "onnxruntime's", "peak MB", "onnxruntime's"]
    rows = []
    for name, result in results.items():
        starts = result.get("starts", {})
        if "cold_prepare" not in starts:
            continue
        times = [text(starts[key]) for key in _START_TIMES]
        rows.append([name, *times, f"{starts['warm_peak_mb']:.0f}", f"{starts['theirs_peak_mb']:.0f}"])
    return table(header, rows)


def goals(results: dict[str, Any]) -> list[str]:
    """A line per goal whose case ran: met or missed, by how much."""
    lines = []
    for name, (what, bound, words) in GOALS.items():
        value = _value(results.get(name, {}), what)
        if value is not None:
            met = value >= bound if what == "steady" else value <= bound
            lines.append(f"{'met   ' if met else 'MISSED'}  {words} — {value:.2f}{'×' if what == 'steady' else ' s'}")
    return lines


def _value(result: dict[str, Any], what: str) -> float | None:
    if what == "cold":
        return result.get("starts", {}).get("cold_prepare")
    return result.get("steady", {}).get("1", {}).get("ratio")


def _ratios(results: dict[str, Any], threads: int) -> list[float]:
    measured = (result["steady"].get(str(threads), {}) for result in results.values())
    return [one["ratio"] for one in measured if "ratio" in one]


def _first_error(measured: Sequence[dict[str, Any] | None]) -> str:
    return next((one["error"][:60] for one in measured if one and "error" in one), "not run")
