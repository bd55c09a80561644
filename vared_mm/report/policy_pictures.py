"""The pictures of one evaluated model, by kind; each kind gives pictures under their file names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any

import numpy as np

from vared_mm.report.evaluated_clips import EvaluatedClips
from vared_mm.report.feature_maps import draw_maps
from vared_mm.report.film_strips import film_strips
from vared_mm.report.plot_style import NoPictureError, Picture, picture
from vared_mm.report.policy_plots import (
    choice_rates,
    gmacs_histogram,
    heat_map,
    mean_shares,
    policy_rows,
    rate_bars,
    share_and_loss,
)
from vared_mm.report.policy_table import policy_table
from vared_mm.report.result import Result, Samples
from vared_mm.report.sample_groups import extremes, groups_of, widest

# As many as Figures 3 and 4 show.
CLASSES, STRIP_CLASSES = 25, 3
# Letters that stand beside the row of a policy.
ROW_NAME = 60


@dataclass(frozen=True)
class Wishes:
    """What is to be seen.

    Args:
        classes: Names, how many of the first, or None for all.
        layers: Regular expression on the full names of those whose feature maps are drawn.
        clip: File of the sample whose feature maps are drawn; that of the least computation.
        options: Overrides of the config, as a data root.
    """

    classes: int | tuple[str, ...] | None = CLASSES
    layers: str | None = None
    clip: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


Pictures = dict[str, Picture]


def pictures_of(kind: str, result: Result, samples: Samples | None, wishes: Wishes) -> Pictures:
    """Raises `NoPictureError` for a static model, which has no policy, and without samples."""
    if not result.dynamic:
        raise NoPictureError(
            f"{result.name} is static: it computes all of every layer for every sample, so there "
            "is no policy to draw"
        )
    if samples is None:
        raise NoPictureError(
            f"nothing is told of the single samples of {result.name}; vared-mm evaluate tells it"
        )
    return KINDS[kind](result, samples, wishes)


def heat_maps(result: Result, samples: Samples, wishes: Wishes) -> Pictures:
    groups = groups_of(samples.label, result.data.classes, wishes.classes)
    drawn = picture(
        "Computed share by layer and class",
        "Which share of its MACs each dynamic convolution computes, the mean over the samples of "
        "each class; lighter is less computed.",
        heat_map, mean_shares(samples.layer_share, groups), samples.layer_names.tolist(), groups,
    )  # fmt: skip
    return {"heatmap": drawn}


def strips(result: Result, samples: Samples, wishes: Wishes) -> Pictures:
    groups = groups_of(samples.label, result.data.classes, wishes.classes)
    if not isinstance(wishes.classes, tuple):
        groups = widest(samples.share, groups, STRIP_CLASSES)
    clips = EvaluatedClips(result, samples, wishes.options)
    # A class of one sample, or of equals, has one strip.
    rows = [
        clips.strip(place, group.name)
        for group in groups
        for place in dict.fromkeys(extremes(samples.share, group))
    ]
    drawn = picture(
        "Most and least computation",
        "Of each class the sample with the most and the one with the least computation, as the "
        "network saw them; in percent, what was computed of the dynamic convolutions' MACs.",
        film_strips, rows,
    )  # fmt: skip
    return {"strips": drawn}


def features(result: Result, samples: Samples, wishes: Wishes) -> Pictures:
    clips = EvaluatedClips(result, samples, wishes.options)
    place = int(samples.share.argmin()) if wishes.clip is None else clips.place_of(wishes.clip)
    caption = (
        f"What the layer gives out for {samples.file[place]}, each map scaled by itself: "
        "computed, or rebuilt by a cheap operation from a computed one."
    )
    return {
        f"features_{layer.name}": picture(
            f"Feature maps of {layer.name}", caption, draw_maps, layer
        )
        for layer in clips.maps(place, wishes.layers)
    }


def rates(result: Result, samples: Samples, wishes: Wishes) -> Pictures:
    bars = picture(
        "What the largest open path computes",
        "In which part of the samples each layer computes all, half, a quarter, ... of its MACs, "
        "channels and frames taken together.",
        rate_bars, choice_rates(samples.layer_share), samples.layer_names.tolist(),
    )  # fmt: skip
    histogram = picture(
        "GMACs of the samples",
        "How many samples cost how much: by the paper's formula, and with all that ran.",
        gmacs_histogram, samples.paper_gmacs, samples.full_gmacs, result.cost["dense_gmacs"],
    )  # fmt: skip
    return {"rates": bars, "gmacs": histogram}


def choices(result: Result, samples: Samples, wishes: Wishes) -> Pictures:
    table = policy_table(samples, result.data.classes)
    if samples.policies is None or samples.loss is None or table is None:
        raise NoPictureError(
            f"losses and policies were not kept when {result.name} was evaluated; run "
            "vared-mm evaluate again"
        )
    told = zip(table["samples"], table["classes"], strict=True)
    names = [shorten(f"{n:.4g}: {text}", ROW_NAME, placeholder=" …") for n, text in told]
    rows = picture(
        "The most frequent policies",
        "A row for each, with how many samples have it and of which classes; a column for each "
        "path of each layer, channels before frames and from all to the fewest. Closed paths are "
        "empty, the others have the mean of their gate.",
        policy_rows, samples.policies.answers, samples.policies.names.tolist(), names,
    )  # fmt: skip
    if not np.isfinite(samples.loss).any():
        return {"policies": rows}
    points = picture(
        "Loss against computed share",
        "A point for each sample. Choices that follow need compute more where the loss is high.",
        share_and_loss, samples.share, samples.loss, samples.correct,
    )  # fmt: skip
    return {"share_loss": points, "policies": rows}


KINDS: dict[str, Callable[[Result, Samples, Wishes], Pictures]] = {
    "heatmap": heat_maps,
    "strips": strips,
    "features": features,
    "rates": rates,
    "choices": choices,
}
