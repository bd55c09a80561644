"""Pictures of what the gates chose, by layer, class and sample.

N samples, L dynamic convolutions, G groups of samples. A share is that of a convolution's MACs that
was computed, r/R; pictures tell it in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vared_mm.report.plot_style import SHARE_MAP
from vared_mm.report.sample_groups import Group

# What S shares of an axis, or of two, multiply to; the smallest that search spaces of 4 allow.
CHOICES = tuple(2.0**-i for i in range(7))


def mean_shares(layer_share: np.ndarray, groups: Sequence[Group]) -> np.ndarray:
    """(L, G) means of (N, L) over the samples of each group that ran them, NaN without any."""
    shares = pd.DataFrame(layer_share)
    return np.stack([shares.iloc[group.places].mean() for group in groups], 1)


def heat_map(shares: np.ndarray, layers: Sequence[str], groups: Sequence[Group]) -> Figure:
    """Figure 3: layers from top to bottom, groups from left to right, lighter where less ran."""
    names = [group.name if len(group.places) else f"{group.name} (no sample)" for group in groups]
    figure, panel = by_layer(layers, 1.5 + max(0.2 * len(groups), 2), max(map(len, names)) * 0.06)
    colours = colormaps[SHARE_MAP].with_extremes(bad=(0, 0, 0, 0))
    image = panel.imshow(100 * shares, cmap=colours, vmin=0, vmax=100, aspect="auto")
    panel.set_xticks(range(len(groups)), names, rotation=90, fontsize=7)
    figure.colorbar(image, label="computed (% of the layer's MACs)", aspect=40, fraction=0.05)
    return figure


def choice_rates(layer_share: np.ndarray) -> np.ndarray:
    """(L, 7): in which part of the samples a layer's largest open path computes each of `CHOICES`.

    Odd numbers of channels and frames are halved upwards: the nearest power of two counts.
    """
    powers = np.clip(np.rint(-np.log2(layer_share)), 0, len(CHOICES) - 1)
    return np.stack([(powers == i).mean(0) for i in range(len(CHOICES))], 1)


def rate_bars(rates: np.ndarray, layers: Sequence[str]) -> Figure:
    """One bar of 100 % of the samples for each layer."""
    figure, panel = by_layer(layers, 5.5, 0.6)
    rates = 100 * rates.T
    lefts = rates.cumsum(0) - rates
    look: dict[str, Any] = dict(height=0.8, edgecolor=rcParams["axes.edgecolor"], lw=0.5)
    for choice, rate, left in zip(CHOICES, rates, lefts, strict=True):
        if rate.any():
            label = "all" if choice == 1 else f"1/{1 / choice:.0f}"
            colour = colormaps[SHARE_MAP](choice)
            panel.barh(range(len(layers)), rate, left=left, color=colour, label=label, **look)
    panel.set(xlabel="samples (%)", xlim=(0, 100), ylim=(len(layers) - 0.5, -0.5))
    figure.legend(title="computed of the layer", loc="outside upper right", ncols=len(CHOICES))
    return figure


def share_and_loss(share: np.ndarray, loss: np.ndarray, correct: np.ndarray) -> Figure:
    """(N,) each: a point for every sample, right and wrong ones apart where they are either."""
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    panel = figure.subplots()
    kinds = {"samples": np.isfinite(loss)}
    if np.isin(correct, (0, 1)).all():
        kinds = {"right": correct == 1, "wrong": correct == 0}
    for marker, (name, own) in zip("ox", kinds.items(), strict=False):
        label = f"{name}: {own.sum()}"
        panel.scatter(100 * share[own], loss[own], s=18, marker=marker, alpha=0.6, label=label)
    if (loss[np.isfinite(loss)] > 0).all():
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
    panel.set(xlabel="computed of the dynamic convolutions' MACs (%)", ylabel="loss")
    panel.grid()
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def policy_rows(answers: np.ndarray, gates: Sequence[str], names: Sequence[str]) -> Figure:
    """(P, K): a row for each policy with its name, a column for each path; closed ones are empty.

    Args:
        gates: (K,) the convolution of each path.
    """
    firsts = [i for i, gate in enumerate(gates) if i == 0 or gates[i - 1] != gate]
    short = short_names([gates[i] for i in firsts])
    width = 1.5 + 0.065 * max(map(len, names)) + max(0.14 * len(gates), 2)
    height = 0.8 + 0.065 * max(map(len, short)) + max(0.22 * len(names), 1.2)
    figure = Figure(figsize=(width, height), layout="constrained")
    panel = figure.subplots()
    shown = np.ma.masked_less_equal(answers, 0)
    image = panel.imshow(shown, cmap=colormaps[SHARE_MAP], vmin=0, vmax=1, aspect="auto")
    for first in firsts[1:]:
        panel.axvline(first - 0.5, color=rcParams["axes.edgecolor"], lw=0.8)
    panel.set_xticks(firsts, short, rotation=90, fontsize=7)
    panel.set_yticks(range(len(names)), names, fontsize=7)
    panel.tick_params(length=2)
    figure.colorbar(image, label="gate", fraction=0.05)
    return figure


def by_layer(layers: Sequence[str], width: float, more: float) -> tuple[Figure, Axes]:
    """A figure with a line for each layer, its name on the left; inches without the names."""
    names = short_names(layers)
    size = (width + 0.065 * max(map(len, names)), 1 + more + max(0.16 * len(layers), 1.2))
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.subplots()
    panel.set_yticks(range(len(layers)), names, fontsize=7)
    panel.tick_params(length=2)
    return figure, panel


def short_names(layers: Sequence[str]) -> list[str]:
    """Without the parts, between dots, that all of them begin or end with; never without all."""
    parts = [name.split(".") for name in layers]
    for end in (0, -1):
        while len(parts) > 1 and min(map(len, parts)) > 1 and len({p[end] for p in parts}) == 1:
            for part in parts:
                del part[end]
    return [".".join(part) for part in parts]


def gmacs_histogram(paper: np.ndarray, full: np.ndarray, dense: float, bins: int = 24) -> Figure:
    """How many samples cost how much, by the paper's formula and with gates and Φ; (N,) GMACs."""
    figure = Figure(figsize=(6.5, 3.4), layout="constrained")
    panel = figure.subplots()
    edges = np.histogram_bin_edges(np.concatenate([paper, full]), bins)
    for name, values in {"convolutions by r/R (paper)": paper, "all that ran (full)": full}.items():
        panel.hist(values, edges.tolist(), alpha=0.65, label=f"{name}: mean {values.mean():.4g}")
    panel.axvline(dense, color=rcParams["text.color"], ls="--", label=f"dense: {dense:.4g}")
    panel.set(xlabel="GMACs of a sample", ylabel="samples")
    panel.locator_params(axis="x", nbins=6)
    panel.locator_params(axis="y", integer=True)
    figure.legend(loc="outside upper left")
    return figure
