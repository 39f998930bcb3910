"""The ratios as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import figures, peers
from bench.families import FAMILIES

_INCHES_PER_CASE, _MARGIN = 0.19, 0.75
_COLOURS = {"onnxruntime": "#0072B2", "openvino": "#D55E00", "torch": "#CC79A7", "numpy": "#009E73", "scikit_learn": "#E69F00",
            "lightgbm": "#56B4E9", "xgboost": "#999999", "tl2cgen": "#000000", "treelite": "#F0E442", "lleaves": "#666600"}  # fmt: skip
"""Of Okabe and Ito, which people tell apart whatever colours they see."""


def draw(document: dict[str, Any], threads: str, path: Path) -> None:
    """Draw a panel per family: a line per case, a mark per peer at (time of the peer ÷ ours); SVG, PNG or PDF by the file's name."""
    from matplotlib.figure import Figure

    panels = {
        family.name: chosen
        for family in FAMILIES
        if (chosen := {name: one for name, one in document["results"].items() if one["family"] == family.name and _ratios(one, threads)})
    }
    if not panels:
        return
    heights = [len(chosen) * _INCHES_PER_CASE + _MARGIN for chosen in panels.values()]
    figure = Figure(figsize=(9, sum(heights) + 0.8), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axis, (name, chosen) in zip(axes, panels.items(), strict=True):
        _panel(axis, name, chosen, threads)
    axes[0].xaxis.set_tick_params(labeltop=True)
    axes[-1].set_xlabel("time of the peer ÷ time of onnx_numba: right of the line onnx_numba is faster")
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    title = f"{document['date']}, {document['machine']['processor']}, {threads} thread{'s' * (threads != '1')}"
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=5, frameon=False, title=title, fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axis: Any, name: str, chosen: dict[str, Any], threads: str) -> None:
    names = list(chosen)[::-1]
    for peer, colour in _COLOURS.items():
        points = [(ratio, row) for row, case in enumerate(names) if (ratio := figures.ratio(chosen[case], threads, peer)) is not None]
        if points:
            axis.scatter(*zip(*points, strict=True), s=22, color=colour, label=peer, zorder=3, edgecolors="white", linewidths=0.4)
    axis.axvline(1, color="#444444", linewidth=1)
    axis.set_xscale("log")
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_ylim(-0.7, len(names) - 0.3)
    axis.set_title(name, loc="left", fontsize=9)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axis.grid(axis="both", linewidth=0.4, color="#dddddd")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _ratios(result: dict[str, Any], threads: str) -> list[float]:
    found = (figures.ratio(result, threads, peer) for peer in peers.NAMES if peer in _COLOURS)
    return [ratio for ratio in found if ratio is not None]
