"""Pictures of a redundancy study's report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LABELS = {
    "cc": "correlation (CC)",
    "rmse": "error (RMSE)",
    "rp": "redundant share (RP)",
}
# Names of layers are no formulas.
PLAIN = matplotlib.rc_context({"text.parse_math": False})
# Told apart by colour-blind readers and in grey.
LOOKS = {"time": ("#0072B2", "o"), "channel": ("#D55E00", "s")}


@PLAIN
def plot_layers(report: dict[str, Any], path: Path) -> None:
    """CC, RMSE and RP from the first layer to the last."""
    rows = report["layers"]
    places = np.arange(len(rows))
    figure = Figure(figsize=(max(6.0, 2 + 0.22 * len(rows)), 8), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    for panel, (measure, label) in zip(panels, LABELS.items(), strict=True):
        for axis, (colour, marker) in LOOKS.items():
            # A layer without pairs leaves a gap.
            values = np.array([row[axis][measure] for row in rows], dtype=float)
            panel.plot(places, values, color=colour, marker=marker, ms=4, label=axis)
        panel.set(ylabel=label)
        panel.grid(alpha=0.3)
    panels[0].legend()
    panels[-1].set_xticks(places, [row["name"] for row in rows], rotation=90, fontsize=7)
    panels[0].set_title(f"Feature maps of {report['samples']} samples")
    figure.savefig(path, dpi=150)


@PLAIN
def plot_histograms(report: dict[str, Any], path: Path) -> None:
    """How the pairs of all layers spread, each layer counting once."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col")
    for row, axis in zip(panels, LOOKS, strict=True):
        for panel, measure, low in zip(row, ("cc", "rmse"), (-1, 0), strict=True):
            draw_histogram(panel, shares(report["layers"], axis, measure), low, LOOKS[axis][0])
            panel.axvline(report["thresholds"][measure], color="black", ls=":", label="threshold")
            panel.set(xlabel=LABELS[measure], ylabel=f"{axis}: % of pairs")
            panel.xaxis.set_tick_params(labelbottom=True)
    panels[0, 0].legend()
    figure.savefig(path, dpi=150)


def shares(rows: Sequence[dict[str, Any]], axis: str, measure: str) -> np.ndarray:
    """Share of the pairs in each bin, the mean over the layers that have pairs."""
    counts = np.array([row[axis]["histograms"][measure] for row in rows if row[axis]["pairs"]])
    if not len(counts):
        return np.zeros(1)
    return (counts / counts.sum(1, keepdims=True)).mean(0)


def draw_histogram(panel: Axes, heights: np.ndarray, low: float, colour: str) -> None:
    """Bins of equal width from `low` to 1."""
    panel.stairs(100 * heights, np.linspace(low, 1, len(heights) + 1), fill=True, color=colour)
