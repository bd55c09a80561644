"""Pictures of a redundancy study's report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

LABELS = {"cc": "correlation (CC)", "rmse": "error (RMSE)", "rp": "redundant share (RP)"}
MARKERS = {"time": "o", "channel": "s"}


def layer_lines(report: dict[str, Any]) -> Figure:
    """CC, RMSE and RP from the first layer to the last."""
    rows = report["layers"]
    figure = Figure(figsize=(max(6.0, 2 + 0.22 * len(rows)), 8), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    for panel, (measure, label) in zip(panels, LABELS.items(), strict=True):
        for axis, marker in MARKERS.items():
            # A layer without pairs leaves a gap.
            values = np.array([row[axis][measure] for row in rows], dtype=float)
            panel.plot(values, marker=marker, ms=4, label=axis)
        panel.set(ylabel=label)
        panel.grid()
    panels[0].legend()
    panels[-1].set_xticks(range(len(rows)), [row["name"] for row in rows], rotation=90, fontsize=7)
    panels[0].set_title(f"Feature maps of {report['samples']} samples")
    return figure


def pair_histograms(report: dict[str, Any]) -> Figure:
    """How the pairs of all layers spread, each layer counting once."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col")
    for i, axis in enumerate(MARKERS):
        for panel, measure, low in zip(panels[i], ("cc", "rmse"), (-1, 0), strict=True):
            heights = 100 * mean_histogram(report["layers"], axis, measure)
            edges = np.linspace(low, 1, len(heights) + 1)
            panel.stairs(heights, edges, fill=True, color=f"C{i}")
            panel.axvline(report["thresholds"][measure], color="black", ls=":", label="threshold")
            panel.set(xlabel=LABELS[measure], ylabel=f"{axis}: % of pairs")
            panel.xaxis.set_tick_params(labelbottom=True)
    panels[0, 0].legend()
    return figure


def mean_histogram(rows: Sequence[dict[str, Any]], axis: str, measure: str) -> np.ndarray:
    """Share of the pairs in each bin, the mean over the layers that have pairs."""
    counts = np.array([row[axis]["histograms"][measure] for row in rows if row[axis]["pairs"]])
    return (counts / counts.sum(1, keepdims=True)).mean(0) if len(counts) else np.zeros(1)
