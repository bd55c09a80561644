"""The numbers of a result that stand in tables, by the column that tells them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from vared_mm.report.result import Result


class Measure(NamedTuple):
    """The first there is of these places in a record, times `scale`, told in this form."""

    places: tuple[str, ...]
    form: str = ".4g"
    scale: float = 1.0


def percent(*metrics: str) -> Measure:
    return Measure(tuple(f"metrics.{name}" for name in metrics), ".1f", 100.0)


# Columns of the paper's tables.
MEASURES = {
    "params": Measure(("params",)),
    "gmacs": Measure(("cost.paper_gmacs.avg",)),
    "gmacs_max": Measure(("cost.paper_gmacs.max",)),
    "gmacs_min": Measure(("cost.paper_gmacs.min",)),
    "speed": Measure(("speed.own.median",), ".1f"),
    # A test of one clip of each video has its top-1 under either name.
    "clip-1": percent("acc/clip1", "acc/top1"),
    "video-1": percent("acc/video1"),
    "video-5": percent("acc/video5"),
    "mAP": percent("jhmdb/frame_mAP@0.5"),
    "recall": percent("jhmdb/recall"),
    "classif": percent("jhmdb/classif"),
    "mIoU": Measure(("metrics.mIoU",), ".1f"),
    # Of redundancy studies.
    **{name: Measure((name,), ".3f") for name in ("cc", "rmse", "rp")},
}
# Columns of the free table beside the metrics.
COSTS = {
    "dense_gmacs": Measure(("cost.dense_gmacs",)),
    "paper_gmacs": Measure(("cost.paper_gmacs.avg",)),
    "full_gmacs": Measure(("cost.full_gmacs.avg",)),
    "full_gmacs_min": Measure(("cost.full_gmacs.min",)),
    "full_gmacs_max": Measure(("cost.full_gmacs.max",)),
    "share": Measure(("cost.share.avg",), ".3f"),
    "params": Measure(("params",)),
}
# What `--choices` of tools/evaluate.py tells is right, as the mean over the samples.
JUDGED = {
    "own": Measure(("choices.judged.own",)),
    "dealt": Measure(("choices.judged.dealt",)),
    "one_policy": Measure(("choices.judged.one_policy",)),
}
CHOICES = {
    "share_std": Measure(("choices.share_std",), ".3f"),
    "policies": Measure(("choices.policies",), ".4g"),
}
SPEEDS = {
    "static/s": Measure(("speed.static.median",), ".1f"),
    "dynamic/s": Measure(("speed.dynamic.median",), ".1f"),
}


def free_measures(results: Mapping[Path, Result]) -> dict[str, Measure]:
    """Metrics stand as their toolbox names and scales them; of choices what any result tells."""
    names = dict.fromkeys(name for result in results.values() for name in result.metrics)
    own = [name for name in names if not name.startswith("cost/")]
    told = [result.choices for result in results.values() if result.choices]
    choices = (CHOICES if told else {}) | (JUDGED if any(one["judged"] for one in told) else {})
    return {name: Measure((f"metrics.{name}",)) for name in own} | COSTS | choices | SPEEDS


def numbers_of(results: Mapping[Path, Result], measures: Mapping[str, Measure]) -> pd.DataFrame:
    """A row for each result, by its file; NaN where it has no such number."""
    records = pd.json_normalize([record_of(result) for result in results.values()])
    columns = {}
    for name, (places, _, scale) in measures.items():
        found = records.reindex(columns=list(places)).astype(float)
        columns[name] = found.bfill(axis=1).iloc[:, 0].to_numpy() * scale
    return pd.DataFrame(columns, list(results))


def record_of(result: Result) -> dict[str, object]:
    speed = result.speed or {}
    return {
        "params": result.parameters / 1e6,
        "cost": result.cost,
        "choices": result.choices,
        "metrics": result.metrics,
        "speed": {**speed, "own": speed.get("dynamic" if result.dynamic else "static")},
    }
